//! The two-person rule: by approval, by hand, and by whichever way somebody comes.

use failoverd::core::Command;
use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

fn two(mode: Mode) -> Settings {
    with(|s| {
        s.scenarios[0].approvals = 2;
        s.scenarios[0].mode = mode;
    })
}

fn approve(desk: &Desk, loss: Option<u64>) -> Command {
    Command::Approve {
        incident: desk.incident(),
        plan_hash: None,
        epoch: None,
        allow_data_loss: loss.map(HumanDuration::secs),
    }
}

#[test]
fn one_person_is_not_two_whichever_way_they_come() {
    let mut desk = Desk::in_outage(two(Mode::Approve), 20);
    for by in ["ann (uid 1000)", "ann (signed link)", "ann"] {
        let answer = desk.command_of(by, approve(&desk, None)).unwrap();
        assert!(answer.run.is_none() && answer.text.contains("1 of 2 approvals"), "{}", answer.text);
    }
    desk.run_for(5);
    assert_eq!(desk.decision(), "ask_approval");
    assert_eq!(desk.notices_of(NoticeKind::ApprovalAsked).len(), 1, "half an answer is no reason to ask anew");
    let view = desk.brain.incidents().remove(0).approval.expect("it still waits");
    assert_eq!((view.needed, view.given), (2, vec!["ann".to_owned()]));
    let answer = desk.command_of("bob (uid 1001)", approve(&desk, None)).unwrap();
    assert!(answer.run.is_some(), "{}", answer.text);
    let Trigger::Approved { by, .. } = &desk.run().trigger else { panic!("{:?}", desk.run().trigger) };
    assert_eq!(by, "ann and bob (uid 1001)");
}

#[test]
fn two_yeses_are_two_although_the_daemon_was_started_anew_between_them() {
    let mut desk = Desk::in_outage(two(Mode::Approve), 20);
    desk.command_of("ann", approve(&desk, None)).unwrap();
    desk.restart(usize::MAX);
    desk.run_for(30);
    assert!(desk.runs().is_empty());
    desk.command_of("bob", approve(&desk, None)).unwrap();
    desk.run_for(1);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn an_old_yes_does_not_wait_for_the_second_for_ever() {
    let mut desk = Desk::in_outage(two(Mode::Approve), 20);
    desk.command_of("ann", approve(&desk, None)).unwrap();
    desk.run_for(610);
    desk.command_of("bob", approve(&desk, None)).unwrap();
    desk.run_for(1);
    assert!(desk.runs().is_empty(), "ann said so more than ten minutes ago");
    desk.command_of("ann", approve(&desk, None)).unwrap();
    assert_eq!(desk.runs().len(), 1);
}

#[test]
fn a_no_takes_the_yes_back_that_was_before_it() {
    let mut desk = Desk::in_outage(two(Mode::Approve), 20);
    desk.command_of("ann", approve(&desk, None)).unwrap();
    desk.command_of("cid", Command::Deny { incident: desk.incident() }).unwrap();
    assert_eq!(desk.decision(), "hold:denied");
    desk.command_of("bob", approve(&desk, None)).unwrap();
    assert!(desk.runs().is_empty(), "of two that count only bob's is left");
    desk.command_of("ann", approve(&desk, None)).unwrap();
    assert_eq!(desk.runs().len(), 1);
}

#[test]
fn only_the_loss_that_both_allowed_is_allowed() {
    let mut desk = Desk::settled(two(Mode::Approve));
    desk.see("standby", lagging(std::time::Duration::from_secs(100)));
    desk.run_for(5);
    desk.outage();
    desk.run_for(30);
    desk.command_of("ann", approve(&desk, Some(500))).unwrap();
    desk.command_of("bob", approve(&desk, None)).unwrap();
    assert_eq!(desk.decision(), "hold:lag_above_rpo", "bob allowed nothing");
    desk.command_of("bob", approve(&desk, Some(110))).unwrap();
    let Trigger::Approved { allow_data_loss, .. } = &desk.run().trigger else { panic!("{:?}", desk.run().trigger) };
    assert_eq!(*allow_data_loss, Some(std::time::Duration::from_secs(110)));
    let signed = desk.durable.iter().rev().find_map(|record| match &record.entry {
        Entry::ApprovalAnswered { predicted, .. } => predicted.clone(),
        _ => None,
    });
    assert!(signed.is_some_and(|loss| loss.time > Some(HumanDuration::secs(99))), "what was shown is written down");
}

#[test]
fn by_hand_it_takes_two_as_well_and_word_for_word_the_same() {
    let failover = |loss: Option<u64>| Command::Failover {
        scenario: REGIONAL.into(),
        allow_data_loss: loss.map(HumanDuration::secs),
    };
    let mut desk = Desk::settled(two(Mode::Auto));
    let answer = desk.command_of("ann", failover(None)).unwrap();
    assert!(answer.run.is_none() && answer.text.contains("1 of 2 persons"), "{}", answer.text);
    assert_eq!(desk.notices_of(NoticeKind::ApprovalAsked).len(), 1, "the second is asked");
    assert!(desk.command_of("ann", failover(None)).unwrap().run.is_none());
    assert!(desk.command_of("bob", failover(Some(9))).unwrap().run.is_none(), "another wish");
    assert!(desk.command_of("ann", failover(None)).unwrap().run.is_none(), "and it begins anew");
    assert_eq!(desk.command_of("signal SIGUSR1", failover(None)).unwrap_err().code, "guard");
    let answer = desk.command_of("bob", failover(None)).unwrap();
    assert!(answer.run.is_some(), "{}", answer.text);
    let Trigger::Manual { by, .. } = &desk.run().trigger else { panic!("{:?}", desk.run().trigger) };
    assert_eq!(by, "ann and bob");
}

#[test]
fn a_wish_is_forgotten_after_ten_minutes() {
    let failover = || Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None };
    let mut desk = Desk::settled(two(Mode::Auto));
    desk.command_of("ann", failover()).unwrap();
    desk.run_for(601);
    assert!(desk.command_of("bob", failover()).unwrap().run.is_none());
}

