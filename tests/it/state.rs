//! The embedded state in processes that are killed, on disks that fill up, that fail, and that
//! may not be written. The child is this very test binary, run with [`child`] alone.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use failoverd::model::{Entry, Epoch, Record, StepName, WallTime};
use failoverd::ports::{Authority, Journal, JournalError};
use failoverd::state::{SqliteState, audit, read_records};

/// The state that the child appends to.
const STATE: &str = "FAILOVERD_TEST_STATE";
/// How many bytes the child writes with each record.
const SIZE: &str = "FAILOVERD_TEST_SIZE";
/// A file by which the parent makes the child's fsync fail, as long as it is there.
const BROKEN: &str = "FAILOVERD_TEST_BROKEN";

/// Appends until it may not, and says what came of it. Does nothing when it is run by hand.
#[test]
#[ignore = "the child of the other tests"]
fn child() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let size = std::env::var(SIZE).ok().and_then(|text| text.parse().ok()).unwrap_or(10usize);
    let state = match SqliteState::open(Path::new(&state)) {
        Ok(state) => state,
        Err(error) => return println!("\nrefused {error}"),
    };
    let (mut journal, _outbox, authority) = state.split();
    let mut next = journal.replay().unwrap().len() as u64 + 1;
    println!("\nowned {next}");
    loop {
        match journal.append(&[record(next, size)]) {
            Ok(()) => println!("durable {next}"),
            Err(error) => {
                println!("failed {error}");
                break;
            }
        }
        next += 1;
    }
    if let Some(broken) = std::env::var_os(BROKEN) {
        std::fs::remove_file(broken).unwrap();
    }
    println!("again {}", journal.append(&[record(next, 1)]).unwrap_err());
    println!("permit {}", authority.permit(Epoch(1)).unwrap_err());
}

/// Every second record is an intent, the others are its outcome.
fn record(seq: u64, size: usize) -> Record {
    let by = "x".repeat(size);
    let (run, step) = ("RUN-20260101-001".into(), StepName::from("promote"));
    let entry = if seq % 2 == 1 {
        Entry::StepIntent { run, step, attempt: 1, epoch: Epoch(1), promotes: None, before: by.into() }
    } else {
        Entry::StepUnparked { run, step, by }
    };
    Record { seq, at: WallTime(i64::try_from(seq).unwrap()), entry }
}

struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The rest of the next line that begins with `word`; `None` at the end.
    fn said(&mut self, word: &str) -> Option<String> {
        self.lines.by_ref().map_while(Result::ok).find_map(|line| Some(line.strip_prefix(word)?.trim().to_owned()))
    }

    /// Every `durable` line until the end.
    fn last_durable(&mut self) -> u64 {
        let mut last = 0;
        while let Some(seq) = self.said("durable") {
            last = seq.parse().unwrap();
        }
        last
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn myself() -> PathBuf {
    std::env::current_exe().unwrap()
}

const ARGUMENTS: [&str; 4] = ["state::child", "--exact", "--ignored", "--nocapture"];

fn command(state: &Path) -> Command {
    let mut command = Command::new(myself());
    command.args(ARGUMENTS).env(STATE, state);
    command
}

/// The child in a mount namespace of its own, after `setup` was run there by the shell.
fn in_namespace(state: &Path, setup: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &format!("set -e; {setup}; exec \"$0\" \"$@\"")]);
    command.arg(myself()).args(ARGUMENTS).env(STATE, state);
    command
}

/// Tests that mount need root.
fn must_mount() {
    let may = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    assert!(may, "`unshare -m` is not permitted here: run the tests as root");
}

#[test]
fn whatever_was_reported_outlives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state.db");
    let mut durable = 0;
    for round in 0..8u64 {
        let mut running = Running::start(&mut command(&state));
        let next: u64 = running.said("owned").expect("the state is free again after a kill").parse().unwrap();
        assert!(next > durable, "record {durable} was reported durable, and {next} comes next");
        let error = SqliteState::open(&state).err().unwrap();
        assert!(matches!(error, JournalError::Held { .. }), "{error}");
        assert!(error.to_string().contains(&format!("pid {} on host", running.child.id())), "{error}");
        // Long enough to write some, never at the same place.
        std::thread::sleep(Duration::from_millis(5 + 17 * round));
        running.child.kill().unwrap();
        durable = running.last_durable().max(durable);
        let id = running.child.id();
        running.child.wait().unwrap();

        // Read-only, with a log that was not brought home.
        let records = read_records(&state).unwrap();
        assert!(records.len() as u64 >= durable, "{} < {durable}", records.len());
        assert!(records.iter().all(|read| *read == record(read.seq, 10)));
        let reopened = SqliteState::open(&state).unwrap();
        assert!(reopened.left_behind().unwrap().contains(&format!("pid {id} ")), "{:?}", reopened.left_behind());
        drop(reopened);
        assert_eq!(audit(&state).unwrap().records, records.len() as u64);
    }
    assert!(durable > 8, "only {durable} records were written in all");
}

#[cfg(feature = "crash-points")]
#[test]
fn a_crash_point_kills_where_it_says() {
    for (at, left) in [
        ("append:1:before", 0),
        ("append:1:after", 1),
        ("append:4:before", 3),
        ("append:4:after", 4),
        ("before:step_intent", 0),
        ("before:step_intent:2", 2),
        ("after:step_intent:2", 3),
        ("before:step_unparked:3", 5),
        ("after:step_unparked:3", 6),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state.db");
        let mut running = Running::start(command(&state).env(failoverd::state::crash::VARIABLE, at));
        running.last_durable();
        let status = running.child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{at}: {status}");
        assert_eq!(read_records(&state).unwrap().len(), left, "{at}");
    }
}

