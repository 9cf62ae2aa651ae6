//! The API over a real Unix socket, with a daemon that only remembers what it was told.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::api::{self, Handle};
use super::health::{self, Health, Pulse};
use super::metrics::Metrics;
use super::peer::{Gate, Lists};
use super::serve::{Bounds, TcpSource, UnixSource, serve};
use super::{Client, ClientError, sample, socket};
use crate::core::matrix::EvidenceView;
use crate::core::view::{IncidentView, ReadinessAsked, ReadinessView, RunView, StatusView};
use crate::core::{Answer, Command, Refusal};
use crate::model::{CauseKind, Observation, RunId};

struct Fake {
    views: watch::Sender<Arc<StatusView>>,
    told: Mutex<Vec<String>>,
    stuck: AtomicBool,
}

#[async_trait]
impl Handle for Fake {
    async fn status(&self) -> StatusView {
        if self.stuck.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.views.borrow().as_ref().clone()
    }
    async fn incidents(&self) -> Vec<IncidentView> {
        vec![sample::incident()]
    }
    async fn runs(&self) -> Vec<RunView> {
        vec![sample::run()]
    }
    async fn run(&self, id: &RunId) -> Option<RunView> {
        (*id == sample::run().id).then(sample::run)
    }
    async fn evidence(&self) -> Option<EvidenceView> {
        None
    }

