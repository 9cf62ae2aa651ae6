//! The report on one incident, made from the journal and from nothing else: equal journals make equal
//! reports, whenever and wherever they are made.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::incident::Incident;
use super::ledger::{IllegalRecord, Ledger};
use super::report_chart::chart;
use super::report_hindsight::in_hindsight;
use super::run_ledger::{RunLedger, StepState};
use super::view::SplitView;
use super::views::split;
use crate::model::{
    Applied, Divergence, Entry, Epoch, HumanDuration, IncidentId, LossShown, Objectives, Outlook, PlanHash, PlanName,
    Record, RunId, RunResult, ScenarioName, ServiceName, Severity, StepEnd, StepName, VoteEvidence, WallTime, Work,
};

pub use super::course::Course;
pub use super::report_chart::{Chart, Lane, LaneKind, Mark, Span, Tone};

/// A record with its checksum in the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linked {
    /// The record.
    pub record: Record,
    /// Of this record and all before it, in hexadecimal.
    pub checksum: String,
}

/// All that is known of one incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The incident.
    pub id: IncidentId,
    /// Its scenario.
    pub scenario: ScenarioName,
    /// Its severity, in the owner's words.
    pub severity: Severity,
    /// The service; `None` where the journal of an older version does not say it and there was no run.
    pub service: Option<ServiceName>,
    /// The version of the daemon that opened it.
    pub version: Option<String>,
    /// The first bad observation.
    pub outage_start: WallTime,
    /// When the condition began to hold.
    pub opened: WallTime,
    /// When it ended; `None` while it is open.
    pub closed: Option<WallTime>,
    /// When the service was recovered by a run.
    pub recovered: Option<WallTime>,
    /// The newest record of it: nothing later is known.
    pub until: WallTime,
    /// Who has seen it.
    pub acknowledged_by: Option<String>,
    /// How far the outage reached.
    pub extent: Option<String>,
    /// What happened, in a few sentences.
    pub summary: Vec<String>,
    /// The objectives, and what came of them.
    pub objectives: Vec<Measured>,
    /// Where the time of the newest run went.
    pub split: Option<SplitView>,
    /// The votes that opened it.
    pub votes: Vec<VoteEvidence>,
    /// The decisions, in order.
    pub decisions: Vec<Decided>,
    /// The questions and the answers, in order.
    pub approvals: Vec<Approval>,
    /// Its runs, in order.
    pub runs: Vec<RunReport>,
    /// What happened, in order.
    pub timeline: Vec<(WallTime, String)>,
    /// Votes and steps over time.
    pub chart: Chart,
    /// The journal's records of it, with what operators did meanwhile.
    pub audit: Vec<AuditLine>,
}

/// An objective, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Its short name: `RTO`, `RPO`.
    pub name: String,
    /// What was promised.
    pub target: Option<HumanDuration>,
    /// What was expected when it was decided.
    pub predicted: Option<HumanDuration>,
    /// What came of it; `None` where that is not known (yet).
    pub actual: Option<HumanDuration>,
    /// Was it met? `None` where that cannot be told.
    pub met: Option<bool>,
    /// What the actual value is, or why there is none.
    pub note: String,
}

/// A decision with its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// When.
    pub at: WallTime,
    /// What, with the reason.
    pub decision: String,
    /// Why this scenario, where several held.
    pub choice: Option<String>,
    /// What the plan would have come to.
    pub outlook: Option<Outlook>,
    /// In which record of the journal.
    pub record: u64,
}

/// A question to a person, or an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// When.
    pub at: WallTime,
    /// Who answered; `None` for a question.
    pub by: Option<String>,
    /// Yes, no, or what was asked.
    pub what: String,
    /// What it was bound to: the plan.
    pub plan_hash: PlanHash,
    /// And the epoch.
    pub epoch: Epoch,
    /// What the person was shown.
    pub shown: String,
    /// In which record of the journal.
    pub record: u64,
}

