//! Amazon Web Services: one file per service. Clients and the meaning of errors are in
//! [`crate::clients::aws`].

pub mod aurora;
pub mod rds;
pub mod rds_failover;
mod rds_look;
pub mod rds_replica;
pub mod rds_restore;
pub mod rds_stop;
pub mod route53;
mod route53_records;
pub mod sns;

use std::sync::Arc;

use crate::clients::Clients;
use crate::config::action::RdsAction;
use crate::ports::Action;

/// The actions of RDS and Aurora.
pub(super) fn rds(action: RdsAction, clients: Arc<Clients>) -> Result<Box<dyn Action>, String> {
    Ok(match action {
        RdsAction::PromoteReadReplica(params) => Box::new(rds::PromoteReadReplica::new(params, clients)),
        RdsAction::Failover(params) => Box::new(rds_failover::Failover::new(params, clients)),
        RdsAction::RestoreSnapshot(params) => Box::new(rds_restore::Restore::snapshot(params, clients)?),
        RdsAction::RestorePointInTime(params) => Box::new(rds_restore::Restore::point_in_time(params, clients)?),
        RdsAction::Stop(params) => Box::new(rds_stop::Stop::new(params, clients)),
        RdsAction::CreateReadReplica(params) => Box::new(rds_replica::CreateReadReplica::new(params, clients)),
        RdsAction::FailoverCluster(params) => Box::new(aurora::FailoverCluster::new(params, clients)),
        RdsAction::FailoverGlobalCluster(params) => Box::new(aurora::MoveGlobalCluster::failover(params, clients)?),
        RdsAction::SwitchoverGlobalCluster(params) => Box::new(aurora::MoveGlobalCluster::switchover(params, clients)),
    })
}
