//! AWS IAM.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Parameters;
use crate::config::check::common::{aws_region, not_empty};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration};

/// `iam.deactivate_access_key`: an access key that has leaked works no more. Done when IAM lists it as
/// `Inactive`; that takes some seconds to reach every region. It is not deleted, so that what it did
/// can still be looked up, and it is not undone: activating it again is for a person. Needs
/// `iam:ListAccessKeys` and `iam:UpdateAccessKey`.
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAccessKey.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IamDeactivateAccessKey {
    /// The user that the key belongs to.
    pub user: String,
    /// The key's id (`AKIA…`), which is no secret.
    pub access_key_id: String,
    /// The region whose endpoint and credentials are used (default `us-east-1`, where IAM's control
    /// plane is).
    #[serde(default)]
    pub region: Option<String>,
}

impl Parameters for IamDeactivateAccessKey {
    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone().unwrap_or_else(|| "us-east-1".into()))
    }

    fn target(&self) -> String {
        format!("access key {} of IAM user {}", self.access_key_id, self.user)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(3)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        not_empty(report, &at.key("user"), &self.user);
        if let Some(region) = &self.region {
            aws_region(report, &at.key("region"), region);
        }
        let id = &self.access_key_id;
        if !(16..=128).contains(&id.len()) || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            report.error(
                "bad_access_key",
                &at.key("access_key_id"),
                "this is not the id of an access key",
                "write the id (`AKIA…`, 20 characters), never the secret key",
            );
        }
    }
}
