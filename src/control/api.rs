//! The API on the Unix socket: HTTP/1.1 with JSON.
//!
//! | route | answer |
//! |---|---|
//! | `GET /v1/status` | [`StatusView`] |
//! | `GET /v1/explain[?scenario=NAME]` | a list of [`ScenarioView`] |
//! | `GET /v1/incidents` | a list of [`IncidentView`] |
//! | `GET /v1/incidents/ID/report` | a [`Report`], made from the journal |
//! | `GET /v1/runs`, `GET /v1/runs/ID` | a list of [`RunView`], one [`RunView`] |
//! | `GET /v1/notices` | a list of [`NoticeView`] |
//! | `GET /v1/evidence` | an [`EvidenceView`]: the recovery-time matrix, budgets, drills |
//! | `GET /v1/scorecard` | a [`Scorecard`]: what alert-only mode would have done |
//! | `GET /v1/readiness` | [`ReadinessView`] |
//! | `POST /v1/readiness` | has every plan looked at, and answers [`ReadinessAsked`] |
//! | `GET /v1/watch` | a [`StatusView`] a line, at each change and at least every five seconds |
//! | `POST /v1/command` | a [`Command`] in, an [`Answer`] out |
//!
//! Everything that is not a success is a [`Refusal`]: `{"code": …, "message": …}`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures::Stream;
use serde::Deserialize;
use tokio::sync::watch;

use super::metrics::Metrics;
use super::peer::{Gate, Peer, Role};
use crate::core::matrix::EvidenceView;
use crate::core::report::Report;
use crate::core::scorecard::Scorecard;
use crate::core::view::{IncidentView, NoticeView, ReadinessAsked, ReadinessView, RunView, ScenarioView, StatusView};
use crate::core::{Answer, Command, Refusal};
use crate::model::{IncidentId, RunId};

/// The longest body of a request.
pub const LONGEST_BODY: usize = 64 * 1024;

/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(5);

/// How long the daemon may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// How long the status may take before the last known one is shown.
const STATUS_TIME: Duration = Duration::from_secs(3);

/// How often a watcher hears something although nothing changes.
const WATCH_BEAT: Duration = Duration::from_secs(5);

/// What the daemon offers.
#[async_trait]
pub trait Handle: Send + Sync + 'static {
    /// Everything at a glance.
    async fn status(&self) -> StatusView;
    /// The incidents, the newest first.
    async fn incidents(&self) -> Vec<IncidentView>;
    /// The runs, the newest first.
    async fn runs(&self) -> Vec<RunView>;
    /// One run.
    async fn run(&self, id: &RunId) -> Option<RunView>;
    /// The notices that have not reached their routes, the newest first.
    async fn notices(&self) -> Vec<NoticeView> {
        Vec::new()
    }
    /// What is known of all plans: the recovery-time matrix, budgets, drills; `None` while the daemon ends.
    async fn evidence(&self) -> Option<EvidenceView>;
    /// What alert-only mode would have done; `None` while the daemon ends.
    async fn scorecard(&self) -> Option<Scorecard> {
        None
    }
    /// The report on an incident.
    ///
    /// # Errors
    /// [`Refusal`]: there is no such incident, or the journal cannot be read.
    async fn report(&self, id: &IncidentId) -> Result<Report, Refusal>;
    /// Carries out a command for somebody, and journals it.
    ///
    /// # Errors
    /// [`Refusal`], where a guard or the state of things forbids it.
    async fn command(&self, by: String, command: Command) -> Result<Answer, Refusal>;
    /// Whether each plan could be carried out, as it was last looked at.
    async fn readiness(&self) -> ReadinessView;
    /// Has every plan looked at again.
    async fn look_at_readiness(&self) -> ReadinessAsked;
    /// The status, pushed at every change.
    fn watch(&self) -> watch::Receiver<Arc<StatusView>>;
    /// Journals that somebody wanted what they may not.
    fn audit_refused(&self, by: String, what: String);
}

#[derive(Clone)]
struct Api {
    handle: Arc<dyn Handle>,
    gate: Arc<Gate>,
    metrics: Metrics,
}

