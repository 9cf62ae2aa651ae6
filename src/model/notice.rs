//! Messages to people.

use serde::{Deserialize, Serialize};

use super::ids::{IncidentId, RunId, ScenarioName};
use super::policy::Severity;
use super::time::WallTime;

/// How loud a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Importance {
    /// Somebody may want to read it.
    Info,
    /// Somebody has to look now.
    Page,
}

/// What a notice is about; also the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// An incident opened.
    IncidentOpened,
    /// Somebody has seen an incident.
    IncidentAcknowledged,
    /// An incident closed.
    IncidentClosed,
    /// The daemon holds although the condition holds.
    Holding,
    /// Alert-only: it would have acted.
    WouldAct,
    /// A probe changes its health again and again: nothing is done until it is steady.
    Flapping,
    /// A person is asked.
    ApprovalAsked,
    /// A run began.
    RunStarted,
    /// A run needs a person.
    RunParked,
    /// A run has recovered; steps follow that do not count for the recovery.
    RunRecovered,
    /// A run ended.
    RunEnded,
    /// A person still has something to do.
    TaskOpen,
    /// A plan could not be carried out any more, or can again.
    Readiness,
    /// We cannot see.
    Blind,
    /// The daemon itself is in doubt (storage, clock).
    Daemon,
}

/// One message, before it is put into the words of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// What about.
    pub kind: NoticeKind,
    /// How loud.
    pub importance: Importance,
    /// When it was decided.
    pub at: WallTime,
    /// Of which scenario.
    pub scenario: Option<ScenarioName>,
    /// Its severity.
    pub severity: Option<Severity>,
    /// Of which incident.
    pub incident: Option<IncidentId>,
    /// Of which run.
    pub run: Option<RunId>,
    /// One line.
    pub subject: String,
    /// The rest, for people.
    pub body: String,
}
