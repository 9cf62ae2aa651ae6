//! Cool-down and the limit of failovers (S10).

use failoverd::core::Command;
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

/// An outage with its run, and its end.
fn one_failover(desk: &mut Desk) {
    desk.outage();
    desk.run_for(20);
    desk.recovery();
    desk.done.clear();
    desk.run_for(10);
}

#[test]
fn cool_down_starts_at_the_end_of_the_run_and_not_at_its_start() {
    let mut desk = Desk::settled(with(|s| {
        s.cool_down = HumanDuration::secs(300);
        s.plans[0].steps[4].timeout = HumanDuration::secs(1000);
        s.plans[0].steps[4].on_error = OnError::Park;
        s.plans[0].steps[4].work = Work::Approval { message: "all well?".into() };
    }));
    desk.outage();
    desk.run_for(20);
    assert_eq!(desk.result(), None, "it waits for a person");
    desk.run_for(200);
    desk.command(Command::StepApprove { run: None, step: "tell".into() }).unwrap();
    let ended = desk.now.mono;
    assert_eq!(desk.result(), Some(RunResult::Done));
    desk.recovery();
    desk.done.clear();
    desk.run_for(10);
    desk.outage();
    desk.run_for(200);
    assert_eq!(desk.decision(), "hold:cool_down", "the old run began more than 300 s ago");
    desk.run_for(300 - 2 - desk.now.mono.since(ended).as_secs());
    assert_eq!(desk.decision(), "hold:cool_down");
    assert_eq!(desk.runs().len(), 1);
    desk.run_for(3);
    assert_eq!(desk.runs().len(), 2);
}

#[test]
fn the_limit_counts_starts_within_the_window() {
    let mut desk = Desk::settled(with(|s| {
        s.cool_down = HumanDuration::ZERO;
        s.failover_limit = 2;
        s.failover_window = HumanDuration::secs(600);
    }));
    one_failover(&mut desk);
    let first = desk.run().started;
    one_failover(&mut desk);
    assert_eq!(desk.runs().len(), 2);
    desk.outage();
    desk.run_for(60);
    assert_eq!(desk.decision(), "hold:failover_limit");
    desk.run_for(600 - 2 - desk.now.wall.since(first).as_secs());
    assert_eq!(desk.runs().len(), 2);
    desk.run_for(3);
    assert_eq!(desk.runs().len(), 3, "the first start has left the window");
}

#[test]
fn a_limit_of_zero_leaves_no_room() {
    let desk = Desk::in_outage(with(|s| s.failover_limit = 0), 60);
    assert_eq!(desk.decision(), "hold:failover_limit");
}

#[test]
fn what_a_person_starts_is_counted_and_not_limited() {
    let mut desk = Desk::settled(with(|s| s.failover_limit = 1));
    for _ in 0..2 {
        desk.done.clear();
        desk.command(Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None }).unwrap();
        desk.run_for(1);
        assert_eq!(desk.result(), Some(RunResult::Done));
    }
    desk.outage();
    desk.run_for(60);
    assert!(desk.decision() == "hold:cool_down" && desk.runs().len() == 2);
}

#[test]
fn an_aborted_run_that_touched_something_counts() {
    let mut desk = Desk::settled(settings());
    desk.answer("fence", Phase::Verify, [Reply::Silence]);
    desk.outage();
    desk.run_for(20);
    desk.command(Command::Abort { run: None }).unwrap();
    desk.run_for(5);
    assert_eq!(desk.result(), Some(RunResult::Aborted));
    assert_eq!(desk.decision(), "hold:already_run");
    desk.recovery();
    desk.run_for(10);
    desk.outage();
    desk.run_for(60);
    assert_eq!(desk.decision(), "hold:cool_down");
}

#[test]
fn a_later_run_by_hand_that_touched_nothing_does_not_hide_the_one_before() {
    let mut desk = Desk::settled(with(|s| s.cool_down = HumanDuration::ZERO));
    desk.outage();
    desk.run_for(20);
    assert_eq!(desk.result(), Some(RunResult::Done));
    for step in ["fence", "scale"] {
        desk.answer(step, Phase::Observe, [Reply::Silence]);
    }
    desk.command(Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None }).unwrap();
    desk.command(Command::Abort { run: None }).unwrap();
    desk.run_for(60);
    assert!(desk.result() == Some(RunResult::Aborted) && !desk.run().changed());
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:already_run", 2));
}

const JUMPS: [i64; 2] = [-7_200_000, 7_200_000];

#[test]
fn a_clock_that_is_set_moves_neither_cool_down_nor_limit() {
    for jump in JUMPS {
        let mut desk = Desk::settled(with(|s| s.cool_down = HumanDuration::secs(300)));
        one_failover(&mut desk);
        let ended = desk.now.mono;
        desk.clock_set += jump;
        desk.outage();
        desk.run_for(270);
        assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:cool_down", 1), "{jump} ms");
        desk.run_for(40);
        assert_eq!(desk.runs().len(), 2, "{jump} ms, {:?} after the end", desk.now.mono.since(ended));

        let mut desk = Desk::settled(with(|s| {
            s.cool_down = HumanDuration::ZERO;
            s.failover_limit = 1;
            s.failover_window = HumanDuration::secs(600);
        }));
        one_failover(&mut desk);
        desk.clock_set += jump;
        desk.outage();
        desk.run_for(540);
        assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:failover_limit", 1), "{jump} ms");
        desk.run_for(60);
        assert_eq!(desk.runs().len(), 2, "{jump} ms");
    }
}

/// What a former life ended is as old as the wall clock says, once, when the next life begins.
#[test]
fn a_clock_that_is_set_after_a_restart_does_not_end_a_cool_down() {
    for jump in JUMPS {
        let mut desk = Desk::settled(with(|s| s.cool_down = HumanDuration::secs(300)));
        one_failover(&mut desk);
        desk.restart(desk.durable.len());
        desk.run_for(10);
        desk.clock_set += jump;
        desk.outage();
        desk.run_for(250);
        assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:cool_down", 1), "{jump} ms");
    }
}
