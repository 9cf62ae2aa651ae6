//! The unit, as systemd reads it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use failoverd::config::shape::Log;
use failoverd::daemon::logging;
use failoverd::daemon::notify_socket::Systemd;
use failoverd::model::{Entry, Record, WallTime};
use failoverd::ports::Journal;
use failoverd::state::SqliteState;

/// The highest exposure that is accepted, in tenths (0 is best, 100 worst). What is left is what
/// failoverd is for: the network, Unix sockets, and callers that keep their identity. That all of it
/// works there is shown by `operations::sandbox`.
const EXPOSURE: &str = "11";

fn unit() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/failoverd.service")).unwrap()
}

/// A copy whose program exists: `verify` looks for it.
fn copy(directory: &Path) -> PathBuf {
    let path = directory.join("failoverd.service");
    let program = std::env::current_exe().unwrap();
    std::fs::write(&path, unit().replace("/usr/bin/failoverd", &program.display().to_string())).unwrap();
    path
}

fn analyze(arguments: &[&str], unit: &Path) -> Output {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output();
    output.expect("systemd-analyze can be run (package `systemd`; tests/fleet/install.sh installs it)")
}

#[test]
fn the_unit_is_clean() {
    let directory = tempfile::tempdir().unwrap();
    let output = analyze(&["verify", "--man=no"], &copy(directory.path()));
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    // Other units of this machine are none of our business.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("failoverd")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn the_unit_is_hardened() {
    let directory = tempfile::tempdir().unwrap();
    let threshold = format!("--threshold={EXPOSURE}");
    let arguments = ["security", "--offline=true", "--no-pager", &threshold];
    let output = analyze(&arguments, &copy(directory.path()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn what_the_daemon_relies_on_is_in_the_unit() {
    let unit = unit();
    let set: Vec<&str> = unit.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    for line in [
        "Type=notify",
        "NotifyAccess=main",
        "ExecStart=/usr/bin/failoverd run --config /etc/failoverd/failoverd.toml",
        "RestartPreventExitStatus=2",
        "StateDirectory=failoverd",
        "RuntimeDirectory=failoverd",
        "StartLimitIntervalSec=0",
    ] {
        assert!(set.contains(&line), "{line}");
    }
    // It would make every caller of the socket "nobody".
    assert!(!set.iter().any(|line| line.starts_with("PrivateUsers=")));
}

/// A daemon in small, run by the unit: it owns a state, logs, binds a socket, reports ready, and is
/// fed by its own loop until it is told to stand still.
#[test]
#[ignore = "the child of the other tests"]
fn child() {
    let (Some(state), Some(run)) = (std::env::var_os("STATE_DIRECTORY"), std::env::var_os("RUNTIME_DIRECTORY")) else {
        return;
    };
    let _log = logging::init(&Log::default()).unwrap();
    let state = SqliteState::open(&Path::new(&state).join("state.db")).unwrap();
    tracing::info!(left_behind = ?state.left_behind(), "the state is ours");
    let (mut journal, ..) = state.split();
    let seq = journal.replay().unwrap().len() as u64 + 1;
    let entry = Entry::DaemonStarted { version: "test".into() };
    journal.append(&[Record { seq, at: WallTime(1), entry }]).unwrap();
    let socket = Path::new(&run).join("failoverd.sock");
    let _ = std::fs::remove_file(&socket);
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut systemd = Systemd::from_env();
    systemd.ready("watching 7 probes");
    let interval = systemd.watchdog_interval().expect("WatchdogSec= is set");
    let stall = Path::new(&run).join("stall");
    while !stall.exists() {
        systemd.feed();
        std::thread::sleep(interval.min(Duration::from_millis(100)));
    }
    let _ = std::fs::remove_file(stall);
    tracing::error!("standing still");
    std::thread::sleep(Duration::from_secs(600));
}

/// What is asked inside, one answer a line; `stall` makes the watchdog bite.
const CHECK: &str = r#"
echo booted
show() { systemctl show failoverd --property="$1" --value; }
echo "first: $(show ActiveState) $(show StatusText) restarts=$(show NRestarts)"
echo "state: $(stat -c '%U %a' /var/lib/failoverd/ | tr '\n' ' ')$(stat -c '%U %a' /var/lib/failoverd/state.db)"
echo "run: $(stat -c '%U %a' /run/failoverd)"
touch /run/failoverd/stall
for _ in $(seq 100); do [ "$(show NRestarts)" = 1 ] && break; sleep 0.1; done
for _ in $(seq 100); do [ "$(show ActiveState)" = active ] && break; sleep 0.1; done
echo "second: $(show ActiveState) restarts=$(show NRestarts)"
journalctl --sync || true
journalctl --unit=failoverd --output=cat --priority=err --no-pager | sed 's/^/error: /'
journalctl --unit=failoverd --output=cat --priority=info --no-pager | grep 'the state is ours' | sed 's/^/info: /'
"#;

/// The unit under a real systemd: the sandbox lets the state and the socket be, readiness is seen,
/// a loop that stands still is restarted, and journald knows the priorities.
#[test]
fn the_unit_runs_and_its_watchdog_bites() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("check.sh"), CHECK).unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let booted = Command::new("timeout")
        .args(["--signal=KILL", "60", "sh"])
        .arg(here.join("tests/it/systemd_boot.sh"))
        .arg(directory.path())
        .arg(here.join("systemd"))
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let said = std::fs::read_to_string(directory.path().join("said")).unwrap_or_default();
    if !said.starts_with("booted") {
        let why = String::from_utf8_lossy(&booted.stderr);
        panic!("no systemd could be booted in a namespace (this needs root): {}", why.trim());
    }
    for answer in [
        "first: active watching 7 probes restarts=0",
        "state: failoverd 700 failoverd 600",
        "run: failoverd 755",
        "second: active restarts=1",
        "error: it::systemd: standing still",
        "info: it::systemd: the state is ours left_behind=None",
        "info: it::systemd: the state is ours left_behind=Some(\"pid ",
    ] {
        assert!(said.lines().any(|line| line.starts_with(answer)), "{answer:?} is not in:\n{said}");
    }
}
