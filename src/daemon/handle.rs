//! How the control API reaches the loop: a request with a place for its answer.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use super::readiness::Desk;
use crate::control::api;
use crate::core::matrix::EvidenceView;
use crate::core::report::{Linked, Report};
use crate::core::scorecard::Scorecard;
use crate::core::view::{IncidentView, NoticeView, ReadinessAsked, ReadinessView, RunView, StatusView};
use crate::core::{Answer, Command, Refusal};
use crate::model::{IncidentId, RunId};
use crate::state::read_linked;

/// What somebody wants of the loop.
pub(super) enum Request {
    Status(oneshot::Sender<StatusView>),
    Incidents(oneshot::Sender<Vec<IncidentView>>),
    Runs(oneshot::Sender<Vec<RunView>>),
    Run(RunId, oneshot::Sender<Option<RunView>>),
    Notices(oneshot::Sender<Vec<NoticeView>>),
    Evidence(oneshot::Sender<EvidenceView>),
    Scorecard(oneshot::Sender<Scorecard>),
    Command {
        by: String,
        command: Command,
        reply: oneshot::Sender<Result<Answer, Refusal>>,
    },
    /// Somebody wanted what they may not: written down.
    Refused {
        by: String,
        what: String,
    },
}

/// The loop, seen from the control API.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) status: watch::Receiver<Arc<StatusView>>,
    pub(super) readiness: Desk,
    /// Where the journal is: a report is made from it beside the loop.
    pub(super) state: PathBuf,
}

impl Handle {
    /// Asks the loop; `None` where it is ending.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.requests.send(request(sender)).await.ok()?;
        receiver.await.ok()
    }
}

#[async_trait]
impl api::Handle for Handle {
    async fn status(&self) -> StatusView {
        match self.ask(Request::Status).await {
            Some(status) => status,
            None => StatusView::clone(&self.status.borrow()),
        }
    }

    async fn incidents(&self) -> Vec<IncidentView> {
        self.ask(Request::Incidents).await.unwrap_or_default()
    }

    async fn runs(&self) -> Vec<RunView> {
        self.ask(Request::Runs).await.unwrap_or_default()
    }

    async fn run(&self, id: &RunId) -> Option<RunView> {
        self.ask(|reply| Request::Run(id.clone(), reply)).await.flatten()
    }

    async fn notices(&self) -> Vec<NoticeView> {
        self.ask(Request::Notices).await.unwrap_or_default()
    }

    async fn evidence(&self) -> Option<EvidenceView> {
        self.ask(Request::Evidence).await
    }

    async fn scorecard(&self) -> Option<Scorecard> {
        self.ask(Request::Scorecard).await
    }

    async fn report(&self, id: &IncidentId) -> Result<Report, Refusal> {
        let refuse = |code: &str, message: String| Refusal { code: code.to_owned(), message };
        let (path, wanted) = (self.state.clone(), id.clone());
        let made = tokio::task::spawn_blocking(move || {
            let records = read_linked(&path).map_err(|error| error.to_string())?;
            let journal: Vec<Linked> =
                records.into_iter().map(|(record, checksum)| Linked { record, checksum }).collect();
            Report::of(&journal, &wanted).map_err(|error| error.to_string())
        });
        match made.await {
            Ok(Ok(Some(report))) => Ok(report),
            Ok(Ok(None)) => Err(refuse("not_found", format!("there is no incident {id}"))),
            Ok(Err(why)) => Err(refuse("journal", why)),
            Err(_) => Err(refuse("internal", "the report could not be made".into())),
        }
    }

    async fn command(&self, by: String, command: Command) -> Result<Answer, Refusal> {
        let ending = |message: &str| Refusal { code: "ending".into(), message: message.to_owned() };
        let (reply, answer) = oneshot::channel();
        if self.requests.send(Request::Command { by, command, reply }).await.is_err() {
            return Err(ending("the daemon is shutting down; nothing was done"));
        }
        // It was taken, and the daemon ended before it could say what came of it.
        let lost = "the daemon ended meanwhile; it may have been carried out: look with `failoverd status`";
        answer.await.unwrap_or_else(|_| Err(ending(lost)))
    }

    async fn readiness(&self) -> ReadinessView {
        self.readiness.view()
    }

    async fn look_at_readiness(&self) -> ReadinessAsked {
        ReadinessAsked { round: self.readiness.ask() }
    }

    fn watch(&self) -> watch::Receiver<Arc<StatusView>> {
        self.status.clone()
    }

    fn audit_refused(&self, by: String, what: String) {
        // Full means that the loop is behind; the log has it in any case.
        tracing::warn!(%by, %what, "refused");
        let _full = self.requests.try_send(Request::Refused { by, what });
    }
}
