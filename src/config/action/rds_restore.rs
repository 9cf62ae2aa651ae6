//! Amazon RDS: a new instance from a backup.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rds::identifier;
use super::{Output, Parameters};
use crate::config::check::common::{aws_region, not_empty, not_zero};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration};

/// What every action hands on that leads to an instance.
pub(super) const ENDPOINT: [Output; 3] = [
    Output { name: "endpoint", meaning: "the host name to connect to", sample: "endpoint.sample.example" },
    Output { name: "port", meaning: "the port to connect to", sample: "5432" },
    Output { name: "instance", meaning: "the DB instance identifier", sample: "sample-instance" },
];

/// How the restored instance is set up. What is left out is as the backup has it, but for the
/// security groups and the parameter group, for which AWS takes the defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdsRestored {
    /// The class (default: that of the backed-up instance): `db.r6g.xlarge`.
    #[serde(default)]
    pub class: Option<String>,
    /// The DB subnet group (default: the default VPC's).
    #[serde(default)]
    pub subnet_group: Option<String>,
    /// The VPC security groups (default: the VPC's default one, which usually lets nobody in).
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// The DB parameter group (default: the engine's default one).
    #[serde(default)]
    pub parameter_group: Option<String>,
    /// A standby in another zone (default: without).
    #[serde(default)]
    pub multi_az: Option<bool>,
    /// Against deletion by mistake (default: as AWS has it, without).
    #[serde(default)]
    pub deletion_protection: Option<bool>,
    /// The tags, beside those of failoverd.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// `rds.restore_snapshot`: a new instance from a snapshot. Done when it is `available` and carries the
/// tags of this run and step (`failoverd:run`, `failoverd:step`). An instance of that identifier that
/// does not is left alone: choose another identifier, or delete it. Give the step a long `timeout`: a
/// big database takes an hour. Needs `rds:DescribeDBInstances`, `rds:DescribeDBSnapshots`,
/// `rds:RestoreDBInstanceFromDBSnapshot` and `rds:AddTagsToResource`.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceFromDBSnapshot.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdsRestoreSnapshot {
    /// The region of the snapshot and of the new instance.
    pub region: String,
    /// The new DB instance identifier.
    pub instance: String,
    /// The snapshot's name or ARN, or `newest`: the newest available one of `source`.
    pub snapshot: String,
    /// With `snapshot = "newest"`: the DB instance identifier whose snapshots are meant; it need not
    /// exist any more.
    #[serde(default)]
    pub source: Option<String>,
    /// A snapshot that is older is refused: more would be lost than that.
    #[serde(default)]
    pub max_age: Option<HumanDuration>,
    /// How the new instance is set up.
    #[serde(default)]
    pub settings: RdsRestored,
}

impl Parameters for RdsRestoreSnapshot {
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
        let from = match &self.source {
            Some(source) if self.snapshot == "newest" => format!("the newest snapshot of {source}"),
            _ => format!("snapshot {}", self.snapshot),
        };
        format!("RDS instance {} in {}, restored from {from}", self.instance, self.region)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(1200)
    }

    fn outputs(&self) -> &'static [Output] {
        const OUTPUTS: &[Output] = &[
            ENDPOINT[0],
            ENDPOINT[1],
            ENDPOINT[2],
            Output { name: "snapshot", meaning: "the snapshot that it was restored from", sample: "sample-snapshot" },
        ];
        OUTPUTS
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        identifier(report, &at.key("instance"), &self.instance);
        not_empty(report, &at.key("snapshot"), &self.snapshot);
        not_zero(report, &at.key("max_age"), self.max_age);
        if (self.snapshot == "newest") != self.source.is_some() {
            report.error(
                "whose_snapshot",
                &at.key("source"),
                "`source` says whose newest snapshot is meant, and is for `snapshot = \"newest\"` only",
                "write `snapshot = \"newest\"` with `source = \"…\"`, or the snapshot's name without it",
            );
        }
        if let Some(source) = &self.source {
            identifier(report, &at.key("source"), source);
        }
        other_name(report, at, &self.instance, self.source.as_deref());
        settings(report, &at.key("settings"), &self.settings);
    }
}

