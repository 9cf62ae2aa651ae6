//! The last look: immediately before the first change of a run the primary is asked once more.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::brain::Brain;
use super::detect::Detector;
use super::quorum::{self, Question};
use super::run::{Doing, Driver};
use crate::model::{
    Condition, Entry, Health, Importance, Is, MonoTime, NoticeKind, Now, ProbeName, RunId, ScenarioName, Subject,
    Trigger, Truth, Verdict,
};

/// A look that is older than this when the first change is due is repeated: a pause, an approval or
/// a wait may have come between, and the primary back with it.
const VALID_FOR: Duration = Duration::from_secs(10);
/// How much longer than its probes' timeout a look may take.
const MARGIN: Duration = Duration::from_secs(1);
/// At the earliest so long after a look in vain the condition is confirmed again.
const CONFIRM_AGAIN: Duration = Duration::from_secs(5);
/// And so long after several, unless `confirm_for` itself is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What stands between a run and its first change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Gate {
    /// Nothing: a person started the run, or it has changed something already.
    Open,
    /// The look is under way.
    Looking(Look),
    /// The look saw the primary down.
    Passed {
        at: MonoTime,
        when: Condition,
        /// What it, or others in its place, saw down: what may be.
        #[serde(default)]
        down: Vec<ProbeName>,
        /// Since when enough anchors have answered; `None` where we were cut off, and others looked for us.
        #[serde(default)]
        anchored: Option<MonoTime>,
        /// One of them has answered since, or the anchors have fallen silent: before the first change it is looked
        /// again.
        #[serde(default)]
        doubted: bool,
    },
    /// The condition of the run is not in the configuration any more: nobody can look.
    Lost,
}

