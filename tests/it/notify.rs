//! Routes to people, each against what its provider documents. The receivers here are doubles that say
//! so: they check method, path, authorization and the documented fields. Alertmanager is a real one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use failoverd::clients::Clients;
use failoverd::config::shape::{Limits, NotifyRoute, Templates};
use failoverd::model::{Importance, Notice, NoticeKind, Severity, WallTime};
use failoverd::notify::build;
use failoverd::ports::Notifier;
use serde_json::{Value, json};

use crate::fleet::child::{Proc, command};
use crate::fleet::{START, eventually, http, port, scratch_dir};

/// What a receiver was sent.
#[derive(Clone, Debug)]
struct Sent {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Value,
    raw: Vec<u8>,
}

/// Status and body of an answer.
type Answer = Arc<dyn Fn(&Sent) -> (u16, Value) + Send + Sync>;

/// Answers as `answer` says and keeps what came.
#[derive(Clone)]
struct Receiver {
    sent: Arc<Mutex<Vec<Sent>>>,
    answer: Answer,
    address: String,
}

impl Receiver {
    async fn start(answer: impl Fn(&Sent) -> (u16, Value) + Send + Sync + 'static) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let this = Self { sent: Arc::default(), answer: Arc::new(answer), address };
        let router = Router::new().fallback(take).with_state(this.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(this)
    }

    /// What came since this was asked last.
    fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }
}

async fn take(State(receiver): State<Receiver>, request: Request) -> impl IntoResponse {
    let (parts, body) = request.into_parts();
    let raw: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap_or_default().to_owned())
    };
    let sent = Sent {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts.headers.iter().map(header).collect(),
        body: serde_json::from_slice(&raw).unwrap_or(Value::Null),
        raw: raw.to_vec(),
    };
    let (status, body) = (receiver.answer)(&sent);
    receiver.sent.lock().unwrap().push(sent);
    let status = axum::http::StatusCode::from_u16(status).unwrap_or_default();
    (status, [("content-type", "application/json")], body.to_string())
}

fn route(table: Value) -> Box<dyn Notifier> {
    let route: NotifyRoute = serde_json::from_value(table).unwrap();
    build(&route, "shop", &Templates::default(), &Arc::new(Clients::new(&Limits::default()))).unwrap()
}

fn notice(kind: NoticeKind, importance: Importance) -> Notice {
    Notice {
        kind,
        importance,
        at: WallTime(jiff::Timestamp::now().as_millisecond()),
        scenario: Some("regional-outage".into()),
        severity: Some(Severity("P0".into())),
        incident: Some("INC-20261128-001".into()),
        run: None,
        subject: "P0 regional-outage: api is down".into(),
        body: "first bad observation\nincident opened".into(),
        approval: None,
        routes: None,
        situation: None,
    }
}

fn page(kind: NoticeKind) -> Notice {
    notice(kind, Importance::Page)
}

/// A secret in a file, so that it is one.
fn secret(dir: &tempfile::TempDir, text: &str) -> Value {
    let file = dir.path().join(text.len().to_string());
    std::fs::write(&file, text).unwrap();
    json!({ "file": file })
}

