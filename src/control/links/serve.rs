//! The pages behind the links.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tokio::sync::watch;

use super::page::{self, Shown};
use super::{Claim, Signer, Worthless};
use crate::control::api::Handle;
use crate::control::metrics::Metrics;
use crate::core::Command;
use crate::core::view::{IncidentView, ScenarioView};
use crate::model::{HumanDuration, WallTime};

/// The longest form.
const LONGEST_FORM: usize = 4 * 1024;
/// How long the daemon may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// So many links that are worth nothing are audited in a life of the daemon; the rest is logged only, so that
/// nobody fills the disk with them.
const AUDITED: u32 = 200;
/// Nothing of the page runs, is framed, kept, or told to others by where it was.
const HEADERS: [(header::HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

#[derive(Clone)]
struct Answers {
    handle: Arc<dyn Handle>,
    signer: watch::Receiver<Arc<Signer>>,
    metrics: Metrics,
    now: Arc<dyn Fn() -> WallTime + Send + Sync>,
    audited: Arc<AtomicU32>,
}

/// The one page. `now`: the wall clock. Each request carries its caller's address as an extension, as
/// `control::serve` sees to.
pub fn router(
    handle: Arc<dyn Handle>,
    signer: watch::Receiver<Arc<Signer>>,
    metrics: Metrics,
    now: Arc<dyn Fn() -> WallTime + Send + Sync>,
) -> Router {
    let answers = Answers { handle, signer, metrics, now, audited: Arc::default() };
    Router::new()
        .route("/answer/{token}", get(look).post(answer))
        .fallback(async || respond(StatusCode::NOT_FOUND, page::worthless(Worthless::Forged)))
        .layer(DefaultBodyLimit::max(LONGEST_FORM))
        .with_state(answers)
}

fn respond(status: StatusCode, page: String) -> Response {
    let mut response = (status, Html(page)).into_response();
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Answers {
    /// Whose link it is, and what it is about now.
    async fn question(&self, token: &str, caller: SocketAddr) -> Result<(Claim, Shown), Response> {
        let signer = Arc::clone(&self.signer.borrow());
        let claim = match signer.read(token, (self.now)()) {
            Ok(claim) => claim,
            Err(why) => {
                if self.audited.fetch_add(1, Ordering::Relaxed) < AUDITED {
                    self.handle
                        .audit_refused(format!("somebody at {}", caller.ip()), format!("answer by a link: {why}"));
                }
                let status = if why == Worthless::Expired { StatusCode::GONE } else { StatusCode::NOT_FOUND };
                return Err(respond(status, page::worthless(why)));
            }
        };
        let incident = self.handle.incidents().await.into_iter().find(|incident| incident.id == claim.incident);
        let Some(incident) = incident else {
            return Err(respond(StatusCode::GONE, page::over(&claim, None)));
        };
        let scenarios = self.handle.status().await.scenarios;
        let scenario = scenarios.into_iter().find(|scenario| scenario.name == incident.scenario);
        match scenario {
            Some(scenario) if still_asked(&claim, &incident, &scenario) => Ok((claim, Shown { incident, scenario })),
            _ => Err(respond(StatusCode::GONE, page::over(&claim, Some(&incident)))),
        }
    }
}

/// Is what the link was made for still the question?
fn still_asked(claim: &Claim, incident: &IncidentView, scenario: &ScenarioView) -> bool {
    let asked = incident.approval.as_ref();
    let same = asked.is_some_and(|asked| asked.plan_hash == claim.plan_hash && asked.epoch == claim.epoch);
    incident.closed.is_none() && same && scenario.plan_hash.as_ref() == Some(&claim.plan_hash)
}

async fn look(
    State(answers): State<Answers>,
    Extension(caller): Extension<SocketAddr>,
    Path(token): Path<String>,
) -> Response {
    match tokio::time::timeout(ANSWER_TIME, answers.question(&token, caller)).await {
        Ok(Ok((claim, shown))) => respond(StatusCode::OK, page::question(&claim, &shown)),
        Ok(Err(refused)) => refused,
        Err(_) => respond(StatusCode::GATEWAY_TIMEOUT, page::told("The daemon does not answer", "Try again.")),
    }
}

/// What is sent with the form.
struct Said {
    answer: Yes,
    /// The loss that was shown and is allowed.
    allow_data_loss: Option<HumanDuration>,
}

impl Said {
    /// `None` where a field is missing, not known, or says nothing that the page can have sent.
    fn of(form: &[u8]) -> Option<Self> {
        let (mut answer, mut allow_data_loss) = (None, None);
        for (name, value) in url::form_urlencoded::parse(form) {
            match (&*name, &*value) {
                ("answer", "approve") => answer = Some(Yes::Approve),
                ("answer", "deny") => answer = Some(Yes::Deny),
                ("allow_loss_ms", value) => allow_data_loss = Some(HumanDuration::millis(value.parse().ok()?)),
                _ => return None,
            }
        }
        answer.map(|answer| Self { answer, allow_data_loss })
    }
}

#[derive(Clone, Copy)]
enum Yes {
    Approve,
    Deny,
}

async fn answer(
    State(answers): State<Answers>,
    Extension(caller): Extension<SocketAddr>,
    Path(token): Path<String>,
    form: Bytes,
) -> Response {
    let Some(said) = Said::of(&form) else {
        return respond(StatusCode::BAD_REQUEST, page::told("That was no answer", "Go back and press a button."));
    };
    // On a task of its own: a phone that goes away must not cut a command in two.
    let task = tokio::spawn(async move {
        match tokio::time::timeout(ANSWER_TIME, answers.question(&token, caller)).await {
            Ok(Ok((claim, _))) => answers.give(claim, said).await,
            Ok(Err(refused)) => refused,
            Err(_) => respond(StatusCode::GATEWAY_TIMEOUT, page::told("The daemon does not answer", "Try again.")),
        }
    });
    task.await.unwrap_or_else(|_| respond(StatusCode::INTERNAL_SERVER_ERROR, page::told("The daemon failed on it", "")))
}

impl Answers {
    async fn give(&self, claim: Claim, said: Said) -> Response {
        let by = format!("{} (signed link)", claim.person);
        let (name, command) = match said.answer {
            Yes::Approve => (
                "approve",
                Command::Approve {
                    incident: claim.incident,
                    plan_hash: Some(claim.plan_hash),
                    epoch: Some(claim.epoch),
                    allow_data_loss: said.allow_data_loss,
                },
            ),
            Yes::Deny => ("deny", Command::Deny { incident: claim.incident }),
        };
        tracing::info!(%by, command = name, "an answer by a link");
        let result = self.handle.command(by, command).await;
        self.metrics.command(name, if result.is_ok() { "done" } else { "refused" });
        match result {
            Ok(answer) => respond(StatusCode::OK, page::told("Thank you", &answer.text)),
            Err(refusal) => respond(StatusCode::CONFLICT, page::told("It was refused", &refusal.message)),
        }
    }
}
