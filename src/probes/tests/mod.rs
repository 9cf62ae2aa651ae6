//! Probes against servers inside the test process. Real servers: `tests/it/probes.rs`.

mod certificates;
mod exec;
mod grpc;
mod hostile;
mod http;
mod http_sequence;
mod net;
mod runner;
mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::{ProbeClients, ProbeContext, attempt, build};
use crate::config::ProbeKind;
use crate::model::{CauseKind, Health, Observation};
use crate::ports::Probe;

/// Long enough on a loaded machine; nothing that passes waits for it.
const LONG: Duration = Duration::from_secs(10);

/// What an attempt with a hang in it is given.
const SHORT: Duration = Duration::from_millis(200);

fn context() -> ProbeContext {
    ProbeContext::new(ProbeClients::system(), LONG)
}

/// A probe as the file has it.
fn probe(kind: serde_json::Value) -> Box<dyn Probe> {
    let kind: ProbeKind = serde_json::from_value(kind).unwrap();
    build(&kind, &context()).unwrap()
}

fn refused(kind: serde_json::Value) -> String {
    let kind: ProbeKind = serde_json::from_value(kind).unwrap();
    build(&kind, &context()).err().expect("it was built").to_string()
}

#[track_caller]
fn assert_saw(observation: &Observation, health: Health, kind: CauseKind) {
    let cause = observation.cause().map(|cause| cause.kind);
    assert_eq!((observation.health(), cause), (health, Some(kind)), "{observation:?}");
}

/// A server on loopback that hands each connection to `serve`, with its number.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn start<F>(serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(count.fetch_add(1, Ordering::SeqCst), stream));
            }
        });
        Self { address, connections, _task: AbortOnDropHandle::new(task) }
    }

    /// Answers every request on every connection with the same bytes.
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::start(move |_, mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                while read_request(&mut stream).await.is_some() {
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Reads up to the end of the headers.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&request).into_owned())
}

/// A port that nobody listens on.
async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A listener whose backlog is full, so that a SYN is dropped: a black hole on loopback.
async fn black_hole() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    for _ in 0..16 {
        match tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => held.push(stream),
            _ => break,
        }
    }
    (address, held, listener)
}
