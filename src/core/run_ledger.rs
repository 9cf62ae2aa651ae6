//! One run in the ledger: `match (state, record)`, and every other pair is an error.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{
    Applied, Divergence, DrillPart, DrillTerms, DrillVerdict, EffectKind, Entry, Epoch, HumanDuration, IncidentId,
    Outputs, Plan, PlanHash, RunId, RunKind, RunResult, ScenarioName, ServiceName, StepEnd, StepName, Trigger,
    VoteEvidence, WallTime, Writes,
};

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunLedger {
    /// Its id.
    pub id: RunId,
    /// Its incident.
    pub incident: Option<IncidentId>,
    /// Its scenario.
    pub scenario: ScenarioName,
    /// The service that it moves.
    pub service: ServiceName,
    /// Its epoch.
    pub epoch: Epoch,
    /// What started it.
    pub trigger: Trigger,
    /// The votes at that instant.
    pub votes: Vec<VoteEvidence>,
    /// The first bad observation.
    pub outage_start: WallTime,
    /// The recovery-time objective.
    pub rto: HumanDuration,
    /// The loss of data predicted at that instant.
    pub predicted_loss: Option<HumanDuration>,
    /// How much that is.
    #[serde(default)]
    pub predicted_writes: Writes,
    /// What was really lost, as the old primaries told when they were seen again.
    #[serde(default)]
    pub measured: Vec<Divergence>,
    /// The hash of its plan.
    pub plan_hash: PlanHash,
    /// Its plan, pinned (S9).
    pub plan: Plan,
    /// How it goes about it.
    pub kind: RunKind,
    /// When it began.
    pub started: WallTime,
    /// Its steps, in the order of the plan.
    pub steps: Vec<StepLedger>,
    /// The steps whose apply was intended, in that order; undone in the reverse one.
    pub intended: Vec<usize>,
    /// Who or what aborts it, and whether what was done is undone.
    pub aborting: Option<(String, bool)>,
    /// How and when it ended.
    pub ended: Option<(RunResult, WallTime)>,
    /// Of a drill whose rehearsed part is over: what came of it, when, and how long the recovery took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
    /// Of a drill that gave way to another run: to what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<String>,
}

/// What came of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// What.
    pub verdict: DrillVerdict,
    /// When.
    pub at: WallTime,
    /// From its start to the end of what belongs to the recovery.
    pub took: Option<HumanDuration>,
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLedger {
    /// Where it stands.
    pub state: StepState,
    /// How many applies were intended.
    pub attempts: u32,
    /// How many of these were before the newest `retry` of a person.
    pub forgiven: u32,
    /// What stood before the first apply.
    pub before: Value,
    /// When the newest record of it was written.
    pub changed: Option<WallTime>,
    /// From its start to its end.
    pub took: Option<Duration>,
}

/// Where a step stands, durably.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Nothing was done.
    Pending,
    /// The outside may have been changed.
    Intended,
    /// The apply came to this.
    Applied(Applied),
    /// It waits for a person.
    Parked {
        /// Why.
        reason: String,
    },
    /// It is over.
    Ended(StepEnd),
    /// It is being undone.
    Undoing,
    /// Undoing it came to this.
    Undone(Applied),
}

impl StepLedger {
    /// Is it over, so that those after it may start?
    pub fn is_over(&self) -> bool {
        matches!(self.state, StepState::Ended(_))
    }
}

