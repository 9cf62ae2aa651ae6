//! Redis, asked directly.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Parameters, service, shown};
use crate::config::check::secrets;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::{EffectKind, HumanDuration};

/// `redis.promote`: done when `ROLE` says `master` and a write was taken: `DEL` of a key that is not
/// there. With an ACL, the user needs `+role +info +dbsize +replicaof +del ~failoverd:*`.
/// <https://redis.io/docs/latest/commands/replicaof/>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisPromote {
    /// The replica: `redis://…`, by reference where it holds a password.
    pub url: SecretText,
    /// The name of the service for the guard "one promotion per service and epoch" (default:
    /// `redis`).
    #[serde(default)]
    pub service: Option<String>,
}

impl Parameters for RedisPromote {
    fn effect(&self) -> EffectKind {
        EffectKind::Promote
    }

    fn service(&self) -> Option<String> {
        Some(self.service.clone().unwrap_or_else(|| "redis".into()))
    }

    fn target(&self) -> String {
        format!("Redis at {}", shown(&self.url))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(1)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["redis", "rediss"]);
        service(report, at, self.service.as_deref());
    }
}
