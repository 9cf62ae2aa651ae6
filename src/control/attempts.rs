//! What came of the attempts of each probe: counts, causes and durations, in a small table of our own.
//!
//! Label vectors of `prometheus` keep a metric, its description and its hash entry for each probe and
//! label, about 3 KiB a probe in all, and are searched for by their labels at each attempt. With ten
//! thousand probes that is most of the memory of the daemon. Here a probe costs about 200 bytes; what
//! Prometheus reads is made when it asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::model::{CauseKind, Health, Observation, ProbeName};

/// From a round trip within a region to a probe's usual timeout, and past it; in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

const ATTEMPTS: (&str, &str) = ("failoverd_probe_attempts_total", "Attempts of a probe.");
const FAILURES: (&str, &str) = ("failoverd_probe_failures_total", "Attempts that did not see Up, or saw it degraded.");
const SECONDS: (&str, &str) = ("failoverd_probe_duration_seconds", "Duration of a probe's attempts, good or bad.");

/// Of all probes since the start. Cheap to clone.
#[derive(Clone)]
pub(super) struct Attempts {
    table: Arc<Mutex<HashMap<ProbeName, Tally>>>,
    descriptions: Arc<[Desc; 3]>,
}

/// Of one probe.
#[derive(Default)]
struct Tally {
    up: u64,
    down: u64,
    unknown: u64,
    /// Attempts that took at most so long, and more than the bound before.
    within: [u64; BUCKETS.len()],
    seconds: f64,
    /// A probe sees a handful of causes in its life.
    causes: Vec<(CauseKind, u64)>,
}

impl Attempts {
    /// Nothing is counted yet.
    ///
    /// # Errors
    /// Where a name is not one.
    pub(super) fn new() -> prometheus::Result<Self> {
        let describe = |(name, help): (&str, &str), labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, std::collections::HashMap::new())
        };
        Ok(Self {
            table: Arc::default(),
            descriptions: Arc::new([
                describe(ATTEMPTS, &["probe", "result"])?,
                describe(FAILURES, &["probe", "cause"])?,
                describe(SECONDS, &["probe"])?,
            ]),
        })
    }

    /// One attempt ended.
    pub(super) fn count(&self, probe: &ProbeName, observation: &Observation, took: Duration) {
        let mut table = self.lock();
        if !table.contains_key(probe) {
            table.insert(probe.clone(), Tally::default());
        }
        if let Some(tally) = table.get_mut(probe) {
            tally.count(observation, took);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProbeName, Tally>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn count(&mut self, observation: &Observation, took: Duration) {
        match observation.health() {
            Health::Up => self.up += 1,
            Health::Down => self.down += 1,
            Health::Unknown => self.unknown += 1,
        }
        let took = took.as_secs_f64();
        self.seconds += took;
        if let Some(bucket) = BUCKETS.iter().position(|bound| took <= *bound) {
            self.within[bucket] += 1;
        }
        if let Some(cause) = observation.cause().map(|cause| cause.kind) {
            match self.causes.iter_mut().find(|(known, _)| *known == cause) {
                Some((_, count)) => *count += 1,
                None => self.causes.push((cause, 1)),
            }
        }
    }

    fn attempts(&self) -> u64 {
        self.up + self.down + self.unknown
    }

    fn histogram(&self) -> Histogram {
        let mut histogram = Histogram::default();
        let mut below = 0;
        let buckets = BUCKETS.iter().zip(self.within).map(|(bound, within)| {
            below += within;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(below);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(self.attempts());
        histogram.set_sample_sum(self.seconds);
        histogram
    }
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    // In the order of their names, as the text format has them elsewhere.
    let mut labels: Vec<LabelPair> = pairs
        .iter()
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        })
        .collect();
    labels.sort_by(|a, b| a.name().cmp(b.name()));
    labels
}

fn counted(pairs: &[(&str, &str)], count: u64) -> Metric {
    let mut metric = Metric::from_label(labels(pairs));
    let mut counter = Counter::default();
    #[allow(clippy::cast_precision_loss, reason = "a counter is a float; 2^53 attempts are enough")]
    counter.set_value(count as f64);
    metric.set_counter(counter);
    metric
}

fn family((name, help): (&str, &str), kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

impl Collector for Attempts {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let table = self.lock();
        let (mut attempts, mut failures, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
        for (probe, tally) in &*table {
            let probe = probe.as_str();
            let results = [("up", tally.up), ("down", tally.down), ("unknown", tally.unknown)];
            let seen = results.into_iter().filter(|(_, count)| *count > 0);
            attempts.extend(seen.map(|(result, count)| counted(&[("probe", probe), ("result", result)], count)));
            let causes = tally.causes.iter();
            failures.extend(causes.map(|(kind, count)| counted(&[("cause", kind.as_str()), ("probe", probe)], *count)));
            let mut metric = Metric::from_label(labels(&[("probe", probe)]));
            metric.set_histogram(tally.histogram());
            seconds.push(metric);
        }
        // A family without metrics is no text.
        let families = [
            family(ATTEMPTS, MetricType::COUNTER, attempts),
            family(FAILURES, MetricType::COUNTER, failures),
            family(SECONDS, MetricType::HISTOGRAM, seconds),
        ];
        families.into_iter().filter(|family| !family.get_metric().is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prometheus_reads_is_what_was_counted() {
        let attempts = Attempts::new().unwrap();
        assert!(attempts.collect().is_empty());
        let registry = prometheus::Registry::new();
        registry.register(Box::new(attempts.clone())).unwrap();
        let ms = Duration::from_millis;
        attempts.count(&"api".into(), &Observation::up(ms(2)), ms(2));
        attempts.count(&"api".into(), &Observation::up(ms(2)), ms(300));
        attempts.count(&"api".into(), &Observation::down(CauseKind::Timeout, ""), ms(20_000));
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            r#"failoverd_probe_attempts_total{probe="api",result="down"} 1"#,
            r#"failoverd_probe_attempts_total{probe="api",result="up"} 2"#,
            r#"failoverd_probe_failures_total{cause="timeout",probe="api"} 1"#,
            r#"failoverd_probe_duration_seconds_bucket{probe="api",le="0.001"} 0"#,
            r#"failoverd_probe_duration_seconds_bucket{probe="api",le="0.0025"} 1"#,
            r#"failoverd_probe_duration_seconds_bucket{probe="api",le="10"} 2"#,
            r#"failoverd_probe_duration_seconds_bucket{probe="api",le="+Inf"} 3"#,
            r#"failoverd_probe_duration_seconds_count{probe="api"} 3"#,
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }
}
