//! PostgreSQL's own programs (`pg_rewind`, `pg_restore`, `pg_ctl`): started without a shell, bounded in
//! time and output, and ended with all that they started.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::Redactor;
use super::failure::{Failure, one_line};
use super::postgres_address::{Address, Place};
use crate::config::SecretText;

/// How much of what a program says is kept: its end, where the error is.
const TAIL_BYTES: usize = 8 << 10;

/// How long output is still read after the program has ended: one that it started may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A program, its arguments, and as whom it runs.
pub struct Program {
    /// The whole path.
    pub path: PathBuf,
    /// Its arguments; nothing secret, since every user of the machine can see them.
    pub arguments: Vec<OsString>,
    /// Its environment, besides a plain one.
    pub environment: Vec<(&'static str, String)>,
    /// The user and group that it runs as; `None`: ours.
    pub owner: Option<(u32, u32)>,
}

/// A program that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Did it say that all went well?
    pub well: bool,
    /// The end of what it said, in one line without secrets.
    pub said: String,
    /// The end of its output as it is: not for people.
    pub output: String,
    /// Its exit code or signal, in words.
    pub how: String,
}

/// Where a program connects.
pub struct Target {
    /// The address without a password: it may stand among the arguments.
    pub url: String,
    /// The password, for `PGPASSWORD`.
    pub password: Option<String>,
    /// The server.
    pub place: Place,
    redactor: Redactor,
}

impl Target {
    /// Reads an address of the form `postgresql://…`.
    ///
    /// # Errors
    /// [`Failure`], never `Unknown`. The address is not in it.
    pub fn read(text: &SecretText) -> Result<Self, Failure> {
        let refused = |reason: &str| Failure::refused(format!("postgres: the address {reason}"));
        let text = text.read().map_err(|error| Failure::refused(error.to_string()))?;
        let place = Address::parse(&text, None).map_err(refused)?.place;
        let mut url = url::Url::parse(text.trim())
            .ok()
            .filter(|url| matches!(url.scheme(), "postgresql" | "postgres"))
            .ok_or_else(|| refused("is not of the form postgresql://…, which this action needs"))?;
        let mut redactor = Redactor::default();
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let mut password = url.password().map(decoded);
        let mut left = Vec::new();
        for pair in url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("password", value) => password = Some(decoded(value)),
                ("sslpassword", _) => return Err(refused("holds `sslpassword`; keep the key without one")),
                // Ours, by which its sessions are found again.
                ("application_name", _) => {}
                _ => left.push(pair.to_owned()),
            }
        }
        if url.password().is_some() && url.set_password(None).is_err() {
            return Err(refused("has a password and no host"));
        }
        url.set_query((!left.is_empty()).then(|| left.join("&")).as_deref());
        redactor.hide(&text);
        if let Some(password) = &password {
            redactor.hide(password);
        }
        Ok(Self { url: url.into(), password, place, redactor })
    }

    /// What a program needs to log in.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let password = self.password.iter().map(|password| ("PGPASSWORD", password.clone()));
        password.chain([("PGCONNECT_TIMEOUT", "10".to_owned())]).collect()
    }

    /// Is it this host and port?
    pub fn is_at(&self, at_host: &str, at_port: &str) -> bool {
        match &self.place {
            Place::Tcp { host, address, port } => {
                (at_host == host || at_host == address) && at_port == port.to_string()
            }
            Place::Unix(path) => path.parent().is_some_and(|folder| folder.as_os_str() == at_host),
        }
    }

    /// A text without our password.
    pub fn clean(&self, text: &str) -> String {
        self.redactor.clean(text)
    }
}

