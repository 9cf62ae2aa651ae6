//! `http.request`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::actions::ready::reach;
use crate::actions::{CHANGE, LOOK, until};
use crate::clients::failure::one_line;
use crate::clients::http::{Answer, BODY_BYTES, send};
use crate::clients::http_body;
use crate::clients::{Clients, Failure, FailureKind, Redactor};
use crate::config::SecretText;
use crate::config::action::HttpRequest;
use crate::model::{Applied, Aspect, Finding, Observed, Outputs, Verified};
use crate::ports::{Action, ActionContext, Denied, ReadyContext};

/// How much of an answer's body is told, in characters.
const TOLD_CHARS: usize = 200;

/// The longest value that is handed on, in bytes.
const OUTPUT_BYTES: usize = 4096;

/// Makes a request. It carries `failoverd-epoch`, `failoverd-run` and `idempotency-key` (the same
/// for each attempt of a step), so that a server can refuse an overtaken run and a repetition.
pub struct Request {
    params: HttpRequest,
    method: Method,
    clients: Arc<Clients>,
}

impl Request {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where the method or a header's name is none, or there are two bodies.
    pub fn new(params: HttpRequest, clients: Arc<Clients>) -> Result<Self, String> {
        let method = Method::from_bytes(params.method.to_uppercase().as_bytes())
            .map_err(|_| format!("`{}` is not an HTTP method", params.method))?;
        if params.body.is_some() && params.json.is_some() {
            return Err("`body` and `json` exclude each other".into());
        }
        if let Some(name) = params.headers.keys().find(|name| HeaderName::from_bytes(name.as_bytes()).is_err()) {
            return Err(format!("`{name}` is not the name of a header"));
        }
        Ok(Self { params, method, clients })
    }

