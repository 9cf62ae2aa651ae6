//! `rds.failover_cluster`, `rds.failover_global_cluster` and `rds.switchover_global_cluster`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_rds::types::{DbCluster, FailoverStatus, GlobalCluster};
use serde_json::Value;

use super::rds_look::{mark, ours, rds};
use crate::actions::{CHANGE, LOOK, until};
use crate::clients::{Api, Clients, Failure, aws};
use crate::config::action::{RdsFailoverCluster, RdsFailoverGlobalCluster, RdsSwitchoverGlobalCluster};
use crate::model::{Applied, Observed, Outputs, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// A cluster by identifier or ARN.
async fn cluster(clients: &Clients, region: &str, name: &str, until: Instant) -> Result<DbCluster, Failure> {
    let client = rds(clients, region, until).await?;
    let request = client.rds().describe_db_clusters().db_cluster_identifier(name);
    let answer = aws::call("rds DescribeDBClusters", until, request.send()).await?;
    let found = answer.db_clusters.unwrap_or_default().into_iter().next();
    found.ok_or_else(|| Failure::unknown(format!("rds DescribeDBClusters: an empty list for {name}")))
}

fn status(found: &DbCluster) -> &str {
    found.status().unwrap_or("unknown")
}

fn outputs(found: &DbCluster) -> Option<Outputs> {
    let endpoint = found.endpoint().filter(|endpoint| !endpoint.is_empty())?;
    let port = found.port()?;
    Some(Outputs::from([("endpoint".to_owned(), endpoint.to_owned()), ("port".to_owned(), port.to_string())]))
}

/// `Yes` once the cluster is available and can be connected to.
fn serving(found: &DbCluster, evidence: String) -> Verified {
    match outputs(found) {
        Some(outputs) if status(found) == "available" => Verified::Yes { evidence, outputs },
        _ => Verified::NotYet { evidence: format!("{evidence}; the cluster is {}", status(found)) },
    }
}

/// Makes an instance of a cluster its writer.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_FailoverDBCluster.html>
pub struct FailoverCluster {
    params: RdsFailoverCluster,
    clients: Arc<Clients>,
}

impl FailoverCluster {
    /// The action for these parameters.
    pub fn new(params: RdsFailoverCluster, clients: Arc<Clients>) -> Self {
        Self { params, clients }
    }

    async fn look(&self, until: Instant) -> Result<DbCluster, Failure> {
        let found = cluster(&self.clients, &self.params.region, &self.params.cluster, until).await?;
        if found.db_cluster_members().iter().any(|member| self.is_wanted(member.db_instance_identifier())) {
            return Ok(found);
        }
        let (wanted, cluster) = (&self.params.instance, &self.params.cluster);
        Err(Failure::refused(format!("{wanted} is not a member of {cluster}")))
    }

    fn is_wanted(&self, name: Option<&str>) -> bool {
        name.is_some_and(|name| name.eq_ignore_ascii_case(&self.params.instance))
    }

    fn writer<'c>(&self, found: &'c DbCluster) -> &'c str {
        let writer = found.db_cluster_members().iter().find(|member| member.is_cluster_writer() == Some(true));
        writer.and_then(|member| member.db_instance_identifier()).unwrap_or("nobody")
    }
}