/// A run of the incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Its id.
    pub id: RunId,
    /// Its plan.
    pub plan: PlanName,
    /// The hash of its plan.
    pub plan_hash: PlanHash,
    /// Its epoch.
    pub epoch: Epoch,
    /// What started it.
    pub trigger: String,
    /// When it began.
    pub started: WallTime,
    /// When it ended.
    pub ended: Option<WallTime>,
    /// How.
    pub result: Option<RunResult>,
    /// Who or what aborted it.
    pub aborted_by: Option<String>,
    /// Its steps, in the order of the plan.
    pub steps: Vec<StepReport>,
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its name.
    pub name: StepName,
    /// What kind.
    pub kind: String,
    /// What it touched.
    pub target: String,
    /// Where it stands.
    pub state: String,
    /// How often it was applied.
    pub attempts: u32,
    /// When the first record of it was written.
    pub began: Option<WallTime>,
    /// When it was over.
    pub ended: Option<WallTime>,
    /// From its start to its end.
    pub took: Option<HumanDuration>,
    /// How long it was expected to take.
    pub estimate: HumanDuration,
    /// What was seen, or why it failed.
    pub detail: String,
}

/// A record of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Its number.
    pub seq: u64,
    /// When it was written.
    pub at: WallTime,
    /// Its kind.
    pub kind: String,
    /// The rest of it, as JSON.
    pub text: String,
    /// Its checksum in the chain.
    pub checksum: String,
}

/// The rest of a record in the excerpt is cut after so many characters: a pinned plan is long, and the
/// journal has it.
const LONGEST_TEXT: usize = 400;
/// So many records at most are in the excerpt, the first and the last; the journal has all.
const MOST_LINES: usize = 400;

impl Report {
    /// The report on an incident; `None` where there is none of this id.
    ///
    /// # Errors
    /// [`IllegalRecord`] for a journal that does not replay.
    pub fn of(journal: &[Linked], id: &IncidentId) -> Result<Option<Self>, IllegalRecord> {
        let ledger = Ledger::replay(journal.iter().map(|linked| &linked.record))?;
        let Some(incident) = ledger.incidents.get(id) else { return Ok(None) };
        let runs: Vec<&RunLedger> = ledger.runs.values().filter(|run| run.incident.as_ref() == Some(id)).collect();
        let Some(course) = Course::of(journal, id) else { return Ok(None) };
        let own: Vec<&Linked> = records_of(journal, &course);
        // What is measured or done days later is in the report, and stretches no chart.
        let during = own.iter().filter(|linked| course.covers(linked.record.seq));
        let until = during.map(|linked| linked.record.at).max().unwrap_or(incident.opened);
        let recovered = runs.iter().filter(|run| is_done(run)).filter_map(|run| run.recovered_at()).min();
        let objectives = incident.objectives.clone();
        let service = objectives.as_ref().map(|of| of.service.clone());
        let mut report = Self {
            id: id.clone(),
            scenario: incident.scenario.clone(),
            severity: incident.severity.clone(),
            service: service.or_else(|| runs.first().map(|run| run.service.clone())),
            version: version(journal, &own),
            outage_start: incident.outage_start,
            opened: incident.opened,
            closed: incident.closed,
            recovered,
            until,
            acknowledged_by: incident.acknowledged_by.clone(),
            extent: incident.extent.as_ref().map(ToString::to_string),
            summary: Vec::new(),
            objectives: measured(incident, &runs, objectives.as_ref(), recovered, &own),
            split: runs.last().map(|run| split(run, Some(incident.opened), until)),
            votes: own.iter().find_map(|linked| votes(&linked.record.entry)).unwrap_or_default(),
            decisions: own.iter().filter_map(|linked| decided(&linked.record)).collect(),
            approvals: approvals(&own),
            runs: runs.iter().map(|run| run_report(run, &own)).collect(),
            timeline: incident.timeline.clone(),
            chart: chart(incident, &runs, &own, until),
            audit: audit(&own),
        };
        report.summary = summary(&report);
        report.summary.extend(in_hindsight(&ledger, incident, until));
        Ok(Some(report))
    }
}

