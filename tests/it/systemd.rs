//! The unit, as systemd reads it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The highest exposure that is accepted, in tenths (0 is best, 100 worst). What is left is what
/// failoverd is for: the network, Unix sockets, and callers that keep their identity.
const EXPOSURE: &str = "15";

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

fn analyze(arguments: &[&str], unit: &Path) -> Option<Output> {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output();
    if output.is_err() {
        eprintln!("SKIPPED: there is no systemd-analyze here (package `systemd`)");
    }
    output.ok()
}

#[test]
fn the_unit_is_clean() {
    let directory = tempfile::tempdir().unwrap();
    let Some(output) = analyze(&["verify", "--man=no"], &copy(directory.path())) else { return };
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
    let Some(output) = analyze(&arguments, &copy(directory.path())) else { return };
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
