//! One incident in the ledger: its state and its timeline.

use serde::{Deserialize, Serialize};

use super::scorecard::{Graded, WouldAct};
use super::told::{Told, outlives};
use crate::model::{
    Choice, Decision, Entry, Epoch, Extent, HumanDuration, IncidentId, LossShown, Objectives, PlanHash,
    ReplicationEvidence, RunId, ScenarioName, Severity, StepEnd, WallTime,
};

/// A timeline longer than this is cut in its middle: a flapping target must not fill the memory, and
/// both how it began and how it ended are asked for.
const TIMELINE: usize = 500;
/// So many of the first lines are kept, and as many of the newest.
const KEPT: usize = TIMELINE / 2;
const LEFT_OUT: &str = "more was left out here; the journal has it";

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
    /// The newest yes of each person since the question, or since somebody said no.
    #[serde(default)]
    pub approvals: Vec<Answered>,
    /// Its newest run.
    pub run: Option<RunId>,
    /// What was known of the standbys' data when it opened, or when the primary fell after that.
    pub replication: Vec<ReplicationEvidence>,
    /// When that was; `None` when it opened.
    #[serde(default)]
    pub replication_seen: Option<WallTime>,
    /// How often it was written down anew.
    #[serde(default)]
    pub replication_changes: u32,
    /// How far the outage reached at most, as far as the verdicts told.
    #[serde(default)]
    pub extent: Option<Extent>,
    /// Why this scenario may act where others hold at the same time; as of the newest decision to.
    #[serde(default)]
    pub choice: Option<Choice>,
    /// Whom it was told to, who has answered, and what is left to do for it.
    #[serde(default)]
    pub told: Told,
    /// What it is measured against; `None` in a journal of a version that did not write it down.
    #[serde(default)]
    pub objectives: Option<Objectives>,
    /// When alert-only mode would have acted, the first time.
    #[serde(default)]
    pub would_act: Option<WouldAct>,
    /// What a person said of that afterwards.
    #[serde(default)]
    pub grade: Option<Graded>,
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
    /// Was the loss known then?
    #[serde(default)]
    pub loss_shown: LossShown,
}

/// Who somebody is, whichever way they came: `alice` of `alice (uid 1000)` and of `alice (signed link)`.
pub fn person(by: &str) -> &str {
    by.split_once(" (").map_or(by, |(name, _)| name)
}

