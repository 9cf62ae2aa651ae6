//! `cloudflare.dns` against a double: there is no Cloudflare that a test could have. The double
//! holds one zone, checks the token, and answers in the shapes that Cloudflare documents
//! (<https://developers.cloudflare.com/api/resources/dns/subresources/records/>); what Cloudflare
//! really does was never seen by these tests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use axum::Json;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use failoverd::model::Verified;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{CANARY, Subject, accepted, before, clients, done, impossible, refused, secret, unknown, unseen};

const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";
const NAME: &str = "api.example.com";

/// What the next changes are answered with.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// It is done, and answered with this.
    After(u16),
    /// It is not done, and answered with this status and code.
    Instead(u16, i64),
}

struct Zone {
    records: Vec<Value>,
    fault: Fault,
    /// Methods and paths of all changes.
    changes: Vec<String>,
}

/// The double, with one zone.
pub struct Double {
    /// Where its API is.
    pub url: String,
    zone: Arc<Mutex<Zone>>,
    token: Value,
    _file: NamedTempFile,
}

fn failed(status: u16, code: i64, message: &str) -> (StatusCode, Json<Value>) {
    let body =
        json!({ "success": false, "errors": [{ "code": code, "message": message }], "messages": [], "result": null });
    (StatusCode::from_u16(status).expect("a status"), Json(body))
}

