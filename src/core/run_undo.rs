//! Aborting before the point of no return: what was done is undone, in the reverse order.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::brain::Brain;
use super::drill_run::may_undo_in_drill;
use super::run::{Doing, Driver};
use super::run_ledger::{RunLedger, StepState};
use crate::model::{Applied, CallId, CallOutcome, Entry, MonoTime, Now, Observed, Phase, RunResult, StepCall, StepEnd};

/// How many calls undoing one step may take, looks included.
const TRIES: u32 = 6;
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How much later than a call's own timeout its outcome is given up.
const BACKSTOP: Duration = Duration::from_secs(5);
/// How long a look before it may take.
const LOOK_FOR: Duration = Duration::from_secs(10);
/// How long one try may take.
const UNDO_FOR: Duration = Duration::from_secs(30);

/// What is being undone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Undo {
    now: Option<Undoing>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Undoing {
    index: usize,
    tries: u32,
    /// Nobody knows whether the change stands: it is looked at before it is undone (S8).
    unsure: bool,
    /// The call that is out, and when it is given up; else when the next one is made.
    call: Option<(CallId, Phase)>,
    until: MonoTime,
}

impl Undo {
    pub(super) fn is(&self, call: CallId) -> bool {
        self.now.as_ref().is_some_and(|undoing| undoing.call.is_some_and(|(out, _)| out == call))
    }

    pub(super) fn wakes(&self) -> Option<MonoTime> {
        self.now.as_ref().map(|undoing| undoing.until)
    }
}

impl Brain {
    /// Moves an aborting run on. `true` where more can be done at once.
    pub(super) fn drive_abort(&mut self, now: Now, driver: &mut Driver) -> bool {
        if self.let_calls_end(now, driver, |_| true) {
            return false;
        }
        if driver.undo.now.is_some() {
            return self.drive_undo(now, driver);
        }
        let run = &self.ledger.runs[&driver.run];
        let compensate = run.aborting.as_ref().is_some_and(|(_, compensate)| *compensate);
        match compensate.then(|| next_to_undo(run)).flatten() {
            Some(index) => {
                let unsure = !surely_stands(&run.steps[index].state);
                driver.undo.now = Some(Undoing { index, tries: 0, unsure, call: None, until: now.mono });
                true
            }
            None if run.is_drill() => {
                self.end_undoing_of_drill(now, driver);
                false
            }
            None => {
                self.end_run(now, driver, RunResult::Aborted);
                false
            }
        }
    }

    /// An apply that is out is waited for: what it did has to be known before it is undone. A look
    /// is not. Of the steps that are meant.
    pub(super) fn let_calls_end(&mut self, now: Now, driver: &mut Driver, of: impl Fn(usize) -> bool) -> bool {
        let mut waiting = false;
        for index in (0..driver.steps.len()).filter(|index| of(*index)) {
            match driver.steps[index].doing {
                Doing::Calling { call, phase: Phase::Apply, until } => {
                    if now.mono < until + BACKSTOP {
                        waiting = true;
                    } else {
                        self.lost_outcome(now, driver, index, call);
                    }
                }
                Doing::Calling { call, .. } => {
                    self.effects.push(super::Effect::Cancel(call));
                    driver.steps[index].doing = Doing::Idle;
                }
                _ => driver.steps[index].doing = Doing::Idle,
            }
        }
        waiting
    }

    fn drive_undo(&mut self, now: Now, driver: &mut Driver) -> bool {
        let Some(undoing) = driver.undo.now.clone() else { return false };
        if now.mono < undoing.until || self.doubt.is_some() {
            return false;
        }
        // A daemon that ends leaves the rest to its next life. A pause holds up what a step's failure
        // began; a person who aborts, before the pause or in it, wants the undoing all the same.
        let paused = self.ledger.paused.is_some() && self.ledger.runs[&driver.run].aborts_by_failure();
        if undoing.call.is_none() && (self.ending || paused) {
            return false;
        }
        if let Some((call, phase)) = undoing.call {
            if phase == Phase::Observe {
                self.effects.push(super::Effect::Cancel(call));
            }
            self.undone(
                now,
                driver,
                CallOutcome::Applied(Applied::Unknown { reason: "the call did not come back".into() }),
            );
            return true;
        }
        let (phase, timeout) = if undoing.unsure { (Phase::Observe, LOOK_FOR) } else { (Phase::Compensate, UNDO_FOR) };
        let run = &self.ledger.runs[&driver.run];
        let (step, attempt) = (run.plan.steps[undoing.index].clone(), run.steps[undoing.index].attempts);
        let (run, epoch, before) = (run.id.clone(), run.epoch, run.steps[undoing.index].before.clone());
        let Ok(Some(spec)) = self.ledger.runs[&run].filled(undoing.index) else { return false };
        if phase == Phase::Compensate && !self.intend_undo(now, driver, undoing.index) {
            driver.undo.now = None;
            return false;
        }
        let call = self.new_call();
        let estimate = step.estimate.get();
        let effect = StepCall { call, run, step: step.name, attempt, epoch, phase, spec, before, timeout, estimate };
        self.effects.push(super::Effect::Call(Box::new(effect)));
        let (call, tries, until) = (Some((call, phase)), undoing.tries + 1, now.mono + timeout + BACKSTOP);
        driver.undo.now = Some(Undoing { call, tries, until, ..undoing });
        false
    }