/// `rds.restore_point_in_time`: a new instance as another one was at a point in time. Done when it is
/// `available` and carries the tags of this run and step (`failoverd:run`, `failoverd:step`). An
/// instance of that identifier that does not is left alone. Give the step a long `timeout`: a big
/// database takes an hour. Needs `rds:DescribeDBInstances`, `rds:DescribeDBInstanceAutomatedBackups`
/// (with `automated_backup`), `rds:RestoreDBInstanceToPointInTime` and `rds:AddTagsToResource`.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceToPointInTime.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdsRestorePointInTime {
    /// The region of the backups and of the new instance.
    pub region: String,
    /// The new DB instance identifier.
    pub instance: String,
    /// The DB instance identifier that is restored. Or `automated_backup`.
    #[serde(default)]
    pub source: Option<String>,
    /// The ARN of the automated backups that are restored: those that are replicated into this region,
    /// or are retained after their instance was deleted. Or `source`.
    #[serde(default)]
    pub automated_backup: Option<String>,
    /// The point in time as RFC 3339 (`2026-11-01T03:30:00Z`), or `latest`.
    pub restore_time: String,
    /// With `restore_time = "latest"`: where the latest point is older, it is refused: more would be
    /// lost than that.
    #[serde(default)]
    pub max_age: Option<HumanDuration>,
    /// How the new instance is set up.
    #[serde(default)]
    pub settings: RdsRestored,
}

impl Parameters for RdsRestorePointInTime {
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
        let source = self.source.as_deref().or(self.automated_backup.as_deref()).unwrap_or("nothing");
        format!("RDS instance {} in {}, {source} as of {}", self.instance, self.region, self.restore_time)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(1800)
    }

    fn outputs(&self) -> &'static [Output] {
        const OUTPUTS: &[Output] = &[
            ENDPOINT[0],
            ENDPOINT[1],
            ENDPOINT[2],
            Output {
                name: "restored_to",
                meaning: "the point in time that it was restored to; with `latest`, the latest one known when the restore was asked for",
                sample: "2026-11-01T03:30:00Z",
            },
        ];
        OUTPUTS
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        identifier(report, &at.key("instance"), &self.instance);
        not_zero(report, &at.key("max_age"), self.max_age);
        if self.source.is_some() == self.automated_backup.is_some() {
            report.error(
                "which_backup",
                at,
                "what is restored is named by one of `source` and `automated_backup`",
                "write `source = \"the instance\"`, or the ARN of its automated backups",
            );
        }
        if let Some(source) = &self.source {
            identifier(report, &at.key("source"), source);
        }
        if self.restore_time != "latest" && self.restore_time.parse::<jiff::Timestamp>().is_err() {
            report.error(
                "bad_restore_time",
                &at.key("restore_time"),
                format!("{:?} is not a point in time", self.restore_time),
                "write it like `2026-11-01T03:30:00Z`, or `latest`",
            );
        }
        other_name(report, at, &self.instance, self.source.as_deref());
        settings(report, &at.key("settings"), &self.settings);
    }
}

fn other_name(report: &mut Report<'_>, at: &Path, instance: &str, source: Option<&str>) {
    if source.is_some_and(|source| source.eq_ignore_ascii_case(instance)) {
        report.error(
            "restores_over_itself",
            &at.key("instance"),
            "RDS restores into a new instance, never over one that is there",
            "give the new instance another identifier",
        );
    }
}

fn settings(report: &mut Report<'_>, at: &Path, settings: &RdsRestored) {
    if settings.security_groups.is_empty() {
        report.warn(
            "default_security_group",
            &at.key("security_groups"),
            "the restored instance would get the VPC's default security group, which usually lets nobody in",
            "add `settings = { security_groups = [\"sg-…\"] }`",
        );
    }
    tags(report, at, &settings.tags);
}

/// Tags as RDS takes them.
pub(super) fn tags(report: &mut Report<'_>, at: &Path, tags: &BTreeMap<String, String>) {
    for (key, value) in tags {
        let reserved = ["aws:", "rds:", "failoverd:"].iter().any(|prefix| key.starts_with(prefix));
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 || reserved {
            report.error(
                "bad_tag",
                &at.key("tags").key(key),
                format!("{key:?} cannot be a tag"),
                "at most 128 characters, not beginning with `aws:`, `rds:` or `failoverd:`; the value at most 256",
            );
        }
    }
}
