//! The journal's records: everything decided and done, in the order in which it was.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::drill::DrillVerdict;
use super::extent::{Choice, Extent};
use super::grade::Grade;
use super::ids::{
    DrillTarget, DutyName, Epoch, IncidentId, PlanHash, PlanName, RunId, ScenarioName, ServiceName, StepName, Term,
    VantageId,
};
use super::loss::{Divergence, PredictedLoss, Writes};
use super::objectives::{Objectives, Outlook};
use super::plan::Plan;
use super::policy::{Decision, LossShown, Mode, Severity, Trigger};
use super::severity::Duty;
use super::step::{Applied, Outputs};
use super::terms::RunKind;
use super::time::{HumanDuration, WallTime};
use super::vote::{ReplicationEvidence, VoteEvidence};

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// From 1, without gaps.
    pub seq: u64,
    /// When it was decided.
    pub at: WallTime,
    /// What.
    pub entry: Entry,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Entry {
    /// The daemon began.
    DaemonStarted {
        /// Its version.
        version: String,
    },
    /// A member of several daemons leads from here on.
    LeaderChanged {
        /// Who.
        member: VantageId,
        /// Its term.
        term: Term,
        /// The epoch that this record grants to the run that is active, so that no target takes a call of
        /// the former leader any more; `None` where no run is active.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<Epoch>,
    },
    /// The mode was set by hand, or given back to the configuration (`None`).
    ModeSet {
        /// The mode.
        mode: Option<Mode>,
        /// By whom.
        by: String,
    },
    /// Nothing new is started until `Resumed`.
    Paused {
        /// By whom.
        by: String,
    },
    /// The pause is over.
    Resumed {
        /// By whom.
        by: String,
    },
    /// A scenario's condition began to hold.
    IncidentOpened {
        /// The incident.
        incident: IncidentId,
        /// The scenario.
        scenario: ScenarioName,
        /// Its severity.
        severity: Severity,
        /// The first bad observation.
        outage_start: WallTime,
        /// The votes that made it.
        votes: Vec<VoteEvidence>,
        /// What was known of the standbys' data: a restart does not forget it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        replication: Vec<ReplicationEvidence>,
        /// How far the outage reached then; `None` where nothing is down.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        extent: Option<Extent>,
        /// What it is measured against.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        objectives: Option<Objectives>,
    },
    /// The outage reaches further than was written down before.
    ExtentSeen {
        /// The incident.
        incident: IncidentId,
        /// How far.
        extent: Extent,
    },
    /// The primary fell, or came back, while the incident was open: what is known of the standbys'
    /// data now, in place of what was known before.
    ReplicationSeen {
        /// The incident.
        incident: IncidentId,
        /// What is known.
        replication: Vec<ReplicationEvidence>,
    },
    /// A person has seen it.
    IncidentAcknowledged {
        /// The incident.
        incident: IncidentId,
        /// Who.
        by: String,
    },
    /// The decision changed.
    Decided {
        /// The incident.
        incident: IncidentId,
        /// To what.
        decision: Decision,
        /// Why this scenario, where others hold at the same time and it is the one that may act.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        choice: Option<Choice>,
        /// What the plan would come to, where the decision is to carry it out, to ask, or that it would.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outlook: Option<Outlook>,
    },
    /// A person was asked.
    ApprovalAsked {
        /// The incident.
        incident: IncidentId,
        /// What would be carried out.
        plan_hash: PlanHash,
        /// The epoch that it would run under.
        epoch: Epoch,
        /// The last moment to answer.
        until: WallTime,
        /// Why there is no quorum, where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        without_quorum: Option<String>,
    },
    /// A person answered.
    ApprovalAnswered {
        /// The incident.
        incident: IncidentId,
        /// Who.
        by: String,
        /// Yes or no.
        approved: bool,
        /// What it was given for.
        plan_hash: PlanHash,
        /// The epoch that it was given for.
        epoch: Epoch,
        /// The loss of data that the person allowed.
        allow_data_loss: Option<HumanDuration>,
        /// Was the loss known when the person answered?
        #[serde(default)]
        loss_shown: LossShown,
        /// The loss that was predicted then: what the person put a name to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        predicted: Option<PredictedLoss>,
    },
    /// A rung of the ladder was told of it: nobody had answered.
    Escalated {
        /// The incident.
        incident: IncidentId,
        /// The rung, by its time.
        after: HumanDuration,
        /// Who that is.
        to: String,
    },
    /// Nobody answered within the time that its severity allows.
    Unanswered {
        /// The incident.
        incident: IncidentId,
        /// That time.
        within: HumanDuration,
    },
    /// People were told how it stands.
    StatusUpdated {
        /// The incident.
        incident: IncidentId,
        /// So long after it opened, by the clock that does not jump.
        after: HumanDuration,
        /// So much later than it was due.
        late: HumanDuration,
        /// So many before it were due and never told.
        missed: u32,
    },
    /// What people have to do for it, as it was declared when it opened.
    DutiesTaken {
        /// The incident.
        incident: IncidentId,
        /// What.
        duties: Vec<Duty>,
    },
    /// Somebody was told that a duty is open.
    DutyReminded {
        /// The incident.
        incident: IncidentId,
        /// Which.
        duty: DutyName,
    },
    /// A duty was done.
    DutyDone {
        /// The incident.
        incident: IncidentId,
        /// Which.
        duty: DutyName,
        /// By whom.
        by: String,
        /// What there is to say of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// A person said what is to be thought of what alert-only mode would have done.
    IncidentGraded {
        /// The incident.
        incident: IncidentId,
        /// Would it have been right?
        grade: Grade,
        /// Who says so.
        by: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// The condition holds no longer.
    IncidentClosed {
        /// The incident.
        incident: IncidentId,
        /// In one line.
        why: String,
    },
    /// A run began; its plan is pinned here.
    RunStarted {
        /// The run.
        run: RunId,
        /// For this incident, where there is one.
        incident: Option<IncidentId>,
        /// For this scenario.
        scenario: ScenarioName,
        /// It moves this service; cool-down is per service.
        service: ServiceName,
        /// Under this epoch, which this record grants.
        epoch: Epoch,
        /// What started it.
        trigger: Trigger,
        /// The votes at that instant (S4).
        votes: Vec<VoteEvidence>,
        /// The first bad observation.
        outage_start: WallTime,
        /// The recovery-time objective that the run is measured against.
        rto: HumanDuration,
        /// The loss of data predicted at that instant; `None` where it is unknown.
        predicted_loss: Option<HumanDuration>,
        /// How much that is.
        #[serde(default)]
        predicted_writes: Writes,
        /// The hash of the plan.
        plan_hash: PlanHash,
        /// The plan.
        plan: Box<Plan>,
        /// How it goes about it.
        #[serde(default)]
        run_kind: RunKind,
    },
    /// The primary answered at the last look, or a person said abort.
    RunAborting {
        /// The run.
        run: RunId,
        /// By whom or what.
        by: String,
        /// Are the steps that were done undone?
        compensate: bool,
    },
    /// The intent: from here the outside may have been changed.
    StepIntent {
        /// The run.
        run: RunId,
        /// The step.
        step: StepName,
        /// From 1.
        attempt: u32,
        /// Under this epoch.
        epoch: Epoch,
        /// The service that is promoted by it.
        promotes: Option<ServiceName>,
        /// What stood before.
        before: Value,
    },
    /// What the apply came to.
    StepApplied {
        /// The run.
        run: RunId,
        /// The step.
        step: StepName,
        /// From 1.
        attempt: u32,
        /// The outcome.
        outcome: Applied,
    },
    /// The step waits for a person.
    StepParked {
        /// The run.
        run: RunId,
        /// The step.
        step: StepName,
        /// Why.
        reason: String,
    },
    /// A person said how a parked step goes on.
    StepUnparked {
        /// The run.
        run: RunId,
        /// The step.
        step: StepName,
        /// Who.
        by: String,
    },
    /// The step is over.
    StepEnded {
        /// The run.
        run: RunId,
        /// The step.
        step: StepName,
        /// How.
        end: StepEnd,
        /// From its start to here.
        took: Duration,
    },
    /// The intent to undo a step.
    CompensationIntent {
        /// The run.
        run: RunId,
        /// The step.
        step: StepName,
        /// Under this epoch.
        epoch: Epoch,
    },
    /// What undoing a step came to.
    CompensationEnded {
        /// The run.
        run: RunId,
        /// The step.
        step: StepName,
        /// The outcome.
        outcome: Applied,
    },
    /// The run is over. Cool-down starts here.
    RunEnded {
        /// The run.
        run: RunId,
        /// How.
        result: RunResult,
    },
    /// The old primary was seen again: what it has that the one which the run promoted lacks.
    LossMeasured {
        /// The run.
        run: RunId,
        /// What.
        divergence: Divergence,
    },
    /// The rehearsed part of a drill is over; what follows cleans up.
    DrillJudged {
        /// The run.
        run: RunId,
        /// What came of it.
        verdict: DrillVerdict,
        /// From its start to the end of what belongs to the recovery; `None` where it did not get there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        took: Option<HumanDuration>,
    },
    /// A drill gives way to another run: nothing of it goes on until `RunTakenUp`.
    RunSetAside {
        /// The run.
        run: RunId,
        /// To what.
        by: String,
    },
    /// A drill that gave way goes on with cleaning up.
    RunTakenUp {
        /// The run.
        run: RunId,
        /// Under this epoch, which this record grants.
        epoch: Epoch,
    },
    /// A drill that was due was not begun. It is not made up for.
    DrillMissed {
        /// Of which plan.
        plan: PlanName,
        /// On which target.
        target: DrillTarget,
        /// When it was due.
        due: WallTime,
        /// Why not.
        why: String,
    },
    /// A plan fits into the recovery-time objective no longer, or again, by what was measured.
    BudgetChanged {
        /// Of which scenario.
        scenario: ScenarioName,
        /// Does it?
        fits: bool,
        /// What the recovery takes.
        budget: HumanDuration,
        /// The objective.
        rto: HumanDuration,
    },
    /// An operator's command, for the audit, whether it was carried out or refused.
    Command {
        /// Who.
        by: String,
        /// What.
        command: String,
        /// What came of it.
        result: String,
    },
}

impl Entry {
    /// Its kind, and the rest of it as JSON; empty where there is no more.
    pub fn told(&self) -> (String, String) {
        let Ok(Value::Object(mut entry)) = serde_json::to_value(self) else { return Default::default() };
        let kind = entry.remove("kind").and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
        (kind, if entry.is_empty() { String::new() } else { Value::Object(entry).to_string() })
    }
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepEnd {
    /// It is as it should be, and was seen to be.
    Done {
        /// What was seen.
        evidence: String,
        /// It was so before the step did anything.
        already: bool,
        /// What it hands to later steps.
        #[serde(default, skip_serializing_if = "Outputs::is_empty")]
        outputs: Outputs,
    },
    /// It failed, and `on_error` lets the run go on or makes it undo.
    Failed {
        /// Why.
        reason: String,
    },
    /// It was left out.
    Skipped {
        /// By whom or what.
        by: String,
    },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    /// All of it was done.
    Done,
    /// It was aborted before its point of no return; what could be undone was.
    Aborted,
}

impl fmt::Display for RunResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Done => "done",
            Self::Aborted => "aborted",
        })
    }
}
