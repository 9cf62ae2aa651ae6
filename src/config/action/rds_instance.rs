//! Amazon RDS: what is done with one instance that stays.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rds::identifier;
use super::rds_restore::ENDPOINT;
use super::{Output, Parameters};
use crate::config::check::common::aws_region;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration};

/// `rds.failover`: a Multi-AZ instance goes over to its standby in the other zone (a reboot with
/// failover). Done when it is `available` in another zone than before, or RDS tells of a failover
/// since then. What stood before is kept in the tag `failoverd:failover` of the instance, so that a
/// crash does not lead to a second failover, back again. An instance that is not Multi-AZ is refused.
/// The endpoint stays, and nothing is lost: the standby is synchronous. RDS itself sees to it that
/// only one of the two takes writes, so that this is not a promotion for the guards. Needs
/// `rds:DescribeDBInstances`, `rds:DescribeEvents`, `rds:AddTagsToResource` and
/// `rds:RebootDBInstance`.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RebootDBInstance.html>
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.MultiAZ.Failover.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdsFailover {
    /// The region of the instance.
    pub region: String,
    /// The DB instance identifier.
    pub instance: String,
}

impl RdsFailover {
    /// What it hands on.
    pub const OUTPUTS: &'static [Output] = &ENDPOINT;
}

impl Parameters for RdsFailover {
    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn target(&self) -> String {
        format!("RDS instance {} in {}, over to its standby", self.instance, self.region)
    }

    fn estimate(&self) -> HumanDuration {
        // AWS: "failover times are typically 60–120 seconds".
        HumanDuration::secs(120)
    }

    fn outputs(&self) -> &'static [Output] {
        Self::OUTPUTS
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        identifier(report, &at.key("instance"), &self.instance);
    }
}

/// `rds.stop`: stops an instance, so that the old primary takes no writes. The evidence of the fence
/// is the status `stopped`. AWS does not stop an instance that is or has a read replica, nor a member
/// of a cluster: where a replica is to be promoted, promote it first and stop the old primary
/// afterwards, or fence in another way (revoke its security group, `postgres` or `exec`). AWS starts
/// a stopped instance by itself after seven days. Undone by starting it again. Needs
/// `rds:DescribeDBInstances` and `rds:StopDBInstance` (and `rds:StartDBInstance` for the undo,
/// `rds:AddTagsToResource` for the epoch's tag).
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_StopDBInstance.html>
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_StopInstance.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdsStop {
    /// The region of the instance.
    pub region: String,
    /// The DB instance identifier.
    pub instance: String,
}

impl Parameters for RdsStop {
    fn effect(&self) -> EffectKind {
        EffectKind::Fence
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn target(&self) -> String {
        format!("RDS instance {} in {}, stopped", self.instance, self.region)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(300)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        identifier(report, &at.key("instance"), &self.instance);
    }
}

/// `rds.create_read_replica`: a new replica, to have a standby again after a failover. Done when the
/// instance is `available`, follows the source, and RDS says that it replicates. Give the step a long
/// `timeout`: a big database takes hours. Needs `rds:DescribeDBInstances`,
/// `rds:CreateDBInstanceReadReplica` and `rds:AddTagsToResource`.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstanceReadReplica.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdsCreateReadReplica {
    /// The region of the new replica.
    pub region: String,
    /// The new replica's DB instance identifier.
    pub instance: String,
    /// What it follows: a DB instance identifier, or an ARN where that is in another region.
    pub source: String,
    /// Its class (default: the source's).
    #[serde(default)]
    pub class: Option<String>,
    /// Its DB subnet group (default: the source's, or the default VPC's in another region).
    #[serde(default)]
    pub subnet_group: Option<String>,
    /// Its VPC security groups (default: the VPC's default one).
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Its own standby in another zone (default: without).
    #[serde(default)]
    pub multi_az: Option<bool>,
    /// The KMS key in the replica's region, where the source is encrypted and in another region.
    #[serde(default)]
    pub kms_key: Option<String>,
    /// Its tags, beside those of failoverd.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl RdsCreateReadReplica {
    /// What it hands on.
    pub const OUTPUTS: &'static [Output] = &ENDPOINT;
}

impl Parameters for RdsCreateReadReplica {
    fn makes(&self) -> bool {
        true
    }

    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn target(&self) -> String {
        format!("RDS instance {} in {}, a new replica of {}", self.instance, self.region, self.source)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(1200)
    }

    fn outputs(&self) -> &'static [Output] {
        Self::OUTPUTS
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        identifier(report, &at.key("instance"), &self.instance);
        super::rds_restore::tags(report, at, &self.tags);
        if self.source.eq_ignore_ascii_case(&self.instance) {
            report.error("own_replica", &at.key("source"), "an instance is not its own replica", "name the primary");
        } else if !self.source.starts_with("arn:") {
            identifier(report, &at.key("source"), &self.source);
        }
    }
}
