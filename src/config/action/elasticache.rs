//! Amazon ElastiCache.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Parameters, service};
use crate::config::check::common::{aws_region, not_empty};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration, Repeat};

/// `elasticache.reboot`: reboots nodes of a cache cluster; what they hold is lost. Done when the
/// cluster is `available` again. A reboot leaves no trace: after an unknown outcome it is asked for
/// again, which is harmless, since the cache is empty by then. AWS does not reboot clusters with cluster
/// mode enabled. Needs `elasticache:DescribeCacheClusters` and `elasticache:RebootCacheCluster`.
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_RebootCacheCluster.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticacheReboot {
    /// The region of the cluster.
    pub region: String,
    /// The cache cluster's id.
    pub cluster: String,
    /// The ids of the nodes (default: all of the cluster).
    #[serde(default)]
    pub nodes: Vec<String>,
}

impl Parameters for ElasticacheReboot {
    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn repeat(&self) -> Repeat {
        Repeat::AtLeastOnce
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn target(&self) -> String {
        format!("cache cluster {} in {}, rebooted", self.cluster, self.region)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(180)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        not_empty(report, &at.key("cluster"), &self.cluster);
    }
}

/// `elasticache.failover`: another node of a shard becomes its primary. With `from`: the shard's
/// primary was that node and is another one; AWS chooses which (`TestFailover`, which needs automatic
/// failover, and of which AWS allows 15 shards in 24 hours). With `to`: that node is the primary
/// (`ModifyReplicationGroup`, which AWS takes only while automatic failover is disabled). Done when
/// ElastiCache names the other node primary and the replication group is `available`. For replication
/// groups with cluster mode disabled: for others AWS does not tell which node is the primary. What was
/// not replicated yet is lost. Needs `elasticache:DescribeReplicationGroups` and
/// `elasticache:TestFailover` or `elasticache:ModifyReplicationGroup`.
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_TestFailover.html>
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/Replication.PromoteReplica.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticacheFailover {
    /// The region of the replication group.
    pub region: String,
    /// The replication group's id.
    pub replication_group: String,
    /// The cache cluster id of the node that shall be primary no more. Or `to`.
    #[serde(default)]
    pub from: Option<String>,
    /// The cache cluster id of the node that shall be primary. Or `from`.
    #[serde(default)]
    pub to: Option<String>,
    /// The name of the service for the guard "one promotion per service and epoch" (default: the
    /// replication group).
    #[serde(default)]
    pub service: Option<String>,
}

impl Parameters for ElasticacheFailover {
    fn effect(&self) -> EffectKind {
        EffectKind::Promote
    }

    fn service(&self) -> Option<String> {
        Some(self.service.clone().unwrap_or_else(|| self.replication_group.clone()))
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn within_region(&self) -> bool {
        true
    }

    fn target(&self) -> String {
        let way = match (&self.from, &self.to) {
            (_, Some(to)) => format!("over to {to}"),
            (Some(from), None) => format!("away from {from}"),
            (None, None) => "nowhere".to_owned(),
        };
        format!("replication group {} in {}, {way}", self.replication_group, self.region)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(120)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        not_empty(report, &at.key("replication_group"), &self.replication_group);
        service(report, at, self.service.as_deref());
        if self.from.is_some() == self.to.is_some() {
            report.error(
                "which_way",
                at,
                "one of `from` and `to` says which node is primary afterwards",
                "write `from` where automatic failover is enabled, else `to`",
            );
        }
    }
}

/// `elasticache.failover_global`: makes a secondary replication group of a global datastore its
/// primary. Done when the global datastore names it `PRIMARY` and is `available`. What was not
/// replicated yet is lost. Needs `elasticache:DescribeGlobalReplicationGroups` and
/// `elasticache:FailoverGlobalReplicationGroup`.
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_FailoverGlobalReplicationGroup.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticacheFailoverGlobal {
    /// The region of the new primary, which is the one that is called.
    pub region: String,
    /// The global datastore's id, with the prefix that AWS gave it.
    pub global_replication_group: String,
    /// The id of the replication group that becomes the primary one.
    pub replication_group: String,
    /// The name of the service for the guard "one promotion per service and epoch" (default: the
    /// global datastore).
    #[serde(default)]
    pub service: Option<String>,
}

impl Parameters for ElasticacheFailoverGlobal {
    fn effect(&self) -> EffectKind {
        EffectKind::Promote
    }

    fn service(&self) -> Option<String> {
        Some(self.service.clone().unwrap_or_else(|| self.global_replication_group.clone()))
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn target(&self) -> String {
        format!(
            "global datastore {}, over to {} in {}",
            self.global_replication_group, self.replication_group, self.region
        )
    }

    fn estimate(&self) -> HumanDuration {
        // AWS: "typically promotes a secondary cluster to primary in less than a minute".
        HumanDuration::secs(60)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        not_empty(report, &at.key("global_replication_group"), &self.global_replication_group);
        not_empty(report, &at.key("replication_group"), &self.replication_group);
        service(report, at, self.service.as_deref());
    }
}
