//! What was recorded of each probe, and what its target was like at an instant.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{CauseKind, Health, ProbeName, WallTime};

/// The most looks that are held: 24 bytes each.
pub const MOST_POINTS: usize = 10_000_000;

/// A gap that is longer than so many of a series' own intervals is a time in which nobody looked.
const GAP: u32 = 3;

/// One recorded look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// What it saw.
    pub health: Health,
    /// How long it took, in milliseconds, where that was recorded.
    pub latency: Option<u32>,
    /// Why it was not up, or not well, where that was recorded.
    pub cause: Option<CauseKind>,
}

/// The looks of one probe, the oldest first, no two at the same instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// The probe.
    pub probe: ProbeName,
    /// Its looks.
    pub points: Vec<Point>,
    /// From look to look, usually.
    pub interval: Duration,
}

impl Series {
    /// Sorts the looks; of two at the same instant the later one in the source counts. `usual` is the
    /// interval of a series that is too short to tell its own.
    pub fn new(probe: ProbeName, mut points: Vec<Point>, usual: Duration) -> Self {
        points.sort_by_key(|point| point.at);
        points.dedup_by(|later, kept| {
            let same = later.at == kept.at;
            if same {
                *kept = *later;
            }
            same
        });
        points.shrink_to_fit();
        let mut steps: Vec<i64> = points.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        let middle = steps.len() / 2;
        let interval = match steps.len() {
            0 => usual,
            _ => {
                let (_, median, _) = steps.select_nth_unstable(middle);
                Duration::from_millis(u64::try_from(*median).unwrap_or(0))
            }
        };
        Self { probe, points, interval }
    }

    /// The longest time for which a look stands for what comes after it, in milliseconds.
    pub fn holds(&self) -> i64 {
        i64::try_from((self.interval * GAP).as_millis()).unwrap_or(i64::MAX)
    }

    /// The newest look at or before an instant, unless it is too old. `from` is a place at or before
    /// it that is known; it is moved on, so that asking in the order of time costs nothing.
    pub fn at(&self, at: i64, from: &mut usize) -> Option<&Point> {
        while self.points.get(*from + 1).is_some_and(|next| next.at <= at) {
            *from += 1;
        }
        let newest = self.points.get(*from)?;
        (newest.at <= at && at - newest.at <= self.holds()).then_some(newest)
    }

    /// The same for one who asks only now and then.
    pub fn look(&self, at: i64) -> Option<&Point> {
        let mut place = self.points.partition_point(|point| point.at <= at).checked_sub(1)?;
        self.at(at, &mut place)
    }

    /// The first instant from `from` until `to` at which the target is known to be down.
    pub fn first_down(&self, from: i64, to: i64) -> Option<i64> {
        if self.look(from).is_some_and(|point| point.health == Health::Down) {
            return Some(from);
        }
        let start = self.points.partition_point(|point| point.at < from);
        let within = self.points[start..].iter().take_while(|point| point.at <= to);
        within.into_iter().find(|point| point.health == Health::Down).map(|point| point.at)
    }

    /// From an instant until another: what the target was like, in stretches.
    pub fn stretches(&self, from: i64, to: i64) -> Vec<(i64, i64, Health)> {
        let mut stretches: Vec<(i64, i64, Health)> = Vec::new();
        let mut add = |start: i64, end: i64, health: Health| {
            let (start, end) = (start.max(from), end.min(to));
            if start >= end {
                return;
            }
            match stretches.last_mut() {
                Some(last) if last.2 == health && last.1 == start => last.1 = end,
                _ => stretches.push((start, end, health)),
            }
        };
        let first = self.points.partition_point(|point| point.at <= from).saturating_sub(1);
        add(from, self.points.get(first).map_or(to, |point| point.at), Health::Unknown);
        for (place, point) in self.points.iter().enumerate().skip(first).take_while(|(_, point)| point.at < to) {
            let next = self.points.get(place + 1).map_or(to.max(point.at), |next| next.at);
            let until = next.min(point.at.saturating_add(self.holds()));
            add(point.at, until, point.health);
            add(until, next, Health::Unknown);
        }
        stretches
    }
}