/// A C library whose fsync fails as long as a file is there.
const SHIM: &str = r#"
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static int broken(void) {
    const char *path = getenv("FAILOVERD_TEST_BROKEN");
    return path && access(path, F_OK) == 0;
}
int fsync(int fd) { if (broken()) { errno = EIO; return -1; } return (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { if (broken()) { errno = EIO; return -1; } return (int)syscall(SYS_fdatasync, fd); }
"#;

#[test]
fn a_failed_fsync_is_reported_once_and_never_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let (source, library) = (directory.path().join("shim.c"), directory.path().join("shim.so"));
    std::fs::write(&source, SHIM).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    if !built.is_ok_and(|status| status.success()) {
        panic!("a C compiler `cc` is needed to build the failing fsync with (package `build-essential`)");
    }
    let (state, broken) = (directory.path().join("state.db"), directory.path().join("broken"));
    let mut running = Running::start(command(&state).env("LD_PRELOAD", &library).env(BROKEN, &broken));
    running.said("owned").unwrap();
    running.said("durable 3").unwrap();
    std::fs::write(&broken, "").unwrap();
    // From here on the child itself has made fsync work again, and must not use it.
    let failed = running.said("failed").unwrap();
    assert!(failed.contains("cannot write") && failed.contains("the disk or the file system failed"), "{failed}");
    let again = running.said("again").unwrap();
    assert!(again.contains("nothing is written any more since"), "{again}");
    let permit = running.said("permit").unwrap();
    assert!(permit.contains("in doubt"), "{permit}");
    drop(running);
    // A new process verifies what is there, and goes on.
    let records = read_records(&state).unwrap();
    let (mut journal, ..) = SqliteState::open(&state).unwrap().split();
    journal.append(&[record(records.len() as u64 + 1, 10)]).unwrap();
}

#[test]
fn a_full_disk_stops_the_writer_and_loses_nothing() {
    must_mount();
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("disk/state.db");
    let kept = directory.path().join("kept");
    std::fs::create_dir(directory.path().join("disk")).unwrap();
    std::fs::create_dir(&kept).unwrap();
    // The disk goes with the namespace: what is on it is copied out by the shell at the end.
    let script = format!(
        "mount -t tmpfs -o size=512k none {disk}; \"$0\" \"$@\"; cp {disk}/* {kept}",
        disk = directory.path().join("disk").display(),
        kept = kept.display()
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).arg(myself()).args(ARGUMENTS);
    let mut running = Running::start(command.env(STATE, &state).env(SIZE, "3000"));
    running.said("owned").unwrap();
    let mut durable = 0u64;
    let failed = loop {
        let line = running.lines.next().unwrap().unwrap();
        if let Some(seq) = line.strip_prefix("durable ") {
            durable = seq.parse::<u64>().unwrap();
        } else if let Some(failed) = line.strip_prefix("failed ") {
            break failed.to_owned();
        }
    };
    assert!(failed.contains("no space is left") && failed.contains("make room"), "{failed}");
    assert!(running.said("again").unwrap().contains("any more"));
    assert!(running.said("permit").unwrap().contains("in doubt"));
    running.child.wait().unwrap();
    let records = read_records(&kept.join("state.db")).unwrap();
    assert!(durable > 10 && records.len() as u64 >= durable, "{durable} of {}", records.len());
}

#[test]
fn a_disk_that_may_not_be_written_is_named() {
    must_mount();
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state.db");
    let refused = |command: &mut Command| Running::start(command).said("refused").expect("it was opened");
    let place = directory.path().display();
    let read_only = format!("mount --bind {place} {place}; mount -o remount,bind,ro {place}");
    let said = refused(&mut in_namespace(&state, &read_only));
    assert!(said.contains("Read-only file system") && said.contains("must be writable for the user"), "{said}");

    let (mut journal, ..) = SqliteState::open(&state).unwrap().split();
    journal.append(&[record(1, 10)]).unwrap();
    drop(journal);
    let mut only_the_file = in_namespace(
        &state,
        &format!("mount --bind {place}/state.db {place}/state.db; mount -o remount,bind,ro {place}/state.db"),
    );
    let said = refused(&mut only_the_file);
    assert!(said.contains("cannot be opened for writing") || said.contains("read-only"), "{said}");
}

#[test]
fn another_user_is_told_that_it_may_not() {
    let stranger = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    if !Command::new("setpriv").args(stranger).arg("true").status().is_ok_and(|status| status.success()) {
        panic!("`setpriv` to another user is not permitted here: the tests run as root");
    }
    let directory = tempfile::tempdir().unwrap();
    // The stranger has to reach its own program; the build directory may be closed to it.
    let program = directory.path().join("it");
    std::fs::copy(myself(), &program).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let closed = directory.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let state = closed.join("state.db");
    let run = || {
        let mut command = Command::new("setpriv");
        command.args(stranger).arg(&program).args(ARGUMENTS).env(STATE, &state);
        Running::start(&mut command).said("refused").expect("it was opened")
    };
    let said = run();
    assert!(said.contains("Permission denied") && said.contains("uid 65534"), "{said}");
    drop(SqliteState::open(&state).unwrap());
    let said = run();
    assert!(said.contains("Permission denied") && said.contains("uid 65534"), "{said}");
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::remove_file(closed.join("state.db.lock")).unwrap();
    let said = run();
    assert!(said.contains("uid 65534"), "{said}");
}
