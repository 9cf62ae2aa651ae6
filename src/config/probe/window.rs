//! A window over what other probes saw.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{CauseRow, degraded, unknown};
use crate::config::check::common::{at_least_one, not_zero};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{BurnRate, CauseKind, HumanDuration, LatencyLimit, WindowSettings};

/// Fewer looks than that are chance.
const FEWEST: u32 = 20;

/// Gray failure: what answers, but too slowly, or too often not at all. Asks nobody: it counts what other
/// probes see, all together, and is looked at again with their looks. Degraded where one of its limits is
/// crossed, with the figure, the limit and the number of looks in the cause.
///
/// A good look counts with its latency, a bad one as failed; one that could not look counts as none, and
/// so does one that failed while the anchors did not answer. Percentiles are of the answers alone, and
/// within 5 %. With fewer than `at_least` looks, or while a part is unknown, it is unknown itself, never
/// down. After a stall or a clock jump it begins anew. Gray failure is no outage: `causes = { slow_window =
/// "down" }` lets it be one. A window goes on showing what was bad for as long as it is long, also where its
/// target is well again, and the last look before a run sees the window, not the target: let a person approve,
/// or let the condition hold a part too (`when = { all = ["checkout", "api is degraded"] }`).
///
/// Its `interval` (default: the shortest of its parts) says how often it is looked at; `fall` and `rise`
/// hold as for every probe. `timeout` and `fast_interval` do not matter. Several daemons vote on it as on
/// every other probe, each from what it saw itself.
/// <https://sre.google/workbook/alerting-on-slos/>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowProbe {
    /// The probes whose looks are counted; no windows and no anchors.
    pub of: Vec<String>,
    /// How long a look counts, for percentiles and `error_ratio` (default: 5m).
    #[serde(default = "five_minutes")]
    pub over: HumanDuration,
    /// Half of the answers take no longer than this (default: none).
    #[serde(default)]
    pub p50: Option<HumanDuration>,
    /// 90 of 100 answers take no longer than this (default: none).
    #[serde(default)]
    pub p90: Option<HumanDuration>,
    /// 95 of 100 answers take no longer than this (default: none).
    #[serde(default)]
    pub p95: Option<HumanDuration>,
    /// 99 of 100 answers take no longer than this (default: none).
    #[serde(default)]
    pub p99: Option<HumanDuration>,
    /// No greater share of the looks fails, above 0 and below 1: 0.02 is 2 % (default: none).
    #[serde(default)]
    pub error_ratio: Option<f64>,
    /// The error budget burns no faster than this (default: none).
    #[serde(default)]
    pub burn_rate: Option<WindowBurnRate>,
    /// With fewer looks it is unknown (default: 20, or as many as it takes that one look alone crosses no
    /// limit: 100 for `p99`, 50 for an `error_ratio` of 0.02).
    #[serde(default)]
    pub at_least: Option<u32>,
}

/// How fast an error budget may burn. At a rate of 1 exactly the budget of the objective is used up; at
/// 14.4, that of 30 days in two. It burns too fast only where it does so in the long window, so that it
/// matters, and in the short one, so that it still does. What the long window does not reach yet, since the
/// daemon has just begun, is taken to be free of errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowBurnRate {
    /// The share of looks that have to be good, for example 0.999.
    pub slo: f64,
    /// It burns too fast above this (default: 14.4).
    #[serde(default = "page")]
    pub above: f64,
    /// The short window (default: 5m).
    #[serde(default = "five_minutes")]
    pub short: HumanDuration,
    /// The long window (default: 1h).
    #[serde(default = "an_hour")]
    pub long: HumanDuration,
}

fn five_minutes() -> HumanDuration {
    HumanDuration::secs(300)
}

fn an_hour() -> HumanDuration {
    HumanDuration::secs(3600)
}

/// The SRE workbook's for a page: 2 % of the budget of 30 days within an hour.
fn page() -> f64 {
    14.4
}

