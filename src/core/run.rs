//! Runs: drives the steps of the active run, one phase at a time.
//!
//! A step is observe → (journal intent) → apply → (journal outcome) → verify. What has to outlive a
//! crash is in the ledger; what is here can be found again by observing.

use std::time::Duration;

use serde_json::Value;

use serde::{Deserialize, Serialize};

use super::brain::Brain;
use super::gate::Gate;
use super::incident::Incident;
use super::run_ledger::{RunLedger, StepState};
use super::run_undo::Undo;
use crate::model::sabotage::{Sabotage, is_broken};
use crate::model::{
    CallId, Entry, Given, Importance, MonoTime, NoticeKind, Now, Phase, Plan, RunId, RunKind, RunResult,
    ScenarioSettings, Step, StepCall, StepEnd, Trigger,
};

/// How much later than a call's own timeout its outcome is given up.
const BACKSTOP: Duration = Duration::from_secs(5);
/// A look costs at most this.
const OBSERVE_FOR: Duration = Duration::from_secs(10);
/// An apply that has not answered by then is an unknown outcome.
const APPLY_FOR: Duration = Duration::from_secs(30);
/// Also a step whose time is over may look once more before it says what became of it.
const LAST_OBSERVE_FOR: Duration = Duration::from_secs(2);

/// The active run in this life of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Driver {
    pub(super) run: RunId,
    pub(super) gate: Gate,
    pub(super) steps: Vec<Activity>,
    pub(super) undo: Undo,
    /// Of a drill: until when its outcome may show.
    pub(super) outcome_until: Option<MonoTime>,
}

/// What a step is doing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Activity {
    pub(super) started: Option<MonoTime>,
    pub(super) deadline: Option<MonoTime>,
    pub(super) looks: u32,
    pub(super) found: Found,
    pub(super) doing: Doing,
}

/// What the looks at a step have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Found {
    /// Nothing of note.
    Nothing,
    /// The change stands or is under way, by whomever it was made.
    Standing,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Doing {
    Idle,
    /// Its turn has come, and it cannot be told whether its terms hold.
    Unclear {
        why: String,
    },
    Calling {
        call: CallId,
        phase: Phase,
        until: MonoTime,
    },
    /// Observed as not done; waits for the last look, or for the end of a pause.
    Ready {
        before: Value,
    },
    /// Observes again then.
    Backoff {
        until: MonoTime,
    },
    /// `wait`.
    Waiting {
        until: MonoTime,
    },
    /// `approval`, `task`.
    Asking {
        /// Tells people again then.
        remind: Option<MonoTime>,
    },
    /// `verify.probe`.
    Holding {
        from: MonoTime,
        /// Looks then: the probe's own next look may be an interval later.
        look: Option<MonoTime>,
    },
}

impl Activity {
    pub(super) fn idle() -> Self {
        Self { started: None, deadline: None, looks: 0, found: Found::Nothing, doing: Doing::Idle }
    }

    fn wakes(&self) -> Option<MonoTime> {
        match &self.doing {
            Doing::Idle => None,
            Doing::Calling { until, .. } => Some(*until + BACKSTOP),
            Doing::Backoff { until } | Doing::Waiting { until } => Some(*until),
            // What they wait for is an event of its own; until then only the deadline counts.
            Doing::Unclear { .. } | Doing::Ready { .. } => self.deadline,
            Doing::Holding { look, .. } => self.deadline.into_iter().chain(*look).min(),
            Doing::Asking { remind } => self.deadline.into_iter().chain(*remind).min(),
        }
    }
}

impl Driver {
    pub(super) fn new(run: RunId, gate: Gate, steps: Vec<Activity>) -> Self {
        Self { run, gate, steps, undo: Undo::default(), outcome_until: None }
    }

    /// Was the point of no return seen to stand? Before its end is written only this life knows, and
    /// looks again in the next one.
    pub(super) fn found_past(&self, run: &RunLedger) -> bool {
        let point = run.plan.point_of_no_return.as_ref().and_then(|step| run.index(step));
        point.is_some_and(|index| self.steps[index].found == Found::Standing)
    }

    pub(super) fn earliest_wake(&self) -> Option<MonoTime> {
        let steps = self.steps.iter().filter_map(Activity::wakes);
        self.gate.wakes().into_iter().chain(steps).chain(self.undo.wakes()).chain(self.outcome_until).min()
    }
}

