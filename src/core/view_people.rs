//! What people and programs are shown of who was told what, and of what is left to do.

use serde::{Deserialize, Serialize};

use crate::model::{
    DutyName, HumanDuration, Importance, IncidentId, NoticeKind, ScenarioName, Severity, Stage, WallTime,
};

/// An open incident whose severity is declared: who was told, and who has answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EscalationView {
    /// The incident.
    pub incident: IncidentId,
    /// Its scenario.
    pub scenario: ScenarioName,
    /// Its severity.
    pub severity: Severity,
    /// How far it has come.
    pub stage: Stage,
    /// Who has answered.
    pub answered_by: Option<String>,
    /// Until when somebody has to.
    pub respond_by: Option<WallTime>,
    /// Nobody did.
    pub unanswered: bool,
    /// The rungs that were told, in order.
    pub told: Vec<String>,
    /// The rung that is told next, and when; `None` where none is left or somebody has answered.
    pub next: Option<(String, WallTime)>,
    /// How often people were told how it stands.
    pub updates: u32,
    /// When they are told next.
    pub next_update: Option<WallTime>,
}

/// A duty that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DutyView {
    /// Its incident.
    pub incident: IncidentId,
    /// Its name.
    pub duty: DutyName,
    /// The job.
    pub message: String,
    /// Until when; `None` while its time has not begun.
    pub due: Option<WallTime>,
}

/// A notice that has not reached its route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoticeView {
    /// Its number in the outbox.
    pub id: i64,
    /// The route.
    pub route: String,
    /// Where it stands.
    pub state: NoticeState,
    /// When it was decided.
    pub at: WallTime,
    /// What about.
    pub kind: NoticeKind,
    /// How loud.
    pub importance: Importance,
    /// Of which incident.
    pub incident: Option<IncidentId>,
    /// One line.
    pub subject: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was not taken.
    pub reason: Option<String>,
}

/// Where a notice stands that has not reached its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeState {
    /// It is tried on.
    Waiting,
    /// It is tried on, and the route's fallback has it too.
    HandedOver,
    /// It is tried no more.
    GivenUp,
}

impl NoticeState {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::HandedOver => "handed over",
            Self::GivenUp => "GIVEN UP",
        }
    }
}

impl EscalationView {
    /// How long until somebody has to answer; zero where that is over.
    pub fn left(&self, now: WallTime) -> Option<HumanDuration> {
        self.respond_by.map(|at| HumanDuration(at.since(now)))
    }
}