/// What it can see.
pub(super) const CAUSES: &[CauseRow] = &[
    degraded(CauseKind::SlowWindow, "a percentile of the answers is above its limit"),
    degraded(CauseKind::ErrorRatio, "a greater share of the looks failed than `error_ratio`"),
    degraded(CauseKind::BurnRate, "the error budget burns faster than `burn_rate` lets it, in both windows"),
    unknown(CauseKind::NoData, "there were too few looks, or a part is unknown"),
    unknown(CauseKind::Stalled, "we stood still, and since then there were too few looks"),
];

impl WindowProbe {
    /// Its limits of latency, as they are written.
    fn percentiles(&self) -> [(&'static str, u8, Option<HumanDuration>); 4] {
        [("p50", 50, self.p50), ("p90", 90, self.p90), ("p95", 95, self.p95), ("p99", 99, self.p99)]
    }

    /// What the brain knows of it.
    pub(in crate::config) fn settings(&self) -> WindowSettings {
        let limit = |(_, percentile, at_most): (_, _, Option<_>)| Some(LatencyLimit { percentile, at_most: at_most? });
        let mut settings = WindowSettings {
            of: self.of.iter().map(|name| name.as_str().into()).collect(),
            over: self.over,
            at_least: FEWEST,
            latency: self.percentiles().into_iter().filter_map(limit).collect(),
            error_ratio: self.error_ratio,
            burn_rate: self.burn_rate.as_ref().map(|burn| BurnRate {
                slo: burn.slo,
                above: burn.above,
                short: burn.short,
                long: burn.long,
            }),
        };
        // A ratio that is none was told.
        let needed =
            Some(settings.needed()).filter(|needed| (1.0..1e6).contains(needed)).map_or(FEWEST, |it| it as u32);
        settings.at_least = self.at_least.unwrap_or(needed.max(FEWEST));
        settings
    }

    /// What is wrong with its limits.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>) {
        not_zero(report, &at.key("over"), Some(self.over));
        at_least_one(report, &at.key("at_least"), self.at_least);
        let limits = self.percentiles();
        if limits.iter().all(|(.., limit)| limit.is_none()) && self.error_ratio.is_none() && self.burn_rate.is_none() {
            report.error(
                "no_threshold",
                at,
                "nothing says what is bad: there is none of `p50`, `p90`, `p95`, `p99`, `error_ratio`, `burn_rate`",
                "add one, for example `p99 = \"800ms\"`",
            );
        }
        for (key, _, limit) in limits {
            not_zero(report, &at.key(key), limit);
        }
        if let Some(ratio) = self.error_ratio {
            between(report, &at.key("error_ratio"), ratio, "0.02");
        }
        if let Some(burn) = &self.burn_rate {
            burn.check(&at.key("burn_rate"), report);
        }
        let needed = self.settings().needed();
        if let Some(given) = self.at_least
            && given > 0
            && needed.is_finite()
            && f64::from(given) < needed
        {
            report.warn(
                "one_look_decides",
                &at.key("at_least"),
                format!("of {given} looks a single bad one crosses a limit"),
                format!("write {needed} or more, or leave it out"),
            );
        }
    }
}

impl WindowBurnRate {
    fn check(&self, at: &Path, report: &mut Report<'_>) {
        between(report, &at.key("slo"), self.slo, "0.999");
        not_zero(report, &at.key("short"), Some(self.short));
        if self.short >= self.long {
            report.error(
                "bad_window",
                &at.key("long"),
                format!("the long window ({}) is not longer than the short one ({})", self.long, self.short),
                "write for example short = \"5m\", long = \"1h\"",
            );
        }
        let most = 1.0 / (1.0 - self.slo);
        if self.above.is_nan() || self.above <= 0.0 {
            report.error("bad_burn_rate", &at.key("above"), "a burn rate is above 0", "write for example 14.4");
        } else if self.slo > 0.0 && self.slo < 1.0 && self.above >= most {
            report.error(
                "never_crossed",
                &at.key("above"),
                format!(
                    "with all looks failed the budget of {} burns at {most:.1}, never above {}",
                    self.slo, self.above
                ),
                "write a smaller `above`",
            );
        }
    }
}

/// A share that can be crossed from both sides.
fn between(report: &mut Report<'_>, at: &Path, share: f64, example: &str) {
    if !(share > 0.0 && share < 1.0) {
        report.error("bad_share", at, "this share is above 0 and below 1", format!("write for example {example}"));
    }
}
