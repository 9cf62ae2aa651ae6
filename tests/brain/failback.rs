//! What was really lost, and what the old primary has before it is overwritten.

use failoverd::core::{Command, Event};
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::persons::at;
use crate::settings::*;

fn shop() -> Settings {
    with(|s| {
        s.scenarios[0].failback = Some("back".into());
        s.scenarios[0].requires.clear();
        s.plans.push(small_plan("back", "bring-back", EffectKind::Promote));
    })
}

fn primary(offset: u64, transaction: u64) -> Facts {
    Facts {
        role: Some(Role::Primary),
        offset: Some(offset),
        transaction: Some(transaction),
        last_commit: Some(WallTime(60_000)),
        cluster: Some("7".into()),
        ..Facts::default()
    }
}

fn promoted(at: u64) -> Observation {
    up_with(Facts { promoted_at: Some(at), last_commit: Some(WallTime(57_000)), ..primary(at + 500, 90) })
}

fn standby(offset: u64, transaction: u64) -> Observation {
    let Observation::Up { latency, facts: Some(mut facts), degraded } = at(offset, transaction, 500) else {
        unreachable!()
    };
    facts.cluster = Some("7".into());
    Observation::Up { latency, facts: Some(facts), degraded }
}

/// It has failed over, and the old primary has come back with what it had.
fn failed_over(old: Option<Observation>) -> Desk {
    let mut desk = Desk::settled(shop());
    desk.see("db", up_with(primary(10_000, 50)));
    desk.see("standby", standby(8_000, 45));
    desk.run_for(5);
    desk.outage();
    desk.run_for(20);
    assert_eq!(desk.result(), Some(RunResult::Done));
    desk.see("standby", promoted(8_000));
    desk.run_for(5);
    if let Some(old) = old {
        for probe in ["api", "cache"] {
            desk.see(probe, up());
        }
        desk.see("db", old);
        desk.run_for(10);
    }
    desk
}

fn failback(discard: bool) -> Command {
    Command::Failback { scenario: REGIONAL.into(), discard }
}

#[test]
fn what_was_lost_is_measured_once_the_old_primary_is_seen_again() {
    let desk = failed_over(Some(up_with(primary(12_000, 51))));
    let run = desk.run();
    assert_eq!(run.predicted_writes.transactions.map(|count| count >= 5), Some(true), "{:?}", run.predicted_writes);
    let [lost] = run.measured.as_slice() else { panic!("{:?}", run.measured) };
    assert_eq!(lost.writes, Writes { bytes: Some(4_000), transactions: Some(6) });
    assert_eq!(lost.time, Some(HumanDuration::secs(3)));
    assert_eq!(desk.entries(|entry| matches!(entry, Entry::LossMeasured { .. })), 1, "once");
}

#[test]
fn nothing_is_measured_while_the_old_primary_is_away_or_is_of_another_cluster() {
    assert!(failed_over(None).run().measured.is_empty());
    let other = up_with(Facts { cluster: Some("8".into()), ..primary(12_000, 51) });
    let mut desk = failed_over(Some(other));
    assert!(desk.run().measured.is_empty());
    let refusal = desk.command(failback(false)).unwrap_err();
    assert!(refusal.message.contains("not of one cluster"), "{refusal}");
}

#[test]
fn the_old_primary_is_not_overwritten_before_somebody_gave_up_what_only_it_has() {
    let mut desk = failed_over(Some(up_with(primary(12_000, 51))));
    let refusal = desk.command(failback(false)).unwrap_err();
    assert!(refusal.message.contains("db has 4.0 kB, 6 transactions that standby lacks, of 3s"), "{refusal}");
    assert_eq!(desk.runs().len(), 1);
    desk.command(failback(true)).unwrap();
    desk.run_for(5);
    assert_eq!((desk.result(), desk.run().plan.name.as_str()), (Some(RunResult::Done), "back"));
    let Trigger::Failback { discards, .. } = &desk.run().trigger else { panic!("{:?}", desk.run().trigger) };
    assert_eq!(discards[0].writes.transactions, Some(6), "what was given up is in the journal");
    let refusal = desk.command(failback(true)).unwrap_err();
    assert!(refusal.message.contains("has not failed over since"), "{refusal}");
}

#[test]
fn a_restarted_primary_writes_of_itself_and_that_is_no_loss() {
    let mut desk = failed_over(Some(up_with(primary(12_000, 45))));
    let answer = desk.command(failback(false)).unwrap();
    assert!(answer.text.contains("db has no transaction that standby lacks"), "{}", answer.text);
}

#[test]
fn one_that_follows_already_has_nothing_of_its_own() {
    let mut desk = failed_over(Some(standby(8_500, 90)));
    let answer = desk.command(failback(false)).unwrap();
    assert!(answer.text.contains("db follows standby already"), "{}", answer.text);
    assert_eq!(desk.entries(|entry| matches!(entry, Entry::LossMeasured { .. })), 0);
}

#[test]
fn an_old_primary_that_was_made_a_standby_is_no_outage_for_a_failback() {
    let Observation::Up { facts, .. } = standby(8_500, 90) else { unreachable!() };
    let cause = Cause { kind: CauseKind::WrongRole, detail: "it is a replica".into() };
    let mut desk = failed_over(None);
    desk.see("db", Observation::Down { cause, facts });
    desk.run_for(10);
    assert_eq!(desk.decision(), "hold:already_run", "what the scenario waits for still holds");
    let answer = desk.command(failback(false)).unwrap();
    assert!(answer.run.is_some(), "{}", answer.text);
}

