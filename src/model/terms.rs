//! When a step is done at all: its conditions, the kind of run, before or after the recovery.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::condition::Condition;
use super::drill::DrillPart;
use super::ids::{ProbeName, StepName};
use super::reference::{self, Reference};

/// When a step is done. A step whose terms do not hold is left out, and the run says why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// All of these have to hold when its turn comes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<StepGuard>,
    /// Only in such a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_in: Option<RunKind>,
    /// It comes after the recovery, and does not count for the RTO.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub post_recovery: bool,
    /// What the names of its child plan's steps begin with; empty where it comes from none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// The parameters of the child plan that it comes from, for its messages.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Value>,
    /// What a drill makes of it.
    #[serde(default, skip_serializing_if = "DrillPart::is_rehearsed")]
    pub drill: DrillPart,
}

impl Terms {
    /// Is it done in any case, and before the recovery?
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }

    /// The probes whose verdicts it hangs on, each once.
    pub fn probes(&self) -> BTreeSet<ProbeName> {
        let of = |guard: &StepGuard| match guard {
            StepGuard::Holds(condition) => condition.subjects().iter().map(|subject| subject.probe.clone()).collect(),
            StepGuard::Parameter { .. } | StepGuard::Step { .. } => Vec::new(),
        };
        self.when.iter().flat_map(of).collect()
    }

    /// May it be left out?
    pub fn may_leave_out(&self) -> bool {
        !self.when.is_empty() || self.only_in.is_some()
    }
}

/// How a run goes about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// The primary still answers: drain it, demote it, lose nothing.
    Graceful,
    /// The primary is gone, or counts as gone.
    #[default]
    Ungraceful,
}

impl fmt::Display for RunKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Graceful => "graceful",
            Self::Ungraceful => "ungraceful",
        })
    }
}

/// One condition of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepGuard {
    /// A parameter has one of these values.
    Parameter {
        /// Its name while it is open, then its value.
        value: Value,
        /// For people.
        name: String,
        /// The values.
        is: Vec<Value>,
    },
    /// An earlier step ended so.
    Step {
        /// Which.
        step: StepName,
        /// How.
        ended: Ended,
    },
    /// The verdicts say so.
    Holds(Condition),
}

impl StepGuard {
    /// Fills in the parameter.
    pub(super) fn give(
        &mut self,
        fill: &mut impl FnMut(&Reference) -> Result<Option<Value>, String>,
    ) -> Result<(), String> {
        if let Self::Parameter { value, .. } = self {
            *value = reference::resolve(value, fill)?;
        }
        Ok(())
    }
}

impl fmt::Display for StepGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameter { name, is, .. } => {
                let values: Vec<String> = is.iter().map(reference::shown).collect();
                write!(f, "{name} is {}", values.join(" or "))
            }
            Self::Step { step, ended } => write!(f, "step {step} {ended}"),
            Self::Holds(condition) => write!(f, "{condition}"),
        }
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It was done.
    Done,
    /// It failed, and its `on_error` let the run go on.
    Failed,
    /// It was left out.
    Skipped,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "was done",
            Self::Failed => "failed",
            Self::Skipped => "was left out",
        })
    }
}