impl Brain {
    /// Starts the plan of a scenario.
    pub(super) fn start_run(
        &mut self,
        now: Now,
        scenario: &ScenarioSettings,
        incident: Option<&Incident>,
        trigger: Trigger,
    ) -> Option<RunId> {
        let plan = scenario.plan.as_ref().and_then(|plan| self.settings.plan(plan))?;
        // `check` lets a scenario name only plans whose parameters have defaults.
        let plan = plan.with(&Given::new()).ok()?;
        self.start_plan(now, scenario, incident, trigger, plan, RunKind::Ungraceful)
    }

    /// Starts a plan, with its parameters given.
    pub(super) fn start_plan(
        &mut self,
        now: Now,
        scenario: &ScenarioSettings,
        incident: Option<&Incident>,
        trigger: Trigger,
        plan: Plan,
        run_kind: RunKind,
    ) -> Option<RunId> {
        let outage_start = match incident {
            Some(incident) => incident.outage_start,
            None => self.outage_start(&scenario.when, now.mono).map_or(now.wall, |at| now.wall_of(at)),
        };
        let predicted = self.predicted_loss(scenario, now.mono).ok().flatten().map(|(loss, _)| loss);
        let predicted_writes = self.predicted_writes(scenario, now.mono);
        let run = self.ledger.next_run(now.wall);
        let looks = !trigger.is_by_hand();
        let is_drill = matches!(trigger, Trigger::Drill { .. });
        if !is_drill {
            self.set_drill_aside(now, &format!("a run of {} starts", scenario.name));
        }
        let entry = Entry::RunStarted {
            run: run.clone(),
            incident: incident.map(|incident| incident.id.clone()),
            scenario: scenario.name.clone(),
            service: scenario.service.clone(),
            epoch: self.ledger.epoch.next(),
            trigger: trigger.clone(),
            votes: self.evidence(&scenario.when, now),
            outage_start,
            rto: scenario.rto,
            predicted_loss: predicted,
            predicted_writes,
            plan_hash: plan.hash(),
            plan: Box::new(plan),
            run_kind,
        };
        if !self.commit(now, entry) {
            return None;
        }
        self.make_driver(now, looks);
        if is_drill {
            let subject = format!("run {run} started, {trigger}");
            self.notify_run(now, NoticeKind::Drill, Importance::Info, &run, subject);
            return Some(run);
        }
        let subject = format!("{} {}: run {run} started, {trigger}", scenario.severity, scenario.name);
        self.notify_run(now, NoticeKind::RunStarted, Importance::Page, &run, subject);
        Some(run)
    }

    /// Takes up the run that the last life left.
    pub(super) fn take_up_run(&mut self, now: Now) {
        let Some(run) = self.ledger.active_run() else { return };
        let looks = !run.changed() && !run.trigger.is_by_hand();
        let parked = run.steps.iter().zip(&run.plan.steps).find_map(|(step, definition)| match &step.state {
            StepState::Parked { reason } => Some(format!("it is parked at step {}: {reason}", definition.name)),
            _ => None,
        });
        let id = run.id.clone();
        // One that goes on needs nobody: a daemon that starts again and again must not page each time.
        let (kind, importance, subject) = match parked {
            Some(parked) => (NoticeKind::RunParked, Importance::Page, format!("run {id} after a restart: {parked}")),
            None => (NoticeKind::RunStarted, Importance::Info, format!("run {id} goes on after a restart")),
        };
        self.make_driver(now, looks);
        self.notify_run(now, kind, importance, &id, subject);
    }

    fn make_driver(&mut self, now: Now, looks: bool) {
        let Some(run) = self.ledger.active_run() else { return };
        let (id, count, scenario) = (run.id.clone(), run.steps.len(), run.scenario.clone());
        let gate = if looks { self.gate(now, &scenario) } else { Gate::Open };
        self.driver = Some(Driver::new(id, gate, vec![Activity::idle(); count]));
    }

    /// Moves the run on as far as it goes.
    pub(super) fn drive(&mut self, now: Now) {
        let Some(mut driver) = self.driver.take() else { return };
        // Every pass that reports progress has moved a step to a later state; the bound only
        // guards against a mistake here.
        for _ in 0..(8 * (driver.steps.len() + 1)) {
            if !self.drive_once(now, &mut driver) {
                break;
            }
        }
        let ended = self.ledger.runs.get(&driver.run).is_none_or(|run| run.ended.is_some());
        self.driver = (!ended).then_some(driver);
    }

