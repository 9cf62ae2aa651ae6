//! A TCP proxy that breaks a connection in the ways that networks do, switchable while it runs.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::START;
use super::apart::Namespace;

/// What the proxy does with connections. A change applies to open connections too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Pass everything on.
    Pass,
    /// Delay each piece by this much in each direction.
    Latency(Duration),
    /// Accept, then pass nothing either way: packets are lost without a word.
    Blackhole,
    /// Requests arrive, answers are lost: the outcome is unknown to the client.
    LoseAnswers,
    /// Answer every connection with a TCP reset, open ones too.
    Reset,
    /// Nobody listens; open connections are reset.
    Refuse,
    /// One byte a second towards the client: alive, and useless.
    Drip,
    /// Close a connection after this many bytes towards the client.
    DropAfter(usize),
}

/// An address, and the network namespace that it is of; ours where none is named.
#[derive(Clone)]
pub struct End {
    pub net: Option<Namespace>,
    pub at: SocketAddr,
}

impl End {
    /// A port of 127.0.0.1, there.
    pub fn local(net: Option<Namespace>, port: u16) -> Self {
        Self { net, at: ([127, 0, 0, 1], port).into() }
    }

    /// A socket is of the namespace in which it was made, wherever it is used.
    fn socket(&self) -> std::io::Result<TcpSocket> {
        match &self.net {
            None => TcpSocket::new_v4(),
            Some(net) => net.within(TcpSocket::new_v4),
        }
    }

    /// With SO_REUSEADDR, connections that linger from before do not keep the port.
    fn listen(&self) -> std::io::Result<TcpListener> {
        let socket = self.socket()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.at)?;
        socket.listen(128)
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        self.socket()?.connect(self.at).await
    }
}

/// A running proxy; dropping it closes everything.
pub struct Proxy {
    at: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Whether the listener is open, reported by the accept loop.
    listening: watch::Receiver<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts passing a fresh port on to `target`.
    pub async fn start(target: SocketAddr) -> anyhow::Result<Self> {
        // Reserved, because `Refuse` gives the port up for a while.
        Self::between(End::local(None, super::port()?), End { net: None, at: target }).await
    }

    /// Starts passing on from one place to another.
    pub async fn between(from: End, target: End) -> anyhow::Result<Self> {
        let at = from.at;
        let (mode, mode_seen) = watch::channel(Mode::Pass);
        let (report, listening) = watch::channel(false);
        let task = tokio::spawn(accept_loop(from, target, mode_seen, report));
        let this = Self { at, mode, listening, task };
        this.wait_listening(true).await?;
        Ok(this)
    }

    /// Starts passing on to a port of 127.0.0.1.
    pub async fn to_port(port: u16) -> anyhow::Result<Self> {
        Self::start(([127, 0, 0, 1], port).into()).await
    }

