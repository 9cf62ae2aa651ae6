//! PostgreSQL: a primary, and standbys that stream from it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::child::{Proc, command, drop_root, run};
use super::{START, eventually, port, scratch_dir};

/// The superuser's password. SCRAM is always asked for, so that every test has a secret that
/// must not show up in any output.
pub const PASSWORD: &str = "canary-pg-Zq7x";

/// How a cluster is made.
#[derive(Clone, Default)]
pub struct PgOptions {
    /// Flush to disk as in production. Off by default: faster, and enough unless durability
    /// after a power loss is what is tested.
    pub durable: bool,
    /// Further lines of `postgresql.conf`, as (name, value).
    pub settings: Vec<(String, String)>,
}

/// How a standby is made.
#[derive(Clone, Default)]
pub struct StandbyOptions {
    /// Its `application_name` and the name of its replication slot; default `standby`.
    pub name: Option<String>,
    /// The primary waits for it at every commit (RPO 0).
    pub synchronous: bool,
    /// Stream through this port, e.g. a [`super::proxy::Proxy`], instead of the primary's own.
    pub through: Option<u16>,
    /// Further lines of `postgresql.conf`, as (name, value).
    pub settings: Vec<(String, String)>,
}

/// One PostgreSQL server and its data directory.
pub struct Postgres {
    name: String,
    port: u16,
    // Before `dir`: the server must be gone when its files go.
    server: Option<Proc>,
    dir: TempDir,
}

impl Postgres {
    /// A new cluster with a system identifier of its own.
    pub async fn primary(options: PgOptions) -> Result<Self> {
        let mut this = Self::new("primary")?;
        let pwfile = this.dir.path().join("pw");
        std::fs::write(&pwfile, PASSWORD)?;
        own(&pwfile)?;
        let mut initdb = pg("initdb")?;
        initdb
            .arg("-D")
            .arg(this.data())
            .args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8"])
            .args(["--locale=C", "--no-sync", "--no-instructions"])
            .arg(format!("--pwfile={}", pwfile.display()));
        run(initdb, START).await?;
        let mut settings = base_settings();
        if !options.durable {
            settings.push(("fsync".into(), "off".into()));
        }
        settings.extend(options.settings);
        this.configure(&settings)?;
        this.start().await?;
        Ok(this)
    }

    /// A standby that streams from this server through a slot; returns once it streams.
    pub async fn standby(&self, options: StandbyOptions) -> Result<Self> {
        let name = options.name.as_deref().unwrap_or("standby");
        let mut this = Self::new(name)?;
        self.sql(&format!("SELECT pg_create_physical_replication_slot('{name}', true)")).await?;
        let upstream = options.through.unwrap_or(self.port);
        let mut backup = pg("pg_basebackup")?;
        backup
            .arg("-D")
            .arg(this.data())
            .args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-S", name])
            .arg("-d")
            .arg(format!("host=127.0.0.1 port={upstream} user=postgres password={PASSWORD} application_name={name}"));
        run(backup, START).await?;
        this.configure(&options.settings)?;
        this.start().await?;
        if options.synchronous {
            self.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'")).await?;
            self.sql("SELECT pg_reload_conf()").await?;
        }
        let state = if options.synchronous { "sync" } else { "async" };
        self.wait_streaming(name, state).await?;
        Ok(this)
    }