#[test]
fn nobody_answering_is_nobody_even_where_one_of_two_did() {
    let mut desk = Desk::in_outage(
        with(|s| {
            *s = two(Mode::Approve);
            s.scenarios[0].rto = HumanDuration::secs(120);
        }),
        20,
    );
    desk.command_of("ann", approve(&desk, None)).unwrap();
    desk.run_for(120);
    assert_eq!(desk.decision(), "hold:no_answer");
    assert!(desk.runs().is_empty());
}

#[test]
fn an_approval_for_an_epoch_that_is_over_is_refused() {
    let mut desk = Desk::in_outage(two(Mode::Approve), 20);
    let of = |epoch| Command::Approve {
        incident: "INC-20260105-001".into(),
        plan_hash: None,
        epoch: Some(Epoch(epoch)),
        allow_data_loss: None,
    };
    assert_eq!(desk.command_of("ann", of(0)).unwrap_err().code, "guard");
    desk.command_of("ann", of(1)).unwrap();
}

#[test]
fn whoever_is_asked_is_told_what_waiting_and_what_acting_costs() {
    let mut desk = Desk::settled(two(Mode::Approve));
    let told = |offset, transaction| Facts {
        role: Some(Role::Primary),
        offset: Some(offset),
        transaction: Some(transaction),
        ..Facts::default()
    };
    for second in 0..10 {
        desk.see("db", up_with(told(1_000_000 + second * 2_000, 500 + second * 4)));
        desk.see("standby", at(1_000_000 + second * 2_000 - 3_000, 500 + second * 4 - 6, 1_000));
        desk.run_for(1);
    }
    desk.outage();
    desk.run_for(20);
    let asked = &desk.notices_of(NoticeKind::ApprovalAsked)[0];
    assert!(asked.body.starts_with("waiting: down for 12s; 14m 48s are left of the RTO of 15m;"), "{}", asked.body);
    let acting = asked.body.lines().nth(1).expect("two lines");
    assert!(acting.starts_with("failing over: down for about 40s more; loses 2s ("), "{acting}");
    // 3 kB were missing at the last look, and a second of writes at the pace of before came after it.
    assert!(acting.contains("(5.0 kB, 10 transactions) of writes, where the RPO is 1m"), "{acting}");
    assert_eq!(asked.approval.as_ref().map(|asked| asked.epoch), Some(Epoch(1)));
}

/// A standby so far behind.
pub fn at(offset: u64, transaction: u64, lag_ms: u64) -> Observation {
    up_with(Facts {
        role: Some(Role::Replica),
        streaming: Some(true),
        lag: Some(Lag { time: std::time::Duration::from_millis(lag_ms), bytes: None }),
        offset: Some(offset),
        transaction: Some(transaction),
        ..Facts::default()
    })
}