    fn drive_once(&mut self, now: Now, driver: &mut Driver) -> bool {
        let Some(run) = self.ledger.runs.get(&driver.run).filter(|run| run.ended.is_none()) else { return false };
        if run.is_drill()
            && let Some(progress) = self.drive_drill(now, driver)
        {
            return progress;
        }
        let run = &self.ledger.runs[&driver.run];
        if run.aborting.is_some() {
            return self.drive_abort(now, driver);
        }
        let judged = run.judged.is_some();
        if run.is_through() && !run.is_drill() {
            self.end_run(now, driver, RunResult::Done);
            return false;
        }
        if self.drive_gate(now, driver) {
            return true;
        }
        let mut progress = false;
        for index in 0..driver.steps.len() {
            progress |= self.drive_step(now, driver, index);
            // What that step came to may have begun an abort. Then the others have nothing to say
            // any more: a record of theirs would not follow, and the state would be in doubt.
            let run = &self.ledger.runs[&driver.run];
            if run.aborting.is_some() || run.judged.is_some() != judged {
                return true;
            }
        }
        progress
    }

    fn drive_step(&mut self, now: Now, driver: &mut Driver, index: usize) -> bool {
        let run = &self.ledger.runs[&driver.run];
        match run.steps[index].state {
            StepState::Ended(_) | StepState::Parked { .. } | StepState::Undoing | StepState::Undone(_) => {
                driver.steps[index].doing = Doing::Idle;
                return false;
            }
            StepState::Pending | StepState::Intended | StepState::Applied(_) => {}
        }
        let paused = self.is_held();
        let activity = &driver.steps[index];
        // `resume` gives the time of a pause back to those that waited.
        let over = !paused && activity.deadline.is_some_and(|deadline| now.mono >= deadline);
        match &activity.doing {
            Doing::Idle if paused || !run.is_ready(index) => false,
            Doing::Idle => self.begin_step(now, driver, index),
            Doing::Unclear { .. } if paused => false,
            Doing::Unclear { .. } => self.begin_step(now, driver, index),
            Doing::Calling { until, .. } if now.mono < *until + BACKSTOP => false,
            Doing::Calling { call, .. } => {
                let call = *call;
                self.lost_outcome(now, driver, index, call);
                true
            }
            Doing::Ready { .. } if paused => false,
            Doing::Ready { .. } if over => self.fail_step(now, driver, index, "its time is over".to_owned()),
            Doing::Ready { before } if driver.gate.is_open() => {
                let before = before.clone();
                self.apply_step(now, driver, index, before)
            }
            Doing::Backoff { until } if now.mono >= *until && !paused => {
                self.call(now, driver, index, Phase::Observe);
                true
            }
            Doing::Waiting { until } if now.mono >= *until => {
                self.end_step(now, driver, index, done("waited".to_owned(), false));
                true
            }
            Doing::Asking { .. } if over => self.fail_step(now, driver, index, "nobody answered in time".to_owned()),
            Doing::Asking { remind: Some(at) } if now.mono >= *at => self.ask_person(now, driver, index),
            Doing::Holding { from, .. } => {
                let from = *from;
                self.drive_hold(now, driver, index, from, over)
            }
            Doing::Ready { .. } | Doing::Backoff { .. } | Doing::Waiting { .. } | Doing::Asking { .. } => false,
        }
    }

    /// Is nothing begun and nothing given up for now: all is paused, in doubt, or ending?
    pub(super) fn is_held(&self) -> bool {
        self.ledger.paused.is_some() || self.doubt.is_some() || self.ending
    }

    /// The intent first (S2), then the call.
    fn apply_step(&mut self, now: Now, driver: &mut Driver, index: usize, before: Value) -> bool {
        let run = &self.ledger.runs[&driver.run];
        let (step, ledger) = (&run.plan.steps[index], &run.steps[index]);
        let entry = Entry::StepIntent {
            run: run.id.clone(),
            step: step.name.clone(),
            attempt: ledger.attempts + 1,
            epoch: run.epoch,
            promotes: step.work.action().and_then(|spec| spec.service.clone()),
            before,
        };
        if is_broken(Sabotage::IntentOrder) {
            self.call(now, driver, index, Phase::Apply);
            return self.commit(now, entry);
        }
        if !self.commit(now, entry) {
            return false;
        }
        self.call(now, driver, index, Phase::Apply);
        true
    }

    /// Hands a phase to the executor.
    pub(super) fn call(&mut self, now: Now, driver: &mut Driver, index: usize, phase: Phase) {
        let call = self.new_call();
        let run = &self.ledger.runs[&driver.run];
        let (step, ledger) = (&run.plan.steps[index], &run.steps[index]);
        // That everything can be filled in was seen when the step began, and what has ended changes no more.
        let Ok(Some(spec)) = run.filled(index) else { return };
        let activity = &mut driver.steps[index];
        let left = activity.deadline.unwrap_or(now.mono).since(now.mono);
        let timeout = match phase {
            Phase::Observe => left.min(OBSERVE_FOR).max(LAST_OBSERVE_FOR),
            Phase::Apply | Phase::Compensate => left.min(APPLY_FOR).max(LAST_OBSERVE_FOR),
            Phase::Verify => left.max(LAST_OBSERVE_FOR),
        };
        let effect = StepCall {
            call,
            run: run.id.clone(),
            step: step.name.clone(),
            attempt: ledger.attempts,
            epoch: run.epoch,
            phase,
            spec,
            before: ledger.before.clone(),
            timeout,
            estimate: step.estimate.get(),
        };
        activity.doing = Doing::Calling { call, phase, until: now.mono + timeout };
        self.effects.push(crate::core::Effect::Call(Box::new(effect)));
    }

