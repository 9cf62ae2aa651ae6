//! `[plans.PLAN.drills.TARGET]`: a plan rehearsed with stand-ins.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ConditionConfig;
use crate::model::{HumanDuration, RunKind};

/// A drill: the plan through the same code and guards as the real thing, with stand-ins. Each step that
/// changes something has a stand-in, is left out (`skip`), or is harmless as it is (`as_is`).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrillTable {
    /// What it is for, in one line.
    #[serde(default)]
    pub description: Option<String>,
    /// The values of the plan's parameters.
    #[serde(default)]
    pub with: BTreeMap<String, Value>,
    /// The stand-ins: by step, the parameters of its action that are others here, or another action.
    #[serde(default)]
    pub steps: BTreeMap<String, BTreeMap<String, Value>>,
    /// The steps that are left out; one that stands for several stands for all of them.
    #[serde(default)]
    pub skip: Vec<String>,
    /// The steps that do no harm although they touch what a real run touches.
    #[serde(default)]
    pub as_is: Vec<String>,
    /// The plan that cleans up (default: what was done is undone in the reverse order).
    #[serde(default)]
    pub cleanup: Option<DrillCleanup>,
    /// It does not begin unless each of these is known not to hold, and ends at once when one does. A
    /// probe's or group's name means that it is down.
    #[serde(default)]
    pub stop_when: Vec<ConditionConfig>,
    /// All of these have to hold at the end for a pass. A probe's name means that it is up here.
    #[serde(default)]
    pub outcome: Vec<ConditionConfig>,
    /// `graceful` or `ungraceful` (default).
    #[serde(default)]
    pub kind: RunKind,
    /// When it is begun by itself: a cron expression with a time zone, `0 10 * * 2 Europe/Berlin`
    /// (default: by hand only; without a zone it is in UTC).
    #[serde(default)]
    pub schedule: Option<String>,
    /// When it is not begun, by hand neither: days (`2026-12-20`) or times of the week (`Fri 16:00`), in
    /// the time zone of the schedule.
    #[serde(default)]
    pub blocked: Vec<DrillBlocked>,
    /// People are told so long before a scheduled one (default 1h; 0s: not at all).
    #[serde(default)]
    pub announce: Option<HumanDuration>,
}

/// A plan that cleans up after a drill.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrillCleanup {
    /// Which.
    pub plan: String,
    /// The values of its parameters.
    #[serde(default)]
    pub with: BTreeMap<String, Value>,
}

/// A window without drills.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrillBlocked {
    /// `2026-12-20`, or `Fri 16:00`.
    pub from: String,
    /// `2027-01-05` (that day is still in it), or `Mon 06:00`.
    pub to: String,
}