#[test]
fn there_is_no_failback_into_a_region_that_is_down_nor_without_a_failover() {
    let mut desk = failed_over(None);
    let refusal = desk.command(failback(true)).unwrap_err();
    assert!(refusal.message.contains("still holds"), "{refusal}");
    let mut desk = Desk::settled(shop());
    assert!(desk.command(failback(true)).unwrap_err().message.contains("has not failed over"));
    let mut desk = Desk::settled(settings());
    assert!(desk.command(failback(true)).unwrap_err().message.contains("names no `failback` plan"));
}

#[test]
fn nothing_fails_back_by_itself() {
    let mut desk = failed_over(Some(up_with(primary(12_000, 45))));
    desk.run_for(900);
    assert_eq!(desk.runs().len(), 1);
}

fn measured(desk: &Desk) -> usize {
    desk.entries(|entry| matches!(entry, Entry::LossMeasured { .. }))
}

/// In the middle of it the old primary is a primary again, and has what was written since: no loss.
#[test]
fn a_failback_under_way_is_no_time_to_measure() {
    let mut desk = failed_over(Some(standby(8_500, 90)));
    desk.answer_always("bring-back", Phase::Observe, &Reply::Silence);
    desk.command(failback(false)).unwrap();
    desk.see("db", up_with(primary(20_000, 95)));
    desk.run_for(5);
    assert_eq!((desk.result(), measured(&desk)), (None, 0));
}

#[test]
fn that_nothing_was_lost_is_told_once_and_again_where_something_comes_up_after_all() {
    let mut desk = failed_over(Some(up_with(primary(8_000, 45))));
    desk.run_for(10);
    assert_eq!(measured(&desk), 1, "{:?}", desk.run().measured);
    // Less than what is told anew of one that is known to have something of its own.
    desk.see("db", up_with(primary(8_400, 47)));
    desk.run_for(10);
    assert_eq!(measured(&desk), 2);
    desk.see("db", up_with(primary(8_500, 48)));
    desk.run_for(10);
    assert_eq!(measured(&desk), 2);
    assert_eq!(desk.run().measured[0].writes, Writes { bytes: Some(400), transactions: Some(2) });
}

#[test]
fn what_was_lost_is_of_the_run_that_failed_this_service_over() {
    let mut desk = Desk::settled(with(|s| {
        *s = shop();
        s.cool_down = HumanDuration::ZERO;
        s.scenarios.push(scenario("other", down("cache"), "other"));
        s.scenarios[1].requires.clear();
        s.scenarios[1].replication.clear();
        s.plans.push(small_plan("other", "restart", EffectKind::Call));
    }));
    desk.see("db", up_with(primary(10_000, 50)));
    desk.see("standby", standby(8_000, 45));
    desk.run_for(5);
    let by_hand =
        |scenario: &str| Command::Failover { scenario: scenario.into(), allow_data_loss: Some(HumanDuration::secs(9)) };
    desk.command(by_hand(REGIONAL)).unwrap();
    desk.see("db", bad());
    desk.see("standby", promoted(8_000));
    desk.run_for(10);
    desk.command(by_hand("other")).unwrap();
    desk.run_for(5);
    assert!(desk.runs().len() == 2 && desk.runs().iter().all(|run| run.ended.is_some()), "{:?}", desk.runs());
    desk.see("db", up_with(primary(12_000, 51)));
    desk.run_for(5);
    let lost: Vec<usize> = desk.runs().iter().map(|run| run.measured.len()).collect();
    assert_eq!(lost, [1, 0]);
}

/// What it had is no word of what it has.
#[test]
fn an_old_primary_that_does_not_tell_now_is_not_compared() {
    for asked_in_vain in [true, false] {
        let mut desk = failed_over(Some(up_with(primary(8_000, 45))));
        if asked_in_vain {
            desk.see("db", up());
            desk.run_for(1);
        } else {
            desk.move_to(desk.now.mono + std::time::Duration::from_secs(8));
            for probe in ["api", "cache"] {
                let started = desk.now.mono;
                desk.event(Event::Observed { probe: probe.into(), started, observation: up() });
            }
        }
        let refusal = desk.command(failback(false)).unwrap_err();
        assert!(refusal.message.contains("db does not answer"), "{refusal}");
    }
}

#[test]
fn of_another_cluster_nobody_can_tell_how_many_writes_are_missing() {
    for (cluster, bytes) in [("7", Some(2_000)), ("8", None)] {
        let mut desk = Desk::settled(shop());
        desk.see("db", up_with(Facts { cluster: Some(cluster.into()), ..primary(10_000, 50) }));
        desk.see("standby", standby(8_000, 45));
        desk.run_for(5);
        desk.outage();
        desk.see("standby", standby(8_000, 45));
        desk.run_for(20);
        assert_eq!(desk.run().predicted_writes.bytes, bytes, "{cluster}");
    }
}

#[test]
fn what_nobody_can_compare_can_be_given_up_by_name() {
    let other = up_with(Facts { cluster: Some("8".into()), ..primary(12_000, 51) });
    let mut desk = failed_over(Some(other));
    let answer = desk.command(failback(true)).unwrap();
    assert!(answer.text.contains("given up, whatever it is: db and standby are not of one cluster"), "{}", answer.text);
}

#[test]
fn what_holds_everything_back_holds_a_failback_back_but_the_lack_of_a_plan_for_the_way_there() {
    let mut desk = failed_over(Some(up_with(primary(8_000, 45))));
    desk.command(Command::Pause).unwrap();
    let refusal = desk.command(failback(false)).unwrap_err();
    assert!(refusal.message.contains("pause"), "{refusal}");
    desk.command(Command::Resume).unwrap();
    let mut one_way = shop();
    one_way.scenarios[0].plan = None;
    desk.reload(one_way);
    desk.run_for(5);
    desk.command(failback(false)).unwrap();
}
