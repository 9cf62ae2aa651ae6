//! Amazon RDS and Aurora.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Parameters, service};
use crate::config::check::common::aws_region;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration};

/// `rds.promote_read_replica`: done when the instance is `available` and follows nobody. Needs
/// `rds:DescribeDBInstances` and `rds:PromoteReadReplica` (and `rds:AddTagsToResource` for the epoch's tag).
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_PromoteReadReplica.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdsPromoteReadReplica {
    /// The region of the replica.
    pub region: String,
    /// The replica's DB instance identifier.
    pub instance: String,
    /// The DB instance identifier (or ARN) that it must be a replica of; another one is refused.
    #[serde(default)]
    pub replica_of: Option<String>,
    /// The name of the service for the guard "one promotion per service and epoch" (default: the
    /// instance).
    #[serde(default)]
    pub service: Option<String>,
}

impl Parameters for RdsPromoteReadReplica {
    fn effect(&self) -> EffectKind {
        EffectKind::Promote
    }

    fn service(&self) -> Option<String> {
        Some(self.service.clone().unwrap_or_else(|| self.instance.clone()))
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn target(&self) -> String {
        format!("RDS instance {} in {}", self.instance, self.region)
    }

    fn estimate(&self) -> HumanDuration {
        // AWS: "usually a few minutes", a reboot included.
        HumanDuration::secs(300)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        rds(report, at, self);
    }
}

fn rds(report: &mut Report<'_>, at: &Path, promote: &RdsPromoteReadReplica) {
    aws_region(report, &at.key("region"), &promote.region);
    service(report, at, promote.service.as_deref());
    let instance = &promote.instance;
    identifier(report, &at.key("instance"), instance);
    if promote.replica_of.is_none() {
        report.warn(
            "any_replica",
            &at.key("replica_of"),
            format!("`{instance}` would be promoted whatever it is a replica of"),
            "add `replica_of = \"the primary's identifier\"`",
        );
    } else if promote.replica_of.as_ref() == Some(instance) {
        report.error("any_replica", &at.key("replica_of"), "an instance is not its own replica", "name the primary");
    }
}

/// The identifier of an instance or a cluster: AWS would refuse another one in the middle of an outage.
pub(in crate::config) fn identifier(report: &mut Report<'_>, at: &Path, text: &str) {
    let letters = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !letters || !text.starts_with(|c: char| c.is_ascii_alphabetic()) || text.len() > 63 {
        report.error(
            "bad_instance",
            at,
            format!("{text:?} is not a DB instance identifier"),
            "write the identifier (not the ARN, not the endpoint): letters, digits and `-`, a letter first",
        );
    }
}
