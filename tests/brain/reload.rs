//! New settings: the next run only (S9), and no time lost.

use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

#[test]
fn a_running_plan_does_not_change() {
    let mut desk = Desk::settled(settings());
    desk.answer("fence", Phase::Verify, [Reply::Silence]);
    desk.outage();
    desk.run_for(15);
    let (hash, plan) = (desk.run().plan_hash.clone(), desk.run().plan.clone());
    desk.reload(with(|s| {
        s.plans[0] = small_plan("regional", "other", EffectKind::Call);
        s.scenarios[0].plan = None;
    }));
    let verify = desk.calls.iter().rfind(|call| call.step.as_str() == "fence").unwrap().call;
    let outcome = CallOutcome::Verified(Verified::Yes { evidence: "stopped".into() });
    desk.event(failoverd::core::Event::Outcome { call: verify, outcome });
    desk.run_for(5);
    assert_eq!(desk.changes(), "fence scale promote route tell");
    assert_eq!((&desk.run().plan_hash, &desk.run().plan), (&hash, &plan));
    assert_eq!(desk.run().plan.hash(), hash);
}

#[test]
fn a_condition_that_is_as_it_was_goes_on_being_confirmed() {
    let mut desk = Desk::in_outage(settings(), 10);
    desk.reload(with(|s| s.cool_down = HumanDuration::secs(60)));
    assert_eq!(desk.decision(), "hold:confirming");
    desk.run_for(4);
    assert_eq!(desk.result(), Some(RunResult::Done), "the reload cost no time");
    assert_eq!(desk.notices_of(NoticeKind::IncidentOpened).len(), 1);
}

#[test]
fn a_condition_that_changed_is_confirmed_from_the_start() {
    let mut desk = Desk::in_outage(settings(), 10);
    desk.reload(with(|s| s.scenarios[0].when = at_least(1, &["api", "db"])));
    desk.run_for(8);
    assert_eq!(desk.decision(), "hold:confirming");
    desk.run_for(5);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn witnesses_votes_are_kept() {
    let mut desk = Desk::settled(with(|s| s.quorum = 2));
    desk.outage();
    desk.run_for(3);
    for probe in ["api", "db", "cache"] {
        desk.vote("w", "b", probe, Health::Down);
    }
    assert_eq!(desk.decision(), "hold:confirming");
    desk.reload(with(|s| s.quorum = 2));
    assert_eq!(desk.decision(), "hold:confirming");
}

#[test]
fn a_probe_that_changed_is_looked_at_afresh() {
    let mut desk = Desk::in_outage(settings(), 10);
    desk.reload(with(|s| s.probes[..3].iter_mut().for_each(|probe| probe.fall = 5)));
    assert_eq!(desk.decision(), "hold:inconclusive");
    desk.run_for(5);
    assert_eq!(desk.decision(), "hold:confirming");
}

#[test]
fn a_scenario_that_is_gone_acts_no_more() {
    let mut desk = Desk::in_outage(settings(), 10);
    desk.reload(with(|s| s.scenarios.clear()));
    desk.run_for(60);
    assert!(desk.runs().is_empty());
    assert_eq!(desk.brain.next_wake().map(|wake| wake > desk.now.mono), Some(true));
}
