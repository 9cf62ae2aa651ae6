//! What ElastiCache says of a replication group.

use std::time::Instant;

use async_trait::async_trait;
use aws_sdk_elasticache::types::{NodeGroup, ReplicationGroup};

use super::Account;
use crate::clients::{Api, failure::one_line};
use crate::config::probe::ElasticacheProbe;
use crate::model::{Cause, CauseKind, Observation};
use crate::ports::Probe;
use crate::probes::classify::Fault;
use crate::probes::{ProbeContext, judged};

/// See [`ElasticacheProbe`].
pub struct Elasticache {
    account: Account,
    group: String,
}

impl Elasticache {
    /// Calls nothing.
    pub fn new(config: &ElasticacheProbe, context: &ProbeContext) -> Self {
        Self { account: Account::new(context, &config.region, Api::Aws), group: config.replication_group.clone() }
    }

    async fn look(&self) -> Result<Option<Cause>, Fault> {
        let until = self.account.until();
        let clients = self.account.clients(until).await?;
        let request = clients.elasticache().describe_replication_groups().replication_group_id(&self.group).send();
        let answer = self.account.ask("elasticache DescribeReplicationGroups", until, request).await?;
        let found = answer.replication_groups().first().ok_or_else(|| {
            Fault::ours(CauseKind::ControlPlane, "elasticache DescribeReplicationGroups: an empty answer")
        })?;
        judge(&self.group, found)
    }
}

/// After <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_ReplicationGroup.html>
/// and <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_NodeGroup.html>.
fn judge(name: &str, found: &ReplicationGroup) -> Result<Option<Cause>, Fault> {
    let status = found.status().unwrap_or_default();
    let text = format!("ElastiCache says that {name} is {}", one_line(status));
    let changing = match status {
        "available" => None,
        "modifying" | "snapshotting" => Some(text),
        "creating" | "create-failed" | "deleting" => return Err(Fault::theirs(CauseKind::Unhealthy, text)),
        _ => return Err(Fault::ours(CauseKind::Protocol, format!("{text}, which it does not document"))),
    };
    if let Some(shard) = found.node_groups().iter().find(|shard| has_no_primary(shard)) {
        let text = format!("node group {} of {name} has no primary", shard.node_group_id().unwrap_or_default());
        return Err(Fault::theirs(CauseKind::Unhealthy, text));
    }
    let unwell = found.node_groups().iter().find(|shard| shard.status().is_some_and(|status| status != "available"));
    let unwell = unwell.map(|shard| {
        let [id, status] = [shard.node_group_id(), shard.status()].map(Option::unwrap_or_default);
        format!("node group {id} of {name} is {}", one_line(status))
    });
    Ok(changing.or(unwell).map(|text| Cause::new(CauseKind::Unhealthy, text)))
}

/// Roles are told only where cluster mode is disabled: without any, nothing is known of a primary.
fn has_no_primary(shard: &NodeGroup) -> bool {
    let roles: Vec<&str> = shard.node_group_members().iter().filter_map(|member| member.current_role()).collect();
    !roles.is_empty() && !roles.contains(&"primary")
}

#[async_trait]
impl Probe for Elasticache {
    async fn attempt(&self) -> Observation {
        let started = Instant::now();
        judged(self.look().await, started.elapsed())
    }
}
