//! What operators ask for: checked, written down, done or refused with the reason.

use super::brain::Brain;
use super::event::{Answer, Command, Refusal};
use super::given::given;
use super::incident::Incident;
use super::run::{Doing, done, find};
use super::run_ledger::StepState;
use crate::model::{
    Condition, Entry, Epoch, Given, HumanDuration, Importance, IncidentId, Mode, NoticeKind, Now, Plan, PlanHash,
    RunId, RunKind, ScenarioName, ScenarioSettings, StepEnd, StepName, Trigger, Work,
};

pub(super) fn refuse(code: &str, message: impl Into<String>) -> Refusal {
    Refusal { code: code.to_owned(), message: message.into() }
}

fn say(text: impl Into<String>) -> Answer {
    Answer { text: text.into(), run: None }
}

impl Brain {
    /// Carries out a command; in any case it is in the journal (S13).
    pub(super) fn command(&mut self, now: Now, by: &str, command: Command) -> Result<Answer, Refusal> {
        let text = serde_json::to_string(&command).unwrap_or_default();
        let reply = match command.clone() {
            Command::Pause => self.pause(now, by),
            Command::Resume => self.resume(now, by),
            Command::Mode { mode } => self.set_mode(now, by, mode),
            Command::Ack { incident } => self.ack(now, by, incident),
            Command::Approve { incident, plan_hash, epoch, allow_data_loss } => {
                self.answer(now, by, &incident, true, (plan_hash, epoch), allow_data_loss)
            }
            Command::Deny { incident } => self.answer(now, by, &incident, false, (None, None), None),
            Command::Failover { .. } => self.failover(now, by, &command),
            Command::Failback { scenario, discard } => match self.scenario(&scenario) {
                Ok(scenario) => self.failback(now, by, &scenario, discard),
                Err(refusal) => Err(refusal),
            },
            Command::Execute { .. } => self.execute(now, by, &command),
            Command::Drill { plan, target } => self.drill_by_hand(now, by, &plan, target.as_ref()),
            Command::Abort { run } => self.abort(now, by, run),
            Command::StepRetry { run, step } => self.step_retry(now, by, run, &step),
            Command::StepSkip { run, step } => self.step_skip(now, by, run, &step),
            Command::StepApprove { run, step } => self.step_approve(now, by, run, &step),
            Command::DutyDone { incident, duty, note } => self.duty_done(now, by, &incident, &duty, note),
            Command::HandOver { to } => self.hand_over(to),
            Command::Grade { incident, grade, note } => self.grade(now, by, &incident, grade, note),
            Command::StepDone { run, step, note } => self.step_done(now, by, run, &step, note.as_deref()),
        };
        let result = match &reply {
            Ok(answer) => answer.text.clone(),
            Err(refusal) => format!("refused: {}", refusal.message),
        };
        self.commit(now, Entry::Command { by: by.to_owned(), command: text, result });
        reply
    }

    fn pause(&mut self, now: Now, by: &str) -> Result<Answer, Refusal> {
        if let Some(who) = &self.ledger.paused {
            return Ok(say(format!("already paused by {who}")));
        }
        self.commit(now, Entry::Paused { by: by.to_owned() });
        Ok(say("paused: no run and no step is started until `failoverd resume`; a step that is under way finishes"))
    }

    fn resume(&mut self, now: Now, by: &str) -> Result<Answer, Refusal> {
        if self.ledger.paused.is_none() {
            return Ok(say("not paused"));
        }
        self.commit(now, Entry::Resumed { by: by.to_owned() });
        // The time that a step waited for a person is not its own.
        if let Some(driver) = &mut self.driver {
            let waited = |doing: &Doing| {
                matches!(
                    doing,
                    Doing::Unclear { .. }
                        | Doing::Ready { .. }
                        | Doing::Backoff { .. }
                        | Doing::Asking { .. }
                        | Doing::Holding { .. }
                )
            };
            for activity in driver.steps.iter_mut().filter(|activity| waited(&activity.doing)) {
                let timeout = activity.deadline.zip(activity.started).map(|(end, start)| end.since(start));
                activity.deadline = timeout.map(|timeout| now.mono + timeout);
            }
        }
        Ok(say("resumed"))
    }

