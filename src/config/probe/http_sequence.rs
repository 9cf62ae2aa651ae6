//! Several HTTP requests, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use super::causes::{CauseRow, down, unknown};
use crate::config::check::common::{file_is_there, method, not_zero, statuses};
use crate::config::check::probes::{json_pointer, pattern};
use crate::config::check::{plain_name, secrets};
use crate::config::path::Path;
use crate::config::redact::is_secret_key;
use crate::config::report::Report;
use crate::config::secret::{Secret, SecretText};
use crate::model::{CauseKind, HumanDuration};

/// A sequence has so many steps at most.
const MOST_STEPS: usize = 8;

/// A step takes so many values at most.
const MOST_TAKEN: usize = 8;

/// What a table is called that stands for a text within `send`.
const REFERENCES: [&str; 5] = ["env", "file", "credential", "taken", "join"];

/// HTTP requests one after the other, as a person would make them: log in, then read. Up when each
/// step is answered as it says; the first that is not is the cause, and its detail names the step. One
/// deadline (the probe's `timeout`) covers them all.
///
/// A step can take values out of a JSON answer (`take`), and later steps can send them, in a header
/// or in what they `send`. Taken values and cookies live for one attempt and are never shown.
/// Cookies go back to the host that set them. Redirects are not followed, the addresses come from
/// the configuration alone, and each step has a connection of its own. Of a body, 1 MiB is read.
///
/// Credentials that are not taken say nothing of the target: a step that carries credentials of ours
/// and is answered 401 or 407 is Unknown (`authentication_failed`), and one that carries them in
/// `send` also at 400, 403 and 422, since login servers answer so. 429 is Unknown: we have asked too
/// often. Each attempt is a whole login: give it an interval that the target can bear.
///
/// Example:
/// `http_sequence = { steps = [ { url = "https://shop.example/login", send = { form = { user = "probe",
/// password = { file = "/etc/failoverd/probe.password" } } }, take = { token = "/access_token" } },
/// { url = "https://shop.example/orders", headers = { authorization = { join = ["Bearer ", { taken =
/// "token" }] } }, json = { "/status" = "ok" } } ] }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSequenceProbe {
    /// What is asked, in this order; 1 to 8 steps.
    pub steps: Vec<HttpStep>,
    /// A sequence that is right and takes longer is Down, with the cause `slow` (a duration; default:
    /// only the deadline counts).
    #[serde(default)]
    pub max_latency: Option<HumanDuration>,
    /// A PEM file of certificate authorities to trust instead of the system's (default: the
    /// system's).
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// One request of a sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpStep {
    /// `http://…` or `https://…`, by reference where it holds a secret. Never made of taken values:
    /// the target must not choose where we go.
    pub url: SecretText,
    /// The method (default: `POST` where something is sent, else `GET`).
    #[serde(default)]
    pub method: Option<String>,
    /// Headers; the values by reference where they are secret.
    #[serde(default)]
    pub headers: BTreeMap<String, StepText>,
    /// What the body is (default: there is none).
    #[serde(default)]
    pub send: Option<HttpSend>,
    /// The statuses that are right (default: 200 to 299).
    #[serde(default)]
    pub status: Vec<u16>,
    /// A text that the answer must contain.
    #[serde(default)]
    pub contains: Option<String>,
    /// A regular expression that must match somewhere in the answer.
    #[serde(default)]
    pub matches: Option<String>,
    /// JSON pointers (RFC 6901) and the values that must stand there in the answer.
    #[serde(default)]
    pub json: BTreeMap<String, Value>,
    /// Values for later steps: the name of each, and the JSON pointer (RFC 6901) to it in the
    /// answer; at most 8.
    #[serde(default)]
    pub take: BTreeMap<String, String>,
}

/// The body of a request; exactly one of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HttpSend {
    /// As JSON (sets `content-type`). A table in it that holds nothing but `env`, `file`,
    /// `credential`, `taken` or `join` stands for the text that it names.
    Json(Value),
    /// As a form (`application/x-www-form-urlencoded`).
    Form(BTreeMap<String, StepText>),
    /// As it is.
    Body(StepText),
}

/// A text in a step.
#[derive(Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum StepText {
    /// In the file as it is.
    Plain(String),
    /// Somewhere else: `{ env = "NAME" }`, `{ file = "/path" }`, `{ credential = "name" }`.
    Secret(Secret),
    /// What an earlier step took: `{ taken = "NAME" }`.
    Taken {
        /// The name of the value.
        taken: String,
    },
    /// One text made of several: `{ join = ["Bearer ", { taken = "token" }] }`.
    Join {
        /// The parts.
        join: Vec<StepText>,
    },
}