/// Everything that was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The series, by the names of their probes.
    pub series: BTreeMap<ProbeName, Series>,
    /// The first look of all, in milliseconds since 1970.
    pub from: i64,
    /// The last one.
    pub to: i64,
}

impl History {
    /// `None` where nothing was recorded.
    pub fn new(series: impl IntoIterator<Item = Series>) -> Option<Self> {
        let series: BTreeMap<ProbeName, Series> = series
            .into_iter()
            .filter(|series| !series.points.is_empty())
            .map(|series| (series.probe.clone(), series))
            .collect();
        let from = series.values().filter_map(|series| series.points.first()).map(|point| point.at).min()?;
        let to = series.values().filter_map(|series| series.points.last()).map(|point| point.at).max()?;
        Some(Self { series, from, to })
    }

    /// From the first look to the last.
    pub fn span(&self) -> Duration {
        WallTime(self.to).since(WallTime(self.from))
    }

    /// The number of looks.
    pub fn points(&self) -> usize {
        self.series.values().map(|series| series.points.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: i64, health: Health) -> Point {
        Point { at, health, latency: None, cause: None }
    }

    fn series(points: &[(i64, Health)]) -> Series {
        let points = points.iter().map(|(at, health)| point(*at, *health)).collect();
        Series::new("api".into(), points, Duration::from_secs(2))
    }

    #[test]
    fn the_newest_look_holds_until_the_next_one_or_a_gap() {
        let series = series(&[
            (1000, Health::Up),
            (2000, Health::Down),
            (3000, Health::Up),
            (4000, Health::Up),
            (20_000, Health::Up),
        ]);
        assert_eq!(series.interval, Duration::from_secs(1));
        let mut place = 0;
        let mut health = |at| series.at(at, &mut place).map(|point| point.health);
        assert_eq!(health(999), None, "before the first look");
        assert_eq!(health(1999), Some(Health::Up));
        assert_eq!(health(2000), Some(Health::Down));
        assert_eq!(health(7000), Some(Health::Up), "three intervals after the last look");
        assert_eq!(health(7001), None, "nobody looked");
        assert_eq!(health(20_000), Some(Health::Up));
        assert_eq!(series.look(7001), None);
        assert_eq!(series.look(2500).map(|point| point.health), Some(Health::Down));
        assert_eq!(series.first_down(0, 10_000), Some(2000));
        assert_eq!(series.first_down(2500, 10_000), Some(2500), "it is down already");
        assert_eq!(series.first_down(3000, 10_000), None);
    }

    #[test]
    fn unsorted_and_doubled_looks_are_put_right() {
        let series = series(&[(3000, Health::Up), (1000, Health::Up), (2000, Health::Down), (1000, Health::Down)]);
        let all: Vec<(i64, Health)> = series.points.iter().map(|point| (point.at, point.health)).collect();
        assert_eq!(all, [(1000, Health::Down), (2000, Health::Down), (3000, Health::Up)], "the later one counts");
    }

    #[test]
    fn stretches_cover_the_whole_time_and_no_more() {
        let series = series(&[
            (1000, Health::Up),
            (2000, Health::Down),
            (3000, Health::Down),
            (4000, Health::Up),
            (5000, Health::Up),
        ]);
        assert_eq!(
            series.stretches(0, 10_000),
            [
                (0, 1000, Health::Unknown),
                (1000, 2000, Health::Up),
                (2000, 4000, Health::Down),
                (4000, 8000, Health::Up),
                (8000, 10_000, Health::Unknown),
            ]
        );
        assert_eq!(series.stretches(2500, 3500), [(2500, 3500, Health::Down)]);
    }

    #[test]
    fn an_empty_history_is_none() {
        assert_eq!(History::new([series(&[])]), None);
        let history = History::new([series(&[(1000, Health::Up), (9000, Health::Up)])]).expect("some");
        assert_eq!((history.from, history.to, history.points()), (1000, 9000, 2));
        assert_eq!(history.span(), Duration::from_secs(8));
    }
}
