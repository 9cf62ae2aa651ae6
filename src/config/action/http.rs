//! Any HTTP endpoint.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Parameters, shown};
use crate::config::check::common::{file_is_there, method, not_empty, statuses};
use crate::config::check::secrets;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::{EffectKind, HumanDuration, Repeat};

/// `http.request`: done when the answer's status is expected. Not repeated after an unknown
/// outcome, unless it is `idempotent` or `observe` tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpRequest {
    /// `http://…` or `https://…`, by reference where it holds a secret.
    pub url: SecretText,
    /// The method (default `POST`).
    #[serde(default = "post")]
    pub method: String,
    /// Headers; the values by reference where they are secret.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretText>,
    /// The body.
    #[serde(default)]
    pub body: Option<String>,
    /// The body as JSON (sets `content-type`). Or `body`.
    #[serde(default)]
    pub json: Option<serde_json::Value>,
    /// The statuses that are success (default: 200 to 299).
    #[serde(default)]
    pub status: Vec<u16>,
    /// May it be made twice (default: true for GET, HEAD, PUT and DELETE)?
    #[serde(default)]
    pub idempotent: Option<bool>,
    /// A GET that tells whether it was done already: a 2xx answer that contains `contains`.
    #[serde(default)]
    pub observe: Option<HttpObserve>,
    /// What kind of change it is, for the guards: `call` (default), `notify`, `fence`, `route`.
    #[serde(default)]
    pub effect: Option<HttpEffect>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<std::path::PathBuf>,
}

/// How `http.request` looks whether it was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpObserve {
    /// Where to look, with GET and the same headers.
    pub url: SecretText,
    /// What a 2xx answer contains once it is done.
    pub contains: String,
}

/// What kind of change an `http.request` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HttpEffect {
    /// Anything.
    Call,
    /// Tells people; its failure never fails a run.
    Notify,
    /// Stops the old primary; every promotion of the plan has to come after it.
    Fence,
    /// Moves traffic.
    Route,
}

impl HttpRequest {
    /// May it be made twice? Where the file says nothing, as RFC 9110 has it.
    pub fn is_idempotent(&self) -> bool {
        self.idempotent.unwrap_or_else(|| {
            matches!(self.method.to_uppercase().as_str(), "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS")
        })
    }
}

impl Parameters for HttpRequest {
    fn effect(&self) -> EffectKind {
        match self.effect.unwrap_or(HttpEffect::Call) {
            HttpEffect::Call => EffectKind::Call,
            HttpEffect::Notify => EffectKind::Notify,
            HttpEffect::Fence => EffectKind::Fence,
            HttpEffect::Route => EffectKind::Route,
        }
    }

    fn repeat(&self) -> Repeat {
        if self.observe.is_some() {
            Repeat::ByObservation
        } else if self.is_idempotent() {
            Repeat::AtLeastOnce
        } else {
            Repeat::Never
        }
    }

    fn target(&self) -> String {
        format!("{} {}", self.method, shown(&self.url))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(1)
    }

    fn messages(&self) -> &'static [&'static str] {
        &["/body"]
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        http(report, at, self);
    }
}

fn http(report: &mut Report<'_>, at: &Path, request: &HttpRequest) {
    secrets::address(report, &at.key("url"), &request.url, &["https", "http"]);
    secrets::headers(report, &at.key("headers"), &request.headers);
    method(report, &at.key("method"), &request.method);
    statuses(report, &at.key("status"), &request.status);
    file_is_there(report, &at.key("ca_file"), request.ca_file.as_deref());
    if request.body.is_some() && request.json.is_some() {
        report.error("not_exactly_one", &at.key("json"), "`body` and `json` are both there", "leave one of them out");
    }
    if let Some(observe) = &request.observe {
        let at = at.key("observe");
        secrets::address(report, &at.key("url"), &observe.url, &["https", "http"]);
        not_empty(report, &at.key("contains"), &observe.contains);
    }
}

fn post() -> String {
    "POST".into()
}