    fn set_mode(&mut self, now: Now, by: &str, mode: Option<Mode>) -> Result<Answer, Refusal> {
        self.commit(now, Entry::ModeSet { mode, by: by.to_owned() });
        Ok(say(match mode {
            Some(mode) => {
                format!("mode is {mode} until it is set again; a scenario's own mode can only be more careful")
            }
            None => format!("mode is the configuration's again: {}", self.settings.mode),
        }))
    }

    fn incident(&self, id: &IncidentId) -> Result<Incident, Refusal> {
        let incident = self.ledger.incidents.get(id);
        let incident = incident.ok_or_else(|| refuse("not_found", format!("there is no incident {id}")))?;
        if incident.closed.is_some() {
            return Err(refuse("not_now", format!("incident {id} is closed")));
        }
        Ok(incident.clone())
    }

    fn ack(&mut self, now: Now, by: &str, id: IncidentId) -> Result<Answer, Refusal> {
        let incident = self.incident(&id)?;
        if let Some(who) = incident.acknowledged_by {
            return Ok(say(format!("already acknowledged by {who}")));
        }
        let acknowledged = Entry::IncidentAcknowledged { incident: id.clone(), by: by.to_owned() };
        if self.commit(now, acknowledged) {
            let incident = self.ledger.incidents.get(&id).cloned();
            let subject = format!("{id} acknowledged by {by}");
            self.notify(now, NoticeKind::IncidentAcknowledged, Importance::Info, incident.as_ref(), subject);
        }
        Ok(say(format!("{id} acknowledged")))
    }

    fn answer(
        &mut self,
        now: Now,
        by: &str,
        id: &IncidentId,
        approved: bool,
        (shown, epoch): (Option<PlanHash>, Option<Epoch>),
        allow_data_loss: Option<HumanDuration>,
    ) -> Result<Answer, Refusal> {
        let incident = self.incident(id)?;
        let scenario = self.scenario(&incident.scenario)?;
        let plan_hash = self.plan_hash(&scenario).cloned();
        let plan_hash =
            plan_hash.ok_or_else(|| refuse("guard", format!("scenario {} names no plan", scenario.name)))?;
        if let Some(shown) = shown.filter(|shown| *shown != plan_hash) {
            return Err(refuse(
                "guard",
                format!("the plan is {} now, not {}: look at it again", plan_hash.short(), shown.short()),
            ));
        }
        if let Some(epoch) = epoch.filter(|epoch| *epoch != self.ledger.epoch.next()) {
            return Err(refuse("guard", format!("it was asked under epoch {epoch}, and runs were started since")));
        }
        if let Some(run) = self.ledger.runs.values().find(|run| run.incident.as_ref() == Some(id) && run.counts()) {
            let hint = if run.ended.is_none() { "; `failoverd abort` stops it" } else { "" };
            return Err(refuse("not_now", format!("run {} was started for {id}{hint}", run.id)));
        }
        let loss_shown = self.loss_shown(&scenario, now.mono);
        self.commit(
            now,
            Entry::ApprovalAnswered {
                incident: id.clone(),
                by: by.to_owned(),
                approved,
                plan_hash,
                epoch: self.ledger.epoch.next(),
                allow_data_loss,
                loss_shown,
                predicted: self.loss_now(&scenario, now.mono),
            },
        );
        // What follows from the answer is decided now, so that the person is told the truth.
        self.evaluate(now);
        let incident = self.ledger.incidents[id].clone();
        let missing = self.still_missing(now, &scenario, &incident);
        let run = incident.run.filter(|_| approved);
        let text = match (&run, approved, incident.decision) {
            (Some(run), ..) => format!("approved: run {run} started"),
            (None, true, _) if missing.is_some() => format!("approved: {} to say yes", missing.unwrap_or_default()),
            (None, true, Some(decision)) => format!("approved, valid for 10 minutes, but not started yet: {decision}"),
            (None, true, None) => "approved".to_owned(),
            (None, false, _) => format!("denied: {id} is not acted upon unless it is approved after all"),
        };
        Ok(Answer { text, run })
    }

