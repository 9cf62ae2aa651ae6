//! A figure of CloudWatch against a threshold.

use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, StatusCode};

use super::Account;
use crate::clients::Api;
use crate::config::probe::cloudwatch::RESULT;
use crate::config::probe::{CloudwatchMetric, CloudwatchProbe};
use crate::model::{Cause, CauseKind, Observation};
use crate::ports::Probe;
use crate::probes::classify::Fault;
use crate::probes::{ProbeBuildError, ProbeContext, judged};

/// So many of the newest periods may be missing: CloudWatch has a figure a minute or two late.
const LATE: u32 = 2;

/// See [`CloudwatchProbe`].
pub struct Cloudwatch {
    account: Account,
    config: CloudwatchProbe,
    queries: Vec<MetricDataQuery>,
    period: Duration,
}

impl Cloudwatch {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Where there is no metric, or no period.
    pub fn new(config: &CloudwatchProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        let lacks = |field: &str, why: &str| ProbeBuildError::new(field, why);
        let first = config.metrics.first().ok_or_else(|| lacks("metrics", "there is no metric"))?;
        let period = first.period.get();
        if period.as_secs() == 0 {
            return Err(lacks("metrics.period", "has to be a second or longer"));
        }
        let alone = config.expression.is_none();
        let mut queries = Vec::with_capacity(config.metrics.len() + 1);
        for metric in &config.metrics {
            queries.push(query(metric, alone).ok_or_else(|| lacks("metrics", "the period is too long"))?);
        }
        if let Some(expression) = &config.expression {
            queries.push(MetricDataQuery::builder().id(RESULT).expression(expression).return_data(true).build());
        }
        let account = Account::new(context, &config.region, Api::Aws);
        Ok(Self { account, config: config.clone(), queries, period })
    }

    /// The datapoints of the periods that are looked at, the newest first.
    async fn datapoints(&self, until: Instant) -> Result<Vec<f64>, Fault> {
        let clients = self.account.clients(until).await?;
        let (start, end) = self.window(SystemTime::now());
        let request = clients
            .cloudwatch()
            .get_metric_data()
            .set_metric_data_queries(Some(self.queries.clone()))
            .start_time(start)
            .end_time(end);
        let answer = self.account.ask("cloudwatch GetMetricData", until, request.send()).await?;
        let [result] = answer.metric_data_results() else {
            let count = answer.metric_data_results().len();
            let text = format!("CloudWatch gives {count} series: write an `expression` that gives one");
            return Err(Fault::ours(CauseKind::QueryFailed, text));
        };
        match result.status_code() {
            Some(StatusCode::InternalError) => {
                Err(Fault::ours(CauseKind::ControlPlane, "cloudwatch GetMetricData: an internal error"))
            }
            Some(StatusCode::Forbidden) => {
                Err(Fault::ours(CauseKind::LocalPermission, "cloudwatch GetMetricData: the metric is not ours to see"))
            }
            // What is missing of partial data counts as missing.
            _ => Ok(newest_first(result, self.config.of())),
        }
    }

    /// From when to when: whole periods, with those that may be late.
    fn window(&self, now: SystemTime) -> (DateTime, DateTime) {
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let period = self.period.as_secs();
        let end = since_epoch - since_epoch % period;
        let start = end.saturating_sub(period.saturating_mul(u64::from(self.config.of() + LATE)));
        let time = |seconds: u64| DateTime::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        (time(start), time(end))
    }

    async fn look(&self) -> Result<Option<Cause>, Fault> {
        let datapoints = self.datapoints(self.account.until()).await?;
        self.judge(&datapoints).map(|()| None)
    }

