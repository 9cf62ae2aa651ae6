//! failoverd itself as a process, and the socket on which it speaks to its service manager.

use std::ffi::OsStr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tempfile::TempDir;

use super::child::{Proc, command, read_lossy};
use super::{eventually, scratch_dir};

/// How to start failoverd; `start` runs it.
pub struct Failoverd {
    command: Command,
}

impl Failoverd {
    /// The binary: `env!("CARGO_BIN_EXE_failoverd")` in tests. Its environment holds no
    /// credentials, proxies or settings of the person who runs the test.
    pub fn new(binary: impl AsRef<OsStr>) -> Self {
        Self { command: command(binary) }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets variables, e.g. [`super::moto::Moto::env`].
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        self.command.envs(vars);
        self
    }

    /// Sets the working directory.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Starts it and returns at once.
    pub fn start(self) -> Result<Running> {
        let dir = scratch_dir("failoverd")?;
        let (out, err) = (dir.path().join("stdout"), dir.path().join("stderr"));
        let proc = Proc::start_split("failoverd", self.command, &out, &err)?;
        Ok(Running { proc, out, err, _dir: dir })
    }

    /// Runs it to its end.
    pub async fn run(self, timeout: Duration) -> Result<Finished> {
        let mut running = self.start()?;
        let status = running.wait_exit(timeout).await?;
        Ok(Finished { status, stdout: running.stdout(), stderr: running.stderr() })
    }
}

/// What a finished run left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A failoverd that runs.
pub struct Running {
    proc: Proc,
    out: PathBuf,
    err: PathBuf,
    _dir: TempDir,
}

impl Running {
    /// The process id.
    pub fn pid(&self) -> i32 {
        self.proc.pid()
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.proc.is_running()
    }

    /// Sends a signal: HUP, USR1, USR2, TERM, STOP, ...
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.proc.signal(signal)
    }

    /// SIGKILL; returns when it is gone.
    pub fn kill9(&mut self) {
        self.proc.kill9();
    }

    /// Waits until it has ended.
    pub async fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.proc.wait_exit(timeout).await
    }

    /// SIGTERM, then waits until it has ended.
    pub async fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait_exit(timeout).await
    }

    /// Polls `check` until it succeeds; fails at once, with its stderr, when it ends first.
    pub async fn ready<T>(
        &mut self,
        timeout: Duration,
        what: &str,
        check: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        self.proc.ready(timeout, what, check).await
    }

    /// Waits until its stderr (the log) holds `needle`.
    pub async fn wait_log(&mut self, timeout: Duration, needle: &str) -> Result<()> {
        let err = self.err.clone();
        self.ready(timeout, &format!("{needle:?} in the log"), async || {
            anyhow::ensure!(read_lossy(&err).contains(needle), "it is not there");
            Ok(())
        })
        .await
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.out)
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.err)
    }

    /// Its resident memory in bytes.
    pub fn rss(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS: it has ended")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.proc.kill9();
        for (what, path) in [("standard output", &self.out), ("standard error", &self.err)] {
            super::canary::look(what, &std::fs::read(path).unwrap_or_default());
        }
    }
}

/// The receiving end of `sd_notify` (a Unix datagram socket), as systemd has it.
pub struct NotifySocket {
    path: PathBuf,
    socket: tokio::net::UnixDatagram,
    received: Vec<String>,
    _dir: TempDir,
}

impl NotifySocket {
    /// Opens it; call within a tokio runtime.
    pub fn open() -> Result<Self> {
        let dir = scratch_dir("notify")?;
        let path = dir.path().join("notify.sock");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: tokio::net::UnixDatagram::from_std(socket)?, path, received: Vec::new(), _dir: dir })
    }

    /// What the child needs in its environment.
    pub fn env(&self) -> [(&'static str, PathBuf); 1] {
        [("NOTIFY_SOCKET", self.path.clone())]
    }

    /// Every assignment received so far, e.g. `READY=1`, in order.
    pub fn received(&mut self) -> &[String] {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.try_recv(&mut buffer) {
            self.keep(&buffer[..length]);
        }
        &self.received
    }

    fn keep(&mut self, datagram: &[u8]) {
        let text = String::from_utf8_lossy(datagram);
        self.received.extend(text.lines().map(str::to_owned));
    }

    /// Waits until an assignment that starts with `prefix` has come, and returns it.
    pub async fn wait_for(&mut self, timeout: Duration, prefix: &str) -> Result<String> {
        eventually(timeout, &format!("the notification {prefix}"), async || {
            let seen = self.received();
            let found = seen.iter().find(|line| line.starts_with(prefix)).cloned();
            found.with_context(|| format!("received so far: {seen:?}"))
        })
        .await
    }
}