    /// Where clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.at
    }

    /// The port of that.
    pub fn port(&self) -> u16 {
        self.at.port()
    }

    /// Switches; returns when the listener is in the new state.
    pub async fn set(&self, mode: Mode) -> anyhow::Result<()> {
        self.mode.send_replace(mode);
        self.wait_listening(mode != Mode::Refuse).await
    }

    async fn wait_listening(&self, wanted: bool) -> anyhow::Result<()> {
        let mut listening = self.listening.clone();
        tokio::time::timeout(START, listening.wait_for(|now| *now == wanted))
            .await
            .context("the proxy did not switch")?
            .context("the proxy has ended")?;
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept_loop(from: End, target: End, mut mode: watch::Receiver<Mode>, listening: watch::Sender<bool>) {
    // Aborting this task drops the set, and with it every connection.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        if wait(&mut mode, |m| m != Mode::Refuse).await.is_none() {
            return;
        }
        let Ok(listener) = from.listen() else {
            return;
        };
        listening.send_replace(true);
        loop {
            tokio::select! {
                changed = wait(&mut mode, |m| m == Mode::Refuse) => {
                    if changed.is_none() { return; }
                    break;
                }
                accepted = listener.accept() => {
                    if let Ok((client, _)) = accepted {
                        connections.spawn(serve(client, target.clone(), mode.clone()));
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        listening.send_replace(false);
    }
}

/// Waits until the mode is one of those wanted; `None` when the proxy is gone.
async fn wait(mode: &mut watch::Receiver<Mode>, wanted: impl Fn(Mode) -> bool) -> Option<Mode> {
    mode.wait_for(|m| wanted(*m)).await.ok().map(|m| *m)
}

async fn serve(mut client: TcpStream, target: End, mut mode: watch::Receiver<Mode>) {
    let _ = client.set_nodelay(true);
    if carry(&mut client, &target, &mut mode).await.is_none() {
        // Closing with a zero linger time sends RST instead of FIN.
        let _ = client.set_zero_linger();
    }
}

/// Carries one connection to its orderly end; `None` means that it must be reset.
async fn carry(client: &mut TcpStream, target: &End, mode: &mut watch::Receiver<Mode>) -> Option<()> {
    let lost = *mode.borrow() == Mode::Blackhole;
    let now = wait(mode, |m| m != Mode::Blackhole).await?;
    if now == Mode::Reset {
        return None;
    }
    // A client that gave up inside the black hole would never have got through.
    let begun = if lost { sent_by(client)? } else { Vec::new() };
    let mut server = target.connect().await.ok()?;
    let _ = server.set_nodelay(true);
    server.write_all(&begun).await.ok()?;
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let up = pump(client_read, server_write, mode.clone(), false);
    let down = pump(server_read, client_write, mode.clone(), true);
    // Passing half of a broken connection on would hide that it broke.
    let both = async { tokio::try_join!(up, down) };
    tokio::select! {
        ended = both => ended.ok().map(|_| ()),
        _ = wait(mode, |m| matches!(m, Mode::Reset | Mode::Refuse)) => None,
    }
}

/// What a client has sent so far; `None` when it has hung up since.
fn sent_by(client: &TcpStream) -> Option<Vec<u8>> {
    let mut sent = Vec::new();
    loop {
        match client.try_read_buf(&mut sent) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Some(sent),
            Err(_) => return None,
        }
    }
}

/// The connection broke, or was cut on purpose.
struct Broken;

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

/// Copies one direction under the mode of the moment, until its sender ends.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut mode: watch::Receiver<Mode>,
    to_client: bool,
) -> Result<(), Broken> {
    let mut passed = 0usize;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        let flows = |m: Mode| match m {
            Mode::Blackhole => false,
            Mode::LoseAnswers => !to_client,
            _ => true,
        };
        // What arrives during a black hole is delivered after it, as TCP's retransmission does.
        let now = wait(&mut mode, flows).await.ok_or(Broken)?;
        if read == 0 {
            return Ok(to.shutdown().await?);
        }
        let piece = &buffer[..read];
        match now {
            Mode::Latency(delay) => {
                tokio::time::sleep(delay).await;
                to.write_all(piece).await?;
            }
            Mode::Drip if to_client => drip(piece, &mut to, &mut mode).await?,
            Mode::DropAfter(limit) if to_client && passed + read >= limit => {
                to.write_all(&piece[..limit.saturating_sub(passed)]).await?;
                to.shutdown().await?;
                return Err(Broken);
            }
            _ => to.write_all(piece).await?,
        }
        passed += read;
    }
}

async fn drip(piece: &[u8], to: &mut WriteHalf<'_>, mode: &mut watch::Receiver<Mode>) -> Result<(), Broken> {
    for (i, byte) in piece.iter().enumerate() {
        to.write_all(&[*byte]).await?;
        let changed = wait(mode, |m| m != Mode::Drip);
        if let Ok(changed) = tokio::time::timeout(Duration::from_secs(1), changed).await {
            changed.ok_or(Broken)?;
            return Ok(to.write_all(&piece[i + 1..]).await?);
        }
    }
    Ok(())
}
