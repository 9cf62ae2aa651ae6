//! A gRPC server's health, through `grpc.health.v1`.
//!
//! One HTTP/2 connection is kept as those of the other probes are ([`super::kept`]). It goes back
//! only after an attempt that was answered: one that failed, or was given up at its deadline, is
//! closed with all that drives it, so that a black hole never holds the next attempt.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower_service::Service;
use url::Url;

use super::classify::{Fault, find_or};
use super::dial::dial_any;
use super::kept::{Keeper, Kept};
use super::names::Names;
use super::secure::{secure, server_name};
use super::stage::{Stage, waiting_for};
use super::wire::parse_url;
use super::{ProbeBuildError, ProbeContext};
use crate::clients::failure::one_line;
use crate::clients::tls::Check;
use crate::config::probe::GrpcProbe;
use crate::model::{CauseKind, Observation};
use crate::ports::Probe;

/// An answer holds one number; a longer one is none.
const ANSWER_LIMIT: usize = 4096;

/// So much of headers and trailers is read.
const HEADER_LIMIT: u32 = 16 * 1024;

type Body = tonic::body::Body;

/// See [`GrpcProbe`].
pub struct Grpc {
    url: Url,
    origin: Uri,
    service: String,
    timeout: Duration,
    names: Arc<Names>,
    /// `None`: without TLS.
    tls: Option<Arc<ClientConfig>>,
    keeper: Keeper<Channel>,
}

impl Grpc {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter that cannot be used.
    pub fn new(config: &GrpcProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        let wrong = |reason: &str| ProbeBuildError::new("url", reason);
        let url = parse_url(&config.url).map_err(wrong)?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || !url.username().is_empty() {
            return Err(wrong("is more than https://host:port"));
        }
        let origin = url[..url::Position::AfterPort].parse().map_err(|_| wrong("cannot be asked"))?;
        let tls = if url.scheme() == "https" {
            let mut tls = (*context.clients.trust.config(Check::Full, config.ca_file.as_deref())?).clone();
            tls.alpn_protocols = vec![b"h2".to_vec()];
            Some(Arc::new(tls))
        } else {
            None
        };
        Ok(Self {
            url,
            origin,
            service: config.service.clone(),
            timeout: context.timeout,
            names: Arc::clone(&context.clients.names),
            tls,
            keeper: Keeper::new(context.nudge.clone()),
        })
    }

    async fn connect(&self, started: &mut Instant) -> Result<Kept<Channel>, Fault> {
        let (host, port) = (self.url.host_str().unwrap_or_default(), self.url.port_or_known_default().unwrap_or(443));
        let addresses = self.names.lookup_port(host, port).await?;
        // What our own resolver took is not the target's slowness.
        *started = Instant::now();
        let stream = waiting_for(Stage::Connect, dial_any(&addresses)).await?;
        let Some(tls) = &self.tls else { return self.adopt(stream).await };
        let name = server_name(host).ok_or_else(|| Fault::theirs(CauseKind::Tls, "the host is not a server name"))?;
        self.adopt(secure(tls, name, stream).await?).await
    }

    async fn adopt<S>(&self, stream: S) -> Result<Kept<Channel>, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (tasks, spawned) = unbounded_channel();
        let mut builder = Builder::new(Inside(tasks));
        builder.max_header_list_size(HEADER_LIMIT);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| fault_of(&error))?;
        Ok(self.keeper.adopt(Channel(sender), drive(connection, spawned)))
    }

    async fn ask(&self, kept: &mut Kept<Channel>) -> Result<(), Fault> {
        kept.client.0.ready().await.map_err(|error| fault_of(&error))?;
        let mut client =
            HealthClient::with_origin(kept.client.clone(), self.origin.clone()).max_decoding_message_size(ANSWER_LIMIT);
        let mut request = tonic::Request::new(HealthCheckRequest { service: self.service.clone() });
        // The server need not go on for longer than we listen.
        request.set_timeout(self.timeout);
        match client.check(request).await {
            Ok(answer) => judge(answer.get_ref().status),
            Err(status) => Err(fault_of_status(&status)),
        }
    }

    async fn latency(&self) -> Result<Duration, Fault> {
        let mut started = Instant::now();
        if let Some(mut kept) = self.keeper.take() {
            match self.ask(&mut kept).await {
                // Cut since the last attempt: the server may stand again, so we look afresh.
                Err(fault) if fault.is_cut() => started = Instant::now(),
                looked => return self.keep(kept, looked, started),
            }
        }
        let mut kept = self.connect(&mut started).await?;
        let looked = self.ask(&mut kept).await;
        self.keep(kept, looked, started)
    }

    /// Only after a good look; whatever went wrong may be the connection's.
    fn keep(&self, kept: Kept<Channel>, looked: Result<(), Fault>, started: Instant) -> Result<Duration, Fault> {
        looked?;
        let latency = started.elapsed();
        self.keeper.give_back(kept);
        Ok(latency)
    }
}

#[async_trait]
impl Probe for Grpc {
    async fn attempt(&self) -> Observation {
        match self.latency().await {
            Ok(latency) => Observation::up(latency),
            Err(fault) => fault.into(),
        }
    }
}

