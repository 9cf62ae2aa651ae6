//! Amazon Web Services: one file per service. Clients and the meaning of errors are in
//! [`crate::clients::aws`].

pub mod arc;
pub mod aurora;
pub mod compute;
pub mod elasticache;
pub mod iam;
pub mod rds;
pub mod rds_failover;
mod rds_look;
pub mod rds_replica;
pub mod rds_restore;
pub mod rds_stop;
pub mod route53;
pub(super) mod route53_records;
pub mod s3;
pub(super) mod secret_text;
pub mod secretsmanager;
pub mod sns;

use std::sync::Arc;

use crate::clients::Clients;
use crate::config::action::{
    ArcAction, AutoscalingAction, EcsAction, EksAction, ElasticacheAction, IamAction, RdsAction, S3Action,
    SecretsmanagerAction,
};
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

/// The actions of ElastiCache.
pub(super) fn elasticache(action: ElasticacheAction, clients: Arc<Clients>) -> Result<Box<dyn Action>, String> {
    Ok(match action {
        ElasticacheAction::Reboot(params) => Box::new(elasticache::Reboot::new(params, clients)),
        ElasticacheAction::Failover(params) => Box::new(elasticache::Failover::new(params, clients)?),
        ElasticacheAction::FailoverGlobal(params) => Box::new(elasticache::FailoverGlobal::new(params, clients)),
    })
}

/// The actions of Secrets Manager.
pub(super) fn secretsmanager(
    SecretsmanagerAction::Put(params): SecretsmanagerAction,
    clients: Arc<Clients>,
) -> Result<Box<dyn Action>, String> {
    secretsmanager::Put::new(params, clients).map(|action| Box::new(action) as _)
}

/// The actions of IAM.
pub(super) fn iam(
    IamAction::DeactivateAccessKey(params): IamAction,
    clients: Arc<Clients>,
) -> Result<Box<dyn Action>, String> {
    Ok(Box::new(iam::DeactivateAccessKey::new(params, clients)))
}

/// The actions of EC2 Auto Scaling.
pub(super) fn autoscaling(
    AutoscalingAction::SetDesired(params): AutoscalingAction,
    clients: Arc<Clients>,
) -> Result<Box<dyn Action>, String> {
    compute::SetDesired::new(params, clients).map(|action| Box::new(action) as _)
}

/// The actions of ECS.
pub(super) fn ecs(
    EcsAction::UpdateService(params): EcsAction,
    clients: Arc<Clients>,
) -> Result<Box<dyn Action>, String> {
    compute::UpdateService::new(params, clients).map(|action| Box::new(action) as _)
}

/// The actions of EKS.
pub(super) fn eks(EksAction::WaitCluster(params): EksAction, clients: Arc<Clients>) -> Result<Box<dyn Action>, String> {
    Ok(Box::new(compute::WaitCluster::new(params, clients)))
}

/// The actions of S3.
pub(super) fn s3(S3Action::Fetch(params): S3Action, clients: Arc<Clients>) -> Result<Box<dyn Action>, String> {
    s3::Fetch::new(params, clients).map(|action| Box::new(action) as _)
}

/// The actions of the Application Recovery Controller.
pub(super) fn arc(
    ArcAction::RoutingControl(params): ArcAction,
    clients: Arc<Clients>,
) -> Result<Box<dyn Action>, String> {
    arc::SetRoutingControls::new(params, clients).map(|action| Box::new(action) as _)
}
