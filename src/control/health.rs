//! `/metrics`, `/healthz` and `/readyz` over TCP. Read-only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::watch;

use super::metrics::Metrics;
use crate::core::view::StatusView;

/// What the daemon's loop tells of itself, without a lock: health must be seen also, and above
/// all, while the loop is stuck.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: Instant,
    last_beat: AtomicU64,
    state_open: AtomicBool,
}

impl Pulse {
    /// A pulse that has just beaten.
    pub fn new() -> Self {
        let inner = Inner { base: Instant::now(), last_beat: AtomicU64::new(0), state_open: AtomicBool::new(false) };
        Self(Arc::new(inner))
    }

    /// The loop has come round.
    pub fn beat(&self) {
        let now = u64::try_from(self.0.base.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_beat.store(now, Ordering::Relaxed);
    }

    /// How long ago the loop came round.
    pub fn age(&self) -> Duration {
        self.0.base.elapsed().saturating_sub(Duration::from_millis(self.0.last_beat.load(Ordering::Relaxed)))
    }

    /// Is the state store open and replayed?
    pub fn set_state_open(&self, open: bool) {
        self.0.state_open.store(open, Ordering::Relaxed);
    }

    fn state_open(&self) -> bool {
        self.0.state_open.load(Ordering::Relaxed)
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

/// What the endpoints look at.
#[derive(Clone)]
pub struct Health {
    /// The loop.
    pub pulse: Pulse,
    /// The loop may not have come round for so long.
    pub stuck_after: Duration,
    /// The newest status; the gauges are made from it at each scrape.
    pub status: watch::Receiver<Arc<StatusView>>,
    /// The metrics.
    pub metrics: Metrics,
}

/// The routes.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/", get(async || "failoverd: /metrics /healthz /readyz\n"))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(health)
}

/// The body of `/healthz` and `/readyz`.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    reasons: Vec<String>,
}

impl IntoResponse for Report {
    fn into_response(self) -> Response {
        let status = if self.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(self)).into_response()
    }
}

async fn metrics(State(health): State<Health>) -> Response {
    let view = Arc::clone(&health.status.borrow());
    health.metrics.update_status(&view);
    match health.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn healthz(State(health): State<Health>) -> Report {
    let reasons = stuck(&health).into_iter().collect::<Vec<_>>();
    Report { ok: reasons.is_empty(), reasons }
}

async fn readyz(State(health): State<Health>) -> Report {
    let view = Arc::clone(&health.status.borrow());
    let mut reasons: Vec<String> = stuck(&health).into_iter().collect();
    if !health.pulse.state_open() {
        reasons.push("the state store is not open yet".into());
    }
    if let Some(what) = &view.in_doubt {
        reasons.push(format!("in doubt: {what}"));
    }
    let unseen: Vec<&str> =
        view.probes.iter().filter(|probe| probe.last_seen.is_none()).map(|probe| probe.name.as_str()).collect();
    if !unseen.is_empty() {
        reasons.push(format!("not observed yet: {}", unseen.join(", ")));
    }
    Report { ok: reasons.is_empty(), reasons }
}

fn stuck(health: &Health) -> Option<String> {
    let age = health.pulse.age();
    (age > health.stuck_after).then(|| format!("the loop has not come round for {} s", age.as_secs()))
}
