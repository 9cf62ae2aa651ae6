//! Amazon S3.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Output, Parameters};
use crate::config::check::common::{aws_region, not_empty, not_zero};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration};

/// `s3.fetch`: downloads an object to a file of this machine: the one of a key, or the newest one below
/// a prefix. It is written to a file beside it and put in its place as a whole when its size is right,
/// and its checksum where S3 has one. Done when the file has the size and the time of the object. The
/// file is readable for failoverd alone; the unit has to allow writing there (`ReadWritePaths=`). Needs
/// `s3:GetObject`, and `s3:ListBucket` with `prefix`.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Fetch {
    /// The region of the bucket.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// The object's key. Or `prefix`.
    #[serde(default)]
    pub key: Option<String>,
    /// The newest object below this is taken, by when it was written. Or `key`.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The file that it is written to, as an absolute path. Its folder is made where only that one is
    /// missing. What is there is replaced.
    pub to: PathBuf,
    /// An object that is larger is refused, in bytes (default 107374182400, that is 100 GiB).
    #[serde(default)]
    pub max_bytes: Option<u64>,
    /// An object that is older is refused.
    #[serde(default)]
    pub max_age: Option<HumanDuration>,
}

impl Parameters for S3Fetch {
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
        let what = match (&self.key, &self.prefix) {
            (Some(key), _) => format!("s3://{}/{key}", self.bucket),
            (None, prefix) => format!("the newest of s3://{}/{}", self.bucket, prefix.as_deref().unwrap_or_default()),
        };
        format!("{what} to {}", self.to.display())
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(120)
    }

    fn outputs(&self) -> &'static [Output] {
        &[
            Output { name: "path", meaning: "the file", sample: "/var/lib/failoverd/sample" },
            Output { name: "key", meaning: "the object's key", sample: "sample/key" },
            Output { name: "modified", meaning: "when the object was written", sample: "2026-11-01T03:30:00Z" },
        ]
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        not_empty(report, &at.key("bucket"), &self.bucket);
        not_zero(report, &at.key("max_age"), self.max_age);
        if self.key.is_some() == self.prefix.is_some() || self.key.as_deref() == Some("") {
            report.error(
                "which_object",
                at,
                "one of `key` and `prefix` says which object is meant",
                "write `key = \"the object\"`, or `prefix` for the newest one below it",
            );
        }
        if !self.to.is_absolute() || self.to.file_name().is_none() {
            report.error("bad_file", &at.key("to"), "this is not an absolute path of a file", "write `/…/name`");
        }
    }
}
