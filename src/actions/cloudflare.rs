//! `cloudflare.dns`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::sentinel;
use crate::actions::{CHANGE, Halt, LOOK, fenced, until};
use crate::clients::http::{Answer, send};
use crate::clients::{Clients, Failure, FailureKind, Redactor, dns};
use crate::config::action::{CloudflareAction, CloudflareDns, RouteRecordType};
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// Where the API is.
const BASE: &str = "https://api.cloudflare.com/client/v4";

/// The time to live where none is given, in seconds.
const TTL: u64 = 60;

/// What the API calls "automatic"; a proxied record has no other.
const AUTOMATIC: u64 = 1;

/// What our comments begin with.
const COMMENT: &str = "failoverd ";

/// The longest comment that every plan of Cloudflare takes, in characters.
const COMMENT_CHARS: usize = 100;

/// Builds an action of the family.
pub(super) fn build(action: CloudflareAction, clients: Arc<Clients>) -> Result<Box<dyn Action>, String> {
    match action {
        CloudflareAction::Dns(params) => SetRecord::new(params, clients).map(|action| Box::new(action) as _),
    }
}

/// Points a record to another address, unless a newer epoch has done so.
pub struct SetRecord {
    params: CloudflareDns,
    base: String,
    name: String,
    record: &'static str,
    content: String,
    ttl: u64,
    clients: Arc<Clients>,
}

/// A record as the API has it; what `compensate` brings back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    id: String,
    name: String,
    content: String,
    #[serde(default)]
    proxied: bool,
    ttl: u64,
    #[serde(default)]
    comment: Option<String>,
}

impl Standing {
    fn epoch(&self) -> Option<u64> {
        sentinel::epoch(self.comment.as_deref()?.strip_prefix(COMMENT)?)
    }
}

