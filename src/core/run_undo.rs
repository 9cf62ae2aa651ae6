//! Aborting before the point of no return: what was done is undone, in the reverse order.

use std::time::Duration;

use super::brain::Brain;
use super::run::{Doing, Driver};
use super::run_ledger::{RunLedger, StepState};
use crate::model::{Applied, CallId, CallOutcome, Entry, MonoTime, Now, Phase, RunResult, StepEnd};

/// How often undoing one step is tried.
const TRIES: u32 = 3;
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How long one try may take.
const UNDO_FOR: Duration = Duration::from_secs(30);

/// What is being undone.
#[derive(Clone, Debug, Default)]
pub(super) struct Undo {
    now: Option<Undoing>,
}

#[derive(Clone, Debug)]
struct Undoing {
    index: usize,
    tries: u32,
    /// The call that is out, and when it is given up; else when the next one is made.
    call: Option<CallId>,
    until: MonoTime,
}

impl Undo {
    pub(super) fn is(&self, call: CallId) -> bool {
        self.now.as_ref().is_some_and(|undoing| undoing.call == Some(call))
    }

    pub(super) fn wakes(&self) -> Option<MonoTime> {
        self.now.as_ref().map(|undoing| undoing.until)
    }
}

impl Brain {
    /// Moves an aborting run on. `true` where more can be done at once.
    pub(super) fn drive_abort(&mut self, now: Now, driver: &mut Driver) -> bool {
        if self.let_calls_end(now, driver) {
            return false;
        }
        if driver.undo.now.is_some() {
            return self.drive_undo(now, driver);
        }
        let run = &self.ledger.runs[&driver.run];
        let compensate = run.aborting.as_ref().is_some_and(|(_, compensate)| *compensate);
        match compensate.then(|| next_to_undo(run)).flatten() {
            Some(index) => {
                driver.undo.now = Some(Undoing { index, tries: 0, call: None, until: now.mono });
                true
            }
            None => {
                self.end_run(now, driver, RunResult::Aborted);
                false
            }
        }
    }

    /// An apply that is out is waited for: what it did has to be known before it is undone. A look
    /// is not.
    fn let_calls_end(&mut self, now: Now, driver: &mut Driver) -> bool {
        let mut waiting = false;
        for index in 0..driver.steps.len() {
            match driver.steps[index].doing {
                Doing::Calling { call, phase: Phase::Apply, until } => {
                    if now.mono < until + Duration::from_secs(5) {
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
        if now.mono < undoing.until {
            return false;
        }
        if undoing.call.is_some() {
            let reason = "the call did not come back".to_owned();
            self.undone(now, driver, CallOutcome::Applied(Applied::Unknown { reason }));
            return true;
        }
        let run = &self.ledger.runs[&driver.run];
        let (step, ledger) = (run.plan.steps[undoing.index].clone(), run.steps[undoing.index].clone());
        let (id, epoch) = (run.id.clone(), run.epoch);
        let Some(spec) = step.work.action().cloned() else { return false };
        if ledger.state != StepState::Undoing
            && !self.commit(now, Entry::CompensationIntent { run: id.clone(), step: step.name.clone(), epoch })
        {
            driver.undo.now = None;
            return false;
        }
        let call = self.new_call();
        self.effects.push(super::Effect::Call(Box::new(crate::model::StepCall {
            call,
            run: id,
            step: step.name,
            attempt: ledger.attempts,
            epoch,
            phase: Phase::Compensate,
            spec,
            before: ledger.before,
            timeout: UNDO_FOR,
        })));
        let until = now.mono + UNDO_FOR + Duration::from_secs(5);
        driver.undo.now = Some(Undoing { call: Some(call), tries: undoing.tries + 1, until, ..undoing });
        false
    }

    /// Takes the outcome of an undoing.
    pub(super) fn undone(&mut self, now: Now, driver: &mut Driver, outcome: CallOutcome) {
        let Some(undoing) = driver.undo.now.take() else { return };
        let outcome = match outcome {
            CallOutcome::Applied(applied) => applied,
            CallOutcome::NotPermitted { reason } => Applied::Refused { reason, again: false },
            CallOutcome::Observed(_) | CallOutcome::Verified(_) => {
                Applied::Unknown { reason: "the executor answered another question".into() }
            }
        };
        let again = matches!(outcome, Applied::Refused { again: true, .. } | Applied::Unknown { .. });
        if again && undoing.tries < TRIES {
            // Bringing back what stood before can be done twice: it ends in the same state.
            driver.undo.now = Some(Undoing { call: None, until: now.mono + TRY_AGAIN, ..undoing });
            return;
        }
        let step = self.ledger.runs[&driver.run].plan.steps[undoing.index].name.clone();
        self.commit(now, Entry::CompensationEnded { run: driver.run.clone(), step, outcome });
    }
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
            StepState::Pending | StepState::Intended | StepState::Undone(_) => false,
        };
        may_stand && !step.before.is_null()
    })
}
