//! Seeing and not seeing: Unknown, expiry, isolation, lateness.

use std::time::Duration;

use failoverd::core::{Effect, Event};
use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

/// Two anchors, of which one has to answer.
fn anchored() -> Settings {
    with(|s| {
        s.probes.extend([probe("dns1"), probe("dns2")]);
        s.anchors = vec!["dns1".into(), "dns2".into()];
        s.anchors_at_least = 1;
    })
}

#[test]
fn everything_unknown_holds_and_pages_once() {
    let mut desk = Desk::settled(settings());
    for probe in ["api", "db", "cache", "standby"] {
        desk.see(probe, blind());
    }
    desk.run_for(300);
    assert!(desk.runs().is_empty() && desk.calls.is_empty());
    let pages = desk.notices_of(NoticeKind::Blind);
    assert_eq!((pages.len(), pages[0].importance), (1, Importance::Page));
    let subject = &pages[0].subject;
    for part in ["api (", "db (", "cache (", "votes expired: local_resource: no socket)"] {
        assert!(subject.contains(part), "{subject}");
    }
    // The status says the same, and once.
    let why = &desk.brain.status(desk.now).probes[0].why;
    assert_eq!(why.matches("no socket").count(), 1, "{why}");
    desk.recovery();
    desk.run_for(10);
    for probe in ["api", "db", "cache"] {
        desk.see(probe, blind());
    }
    desk.run_for(60);
    assert_eq!(desk.notices_of(NoticeKind::Blind).len(), 2, "blind again is told again");
}

/// A condition may ask for what is neither up nor down.
#[test]
fn a_condition_on_degraded_or_unknown_holds_then_and_only_then() {
    let unwell = Observation::degraded(Duration::from_millis(5), CauseKind::Slow, "slow");
    for (wanted, seen) in [(Is::Degraded, unwell), (Is::Unknown, blind())] {
        let mut desk = Desk::settled(with(|s| {
            s.scenarios[0].when = Condition::Probe(Subject { probe: "api".into(), is: wanted });
        }));
        assert_eq!(desk.decision(), "none", "{wanted:?}");
        desk.see("api", seen);
        desk.run_for(8);
        assert_eq!(desk.decision(), "hold:confirming", "{wanted:?}");
        desk.see("api", up());
        desk.run_for(5);
        assert_eq!(desk.decision(), "none", "{wanted:?}");
    }
}

#[test]
fn votes_that_nobody_renews_expire() {
    let mut desk = Desk::in_outage(settings(), 8);
    assert_eq!(desk.decision(), "hold:confirming");
    // No observation at all for longer than max_age.
    desk.move_to(desk.now.mono + Duration::from_secs(6));
    desk.event(Event::Tick);
    assert_eq!(desk.decision(), "hold:inconclusive");
    desk.move_to(desk.now.mono + Duration::from_secs(20));
    desk.event(Event::Tick);
    assert!(desk.runs().is_empty(), "what was seen half a minute ago trips nothing");
    desk.run_for(1);
    assert_eq!(desk.decision(), "hold:confirming", "renewed by the first look, without a tick");
}

#[test]
fn cut_off_ourselves_is_not_an_outage() {
    let mut desk = Desk::settled(anchored());
    for probe in ["dns1", "dns2"] {
        desk.see(probe, bad());
    }
    desk.outage();
    desk.run_for(120);
    assert!(desk.runs().is_empty() && desk.calls.is_empty());
    assert_eq!(desk.decision(), "none");
    assert!(desk.brain.status(desk.now).isolated);
    assert_eq!(desk.notices_of(NoticeKind::Blind).len(), 1);
    desk.recovery();
    for probe in ["dns1", "dns2"] {
        desk.see(probe, up());
    }
    desk.run_for(5);
    assert!(!desk.brain.status(desk.now).isolated);
}

#[test]
fn one_anchor_that_answers_is_enough_here() {
    let mut desk = Desk::settled(anchored());
    desk.see("dns1", bad());
    desk.outage();
    desk.run_for(20);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn anchors_are_asked_when_the_first_doubt_arises() {
    let mut desk = Desk::settled(anchored());
    desk.answers_now = false;
    desk.effects.clear();
    desk.outage();
    desk.run_for(1);
    let asked = |name: &str| desk.effects.iter().any(|e| *e == Effect::ProbeNow(name.into()));
    assert!(asked("dns1") && asked("dns2"));
    assert!(desk.effects.contains(&Effect::Pace { probe: "api".into(), fast: true }));
}

/// One bad answer of the target, anchors that still answer, and then our own line breaks: the
/// series of bad observations began before it, the verdict is ours alone.
#[test]
fn an_isolation_that_begins_after_the_first_bad_answer_is_seen_too() {
    let mut desk = Desk::settled(anchored());
    desk.outage();
    desk.run_for(1);
    for probe in ["dns1", "dns2"] {
        desk.see(probe, bad());
    }
    desk.run_for(120);
    assert!(desk.runs().is_empty(), "{}", desk.changes());
}

#[test]
fn an_anchor_that_answers_late_settles_the_verdict_at_once() {
    let mut settings = anchored();
    settings.probes[4..].iter_mut().for_each(|anchor| anchor.fall = 10);
    let mut desk = Desk::settled(settings);
    for probe in ["dns1", "dns2"] {
        desk.see(probe, blind());
    }
    desk.outage();
    desk.run_for(3);
    assert_eq!(desk.decision(), "none", "down, but are we isolated?");
    let started = desk.now.mono + Duration::from_millis(1);
    desk.move_to(started + Duration::from_millis(1));
    desk.event(Event::Observed { probe: "dns1".into(), started, observation: up() });
    assert_eq!(desk.decision(), "hold:confirming");
}

#[test]
fn late_and_repeated_observations_change_nothing() {
    let mut desk = Desk::settled(settings());
    let now = desk.now.mono;
    for _ in 0..10 {
        for probe in ["api", "db", "cache"] {
            desk.event(Event::Observed { probe: probe.into(), started: now, observation: bad() });
            let before = now.minus(Duration::from_secs(3));
            desk.event(Event::Observed { probe: probe.into(), started: before, observation: bad() });
        }
    }
    desk.run_for(30);
    assert_eq!(desk.decision(), "none");
}

#[test]
fn an_observation_of_a_probe_that_is_not_configured_is_dropped() {
    let mut desk = Desk::settled(settings());
    desk.event(Event::Observed { probe: "gone".into(), started: desk.now.mono, observation: bad() });
    desk.vote("w", "b", "gone", Health::Down);
    assert_eq!(desk.decision(), "none");
}