/// The routes. Each request must carry its [`Peer`] as an extension, as `control::serve` sees to.
pub fn router(handle: Arc<dyn Handle>, gate: Arc<Gate>, metrics: Metrics) -> Router {
    let api = Api { handle, gate, metrics };
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/explain", get(explain))
        .route("/v1/incidents", get(incidents))
        .route("/v1/incidents/{id}/report", get(report))
        .route("/v1/runs", get(runs))
        .route("/v1/runs/{id}", get(run))
        .route("/v1/notices", get(notices))
        .route("/v1/evidence", get(evidence))
        .route("/v1/scorecard", get(scorecard))
        .route("/v1/readiness", get(readiness).post(look_at_readiness))
        .route("/v1/watch", get(watch))
        .route("/v1/command", post(command))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no_route", "there is no such route"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "this route has another method")
        })
        .layer(middleware::from_fn_with_state(api.clone(), admit))
        .with_state(api)
}

/// Lets in who may at least look, and bounds the time of the answer. Around every route, so that
/// none can forget it.
async fn admit(State(api): State<Api>, Extension(peer): Extension<Peer>, request: Request, next: Next) -> Response {
    let what = format!("{} {}", request.method(), request.uri().path());
    if let Err(problem) = api.may(peer, Role::Viewer, &what) {
        return problem.into_response();
    }
    match tokio::time::timeout(ANSWER_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "timeout",
            "the daemon did not answer in time; a command may still have been carried out: look with `failoverd status`",
        )
        .into_response(),
    }
}

impl Api {
    fn may(&self, peer: Peer, needed: Role, what: &str) -> Result<(), Problem> {
        if self.gate.role(peer).is_some_and(|role| role >= needed) {
            return Ok(());
        }
        if self.gate.audits(peer) {
            self.handle.audit_refused(self.gate.name(peer), what.to_owned());
        } else {
            tracing::debug!(uid = peer.uid, "a refusal was not audited: too many of this user within the minute");
        }
        Err(Problem::new(StatusCode::FORBIDDEN, "role", self.gate.refusal(peer, needed)))
    }
}

async fn status(State(api): State<Api>) -> Json<StatusView> {
    Json(newest(&*api.handle).await)
}

/// The status now; where the loop is stuck, the last one that it told, whose `at` says how old it
/// is. Somebody who is woken up by a stuck daemon wants to know what it knew.
async fn newest(handle: &dyn Handle) -> StatusView {
    match tokio::time::timeout(STATUS_TIME, handle.status()).await {
        Ok(view) => view,
        Err(_) => StatusView::clone(&handle.watch().borrow()),
    }
}

async fn incidents(State(api): State<Api>) -> Json<Vec<IncidentView>> {
    Json(api.handle.incidents().await)
}

async fn readiness(State(api): State<Api>) -> Json<ReadinessView> {
    Json(api.handle.readiness().await)
}

/// It changes nothing, but it calls outside: for who may operate.
async fn look_at_readiness(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
) -> Result<Json<ReadinessAsked>, Problem> {
    api.may(peer, Role::Operator, "look at the readiness of all plans")?;
    Ok(Json(api.handle.look_at_readiness().await))
}

async fn report(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Report>, Problem> {
    api.handle.report(&IncidentId::from(id.as_str())).await.map(Json).map_err(Problem::from)
}

async fn runs(State(api): State<Api>) -> Json<Vec<RunView>> {
    Json(api.handle.runs().await)
}

async fn notices(State(api): State<Api>) -> Json<Vec<NoticeView>> {
    Json(api.handle.notices().await)
}

async fn run(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<RunView>, Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "not_found", format!("there is no run `{}`", brief(&id)));
    api.handle.run(&RunId::from(id.as_str())).await.map(Json).ok_or_else(missing)
}

async fn scorecard(State(api): State<Api>) -> Result<Json<Scorecard>, Problem> {
    let ending = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ending", "the daemon is shutting down");
    api.handle.scorecard().await.map(Json).ok_or_else(ending)
}

async fn evidence(State(api): State<Api>) -> Result<Json<EvidenceView>, Problem> {
    let ending = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ending", "the daemon is shutting down");
    api.handle.evidence().await.map(Json).ok_or_else(ending)
}

#[derive(Deserialize)]
struct Which {
    scenario: Option<String>,
}