    /// Those that are missing are neither good nor bad: only where they could decide it, it is open.
    fn judge(&self, datapoints: &[f64]) -> Result<(), Fault> {
        let CloudwatchProbe { above, below, datapoints_to_alarm: needed, .. } = self.config;
        let (of, needed) = (self.config.of() as usize, needed.max(1) as usize);
        let figures = datapoints.iter().filter(|figure| !figure.is_nan());
        let crosses =
            |figure: &&f64| above.is_some_and(|above| **figure > above) || below.is_some_and(|below| **figure < below);
        let crossing: Vec<&f64> = figures.clone().filter(crosses).collect();
        let missing = of - figures.count().min(of);
        if crossing.len() >= needed {
            let shown: Vec<String> = crossing.iter().take(5).map(ToString::to_string).collect();
            let count = crossing.len();
            return Err(Fault::theirs(
                CauseKind::ThresholdCrossed,
                format!("{count} of {of} datapoints cross the threshold: {}", shown.join(", ")),
            ));
        }
        if crossing.len() + missing >= needed {
            let text = format!("{missing} of the newest {of} datapoints are missing");
            return Err(Fault::ours(CauseKind::NoData, text));
        }
        Ok(())
    }
}

fn query(metric: &CloudwatchMetric, returned: bool) -> Option<MetricDataQuery> {
    let dimension = |(name, value): (&String, &String)| Dimension::builder().name(name).value(value).build();
    let of = Metric::builder()
        .namespace(&metric.namespace)
        .metric_name(&metric.name)
        .set_dimensions(Some(metric.dimensions.iter().map(dimension).collect()))
        .build();
    let stat = MetricStat::builder()
        .metric(of)
        .period(i32::try_from(metric.period.get().as_secs()).ok()?)
        .stat(&metric.stat)
        .build();
    Some(MetricDataQuery::builder().id(&metric.id).metric_stat(stat).return_data(returned).build())
}

/// The values by their times, whatever their order was.
fn newest_first(result: &MetricDataResult, most: u32) -> Vec<f64> {
    let mut points: Vec<(i64, f64)> =
        result.timestamps().iter().map(DateTime::secs).zip(result.values().iter().copied()).collect();
    points.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    points.into_iter().take(most as usize).map(|(_, value)| value).collect()
}

#[async_trait]
impl Probe for Cloudwatch {
    async fn attempt(&self) -> Observation {
        let started = Instant::now();
        judged(self.look().await, started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Health;
    use crate::probes::ProbeClients;

    fn probe(needed: u32, of: u32) -> Cloudwatch {
        let config = serde_json::from_value(serde_json::json!({
            "region": "us-east-1", "metrics": [{ "namespace": "n", "name": "m" }], "above": 5, "below": 1,
            "datapoints_to_alarm": needed, "of": of,
        }));
        let context = ProbeContext::new(ProbeClients::system(), Duration::from_secs(1));
        Cloudwatch::new(&config.expect("the parameters"), &context).expect("it can be built")
    }

    #[test]
    fn missing_datapoints_leave_open_only_what_they_could_decide() {
        for (datapoints, health) in [
            (&[2.0, 2.0, 2.0][..], Health::Up),
            (&[9.0, 9.0, 2.0], Health::Down),
            (&[0.0, 9.0, 2.0], Health::Down),
            (&[9.0, 2.0, 2.0], Health::Up),
            // One is missing: it could be the second that is bad.
            (&[9.0, 2.0], Health::Unknown),
            (&[2.0, 2.0], Health::Up),
            (&[9.0, 9.0], Health::Down),
            (&[2.0], Health::Unknown),
            (&[], Health::Unknown),
            (&[f64::NAN, 9.0, 2.0], Health::Unknown),
            // Exactly at a threshold is not across it.
            (&[5.0, 5.0, 1.0], Health::Up),
        ] {
            let seen = match probe(2, 3).judge(datapoints) {
                Ok(()) => Health::Up,
                Err(fault) => Observation::from(fault).health(),
            };
            assert_eq!(seen, health, "{datapoints:?}");
        }
    }

    #[test]
    fn only_whole_periods_are_asked_for() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_019);
        let (start, end) = probe(2, 3).window(now);
        assert_eq!((start.secs(), end.secs()), (999_960 - 5 * 60, 999_960));
    }
}
