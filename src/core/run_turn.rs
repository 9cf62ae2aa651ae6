//! A step's turn: whether it is done at all, what it begins with, and what it waits for without a call: a
//! verdict, a person, a probe.

use super::Effect;
use super::brain::Brain;
use super::run::{Doing, Driver, done};
use super::values::Turn;
use crate::model::{Health, Importance, MonoTime, NoticeKind, Now, Phase, StepEnd, Work};

impl Brain {
    /// Begins a step whose turn has come, or looks again whether it has to be done.
    pub(super) fn begin_step(&mut self, now: Now, driver: &mut Driver, index: usize) -> bool {
        let run = &self.ledger.runs[&driver.run];
        let step = &run.plan.steps[index];
        let activity = &mut driver.steps[index];
        activity.started.get_or_insert(now.mono);
        activity.deadline.get_or_insert(now.mono + step.timeout.get());
        // What was begun is gone on with: its terms held then.
        if run.steps[index].attempts == 0 {
            match self.turn(now.mono, run, index) {
                Turn::Due => {}
                Turn::LeftOut(by) => {
                    self.end_step(now, driver, index, StepEnd::Skipped { by });
                    return true;
                }
                Turn::Unclear(why) => return self.await_turn(now, driver, index, why),
            }
        }
        if matches!(activity.doing, Doing::Unclear { .. }) {
            // The time that it waited for its turn is not its own.
            (activity.started, activity.deadline) = (Some(now.mono), Some(now.mono + step.timeout.get()));
        }
        match &step.work {
            Work::Action(_) => match run.filled(index) {
                Ok(_) => self.call(now, driver, index, Phase::Observe),
                Err(why) => return self.fail_step(now, driver, index, why),
            },
            Work::Wait { duration } => activity.doing = Doing::Waiting { until: now.mono + duration.get() },
            Work::Approval { .. } | Work::Task { .. } => return self.ask_person(now, driver, index),
            Work::Gather { of, minimum } => {
                let end = run.gathered(of, *minimum);
                return match end {
                    Ok(end) => {
                        self.end_step(now, driver, index, end);
                        true
                    }
                    Err(why) => self.fail_step(now, driver, index, why),
                };
            }
            Work::VerifyProbe { probe, .. } => {
                activity.doing = Doing::Holding { from: now.mono, look: None };
                self.effects.push(Effect::ProbeNow(probe.clone()));
            }
        }
        true
    }

    /// Whether the step has to be done is not known yet: a verdict is missing, which may come in a
    /// moment. So the probes are asked, and the step waits for as long as it has time itself; only then
    /// it is for a person. Neither doing it nor leaving it out could be taken back.
    fn await_turn(&mut self, now: Now, driver: &mut Driver, index: usize, why: String) -> bool {
        let step = &self.ledger.runs[&driver.run].plan.steps[index];
        let activity = &mut driver.steps[index];
        if activity.deadline.is_some_and(|deadline| now.mono >= deadline) {
            let reason = format!("{why}, and it could not be told for {} either", step.timeout);
            return self.fail_step(now, driver, index, reason);
        }
        if !matches!(activity.doing, Doing::Unclear { .. }) {
            self.effects.extend(step.terms.probes().into_iter().map(Effect::ProbeNow));
        }
        activity.doing = Doing::Unclear { why };
        false
    }

    /// Asks a person, or hands them a job; again where it is time to remind them.
    pub(super) fn ask_person(&mut self, now: Now, driver: &mut Driver, index: usize) -> bool {
        let run = &self.ledger.runs[&driver.run];
        let step = &run.plan.steps[index];
        let again = matches!(driver.steps[index].doing, Doing::Asking { .. });
        let (message, verb, remind) = match &step.work {
            Work::Approval { message } => (message, "approve", None),
            Work::Task { message, remind } => (message, "done", *remind),
            _ => return false,
        };
        // A question is asked also where a value of it is missing.
        let message = run.message(index, message).unwrap_or_else(|why| format!("{message} ({why})"));
        let due = driver.steps[index].deadline.map(|at| now.wall_of(at));
        let due = due.map(|at| format!(", due {at}")).filter(|_| verb == "done").unwrap_or_default();
        let asks = match (verb, again) {
            ("done", false) => "has a task for you",
            ("done", true) => "still has a task for you",
            _ => "asks",
        };
        let subject =
            format!("run {id} {asks}: {message}{due} (failoverd step {verb} {} --run {id})", step.name, id = run.id);
        let remind = remind.filter(|every| !every.get().is_zero()).map(|every| now.mono + every.get());
        driver.steps[index].doing = Doing::Asking { remind };
        let run = driver.run.clone();
        self.notify_run(now, NoticeKind::ApprovalAsked, Importance::Page, &run, subject);
        true
    }

    /// `verify.probe`: Up without interruption for the hold, by looks begun within the step.
    pub(super) fn drive_hold(
        &mut self,
        now: Now,
        driver: &mut Driver,
        index: usize,
        from: MonoTime,
        over: bool,
    ) -> bool {
        let Work::VerifyProbe { probe, hold } = self.ledger.runs[&driver.run].plan.steps[index].work.clone() else {
            return false;
        };
        let Some(detector) = self.index.get(&probe).map(|index| &self.detectors[*index]) else {
            return self.fail_step(now, driver, index, format!("there is no probe {probe} any more"));
        };
        let up = detector.health() == Some(Health::Up) && detector.seen() >= from && !detector.in_doubt();
        // One bad answer is an interruption, also where it does not make the probe fall.
        let held_from = detector.since().max(from).max(detector.last_bad.unwrap_or_default());
        let over_at = held_from + hold.get();
        let ends = if up && detector.seen() >= over_at {
            let evidence =
                format!("{probe} has been up for {}", crate::model::HumanDuration(detector.seen().since(held_from)));
            Some(done(evidence, false))
        } else {
            None
        };
        let why = detector.latest.as_ref().and_then(|latest| latest.cause.as_ref()).map(ToString::to_string);
        if let Doing::Holding { look, .. } = &mut driver.steps[index].doing {
            let due = up && now.mono >= over_at && look.is_some();
            *look = (up && now.mono < over_at).then_some(over_at);
            if due {
                self.effects.push(Effect::ProbeNow(probe.clone()));
            }
        }
        match ends {
            Some(end) => {
                self.end_step(now, driver, index, end);
                true
            }
            None if over => {
                let why = why.unwrap_or_else(|| "it was not up for long enough".to_owned());
                self.fail_step(now, driver, index, format!("probe {probe}: {why}"))
            }
            None => false,
        }
    }
}
