//! Signed links by which people answer.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::secret::Secret;

/// Signed links: a notice that asks for an approval carries, on each route with an `approver`, a link by which
/// that person answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Links {
    /// Where people reach the pages, without a path: `https://failoverd.example`.
    pub url: String,
    /// Where the daemon serves them, `address:port`. On another address than loopback it needs `tls`.
    pub listen: String,
    /// The key that links are signed with, of 32 characters or more (`openssl rand -hex 32`). Another key makes
    /// every link worthless that was sent before.
    pub key: Secret,
    /// The server's certificate; without it a proxy before the daemon has to speak TLS.
    #[serde(default)]
    pub tls: Option<LinksTls>,
}

/// The certificate of the server of links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinksTls {
    /// Its chain, PEM.
    pub certificate_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
}
