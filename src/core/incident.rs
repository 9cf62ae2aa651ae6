//! One incident in the ledger: its state and its timeline.

use serde::{Deserialize, Serialize};

use crate::model::{
    Decision, Entry, Epoch, HumanDuration, IncidentId, PlanHash, ReplicationEvidence, RunId, ScenarioName, Severity,
    StepEnd, WallTime,
};

/// A timeline longer than this is cut: a flapping target must not fill the memory.
const TIMELINE: usize = 500;

/// An incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// Its scenario.
    pub scenario: ScenarioName,
    /// Its severity.
    pub severity: Severity,
    /// The first bad observation.
    pub outage_start: WallTime,
    /// When the condition began to hold.
    pub opened: WallTime,
    /// When it ended.
    pub closed: Option<WallTime>,
    /// Who has seen it.
    pub acknowledged_by: Option<String>,
    /// The newest decision.
    pub decision: Option<Decision>,
    /// The newest question.
    pub asked: Option<Asked>,
    /// The newest answer.
    pub answered: Option<Answered>,
    /// Its newest run.
    pub run: Option<RunId>,
    /// What was known of the standbys' data when it opened.
    pub replication: Vec<ReplicationEvidence>,
    /// What happened, in order.
    pub timeline: Vec<(WallTime, String)>,
}

/// A question to a person, bound to what was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// What would be carried out.
    pub plan_hash: PlanHash,
    /// Under which epoch.
    pub epoch: Epoch,
    /// The last moment to answer.
    pub until: WallTime,
}

/// An answer, bound to what it was given for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// When.
    pub at: WallTime,
    /// Who.
    pub by: String,
    /// Yes or no.
    pub approved: bool,
    /// For this plan.
    pub plan_hash: PlanHash,
    /// Under this epoch.
    pub epoch: Epoch,
    /// The loss of data that the person allowed.
    pub allow_data_loss: Option<HumanDuration>,
}

impl Incident {
    /// Opens one from its record.
    pub(super) fn open(at: WallTime, entry: &Entry) -> Result<Self, String> {
        let Entry::IncidentOpened { incident, scenario, severity, outage_start, votes, replication } = entry else {
            return Err("not an opening".into());
        };
        let mut timeline = vec![(*outage_start, "first bad observation".to_owned())];
        for vote in votes {
            let cause = vote.cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default();
            timeline.push((at, format!("{} votes {} is {}{cause}", vote.vantage, vote.probe, vote.health)));
        }
        timeline.push((at, format!("incident opened: {scenario}, severity {severity}")));
        Ok(Self {
            id: incident.clone(),
            scenario: scenario.clone(),
            severity: severity.clone(),
            outage_start: *outage_start,
            opened: at,
            closed: None,
            acknowledged_by: None,
            decision: None,
            asked: None,
            answered: None,
            run: None,
            replication: replication.clone(),
            timeline,
        })
    }

    /// Applies a record of this incident.
    pub(super) fn apply(&mut self, at: WallTime, entry: &Entry) -> Result<(), String> {
        if self.closed.is_some() {
            return Err(format!("incident {} is closed", self.id));
        }
        let line = match entry {
            Entry::IncidentAcknowledged { by, .. } => {
                self.acknowledged_by = Some(by.clone());
                format!("acknowledged by {by}")
            }
            Entry::Decided { decision, .. } => {
                self.decision = Some(decision.clone());
                format!("decision: {decision}")
            }
            Entry::ApprovalAsked { plan_hash, epoch, until, .. } => {
                self.asked = Some(Asked { plan_hash: plan_hash.clone(), epoch: *epoch, until: *until });
                // An answer to an earlier question is none to this one.
                self.answered = None;
                format!("approval asked for plan {} until {until}", plan_hash.short())
            }
            Entry::ApprovalAnswered { by, approved, plan_hash, epoch, allow_data_loss, .. } => {
                self.answered = Some(Answered {
                    at,
                    by: by.clone(),
                    approved: *approved,
                    plan_hash: plan_hash.clone(),
                    epoch: *epoch,
                    allow_data_loss: *allow_data_loss,
                });
                let loss = allow_data_loss.map(|loss| format!(", allowing the loss of {loss}")).unwrap_or_default();
                format!("{} by {by}{loss}", if *approved { "approved" } else { "denied" })
            }
            Entry::IncidentClosed { why, .. } => {
                self.closed = Some(at);
                format!("incident closed: {why}")
            }
            Entry::RunStarted { run, trigger, epoch, .. } => {
                self.run = Some(run.clone());
                format!("run {run} started, {trigger}, epoch {epoch}")
            }
            _ => return Err("not a record of an incident".into()),
        };
        self.note(at, line);
        Ok(())
    }

    /// Takes a line of its run into the timeline.
    pub(super) fn note_run(&mut self, at: WallTime, entry: &Entry) {
        let line = match entry {
            Entry::RunAborting { by, .. } => format!("aborting: {by}"),
            Entry::StepIntent { step, attempt, .. } => format!("step {step}: applying, attempt {attempt}"),
            Entry::StepParked { step, reason, .. } => format!("step {step}: parked: {reason}"),
            Entry::StepUnparked { step, by, .. } => format!("step {step}: tried again by {by}"),
            Entry::StepEnded { step, end: StepEnd::Done { evidence, .. }, .. } => {
                format!("step {step}: done: {evidence}")
            }
            Entry::StepEnded { step, end: StepEnd::Failed { reason }, .. } => format!("step {step}: failed: {reason}"),
            Entry::StepEnded { step, end: StepEnd::Skipped { by }, .. } => format!("step {step}: skipped by {by}"),
            Entry::CompensationIntent { step, .. } => format!("step {step}: undoing"),
            Entry::RunEnded { run, result } => format!("run {run} ended: {result}"),
            _ => return,
        };
        self.note(at, line);
    }

    fn note(&mut self, at: WallTime, line: String) {
        if self.timeline.len() < TIMELINE {
            self.timeline.push((at, line));
        } else if self.timeline.len() == TIMELINE {
            self.timeline.push((at, "more was left out; the journal has it".to_owned()));
        }
    }
}