impl RunLedger {
    /// Starts one from its record.
    pub(super) fn start(at: WallTime, entry: &Entry) -> Result<Self, String> {
        let Entry::RunStarted {
            run,
            incident,
            scenario,
            service,
            epoch,
            trigger,
            votes,
            outage_start,
            rto,
            predicted_loss,
            predicted_writes,
            plan_hash,
            plan,
            run_kind,
        } = entry
        else {
            return Err("not a start".into());
        };
        if plan.hash() != *plan_hash {
            return Err(format!("the plan's hash is not {plan_hash}"));
        }
        let blank = StepLedger {
            state: StepState::Pending,
            attempts: 0,
            forgiven: 0,
            before: Value::Null,
            changed: None,
            took: None,
        };
        Ok(Self {
            id: run.clone(),
            incident: incident.clone(),
            scenario: scenario.clone(),
            service: service.clone(),
            epoch: *epoch,
            trigger: trigger.clone(),
            votes: votes.clone(),
            outage_start: *outage_start,
            rto: *rto,
            predicted_loss: *predicted_loss,
            predicted_writes: *predicted_writes,
            measured: Vec::new(),
            plan_hash: plan_hash.clone(),
            steps: vec![blank; plan.steps.len()],
            plan: (**plan).clone(),
            kind: *run_kind,
            started: at,
            intended: Vec::new(),
            aborting: None,
            ended: None,
            judged: None,
            set_aside: None,
        })
    }

    /// The place of a step in the plan.
    pub fn index(&self, step: &StepName) -> Option<usize> {
        self.plan.steps.iter().position(|candidate| candidate.name == *step)
    }

    /// Was any change intended, messages aside?
    pub fn changed(&self) -> bool {
        self.intended.iter().any(|index| {
            let effect = self.plan.steps[*index].work.action().map(|spec| spec.effect);
            !matches!(effect, Some(EffectKind::Notify | EffectKind::Verify))
        })
    }

    /// Does it count: for the cool-down, for the limit, and as the one run of its incident? All do
    /// but those that a last look ended before anything was changed; to have told people is no
    /// failover. One that a person aborted does: it must not begin again by itself. A drill never does.
    pub fn counts(&self) -> bool {
        let ended_by_a_look = self.aborting.as_ref().is_some_and(|(_, compensate)| !*compensate);
        !self.is_drill() && (self.changed() || !ended_by_a_look)
    }

    /// What it is bound to, where it is a drill.
    pub fn drill(&self) -> Option<&DrillTerms> {
        match &self.trigger {
            Trigger::Drill { terms, .. } => Some(terms),
            Trigger::Automatic
            | Trigger::Approved { .. }
            | Trigger::NoAnswer
            | Trigger::Manual { .. }
            | Trigger::Failback { .. } => None,
        }
    }

    /// Is it a rehearsal?
    pub fn is_drill(&self) -> bool {
        self.drill().is_some()
    }

    /// Does the step clean up after a drill?
    pub(super) fn is_cleanup(&self, index: usize) -> bool {
        self.plan.steps[index].terms.drill == DrillPart::Cleanup
    }

    /// Is nothing more begun of this step? What its calls still come to is written down.
    pub(super) fn is_stopped(&self, index: usize) -> bool {
        self.aborting.is_some() || (self.judged.is_some() && !self.is_cleanup(index))
    }

    /// How the journal signs an abort that the failure of a step began.
    pub(super) fn by_failure(&self, index: usize, reason: &str) -> String {
        format!("step {} failed: {reason}", self.plan.steps[index].name)
    }

    /// Did the failure of a step begin the abort, and no person?
    pub(super) fn aborts_by_failure(&self) -> bool {
        let signed = |by: &str| (0..self.plan.steps.len()).any(|index| by.starts_with(&self.by_failure(index, "")));
        self.aborting.as_ref().is_some_and(|(by, _)| signed(by))
    }

    /// Was the point of no return intended, or found to be behind us (somebody promoted by hand)?
    pub fn past_no_return(&self) -> bool {
        self.plan.point_of_no_return.as_ref().and_then(|step| self.index(step)).is_some_and(|index| {
            self.intended.contains(&index) || matches!(self.steps[index].state, StepState::Ended(StepEnd::Done { .. }))
        })
    }

    /// Have all steps before this one ended? For one that comes after the recovery, also all that
    /// belong to it.
    pub fn is_ready(&self, index: usize) -> bool {
        let step = &self.plan.steps[index];
        if self.judged.is_some() || self.is_cleanup(index) {
            // A drill cleans up whatever became of what it rehearsed, in the order of its cleanup.
            let waits = |before: usize| self.is_cleanup(before) && !self.steps[before].is_over();
            return self.judged.is_some()
                && self.is_cleanup(index)
                && !step.after.iter().filter_map(|before| self.index(before)).any(waits);
        }
        step.after.iter().all(|before| self.index(before).is_some_and(|before| self.steps[before].is_over()))
            && (!step.terms.post_recovery || self.is_recovered())
    }

