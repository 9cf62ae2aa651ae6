//! One HTTP/1.1 request over one connection: what `http` and `http_sequence` share.
//!
//! HTTP/1.1 only: a request that is given up closes its HTTP/1.1 connection, while an HTTP/2
//! connection into a black hole would be used again. No proxy, whatever the environment says: a
//! probe tells of the target and not of what stands before it. Redirects are answers like any
//! other, and nothing is decompressed, since nothing compressed is asked for.
//!
//! Not hyper's client: it keeps a task, two channels and 8 KiB for each connection, which is most of
//! what ten thousand probes would cost. What comes is taken apart in `message`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderMap, HeaderValue, USER_AGENT};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use url::Url;

use super::classify::{Fault, io_fault};
use super::dial::dial_any;
use super::message::{self, Body, Head, Progress, Wrong};
use super::names::Names;
use super::parked::OnSocket;
use super::secure::{secure, server_name};
use super::stage::{Stage, waiting_for};
use super::{ProbeBuildError, ProbeContext};
use crate::clients::tls::Check;
use crate::model::CauseKind;

/// So much of a body is read and matched.
pub const BODY_LIMIT: usize = 1 << 20;
/// So many bytes are read at one go; most answers of a health endpoint fit.
const READ: usize = 4 << 10;
/// So many interim answers (100, 103) are passed over.
const MOST_INTERIM: u32 = 8;

/// A connection to a server, and how many requests it has served.
pub(super) struct Connection {
    stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    served: u32,
}

impl Connection {
    /// So many requests were answered over it.
    pub(super) fn served(&self) -> u32 {
        self.served
    }

    /// Ends it without a farewell, once the whole answer is there and the server was told that no other
    /// request follows: as health checks of load balancers do, it leaves no port waiting (TIME_WAIT).
    pub(super) fn reset(self) {
        if let Either::Left(plain) = &self.stream {
            let _as_it_is = plain.set_zero_linger();
        }
    }
}

impl OnSocket for Connection {
    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Either::Left(plain) => plain,
            Either::Right(tls) => tls.get_ref().0,
        }
    }

    fn may_speak_unasked(&self) -> bool {
        matches!(self.stream, Either::Right(_))
    }
}

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

    /// A fresh connection; `started` becomes the time at which the target began to be waited for.
    pub(super) async fn connect(&self, place: &Place, started: &mut Instant) -> Result<Connection, Fault> {
        let addresses = self.addresses(place).await?;
        // What our own resolver took is not the target's slowness.
        *started = Instant::now();
        self.connect_to(place, &addresses).await
    }

    /// All addresses of the name.
    pub(super) async fn addresses(&self, place: &Place) -> Result<Vec<SocketAddr>, Fault> {
        self.names.lookup_port(&place.host, place.port).await
    }

    /// A fresh connection to one of these addresses.
    pub(super) async fn connect_to(&self, place: &Place, addresses: &[SocketAddr]) -> Result<Connection, Fault> {
        let stream = waiting_for(Stage::Connect, dial_any(addresses)).await?;
        if !place.tls {
            return Ok(Connection { stream: Either::Left(stream), served: 0 });
        }
        let not_a_name = || Fault::theirs(CauseKind::Tls, "the host is not a server name");
        let name = server_name(&place.host).ok_or_else(not_a_name)?;
        let stream = secure(&self.tls, name, stream).await?;
        Ok(Connection { stream: Either::Right(Box::new(stream)), served: 0 })
    }
}

/// Where a request goes.
pub(super) struct Place {
    host: Box<str>,
    port: u16,
    tls: bool,
}

/// Is the connection to be used again?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Another request may follow.
    Yes,
    /// It is the only one, and the server is told so.
    No,
}

