//! `[quorum]` and `[policy]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::one;
use crate::model::{HumanDuration, OnSilentWitnesses};

/// How many vantages must agree.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quorum {
    /// Vantages of distinct failure domains (default 1: this daemon alone).
    #[serde(default = "one")]
    pub vantages: u32,
    /// What happens where the only vantages that are missing stand in the region that fell, and are silent:
    /// `approve` (default: a person is asked, whatever the mode; it never acts by itself) or `hold`.
    #[serde(default)]
    pub on_silent_witnesses: OnSilentWitnesses,
}

impl Default for Quorum {
    fn default() -> Self {
        Self { vantages: 1, on_silent_witnesses: OnSilentWitnesses::default() }
    }
}

/// The bounds that hold for every scenario. All have defaults in the embedded configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Nothing is started for this long after the start.
    #[serde(default)]
    pub startup_grace: Option<HumanDuration>,
    /// Nothing is started for this long after a run of the same service ended.
    #[serde(default)]
    pub cool_down: Option<HumanDuration>,
    /// At most so many runs …
    #[serde(default)]
    pub failover_limit: Option<u32>,
    /// … within this window.
    #[serde(default)]
    pub failover_window: Option<HumanDuration>,
    /// How long to look only, after the clock jumped or the loop stood still.
    #[serde(default)]
    pub tilt_for: Option<HumanDuration>,
    /// `decide_by = deadline − budget × safety`; at least 1.0.
    #[serde(default)]
    pub safety: Option<f64>,
    /// How a probe that changes its health again and again is held back.
    #[serde(default)]
    pub flap_damping: FlapDampingTable,
}

/// Route flap damping (RFC 2439), for probes: each change of a probe between up and down costs a penalty of
/// 1000, which decays. A scenario that needs a probe to be down holds while that probe is held back.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlapDampingTable {
    /// `false` switches it off.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// In so long a penalty halves.
    #[serde(default)]
    pub half_life: Option<HumanDuration>,
    /// Above this penalty a probe is held back …
    #[serde(default)]
    pub suppress: Option<u32>,
    /// … until it is below this one.
    #[serde(default)]
    pub reuse: Option<u32>,
    /// But for no longer than this after its last change.
    #[serde(default)]
    pub max_suppress: Option<HumanDuration>,
    /// Nor once it has been down for so long without interruption: an outage may begin with some flapping.
    #[serde(default)]
    pub steady_for: Option<HumanDuration>,
}