#[tokio::test]
async fn pagerduty_has_one_alert_for_each_incident() -> Result<()> {
    let pagerduty = Receiver::start(|_| (202, json!({ "status": "success" }))).await?;
    let dir = scratch_dir("notify")?;
    let key = secret(&dir, "0123456789abcdef0123456789abcdef");
    let route = route(json!({ "pagerduty": { "routing_key": key, "url": format!("{}/", pagerduty.address) } }));
    assert!(route.follows_incidents());
    for kind in [NoticeKind::IncidentOpened, NoticeKind::IncidentAcknowledged, NoticeKind::IncidentClosed] {
        route.deliver(&page(kind)).await.map_err(anyhow::Error::msg)?;
    }
    let sent = pagerduty.sent();
    let actions: Vec<&str> = sent.iter().filter_map(|one| one.body["event_action"].as_str()).collect();
    assert_eq!(actions, ["trigger", "acknowledge", "resolve"]);
    for one in &sent {
        assert_eq!((one.method.as_str(), one.path.as_str()), ("POST", "/v2/enqueue"));
        assert_eq!(one.body["routing_key"], json!("0123456789abcdef0123456789abcdef"));
        assert_eq!(one.body["dedup_key"], json!("failoverd/shop/INC-20261128-001"));
    }
    // What the documentation requires of a trigger.
    let payload = &sent[0].body["payload"];
    assert_eq!((&payload["source"], &payload["severity"]), (&json!("shop"), &json!("critical")));
    assert!(payload["summary"].as_str().is_some_and(|text| text.contains("api is down")), "{payload}");
    payload["timestamp"].as_str().context("no timestamp")?.parse::<jiff::Timestamp>()?;
    Ok(())
}