    fn new(name: &str) -> Result<Self> {
        let dir = scratch_dir("postgres")?;
        own(dir.path())?;
        Ok(Self { name: name.to_owned(), port: port()?, server: None, dir })
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where the server's words go.
    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    fn configure(&self, settings: &[(String, String)]) -> Result<()> {
        let path = self.data().join("postgresql.conf");
        let mut text = std::fs::read_to_string(&path)?;
        for (name, value) in settings {
            text.push_str(&format!("{name} = '{value}'\n"));
        }
        // Last, because a standby's file is a copy of its primary's and the last line wins.
        text.push_str(&format!("port = {}\n", self.port));
        std::fs::write(&path, text)?;
        Ok(())
    }

    async fn start(&mut self) -> Result<()> {
        let mut postgres = pg("postgres")?;
        postgres.arg("-D").arg(self.data());
        let server = Proc::start(&format!("postgres {}", self.name), postgres, &self.log_path())?;
        let server = self.server.insert(server);
        let url = url(self.port, "postgres");
        server.ready(START, "PostgreSQL to accept connections", async || query(&url, "SELECT 1").await.map(drop)).await
    }

    /// Waits until the standby called `name` streams with that `sync_state`.
    pub async fn wait_streaming(&self, name: &str, sync_state: &str) -> Result<()> {
        let sql =
            format!("SELECT state || ' ' || sync_state FROM pg_stat_replication WHERE application_name = '{name}'");
        let wanted = format!("streaming {sync_state}");
        eventually(START, &format!("standby {name} to be {wanted:?}"), async || {
            let seen = self.value(&sql).await?;
            ensure!(seen == wanted, "it is {seen:?}");
            Ok(())
        })
        .await
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's connection string, password included.
    pub fn url(&self) -> String {
        url(self.port, "postgres")
    }

    /// The same through another port, e.g. a fault proxy's.
    pub fn url_through(&self, port: u16) -> String {
        url(port, "postgres")
    }

    /// Runs statements on a fresh connection and returns all rows as text.
    pub async fn sql(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        query(&self.url(), sql).await.with_context(|| format!("{}: {sql}", self.name))
    }

    /// The first column of the first row; an error when there is none.
    pub async fn value(&self, sql: &str) -> Result<String> {
        let rows = self.sql(sql).await?;
        rows.into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
            .flatten()
            .with_context(|| format!("{}: no value from {sql}", self.name))
    }

    /// Whether it is a standby now.
    pub async fn is_in_recovery(&self) -> Result<bool> {
        Ok(self.value("SELECT pg_is_in_recovery()").await? == "t")
    }

    /// Promotes a standby and waits until it accepts writes.
    pub async fn promote(&self) -> Result<()> {
        let done = self.value("SELECT pg_promote(true, 60)").await?;
        ensure!(done == "t", "pg_promote answered {done:?}");
        Ok(())
    }

    /// The identifier that two servers share only when one was copied from the other.
    pub async fn system_identifier(&self) -> Result<String> {
        self.value("SELECT system_identifier FROM pg_control_system()").await
    }

    /// The timeline of the WAL it has written last; it grows with every promotion.
    pub async fn timeline(&self) -> Result<u32> {
        let text = self.value("SELECT timeline_id FROM pg_control_checkpoint()").await?;
        text.parse().context("a timeline is a number")
    }

    fn proc(&mut self) -> Result<&mut Proc> {
        self.server.as_mut().context("the server is not running")
    }

    /// Power loss: SIGKILL for the server and all its processes.
    pub fn kill9(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill9();
        }
    }

    /// A hung machine: connections stay open, nothing answers.
    pub fn sigstop(&mut self) -> Result<()> {
        self.proc()?.signal_tree(Signal::STOP)
    }

    /// The hung machine comes back.
    pub fn sigcont(&mut self) -> Result<()> {
        self.proc()?.signal_tree(Signal::CONT)
    }

    /// An orderly ("fast") shutdown.
    pub async fn stop(&mut self) -> Result<()> {
        let mut server = self.server.take().context("the server is not running")?;
        server.signal(Signal::INT)?;
        server.wait_exit(START).await.map(drop)
    }

    /// Keeps a copy of its data as it is now, for [`Postgres::restore`]. It must be stopped.
    pub async fn keep(&self) -> Result<()> {
        ensure!(self.server.is_none(), "{} runs: its data cannot be copied", self.name);
        self.copy(&self.data(), &self.kept()).await
    }

    /// Brings back what was kept, on the same port, and starts it. What it holds now is lost.
    pub async fn restore(&mut self) -> Result<()> {
        self.kill9();
        std::fs::remove_dir_all(self.data())?;
        self.copy(&self.kept(), &self.data()).await?;
        self.start().await
    }

    fn kept(&self) -> PathBuf {
        self.dir.path().join("kept")
    }

    async fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let mut cp = command("cp");
        cp.args(["-a", "--reflink=auto"]).arg(from).arg(to);
        run(cp, START).await.map(drop)
    }

    /// Starts it again on the same port and data; kills it first where it still runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9();
        self.start().await
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        super::child::read_lossy(&self.log_path())
    }
}

fn base_settings() -> Vec<(String, String)> {
    [
        ("listen_addresses", "127.0.0.1"),
        // Tests speak TCP; a socket in a shared directory could collide.
        ("unix_socket_directories", ""),
        ("wal_level", "replica"),
        ("wal_log_hints", "on"),
        ("max_connections", "50"),
        ("shared_buffers", "16MB"),
        ("wal_receiver_status_interval", "1s"),
        ("wal_retrieve_retry_interval", "100ms"),
        // A crash of one process must look like a crash, not be repaired behind the test's back.
        ("restart_after_crash", "off"),
        ("jit", "off"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

fn url(port: u16, user: &str) -> String {
    format!("postgres://{user}:{PASSWORD}@127.0.0.1:{port}/postgres?connect_timeout=5")
}

/// Runs statements at `url` on a connection of its own and returns all rows as text.
pub async fn query(url: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::spawn(connection);
    let answer = tokio::time::timeout(Duration::from_secs(60), client.simple_query(sql)).await;
    drop(client);
    driver.abort();
    let mut rows = Vec::new();
    for message in answer.context("the statement took more than 60 s")?? {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|i| row.get(i).map(Into::into)).collect());
        }
    }
    Ok(rows)
}

/// A PostgreSQL program, run as `postgres` where we are root.
fn pg(program: &str) -> Result<Command> {
    let mut command = command(bin_dir().join(program));
    // Its own data is enough; the directory of the caller may be closed to this user.
    command.current_dir("/");
    if let Some((uid, gid)) = drop_root("postgres")? {
        use std::os::unix::process::CommandExt;
        command.uid(uid).gid(gid);
    }
    Ok(command)
}

/// Where PostgreSQL's programs are.
pub fn bin_dir() -> PathBuf {
    PathBuf::from("/usr/lib/postgresql/15/bin")
}

/// Gives a file to the user that PostgreSQL runs as.
pub fn own(path: &Path) -> Result<()> {
    if let Some((uid, gid)) = drop_root("postgres")? {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
    }
    Ok(())
}
