//! Rise and fall: from one vantage's observations of one probe to its vote.
//!
//! HAProxy's and keepalived's terms: `fall` bad observations in a row conclude Down, `rise` good
//! ones conclude Up again. An observation that could not look counts neither way.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::flap::Flap;
use super::loss::Positions;
use super::sightings::Sightings;
use crate::model::{Cause, Facts, Health, Lag, MonoTime, Observation, ProbeSettings, Vote};

/// How many lag samples are kept: at 2 s from start to start, twenty minutes.
const LAG_SAMPLES: usize = 600;

/// What an observation changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was older than what is known already (late, or a duplicate): dropped.
    Late,
    /// The vote is as before.
    Same,
    /// The vote's health changed, or doubt began or ended.
    Changed,
}

/// The newest observation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Latest {
    pub(super) started: MonoTime,
    pub(super) cause: Option<Cause>,
}

/// How fast a probe looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Pace {
    /// Every `interval`.
    Usual,
    /// Every `fast_interval`.
    Fast,
}

/// Rise and fall of one probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Detector {
    pub(super) settings: ProbeSettings,
    /// What was concluded; `None` before the first conclusion.
    health: Option<Health>,
    since: MonoTime,
    good: u32,
    bad: u32,
    unknown: u32,
    /// The first of the present series of bad observations.
    first_bad: Option<MonoTime>,
    /// The first bad observation since which none was good. Votes that are dropped after a stall
    /// leave it as it is: it is no vote, but what was seen.
    failing_since: Option<MonoTime>,
    /// The start of the newest observation that supports the concluded health.
    seen: MonoTime,
    pub(super) latest: Option<Latest>,
    pub(super) last_up: Option<MonoTime>,
    /// When other vantages last saw it up.
    #[serde(default)]
    pub(super) elsewhere: Sightings,
    pub(super) last_bad: Option<MonoTime>,
    pub(super) latency: Option<Duration>,
    pub(super) facts: Option<Box<Facts>>,
    /// How far its log reached.
    pub(super) positions: Positions,
    lags: VecDeque<(MonoTime, Lag)>,
    /// The one that counts while the primary is down: those measured since push it out of `lags`.
    kept_lag: Option<(MonoTime, Lag)>,
    /// A replica that streams: when it was asked last, and when it last heard from its primary, at the
    /// earliest.
    pub(super) primary_heard: Option<(MonoTime, MonoTime)>,
    /// How often the verdict on it changed lately.
    pub(super) flap: Flap,
    /// What the runner was told last.
    pub(super) pace: Pace,
    /// What it is computed from, where nobody looks.
    pub(super) window: Option<Box<super::window::Window>>,
    /// When commits were last seen to wait for a standby, or not to.
    synchronous: Option<(MonoTime, bool)>,
    /// Good answers in a row that were not well, and that were.
    unwell: u32,
    well: u32,
    /// It serves, but not well: by the same `fall` and `rise` as Down.
    degraded: bool,
}

impl Detector {
    pub(super) fn new(settings: ProbeSettings) -> Self {
        Self {
            settings,
            health: None,
            since: MonoTime::ZERO,
            good: 0,
            bad: 0,
            unknown: 0,
            first_bad: None,
            failing_since: None,
            seen: MonoTime::ZERO,
            latest: None,
            last_up: None,
            elsewhere: Sightings::default(),
            last_bad: None,
            latency: None,
            facts: None,
            positions: Positions::default(),
            lags: VecDeque::new(),
            kept_lag: None,
            primary_heard: None,
            flap: Flap::default(),
            pace: Pace::Usual,
            window: None,
            synchronous: None,
            unwell: 0,
            well: 0,
            degraded: false,
        }
    }

