//! A small application with a health endpoint: as a real process, or inside the test.

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

#[derive(Default)]
struct Shared {
    answer: Option<Answer>,
    requests: u64,
    taken: Vec<String>,
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
        let app = axum::Router::new().fallback(move |body: String| {
            let (state, healthy) = (state.clone(), healthy.clone());
            async move {
                let answer = {
                    let mut state = lock(&state);
                    state.requests += 1;
                    if state.answer.as_ref().is_none_or(|answer| answer.status < 300) {
                        state.taken.push(body);
                    }
                    state.answer.clone()
                };
                let answer = answer.unwrap_or(Answer { status: 200, body: healthy, delay: Duration::ZERO });
                if !answer.delay.is_zero() {
                    tokio::time::sleep(answer.delay).await;
                }
                let status = axum::http::StatusCode::from_u16(answer.status)
                    .unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
                let json = [(axum::http::header::CONTENT_TYPE, "application/json")];
                (status, json, answer.body)
            }
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

    /// How many requests it has seen.
    pub fn requests(&self) -> u64 {
        lock(&self.shared).requests
    }

    /// The bodies of the requests that it has answered well, in order.
    pub fn taken(&self) -> Vec<String> {
        lock(&self.shared).taken.clone()
    }

    /// Forgets them.
    pub fn forget_taken(&self) {
        lock(&self.shared).taken.clear();
    }
}

impl Drop for LocalApp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(|e| e.into_inner())
}
