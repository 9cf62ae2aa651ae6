//! What the ledger takes, and which records it refuses: one that does not follow changes nothing.

use std::time::Duration;

use failoverd::core::ledger::Ledger;
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

/// A ledger that records are tried on.
struct Book {
    ledger: Ledger,
    at: WallTime,
    run: RunId,
}

impl Book {
    fn of(desk: &Desk) -> Self {
        Self { ledger: desk.brain.ledger().clone(), at: desk.now.wall, run: desk.run().id.clone() }
    }

    /// Before its point of no return: `fence` and `scale` are done, `promote` is looked at.
    fn before_promotion() -> Self {
        let mut desk = Desk::settled(settings());
        desk.answer("promote", Phase::Observe, [Reply::Silence]);
        desk.outage();
        desk.run_for(15);
        assert_eq!(desk.changes(), "fence scale");
        Self::of(&desk)
    }

    fn apply(&mut self, entry: Entry) -> Result<(), String> {
        let record = Record { seq: self.ledger.seq + 1, at: self.at, entry };
        self.ledger.apply(&record).map_err(|illegal| illegal.reason)
    }

    fn takes(&mut self, entry: Entry) {
        self.apply(entry.clone()).unwrap_or_else(|why| panic!("{entry:?}: {why}"));
    }

    /// Why not.
    #[track_caller]
    fn refuses(&mut self, entry: Entry) -> String {
        let before = self.ledger.clone();
        let why = self.apply(entry.clone()).expect_err(&format!("{entry:?}"));
        assert_eq!(self.ledger, before);
        why
    }

    fn abort(&self) -> Entry {
        Entry::RunAborting { run: self.run.clone(), by: "ann".into(), compensate: true }
    }

    fn undo(&self, step: &str, epoch: u64) -> Entry {
        Entry::CompensationIntent { run: self.run.clone(), step: step.into(), epoch: Epoch(epoch) }
    }

    fn park(&self, step: &str) -> Entry {
        Entry::StepParked { run: self.run.clone(), step: step.into(), reason: "".into() }
    }

    fn end(&self, result: RunResult) -> Entry {
        Entry::RunEnded { run: self.run.clone(), result }
    }

    fn step_end(&self, step: &str, took: Duration) -> Entry {
        let end = StepEnd::Done { evidence: String::new(), already: false, outputs: Outputs::new() };
        Entry::StepEnded { run: self.run.clone(), step: step.into(), end, took }
    }
}

#[test]
fn a_run_ends_only_as_it_may() {
    let mut book = Book::before_promotion();
    assert!(book.refuses(book.end(RunResult::Done)).contains("cannot end as"));
    assert!(book.refuses(book.end(RunResult::Aborted)).contains("cannot end as"));
    book.takes(book.abort());
    assert!(book.refuses(book.end(RunResult::Done)).contains("cannot end as"));
    book.takes(book.end(RunResult::Aborted));
}

#[test]
fn a_drill_ends_only_after_it_was_judged() {
    let mut desk = Desk::settled(with_drill(|_| {}));
    desk.answer("promote", Phase::Observe, [Reply::Silence]);
    let drill = failoverd::core::Command::Drill { plan: "regional".into(), target: None };
    desk.command(drill).unwrap();
    desk.run_for(5);
    let mut book = Book::of(&desk);
    assert!(desk.run().is_drill());
    for result in [RunResult::Done, RunResult::Aborted] {
        assert!(book.refuses(book.end(result)).contains("cannot end as"));
    }
}

#[test]
fn only_an_abort_is_followed_by_an_undoing() {
    let mut book = Book::before_promotion();
    book.refuses(book.undo("fence", 1));
    book.takes(book.abort());
    book.refuses(book.undo("fence", 2));
    book.refuses(book.undo("promote", 1));
    book.takes(book.undo("fence", 1));
    let outcome = Applied::Refused { reason: "locked".into(), again: false };
    book.takes(Entry::CompensationEnded { run: book.run.clone(), step: "fence".into(), outcome });
    book.refuses(book.park("fence"));
    book.refuses(book.park("promote"));
}

