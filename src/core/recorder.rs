//! From looks to stretches: what the daemon keeps of its own eyes, for `failoverd backtest --history`.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::histogram::Bucket;
use crate::model::{CauseKind, Health, Observation, ProbeName, Stretch, WallTime};

/// A stretch is no longer: that is as far as a look's place in it can be wrong.
const LONGEST: Duration = Duration::from_secs(300);
/// After so many intervals without a look nobody has looked, and a stretch must not say otherwise.
const GAP: u32 = 3;

/// The stretches that go on.
#[derive(Debug, Default)]
pub struct Recorder {
    open: HashMap<ProbeName, Stretch>,
    numbers: u64,
}

impl Recorder {
    /// Takes a look that began at `at` and took so long; `interval` is from look to look, usually. Gives the
    /// stretch that it ends.
    pub fn look(
        &mut self,
        probe: &ProbeName,
        at: WallTime,
        interval: Duration,
        observation: &Observation,
        took: Duration,
    ) -> Option<Stretch> {
        let (health, cause) = (observation.health(), observation.cause().map(|cause| cause.kind));
        let bucket = Bucket::of(took);
        if let Some(open) = self.open.get_mut(probe)
            && (open.health, open.cause) == (health, cause)
            // One that a quicker look overtook is of this stretch too, unless the clock was set back.
            && at >= open.from
            && at.since(open.to) <= interval.saturating_mul(GAP)
            && at.since(open.from) <= LONGEST
        {
            open.to = open.to.max(at);
            open.looks = open.looks.saturating_add(1);
            match open.took.binary_search_by_key(&bucket, |(known, _)| *known) {
                Ok(place) => open.took[place].1 = open.took[place].1.saturating_add(1),
                Err(place) => open.took.insert(place, (bucket, 1)),
            }
            return None;
        }
        let begun = self.begin(probe, at, (health, cause), bucket);
        self.open.insert(probe.clone(), begun)
    }

    fn begin(
        &mut self,
        probe: &ProbeName,
        at: WallTime,
        (health, cause): (Health, Option<CauseKind>),
        bucket: Bucket,
    ) -> Stretch {
        self.numbers += 1;
        let (number, probe) = (self.numbers, probe.clone());
        Stretch { number, probe, from: at, to: at, health, cause, looks: 1, took: vec![(bucket, 1)] }
    }

    /// The stretches that go on, as far as they have come.
    pub fn open(&self) -> impl Iterator<Item = &Stretch> {
        self.open.values()
    }

    /// Ends them all.
    pub fn end(&mut self) -> Vec<Stretch> {
        self.open.drain().map(|(_, stretch)| stretch).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);

    fn up() -> Observation {
        Observation::up(Duration::from_millis(10))
    }

    fn down() -> Observation {
        Observation::down(CauseKind::Timeout, "")
    }

    /// Looks at these seconds; the ends of the stretches, with their looks.
    fn ends(looks: &[(i64, Observation)]) -> Vec<(i64, i64, Health, u32)> {
        let mut recorder = Recorder::default();
        let mut ended = Vec::new();
        for (second, seen) in looks {
            ended.extend(recorder.look(&"api".into(), WallTime(second * 1000), INTERVAL, seen, INTERVAL));
        }
        ended.extend(recorder.end());
        ended.iter().map(|one| (one.from.0 / 1000, one.to.0 / 1000, one.health, one.looks)).collect()
    }

    #[test]
    fn equal_looks_are_one_stretch_and_its_ends_are_exact() {
        let looks = [(0, up()), (2, up()), (4, up()), (6, down()), (8, down()), (10, up())];
        assert_eq!(ends(&looks), [(0, 4, Health::Up, 3), (6, 8, Health::Down, 2), (10, 10, Health::Up, 1)]);
        let unwell = Observation::degraded(Duration::from_millis(10), CauseKind::Slow, "");
        assert_eq!(ends(&[(0, up()), (2, unwell), (4, up())]).len(), 3, "another cause is another stretch");
    }

    #[test]
    fn a_time_in_which_nobody_looked_is_in_no_stretch() {
        assert_eq!(ends(&[(0, up()), (6, up())]).len(), 1);
        assert_eq!(ends(&[(0, up()), (7, up())]), [(0, 0, Health::Up, 1), (7, 7, Health::Up, 1)]);
        assert_eq!(ends(&[(100, up()), (90, up())]).len(), 2, "the clock was set back");
        assert_eq!(ends(&[(0, up()), (4, up()), (3, up())]), [(0, 4, Health::Up, 3)], "overtaken");
    }

    #[test]
    fn a_stretch_ends_after_five_minutes() {
        let looks: Vec<_> = (0..200).map(|look| (look * 2, up())).collect();
        assert_eq!(ends(&looks), [(0, 300, Health::Up, 151), (302, 398, Health::Up, 49)]);
    }

    #[test]
    fn how_long_looks_took_is_kept_in_buckets() {
        let mut recorder = Recorder::default();
        for (second, took) in [(0, 100), (2, 10), (4, 100)] {
            let ended =
                recorder.look(&"api".into(), WallTime(second * 1000), INTERVAL, &up(), Duration::from_millis(took));
            assert_eq!(ended, None);
        }
        let open = recorder.open().next().expect("one");
        let of = |milliseconds| Bucket::of(Duration::from_millis(milliseconds));
        assert_eq!(open.took, [(of(10), 1), (of(100), 2)]);
    }
}
