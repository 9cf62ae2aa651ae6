//! When each probe starts. Pure: time comes in as arguments, nothing waits here.
//!
//! Every probe has its own lattice of starts, `base + phase + k × interval`: nothing that an
//! attempt does moves the next start, so that intervals never drift. The phase is a hash of the
//! name: a thousand probes of the same interval do not start together, and start at the same
//! places after every restart.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::runner::{Pace, ProbeSpec};
use crate::model::ProbeName;

/// Usual starts within the same slice of so long are made together: one wake-up for all of them, which
/// costs more than what it begins. Fast ones are on time: somebody waits for them.
pub(super) const SLICE: Duration = Duration::from_millis(10);

/// No interval is shorter, whatever is configured: a busy loop helps nobody.
const SHORTEST: Duration = Duration::from_millis(10);

/// Nor is one longer: what is looked at less than once a day is not watched, and the arithmetic
/// of the clock has an end.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// One probe on the schedule.
pub(super) struct Slot {
    /// What is run.
    pub spec: ProbeSpec,
    /// So many attempts are running.
    pub in_flight: usize,
    /// The last nudge that was followed.
    pub nudged: Option<Instant>,
    due: Instant,
    last_start: Option<Instant>,
    pace: Pace,
}

impl Slot {
    /// Does nobody wait for its next answer?
    pub(super) fn is_calm(&self) -> bool {
        self.pace == Pace::Normal
    }
}

/// All of them.
pub(super) struct Schedule {
    base: Instant,
    slots: HashMap<ProbeName, Slot>,
    normal: Heap,
    fast: Heap,
}

/// Entries that do not match their slot's `due` are stale, and skipped when they come up.
type Heap = BinaryHeap<Reverse<(Instant, ProbeName)>>;

impl Schedule {
    /// An empty one, whose lattices begin at `base`.
    pub(super) fn new(base: Instant) -> Self {
        Self { base, slots: HashMap::new(), normal: BinaryHeap::new(), fast: BinaryHeap::new() }
    }

    /// The number of probes.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// A probe.
    pub(super) fn get_mut(&mut self, name: &ProbeName) -> Option<&mut Slot> {
        self.slots.get_mut(name)
    }

    /// Puts these probes in the place of all. One whose timing stays the same keeps its next start
    /// and its pace.
    pub(super) fn replace(&mut self, probes: Vec<ProbeSpec>, now: Instant) {
        let mut old = std::mem::take(&mut self.slots);
        self.normal.clear();
        self.fast.clear();
        for spec in probes {
            let kept = old
                .remove(&spec.name)
                .filter(|slot| slot.spec.interval == spec.interval && slot.spec.fast_interval == spec.fast_interval);
            let slot = match kept {
                Some(slot) => {
                    // Attempts of a probe that was built anew are no longer this one's.
                    let in_flight = if Arc::ptr_eq(&slot.spec.probe, &spec.probe) { slot.in_flight } else { 0 };
                    Slot { spec, in_flight, ..slot }
                }
                None => Slot {
                    due: self.on_lattice(&spec, now),
                    spec,
                    in_flight: 0,
                    nudged: None,
                    last_start: None,
                    pace: Pace::Normal,
                },
            };
            let name = slot.spec.name.clone();
            self.enter(slot.pace, slot.due, name.clone());
            self.slots.insert(name, slot);
        }
    }

    /// Changes the pace; the next start moves accordingly.
    pub(super) fn set_pace(&mut self, name: &ProbeName, pace: Pace, now: Instant) {
        let Some(slot) = self.slots.get(name).filter(|slot| slot.pace != pace) else { return };
        let due = match pace {
            Pace::Normal => self.on_lattice(&slot.spec, now),
            Pace::Fast => {
                let fast = slot.spec.fast_interval.clamp(SHORTEST, LONGEST);
                let soonest = slot.last_start.map_or(now, |last| (last + fast).max(now));
                // Never later than it would have been.
                soonest.min(slot.due)
            }
        };
        if let Some(slot) = self.slots.get_mut(name) {
            slot.pace = pace;
            slot.due = due;
            self.enter(pace, due, name.clone());
        }
    }

