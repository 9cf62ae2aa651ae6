//! Gray failure: what the looks of several probes say together, over a window of time.
//!
//! Looks are counted in slices of time, and answers in buckets of duration, so that a window takes the
//! same room whatever its length and however often its parts look, and a look costs the same whatever is
//! in it. A look counts until between one window and one and a thirtieth of it have passed.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::histogram::{BUCKETS, Bucket};
use crate::model::{
    BurnRate, Cause, CauseKind, Facts, Figure, HumanDuration, LatencyLimit, Meaning, MonoTime, Observation,
    ProbeSettings, WindowSettings,
};

/// A window is so many slices of time, and the one that has just begun.
const SLICES: u64 = 30;
/// Failed looks that wait for a word of the anchors, at most: the oldest give way, and count as none.
const MOST_DOUBTFUL: usize = 4096;

/// A look of a part, as a window counts it. One that could not look is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sample {
    /// It was answered well enough, after so long; `None` where the owner calls a failure Up.
    Answered(Option<Duration>),
    /// It was not.
    Failed,
}

impl Sample {
    pub(super) fn of(observation: &Observation) -> Option<Self> {
        match observation {
            Observation::Up { latency, .. } => Some(Self::Answered(Some(*latency).filter(|it| !it.is_zero()))),
            Observation::Down { .. } => Some(Self::Failed),
            Observation::Unknown { .. } => None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Tally {
    good: u64,
    bad: u64,
}

impl Tally {
    fn looks(self) -> u64 {
        self.good + self.bad
    }

    fn ratio(self) -> f64 {
        if self.looks() == 0 { 0.0 } else { self.bad as f64 / self.looks() as f64 }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Slice {
    tally: Tally,
    /// How often each bucket was met; empty until there is an answer.
    answers: Vec<u32>,
}

/// The looks of a length of time.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ring {
    /// Of a slice, in nanoseconds.
    width: u64,
    /// The number of the newest slice since the start of the clock.
    head: u64,
    slices: Vec<Slice>,
    sum: Tally,
    /// All answers by their buckets; `None` where nobody asks how slow they were.
    #[serde(with = "super::checkpoint::boxed")]
    answers: Option<Box<[u64; BUCKETS]>>,
}

impl Ring {
    fn new(length: HumanDuration, with_answers: bool) -> Self {
        let length = u64::try_from(length.get().as_nanos()).unwrap_or(u64::MAX);
        Self {
            width: length.div_ceil(SLICES).max(1),
            head: 0,
            slices: (0..=SLICES).map(|_| Slice::default()).collect(),
            sum: Tally::default(),
            answers: with_answers.then(|| Box::new([0; BUCKETS])),
        }
    }

    fn place(&self, number: u64) -> usize {
        usize::try_from(number % (SLICES + 1)).unwrap_or_default()
    }

    /// Forgets what is older than the window that ends now.
    fn move_to(&mut self, now: MonoTime) {
        let number = now.0 / self.width;
        let stale = number.saturating_sub(self.head).min(SLICES + 1);
        for step in 0..stale {
            let place = self.place(number - step);
            let slice = std::mem::take(&mut self.slices[place]);
            self.sum.good -= slice.tally.good;
            self.sum.bad -= slice.tally.bad;
            if let Some(answers) = &mut self.answers {
                slice.answers.iter().zip(answers.iter_mut()).for_each(|(gone, left)| *left -= u64::from(*gone));
            }
        }
        self.head = self.head.max(number);
    }

    fn add(&mut self, at: MonoTime, sample: Sample) {
        self.move_to(at);
        let number = at.0 / self.width;
        if self.head - number > SLICES {
            return;
        }
        let place = self.place(number);
        let slice = &mut self.slices[place];
        match sample {
            Sample::Failed => (slice.tally.bad, self.sum.bad) = (slice.tally.bad + 1, self.sum.bad + 1),
            Sample::Answered(latency) => {
                (slice.tally.good, self.sum.good) = (slice.tally.good + 1, self.sum.good + 1);
                if let (Some(all), Some(latency)) = (&mut self.answers, latency) {
                    slice.answers.resize(BUCKETS, 0);
                    let bucket = Bucket::of(latency).place();
                    if let Some(more) = slice.answers[bucket].checked_add(1) {
                        slice.answers[bucket] = more;
                        all[bucket] += 1;
                    }
                }
            }
        }
    }

    /// So many answers, and the duration that `percentile` of a hundred of them took at most, within 5 %.
    fn percentile(&self, percentile: u8) -> Option<(u64, Duration)> {
        let answers = self.answers.as_ref()?;
        let all: u64 = answers.iter().sum();
        let rank = (u128::from(all) * u128::from(percentile)).div_ceil(100).max(1);
        let mut passed = 0_u128;
        for (place, count) in answers.iter().enumerate() {
            passed += u128::from(*count);
            if passed >= rank {
                return Some((all, Bucket::at(place)?.duration()));
            }
        }
        None
    }
}

/// What one limit says.
enum Judged {
    Within,
    Crossed(Cause),
    TooFew { looks: u64, of: &'static str, within: HumanDuration },
}

/// The windows of one probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Window {
    settings: WindowSettings,
    over: Ring,
    /// The short and the long one of the burn rate.
    burn: Option<(Ring, Ring)>,
    /// After a stall: looks that began before it ended count as none.
    not_before: Option<MonoTime>,
    /// The first look that counts.
    first: Option<MonoTime>,
    newest: MonoTime,
    due: MonoTime,
    doubtful: VecDeque<MonoTime>,
}

impl Window {
    pub(super) fn new(settings: WindowSettings) -> Self {
        Self {
            over: Ring::new(settings.over, !settings.latency.is_empty()),
            burn: settings.burn_rate.map(|burn| (Ring::new(burn.short, false), Ring::new(burn.long, false))),
            settings,
            not_before: None,
            first: None,
            newest: MonoTime::ZERO,
            due: MonoTime::ZERO,
            doubtful: VecDeque::new(),
        }
    }

    /// Begins anew, after a stall: what was under way while we stood still took longer than its target did.
    pub(super) fn begin_anew(&mut self, now: MonoTime) {
        *self = Self { not_before: Some(now), newest: self.newest, ..Self::new(self.settings.clone()) };
    }

    pub(super) fn parts(&self) -> &[crate::model::ProbeName] {
        &self.settings.of
    }

    /// Counts a look.
    pub(super) fn take(&mut self, started: MonoTime, sample: Sample) {
        if self.not_before.is_some_and(|from| started < from) {
            return;
        }
        self.first = Some(self.first.map_or(started, |first| first.min(started)));
        self.over.add(started, sample);
        if let Some((short, long)) = &mut self.burn {
            short.add(started, sample);
            long.add(started, sample);
        }
    }

    /// A failed look that may be our own doing: nobody knows yet.
    pub(super) fn doubt(&mut self, started: MonoTime) {
        if self.doubtful.len() >= MOST_DOUBTFUL {
            self.doubtful.pop_front();
        }
        self.doubtful.push_back(started);
    }

    pub(super) fn doubts(&self) -> bool {
        !self.doubtful.is_empty()
    }

    /// Counts the doubtful looks of which it is known now that they were not our own doing, and drops
    /// those of which it is known that they were, or that nobody will ever know of.
    pub(super) fn settle(&mut self, forget_before: MonoTime, sound: impl Fn(MonoTime) -> Option<bool>) {
        for started in std::mem::take(&mut self.doubtful) {
            match sound(started) {
                Some(true) => self.take(started, Sample::Failed),
                Some(false) => {}
                None if started < forget_before => {}
                None => self.doubtful.push_back(started),
            }
        }
    }

    /// A part has looked: is it time to look at the whole? An eighth of the interval does not matter, so
    /// that parts of the same interval that are a little early make no turn of it be left out.
    pub(super) fn is_due(&mut self, started: MonoTime, interval: Duration) -> bool {
        if started <= self.newest {
            return false;
        }
        self.newest = started;
        if started + interval / 8 < self.due {
            return false;
        }
        // On a lattice, and not from look to look: else it would be early each time.
        let next = self.due + interval;
        self.due = if next > started { next } else { started + interval };
        true
    }

    /// Looks at the whole with the next look of a part, whenever that is.
    pub(super) fn ask(&mut self) {
        self.due = MonoTime::ZERO;
    }

    /// What the whole is like at the newest look. `blind` says what is not seen now.
    pub(super) fn look(&mut self, blind: Option<String>, owner: &ProbeSettings) -> Observation {
        let now = self.newest;
        self.over.move_to(now);
        if let Some((short, long)) = &mut self.burn {
            short.move_to(now);
            long.move_to(now);
        }
        if let Some(blind) = blind {
            return Observation::unknown(CauseKind::NoData, blind);
        }
        let mut judged = Vec::with_capacity(4);
        judged.extend(self.burn());
        judged.extend(self.settings.error_ratio.map(|limit| self.errors(limit)));
        judged.extend(self.settings.latency.iter().map(|limit| self.slowness(*limit)));
        // Of several limits that are crossed the one counts that is worst in the owner's eyes.
        let worst = |cause: &&Cause| match owner.causes.get(&cause.kind) {
            Some(Meaning::Down) => 0,
            None | Some(Meaning::Degraded) => 1,
            Some(Meaning::Unknown) => 2,
            Some(Meaning::Up) => 3,
        };
        let crossed = judged.iter().filter_map(|one| match one {
            Judged::Crossed(cause) => Some(cause),
            _ => None,
        });
        let degraded = crossed.min_by_key(worst).cloned();
        let too_few = judged.iter().find_map(|one| match one {
            Judged::TooFew { looks, of, within } => Some((*looks, *of, *within)),
            _ => None,
        });
        match (degraded, too_few) {
            (None, Some((looks, of, within))) => self.too_few(looks, of, within),
            (degraded, _) => Observation::Up { latency: self.shown(), facts: Some(Box::new(self.facts())), degraded },
        }
    }

    fn too_few(&self, looks: u64, of: &str, within: HumanDuration) -> Observation {
        let needed = self.settings.at_least;
        let detail = format!("{looks} {of} within {within}, at least {needed} are needed");
        if self.not_before.is_some() && self.first.is_none_or(|first| self.newest.since(first) < within.get()) {
            return Observation::unknown(CauseKind::Stalled, format!("began anew after we stood still: {detail}"));
        }
        Observation::unknown(CauseKind::NoData, detail)
    }

    fn has_too_few(&self, looks: u64, of: &'static str, within: HumanDuration) -> Option<Judged> {
        (looks < u64::from(self.settings.at_least)).then_some(Judged::TooFew { looks, of, within })
    }

    fn slowness(&self, LatencyLimit { percentile, at_most }: LatencyLimit) -> Judged {
        let (within, found) = (self.settings.over, self.over.percentile(percentile));
        let (answers, took) = found.unwrap_or_default();
        if let Some(too_few) = self.has_too_few(answers, "answers", within) {
            return too_few;
        }
        if took <= at_most.get() {
            return Judged::Within;
        }
        let took = HumanDuration(took);
        let detail = format!("p{percentile} of {answers} answers within {within} is {took}, more than {at_most}");
        Judged::Crossed(Cause::new(CauseKind::SlowWindow, detail))
    }

    fn errors(&self, limit: f64) -> Judged {
        let (within, sum) = (self.settings.over, self.over.sum);
        let (looks, bad) = (sum.looks(), sum.bad);
        if let Some(too_few) = self.has_too_few(looks, "looks", within) {
            return too_few;
        }
        if sum.ratio() <= limit {
            return Judged::Within;
        }
        let (found, limit) = (percent(sum.ratio()), percent(limit));
        let detail = format!("{bad} of {looks} looks within {within} failed, {found}, more than {limit}");
        Judged::Crossed(Cause::new(CauseKind::ErrorRatio, detail))
    }

    /// How fast the error budget burned within a length of time. What lies before the first look that
    /// counts is taken to be free of errors: else a daemon that has just begun would take a bad minute for
    /// a bad hour.
    fn rate(&self, burn: &BurnRate, ring: &Ring, length: HumanDuration) -> f64 {
        let seen = self.first.map_or(Duration::ZERO, |first| self.newest.since(first));
        let covered = (seen.as_secs_f64() / length.get().as_secs_f64().max(f64::MIN_POSITIVE)).min(1.0);
        ring.sum.ratio() * covered / (1.0 - burn.slo).max(f64::MIN_POSITIVE)
    }

    fn rates(&self) -> Option<(BurnRate, f64, f64)> {
        let (burn, (short, long)) = (self.settings.burn_rate?, self.burn.as_ref()?);
        Some((burn, self.rate(&burn, short, burn.short), self.rate(&burn, long, burn.long)))
    }

    fn burn(&self) -> Option<Judged> {
        let (burn, in_short, in_long) = self.rates()?;
        let (short, long) = self.burn.as_ref()?;
        if let Some(too_few) = self.has_too_few(short.sum.looks(), "looks", burn.short) {
            return Some(too_few);
        }
        if in_short <= burn.above || in_long <= burn.above {
            return Some(Judged::Within);
        }
        let detail = format!(
            "{in_short:.1} within {} and {in_long:.1} within {}, more than {} ({} of {} and {} of {} looks failed, {} may)",
            burn.short,
            burn.long,
            burn.above,
            short.sum.bad,
            short.sum.looks(),
            long.sum.bad,
            long.sum.looks(),
            percent(1.0 - burn.slo),
        );
        Some(Judged::Crossed(Cause::new(CauseKind::BurnRate, detail)))
    }

    /// The latency that people are shown: the highest percentile that has a limit.
    fn shown(&self) -> Duration {
        let highest = self.settings.latency.iter().map(|limit| limit.percentile).max();
        highest.and_then(|percentile| self.over.percentile(percentile)).map(|(_, took)| took).unwrap_or_default()
    }

    fn facts(&self) -> Facts {
        let figure = |name: String, value: f64, unit: &str| Figure { name, value, unit: unit.to_owned() };
        let mut figures = vec![figure("looks".into(), self.over.sum.looks() as f64, "")];
        for LatencyLimit { percentile, .. } in &self.settings.latency {
            let found = self.over.percentile(*percentile);
            figures.extend(found.map(|(_, took)| figure(format!("p{percentile}"), took.as_secs_f64(), "s")));
        }
        figures.push(figure("error_ratio".into(), self.over.sum.ratio(), ""));
        if let Some((burn, short, long)) = self.rates() {
            figures.push(figure(format!("burn_rate {}", burn.short), short, ""));
            figures.push(figure(format!("burn_rate {}", burn.long), long, ""));
        }
        Facts { figures, ..Facts::default() }
    }
}

fn percent(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
