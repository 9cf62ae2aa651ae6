//! What passes between the brain and an action: one phase at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ids::{CallId, Epoch, RunId, StepName};
use super::plan::ActionSpec;

/// What a step hands to later ones: names and values.
pub type Outputs = BTreeMap<String, String>;

/// The phases of a step. Only `Apply` and `Compensate` change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Looks whether it is done already, and what stood before.
    Observe,
    /// Makes the change.
    Apply,
    /// Waits until the change is seen from outside.
    Verify,
    /// Undoes the change.
    Compensate,
}

/// A phase that the executor carries out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepCall {
    /// This call.
    pub call: CallId,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepName,
    /// From 1.
    pub attempt: u32,
    /// The epoch that the call is made under.
    pub epoch: Epoch,
    /// Which phase.
    pub phase: Phase,
    /// What to do.
    pub spec: ActionSpec,
    /// What stood before the apply, as `Observe` told it; `Null` where nothing was told.
    pub before: Value,
    /// For this phase.
    pub timeout: Duration,
    /// How long the step is expected to take: what is soon over may be looked at more often.
    pub estimate: Duration,
}

/// What `observe` saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// Nothing to do: it is as the step wants it.
    Done {
        /// What was seen.
        evidence: String,
    },
    /// It can be done.
    NotDone {
        /// What was seen.
        evidence: String,
        /// What `compensate` needs to bring it back; `Null` where it cannot.
        before: Value,
    },
    /// It is under way already (a promotion that was asked for before a crash): verify only.
    InProgress {
        /// What was seen.
        evidence: String,
    },
    /// It cannot be done, and waiting will not help: the target is missing, or is another one.
    Impossible {
        /// Why.
        reason: String,
    },
    /// We could not look; look again.
    Unknown {
        /// Why.
        reason: String,
    },
    /// This kind of change leaves nothing to look at (a message was sent, a request was made).
    Unobservable,
}

/// What `apply` or `compensate` came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// The target took it.
    Accepted {
        /// What the target said.
        evidence: String,
    },
    /// The target refused it: nothing was changed.
    Refused {
        /// Why.
        reason: String,
        /// May it be accepted later (throttled, busy)?
        again: bool,
    },
    /// Nobody knows: observe before anything else.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// What `verify` came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verified {
    /// The change is seen from outside.
    Yes {
        /// What was seen.
        evidence: String,
        /// What later steps can use, by name. No secrets: it is journalled.
        #[serde(default, skip_serializing_if = "Outputs::is_empty")]
        outputs: Outputs,
    },
    /// Not yet; the executor asks again until the step's timeout.
    NotYet {
        /// What was seen.
        evidence: String,
    },
    /// It will not come: the change failed at the target.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Verified {
    /// Seen from outside; later steps are handed nothing.
    pub fn yes(evidence: impl Into<String>) -> Self {
        Self::Yes { evidence: evidence.into(), outputs: Outputs::new() }
    }
}

/// The answer to a [`StepCall`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// To `Observe`.
    Observed(Observed),
    /// To `Apply` and `Compensate`.
    Applied(Applied),
    /// To `Verify`; `NotYet` means that its time ran out.
    Verified(Verified),
    /// The call was not made: the permit was refused (epoch overtaken, lease over).
    NotPermitted {
        /// Why.
        reason: String,
    },
}