/// The envelope of every answer.
/// <https://developers.cloudflare.com/fundamentals/api/how-to/make-api-calls/>
#[derive(Deserialize)]
struct Envelope {
    success: bool,
    #[serde(default)]
    errors: Vec<ApiError>,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    result_info: Option<Paging>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Paging {
    #[serde(default)]
    total_count: usize,
}

impl SetRecord {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where it leads nowhere (S6), or the address of the API is none.
    pub fn new(params: CloudflareDns, clients: Arc<Clients>) -> Result<Self, String> {
        let record = match params.record {
            RouteRecordType::A => "A",
            RouteRecordType::Aaaa => "AAAA",
            RouteRecordType::Cname => "CNAME",
        };
        let fits = match params.record {
            RouteRecordType::A => params.content.parse::<std::net::Ipv4Addr>().is_ok(),
            RouteRecordType::Aaaa => params.content.parse::<std::net::Ipv6Addr>().is_ok(),
            RouteRecordType::Cname => !params.content.trim().is_empty(),
        };
        if !fits {
            return Err(format!("`{}` cannot be the content of such a record", params.content));
        }
        if params.zone.is_empty() || !params.zone.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!("`{}` is not the id of a zone", params.zone));
        }
        let base = params.base_url.as_deref().unwrap_or(BASE).trim_end_matches('/').to_owned();
        url::Url::parse(&base).map_err(|error| format!("`base_url` is no address: {error}"))?;
        let (name, content) = (dns::normal_text(&params.name), dns::normal_text(&params.content));
        let ttl = params.ttl.map_or(TTL, |ttl| ttl.get().as_secs());
        Ok(Self { params, base, name, record, content, ttl, clients })
    }

    fn url(&self, id: Option<&str>) -> Result<url::Url, Failure> {
        let mut url = url::Url::parse(&self.base).map_err(|error| Failure::refused(format!("base_url: {error}")))?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(["zones", self.params.zone.as_str(), "dns_records"]).extend(id);
        }
        Ok(url)
    }

    /// One request; its answer where the API says that it succeeded.
    async fn call(
        &self,
        what: &str,
        request: reqwest::RequestBuilder,
        token: &str,
        until: Instant,
    ) -> Result<Envelope, Failure> {
        let mut redactor = Redactor::default();
        redactor.hide(token);
        let clean = |failure: Failure| Failure { reason: redactor.clean(&failure.reason), ..failure };
        let answer = send(what, until, request.bearer_auth(token)).await.map_err(clean)?;
        let envelope: Option<Envelope> = serde_json::from_str(&answer.body).ok();
        match envelope {
            Some(envelope) if answer.is_success() && envelope.success => Ok(envelope),
            other => Err(clean(refusal(what, &answer, other.as_ref()))),
        }
    }

    fn token(&self) -> Result<String, Failure> {
        self.params.token.read().map_err(|error| Failure::new(FailureKind::Denied, error.to_string()))
    }

    async fn look(&self, until: Instant) -> Result<Option<Standing>, Failure> {
        let token = self.token()?;
        let client = self.clients.http(None)?;
        let mut url = self.url(None)?;
        url.query_pairs_mut()
            .append_pair("type", self.record)
            .append_pair("name.exact", &self.name)
            .append_pair("per_page", "100");
        let answer = self.call("cloudflare list", client.get(url), &token, until).await?;
        let listed: Vec<Standing> = serde_json::from_value(answer.result)
            .map_err(|error| Failure::unknown(format!("cloudflare list: the answer cannot be read: {error}")))?;
        if answer.result_info.is_some_and(|paging| paging.total_count > listed.len()) {
            return Err(Failure::unknown("cloudflare list: the answer holds only a part of the records"));
        }
        let mut found = listed.into_iter().filter(|record| dns::normal_text(&record.name) == self.name);
        match (found.next(), found.next()) {
            (record, None) => Ok(record),
            (_, Some(_)) => Err(Failure::refused(format!(
                "there are several {} records of {}, and it is not known which of them is meant; leave one of them",
                self.record, self.name
            ))),
        }
    }

    /// What stands there, unless it was written under a higher epoch than ours.
    async fn seen(&self, context: &ActionContext, until: Instant) -> Result<Option<Standing>, Halt> {
        let seen = self.look(until).await?;
        match seen.as_ref().and_then(Standing::epoch) {
            // A dry run has no epoch of its own yet.
            Some(epoch) if epoch > context.epoch.0 && context.run.is_some() => {
                Err(Halt::Overtaken(fenced(&self.name, epoch, context.epoch.0)))
            }
            _ => Ok(seen),
        }
    }

    fn stands(&self, standing: &Standing) -> bool {
        dns::normal_text(&standing.content) == self.content
            && self.params.proxied.is_none_or(|proxied| proxied == standing.proxied)
    }

    fn told(&self, standing: Option<&Standing>) -> String {
        match standing {
            Some(standing) => {
                let proxied = if standing.proxied { " (proxied)" } else { "" };
                format!("{} {} -> {}{proxied}", self.name, self.record, standing.content)
            }
            None => format!("there is no {} {}", self.name, self.record),
        }
    }

    /// The body of a change to what is wanted.
    fn wanted(&self, context: &ActionContext, seen: Option<&Standing>) -> Value {
        let proxied = self.params.proxied.unwrap_or_else(|| seen.is_some_and(|standing| standing.proxied));
        let comment: String = format!("{COMMENT}{}", sentinel::text(context)).chars().take(COMMENT_CHARS).collect();
        json!({
            "type": self.record, "name": self.name, "content": self.params.content.trim(),
            "proxied": proxied, "ttl": if proxied { AUTOMATIC } else { self.ttl }, "comment": comment,
        })
    }

    async fn change(
        &self,
        context: &ActionContext,
        method: Method,
        id: Option<&str>,
        body: Option<Value>,
        until: Instant,
    ) -> Result<Applied, Denied> {
        let prepared = || {
            let (token, client) = (self.token()?, self.clients.http(None)?);
            let request = client.request(method.clone(), self.url(id)?);
            Ok((token, if let Some(body) = &body { request.json(body) } else { request }))
        };
        let (token, request) = match prepared() {
            Ok(prepared) => prepared,
            Err(failure) => return Ok(Failure::not_sent(failure)),
        };
        context.permit()?;
        Ok(match self.call(&format!("cloudflare {method}"), request, &token, until).await {
            Ok(_) => Applied::Accepted { evidence: format!("Cloudflare took the change of {}", self.name) },
            Err(failure) => failure.applied(),
        })
    }
}

