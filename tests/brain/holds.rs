//! Every named reason for holding: how it is reached, and how it is left.

use failoverd::core::{Command, Event};
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

#[test]
fn a_real_outage_is_confirmed_and_then_acted_upon() {
    let mut desk = Desk::settled(settings());
    assert_eq!(desk.decision(), "none");
    desk.outage();
    desk.run_for(2);
    assert_eq!(desk.decision(), "none", "two bad observations are not a fall of three");
    desk.run_for(1);
    assert_eq!(desk.decision(), "hold:confirming");
    desk.run_for(9);
    assert!(desk.runs().is_empty(), "not before confirm_for");
    desk.run_for(2);
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert_eq!(desk.changes(), "fence scale promote route tell");
    assert_eq!(desk.run().trigger, Trigger::Automatic);
    assert_eq!(desk.decision(), "hold:already_run");
    desk.recovery();
    desk.run_for(5);
    assert_eq!(desk.decision(), "none");
    assert_eq!(desk.changes(), "fence scale promote route tell", "no automatic failback");
}

#[test]
fn an_outage_that_ends_while_it_is_confirmed_touches_nothing() {
    let mut desk = Desk::in_outage(settings(), 10);
    assert_eq!(desk.decision(), "hold:confirming");
    desk.recovery();
    desk.run_for(60);
    assert!(desk.runs().is_empty() && desk.calls.is_empty());
}

#[test]
fn inconclusive() {
    let mut desk = Desk::in_outage(settings(), 8);
    for probe in ["api", "db", "cache"] {
        desk.see(probe, blind());
    }
    desk.run_for(5);
    assert_eq!(desk.decision(), "hold:inconclusive");
    desk.outage();
    desk.run_for(3);
    assert_eq!(desk.decision(), "hold:confirming", "the confirmation begins afresh");
    desk.run_for(9);
    assert!(desk.runs().is_empty());
    desk.run_for(2);
    assert_eq!(desk.runs().len(), 1);
}