    /// Takes an observation.
    pub(super) fn observe(&mut self, started: MonoTime, observation: Observation) -> Change {
        if self.latest.as_ref().is_some_and(|latest| started <= latest.started) {
            return Change::Late;
        }
        let doubt = self.in_doubt();
        let before = (self.health, self.degraded);
        let health = observation.health();
        let cause = match observation {
            Observation::Up { latency, facts, degraded } => {
                // Zero where the owner calls a failure Up.
                self.latency = Some(latency).filter(|latency| !latency.is_zero()).or(self.latency);
                self.take_facts(started, facts);
                degraded
            }
            Observation::Down { cause, facts } => {
                self.take_facts(started, facts);
                Some(cause)
            }
            Observation::Unknown { cause } => Some(cause),
        };
        match health {
            Health::Up => self.good(started),
            Health::Down => self.bad(started),
            Health::Unknown => self.unknown(started),
        }
        if health == Health::Up {
            self.wellness(cause.is_none());
        }
        self.latest = Some(Latest { started, cause });
        if (self.health, self.degraded) == before && self.in_doubt() == doubt { Change::Same } else { Change::Changed }
    }

    fn good(&mut self, started: MonoTime) {
        self.last_up = Some(started);
        self.failing_since = None;
        self.bad = 0;
        self.unknown = 0;
        self.good = self.good.saturating_add(1);
        // The first look of all needs no hysteresis: there is nothing yet that it could contradict.
        let needed = if self.health.is_none() { 1 } else { self.settings.rise };
        if self.health == Some(Health::Up) {
            self.first_bad = None;
            self.seen = started;
        } else if self.good >= needed {
            self.first_bad = None;
            self.conclude(Health::Up, started);
        }
    }

    fn wellness(&mut self, well: bool) {
        (self.well, self.unwell) =
            if well { (self.well.saturating_add(1), 0) } else { (0, self.unwell.saturating_add(1)) };
        if self.unwell >= self.settings.fall {
            self.degraded = true;
        } else if self.well >= self.settings.rise {
            self.degraded = false;
        }
    }

    fn bad(&mut self, started: MonoTime) {
        self.last_bad = Some(started);
        self.failing_since.get_or_insert(started);
        self.good = 0;
        self.unknown = 0;
        if self.bad == 0 && self.health != Some(Health::Down) {
            self.first_bad = Some(started);
        }
        self.bad = self.bad.saturating_add(1);
        if self.health == Some(Health::Down) {
            self.seen = started;
        } else if self.bad >= self.settings.fall {
            self.conclude(Health::Down, started);
        }
    }

    fn unknown(&mut self, started: MonoTime) {
        // It breaks no series and extends none. But a vantage that cannot look for so long abstains.
        self.unknown = self.unknown.saturating_add(1);
        if self.unknown >= self.settings.fall && self.health != Some(Health::Unknown) {
            self.good = 0;
            self.bad = 0;
            self.first_bad = None;
            self.failing_since = None;
            self.conclude(Health::Unknown, started);
        }
    }

    fn conclude(&mut self, health: Health, started: MonoTime) {
        self.health = Some(health);
        self.since = started;
        self.seen = started;
    }

    fn take_facts(&mut self, started: MonoTime, facts: Option<Box<Facts>>) {
        let Some(facts) = facts else { return };
        if let Some(lag) = facts.lag {
            self.lags.push_back((started, lag));
            if self.lags.len() > LAG_SAMPLES {
                self.lags.pop_front();
            }
        }
        self.positions.take(started, &facts);
        // It answered after it was asked, so that this is the earliest that it can have been.
        let age = facts.last_message.filter(|_| facts.streaming == Some(true));
        self.primary_heard = age.map(|age| (started, started.minus(age)));
        if let Some(synchronous) = facts.synchronous {
            self.synchronous = Some((started, synchronous));
        }
        self.facts = Some(facts);
    }

    /// Bad observations that have not fallen yet, or good ones that have not risen yet.
    pub(super) fn in_doubt(&self) -> bool {
        match self.health {
            Some(Health::Down) => self.good > 0,
            Some(Health::Up) | None => self.bad > 0,
            Some(Health::Unknown) => self.good > 0 || self.bad > 0,
        }
    }