    async fn report(&self, id: &crate::model::IncidentId) -> Result<crate::core::report::Report, Refusal> {
        Err(Refusal { code: "not_found".into(), message: format!("there is no incident {id}") })
    }
    async fn command(&self, by: String, command: Command) -> Result<Answer, Refusal> {
        self.told.lock().expect("whole").push(format!("{by}: {}", api::command_name(&command)));
        match command {
            Command::Pause => Ok(Answer { text: "paused".into(), run: None }),
            Command::Ack { .. } => Err(Refusal { code: "not_found".into(), message: "no such incident".into() }),
            _ => Err(Refusal { code: "guard".into(), message: "the cool-down is not over".into() }),
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
    fn audit_refused(&self, by: String, what: String) {
        self.told.lock().expect("whole").push(format!("REFUSED {by}: {what}"));
    }
}

struct Running {
    fake: Arc<Fake>,
    path: PathBuf,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
    dir: tempfile::TempDir,
    _ours: socket::SocketPath,
}

fn start(lists: Lists, bounds: Bounds) -> Running {
    let dir = tempfile::tempdir().expect("a directory");
    // `tempfile` keeps others out; these tests come as somebody else.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("opened up");
    let path = dir.path().join("control.sock");
    let (listener, _ours) = socket::bind(&path).expect("free");
    let fake = Arc::new(Fake {
        views: watch::Sender::new(Arc::new(sample::quiet())),
        told: Mutex::default(),
        stuck: AtomicBool::new(false),
    });
    let (gate, _) = Gate::for_this_process(lists);
    let gate = Arc::new(gate);
    let router = api::router(fake.clone(), Arc::clone(&gate), Metrics::new().expect("metrics"));
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(UnixSource { listener, gate }, router, bounds, stop.clone()));
    Running { fake, path, stop, server, dir, _ours }
}

/// One raw request; the answer as text, to its end.
async fn raw(path: &std::path::Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.expect("connected");
    // The server may answer and close before it has read everything.
    let _cut = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn the_client_reads_and_commands() {
    let running = start(Lists::default(), Bounds::default());
    let client = Client::new(&running.path).expect("a client");
    assert_eq!(client.status().await.expect("status"), sample::quiet());
    assert_eq!(client.incidents().await.expect("incidents"), [sample::incident()]);
    assert_eq!(client.runs().await.expect("runs"), [sample::run()]);
    assert_eq!(client.run(&sample::run().id).await.expect("run"), sample::run());
    assert_eq!(client.explain(Some(&"regional-outage".into())).await.expect("explain").len(), 1);
    assert_eq!(client.command(&Command::Pause).await.expect("paused").text, "paused");
    for (result, code) in [
        (client.run(&"../status".into()).await.map(drop), "not_found"),
        (client.explain(Some(&"nope & co".into())).await.map(drop), "not_found"),
        (client.command(&Command::Ack { incident: "x".into() }).await.map(drop), "not_found"),
        (client.command(&Command::Resume).await.map(drop), "guard"),
    ] {
        assert!(matches!(&result, Err(ClientError::Refused(refusal)) if refusal.code == code), "{result:?}");
    }
    let told = running.fake.told.lock().expect("whole").clone();
    assert_eq!(told.len(), 3);
    assert!(told[0].contains("(uid ") && told[0].ends_with(": pause"), "{told:?}");
}

#[tokio::test]
async fn a_stuck_daemon_still_shows_what_it_knew() {
    let running = start(Lists::default(), Bounds::default());
    running.fake.stuck.store(true, Ordering::Relaxed);
    let client = Client::new(&running.path).expect("a client");
    assert_eq!(client.status().await.expect("the last one"), sample::quiet());
}

#[tokio::test]
async fn says_no_in_json_with_a_fitting_status() {
    let running = start(Lists::default(), Bounds::default());
    let post = |body: &str| {
        format!(
            "POST /v1/command HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for (request, status, code) in [
        (get("/v1/nothing"), "404", "no_route"),
        (get("/v1/command"), "405", "wrong_method"),
        (post("{}"), "400", "bad_request"),
        (post("not json"), "400", "bad_request"),
        (post(r#"{"command":"explode"}"#), "400", "bad_request"),
        (post(r#"{"command":"resume"}"#), "409", "guard"),
        (post(&"x".repeat(api::LONGEST_BODY + 1)), "413", "too_large"),
    ] {
        let answer = raw(&running.path, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    }
}

#[tokio::test]
async fn a_watcher_sees_each_change_and_the_end() {
    let running = start(Lists::default(), Bounds::default());
    let client = Client::new(&running.path).expect("a client");
    let mut views = Box::pin(client.watch().await.expect("a stream"));
    assert_eq!(views.next().await.expect("first").expect("good"), sample::quiet());
    running.fake.views.send_replace(Arc::new(sample::failing_over()));
    assert_eq!(views.next().await.expect("second").expect("good"), sample::failing_over());
    running.stop.cancel();
    let end = tokio::time::timeout(Duration::from_secs(10), async { while let Some(Ok(_)) = views.next().await {} });
    assert!(end.await.is_ok(), "the stream ends with the daemon");
    running.server.await.expect("ended");
}

#[tokio::test]
async fn a_head_that_does_not_come_is_cut() {
    let bounds = Bounds { head: Duration::from_millis(200), ..Bounds::default() };
    let running = start(Lists::default(), bounds);
    let mut idle = UnixStream::connect(&running.path).await.expect("connected");
    idle.write_all(b"GET /v1/status HTTP/1.1\r\n").await.expect("written");
    let mut answer = Vec::new();
    let cut = tokio::time::timeout(Duration::from_secs(5), idle.read_to_end(&mut answer)).await;
    assert!(cut.is_ok(), "a half head is cut");
    // An idle connection that never sent anything is cut as well.
    let mut silent = UnixStream::connect(&running.path).await.expect("connected");
    let cut = tokio::time::timeout(Duration::from_secs(5), silent.read_to_end(&mut answer)).await;
    assert!(cut.is_ok(), "silence is cut");
}

/// One more than there are places is sent away at once; a place that is given back is taken again.
#[tokio::test]
async fn a_crowd_is_sent_away() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let router = axum::Router::new().fallback(|| async { "here" });
    let bounds = Bounds { connections: 2, per_caller: 2, ..Bounds::default() };
    let stop = CancellationToken::new();
    tokio::spawn(serve(TcpSource(listener), router, bounds, stop.clone()));
    let ask = async |stream: &mut TcpStream| {
        let mut answer = vec![0; 1024];
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await.expect("in time");
        asked.is_ok() && read.is_ok_and(|read| String::from_utf8_lossy(&answer[..read]).contains("200 OK"))
    };
    let mut one = TcpStream::connect(at).await.expect("connected");
    let mut two = TcpStream::connect(at).await.expect("connected");
    assert!(ask(&mut one).await && ask(&mut two).await);
    let mut three = TcpStream::connect(at).await.expect("connected");
    assert!(!ask(&mut three).await, "a third is let in");
    drop(one);
    let again = async {
        while !ask(&mut TcpStream::connect(at).await.expect("connected")).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("the place is taken again");
    stop.cancel();
}

/// Runs `curl` as somebody in no list.
async fn as_nobody(running: &Running, args: &[&str]) -> String {
    let mut command = tokio::process::Command::new("setpriv");
    command.args(["--reuid=64321", "--regid=64321", "--clear-groups", "curl", "-s", "--unix-socket"]);
    command.arg(&running.path).args(args);
    let output = command.output().await.expect("setpriv and curl can be run (tests/fleet/install.sh installs them)");
    assert!(output.status.code() != Some(127), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(rustix::process::geteuid().is_root(), "only root can become somebody else: run the tests as root");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_stranger_is_refused_told_why_and_audited() {
    let running = start(Lists::default(), Bounds::default());
    let answer = as_nobody(&running, &["http://x/v1/status"]).await;
    assert!(answer.contains("\"code\":\"role\"") && answer.contains("`viewers`"), "{answer}");
    let told = running.fake.told.lock().expect("whole").clone();
    assert_eq!(told, ["REFUSED uid 64321: GET /v1/status"]);
    drop(running.dir);
}

#[tokio::test]
async fn a_viewer_may_look_and_not_act() {
    let running = start(Lists { viewers: vec!["64321".into()], ..Lists::default() }, Bounds::default());
    let answer = as_nobody(&running, &["http://x/v1/status"]).await;
    assert!(answer.contains("\"name\":\"shop\""), "{answer}");
    let pause = ["-d", r#"{"command":"pause"}"#, "-w", " %{http_code}", "http://x/v1/command"];
    let answer = as_nobody(&running, &pause).await;
    assert!(answer.contains("`operators`") && answer.ends_with(" 403"), "{answer}");
    let told = running.fake.told.lock().expect("whole").clone();
    assert_eq!(told, [r#"REFUSED uid 64321: {"command":"pause"}"#]);
}

#[tokio::test]
async fn says_that_nobody_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("none.sock");
    let error = Client::new(&path).expect("a client").status().await.expect_err("nobody");
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("free"));
    let error = Client::new(&path).expect("a client").status().await.expect_err("dead");
    assert!(matches!(&error, ClientError::NotRunning { why, .. } if why.contains("gone")), "{error}");
}

struct Scraped {
    status: u16,
    text: String,
}

async fn scrape(address: std::net::SocketAddr, path: &str) -> Scraped {
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    let response = client.get(format!("http://{address}{path}")).send().await.expect("an answer");
    Scraped { status: response.status().as_u16(), text: response.text().await.expect("text") }
}

#[tokio::test]
async fn health_tells_of_the_loop_and_of_readiness() {
    let (views, status) = watch::channel(Arc::new(sample::quiet()));
    let pulse = Pulse::new();
    let health = Health {
        pulse: pulse.clone(),
        stuck_after: Duration::from_millis(300),
        status,
        metrics: Metrics::new().expect("metrics"),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let stop = CancellationToken::new();
    tokio::spawn(serve(TcpSource(listener), health::router(health), Bounds::default(), stop.clone()));

    pulse.beat();
    assert_eq!(scrape(address, "/healthz").await.status, 200);
    let ready = scrape(address, "/readyz").await;
    assert!(ready.status == 503 && ready.text.contains("state store is not open"), "{}", ready.text);
    pulse.set_state_open(true);
    pulse.beat();
    assert_eq!(scrape(address, "/readyz").await.status, 200);
    let mut doubtful = sample::quiet();
    doubtful.in_doubt = Some("the disk is full".into());
    doubtful.probes[0].last_seen = None;
    views.send_replace(Arc::new(doubtful));
    let ready = scrape(address, "/readyz").await;
    assert!(ready.text.contains("the disk is full") && ready.text.contains("not observed yet: api"), "{}", ready.text);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(scrape(address, "/healthz").await.status, 503);

    let metrics = scrape(address, "/metrics").await.text;
    assert!(metrics.contains("failoverd_in_doubt 1") && metrics.contains("process_start_time_seconds"), "{metrics}");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    let wrong = client.post(format!("http://{address}/metrics")).send().await.expect("an answer");
    assert_eq!(wrong.status().as_u16(), 405);
    stop.cancel();
}

/// Everything that is measured, once.
fn full() -> Metrics {
    let metrics = Metrics::new().expect("metrics");
    metrics.update_status(&sample::failing_over());
    metrics.probe_attempt(&"api".into(), &Observation::down(CauseKind::Timeout, ""), Duration::from_secs(1));
    metrics.run_ended(&"regional-outage".into(), crate::model::RunResult::Done);
    metrics.step_ended("rds.promote_read_replica", "done", Duration::from_secs(100));
    metrics.journal_append(Duration::from_millis(2));
    metrics.loop_stalled();
    metrics.notification("critical", "delivered");
    metrics.notifications_undelivered("sms", 2);
    metrics.command("pause", "done");
    metrics.config_reload(true);
    metrics
}

#[test]
fn metrics_say_what_the_view_says_and_forget_what_is_gone() {
    let metrics = full();
    let text = |metrics: &Metrics| String::from_utf8(metrics.render().expect("rendered")).expect("text");
    let now = text(&metrics);
    for line in [
        r#"failoverd_probe_health{health="down",probe="api",region="us-east-1"} 1"#,
        r#"failoverd_probe_health{health="up",probe="api",region="us-east-1"} 0"#,
        r#"failoverd_replication_lag_seconds{probe="standby"} 1.2"#,
        r#"failoverd_scenario_condition{scenario="regional-outage",truth="true"} 1"#,
        r#"failoverd_decision{decision="ask_approval",reason="",scenario="regional-outage"} 1"#,
        r#"failoverd_mode{mode="approve"} 1"#,
        r#"failoverd_probe_failures_total{cause="timeout",probe="api"} 1"#,
        "failoverd_run_active 1",
        "failoverd_run_parked 1",
        "failoverd_epoch 4",
    ] {
        assert!(now.lines().any(|found| found == line), "{line} is not in\n{now}");
    }
    let mut fewer = sample::quiet();
    fewer.probes.remove(0);
    metrics.update_status(&fewer);
    let now = text(&metrics);
    assert!(!now.contains(r#"failoverd_probe_health{health="down",probe="api""#), "{now}");
    assert!(now.contains(r#"failoverd_decision{decision="none",reason="",scenario="regional-outage"} 1"#), "{now}");
    assert!(!now.contains("failoverd_decide_by_timestamp_seconds{"), "{now}");
}

#[test]
fn metrics_are_as_promtool_wants_them() {
    use std::io::Write as _;
    use std::process::{Command as Process, Stdio};
    let mut promtool = Process::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool can be run (Debian: prometheus; tests/fleet/install.sh installs it)");
    let text = full().render().expect("rendered");
    promtool.stdin.take().expect("piped").write_all(&text).expect("written");
    let output = promtool.wait_with_output().expect("ended");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
