//! Gray failure: windows over what other probes saw.

use std::time::Duration;

use failoverd::core::view::ProbeView;
use failoverd::core::{Effect, Event};
use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

const SHOP: &str = "shop";

fn window(of: &[&str]) -> ProbeSettings {
    let settings = WindowSettings {
        of: of.iter().map(|&name| name.into()).collect(),
        over: HumanDuration::secs(60),
        at_least: 20,
        latency: vec![LatencyLimit { percentile: 90, at_most: HumanDuration::millis(500) }],
        error_ratio: Some(0.2),
        burn_rate: None,
    };
    ProbeSettings { window: Some(Box::new(settings)), fall: 2, rise: 1, ..probe(SHOP) }
}

fn shop() -> Settings {
    with(|s| s.probes.push(window(&["api", "cache"])))
}

fn slow() -> Observation {
    Observation::up(Duration::from_millis(900))
}

fn view(desk: &Desk) -> ProbeView {
    let status = desk.brain.status(desk.now);
    status.probes.into_iter().find(|view| view.name.as_str() == SHOP).expect("the window")
}

fn told(desk: &Desk) -> (Health, bool, String) {
    let view = view(desk);
    (view.health, view.degraded, view.why)
}

#[test]
fn what_answers_slowly_for_long_enough_is_degraded_and_well_again_when_it_is_not() {
    let mut desk = Desk::settled(shop());
    assert_eq!(told(&desk), (Health::Up, false, String::new()));
    desk.see("api", slow());
    desk.run_for(5);
    assert!(!view(&desk).degraded, "five of fifty answers");
    desk.run_for(20);
    let (health, degraded, why) = told(&desk);
    assert!((health, degraded) == (Health::Up, true) && why.starts_with("slow_window: p90 of "), "{why}");
    assert!(view(&desk).latency_ms.is_some_and(|latency| (855.0..945.0).contains(&latency)));
    assert!(desk.runs().is_empty(), "gray failure is no outage");
    desk.see("api", up());
    desk.run_for(70);
    assert_eq!(told(&desk), (Health::Up, false, String::new()));
}

