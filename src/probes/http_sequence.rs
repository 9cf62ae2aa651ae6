//! HTTP requests one after the other, with values and cookies handed from one to the next.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, COOKIE, HeaderName, HeaderValue};
use serde_json::Value;

use super::classify::Fault;
use super::cookies::Cookies;
use super::http::{cannot_be_sent, header_name};
use super::http_expect::{Expect, Identity, Wanted};
use super::stage::{at_step, step_of};
use super::wire::{Answer, Call, Keep, Wire, parse_method, parse_url, sensitive};
use super::{ProbeBuildError, ProbeContext, read_secret};
use crate::clients::Redactor;
use crate::config::SecretText;
use crate::config::probe::{HttpSend, HttpSequenceProbe, HttpStep, SentText, StepText};
use crate::config::redact::is_secret_key;
use crate::model::{CauseKind, HumanDuration, Observation};
use crate::ports::Probe;

/// A taken value is this long at most, in bytes.
const TAKEN_LIMIT: usize = 16 * 1024;

/// A sequence has so many steps at most; `check` says so before.
const MOST_STEPS: usize = 8;

/// See [`HttpSequenceProbe`].
pub struct HttpSequence {
    steps: Vec<Step>,
    max_latency: Option<HumanDuration>,
    wire: Wire,
}

struct Step {
    url: SecretText,
    method: Method,
    headers: Vec<(HeaderName, StepText)>,
    send: Option<(HttpSend, Vec<SentText>)>,
    expect: Expect,
    take: BTreeMap<String, String>,
}

/// What one attempt holds from step to step; it dies with it.
#[derive(Default)]
struct Carried {
    taken: BTreeMap<String, String>,
    cookies: Cookies,
    redactor: Redactor,
}

impl HttpSequence {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter that cannot be used.
    pub fn new(config: &HttpSequenceProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        if config.steps.is_empty() || config.steps.len() > MOST_STEPS {
            return Err(ProbeBuildError::new("steps", format!("there have to be 1 to {MOST_STEPS}")));
        }
        let steps = config.steps.iter().enumerate().map(|(place, step)| {
            let within =
                |error: ProbeBuildError| ProbeBuildError { field: format!("steps[{place}].{}", error.field), ..error };
            Step::new(step).map_err(within)
        });
        Ok(Self {
            steps: steps.collect::<Result<_, _>>()?,
            max_latency: config.max_latency,
            wire: Wire::new(context, config.ca_file.as_deref())?,
        })
    }

    async fn look(&self) -> Result<Duration, Fault> {
        let mut carried = Carried::default();
        let mut latency = Duration::ZERO;
        // At most eight.
        let of = u8::try_from(self.steps.len()).unwrap_or(u8::MAX);
        for (number, step) in (1..=of).zip(&self.steps) {
            at_step(number, of);
            let took = step.carry_out(&self.wire, &mut carried).await.map_err(|fault| Fault {
                detail: format!("{}{}", step_of(number, of), carried.redactor.clean(&fault.detail)),
                ..fault
            })?;
            latency += took;
        }
        match self.max_latency {
            Some(most) if latency > most.get() => Err(Fault::theirs(
                CauseKind::Slow,
                format!("all {of} steps took {}, more than {most}", HumanDuration(latency)),
            )),
            _ => Ok(latency),
        }
    }
}

#[async_trait]
impl Probe for HttpSequence {
    async fn attempt(&self) -> Observation {
        match self.look().await {
            Ok(latency) => Observation::up(latency),
            Err(fault) => fault.into(),
        }
    }
}

impl Step {
    fn new(config: &HttpStep) -> Result<Self, ProbeBuildError> {
        if let SecretText::Plain(text) = &config.url {
            parse_url(text).map_err(|reason| ProbeBuildError::new("url", reason))?;
        }
        let default = if config.send.is_some() { "POST" } else { "GET" };
        let method = parse_method(config.method.as_deref().unwrap_or(default))?;
        let mut headers = Vec::with_capacity(config.headers.len());
        for (name, text) in &config.headers {
            headers.push((header_name(name)?, text.clone()));
        }
        let send = match &config.send {
            Some(send) => {
                let texts = send.texts().map_err(|reason| ProbeBuildError::new("send", reason))?;
                Some((send.clone(), texts))
            }
            None => None,
        };
        let expect = Expect::new(&Wanted {
            status: &config.status,
            contains: config.contains.as_deref(),
            matches: config.matches.as_deref(),
            json: &config.json,
            max_latency: None,
        })?;
        Ok(Self { url: config.url.clone(), method, headers, send, expect, take: config.take.clone() })
    }

    /// How long it took, from when the target began to be waited for.
    async fn carry_out(&self, wire: &Wire, carried: &mut Carried) -> Result<Duration, Fault> {
        let (call, identity) = self.call(carried).await?;
        let mut started = Instant::now();
        let request = call.request(Keep::No);
        let mut connection = wire.connect(&request.place, &mut started).await?;
        let answer = request.over(&mut connection).await?;
        let took = started.elapsed();
        carried.cookies.take(&call.url, &answer.cookies);
        // Before anything is said of the answer, what is secret in it has to be known.
        let taken = self.take_from(&answer, carried);
        self.expect.check(&answer, took, identity).map_err(|fault| throttled(fault, answer.status))?;
        taken.map(|()| took)
    }