    /// Has all ended that belongs to the recovery?
    pub fn is_recovered(&self) -> bool {
        self.plan.steps.iter().zip(&self.steps).all(|(step, ledger)| step.terms.post_recovery || ledger.is_over())
    }

    /// Were enough of these steps done? What was left out is not missed. All that they hand on is handed
    /// on; of what several hand on under one name, the last.
    pub(super) fn gathered(&self, of: &[StepName], minimum: usize) -> Result<StepEnd, String> {
        let (mut done, mut outputs, mut failed) = (0, Outputs::new(), Vec::new());
        for name in of {
            match self.index(name).map(|index| &self.steps[index].state) {
                Some(StepState::Ended(StepEnd::Done { outputs: own, .. })) => {
                    done += 1;
                    outputs.extend(own.clone());
                }
                Some(StepState::Ended(StepEnd::Skipped { .. })) => {}
                _ => failed.push(name.as_str()),
            }
        }
        let evidence = if of.is_empty() { "it holds".into() } else { format!("{done} of {} done", of.len()) };
        if done >= minimum.min(done + failed.len()) {
            return Ok(StepEnd::Done { evidence, already: false, outputs });
        }
        Err(format!("{evidence}, and {minimum} are needed; not done: {}", failed.join(", ")))
    }

    /// When the recovery was over: the end of its last step.
    pub fn recovered_at(&self) -> Option<WallTime> {
        let of_recovery = self.plan.steps.iter().zip(&self.steps).filter(|(step, _)| !step.terms.post_recovery);
        of_recovery.map(|(_, ledger)| ledger.changed).max().flatten().filter(|_| self.is_recovered())
    }

    /// Applies a record of this run.
    pub(super) fn apply(&mut self, at: WallTime, entry: &Entry) -> Result<(), String> {
        let of_task = |step: &StepName| self.index(step).is_some_and(|index| self.is_standing_task(index));
        match (&self.ended, entry) {
            (None, _) => {}
            (Some((RunResult::Done, _)), Entry::StepEnded { step, .. }) if of_task(step) => {}
            (Some((RunResult::Done, _)), Entry::LossMeasured { .. }) => {}
            (Some(_), _) => return Err(format!("run {} has ended", self.id)),
        }
        if let Some(by) = &self.set_aside {
            return Err(format!("run {} was set aside: {by}", self.id));
        }
        match entry {
            Entry::DrillJudged { .. } | Entry::RunSetAside { .. } => self.apply_to_drill(at, entry),
            Entry::RunAborting { by, compensate, .. } => {
                if self.aborting.is_some() {
                    return Err("it is aborting already".into());
                }
                // What a drill has passed is a stand-in's.
                if self.past_no_return() && !self.is_drill() {
                    return Err("it is past its point of no return".into());
                }
                self.aborting = Some((by.clone(), *compensate));
                Ok(())
            }
            Entry::RunEnded { result, .. } => {
                match (result, &self.aborting) {
                    _ if self.is_drill() && self.drill_result() == Some(*result) => {}
                    (RunResult::Done, None) if self.is_through() => {}
                    (RunResult::Aborted, Some(_)) => {}
                    _ => return Err(format!("it cannot end as {result} now")),
                }
                self.ended = Some((*result, at));
                Ok(())
            }
            Entry::LossMeasured { divergence, .. } => {
                if self.ended.is_none() {
                    return Err("it has not ended".into());
                }
                // Of the same pair the newest word counts: an old primary that still takes writes has more.
                self.measured.retain(|known| (&known.old, &known.new) != (&divergence.old, &divergence.new));
                self.measured.push(divergence.clone());
                Ok(())
            }
            Entry::StepIntent { step, attempt, epoch, promotes, before, .. } => {
                self.apply_intent(at, step, *attempt, *epoch, promotes.as_ref(), before)
            }
            Entry::StepApplied { step, .. }
            | Entry::StepParked { step, .. }
            | Entry::StepUnparked { step, .. }
            | Entry::StepEnded { step, .. }
            | Entry::CompensationIntent { step, .. }
            | Entry::CompensationEnded { step, .. } => self.apply_to_step(at, step, entry),
            _ => Err("not a record of a run".into()),
        }
    }

