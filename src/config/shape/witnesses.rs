//! The other vantages, and how vantages know each other.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Another vantage, `failoverd witness NAME`: the same program in another failure domain, which probes the
/// same targets and is asked for its votes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// What fails together with it: the name of its region where it stands in one of `[regions]`, so that
    /// an outage of that region is known to silence it. Its certificate has to say the same.
    pub domain: String,
    /// Where it is asked: `https://host:port`.
    pub url: String,
    /// Where it listens, `address:port` (default: the port of `url` on every address).
    #[serde(default)]
    pub listen: Option<String>,
}

/// How vantages know each other: mutual TLS with an authority of their own (`failoverd certs`). Each
/// machine has its own certificate and key in these places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VantageTls {
    /// The authority's certificate, PEM.
    pub ca_file: PathBuf,
    /// This vantage's certificate, PEM.
    pub certificate_file: PathBuf,
    /// Its key, PEM; also the key that votes are signed with.
    pub key_file: PathBuf,
}