    /// The step is over; what comes after it may start.
    pub(super) fn end_step(&mut self, now: Now, driver: &mut Driver, index: usize, end: StepEnd) {
        let step = self.ledger.runs[&driver.run].plan.steps[index].name.clone();
        let took = now.mono.since(driver.steps[index].started.unwrap_or(now.mono));
        driver.steps[index].doing = Doing::Idle;
        let was = self.ledger.runs[&driver.run].is_recovered();
        self.commit(now, Entry::StepEnded { run: driver.run.clone(), step, end, took });
        self.tell_recovery(now, &driver.run, was);
    }

    /// Where steps follow that do not belong to the recovery, people are told when that is over.
    pub(super) fn tell_recovery(&mut self, now: Now, run: &RunId, was: bool) {
        let Some(run) = self.ledger.runs.get(run).filter(|run| !was && run.is_recovered()) else { return };
        let left = run.steps.iter().filter(|step| !step.is_over()).count();
        if left == 0 || run.is_drill() {
            return;
        }
        let took = crate::model::HumanDuration(now.wall.since(run.outage_start));
        let subject = format!(
            "run {} has recovered, {took} after the outage began (RTO {}); {left} steps after the recovery follow",
            run.id, run.rto
        );
        let id = run.id.clone();
        self.notify_run(now, NoticeKind::RunRecovered, Importance::Page, &id, subject);
    }

    pub(super) fn end_run(&mut self, now: Now, driver: &Driver, result: RunResult) {
        if !self.commit(now, Entry::RunEnded { run: driver.run.clone(), result }) {
            return;
        }
        let Some(run) = self.ledger.runs.get(&driver.run) else { return };
        let recovered = run.recovered_at().unwrap_or(now.wall);
        let took = crate::model::HumanDuration(recovered.since(run.outage_start));
        let subject = match result {
            RunResult::Done => format!("run {} done, {took} after the outage began (RTO {})", run.id, run.rto),
            RunResult::Aborted => {
                let by = run.aborting.as_ref().map_or("", |(by, _)| by.as_str());
                format!("run {} aborted: {by}{}", run.id, not_undone(run))
            }
        };
        let id = run.id.clone();
        self.notify_run(now, NoticeKind::RunEnded, Importance::Page, &id, subject);
        self.note_evidence();
    }

    /// Tells people of a run, and of its incident.
    pub(super) fn notify_run(
        &mut self,
        now: Now,
        kind: NoticeKind,
        importance: Importance,
        run: &RunId,
        subject: String,
    ) {
        let is_drill = self.ledger.runs.get(run).is_some_and(RunLedger::is_drill);
        let subject = if is_drill && !subject.starts_with("drill") { format!("drill: {subject}") } else { subject };
        let incident = self.ledger.runs.get(run).and_then(|run| run.incident.as_ref());
        let incident = incident.and_then(|incident| self.ledger.incidents.get(incident)).cloned();
        self.notify(now, kind, importance, incident.as_ref(), subject);
        if let Some(crate::core::Effect::Notify(notice)) = self.effects.last_mut() {
            notice.run = Some(run.clone());
            notice.scenario = self.ledger.runs.get(run).map(|run| run.scenario.clone());
        }
    }
}

pub(super) fn done(evidence: String, already: bool) -> StepEnd {
    StepEnd::Done { evidence, already, outputs: crate::model::Outputs::new() }
}

/// The steps whose change stands although the run was aborted.
fn not_undone(run: &RunLedger) -> String {
    let names: Vec<&str> = run
        .intended
        .iter()
        .filter(|index| !matches!(run.steps[**index].state, StepState::Undone(crate::model::Applied::Accepted { .. })))
        .map(|index| run.plan.steps[*index].name.as_str())
        .collect();
    if names.is_empty() { String::new() } else { format!("; NOT undone: {}", names.join(", ")) }
}

/// The place of a step by its name, for the commands.
pub(super) fn find(run: &RunLedger, step: &crate::model::StepName) -> Option<(usize, Step)> {
    run.index(step).map(|index| (index, run.plan.steps[index].clone()))
}
