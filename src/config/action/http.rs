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

/// `http.request`: done when the answer's status is one of `status` and its body is as `expect` says.
/// Not repeated after an unknown outcome, unless it is `idempotent` or `observe` tells. An answer
/// whose status is right and whose body is not is such an unknown outcome, unless it is
/// `idempotent`: then it is asked again.
///
/// An answer 429 or 503 with `Retry-After` (in seconds) is waited out, as far as the step has time,
/// before anything is tried again. Redirects are not followed.
///
/// `outputs` are read from the answer of `observe`, or, where there is none and the method is
/// `GET`, from asking once more: what a step hands on has to be there also after a crash of the
/// daemon between the request and its answer.
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
    /// The body as JSON (sets `content-type`); each text in it is a message. Or `body`.
    #[serde(default)]
    pub json: Option<serde_json::Value>,
    /// The statuses that are success (default: 200 to 299).
    #[serde(default)]
    pub status: Vec<u16>,
    /// What the body of the answer has to be (default: anything). Of it, the first 64 KiB are read.
    #[serde(default)]
    pub expect: Option<HttpExpect>,
    /// Values that later steps can use: the name of each, and the JSON pointer (RFC 6901) to it in
    /// the answer (default: none). No secrets: they are written down. Needs `observe`, or `GET`.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
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

/// What the body of an answer has to be. At least one of both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpExpect {
    /// A text that it must contain.
    #[serde(default)]
    pub contains: Option<String>,
    /// JSON pointers (RFC 6901) and the values that must stand there.
    #[serde(default)]
    pub json: BTreeMap<String, serde_json::Value>,
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
    /// Does asking once more change nothing?
    pub fn is_get(&self) -> bool {
        self.method.eq_ignore_ascii_case("GET")
    }

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
        &["/body", "/json"]
    }

    fn named_outputs(&self) -> Vec<String> {
        self.outputs.keys().cloned().collect()
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
    expectations(report, at, request);
    if let Some(observe) = &request.observe {
        let at = at.key("observe");
        secrets::address(report, &at.key("url"), &observe.url, &["https", "http"]);
        not_empty(report, &at.key("contains"), &observe.contains);
    }
}

fn expectations(report: &mut Report<'_>, at: &Path, request: &HttpRequest) {
    let at_expect = at.key("expect");
    if let Some(expect) = &request.expect {
        if expect.contains.is_none() && expect.json.is_empty() {
            report.error("empty", &at_expect, "this expects nothing", "add `contains` or `json`, or leave it out");
        }
        if let Some(text) = &expect.contains {
            not_empty(report, &at_expect.key("contains"), text);
        }
        for name in expect.json.keys() {
            pointer(report, &at_expect.key("json").key(name), name, true);
        }
    }
    let at_outputs = at.key("outputs");
    for (name, value) in &request.outputs {
        crate::config::check::plain_name(report, &at_outputs.key(name), name);
        pointer(report, &at_outputs.key(name), value, false);
    }
    if !request.outputs.is_empty() && request.observe.is_none() && !request.is_get() {
        report.error(
            "missing_key",
            &at_outputs,
            "after a crash of the daemon, the answer that holds these values would be lost",
            "add `observe`, whose answer holds them",
        );
    }
}

fn pointer(report: &mut Report<'_>, at: &Path, text: &str, is_key: bool) {
    if text.is_empty() || text.starts_with('/') {
        return;
    }
    let message = format!("`{text}` is not a JSON pointer (RFC 6901)");
    let fix = format!("write `/{text}`");
    if is_key {
        report.error_at_key("bad_pointer", at, message, fix);
    } else {
        report.error("bad_pointer", at, message, fix);
    }
}

fn post() -> String {
    "POST".into()
}
