//! A small application with a health endpoint: as a real process, or inside the test.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::child::{Proc, command};
use super::{START, fleet_dir, http, port, scratch_dir};

/// A process of its own, so that SIGKILL (connection refused, reset) and SIGSTOP (accepts and
/// never answers) are what a client really sees.
pub struct HttpApp {
    region: String,
    port: u16,
    server: Option<Proc>,
    dir: TempDir,
}

impl HttpApp {
    /// Starts it; it answers `{"status":"ok","region":REGION}` on every path.
    pub async fn start(region: &str) -> Result<Self> {
        let mut this = Self { region: region.to_owned(), port: port()?, server: None, dir: scratch_dir("app")? };
        this.restart().await?;
        Ok(this)
    }

    /// Starts it again on the same port, healthy; kills it first where it still runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9();
        let mut app = command("/usr/bin/python3");
        app.arg(fleet_dir().join("http_app.py")).args([&self.port.to_string(), &self.region]);
        let log = self.dir.path().join("app.log");
        let seen = self.at("/_seen");
        let server = self.server.insert(Proc::start("the application", app, &log)?);
        server
            .ready(START, "the application to answer", async || {
                http().get(&seen).send().await?.error_for_status()?;
                Ok(())
            })
            .await
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of its health endpoint.
    pub fn url(&self) -> String {
        self.at("/health")
    }

    fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Changes what it answers: any of `status`, `body`, `content_type`, `delay` (seconds),
    /// `reset`.
    pub async fn set(&self, change: Value) -> Result<()> {
        let answer = http().post(self.at("/_control")).json(&change).send();
        answer.await?.error_for_status()?;
        Ok(())
    }

    /// Answers with this status and body from now on.
    pub async fn answer(&self, status: u16, body: &str) -> Result<()> {
        self.set(json!({ "status": status, "body": body })).await
    }

    /// Healthy again.
    pub async fn heal(&self) -> Result<()> {
        self.set(json!({ "reset": true })).await
    }

    /// How many requests it has seen.
    pub async fn requests(&self) -> Result<u64> {
        let seen: Value = http().get(self.at("/_seen")).send().await?.json().await?;
        seen["requests"].as_u64().context("a count")
    }

    /// Was it started, and not killed since?
    pub fn runs(&self) -> bool {
        self.server.is_some()
    }

    /// SIGKILL: the next connection is refused.
    pub fn kill9(&mut self) {
        self.server = None;
    }

    /// It accepts connections (the kernel does) and never answers.
    pub fn sigstop(&mut self) -> Result<()> {
        self.proc()?.signal(Signal::STOP)
    }

    /// It goes on where it was.
    pub fn sigcont(&mut self) -> Result<()> {
        self.proc()?.signal(Signal::CONT)
    }

    fn proc(&mut self) -> Result<&mut Proc> {
        self.server.as_mut().context("the application is down")
    }
}

/// What an in-process application answers.
#[derive(Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
    /// How long it waits first.
    pub delay: Duration,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The path.
    pub path: String,
    /// The headers.
    pub headers: axum::http::HeaderMap,
    /// The body.
    pub body: String,
}

/// So many requests are remembered with all that was in them.
const REMEMBERED: usize = 1000;

#[derive(Default)]
struct Shared {
    answer: Option<Answer>,
    /// What a path answers, where it is not what all do.
    paths: HashMap<String, Answer>,
    /// The paths that do not answer until they are released.
    held: HashSet<String>,
    /// Is every second answer a 503?
    flapping: bool,
    requests: u64,
    seen: VecDeque<Seen>,
}

impl Shared {
    fn take(&mut self, seen: Seen) -> Option<Answer> {
        self.requests += 1;
        let flapped = (self.flapping && self.requests.is_multiple_of(2)).then(|| Answer::status(503));
        let answer = flapped.or_else(|| self.paths.get(&seen.path).or(self.answer.as_ref()).cloned());
        self.seen.push_back(seen);
        if self.seen.len() > REMEMBERED {
            self.seen.pop_front();
        }
        answer
    }
}

/// The same application inside the test, for when no process needs to die.
pub struct LocalApp {
    port: u16,
    shared: Arc<Mutex<Shared>>,
    server: tokio::task::JoinHandle<()>,
}

impl LocalApp {
    /// Starts it with the answer that [`HttpApp`] gives.
    pub async fn start(region: &str) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let healthy = json!({ "status": "ok", "region": region }).to_string();
        let state = shared.clone();
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let (state, healthy) = (state.clone(), healthy.clone());
            async move { answer(&state, healthy, request).await }
        });
        let server = tokio::spawn(async move {
            // It ends when the task is aborted.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { port, shared, server })
    }

    /// The URL of its health endpoint.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/health", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what it answers; `None` is healthy.
    pub fn set(&self, answer: Option<Answer>) {
        lock(&self.shared).answer = answer;
    }

    /// Changes what one path answers; `None`: what all do.
    pub fn set_path(&self, path: &str, answer: Option<Answer>) {
        let mut shared = lock(&self.shared);
        match answer {
            Some(answer) => shared.paths.insert(path.to_owned(), answer),
            None => shared.paths.remove(path),
        };
    }

    /// Every second answer is a 503.
    pub fn flap(&self, flapping: bool) {
        lock(&self.shared).flapping = flapping;
    }

    /// A path that takes requests and does not answer them before [`LocalApp::release`].
    pub fn hold(&self, path: &str) {
        lock(&self.shared).held.insert(path.to_owned());
    }

    /// Lets a held path answer.
    pub fn release(&self, path: &str) {
        lock(&self.shared).held.remove(path);
    }

    /// The URL of a path.
    pub fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// How many requests it has seen.
    pub fn requests(&self) -> u64 {
        lock(&self.shared).requests
    }

    /// The newest requests, the oldest of them first.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared).seen.iter().cloned().collect()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        lock(&self.shared).seen.clear();
    }

    /// How many of the newest requests went to a path.
    pub fn seen_at(&self, path: &str) -> usize {
        lock(&self.shared).seen.iter().filter(|seen| seen.path == path).count()
    }
}

impl Answer {
    /// This status, at once.
    pub fn status(status: u16) -> Self {
        Self { status, body: "{}".into(), delay: Duration::ZERO }
    }
}

impl Drop for LocalApp {
    fn drop(&mut self) {
        self.server.abort();
        // A header, or the path of a webhook, may be the secret's own place; what is said is not.
        for seen in self.seen() {
            super::canary::look(&format!("what was sent to {}", seen.path), seen.body.as_bytes());
        }
    }
}

async fn answer(
    state: &Mutex<Shared>,
    healthy: String,
    request: axum::extract::Request,
) -> impl axum::response::IntoResponse + use<> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let path = head.uri.path().to_owned();
    let body = String::from_utf8_lossy(&body).into_owned();
    let answer = lock(state).take(Seen { path: path.clone(), headers: head.headers, body });
    while lock(state).held.contains(&path) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = answer.unwrap_or(Answer { status: 200, body: healthy, delay: Duration::ZERO });
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    let status = axum::http::StatusCode::from_u16(answer.status).unwrap_or_default();
    (status, [(axum::http::header::CONTENT_TYPE, "application/json")], answer.body)
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(|e| e.into_inner())
}
