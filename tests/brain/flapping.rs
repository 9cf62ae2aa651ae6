//! Flap damping: what goes up and down again and again neither trips at each swing nor pages in a storm.

use failoverd::core::Command;
use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

fn damped() -> Settings {
    with(|s| {
        s.flap_damping = Some(FlapDamping {
            half_life: HumanDuration::secs(300),
            suppress: 3500,
            reuse: 1500,
            max_suppress: HumanDuration::secs(900),
            steady_for: HumanDuration::secs(60),
        });
    })
}

/// Down for longer than it takes to be confirmed; then up for a while.
fn swing(desk: &mut Desk, down: u64, up: u64) {
    desk.outage();
    desk.run_for(down);
    desk.recovery();
    desk.run_for(up);
}

fn pages(desk: &Desk) -> Vec<String> {
    let pages = desk.notices.iter().filter(|notice| notice.importance == Importance::Page);
    pages.map(|notice| format!("{:?} {}", notice.kind, notice.subject)).collect()
}

#[test]
fn a_primary_that_flaps_pages_once_and_trips_nothing() {
    let mut desk = Desk::settled(damped());
    for _ in 0..2 {
        swing(&mut desk, 6, 6);
    }
    assert_eq!(desk.notices_of(NoticeKind::IncidentOpened).len(), 2);
    desk.notices.clear();
    for _ in 0..20 {
        // Long enough to be confirmed.
        desk.outage();
        desk.run_for(30);
        assert_eq!(desk.decision(), "hold:flapping");
        desk.recovery();
        desk.run_for(8);
    }
    assert!(desk.runs().is_empty());
    let told = pages(&desk);
    assert!(told.len() == 1 && told[0].contains("goes up and down again and again"), "{told:#?}");
    assert_eq!(desk.notices_of(NoticeKind::IncidentOpened).len(), 20, "quietly");
    let view = desk.brain.status(desk.now);
    assert!(view.probes[0].flapping_until.is_some() && view.probes[3].flapping_until.is_none());
}

#[test]
fn an_outage_that_begins_with_flapping_is_acted_upon_once_it_is_steady() {
    let mut desk = Desk::settled(damped());
    for _ in 0..4 {
        swing(&mut desk, 6, 6);
    }
    desk.outage();
    desk.run_for(30);
    assert_eq!(desk.decision(), "hold:flapping");
    let guard = desk.brain.status(desk.now).scenarios.remove(0).guards;
    let guard = guard.into_iter().find(|guard| guard.name == "flapping").unwrap();
    assert!(!guard.passes && guard.until.is_some(), "{guard:?}");
    desk.notices.clear();
    desk.run_for(31);
    assert!(desk.runs().is_empty(), "61 s after it fell, and less since that was seen");
    desk.run_for(4);
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert!(pages(&desk).iter().any(|page| page.contains("it flaps no more, and holds")), "{:#?}", pages(&desk));
}

#[test]
fn what_holds_without_the_probe_that_flaps_is_not_held() {
    let mut desk = Desk::settled(damped());
    for _ in 0..6 {
        desk.see("api", bad());
        desk.run_for(6);
        desk.see("api", up());
        desk.run_for(6);
    }
    assert!(desk.brain.status(desk.now).probes[0].flapping_until.is_some());
    desk.outage();
    desk.run_for(15);
    assert_eq!(desk.result(), Some(RunResult::Done), "db and cache are down, and never flapped");
}

#[test]
fn one_relapse_is_acted_upon_as_ever() {
    let mut desk = Desk::settled(damped());
    swing(&mut desk, 6, 6);
    desk.outage();
    desk.run_for(15);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn what_is_told_quietly_while_it_flaps_is_told_aloud_after_it() {
    let mut desk = Desk::settled(damped());
    for _ in 0..3 {
        swing(&mut desk, 6, 6);
    }
    desk.command(Command::Pause).unwrap();
    desk.outage();
    desk.run_for(70);
    assert_eq!(desk.decision(), "hold:paused");
    let held: Vec<_> = desk.notices_of(NoticeKind::Holding).iter().map(|notice| notice.importance).collect();
    assert_eq!(held, [Importance::Info, Importance::Page]);
}
