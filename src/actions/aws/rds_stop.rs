//! `rds.stop`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_rds::types::DbInstance;
use serde_json::Value;

use super::rds::is_lost;
use super::rds_look::{instance, mark, ours, rds, status};
use crate::actions::{CHANGE, LOOK, until};
use crate::clients::{Api, Clients, Failure, aws};
use crate::config::action::RdsStop;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// Stops an instance, so that it takes no writes.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_StopInstance.html>
pub struct Stop {
    params: RdsStop,
    clients: Arc<Clients>,
}

impl Stop {
    /// The action for these parameters.
    pub fn new(params: RdsStop, clients: Arc<Clients>) -> Self {
        Self { params, clients }
    }

    async fn look(&self, until: Instant) -> Result<DbInstance, Failure> {
        instance(&self.clients, &self.params.region, &self.params.instance, until).await
    }

    /// What keeps AWS from stopping it.
    fn obstacle(&self, found: &DbInstance) -> Option<Failure> {
        let name = &self.params.instance;
        let named = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let source = named(found.read_replica_source_db_instance_identifier())
            .or_else(|| named(found.read_replica_source_db_cluster_identifier()));
        let replicas = [
            found.read_replica_db_instance_identifiers().join(", "),
            found.read_replica_db_cluster_identifiers().join(", "),
        ];
        let replicas = replicas.into_iter().find(|names| !names.is_empty());
        let said = if is_lost(status(found)) {
            format!("{name} is {}", status(found))
        } else if let Some(cluster) = named(found.db_cluster_identifier()) {
            format!("{name} is a member of the cluster {cluster}, and AWS stops only whole clusters")
        } else if let Some(source) = source {
            format!("{name} is a read replica of {source}, and AWS does not stop replicas; it takes no writes anyhow")
        } else if let Some(replicas) = replicas {
            format!(
                "{name} has the read replica {replicas}, and AWS does not stop an instance that has one: promote the \
                 replica first and stop this afterwards, or fence in another way (take its security group away, \
                 revoke the role that writes)"
            )
        } else if status(found) != "available" {
            return Some(Failure::again(format!("{name} is {}; it has to be available first", status(found))));
        } else {
            return None;
        };
        Some(Failure::refused(said))
    }

    /// Writes our epoch down, unless a higher one is there, and waits for room for the call that follows.
    async fn mark(
        &self,
        context: &ActionContext,
        region: &aws::Region,
        found: &DbInstance,
        until: Instant,
    ) -> Result<Result<String, Failure>, Denied> {
        if let Err(overtaken) = ours(context, &self.params.instance, found.tag_list()) {
            return Ok(Err(overtaken));
        }
        let told = mark(context, region, found.db_instance_arn(), found.tag_list(), until).await?;
        Ok(self.clients.pace(Api::Rds, until).await.map(|()| told))
    }
}

#[async_trait]
impl Action for Stop {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.params.region, Instant::now() + LOOK).await {
            region.rds();
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let found = match self.look(until(context, LOOK)).await {
            Ok(found) => found,
            Err(failure) => return failure.observed(),
        };
        let evidence = format!("{} is {}", self.params.instance, status(&found));
        match status(&found) {
            "stopped" => Observed::Done { evidence },
            "stopping" => Observed::InProgress { evidence },
            was => match self.obstacle(&found) {
                Some(failure) => failure.observed(),
                None => match ours(context, &self.params.instance, found.tag_list()) {
                    Err(overtaken) => overtaken.observed(),
                    Ok(()) => Observed::NotDone { evidence, before: serde_json::json!({ "status": was }) },
                },
            },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let ready = async {
            let found = self.look(until).await?;
            match self.obstacle(&found) {
                Some(failure) => Err(failure),
                None => Ok((rds(&self.clients, &self.params.region, until).await?, found)),
            }
        };
        let (region, found) = match ready.await {
            Ok(ready) => ready,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let told = match self.mark(context, &region, &found, until).await? {
            Ok(told) => told,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let request = region.rds().stop_db_instance().db_instance_identifier(&self.params.instance);
        context.permit()?;
        Ok(match aws::call("rds StopDBInstance", until, request.send()).await {
            Ok(_) => Applied::Accepted { evidence: format!("RDS is stopping {}{told}", self.params.instance) },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let evidence = match self.look(until(context, LOOK)).await {
            Ok(found) if is_lost(status(&found)) => {
                return Verified::Failed { reason: format!("{} is {}", self.params.instance, status(&found)) };
            }
            Ok(found) => format!("{} is {}", self.params.instance, status(&found)),
            Err(failure) => return failure.verified(),
        };
        if evidence.ends_with(" is stopped") { Verified::yes(evidence) } else { Verified::NotYet { evidence } }
    }

    /// Starts it again, where it ran before.
    async fn compensate(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let name = &self.params.instance;
        if before.get("status").and_then(Value::as_str) != Some("available") {
            let reason = format!("it is not known whether {name} ran before");
            return Ok(Applied::Refused { reason, again: false });
        }
        let ready = async {
            let found = self.look(until).await?;
            Ok((found, rds(&self.clients, &self.params.region, until).await?))
        };
        let (found, region) = match ready.await {
            Ok(ready) => ready,
            Err(failure) => return Ok(Failure::not_sent(failure)),
        };
        match status(&found) {
            status @ ("available" | "starting") => {
                return Ok(Applied::Accepted { evidence: format!("{name} is {status}") });
            }
            "stopped" => {}
            status => return Ok(Applied::Refused { reason: format!("{name} is {status}"), again: true }),
        }
        let told = match self.mark(context, &region, &found, until).await? {
            Ok(told) => told,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let request = region.rds().start_db_instance().db_instance_identifier(name);
        context.permit()?;
        Ok(match aws::call("rds StartDBInstance", until, request.send()).await {
            Ok(_) => Applied::Accepted { evidence: format!("RDS is starting {name} again{told}") },
            Err(failure) => failure.applied(),
        })
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}