    fn scenario(&self, name: &ScenarioName) -> Result<ScenarioSettings, Refusal> {
        self.settings.scenario(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.settings.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
            refuse("not_found", format!("there is no scenario {name}; there are: {}", known.join(", ")))
        })
    }

    /// By hand: neither the condition nor its confirmation, the start-up grace, the cool-down and
    /// the limit are asked. What protects the data is.
    fn failover(&mut self, now: Now, by: &str, command: &Command) -> Result<Answer, Refusal> {
        let Command::Failover { scenario: name, .. } = command else { return Err(refuse("internal", "no failover")) };
        let scenario = self.scenario(name)?;
        let plan = scenario.plan.as_ref().and_then(|plan| self.settings.plan(plan));
        let plan = plan.ok_or_else(|| refuse("guard", format!("scenario {name} names no plan")))?;
        let plan = plan.with(&Given::new()).map_err(|why| refuse("guard", why))?;
        self.by_hand(now, by, &scenario, plan, command)
    }

    /// Carries out a plan, with its parameters. Where a scenario names the plan, what protects that
    /// scenario's data is asked as for `failover`.
    fn execute(&mut self, now: Now, by: &str, command: &Command) -> Result<Answer, Refusal> {
        let Command::Execute { plan: name, parameters, allow_data_loss, .. } = command else {
            return Err(refuse("internal", "no plan to carry out"));
        };
        let Some(plan) = self.settings.plan(name) else {
            let known: Vec<&str> = self.settings.plans.iter().map(|plan| plan.name.as_str()).collect();
            return Err(refuse("not_found", format!("there is no plan {name}; there are: {}", known.join(", "))));
        };
        let plan = given(plan, parameters, &self.action_check).map_err(|why| refuse("bad_parameters", why))?;
        let of_plan = self.settings.scenarios.iter().filter(|scenario| scenario.plan.as_ref() == Some(name));
        // The one that has an incident now, else the first that names it.
        let scenario = of_plan
            .clone()
            .find(|scenario| self.ledger.open_incident(&scenario.name).is_some())
            .or_else(|| of_plan.clone().next())
            .cloned();
        let promotes = |step: &crate::model::Step| step.work.action().is_some_and(|spec| spec.service.is_some());
        // S5: of a plan that no scenario names, nothing tells how far the replica is behind.
        if scenario.is_none() && allow_data_loss.is_none() && plan.steps.iter().any(promotes) {
            let what = format!(
                "plan {name} promotes a replica, and no scenario names it, so that nobody knows what would be lost \
                 (--allow-data-loss DURATION accepts it)"
            );
            return Err(refuse("guard", what));
        }
        let scenario = scenario.unwrap_or_else(|| self.scenario_of(&plan));
        self.by_hand(now, by, &scenario, plan, command)
    }

    /// What stands for the scenario of a plan that none names.
    pub(super) fn scenario_of(&self, plan: &Plan) -> ScenarioSettings {
        let estimate = || super::plan::critical_path(plan, |step| step.estimate.get()).total;
        ScenarioSettings {
            name: plan.name.as_str().into(),
            severity: crate::model::Severity("by hand".into()),
            service: self.settings.name.as_str().into(),
            mode: Mode::Auto,
            on_no_answer: crate::model::OnNoAnswer::Hold,
            when: Condition::Any(Vec::new()),
            unless: Vec::new(),
            requires: Vec::new(),
            confirm_for: HumanDuration::ZERO,
            lower_layers_first: None,
            rto: plan.rto.unwrap_or_else(|| HumanDuration(estimate())),
            rpo: None,
            replication: Vec::new(),
            ask_replicas: false,
            approvals: 1,
            failback: None,
            plan: Some(plan.name.clone()),
        }
    }

    fn by_hand(
        &mut self,
        now: Now,
        by: &str,
        scenario: &ScenarioSettings,
        plan: Plan,
        command: &Command,
    ) -> Result<Answer, Refusal> {
        let (kind, allow_data_loss) = match command {
            Command::Execute { kind, allow_data_loss, .. } => (*kind, *allow_data_loss),
            Command::Failover { allow_data_loss, .. } => (RunKind::Ungraceful, *allow_data_loss),
            _ => (RunKind::Ungraceful, None),
        };
        if self.mode_of(scenario) == Mode::AlertOnly {
            let what = "alert-only: `failoverd mode approve` first, or change the mode in the configuration";
            return Err(refuse("guard", what));
        }
        let incident = self.ledger.open_incident(&scenario.name).cloned();
        let mut guards = self.standing_guards(now, scenario);
        guards.extend(self.target_guards(now, scenario, incident.as_ref(), true));
        let allowed = allow_data_loss.map(|loss| (loss, self.loss_shown(scenario, now.mono)));
        let loss = self.data_loss(scenario, now.mono, allowed);
        let reason =
            guards.into_iter().filter(|guard| guard.name != "data_loss").find_map(|guard| guard.holds).or(loss);
        if let Some(reason) = reason {
            let hint = match reason {
                crate::model::HoldReason::LagAboveRpo { .. } | crate::model::HoldReason::LagUnknown { .. } => {
                    " (--allow-data-loss DURATION accepts it)"
                }
                _ => "",
            };
            return Err(refuse("guard", format!("{reason}{hint}")));
        }
        let by = match self.second(now, by, scenario, plan.hash(), command)? {
            Ok(by) => by,
            Err(waits) => return Ok(waits),
        };
        let trigger = Trigger::Manual { by, allow_data_loss: allow_data_loss.map(HumanDuration::get) };
        match self.start_plan(now, scenario, incident.as_ref(), trigger, plan, kind) {
            Some(run) => Ok(Answer { text: format!("run {run} started"), run: Some(run) }),
            None => Err(refuse("guard", "the run could not be started; see `failoverd explain`")),
        }
    }

    fn active(&self, run: Option<RunId>) -> Result<RunId, Refusal> {
        let active = self.ledger.active_run().map(|run| run.id.clone());
        match (run, active) {
            (None, Some(active)) => Ok(active),
            (None, None) => Err(refuse("not_now", "no run is active")),
            (Some(run), Some(active)) if run == active => Ok(run),
            (Some(run), _) if self.waiting_drill().is_some_and(|waiting| waiting.id == run) => {
                Err(refuse("not_now", format!("drill {run} gave way; it cleans up once the other run is over")))
            }
            (Some(run), _) if self.ledger.runs.contains_key(&run) => {
                Err(refuse("not_now", format!("run {run} has ended")))
            }
            (Some(run), _) => Err(refuse("not_found", format!("there is no run {run}"))),
        }
    }

    fn abort(&mut self, now: Now, by: &str, run: Option<RunId>) -> Result<Answer, Refusal> {
        let id = self.active(run)?;
        let run = &self.ledger.runs[&id];
        if run.aborting.is_some() {
            return Ok(Answer { text: format!("run {id} is aborting already"), run: Some(id) });
        }
        if run.is_drill() {
            return Ok(self.abort_drill(now, by, id));
        }
        // Also where it was only seen to stand so far: somebody has promoted by hand.
        if run.past_no_return() || self.driver.as_ref().is_some_and(|driver| driver.found_past(run)) {
            let step = run.plan.point_of_no_return.as_ref().map_or("", StepName::as_str);
            return Err(refuse(
                "point_of_no_return",
                format!(
                    "run {id} is past its point of no return (step {step}): it can only go forward. \
                     `failoverd pause` stops it at the next step"
                ),
            ));
        }
        self.commit(now, Entry::RunAborting { run: id.clone(), by: by.to_owned(), compensate: true });
        Ok(Answer { text: format!("aborting run {id}: what was done is undone, in the reverse order"), run: Some(id) })
    }

    fn step(&self, run: Option<RunId>, name: &StepName) -> Result<(RunId, usize), Refusal> {
        let id = self.active(run)?;
        let run = &self.ledger.runs[&id];
        if run.aborting.is_some() && !run.is_drill() {
            return Err(refuse("not_now", format!("run {id} is aborting")));
        }
        let (index, _) = find(run, name).ok_or_else(|| refuse("not_found", format!("run {id} has no step {name}")))?;
        Ok((id, index))
    }

    fn step_retry(&mut self, now: Now, by: &str, run: Option<RunId>, name: &StepName) -> Result<Answer, Refusal> {
        let (id, index) = self.step(run, name)?;
        if !matches!(self.ledger.runs[&id].steps[index].state, StepState::Parked { .. }) {
            return Err(refuse("not_now", format!("step {name} is not parked")));
        }
        self.commit(now, Entry::StepUnparked { run: id.clone(), step: name.clone(), by: by.to_owned() });
        if let Some(driver) = &mut self.driver {
            driver.steps[index] = super::run::Activity::idle();
        }
        Ok(Answer { text: format!("step {name} is tried again: it looks first"), run: Some(id) })
    }

    fn step_skip(&mut self, now: Now, by: &str, run: Option<RunId>, name: &StepName) -> Result<Answer, Refusal> {
        let (id, index) = self.step(run, name)?;
        if !matches!(self.ledger.runs[&id].steps[index].state, StepState::Parked { .. }) {
            return Err(refuse("not_now", format!("step {name} is not parked: only a parked step can be skipped")));
        }
        let end = StepEnd::Skipped { by: by.to_owned() };
        self.end_by_hand(now, &id, index, name, end);
        Ok(Answer { text: format!("step {name} skipped; the run goes on without it"), run: Some(id) })
    }

    fn step_approve(&mut self, now: Now, by: &str, run: Option<RunId>, name: &StepName) -> Result<Answer, Refusal> {
        let (id, index) = self.step(run, name)?;
        let run = &self.ledger.runs[&id];
        let asks = matches!(run.plan.steps[index].work, Work::Approval { .. });
        let waits = matches!(run.steps[index].state, StepState::Pending | StepState::Parked { .. });
        if !asks || !waits || !run.is_ready(index) {
            return Err(refuse("not_now", format!("step {name} does not wait for an approval")));
        }
        self.end_by_hand(now, &id, index, name, done(format!("approved by {by}"), false));
        Ok(Answer { text: format!("step {name} approved"), run: Some(id) })
    }

    /// A task was done; also one of a run that has ended.
    fn step_done(
        &mut self,
        now: Now,
        by: &str,
        run: Option<RunId>,
        name: &StepName,
        note: Option<&str>,
    ) -> Result<Answer, Refusal> {
        let id = self.run_of_task(run, name)?;
        let run = &self.ledger.runs[&id];
        let Some((index, _)) = find(run, name) else {
            return Err(refuse("not_found", format!("run {id} has no step {name}")));
        };
        let waits = matches!(run.steps[index].state, StepState::Pending | StepState::Parked { .. });
        if !matches!(run.plan.steps[index].work, Work::Task { .. }) || !waits || !run.is_ready(index) {
            return Err(refuse("not_now", format!("step {name} is no task that waits for somebody")));
        }
        let note = note.map(|note| format!(": {}", note.chars().take(1000).collect::<String>())).unwrap_or_default();
        self.end_by_hand(now, &id, index, name, done(format!("done by {by}{note}"), false));
        Ok(Answer { text: format!("task {name} of run {id} is done"), run: Some(id) })
    }

    /// The run that is meant: the one named, else the active one, else the one that left such a task open.
    fn run_of_task(&self, run: Option<RunId>, name: &StepName) -> Result<RunId, Refusal> {
        if let Some(run) = run {
            let known = self.ledger.runs.contains_key(&run);
            return if known { Ok(run) } else { Err(refuse("not_found", format!("there is no run {run}"))) };
        }
        let active = self.ledger.active_run().filter(|run| run.index(name).is_some()).map(|run| run.id.clone());
        let mut open: Vec<RunId> =
            self.tasks().into_iter().filter(|task| task.step == *name).map(|task| task.run).collect();
        match (active, open.len()) {
            (Some(active), _) => Ok(active),
            (None, 1) => Ok(open.remove(0)),
            (None, 0) => Err(refuse("not_found", format!("no task {name} is open"))),
            (None, _) => Err(refuse("not_found", format!("several runs left a task {name} open: name one with --run"))),
        }
    }

    fn end_by_hand(&mut self, now: Now, run: &RunId, index: usize, step: &StepName, end: StepEnd) {
        let of_driver = self.driver.as_ref().filter(|driver| driver.run == *run);
        let started = of_driver.and_then(|driver| driver.steps[index].started);
        let took = now.mono.since(started.unwrap_or(now.mono));
        let was = self.ledger.runs[run].is_recovered();
        self.commit(now, Entry::StepEnded { run: run.clone(), step: step.clone(), end, took });
        self.tell_recovery(now, run, was);
    }
}
