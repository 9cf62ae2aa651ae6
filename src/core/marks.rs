//! How old the durable things are, by the monotonic clock.
//!
//! The journal has wall times, and the wall clock may jump: a cool-down or a last moment to decide
//! must not jump with it. So the wall clock is asked once, when a life begins or a record is written;
//! from there on only the monotonic clock counts.

use std::collections::HashMap;
use std::time::Duration;

use super::incident::person;
use super::ledger::Ledger;
use crate::model::{Entry, IncidentId, MonoTime, Now, RunId, WallTime};
use serde::{Deserialize, Serialize};

/// So old was it at that time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Mark {
    at: MonoTime,
    age: Duration,
}

impl Mark {
    /// What happened at a wall time. What lies in the future by our clock is as if it happened now:
    /// it makes every wait the longest one, and none longer than that.
    fn of(now: Now, wall: WallTime) -> Self {
        Self { at: now.mono, age: now.wall.since(wall) }
    }

    fn age(&self, now: MonoTime) -> Duration {
        self.age + now.since(self.at)
    }
}

/// The marks of everything whose age decides something.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Marks {
    starts: HashMap<RunId, Mark>,
    ends: HashMap<RunId, Mark>,
    outages: HashMap<IncidentId, Mark>,
    /// Of each person.
    answers: HashMap<IncidentId, HashMap<String, Mark>>,
}

impl Marks {
    /// What former lives left.
    pub(super) fn of(ledger: &Ledger, now: Now) -> Self {
        let mut marks = Self::default();
        for (id, run) in &ledger.runs {
            marks.starts.insert(id.clone(), Mark::of(now, run.started));
            if let Some((_, ended)) = run.ended {
                marks.ends.insert(id.clone(), Mark::of(now, ended));
            }
        }
        for (id, incident) in ledger.incidents.iter().filter(|(_, incident)| incident.closed.is_none()) {
            marks.outages.insert(id.clone(), Mark::of(now, incident.outage_start));
            for answer in &incident.approvals {
                let of = marks.answers.entry(id.clone()).or_default();
                of.insert(person(&answer.by).to_owned(), Mark::of(now, answer.at));
            }
        }
        marks
    }

    /// A record of this life.
    pub(super) fn note(&mut self, now: Now, entry: &Entry) {
        match entry {
            Entry::RunStarted { run, .. } => {
                self.starts.insert(run.clone(), Mark::of(now, now.wall));
            }
            Entry::RunEnded { run, .. } => {
                self.ends.insert(run.clone(), Mark::of(now, now.wall));
            }
            Entry::IncidentOpened { incident, outage_start, .. } => {
                self.outages.insert(incident.clone(), Mark::of(now, *outage_start));
            }
            Entry::ApprovalAnswered { incident, by, .. } => {
                let of = self.answers.entry(incident.clone()).or_default();
                of.insert(person(by).to_owned(), Mark::of(now, now.wall));
            }
            Entry::IncidentClosed { incident, .. } => {
                self.outages.remove(incident);
                self.answers.remove(incident);
            }
            _ => {}
        }
    }

    /// How long ago a run began.
    pub(super) fn since_start(&self, run: &RunId, now: MonoTime) -> Option<Duration> {
        self.starts.get(run).map(|mark| mark.age(now))
    }

    /// How long ago a run ended; `None` while it is active.
    pub(super) fn since_end(&self, run: &RunId, now: MonoTime) -> Option<Duration> {
        self.ends.get(run).map(|mark| mark.age(now))
    }

    /// For how long the outage of an open incident has gone on.
    pub(super) fn since_outage(&self, incident: &IncidentId, now: MonoTime) -> Option<Duration> {
        self.outages.get(incident).map(|mark| mark.age(now))
    }

    /// How long ago somebody's newest answer to an open incident was given.
    pub(super) fn since_answer(&self, incident: &IncidentId, by: &str, now: MonoTime) -> Option<Duration> {
        self.answers.get(incident)?.get(person(by)).map(|mark| mark.age(now))
    }
}
