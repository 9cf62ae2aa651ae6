//! Which records of the journal are of one incident, and from which to which it went on.
//!
//! Its course ends with its last end: of the incident, or of a run of it. What comes after that is of the
//! incident and not of its course: a duty that is done, a task, a loss that is measured once the old primary
//! is back. That may be days later, and nobody recorded what the brain was told in between.

use std::collections::BTreeSet;

use super::report::Linked;
use crate::model::{Entry, IncidentId, RunId};

/// The records of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    incident: IncidentId,
    runs: BTreeSet<RunId>,
    /// The number of its first record.
    pub first: u64,
    /// The number of the record that it ended with; while it goes on, of the newest.
    pub last: u64,
}

impl Course {
    /// Of this incident; `None` where the journal has nothing of it.
    pub fn of(journal: &[Linked], id: &IncidentId) -> Option<Self> {
        let of_incident = |linked: &Linked| match &linked.record.entry {
            Entry::RunStarted { run, incident: Some(of), .. } if of == id => Some(run.clone()),
            _ => None,
        };
        let runs = journal.iter().filter_map(of_incident).collect();
        let mut course = Self { incident: id.clone(), runs, first: 0, last: 0 };
        let own: Vec<&Linked> = journal.iter().filter(|linked| course.owns(&linked.record.entry)).collect();
        let ends =
            |linked: &&Linked| matches!(linked.record.entry, Entry::IncidentClosed { .. } | Entry::RunEnded { .. });
        let mut ended = own.iter().copied().filter(ends);
        let is_over = ended.clone().count() == course.runs.len() + 1;
        let last = if is_over { ended.next_back() } else { own.last().copied() }?;
        (course.first, course.last) = (own.first()?.record.seq, last.record.seq);
        // A command is written behind what it did, at the same moment.
        let next = journal.iter().find(|linked| linked.record.seq == course.last + 1);
        let is_behind = |linked: &Linked| {
            linked.record.at == last.record.at && matches!(linked.record.entry, Entry::Command { .. })
        };
        if next.is_some_and(is_behind) {
            course.last += 1;
        }
        Some(course)
    }

    /// Is the record one of the incident, or of a run of it?
    pub fn owns(&self, entry: &Entry) -> bool {
        incident_of(entry) == Some(&self.incident) || run_of(entry).is_some_and(|run| self.runs.contains(run))
    }

    /// Was the record written during the course?
    pub fn covers(&self, seq: u64) -> bool {
        (self.first..=self.last).contains(&seq)
    }
}

/// The incident that a record is of.
fn incident_of(entry: &Entry) -> Option<&IncidentId> {
    match entry {
        Entry::IncidentOpened { incident, .. }
        | Entry::ExtentSeen { incident, .. }
        | Entry::ReplicationSeen { incident, .. }
        | Entry::IncidentAcknowledged { incident, .. }
        | Entry::Decided { incident, .. }
        | Entry::ApprovalAsked { incident, .. }
        | Entry::ApprovalAnswered { incident, .. }
        | Entry::Escalated { incident, .. }
        | Entry::Unanswered { incident, .. }
        | Entry::StatusUpdated { incident, .. }
        | Entry::DutiesTaken { incident, .. }
        | Entry::DutyReminded { incident, .. }
        | Entry::DutyDone { incident, .. }
        | Entry::IncidentClosed { incident, .. } => Some(incident),
        Entry::RunStarted { incident, .. } => incident.as_ref(),
        _ => None,
    }
}

/// The run that a record is of.
fn run_of(entry: &Entry) -> Option<&RunId> {
    match entry {
        Entry::RunStarted { run, .. }
        | Entry::RunAborting { run, .. }
        | Entry::LossMeasured { run, .. }
        | Entry::StepIntent { run, .. }
        | Entry::StepApplied { run, .. }
        | Entry::StepParked { run, .. }
        | Entry::StepUnparked { run, .. }
        | Entry::StepEnded { run, .. }
        | Entry::CompensationIntent { run, .. }
        | Entry::CompensationEnded { run, .. }
        | Entry::RunEnded { run, .. } => Some(run),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HumanDuration, Record, RunKind, RunResult, Severity, Trigger, WallTime};

    /// So many records are written at one moment.
    fn journal(entries: Vec<Entry>, at_once: i64) -> Vec<Linked> {
        let linked = |(number, entry): (usize, Entry)| Linked {
            record: Record { seq: number as u64 + 1, at: WallTime(number as i64 / at_once), entry },
            checksum: String::new(),
        };
        entries.into_iter().enumerate().map(linked).collect()
    }

    fn opened(id: &str) -> Entry {
        Entry::IncidentOpened {
            incident: id.into(),
            scenario: "outage".into(),
            severity: Severity("P0".into()),
            outage_start: WallTime(0),
            votes: vec![],
            replication: vec![],
            extent: None,
            objectives: None,
        }
    }

    fn run(id: &str, incident: &str) -> Entry {
        let plan = crate::model::Plan {
            name: "p".into(),
            steps: vec![],
            point_of_no_return: None,
            parameters: vec![],
            rto: None,
        };
        Entry::RunStarted {
            run: id.into(),
            incident: Some(incident.into()),
            scenario: "outage".into(),
            service: "shop".into(),
            epoch: crate::model::Epoch(1),
            trigger: Trigger::Automatic,
            votes: vec![],
            outage_start: WallTime(0),
            rto: HumanDuration::ZERO,
            predicted_loss: None,
            predicted_writes: Default::default(),
            plan_hash: plan.hash(),
            plan: Box::new(plan),
            run_kind: RunKind::Ungraceful,
        }
    }

    #[test]
    fn what_comes_days_later_is_of_the_incident_and_not_of_its_course() {
        let command = || Entry::Command { by: "ann".into(), command: "{}".into(), result: "done".into() };
        let done =
            |duty: &str| Entry::DutyDone { incident: "INC-1".into(), duty: duty.into(), by: "ann".into(), note: None };
        let mut entries = vec![command(), opened("INC-1"), run("RUN-1", "INC-1")];
        let first = Course::of(&journal(entries.clone(), 1), &"INC-1".into()).expect("it is there");
        assert_eq!((first.first, first.last), (2, 3), "it goes on");
        entries.push(Entry::RunEnded { run: "RUN-1".into(), result: RunResult::Done });
        entries.push(Entry::IncidentClosed { incident: "INC-1".into(), why: "over".into() });
        entries.extend([command(), opened("INC-2"), command(), done("post-mortem"), command()]);
        let later = Course::of(&journal(entries.clone(), 1), &"INC-1".into()).expect("it is there");
        assert_eq!(later.last, 5, "a command that came later has nothing to do with it");
        let journal = journal(entries, 6);
        let course = Course::of(&journal, &"INC-1".into()).expect("it is there");
        assert_eq!((course.first, course.last), (2, 6), "with the command behind it");
        let own: Vec<u64> =
            journal.iter().filter(|one| course.owns(&one.record.entry)).map(|one| one.record.seq).collect();
        assert_eq!(own, [2, 3, 4, 5, 9]);
        assert_eq!(Course::of(&journal, &"INC-9".into()), None);
    }
}