/// Ends the whole group of a program that was not waited for.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _gone_already = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Program {
    /// Runs it to its end, or until `until`; then it is killed with all that it started.
    ///
    /// # Errors
    /// `Refused` where it could not be started; `Unknown` where its time ran out.
    pub async fn run(self, until: Instant, target: Option<&Target>) -> Result<Ended, Failure> {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned();
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .envs(self.environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let ours = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if let Some((user, group)) = self.owner.filter(|owner| *owner != ours) {
            // Further groups are dropped with it.
            command.uid(user).gid(group);
        }
        let mut child = command
            .spawn()
            .map_err(|error| Failure::refused(format!("cannot start {}: {error}", self.path.display())))?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let words = (tail(child.stdout.take()), tail(child.stderr.take()));
        let (out, err) = (tokio::spawn(words.0), tokio::spawn(words.1));
        let status = match tokio::time::timeout_at(until.into(), child.wait()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(Failure::unknown(format!("{name}: {error}"))),
            Err(_) => return Err(Failure::unknown(format!("{name} did not end in time, and was killed"))),
        };
        group.0 = None;
        let (out, err) = (last(out).await, last(err).await);
        // Errors come last, and the end of a text is what is kept of it.
        let said = ended_with(&format!("{out} {err}"));
        let said = target.map_or(said.clone(), |target| target.clean(&said));
        Ok(Ended { well: status.success(), said, output: out, how: how(&name, status) })
    }
}

/// The last lines, as one.
fn ended_with(text: &str) -> String {
    const CHARS: usize = 280;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut = line.chars().count().saturating_sub(CHARS);
    let end: String = line.chars().skip(cut).collect();
    one_line(&if cut > 0 { format!("…{end}") } else { end })
}

fn how(name: &str, status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("{name} ended with {code}"),
        (None, Some(signal)) => format!("{name} was ended by signal {signal}"),
        (None, None) => format!("{name} ended"),
    }
}

/// Reads all, so that nobody waits for a full pipe, and keeps the end.
async fn tail(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut part).await {
        kept.extend_from_slice(&part[..length]);
        if kept.len() > 2 * TAIL_BYTES {
            kept.drain(..kept.len() - TAIL_BYTES);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

async fn last(mut words: tokio::task::JoinHandle<String>) -> String {
    match tokio::time::timeout(LAST_WORDS, &mut words).await {
        Ok(words) => words.unwrap_or_default(),
        Err(_) => {
            words.abort();
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        let arguments = vec!["-c".into(), script.into()];
        Program { path: "/bin/sh".into(), arguments, environment: Vec::new(), owner: None }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_password_does_not_stand_among_the_arguments() {
        for text in ["postgresql://u:can%40ry@h:1/d?connect_timeout=5", "postgres://u@h:1/d?password=can%40ry"] {
            let target = Target::read(&SecretText::Plain(text.into())).expect("an address");
            assert_eq!(target.password.as_deref(), Some("can@ry"));
            assert!(!target.url.contains("ry"), "{}", target.url);
            assert!(target.is_at("h", "1") && !target.is_at("h", "2"));
            assert_eq!(target.clean("it was can@ry"), "it was [redacted]");
        }
        for text in ["host=h password=canary", "postgresql://a,b/canary", "postgresql://h/d?sslpassword=canary"] {
            let failure = Target::read(&SecretText::Plain(text.into())).err().expect("refused");
            assert!(!failure.reason.contains("canary"), "{failure}");
        }
    }

    #[tokio::test]
    async fn the_end_of_what_a_program_says_is_kept_and_how_it_ended() {
        let ended = shell("yes filler | head -c 300000; echo last words >&2; exit 3").run(soon(), None).await;
        let ended = ended.expect("it ran");
        assert!(!ended.well && ended.said.ends_with("last words") && ended.said.len() < 320, "{ended:?}");
        assert_eq!(ended.how, "sh ended with 3");
        let nowhere = Program { path: "/no/such".into(), ..shell("") }.run(soon(), None).await.expect_err("nothing");
        assert!(nowhere.reason.contains("cannot start /no/such"), "{nowhere}");
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let run = shell(&script).run(Instant::now() + Duration::from_millis(1500), None);
        let failure = run.await.expect_err("it hangs");
        assert_eq!(failure.kind, crate::clients::FailureKind::Unknown);
        let pid: i32 = std::fs::read_to_string(&file).expect("it began").trim().parse().expect("a number");
        let until = soon();
        while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < until, "what it started lives on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn output_that_is_held_open_does_not_hold_us() {
        let began = Instant::now();
        let ended = shell("sleep 8 & exit 0").run(soon(), None).await.expect("it ran");
        assert!(ended.well && began.elapsed() < Duration::from_secs(6));
    }
}
