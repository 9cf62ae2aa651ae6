//! The age of the newest object of Amazon S3.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{CauseRow, down};
use crate::config::check::common::{aws_region, not_empty, not_zero};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{CauseKind, HumanDuration};

/// The newest object below a prefix has to be young enough: are the backups still written?
///
/// Each attempt lists the prefix, 1000 objects a call, and 20000 at most: where there are more that is
/// Unknown (`query_failed`), and a longer prefix is needed. Write an `interval` of minutes, and a `timeout`
/// of 10 s. That the newest one is too old is Down; write `causes = { too_old = "degraded" }` where it is
/// no outage. Needs `s3:ListBucket` on the bucket.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3AgeProbe {
    /// The region of the bucket.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// Only objects whose keys begin with this (default: all). What ends with `/` is no object.
    #[serde(default)]
    pub prefix: String,
    /// The newest object may be this old.
    pub max_age: HumanDuration,
    /// Smaller objects do not count, in bytes (default 0): a backup that broke off is none.
    #[serde(default)]
    pub at_least_bytes: u64,
}

/// What it can see.
pub(super) const CAUSES: &[CauseRow] = &[
    down(CauseKind::TooOld, "the newest object is older than `max_age`"),
    down(CauseKind::NotFound, "there is no such object at all, or no such bucket"),
];

impl S3AgeProbe {
    /// What is wrong with it.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        not_empty(report, &at.key("bucket"), &self.bucket);
        not_zero(report, &at.key("max_age"), Some(self.max_age));
        if self.prefix.starts_with('/') {
            report.warn(
                "odd_prefix",
                &at.key("prefix"),
                "keys of S3 do not begin with `/`, unless somebody wrote them so",
                format!("write {:?}", self.prefix.trim_start_matches('/')),
            );
        }
    }
}
