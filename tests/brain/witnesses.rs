//! Several vantages: who counts, for how long, and what the last look makes of it.

use failoverd::core::Event;
use failoverd::model::*;
use std::time::Duration;

use crate::desk::Desk;
use crate::settings::*;

const PRIMARY: [&str; 3] = ["api", "db", "cache"];

fn quorum_of_two() -> Settings {
    with(|s| s.quorum = 2)
}

/// Seconds in which witnesses vote at the same pace as we look.
fn run_with(desk: &mut Desk, seconds: u64, votes: &[(&str, &str, Health)]) {
    for _ in 0..seconds {
        for (vantage, domain, health) in votes {
            for probe in PRIMARY {
                desk.vote(vantage, domain, probe, *health);
            }
            desk.vote(vantage, domain, "standby", Health::Up);
        }
        desk.run_for(1);
    }
}

#[test]
fn our_own_vote_is_not_a_quorum_of_two() {
    let mut desk = Desk::settled(quorum_of_two());
    run_with(&mut desk, 10, &[("w1", "b", Health::Up)]);
    // Only our own way to the primary is broken; it works, and the standby follows it.
    PRIMARY.iter().for_each(|probe| desk.see(probe, bad()));
    run_with(&mut desk, 60, &[("w1", "b", Health::Up), ("w2", "c", Health::Up)]);
    assert_eq!(desk.decision(), "none");
    desk.outage();
    run_with(&mut desk, 30, &[("w1", "b", Health::Down), ("w2", "c", Health::Down)]);
    assert_eq!(desk.result(), Some(RunResult::Done));
    let voted: Vec<_> = desk.run().votes.iter().filter(|vote| vote.health == Health::Down).collect();
    assert!(
        voted.iter().any(|vote| vote.domain.as_str() == "b") && voted.iter().any(|vote| vote.domain.as_str() == "here")
    );
}

/// One that says so may be wrong. What the standby told meanwhile may be of a primary that was gone.
#[test]
fn a_standby_is_not_believed_on_the_word_of_one_domain_alone() {
    for others in [&["w1"][..], &["w1", "w2"]] {
        let votes = |health| others.iter().map(|name| (*name, "b", health)).collect::<Vec<_>>();
        let mut desk = Desk::settled(quorum_of_two());
        run_with(&mut desk, 10, &votes(Health::Up));
        PRIMARY.iter().for_each(|probe| desk.see(probe, bad()));
        run_with(&mut desk, 60, &votes(Health::Up));
        desk.outage();
        run_with(&mut desk, 30, &votes(Health::Down));
        assert_eq!((desk.decision(), desk.runs().len()), ("hold:lag_above_rpo".to_owned(), 0), "{others:?}");
    }
}

#[test]
fn our_vote_and_the_verdict_are_told_apart() {
    let mut desk = Desk::settled(quorum_of_two());
    run_with(&mut desk, 10, &[("w1", "b", Health::Up)]);
    let sight = |desk: &Desk| desk.brain.sight(desk.now, &"api".into()).map(|sight| (sight.vote, sight.verdict));
    assert_eq!(sight(&desk), Some((Some(Health::Up), Health::Up)));
    desk.outage();
    run_with(&mut desk, 5, &[("w1", "b", Health::Up)]);
    assert_eq!(sight(&desk), Some((Some(Health::Down), Health::Unknown)));
    run_with(&mut desk, 2, &[("w1", "b", Health::Down)]);
    assert_eq!(sight(&desk), Some((Some(Health::Down), Health::Down)));
    assert_eq!(desk.brain.sight(desk.now, &"nobody".into()), None);
}

#[test]
fn a_witness_in_our_own_domain_adds_nothing() {
    let mut desk = Desk::settled(quorum_of_two());
    desk.outage();
    run_with(&mut desk, 60, &[("w1", "here", Health::Down)]);
    assert!(desk.runs().is_empty());
}

#[test]
fn votes_of_witnesses_expire() {
    let mut desk = Desk::settled(quorum_of_two());
    desk.outage();
    run_with(&mut desk, 8, &[("w1", "b", Health::Down)]);
    assert_eq!(desk.decision(), "hold:confirming");
    desk.run_for(7);
    assert_eq!(desk.decision(), "hold:inconclusive");
    assert!(desk.runs().is_empty());
}

#[test]
fn a_vote_from_the_future_expires_like_any_other() {
    let mut desk = Desk::settled(quorum_of_two());
    desk.outage();
    for probe in PRIMARY {
        desk.event(Event::PeerVote {
            vantage: "w1".into(),
            domain: "b".into(),
            probe: probe.into(),
            health: Health::Down,
            seen: desk.now.mono + Duration::from_secs(3600),
            first_bad: Some(desk.now.mono),
            degraded: false,
            cause: None,
        });
    }
    desk.run_for(60);
    assert!(desk.runs().is_empty());
}

#[test]
fn late_votes_do_not_replace_newer_ones() {
    let mut desk = Desk::settled(quorum_of_two());
    run_with(&mut desk, 5, &[("w1", "b", Health::Up)]);
    let old = desk.now.mono.minus(Duration::from_secs(3));
    desk.outage();
    run_with(&mut desk, 1, &[("w1", "b", Health::Up)]);
    for probe in PRIMARY {
        desk.event(Event::PeerVote {
            vantage: "w1".into(),
            domain: "b".into(),
            probe: probe.into(),
            health: Health::Down,
            seen: old,
            first_bad: Some(old),
            degraded: false,
            cause: None,
        });
    }
    desk.run_for(3);
    assert_eq!(desk.decision(), "none");
}