/// What is asked: put together, and not sent yet.
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
        // First, as RFC 9110, section 7.2, would like it.
        let host = url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
        headers.insert(HOST, sensitive(&host).ok_or_else(|| unusable("the host of the url cannot be sent".into()))?);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("failoverd/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let user = take_user(&mut url);
        let told = user.is_some();
        headers.extend(user.and_then(|basic| sensitive(&basic)).map(|basic| (AUTHORIZATION, basic)));
        Ok((Self { url, method, headers, body: Bytes::new() }, told))
    }

    /// As it goes over the wire.
    pub(super) fn request(&self, keep: Keep) -> Request {
        // A `Url` has percent-encoded whatever no request line can hold, and a `HeaderValue` no line end.
        let target = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut bytes = Vec::with_capacity(256 + self.body.len());
        bytes.extend_from_slice(format!("{} {target} HTTP/1.1\r\n", self.method).as_bytes());
        let mut line = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        };
        for (name, value) in &self.headers {
            line(name.as_str(), value.as_bytes());
        }
        let takes_body = matches!(self.method, Method::POST | Method::PUT | Method::PATCH);
        if !self.body.is_empty() || takes_body {
            line("content-length", self.body.len().to_string().as_bytes());
        }
        if keep == Keep::No {
            line("connection", b"close");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        let place = Place {
            host: self.url.host_str().unwrap_or_default().into(),
            port: self.url.port_or_known_default().unwrap_or(80),
            tls: self.url.scheme() == "https",
        };
        Request { place, method: self.method.clone(), bytes: bytes.into_boxed_slice() }
    }
}

/// What is sent, and where to.
pub(super) struct Request {
    /// Where to.
    pub(super) place: Place,
    method: Method,
    bytes: Box<[u8]>,
}

impl Request {
    /// Sends it, and reads what comes back.
    ///
    /// # Errors
    /// The target's, where the connection is cut or what comes is no answer.
    pub(super) async fn over(&self, connection: &mut Connection) -> Result<Answer, Fault> {
        let stream = &mut connection.stream;
        stream.write_all(&self.bytes).await.map_err(|error| io_fault(&error))?;
        stream.flush().await.map_err(|error| io_fault(&error))?;
        let mut input = Vec::with_capacity(READ);
        let head = self.head(connection, &mut input).await?;
        let mut body = Body::new(head.framing, BODY_LIMIT);
        let whole = loop {
            match body.take(&mut input).map_err(protocol)? {
                Progress::Whole => break true,
                Progress::Full => break false,
                Progress::More => {}
            }
            if more(connection, &mut input).await? == 0 {
                if body.may_end_here() {
                    break true;
                }
                return Err(Fault::theirs(CauseKind::ConnectionReset, "the connection was cut within the answer"));
            }
        };
        connection.served += 1;
        let reusable = whole && head.persistent && input.is_empty();
        Ok(Answer { status: head.status, cookies: head.cookies, body: body.bytes, whole, reusable })
    }

    async fn head(&self, connection: &mut Connection, input: &mut Vec<u8>) -> Result<Head, Fault> {
        let mut interim = 0;
        let mut new = 0;
        loop {
            if let Some(head) = message::head(&self.method, input, new).map_err(protocol)? {
                input.drain(..head.length);
                if !head.is_interim() {
                    return Ok(head);
                }
                interim += 1;
                new = 0;
                if interim > MOST_INTERIM {
                    return Err(Fault::theirs(CauseKind::Protocol, "interim answers without end"));
                }
                continue;
            }
            new = input.len();
            if more(connection, input).await? == 0 {
                return Err(Fault::theirs(CauseKind::ConnectionReset, "the connection was cut before the answer"));
            }
        }
    }
}

/// Reads on; 0 where the connection was closed.
async fn more(connection: &mut Connection, input: &mut Vec<u8>) -> Result<usize, Fault> {
    input.reserve(READ);
    connection.stream.read_buf(input).await.map_err(|error| io_fault(&error))
}

fn protocol(Wrong(text): Wrong) -> Fault {
    Fault::theirs(CauseKind::Protocol, text)
}

/// What came back.
pub(super) struct Answer {
    /// The status code.
    pub status: u16,
    /// The values of `set-cookie`.
    pub cookies: Vec<String>,
    /// At most [`BODY_LIMIT`] bytes.
    pub body: Vec<u8>,
    /// The body ended within the limit.
    pub whole: bool,
    /// Another request may go over the same connection.
    pub reusable: bool,
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