impl Incident {
    /// Opens one from its record.
    pub(super) fn open(at: WallTime, entry: &Entry) -> Result<Self, String> {
        let Entry::IncidentOpened {
            incident,
            scenario,
            severity,
            outage_start,
            votes,
            replication,
            extent,
            objectives,
        } = entry
        else {
            return Err("not an opening".into());
        };
        let mut timeline = vec![(*outage_start, "first bad observation".to_owned())];
        for vote in votes {
            let cause = vote.cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default();
            timeline.push((at, format!("{} votes {} is {}{cause}", vote.vantage, vote.probe, vote.health)));
        }
        timeline.push((at, format!("incident opened: {scenario}, severity {severity}")));
        timeline.extend(extent.as_ref().map(|extent| (at, format!("extent: {extent}"))));
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
            approvals: Vec::new(),
            run: None,
            replication: replication.clone(),
            replication_seen: None,
            replication_changes: 0,
            extent: extent.clone(),
            choice: None,
            told: Told::default(),
            objectives: objectives.clone(),
            would_act: None,
            grade: None,
            timeline,
        })
    }

    /// Applies a record of this incident.
    pub(super) fn apply(&mut self, at: WallTime, entry: &Entry) -> Result<(), String> {
        if self.closed.is_some() && !outlives(entry) {
            return Err(format!("incident {} is closed", self.id));
        }
        if let Some(line) = self.told.apply(at, entry)? {
            self.note(at, line);
            return Ok(());
        }
        let line = match entry {
            Entry::IncidentAcknowledged { by, .. } => {
                self.acknowledged_by = Some(by.clone());
                format!("acknowledged by {by}")
            }
            Entry::Decided { decision, choice, outlook, .. } => {
                if *decision == Decision::Alert {
                    self.would_act.get_or_insert_with(|| WouldAct { at, outlook: outlook.clone() });
                }
                self.decision = Some(decision.clone());
                self.choice = choice.clone().or(self.choice.take());
                let why = choice.as_ref().map(|choice| format!(": {choice}")).unwrap_or_default();
                format!("decision: {decision}{why}")
            }
            Entry::ExtentSeen { extent, .. } => {
                self.extent = Some(extent.clone());
                format!("extent: {extent}")
            }
            Entry::ApprovalAsked { plan_hash, epoch, until, without_quorum, .. } => {
                self.asked = Some(Asked { plan_hash: plan_hash.clone(), epoch: *epoch, until: *until });
                // An answer to an earlier question is none to this one.
                self.answered = None;
                self.approvals.clear();
                let why = without_quorum.as_ref().map(|why| format!(", without a quorum: {why}")).unwrap_or_default();
                format!("approval asked for plan {} until {until}{why}", plan_hash.short())
            }
            Entry::ApprovalAnswered {
                by, approved, plan_hash, epoch, allow_data_loss, loss_shown, predicted, ..
            } => {
                let answered = Answered {
                    at,
                    by: by.clone(),
                    approved: *approved,
                    plan_hash: plan_hash.clone(),
                    epoch: *epoch,
                    allow_data_loss: *allow_data_loss,
                    loss_shown: *loss_shown,
                };
                self.take_answer(answered);
                let shown = predicted.as_ref().map(|loss| format!(", shown a loss of {loss}")).unwrap_or_default();
                let loss = allow_data_loss.map(|loss| format!(", allowing the loss of {loss}")).unwrap_or_default();
                format!("{} by {by}{shown}{loss}", if *approved { "approved" } else { "denied" })
            }
            Entry::ReplicationSeen { replication, .. } => {
                self.replication = replication.clone();
                self.replication_seen = Some(at);
                self.replication_changes += 1;
                let down = replication.iter().any(|known| known.down_since.is_some());
                format!("the replication's primary is {}", if down { "down" } else { "back" })
            }
            Entry::IncidentGraded { grade, by, note, .. } => {
                if self.closed.is_none() {
                    return Err(format!("incident {} is open", self.id));
                }
                self.grade = Some(Graded { grade: *grade, by: by.clone(), at, note: note.clone() });
                let note = note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
                format!("graded {grade} by {by}{note}")
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

    fn take_answer(&mut self, answered: Answered) {
        if answered.approved {
            self.approvals.retain(|known| person(&known.by) != person(&answered.by));
            self.approvals.push(answered.clone());
        } else {
            self.approvals.clear();
        }
        self.answered = Some(answered);
    }

    /// Takes a line of its run into the timeline.
    pub(super) fn note_run(&mut self, at: WallTime, entry: &Entry) {
        let line = match entry {
            Entry::RunAborting { by, .. } => format!("aborting: {by}"),
            Entry::LossMeasured { divergence, .. } => format!("measured: {divergence}"),
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
        if self.timeline.len() > TIMELINE {
            self.timeline.remove(KEPT + 1);
        } else if self.timeline.len() == TIMELINE {
            self.timeline[KEPT].1 = LEFT_OUT.to_owned();
        }
        self.timeline.push((at, line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_timeline_keeps_how_it_began_and_how_it_ended() {
        let opened = Entry::IncidentOpened {
            incident: "INC-1".into(),
            scenario: "regional".into(),
            severity: Severity("P0".into()),
            outage_start: WallTime(0),
            votes: vec![],
            replication: vec![],
            extent: None,
            objectives: None,
        };
        let mut incident = Incident::open(WallTime(0), &opened).unwrap();
        for number in 0..2_000 {
            incident.note(WallTime(number), format!("line {number}"));
        }
        let lines: Vec<&str> = incident.timeline.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(lines.len(), TIMELINE + 1);
        assert_eq!((lines[0], lines[2], lines[KEPT - 1]), ("first bad observation", "line 0", "line 247"));
        assert_eq!(lines[KEPT], LEFT_OUT);
        assert_eq!((lines[KEPT + 1], lines[TIMELINE]), ("line 1750", "line 1999"));
    }
}