    /// The vote, `None` before the first conclusion.
    pub(super) fn vote(&self) -> Option<Vote> {
        let health = self.health?;
        let cause = self.latest.as_ref().and_then(|latest| latest.cause.clone());
        let degraded = self.is_degraded();
        Some(Vote { health, degraded, since: self.since, first_bad: self.first_bad, seen: self.seen, cause })
    }

    /// Is it Up, but not well?
    pub(super) fn is_degraded(&self) -> bool {
        self.degraded && self.health == Some(Health::Up)
    }

    /// The health that was concluded, without a copy of its cause.
    pub(super) fn health(&self) -> Option<Health> {
        self.health
    }

    pub(super) fn since(&self) -> MonoTime {
        self.since
    }

    /// When the vote stops to count, unless it is renewed.
    pub(super) fn expires(&self) -> Option<MonoTime> {
        self.health.map(|_| self.seen + self.settings.max_age.get())
    }

    pub(super) fn is_fresh(&self, now: MonoTime) -> bool {
        self.expires().is_some_and(|expires| now <= expires)
    }

    pub(super) fn seen(&self) -> MonoTime {
        self.seen
    }

    pub(super) fn first_bad(&self) -> Option<MonoTime> {
        self.first_bad
    }

    /// Since when it has failed, as far as we could look, without a good answer in between.
    pub(super) fn failing_since(&self) -> Option<MonoTime> {
        self.failing_since
    }

    /// The newest lag that was measured no later than `at`.
    ///
    /// Later ones are worthless as a forecast: a standby that is cut off believes for a while that
    /// it has everything.
    pub(super) fn lag_at(&self, at: MonoTime) -> Option<(MonoTime, Lag)> {
        let newest = self.lags.iter().rev().find(|(measured, _)| *measured <= at);
        newest.or(self.kept_lag.as_ref().filter(|(measured, _)| *measured <= at)).copied()
    }

    /// Keeps what was measured until then, however much is measured after it.
    pub(super) fn keep_lag(&mut self, at: MonoTime) {
        self.kept_lag = self.lag_at(at).or(self.kept_lag);
    }

    /// Did commits wait for a standby when last seen, no earlier than `from`?
    pub(super) fn synchronous_since(&self, from: MonoTime) -> bool {
        self.synchronous.is_some_and(|(at, synchronous)| synchronous && at >= from)
    }

    /// Takes over what a former life saw last, where this one has seen nothing yet.
    pub(super) fn recall_up(&mut self, at: MonoTime) {
        self.last_up = self.last_up.max(Some(at));
    }

    /// See [`Detector::recall_up`].
    pub(super) fn recall_lag(&mut self, at: MonoTime, lag: Lag) {
        if self.lags.is_empty() {
            self.lags.push_back((at, lag));
        }
    }

    /// See [`Detector::recall_up`].
    pub(super) fn recall_synchronous(&mut self, at: MonoTime) {
        self.synchronous.get_or_insert((at, true));
    }

    /// Takes other settings for the same target: what was seen of it stays. With another rise or fall
    /// the old conclusion would not be one, and it concludes afresh.
    pub(super) fn adjust(&mut self, settings: ProbeSettings) {
        if (settings.fall, settings.rise) != (self.settings.fall, self.settings.rise) {
            self.forget_vote();
        }
        self.settings = settings;
    }

    /// Forgets the vote, not the history: after a tilt everything is looked at afresh.
    pub(super) fn forget_vote(&mut self) {
        self.health = None;
        self.good = 0;
        self.bad = 0;
        self.unknown = 0;
        self.first_bad = None;
        (self.unwell, self.well, self.degraded) = (0, 0, false);
    }
}

#[cfg(test)]
#[path = "detect_tests.rs"]
mod tests;
