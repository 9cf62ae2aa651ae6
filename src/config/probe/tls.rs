//! A TLS server's certificate.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{CauseRow, degraded, down};
use crate::config::check::common::{address, file_is_there};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::CauseKind;

/// The certificate of a TLS server. Up when the handshake succeeds, the chain leads to an authority
/// that is trusted, the name fits, and the certificate is valid for longer than `days_left` days;
/// within them it is degraded (`certificate_expiring`), and the detail says when it ends. A
/// certificate that has expired, is not valid yet, is for another name or is signed by somebody
/// else is Down (`tls`).
///
/// The days are those of the server's own certificate, by our own clock. No certificate of ours is
/// shown: a server that insists on one may count as Down. Nothing is asked once the handshake is
/// done; a protocol that begins TLS only after some words of its own (SMTP, PostgreSQL) is none
/// for this probe.
///
/// Example: `tls = { address = "api.example:443", days_left = 21 }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsProbe {
    /// `host:port`.
    pub address: String,
    /// The name that the server is told (SNI) and that its certificate has to be valid for (default:
    /// the host of `address`).
    #[serde(default)]
    pub server_name: Option<String>,
    /// With so many days of validity left, or fewer, it is degraded (in days, default 14; 0: only
    /// once it has expired, and then Down).
    #[serde(default = "days_left")]
    pub days_left: u32,
    /// A PEM file of certificate authorities to trust instead of the system's (default: the
    /// system's).
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn days_left() -> u32 {
    14
}

pub(super) const TLS: &[CauseRow] = &[
    down(
        CauseKind::Tls,
        "the handshake failed; the certificate has expired, or is not for this name, or its chain is not trusted",
    ),
    degraded(CauseKind::CertificateExpiring, "the certificate ends within `days_left` days"),
    down(CauseKind::Protocol, "the answer is not TLS"),
];

impl TlsProbe {
    /// What is wrong with it.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>) {
        address(report, &at.key("address"), &self.address);
        if let Some(name) = &self.server_name
            && !is_host(name)
        {
            report.error(
                "bad_name",
                &at.key("server_name"),
                format!("{name:?} is not a name that a certificate can be for"),
                "write a name without scheme and port, for example `api.example`, or an IP address",
            );
        }
        file_is_there(report, &at.key("ca_file"), self.ca_file.as_deref());
    }
}

/// A name or an address, without scheme, port and path.
pub(super) fn is_host(text: &str) -> bool {
    let literal = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    literal.parse::<std::net::IpAddr>().is_ok()
        || (text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label))
}
