//! The daemon may end at any record: what it finds then leads to the same end.

use std::time::Duration;

use failoverd::core::Brain;
use failoverd::core::ledger::Ledger;
use failoverd::core::run_ledger::StepState;
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

fn ends(desk: &Desk) -> Vec<String> {
    let run = desk.run();
    run.plan
        .steps
        .iter()
        .zip(&run.steps)
        .map(|(step, ledger)| match &ledger.state {
            StepState::Ended(StepEnd::Done { .. }) => format!("{} done", step.name),
            other => format!("{} {other:?}", step.name),
        })
        .collect()
}

/// For each prefix of the journal of an undisturbed failover: a daemon that knows only this, in a
/// world in which every change whose intent is in it may or may not have happened.
#[test]
fn at_every_record_boundary_the_same_end_is_reached() {
    let undisturbed = Desk::in_outage(settings(), 40);
    assert_eq!(undisturbed.result(), Some(RunResult::Done));
    let records = undisturbed.durable.len();
    assert!(records > 20, "{records}");
    for happened in [true, false] {
        for kept in 0..=records {
            let mut desk = Desk::in_outage(settings(), 40);
            desk.durable.truncate(kept);
            desk.done = intended(&desk.durable, happened);
            let promoted_before = desk.done.contains(&"promote".into());
            desk.calls.clear();
            desk.restart(kept);
            desk.run_for(60);
            let opened = desk.durable[..kept].iter().any(|record| matches!(record.entry, Entry::IncidentOpened { .. }));
            if !opened {
                // Nobody has written down the lag before the outage: it holds, and says so.
                assert!(desk.runs().is_empty(), "record {kept}");
                assert_eq!(desk.decision(), "hold:lag_unknown", "record {kept}");
                continue;
            }
            assert_eq!(desk.runs().len(), 1, "record {kept}, happened {happened}");
            assert_eq!(desk.result(), Some(RunResult::Done), "record {kept}, happened {happened}: {:?}", ends(&desk));
            assert_eq!(ends(&desk), ends(&undisturbed), "record {kept}");
            let promotions = desk.changes().matches("promote").count();
            assert!(promotions <= usize::from(!promoted_before), "record {kept}: promoted twice");
        }
    }
}

/// What was known of the replication when the incident opened is believed for a minute, and no longer.
#[test]
fn what_an_incident_knows_of_the_replication_grows_old() {
    for (away, decision) in [(40, "act"), (70, "hold:lag_unknown")] {
        let mut desk = Desk::in_outage(settings(), 40);
        let opened = desk.durable.iter().position(|record| matches!(record.entry, Entry::IncidentOpened { .. }));
        desk.durable.truncate(opened.unwrap() + 1);
        desk.now.mono = desk.now.mono + Duration::from_secs(away - 40);
        desk.now.wall = desk.now.wall + Duration::from_secs(away - 40);
        desk.restart(opened.unwrap() + 1);
        desk.run_for(30);
        assert_eq!(if desk.runs().is_empty() { desk.decision() } else { "act".to_owned() }, decision, "after {away} s");
    }
}

/// A synchronous primary and an RPO of nothing; the standby itself is 30 s behind in its reading.
fn nothing_may_be_lost() -> Desk {
    let mut desk = Desk::settled(with(|s| s.scenarios[0].rpo = Some(HumanDuration::ZERO)));
    desk.see("db", up_with(Facts { synchronous: Some(true), ..Facts::default() }));
    desk.see("standby", lagging(Duration::from_secs(30)));
    desk.run_for(5);
    // The database goes on for now.
    for probe in ["api", "cache"] {
        desk.see(probe, bad());
    }
    desk.run_for(4);
    assert_eq!(desk.decision(), "hold:confirming");
    desk
}

fn seen_anew(desk: &Desk) -> usize {
    desk.entries(|entry| matches!(entry, Entry::ReplicationSeen { .. }))
}

#[test]
fn a_primary_that_took_writes_when_the_incident_opened_may_have_lost_some() {
    // The records of a version that did not keep since when the primary was down say nothing of it.
    for old in [false, true] {
        let mut desk = nothing_may_be_lost();
        assert_eq!(seen_anew(&desk), 0);
        for record in &mut desk.durable {
            let Entry::IncidentOpened { replication, .. } = &mut record.entry else { continue };
            assert!(!replication[0].synchronous && replication[0].down_since.is_none());
            replication[0].synchronous = old;
        }
        desk.outage();
        desk.restart(desk.durable.len());
        desk.run_for(40);
        assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:lag_above_rpo", 0), "an old record: {old}");
    }
}

#[test]
fn a_primary_that_was_seen_to_fall_after_the_incident_opened_lost_none() {
    let mut desk = nothing_may_be_lost();
    desk.outage();
    desk.run_for(4);
    assert_eq!((seen_anew(&desk), desk.runs().len()), (1, 0));
    desk.restart(desk.durable.len());
    desk.run_for(40);
    assert_eq!(desk.result(), Some(RunResult::Done), "{}", desk.decision());
    assert_eq!(desk.run().predicted_loss, Some(HumanDuration::ZERO));
}

#[test]
fn a_primary_that_came_back_after_it_fell_may_take_writes_again() {
    let mut desk = nothing_may_be_lost();
    desk.outage();
    desk.run_for(4);
    desk.see("db", up_with(Facts { synchronous: Some(true), ..Facts::default() }));
    desk.run_for(3);
    assert_eq!((seen_anew(&desk), desk.runs().len()), (2, 0));
    desk.see("db", bad());
    desk.restart(desk.durable.len());
    desk.run_for(40);
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:lag_above_rpo", 0));
}