    fn apply_intent(
        &mut self,
        at: WallTime,
        name: &StepName,
        attempt: u32,
        epoch: Epoch,
        promotes: Option<&ServiceName>,
        before: &Value,
    ) -> Result<(), String> {
        let index = self.index(name).ok_or(format!("there is no step {name}"))?;
        if self.aborting.is_some() {
            return Err("the run is aborting".into());
        }
        if epoch != self.epoch {
            return Err(format!("its epoch is {}, not {epoch}", self.epoch));
        }
        if !self.is_ready(index) {
            return Err(format!("a step before {name} has not ended"));
        }
        if let Some(service) = promotes
            && let Some(other) = self.intended.iter().find(|other| {
                **other != index
                    && self.plan.steps[**other].work.action().is_some_and(|spec| spec.service.as_ref() == Some(service))
            })
        {
            return Err(format!(
                "step {} has promoted a replica of {service} in epoch {epoch} (S1)",
                self.plan.steps[*other].name
            ));
        }
        let step = &mut self.steps[index];
        if attempt != step.attempts + 1 {
            return Err(format!("attempt {attempt} does not follow attempt {}", step.attempts));
        }
        match &step.state {
            StepState::Pending | StepState::Applied(_) => {}
            other => return Err(format!("an intent in state {other:?}")),
        }
        if step.before.is_null() {
            step.before = before.clone();
        }
        step.attempts = attempt;
        step.state = StepState::Intended;
        step.changed = Some(at);
        if !self.intended.contains(&index) {
            self.intended.push(index);
        }
        Ok(())
    }

    fn apply_to_step(&mut self, at: WallTime, name: &StepName, entry: &Entry) -> Result<(), String> {
        let index = self.index(name).ok_or(format!("there is no step {name}"))?;
        let undoing = self.aborting.as_ref().is_some_and(|(_, compensate)| *compensate);
        let aborting = self.aborting.is_some();
        let is_drill = self.is_drill();
        let step = &mut self.steps[index];
        let next = match (&step.state, entry) {
            (StepState::Intended, Entry::StepApplied { attempt, outcome, .. }) if *attempt == step.attempts => {
                StepState::Applied(outcome.clone())
            }
            (StepState::Pending | StepState::Applied(_), Entry::StepParked { reason, .. }) if !aborting => {
                StepState::Parked { reason: reason.clone() }
            }
            (
                StepState::Undone(Applied::Refused { .. } | Applied::Unknown { .. }),
                Entry::StepParked { reason, .. },
            ) if is_drill => StepState::Parked { reason: reason.clone() },
            (StepState::Parked { .. }, Entry::StepUnparked { .. }) => {
                step.forgiven = step.attempts;
                StepState::Pending
            }
            (
                StepState::Pending | StepState::Applied(_) | StepState::Parked { .. },
                Entry::StepEnded { end, took, .. },
            ) => {
                step.took = Some(*took);
                StepState::Ended(end.clone())
            }
            (
                StepState::Pending
                | StepState::Ended(_)
                | StepState::Applied(_)
                | StepState::Parked { .. }
                | StepState::Undone(_),
                Entry::CompensationIntent { epoch, .. },
            ) if undoing && *epoch == self.epoch && step.attempts > 0 => StepState::Undoing,
            (StepState::Undoing, Entry::CompensationEnded { outcome, .. }) => StepState::Undone(outcome.clone()),
            (state, _) => return Err(format!("step {name} is {state:?}")),
        };
        step.state = next;
        step.changed = Some(at);
        Ok(())
    }
}