    /// What is sent, with secrets read and taken values put in.
    async fn call(&self, carried: &mut Carried) -> Result<(Call, Identity), Fault> {
        let address = read_secret(&self.url).await?;
        let mut identity = Identity::Untold;
        if matches!(self.url, SecretText::Reference(_)) {
            carried.redactor.hide_url(&address);
            identity = Identity::Told;
        }
        let (mut call, told) = Call::new(self.method.clone(), &address)?;
        if told {
            identity = Identity::Told;
        }
        let jar = carried.cookies.header(&call.url);
        call.headers.extend(jar.and_then(|text| sensitive(&text)).map(|value| (COOKIE, value)));
        for (name, text) in &self.headers {
            if is_credential(name.as_str(), text) {
                identity = identity.max(Identity::Told);
            }
            let value =
                sensitive(&text_of(text, carried).await?).ok_or_else(|| self.unsendable(name, text, carried))?;
            call.headers.insert(name.clone(), value);
        }
        if let Some((send, texts)) = &self.send {
            if texts.iter().any(|sent| is_credential(&sent.name, &sent.text)) {
                identity = Identity::LogsIn;
            }
            let (kind, body) = body_of(send, texts, carried).await?;
            if let Some(kind) = kind {
                call.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
            }
            call.body = body;
        }
        Ok((call, identity))
    }

    /// Is it the target's own value that no header can hold, or ours?
    fn unsendable(&self, name: &HeaderName, text: &StepText, carried: &Carried) -> Fault {
        let bad = |taken: &&String| carried.taken.get(*taken).is_some_and(|value| sensitive(value).is_none());
        let names = text.parts().into_iter().filter_map(|part| match part {
            StepText::Taken { taken } => Some(taken),
            _ => None,
        });
        match names.into_iter().find(bad) {
            Some(taken) => Fault::theirs(
                CauseKind::HttpBody,
                format!("the value that was taken as {taken} cannot be sent in the header {name}"),
            ),
            None => cannot_be_sent(name),
        }
    }

    fn take_from(&self, answer: &Answer, carried: &mut Carried) -> Result<(), Fault> {
        if self.take.is_empty() {
            return Ok(());
        }
        let wrong = |text: String| Fault::theirs(CauseKind::HttpBody, text);
        let body: Value = serde_json::from_slice(&answer.body).map_err(|_| {
            wrong(if answer.whole { "the body is not JSON" } else { "the body is longer than 1 MiB" }.to_owned())
        })?;
        for (name, pointer) in &self.take {
            let text = match body.pointer(pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                Some(Value::Bool(bool)) => bool.to_string(),
                Some(_) => return Err(wrong(format!("{pointer} in the body is no text, to be taken as {name}"))),
                None => return Err(wrong(format!("there is no {pointer} in the body, to be taken as {name}"))),
            };
            if text.len() > TAKEN_LIMIT {
                return Err(wrong(format!("{pointer} in the body is longer than 16 KiB, too long for {name}")));
            }
            carried.redactor.hide(&text);
            carried.taken.insert(name.clone(), text);
        }
        Ok(())
    }
}

/// Does a text that stands under this name say who we are? A value that the target itself gave does
/// not: a target that does not take that is broken.
fn is_credential(name: &str, text: &StepText) -> bool {
    let plain = || text.parts().iter().all(|part| matches!(part, StepText::Plain(_)));
    text.is_ours() || (is_secret_key(name) && plain())
}

/// Somebody limits how often we may ask; that says nothing of what it stands for.
fn throttled(fault: Fault, status: u16) -> Fault {
    if fault.kind == CauseKind::HttpStatus && status == 429 {
        return Fault::ours(CauseKind::LocalThrottled, "the status is 429: we have asked too often");
    }
    fault
}

/// A text with its secrets read and its taken values put in.
async fn text_of(text: &StepText, carried: &mut Carried) -> Result<String, Fault> {
    let mut whole = String::new();
    for part in text.parts() {
        match part {
            StepText::Plain(text) => whole.push_str(text),
            StepText::Secret(secret) => {
                let text = read_secret(&SecretText::Reference(secret.clone())).await?;
                carried.redactor.hide(&text);
                whole.push_str(&text);
            }
            StepText::Taken { taken } => {
                let value = carried.taken.get(taken).ok_or_else(|| {
                    let text = format!("no earlier step took `{taken}`");
                    Fault::ours(CauseKind::LocalCredentials, text)
                })?;
                whole.push_str(value);
            }
            // `parts` has taken it apart.
            StepText::Join { .. } => {}
        }
    }
    Ok(whole)
}

/// The body, and its type where that is fixed.
async fn body_of(
    send: &HttpSend,
    texts: &[SentText],
    carried: &mut Carried,
) -> Result<(Option<&'static str>, Bytes), Fault> {
    match send {
        HttpSend::Body(text) => Ok((None, text_of(text, carried).await?.into())),
        HttpSend::Form(_) => {
            let mut pairs = Vec::with_capacity(texts.len());
            for sent in texts {
                pairs.push((&sent.name, text_of(&sent.text, carried).await?));
            }
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(pairs);
            Ok((Some("application/x-www-form-urlencoded"), form.finish().into()))
        }
        HttpSend::Json(value) => {
            let mut value = value.clone();
            for sent in texts {
                let text = text_of(&sent.text, carried).await?;
                if let Some(place) = value.pointer_mut(&sent.pointer) {
                    *place = Value::String(text);
                }
            }
            Ok((Some("application/json"), value.to_string().into()))
        }
    }
}
