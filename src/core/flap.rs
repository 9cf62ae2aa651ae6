//! Route flap damping (RFC 2439), for probes: what changes its health again and again is held back until it
//! is steady, and told once.
//!
//! It is the verdict that is counted, up to down and down to up; what cannot be told in between is neither.
//! Nothing of it outlives a restart: the start-up grace stands there.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::brain::Brain;
use crate::model::{
    FlapDamping, Health, HoldReason, Importance, Is, MonoTime, NoticeKind, Now, ProbeName, ScenarioSettings, Subject,
    Truth,
};

/// What a change costs.
const PENALTY: f64 = 1000.0;

/// The penalty of one probe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Flap {
    /// The last verdict that was one.
    health: Option<Health>,
    /// Since when it has stood without interruption.
    since: MonoTime,
    is_interrupted: bool,
    /// What it was then.
    #[serde(with = "super::checkpoint::bits")]
    penalty: f64,
    at: MonoTime,
    is_suppressed: bool,
}

impl Flap {
    /// Takes the verdict of now.
    pub(super) fn note(&mut self, now: MonoTime, health: Health, damping: &FlapDamping) {
        if health == Health::Unknown {
            self.is_interrupted = true;
            return;
        }
        let interrupted = std::mem::take(&mut self.is_interrupted);
        if self.health == Some(health) {
            if interrupted {
                self.since = now;
            }
            return;
        }
        self.is_suppressed = self.until(now, damping).is_some();
        self.since = now;
        if self.health.replace(health).is_some() {
            self.penalty = (self.penalty_at(now, damping) + PENALTY).min(damping.ceiling());
            self.at = now;
            self.is_suppressed |= self.penalty > f64::from(damping.suppress);
        }
    }

    fn penalty_at(&self, now: MonoTime, damping: &FlapDamping) -> f64 {
        self.penalty * (-halvings(now.since(self.at), damping)).exp2()
    }

    /// Until when it is held back, if it changes no more; `None` where it is not.
    pub(super) fn until(&self, now: MonoTime, damping: &FlapDamping) -> Option<MonoTime> {
        if !self.is_suppressed {
            return None;
        }
        let halvings = (self.penalty / f64::from(damping.reuse)).log2().max(0.0);
        let decays_for = Duration::try_from_secs_f64(damping.half_life.get().as_secs_f64() * halvings);
        let reused = self.at + decays_for.unwrap_or(Duration::MAX).min(damping.max_suppress.get());
        // An outage that begins with some flapping is one all the same.
        let steady = (self.health == Some(Health::Down)).then(|| self.since + damping.steady_for.get());
        steady.into_iter().chain([reused]).min().filter(|until| now < *until)
    }
}

fn halvings(within: Duration, damping: &FlapDamping) -> f64 {
    within.as_secs_f64() / damping.half_life.get().as_secs_f64()
}

impl Brain {
    /// Takes the verdicts into the penalties.
    pub(super) fn note_flaps(&mut self, now: MonoTime) {
        let settings = Arc::clone(&self.settings);
        let Some(damping) = &settings.flap_damping else { return };
        for index in 0..self.detectors.len() {
            let health = self.verdict(index, now).health();
            self.detectors[index].flap.note(now, health, damping);
        }
    }

    /// Until when a probe is held back.
    pub(super) fn flapping_until(&self, index: usize, now: MonoTime) -> Option<MonoTime> {
        self.detectors[index].flap.until(now, self.settings.flap_damping.as_ref()?)
    }

    /// The flapping probe that the condition would not hold without, and until when it is held back.
    pub(super) fn flapping(&self, now: MonoTime, scenario: &ScenarioSettings) -> Option<(ProbeName, MonoTime)> {
        self.settings.flap_damping?;
        let until = |probe: &ProbeName| self.flapping_until(*self.index.get(probe)?, now);
        let held = scenario.when.wanted_down().into_iter().filter_map(|probe| Some((until(&probe)?, probe)));
        let (until_all, probe) = held.max()?;
        let without = scenario.when.evaluate(&mut |subject: &Subject| match subject.is {
            Is::Down if until(&subject.probe).is_some() => Truth::Unknown,
            _ => self.leaf(subject, now),
        });
        (without != Truth::True).then_some((probe, until_all))
    }

    pub(super) fn flap_hold(&self, now: Now, scenario: &ScenarioSettings) -> Option<(HoldReason, MonoTime)> {
        let (probe, until) = self.flapping(now.mono, scenario)?;
        Some((HoldReason::Flapping { probe, until: now.wall_of(until) }, until))
    }

