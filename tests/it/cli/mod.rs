//! The program as somebody runs it: exit codes, words, and a whole conversation with a daemon that
//! only remembers what it was told.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assert_cmd::Command;
use async_trait::async_trait;
use failoverd::control::serve::{Bounds, UnixSource, serve};
use failoverd::control::socket::{self, SocketPath};
use failoverd::control::{Gate, Handle, Lists, Metrics, api};
use failoverd::core::matrix::EvidenceView;
use failoverd::core::view::{IncidentView, ReadinessAsked, ReadinessView, RunView, StatusView};
use failoverd::core::{Answer, Command as Wanted, Refusal};
use failoverd::model::{RunId, RunResult};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

fn program() -> Command {
    let mut command = Command::cargo_bin("failoverd").expect("built");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FAILOVERD")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").timeout(Duration::from_secs(60));
    command
}

/// Runs it; exit code, output, errors.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = program().args(args).output().expect("started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/minimal.toml")
}

#[test]
fn help_names_every_verb_and_the_exit_codes() {
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for word in ["status", "approve", "failover", "explain", "completions", "Exit codes:", "4  the daemon cannot"] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
    assert_eq!(run(&["explode"]).0, 2, "an unknown verb");
    assert_eq!(run(&[]).0, 2, "no verb");
    assert!(run(&["completions", "bash"]).1.contains("_failoverd"));
}

#[test]
fn check_tells_good_from_bad_by_its_exit_code() {
    let good = example();
    let good = good.to_str().expect("UTF-8");
    let (code, out, err) = run(&["check", "--no-inspect", "--config", good]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("The configuration is good") && out.contains("regional-outage"), "{out}");

    let dir = tempfile::tempdir().expect("a directory");
    let bad = dir.path().join("failoverd.toml");
    let text = std::fs::read_to_string(good).expect("there").replace("rto = \"15m\"", "rto = \"1m\"");
    std::fs::write(&bad, text).expect("written");
    let bad = bad.to_str().expect("UTF-8");
    let (code, out, _) = run(&["check", "--no-inspect", "-c", bad]);
    assert_eq!(code, 2, "{out}");
    assert!(out.contains("the RTO of 1m cannot be met"), "{out}");
    let (code, out, _) = run(&["check", "--no-inspect", "--json", "-c", bad]);
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &report["ok"]), (2, &serde_json::json!(false)));
    assert_eq!(report["faults"][0]["code"], "rto_out_of_reach");

    assert_eq!(run(&["check", "-c", "/nonexistent/failoverd.toml"]).0, 2);
    assert_eq!(run(&["run", "-c", "/nonexistent/failoverd.toml"]).0, 2);
    assert_eq!(run(&["plan", "-c", bad]).0, 2);
}

/// What cannot be built is found now, and not in the night in which it is needed.
#[test]
fn check_builds_what_a_run_builds() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("failoverd.toml");
    let text = "[probes.api]\nhttp = { url = \"http://127.0.0.1:1\", matches = \"(a{100}){1000}\" }\n\
        [plans.switch.steps.route]\nroute53.upsert_alias = { zone = \"Z1\", name = \"a.example\", target = \"\", target_zone = \"Z2\" }\n";
    std::fs::write(&file, text).expect("written");
    let (code, out, err) = run(&["check", "--json", "-c", file.to_str().expect("UTF-8")]);
    assert_eq!(code, 2, "{out}{err}");
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let found: Vec<String> = report["faults"]
        .as_array()
        .expect("faults")
        .iter()
        .filter(|fault| fault["level"] == "error")
        .map(|fault| format!("{} {}", fault["code"].as_str().unwrap_or_default(), fault["line"]))
        .collect();
    assert_eq!(found, ["cannot_be_built 1", "cannot_be_built 3"], "{out}");
}

#[test]
fn check_prints_its_sums_as_json() {
    let good = example();
    let (code, out, _) = run(&["check", "--no-inspect", "--json", "-c", good.to_str().expect("UTF-8")]);
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &report["ok"]), (0, &serde_json::json!(true)));
    let first = &report["scenarios"][0];
    assert_eq!(first["scenario"], "regional-outage");
    assert!(first["detection"].is_string() && first["plan"]["slack"].is_string(), "{first}");
}

