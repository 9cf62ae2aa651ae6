//! The last look before the first change.

use std::time::Duration;

use failoverd::core::{Command, Event};
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

/// A desk whose last look is answered by hand, with the run just started.
fn at_the_look(settings: Settings) -> Desk {
    let mut desk = Desk::settled(settings);
    desk.answers_now = false;
    desk.outage();
    while desk.runs().is_empty() {
        desk.go_on();
    }
    desk
}

fn by(desk: &Desk) -> &str {
    desk.run().aborting.as_ref().map_or("", |(by, _)| by)
}

#[test]
fn the_primary_answers_and_nothing_is_touched() {
    let mut desk = at_the_look(settings());
    assert!(desk.brain.status(desk.now).run.unwrap().last_look);
    assert_eq!(desk.changes(), "");
    desk.recovery();
    desk.run_for(2);
    assert_eq!(desk.result(), Some(RunResult::Aborted));
    assert!(by(&desk).contains("answered"), "{}", by(&desk));
    assert_eq!(desk.changes(), "");
    // It was no failover: neither cool-down nor "already run" hold the next one.
    desk.run_for(10);
    desk.outage();
    desk.run_for(20);
    assert_eq!(desk.runs().len(), 2);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn one_answer_is_enough_although_it_does_not_make_the_vote_up() {
    let mut desk = at_the_look(settings());
    desk.recovery();
    desk.run_for(1);
    desk.outage();
    desk.run_for(1);
    assert_eq!(desk.result(), Some(RunResult::Aborted));
    let ended = desk.now.mono;
    desk.run_for(8);
    assert_eq!(desk.decision(), "hold:confirming");
    assert_eq!(desk.runs().len(), 1, "confirmed again for as long as at first");
    desk.run_for(5);
    assert_eq!(desk.runs().len(), 2, "{:?}", desk.now.mono.since(ended));
}

#[test]
fn looks_that_were_begun_before_the_question_do_not_count() {
    let mut desk = at_the_look(settings());
    for probe in ["api", "db", "cache"] {
        let started = desk.now.mono.minus(Duration::from_millis(1));
        desk.event(Event::Observed { probe: probe.into(), started, observation: bad() });
    }
    assert_eq!(desk.changes(), "");
    desk.run_for(1);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn a_look_that_cannot_tell_changes_nothing() {
    let mut desk = at_the_look(settings());
    for probe in ["api", "db", "cache"] {
        desk.see(probe, blind());
    }
    desk.run_for(4);
    assert_eq!(desk.result(), Some(RunResult::Aborted));
    assert!(by(&desk).contains("could not confirm"), "{}", by(&desk));
    assert_eq!(desk.changes(), "");
}

#[test]
fn no_look_at_all_changes_nothing() {
    let mut desk = at_the_look(settings());
    for _ in 0..8 {
        desk.move_to(desk.now.mono + Duration::from_millis(400));
        desk.event(Event::Tick);
    }
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), ""));
}

#[test]
fn a_look_while_the_anchors_are_silent_is_no_look() {
    let mut desk = at_the_look(with(|s| {
        s.probes.push(probe("dns"));
        s.anchors = vec!["dns".into()];
        s.anchors_at_least = 1;
    }));
    desk.see("dns", bad());
    desk.run_for(4);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), ""));
}

#[test]
fn a_stall_at_the_look_gives_it_up() {
    let mut desk = at_the_look(settings());
    desk.event(Event::Stalled { by: Duration::from_secs(30) });
    desk.run_for(5);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), ""));
}

#[test]
fn what_a_person_starts_is_not_looked_at_again() {
    let mut desk = Desk::settled(settings());
    desk.command(Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None }).unwrap();
    assert_eq!(desk.result(), Some(RunResult::Done), "although everything is up");
}

#[test]
fn a_pause_before_the_first_change_makes_the_look_an_old_one() {
    let mut desk = Desk::settled(settings());
    for step in ["fence", "scale"] {
        desk.answer(step, Phase::Observe, [Reply::Silence]);
    }
    desk.outage();
    desk.run_for(14);
    desk.command(Command::Pause).unwrap();
    desk.run_for(60);
    desk.recovery();
    desk.run_for(3);
    desk.command(Command::Resume).unwrap();
    desk.run_for(5);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), ""));
}

#[test]
fn an_approval_step_before_the_first_change_makes_the_look_an_old_one() {
    let ask = step_of("ask", &[], Work::Approval { message: "really?".into() });
    let steps = vec![ask, step("promote", &["ask"], EffectKind::Promote)];
    for (back, changes) in [(true, ""), (false, "promote")] {
        let mut desk = Desk::in_outage(with_steps(steps.clone()), 45);
        if back {
            desk.recovery();
        }
        desk.run_for(3);
        desk.command(Command::StepApprove { run: None, step: "ask".into() }).unwrap();
        desk.run_for(5);
        assert_eq!(desk.changes(), changes, "the primary is back: {back}");
    }
}

#[test]
fn a_message_to_people_is_not_a_change() {
    let ask = step_of("ask", &["tell"], Work::Approval { message: "really?".into() });
    let tell = step("tell", &[], EffectKind::Notify);
    let mut desk = Desk::in_outage(with_steps(vec![tell, ask, step("promote", &["ask"], EffectKind::Promote)]), 45);
    desk.recovery();
    desk.run_for(3);
    desk.command(Command::StepApprove { run: None, step: "ask".into() }).unwrap();
    desk.run_for(5);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), "tell"));
}

#[test]
fn a_reload_at_the_look_does_not_mix_up_the_probes() {
    let mut desk = at_the_look(settings());
    let mut turned = settings();
    turned.probes.reverse();
    desk.reload(turned);
    desk.run_for(1);
    assert_eq!(desk.result(), Some(RunResult::Done));

    // The scenario, the plan and its probes are gone: the run is pinned and cannot be confirmed.
    let mut desk = at_the_look(settings());
    desk.reload(with(|s| {
        s.scenarios.clear();
        s.plans.clear();
        s.probes.retain(|probe| probe.name.as_str() == "standby");
    }));
    desk.run_for(5);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), ""));
}