#[tokio::test]
async fn what_a_provider_refuses_is_told_without_the_secret() -> Result<()> {
    let refusing =
        Receiver::start(|sent| (400, json!({ "errors": [format!("bad key {}", sent.body["routing_key"])] }))).await?;
    let dir = scratch_dir("notify")?;
    let route =
        route(json!({ "pagerduty": { "routing_key": secret(&dir, "hunter2hunter2"), "url": refusing.address } }));
    let error = route.deliver(&page(NoticeKind::IncidentOpened)).await.unwrap_err();
    assert!(error.starts_with("pagerduty: status 400") && error.contains("bad key"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    Ok(())
}

#[tokio::test]
async fn opsgenie_creates_adds_to_acknowledges_and_closes_by_alias() -> Result<()> {
    let opsgenie = Receiver::start(|_| (202, json!({ "result": "Request will be processed" }))).await?;
    let dir = scratch_dir("notify")?;
    let table = json!({ "opsgenie": { "key": secret(&dir, "genie-key"), "teams": ["dba"], "url": opsgenie.address } });
    let route = route(table);
    for kind in [
        NoticeKind::IncidentOpened,
        NoticeKind::RunParked,
        NoticeKind::IncidentAcknowledged,
        NoticeKind::IncidentClosed,
    ] {
        route.deliver(&page(kind)).await.map_err(anyhow::Error::msg)?;
    }
    let sent = opsgenie.sent();
    let alias = "failoverd%2Fshop%2FINC%2D20261128%2D001";
    let paths: Vec<String> = sent.iter().map(|one| one.path.clone()).collect();
    let of_alert = |verb: &str| format!("/v2/alerts/{alias}/{verb}?identifierType=alias");
    assert_eq!(
        paths,
        [
            "/v2/alerts".to_owned(),
            "/v2/alerts".to_owned(),
            of_alert("notes"),
            of_alert("acknowledge"),
            of_alert("close")
        ]
    );
    assert!(sent.iter().all(|one| one.headers.get("authorization").is_some_and(|text| text == "GenieKey genie-key")));
    let alert = &sent[0].body;
    assert_eq!((&alert["priority"], &alert["alias"]), (&json!("P1"), &json!("failoverd/shop/INC-20261128-001")));
    assert_eq!(alert["responders"], json!([{ "type": "team", "name": "dba" }]));
    assert!(alert["message"].as_str().is_some_and(|text| text.chars().count() <= 130));
    Ok(())
}

#[tokio::test]
async fn slack_has_a_thread_for_each_incident_and_its_200_may_be_a_refusal() -> Result<()> {
    let slack = Receiver::start(|sent| match sent.body["channel"].as_str() {
        Some("C1") => (200, json!({ "ok": true, "ts": "1700000000.000100" })),
        _ => (200, json!({ "ok": false, "error": "channel_not_found" })),
    })
    .await?;
    let dir = scratch_dir("notify")?;
    let token = secret(&dir, "xoxb-token");
    let talk = route(json!({ "slack": { "token": token, "channel": "C1", "url": slack.address } }));
    for kind in [NoticeKind::IncidentOpened, NoticeKind::Holding, NoticeKind::IncidentClosed] {
        talk.deliver(&page(kind)).await.map_err(anyhow::Error::msg)?;
    }
    let sent = slack.sent();
    assert!(sent.iter().all(|one| one.path == "/chat.postMessage"
        && one.headers.get("authorization").is_some_and(|text| text == "Bearer xoxb-token")));
    assert_eq!(sent[0].body["thread_ts"], Value::Null, "the first one is the thread");
    assert_eq!(
        (&sent[1].body["thread_ts"], &sent[1].body["reply_broadcast"]),
        (&json!("1700000000.000100"), &json!(false))
    );
    assert_eq!(sent[2].body["reply_broadcast"], json!(true), "that it is over is seen in the channel");
    assert!(sent[0].body["blocks"].as_array().is_some_and(|blocks| blocks.len() >= 3));
    let lost = route(json!({ "slack": { "token": token, "channel": "C2", "url": slack.address } }));
    let error = lost.deliver(&page(NoticeKind::IncidentOpened)).await.unwrap_err();
    assert!(error.contains("channel_not_found"), "{error}");
    let hook = route(json!({ "slack": { "webhook": format!("{}/services/T/B/x", slack.address) } }));
    hook.deliver(&page(NoticeKind::IncidentOpened)).await.map_err(anyhow::Error::msg)?;
    assert_eq!(slack.sent().last().map(|one| one.path.clone()), Some("/services/T/B/x".into()));
    Ok(())
}

/// A page that keeps its incidents, as far as the route asks of it.
#[tokio::test]
async fn a_status_page_has_one_incident_and_says_only_what_the_file_says() -> Result<()> {
    let incidents: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = Arc::clone(&incidents);
    let statuspage = Receiver::start(move |sent| {
        let mut kept = kept.lock().unwrap();
        match (sent.method.as_str(), sent.path.as_str()) {
            ("GET", "/v1/pages/p1/incidents/unresolved") => {
                (200, kept.iter().filter(|one| one["status"] != json!("resolved")).cloned().collect())
            }
            ("POST", "/v1/pages/p1/incidents") => {
                let mut incident = sent.body["incident"].clone();
                incident["id"] = json!(format!("i{}", kept.len()));
                kept.push(incident.clone());
                (201, incident)
            }
            ("PATCH", "/v1/pages/p1/incidents/i0") => {
                kept[0]["status"] = sent.body["incident"]["status"].clone();
                kept[0]["body"] = sent.body["incident"]["body"].clone();
                (200, kept[0].clone())
            }
            _ => (404, json!({ "error": "Not found" })),
        }
    })
    .await?;
    let dir = scratch_dir("notify")?;
    let route = route(json!({ "statuspage": {
        "key": secret(&dir, "page-key"), "page": "p1", "title": "Checkout is not available",
        "components": ["c1"], "resolved": "Checkout works again.", "url": statuspage.address,
    } }));
    // Delivered twice, since nobody can be sure that it was delivered once.
    for kind in [NoticeKind::IncidentOpened, NoticeKind::IncidentOpened, NoticeKind::Holding, NoticeKind::RunStarted] {
        route.deliver(&page(kind)).await.map_err(anyhow::Error::msg)?;
    }
    {
        let kept = incidents.lock().unwrap();
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!((&kept[0]["name"], &kept[0]["status"]), (&json!("Checkout is not available"), &json!("identified")));
        assert_eq!((&kept[0]["impact_override"], &kept[0]["component_ids"]), (&json!("critical"), &json!(["c1"])));
    }
    for _ in 0..2 {
        route.deliver(&page(NoticeKind::IncidentClosed)).await.map_err(anyhow::Error::msg)?;
    }
    let kept = incidents.lock().unwrap().clone();
    assert_eq!(
        (kept.len(), &kept[0]["status"], &kept[0]["body"]),
        (1, &json!("resolved"), &json!("Checkout works again."))
    );
    let said: String = statuspage.sent().iter().map(|one| String::from_utf8_lossy(&one.raw).into_owned()).collect();
    assert!(!said.contains("api is down") && !said.contains("first bad"), "customers read it: {said}");
    Ok(())
}

#[tokio::test]
async fn a_signed_webhook_can_be_checked_by_its_receiver() -> Result<()> {
    let receiver = Receiver::start(|_| (204, Value::Null)).await?;
    let dir = scratch_dir("notify")?;
    let route =
        route(json!({ "webhook": { "url": format!("{}/hook", receiver.address), "secret": secret(&dir, "hunter2") } }));
    route.deliver(&page(NoticeKind::IncidentOpened)).await.map_err(anyhow::Error::msg)?;
    let sent = receiver.sent().pop().context("nothing came")?;
    let signature = sent.headers.get("x-failoverd-signature").context("no signature")?;
    let (time, signed) =
        signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).context("another form")?;
    let file = dir.path().join("signed");
    std::fs::write(&file, [format!("{time}.").as_bytes(), &sent.raw].concat())?;
    let output = command("openssl").args(["dgst", "-sha256", "-hmac", "hunter2", "-r"]).arg(&file).output()?;
    let other = String::from_utf8(output.stdout)?;
    assert_eq!(other.split(' ').next(), Some(signed));
    Ok(())
}

/// A real Alertmanager.
struct Alertmanager {
    url: String,
    _server: Proc,
    _dir: tempfile::TempDir,
}

impl Alertmanager {
    async fn start() -> Result<Self> {
        let (dir, port) = (scratch_dir("alertmanager")?, port()?);
        let config = dir.path().join("alertmanager.yml");
        std::fs::write(&config, "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n")?;
        let mut program = command("prometheus-alertmanager");
        program.arg(format!("--config.file={}", config.display()));
        program.arg(format!("--storage.path={}", dir.path().join("data").display()));
        program.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--cluster.listen-address=");
        let mut server = Proc::start("alertmanager", program, &dir.path().join("log"))?;
        let url = format!("http://127.0.0.1:{port}");
        let ready = format!("{url}/-/ready");
        server
            .ready(START, "Alertmanager to be ready", async || {
                http().get(&ready).send().await?.error_for_status()?;
                Ok(())
            })
            .await?;
        Ok(Self { url, _server: server, _dir: dir })
    }

    async fn active(&self) -> Result<Vec<Value>> {
        let url = format!("{}/api/v2/alerts?active=true", self.url);
        Ok(http().get(url).send().await?.error_for_status()?.json().await?)
    }
}

#[tokio::test]
async fn a_real_alertmanager_shows_one_alert_until_the_incident_is_over() -> Result<()> {
    let alertmanager = Alertmanager::start().await?;
    let route = route(json!({ "alertmanager": { "url": alertmanager.url, "labels": { "team": "dba" } } }));
    for kind in [NoticeKind::IncidentOpened, NoticeKind::RunParked] {
        route.deliver(&page(kind)).await.map_err(anyhow::Error::msg)?;
    }
    let alerts = alertmanager.active().await?;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let labels = &alerts[0]["labels"];
    assert_eq!(
        (&labels["incident"], &labels["team"], &labels["severity"]),
        (&json!("INC-20261128-001"), &json!("dba"), &json!("P0"))
    );
    route.deliver(&notice(NoticeKind::IncidentClosed, Importance::Info)).await.map_err(anyhow::Error::msg)?;
    eventually(Duration::from_secs(20), "the alert to be over", async || {
        let alerts = alertmanager.active().await?;
        ensure!(alerts.is_empty(), "{alerts:?}");
        Ok(())
    })
    .await
}