/// `shop is degraded` is a condition like any other, and a plan may follow.
#[test]
fn a_scenario_can_act_upon_it() {
    let mut settings = shop();
    settings.scenarios[0].when = Condition::Probe(Subject { probe: SHOP.into(), is: Is::Degraded });
    let mut desk = Desk::settled(settings);
    desk.see("api", slow());
    desk.see("cache", slow());
    desk.run_for(60);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

/// Where the owner says that it is an outage, the last look asks the parts.
#[test]
fn it_is_down_where_the_owner_says_so() {
    let mut settings = shop();
    settings.probes.last_mut().unwrap().causes = [(CauseKind::SlowWindow, Meaning::Down)].into();
    settings.scenarios[0].when = down(SHOP);
    let mut desk = Desk::settled(settings);
    desk.see("api", slow());
    desk.run_for(60);
    assert_eq!(desk.result(), Some(RunResult::Done), "{:?}", told(&desk));
    let asked =
        |name: &str| desk.effects.iter().any(|e| matches!(e, Effect::ProbeNow(probe) if probe.as_str() == name));
    assert!(asked("api") && asked("cache") && !asked(SHOP), "nobody can ask a window");
    assert!(!desk.effects.iter().any(|e| matches!(e, Effect::Pace { probe, .. } if probe.as_str() == SHOP)));
}

#[test]
fn with_a_part_that_cannot_be_looked_at_it_is_unknown_and_never_down() {
    let mut settings = shop();
    settings.probes.last_mut().unwrap().causes = [(CauseKind::ErrorRatio, Meaning::Down)].into();
    settings.scenarios[0].when = down(SHOP);
    let mut desk = Desk::settled(settings);
    desk.see("api", bad());
    desk.see("cache", blind());
    desk.run_for(120);
    let (health, _, why) = told(&desk);
    assert!(health == Health::Unknown && why.contains("no_data: cache is unknown"), "{health} {why}");
    assert!(desk.runs().is_empty());
}

/// Failed looks from the time in which we were cut off stay in no window.
#[test]
fn what_failed_while_we_were_cut_off_does_not_count() {
    let mut settings = shop();
    settings.probes.push(probe("dns"));
    settings.anchors = vec!["dns".into()];
    settings.anchors_at_least = 1;
    let mut desk = Desk::settled(settings.clone());
    desk.run_for(40);
    for probe in ["dns", "api", "cache"] {
        desk.see(probe, bad());
    }
    desk.run_for(30);
    assert!(!view(&desk).degraded);
    // The anchor answers a moment sooner than the others: what failed before that was we.
    desk.see("dns", up());
    desk.run_for(1);
    for probe in ["api", "cache"] {
        desk.see(probe, up());
    }
    for _ in 0..60 {
        desk.run_for(1);
        let (_, _, why) = told(&desk);
        let figures = view(&desk).facts.map(|facts| facts.figures).unwrap_or_default();
        let errors = figures.iter().find(|figure| figure.name == "error_ratio").map(|figure| figure.value);
        assert!(!view(&desk).degraded && errors == Some(0.0), "{errors:?} {why}");
    }
    // The same with an anchor that answers all the while.
    let mut desk = Desk::settled(settings);
    desk.run_for(40);
    desk.see("api", bad());
    desk.run_for(30);
    assert!(view(&desk).degraded && view(&desk).why.starts_with("error_ratio: "), "{:?}", told(&desk));
}

#[test]
fn after_a_stall_it_begins_anew() {
    let mut desk = Desk::settled(shop());
    desk.see("api", slow());
    desk.run_for(40);
    assert!(view(&desk).degraded);
    desk.event(Event::Stalled { by: Duration::from_secs(3) });
    let seen = desk.now.mono.minus(Duration::from_secs(1));
    desk.see("api", up());
    // Under way while we stood still: it took long because we did.
    for step in 0..30 {
        let started = seen + Duration::from_millis(step);
        desk.event(Event::Observed { probe: "api".into(), started, observation: slow() });
    }
    desk.run_for(9);
    assert!(view(&desk).why.contains("stalled: began anew"), "{:?}", told(&desk));
    desk.run_for(10);
    assert_eq!(told(&desk), (Health::Up, false, String::new()));
}

/// No wake-ups of its own: its vote expires when its parts fall silent.
#[test]
fn when_its_parts_fall_silent_its_vote_expires() {
    let mut desk = Desk::settled(shop());
    let last = desk.now.mono;
    let wake = desk.brain.next_wake().expect("an expiry");
    assert!(wake > last + Duration::from_secs(2), "{wake:?}: nothing is due sooner than a vote expires");
    desk.move_to(last + Duration::from_secs(6));
    desk.event(Event::Tick);
    assert_eq!((view(&desk).health, view(&desk).why.as_str()), (Health::Unknown, "votes expired"));
}

#[test]
fn a_reload_goes_on_counting_only_what_is_counted_the_same() {
    let mut desk = Desk::settled(shop());
    desk.see("api", slow());
    desk.run_for(40);
    let mut other = shop();
    other.probes.last_mut().unwrap().rise = 2;
    desk.reload(other.clone());
    desk.run_for(2);
    assert!(view(&desk).degraded, "{:?}", told(&desk));
    let last = other.probes.last_mut().unwrap();
    last.target = "another".into();
    last.window.as_mut().unwrap().error_ratio = Some(0.3);
    desk.reload(other);
    desk.run_for(5);
    assert!(view(&desk).why.contains("no_data: 9 looks within 1m"), "{:?}", told(&desk));
    // And one that is taken away and comes back.
    desk.reload(settings());
    desk.run_for(5);
    desk.reload(shop());
    desk.run_for(30);
    assert!(view(&desk).degraded);
}

/// A slow look that a quicker one overtakes is late for its own probe, and counts here.
#[test]
fn a_look_that_is_overtaken_counts_all_the_same() {
    let mut desk = Desk::settled(shop());
    for second in 0..30 {
        desk.run_for(1);
        let started = desk.now.mono.minus(Duration::from_millis(400 + second));
        desk.event(Event::Observed { probe: "api".into(), started, observation: slow() });
    }
    assert!(view(&desk).degraded, "{:?}", told(&desk));
}

#[test]
fn a_quorum_votes_on_it_as_on_every_probe() {
    let mut settings = shop();
    settings.quorum = 2;
    let mut desk = Desk::settled(settings);
    desk.see("api", slow());
    desk.run_for(40);
    let vote = |desk: &Desk, degraded| Event::PeerVote {
        vantage: "eu".into(),
        domain: "eu".into(),
        probe: SHOP.into(),
        health: Health::Up,
        seen: desk.now.mono,
        first_bad: None,
        degraded,
        cause: None,
    };
    desk.event(vote(&desk, false));
    assert!(!view(&desk).degraded, "only one of two sees it");
    desk.move_to(desk.now.mono + Duration::from_millis(1));
    desk.event(vote(&desk, true));
    assert!(view(&desk).degraded);
    let own = desk.brain.own_votes(desk.now);
    assert!(own.iter().any(|vote| vote.probe.as_str() == SHOP && vote.degraded), "{own:?}");
}
