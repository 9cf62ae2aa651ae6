//! Several daemons on one state.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::secret::Secret;
use crate::model::HumanDuration;

/// How the etcd cluster that `daemon.state` names is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Etcd {
    /// After so long without a renewal another member leads; in whole seconds. The one that leads acts only in the
    /// first half of it (default: 10 s).
    #[serde(default = "Etcd::ttl")]
    pub ttl: HumanDuration,
    /// This member's own file: a copy of the journal, and the notices on their way
    /// (default: `/var/lib/failoverd/member.db`). History and recording lie beside it.
    #[serde(default = "Etcd::local")]
    pub local: PathBuf,
    /// A user of etcd.
    #[serde(default)]
    pub user: Option<EtcdUser>,
    /// Certificates: with this table the cluster is reached over TLS.
    #[serde(default)]
    pub tls: Option<EtcdTls>,
}

/// A user of etcd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EtcdUser {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: Secret,
}

/// Certificates for etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EtcdTls {
    /// The authority of the cluster's certificates, PEM (default: the system's).
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, PEM, where the cluster asks for one.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// Its key, PEM.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
}

impl Etcd {
    fn ttl() -> HumanDuration {
        HumanDuration::secs(10)
    }

    fn local() -> PathBuf {
        PathBuf::from("/var/lib/failoverd/member.db")
    }
}

impl Default for Etcd {
    fn default() -> Self {
        Self { ttl: Self::ttl(), local: Self::local(), user: None, tls: None }
    }
}

/// What `daemon.state` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateAddress {
    /// A file: the daemon is alone.
    Sqlite(PathBuf),
    /// An etcd cluster: there are several.
    Etcd {
        /// `host:port` of each of its members.
        endpoints: Vec<String>,
        /// What the keys begin with.
        prefix: String,
    },
}

impl StateAddress {
    /// Reads `sqlite:PATH` or `etcd://HOST:PORT,…[/PREFIX]`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            return Some(Self::Sqlite(path.into()));
        }
        let rest = text.strip_prefix("etcd://")?;
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, "failoverd"));
        let endpoints: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        let is_address = |endpoint: &String| {
            let port = endpoint.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
            port.is_some_and(|(host, port)| port > 0 && !host.is_empty() && !host.contains(['@', '/', ' ', '?', '#']))
        };
        let is_prefix = !prefix.is_empty() && !prefix.contains(char::is_whitespace);
        (endpoints.iter().all(is_address) && is_prefix)
            .then(|| Self::Etcd { endpoints, prefix: format!("/{}", prefix.trim_matches('/')) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_a_file_or_a_cluster() {
        assert_eq!(StateAddress::parse("sqlite:/a/b.db"), Some(StateAddress::Sqlite("/a/b.db".into())));
        let etcd = |hosts: &[&str], prefix: &str| {
            let endpoints = hosts.iter().map(|host| (*host).to_owned()).collect();
            Some(StateAddress::Etcd { endpoints, prefix: prefix.to_owned() })
        };
        assert_eq!(StateAddress::parse("etcd://n1:2379"), etcd(&["n1:2379"], "/failoverd"));
        assert_eq!(StateAddress::parse("etcd://n1:2379,[::1]:2/a/b/"), etcd(&["n1:2379", "[::1]:2"], "/a/b"));
        let wrong = [
            "",
            "sqlite:",
            "etcd://",
            "etcd://n1",
            "etcd://n1:0",
            "etcd://u:p@n1:1",
            "etcd://n1:1,",
            "etcd://n1:1/ x",
            "consul://n1:1",
            "etcd://n1:1/",
        ];
        for wrong in wrong {
            assert_eq!(StateAddress::parse(wrong), None, "{wrong}");
        }
    }
}
