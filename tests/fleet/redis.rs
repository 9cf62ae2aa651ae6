//! Redis: a primary and its replicas.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::child::{Proc, command};
use super::{START, eventually, port, scratch_dir};

/// How a Redis server is made.
#[derive(Clone, Default)]
pub struct RedisOptions {
    /// `requirepass` and `masterauth`.
    pub password: Option<String>,
    /// Append-only file with an fsync at every write: what was acknowledged survives `kill9`.
    pub durable: bool,
}

/// One Redis server.
pub struct Redis {
    port: u16,
    options: RedisOptions,
    replica_of: Option<u16>,
    server: Option<Proc>,
    dir: TempDir,
}

impl Redis {
    /// A server that takes writes.
    pub async fn primary(options: RedisOptions) -> Result<Self> {
        Self::launch(options, None).await
    }

    /// A replica of this server with the same options; returns once it is online.
    pub async fn replica(&self) -> Result<Self> {
        self.replica_through(self.port).await
    }

    /// A replica that reaches this server through another port, e.g. a fault proxy's.
    pub async fn replica_through(&self, port: u16) -> Result<Self> {
        let this = Self::launch(self.options.clone(), Some(port)).await?;
        this.online().await?;
        Ok(this)
    }

    /// Waits until this replica has its data and follows.
    pub async fn online(&self) -> Result<()> {
        eventually(START, "the Redis replica to be online", async || {
            let link = self.info("master_link_status").await?;
            ensure!(link == "up", "the link is {link}");
            Ok(())
        })
        .await
    }

    async fn launch(options: RedisOptions, replica_of: Option<u16>) -> Result<Self> {
        let mut this = Self { port: port()?, options, replica_of, server: None, dir: scratch_dir("redis")? };
        this.start().await?;
        Ok(this)
    }

    async fn start(&mut self) -> Result<()> {
        let log = self.dir.path().join("server.log");
        let mut redis = command("redis-server");
        redis
            .args(["--bind", "127.0.0.1", "--save", "", "--repl-diskless-sync-delay", "0"])
            .args(["--repl-ping-replica-period", "1", "--repl-timeout", "5"])
            .args(["--port", &self.port.to_string()])
            .arg("--dir")
            .arg(self.dir.path());
        if self.options.durable {
            redis.args(["--appendonly", "yes", "--appendfsync", "always"]);
        }
        if let Some(password) = &self.options.password {
            redis.args(["--requirepass", password, "--masterauth", password]);
        }
        if let Some(port) = self.replica_of {
            redis.args(["--replicaof", &format!("127.0.0.1 {port}")]);
        }
        let url = self.url();
        let server = self.server.insert(Proc::start("redis", redis, &log)?);
        server
            .ready(START, "Redis to answer", async || {
                let answer: String = call(&url, &["PING"]).await?;
                ensure!(answer == "PONG", "it answered {answer:?}");
                Ok(())
            })
            .await
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The connection string, password included.
    pub fn url(&self) -> String {
        match &self.options.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// Sends one command on a fresh connection.
    pub async fn call<T: redis::FromRedisValue>(&self, args: &[&str]) -> Result<T> {
        call(&self.url(), args).await
    }

    /// One field of `INFO replication`.
    pub async fn info(&self, field: &str) -> Result<String> {
        let text: String = self.call(&["INFO", "replication"]).await?;
        text.lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
            .with_context(|| format!("INFO replication has no {field}"))
    }

    /// `master` or `slave`, in Redis' own words.
    pub async fn role(&self) -> Result<String> {
        self.info("role").await
    }

    /// Power loss.
    pub fn kill9(&mut self) {
        self.server = None;
    }

    /// A hung machine.
    pub fn sigstop(&mut self) -> Result<()> {
        self.proc()?.signal_tree(Signal::STOP)
    }

    /// The hung machine comes back.
    pub fn sigcont(&mut self) -> Result<()> {
        self.proc()?.signal_tree(Signal::CONT)
    }

    fn proc(&mut self) -> Result<&mut Proc> {
        self.server.as_mut().context("Redis is not running")
    }

    /// Starts it again on the same port, with the role that it was made with.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9();
        self.start().await
    }
}

async fn call<T: redis::FromRedisValue>(url: &str, args: &[&str]) -> Result<T> {
    let client = redis::Client::open(url)?;
    let attempt = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut cmd = redis::Cmd::new();
        cmd.arg(args);
        cmd.query_async(&mut connection).await
    };
    tokio::time::timeout(Duration::from_secs(5), attempt)
        .await
        .context("Redis did not answer within 5 s")?
        .with_context(|| format!("redis {}", args.first().unwrap_or(&"")))
}