#[test]
fn a_primary_that_cannot_be_told_is_not_back() {
    let mut desk = nothing_may_be_lost();
    desk.outage();
    desk.run_for(4);
    assert_eq!(seen_anew(&desk), 1);
    desk.see("db", blind());
    desk.run_for(8);
    assert_eq!((seen_anew(&desk), desk.runs().len()), (1, 0));
}

/// The replication names no primary: it is whatever the condition wants down, and nothing else that it asks for.
#[test]
fn what_an_incident_knows_is_taken_up_for_a_primary_that_is_not_named() {
    let mut desk = Desk::in_outage(
        with(|s| {
            s.scenarios[0].replication[0].primary = None;
            let when = s.scenarios[0].when.clone();
            s.scenarios[0].when = Condition::All(vec![when, is("standby", Health::Up)]);
        }),
        5,
    );
    desk.restart(desk.durable.len());
    desk.run_for(30);
    assert_eq!(desk.result(), Some(RunResult::Done), "{}", desk.decision());
}

#[test]
fn a_primary_that_flaps_does_not_fill_the_journal() {
    let mut desk = nothing_may_be_lost();
    desk.command(failoverd::core::Command::Pause).unwrap();
    for _ in 0..40 {
        desk.see("db", bad());
        desk.run_for(4);
        desk.see("db", up_with(Facts { synchronous: Some(true), ..Facts::default() }));
        desk.run_for(3);
    }
    assert_eq!(seen_anew(&desk), 20);
    let incident = &desk.brain.ledger().incidents[&desk.incident()];
    assert!(incident.replication.is_empty(), "from then on nothing is known: {:?}", incident.replication);
}

/// What the journal has from the future by a clock that was set back may be of any age.
#[test]
fn what_lies_in_the_future_is_not_recalled() {
    for (set_back, decision) in [(0, "act"), (3600, "hold:lag_unknown")] {
        let mut desk = Desk::in_outage(settings(), 5);
        desk.clock_set -= set_back * 1000;
        desk.now.wall = desk.now.wall.minus(Duration::from_secs(set_back as u64));
        desk.restart(desk.durable.len());
        desk.run_for(30);
        let acted = if desk.runs().is_empty() { desk.decision() } else { "act".to_owned() };
        assert_eq!(acted, decision, "set back by {set_back} s");
    }
}

/// The steps that were changed for sure, and the ones whose intent alone is known, as `happened`.
pub fn intended(records: &[Record], happened: bool) -> std::collections::BTreeSet<StepName> {
    let ledger = Ledger::replay(records).unwrap();
    let Some(run) = ledger.runs.values().next() else { return Default::default() };
    let stands = |state: &StepState| match state {
        StepState::Pending => false,
        StepState::Intended => happened,
        _ => true,
    };
    run.plan.steps.iter().zip(&run.steps).filter(|(_, s)| stands(&s.state)).map(|(step, _)| step.name.clone()).collect()
}

#[test]
fn the_ledger_replays_to_the_same_bytes() {
    let desk = Desk::in_outage(settings(), 40);
    let replayed = Ledger::replay(&desk.durable).unwrap();
    let bytes = serde_json::to_string(desk.brain.ledger()).unwrap();
    assert_eq!(serde_json::to_string(&replayed).unwrap(), bytes);
    let read: Ledger = serde_json::from_str(&bytes).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), bytes);
    for record in &desk.durable {
        let text = serde_json::to_string(record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), *record);
    }
}

#[test]
fn a_journal_with_a_hole_or_a_twist_is_refused() {
    let desk = Desk::in_outage(settings(), 40);
    let brain = |records: &[Record]| Brain::new(settings(), records, desk.now).map(|_| ());
    assert!(brain(&desk.durable).is_ok());
    for place in 1..desk.durable.len() - 1 {
        let mut hole = desk.durable.clone();
        hole.remove(place);
        assert!(brain(&hole).is_err(), "without record {place}");
        let mut twist = desk.durable.clone();
        twist.swap(place, place + 1);
        assert!(brain(&twist).is_err(), "records {place} and {} the other way round", place + 1);
    }
}

#[test]
fn a_pause_and_a_mode_outlive_the_daemon() {
    let mut desk = Desk::settled(settings());
    desk.command(failoverd::core::Command::Pause).unwrap();
    desk.command(failoverd::core::Command::Mode { mode: Some(Mode::Approve) }).unwrap();
    desk.restart(desk.durable.len());
    let status = desk.brain.status(desk.now);
    assert_eq!((status.paused_by.as_deref(), status.mode), (Some("ann"), Mode::Approve));
}

/// A daemon that starts again and again must not page each time; a person who has to act is paged.
#[test]
fn a_run_that_goes_on_after_a_restart_is_told_and_one_that_is_parked_pages() {
    for (reply, importance) in [(Reply::Silence, Importance::Info), (Reply::Say(refused(false)), Importance::Page)] {
        let mut desk = Desk::settled(settings());
        desk.answer("promote", Phase::Apply, [reply]);
        desk.outage();
        desk.run_for(15);
        desk.notices.clear();
        desk.restart(desk.durable.len());
        let told: Vec<_> = desk.notices.iter().filter(|notice| notice.subject.contains("after a restart")).collect();
        assert_eq!(told.len(), 1, "{:?}", desk.notices);
        assert_eq!(told[0].importance, importance, "{}", told[0].subject);
    }
}

#[test]
fn a_run_whose_scenario_is_gone_is_not_begun_after_a_restart() {
    let mut desk = Desk::settled(settings());
    desk.answers_now = false;
    desk.outage();
    while desk.runs().is_empty() {
        desk.go_on();
    }
    desk.reload(with(|s| s.scenarios.clear()));
    desk.restart(desk.durable.len());
    desk.run_for(5);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), ""));
}