#[test]
fn an_outcome_belongs_to_the_attempt_that_was_intended() {
    let mut book = Book::before_promotion();
    let (run, step, before) = (book.run.clone(), StepName::from("promote"), serde_json::Value::Null);
    let intent =
        Entry::StepIntent { run: run.clone(), step: step.clone(), attempt: 1, epoch: Epoch(1), promotes: None, before };
    book.takes(intent);
    let applied = |attempt| {
        let outcome = Applied::Unknown { reason: "".into() };
        Entry::StepApplied { run: run.clone(), step: step.clone(), attempt, outcome }
    };
    book.refuses(applied(2));
    book.takes(applied(1));
}

#[test]
fn what_has_ended_is_over() {
    let mut book = Book::of(&Desk::in_outage(settings(), 40));
    let why = book.refuses(book.step_end("route", Duration::ZERO));
    assert!(why.contains("has ended"), "{why}");
}

/// Of each pair of an old and a new primary the newest word counts.
#[test]
fn a_loss_that_is_measured_again_replaces_what_was_measured_of_the_same_two() {
    let mut book = Book::of(&Desk::in_outage(settings(), 40));
    let mut measure = |old: &str, bytes| {
        let writes = Writes { bytes: Some(bytes), ..Writes::default() };
        let divergence = Divergence { old: old.into(), new: "standby".into(), writes, time: None, seen: WallTime(0) };
        book.takes(Entry::LossMeasured { run: book.run.clone(), divergence });
        let measured = &book.ledger.runs[&book.run].measured;
        measured.iter().map(|loss| (loss.old.to_string(), loss.writes.bytes.unwrap())).collect::<Vec<_>>()
    };
    measure("db", 1);
    assert_eq!(measure("cache", 2), [("db".into(), 1), ("cache".into(), 2)]);
    assert_eq!(measure("db", 3), [("cache".into(), 2), ("db".into(), 3)]);
}

#[test]
fn a_new_leader_is_granted_the_next_epoch_where_a_run_is_active() {
    let mut book = Book::before_promotion();
    let leads = |term, epoch: Option<u64>| Entry::LeaderChanged {
        member: "there".into(),
        term: Term(term),
        epoch: epoch.map(Epoch),
    };
    for wrong in [None, Some(1), Some(3)] {
        assert!(book.refuses(leads(1, wrong)).contains("is active under epoch"));
    }
    book.takes(leads(1, Some(2)));
    assert_eq!(book.ledger.runs[&book.run].epoch, Epoch(2));
    assert!(book.refuses(leads(1, Some(3))).contains("does not follow term"));
    let mut book = Book::of(&Desk::in_outage(settings(), 40));
    assert!(book.refuses(leads(1, Some(2))).contains("no run is active"));
}

/// A hundred times are kept of each step, and the oldest goes.
#[test]
fn the_newest_hundred_times_of_a_step_are_kept() {
    let plan = small_plan("regional", "fence", EffectKind::Fence);
    let desk = Desk::in_outage(with(|s| s.plans = vec![plan.clone()]), 40);
    assert_eq!(desk.result(), Some(RunResult::Done));
    let start = desk.durable.iter().find(|record| matches!(record.entry, Entry::RunStarted { .. })).unwrap();
    let mut book = Book::of(&desk);
    for number in 2..=102 {
        let mut entry = start.entry.clone();
        let Entry::RunStarted { run, epoch, incident, .. } = &mut entry else { unreachable!() };
        (*run, *epoch, *incident) = (RunId::new(format!("RUN-{number}")), Epoch(number), None);
        book.run = run.clone();
        book.takes(entry);
        book.takes(book.step_end("fence", Duration::from_secs(number)));
        book.takes(book.end(RunResult::Done));
        let times = &book.ledger.step_times.values().next().unwrap();
        assert_eq!(times.len() as u64, number.min(100));
    }
    let times = book.ledger.step_times.values().next().unwrap();
    assert_eq!(times[0], Duration::from_secs(3));
    let kind = plan.steps[0].work.kind();
    let measured = book.ledger.measured(&plan.name, &"fence".into(), &kind);
    assert_eq!(measured, Some(Duration::from_secs(97)), "the 95th of 3 to 102");
}
