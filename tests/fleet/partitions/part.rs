//! What runs in the namespaces besides failoverd: this program once more, as a server or as a client. Each
//! writes down what it saw, with the machine's wall clock, which all of them share.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::net::Network;
use super::place::Node;

/// What a part has to do, and where it writes: `serve LOG PORT…` or `ask LOG ADDRESS`.
const PART: &str = "FAILOVERD_PART";

/// A client begins to ask this often, unless it waits still.
pub const ASKS_EVERY: Duration = Duration::from_millis(200);
/// And waits this long for the whole answer.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// The wall clock in microseconds.
pub fn micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// How this program is started as a part: the arguments that lead to [`play`].
#[derive(Clone, Debug)]
pub struct Myself {
    pub arguments: Vec<String>,
}

impl Myself {
    /// A server on these ports: 200 for everything; what is posted is written down.
    pub fn server(&self, network: &Network, node: Node, log: &Path, ports: &[u16]) -> Result<Command> {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        self.part(network, node, format!("serve {} {}", log.display(), ports.join(" ")))
    }

    /// A client of this server.
    pub fn client(&self, network: &Network, node: Node, log: &Path, of: SocketAddr) -> Result<Command> {
        self.part(network, node, format!("ask {} {of}", log.display()))
    }

    fn part(&self, network: &Network, node: Node, what: String) -> Result<Command> {
        let mut command = network.within(node, std::env::current_exe()?)?;
        command.args(&self.arguments).env(PART, what);
        Ok(command)
    }
}

/// Does what the environment says; returns only where it could not begin.
pub fn play() -> Result<()> {
    let text = std::env::var(PART).context("started as a part of nothing")?;
    let mut words = text.split(' ');
    let (what, log) = (words.next().unwrap_or_default(), words.next().context("no log")?);
    let log = PathBuf::from(log);
    match what {
        "serve" => serve(&log, words.map(str::parse).collect::<Result<Vec<u16>, _>>()?),
        "ask" => ask(&log, words.next().context("no address")?.parse()?),
        _ => bail!("there is no part {what}"),
    }
}

fn appended(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("opening {}", path.display()))
}

fn serve(log: &Path, ports: Vec<u16>) -> Result<()> {
    let mut servers = Vec::new();
    for port in ports {
        let (listener, log) = (TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?, log.to_owned());
        servers.push(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = log.clone();
                std::thread::spawn(move || answer(stream, &log));
            }
        }));
    }
    writeln!(appended(log)?, "ready")?;
    servers.into_iter().for_each(|server| drop(server.join()));
    Ok(())
}

/// Kept connections, a request at a time; the bodies are small.
fn answer(mut stream: TcpStream, log: &Path) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let (mut buffer, mut request) = ([0; 4096], Vec::new());
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        if head.starts_with("POST") {
            appended(log)?.write_all(format!("posted {}\n", micros()).as_bytes())?;
        }
        request.clear();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    }
    Ok(())
}

fn ask(log: &Path, of: SocketAddr) -> Result<()> {
    let mut log = appended(log)?;
    loop {
        let (asked, begun) = (micros(), Instant::now());
        let answered = answers(of, begun + PATIENCE).then(micros);
        // One write: what was noted before a kill is in the file.
        let line = answered.map_or_else(|| format!("{asked} -\n"), |answered| format!("{asked} {answered}\n"));
        log.write_all(line.as_bytes())?;
        std::thread::sleep(ASKS_EVERY.saturating_sub(begun.elapsed()));
    }
}

/// Did the whole answer come in time?
fn answers(of: SocketAddr, until: Instant) -> bool {
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let exchange = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&of, left())?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: primary\r\n\r\n")?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 512]);
        while !answer.ends_with(b"ok") {
            stream.set_read_timeout(Some(left()))?;
            match stream.read(&mut buffer)? {
                0 => return Ok(false),
                length => answer.extend_from_slice(&buffer[..length]),
            }
        }
        Ok(answer.starts_with(b"HTTP/1.1 200") && Instant::now() <= until)
    };
    exchange().unwrap_or(false)
}
