//! One execution of a program, for actions and probes alike: bounded in time and output, and ended
//! with all that it started.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::FusedFuture;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::Failure;

/// Where programs look for others, where nothing else is said.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a program that changes something may take to end after SIGTERM; SIGKILL follows.
pub const GRACE: Duration = Duration::from_secs(2);

/// How long what a program has written is waited for after its end: a daemon that it has started
/// may hold the pipe open for ever.
const LINGER: Duration = Duration::from_millis(200);

/// The variable by which everything that one execution started is found again.
pub const MARK: &str = "FAILOVERD_EXEC";

/// What is run. `Debug` is not there: the environment holds secrets.
pub struct Program {
    /// The absolute path, then the arguments.
    pub argv: Vec<String>,
    /// All of its environment, but for [`MARK`].
    pub env: BTreeMap<String, String>,
    /// Where it is run.
    pub directory: PathBuf,
    /// User and group.
    pub ids: Option<(u32, u32)>,
    /// What it is given to read.
    pub stdin: Option<String>,
    /// So many bytes of each stream are kept.
    pub output_limit: usize,
    /// Which ones, where there are more.
    pub keep: Keep,
    /// How long it may take to end after SIGTERM, at most a quarter of its time; zero: it is killed
    /// at once.
    pub grace: Duration,
    /// The same for all executions of one step; see [`marked`].
    pub mark: String,
}

/// Which part of a long output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// What it said first.
    Beginning,
    /// What it said last.
    End,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    Code(i32),
    /// By a signal that was not ours.
    Signal(i32),
    /// By us, when its time was over.
    Killed,
}

/// What came of it.
pub struct Ended {
    /// How it ended.
    pub ending: Ending,
    /// What it wrote to its standard output.
    pub out: Kept,
    /// What it wrote to its standard error.
    pub err: Kept,
}

/// What is kept of what a program wrote.
#[derive(Clone, Default)]
pub struct Kept {
    bytes: Vec<u8>,
    /// So many bytes are not there.
    pub dropped: u64,
}

impl Kept {
    fn add(&mut self, bytes: &[u8], limit: usize, keep: Keep) {
        if keep == Keep::Beginning {
            let room = limit.saturating_sub(self.bytes.len()).min(bytes.len());
            self.bytes.extend_from_slice(&bytes[..room]);
            self.dropped += (bytes.len() - room) as u64;
            return;
        }
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > limit {
            let over = self.bytes.len() - limit;
            self.bytes.drain(..over);
            self.dropped += over as u64;
        }
    }

    /// As text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Runs a program until `until`, and leaves nothing of it running unless it ended with one of the
/// codes `success`. Where the future is dropped, everything is killed at once.
///
/// # Errors
/// [`Failure`] where it could not be started: nothing was run.
pub async fn run(program: &Program, success: &[u8], until: Instant) -> Result<Ended, Failure> {
    let now = Instant::now();
    if now >= until {
        return Err(Failure::again("not started: no time is left"));
    }
    let quarter = (until - now) / 4;
    let grace = program.grace.min(quarter);
    let (mut child, mut family) = start(program)?;
    let (out, err) = (Arc::default(), Arc::default());
    let limit = (program.output_limit, program.keep);
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talk = async {
        let write = async {
            if let (Some(mut pipe), Some(text)) = (pipes.0, &program.stdin) {
                // A program that does not read it all has its reasons.
                let _not_read = pipe.write_all(text.as_bytes()).await;
            }
        };
        tokio::join!(write, drain(pipes.1, limit, &out), drain(pipes.2, limit, &err));
    }
    .fuse();
    tokio::pin!(talk);
    let ended = tokio::select! {
        ended = ended(&mut child, &mut talk) => Some(ended),
        () = tokio::time::sleep_until((until - grace).into()) => None,
    };
    let ending = if let Some(status) = ended {
        family.leader = None;
        let status = status.map_err(|error| Failure::unknown(format!("it is not known how it ended: {error}")))?;
        // Only what it wrote until its end: whoever holds the pipes now is another.
        if !talk.is_terminated() {
            let _held_open = tokio::time::timeout(LINGER.min(quarter), &mut talk).await;
        }
        let ending = ending(status);
        family.spare = matches!(ending, Ending::Code(code) if success.iter().any(|good| i32::from(*good) == code));
        ending
    } else {
        if !grace.is_zero() {
            family.signal(Signal::TERM);
        }
        let gone = tokio::time::timeout_at(until.into(), ended_after_term(&mut child, &mut talk)).await;
        family.signal(Signal::KILL);
        if gone.is_err() {
            // It cannot refuse SIGKILL, but it may be stuck in the kernel; then it is reaped later.
            let _reaped = tokio::time::timeout(LINGER, child.wait()).await;
        }
        family.leader = None;
        Ending::Killed
    };
    drop(family);
    Ok(Ended { ending, out: taken(&out), err: taken(&err) })
}

/// Waits for the program's end, and meanwhile keeps its pipes going.
async fn ended(
    child: &mut Child,
    talk: &mut (impl Future<Output = ()> + Unpin),
) -> std::io::Result<std::process::ExitStatus> {
    tokio::select! {
        status = child.wait() => return status,
        () = talk => {}
    }
    child.wait().await
}

async fn ended_after_term(child: &mut Child, talk: &mut (impl Future<Output = ()> + Unpin)) {
    tokio::select! {
        _ = child.wait() => {}
        () = talk => { let _ = child.wait().await; }
    }
}

fn ending(status: std::process::ExitStatus) -> Ending {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Code(code),
        (None, signal) => Ending::Signal(signal.unwrap_or_default()),
    }
}

