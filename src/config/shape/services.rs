//! `[services]` and `[audit]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{HumanDuration, SloTarget};

/// What was promised of a service. Its name is what scenarios have as `service`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The service-level objective: for how much of the window it has to be available, for example `99.95%`;
    /// above 0% and below 100%.
    pub slo: SloTarget,
    /// The window, up to now.
    #[serde(default = "month")]
    pub window: HumanDuration,
}

fn month() -> HumanDuration {
    HumanDuration::secs(30 * 86_400)
}

/// Anchors of the journal: the number and the checksum of its newest record, sent to where whoever can write
/// to this machine cannot. What is cut off or written anew afterwards does not fit them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditTable {
    /// How often, where the journal has grown since; also after the start and at a clean end.
    #[serde(default = "hour")]
    pub anchor_every: HumanDuration,
    /// The routes of `[notify]` that get them, whatever their `from` says.
    pub routes: Vec<String>,
}

fn hour() -> HumanDuration {
    HumanDuration::secs(3600)
}