/// What the server says of the service.
fn judge(status: i32) -> Result<(), Fault> {
    let said = |kind, text: &str| Err(Fault::theirs(kind, format!("the server says {text} of the service")));
    match ServingStatus::try_from(status) {
        Ok(ServingStatus::Serving) => Ok(()),
        Ok(ServingStatus::NotServing) => said(CauseKind::NotServing, "NOT_SERVING"),
        Ok(ServingStatus::Unknown) => said(CauseKind::NotServing, "UNKNOWN"),
        Ok(ServingStatus::ServiceUnknown) => said(CauseKind::NotFound, "SERVICE_UNKNOWN"),
        Err(_) => Err(Fault::theirs(CauseKind::Protocol, format!("the server says {status}, which is no status"))),
    }
}

/// Why there is no answer: the connection, a proxy, or the server's own word.
fn fault_of_status(status: &Status) -> Fault {
    if let Some(source) = status.source() {
        return match source.downcast_ref::<NotGrpc>() {
            Some(NotGrpc(status)) => fault_of_http(*status),
            None => fault_of(source),
        };
    }
    let detail = format!("the server says {:?}: {}", status.code(), one_line(status.message()));
    match status.code() {
        Code::NotFound => Fault::theirs(CauseKind::NotFound, detail),
        Code::Unavailable => Fault::theirs(CauseKind::NotServing, detail),
        Code::DeadlineExceeded => Fault::theirs(CauseKind::Timeout, detail),
        Code::Unimplemented => {
            Fault::theirs(CauseKind::Protocol, format!("there is no health service (grpc.health.v1): {detail}"))
        }
        Code::Unauthenticated | Code::PermissionDenied => Fault::ours(CauseKind::AuthenticationFailed, detail),
        Code::ResourceExhausted => Fault::ours(CauseKind::LocalThrottled, detail),
        _ => Fault::theirs(CauseKind::QueryFailed, detail),
    }
}

/// gRPC has 200 whatever happens; another status is a proxy's.
fn fault_of_http(status: StatusCode) -> Fault {
    let detail = format!("the HTTP status is {}: something else answers in its place", status.as_u16());
    match status.as_u16() {
        401 | 403 | 407 => Fault::ours(CauseKind::AuthenticationFailed, detail),
        429 => Fault::ours(CauseKind::LocalThrottled, detail),
        _ => Fault::theirs(CauseKind::HttpStatus, detail),
    }
}

fn fault_of(error: &(dyn Error + 'static)) -> Fault {
    find_or(error, "the request failed")
}

/// The client's half of an HTTP/2 connection, as tonic wants it.
#[derive(Clone)]
struct Channel(SendRequest<Body>);

/// An answer that is none of gRPC's.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP status is {0}")]
struct NotGrpc(StatusCode);

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Asked before: tonic would make words of the error, and whose fault it was would be lost.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.send_request(request);
        Box::pin(async move {
            let answer = answer.await?;
            match answer.status() {
                StatusCode::OK => Ok(answer),
                status => Err(NotGrpc(status).into()),
            }
        })
    }
}

type Task = BoxFuture<'static, ()>;

/// Hands what hyper would spawn to the one task that drives the connection, and that ends with it.
#[derive(Clone)]
struct Inside(UnboundedSender<Task>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Inside {
    fn execute(&self, task: F) {
        // Without a driver there is no connection any more.
        let _ended = self.0.send(Box::pin(task));
    }
}

async fn drive(connection: impl Future, mut spawned: UnboundedReceiver<Task>) {
    let mut tasks = FuturesUnordered::new();
    let mut connection = std::pin::pin!(connection);
    loop {
        tokio::select! {
            // How it ended is seen by the request that it ended.
            _ended = &mut connection => break,
            Some(task) = spawned.recv() => tasks.push(task),
            Some(()) = tasks.next(), if !tasks.is_empty() => {}
        }
    }
    // They end with the connection, and tell the request why it did.
    while let Ok(task) = spawned.try_recv() {
        tasks.push(task);
    }
    while tasks.next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_of_the_server_has_its_cause() {
        for (status, expected) in [
            (0, Some(CauseKind::NotServing)),
            (1, None),
            (2, Some(CauseKind::NotServing)),
            (3, Some(CauseKind::NotFound)),
            (9, Some(CauseKind::Protocol)),
        ] {
            assert_eq!(judge(status).err().map(|fault| (fault.kind, fault.ours)), expected.map(|kind| (kind, false)));
        }
        for (code, ours, kind) in [
            (Code::NotFound, false, CauseKind::NotFound),
            (Code::Unavailable, false, CauseKind::NotServing),
            (Code::DeadlineExceeded, false, CauseKind::Timeout),
            (Code::Unimplemented, false, CauseKind::Protocol),
            (Code::Internal, false, CauseKind::QueryFailed),
            (Code::Unknown, false, CauseKind::QueryFailed),
            (Code::Unauthenticated, true, CauseKind::AuthenticationFailed),
            (Code::PermissionDenied, true, CauseKind::AuthenticationFailed),
            (Code::ResourceExhausted, true, CauseKind::LocalThrottled),
        ] {
            let fault = fault_of_status(&Status::new(code, "why\nnot"));
            assert_eq!((fault.ours, fault.kind), (ours, kind), "{fault}");
            assert!(fault.detail.contains("why not"), "{fault}");
        }
    }
}
