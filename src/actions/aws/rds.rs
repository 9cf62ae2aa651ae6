//! `rds.promote_read_replica`, and which action of RDS is which.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_rds::types::{DbInstance, Tag};
use serde_json::Value;

use super::rds_look::{instance, mark, ours, rds};
use crate::actions::ready::failed;
use crate::actions::{CHANGE, LOOK, until};
use crate::clients::{Api, Clients, Failure, aws};
use crate::config::action::RdsPromoteReadReplica;
use crate::model::{Applied, Aspect, Finding, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied, ReadyContext};

/// Makes a read replica a database of its own.
///
/// An instance that follows nobody is taken for promoted: RDS keeps no trace of what it once
/// followed. So `replica_of` guards against the wrong replica before the promotion, and cannot
/// guard against an instance that never was a replica.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_PromoteReadReplica.html>
pub struct PromoteReadReplica {
    params: RdsPromoteReadReplica,
    clients: Arc<Clients>,
}

/// What is asked of an instance, read from its description.
struct Instance {
    status: String,
    /// The instance or cluster that it follows.
    source: Option<String>,
    arn: Option<String>,
    tags: Vec<Tag>,
}

impl PromoteReadReplica {
    /// The action for these parameters.
    pub fn new(params: RdsPromoteReadReplica, clients: Arc<Clients>) -> Self {
        Self { params, clients }
    }

    async fn look(&self, context: &ActionContext) -> Result<Instance, Failure> {
        let until = until(context, LOOK);
        let region = self.clients.aws(&self.params.region, until).await?;
        self.clients.pace(Api::Rds, until).await?;
        let request = region.rds().describe_db_instances().db_instance_identifier(&self.params.instance);
        let answer = aws::call("rds DescribeDBInstances", until, request.send()).await?;
        let found = answer.db_instances().first().ok_or_else(|| {
            Failure::unknown(format!("rds DescribeDBInstances: an empty list for {}", self.params.instance))
        })?;
        Ok(Instance::from(found))
    }

    /// Could it be promoted, as it is?
    fn judged(&self, name: &str, found: &DbInstance) -> Vec<Finding> {
        let Instance { status, source, .. } = Instance::from(found);
        let passing = ["available", "backing-up", "configuring-enhanced-monitoring", "storage-optimization"];
        let wrong = if is_lost(&status) || !passing.contains(&status.as_str()) {
            Some(format!("it is {status}, and a promotion waits for it to be available"))
        } else {
            None
        };
        let follows = match &source {
            Some(source) => self.wrong_source(source),
            None => Some("it follows nobody: it was promoted already, or never was a replica".to_owned()),
        };
        let text = |value: Option<&str>| value.unwrap_or("not told").to_owned();
        vec![
            Finding::judged(name, Aspect::Exists, wrong)
                .with("engine", format!("{} {}", text(found.engine()), text(found.engine_version())))
                .with("class", text(found.db_instance_class()))
                .with(
                    "storage",
                    found.allocated_storage().map_or_else(|| "not told".to_owned(), |gib| format!("{gib} GiB")),
                )
                .measuring("status", &status),
            Finding::judged(name, Aspect::Matches, follows).with("replica of", source.as_deref().unwrap_or("nobody")),
        ]
    }

    /// Is it a replica of another one than was written down?
    fn wrong_source(&self, source: &str) -> Option<String> {
        let wanted = self.params.replica_of.as_deref()?;
        (!same_instance(wanted, source))
            .then(|| format!("{} is a replica of {source}, not of {wanted}", self.params.instance))
    }
}

impl From<&DbInstance> for Instance {
    fn from(found: &DbInstance) -> Self {
        let source = found
            .read_replica_source_db_instance_identifier()
            .or(found.read_replica_source_db_cluster_identifier())
            .filter(|source| !source.is_empty());
        Self {
            status: found.db_instance_status().unwrap_or("unknown").to_owned(),
            source: source.map(str::to_owned),
            arn: found.db_instance_arn().map(str::to_owned),
            tags: found.tag_list().to_vec(),
        }
    }
}

/// Will an instance in this status never become available by waiting?
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html>
pub(super) fn is_lost(status: &str) -> bool {
    matches!(status, "deleting" | "failed" | "restore-error" | "inaccessible-encryption-credentials")
        || status.starts_with("incompatible-")
}

/// Do two names mean the same instance? A source in another region is given as an ARN, one in the
/// same region as an identifier, and identifiers are not case-sensitive.
pub(super) fn same_instance(wanted: &str, actual: &str) -> bool {
    if wanted.starts_with("arn:") && actual.starts_with("arn:") {
        return wanted.eq_ignore_ascii_case(actual);
    }
    let name = |text: &str| text.rsplit(':').next().unwrap_or_default().to_ascii_lowercase();
    name(wanted) == name(actual)
}

