//! A gRPC server's own word on its health.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{CauseRow, down, unknown};
use crate::config::check::common::file_is_there;
use crate::config::check::secrets;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::CauseKind;

/// A gRPC server, asked through the standard health service (`grpc.health.v1.Health/Check`). Up when
/// it says SERVING. NOT_SERVING, UNKNOWN and the status UNAVAILABLE are Down (`not_serving`); a
/// service that it does not know is Down (`not_found`), and a server without the health service is
/// Down (`protocol`).
///
/// A server that wants credentials (UNAUTHENTICATED, PERMISSION_DENIED) is Unknown, since the probe
/// sends none: let the health service be asked without them. One that says RESOURCE_EXHAUSTED is
/// Unknown as well: we have asked too often.
///
/// Example: `grpc = { url = "https://orders.example:8443", service = "shop.Orders" }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpcProbe {
    /// `https://host:port` or `http://host:port` (HTTP/2 from the first byte), without a path.
    pub url: String,
    /// The full name of the service, as `package.Service` (default: empty, the server as a whole).
    #[serde(default)]
    pub service: String,
    /// A PEM file of certificate authorities to trust instead of the system's (default: the
    /// system's).
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

pub(super) const GRPC: &[CauseRow] = &[
    down(CauseKind::NotServing, "it says NOT_SERVING or UNKNOWN of the service, or answers UNAVAILABLE"),
    down(CauseKind::NotFound, "it does not know the service (SERVICE_UNKNOWN, NOT_FOUND)"),
    down(CauseKind::QueryFailed, "the check failed with another status of gRPC (INTERNAL, CANCELLED, …)"),
    down(CauseKind::HttpStatus, "a proxy answered in its place: the HTTP status is not 200"),
    down(CauseKind::Timeout, "no whole answer before the deadline, or it says DEADLINE_EXCEEDED"),
    down(CauseKind::Tls, "the handshake or the certificate failed"),
    down(CauseKind::Protocol, "there is no health service (UNIMPLEMENTED), or no HTTP/2"),
    unknown(CauseKind::AuthenticationFailed, "it wants credentials (UNAUTHENTICATED, PERMISSION_DENIED)"),
    unknown(CauseKind::LocalThrottled, "we have asked too often (RESOURCE_EXHAUSTED, or the HTTP status 429)"),
];

impl GrpcProbe {
    /// What is wrong with it.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &SecretText::Plain(self.url.clone()), &["https", "http"]);
        // Without a host it is no address at all, and that is told already.
        if let Ok(url) = url::Url::parse(&self.url)
            && url.has_host()
            && (!matches!(url.path(), "" | "/") || url.query().is_some())
        {
            report.error(
                "bad_url",
                &at.key("url"),
                "the address of a gRPC server has no path",
                "write `https://host:port`, and the service into `service`",
            );
        }
        if self.service.contains(['/', ' ']) {
            report.error(
                "bad_name",
                &at.key("service"),
                format!("{:?} is not the name of a gRPC service", self.service),
                "write its full name without a method, for example `shop.Orders`",
            );
        }
        if self.ca_file.is_some() && self.url.starts_with("http://") {
            report.error(
                "contradiction",
                &at.key("ca_file"),
                "without TLS there is no certificate to look at",
                "write `https://…`, or leave `ca_file` out",
            );
        }
        file_is_there(report, &at.key("ca_file"), self.ca_file.as_deref());
    }
}
