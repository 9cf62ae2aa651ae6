//! What a severity promises: objectives, who is told when, how often, and what is left to do afterwards.

use serde::{Deserialize, Serialize};

use super::ids::{DutyName, RouteName};
use super::policy::Severity;
use super::time::HumanDuration;

/// One severity, as the owner declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeveritySettings {
    /// The owner's word for it: `P0`, `SEV-1`, `critical`.
    pub name: Severity,
    /// Within so long after its incident opened somebody has to answer; `None`: nobody has to.
    #[serde(default)]
    pub respond_within: Option<HumanDuration>,
    /// So often people are told how it stands, until it is over; `None`: only when something happens.
    #[serde(default)]
    pub update_every: Option<HumanDuration>,
    /// The routes that hear of its incidents; `None`: all of them.
    #[serde(default)]
    pub routes: Option<Vec<RouteName>>,
    /// Who is told while nobody answers, the first rung first.
    #[serde(default)]
    pub escalate: Vec<Rung>,
    /// What people have to do afterwards.
    #[serde(default)]
    pub duties: Vec<Duty>,
}

/// One rung of an escalation ladder. Within a ladder `after` only grows, and so tells the rungs apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// So long after the incident opened.
    pub after: HumanDuration,
    /// Who it is: `L1`, `the head of operations`.
    #[serde(default)]
    pub to: Option<String>,
    /// The routes that they are told through.
    pub routes: Vec<RouteName>,
}

impl Rung {
    /// What it is called: its `to`, else when it is told.
    pub fn label(&self) -> String {
        self.to.clone().unwrap_or_else(|| format!("after {}", self.after))
    }
}

/// Something that people have to do for an incident: a post-mortem, a report to an authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duty {
    /// Its name.
    pub name: DutyName,
    /// So long it may take.
    pub after: HumanDuration,
    /// From when on.
    pub from: DutyFrom,
    /// The job, in the owner's words.
    pub message: String,
    /// So long before it is due it is told again.
    pub remind_before: HumanDuration,
}

/// Where the time for a duty begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DutyFrom {
    /// With the opening of the incident.
    Opened,
    /// With its end.
    Closed,
}