fn answer(
    zone: &Mutex<Zone>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> (StatusCode, Json<Value>) {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if token != format!("Bearer {CANARY}-token") {
        // It quotes what it was sent: the worst that can come back.
        return failed(403, 9109, &format!("Invalid access token {token}"));
    }
    let base = format!("/client/v4/zones/{ZONE}/dns_records");
    let Some(rest) = uri.path().strip_prefix(&base) else {
        return failed(404, 7003, "Could not route to the zone, perhaps your object identifier is invalid?");
    };
    let mut zone = zone.lock().expect("not poisoned");
    let id = rest.trim_start_matches('/').to_owned();
    if method == Method::GET {
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let wants = |key: &str, field: &Value| query.iter().any(|(name, value)| name == key && field == value);
        let found: Vec<Value> = zone
            .records
            .iter()
            .filter(|record| wants("type", &record["type"]) && wants("name.exact", &record["name"]))
            .cloned()
            .collect();
        let info = json!({ "page": 1, "per_page": 100, "count": found.len(), "total_count": found.len() });
        let body = json!({ "success": true, "errors": [], "messages": [], "result": found, "result_info": info });
        return (StatusCode::OK, Json(body));
    }
    zone.changes.push(format!("{method} {rest}"));
    if let Fault::Instead(status, code) = zone.fault {
        return failed(status, code, "an error of the test");
    }
    let change: Value = serde_json::from_slice(body).unwrap_or_default();
    if change["proxied"] == true && change["ttl"] != 1 {
        return failed(400, 1004, "DNS Validation Error");
    }
    let place = zone.records.iter().position(|record| record["id"] == id);
    let result = match (method.as_str(), place) {
        ("POST", _) => {
            let mut record = change;
            record["id"] = json!(format!("new{}", zone.records.len()));
            zone.records.push(record.clone());
            record
        }
        ("PATCH", Some(place)) => {
            let record = zone.records[place].as_object_mut().expect("a record");
            record.extend(change.as_object().expect("a table").clone());
            zone.records[place].clone()
        }
        ("DELETE", Some(place)) => zone.records.remove(place),
        _ => return failed(404, 81_044, "Record does not exist."),
    };
    if let Fault::After(status) = zone.fault {
        return failed(status, 0, "an error of the test");
    }
    (StatusCode::OK, Json(json!({ "success": true, "errors": [], "messages": [], "result": result })))
}

impl Double {
    /// Starts it with these records; the token is [`CANARY`] with `-token` behind it.
    pub async fn start(records: Value) -> Result<Self> {
        let records = records.as_array().expect("a list").clone();
        let zone = Arc::new(Mutex::new(Zone { records, fault: Fault::None, changes: Vec::new() }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/client/v4", listener.local_addr()?);
        let shared = zone.clone();
        let app =
            axum::Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| async move {
                answer(&shared, &method, &uri, &headers, &body)
            });
        tokio::spawn(async move { axum::serve(listener, app).await });
        let (file, token) = secret(&format!("{CANARY}-token"))?;
        Ok(Self { url, zone, token, _file: file })
    }

    fn action(&self, more: Value) -> Subject {
        let mut params = json!({
            "zone": ZONE, "name": NAME, "content": "10.0.0.2", "token": self.token, "base_url": self.url,
        });
        params.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        Subject::new("cloudflare.dns", params, &Arc::new(clients())).within(Duration::from_secs(5))
    }

    fn fault(&self, fault: Fault) {
        self.zone.lock().expect("not poisoned").fault = fault;
    }

    /// The records as they are now.
    pub fn records(&self) -> Vec<Value> {
        self.zone.lock().expect("not poisoned").records.clone()
    }

    fn changes(&self) -> Vec<String> {
        self.zone.lock().expect("not poisoned").changes.clone()
    }
}

fn record(content: &str, more: Value) -> Value {
    let mut record = json!({
        "id": "r1", "type": "A", "name": NAME, "content": content, "proxied": false, "ttl": 300, "comment": "the api",
    });
    record.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
    record
}

#[tokio::test]
async fn a_record_is_moved_and_marked_and_moved_back() -> Result<()> {
    let other = record("10.9.9.9", json!({ "id": "r2", "name": "web.example.com" }));
    let double = Double::start(json!([record("10.0.0.1", json!({})), other])).await?;
    let subject = double.action(json!({}));
    ensure!(matches!(subject.verify_once().await, Verified::NotYet { .. }), "not yet");
    let was = subject.run().await?;
    let moved = record("10.0.0.2", json!({ "ttl": 60, "comment": "failoverd epoch=5 run=RUN-20261101-001" }));
    assert_eq!(double.records(), [moved, other.clone()]);
    done(subject.observe().await)?;
    assert_eq!((double.changes(), subject.permits.asked()), (vec!["PATCH /r1".to_owned()], 1));
    let older = double.action(json!({ "content": "10.0.0.1" })).at_epoch(4);
    ensure!(impossible(older.observe().await)?.starts_with("fenced by epoch 5"), "observe");
    ensure!(refused(older.apply().await, false)?.starts_with("fenced by epoch 5"), "apply");
    accepted(subject.compensate(&was).await)?;
    assert_eq!(double.records(), [record("10.0.0.1", json!({})), other]);
    refused(subject.compensate(&Value::Null).await, false)?;
    Ok(())
}

#[tokio::test]
async fn one_that_is_there_already_is_marked_and_one_that_is_not_is_made() -> Result<()> {
    let double = Double::start(json!([record("10.0.0.2", json!({ "proxied": true, "ttl": 1 }))])).await?;
    let subject = double.action(json!({}));
    before(subject.observe().await)?;
    subject.run().await?;
    let records = double.records();
    assert_eq!((&records[0]["proxied"], &records[0]["ttl"]), (&json!(true), &json!(1)), "it stays proxied");
    let made = double.action(json!({ "name": "new.example.com", "record": "CNAME", "content": "LB.example.net." }));
    let was = made.run().await?;
    assert_eq!(double.records()[1]["name"], "new.example.com");
    accepted(made.compensate(&was).await)?;
    assert_eq!(double.records().len(), 1);
    // Somebody else's change is left alone.
    let was = double.action(json!({ "content": "10.0.0.3" })).run().await?;
    double.zone.lock().expect("not poisoned").records[0]["content"] = json!("10.0.0.99");
    let undo = double.action(json!({ "content": "10.0.0.3" }));
    ensure!(refused(undo.compensate(&was).await, false)?.contains("left alone"), "left alone");
    Ok(())
}

#[tokio::test]
async fn what_goes_wrong_is_told_without_the_token() -> Result<()> {
    let double = Double::start(json!([record("10.0.0.1", json!({}))])).await?;
    let subject = double.action(json!({}));
    for (fault, again) in [((429, 971), true), ((400, 81_058), true), ((400, 1004), false), ((403, 10_000), false)] {
        double.fault(Fault::Instead(fault.0, fault.1));
        let reason = refused(subject.apply().await, again)?;
        ensure!(reason.contains(&format!("an error of the test ({})", fault.1)), "{reason}");
    }
    for status in [500, 502, 520] {
        double.fault(Fault::After(status));
        unknown(double.action(json!({ "content": format!("10.0.1.{}", status - 490) })).apply().await)?;
    }
    done(double.action(json!({ "content": "10.0.1.30" })).observe().await)?;
    double.fault(Fault::None);
    let (_file, wrong) = secret(&format!("{CANARY}-wrong"))?;
    let reason = impossible(double.action(json!({ "token": wrong })).observe().await)?;
    ensure!(reason.contains("Zone / DNS / Edit") && reason.contains("9109"), "{reason}");
    let elsewhere = json!({ "zone": "00000000000000000000000000000000" });
    ensure!(impossible(double.action(elsewhere).observe().await)?.contains("7003"), "no such zone");
    let twice = record("10.0.0.7", json!({ "id": "r3" }));
    double.zone.lock().expect("not poisoned").records.push(twice);
    ensure!(impossible(double.action(json!({})).observe().await)?.contains("several A records"), "which of them?");
    let changes = double.changes().len();
    let denied = double.action(json!({ "name": "new.example.com" })).overtaken();
    denied.apply().await.expect_err("overtaken");
    assert_eq!(double.changes().len(), changes);
    unseen(double.action(json!({ "base_url": "http://127.0.0.1:1/client/v4" })).observe().await)?;
    refused(double.action(json!({ "base_url": "http://127.0.0.1:1/client/v4" })).apply().await, true)?;
    Ok(())
}
