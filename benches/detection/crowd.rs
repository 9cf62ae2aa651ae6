//! What thousands of probes look at: one process (this program once more) that answers HTTP on several
//! ports, and counts. So the number of probes is told by whom they reached, and not by whom we measure.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::cores::{Core, pinned};
use crate::fleet::child::Proc;
use crate::fleet::{START, port, scratch_dir};

/// The argument that makes this program a crowd's target.
pub const FLAG: &str = "--crowd";
/// So many ports, so that the closed connections of one do not use up the client's ports.
const PORTS: usize = 16;
const BACKLOG: u32 = 4096;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LAST_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
/// Asks for the counts.
const COUNT: &[u8] = b"GET /count ";

/// What has come so far.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Requests.
    pub requests: u64,
    /// Connections.
    pub connections: u64,
}

/// A running target.
pub struct Crowd {
    ports: Vec<u16>,
    server: Proc,
    _dir: TempDir,
}

impl Crowd {
    /// Starts it on a core of its own.
    pub async fn start() -> Result<Self> {
        let ports = (0..PORTS).map(|_| port()).collect::<Result<Vec<u16>>>()?;
        let dir = scratch_dir("crowd")?;
        let mut program = pinned(Core::Target, std::env::current_exe()?);
        program.arg(FLAG).args(ports.iter().map(u16::to_string));
        let mut server = Proc::start("the target", program, &dir.path().join("log"))?;
        let first = ports[0];
        server.ready(START, "the target to count", async || counts(first)).await?;
        Ok(Self { ports, server, _dir: dir })
    }

    /// The port of the probe with this number.
    pub fn port(&self, number: usize) -> u16 {
        self.ports[number % self.ports.len()]
    }

    /// All of them.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// What has come so far.
    pub fn counts(&self) -> Result<Counts> {
        counts(self.ports[0])
    }

    /// Waits until so many more requests have come.
    pub async fn asked(&mut self, many: u64) -> Result<()> {
        let (first, from) = (self.ports[0], self.counts()?.requests);
        self.server
            .ready(2 * START, "the target to be asked", async || {
                let came = counts(first)?.requests - from;
                anyhow::ensure!(came >= many, "{came} of {many} requests came");
                Ok(())
            })
            .await
    }
}

/// Over the same wire as the probes, and not counted itself.
fn counts(port: u16) -> Result<Counts> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(START))?;
    stream.write_all(b"GET /count HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (requests, connections) = text.trim().split_once(' ').with_context(|| format!("no counts: {text}"))?;
    Ok(Counts { requests: requests.parse()?, connections: connections.parse()? })
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    connections: AtomicU64,
}

/// Serves these ports until it is killed.
pub fn serve(ports: &[String]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(listen(ports))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the target cannot serve: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn listen(ports: &[String]) -> Result<()> {
    let counters = Arc::<Counters>::default();
    for port in ports {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(([127, 0, 0, 1], port.parse()?).into())?;
        let listener = socket.listen(BACKLOG)?;
        let counters = Arc::clone(&counters);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&counters)));
            }
        });
    }
    std::future::pending().await
}

async fn answer(mut stream: TcpStream, counters: Arc<Counters>) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(256);
    let mut known = false;
    while stream.read_buf(&mut head).await? > 0 {
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        if head.starts_with(COUNT) {
            let [requests, connections] =
                [&counters.requests, &counters.connections].map(|c| c.load(Ordering::Relaxed));
            return stream.write_all(format!("{requests} {connections}\n").as_bytes()).await;
        }
        counters.requests.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut known, true) {
            counters.connections.fetch_add(1, Ordering::Relaxed);
        }
        if ends(&head) {
            return stream.write_all(LAST_ANSWER).await;
        }
        stream.write_all(ANSWER).await?;
        head.clear();
    }
    Ok(())
}

/// Does the request say that it is the last one of its connection?
fn ends(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    text.contains(" http/1.0\r\n") || text.contains("\r\nconnection: close\r\n")
}
