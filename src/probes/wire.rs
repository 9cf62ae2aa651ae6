//! One HTTP/1.1 request over one connection: what `http` and `http_sequence` share.
//!
//! HTTP/1.1 only: a request that is given up closes its HTTP/1.1 connection, while an HTTP/2
//! connection into a black hole would be used again. No proxy, whatever the environment says: a
//! probe tells of the target and not of what stands before it. Redirects are answers like any
//! other, and nothing is decompressed, since nothing compressed is asked for.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use super::classify::{Fault, find_or};
use super::dial::dial_any;
use super::names::Names;
use super::secure::{secure, server_name};
use super::stage::{Stage, waiting_for};
use super::{ProbeBuildError, ProbeContext};
use crate::clients::tls::Check;
use crate::model::CauseKind;

/// So much of a body is read and matched.
pub const BODY_LIMIT: usize = 1 << 20;

/// The client's half of a connection.
pub(super) type Sender = SendRequest<Full<Bytes>>;

/// Opens connections.
pub(super) struct Wire {
    names: Arc<Names>,
    tls: Arc<ClientConfig>,
}

impl Wire {
    /// Trusting the authorities of `ca_file`, or else the system's.
    pub(super) fn new(context: &ProbeContext, ca_file: Option<&std::path::Path>) -> Result<Self, ProbeBuildError> {
        let tls = context.clients.trust.config(Check::Full, ca_file)?;
        Ok(Self { names: Arc::clone(&context.clients.names), tls })
    }

    /// A fresh connection and what moves its bytes; `started` becomes the time at which the target
    /// began to be waited for.
    pub(super) async fn connect(
        &self,
        url: &Url,
        started: &mut Instant,
    ) -> Result<(Sender, BoxFuture<'static, ()>), Fault> {
        let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(80));
        let addresses = self.names.lookup_port(host, port).await?;
        // What our own resolver took is not the target's slowness.
        *started = Instant::now();
        let stream = waiting_for(Stage::Connect, dial_any(&addresses)).await?;
        if url.scheme() != "https" {
            return adopt(stream).await;
        }
        let name = server_name(host).ok_or_else(|| Fault::theirs(CauseKind::Tls, "the host is not a server name"))?;
        adopt(secure(&self.tls, name, stream).await?).await
    }
}

async fn adopt<S>(stream: S) -> Result<(Sender, BoxFuture<'static, ()>), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| fault_of(&error))?;
    // How it ended is seen by the request that it ended.
    Ok((sender, connection.map(|_ended| ()).boxed()))
}

/// What is sent, and where to.
pub(super) struct Call {
    pub(super) url: Url,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    /// A request without a body, and whether the address itself says who we are.
    ///
    /// # Errors
    /// Ours, where the address cannot be used.
    pub(super) fn new(method: Method, address: &str) -> Result<(Self, bool), Fault> {
        let unusable = |reason: String| Fault::ours(CauseKind::LocalCredentials, reason);
        let mut url = parse_url(address).map_err(|reason| unusable(format!("the url {reason}")))?;
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("failoverd/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let host = url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
        headers.insert(HOST, sensitive(&host).ok_or_else(|| unusable("the host of the url cannot be sent".into()))?);
        let user = take_user(&mut url);
        let told = user.is_some();
        headers.extend(user.and_then(|basic| sensitive(&basic)).map(|basic| (AUTHORIZATION, basic)));
        Ok((Self { url, method, headers, body: Bytes::new() }, told))
    }

    /// Sends it, and reads what comes back.
    pub(super) async fn over(&self, sender: &mut Sender) -> Result<Answer, Fault> {
        let target = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let body = Full::new(self.body.clone());
        let mut request = Request::builder().method(self.method.clone()).uri(target).body(body).map_err(|_| {
            // Its own words would repeat the path.
            Fault::ours(CauseKind::LocalCredentials, "the path of the url cannot be sent")
        })?;
        request.headers_mut().clone_from(&self.headers);
        sender.ready().await.map_err(|error| fault_of(&error))?;
        let response = sender.send_request(request).await.map_err(|error| fault_of(&error))?;
        read(response).await
    }
}

/// What came back.
pub(super) struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// At most [`BODY_LIMIT`] bytes.
    pub body: Vec<u8>,
    /// The body ended within the limit.
    pub whole: bool,
}

async fn read(response: Response<Incoming>) -> Result<Answer, Fault> {
    let (parts, mut incoming) = response.into_parts();
    let mut answer = Answer { status: parts.status.as_u16(), headers: parts.headers, body: Vec::new(), whole: false };
    while let Some(frame) = incoming.frame().await {
        let Ok(chunk) = frame.map_err(|error| fault_of(&error))?.into_data() else { continue };
        let room = BODY_LIMIT - answer.body.len();
        if chunk.len() > room {
            answer.body.extend_from_slice(&chunk[..room]);
            return Ok(answer);
        }
        answer.body.extend_from_slice(&chunk);
    }
    answer.whole = true;
    Ok(answer)
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

/// The value of a header that no debug output shows; `None` where it cannot be sent.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn fault_of(error: &hyper::Error) -> Fault {
    find_or(error, "the request failed")
}

/// The reason never repeats the text: it may hold a token.
pub(super) fn parse_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text.trim()).map_err(|_| "is not a URL; write https://host/path")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("has to begin with http:// or https://");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host");
    }
    Ok(url)
}

/// The method of this name.
pub(super) fn parse_method(text: &str) -> Result<Method, ProbeBuildError> {
    Method::from_bytes(text.as_bytes())
        .map_err(|_| ProbeBuildError::new("method", format!("`{text}` is not an HTTP method")))
}