/// A look at the primary.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
        matches!(self, Self::Open | Self::Passed { doubted: false, .. })
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
        let probes = when.wanted_down();
        let longest = probes.iter().filter_map(|probe| self.settings.probe(probe)).map(|probe| probe.timeout.get());
        let until = now.mono + longest.max().unwrap_or_default() + MARGIN;
        if probes.is_empty() {
            return Gate::Passed { at: now.mono, when, down: Vec::new(), anchored: None, doubted: false };
        }
        let asked = probes.into_iter().chain(self.settings.anchors.iter().cloned());
        self.effects.extend(asked.map(crate::core::Effect::ProbeNow));
        Gate::Looking(Look { when, since: now.mono, until, seen: BTreeMap::new() })
    }

    /// Takes what an attempt saw into the look.
    pub(super) fn note_look(&mut self, index: usize, started: MonoTime, health: Health) {
        let probe = &self.detectors[index].settings.name;
        match self.driver.as_mut().map(|driver| &mut driver.gate) {
            Some(Gate::Looking(look)) if started >= look.since => {
                look.seen.insert(probe.clone(), health);
            }
            // Between the look and the change the journal is written, which takes as long as its store takes. What
            // comes now began after what was seen down, if perhaps before the look was judged.
            Some(Gate::Passed { down, doubted, .. }) if health == Health::Up => {
                *doubted |= down.contains(probe);
            }
            _ => {}
        }
    }

    /// Is the primary really down? `true` where it is not, and the run is aborted.
    pub(super) fn drive_gate(&mut self, now: Now, driver: &mut Driver) -> bool {
        if matches!(driver.gate, Gate::Open) {
            return false;
        }
        if self.ledger.runs[&driver.run].changed() {
            driver.gate = Gate::Open;
            return false;
        }
        if self.tilt_until.is_some() {
            return self.abort_at_gate(now, driver, "the clock jumped or the loop stalled before the first change");
        }
        if let Gate::Passed { anchored: Some(since), doubted, .. } = &mut driver.gate {
            // Cut off between the look and the change: would we have seen it come back?
            *doubted |= self.is_isolated_since(*since);
        }
        match &driver.gate {
            Gate::Open => false,
            Gate::Lost => self.abort_at_gate(now, driver, "its scenario is not in the configuration any more"),
            Gate::Passed { at, when, doubted, .. } => {
                let waits = driver.steps.iter().any(|step| matches!(step.doing, Doing::Ready { .. }));
                if waits && (*doubted || now.mono.since(*at) > VALID_FOR) && self.ledger.paused.is_none() {
                    let when = when.clone();
                    driver.gate = self.look_again_at(now, when);
                }
                false
            }
            Gate::Looking(look) => match self.judge(look, &driver.run, now.mono) {
                Truth::True => {
                    if let Some(reason) = self.vetoed_at_gate(now, &driver.run) {
                        return self.abort_at_gate(now, driver, &reason);
                    }
                    let mut down = look.when.wanted_down();
                    down.retain(|probe| look.seen.get(probe) != Some(&Health::Up));
                    let anchored = (!self.is_isolated_since(look.since)).then_some(look.since);
                    driver.gate =
                        Gate::Passed { at: now.mono, when: look.when.clone(), down, anchored, doubted: false };
                    self.tell_it_goes_on(now, &driver.run);
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

    /// A replica may have heard from the primary since the run began.
    fn vetoed_at_gate(&self, now: Now, run: &RunId) -> Option<String> {
        let scenario = self.settings.scenario(&self.ledger.runs[run].scenario)?;
        self.replica_veto(now, scenario).map(|reason| reason.to_string())
    }

    /// After looks in vain the beginning of a run pages nobody; that this one goes on does.
    fn tell_it_goes_on(&mut self, now: Now, run: &RunId) {
        let scenario = &self.ledger.runs[run].scenario;
        let place = self.settings.scenarios.iter().position(|candidate| candidate.name == *scenario);
        let Some(watch) = place.map(|place| &mut self.watches[place]) else { return };
        if std::mem::take(&mut watch.vain) > 0 {
            let subject = format!("run {run} goes on: the last look saw the primary down");
            self.notify_run(now, NoticeKind::RunStarted, Importance::Page, run, subject);
        }
    }

    fn abort_at_gate(&mut self, now: Now, driver: &Driver, why: &str) -> bool {
        let scenario = self.ledger.runs[&driver.run].scenario.clone();
        let entry = Entry::RunAborting { run: driver.run.clone(), by: why.to_owned(), compensate: false };
        let place = self.settings.scenarios.iter().position(|candidate| candidate.name == scenario);
        if self.commit(now, entry)
            && let Some(place) = place
        {
            let watch = &mut self.watches[place];
            watch.vain = watch.vain.saturating_add(1);
            watch.held_since = None;
            self.watches[place].not_before = Some(self.look_again_from(now, place, &driver.run));
        }
        true
    }

    /// A primary that flaps would have a run begun and given up every few seconds, with a page for
    /// each: so each look in vain doubles the wait for the next one. A real outage may follow at any
    /// time, so the wait stays short, and ends at the last moment to decide.
    fn look_again_from(&self, now: Now, place: usize, run: &RunId) -> MonoTime {
        let scenario = &self.settings.scenarios[place];
        let wait = scenario.confirm_for.get().max(CONFIRM_AGAIN);
        let doublings = self.watches[place].vain.saturating_sub(1).min(5);
        let at = now.mono + wait.saturating_mul(1 << doublings).min(LONGEST_WAIT).max(wait);
        let incident = self.ledger.runs[run].incident.as_ref().and_then(|id| self.ledger.incidents.get(id));
        let decide = incident.map_or(at, |incident| now.mono + self.left_to_decide(now, scenario, incident));
        at.min(decide).max(now.mono + wait)
    }

    fn judge(&self, look: &Look, run: &RunId, now: MonoTime) -> Truth {
        // Where a person stood in for the quorum, what was shown to them must hold still.
        let is_alone = matches!(self.ledger.runs[run].trigger, Trigger::Approved { without_quorum: Some(_), .. });
        let holds = |probe: &ProbeName| self.index.get(probe).is_some_and(|index| self.fell(*index, now).is_some());
        look.when.evaluate(&mut |subject: &Subject| {
            if subject.is != Is::Down {
                let condition = Condition::Probe(subject.clone());
                return if is_alone { self.truth_by_those_left(&condition, now) } else { self.truth(&condition, now) };
            }
            match look.seen.get(&subject.probe) {
                Some(Health::Up) => Truth::False,
                // Down for us, but are the anchors there? Else it is we who are cut off.
                Some(Health::Down) if !self.is_isolated_since(look.since) && (!is_alone || holds(&subject.probe)) => {
                    Truth::True
                }
                // We cannot look ourselves; a quorum of the others, who can, is enough (S4).
                Some(Health::Down | Health::Unknown) | None if now >= look.until => {
                    if self.others_say_down(look, &subject.probe, now) { Truth::True } else { Truth::Unknown }
                }
                Some(Health::Down | Health::Unknown) | None => Truth::Unknown,
            }
        })
    }

    /// Do others see it down *now*? A verdict lets a vote live for several intervals; here it is the last
    /// word before a change. So it counts only where it was seen since the look began, or is the newest
    /// that a witness can have that looks still: one attempt an interval, told when it ends, and the way
    /// here. One that fell silent says nothing of now.
    fn others_say_down(&self, look: &Look, probe: &ProbeName, now: MonoTime) -> bool {
        let Some(&index) = self.index.get(probe) else { return false };
        let nobody = Detector::new(self.detectors[index].settings.clone());
        let question =
            Question { now, need: self.settings.quorum, domain: &self.settings.domain, isolated: None, tilt: false };
        let own = &nobody.settings;
        let newest = own.interval.get().saturating_add(own.timeout.get()).saturating_add(MARGIN);
        let is_of_now = |seen: MonoTime| seen >= look.since || now.since(seen) <= newest;
        // A witness beside us sees what we see: only another domain can stand in for us.
        let elsewhere = self.peers[index].iter().filter(|peer| peer.domain != self.settings.domain);
        let others: Vec<_> = elsewhere.filter(|peer| is_of_now(peer.seen)).cloned().collect();
        matches!(quorum::verdict(&question, &nobody, &others), Verdict::Down { .. })
    }
}
