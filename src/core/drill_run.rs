//! A drill under way: it is rehearsed, judged, and cleaned up after; and it gives way to every other run.
//!
//! ```text
//! RunStarted → steps → DrillJudged → compensation in the reverse order, or the cleanup plan → RunEnded
//!                          ▲ a failed step, an alarm, a person, an incident
//! ```
//! A run that is started meanwhile sets it aside (`RunSetAside`): nothing of it goes on, and nothing waits
//! for it. Once all is quiet it is taken up under an epoch of its own, and cleans up.

use super::brain::Brain;
use super::run::{Activity, Doing, Driver};
use super::run_ledger::{Judged, RunLedger, StepState};
use crate::model::{
    Applied, Condition, Decision, DrillVerdict, EffectKind, Entry, HoldReason, HumanDuration, Importance, NoticeKind,
    Now, Phase, RunId, RunResult, StepEnd, Truth, WallTime,
};

/// So long the conditions of the outcome have at the end to hold.
const OUTCOME_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

impl RunLedger {
    /// Is all over that is rehearsed, but for the tasks that no run waits for?
    fn is_rehearsed(&self) -> bool {
        let over = |index: usize| {
            self.is_cleanup(index)
                || self.steps[index].is_over()
                || (self.is_standing_task(index) && self.is_ready(index))
        };
        (0..self.steps.len()).all(over)
    }

    /// Does a plan of its own clean up, and not compensation?
    fn has_cleanup(&self) -> bool {
        (0..self.steps.len()).any(|index| self.is_cleanup(index))
    }

    /// How a drill ends now; `None` while it has not cleaned up.
    pub(super) fn drill_result(&self) -> Option<RunResult> {
        let judged = self.judged.as_ref()?;
        let cleaned = if self.has_cleanup() {
            (0..self.steps.len()).all(|index| !self.is_cleanup(index) || self.steps[index].is_over())
        } else {
            let busy = |state: &StepState| matches!(state, StepState::Parked { .. } | StepState::Undoing);
            self.aborting.is_some() && !self.steps.iter().any(|step| busy(&step.state))
        };
        let result = if judged.verdict == DrillVerdict::Passed { RunResult::Done } else { RunResult::Aborted };
        cleaned.then_some(result)
    }

    /// The steps whose undoing failed, and why.
    fn not_undone(&self) -> Vec<(usize, String)> {
        let failed = |(index, step): (usize, &super::run_ledger::StepLedger)| match &step.state {
            StepState::Undone(Applied::Refused { reason, .. } | Applied::Unknown { reason }) => {
                Some((index, reason.clone()))
            }
            _ => None,
        };
        self.steps.iter().enumerate().filter_map(failed).collect()
    }

    /// The changes that stand when a drill has cleaned up: no undoing of them is known.
    fn left(&self) -> Vec<&str> {
        if self.has_cleanup() {
            return Vec::new();
        }
        let stands = |index: &&usize| {
            let effect = self.plan.steps[**index].work.action().map(|spec| spec.effect);
            let harmless = matches!(effect, Some(EffectKind::Notify | EffectKind::Verify));
            let refused = matches!(self.steps[**index].state, StepState::Applied(Applied::Refused { .. }));
            !harmless && !refused && !matches!(self.steps[**index].state, StepState::Undone(Applied::Accepted { .. }))
        };
        self.intended.iter().filter(stands).map(|index| self.plan.steps[*index].name.as_str()).collect()
    }

    /// Applies a record that only drills have.
    pub(super) fn apply_to_drill(&mut self, at: WallTime, entry: &Entry) -> Result<(), String> {
        if !self.is_drill() {
            return Err("it is no drill".into());
        }
        match entry {
            Entry::DrillJudged { verdict, took, .. } if self.judged.is_none() => {
                self.judged = Some(Judged { verdict: verdict.clone(), at, took: *took });
                Ok(())
            }
            Entry::RunSetAside { by, .. } => {
                self.set_aside = Some(by.clone());
                Ok(())
            }
            _ => Err("it was judged already".into()),
        }
    }
}

impl Brain {
    /// Moves a drill on where it goes another way than a run; `None` where it goes the same.
    pub(super) fn drive_drill(&mut self, now: Now, driver: &mut Driver) -> Option<bool> {
        let run = &self.ledger.runs[&driver.run];
        let terms = run.drill()?;
        if run.judged.is_some() {
            return self.drive_cleanup(now, driver);
        }
        if let Some(alarm) = terms.stop_when.iter().find(|alarm| self.truth(alarm, now.mono) == Truth::True) {
            let reason = format!("{alarm}, which stops it");
            return Some(self.judge_drill(now, &driver.run, DrillVerdict::Aborted { reason }));
        }
        if !run.is_rehearsed() || self.is_held() {
            return None;
        }
        let missing = terms.outcome.iter().find(|wanted| self.truth(wanted, now.mono) != Truth::True).cloned();
        let Some(missing) = missing else {
            let verdict = self.verdict_of(now, &driver.run);
            return Some(self.judge_drill(now, &driver.run, verdict));
        };
        self.await_outcome(now, driver, &missing)
    }