#[test]
fn vetoed() {
    let mut desk = Desk::settled(with(|s| {
        s.probes.push(probe("maintenance"));
        s.scenarios[0].unless = vec![down("maintenance")];
    }));
    desk.see("maintenance", bad());
    desk.outage();
    desk.run_for(30);
    assert_eq!(desk.decision(), "hold:vetoed");
    desk.see("maintenance", blind());
    desk.run_for(30);
    assert_eq!(desk.decision(), "hold:vetoed", "a veto that cannot be told is a veto");
    desk.see("maintenance", up());
    desk.run_for(3);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn standby_unhealthy() {
    for (name, seen) in [("down", bad()), ("unknown", blind())] {
        let mut desk = Desk::settled(settings());
        desk.outage();
        desk.see("standby", seen);
        desk.run_for(30);
        assert_eq!(desk.decision(), "hold:standby_unhealthy", "{name}");
        assert_eq!(desk.notices_of(NoticeKind::Holding).len(), 1, "{name}: people are told once");
        desk.see("standby", cut_off());
        desk.run_for(10);
        assert_eq!(desk.result(), Some(RunResult::Done), "{name}");
    }
}

#[test]
fn startup_grace() {
    let mut desk = Desk::new(with(|s| s.startup_grace = HumanDuration::secs(120)));
    desk.run_for(5);
    desk.outage();
    desk.run_for(60);
    assert_eq!(desk.decision(), "hold:startup_grace");
    assert!(desk.notices_of(NoticeKind::Holding).is_empty(), "time alone ends it: nobody is paged");
    desk.run_for(60);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn paused() {
    let mut desk = Desk::settled(settings());
    desk.command(Command::Pause).unwrap();
    desk.outage();
    desk.run_for(60);
    assert_eq!(desk.decision(), "hold:paused");
    desk.command(Command::Resume).unwrap();
    desk.run_for(1);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn no_plan() {
    let mut desk = Desk::in_outage(with(|s| s.scenarios[0].plan = None), 30);
    assert_eq!(desk.decision(), "hold:no_plan");
    desk.reload(settings());
    desk.run_for(1);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn state_in_doubt_starts_nothing_and_pages_once() {
    let mut desk = Desk::settled(settings());
    for _ in 0..3 {
        desk.event(Event::StateInDoubt { what: "fsync failed".into() });
    }
    desk.outage();
    desk.run_for(60);
    assert_eq!(desk.decision(), "hold:state_in_doubt");
    assert!(desk.runs().is_empty());
    let pages = desk.notices_of(NoticeKind::Daemon);
    assert_eq!((pages.len(), pages[0].importance), (1, Importance::Page));
}

#[test]
fn doubt_in_the_middle_of_a_run_makes_no_further_change() {
    let mut desk = Desk::settled(settings());
    desk.answer("fence", Phase::Verify, [Reply::Silence]);
    desk.outage();
    desk.run_for(20);
    assert_eq!(desk.changes(), "fence scale");
    desk.event(Event::StateInDoubt { what: "fsync failed".into() });
    let verify = desk.calls.iter().rfind(|call| call.step.as_str() == "fence").unwrap().call;
    let outcome = CallOutcome::Verified(Verified::yes("stopped"));
    desk.event(Event::Outcome { call: verify, outcome });
    desk.run_for(60);
    assert_eq!(desk.changes(), "fence scale", "promote is not begun");
    assert!(desk.command(Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None }).is_err());
}

#[test]
fn tilt_drops_the_votes_and_waits() {
    let mut desk = Desk::in_outage(settings(), 8);
    desk.event(Event::Stalled { by: std::time::Duration::from_secs(7) });
    assert_eq!(desk.decision(), "hold:tilt");
    desk.run_for(9);
    assert_eq!(desk.decision(), "hold:tilt");
    desk.run_for(2);
    assert_eq!(desk.decision(), "hold:confirming", "after the tilt it is confirmed from the start");
    assert!(desk.runs().is_empty());
    desk.run_for(11);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn flapping_never_confirms() {
    let mut desk = Desk::settled(settings());
    for _ in 0..20 {
        desk.outage();
        desk.run_for(8);
        desk.recovery();
        desk.run_for(4);
    }
    assert!(desk.runs().is_empty());
    assert!(desk.notices_of(NoticeKind::IncidentOpened).len() >= 20);
}

#[test]
fn alert_only_does_everything_but_act_and_says_so_once() {
    let mut desk = Desk::in_outage(with(|s| s.scenarios[0].mode = Mode::AlertOnly), 120);
    assert_eq!(desk.decision(), "alert");
    assert_eq!(desk.notices_of(NoticeKind::WouldAct).len(), 1);
    assert!(desk.runs().is_empty() && desk.calls.is_empty());
    let incident = desk.incident();
    desk.command(Command::Approve { incident, plan_hash: None, epoch: None, allow_data_loss: None }).unwrap();
    desk.run_for(5);
    assert!(desk.runs().is_empty(), "an approval does not make it act");
}

#[test]
fn the_mode_set_by_hand_is_over_the_configuration_but_not_over_the_scenario() {
    let mut desk = Desk::in_outage(settings(), 5);
    desk.command(Command::Mode { mode: Some(Mode::AlertOnly) }).unwrap();
    desk.run_for(20);
    assert_eq!(desk.decision(), "alert");
    desk.command(Command::Mode { mode: None }).unwrap();
    desk.run_for(1);
    assert_eq!(desk.result(), Some(RunResult::Done));

    let mut desk = Desk::in_outage(with(|s| s.scenarios[0].mode = Mode::AlertOnly), 5);
    desk.command(Command::Mode { mode: Some(Mode::Auto) }).unwrap();
    desk.run_for(20);
    assert_eq!(desk.decision(), "alert");
}

#[test]
fn a_freer_mode_set_by_hand_takes_the_place_of_the_configurations() {
    let mut desk = Desk::in_outage(with(|s| s.mode = Mode::AlertOnly), 20);
    assert_eq!(desk.decision(), "alert");
    desk.command(Command::Mode { mode: Some(Mode::Auto) }).unwrap();
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn reasons_that_take_turns_are_told_once_each() {
    let mut desk = Desk::settled(with(|s| {
        s.probes.push(probe("maintenance"));
        s.scenarios[0].unless = vec![down("maintenance")];
    }));
    desk.outage();
    desk.see("standby", bad());
    for told in [2, 4] {
        desk.see("maintenance", bad());
        desk.run_for(15);
        for _ in 0..10 {
            desk.see("maintenance", bad());
            desk.run_for(8);
            assert_eq!(desk.decision(), "hold:vetoed");
            desk.see("maintenance", up());
            desk.run_for(8);
            assert_eq!(desk.decision(), "hold:standby_unhealthy");
        }
        assert_eq!(desk.notices_of(NoticeKind::Holding).len(), told, "vetoed, and nothing healthy to fail over to");
        // Another incident is another story.
        desk.recovery();
        desk.run_for(5);
        desk.outage();
        desk.see("standby", bad());
    }
}

#[test]
fn two_scenarios_at_once_one_acts_and_the_other_has_nothing_left_to_do() {
    let mut desk = Desk::settled(with(|s| {
        s.scenarios.push(scenario("database", down("db"), "database"));
        s.plans.push(small_plan("database", "promote", EffectKind::Promote));
    }));
    desk.answer("tell", Phase::Apply, [Reply::Silence]);
    desk.outage();
    desk.run_for(20);
    assert_eq!(desk.run().scenario.as_str(), REGIONAL);
    assert_eq!(desk.decision_of("database"), "hold:run_active");
    desk.run_for(60);
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert_eq!(desk.decision_of("database"), "hold:explained_by");
    assert_eq!(desk.runs().len(), 1);
}