#[test]
fn a_tilt_drops_the_witnesses_votes_too() {
    let mut desk = Desk::settled(quorum_of_two());
    desk.outage();
    run_with(&mut desk, 8, &[("w1", "b", Health::Down)]);
    desk.event(Event::Stalled { by: Duration::from_secs(3) });
    desk.run_for(14);
    assert_eq!(desk.decision(), "hold:inconclusive", "ours is back, theirs is not");
}

/// We cannot look at the primary at all; two others can, and say that it is down.
#[test]
fn a_quorum_of_others_stands_in_for_our_last_look() {
    let mut desk = Desk::settled(quorum_of_two());
    desk.outage();
    for probe in PRIMARY {
        desk.see(probe, blind());
    }
    desk.see("standby", lagging(Duration::ZERO));
    run_with(&mut desk, 40, &[("w1", "b", Health::Down), ("w2", "c", Health::Down)]);
    assert_eq!(desk.result(), Some(RunResult::Done), "{:?}", desk.run().aborting);
}

/// Their votes count for a verdict still, but say nothing of the moment of the look.
#[test]
fn witnesses_that_fell_silent_do_not_stand_in_for_our_last_look() {
    let mut desk = Desk::settled(with(|s| {
        s.quorum = 2;
        s.probes.iter_mut().for_each(|probe| probe.max_age = HumanDuration::secs(9));
    }));
    desk.outage();
    for probe in PRIMARY {
        desk.see(probe, blind());
    }
    desk.see("standby", lagging(Duration::ZERO));
    let both = [("w1", "b", Health::Down), ("w2", "c", Health::Down)];
    run_with(&mut desk, 8, &both);
    desk.run_for(6);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), ""));
    run_with(&mut desk, 40, &both);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn one_other_does_not() {
    let mut desk = Desk::settled(quorum_of_two());
    desk.outage();
    run_with(&mut desk, 12, &[("w1", "b", Health::Down)]);
    for probe in PRIMARY {
        desk.see(probe, blind());
    }
    run_with(&mut desk, 60, &[("w1", "b", Health::Down)]);
    assert_eq!(desk.changes(), "");
}

#[test]
fn what_answers_us_at_the_last_look_is_not_failed_over_whatever_others_say() {
    let mut desk = Desk::settled(quorum_of_two());
    run_with(&mut desk, 60, &[("w1", "b", Health::Down), ("w2", "c", Health::Down)]);
    assert!(!desk.runs().is_empty());
    assert_eq!(desk.changes(), "");
}

/// Two domains say down, two say up, and two are asked for: nobody knows.
#[test]
fn a_quorum_against_a_quorum_is_no_verdict() {
    let mut desk = Desk::settled(quorum_of_two());
    desk.outage();
    // Who sees the primary up may see it take writes: only a standby that follows it loses none.
    desk.see("standby", lagging(Duration::ZERO));
    let split = [("w1", "b", Health::Down), ("w2", "c", Health::Up), ("w3", "d", Health::Up)];
    run_with(&mut desk, 60, &split);
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("none", 0));
    let view = desk.brain.status(desk.now);
    let api = view.probes.iter().find(|probe| probe.name.as_str() == "api").unwrap();
    assert!(api.health == Health::Unknown && api.why.contains("disagree"), "{api:?}");
    run_with(&mut desk, 30, &[("w1", "b", Health::Down), ("w2", "c", Health::Up), ("w3", "d", Health::Unknown)]);
    assert_eq!(desk.runs().len(), 1, "one of them against two");
}

/// A tilt that is over before votes grow old: those from before it are worth nothing all the same.
#[test]
fn votes_of_witnesses_do_not_outlive_a_short_tilt() {
    let mut desk = Desk::settled(with(|s| {
        s.quorum = 2;
        s.tilt_for = HumanDuration::secs(1);
        s.probes.iter_mut().for_each(|probe| probe.max_age = HumanDuration::secs(9));
    }));
    desk.outage();
    run_with(&mut desk, 8, &[("w1", "b", Health::Down)]);
    assert_eq!(desk.decision(), "hold:confirming");
    desk.event(Event::Stalled { by: Duration::from_secs(3) });
    desk.run_for(5);
    assert_eq!(desk.decision(), "hold:inconclusive", "ours is back, theirs is from before the stall");
}

/// The witness saw the database fall, and it answers us still: it takes writes until it does not.
#[test]
fn writes_end_when_the_last_one_saw_the_primary_up() {
    let mut settings = quorum_of_two();
    settings.probes[1].rise = 90;
    let mut desk = Desk::settled(settings);
    desk.see("standby", cut_off());
    run_with(&mut desk, 52, &[("w1", "b", Health::Up)]);
    desk.outage();
    run_with(&mut desk, 10, &[("w1", "b", Health::Down)]);
    desk.see("db", up());
    // Our vote is Down still, and fresh, when the outage is confirmed.
    run_with(&mut desk, 4, &[("w1", "b", Health::Down)]);
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:lag_above_rpo", 0));
}
