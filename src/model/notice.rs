//! Messages to people.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::{Epoch, IncidentId, PlanHash, RouteName, RunId, ScenarioName};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
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
    /// Nobody has answered yet: the next rung of the ladder is told.
    Escalated,
    /// Nobody answered within the time that the severity allows.
    Unanswered,
    /// How it stands, at the cadence of the severity.
    StatusUpdate,
    /// A duty of an incident is open.
    DutyOpen,
    /// Several notices in one, where they came faster than a route takes them.
    Digest,
    /// A drill is near, began, ended, or was missed.
    Drill,
    /// A plan fits into its recovery-time objective no longer, or again.
    Budget,
    /// A plan could not be carried out any more, or can again.
    Readiness,
    /// The number and the checksum of the journal's newest record, to be kept elsewhere.
    Anchor,
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
    /// What is asked, where an answer is waited for: a route to an approver makes links of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<AskedFor>,
    /// The routes that it is for; `None`: all. Of these, those that take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<RouteName>>,
    /// How its incident stood then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub situation: Option<Box<Situation>>,
}

/// What an approval is asked for; an answer is bound to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedFor {
    /// What would be carried out.
    pub plan_hash: PlanHash,
    /// Under which epoch.
    pub epoch: Epoch,
    /// The last moment to answer.
    pub until: WallTime,
}

/// How an incident stands: what is known, what is done, when more is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Situation {
    /// How far it has come, in the words of a public status page.
    pub stage: Stage,
    /// The first bad observation.
    pub outage_start: WallTime,
    /// When the incident opened.
    pub opened: WallTime,
    /// Who has answered.
    pub answered_by: Option<String>,
    /// What is known, in one line.
    pub known: String,
    /// What is done, in one line.
    pub doing: String,
    /// When the next update is due.
    pub next_update: Option<WallTime>,
}

/// How far an incident has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Something is wrong.
    Investigating,
    /// It is known what is done, and it is being done.
    Identified,
    /// It should work again.
    Monitoring,
    /// It is over.
    Resolved,
}

impl Stage {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Investigating => "investigating",
            Self::Identified => "identified",
            Self::Monitoring => "monitoring",
            Self::Resolved => "resolved",
        }
    }
}

/// For whom a route is: what they are told, and in which words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Audience {
    /// Whoever operates it: everything, in our own words.
    #[default]
    Internal,
    /// Whoever answers for it: beginning, questions, updates, end.
    Executives,
    /// Whoever uses it: beginning, updates, end, and no name of ours.
    Customers,
    /// A public page: as customers.
    StatusPage,
}

impl Audience {
    /// Is it told only what everybody may know?
    pub fn is_public(self) -> bool {
        matches!(self, Self::Customers | Self::StatusPage)
    }

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Executives => "executives",
            Self::Customers => "customers",
            Self::StatusPage => "status-page",
        }
    }

    /// Is this kind of notice for them?
    pub fn hears_of(self, kind: NoticeKind) -> bool {
        use NoticeKind as Kind;
        match self {
            Self::Internal => true,
            Self::Executives => matches!(
                kind,
                Kind::IncidentOpened
                    | Kind::ApprovalAsked
                    | Kind::Escalated
                    | Kind::Unanswered
                    | Kind::RunStarted
                    | Kind::RunParked
                    | Kind::RunRecovered
                    | Kind::StatusUpdate
                    | Kind::IncidentClosed
                    | Kind::Digest
            ),
            Self::Customers | Self::StatusPage => matches!(
                kind,
                Kind::IncidentOpened
                    | Kind::RunStarted
                    | Kind::RunRecovered
                    | Kind::StatusUpdate
                    | Kind::IncidentClosed
            ),
        }
    }
}
