//! The accept loop of both servers. Everything that a caller could use up is bounded here: how many
//! connections there are, in all and per caller; how long a request's head may take, which also
//! ends idle connections; how long a caller may leave its answer unread.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::peer::{Gate, Peer};

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at one time.
    pub connections: usize,
    /// Connections at one time of one caller.
    pub per_caller: usize,
    /// From the connection, or from the last answer, to the end of a request's head.
    pub head: Duration,
    /// How long an answer may stay unread.
    pub unread: Duration,
    /// How long connections may go on after the shutdown began.
    pub grace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 128,
            per_caller: 24,
            head: Duration::from_secs(10),
            unread: Duration::from_secs(30),
            grace: Duration::from_secs(2),
        }
    }
}

/// Where connections come from.
pub trait Source: Send {
    /// The connection.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// What is known of the caller; each request carries it as an extension.
    type Caller: Clone + Send + Sync + 'static;
    /// What the bound per caller is counted by.
    type Key: Eq + Hash + Clone + Send + 'static;

    /// The next connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Self::Caller)>> + Send;

    /// Whose connection it is; `None` is let in whatever the bounds say.
    fn key(&self, caller: &Self::Caller) -> Option<Self::Key>;
}

/// Connections over the Unix socket; the kernel says who calls.
pub struct UnixSource {
    /// The socket.
    pub listener: UnixListener,
    /// Tells who is let in when the socket is crowded.
    pub gate: Arc<Gate>,
}

impl Source for UnixSource {
    type Io = tokio::net::UnixStream;
    type Caller = Peer;
    type Key = u32;

    async fn accept(&mut self) -> io::Result<(Self::Io, Peer)> {
        let (stream, _) = self.listener.accept().await?;
        let who = stream.peer_cred()?;
        Ok((stream, Peer { uid: who.uid(), gid: who.gid() }))
    }

    fn key(&self, caller: &Peer) -> Option<u32> {
        // An operator's `abort` must get through although somebody holds every connection.
        (!self.gate.is_privileged(*caller)).then_some(caller.uid)
    }
}

/// Connections over TCP.
pub struct TcpSource(
    /// The socket.
    pub TcpListener,
);

impl Source for TcpSource {
    type Io = tokio::net::TcpStream;
    type Caller = std::net::SocketAddr;
    type Key = std::net::IpAddr;

    async fn accept(&mut self) -> io::Result<(Self::Io, Self::Caller)> {
        self.0.accept().await
    }

    fn key(&self, caller: &Self::Caller) -> Option<Self::Key> {
        Some(caller.ip())
    }
}

/// Serves until `stop` is cancelled, and then for at most the grace.
pub async fn serve<S: Source>(mut source: S, router: Router, bounds: Bounds, stop: CancellationToken) {
    let slots = Slots::default();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = source.accept() => accepted,
        };
        let (io, caller) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the caller is gone already. The former would spin.
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        match slots.take(source.key(&caller), bounds) {
            Some(slot) => {
                connections.spawn(connection(io, caller, router.clone(), bounds, stop.clone(), slot));
            }
            // Dropped: the caller sees an end of file at once, and can come again.
            None => tracing::warn!("a connection was turned away: too many are open"),
        }
    }
    drop(source);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(bounds.grace, all).await.is_err() {
        tracing::debug!("connections were cut at the end of the grace");
    }
}

async fn connection<I, C, K>(io: I, caller: C, router: Router, bounds: Bounds, stop: CancellationToken, _slot: Slot<K>)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    C: Clone + Send + Sync + 'static,
    K: Eq + Hash + Clone + Send + 'static,
{
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        router.clone().call(request.map(Body::new))
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(64 * 1024);
    let io = TokioIo::new(Unread { io, limit: bounds.unread, timer: None });
    let mut connection = pin!(http.serve_connection(io, service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Who has how many connections.
struct Slots<K>(Arc<Mutex<HashMap<K, usize>>>);

impl<K> Default for Slots<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// One connection's place; given back on drop.
struct Slot<K: Eq + Hash> {
    held: Arc<Mutex<HashMap<K, usize>>>,
    key: Option<K>,
}

impl<K: Eq + Hash + Clone> Slots<K> {
    fn take(&self, key: Option<K>, bounds: Bounds) -> Option<Slot<K>> {
        if let Some(key) = &key {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (all, own) = (held.values().sum::<usize>(), held.get(key).copied().unwrap_or(0));
            if all >= bounds.connections || own >= bounds.per_caller {
                return None;
            }
            held.insert(key.clone(), own + 1);
        }
        Some(Slot { held: Arc::clone(&self.0), key })
    }
}

impl<K: Eq + Hash> Drop for Slot<K> {
    fn drop(&mut self) {
        let Some(key) = &self.key else { return };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get_mut(key) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                held.remove(key);
            }
            None => {}
        }
    }
}

/// A connection whose writes fail once the other side has read nothing for a while.
struct Unread<I> {
    io: I,
    limit: Duration,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<I> Unread<I> {
    /// Starts or asks the timer where `result` is pending; stops it where it is not.
    fn bound<T>(&mut self, result: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.timer = None;
            return result;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the answer was left unread"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Unread<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Unread<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(context, bytes);
        self.bound(result, context)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(context);
        self.bound(result, context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_shutdown(context);
        self.bound(result, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_per_caller_and_in_all_and_given_back() {
        let bounds = Bounds { connections: 3, per_caller: 2, ..Bounds::default() };
        let slots = Slots::<u32>::default();
        let first = slots.take(Some(1), bounds);
        let second = slots.take(Some(1), bounds);
        assert!(first.is_some() && second.is_some());
        assert!(slots.take(Some(1), bounds).is_none(), "the third of one caller");
        let third = slots.take(Some(2), bounds);
        assert!(third.is_some());
        assert!(slots.take(Some(3), bounds).is_none(), "the fourth in all");
        assert!(slots.take(None, bounds).is_some(), "root is let in all the same");
        drop(second);
        assert!(slots.take(Some(1), bounds).is_some());
        drop((first, third));
        assert!(slots.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    }

    #[tokio::test]
    async fn an_unread_answer_ends_the_connection() {
        use tokio::io::AsyncWriteExt;
        let (ours, _theirs) = tokio::io::duplex(16);
        let mut io = Unread { io: ours, limit: Duration::from_millis(50), timer: None };
        let error = io.write_all(&[0; 64]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
