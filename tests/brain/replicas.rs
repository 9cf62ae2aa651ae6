//! Ask the replicas: one that still hears its primary vetoes that it is down.

use std::time::Duration;

use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

/// A standby that says `streaming`, and last heard from its primary so long ago.
fn hears(age: Duration) -> Observation {
    up_with(Facts {
        role: Some(Role::Replica),
        lag: Some(Lag { time: Duration::ZERO, bytes: None }),
        streaming: Some(true),
        last_message: Some(age),
        ..Facts::default()
    })
}

/// We do not reach the primary any more.
fn unreachable() -> Desk {
    let mut desk = Desk::settled(settings());
    for probe in ["api", "db", "cache"] {
        desk.see(probe, bad());
    }
    desk
}

/// A second at a time, with a standby whose last message is so old then.
fn run_with(desk: &mut Desk, seconds: u64, age: impl Fn(u64) -> Duration) {
    for second in 0..seconds {
        desk.see("standby", hears(age(second)));
        desk.run_for(1);
    }
}

#[test]
fn a_replica_that_hears_its_primary_vetoes() {
    let mut desk = unreachable();
    run_with(&mut desk, 60, |_| Duration::from_millis(200));
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:replica_streams", 0));
    let pages = desk.notices_of(NoticeKind::Holding);
    assert!(pages.len() == 1 && pages[0].subject.contains("replica standby heard"), "{pages:?}");
    assert_eq!(pages[0].importance, Importance::Page);
    let view = desk.brain.status(desk.now).scenarios.remove(0);
    let guard = view.guards.iter().find(|guard| guard.name == "replicas").unwrap();
    assert!(!guard.passes && guard.detail.contains("db is down for us"), "{guard:?}");
    // The primary dies after all: the replica hears nothing more, and still says that it streams.
    run_with(&mut desk, 40, Duration::from_secs);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

/// A walreceiver says `streaming` for a minute after the primary's host is gone.
#[test]
fn that_it_says_streaming_is_no_veto() {
    let mut desk = unreachable();
    run_with(&mut desk, 14, Duration::from_secs);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

/// Idle, it sends every half a minute: a message from before the outage is no sign of life in it.
#[test]
fn what_came_before_the_outage_is_no_veto() {
    let mut desk = unreachable();
    run_with(&mut desk, 14, |second| Duration::from_secs(second + 1));
    assert_eq!(desk.result(), Some(RunResult::Done));
}

/// It was asked when it failed first, and died before that attempt had ended.
#[test]
fn what_came_while_the_first_bad_attempt_ran_is_no_veto() {
    for (after, acts) in [(900, true), (1_000, true), (1_001, false)] {
        let mut desk = unreachable();
        run_with(&mut desk, 14, |second| Duration::from_secs(second).saturating_sub(Duration::from_millis(after)));
        assert_eq!(!desk.runs().is_empty(), acts, "{after} ms after it began, of a timeout of 1 s");
    }
}

#[test]
fn a_word_that_is_not_renewed_is_none() {
    let mut desk = unreachable();
    run_with(&mut desk, 20, |_| Duration::ZERO);
    assert_eq!(desk.decision(), "hold:replica_streams");
    // We cannot ask the standby any more; what it requires is not told either.
    desk.see("standby", blind());
    desk.run_for(20);
    assert_ne!(desk.decision(), "hold:replica_streams");
}

#[test]
fn only_a_primary_that_has_to_be_down_is_vetoed_and_only_where_it_is_wanted() {
    let mut quiet = settings();
    quiet.scenarios[0].ask_replicas = false;
    let mut elsewhere = settings();
    elsewhere.scenarios[0].when = at_least(2, &["api", "cache"]);
    for settings in [quiet, elsewhere] {
        let mut desk = Desk::settled(settings);
        for probe in ["api", "db", "cache"] {
            desk.see(probe, bad());
        }
        run_with(&mut desk, 14, |_| Duration::ZERO);
        assert_eq!(desk.result(), Some(RunResult::Done));
    }
}

/// Heard from between the decision and the first change.
#[test]
fn a_replica_is_asked_at_the_last_look_too() {
    let mut desk = unreachable();
    desk.answers_now = false;
    run_with(&mut desk, 13, Duration::from_secs);
    assert_eq!((desk.runs().len(), desk.changes().as_str()), (1, ""), "it looks");
    desk.see("standby", hears(Duration::ZERO));
    let started = desk.now.mono + Duration::from_millis(1);
    desk.move_to(started + Duration::from_millis(1));
    for probe in ["standby", "api", "db", "cache"] {
        let observation = if probe == "standby" { hears(Duration::ZERO) } else { bad() };
        desk.event(failoverd::core::Event::Observed { probe: probe.into(), started, observation });
    }
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), ""));
    assert!(desk.run().aborting.as_ref().is_some_and(|(why, _)| why.contains("standby heard")));
}