#[async_trait]
impl Action for PromoteReadReplica {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.params.region, Instant::now() + LOOK).await {
            region.rds();
        }
    }

    async fn ready(&self, look: &ReadyContext) -> Vec<Finding> {
        let name = format!("RDS instance {}", self.params.instance);
        let until = until(&look.context, LOOK);
        match instance(&self.clients, &self.params.region, &self.params.instance, until).await {
            Ok(found) => self.judged(&name, &found),
            Err(failure) => vec![failed(&name, failure)],
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let Instance { status, source, tags, .. } = match self.look(context).await {
            Ok(instance) => instance,
            Err(failure) => return failure.observed(),
        };
        let name = &self.params.instance;
        if is_lost(&status) {
            return Observed::Impossible { reason: format!("{name} is {status}") };
        }
        let Some(source) = source else {
            return if status == "available" {
                Observed::Done { evidence: format!("{name} is available and follows nobody") }
            } else {
                Observed::InProgress { evidence: format!("{name} follows nobody and is {status}") }
            };
        };
        if let Some(reason) = self.wrong_source(&source) {
            return Observed::Impossible { reason };
        }
        if let Err(overtaken) = ours(context, name, &tags) {
            return overtaken.observed();
        }
        match status.as_str() {
            "promoting" => Observed::InProgress { evidence: format!("{name} still follows {source} and is {status}") },
            // RDS does not say what is being changed: a promotion that is under way, or something
            // that a promotion has to wait for. It would refuse one now in either case. So it is
            // looked at again until it has ended, and is then a replica still, or none any more.
            "modifying" | "rebooting" | "backing-up" => {
                Observed::Unknown { reason: format!("{name} follows {source} and is {status}; that has to end first") }
            }
            _ => Observed::NotDone {
                evidence: format!("{name} follows {source} and is {status}"),
                before: serde_json::json!({ "source": source, "status": status }),
            },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let ready = async {
            // Between the observation and now another instance may have taken the name.
            let instance = self.look(context).await?;
            match &instance.source {
                None => Err(Failure::again(format!("{} follows nobody any more", self.params.instance))),
                Some(source) => match self.wrong_source(source) {
                    Some(reason) => Err(Failure::refused(reason)),
                    None => {
                        ours(context, &self.params.instance, &instance.tags)?;
                        Ok((instance, rds(&self.clients, &self.params.region, until).await?))
                    }
                },
            }
        };
        let (found, region) = match ready.await {
            Ok(ready) => ready,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let told = mark(context, &region, found.arn.as_deref(), &found.tags, until).await?;
        let region = match rds(&self.clients, &self.params.region, until).await {
            Ok(region) => region,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let request = region.rds().promote_read_replica().db_instance_identifier(&self.params.instance);
        context.permit()?;
        Ok(match aws::call("rds PromoteReadReplica", until, request.send()).await {
            Ok(answer) => {
                let status = answer.db_instance().and_then(DbInstance::db_instance_status).unwrap_or("unknown");
                Applied::Accepted {
                    evidence: format!("RDS took the promotion; {} is {status}{told}", self.params.instance),
                }
            }
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let name = &self.params.instance;
        match self.look(context).await {
            Err(failure) => failure.verified(),
            Ok(Instance { status, .. }) if is_lost(&status) => {
                Verified::Failed { reason: format!("{name} is {status}") }
            }
            Ok(Instance { status, source: None, .. }) if status == "available" => {
                Verified::yes(format!("{name} is available and follows nobody"))
            }
            Ok(Instance { status, source, .. }) => {
                let follows = source.unwrap_or_else(|| "nobody".to_owned());
                Verified::NotYet { evidence: format!("{name} is {status} and follows {follows}") }
            }
        }
    }

    fn is_paced(&self) -> bool {
        true
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_recognised_by_identifier_and_by_arn() {
        let arn = "arn:aws:rds:us-east-1:123456789012:db:shop";
        assert!(same_instance("shop", "shop"));
        assert!(same_instance("Shop", "shop"));
        assert!(same_instance("shop", arn));
        assert!(same_instance(arn, arn));
        assert!(same_instance(arn, "shop"));
        assert!(!same_instance("shop", "shop-2"));
        assert!(!same_instance("shop", "arn:aws:rds:us-east-1:123456789012:db:shop-2"));
        assert!(!same_instance(arn, "arn:aws:rds:eu-west-1:123456789012:db:shop"));
        assert!(!same_instance("", arn));
    }
}
