//! A window over what other probes saw: the settings of gray failure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::ProbeName;
use super::time::HumanDuration;

/// What the brain knows of a probe that asks nobody, and is computed from what others saw. Its parts are
/// probes that ask somebody: never windows, never anchors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowSettings {
    /// The probes whose looks are counted.
    pub of: Vec<ProbeName>,
    /// Looks that began longer ago do not count.
    pub over: HumanDuration,
    /// With fewer looks nothing is concluded; at least 1.
    pub at_least: u32,
    /// How slow the answers may be.
    pub latency: Vec<LatencyLimit>,
    /// A greater share of the looks may not fail, between 0 and 1.
    pub error_ratio: Option<f64>,
    /// How fast the error budget may burn.
    pub burn_rate: Option<BurnRate>,
}

/// How slow the answers in a window may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyLimit {
    /// Of a hundred answers so many …
    pub percentile: u8,
    /// … take no longer than this.
    pub at_most: HumanDuration,
}

/// How fast an error budget may burn: 1 uses up exactly the budget of an objective, and 14.4 that of a
/// month in two days.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BurnRate {
    /// The share of looks that have to be good, between 0 and 1.
    pub slo: f64,
    /// It burns too fast above this in both windows.
    pub above: f64,
    /// The window that tells that it still burns.
    pub short: HumanDuration,
    /// The window that tells that it matters.
    pub long: HumanDuration,
}

impl BurnRate {
    /// The share of failed looks at which it burns too fast.
    pub fn ratio(&self) -> f64 {
        self.above * (1.0 - self.slo)
    }
}

impl WindowSettings {
    /// The smallest number of looks with which one of them alone crosses no limit.
    pub fn needed(&self) -> f64 {
        let tail = |limit: &LatencyLimit| 100.0 / f64::from(100 - limit.percentile.min(99));
        let latency = self.latency.iter().map(tail);
        let ratios = self.error_ratio.into_iter().chain(self.burn_rate.map(|burn| burn.ratio()));
        latency.chain(ratios.map(|ratio| 1.0 / ratio)).fold(1.0, f64::max).ceil()
    }

    /// The shortest of its windows: there have to be enough looks in it.
    pub fn shortest(&self) -> Duration {
        let burn = self.burn_rate.map(|burn| burn.short.get());
        let over = Some(self.over.get()).filter(|_| !self.latency.is_empty() || self.error_ratio.is_some());
        over.into_iter().chain(burn).min().unwrap_or(self.over.get())
    }

    /// How long it takes at most until every limit is crossed, from the moment in which each look of each
    /// part is bad.
    pub fn crossed_after(&self) -> Duration {
        let over = self.over.get();
        let tail = |limit: &LatencyLimit| over.mul_f64(f64::from(100 - limit.percentile.min(99)) / 100.0);
        let latency = self.latency.iter().map(tail);
        let errors = self.error_ratio.map(|ratio| over.mul_f64(share(ratio)));
        let burn = self.burn_rate.map(|burn| burn.long.get().mul_f64(share(burn.ratio())));
        latency.chain(errors).chain(burn).max().unwrap_or_default()
    }

    /// How long bad looks are remembered.
    pub fn forgotten_after(&self) -> Duration {
        self.over.get().max(self.burn_rate.map(|burn| burn.short.get()).unwrap_or_default())
    }
}

/// What is none was refused; until somebody reads that, it is as good as nothing.
fn share(ratio: f64) -> f64 {
    if ratio.is_finite() { ratio.clamp(0.0, 1.0) } else { 0.0 }
}