async fn explain(State(api): State<Api>, Query(which): Query<Which>) -> Result<Json<Vec<ScenarioView>>, Problem> {
    let mut scenarios = newest(&*api.handle).await.scenarios;
    if let Some(name) = which.scenario {
        let known: Vec<String> = scenarios.iter().map(|scenario| scenario.name.to_string()).collect();
        scenarios.retain(|scenario| scenario.name.as_str() == name);
        if scenarios.is_empty() {
            let text = format!("there is no scenario `{}`; there are: {}", brief(&name), known.join(", "));
            return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", text));
        }
    }
    Ok(Json(scenarios))
}

async fn watch(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Response {
    let stream = Body::from_stream(lines(api, peer));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], stream).into_response()
}

/// The newest status as a line, at each change. A slow reader skips what it was too slow for, so
/// that nothing piles up. Ends with the daemon, or once the reader may look no more.
fn lines(api: Api, peer: Peer) -> impl Stream<Item = Result<Bytes, serde_json::Error>> {
    let mut views = api.handle.watch();
    views.mark_changed();
    futures::stream::unfold(Some((views, api)), move |state| async move {
        let (mut views, api) = state?;
        let changed = tokio::time::timeout(WATCH_BEAT, views.changed()).await;
        if matches!(changed, Ok(Err(_))) || api.gate.role(peer).is_none() {
            return None;
        }
        let line = match changed {
            Ok(_) => line(&views.borrow_and_update()),
            // Nothing has changed, but the times in it have moved on.
            Err(_) => line(&newest(&*api.handle).await),
        };
        let go_on = line.is_ok().then_some((views, api));
        Some((line, go_on))
    })
}

fn line(view: &StatusView) -> Result<Bytes, serde_json::Error> {
    let mut line = serde_json::to_vec(view)?;
    line.push(b'\n');
    Ok(line.into())
}

async fn command(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Json<Answer>, Problem> {
    let body = body(request).await?;
    let command: Command = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_request", format!("not a command: {error}")))?;
    let name = command_name(&command);
    // The audit holds what was wanted, word for word.
    let what = serde_json::to_string(&command).unwrap_or_else(|_| name.to_owned());
    if let Err(problem) = api.may(peer, Role::needed(&command), &what) {
        api.metrics.command(name, "forbidden");
        return Err(problem);
    }
    let by = api.gate.name(peer);
    tracing::info!(%by, command = %what, "command");
    // On a task of its own: a caller that goes away must not cut a command in two.
    let task = tokio::spawn(async move { (api.handle.command(by, command).await, api.metrics) });
    let lost = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the daemon failed on this command");
    let (result, metrics) = task.await.map_err(lost)?;
    metrics.command(name, if result.is_ok() { "done" } else { "refused" });
    result.map(Json).map_err(Problem::from)
}

async fn body(request: Request) -> Result<Bytes, Problem> {
    let reading = axum::body::to_bytes(request.into_body(), LONGEST_BODY);
    match tokio::time::timeout(BODY_TIME, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the body was cut off, or is longer than {LONGEST_BODY} bytes"),
        )),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not come in time")),
    }
}

/// The command's name, for metrics: a fixed set.
pub fn command_name(command: &Command) -> &'static str {
    match command {
        Command::Pause => "pause",
        Command::Resume => "resume",
        Command::Mode { .. } => "mode",
        Command::Ack { .. } => "ack",
        Command::Approve { .. } => "approve",
        Command::Deny { .. } => "deny",
        Command::Failover { .. } => "failover",
        Command::Failback { .. } => "failback",
        Command::Execute { .. } => "execute",
        Command::Drill { .. } => "drill",
        Command::Abort { .. } => "abort",
        Command::StepRetry { .. } => "step_retry",
        Command::StepSkip { .. } => "step_skip",
        Command::StepApprove { .. } => "step_approve",
        Command::StepDone { .. } => "step_done",
        Command::DutyDone { .. } => "duty_done",
        Command::Grade { .. } => "grade",
        Command::HandOver { .. } => "hand_over",
    }
}

/// A foreign text, cut for a message.
fn brief(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A refusal with its HTTP status.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    refusal: Refusal,
}

impl Problem {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, refusal: Refusal { code: code.to_owned(), message: message.into() } }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code.as_str() {
            "not_found" => StatusCode::NOT_FOUND,
            "role" => StatusCode::FORBIDDEN,
            "ending" => StatusCode::SERVICE_UNAVAILABLE,
            // A guard, the point of no return, something that is over: the state forbids it now.
            _ => StatusCode::CONFLICT,
        };
        Self { status, refusal }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self.refusal)).into_response()
    }
}
