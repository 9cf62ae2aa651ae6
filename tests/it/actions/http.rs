//! `http.request`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use failoverd::model::{Observed, Verified};
use serde_json::{Value, json};

use super::{CANARY, Subject, accepted, before, clients, done, refused, secret, unknown, unseen};
use crate::fleet::proxy::{Mode, Proxy};

const KIND: &str = "http.request";

/// A request as the server got it.
#[derive(Clone, Debug)]
pub struct Got {
    /// Method, path and headers, a line each.
    pub head: String,
    pub body: String,
}

#[derive(Clone)]
struct State {
    status: u16,
    retry_after: bool,
    /// So many bytes come before what it says.
    padding: usize,
    got: Vec<Got>,
}

/// A server that answers what it is told to, and quotes the whole request: the worst that can come
/// back.
pub struct Echo {
    port: u16,
    state: Arc<Mutex<State>>,
    server: tokio::task::JoinHandle<()>,
}

impl Echo {
    pub async fn start(status: u16) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(Mutex::new(State { status, retry_after: false, padding: 0, got: Vec::new() }));
        let shared = state.clone();
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: String| async move {
            let mut head = format!("{method} {uri}\n");
            for (name, value) in &headers {
                head += &format!("{name}: {}\n", value.to_str().unwrap_or("?"));
            }
            let got = Got { head, body };
            let mut state = shared.lock().expect("not poisoned");
            let text = format!("{}{}{}", ".".repeat(state.padding), got.head, got.body);
            state.got.push(got);
            let mut headers = HeaderMap::new();
            headers.insert("location", "/elsewhere".parse().expect("a header"));
            if state.retry_after {
                headers.insert("retry-after", "1".parse().expect("a header"));
            }
            (StatusCode::from_u16(state.status).expect("a status"), headers, text)
        };
        let app = axum::Router::new().fallback(answer);
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { port, state, server })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn answer(&self, status: u16) {
        self.state.lock().expect("not poisoned").status = status;
    }

    fn retry_after(&self, given: bool) {
        self.state.lock().expect("not poisoned").retry_after = given;
    }

    fn pad(&self, bytes: usize) {
        self.state.lock().expect("not poisoned").padding = bytes;
    }

    pub fn last(&self) -> Option<Got> {
        self.state.lock().expect("not poisoned").got.last().cloned()
    }

    fn count(&self) -> usize {
        self.state.lock().expect("not poisoned").got.len()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn request(params: Value) -> Subject {
    Subject::new(KIND, params, &Arc::new(clients())).within(Duration::from_secs(3))
}

#[tokio::test]
async fn a_request_carries_what_the_step_says_and_the_epoch() -> Result<()> {
    let echo = Echo::start(200).await?;
    let (_file, token) = secret(&format!("Bearer {CANARY}"))?;
    let params = json!({
        "url": format!("{}/drain", echo.url()), "method": "PUT",
        "headers": { "Authorization": token }, "json": { "region": "us-east-1" },
    });
    let subject = request(params);
    assert_eq!(subject.observe().await, Observed::Unobservable);
    let evidence = accepted(subject.apply().await)?;
    ensure!(evidence.starts_with("status 200: PUT /drain"), "{evidence}");
    ensure!(evidence.contains("[redacted]") && evidence.chars().count() < 230, "{evidence}");
    subject.verify().await?;
    let got = echo.last().context("a request")?;
    for line in [
        format!("authorization: Bearer {CANARY}"),
        "content-type: application/json".into(),
        "failoverd-epoch: 5".into(),
        "failoverd-run: RUN-20261101-001".into(),
        "idempotency-key: RUN-20261101-001/step".into(),
    ] {
        ensure!(got.head.contains(&format!("{line}\n")), "{line} is not in\n{}", got.head);
    }
    assert_eq!(got.body, r#"{"region":"us-east-1"}"#);
    Ok(())
}

#[tokio::test]
async fn each_status_says_what_is_known() -> Result<()> {
    let echo = Echo::start(200).await?;
    let subject = request(json!({ "url": echo.url(), "body": "x" }));
    for (status, again) in [(400, false), (403, false), (404, false), (409, false), (307, false), (429, true)] {
        echo.answer(status);
        let reason = refused(subject.apply().await, again)?;
        ensure!(reason.contains(&format!("status {status}")), "{reason}");
    }
    // 302 and 303: how many servers answer a POST that they have carried out.
    for status in [500, 502, 503, 504, 408, 302, 303] {
        echo.answer(status);
        unknown(subject.apply().await)?;
    }
    // A proxy in front says so also where the server behind it was lost at work.
    echo.retry_after(true);
    echo.answer(503);
    unknown(subject.apply().await)?;
    let posts = echo.count();
    let subject = request(json!({ "url": echo.url(), "status": [202, 409] }));
    for status in [202, 409] {
        echo.answer(status);
        accepted(subject.apply().await)?;
    }
    echo.answer(200);
    unknown(subject.apply().await)?;
    assert_eq!(echo.count(), posts + 3, "redirects are not followed, and nothing is repeated");
    Ok(())
}

#[tokio::test]
async fn observing_tells_whether_it_was_done() -> Result<()> {
    let echo = Echo::start(200).await?;
    let observe = |contains: &str| {
        let observe = json!({ "url": format!("{}/state", echo.url()), "contains": contains });
        request(json!({ "url": echo.url(), "observe": observe }))
    };
    done(observe("GET /state").observe().await)?;
    observe("GET /state").verify().await?;
    before(observe("not there").observe().await)?;
    echo.answer(404);
    before(observe("GET /state").observe().await)?;
    for status in [302, 403, 500] {
        echo.answer(status);
        unseen(observe("GET /state").observe().await)?;
    }
    Ok(())
}

/// Read as "not done", a part of an answer would make the request a second time (S8).
#[tokio::test]
async fn a_part_of_an_answer_tells_only_what_is_in_it() -> Result<()> {
    let echo = Echo::start(200).await?;
    let proxy = Proxy::to_port(echo.port).await?;
    let observe = |contains: &str| {
        let observe = json!({ "url": format!("http://127.0.0.1:{}/state", proxy.port()), "contains": contains });
        request(json!({ "url": echo.url(), "observe": observe }))
    };
    let marker = observe("idempotency-key");
    done(marker.observe().await)?;
    // Behind the head of the answer and its first line.
    proxy.set(Mode::DropAfter(190)).await?;
    done(observe("GET /state").observe().await)?;
    let reason = unseen(marker.observe().await)?;
    ensure!(reason.contains("broke off"), "{reason}");
    ensure!(matches!(marker.verify_once().await, Verified::NotYet { .. }), "a part proves nothing");

    // What comes after 64 KiB is not read.
    proxy.set(Mode::Pass).await?;
    for (padding, seen) in [(60 * 1024, true), (64 * 1024, false)] {
        echo.pad(padding);
        if seen {
            done(marker.observe().await)?;
            before(observe("not there").observe().await)?;
        } else {
            unseen(marker.observe().await)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn only_what_was_not_sent_is_a_refusal_of_the_network() -> Result<()> {
    let echo = Echo::start(200).await?;
    let proxy = Proxy::to_port(echo.port).await?;
    let (_file, url) = secret(&format!("http://user:{CANARY}@127.0.0.1:{}/{CANARY}", proxy.port()))?;
    let subject = request(json!({ "url": url })).within(Duration::from_secs(1));
    proxy.set(Mode::Refuse).await?;
    refused(subject.apply().await, true)?;
    assert_eq!(echo.count(), 0);
    proxy.set(Mode::LoseAnswers).await?;
    unknown(subject.apply().await)?;
    assert_eq!(echo.count(), 1, "it was done, and once");
    proxy.set(Mode::DropAfter(5)).await?;
    unknown(subject.apply().await)?;
    Ok(())
}

#[tokio::test]
async fn a_request_that_cannot_be_made_is_refused_with_its_reason() -> Result<()> {
    let echo = Echo::start(200).await?;
    let missing = json!({ "env": "FAILOVERD_TEST_NOT_SET" });
    let reason = refused(request(json!({ "url": echo.url(), "headers": { "x": missing } })).apply().await, false)?;
    ensure!(reason.contains("FAILOVERD_TEST_NOT_SET is not set"), "{reason}");
    let (_file, unfit) = secret(&format!("{CANARY}\u{7f}\ncr"))?;
    refused(request(json!({ "url": echo.url(), "headers": { "x": unfit } })).apply().await, false)?;
    let (_file, url) = secret(&format!("no-scheme-{CANARY}"))?;
    refused(request(json!({ "url": url })).apply().await, false)?;
    refused(request(json!({ "url": echo.url(), "ca_file": "/nonexistent" })).apply().await, false)?;
    let denied = request(json!({ "url": echo.url() })).overtaken();
    denied.apply().await.expect_err("overtaken");
    let late = request(json!({ "url": echo.url() })).within(Duration::ZERO);
    let context = late.context.clone();
    refused(late.apply_at(&context).await, true)?;
    assert_eq!((echo.count(), denied.permits.asked()), (0, 1));
    Ok(())
}

/// A body that answers 200 and says that it failed.
#[tokio::test]
async fn the_body_of_an_answer_has_to_be_as_expected() -> Result<()> {
    let echo = Echo::start(200).await?;
    let body = json!({ "state": "drained", "nodes": { "left": 0 } });
    let expecting = |expect: Value, more: Value| {
        let mut params = json!({ "url": echo.url(), "method": "PUT", "body": body.to_string(), "expect": expect });
        params.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        request(params)
    };
    accepted(expecting(json!({ "contains": "\"drained\"" }), json!({})).apply().await)?;
    let reason = refused(expecting(json!({ "contains": "not there" }), json!({})).apply().await, true)?;
    ensure!(reason.contains("the body does not contain `not there`"), "{reason}");
    let once = json!({ "idempotent": false });
    unknown(expecting(json!({ "contains": "not there" }), once).apply().await)?;
    // The server quotes the head of the request before its body: that is not JSON.
    let reason = refused(expecting(json!({ "json": { "/state": "drained" } }), json!({})).apply().await, true)?;
    ensure!(reason.contains("not JSON"), "{reason}");
    Ok(())
}

/// A server that answers with this JSON.
async fn says(value: Value) -> Result<String> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let app = axum::Router::new().fallback(move || async move { axum::Json(value) });
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

#[tokio::test]
async fn values_of_a_json_answer_are_compared_and_handed_on() -> Result<()> {
    let (_file, token) = secret(CANARY)?;
    let url =
        says(json!({ "state": "up", "n": 2.0, "at": { "host": "db.example" }, "secret": CANARY, "list": [] })).await?;
    let expect = |json: Value| {
        request(json!({
            "url": url, "idempotent": true, "expect": { "json": json }, "headers": { "x-token": token },
        }))
    };
    accepted(expect(json!({ "/state": "up", "/n": 2 })).apply().await)?;
    let reason = refused(expect(json!({ "/state": "down" })).apply().await, true)?;
    ensure!(reason.contains("/state is \"up\", not \"down\""), "{reason}");
    refused(expect(json!({ "/missing": 1 })).apply().await, true)?;

    let handing = |outputs: Value| {
        request(json!({
            "url": url, "method": "GET", "outputs": outputs, "headers": { "x-token": token },
        }))
    };
    let subject = handing(json!({ "host": "/at/host", "count": "/n" }));
    accepted(subject.apply().await)?;
    let Verified::Yes { outputs, .. } = subject.verify_once().await else { anyhow::bail!("not verified") };
    assert_eq!(
        outputs.into_iter().collect::<Vec<_>>(),
        [("count".into(), "2.0".into()), ("host".into(), "db.example".into())]
    );
    for (pointer, why) in [("/secret", "holds a secret"), ("/list", "no text"), ("/missing", "there is no /missing")] {
        let Verified::NotYet { evidence } = handing(json!({ "x": pointer })).verify_once().await else {
            anyhow::bail!("{pointer} was handed on")
        };
        ensure!(evidence.contains(why), "{evidence}");
    }
    let observe = json!({ "url": url, "contains": "up" });
    let outputs = json!({ "host": "/at/host" });
    let params = json!({ "url": url, "observe": observe, "outputs": outputs, "headers": { "x-token": token } });
    let subject = request(params);
    let Verified::Yes { outputs, .. } = subject.verify_once().await else { anyhow::bail!("not verified") };
    assert_eq!(outputs["host"], "db.example");
    Ok(())
}

#[tokio::test]
async fn a_busy_server_is_given_the_time_that_it_asks_for() -> Result<()> {
    let echo = Echo::start(429).await?;
    echo.retry_after(true);
    let subject = request(json!({ "url": echo.url(), "idempotent": true }));
    let began = std::time::Instant::now();
    refused(subject.apply().await, true)?;
    echo.answer(503);
    unknown(subject.apply().await)?;
    ensure!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    // Not longer than the step has time; and nobody else's header is heeded.
    let began = std::time::Instant::now();
    refused(request(json!({ "url": says_busy().await? })).apply().await, true)?;
    ensure!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    Ok(())
}

/// A server that wants to be left alone for an hour.
async fn says_busy() -> Result<String> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let busy = async || (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "3600")], "busy");
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(busy)).await });
    Ok(url)
}