    /// The intent to undo, once.
    fn intend_undo(&mut self, now: Now, driver: &Driver, index: usize) -> bool {
        let run = &self.ledger.runs[&driver.run];
        let (step, epoch) = (run.plan.steps[index].name.clone(), run.epoch);
        run.steps[index].state == StepState::Undoing
            || self.commit(now, Entry::CompensationIntent { run: driver.run.clone(), step, epoch })
    }

    /// Takes the outcome of an undoing, or of the look before it.
    pub(super) fn undone(&mut self, now: Now, driver: &mut Driver, outcome: CallOutcome) {
        let Some(undoing) = driver.undo.now.take() else { return };
        let before = &self.ledger.runs[&driver.run].steps[undoing.index].before;
        let outcome = match outcome {
            CallOutcome::Observed(Observed::NotDone { evidence, before: present }) if present == *before => {
                Applied::Accepted { evidence: format!("nothing to undo: {evidence}") }
            }
            CallOutcome::Observed(Observed::Impossible { reason }) => Applied::Refused { reason, again: false },
            CallOutcome::Observed(Observed::Unknown { reason }) => Applied::Unknown { reason },
            CallOutcome::Observed(Observed::Done { evidence } | Observed::InProgress { evidence })
                if undoing.tries >= TRIES =>
            {
                Applied::Refused { reason: format!("it stands: {evidence}"), again: false }
            }
            CallOutcome::Observed(_) => {
                // It stands, or nothing can be seen of it: then bringing back what stood before is
                // what was asked for, and ends in one state however often it is done.
                driver.undo.now = Some(Undoing { unsure: false, call: None, until: now.mono, ..undoing });
                return;
            }
            CallOutcome::Applied(applied) => applied,
            CallOutcome::NotPermitted { reason } => Applied::Refused { reason, again: false },
            CallOutcome::Verified(_) => Applied::Unknown { reason: "the executor answered another question".into() },
        };
        let unsure = matches!(outcome, Applied::Unknown { .. });
        if undoing.tries < TRIES && (unsure || matches!(outcome, Applied::Refused { again: true, .. })) {
            driver.undo.now = Some(Undoing { call: None, unsure, until: now.mono + TRY_AGAIN, ..undoing });
            return;
        }
        if self.intend_undo(now, driver, undoing.index) {
            let step = self.ledger.runs[&driver.run].plan.steps[undoing.index].name.clone();
            self.commit(now, Entry::CompensationEnded { run: driver.run.clone(), step, outcome });
        }
    }
}

/// Is it known that the change stands?
fn surely_stands(state: &StepState) -> bool {
    matches!(state, StepState::Ended(StepEnd::Done { .. }) | StepState::Applied(Applied::Accepted { .. }))
}

/// The last step that changed something and that can be brought back.
fn next_to_undo(run: &RunLedger) -> Option<usize> {
    run.intended.iter().rev().copied().find(|index| {
        let step = &run.steps[*index];
        let may_stand = match &step.state {
            StepState::Ended(StepEnd::Done { .. } | StepEnd::Failed { .. } | StepEnd::Skipped { .. })
            | StepState::Parked { .. }
            | StepState::Undoing => true,
            StepState::Applied(Applied::Accepted { .. } | Applied::Unknown { .. }) => true,
            StepState::Applied(Applied::Refused { .. }) => false,
            // A person said retry, and then abort.
            StepState::Pending => true,
            StepState::Intended | StepState::Undone(_) => false,
        };
        may_stand && !step.before.is_null() && (!run.is_drill() || may_undo_in_drill(&step.state))
    })
}