fn is_done(run: &RunLedger) -> bool {
    matches!(run.ended, Some((RunResult::Done, _)))
}

/// The records of an incident and of its runs, and what operators and restarts did during its course.
fn records_of<'a>(journal: &'a [Linked], course: &Course) -> Vec<&'a Linked> {
    let meanwhile = |linked: &Linked| {
        course.covers(linked.record.seq)
            && matches!(
                linked.record.entry,
                Entry::Command { .. }
                    | Entry::ModeSet { .. }
                    | Entry::Paused { .. }
                    | Entry::Resumed { .. }
                    | Entry::DaemonStarted { .. }
                    | Entry::LeaderChanged { .. }
            )
    };
    journal.iter().filter(|linked| course.owns(&linked.record.entry) || meanwhile(linked)).collect()
}

/// Of the daemon that opened it.
fn version(journal: &[Linked], own: &[&Linked]) -> Option<String> {
    let first = own.first().map_or(0, |linked| linked.record.seq);
    let before = journal.iter().rev().filter(|linked| linked.record.seq < first);
    before
        .filter_map(|linked| match &linked.record.entry {
            Entry::DaemonStarted { version } => Some(version.clone()),
            _ => None,
        })
        .next()
}

fn votes(entry: &Entry) -> Option<Vec<VoteEvidence>> {
    match entry {
        Entry::IncidentOpened { votes, .. } => Some(votes.clone()),
        _ => None,
    }
}

fn decided(record: &Record) -> Option<Decided> {
    let Entry::Decided { decision, choice, outlook, .. } = &record.entry else { return None };
    Some(Decided {
        at: record.at,
        decision: decision.to_string(),
        choice: choice.as_ref().map(ToString::to_string),
        outlook: outlook.clone(),
        record: record.seq,
    })
}

fn measured(
    incident: &Incident,
    runs: &[&RunLedger],
    objectives: Option<&Objectives>,
    recovered: Option<WallTime>,
    own: &[&Linked],
) -> Vec<Measured> {
    let outlook = own.iter().rev().find_map(|linked| match &linked.record.entry {
        Entry::Decided { outlook, .. } => outlook.clone(),
        _ => None,
    });
    let target = objectives.map(|of| of.rto).or_else(|| runs.last().map(|run| run.rto));
    let over = recovered.or(incident.closed.filter(|_| runs.iter().all(|run| run.ended.is_some())));
    let actual = over.map(|at| HumanDuration(at.since(incident.outage_start)));
    let note = match (recovered, over) {
        (Some(_), _) => "from the first bad observation to the end of the recovery",
        (None, Some(_)) => "from the first bad observation until it held no longer; no run recovered it",
        (None, None) => "not over",
    };
    let rto = Measured {
        name: "RTO".into(),
        target,
        predicted: outlook.as_ref().map(|outlook| rounded(outlook.total.get())),
        actual,
        met: actual.zip(target).map(|(actual, target)| actual <= target),
        note: note.into(),
    };
    let predicted = runs.last().and_then(|run| run.predicted_loss).or(outlook.and_then(|outlook| outlook.loss));
    vec![rto, lost(predicted, objectives.and_then(|of| of.rpo), runs)]
}

/// What was predicted to be lost, and what the old primaries told when they were seen again.
fn lost(predicted: Option<HumanDuration>, target: Option<HumanDuration>, runs: &[&RunLedger]) -> Measured {
    let measured: Vec<&Divergence> = runs.iter().flat_map(|run| &run.measured).collect();
    let time = |seen: &&Divergence| if seen.is_none() { Some(HumanDuration::ZERO) } else { seen.time };
    let times: Option<Vec<HumanDuration>> = measured.iter().map(time).collect();
    let actual = times.and_then(|times| times.into_iter().max());
    let told: Vec<String> = measured.iter().map(|seen| seen.to_string()).collect();
    let writes = runs.last().map(|run| run.predicted_writes).filter(|writes| !writes.is_unknown());
    let counted = writes.map(|writes| format!(" ({writes})")).unwrap_or_default();
    let note = match (predicted, target) {
        _ if !told.is_empty() => told.join("; "),
        (Some(_), _) => {
            format!(
                "the loss predicted at the decision{counted}; what was really lost is told once the old primary is seen again"
            )
        }
        (None, None) => "no data is moved".to_owned(),
        (None, Some(_)) => "nobody could tell the loss at the decision".to_owned(),
    };
    // Predicted is not lost: whether it was met, only the old primary can say, or a person.
    let met = actual.zip(target).map(|(actual, target)| actual <= target);
    Measured { name: "RPO".into(), target, predicted, actual, met, note }
}

