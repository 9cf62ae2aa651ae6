//! PostgreSQL, asked directly.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Parameters, service, shown};
use crate::config::check::{common::file_is_there, secrets};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::{EffectKind, HumanDuration};

/// `postgres.promote`: done when the server is not in recovery and a write in it was committed. Needs
/// `EXECUTE` on `pg_promote(boolean, integer)`, and on `pg_control_system()` with `system_identifier`.
/// <https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresPromote {
    /// The standby: `postgresql://…`, by reference where it holds a password.
    pub url: SecretText,
    /// The system identifier that the standby must have (`SELECT system_identifier FROM
    /// pg_control_system()`); another cluster is refused.
    #[serde(default)]
    pub system_identifier: Option<String>,
    /// The name of the service for the guard "one promotion per service and epoch" (default:
    /// `postgres`).
    #[serde(default)]
    pub service: Option<String>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<std::path::PathBuf>,
}

impl Parameters for PostgresPromote {
    fn effect(&self) -> EffectKind {
        EffectKind::Promote
    }

    fn service(&self) -> Option<String> {
        Some(self.service.clone().unwrap_or_else(|| "postgres".into()))
    }

    fn target(&self) -> String {
        format!("PostgreSQL at {}", shown(&self.url))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(5)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["postgresql", "postgres"]);
        service(report, at, self.service.as_deref());
        file_is_there(report, &at.key("ca_file"), self.ca_file.as_deref());
    }
}
