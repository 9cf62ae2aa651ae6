//! Amazon Aurora: clusters and global databases. In the file they are `rds.*`, as in the API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rds::identifier;
use super::{Output, Parameters, service};
use crate::config::check::common::aws_region;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration};

const ENDPOINT: Output =
    Output { name: "endpoint", meaning: "the cluster's writer endpoint", sample: "endpoint.sample.example" };
const PORT: Output = Output { name: "port", meaning: "the port to connect to", sample: "5432" };

/// `rds.failover_cluster`: makes an instance of a cluster its writer. Done when the cluster is
/// `available` and that instance is its writer. The writer endpoint stays; in Aurora nothing is lost,
/// since the instances share their storage. Needs `rds:DescribeDBClusters` and
/// `rds:FailoverDBCluster` (and `rds:AddTagsToResource` for the epoch's tag).
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_FailoverDBCluster.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdsFailoverCluster {
    /// The region of the cluster.
    pub region: String,
    /// The DB cluster identifier.
    pub cluster: String,
    /// The DB instance identifier of the new writer.
    pub instance: String,
    /// The name of the service for the guard "one promotion per service and epoch" (default: the
    /// cluster).
    #[serde(default)]
    pub service: Option<String>,
}

impl RdsFailoverCluster {
    /// What it hands on.
    pub const OUTPUTS: &'static [Output] = &[ENDPOINT, PORT];
}

impl Parameters for RdsFailoverCluster {
    fn effect(&self) -> EffectKind {
        EffectKind::Promote
    }

    fn service(&self) -> Option<String> {
        Some(self.service.clone().unwrap_or_else(|| self.cluster.clone()))
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn within_region(&self) -> bool {
        true
    }

    fn target(&self) -> String {
        format!("DB cluster {} in {}, over to {}", self.cluster, self.region, self.instance)
    }

    fn estimate(&self) -> HumanDuration {
        // AWS: "service is typically restored in less than 60 seconds".
        HumanDuration::secs(60)
    }

    fn outputs(&self) -> &'static [Output] {
        Self::OUTPUTS
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        identifier(report, &at.key("cluster"), &self.cluster);
        identifier(report, &at.key("instance"), &self.instance);
        service(report, at, self.service.as_deref());
    }
}

/// `rds.failover_global_cluster`: makes a secondary cluster of an Aurora global database its primary
/// while the old primary is gone. What was not replicated yet is lost: `allow_data_loss` says that
/// this is meant. Done when that cluster is the global database's writer and `available`. Needs
/// `rds:DescribeGlobalClusters`, `rds:DescribeDBClusters` and `rds:FailoverGlobalCluster`.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_FailoverGlobalCluster.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdsFailoverGlobalCluster {
    /// The region of the new primary cluster, which is the one that is called.
    pub region: String,
    /// The global database's identifier.
    pub global_cluster: String,
    /// The ARN of the cluster that becomes the primary one.
    pub cluster: String,
    /// What was not replicated yet may be lost; without it there is `rds.switchover_global_cluster`.
    #[serde(default)]
    pub allow_data_loss: bool,
    /// The name of the service for the guard "one promotion per service and epoch" (default: the
    /// global database).
    #[serde(default)]
    pub service: Option<String>,
}

impl RdsFailoverGlobalCluster {
    /// What it hands on.
    pub const OUTPUTS: &'static [Output] = &[ENDPOINT, PORT];
}

impl Parameters for RdsFailoverGlobalCluster {
    fn effect(&self) -> EffectKind {
        EffectKind::Promote
    }

    fn service(&self) -> Option<String> {
        Some(self.service.clone().unwrap_or_else(|| self.global_cluster.clone()))
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn target(&self) -> String {
        format!("Aurora global database {}, failed over to {}", self.global_cluster, self.cluster)
    }

    fn estimate(&self) -> HumanDuration {
        // AWS: "RTO in the order of minutes".
        HumanDuration::secs(300)
    }

    fn outputs(&self) -> &'static [Output] {
        Self::OUTPUTS
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        global(report, at, &self.region, &self.global_cluster, &self.cluster);
        service(report, at, self.service.as_deref());
        if !self.allow_data_loss {
            report.error(
                "loss_not_allowed",
                &at.key("allow_data_loss"),
                "a failover of a global database loses what was not replicated yet",
                "write `allow_data_loss = true`, or take `rds.switchover_global_cluster`, which loses nothing and \
                 needs the old primary to be well",
            );
        }
    }
}

/// `rds.switchover_global_cluster`: makes a secondary cluster of an Aurora global database its primary
/// while all of it is well; nothing is lost. Done when that cluster is the global database's writer
/// and `available`. AWS refuses it where the old primary is not well. Needs
/// `rds:DescribeGlobalClusters`, `rds:DescribeDBClusters` and `rds:SwitchoverGlobalCluster`.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_SwitchoverGlobalCluster.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdsSwitchoverGlobalCluster {
    /// The region of the new primary cluster, which is the one that is called.
    pub region: String,
    /// The global database's identifier.
    pub global_cluster: String,
    /// The ARN of the cluster that becomes the primary one.
    pub cluster: String,
    /// The name of the service for the guard "one promotion per service and epoch" (default: the
    /// global database).
    #[serde(default)]
    pub service: Option<String>,
}

impl RdsSwitchoverGlobalCluster {
    /// What it hands on.
    pub const OUTPUTS: &'static [Output] = &[ENDPOINT, PORT];
}

impl Parameters for RdsSwitchoverGlobalCluster {
    fn effect(&self) -> EffectKind {
        EffectKind::Promote
    }

    fn service(&self) -> Option<String> {
        Some(self.service.clone().unwrap_or_else(|| self.global_cluster.clone()))
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn target(&self) -> String {
        format!("Aurora global database {}, switched over to {}", self.global_cluster, self.cluster)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(300)
    }

    fn outputs(&self) -> &'static [Output] {
        Self::OUTPUTS
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        global(report, at, &self.region, &self.global_cluster, &self.cluster);
        service(report, at, self.service.as_deref());
    }
}

fn global(report: &mut Report<'_>, at: &Path, region: &str, global_cluster: &str, cluster: &str) {
    aws_region(report, &at.key("region"), region);
    identifier(report, &at.key("global_cluster"), global_cluster);
    match cluster_region(cluster) {
        None => report.error(
            "bad_cluster",
            &at.key("cluster"),
            format!("{cluster:?} is not the ARN of a DB cluster"),
            "write `arn:aws:rds:REGION:ACCOUNT:cluster:NAME`",
        ),
        Some(its) if its != region => report.error(
            "bad_cluster",
            &at.key("cluster"),
            format!("this cluster is in {its}, and the region that is called is {region}"),
            format!("write `region = \"{its}\"`"),
        ),
        Some(_) => {}
    }
}

/// The region in `arn:PARTITION:rds:REGION:ACCOUNT:cluster:NAME`.
pub fn cluster_region(arn: &str) -> Option<&str> {
    match arn.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", partition, "rds", region, account, "cluster", name]
            if partition.starts_with("aws")
                && !region.is_empty()
                && account.len() == 12
                && account.chars().all(|digit| digit.is_ascii_digit())
                && !name.is_empty() =>
        {
            Some(region)
        }
        _ => None,
    }
}
