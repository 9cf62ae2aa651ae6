//! `rds.create_read_replica`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_rds::types::DbInstance;
use serde_json::Value;

use super::rds::{is_lost, same_instance};
use super::rds_look::{instance_if_there, marks, outputs, rds, status};
use crate::actions::{CHANGE, LOOK, until};
use crate::clients::{Clients, Failure, aws};
use crate::config::action::RdsCreateReadReplica;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// Creates a read replica. One of that name that follows the source already is as good as ours.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstanceReadReplica.html>
pub struct CreateReadReplica {
    params: RdsCreateReadReplica,
    clients: Arc<Clients>,
}

impl CreateReadReplica {
    /// The action for these parameters.
    pub fn new(params: RdsCreateReadReplica, clients: Arc<Clients>) -> Self {
        Self { params, clients }
    }

    async fn look(&self, context: &ActionContext) -> Result<Option<DbInstance>, Failure> {
        instance_if_there(&self.clients, &self.params.region, &self.params.instance, until(context, LOOK)).await
    }

    /// Why an instance of that name stands in the way, or will never be ready.
    fn hopeless(&self, found: &DbInstance) -> Option<String> {
        let name = &self.params.instance;
        let source = found.read_replica_source_db_instance_identifier().filter(|source| !source.is_empty());
        match source {
            _ if is_lost(status(found)) => Some(format!("{name} is {}", status(found))),
            Some(source) if same_instance(&self.params.source, source) => None,
            Some(source) => Some(format!("{name} is a replica of {source}, not of {}", self.params.source)),
            None => Some(format!(
                "there is a DB instance {name} already, and it follows nobody: choose another identifier, or delete it"
            )),
        }
    }
}

/// Is it there and following? RDS tells of the replication where the engine does.
fn follows(found: &DbInstance) -> bool {
    status(found) == "available"
        && found
            .status_infos()
            .iter()
            .all(|info| info.status_type() != Some("read replication") || info.normal() == Some(true))
}

#[async_trait]
impl Action for CreateReadReplica {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.params.region, Instant::now() + LOOK).await {
            region.rds();
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let name = &self.params.instance;
        let found = match self.look(context).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                return Observed::NotDone { evidence: format!("{name} is not there yet"), before: Value::Null };
            }
            Err(failure) => return failure.observed(),
        };
        let evidence = format!("{name} is a replica of {} and is {}", self.params.source, status(&found));
        match self.hopeless(&found) {
            Some(reason) => Observed::Impossible { reason },
            None if follows(&found) => Observed::Done { evidence },
            None => Observed::InProgress { evidence },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let region = match rds(&self.clients, &self.params.region, until).await {
            Ok(region) => region,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let params = self.params.clone();
        let groups = params.security_groups;
        let request = region
            .rds()
            .create_db_instance_read_replica()
            .db_instance_identifier(params.instance)
            .source_db_instance_identifier(&params.source)
            .set_db_instance_class(params.class)
            .set_db_subnet_group_name(params.subnet_group)
            .set_vpc_security_group_ids((!groups.is_empty()).then_some(groups))
            .set_multi_az(params.multi_az)
            .set_kms_key_id(params.kms_key)
            .set_tags(Some(marks(context, &params.source, &params.tags)));
        context.permit()?;
        Ok(match aws::call("rds CreateDBInstanceReadReplica", until, request.send()).await {
            Ok(_) => Applied::Accepted { evidence: format!("RDS is creating {}", self.params.instance) },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let name = &self.params.instance;
        let found = match self.look(context).await {
            Ok(Some(found)) => found,
            Ok(None) => return Verified::NotYet { evidence: format!("{name} is not listed yet") },
            Err(failure) => return failure.verified(),
        };
        if let Some(reason) = self.hopeless(&found) {
            return Verified::Failed { reason };
        }
        match outputs(&found) {
            Some(outputs) if follows(&found) => {
                Verified::Yes { evidence: format!("{name} is available and follows {}", self.params.source), outputs }
            }
            _ => Verified::NotYet { evidence: format!("{name} is {}", status(&found)) },
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(5)
    }
}