    /// When to wake up for the next start: at the end of its slice, or at once where somebody waits.
    pub(super) fn next_wake(&mut self) -> Option<Instant> {
        self.drop_stale();
        let normal = self.normal.peek().map(|Reverse((due, _))| {
            let since = due.saturating_duration_since(self.base).as_nanos();
            let slice = SLICE.as_nanos();
            let up = u64::try_from(since.div_ceil(slice).saturating_mul(slice)).unwrap_or(u64::MAX);
            self.base + Duration::from_nanos(up)
        });
        let fast = self.fast.peek().map(|Reverse((due, _))| *due);
        normal.into_iter().chain(fast).min()
    }

    /// The next probe that is due, with its following start already on the schedule. Starts that
    /// were missed (a stall) are not made up for.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<ProbeName> {
        self.drop_stale();
        let is_due = |heap: &Heap| heap.peek().is_some_and(|Reverse((due, _))| *due <= now);
        let heap = if is_due(&self.fast) { &mut self.fast } else { &mut self.normal };
        if !is_due(heap) {
            return None;
        }
        let Reverse((_, name)) = heap.pop()?;
        let slot = self.slots.get_mut(&name)?;
        let step = match slot.pace {
            Pace::Normal => slot.spec.interval,
            Pace::Fast => slot.spec.fast_interval,
        }
        .clamp(SHORTEST, LONGEST);
        slot.due = after(slot.due, step, now);
        let (pace, due) = (slot.pace, slot.due);
        self.enter(pace, due, name.clone());
        Some(name)
    }

    /// Notes that an attempt starts now.
    pub(super) fn started(&mut self, name: &ProbeName, now: Instant) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.last_start = Some(now);
            slot.in_flight += 1;
        }
    }

    fn enter(&mut self, pace: Pace, due: Instant, name: ProbeName) {
        let heap = match pace {
            Pace::Normal => &mut self.normal,
            Pace::Fast => &mut self.fast,
        };
        heap.push(Reverse((due, name)));
    }

    fn drop_stale(&mut self) {
        for (pace, heap) in [(Pace::Normal, &mut self.normal), (Pace::Fast, &mut self.fast)] {
            while let Some(Reverse((due, name))) = heap.peek() {
                if self.slots.get(name).is_some_and(|slot| slot.due == *due && slot.pace == pace) {
                    break;
                }
                heap.pop();
            }
        }
    }

    fn on_lattice(&self, spec: &ProbeSpec, now: Instant) -> Instant {
        let interval = spec.interval.clamp(SHORTEST, LONGEST);
        let first = self.base + phase(&spec.name, interval);
        if first > now { first } else { after(first, interval, now) }
    }
}

/// The first point `from + k × step` (k ≥ 1) that is after `now`.
fn after(from: Instant, step: Duration, now: Instant) -> Instant {
    let next = from + step;
    if next > now {
        return next;
    }
    let missed = now.saturating_duration_since(from).as_nanos() / step.as_nanos().max(1);
    let by = step.as_nanos().saturating_mul(missed + 1);
    from + Duration::from_nanos(u64::try_from(by).unwrap_or(u64::MAX))
}

