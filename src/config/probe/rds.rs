//! Amazon RDS and Aurora.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{CauseRow, degraded, down, unknown};
use crate::config::action::kubernetes::one_of;
use crate::config::action::rds::identifier;
use crate::config::check::common::aws_region;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::CauseKind;

/// What RDS says of a DB instance or of a DB cluster, by its status. `available` is Up, and so is what
/// serves while something is done beside it (`backing-up`, `storage-optimization`); `modifying`,
/// `upgrading` and the like are Degraded; `failed`, `stopped`, `rebooting`, `storage-full`,
/// `inaccessible-encryption-credentials` and the like are Down. A status of which the documentation does
/// not say whether the database serves is Unknown. A cluster without an instance is Down.
///
/// It is not a look at the database: RDS goes on saying `available` of one that answers nobody. Put a
/// `postgres` or `tcp` probe beside it. Replication lag is told by `postgres`, with `max_lag`. AWS limits
/// how often it may be asked: write an `interval` of 10 s or longer, and a `timeout` of 5 s. Needs
/// `rds:DescribeDBInstances` (`instance`) or `rds:DescribeDBClusters` (`cluster`), and
/// `rds:DescribePendingMaintenanceActions` with `pending_maintenance`.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdsProbe {
    /// The region of the instance or the cluster.
    pub region: String,
    /// The DB instance identifier (default: none). Or `cluster`.
    #[serde(default)]
    pub instance: Option<String>,
    /// The DB cluster identifier (default: none). Or `instance`.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Is maintenance that has a date Degraded, with the cause `maintenance_pending` (default false)? Costs
    /// a second call in each attempt.
    #[serde(default)]
    pub pending_maintenance: bool,
}

/// What it can see.
pub(super) const CAUSES: &[CauseRow] = &[
    down(
        CauseKind::Unhealthy,
        "the status is one in which the database does not serve, or the cluster has no instance",
    ),
    degraded(CauseKind::Unhealthy, "the status is one in which the database serves, perhaps with interruptions"),
    unknown(CauseKind::Protocol, "the status does not tell whether the database serves"),
    degraded(CauseKind::MaintenancePending, "with `pending_maintenance`: maintenance has a date"),
    down(CauseKind::NotFound, "there is no such instance or cluster"),
];

impl RdsProbe {
    /// What is wrong with it.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        one_of(report, at, &[("instance", self.instance.is_some()), ("cluster", self.cluster.is_some())]);
        for (key, text) in [("instance", &self.instance), ("cluster", &self.cluster)] {
            if let Some(text) = text {
                identifier(report, &at.key(key), text);
            }
        }
    }
}
