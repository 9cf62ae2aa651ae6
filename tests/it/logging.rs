//! Where stderr goes decides how logs look. The child is this very test binary.

use std::io::Read;
use std::os::linux::fs::MetadataExt;
use std::process::{Command, Stdio};

use failoverd::config::shape::Log;
use failoverd::daemon::logging;

const CHILD: &str = "FAILOVERD_TEST_LOG";

/// Logs two lines and leaves at once.
#[test]
#[ignore = "the child of the other tests"]
fn child() {
    if std::env::var_os(CHILD).is_some() {
        let _guard = logging::init(&Log::default()).unwrap();
        tracing::warn!(probe = "db", "probe is down");
        tracing::debug!("a detail");
    }
}

fn command() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["logging::child", "--exact", "--ignored", "--nocapture"]).env(CHILD, "1").stdout(Stdio::null());
    for variable in ["RUST_LOG", "FAILOVERD_LOG", "NO_COLOR", "JOURNAL_STREAM"] {
        command.env_remove(variable);
    }
    command
}

/// What the child writes into a pipe that the environment may declare to be journald's.
fn through_a_pipe(command: &mut Command, journal: bool) -> String {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&writer);
    let about = std::fs::metadata(format!("/proc/self/fd/{fd}")).unwrap();
    let inode = if journal { about.st_ino() } else { about.st_ino() + 1 };
    let mut child =
        command.env("JOURNAL_STREAM", format!("{}:{inode}", about.st_dev())).stderr(writer).spawn().unwrap();
    // Our own copy of the writing end must be gone, or the end never comes.
    command.stderr(Stdio::null());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    text
}

#[test]
fn journald_is_known_by_its_stream_and_the_rest_get_json() {
    assert_eq!(through_a_pipe(&mut command(), true), "<4>it::logging: probe is down probe=\"db\"\n");
    let json = through_a_pipe(&mut command(), false);
    let line: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!((&line["level"], &line["probe"]), (&"WARN".into(), &"db".into()));
    let more = through_a_pipe(command().env("RUST_LOG", "error").env("FAILOVERD_LOG", "debug"), true);
    assert!(more.ends_with("<7>it::logging: a detail\n"), "{more}");
}

#[test]
fn a_terminal_gets_text_and_colour_unless_it_is_declined() {
    // `script` gives the child a terminal.
    let on_terminal = |no_color: Option<&str>| {
        let mut inner = command();
        if let Some(value) = no_color {
            inner.env("NO_COLOR", value);
        }
        let line = format!("{} logging::child --exact --ignored --nocapture", inner.get_program().display());
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).env("TERM", "xterm");
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        script.output().map(|output| String::from_utf8(output.stdout).unwrap())
    };
    let coloured = on_terminal(None).expect("`script` can be run (package `bsdutils`)");
    assert!(coloured.contains("probe is down") && coloured.contains("\u{1b}[33m WARN"), "{coloured:?}");
    let plain = on_terminal(Some("1")).unwrap();
    assert!(plain.contains("  WARN probe is down probe=\"db\"") || plain.contains(" WARN probe is down"), "{plain:?}");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
}