/// To the millisecond: finer tells a person nothing about an outage.
pub(super) fn rounded(duration: Duration) -> HumanDuration {
    HumanDuration(Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}

fn approvals(own: &[&Linked]) -> Vec<Approval> {
    let mut outlook: Option<Outlook> = None;
    let mut found = Vec::new();
    for record in own.iter().map(|linked| &linked.record) {
        match &record.entry {
            Entry::Decided { outlook: Some(new), .. } => outlook = Some(new.clone()),
            Entry::ApprovalAsked { plan_hash, epoch, until, without_quorum, .. } => {
                let mut shown = expected(outlook.as_ref());
                if let Some(why) = without_quorum {
                    shown.push(format!("there is no quorum: {why}"));
                }
                found.push(Approval {
                    at: record.at,
                    by: None,
                    what: format!("asked, to be answered until {until}"),
                    plan_hash: plan_hash.clone(),
                    epoch: *epoch,
                    shown: shown.join("; "),
                    record: record.seq,
                });
            }
            Entry::ApprovalAnswered { by, approved, plan_hash, epoch, allow_data_loss, loss_shown, .. } => {
                let mut shown = expected(outlook.as_ref());
                if *loss_shown == LossShown::Unknown {
                    shown.push("that nobody knew the loss of data".into());
                }
                let loss = allow_data_loss.map(|loss| format!(", allowing the loss of {loss}")).unwrap_or_default();
                found.push(Approval {
                    at: record.at,
                    by: Some(by.clone()),
                    what: format!("{}{loss}", if *approved { "approved" } else { "denied" }),
                    plan_hash: plan_hash.clone(),
                    epoch: *epoch,
                    shown: shown.join("; "),
                    record: record.seq,
                });
            }
            _ => {}
        }
    }
    found
}

fn expected(outlook: Option<&Outlook>) -> Vec<String> {
    let Some(outlook) = outlook else { return Vec::new() };
    let total = format!("recovery expected {} after the outage began", rounded(outlook.total.get()));
    let loss = outlook.loss.map(|loss| format!("predicted loss {loss}"));
    std::iter::once(total).chain(loss).collect()
}

fn run_report(run: &RunLedger, own: &[&Linked]) -> RunReport {
    let step = |(definition, ledger): (&crate::model::Step, &super::run_ledger::StepLedger)| {
        let (state, detail) = stands(&ledger.state);
        let (kind, target) = match &definition.work {
            Work::Action(spec) => (spec.kind.to_string(), spec.target.clone()),
            other => (other.kind().to_string(), String::new()),
        };
        let began = own.iter().map(|linked| &linked.record).find(|record| {
            matches!(&record.entry, Entry::StepIntent { run: of, step, .. } if *of == run.id && *step == definition.name)
        });
        let took = ledger.took.map(rounded);
        let ended = ledger.changed.filter(|_| ledger.is_over() || matches!(ledger.state, StepState::Undone(_)));
        let of_end = ended.zip(took).map(|(ended, took)| ended.minus(took.get()));
        StepReport {
            name: definition.name.clone(),
            kind,
            target,
            state: state.into(),
            attempts: ledger.attempts,
            began: of_end.or_else(|| began.map(|record| record.at)),
            ended,
            took,
            estimate: definition.estimate,
            detail,
        }
    };
    RunReport {
        id: run.id.clone(),
        plan: run.plan.name.clone(),
        plan_hash: run.plan_hash.clone(),
        epoch: run.epoch,
        trigger: run.trigger.to_string(),
        started: run.started,
        ended: run.ended.map(|(_, at)| at),
        result: run.ended.map(|(result, _)| result),
        aborted_by: run.aborting.as_ref().map(|(by, _)| by.clone()),
        steps: run.plan.steps.iter().zip(&run.steps).map(step).collect(),
    }
}

fn stands(state: &StepState) -> (&'static str, String) {
    let applied = |outcome: &Applied| match outcome {
        Applied::Accepted { evidence } => evidence.clone(),
        Applied::Refused { reason, .. } | Applied::Unknown { reason } => reason.clone(),
    };
    match state {
        StepState::Pending => ("pending", String::new()),
        StepState::Intended => ("applying", String::new()),
        StepState::Applied(outcome) => ("applied", applied(outcome)),
        StepState::Parked { reason } => ("parked", reason.clone()),
        StepState::Ended(StepEnd::Done { evidence, already: true, .. }) => ("done before", evidence.clone()),
        StepState::Ended(StepEnd::Done { evidence, .. }) => ("done", evidence.clone()),
        StepState::Ended(StepEnd::Failed { reason }) => ("failed", reason.clone()),
        StepState::Ended(StepEnd::Skipped { by }) => ("skipped", format!("by {by}")),
        StepState::Undoing => ("undoing", String::new()),
        StepState::Undone(outcome) => ("undone", applied(outcome)),
    }
}

fn audit(own: &[&Linked]) -> Vec<AuditLine> {
    let line = |linked: &&Linked| {
        let (kind, text) = linked.record.entry.told();
        let mut short: String = text.chars().take(LONGEST_TEXT).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        AuditLine { seq: linked.record.seq, at: linked.record.at, kind, text: short, checksum: linked.checksum.clone() }
    };
    if own.len() <= MOST_LINES {
        return own.iter().map(line).collect();
    }
    let half = MOST_LINES / 2;
    own[..half].iter().chain(&own[own.len() - half..]).map(line).collect()
}

/// What happened, in a few sentences.
fn summary(report: &Report) -> Vec<String> {
    let service = report.service.as_ref().map(|service| format!(" of the service {service}")).unwrap_or_default();
    let mut told = vec![format!(
        "The scenario {} ({}){service} began to hold at {}; the first bad observation was at {}.",
        report.scenario, report.severity, report.opened, report.outage_start
    )];
    told.extend(report.extent.as_ref().map(|extent| format!("At its widest: {extent}.")));
    if report.runs.is_empty() {
        let last = report.decisions.last().map_or("no decision was made", |decided| decided.decision.as_str());
        told.push(format!("Nothing was carried out; the last decision was: {last}."));
    }
    for run in &report.runs {
        let end = match (run.result, run.ended) {
            (Some(result), Some(at)) => format!("{result} at {at}"),
            _ => "not over".to_owned(),
        };
        let done = run.steps.iter().filter(|step| step.state.starts_with("done")).count();
        told.push(format!(
            "Run {} of plan {} ({}, epoch {}) began at {}: {end}, {done} of {} steps done.",
            run.id,
            run.plan,
            run.trigger,
            run.epoch,
            run.started,
            run.steps.len()
        ));
    }
    let rto = report.objectives.iter().find(|objective| objective.name == "RTO");
    if let Some((actual, target, met)) = rto.and_then(|rto| Some((rto.actual?, rto.target?, rto.met?))) {
        let word = if met { "within" } else { "beyond" };
        told.push(format!("It took {actual} in all, {word} the RTO of {target}."));
    }
    match report.closed {
        Some(at) => told.push(format!("The incident closed at {at}.")),
        None => told.push("The incident is open.".into()),
    }
    told
}

/// The incidents of a journal, the oldest first.
pub fn incidents(journal: &[Linked]) -> Vec<IncidentId> {
    let opened = journal.iter().filter_map(|linked| match &linked.record.entry {
        Entry::IncidentOpened { incident, .. } => Some(incident.clone()),
        _ => None,
    });
    opened.collect()
}
