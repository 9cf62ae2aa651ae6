//! Woken by nothing but the time that the brain asked for.

use failoverd::core::{Command, Effect, Event};
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

/// A change that never answers is given up, and looked at, although nothing else happens meanwhile.
#[test]
fn a_silent_change_is_given_up_by_the_wake_up_alone() {
    let mut desk = Desk::settled(settings());
    desk.answer("fence", Phase::Apply, [Reply::Silence]);
    desk.command(Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None }).unwrap();
    assert_eq!(desk.phases("fence"), "observe apply");
    let began = desk.now.mono;
    while desk.phases("fence") == "observe apply" {
        let wake = desk.brain.next_wake().expect("somebody has to give it up");
        desk.move_to(wake);
        desk.event(Event::Tick);
        assert!(desk.now.mono.since(began).as_secs() < 60, "{}", desk.phases("fence"));
    }
    assert_eq!(desk.now.mono.since(began).as_secs(), 35, "30 s for the call, and 5 s more");
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert!(desk.phases("fence").starts_with("observe apply observe"), "{}", desk.phases("fence"));
}

/// What a witness saw counts for so long, and what was confirmed with it is confirmed no longer: at that moment, and
/// not when something else happens, by which time it may have voted again.
#[test]
fn a_vote_of_a_witness_expires_by_the_wake_up_alone() {
    let mut desk = Desk::settled(with(|s| s.quorum = 2));
    desk.outage();
    desk.run_for(3);
    for probe in ["api", "db", "cache"] {
        desk.vote("w", "b", probe, Health::Down);
    }
    let voted = desk.now.mono;
    assert_eq!(desk.decision(), "hold:confirming");
    desk.run_for(2);
    let expires = voted + settings().probes[0].max_age.get();
    while desk.now.mono <= expires {
        let wake = desk.brain.next_wake().expect("an expiry").min(expires + std::time::Duration::from_nanos(1));
        desk.move_to(wake);
        if desk.brain.next_wake() == Some(wake) {
            desk.event(Event::Tick);
        }
    }
    assert_eq!(desk.decision(), "hold:inconclusive");
}

/// That the condition cannot be told is told by the time alone.
#[test]
fn blindness_is_told_by_the_wake_up_alone() {
    let mut desk = Desk::settled(settings());
    for wakes in 0.. {
        if !desk.notices_of(NoticeKind::Blind).is_empty() {
            break;
        }
        let wake = desk.brain.next_wake().expect("it has to be told");
        desk.move_to(wake.max(desk.now.mono));
        desk.event(Event::Tick);
        assert!(wakes < 100, "{wake:?}");
    }
}

/// Its probes say nothing at all any more (their tasks hang): it is woken when its last vote expires, and once more
/// when it has seen nothing for five seconds.
#[test]
fn a_leader_of_whose_probes_nothing_comes_gives_the_lead_back_by_the_wake_up_alone() {
    for last in [up(), bad()] {
        let mut desk = Desk::following(settings());
        desk.event(Event::Leads { term: Term(1) });
        desk.command(Command::Pause).unwrap();
        for probe in ["api", "db", "cache", "standby"] {
            desk.see(probe, last.clone());
        }
        desk.run_for(20);
        let (began, mut gaps) = (desk.now.mono, Vec::new());
        let gave_back = |desk: &Desk| desk.effects.iter().any(|effect| matches!(effect, Effect::HandOver { .. }));
        while !gave_back(&desk) {
            let wake = desk.brain.next_wake().expect("it has to be looked at again");
            gaps.push(wake.since(desk.now.mono).as_millis());
            desk.move_to(wake);
            desk.event(Event::Tick);
            assert!(gaps.len() < 100 && desk.now.mono.since(began).as_secs() < 120, "{gaps:?}");
        }
        let gaps: Vec<u128> = gaps.into_iter().filter(|gap| *gap > 0).collect();
        assert_eq!(gaps.last(), Some(&5000), "{gaps:?}");
    }
}
