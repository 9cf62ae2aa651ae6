//! A child process that cannot outlive us, and whose words are shown when it fails.
#![allow(unsafe_code)] // `pre_exec` is unsafe; see the comment where it is called.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use super::eventually;

/// A command whose environment holds nothing that could lead a child to a real account, proxy or
/// cluster.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let upper = text.to_ascii_uppercase();
        let ours = ["AWS_", "BOTO", "FAILOVERD", "PG", "KUBE", "NOTIFY_SOCKET"];
        if upper.ends_with("_PROXY") || ours.iter().any(|p| upper.starts_with(p)) {
            command.env_remove(&name);
        }
    }
    command
}

/// A running child in its own process group. Dropping it kills it and everything below it.
pub struct Proc {
    name: String,
    child: Child,
    log: PathBuf,
    exit: Option<ExitStatus>,
}

impl Proc {
    /// Starts `command` with stdout and stderr appended to `log`.
    pub fn start(name: &str, command: Command, log: &Path) -> Result<Self> {
        Self::start_split(name, command, log, log)
    }

    /// Starts `command` with stdout and stderr in files of their own.
    pub fn start_split(name: &str, mut command: Command, out: &Path, err: &Path) -> Result<Self> {
        let file = |path: &Path| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("opening {}", path.display()))
        };
        command
            .stdin(Stdio::null())
            .stdout(file(out)?)
            .stderr(file(err)?)
            // Ctrl-C in the terminal is for us; we end our children in our own order.
            .process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = spawn(command)
            .with_context(|| format!("starting {name} ({program}); tests/fleet/install.sh installs it"))?;
        Ok(Self { name: name.to_owned(), child, log: err.to_owned(), exit: None })
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Its exit status, once it has one.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().ok().flatten();
        }
        self.exit
    }

    /// True while it runs (a stopped process runs too).
    pub fn is_running(&mut self) -> bool {
        self.exited().is_none()
    }

    /// Sends a signal to the process itself.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.exited() {
            bail!("{} has already ended: {status}", self.name);
        }
        let pid = Pid::from_raw(self.pid()).context("a pid is not zero")?;
        rustix::process::kill_process(pid, signal).context("sending a signal")
    }

    /// Sends a signal to it and all its descendants, parents first, so that none can fork another
    /// unseen.
    pub fn signal_tree(&mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        for pid in descendants(self.pid()) {
            let _ = rustix::process::kill_process(pid, signal);
        }
        Ok(())
    }

    /// SIGKILL for it and all below it, as when the machine loses power; returns when they are
    /// gone.
    pub fn kill9(&mut self) {
        if self.exited().is_some() {
            return;
        }
        // Frozen first: what it forks between the look and the kill would outlive it.
        let _ = self.signal(Signal::STOP);
        let below = descendants(self.pid());
        let _ = self.child.kill();
        if let Some(group) = Pid::from_raw(self.pid()) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        for pid in &below {
            let _ = rustix::process::kill_process(*pid, Signal::KILL);
        }
        self.exit = self.child.wait().ok();
        // A server that is started again must find nobody on its memory and its ports.
        let began = Instant::now();
        while below.iter().any(|pid| is_alive(*pid)) && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until it has ended by itself or by a signal sent before.
    pub async fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        let log = self.log.clone();
        eventually(timeout, &what, async || self.exited().context("it still runs")).await.with_context(|| tail(&log))
    }

    /// Polls `check` until it succeeds; gives up at once when the child ends before that. Either
    /// way the error shows the end of the child's log.
    pub async fn ready<T>(
        &mut self,
        timeout: Duration,
        what: &str,
        mut check: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        let log = self.log.clone();
        let name = self.name.clone();
        let outcome = eventually(timeout, what, async || {
            if let Some(status) = self.exited() {
                return Ok(Err(status));
            }
            check().await.map(Ok)
        })
        .await
        .with_context(|| tail(&log))?;
        match outcome {
            Ok(value) => Ok(value),
            Err(status) => bail!("{name} ended ({status}) while we waited for {what}\n{}", tail(&log)),
        }
    }

    /// Everything it has written to its log so far.
    pub fn log(&self) -> String {
        read_lossy(&self.log)
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Runs a short command to its end and returns its stdout; the error carries its stderr.
pub async fn run(command: Command, timeout: Duration) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let dir = super::scratch_dir("run")?;
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let mut child = Proc::start_split(&name, command, &out, &err)?;
    let status = child.wait_exit(timeout).await?;
    if !status.success() {
        bail!("{name}: {status}\n{}{}", read_lossy(&out), read_lossy(&err));
    }
    Ok(read_lossy(&out))
}

pub(super) fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn tail(log: &Path) -> String {
    let text = read_lossy(log);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(60);
    format!("last lines of {}:\n{}", log.display(), lines[from..].join("\n"))
}

type Request = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Spawns on one thread that lives as long as the process: the kernel sends the parent-death
/// signal when the *thread* that forked ends, and a runtime's threads come and go.
fn spawn(mut command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let parent = Pid::from_raw(std::process::id() as i32);
    // SAFETY: the closure makes two system calls and touches no memory that other threads may
    // have locked; both are safe between fork and exec. It runs after std has changed the user
    // id, which would have cleared the setting.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() != parent {
                return Err(std::io::Error::other("our parent died before we began"));
            }
            Ok(())
        });
    }
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        std::thread::Builder::new()
            .name("fleet-spawner".into())
            .spawn(move || {
                for (mut command, answer) in requests {
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        sender
    });
    let (answer, result) = mpsc::channel();
    let gone = |_| std::io::Error::other("the spawner thread is gone");
    spawner.send((command, answer)).map_err(|_| gone(mpsc::RecvError))?;
    result.recv().map_err(gone)?
}

/// Does it still run? Who has ended and waits to be reaped does not.
fn is_alive(pid: Pid) -> bool {
    let stat = read_lossy(Path::new(&format!("/proc/{}/stat", pid.as_raw_nonzero())));
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// All processes below `root`, parents before children.
fn descendants(root: i32) -> Vec<Pid> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        let stat = read_lossy(&entry.path().join("stat"));
        // The name in parentheses may hold anything; the fields count from its end.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<i32>().ok());
        if let Some(parent) = parent {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found[1..].iter().filter_map(|pid| Pid::from_raw(*pid)).collect()
}

/// The ids of a system user, where we may become one: some servers refuse to run as root.
pub fn drop_root(user: &str) -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    let line = passwd
        .lines()
        .find(|l| l.split(':').next() == Some(user))
        .with_context(|| format!("there is no user {user:?}: run tests/fleet/install.sh"))?;
    let field = |i| line.split(':').nth(i).and_then(|f: &str| f.parse::<u32>().ok());
    Ok(field(2).zip(field(3)))
}