    /// Readies a request. Secrets are read now, and are known to the redactor before anything can
    /// come back.
    fn prepare(
        &self,
        context: &ActionContext,
        method: &Method,
        url: &SecretText,
        redactor: &mut Redactor,
    ) -> Result<RequestBuilder, Failure> {
        let denied = |error: crate::config::secret::SecretError| Failure::new(FailureKind::Denied, error.to_string());
        let address = url.read().map_err(denied)?;
        if matches!(url, SecretText::Reference(_)) {
            redactor.hide_url(&address);
        }
        let mut headers = HeaderMap::new();
        mark(context, &mut headers);
        for (name, value) in &self.params.headers {
            let text = value.read().map_err(denied)?;
            if matches!(value, SecretText::Reference(_)) {
                redactor.hide(&text);
            }
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| Failure::refused("http: the name of a header has characters that it must not have"))?;
            let mut value = HeaderValue::from_str(&text).map_err(|_| {
                Failure::refused(format!("http: the value of the header {name} has characters that it must not have"))
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let client = self.clients.http(self.params.ca_file.as_deref())?;
        Ok(client.request(method.clone(), address).headers(headers))
    }

    fn with_body(&self, request: RequestBuilder) -> RequestBuilder {
        match (&self.params.body, &self.params.json) {
            (_, Some(json)) => {
                let named = self.params.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"));
                let request = request.body(json.to_string());
                if named { request } else { request.header(CONTENT_TYPE, "application/json") }
            }
            (Some(body), None) => request.body(body.clone()),
            (None, None) => request,
        }
    }

    /// Is the body as it should be? Else why not, without secrets.
    fn body_fits(&self, answer: &Answer, redactor: &Redactor) -> Result<(), String> {
        let Some(expect) = &self.params.expect else { return Ok(()) };
        let body = answer.body.as_bytes();
        let missing = expect.contains.as_ref().filter(|text| !http_body::contains(body, text.as_bytes()));
        let wrong = match missing {
            Some(text) => Err(format!("the body does not contain `{text}`")),
            None => http_body::json(body, &expect.json),
        };
        let cut = if answer.whole { "" } else { " (the answer broke off, or is longer than 64 KiB)" };
        wrong.map_err(|text| redactor.clean(&format!("{text}{cut}")))
    }

    /// Where `outputs` are read from: `observe`, or the request itself where it only looks.
    fn source(&self) -> Option<&SecretText> {
        match &self.params.observe {
            Some(observe) => Some(&observe.url),
            None => (self.params.is_get() && !self.params.outputs.is_empty()).then_some(&self.params.url),
        }
    }

    /// The values that later steps are handed.
    fn outputs(&self, answer: &Answer, redactor: &Redactor) -> Result<Outputs, String> {
        if self.params.outputs.is_empty() {
            return Ok(Outputs::new());
        }
        let value: Value =
            serde_json::from_str(&answer.body).map_err(|error| format!("the answer is not JSON: {error}"))?;
        let read = |(name, pointer): (&String, &String)| {
            let text = match value.pointer(pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(scalar @ (Value::Number(_) | Value::Bool(_))) => scalar.to_string(),
                Some(_) => return Err(format!("{pointer} is no text and no number")),
                None => return Err(format!("there is no {pointer} in the answer")),
            };
            if text.len() > OUTPUT_BYTES {
                return Err(format!("{pointer} is longer than {OUTPUT_BYTES} bytes"));
            }
            if redactor.clean(&text) != text {
                return Err(format!("{pointer} holds a secret, which is not handed on"));
            }
            Ok((name.clone(), text))
        };
        self.params.outputs.iter().map(read).collect()
    }

    fn expected(&self, status: u16) -> bool {
        if self.params.status.is_empty() { (200..300).contains(&status) } else { self.params.status.contains(&status) }
    }

    /// What the answer says about the change.
    fn judge(&self, answer: &Answer, redactor: &Redactor) -> Applied {
        let text = told(answer, redactor);
        match answer.status {
            status if self.expected(status) => match self.body_fits(answer, redactor) {
                Ok(()) => Applied::Accepted { evidence: text },
                // It says so itself, and asking again does no harm.
                Err(why) if self.params.observe.is_none() && self.params.is_idempotent() => {
                    Applied::Refused { reason: format!("{why}: {text}"), again: true }
                }
                Err(why) => Applied::Unknown { reason: format!("{why}: {text}") },
            },
            // RFC 6585: counted, and not looked at. A 503 does not say so, with `Retry-After` or
            // without: a proxy sends it also where the server behind it was lost at work.
            429 => Applied::Refused { reason: text, again: true },
            // 408: the server gave up waiting, maybe in the middle of the work.
            408 => Applied::Unknown { reason: text },
            // How many servers answer a POST that they have carried out. The other redirects ask
            // for the same request elsewhere: this one was not taken.
            302 | 303 => Applied::Unknown { reason: format!("redirects are not followed: {text}") },
            300..=399 => Applied::Refused { reason: format!("redirects are not followed: {text}"), again: false },
            400..=499 => Applied::Refused { reason: text, again: false },
            _ => Applied::Unknown { reason: text },
        }
    }

    /// Asks the `observe` address whether it was done; `None` where there is none.
    async fn ask(&self, context: &ActionContext, until: Instant) -> Option<Result<(bool, String), Failure>> {
        self.params.observe.as_ref()?;
        Some(self.ask_for(context, until).await?.map(|(done, text, _)| (done, text)))
    }

    /// Asks where the outputs are read from; `None` where there is nothing to ask.
    async fn ask_for(
        &self,
        context: &ActionContext,
        until: Instant,
    ) -> Option<Result<(bool, String, Result<Outputs, String>), Failure>> {
        let url = self.source()?;
        let mut redactor = Redactor::default();
        let asked = async {
            let request = self.prepare(context, &Method::GET, url, &mut redactor)?;
            send("http observe", until, request).await
        };
        Some(match asked.await {
            Err(failure) => Err(Failure { reason: redactor.clean(&failure.reason), ..failure }),
            Ok(answer) => {
                let text = told(&answer, &redactor);
                if answer.is_success() || (self.params.observe.is_none() && self.expected(answer.status)) {
                    let found = match &self.params.observe {
                        Some(observe) => answer.body.contains(&observe.contains),
                        None => self.body_fits(&answer, &redactor).is_ok(),
                    };
                    match found {
                        // Read as "not done", a part of an answer would repeat the request (S8).
                        false if !answer.whole => Err(Failure::unknown(format!(
                            "http observe: the answer broke off or is longer than {} KiB, and what came does not tell: {text}",
                            BODY_BYTES / 1024
                        ))),
                        found => Ok((found, text, self.outputs(&answer, &redactor))),
                    }
                } else if matches!(answer.status, 404 | 410) {
                    Ok((false, text, Ok(Outputs::new())))
                } else {
                    Err(Failure::unknown(format!("http observe: {text}")))
                }
            }
        })
    }
}

/// Waits as long as a busy server asks us to, and not past the time that there is.
async fn waited_out(answer: &Answer, until: Instant) {
    if let (429 | 503, Some(wait)) = (answer.status, answer.retry_after) {
        let left = until.saturating_duration_since(Instant::now());
        tokio::time::sleep(wait.min(left)).await;
    }
}

/// What a server needs to refuse an overtaken run and a repetition; the step's own headers win.
fn mark(context: &ActionContext, headers: &mut HeaderMap) {
    headers.insert("failoverd-epoch", HeaderValue::from(context.epoch.0));
    let Some(run) = &context.run else { return };
    if let Ok(value) = HeaderValue::from_str(run.as_str()) {
        headers.insert("failoverd-run", value);
    }
    if let Ok(value) = HeaderValue::from_str(&format!("{run}/{}", context.step)) {
        headers.insert("idempotency-key", value);
    }
}

/// Status and the beginning of the body, without secrets: they are taken out before it is cut, so
/// that no piece of one is left at the end.
fn told(answer: &Answer, redactor: &Redactor) -> String {
    let body = one_line(&redactor.clean(&answer.body));
    let short: String = body.chars().take(TOLD_CHARS).collect();
    if short.is_empty() { format!("status {}", answer.status) } else { format!("status {}: {short}", answer.status) }
}

#[async_trait]
impl Action for Request {
    /// The request is not made; only what `observe` asks is asked.
    async fn ready(&self, look: &ReadyContext) -> Vec<Finding> {
        let address = match self.params.url.read() {
            Ok(address) => address,
            Err(error) => return vec![Finding::not_ready("address", Aspect::Exists, error.to_string())],
        };
        let Ok(url) = url::Url::parse(&address) else {
            return vec![Finding::not_ready("address", Aspect::Matches, "it is not a URL")];
        };
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let ports = [url.port_or_known_default().unwrap_or(443)];
        let target = reach::Target {
            host: &host,
            ports: &ports,
            tls: if url.scheme() == "https" { |_| true } else { |_| false },
            name: &host,
            ca_file: self.params.ca_file.as_deref(),
            certificate_left: look.limits.certificate_left,
        };
        let mut findings = reach::serves(&target, until(&look.context, LOOK)).await;
        if self.params.observe.is_some() {
            findings.push(Finding::observed(&look.subject, self.observe(&look.context).await));
        }
        findings
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        match self.ask(context, until(context, LOOK)).await {
            None => Observed::Unobservable,
            Some(Ok((true, evidence))) => Observed::Done { evidence },
            Some(Ok((false, evidence))) => Observed::NotDone { evidence, before: Value::Null },
            Some(Err(failure)) => failure.observed(),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let mut redactor = Redactor::default();
        let request = match self.prepare(context, &self.method, &self.params.url, &mut redactor) {
            Ok(request) => self.with_body(request),
            Err(failure) => return Ok(Failure { reason: redactor.clean(&failure.reason), ..failure }.not_sent()),
        };
        context.permit()?;
        Ok(match send("http", until, request).await {
            Ok(answer) => {
                waited_out(&answer, until).await;
                self.judge(&answer, &redactor)
            }
            Err(failure) => Failure { reason: redactor.clean(&failure.reason), ..failure }.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.ask_for(context, until(context, LOOK)).await {
            // Called only after an answer with an expected status.
            None => Verified::yes("answered as expected; there is nothing to look at"),
            Some(Ok((true, evidence, Ok(outputs)))) => Verified::Yes { evidence, outputs },
            Some(Ok((true, evidence, Err(why)))) => Verified::NotYet { evidence: format!("{why}: {evidence}") },
            Some(Ok((false, evidence, _))) => Verified::NotYet { evidence },
            Some(Err(failure)) => failure.verified(),
        }
    }

    async fn warm(&self) {
        let _told_when_it_counts = self.clients.http(self.params.ca_file.as_deref());
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}