#[test]
fn the_kinds_of_probes_are_told_with_what_they_take_and_see() {
    let (code, out, err) = run(&["probes"]);
    assert_eq!(code, 0, "{out}{err}");
    for kind in ["http ", "postgres ", "tls ", "grpc ", "icmp ", "exec ", "http_sequence "] {
        assert!(out.lines().any(|line| line.trim_start().starts_with(kind)), "{kind} is not in\n{out}");
    }
    let (code, out, err) = run(&["probes", "tls"]);
    assert_eq!(code, 0, "{out}{err}");
    for words in ["days_left", "required", "certificate_expiring", "degraded", "stalled", "never means down"] {
        assert!(out.contains(words), "{words} is not in\n{out}");
    }
    let (code, out, _) = run(&["probes", "--json", "exec"]);
    let page: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &page["name"]), (0, &serde_json::json!("exec")));
    let row = |cause: &str| {
        let causes = page["causes"].as_array().expect("causes");
        causes.iter().find(|row| row["cause"] == cause).map(|row| row["means"].clone())
    };
    assert_eq!(row("plugin_warning"), Some("degraded".into()));
    assert_eq!(row("plugin_unknown"), Some("unknown".into()));
    let (_, out, _) = run(&["probes", "--json"]);
    let pages: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert!(pages.as_array().is_some_and(|pages| pages.len() >= 10), "{out}");
    let (code, _, err) = run(&["probes", "htp"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("did you mean `http`?"), "{err}");
}

#[test]
fn the_schema_is_one() {
    let (code, out, _) = run(&["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(code, 0);
    assert!(schema["properties"]["scenarios"].is_object());
}

#[test]
fn without_a_daemon_it_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("none.sock");
    let socket = socket.to_str().expect("UTF-8");
    for verb in [&["status"][..], &["abort"], &["watch"], &["approve"], &["explain"], &["failover", "x", "--yes"]] {
        let (code, out, err) = run(&[verb, &["--socket", socket]].concat());
        assert_eq!(code, 4, "{verb:?}: {out}{err}");
        assert!(err.contains("Is it running?") && err.contains(socket), "{err}");
        assert!(out.is_empty(), "{out}");
    }
    let (code, _, err) = run(&["status", "--json", "--socket", socket]);
    let error: serde_json::Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!((code, &error["code"]), (4, &serde_json::json!("not_running")));
    // The socket of a process that was killed.
    drop(std::os::unix::net::UnixListener::bind(socket).expect("free"));
    let (code, _, err) = run(&["status", "--socket", socket]);
    assert!(code == 4 && err.contains("is gone"), "{err}");
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let program = assert_cmd::cargo::cargo_bin("failoverd");
    let line = format!("{} schema | head -n 1; exit ${{PIPESTATUS[0]}}", program.display());
    let output = std::process::Command::new("bash").args(["-c", &line]).output().expect("bash");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{:?} {errors}", output.status);
}

struct Fake {
    views: watch::Sender<Arc<StatusView>>,
    incident: Mutex<IncidentView>,
    run: Mutex<RunView>,
    told: Mutex<Vec<String>>,
}

fn fixture<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("cargo test --lib write_fixtures -- --ignored")
}

fn quiet() -> StatusView {
    fixture(include_str!("quiet.json"))
}

fn outage() -> StatusView {
    fixture(include_str!("outage.json"))
}

fn failing_over() -> StatusView {
    fixture(include_str!("failing_over.json"))
}

#[async_trait]
impl Handle for Fake {
    async fn status(&self) -> StatusView {
        self.views.borrow().as_ref().clone()
    }
    async fn incidents(&self) -> Vec<IncidentView> {
        vec![self.incident.lock().expect("whole").clone()]
    }
    async fn runs(&self) -> Vec<RunView> {
        vec![self.run.lock().expect("whole").clone()]
    }
    async fn run(&self, id: &RunId) -> Option<RunView> {
        let run = self.run.lock().expect("whole").clone();
        (run.id == *id).then_some(run)
    }
    async fn evidence(&self) -> Option<EvidenceView> {
        None
    }

