//! Another health checker on the same targets: HAProxy, or a plain loop where it is not installed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use crate::figures::micros;
use crate::fleet::child::{Proc, command};
use crate::fleet::{START, eventually, scratch_dir};
use crate::target::Kind;

/// Where Debian has it.
pub const HAPROXY: &str = "/usr/sbin/haproxy";

/// What is down by whom, and since when he says so (microseconds).
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<BTreeMap<String, i64>>>);

impl Told {
    /// Somebody says how it is now. Only the first word counts.
    pub fn note(&self, who: &str, what: &str, down: bool) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{who}/{what}");
        if down {
            told.entry(key).or_insert_with(micros);
        } else {
            told.remove(&key);
        }
    }

    /// Waits until so many say down.
    pub async fn wait(&self, many: usize) -> Result<BTreeMap<String, i64>> {
        eventually(START, "every checker's word", async || {
            let told = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            ensure!(told.len() == many, "down are {:?}", told.keys());
            Ok(told)
        })
        .await
    }
}

/// What is checked: its name, how, and where.
pub type Server = (&'static str, Kind, u16);

/// How it is checked; the third failure in a row makes it down.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From start to start.
    pub interval: Duration,
    /// The same after a failure.
    pub fast: Duration,
    /// For the connection, and once more for the answer.
    pub timeout: Duration,
    /// What such a HAProxy is called in the tables.
    pub who: &'static str,
}

/// The reference.
pub enum Reference {
    /// HAProxy's health checks.
    Haproxy { who: &'static str, _proxy: Proc, log: JoinHandle<()>, _dir: TempDir },
    /// An interval, a connection, a counter.
    Loops(Vec<JoinHandle<()>>),
}

impl Reference {
    /// Begins to check these servers.
    pub async fn start(servers: &[Server], timing: Timing, told: &Told) -> Result<Self> {
        if Path::new(HAPROXY).exists() {
            return Self::haproxy(servers, timing, told).await;
        }
        let check = |(name, _, port): &Server| tokio::spawn(plain_loop(name, *port, timing, told.clone()));
        Ok(Self::Loops(servers.iter().map(check).collect()))
    }

    /// What it is called in the tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Haproxy { who, .. } => who,
            Self::Loops(_) => "plain loop",
        }
    }

    /// Its words are taken from its log, which it sends the moment that a state changes; the stats
    /// socket would have to be polled.
    async fn haproxy(servers: &[Server], timing: Timing, told: &Told) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let dir = scratch_dir("haproxy")?;
        let file = dir.path().join("haproxy.cfg");
        std::fs::write(&file, configuration(servers, timing, socket.local_addr()?.port(), dir.path())?)?;
        let mut proxy = command(HAPROXY);
        proxy.arg("-db").arg("-f").arg(&file);
        let proxy = Proc::start("haproxy", proxy, &dir.path().join("log"))?;
        let (names, told): (Vec<&str>, _) = (servers.iter().map(|server| server.0).collect(), told.clone());
        let log = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok(length) = socket.recv(&mut buffer).await {
                let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
                for name in &names {
                    let says = |state: &str| line.contains(&format!("Server {name}/{name} is {state}"));
                    if says("DOWN") || says("UP") {
                        told.note(timing.who, name, says("DOWN"));
                    }
                }
            }
        });
        Ok(Self::Haproxy { who: timing.who, _proxy: proxy, log, _dir: dir })
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        match self {
            Self::Haproxy { log, .. } => log.abort(),
            Self::Loops(loops) => loops.iter().for_each(JoinHandle::abort),
        }
    }
}

fn configuration(servers: &[Server], timing: Timing, log: u16, dir: &Path) -> Result<String> {
    let [inter, fast, timeout] = [timing.interval, timing.fast, timing.timeout].map(|time| time.as_millis());
    let mut text = format!(
        "global\n  log 127.0.0.1:{log} local0\n\
         defaults\n  log global\n  mode tcp\n  timeout connect {timeout}ms\n  timeout check {timeout}ms\n  timeout client 1s\n  \
         timeout server 1s\n  default-server inter {inter}ms fastinter {fast}ms fall 3 rise 1\n\
         frontend idle\n  bind unix@{}/idle\n",
        dir.display()
    );
    for (name, kind, port) in servers {
        writeln!(text, "backend {name}")?;
        if *kind == Kind::Http {
            writeln!(text, "  mode http\n  option httpchk GET /health")?;
        }
        writeln!(text, "  server {name} 127.0.0.1:{port} check")?;
    }
    Ok(text)
}

async fn plain_loop(name: &'static str, port: u16, timing: Timing, told: Told) {
    let mut ticks = tokio::time::interval(timing.interval);
    let mut failures = 0;
    loop {
        ticks.tick().await;
        let connected = tokio::time::timeout(timing.timeout, TcpStream::connect(("127.0.0.1", port))).await;
        failures = if matches!(connected, Ok(Ok(_))) { 0 } else { failures + 1 };
        if failures == 0 || failures == 3 {
            told.note("plain loop", name, failures > 0);
        }
    }
}