/// What an answer without success means.
/// <https://developers.cloudflare.com/api/> and the codes of `dns_records`.
fn refusal(what: &str, answer: &Answer, envelope: Option<&Envelope>) -> Failure {
    let errors = envelope.map(|envelope| envelope.errors.as_slice()).unwrap_or_default();
    let said: Vec<String> = errors.iter().take(3).map(|error| format!("{} ({})", error.message, error.code)).collect();
    let said = if said.is_empty() { "no reason in the answer".to_owned() } else { said.join("; ") };
    let text = format!("{what}: status {}: {said}", answer.status);
    // 81057: such a record exists, 81058: an identical one. Somebody has written since we looked.
    let taken = errors.iter().any(|error| matches!(error.code, 81_057 | 81_058));
    match answer.status {
        _ if taken => Failure::again(text),
        429 => Failure::again(text),
        401 | 403 => Failure::new(
            FailureKind::Denied,
            format!(
                "{text}; the token needs `Zone / DNS / Edit` for this zone, and must not be used up or filtered by address"
            ),
        ),
        404 => Failure::new(FailureKind::Missing, text),
        400 | 405..=407 | 409..=428 | 300..=399 => Failure::refused(text),
        _ => Failure::unknown(text),
    }
}

#[async_trait]
impl Action for SetRecord {
    async fn observe(&self, context: &ActionContext) -> Observed {
        let seen = match self.seen(context, until(context, LOOK)).await {
            Ok(seen) => seen,
            Err(halt) => return halt.observed(),
        };
        let evidence = self.told(seen.as_ref());
        let before = json!({ "record": seen });
        match &seen {
            Some(standing) if self.stands(standing) => {
                // The mark is what keeps a run of an older epoch from moving the record away.
                let marked = standing.epoch().is_some_and(|epoch| epoch >= context.epoch.0);
                if marked || context.run.is_none() {
                    Observed::Done { evidence }
                } else {
                    let evidence = format!("{evidence} already; the mark of epoch {} is to be set", context.epoch);
                    Observed::NotDone { evidence, before }
                }
            }
            _ => Observed::NotDone { evidence, before },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let seen = match self.seen(context, until).await {
            Ok(seen) => seen,
            Err(halt) => return Ok(halt.not_sent()),
        };
        let body = self.wanted(context, seen.as_ref());
        let id = seen.as_ref().map(|standing| standing.id.as_str());
        let method = if id.is_some() { Method::PATCH } else { Method::POST };
        self.change(context, method, id, Some(body), until).await
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.seen(context, until(context, LOOK)).await {
            Ok(Some(standing)) if self.stands(&standing) => {
                Verified::yes(format!("{}, as the API lists it", self.told(Some(&standing))))
            }
            Ok(seen) => Verified::NotYet { evidence: self.told(seen.as_ref()) },
            Err(halt) => halt.verified(),
        }
    }

    async fn compensate(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let seen = match self.seen(context, until).await {
            Ok(seen) => seen,
            Err(halt) => return Ok(halt.not_sent()),
        };
        let known =
            before.get("record").and_then(|record| serde_json::from_value::<Option<Standing>>(record.clone()).ok());
        let Some(before) = known else {
            return Ok(Failure::refused("it is not known what stood before").not_sent());
        };
        match (seen, before) {
            (seen, before) if seen == before => Ok(Applied::Accepted { evidence: "it stands as before".into() }),
            (Some(standing), before) if self.stands(&standing) => {
                let (method, body) = match before {
                    Some(before) => {
                        let Standing { content, proxied, ttl, comment, .. } = before;
                        let body = json!({ "content": content, "proxied": proxied, "ttl": ttl, "comment": comment });
                        (Method::PATCH, Some(body))
                    }
                    None => (Method::DELETE, None),
                };
                self.change(context, method, Some(&standing.id), body, until).await
            }
            (seen, _) => {
                let text = format!("somebody else has changed it: {}; it is left alone", self.told(seen.as_ref()));
                Ok(Failure::refused(text).not_sent())
            }
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// An answer of the API, read as the actions read it.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn answered(data: &[u8]) {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(data) else { return };
    let body = String::from_utf8_lossy(data).into_owned();
    let answer = Answer { status: 400, body, whole: true, retry_after: None };
    let _refused = refusal("cloudflare list", &answer, Some(&envelope));
    let listed: Vec<Standing> = serde_json::from_value(envelope.result).unwrap_or_default();
    let _epochs: Vec<Option<u64>> = listed.iter().map(Standing::epoch).collect();
}