    async fn report(&self, id: &failoverd::model::IncidentId) -> Result<failoverd::core::report::Report, Refusal> {
        Err(Refusal { code: "not_found".into(), message: format!("there is no incident {id}") })
    }
    async fn command(&self, by: String, command: Wanted) -> Result<Answer, Refusal> {
        let json = serde_json::to_string(&command).expect("JSON");
        self.told.lock().expect("whole").push(json);
        match command {
            Wanted::Resume => Err(Refusal { code: "not_now".into(), message: "it is not paused".into() }),
            _ => Ok(Answer { text: format!("yes, {}", by.split(' ').next().unwrap_or_default()), run: None }),
        }
    }
    async fn readiness(&self) -> ReadinessView {
        ReadinessView::default()
    }
    async fn look_at_readiness(&self) -> ReadinessAsked {
        ReadinessAsked { round: 1 }
    }
    fn watch(&self) -> watch::Receiver<Arc<StatusView>> {
        self.views.subscribe()
    }
    fn audit_refused(&self, _: String, _: String) {}
}

struct Daemon {
    fake: Arc<Fake>,
    socket: String,
    _path: SocketPath,
    _stop: tokio_util::sync::DropGuard,
    _dir: tempfile::TempDir,
}

fn daemon(view: StatusView) -> Daemon {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("control.sock");
    let (listener, _path) = socket::bind(&path).expect("free");
    let run = fixture(include_str!("run.json"));
    let fake = Arc::new(Fake {
        views: watch::Sender::new(Arc::new(view)),
        incident: Mutex::new(fixture(include_str!("incident.json"))),
        run: Mutex::new(run),
        told: Mutex::default(),
    });
    let gate = Arc::new(Gate::for_this_process(Lists::default()).0);
    let router = api::router(fake.clone(), Arc::clone(&gate), Metrics::new().expect("metrics"));
    let stop = CancellationToken::new();
    tokio::spawn(serve(UnixSource { listener, gate }, router, Bounds::default(), stop.clone()));
    Daemon { fake, socket: path.to_string_lossy().into_owned(), _path, _stop: stop.drop_guard(), _dir: dir }
}

