//! What would be lost, measured against the RPO (S5).

use std::time::Duration;

use failoverd::core::Command;
use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What witnesses say of the region, each second; of the standby all say that it is up.
fn votes(desk: &mut Desk, seconds: u64, of: &[(&str, Health)]) {
    for _ in 0..seconds {
        for (witness, health) in of {
            for probe in ["api", "db", "cache"] {
                desk.vote(witness, witness, probe, *health);
            }
            desk.vote(witness, witness, "standby", Health::Up);
        }
        desk.run_for(1);
    }
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
fn the_last_lag_before_the_outage_decides() {
    for (lag, decision) in [(58, "hold:already_run"), (62, "hold:lag_above_rpo")] {
        let mut desk = Desk::settled(settings());
        desk.see("standby", lagging(secs(lag)));
        desk.run_for(5);
        desk.outage();
        desk.run_for(30);
        assert_eq!(desk.decision(), decision, "lag {lag} s, RPO 60 s");
    }
}

#[test]
fn what_a_standby_says_after_it_was_cut_off_is_not_believed() {
    let mut desk = Desk::settled(settings());
    desk.see("standby", lagging(secs(300)));
    desk.run_for(5);
    desk.outage();
    desk.see("standby", lagging(Duration::ZERO));
    desk.run_for(30);
    assert_eq!(desk.decision(), "hold:lag_above_rpo");
}

#[test]
fn an_old_measurement_predicts_a_great_loss() {
    let mut desk = Desk::settled(settings());
    desk.see("standby", cut_off());
    desk.run_for(65);
    desk.outage();
    desk.run_for(30);
    assert_eq!(desk.decision(), "hold:lag_above_rpo", "the replication had been broken for 65 s");
}

#[test]
fn never_measured_is_unknown() {
    let mut desk = Desk::new(settings());
    let mut quiet = Desk::new(settings());
    for desk in [&mut desk, &mut quiet] {
        desk.see("standby", cut_off());
    }
    desk.run_for(20);
    desk.outage();
    desk.run_for(30);
    assert_eq!(desk.decision(), "hold:lag_unknown");
    assert_eq!(desk.notices_of(NoticeKind::Holding).len(), 1);
}

/// The API fails; an hour later, with the replication long broken, the database goes as well.
#[test]
fn loss_counts_from_the_last_write_and_not_from_the_first_symptom() {
    let mut desk = Desk::settled(settings());
    desk.see("api", bad());
    desk.run_for(600);
    desk.see("standby", lagging(secs(400)));
    desk.run_for(10);
    desk.outage();
    desk.run_for(30);
    assert_eq!(desk.decision(), "hold:lag_above_rpo");
}

#[test]
fn a_primary_that_is_not_seen_down_may_take_writes_now() {
    let mut desk = Desk::settled(settings());
    desk.see("api", bad());
    desk.see("cache", bad());
    desk.run_for(5);
    desk.see("standby", lagging(secs(400)));
    desk.run_for(30);
    assert_eq!(desk.decision(), "hold:lag_above_rpo");
}

#[test]
fn a_synchronous_primary_loses_nothing() {
    let mut desk = Desk::settled(settings());
    desk.see("db", up_with(Facts { role: Some(Role::Primary), synchronous: Some(true), ..Facts::default() }));
    desk.see("standby", lagging(secs(300)));
    desk.run_for(5);
    desk.outage();
    desk.run_for(30);
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert_eq!(desk.run().predicted_loss, Some(HumanDuration::ZERO));
}

#[test]
fn a_primary_that_was_synchronous_long_ago_is_not() {
    let mut desk = Desk::settled(settings());
    desk.see("db", up_with(Facts { synchronous: Some(true), ..Facts::default() }));
    desk.see("standby", lagging(secs(300)));
    desk.run_for(5);
    desk.see("db", up_with(Facts { synchronous: Some(false), ..Facts::default() }));
    desk.run_for(5);
    desk.outage();
    desk.run_for(30);
    assert_eq!(desk.decision(), "hold:lag_above_rpo");
}

#[test]
fn a_person_can_allow_a_loss_in_seconds() {
    let mut desk = Desk::settled(with(|s| s.scenarios[0].mode = Mode::Approve));
    desk.see("standby", lagging(secs(100)));
    desk.run_for(5);
    desk.outage();
    desk.run_for(30);
    assert_eq!(desk.decision(), "hold:lag_above_rpo");
    for too_little in [None, Some(90)] {
        let answer = desk.command(approve(&desk, too_little)).unwrap();
        assert!(answer.run.is_none() && answer.text.contains("RPO"), "{}", answer.text);
    }
    desk.command(approve(&desk, Some(110))).unwrap();
    assert_eq!(desk.result(), Some(RunResult::Done));
    let Trigger::Approved { allow_data_loss, .. } = &desk.run().trigger else { panic!("{:?}", desk.run().trigger) };
    assert_eq!(*allow_data_loss, Some(secs(110)));
}

#[test]
fn the_worst_of_several_standbys_counts() {
    let mut desk = Desk::settled(with(|s| {
        s.probes.push(probe("orders"));
        s.scenarios[0].replication.push(ReplicationPair { standby: "orders".into(), primary: None });
    }));
    desk.see("orders", lagging(secs(90)));
    desk.run_for(5);
    desk.outage();
    desk.run_for(30);
    assert_eq!(desk.decision(), "hold:lag_above_rpo");
}

#[test]
fn by_hand_the_same_guard_holds_and_names_the_way_around() {
    let mut desk = Desk::settled(settings());
    desk.see("standby", lagging(secs(100)));
    desk.run_for(5);
    let failover = |loss| Command::Failover { scenario: REGIONAL.into(), allow_data_loss: loss };
    let refusal = desk.command(failover(None)).unwrap_err();
    assert!(refusal.code == "guard" && refusal.message.contains("--allow-data-loss"), "{refusal}");
    assert!(desk.command(failover(Some(HumanDuration::secs(50)))).is_err());
    desk.command(failover(Some(HumanDuration::secs(120)))).unwrap();
    assert_eq!(desk.result(), Some(RunResult::Done));
}

/// A loss that was allowed with a number in sight is not one that nobody knows.
#[test]
fn who_was_shown_a_loss_has_not_allowed_an_unknown_one() {
    let mut desk = Desk::settled(with(|s| s.scenarios[0].mode = Mode::Approve));
    desk.see("standby", lagging(secs(100)));
    desk.run_for(5);
    desk.outage();
    desk.run_for(30);
    desk.command(approve(&desk, Some(90))).unwrap();
    assert_eq!(desk.decision(), "hold:lag_above_rpo");
    // A minute later another life knows nothing of the lag, and has the answer.
    desk.run_for(70);
    desk.restart(desk.durable.len());
    desk.run_for(30);
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:lag_unknown", 0));
    desk.command(approve(&desk, Some(90))).unwrap();
    assert_eq!(desk.result(), Some(RunResult::Done), "now it was allowed although nobody knows it");
}

/// For longer than samples are kept, a standby that was cut off says that it has everything.
#[test]
fn what_was_measured_before_the_outage_is_kept_for_as_long_as_the_outage_lasts() {
    for (lag, decision) in [(30, "hold:already_run"), (90, "hold:lag_above_rpo")] {
        let mut desk = Desk::settled(settings());
        desk.see("standby", lagging(secs(lag)));
        desk.run_for(5);
        desk.command(Command::Pause).unwrap();
        desk.outage();
        desk.see("standby", lagging(Duration::ZERO));
        desk.run_for(900);
        assert_eq!(desk.decision(), "hold:paused");
        desk.command(Command::Resume).unwrap();
        desk.run_for(1);
        assert_eq!(desk.decision(), decision, "lag {lag} s, RPO 60 s");
    }
}

/// Nobody sees the database: it may take writes, whatever the standby believes.
#[test]
fn a_primary_that_cannot_be_seen_is_not_believed_to_be_replicated() {
    let mut desk = Desk::settled(with(|s| s.scenarios[0].rpo = Some(HumanDuration::secs(5))));
    desk.outage();
    desk.see("db", blind());
    desk.see("standby", lagging(Duration::ZERO));
    desk.run_for(60);
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:lag_above_rpo", 0));
}

/// One good answer is not yet an Up. But what answers may take writes.
#[test]
fn a_primary_that_has_answered_since_may_have_taken_writes() {
    let mut desk = Desk::settled(with(|s| s.probes[1].rise = 9));
    desk.see("standby", cut_off());
    desk.run_for(50);
    desk.outage();
    desk.run_for(10);
    desk.see("db", up());
    desk.run_for(1);
    desk.see("db", bad());
    desk.run_for(1);
    assert_eq!(desk.brain.status(desk.now).probes[1].health, Health::Down, "nine good ones make it Up");
    desk.run_for(20);
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:lag_above_rpo", 0), "60 s of writes are lost");
}

/// Without a primary that is named, what of the condition went down last held the data.
#[test]
fn a_standby_of_an_unnamed_primary_is_not_believed_after_the_outage_neither() {
    let mut desk = Desk::settled(with(|s| s.scenarios[0].replication[0].primary = None));
    desk.see("standby", lagging(secs(300)));
    desk.run_for(5);
    desk.outage();
    desk.see("standby", lagging(Duration::ZERO));
    desk.run_for(30);
    assert_eq!(desk.decision(), "hold:lag_above_rpo");
}

#[test]
fn of_standbys_that_are_as_far_behind_the_first_is_named() {
    let mut desk = Desk::settled(with(|s| {
        s.probes.push(probe("orders"));
        s.scenarios[0].replication.push(ReplicationPair { standby: "orders".into(), primary: Some("db".into()) });
    }));
    desk.see("standby", lagging(secs(90)));
    desk.see("orders", lagging(secs(90)));
    desk.run_for(5);
    desk.outage();
    desk.see("orders", cut_off());
    desk.run_for(30);
    let view = desk.brain.status(desk.now).scenarios.remove(0);
    let Some(Decision::Hold(HoldReason::LagAboveRpo { probe, .. })) = view.decision else { panic!("{view:?}") };
    assert_eq!(probe.as_str(), "standby");
}

/// Our own way to the database breaks; a witness sees it alive, and takes its writes, for a minute more.
/// That it has fallen silent since takes nothing back of what was written.
#[test]
fn the_vantage_that_saw_the_primary_last_says_when_it_took_its_last_write() {
    for silent in [false, true] {
        let mut desk = Desk::settled(with(|s| s.quorum = 2));
        votes(&mut desk, 5, &[("b", Health::Up), ("c", Health::Up)]);
        desk.outage();
        desk.command(Command::Pause).unwrap();
        votes(&mut desk, 70, &[("b", Health::Down), ("c", Health::Up)]);
        votes(&mut desk, 5, &[("b", Health::Down), ("c", Health::Down)]);
        let all = [("b", Health::Down), ("c", Health::Down)];
        votes(&mut desk, 20, if silent { &all[..1] } else { &all });
        desk.command(Command::Resume).unwrap();
        votes(&mut desk, 5, if silent { &all[..1] } else { &all });
        assert_eq!(desk.decision(), "hold:lag_above_rpo", "silent: {silent}");
    }
}

/// A witness that has never seen the database up begins in the outage, and falls silent: that it was down when it
/// began says nothing of when that began.
#[test]
fn a_vote_that_counts_no_more_does_not_put_off_the_last_write() {
    for (silent, decision) in [(false, "hold:lag_above_rpo"), (true, "hold:already_run")] {
        let mut desk = Desk::settled(with(|s| s.quorum = 2));
        votes(&mut desk, 5, &[("b", Health::Up)]);
        desk.outage();
        desk.command(Command::Pause).unwrap();
        votes(&mut desk, 70, &[("b", Health::Down)]);
        let all = [("b", Health::Down), ("c", Health::Down)];
        votes(&mut desk, 5, &all);
        votes(&mut desk, 20, if silent { &all[..1] } else { &all });
        desk.command(Command::Resume).unwrap();
        votes(&mut desk, 5, if silent { &all[..1] } else { &all });
        assert_eq!(desk.decision(), decision, "silent: {silent}");
    }
}

/// A Down of our own that counts no more says nothing of the last write, which others saw end before.
#[test]
fn our_own_vote_is_heard_on_the_last_write_only_while_it_counts() {
    let mut desk = Desk::settled(with(|s| (s.quorum, s.probes[1].fall) = (2, 10)));
    let both = [("b", Health::Down), ("c", Health::Down)];
    votes(&mut desk, 1, &both);
    desk.command(Command::Pause).unwrap();
    desk.outage();
    desk.see("db", blind());
    votes(&mut desk, 80, &both);
    desk.see("db", bad());
    votes(&mut desk, 10, &both);
    desk.see("db", blind());
    votes(&mut desk, 7, &both);
    desk.command(Command::Resume).unwrap();
    assert_eq!(desk.runs().len(), 1, "{}", desk.decision());
}
