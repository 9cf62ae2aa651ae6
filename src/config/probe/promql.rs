//! A query to Prometheus.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{CauseRow, down, unknown};
use super::{share, threshold};
use crate::config::action::kubernetes::one_of;
use crate::config::check::common::{at_least_one, file_is_there, not_empty};
use crate::config::check::secrets;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::CauseKind;

/// An instant query to Prometheus, or to what speaks its API (Thanos, Mimir, VictoriaMetrics): Down where
/// the figure crosses a threshold. Exactly one of `query` and `targets_up`.
///
/// Prometheus is only asked about the target: where it does not answer, or refuses the query, that is
/// Unknown. An empty result and a figure that is not a number are Unknown too (`no_data`); for a query
/// that gives only what is bad (`ALERTS{alertname="Broken"}`), write `causes = { no_data = "up" }`. A
/// result of more than 64 KiB, some 300 series, is not looked at: aggregate in the query. Needs only to be
/// let in by whatever stands before Prometheus (`headers`).
/// <https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromqlProbe {
    /// Where Prometheus is: `http://prometheus.example:9090`, with the path below which its API is where it
    /// has one; by reference where it holds a secret.
    pub url: SecretText,
    /// The query, whose result is a vector or a scalar (default: none). Or `targets_up`.
    #[serde(default)]
    pub query: Option<String>,
    /// Headers; the values by reference where they are secret (default: none).
    #[serde(default)]
    pub headers: BTreeMap<String, SecretText>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Down where the figure is greater than this (default: none).
    #[serde(default)]
    pub above: Option<f64>,
    /// Down where the figure is smaller than this (default: none).
    #[serde(default)]
    pub below: Option<f64>,
    /// Down where the figure is this (default: none).
    #[serde(default)]
    pub equals: Option<f64>,
    /// Of several series: Down where `any` of them crosses a threshold (the default), or only where `every`
    /// one does.
    #[serde(default)]
    pub series: Series,
    /// In place of `query` and thresholds: how many targets of a scrape job have to be up (default: none).
    #[serde(default)]
    pub targets_up: Option<TargetsUp>,
}

/// Which of several series have to cross a threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Series {
    /// One is enough.
    #[default]
    Any,
    /// All of them.
    Every,
}

/// How many targets of a scrape job have to be up; exactly one of `at_least` and `share`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetsUp {
    /// The name of the job.
    pub job: String,
    /// So many targets (default: none).
    #[serde(default)]
    pub at_least: Option<u32>,
    /// This share of the targets that there are, above 0 and at most 1, for example 0.9 (default: none).
    #[serde(default)]
    pub share: Option<f64>,
}

/// What it can see.
pub(super) const CAUSES: &[CauseRow] = &[
    down(CauseKind::ThresholdCrossed, "the figure crosses a threshold, or too few targets are up"),
    unknown(CauseKind::NoData, "the result is empty, or not a number, and what there is does not decide it"),
    unknown(CauseKind::QueryFailed, "Prometheus refuses the query, or its answer is too long or cannot be read"),
];

impl PromqlProbe {
    /// What is wrong with it.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["https", "http"]);
        secrets::headers(report, &at.key("headers"), &self.headers);
        file_is_there(report, &at.key("ca_file"), self.ca_file.as_deref());
        one_of(report, at, &[("query", self.query.is_some()), ("targets_up", self.targets_up.is_some())]);
        let thresholds = [("above", self.above), ("below", self.below), ("equals", self.equals)];
        if let Some(query) = &self.query {
            not_empty(report, &at.key("query"), query);
            threshold(report, at, &thresholds);
        } else if let Some((key, _)) = thresholds.iter().find(|(_, value)| value.is_some()) {
            report.error(
                "two_thresholds",
                &at.key(key),
                "`targets_up` has its threshold in it",
                "leave this out, or write `query` in place of `targets_up`",
            );
        }
        if let Some(targets) = &self.targets_up {
            let at = at.key("targets_up");
            not_empty(report, &at.key("job"), &targets.job);
            one_of(report, &at, &[("at_least", targets.at_least.is_some()), ("share", targets.share.is_some())]);
            at_least_one(report, &at.key("at_least"), targets.at_least);
            share(report, &at.key("share"), targets.share);
        }
    }
}
