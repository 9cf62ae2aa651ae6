//! Recorded looks from a Prometheus server: a query for each probe, over its range API.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Wrong;
use super::history::{History, MOST_POINTS, Point, Series};
use super::source_csv::unknown_probe;
use crate::clients::Failure;
use crate::clients::prometheus_range::{self, RangeSeries, Server};
use crate::model::{Health, ProbeName, Settings};

/// One answer may take so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Prometheus counts in milliseconds.
const SHORTEST_STEP: Duration = Duration::from_millis(1);

/// What is asked of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    probe: ProbeName,
    promql: String,
    step: Duration,
    means: Means,
}

/// What the answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// One series: 1 is up, 0 is down.
    Flag,
    /// Our own metric: a series for each health, the one that holds is 1.
    Verdict,
}

/// The queries: as given (`api=probe_success{instance="…"}`), or of our own metric for every probe.
///
/// # Errors
/// [`Wrong`] with the one that is wrong.
pub fn queries(metrics: &[String], settings: &Settings) -> Result<Vec<Query>, Wrong> {
    if metrics.is_empty() {
        let own = settings.probes.iter().map(|probe| Query {
            probe: probe.name.clone(),
            promql: format!("max by (health) (failoverd_probe_health{{probe={:?}}})", probe.name.as_str()),
            step: probe.interval.get().max(SHORTEST_STEP),
            means: Means::Verdict,
        });
        return Ok(own.collect());
    }
    let mut queries: Vec<Query> = Vec::new();
    for metric in metrics {
        let wrong = |what: String| Wrong::Given(format!("--metric {metric}: {what}"));
        let parts = metric.split_once('=').map(|(name, promql)| (name.trim(), promql.trim()));
        let Some((name, promql)) = parts.filter(|(name, promql)| !name.is_empty() && !promql.is_empty()) else {
            return Err(wrong("write PROBE=QUERY, for example 'api=probe_success{instance=\"api\"}'".into()));
        };
        let Some(probe) = settings.probe(&name.into()) else { return Err(wrong(unknown_probe(name, settings))) };
        if queries.iter().any(|known| known.probe == probe.name) {
            return Err(wrong(format!("`{name}` is there twice")));
        }
        queries.push(Query {
            probe: probe.name.clone(),
            promql: promql.to_owned(),
            step: probe.interval.get().max(SHORTEST_STEP),
            means: Means::Flag,
        });
    }
    Ok(queries)
}

impl Query {
    /// The pieces in which a time is asked for, both ends included.
    fn pieces(&self, from: i64, to: i64) -> Vec<(i64, i64)> {
        let step = i64::try_from(self.step.as_millis()).unwrap_or(i64::MAX).max(1);
        let most = i64::try_from(prometheus_range::MOST_POINTS - 1).unwrap_or(i64::MAX);
        let length = step.saturating_mul(most);
        let starts = std::iter::successors(Some(from), |start| start.checked_add(length)?.checked_add(step));
        starts.take_while(|start| *start <= to).map(|start| (start, start.saturating_add(length).min(to))).collect()
    }

    fn points(&self, from: i64, to: i64) -> u64 {
        let step = i64::try_from(self.step.as_millis()).unwrap_or(i64::MAX).max(1);
        u64::try_from((to - from) / step + 1).unwrap_or(0)
    }
}

/// Asks the server for everything from `from` to `to` (milliseconds since 1970). `progress` is told how many of how
/// many answers have come.
///
/// # Errors
/// [`Wrong`]: too much, nothing, or what the server said.
pub async fn fetch(
    server: &Server,
    queries: &[Query],
    (from, to): (i64, i64),
    progress: &dyn Fn(u64, u64),
) -> Result<History, Wrong> {
    if from >= to {
        return Err(Wrong::given("--from is not before --to"));
    }
    let points: u64 = queries.iter().map(|query| query.points(from, to)).sum();
    if points > MOST_POINTS as u64 {
        return Err(Wrong::Given(format!(
            "that would be {points} looks, at most {MOST_POINTS} are taken: ask for a shorter time, or for fewer probes"
        )));
    }
    let pieces: Vec<(&Query, (i64, i64))> =
        queries.iter().flat_map(|query| query.pieces(from, to).into_iter().map(move |piece| (query, piece))).collect();
    let all = u64::try_from(pieces.len()).unwrap_or(u64::MAX);
    let mut looks: BTreeMap<&ProbeName, (Duration, Vec<Point>)> = BTreeMap::new();
    for (done, (query, piece)) in pieces.into_iter().enumerate() {
        progress(u64::try_from(done).unwrap_or(u64::MAX), all);
        let answer = server.query_range(&query.promql, piece, query.step, Instant::now() + PATIENCE).await;
        let failed = |failure: Failure| Wrong::Failed(format!("{}: {failure}", query.probe));
        let seen = points_of(query, answer.map_err(failed)?)?;
        looks.entry(&query.probe).or_insert_with(|| (query.step, Vec::new())).1.extend(seen);
    }
    progress(all, all);
    if let Some(empty) = queries
        .iter()
        .find(|query| query.means == Means::Flag && looks.get(&query.probe).is_none_or(|(_, points)| points.is_empty()))
    {
        return Err(Wrong::Failed(format!(
            "{}: Prometheus has nothing for `{}` in that time; try the query in its own page",
            empty.probe, empty.promql
        )));
    }
    let series = looks.into_iter().map(|(probe, (step, points))| Series::new(probe.clone(), points, step));
    History::new(series).ok_or_else(|| {
        Wrong::Failed(
            "Prometheus has no failoverd_probe_health in that time; name what was measured with --metric \
             'PROBE=QUERY', for example 'api=probe_success{instance=\"api\"}'"
                .into(),
        )
    })
}