impl fmt::Debug for StepText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Secret(secret) => secret.fmt(f),
            Self::Taken { taken } => write!(f, "taken {taken}"),
            Self::Join { join } => join.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for StepText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = StepText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text without a secret, { env = \"NAME\" }, { file = \"/path\" }, { credential = \"name\" }, { taken = \"NAME\" } or { join = [..] }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<StepText, E> {
                Ok(StepText::Plain(text.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<StepText, A::Error> {
                let key: Option<String> = map.next_key()?;
                let text = match key.as_deref() {
                    Some("env") => StepText::Secret(Secret::Env(map.next_value()?)),
                    Some("file") => StepText::Secret(Secret::File(map.next_value()?)),
                    Some("credential") => StepText::Secret(Secret::Credential(map.next_value()?)),
                    Some("taken") => StepText::Taken { taken: map.next_value()? },
                    Some("join") => StepText::Join { join: map.next_value()? },
                    Some(other) => return Err(de::Error::unknown_field(other, &REFERENCES)),
                    None => return Err(de::Error::custom("expected one of env, file, credential, taken, join")),
                };
                match map.next_key::<String>()? {
                    Some(second) => Err(de::Error::custom(format!("`{second}` is one too many: a text is one thing"))),
                    None => Ok(text),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl StepText {
    /// Does it hold a secret of ours?
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Secret(_) => true,
            Self::Join { join } => join.iter().any(Self::is_ours),
            Self::Plain(_) | Self::Taken { .. } => false,
        }
    }

    /// The parts that are no `join`, in their order.
    pub fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Join { join } => join.iter().flat_map(Self::parts).collect(),
            other => vec![other],
        }
    }
}

impl HttpSend {
    /// The texts in it, with the JSON pointer of each (of a form: `/NAME`), and the name that it
    /// stands under.
    ///
    /// # Errors
    /// What is wrong with a table that stands for a text.
    pub fn texts(&self) -> Result<Vec<SentText>, String> {
        let mut found = Vec::new();
        match self {
            Self::Body(text) => {
                found.push(SentText { pointer: String::new(), name: String::new(), text: text.clone() });
            }
            Self::Form(fields) => found.extend(fields.iter().map(|(name, text)| SentText {
                pointer: format!("/{}", escaped(name)),
                name: name.clone(),
                text: text.clone(),
            })),
            Self::Json(value) => texts_of(value, String::new(), "", &mut found)?,
        }
        Ok(found)
    }
}

/// A text within what is sent.
#[derive(Clone, Debug)]
pub struct SentText {
    /// Where it stands (RFC 6901).
    pub pointer: String,
    /// The key that it stands under; empty where there is none.
    pub name: String,
    /// What it is.
    pub text: StepText,
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn texts_of(value: &Value, pointer: String, name: &str, found: &mut Vec<SentText>) -> Result<(), String> {
    let one = |text| SentText { pointer: pointer.clone(), name: name.to_owned(), text };
    match value {
        Value::String(text) => found.push(one(StepText::Plain(text.clone()))),
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                texts_of(item, format!("{pointer}/{place}"), name, found)?;
            }
        }
        Value::Object(table) => {
            let only = table.keys().next().filter(|key| table.len() == 1 && REFERENCES.contains(&key.as_str()));
            if only.is_some() {
                // Its own words could repeat what is in it.
                let text = StepText::deserialize(value).map_err(|_| {
                    format!("the table at `{pointer}` stands for a text, and is none: write for example {{ env = \"NAME\" }}")
                })?;
                found.push(one(text));
                return Ok(());
            }
            for (key, inner) in table {
                texts_of(inner, format!("{pointer}/{}", escaped(key)), key, found)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

pub(super) const HTTP_SEQUENCE: &[CauseRow] = &[
    down(CauseKind::HttpStatus, "the status of a step is not one of its `status`"),
    down(CauseKind::HttpBody, "the answer to a step is not what it asks for, or holds no value to `take`"),
    down(CauseKind::Slow, "every answer was right, and all took longer than `max_latency`"),
    down(CauseKind::Tls, "the handshake or the certificate failed"),
    down(CauseKind::Protocol, "the answer is not HTTP"),
    unknown(
        CauseKind::AuthenticationFailed,
        "our credentials were not taken: 401 or 407, where they are in `send` also 400, 403 or 422",
    ),
    unknown(CauseKind::LocalThrottled, "429: we have asked too often"),
];

impl HttpSequenceProbe {
    /// What is wrong with it.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>, timeout: HumanDuration) {
        let steps = at.key("steps");
        if self.steps.is_empty() || self.steps.len() > MOST_STEPS {
            report.error(
                "how_many_steps",
                &steps,
                format!("a sequence has 1 to {MOST_STEPS} steps, and this one has {}", self.steps.len()),
                "leave some out, or make two probes of it",
            );
        }
        let mut taken = BTreeSet::new();
        for (place, step) in self.steps.iter().enumerate() {
            step.check(&steps.index(place), report, &taken);
            taken.extend(step.take.keys().map(String::as_str));
        }
        not_zero(report, &at.key("max_latency"), self.max_latency);
        if let Some(latency) = self.max_latency.filter(|latency| *latency >= timeout) {
            report.warn(
                "never_slow",
                &at.key("max_latency"),
                format!("a sequence that takes {latency} has already run into the timeout of {timeout}"),
                "write a `max_latency` that is shorter than `timeout`",
            );
        }
        file_is_there(report, &at.key("ca_file"), self.ca_file.as_deref());
    }
}

impl HttpStep {
    fn check(&self, at: &Path, report: &mut Report<'_>, taken: &BTreeSet<&str>) {
        secrets::address(report, &at.key("url"), &self.url, &["https", "http"]);
        if let Some(wanted) = &self.method {
            method(report, &at.key("method"), wanted);
        }
        self.check_headers(&at.key("headers"), report, taken);
        self.check_send(&at.key("send"), report, taken);
        statuses(report, &at.key("status"), &self.status);
        pattern(report, &at.key("matches"), self.matches.as_deref());
        for pointer in self.json.keys() {
            json_pointer(report, &at.key("json").key(pointer), pointer, true);
        }
        let take = at.key("take");
        if self.take.len() > MOST_TAKEN {
            report.error(
                "too_many",
                &take,
                format!("this step takes {} values", self.take.len()),
                format!("take {MOST_TAKEN} at most"),
            );
        }
        for (name, pointer) in &self.take {
            plain_name(report, &take.key(name), name);
            json_pointer(report, &take.key(name), pointer, false);
        }
    }

    fn check_headers(&self, at: &Path, report: &mut Report<'_>, taken: &BTreeSet<&str>) {
        for (name, text) in &self.headers {
            let alone = |text| BTreeMap::from([(name.clone(), text)]);
            match text {
                StepText::Plain(plain) => secrets::headers(report, at, &alone(SecretText::Plain(plain.clone()))),
                StepText::Secret(secret) => secrets::headers(report, at, &alone(SecretText::Reference(secret.clone()))),
                StepText::Taken { .. } | StepText::Join { .. } => {
                    secrets::header_name(report, &at.key(name), name);
                    check_text(report, &at.key(name), name, text, taken);
                }
            }
        }
    }

    fn check_send(&self, at: &Path, report: &mut Report<'_>, taken: &BTreeSet<&str>) {
        let Some(send) = &self.send else { return };
        let key = match send {
            HttpSend::Json(_) => "json",
            HttpSend::Form(_) => "form",
            HttpSend::Body(_) => "body",
        };
        let at = at.key(key);
        match send.texts() {
            Ok(texts) => {
                for SentText { name, text, .. } in &texts {
                    let place = if matches!(send, HttpSend::Form(_)) { at.key(name) } else { at.clone() };
                    check_text(report, &place, name, text, taken);
                }
            }
            Err(wrong) => report.error("wrong_value", &at, wrong, "see `failoverd probes http_sequence`"),
        }
        if matches!(self.method.as_deref(), Some("GET" | "HEAD")) {
            report.error(
                "contradiction",
                &at,
                "GET and HEAD send no body",
                "leave `method` out (then it is POST), or leave `send` out",
            );
        }
    }
}

/// What a text refers to: what an earlier step took, and no secret in the file.
fn check_text(report: &mut Report<'_>, at: &Path, name: &str, text: &StepText, taken: &BTreeSet<&str>) {
    let parts = text.parts();
    let in_parts = parts.iter().any(|part| !matches!(part, StepText::Plain(_)));
    for part in parts {
        match part {
            StepText::Plain(plain) => {
                // `Bearer ` before a reference is no secret, whatever the header is called.
                let name = if in_parts && is_secret_key(name) { "" } else { name };
                secrets::text(report, at, name, &SecretText::Plain(plain.clone()));
            }
            StepText::Secret(secret) => {
                secrets::text(report, at, name, &SecretText::Reference(secret.clone()));
            }
            StepText::Taken { taken: wanted } if !taken.contains(wanted.as_str()) => {
                let fix = if taken.is_empty() {
                    format!("add `take = {{ {wanted} = \"/pointer\" }}` to a step before this one")
                } else {
                    crate::config::suggest::fix(wanted, "taken value", taken.iter().copied())
                };
                report.error("unknown_name", at, format!("no earlier step takes `{wanted}`"), fix);
            }
            StepText::Taken { .. } | StepText::Join { .. } => {}
        }
    }
}
