//! Recorded looks from the daemon's own history: stretches of looks that saw the same.
//!
//! The first and the last look of a stretch are where they were; those between are spread evenly, and so
//! are the durations, which are known within 5 %. What a probe saw is therefore exact at each instant, and
//! how long a single look took may be off by as much as the stretch is long, five minutes at most.

use std::collections::BTreeMap;

use super::Wrong;
use super::history::{History, MOST_POINTS, Point, Series};
use super::source_csv::Window;
use crate::model::{ProbeName, Settings, Stretch};

/// Spreads the stretches out again. Notes what has no probe any more.
///
/// # Errors
/// [`Wrong`] where nothing is left, or too much.
pub fn spread(
    stretches: &[Stretch],
    settings: &Settings,
    window: Window,
    notes: &mut Vec<String>,
) -> Result<History, Wrong> {
    let looks: u64 = stretches.iter().map(|stretch| u64::from(stretch.looks)).sum();
    if looks > MOST_POINTS as u64 {
        let what =
            format!("there are {looks} looks, more than {MOST_POINTS}; take a part of them with --from and --to");
        return Err(Wrong::Given(what));
    }
    let mut points: BTreeMap<&ProbeName, Vec<Point>> = BTreeMap::new();
    for stretch in stretches {
        points.entry(&stretch.probe).or_default().extend(
            spread_one(stretch)
                .filter(|point| window.0.is_none_or(|from| from <= point.at))
                .filter(|point| window.1.is_none_or(|to| point.at <= to)),
        );
    }
    let gone: Vec<&str> =
        points.keys().filter(|name| settings.probe(name).is_none()).map(|name| name.as_str()).collect();
    if !gone.is_empty() {
        notes.push(format!("Recorded, but not in the configuration: {}.", gone.join(", ")));
    }
    let known = settings.probes.iter().filter(|probe| probe.window.is_none());
    let series = known.filter_map(|probe| {
        let points = points.remove(&probe.name)?;
        Some(Series::new(probe.name.clone(), points, probe.interval.get()))
    });
    History::new(series).ok_or_else(|| match window {
        (None, None) => Wrong::given("the history holds nothing of the probes in the configuration yet"),
        _ => Wrong::given("the history holds nothing between --from and --to of the probes in the configuration"),
    })
}

fn spread_one(stretch: &Stretch) -> impl Iterator<Item = Point> {
    let looks = i64::from(stretch.looks.max(1));
    let length = stretch.to.0.saturating_sub(stretch.from.0);
    let sorted: Vec<u32> = stretch
        .took
        .iter()
        .flat_map(|(bucket, count)| {
            let milliseconds = bucket.duration().as_nanos().div_ceil(1_000_000);
            std::iter::repeat_n(u32::try_from(milliseconds).unwrap_or(u32::MAX), *count as usize)
        })
        .collect();
    let stride = stride(sorted.len());
    let (health, cause, from) = (stretch.health, stretch.cause, stretch.from.0);
    (0..looks).map(move |look| {
        let at = if looks == 1 { from } else { from + length * look / (looks - 1) };
        let place = usize::try_from(look).unwrap_or_default().wrapping_mul(stride) % sorted.len().max(1);
        Point { at, health, latency: sorted.get(place).copied(), cause }
    })
}

/// A step that meets each of so many places once, and no two neighbours one after the other: the slow looks
/// are spread among the quick ones.
fn stride(places: usize) -> usize {
    let gcd = |mut a: usize, mut b: usize| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    // The golden section leaves the largest gaps.
    let near = places * 618 / 1000;
    (near.max(1)..).find(|step| gcd(*step, places) == 1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::replay::tests::settings;
    use super::*;
    use crate::model::histogram::Bucket;
    use crate::model::{CauseKind, Health, WallTime};

    fn stretch(probe: &str, from: i64, to: i64, health: Health, took: &[(u64, u32)]) -> Stretch {
        Stretch {
            number: 1,
            probe: probe.into(),
            from: WallTime(from),
            to: WallTime(to),
            health,
            cause: (health != Health::Up).then_some(CauseKind::Timeout),
            looks: took.iter().map(|(_, count)| count).sum(),
            took: took.iter().map(|(of, count)| (Bucket::of(Duration::from_millis(*of)), *count)).collect(),
        }
    }

    #[test]
    fn the_ends_are_exact_and_the_rest_is_spread_evenly() {
        let stretches = [
            stretch("api", 1000, 9000, Health::Up, &[(10, 4), (800, 1)]),
            stretch("api", 11_300, 13_300, Health::Down, &[(1000, 2)]),
            stretch("gone", 1000, 1000, Health::Up, &[(1, 1)]),
        ];
        let mut notes = Vec::new();
        let history = spread(&stretches, &settings(), (None, None), &mut notes).expect("some");
        let api = &history.series[&"api".into()].points;
        let at: Vec<i64> = api.iter().map(|point| point.at).collect();
        assert_eq!(at, [1000, 3000, 5000, 7000, 9000, 11_300, 13_300]);
        assert_eq!(api.iter().filter(|point| point.latency.is_some_and(|took| took > 700)).count(), 3);
        assert_eq!((api[5].health, api[5].cause), (Health::Down, Some(CauseKind::Timeout)));
        assert_eq!(notes, ["Recorded, but not in the configuration: gone."]);
        let history = spread(&stretches, &settings(), (Some(4000), Some(12_000)), &mut notes).expect("some");
        assert_eq!((history.from, history.to), (5000, 11_300));
        assert!(spread(&stretches, &settings(), (Some(20_000), None), &mut notes).is_err());
        assert!(spread(&[], &settings(), (None, None), &mut notes).is_err());
    }

    #[test]
    fn slow_looks_are_spread_among_the_quick_ones() {
        let one = stretch("api", 0, 99_000, Health::Up, &[(10, 90), (800, 10)]);
        let slow: Vec<bool> = spread_one(&one).map(|point| point.latency.is_some_and(|took| took > 700)).collect();
        assert_eq!(slow.iter().filter(|slow| **slow).count(), 10);
        for quarter in slow.chunks(25) {
            let found = quarter.iter().filter(|slow| **slow).count();
            assert!((1..=4).contains(&found), "{found} of 25: {slow:?}");
        }
    }
}
