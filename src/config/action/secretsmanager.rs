//! AWS Secrets Manager.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Parameters;
use crate::config::check::common::{address, aws_region, not_empty};
use crate::config::check::secrets;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::{EffectKind, HumanDuration};

/// `secretsmanager.put`: writes a new version of a secret in which some values are others: `set` and
/// `hosts` for a secret that is a JSON object, `whole` or `host` for one that is a plain text. What is
/// not named stays as it is. Done when the version `AWSCURRENT` has these values; it is read back.
/// Nothing is written where it has them already. No value is ever shown or journalled. A secret that
/// is a replica of one in another region cannot be written: name the region of the primary one, or
/// promote the replica to a secret of its own first. Needs `secretsmanager:GetSecretValue` and
/// `secretsmanager:PutSecretValue` (and `kms:Decrypt`, `kms:GenerateDataKey` where the secret has a
/// key of its own).
/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretsmanagerPut {
    /// The region of the secret.
    pub region: String,
    /// The secret's name or ARN.
    pub secret: String,
    /// A JSON secret: keys, and their new values. A value that is a secret itself is given by
    /// reference.
    #[serde(default)]
    pub set: BTreeMap<String, SecretText>,
    /// A JSON secret: keys whose values are URLs, and the new host of each, with a port where that
    /// changes too (`db.example:5433`). The rest of the URL, user and password included, stays.
    #[serde(default)]
    pub hosts: BTreeMap<String, String>,
    /// A plain secret: its new text.
    #[serde(default)]
    pub whole: Option<SecretText>,
    /// A plain secret that is one URL: its new host, with a port where that changes too.
    #[serde(default)]
    pub host: Option<String>,
}

impl Parameters for SecretsmanagerPut {
    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn target(&self) -> String {
        let keys: Vec<&str> = self.set.keys().chain(self.hosts.keys()).map(String::as_str).collect();
        match keys.as_slice() {
            [] => format!("secret {} in {}", self.secret, self.region),
            keys => format!("secret {} in {}: {}", self.secret, self.region, keys.join(", ")),
        }
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(3)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        not_empty(report, &at.key("secret"), &self.secret);
        if let Err(reason) = self.one_way() {
            report.error("which_value", at, reason, "write `set` and `hosts`, or one of `whole` and `host`");
        }
        for (key, value) in &self.set {
            secrets::text(report, &at.key("set").key(key), key, value);
        }
        if let Some(whole) = &self.whole {
            secrets::text(report, &at.key("whole"), "", whole);
        }
        for (key, host) in &self.hosts {
            address_or_host(report, &at.key("hosts").key(key), host);
        }
        if let Some(host) = &self.host {
            address_or_host(report, &at.key("host"), host);
        }
    }
}

impl SecretsmanagerPut {
    /// The parameters make sense together.
    ///
    /// # Errors
    /// One line.
    pub fn one_way(&self) -> Result<(), String> {
        let keys = !self.set.is_empty() || !self.hosts.is_empty();
        if let Some(key) = self.set.keys().find(|key| self.hosts.contains_key(*key)) {
            return Err(format!("`{key}` is in `set` and in `hosts`"));
        }
        match (keys, self.whole.is_some(), self.host.is_some()) {
            (true, false, false) | (false, true, false) | (false, false, true) => Ok(()),
            (false, false, false) => Err("nothing is to be written".into()),
            _ => Err("a secret is either a JSON object or a plain text".into()),
        }
    }
}

/// A host, with or without a port.
fn address_or_host(report: &mut Report<'_>, at: &Path, text: &str) {
    let has_port = text.rsplit_once(':').is_some_and(|(host, port)| {
        !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']'))
    });
    if has_port {
        address(report, at, text);
    } else if text.is_empty() || text.contains(['/', '@', '?', '#', ' ', ',']) {
        report.error(
            "bad_host",
            at,
            format!("{text:?} is not a host"),
            "write it like `db.example` or `db.example:5432`",
        );
    }
}
