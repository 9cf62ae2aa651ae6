//! Metrics of Amazon CloudWatch.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{CauseRow, down, unknown};
use super::threshold;
use crate::config::check::common::{at_least_one, aws_region, not_empty};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{CauseKind, HumanDuration};

/// The most datapoints that are looked at.
const MOST: u32 = 100;

/// A figure of CloudWatch, or one computed from several: Down where at least `datapoints_to_alarm` of the
/// newest `of` datapoints cross the threshold, as an alarm of CloudWatch does, and without one.
///
/// CloudWatch has a figure a minute or two after it was measured, so that the two newest periods may be
/// missing. Where still fewer than `of` datapoints are there, and those that are missing could decide it,
/// that is Unknown (`no_data`). AWS limits how often it may be asked, and takes money for each metric that
/// is asked for: write an `interval` of 10 s or longer, better of one period, and a `timeout` of 5 s. Needs
/// `cloudwatch:GetMetricData`.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudwatchProbe {
    /// The region of the metrics.
    pub region: String,
    /// The metrics. Without an `expression` there is exactly one.
    pub metrics: Vec<CloudwatchMetric>,
    /// What is computed of them, as metric math, by their ids: `m2/m1*100` (default: the one metric itself).
    /// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html>
    #[serde(default)]
    pub expression: Option<String>,
    /// A datapoint crosses where it is greater than this (default: none).
    #[serde(default)]
    pub above: Option<f64>,
    /// A datapoint crosses where it is smaller than this (default: none).
    #[serde(default)]
    pub below: Option<f64>,
    /// So many of the newest datapoints have to cross (default 1).
    #[serde(default = "one")]
    pub datapoints_to_alarm: u32,
    /// So many of the newest datapoints are looked at, at most 100 (default: `datapoints_to_alarm`).
    #[serde(default)]
    pub of: Option<u32>,
}

/// A metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudwatchMetric {
    /// What it is called in the `expression`: letters, digits and `_`, a lower-case letter first (default
    /// `m1`).
    #[serde(default = "first")]
    pub id: String,
    /// The namespace, for example `AWS/ApplicationELB`.
    pub namespace: String,
    /// The metric's name, for example `HTTPCode_Target_5XX_Count`.
    pub name: String,
    /// The dimensions, all that it has (default: none).
    #[serde(default)]
    pub dimensions: BTreeMap<String, String>,
    /// The statistic: `Average`, `Sum`, `Minimum`, `Maximum`, `SampleCount`, `p99` (default `Average`).
    #[serde(default = "average")]
    pub stat: String,
    /// What one datapoint stands for: 1, 5, 10, 20 or 30 s, or whole minutes (default 1 minute). The same
    /// for all metrics.
    #[serde(default = "minute")]
    pub period: HumanDuration,
}

fn one() -> u32 {
    1
}

fn first() -> String {
    "m1".into()
}

fn average() -> String {
    "Average".into()
}

fn minute() -> HumanDuration {
    HumanDuration::secs(60)
}

/// What it can see.
pub(super) const CAUSES: &[CauseRow] = &[
    down(CauseKind::ThresholdCrossed, "`datapoints_to_alarm` of the newest `of` datapoints cross the threshold"),
    unknown(CauseKind::NoData, "datapoints are missing that could decide it"),
];

impl CloudwatchProbe {
    /// How many of the newest datapoints are looked at.
    pub fn of(&self) -> u32 {
        self.of.unwrap_or(self.datapoints_to_alarm).clamp(1, MOST)
    }

    /// What is wrong with it.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        threshold(report, at, &[("above", self.above), ("below", self.below)]);
        self.check_metrics(&at.key("metrics"), report);
        match &self.expression {
            Some(expression) => not_empty(report, &at.key("expression"), expression),
            None if self.metrics.len() > 1 => report.error(
                "no_expression",
                &at.key("metrics"),
                "there are several metrics, and nothing says what is computed of them",
                "add `expression`, for example \"m2/m1*100\", or make a probe for each metric",
            ),
            None => {}
        }
        at_least_one(report, &at.key("datapoints_to_alarm"), Some(self.datapoints_to_alarm));
        let of = self.of.unwrap_or(self.datapoints_to_alarm);
        if of < self.datapoints_to_alarm || of > MOST {
            report.error(
                "bad_window",
                &at.key(if self.of.is_some() { "of" } else { "datapoints_to_alarm" }),
                format!("{} of {of} datapoints cannot be", self.datapoints_to_alarm),
                format!("write `datapoints_to_alarm` at most as large as `of`, and `of` at most {MOST}"),
            );
        }
    }

    fn check_metrics(&self, at: &Path, report: &mut Report<'_>) {
        if self.metrics.is_empty() {
            report.error("empty", at, "there is no metric", "add at least one");
        }
        let mut ids = BTreeSet::new();
        for (place, metric) in self.metrics.iter().enumerate() {
            let at = at.index(place);
            let well = metric.id.starts_with(|c: char| c.is_ascii_lowercase())
                && metric.id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !well || metric.id == RESULT {
                report.error(
                    "bad_id",
                    &at.key("id"),
                    format!("{:?} is not an id that CloudWatch takes here", metric.id),
                    "write letters, digits and `_`, a lower-case letter first, for example `m1`",
                );
            }
            if !ids.insert(&metric.id) {
                report.error("twice", &at.key("id"), format!("`{}` is there twice", metric.id), "rename one of them");
            }
            not_empty(report, &at.key("namespace"), &metric.namespace);
            not_empty(report, &at.key("name"), &metric.name);
            not_empty(report, &at.key("stat"), &metric.stat);
            let seconds = metric.period.get().as_secs();
            let whole = metric.period.get().subsec_nanos() == 0;
            if !whole || !(matches!(seconds, 1 | 5 | 10 | 20 | 30) || (seconds > 0 && seconds % 60 == 0)) {
                report.error(
                    "bad_period",
                    &at.key("period"),
                    format!("CloudWatch has no datapoints of {}", metric.period),
                    "write 1s, 5s, 10s, 20s, 30s or whole minutes",
                );
            } else if metric.period != self.metrics[0].period {
                report.error(
                    "bad_period",
                    &at.key("period"),
                    "metrics of different periods have no datapoints in common",
                    format!("write {}, as the first one has", self.metrics[0].period),
                );
            }
        }
    }
}

/// The id of the figure that is asked for.
pub const RESULT: &str = "failoverd_result";