    /// It is through: did every step do what it is there for, and in time? A real run may go on without one; a
    /// rehearsal is there to find it.
    fn verdict_of(&self, now: Now, run: &RunId) -> DrillVerdict {
        let run = &self.ledger.runs[run];
        let failed = run.steps.iter().zip(&run.plan.steps).find_map(|(step, definition)| match &step.state {
            StepState::Ended(StepEnd::Failed { reason }) => Some((&definition.name, reason)),
            _ => None,
        });
        if let Some((step, reason)) = failed {
            return DrillVerdict::Failed {
                reason: format!("step {step} failed, and the plan goes on without it: {reason}"),
            };
        }
        let took = HumanDuration(run.recovered_at().unwrap_or(now.wall).since(run.started));
        if took <= run.rto {
            DrillVerdict::Passed
        } else {
            DrillVerdict::Failed { reason: format!("it took {took}, and the RTO is {}", run.rto) }
        }
    }

    /// The outcome may show a moment later: its probes are asked, and have some time.
    fn await_outcome(&mut self, now: Now, driver: &mut Driver, missing: &Condition) -> Option<bool> {
        let until = match driver.outcome_until {
            Some(until) => until,
            None => {
                let asked = missing.subjects().iter().map(|subject| subject.probe.clone()).collect::<Vec<_>>();
                self.effects.extend(asked.into_iter().map(super::Effect::ProbeNow));
                *driver.outcome_until.insert(now.mono + OUTCOME_WITHIN)
            }
        };
        if now.mono < until {
            return Some(false);
        }
        let reason = format!("the outcome does not hold: {missing}");
        Some(self.judge_drill(now, &driver.run, DrillVerdict::Failed { reason }))
    }

    /// After the verdict.
    fn drive_cleanup(&mut self, now: Now, driver: &mut Driver) -> Option<bool> {
        let run = &self.ledger.runs[&driver.run];
        if !run.has_cleanup() {
            if run.aborting.is_some() {
                return None;
            }
            let by = "the drill is over".to_owned();
            return Some(self.commit(now, Entry::RunAborting { run: driver.run.clone(), by, compensate: true }));
        }
        let rehearsed: Vec<bool> = (0..run.steps.len()).map(|index| !run.is_cleanup(index)).collect();
        if self.let_calls_end(now, driver, |index| rehearsed[index]) {
            return Some(false);
        }
        match self.ledger.runs[&driver.run].drill_result() {
            Some(_) => {
                self.end_drill(now, driver);
                Some(false)
            }
            None => None,
        }
    }

    /// Nothing is left to be undone by itself. What could not be undone is for a person.
    pub(super) fn end_undoing_of_drill(&mut self, now: Now, driver: &mut Driver) {
        let run = &self.ledger.runs[&driver.run];
        let failed = run.not_undone();
        for (index, reason) in failed {
            self.park_step(now, driver, index, format!("cleaning up after the drill failed: {reason}"));
        }
        if self.ledger.runs[&driver.run].drill_result().is_some() {
            self.end_drill(now, driver);
        }
    }

    /// The rehearsed part is over. Always reports progress.
    pub(super) fn judge_drill(&mut self, now: Now, id: &RunId, verdict: DrillVerdict) -> bool {
        let Some(run) = self.ledger.runs.get(id).filter(|run| run.is_drill() && run.judged.is_none()) else {
            return false;
        };
        let took = run.recovered_at().map(|at| HumanDuration(at.since(run.started)));
        self.commit(now, Entry::DrillJudged { run: id.clone(), verdict, took })
    }

    /// A rehearsed step cannot be done: the drill has failed, and nobody has to come. `false` where it is
    /// no such step.
    pub(super) fn fail_drill(&mut self, now: Now, driver: &mut Driver, index: usize, reason: &str) -> bool {
        let run = &self.ledger.runs[&driver.run];
        if !run.is_drill() || run.judged.is_some() {
            return false;
        }
        driver.steps[index].doing = Doing::Idle;
        let reason = run.by_failure(index, reason);
        self.judge_drill(now, &driver.run, DrillVerdict::Failed { reason })
    }