impl Daemon {
    async fn run(&self, args: &[&str]) -> (i32, String, String) {
        let args: Vec<String> =
            args.iter().chain(&["--socket", self.socket.as_str()]).map(|&arg| arg.to_owned()).collect();
        let running = move || run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(running).await.expect("ended")
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.fake.told.lock().expect("whole"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_that_looks_shows_the_same_to_people_and_to_programs() {
    let daemon = daemon(failing_over());
    for (args, word) in [
        (&["status"][..], "RUN-20260730-001"),
        (&["explain", "regional-outage"], "✗ approval"),
        (&["incidents"], "INC-20260730-001"),
        (&["incidents", "INC-20260730-001"], "Timeline"),
        (&["runs"], "regional-failover"),
        (&["runs", "RUN-20260730-001"], "promote needs somebody"),
    ] {
        let (code, out, err) = daemon.run(args).await;
        assert_eq!(code, 0, "{args:?}: {err}");
        assert!(out.contains(word) && !out.contains('\x1b'), "{args:?}: {out}");
        let (code, out, _) = daemon.run(&[args, &["--json"]].concat()).await;
        assert_eq!(code, 0);
        assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{args:?}: {out}");
    }
    let (_, out, _) = daemon.run(&["status", "--json"]).await;
    assert_eq!(serde_json::from_str::<StatusView>(&out).expect("a view"), failing_over());
    let (code, _, err) = daemon.run(&["incidents", "INC-20260730-002"]).await;
    assert!(code == 1 && err.contains("did you mean `INC-20260730-001`?"), "{err}");
    assert_eq!(daemon.run(&["runs", "RUN-9"]).await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_arrive_as_they_were_meant() {
    let daemon = daemon(outage());
    for (args, command) in [
        (&["pause"][..], r#"{"command":"pause"}"#),
        (&["mode", "alert-only"], r#"{"command":"mode","mode":"alert-only"}"#),
        (&["mode", "config"], r#"{"command":"mode","mode":null}"#),
        (&["ack"], r#"{"command":"ack","incident":"INC-20260730-001"}"#),
        (&["deny", "INC-1"], r#"{"command":"deny","incident":"INC-1"}"#),
        (&["abort"], r#"{"command":"abort","run":null}"#),
        (&["step", "skip", "route", "--run", "RUN-1"], r#"{"command":"step_skip","run":"RUN-1","step":"route"}"#),
        (&["approve", "--step", "RUN-1", "ask"], r#"{"command":"step_approve","run":"RUN-1","step":"ask"}"#),
        (
            &["failover", "regional-outage", "--yes", "--allow-data-loss", "90s"],
            r#"{"command":"failover","scenario":"regional-outage","allow_data_loss":"1m 30s"}"#,
        ),
    ] {
        let (code, out, err) = daemon.run(args).await;
        assert_eq!(code, 0, "{args:?}: {err}");
        assert!(out.starts_with("yes, "), "{out}");
        assert_eq!(daemon.told(), [command]);
    }
    let (code, _, err) = daemon.run(&["resume"]).await;
    assert!(code == 3 && err.contains("it is not paused"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_shows_what_is_at_stake_and_binds_to_the_plan() {
    let daemon = daemon(outage());
    let (code, out, err) = daemon.run(&["approve"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("yes, "), "{out}");
    for word in ["plan 0123456789ab", "1.2 s predicted", "RTO", "cool-down"] {
        assert!(err.contains(word), "{word} is not in\n{err}");
    }
    let told = daemon.told();
    assert!(told[0].contains(r#""plan_hash":"0123456789abcdef0123""#), "{told:?}");
}

/// Nothing was asked, since the loss is too high or somebody denied it: the plan that is shown binds.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_nobody_asked_for_binds_to_the_plan_too() {
    let mut view = outage();
    view.scenarios[0].plan_hash = Some("feedfeedfeed0123".into());
    let daemon = daemon(view);
    daemon.fake.incident.lock().expect("whole").approval = None;
    let name = daemon.fake.incident.lock().expect("whole").id.to_string();
    let (code, _, err) = daemon.run(&["approve", &name]).await;
    assert_eq!(code, 0, "{err}");
    let told = daemon.told();
    assert!(told[0].contains(r#""plan_hash":"feedfeedfeed0123""#), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_without_a_terminal_wants_yes() {
    let daemon = daemon(quiet());
    let (code, _, err) = daemon.run(&["failover", "regional-outage"]).await;
    assert!(code == 2 && err.contains("--yes"), "{err}");
    assert!(err.contains("condition does not hold now"), "{err}");
    let (code, _, err) = daemon.run(&["failover", "regional-outge", "--yes"]).await;
    assert!(code == 1 && err.contains("did you mean `regional-outage`?"), "{err}");
    assert!(daemon.told().is_empty(), "nothing was asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_follows_a_run_to_its_end() {
    let daemon = daemon(failing_over());
    let fake = daemon.fake.clone();
    let ending = async move {
        while fake.views.receiver_count() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Until the first view has been shown; the watcher must see the run before it ends.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut run = fake.run.lock().expect("whole").clone();
        run.result = Some(RunResult::Aborted);
        run.ended = Some(run.started + Duration::from_secs(60));
        *fake.run.lock().expect("whole") = run;
        fake.views.send_replace(Arc::new(quiet()));
    };
    let ((code, out, err), ()) = tokio::join!(daemon.run(&["watch", "--until-run-ends"]), ending);
    assert_eq!(code, 1, "aborted: {out}{err}");
    for word in ["step promote PARKED", "run RUN-20260730-001 ended", "ABORTED", "time      detect"] {
        assert!(out.contains(word), "{word} is not in\n{out}");
    }
    // Where no run is active it waits for the next one: `operations/watching.rs`, on a real daemon.
}
