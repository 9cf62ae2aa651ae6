//! What follows from the outcome of a call.

use std::time::Duration;

use super::brain::Brain;
use super::run::{Doing, Driver, Found, done};
use super::run_ledger::StepState;
use crate::model::{
    Applied, CallId, CallOutcome, EffectKind, Entry, Importance, NoticeKind, Now, Observed, OnError, Phase, Repeat,
    Retry, StepEnd, Verified,
};

/// A look that told nothing is repeated after this, as long as the step has time.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl Brain {
    /// Takes the outcome of a call. One that nobody waits for is late, and is dropped.
    pub(super) fn outcome(&mut self, now: Now, call: CallId, outcome: CallOutcome) {
        let Some(mut driver) = self.driver.take() else { return };
        if driver.undo.is(call) {
            self.undone(now, &mut driver, outcome);
        } else {
            let found = driver.steps.iter().position(
                |activity| matches!(&activity.doing, Doing::Calling { call: waiting, .. } if *waiting == call),
            );
            if let Some(index) = found {
                self.step_outcome(now, &mut driver, index, outcome);
            }
        }
        self.driver = Some(driver);
    }

    /// The executor never answered: nobody knows.
    pub(super) fn lost_outcome(&mut self, now: Now, driver: &mut Driver, index: usize, call: CallId) {
        let Doing::Calling { phase, .. } = driver.steps[index].doing else { return };
        // What changes something is left to come to its end: cut off, it would be known even less.
        if phase != Phase::Apply {
            self.effects.push(super::Effect::Cancel(call));
        }
        let reason = "the call did not come back".to_owned();
        let outcome = match phase {
            Phase::Observe => CallOutcome::Observed(Observed::Unknown { reason }),
            Phase::Apply | Phase::Compensate => CallOutcome::Applied(Applied::Unknown { reason }),
            Phase::Verify => CallOutcome::Verified(Verified::NotYet { evidence: reason }),
        };
        self.step_outcome(now, driver, index, outcome);
    }

    fn step_outcome(&mut self, now: Now, driver: &mut Driver, index: usize, outcome: CallOutcome) {
        let Doing::Calling { phase, .. } = driver.steps[index].doing else { return };
        driver.steps[index].doing = Doing::Idle;
        match (phase, outcome) {
            (Phase::Observe, CallOutcome::Observed(observed)) => self.observed_step(now, driver, index, observed),
            (Phase::Apply, CallOutcome::Applied(applied)) => self.applied_step(now, driver, index, applied),
            (Phase::Apply, CallOutcome::NotPermitted { reason }) => {
                // Nothing was called. That we may not call any more is for a person to look at.
                let applied = Applied::Refused { reason: format!("not permitted: {reason}"), again: false };
                self.applied_step(now, driver, index, applied);
            }
            (Phase::Verify, CallOutcome::Verified(verified)) => self.verified_step(now, driver, index, verified),
            (Phase::Apply, _) => {
                let reason = "the executor answered another question".to_owned();
                self.applied_step(now, driver, index, Applied::Unknown { reason });
            }
            (Phase::Observe | Phase::Verify | Phase::Compensate, _) => self.look_again(now, driver, index),
        }
    }

    fn observed_step(&mut self, now: Now, driver: &mut Driver, index: usize, observed: Observed) {
        let run = &self.ledger.runs[&driver.run];
        if run.is_stopped(index) {
            return;
        }
        let (step, ledger) = (&run.plan.steps[index], &run.steps[index]);
        let used = ledger.attempts - ledger.forgiven >= step.retry.attempts;
        match observed {
            // Seen done is not yet seen working: a promoted database may take no writes (S6).
            Observed::Done { .. } | Observed::InProgress { .. } => {
                driver.steps[index].found = Found::Standing;
                self.call(now, driver, index, Phase::Verify);
            }
            Observed::Impossible { reason } => {
                self.fail_step(now, driver, index, reason);
            }
            Observed::NotDone { evidence, .. } if used => {
                self.fail_step(now, driver, index, format!("not done after {} attempts: {evidence}", ledger.attempts));
            }
            Observed::NotDone { before, .. } => driver.steps[index].doing = Doing::Ready { before },
            Observed::Unobservable => self.unobservable_step(now, driver, index, used),
            Observed::Unknown { reason } => {
                let over = driver.steps[index].deadline.is_some_and(|deadline| now.mono >= deadline);
                if over && !self.is_held() {
                    self.fail_step(now, driver, index, format!("it could not be seen in time: {reason}"));
                } else {
                    self.look_again(now, driver, index);
                }
            }
        }
    }

    /// Nothing to look at: what the journal knows has to be enough.
    fn unobservable_step(&mut self, now: Now, driver: &mut Driver, index: usize, used: bool) {
        let run = &self.ledger.runs[&driver.run];
        let repeat = run.plan.steps[index].work.action().map(|spec| spec.repeat);
        match (&run.steps[index].state, repeat) {
            (StepState::Applied(Applied::Accepted { evidence }), _) => {
                let evidence = evidence.clone();
                self.end_step(now, driver, index, done(evidence, false));
            }
            (StepState::Applied(Applied::Unknown { reason }), Some(Repeat::Never)) => {
                let reason = format!("it is not known whether it was done, and it must not be done twice: {reason}");
                self.park_step(now, driver, index, reason);
            }
            (StepState::Applied(outcome), _) if used => {
                let reason = format!("out of attempts: {}", reason_of(outcome));
                self.fail_step(now, driver, index, reason);
            }
            _ => driver.steps[index].doing = Doing::Ready { before: serde_json::Value::Null },
        }
    }

    fn applied_step(&mut self, now: Now, driver: &mut Driver, index: usize, outcome: Applied) {
        let run = &self.ledger.runs[&driver.run];
        let (step, attempt) = (run.plan.steps[index].clone(), run.steps[index].attempts);
        let entry =
            Entry::StepApplied { run: run.id.clone(), step: step.name.clone(), attempt, outcome: outcome.clone() };
        let used = attempt - run.steps[index].forgiven >= step.retry.attempts;
        let stopped = run.is_stopped(index);
        if !self.commit(now, entry) || stopped {
            return;
        }
        match outcome {
            Applied::Accepted { .. } => self.call(now, driver, index, Phase::Verify),
            Applied::Refused { reason, again: true } if used => {
                self.fail_step(now, driver, index, format!("refused {attempt} times: {reason}"));
            }
            Applied::Refused { again: true, .. } => {
                let wait = backoff(&step.retry, attempt, driver.run.as_str(), step.name.as_str());
                driver.steps[index].doing = Doing::Backoff { until: now.mono + wait };
            }
            Applied::Refused { reason, again: false } => {
                self.fail_step(now, driver, index, reason);
            }
            // Observe before anything else (S8), and at once: it may well be done.
            Applied::Unknown { .. } => self.call(now, driver, index, Phase::Observe),
        }
    }

    fn verified_step(&mut self, now: Now, driver: &mut Driver, index: usize, verified: Verified) {
        let run = &self.ledger.runs[&driver.run];
        if run.is_stopped(index) {
            return;
        }
        let already = run.steps[index].attempts == 0;
        match verified {
            Verified::Yes { evidence, outputs } => {
                self.end_step(now, driver, index, StepEnd::Done { evidence, already, outputs });
            }
            // What ran out while all was paused is looked at again afterwards.
            Verified::NotYet { .. } if self.is_held() => self.look_again(now, driver, index),
            Verified::NotYet { evidence } => {
                self.fail_step(now, driver, index, format!("not seen from outside in time: {evidence}"));
            }
            Verified::Failed { reason } => {
                self.fail_step(now, driver, index, reason);
            }
        }
    }

    fn look_again(&mut self, now: Now, driver: &mut Driver, index: usize) {
        let activity = &mut driver.steps[index];
        activity.looks = activity.looks.saturating_add(1);
        let wait = LOOK_AGAIN.saturating_mul(activity.looks.min(10));
        let until = now.mono + wait;
        // Never past the deadline: the look at the deadline is the one that decides.
        let until =
            activity.deadline.filter(|deadline| now.mono < *deadline).map_or(until, |deadline| deadline.min(until));
        activity.doing = Doing::Backoff { until };
    }

    /// The step cannot be done: what its plan says happens. Always reports progress.
    pub(super) fn fail_step(&mut self, now: Now, driver: &mut Driver, index: usize, reason: String) -> bool {
        let run = &self.ledger.runs[&driver.run];
        let step = &run.plan.steps[index];
        let effect = step.work.action().map(|spec| spec.effect);
        let go_on = match (step.on_error, effect) {
            // A notification that failed never fails a run.
            (_, Some(EffectKind::Notify)) => true,
            // A promotion or a route that failed always does: what comes after it relies on it.
            (OnError::Continue, Some(EffectKind::Promote | EffectKind::Route)) => false,
            (OnError::Continue, _) => true,
            (OnError::Park | OnError::Compensate, _) => false,
        };
        if !go_on && self.fail_drill(now, driver, index, &reason) {
            return true;
        }
        let run = &self.ledger.runs[&driver.run];
        let step = &run.plan.steps[index];
        if go_on {
            self.end_step(now, driver, index, StepEnd::Failed { reason });
        } else if step.on_error == OnError::Compensate && !run.past_no_return() && !driver.found_past(run) {
            let by = run.by_failure(index, &reason);
            driver.steps[index].doing = Doing::Idle;
            self.commit(now, Entry::RunAborting { run: driver.run.clone(), by, compensate: true });
        } else {
            self.park_step(now, driver, index, reason);
        }
        true
    }

    /// The step waits for a person, who is paged.
    pub(super) fn park_step(&mut self, now: Now, driver: &mut Driver, index: usize, reason: String) {
        if self.fail_drill(now, driver, index, &reason) {
            return;
        }
        let step = self.ledger.runs[&driver.run].plan.steps[index].name.clone();
        driver.steps[index].doing = Doing::Idle;
        let parked = Entry::StepParked { run: driver.run.clone(), step: step.clone(), reason: reason.clone() };
        if self.commit(now, parked) {
            let id = driver.run.clone();
            let subject = format!(
                "run {id} is parked at step {step}: {reason} (failoverd step retry {step} --run {id}, or step skip, or abort)"
            );
            self.notify_run(now, NoticeKind::RunParked, Importance::Page, &id, subject);
        }
    }
}

fn reason_of(outcome: &Applied) -> &str {
    match outcome {
        Applied::Accepted { evidence } => evidence,
        Applied::Refused { reason, .. } | Applied::Unknown { reason } => reason,
    }
}

/// Doubled for each attempt, bounded, and between half and the whole of that: so that two runs that
/// were throttled together do not come back together. Taken from the names, since the core has no
/// randomness.
pub(super) fn backoff(retry: &Retry, attempt: u32, run: &str, step: &str) -> Duration {
    let doubled = retry.backoff.get().saturating_mul(1 << attempt.saturating_sub(1).min(16));
    let bounded = doubled.min(retry.max_backoff.get());
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in run.bytes().chain(step.bytes()).chain(attempt.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    bounded / 2 + bounded.mul_f64((hash >> 11) as f64 / (1u64 << 53) as f64 / 2.0)
}
