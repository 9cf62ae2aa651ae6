//! Votes and steps over time, as lanes of spans: what the pages draw.

use serde::{Deserialize, Serialize};

use super::incident::Incident;
use super::report::Linked;
use super::run_ledger::{RunLedger, StepLedger, StepState};
use crate::model::{Entry, Health, StepEnd, StepName, VoteEvidence, WallTime};

/// So many lanes at most: nobody reads more.
const MOST_LANES: usize = 60;

/// Lanes over the time of an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    /// Where it begins.
    pub from: WallTime,
    /// Where it ends.
    pub to: WallTime,
    /// What is drawn, from top to bottom.
    pub lanes: Vec<Lane>,
    /// The moments that everything is measured by.
    pub marks: Vec<Mark>,
    /// So many lanes were left out.
    pub left_out: usize,
}

/// One lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// Of whom.
    pub name: String,
    /// Of what.
    pub kind: LaneKind,
    /// What is drawn in it.
    pub spans: Vec<Span>,
}

/// What a lane shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneKind {
    /// The votes of one vantage on one probe.
    Votes,
    /// A step of a run.
    Step,
}

/// A length of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// From then.
    pub from: WallTime,
    /// To then.
    pub to: WallTime,
    /// How it is drawn.
    pub tone: Tone,
    /// What it is.
    pub words: String,
}

/// How a span is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// A vote for up.
    Up,
    /// A vote for down.
    Down,
    /// A vote that could not look.
    Unknown,
    /// A step that was done.
    Done,
    /// A step that failed or was undone.
    Failed,
    /// A step that is under way.
    Busy,
    /// A step that waited for a person.
    Parked,
}

/// A moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    pub at: WallTime,
    /// What.
    pub name: String,
}

pub(super) fn chart(incident: &Incident, runs: &[&RunLedger], own: &[&Linked], until: WallTime) -> Chart {
    let end = incident.closed.unwrap_or(until).max(until);
    let mut lanes = vote_lanes(incident, own, end);
    for run in runs {
        let steps = run.plan.steps.iter().zip(&run.steps);
        lanes.extend(steps.filter_map(|(step, ledger)| step_lane(run, &step.name, ledger, own, end)));
    }
    let left_out = lanes.len().saturating_sub(MOST_LANES);
    lanes.truncate(MOST_LANES);
    let mut marks = vec![Mark { at: incident.outage_start, name: "first bad observation".into() }];
    marks.push(Mark { at: incident.opened, name: "incident opened".into() });
    for run in runs {
        marks.push(Mark { at: run.started, name: format!("{} started", run.id) });
        marks.extend(run.ended.map(|(result, at)| Mark { at, name: format!("{} {result}", run.id) }));
    }
    marks.extend(incident.closed.map(|at| Mark { at, name: "incident closed".into() }));
    let length = end.since(incident.outage_start);
    let margin = (length / 20).max(std::time::Duration::from_millis(500));
    Chart { from: incident.outage_start.minus(margin), to: end + margin, lanes, marks, left_out }
}

/// A vote holds from the record that it stands in to the next one that says otherwise.
fn vote_lanes(incident: &Incident, own: &[&Linked], end: WallTime) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = Vec::new();
    for record in own.iter().map(|linked| &linked.record) {
        let (votes, since) = match &record.entry {
            Entry::IncidentOpened { votes, .. } => (votes, incident.outage_start),
            Entry::RunStarted { votes, .. } => (votes, record.at),
            _ => continue,
        };
        for vote in votes {
            take_vote(&mut lanes, vote, if vote.health == Health::Down { since } else { record.at }, end);
        }
    }
    lanes
}

fn take_vote(lanes: &mut Vec<Lane>, vote: &VoteEvidence, from: WallTime, end: WallTime) {
    let name = format!("{} by {}", vote.probe, vote.vantage);
    let tone = match vote.health {
        Health::Up => Tone::Up,
        Health::Down => Tone::Down,
        Health::Unknown => Tone::Unknown,
    };
    let cause = vote.cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default();
    let span =
        Span { from, to: end, tone, words: format!("{} votes {} is {}{cause}", vote.vantage, vote.probe, vote.health) };
    match lanes.iter_mut().find(|lane| lane.name == name) {
        Some(lane) => match lane.spans.last_mut() {
            Some(last) if last.tone == tone => {}
            Some(last) => {
                last.to = from.max(last.from);
                lane.spans.push(span);
            }
            None => lane.spans.push(span),
        },
        None => lanes.push(Lane { name, kind: LaneKind::Votes, spans: vec![span] }),
    }
}

/// From its intent, or from its start where it took one without, to its end; parked in between.
fn step_lane(run: &RunLedger, step: &StepName, ledger: &StepLedger, own: &[&Linked], end: WallTime) -> Option<Lane> {
    let mut spans: Vec<Span> = Vec::new();
    let mut open: Option<(WallTime, Tone, String)> = None;
    for record in own.iter().map(|linked| &linked.record) {
        let (of, tone, words) = match &record.entry {
            Entry::StepIntent { run: id, step: of, attempt, .. } if *id == run.id => {
                (of, Some(Tone::Busy), format!("{of}: attempt {attempt}"))
            }
            Entry::StepParked { run: id, step: of, reason } if *id == run.id => {
                (of, Some(Tone::Parked), format!("{of}: parked: {reason}"))
            }
            Entry::StepUnparked { run: id, step: of, by } if *id == run.id => {
                (of, Some(Tone::Busy), format!("{of}: tried again by {by}"))
            }
            Entry::CompensationIntent { run: id, step: of, .. } if *id == run.id => {
                (of, Some(Tone::Failed), format!("{of}: being undone"))
            }
            Entry::StepEnded { run: id, step: of, end: how, took } if *id == run.id => {
                if *of == *step && open.is_none() {
                    open = Some((record.at.minus(*took), Tone::Busy, of.to_string()));
                }
                (of, None, ended(of, how))
            }
            Entry::CompensationEnded { run: id, step: of, .. } if *id == run.id => (of, None, format!("{of}: undone")),
            _ => continue,
        };
        if of != step {
            continue;
        }
        if let Some((from, was, before)) = open.take() {
            let is_end = tone.is_none() && was == Tone::Busy;
            let (shown, words) = if is_end { (end_tone(&ledger.state), words.clone()) } else { (was, before) };
            spans.push(Span { from, to: record.at, tone: shown, words });
        }
        open = tone.map(|tone| (record.at, tone, words));
    }
    if let Some((from, tone, words)) = open {
        spans.push(Span { from, to: end, tone, words });
    }
    (!spans.is_empty()).then(|| Lane { name: step.to_string(), kind: LaneKind::Step, spans })
}

fn ended(step: &StepName, how: &StepEnd) -> String {
    match how {
        StepEnd::Done { evidence, .. } => format!("{step}: done: {evidence}"),
        StepEnd::Failed { reason } => format!("{step}: failed: {reason}"),
        StepEnd::Skipped { by } => format!("{step}: skipped by {by}"),
    }
}

fn end_tone(state: &StepState) -> Tone {
    match state {
        StepState::Ended(StepEnd::Done { .. }) => Tone::Done,
        StepState::Ended(StepEnd::Skipped { .. }) => Tone::Unknown,
        _ => Tone::Failed,
    }
}
