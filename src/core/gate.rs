//! The last look: immediately before the first change of a run the primary is asked once more.

use std::collections::BTreeMap;
use std::time::Duration;

use super::brain::Brain;
use super::detect::Detector;
use super::quorum::{self, Question};
use super::run::{Doing, Driver};
use super::run_ledger::RunLedger;
use crate::model::{
    Condition, EffectKind, Entry, Health, MonoTime, Now, ProbeName, ScenarioName, Subject, Truth, Verdict,
};

/// A look that is older than this when the first change is due is repeated: a pause, an approval or
/// a wait may have come between, and the primary back with it.
const VALID_FOR: Duration = Duration::from_secs(10);
/// How much longer than its probes' timeout a look may take.
const MARGIN: Duration = Duration::from_secs(1);
/// At the earliest so long after a look in vain the condition is confirmed again.
const CONFIRM_AGAIN: Duration = Duration::from_secs(5);

/// What stands between a run and its first change.
#[derive(Clone, Debug)]
pub(super) enum Gate {
    /// Nothing: a person started the run, or it has changed something already.
    Open,
    /// The look is under way.
    Looking(Look),
    /// The look saw the primary down.
    Passed { at: MonoTime, when: Condition },
    /// The condition of the run is not in the configuration any more: nobody can look.
    Lost,
}

/// A look at the primary.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// Pinned with the run: a reload changes the next one only (S9).
    when: Condition,
    /// Only attempts that were started since then count.
    since: MonoTime,
    until: MonoTime,
    seen: BTreeMap<ProbeName, Health>,
}

impl Gate {
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open | Self::Passed { .. })
    }

    pub(super) fn wakes(&self) -> Option<MonoTime> {
        match self {
            Self::Looking(look) => Some(look.until),
            Self::Open | Self::Passed { .. } | Self::Lost => None,
        }
    }
}

impl Brain {
    /// The gate of a run that has changed nothing yet and was not started by hand.
    pub(super) fn gate(&mut self, now: Now, scenario: &ScenarioName) -> Gate {
        match self.settings.scenario(scenario).map(|scenario| scenario.when.clone()) {
            Some(when) => self.look_again_at(now, when),
            None => Gate::Lost,
        }
    }

    /// Asks the probes that the condition wants to be down, and the anchors: whether it is us.
    fn look_again_at(&mut self, now: Now, when: Condition) -> Gate {
        let probes = down_subjects(&when);
        let longest = probes.iter().filter_map(|probe| self.settings.probe(probe)).map(|probe| probe.timeout.get());
        let until = now.mono + longest.max().unwrap_or_default() + MARGIN;
        if probes.is_empty() {
            return Gate::Passed { at: now.mono, when };
        }
        let asked = probes.into_iter().chain(self.settings.anchors.iter().cloned());
        self.effects.extend(asked.map(crate::core::Effect::ProbeNow));
        Gate::Looking(Look { when, since: now.mono, until, seen: BTreeMap::new() })
    }

    /// Takes what an attempt saw into the look.
    pub(super) fn note_look(&mut self, index: usize, started: MonoTime, health: Health) {
        if let Some(Driver { gate: Gate::Looking(look), .. }) = &mut self.driver
            && started >= look.since
        {
            look.seen.insert(self.detectors[index].settings.name.clone(), health);
        }
    }

    /// Is the primary really down? `true` where it is not, and the run is aborted.
    pub(super) fn drive_gate(&mut self, now: Now, driver: &mut Driver) -> bool {
        if matches!(driver.gate, Gate::Open) {
            return false;
        }
        if changed(&self.ledger.runs[&driver.run]) {
            driver.gate = Gate::Open;
            return false;
        }
        if self.tilt_until.is_some() {
            return self.abort_at_gate(now, driver, "the clock jumped or the loop stalled before the first change");
        }
        match &driver.gate {
            Gate::Open => false,
            Gate::Lost => self.abort_at_gate(now, driver, "its scenario is not in the configuration any more"),
            Gate::Passed { at, when } => {
                let waits = driver.steps.iter().any(|step| matches!(step.doing, Doing::Ready { .. }));
                if waits && now.mono.since(*at) > VALID_FOR && self.ledger.paused.is_none() {
                    let when = when.clone();
                    driver.gate = self.look_again_at(now, when);
                }
                false
            }
            Gate::Looking(look) => match self.judge(look, now.mono) {
                Truth::True => {
                    driver.gate = Gate::Passed { at: now.mono, when: look.when.clone() };
                    false
                }
                Truth::False => self.abort_at_gate(now, driver, "the primary answered at the last look"),
                Truth::Unknown if now.mono >= look.until => {
                    self.abort_at_gate(now, driver, "the last look could not confirm that the primary is down")
                }
                Truth::Unknown => false,
            },
        }
    }

    fn abort_at_gate(&mut self, now: Now, driver: &Driver, why: &str) -> bool {
        let scenario = self.ledger.runs[&driver.run].scenario.clone();
        let entry = Entry::RunAborting { run: driver.run.clone(), by: why.to_owned(), compensate: false };
        let place = self.settings.scenarios.iter().position(|candidate| candidate.name == scenario);
        if self.commit(now, entry)
            && let Some(place) = place
        {
            let wait = self.settings.scenarios[place].confirm_for.get().max(CONFIRM_AGAIN);
            self.watches[place].not_before = Some(now.mono + wait);
            self.watches[place].held_since = None;
        }
        true
    }

    fn judge(&self, look: &Look, now: MonoTime) -> Truth {
        look.when.evaluate(&mut |subject: &Subject| {
            if subject.is != Health::Down {
                return self.truth(&Condition::Probe(subject.clone()), now);
            }
            match look.seen.get(&subject.probe) {
                Some(Health::Up) => Truth::False,
                // Down for us, but are the anchors there? Else it is we who are cut off.
                Some(Health::Down) if !self.is_isolated_since(look.since) => Truth::True,
                // We cannot look ourselves; a quorum of the others, who can, is enough (S4).
                Some(Health::Down | Health::Unknown) | None if now >= look.until => {
                    if self.others_say_down(&subject.probe, now) { Truth::True } else { Truth::Unknown }
                }
                Some(Health::Down | Health::Unknown) | None => Truth::Unknown,
            }
        })
    }

    fn others_say_down(&self, probe: &ProbeName, now: MonoTime) -> bool {
        let Some(&index) = self.index.get(probe) else { return false };
        let nobody = Detector::new(self.detectors[index].settings.clone());
        let question =
            Question { now, need: self.settings.quorum, domain: &self.settings.domain, isolated: false, tilt: false };
        // A witness beside us sees what we see: only another domain can stand in for us.
        let others: Vec<_> =
            self.peers[index].iter().filter(|peer| peer.domain != self.settings.domain).cloned().collect();
        matches!(quorum::verdict(&question, &nobody, &others), Verdict::Down { .. })
    }
}

/// Was anything changed, messages aside?
pub(super) fn changed(run: &RunLedger) -> bool {
    run.intended.iter().any(|index| {
        let effect = run.plan.steps[*index].work.action().map(|spec| spec.effect);
        !matches!(effect, Some(EffectKind::Notify | EffectKind::Verify))
    })
}

/// The probes that the condition wants to be down.
fn down_subjects(when: &Condition) -> Vec<ProbeName> {
    let mut probes: Vec<ProbeName> =
        when.subjects().iter().filter(|subject| subject.is == Health::Down).map(|s| s.probe.clone()).collect();
    probes.sort_unstable();
    probes.dedup();
    probes
}
