//! New settings: the next run only (S9), and no time lost.

use std::time::Duration;

use failoverd::core::{Command, Effect, Event};
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
    let outcome = CallOutcome::Verified(Verified::yes("stopped"));
    desk.event(Event::Outcome { call: verify, outcome });
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
fn the_same_target_looked_at_at_another_pace_keeps_what_was_seen_of_it() {
    let mut desk = Desk::in_outage(settings(), 10);
    desk.reload(with(|s| {
        for probe in &mut s.probes {
            probe.interval = HumanDuration::secs(2);
            probe.timeout = HumanDuration::millis(700);
            probe.max_age = HumanDuration::secs(9);
        }
    }));
    assert_eq!(desk.decision(), "hold:confirming");
    desk.run_for(4);
    assert_eq!(desk.result(), Some(RunResult::Done), "neither the votes nor the lag were forgotten");
}

#[test]
fn another_target_by_the_same_name_starts_anew() {
    // The lag of the old standby says nothing of the new one.
    let mut desk = Desk::in_outage(settings(), 10);
    desk.reload(with(|s| s.probes[3].target = "another standby".into()));
    desk.run_for(10);
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:lag_unknown", 0));

    // Nor do the votes on the old primary.
    let mut desk = Desk::in_outage(with(|s| s.quorum = 2), 5);
    for probe in ["api", "db", "cache"] {
        desk.vote("w", "b", probe, Health::Down);
    }
    assert_eq!(desk.decision(), "hold:confirming");
    desk.reload(with(|s| {
        s.quorum = 2;
        s.probes[..3].iter_mut().for_each(|probe| probe.target = "elsewhere".into());
    }));
    desk.run_for(4);
    assert_eq!(desk.decision(), "hold:inconclusive", "the witness has not looked at the new one yet");
}

#[test]
fn a_fast_pace_is_taken_back_whatever_takes_its_reason_away() {
    let doubt = |desk: &mut Desk| {
        desk.see("api", bad());
        desk.run_for(1);
        assert!(desk.effects.contains(&Effect::Pace { probe: "api".into(), fast: true }));
        desk.effects.clear();
    };
    let usual = Effect::Pace { probe: "api".into(), fast: false };

    let mut desk = Desk::settled(settings());
    doubt(&mut desk);
    desk.event(Event::Stalled { by: Duration::from_secs(3) });
    assert!(desk.effects.contains(&usual), "the tilt dropped the doubt");

    let mut desk = Desk::settled(settings());
    doubt(&mut desk);
    desk.reload(with(|s| s.probes[0].target = "elsewhere".into()));
    assert!(desk.effects.contains(&usual), "nothing is in doubt of the new target");

    let hold = step_of("seen", &[], Work::VerifyProbe { probe: "api".into(), hold: HumanDuration::secs(30) });
    let mut desk = Desk::settled(with_steps(vec![hold]));
    desk.command(Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None }).unwrap();
    doubt(&mut desk);
    desk.see("api", up());
    desk.run_for(3);
    assert!(!desk.effects.contains(&usual), "the step looks at it still");
    desk.command(Command::Abort { run: None }).unwrap();
    desk.run_for(1);
    assert!(desk.effects.contains(&usual), "the run is over");
}

#[test]
fn a_scenario_that_is_gone_acts_no_more_and_its_incident_is_closed() {
    let mut desk = Desk::in_outage(settings(), 10);
    let incident = desk.incident();
    desk.reload(with(|s| s.scenarios.clear()));
    let closed = &desk.brain.ledger().incidents[&incident];
    let (_, why) = closed.timeline.last().unwrap();
    assert!(closed.closed.is_some() && why.contains("not in the configuration"), "{why}");
    desk.run_for(60);
    assert!(desk.runs().is_empty());
    let closings = desk.entries(|entry| matches!(entry, Entry::IncidentClosed { .. }));
    assert_eq!((closings, desk.notices_of(NoticeKind::IncidentClosed).len()), (1, 1));
    assert_eq!(desk.brain.next_wake().map(|wake| wake > desk.now.mono), Some(true));
}

#[test]
fn the_incident_of_a_scenario_that_is_gone_stays_open_until_its_run_is_over() {
    let mut desk = Desk::settled(settings());
    desk.answer("fence", Phase::Verify, [Reply::Silence]);
    desk.outage();
    desk.run_for(15);
    let incident = desk.incident();
    desk.reload(with(|s| s.scenarios.clear()));
    desk.run_for(5);
    assert!(desk.result().is_none() && desk.brain.ledger().incidents[&incident].closed.is_none());
    let verify = desk.calls.iter().rfind(|call| call.step.as_str() == "fence").unwrap().call;
    let outcome = CallOutcome::Verified(Verified::yes("stopped"));
    desk.event(Event::Outcome { call: verify, outcome });
    desk.run_for(5);
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert!(desk.brain.ledger().incidents[&incident].closed.is_some());
}

#[test]
fn a_restart_without_the_scenario_closes_its_incident_too() {
    let mut desk = Desk::in_outage(settings(), 10);
    let incident = desk.incident();
    desk.forget_scenarios();
    desk.restart(desk.durable.len());
    assert!(desk.brain.ledger().incidents[&incident].closed.is_some());
}