    /// Tells people once that a scenario waits for a probe that flaps, in place of a page for each incident
    /// that comes of it; and once more where it is over and an incident is left.
    pub(super) fn tell_flapping(&mut self, now: Now, index: usize, scenario: &ScenarioSettings) {
        let flapping = self.flapping(now.mono, scenario);
        let watch = &mut self.watches[index];
        match (flapping, watch.is_flapping) {
            (Some((probe, until)), false) if watch.truth == Truth::True => {
                watch.is_flapping = true;
                let until = now.wall_of(until);
                let subject = format!(
                    "{} {}: {probe} goes up and down again and again; nothing is done until it is steady ({until} at \
                     the earliest), and no incident that comes of it pages meanwhile",
                    scenario.severity, scenario.name
                );
                self.notify(now, NoticeKind::Flapping, Importance::Page, None, subject);
            }
            (None, true) => {
                watch.is_flapping = false;
                // What was told quietly is told aloud from here on.
                watch.noticed.clear();
                let incident = self.ledger.open_incident(&scenario.name).cloned();
                let Some(incident) = incident.filter(|_| watch.truth == Truth::True) else { return };
                let subject =
                    format!("{} {}: it flaps no more, and holds: {}", scenario.severity, scenario.name, scenario.when);
                self.notify(now, NoticeKind::IncidentOpened, Importance::Page, Some(&incident), subject);
            }
            _ => {}
        }
    }

    /// How loud what comes of an incident is.
    pub(super) fn unless_flapping(&self, index: usize, importance: Importance) -> Importance {
        if self.watches[index].is_flapping { Importance::Info } else { importance }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HumanDuration;

    const DAMPING: FlapDamping = FlapDamping {
        half_life: HumanDuration::secs(300),
        suppress: 3500,
        reuse: 1500,
        max_suppress: HumanDuration::secs(900),
        steady_for: HumanDuration::secs(60),
    };

    fn at(seconds: u64) -> MonoTime {
        MonoTime(seconds * 1_000_000_000)
    }

    /// Changes every ten seconds, up first.
    fn flapped(changes: u64) -> Flap {
        let mut flap = Flap::default();
        for change in 0..=changes {
            flap.note(at(change * 10), if change % 2 == 0 { Health::Up } else { Health::Down }, &DAMPING);
        }
        flap
    }

    fn left(flap: &Flap, now: u64) -> Option<u64> {
        flap.until(at(now), &DAMPING).map(|until| until.0 / 1_000_000_000)
    }

    #[test]
    fn one_relapse_is_no_flapping_and_two_are() {
        assert_eq!(left(&flapped(3), 30), None, "down, up, down");
        assert!(left(&flapped(4), 40).is_some());
    }

    #[test]
    fn at_the_threshold_nothing_is_held_back_yet() {
        let mut flap = Flap::default();
        let damping = FlapDamping { suppress: 2000, ..DAMPING };
        for (health, held_back) in
            [(Health::Up, false), (Health::Down, false), (Health::Up, false), (Health::Down, true)]
        {
            flap.note(at(10), health, &damping);
            assert_eq!(flap.until(at(10), &damping).is_some(), held_back, "{}", flap.penalty);
        }
    }

    #[test]
    fn what_stays_down_is_released_after_a_while() {
        let flap = flapped(5);
        assert_eq!((left(&flap, 50), left(&flap, 109), left(&flap, 110)), (Some(110), Some(110), None));
    }

    #[test]
    fn a_penalty_decays_and_is_bounded() {
        let flap = flapped(4);
        // 3.87 changes' worth halves 1.37 times until it is 1500.
        let until = left(&flap, 40).unwrap();
        assert!((440..460).contains(&until), "{until}");
        assert_eq!(left(&flap, until + 1), None);
        let forever = flapped(1000);
        assert_eq!(left(&forever, 10_000), Some(10_900), "max_suppress after the last change");
    }

    #[test]
    fn below_the_first_threshold_it_is_held_back_until_the_second() {
        let mut flap = flapped(4);
        assert!(left(&flap, 300).is_some(), "below suppress, above reuse");
        flap.note(at(400), Health::Down, &DAMPING);
        assert!(left(&flap, 400).is_some());
        let mut calm = flapped(4);
        calm.note(at(2000), Health::Down, &DAMPING);
        assert_eq!(left(&calm, 2000), None, "released long ago, one change is one");
    }

    #[test]
    fn what_cannot_be_told_is_no_change_and_interrupts() {
        let mut flap = flapped(5);
        flap.note(at(100), Health::Unknown, &DAMPING);
        flap.note(at(105), Health::Down, &DAMPING);
        assert_eq!(left(&flap, 110), Some(165));
        let mut calm = Flap::default();
        for second in 0..100 {
            calm.note(at(second), if second % 2 == 0 { Health::Up } else { Health::Unknown }, &DAMPING);
        }
        assert_eq!(left(&calm, 100), None);
    }
}