#[async_trait]
impl Action for FailoverCluster {
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
        let writer = self.writer(&found);
        let evidence = format!("{} is {}, and its writer is {writer}", self.params.cluster, status(&found));
        match (self.is_wanted(Some(writer)), status(&found)) {
            (true, "available") => Observed::Done { evidence },
            (true, _) => Observed::InProgress { evidence },
            (false, "available") => match ours(context, &self.params.cluster, found.tag_list()) {
                Err(overtaken) => overtaken.observed(),
                Ok(()) => Observed::NotDone { evidence, before: serde_json::json!({ "writer": writer }) },
            },
            // A failover that is under way may be ours or AWS's own, to another instance: what came
            // of it is seen when it is over.
            (false, _) => Observed::Unknown { reason: format!("{evidence}; that has to end first") },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let ready = async {
            let found = self.look(until).await?;
            if self.is_wanted(Some(self.writer(&found))) {
                return Err(Failure::again(format!("{} is the writer by now", self.params.instance)));
            }
            ours(context, &self.params.cluster, found.tag_list())?;
            Ok((rds(&self.clients, &self.params.region, until).await?, found))
        };
        let (region, found) = match ready.await {
            Ok(ready) => ready,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let told = mark(context, &region, found.db_cluster_arn(), found.tag_list(), until).await?;
        if let Err(failure) = self.clients.pace(Api::Rds, until).await {
            return Ok(failure.not_sent());
        }
        let request = region
            .rds()
            .failover_db_cluster()
            .db_cluster_identifier(&self.params.cluster)
            .target_db_instance_identifier(&self.params.instance);
        context.permit()?;
        Ok(match aws::call("rds FailoverDBCluster", until, request.send()).await {
            Ok(_) => Applied::Accepted {
                evidence: format!("RDS took the failover of {} to {}{told}", self.params.cluster, self.params.instance),
            },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.look(until(context, LOOK)).await {
            Err(failure) => failure.verified(),
            Ok(found) => {
                let evidence = format!("the writer of {} is {}", self.params.cluster, self.writer(&found));
                if self.is_wanted(Some(self.writer(&found))) {
                    serving(&found, evidence)
                } else {
                    Verified::NotYet { evidence: format!("{evidence}; the cluster is {}", status(&found)) }
                }
            }
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// Makes a secondary cluster of a global database its primary, with or without losing what was not
/// replicated yet.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-global-database-disaster-recovery.html>
pub struct MoveGlobalCluster {
    region: String,
    global_cluster: String,
    cluster: String,
    /// A failover; else a switchover.
    may_lose: bool,
    clients: Arc<Clients>,
}

/// Where a global database stands.
struct Global {
    status: String,
    /// The ARN of the cluster that takes writes.
    writer: String,
    /// A move that is under way, with the ARN of the cluster that it leads to.
    moving: Option<(FailoverStatus, String)>,
}

impl MoveGlobalCluster {
    /// `rds.failover_global_cluster`.
    ///
    /// # Errors
    /// Where the loss of data is not allowed.
    pub fn failover(params: RdsFailoverGlobalCluster, clients: Arc<Clients>) -> Result<Self, String> {
        let RdsFailoverGlobalCluster { region, global_cluster, cluster, allow_data_loss, service: _ } = params;
        if !allow_data_loss {
            return Err("a failover loses what was not replicated yet: write `allow_data_loss = true`, or take \
                        `rds.switchover_global_cluster`"
                .into());
        }
        Ok(Self { region, global_cluster, cluster, may_lose: true, clients })
    }

    /// `rds.switchover_global_cluster`.
    pub fn switchover(params: RdsSwitchoverGlobalCluster, clients: Arc<Clients>) -> Self {
        let RdsSwitchoverGlobalCluster { region, global_cluster, cluster, service: _ } = params;
        Self { region, global_cluster, cluster, may_lose: false, clients }
    }

    async fn look(&self, until: Instant) -> Result<Global, Failure> {
        let client = rds(&self.clients, &self.region, until).await?;
        let request = client.rds().describe_global_clusters().global_cluster_identifier(&self.global_cluster);
        let answer = aws::call("rds DescribeGlobalClusters", until, request.send()).await?;
        let is_it = |found: &&GlobalCluster| {
            found.global_cluster_identifier().is_some_and(|name| name.eq_ignore_ascii_case(&self.global_cluster))
        };
        let Some(found) = answer.global_clusters().iter().find(is_it) else {
            return Err(Failure::unknown(format!(
                "rds DescribeGlobalClusters: {} is not in the answer",
                self.global_cluster
            )));
        };
        let members = found.global_cluster_members();
        if !members.iter().any(|member| member.db_cluster_arn() == Some(&self.cluster)) {
            let reason = format!("{} is not a member of {}", self.cluster, self.global_cluster);
            return Err(Failure::refused(reason));
        }
        let writer = members.iter().find(|member| member.is_writer() == Some(true));
        let moving = found.failover_state().and_then(|state| {
            Some((state.status()?.clone(), state.to_db_cluster_arn().unwrap_or("an unknown cluster").to_owned()))
        });
        Ok(Global {
            status: found.status().unwrap_or("unknown").to_owned(),
            writer: writer.and_then(|member| member.db_cluster_arn()).unwrap_or("nobody").to_owned(),
            moving,
        })
    }

    fn word(&self) -> &'static str {
        if self.may_lose { "failover" } else { "switchover" }
    }
}

#[async_trait]
impl Action for MoveGlobalCluster {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.region, Instant::now() + LOOK).await {
            region.rds();
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let Global { status, writer, moving } = match self.look(until(context, LOOK)).await {
            Ok(found) => found,
            Err(failure) => return failure.observed(),
        };
        let evidence = format!("{} is {status}, and its writer is {writer}", self.global_cluster);
        match moving {
            _ if writer == self.cluster => Observed::Done { evidence },
            Some((FailoverStatus::Cancelling, _)) => {
                Observed::Unknown { reason: format!("{evidence}; a move of it is being cancelled") }
            }
            Some((_, to)) if to == self.cluster => Observed::InProgress { evidence },
            Some((_, to)) => Observed::Unknown { reason: format!("{evidence}; it is on its way to {to}") },
            None if status == "available" || self.may_lose => {
                Observed::NotDone { evidence, before: serde_json::json!({ "writer": writer }) }
            }
            None => Observed::Unknown { reason: format!("{evidence}; it has to be available first") },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let ready = async {
            let found = self.look(until).await?;
            if found.writer == self.cluster || found.moving.is_some() {
                return Err(Failure::again(format!("{} was moved, or is being moved", self.global_cluster)));
            }
            rds(&self.clients, &self.region, until).await
        };
        let region = match ready.await {
            Ok(region) => region,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let sent = if self.may_lose {
            let request = region
                .rds()
                .failover_global_cluster()
                .global_cluster_identifier(&self.global_cluster)
                .target_db_cluster_identifier(&self.cluster)
                .allow_data_loss(true);
            context.permit()?;
            aws::call("rds FailoverGlobalCluster", until, request.send()).await.map(drop)
        } else {
            let request = region
                .rds()
                .switchover_global_cluster()
                .global_cluster_identifier(&self.global_cluster)
                .target_db_cluster_identifier(&self.cluster);
            context.permit()?;
            aws::call("rds SwitchoverGlobalCluster", until, request.send()).await.map(drop)
        };
        Ok(match sent {
            Ok(()) => Applied::Accepted { evidence: format!("RDS took the {} to {}", self.word(), self.cluster) },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let until = until(context, LOOK);
        let looked = async {
            let global = self.look(until).await?;
            let cluster = cluster(&self.clients, &self.region, &self.cluster, until).await?;
            Ok((global, cluster))
        };
        match looked.await {
            Err(failure) => Failure::verified(failure),
            Ok((global, cluster)) => {
                let evidence = format!("the writer of {} is {}", self.global_cluster, global.writer);
                // Its own cluster is asked too: that the global database names it its writer is not yet
                // that it takes writes (S6). The old primary may take long to come back.
                if global.writer == self.cluster {
                    serving(&cluster, evidence)
                } else {
                    Verified::NotYet { evidence: format!("{evidence}; it is {}", global.status) }
                }
            }
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(2)
    }
}
