//! An HTTP request: status, body, JSON, latency, certificate.
//!
//! The connection is dialled and kept as all probes do ([`super::dial`], [`super::kept`]), but for
//! a method that may change something: that goes over a fresh one, since a request that is lost on
//! a stale connection could not be sent again. HTTP/1.1 only: a request that is given up closes its
//! HTTP/1.1 connection, while an HTTP/2 connection into a black hole would be used again. No proxy,
//! whatever the environment says: a probe tells of the target and not of what stands before it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::classify::{Fault, find_or, io_fault};
use super::dial::dial_any;
use super::http_expect::Expect;
use super::kept::{Keeper, Kept};
use super::names::Names;
use super::stage::{Stage, waiting_for};
use super::{ProbeBuildError, ProbeContext, read_secret};
use crate::clients::tls::Check;
use crate::config::SecretText;
use crate::config::probe::HttpProbe;
use crate::config::redact::is_secret_key;
use crate::model::{CauseKind, Observation};
use crate::ports::Probe;

/// So much of a body is read and matched.
pub const BODY_LIMIT: usize = 1 << 20;

type Sender = SendRequest<Empty<Bytes>>;

/// See [`HttpProbe`].
pub struct Http {
    url: SecretText,
    method: Method,
    headers: Vec<(HeaderName, SecretText)>,
    expect: Expect,
    names: Arc<Names>,
    tls: Arc<ClientConfig>,
    keeper: Keeper<Sender>,
}

/// What an attempt sends, and where to.
struct Asked {
    url: Url,
    headers: HeaderMap,
    identity: Identity,
}

/// Does the request say who we are? A server that refuses our credentials is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// It carries credentials from the configuration.
    Told,
    /// It does not.
    Untold,
}

impl Http {
    /// Checks the parameters.
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
        Ok(Self {
            url: config.url.clone(),
            method,
            headers,
            expect: Expect::new(config)?,
            names: Arc::clone(&context.clients.names),
            tls: context.clients.trust.config(Check::Full, config.ca_file.as_deref())?,
            keeper: Keeper::new(context.nudge.clone()),
        })
    }

    /// Reads the secrets.
    async fn asked(&self) -> Result<Asked, Fault> {
        let unusable = |reason: String| Fault::ours(CauseKind::LocalCredentials, reason);
        let text = read_secret(&self.url).await?;
        let mut url = parse_url(&text).map_err(|reason| unusable(format!("the url {reason}")))?;
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 4);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("failoverd/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let mut identity = if matches!(self.url, SecretText::Reference(_)) { Identity::Told } else { Identity::Untold };
        let host = url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
        headers.insert(HOST, sensitive(&host).ok_or_else(|| unusable("the host of the url cannot be sent".into()))?);
        if let Some(basic) = take_user(&mut url) {
            identity = Identity::Told;
            headers.extend(sensitive(&basic).map(|basic| (AUTHORIZATION, basic)));
        }
        for (name, value) in &self.headers {
            if matches!(value, SecretText::Reference(_)) || is_secret_key(name.as_str()) {
                identity = Identity::Told;
            }
            let value = sensitive(&read_secret(value).await?)
                .ok_or_else(|| unusable(format!("the value of the header {name} cannot be sent")))?;
            headers.insert(name.clone(), value);
        }
        Ok(Asked { url, headers, identity })
    }

    async fn connect(&self, asked: &Asked, started: &mut Instant) -> Result<Kept<Sender>, Fault> {
        let (host, port) = (asked.url.host_str().unwrap_or_default(), asked.url.port_or_known_default().unwrap_or(80));
        let addresses = self.names.lookup_port(host, port).await?;
        // What our own resolver took is not the target's slowness.
        *started = Instant::now();
        let stream = waiting_for(Stage::Connect, dial_any(&addresses)).await?;
        if asked.url.scheme() != "https" {
            return self.adopt(stream).await;
        }
        let name = match asked.url.host() {
            Some(Host::Ipv4(address)) => ServerName::from(std::net::IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => ServerName::from(std::net::IpAddr::V6(address)),
            _ => ServerName::try_from(host.to_owned())
                .map_err(|_| Fault::theirs(CauseKind::Tls, "the host is not a server name"))?,
        };
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = waiting_for(Stage::Handshake, connector.connect(name, stream)).await;
        self.adopt(stream.map_err(|error| io_fault(&error))?).await
    }

    async fn adopt<S>(&self, stream: S) -> Result<Kept<Sender>, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| fault_of(&error))?;
        Ok(self.keeper.adopt(sender, async move {
            // How it ended is seen by the request that it ended.
            let _ = connection.await;
        }))
    }

    async fn once(&self, kept: &mut Kept<Sender>, asked: &Asked) -> Result<Answer, Fault> {
        let target = &asked.url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut request =
            Request::builder().method(self.method.clone()).uri(target).body(Empty::new()).map_err(|_| {
                // Its own words would repeat the path.
                Fault::ours(CauseKind::LocalCredentials, "the path of the url cannot be sent")
            })?;
        request.headers_mut().clone_from(&asked.headers);
        kept.client.ready().await.map_err(|error| fault_of(&error))?;
        let response = kept.client.send_request(request).await.map_err(|error| fault_of(&error))?;
        read(response).await
    }

    /// The answer, and when the target began to be waited for.
    async fn answer(&self, asked: &Asked) -> Result<(Answer, Instant), Fault> {
        let mut started = Instant::now();
        if let Some(mut kept) = self.keeper.take() {
            match self.once(&mut kept, asked).await {
                // Cut since the last attempt: the server may stand again, so we look afresh.
                Err(fault) if fault.is_cut() => started = Instant::now(),
                looked => return self.keep(kept, looked).map(|answer| (answer, started)),
            }
        }
        let mut kept = self.connect(asked, &mut started).await?;
        let looked = self.once(&mut kept, asked).await;
        self.keep(kept, looked).map(|answer| (answer, started))
    }

    /// How long a right answer took.
    async fn latency(&self) -> Result<Duration, Fault> {
        let asked = self.asked().await?;
        let (answer, started) = self.answer(&asked).await?;
        let latency = started.elapsed();
        self.expect.check(&answer, latency, asked.identity)?;
        Ok(latency)
    }

    fn keep(&self, kept: Kept<Sender>, looked: Result<Answer, Fault>) -> Result<Answer, Fault> {
        let answer = looked?;
        // What may have an effect is not sent twice, and so not where it may be lost. A body that
        // goes on stands in the way of the next answer.
        if self.method.is_safe() && answer.whole {
            self.keeper.give_back(kept);
        }
        Ok(answer)
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, Fault> {
    let status = response.status().as_u16();
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(chunk) = frame.map_err(|error| fault_of(&error))?.into_data() else { continue };
        let room = BODY_LIMIT - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok(Answer { status, body, whole: false });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body, whole: true })
}

/// Cuts user and password out of a URL, as the value of the header that carries them.
fn take_user(url: &mut Url) -> Option<String> {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair = decoded(url.username());
    pair.push(b':');
    pair.extend(url.password().map(decoded).unwrap_or_default());
    // Cannot fail: the URL has a host.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    Some(format!("Basic {}", STANDARD.encode(pair)))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[async_trait]
impl Probe for Http {
    async fn attempt(&self) -> Observation {
        match self.latency().await {
            Ok(latency) => Observation::up(latency),
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

fn fault_of(error: &hyper::Error) -> Fault {
    find_or(error, "the request failed")
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
