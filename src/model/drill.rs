//! Drills: a plan rehearsed with stand-ins, through the same code and guards as the real thing.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::ids::{DrillTarget, PlanName, StepName};
use super::plan::Plan;
use super::schedule::{Blocked, Schedule};
use super::terms::RunKind;
use super::time::HumanDuration;

/// What a drill is bound to, in the record of its start (S9).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillTerms {
    /// Where.
    pub target: DrillTarget,
    /// It does not begin unless each of these is known not to hold, and ends at once when one does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_when: Vec<Condition>,
    /// All of these have to hold at the end for a pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcome: Vec<Condition>,
}

/// What a drill makes of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillPart {
    /// It is rehearsed; in a plan that is no drill, it is simply done.
    #[default]
    Rehearsed,
    /// The drill leaves it out.
    LeftOut,
    /// It cleans up after the drill.
    Cleanup,
}

impl DrillPart {
    /// Is it rehearsed?
    pub fn is_rehearsed(&self) -> bool {
        *self == Self::Rehearsed
    }
}

/// What the brain knows of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillSettings {
    /// The plan by its own name, with the stand-ins in their places, and cleaning up at its end.
    pub plan: Plan,
    /// What a run of it is bound to.
    pub terms: DrillTerms,
    /// How it goes about it.
    pub kind: RunKind,
    /// The steps that are harmless as they are; one that stands for several stands for all of them.
    pub as_is: Vec<StepName>,
    /// When it is begun by itself.
    pub schedule: Option<Schedule>,
    /// When it is not begun at all.
    pub blocked: Vec<Blocked>,
    /// People are told so long before; zero: not at all.
    pub announce: HumanDuration,
}

/// The drills of all plans.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drills {
    /// By plan and target.
    pub all: Vec<DrillSettings>,
    /// So often a plan wants a drill that passed.
    pub every: BTreeMap<PlanName, HumanDuration>,
}

impl Drills {
    /// The drill of a plan on a target.
    pub fn find(&self, plan: &PlanName, target: &DrillTarget) -> Option<&DrillSettings> {
        self.of(plan).find(|drill| drill.terms.target == *target)
    }

    /// The drills of a plan.
    pub fn of<'a, 'b>(&'a self, plan: &'b PlanName) -> impl Iterator<Item = &'a DrillSettings> + use<'a, 'b> {
        self.all.iter().filter(move |drill| drill.plan.name == *plan)
    }
}

/// What came of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillVerdict {
    /// All was done, in time, and its outcome holds.
    Passed,
    /// A step failed, it took too long, or its outcome does not hold.
    Failed {
        /// Why.
        reason: String,
    },
    /// It was stopped: by a person, an alarm or a real incident. It says nothing of the plan.
    Aborted {
        /// By whom or what.
        reason: String,
    },
}

impl DrillVerdict {
    /// `passed`, `failed`, `aborted`: the metric label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed { .. } => "failed",
            Self::Aborted { .. } => "aborted",
        }
    }
}

impl fmt::Display for DrillVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
            Self::Aborted { reason } => write!(f, "aborted: {reason}"),
        }
    }
}
