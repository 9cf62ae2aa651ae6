//! Three Redis Sentinels with a quorum of two over one Redis.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::figures::micros;
use crate::fleet::child::{Proc, command};
use crate::fleet::{START, eventually, port, scratch_dir};

const SENTINEL: &str = "/usr/bin/redis-sentinel";
const SENTINELS: usize = 3;
/// How long a Redis has to be silent.
const DOWN_AFTER: Duration = Duration::from_millis(200);

/// The first word of each sentinel since the last kill: sentinel and event, and when.
type Said = Arc<Mutex<BTreeMap<(usize, &'static str), i64>>>;

/// They run.
pub struct Sentinels {
    port: u16,
    redis: Option<Proc>,
    ports: Vec<u16>,
    said: Said,
    dir: TempDir,
    _sentinels: Vec<Proc>,
}

impl Sentinels {
    /// Starts them; `None` where they are not installed.
    pub async fn start() -> Result<Option<Self>> {
        if !Path::new(SENTINEL).exists() {
            return Ok(None);
        }
        let (port_of_redis, dir) = (port()?, scratch_dir("sentinels")?);
        let mut this = Self {
            port: port_of_redis,
            redis: None,
            ports: Vec::new(),
            said: Said::default(),
            dir,
            _sentinels: Vec::new(),
        };
        this.revive().await?;
        for number in 0..SENTINELS {
            let own = port()?;
            let home = this.dir.path().join(number.to_string());
            std::fs::create_dir(&home)?;
            let file = home.join("sentinel.conf");
            std::fs::write(
                &file,
                format!(
                    "port {own}\nbind 127.0.0.1\ndir {}\nsentinel monitor bench 127.0.0.1 {port_of_redis} 2\n\
                     sentinel down-after-milliseconds bench {}\nsentinel failover-timeout bench 1000\n",
                    home.display(),
                    DOWN_AFTER.as_millis()
                ),
            )?;
            let mut program = command(SENTINEL);
            program.arg(&file);
            let mut sentinel = Proc::start("redis-sentinel", program, &home.join("log"))?;
            let stream = sentinel
                .ready(START, "a sentinel to listen", async || Ok(TcpStream::connect(("127.0.0.1", own)).await?))
                .await?;
            tokio::spawn(listen(stream, number, Arc::clone(&this.said)));
            this._sentinels.push(sentinel);
            this.ports.push(own);
        }
        Ok(Some(this))
    }

    /// Starts Redis again.
    async fn revive(&mut self) -> Result<()> {
        let port = self.port;
        let mut program = command("redis-server");
        program.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"]).arg(self.dir.path());
        let redis = Proc::start("redis", program, &self.dir.path().join("redis.log"))?;
        let redis = self.redis.insert(redis);
        redis.ready(START, "Redis to listen", async || Ok(TcpStream::connect(("127.0.0.1", port)).await?)).await?;
        Ok(())
    }

    /// Starts Redis where it is dead, and waits until each sentinel sees it, and the others.
    pub async fn all_up(&mut self) -> Result<()> {
        if self.redis.is_none() {
            self.revive().await?;
        }
        let ports = self.ports.clone();
        eventually(START, "the sentinels to see Redis and each other", async || {
            for port in &ports {
                let text = master(*port).await?;
                let says = |name: &str| text.lines().skip_while(|line| line.trim() != name).nth(2).map(str::trim);
                ensure!(says("flags") == Some("master"), "the flags are {:?}", says("flags"));
                ensure!(says("num-other-sentinels") == Some("2"), "{:?} others", says("num-other-sentinels"));
            }
            Ok(())
        })
        .await
    }

    /// Kills Redis; tells when, when each sentinel saw it (`+sdown`), and when the first knew that two do
    /// (`+odown`).
    pub async fn kill(&mut self) -> Result<(i64, Vec<i64>, i64)> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut redis = self.redis.take().context("Redis is dead already")?;
        let killed = micros();
        redis.signal(Signal::KILL)?;
        let said = Arc::clone(&self.said);
        eventually(START, "the sentinels' words", async || {
            let said = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let of = |event: &str| -> Vec<i64> {
                said.iter().filter(|((_, what), _)| *what == event).map(|(_, at)| *at).collect()
            };
            let (seen, known) = (of("+sdown"), of("+odown").into_iter().min());
            ensure!(seen.len() == SENTINELS, "{} have seen it", seen.len());
            Ok((killed, seen, known.context("nobody knows of the others")?))
        })
        .await
    }
}

/// Notes what a sentinel publishes.
async fn listen(stream: TcpStream, number: usize, said: Said) -> Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"SUBSCRIBE +sdown +odown\r\n").await?;
    let (mut line, mut event) = (String::new(), None);
    while stream.read_line(&mut line).await? > 0 {
        let at = micros();
        event = match line.trim() {
            "+sdown" => Some("+sdown"),
            "+odown" => Some("+odown"),
            // The message after its channel.
            text if text.starts_with("master bench ") => {
                if let Some(event) = event {
                    said.lock().unwrap_or_else(PoisonError::into_inner).entry((number, event)).or_insert(at);
                }
                None
            }
            _ => event,
        };
        line.clear();
    }
    Ok(())
}

/// What a sentinel thinks of Redis: name and value in turn, as the protocol has them.
async fn master(port: u16) -> Result<String> {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
    stream.write_all(b"SENTINEL MASTER bench\r\nPING\r\n").await?;
    let (mut text, mut line) = (String::new(), String::new());
    while stream.read_line(&mut line).await? > 0 && line.trim() != "+PONG" {
        text.push_str(&line);
        line.clear();
    }
    Ok(text)
}