type Shared = Arc<Mutex<Kept>>;

async fn drain(pipe: Option<impl AsyncRead + Unpin>, (limit, keep): (usize, Keep), into: &Shared) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length) = pipe.read(&mut buffer).await {
        if length == 0 {
            return;
        }
        into.lock().unwrap_or_else(PoisonError::into_inner).add(&buffer[..length], limit, keep);
    }
}

fn taken(shared: &Shared) -> Kept {
    shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn start(program: &Program) -> Result<(Child, Family), Failure> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Some((path, arguments)) = program.argv.split_first() else {
        return Err(Failure::refused("no program is named"));
    };
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mark = format!("{}/{}-{count}", program.mark, std::process::id());
    let mut command = Command::new(path);
    command
        .args(arguments)
        .env_clear()
        .envs(&program.env)
        .env(MARK, &mark)
        .current_dir(&program.directory)
        .stdin(if program.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some((user, group)) = program.ids {
        // With the user goes also every other group of ours.
        command.gid(group).uid(user);
    }
    let child = command.spawn().map_err(|error| not_started(program, path, &error))?;
    let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    Ok((child, Family { leader, mark, spare: false }))
}

fn not_started(program: &Program, path: &str, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let text = match error.kind() {
        ErrorKind::NotFound if !program.directory.is_dir() => {
            format!("{path} was not started: there is no directory {}", program.directory.display())
        }
        ErrorKind::NotFound => {
            format!("{path} was not started: it, or the interpreter that its first line names, is not there")
        }
        ErrorKind::PermissionDenied => format!(
            "{path} was not started: not permitted; is it executable, and may its user and directory be entered by failoverd?"
        ),
        ErrorKind::ExecutableFileBusy | ErrorKind::WouldBlock | ErrorKind::OutOfMemory => {
            return Failure::again(format!("{path} was not started: {error}"));
        }
        _ => format!("{path} was not started: {error}"),
    };
    Failure::refused(text)
}

/// All that one execution has started. Ends them when dropped, unless they are to be spared.
struct Family {
    /// The process group, as long as its number cannot have been given to another.
    leader: Option<Pid>,
    mark: String,
    spare: bool,
}

impl Family {
    /// To the group, and to what has left it. Was there anything?
    fn signal(&self, signal: Signal) -> bool {
        if let Some(leader) = self.leader {
            let _gone = rustix::process::kill_process_group(leader, signal);
        }
        let left = marked(&self.mark);
        for pid in &left {
            let _gone = rustix::process::kill_process(*pid, signal);
        }
        self.leader.is_some() || !left.is_empty()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        // Twice: what was forked meanwhile.
        if !self.spare && self.signal(Signal::KILL) {
            self.signal(Signal::KILL);
        }
    }
}

/// The processes whose mark begins so: what one step, or one execution of it, has started and
/// still runs. Only those that we may look into; those are all that run as our user, or as any
/// where we are root.
pub fn marked(mark: &str) -> Vec<Pid> {
    let wanted = format!("{MARK}={mark}");
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_ours = |number: &i32| {
        let environment = std::fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| {
            entry.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    };
    numbers.filter(is_ours).filter_map(Pid::from_raw).collect()
}

/// User and primary group by name or number, from the text of `/etc/passwd`. Read directly and not
/// through the C library: a directory service that hangs must not hang a failover.
pub fn ids(passwd: &str, user: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid: u32 = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (name == user || user.parse() == Ok(uid)).then_some((uid, gid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_output_is_kept() {
        let mut kept = Kept::default();
        kept.add(b"abc", 4, Keep::End);
        kept.add(b"def", 4, Keep::End);
        assert_eq!((kept.text().as_str(), kept.dropped), ("cdef", 2));
    }

    #[test]
    fn or_its_beginning() {
        let mut kept = Kept::default();
        for bytes in [b"abc", b"def", b"ghi"] {
            kept.add(bytes, 4, Keep::Beginning);
        }
        assert_eq!((kept.text().as_str(), kept.dropped), ("abcd", 5));
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let passwd = "root:x:0:0:r:/root:/bin/sh\nbroken\napp:x:1001:1002::/:/bin/false\n";
        assert_eq!(ids(passwd, "app"), Some((1001, 1002)));
        assert_eq!(ids(passwd, "1001"), Some((1001, 1002)));
        assert_eq!(ids(passwd, "broken"), None);
        assert_eq!(ids(passwd, "7"), None);
    }
}