fn points_of(query: &Query, answer: Vec<RangeSeries>) -> Result<Vec<Point>, Wrong> {
    match query.means {
        Means::Verdict => Ok(verdicts(&answer)),
        Means::Flag => match answer.as_slice() {
            [] => Ok(Vec::new()),
            [one] => flags(query, one),
            many => Err(Wrong::Given(format!(
                "{}: `{}` gives {} series{}; narrow it down to one, or take the worst of them with min(…)",
                query.probe,
                query.promql,
                many.len(),
                difference(many)
            ))),
        },
    }
}

/// A label in which the series differ.
fn difference(many: &[RangeSeries]) -> String {
    let differs = |label: &&String| many.iter().any(|one| one.labels.get(*label) != many[0].labels.get(*label));
    let label = many.iter().flat_map(|one| one.labels.keys()).find(differs);
    label.map(|label| format!(", which differ in `{label}`")).unwrap_or_default()
}

fn flags(query: &Query, series: &RangeSeries) -> Result<Vec<Point>, Wrong> {
    let health = |value: f64| match value {
        1.0 => Ok(Health::Up),
        0.0 => Ok(Health::Down),
        _ if value.is_nan() => Ok(Health::Unknown),
        _ => Err(Wrong::Given(format!(
            "{}: `{}` is {value} at times, which is neither up (1) nor down (0); compare it, for example `… > bool 0.5`",
            query.probe, query.promql
        ))),
    };
    series.samples.iter().map(|(at, value)| Ok(look(*at, health(*value)?))).collect()
}

/// Where several daemons tell different things, nobody knows.
fn verdicts(answer: &[RangeSeries]) -> Vec<Point> {
    let mut held: BTreeMap<i64, (bool, bool)> = BTreeMap::new();
    for series in answer {
        let health = series.labels.get("health").map(String::as_str);
        for (at, value) in &series.samples {
            let (up, down) = held.entry(*at).or_default();
            *up |= *value == 1.0 && health == Some("up");
            *down |= *value == 1.0 && health == Some("down");
        }
    }
    let health = |held| match held {
        (true, false) => Health::Up,
        (false, true) => Health::Down,
        _ => Health::Unknown,
    };
    held.into_iter().map(|(at, held)| look(at, health(held))).collect()
}

fn look(at: i64, health: Health) -> Point {
    Point { at, health, latency: None, cause: None }
}

#[cfg(test)]
mod tests {
    use super::super::replay::tests::settings;
    use super::*;

    fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> RangeSeries {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        RangeSeries { labels, samples: samples.to_vec() }
    }

    fn flag() -> Query {
        queries(&["api=probe_success{instance=\"a=b\"}".into()], &settings()).expect("good").remove(0)
    }

    #[test]
    fn queries_are_read_up_to_the_first_equals_sign() {
        let query = flag();
        assert_eq!((query.probe.as_str(), query.promql.as_str()), ("api", "probe_success{instance=\"a=b\"}"));
        let wrong = |text: &str| queries(&[text.into()], &settings()).expect_err("wrong").to_string();
        assert!(wrong("apo=up").contains("did you mean `api`?"), "{}", wrong("apo=up"));
        assert!(wrong("up").contains("write PROBE=QUERY"));
        assert!(queries(&["api=up".into(), "api=up".into()], &settings()).is_err());
        let own = queries(&[], &settings()).expect("good");
        assert_eq!(own[0].promql, "max by (health) (failoverd_probe_health{probe=\"api\"})");
        assert_eq!(own.len(), 3);
    }

    #[test]
    fn long_times_are_asked_in_pieces_without_a_gap() {
        let query = flag();
        let pieces = query.pieces(0, 100_000_000);
        assert_eq!(
            pieces,
            [
                (0, 19_998_000),
                (20_000_000, 39_998_000),
                (40_000_000, 59_998_000),
                (60_000_000, 79_998_000),
                (80_000_000, 99_998_000),
                (100_000_000, 100_000_000),
            ]
        );
        assert_eq!(query.pieces(0, 10_000), [(0, 10_000)]);
        assert_eq!(query.points(0, 10_000), 6);
    }

    #[test]
    fn zero_is_down_one_is_up_and_the_rest_is_said() {
        let query = flag();
        let points = points_of(&query, vec![series(&[], &[(1, 1.0), (2, 0.0), (3, f64::NAN)])]).expect("good");
        let seen: Vec<Health> = points.iter().map(|point| point.health).collect();
        assert_eq!(seen, [Health::Up, Health::Down, Health::Unknown]);
        let half = points_of(&query, vec![series(&[], &[(1, 0.5)])]).expect_err("half").to_string();
        assert!(half.contains("is 0.5 at times"), "{half}");
        let two = vec![series(&[("job", "x"), ("zone", "a")], &[]), series(&[("job", "x"), ("zone", "b")], &[])];
        let two = points_of(&query, two).expect_err("two").to_string();
        assert!(two.contains("gives 2 series, which differ in `zone`"), "{two}");
    }

    #[test]
    fn of_our_own_metric_the_health_that_is_one_holds() {
        let query = queries(&[], &settings()).expect("good").remove(0);
        let answer = vec![
            series(&[("health", "up")], &[(1, 1.0), (2, 0.0), (3, 0.0), (4, 1.0)]),
            series(&[("health", "down")], &[(1, 0.0), (2, 1.0), (3, 0.0), (4, 1.0)]),
            series(&[("health", "unknown")], &[(1, 0.0), (2, 0.0), (3, 1.0), (4, 0.0)]),
        ];
        let seen: Vec<Health> = points_of(&query, answer).expect("good").iter().map(|point| point.health).collect();
        assert_eq!(seen, [Health::Up, Health::Down, Health::Unknown, Health::Unknown], "two daemons disagree");
    }
}
