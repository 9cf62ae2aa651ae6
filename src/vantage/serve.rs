//! Answers with this vantage's votes, to whoever has a certificate of the same authority.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::{Accept, TlsAcceptor};

use super::identity::Identity;
use super::wire::{LONGEST_QUESTION, PATH, SIGNATURE, seal};
use crate::control::serve::{Bounds, Source};
use crate::model::{Ballot, BallotRequest, BallotVote, BootId};

/// Askers are few.
pub const BOUNDS: Bounds = Bounds {
    connections: 64,
    per_caller: 8,
    head: Duration::from_secs(10),
    unread: Duration::from_secs(5),
    grace: Duration::from_millis(200),
};

/// No question waits longer for a change.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Where the votes are.
#[async_trait]
pub trait Votes: Send + Sync {
    /// The votes of now; `None` at the end.
    async fn votes(&self) -> Option<Vec<BallotVote>>;
    /// Grows with each change of a vote.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// What answers.
#[derive(Clone)]
struct Teller {
    identity: Arc<Identity>,
    votes: Arc<dyn Votes>,
    boot: BootId,
    sequence: Arc<AtomicU64>,
}

/// The one route. `boot` is new at each start.
pub fn router(identity: Arc<Identity>, votes: Arc<dyn Votes>, boot: BootId) -> Router {
    let teller = Teller { identity, votes, boot, sequence: Arc::default() };
    Router::new().route(PATH, post(tell)).layer(DefaultBodyLimit::max(LONGEST_QUESTION)).with_state(teller)
}

async fn tell(State(teller): State<Teller>, body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<BallotRequest>(&body) else {
        return (StatusCode::BAD_REQUEST, "this is not a question for votes\n").into_response();
    };
    let came = Instant::now();
    let mut changes = teller.votes.changes();
    let wait = Duration::from_millis(request.wait_ms).min(LONGEST_WAIT);
    if let Some(known) = request.known {
        // The sender lives as long as the loop does; at its end there is nothing to wait for.
        let _changed = tokio::time::timeout(wait, changes.wait_for(|change| *change != known)).await;
    }
    let change = *changes.borrow();
    let Some(votes) = teller.votes.votes().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "ending\n").into_response();
    };
    let ballot = Ballot {
        vantage: teller.identity.vantage.clone(),
        domain: teller.identity.domain.clone(),
        asker: request.asker,
        nonce: request.nonce,
        boot: teller.boot.clone(),
        sequence: teller.sequence.fetch_add(1, Ordering::Relaxed) + 1,
        change,
        waited_ms: u64::try_from(came.elapsed().as_millis()).unwrap_or(u64::MAX),
        votes,
    };
    match seal(&ballot, &teller.identity) {
        Some((body, signature)) => {
            ([(header::CONTENT_TYPE.as_str(), "application/json"), (SIGNATURE, signature.as_str())], body)
                .into_response()
        }
        None => (StatusCode::INTERNAL_SERVER_ERROR, "the ballot cannot be signed\n").into_response(),
    }
}

/// Connections over TLS. The handshake is made by the connection's own task: whoever stalls it holds up
/// nobody else's.
pub struct TlsSource {
    /// The socket; another source may go on with it.
    pub listener: Arc<TcpListener>,
    /// The server's side of each handshake that begins from then on.
    pub config: watch::Receiver<Arc<ServerConfig>>,
}

impl Source for TlsSource {
    type Io = Handshaking;
    type Caller = SocketAddr;
    type Key = IpAddr;

    async fn accept(&mut self) -> io::Result<(Handshaking, SocketAddr)> {
        let (stream, caller) = self.listener.accept().await?;
        // An answer is one small packet after another.
        stream.set_nodelay(true)?;
        let accept = TlsAcceptor::from(Arc::clone(&self.config.borrow())).accept(stream);
        Ok((Handshaking::Greets(Box::new(accept)), caller))
    }

    fn key(&self, caller: &SocketAddr) -> Option<IpAddr> {
        Some(caller.ip())
    }
}

/// A connection whose handshake is made when it is first used.
pub enum Handshaking {
    /// Not done yet.
    Greets(Box<Accept<TcpStream>>),
    /// Done.
    Stands(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    /// It came to nothing, and is not to be asked again: whoever serves the connection still shuts it down.
    Failed,
}

impl Handshaking {
    fn stands(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Pin<&mut tokio_rustls::server::TlsStream<TcpStream>>>> {
        if let Self::Greets(accept) = self {
            match pin!(accept.as_mut()).poll(context) {
                Poll::Ready(Ok(stream)) => *self = Self::Stands(Box::new(stream)),
                Poll::Ready(Err(error)) => {
                    *self = Self::Failed;
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        match self {
            Self::Stands(stream) => Poll::Ready(Ok(Pin::new(stream.as_mut()))),
            Self::Greets(_) => Poll::Pending,
            Self::Failed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncRead for Handshaking {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.stands(context))?.poll_read(context, into)
    }
}

impl AsyncWrite for Handshaking {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.stands(context))?.poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.stands(context))?.poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.stands(context))?.poll_shutdown(context)
    }
}
