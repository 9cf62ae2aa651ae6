//! Amazon ElastiCache.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{CauseRow, degraded, down, unknown};
use crate::config::check::common::{aws_region, not_empty};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::CauseKind;

/// What ElastiCache says of a replication group and its node groups (shards). `available` is Up;
/// `modifying` and `snapshotting` are Degraded, and so is a node group that is not `available`;
/// `creating`, `deleting` and `create-failed` are Down, and so is a node group that has no primary. Who the
/// primary is is told only where cluster mode is disabled.
///
/// It is not a look at the cache: put a `redis` probe beside it. AWS limits how often it may be asked:
/// write an `interval` of 10 s or longer, and a `timeout` of 5 s. Needs
/// `elasticache:DescribeReplicationGroups`.
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_ReplicationGroup.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticacheProbe {
    /// The region of the replication group.
    pub region: String,
    /// The replication group's id.
    pub replication_group: String,
}

/// What it can see.
pub(super) const CAUSES: &[CauseRow] = &[
    down(CauseKind::Unhealthy, "the status is one in which the cache does not serve, or a node group has no primary"),
    degraded(CauseKind::Unhealthy, "the group, or one of its node groups, is being changed"),
    unknown(CauseKind::Protocol, "the status is not one that ElastiCache documents"),
    down(CauseKind::NotFound, "there is no such replication group"),
];

impl ElasticacheProbe {
    /// What is wrong with it.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        not_empty(report, &at.key("replication_group"), &self.replication_group);
    }
}