    fn end_drill(&mut self, now: Now, driver: &Driver) {
        let Some(result) = self.ledger.runs[&driver.run].drill_result() else { return };
        if !self.commit(now, Entry::RunEnded { run: driver.run.clone(), result }) {
            return;
        }
        let run = &self.ledger.runs[&driver.run];
        let (Some(terms), Some(judged)) = (run.drill(), &run.judged) else { return };
        let took = judged.took.map(|took| format!(", recovered in {took} (RTO {})", run.rto)).unwrap_or_default();
        let left = run.left();
        let left_over = if left.is_empty() { String::new() } else { format!("; NOT undone: {}", left.join(", ")) };
        let subject =
            format!("drill of {} on {} {}{took}{left_over} ({})", run.plan.name, terms.target, judged.verdict, run.id);
        // Whoever is on call needs to come only where something is left to be done.
        let loud = !left.is_empty() || matches!(judged.verdict, DrillVerdict::Failed { .. });
        let importance = if loud { Importance::Page } else { Importance::Info };
        let id = run.id.clone();
        self.notify_run(now, NoticeKind::Drill, importance, &id, subject);
        self.note_evidence();
    }

    /// A scenario began to hold: a drill is stopped at once, and cleans up while it is confirmed.
    pub(super) fn stop_drill(&mut self, now: Now, why: &str) {
        let drill = self.ledger.active_run().filter(|run| run.is_drill() && run.judged.is_none());
        if let Some(id) = drill.map(|run| run.id.clone()) {
            self.judge_drill(now, &id, DrillVerdict::Aborted { reason: why.to_owned() });
        }
    }

    /// Another run is about to start: a drill gives way, whatever it is doing.
    pub(super) fn set_drill_aside(&mut self, now: Now, why: &str) {
        let Some(id) = self.ledger.active_run().filter(|run| run.is_drill()).map(|run| run.id.clone()) else { return };
        self.stop_drill(now, why);
        if let Some(driver) = self.driver.take_if(|driver| driver.run == id) {
            let looks = driver.steps.iter().filter_map(|activity| match activity.doing {
                Doing::Calling { call, phase: Phase::Observe | Phase::Verify, .. } => Some(call),
                _ => None,
            });
            self.effects.extend(looks.map(super::Effect::Cancel));
        }
        if self.commit(now, Entry::RunSetAside { run: id.clone(), by: why.to_owned() }) {
            let subject = format!("run {id} gives way: {why}; it cleans up afterwards");
            self.notify_run(now, NoticeKind::Drill, Importance::Info, &id, subject);
        }
    }

    /// The drill that gave way and has not cleaned up.
    pub(super) fn waiting_drill(&self) -> Option<&RunLedger> {
        self.ledger.runs.values().rev().find(|run| run.ended.is_none() && run.set_aside.is_some())
    }

    /// Takes up a drill that gave way, once nothing else may want to start: the epoch that it is granted
    /// would void a question that somebody is about to answer.
    pub(super) fn take_up_drill(&mut self, now: Now) {
        if self.ledger.active_run().is_some() || self.is_held() || self.tilt_until.is_some() {
            return;
        }
        let Some(id) = self.waiting_drill().map(|run| run.id.clone()) else { return };
        let open = self.ledger.incidents.values().filter(|incident| incident.closed.is_none());
        let is_settled = |decision: &Option<Decision>| {
            matches!(
                decision,
                Some(Decision::Alert | Decision::Hold(HoldReason::AlreadyRun { .. } | HoldReason::NoPlan))
            )
        };
        if open.into_iter().any(|incident| !is_settled(&incident.decision)) {
            return;
        }
        let epoch = self.ledger.epoch.next();
        if !self.commit(now, Entry::RunTakenUp { run: id.clone(), epoch }) {
            return;
        }
        self.cut_off(now, &id, "the call was out when the drill gave way");
        let count = self.ledger.runs[&id].steps.len();
        self.driver = Some(Driver::new(id, super::gate::Gate::Open, vec![Activity::idle(); count]));
        self.drive(now);
    }

    /// What a run's calls that nobody hears any more came to is not known.
    pub(super) fn cut_off(&mut self, now: Now, id: &RunId, why: &str) {
        let Some(run) = self.ledger.runs.get(id) else { return };
        let out: Vec<_> = run
            .steps
            .iter()
            .zip(&run.plan.steps)
            .filter(|(step, _)| step.state == StepState::Intended)
            .map(|(step, definition)| (definition.name.clone(), step.attempts))
            .collect();
        for (step, attempt) in out {
            let outcome = Applied::Unknown { reason: why.to_owned() };
            self.commit(now, Entry::StepApplied { run: id.clone(), step, attempt, outcome });
        }
    }
}

/// The next change of a drill that is undone by itself: what a person left out stays, and what could not
/// be undone waits for one.
pub(super) fn may_undo_in_drill(state: &StepState) -> bool {
    !matches!(state, StepState::Parked { .. } | StepState::Ended(StepEnd::Skipped { .. }))
}