/// Where in its interval a probe starts: FNV-1a of its name, mixed (the standard library's hash
/// may change between releases), as a fraction of the interval.
fn phase(name: &ProbeName, interval: Duration) -> Duration {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.as_str().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The finalizer of MurmurHash3: names that differ in the last character only end up apart.
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    let nanos = (u128::from(hash) * interval.as_nanos()) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::model::Observation;
    use crate::ports::Probe;

    struct Never;

    #[async_trait]
    impl Probe for Never {
        async fn attempt(&self) -> Observation {
            std::future::pending().await
        }
    }

    fn spec(name: &str, interval: u64, fast: u64) -> ProbeSpec {
        ProbeSpec {
            name: name.into(),
            index: 0,
            interval: Duration::from_millis(interval),
            fast_interval: Duration::from_millis(fast),
            timeout: Duration::from_secs(1),
            probe: Arc::new(Never),
        }
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn starts_stay_on_the_lattice_however_late_we_are() {
        let base = Instant::now();
        let mut schedule = Schedule::new(base);
        schedule.replace(vec![spec("a", 1000, 200)], base);
        let first = base + phase(&"a".into(), ms(1000));
        assert_eq!(schedule.pop_due(first + ms(300)), Some("a".into()));
        assert_eq!(schedule.pop_due(first + ms(999)), None);
        assert_eq!(schedule.pop_due(first + ms(1000)), Some("a".into()));
        // Four are missed; one start is made, and then the lattice goes on.
        assert_eq!(schedule.pop_due(first + ms(5500)), Some("a".into()));
        assert_eq!(schedule.pop_due(first + ms(5999)), None);
        assert_eq!(schedule.pop_due(first + ms(6000)), Some("a".into()));
    }

    #[test]
    fn the_fast_pace_counts_from_the_last_start_and_ends_on_the_lattice() {
        let base = Instant::now();
        let mut schedule = Schedule::new(base);
        schedule.replace(vec![spec("a", 1000, 200)], base);
        let first = base + phase(&"a".into(), ms(1000));
        assert!(schedule.pop_due(first).is_some());
        schedule.started(&"a".into(), first);
        schedule.set_pace(&"a".into(), Pace::Fast, first + ms(3));
        assert_eq!(schedule.pop_due(first + ms(199)), None);
        assert!(schedule.pop_due(first + ms(200)).is_some());
        assert!(schedule.pop_due(first + ms(400)).is_some());
        schedule.set_pace(&"a".into(), Pace::Normal, first + ms(410));
        assert_eq!(schedule.pop_due(first + ms(999)), None);
        assert!(schedule.pop_due(first + ms(1000)).is_some());
    }

    #[test]
    fn a_reload_keeps_the_next_start_of_what_did_not_change() {
        let base = Instant::now();
        let mut schedule = Schedule::new(base);
        schedule.replace(vec![spec("a", 1000, 200), spec("b", 1000, 200)], base);
        let due = schedule.slots[&"a".into()].due;
        schedule.replace(vec![spec("a", 1000, 200), spec("c", 500, 200)], base + ms(1));
        assert_eq!(schedule.slots[&"a".into()].due, due);
        assert_eq!(schedule.len(), 2);
        let mut seen = Vec::new();
        while let Some(name) = schedule.pop_due(base + ms(1000)) {
            seen.push(name);
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ["a".into(), "c".into()]);
    }

    #[test]
    fn phases_spread_over_the_interval() {
        let mut tenths = [0_u32; 10];
        for index in 0..1000 {
            let phase = phase(&format!("probe-{index}").into(), ms(1000));
            tenths[usize::try_from(phase.as_millis() / 100).unwrap_or(9)] += 1;
        }
        assert!(tenths.iter().all(|count| (60..=140).contains(count)), "{tenths:?}");
    }

    #[test]
    fn wake_ups_fall_on_slices() {
        let base = Instant::now();
        let mut schedule = Schedule::new(base);
        assert_eq!(schedule.next_wake(), None);
        schedule.replace((0..1000).map(|index| spec(&format!("p{index}"), 1000, 200)).collect(), base);
        let (mut now, mut wakes, mut starts) = (base, 0, 0);
        while let Some(wake) = schedule.next_wake().filter(|wake| *wake <= base + ms(1000)) {
            assert!(wake >= now && (wake - base).as_nanos().is_multiple_of(SLICE.as_nanos()));
            now = wake;
            wakes += 1;
            while schedule.pop_due(now).is_some() {
                starts += 1;
            }
        }
        assert!((995..=1005).contains(&starts), "{starts}");
        assert!(wakes <= 101, "{wakes}");
    }

    #[test]
    fn a_start_that_somebody_waits_for_is_no_slice_late() {
        let base = Instant::now();
        let mut schedule = Schedule::new(base);
        schedule.replace(vec![spec("a", 1000, 23), spec("b", 1000, 23)], base);
        schedule.started(&"a".into(), base + ms(1));
        schedule.set_pace(&"a".into(), Pace::Fast, base + ms(2));
        let due = schedule.slots[&"a".into()].due;
        assert!(due <= base + ms(24), "{:?}", due - base);
        assert_eq!(
            schedule.next_wake().map(|wake| wake.min(due)),
            Some(due.min(base + phase(&"b".into(), ms(1000)) + SLICE))
        );
        assert_eq!(schedule.pop_due(due), Some("a".into()));
    }
}
