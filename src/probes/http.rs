//! An HTTP request: status, body, JSON, latency, certificate.
//!
//! The connection is kept between attempts, but for five of them at most: a kept connection hides
//! a dead listener, a changed address and a certificate that expired. HTTP/1.1 only: a request
//! that is given up closes its HTTP/1.1 connection, while an HTTP/2 connection into a black hole
//! would be used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use reqwest::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Request, Url};

use super::classify::{Fault, find_or};
use super::dial::has_route;
use super::http_expect::Expect;
use super::names::Names;
use super::tls::Check;
use super::{ProbeBuildError, ProbeContext, read_secret};
use crate::config::SecretText;
use crate::config::probe::HttpProbe;
use crate::model::{CauseKind, Observation};
use crate::ports::Probe;

/// So much of a body is read and matched.
pub const BODY_LIMIT: usize = 1 << 20;

/// A connection serves so many attempts.
const ATTEMPTS_PER_CONNECTION: u32 = 5;

/// How long an unused connection is kept; longer than most intervals, shorter than most servers
/// wait.
const KEEP: Duration = Duration::from_secs(50);

/// See [`HttpProbe`].
pub struct Http {
    url: SecretText,
    method: Method,
    headers: Vec<(HeaderName, SecretText)>,
    expect: Expect,
    names: Arc<Names>,
    kept: Client,
    fresh: Client,
    attempts: AtomicU32,
}

impl Http {
    /// Checks the parameters and builds the clients.
    ///
    /// # Errors
    /// Names the parameter that cannot be used.
    pub fn new(config: &HttpProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        if let SecretText::Plain(text) = &config.url {
            parse_url(text).map_err(|reason| ProbeBuildError::new("url", reason))?;
        }
        let method = Method::from_bytes(config.method.as_bytes())
            .map_err(|_| ProbeBuildError::new("method", format!("`{}` is not an HTTP method", config.method)))?;
        let mut headers = Vec::with_capacity(config.headers.len());
        for (name, value) in &config.headers {
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| ProbeBuildError::new(format!("headers.{name}"), "is not the name of a header"))?;
            headers.push((header, value.clone()));
        }
        let client = |keep: usize| {
            let tls = (*context.clients.trust.config(Check::Full, config.ca_file.as_deref())?).clone();
            Client::builder()
                .tls_backend_preconfigured(tls)
                .http1_only()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .pool_max_idle_per_host(keep)
                .pool_idle_timeout(KEEP)
                .dns_resolver(Arc::new(Resolver(Arc::clone(&context.clients.names))))
                .build()
                .map_err(|error| ProbeBuildError::new("http", error.without_url().to_string()))
        };
        Ok(Self {
            url: config.url.clone(),
            method,
            headers,
            expect: Expect::new(config)?,
            names: Arc::clone(&context.clients.names),
            kept: client(1)?,
            fresh: client(0)?,
            attempts: AtomicU32::new(0),
        })
    }

    async fn request(&self) -> Result<Request, Fault> {
        let url = read_secret(&self.url).await?;
        let url = parse_url(&url).map_err(|reason| Fault::ours(CauseKind::LocalCredentials, reason))?;
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 2);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("failoverd/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in &self.headers {
            let value = read_secret(value).await?;
            let mut value = HeaderValue::from_str(&value).map_err(|_| {
                Fault::ours(CauseKind::LocalCredentials, format!("the value of the header {name} cannot be sent"))
            })?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        // The builder turns a user and password in the URL into an Authorization header.
        let request = self.kept.request(self.method.clone(), url).headers(headers).build();
        request.map_err(|error| fault_of(&error.without_url()))
    }

    async fn once(&self, client: &Client, mut request: Request, last: bool) -> Result<Answer, Fault> {
        if last {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let mut response = client.execute(request).await.map_err(|error| fault_of(&error.without_url()))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let mut whole = true;
        while let Some(chunk) = response.chunk().await.map_err(|error| fault_of(&error.without_url()))? {
            let room = BODY_LIMIT - body.len();
            if chunk.len() > room {
                body.extend_from_slice(&chunk[..room]);
                whole = false;
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body, whole })
    }

    /// A router far away and our own routing table say the same; see [`has_route`].
    async fn whose_network(&self, fault: Fault, host: &str, port: u16) -> Fault {
        if !fault.is_no_network() {
            return fault;
        }
        match self.names.lookup_port(host, port).await {
            Ok(addresses) if addresses.iter().any(|address| has_route(*address)) => {
                Fault::theirs(CauseKind::Unreachable, fault.detail)
            }
            _ => fault,
        }
    }

    async fn answer(&self) -> Result<Answer, Fault> {
        let request = self.request().await?;
        let (host, port) = (
            request.url().host_str().unwrap_or_default().to_owned(),
            request.url().port_or_known_default().unwrap_or(80),
        );
        let count = self.attempts.fetch_add(1, Ordering::Relaxed);
        let last = count % ATTEMPTS_PER_CONNECTION == ATTEMPTS_PER_CONNECTION - 1;
        // A kept connection that was cut says nothing of the server now. What may have an effect
        // is not sent twice.
        let again = if self.method.is_safe() { request.try_clone() } else { None };
        let fault = match (self.once(&self.kept, request, last).await, again) {
            (Ok(answer), _) => return Ok(answer),
            (Err(fault), Some(again)) if fault.is_cut() && count > 0 => match self.once(&self.fresh, again, true).await
            {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            },
            (Err(fault), _) => fault,
        };
        Err(self.whose_network(fault, &host, port).await)
    }
}

#[async_trait]
impl Probe for Http {
    async fn attempt(&self) -> Observation {
        let started = Instant::now();
        match self.answer().await {
            Ok(answer) => {
                let latency = started.elapsed();
                match self.expect.check(&answer, latency) {
                    Ok(()) => Observation::up(latency),
                    Err(fault) => fault.into(),
                }
            }
            Err(fault) => fault.into(),
        }
    }
}

/// What came back.
pub(super) struct Answer {
    /// The status code.
    pub status: u16,
    /// At most [`BODY_LIMIT`] bytes.
    pub body: Vec<u8>,
    /// The body ended within the limit.
    pub whole: bool,
}

fn fault_of(error: &reqwest::Error) -> Fault {
    let what = if error.is_connect() {
        "the connection failed"
    } else if error.is_body() || error.is_decode() {
        "the answer broke off"
    } else {
        "the request failed"
    };
    find_or(error, what)
}

/// The reason never repeats the text: it may hold a token.
fn parse_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text.trim()).map_err(|_| "is not a URL; write https://host/path")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("has to begin with http:// or https://");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host");
    }
    Ok(url)
}

struct Resolver(Arc<Names>);

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let names = Arc::clone(&self.0);
        Box::pin(async move {
            let addresses = names.lookup_port(name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}
