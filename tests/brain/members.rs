//! Several daemons: one decides, the others see, and each can take over at any record.

use std::time::Duration;

use failoverd::core::{Command, Effect, Event, Membership, Resigned};
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::restart::intended;
use crate::settings::*;

fn leads(term: u64) -> Event {
    Event::Leads { term: Term(term) }
}

/// One that followed all the while, and that the records of the leader have come to.
fn follower_in_outage(records: &[Record]) -> Desk {
    let mut desk = Desk::following(settings());
    desk.run_for(20);
    desk.outage();
    desk.run_for(40);
    desk.replicate(records);
    desk
}

#[test]
fn at_every_record_boundary_another_member_leads_to_the_same_end() {
    let undisturbed = Desk::in_outage(settings(), 40);
    assert_eq!(undisturbed.result(), Some(RunResult::Done));
    for happened in [true, false] {
        for kept in 0..=undisturbed.durable.len() {
            let records = &undisturbed.durable[..kept];
            let was_over = records.iter().any(|record| matches!(record.entry, Entry::RunEnded { .. }));
            let was_active = !was_over && records.iter().any(|record| matches!(record.entry, Entry::RunStarted { .. }));
            let mut desk = follower_in_outage(records);
            desk.done = intended(records, happened);
            let promoted_before = desk.done.contains(&"promote".into());
            assert!(desk.calls.is_empty() && desk.durable.len() == kept, "one that follows writes and calls nothing");
            desk.event(leads(5));
            desk.run_for(60);
            assert_eq!(desk.runs().len(), 1, "record {kept}, happened {happened}");
            assert_eq!(desk.result(), Some(RunResult::Done), "record {kept}, happened {happened}");
            let promotions = desk.changes().matches("promote").count();
            assert!(promotions <= usize::from(!promoted_before), "record {kept}: promoted twice");
            // What the former leader still has out is of a lower epoch.
            let epoch = if was_active { Epoch(2) } else { Epoch(1) };
            assert!(desk.calls.iter().all(|call| call.epoch == epoch), "record {kept}");
            assert_eq!(desk.run().epoch, epoch, "record {kept}");
        }
    }
}

#[test]
fn one_that_follows_is_as_far_as_the_leader_when_its_turn_comes() {
    let mut desk = Desk::following(settings());
    desk.run_for(20);
    desk.outage();
    desk.run_for(40);
    let changed = desk.effects.iter().any(|effect| matches!(effect, Effect::Journal(_) | Effect::Notify(_)));
    assert!(!changed, "it tells nobody and writes nothing");
    desk.event(leads(3));
    // The condition was confirmed while it followed: the run starts at once.
    assert_eq!(desk.runs().len(), 1);
    assert_eq!(desk.brain.membership(), &Membership::Leads { term: Term(3) });
}

#[test]
fn one_that_follows_refuses_what_only_the_leader_can_do_and_says_who_that_is() {
    let mut desk = Desk::following(settings());
    let refused = desk.command(Command::Pause).unwrap_err();
    assert_eq!(refused.code, "not_leading");
    assert!(refused.message.contains("nobody leads now"), "{refused}");
    desk.event(Event::Follows { leader: Some("other".into()) });
    let refused = desk.command(Command::Pause).unwrap_err();
    assert!(refused.message.contains("other leads"), "{refused}");
    assert!(desk.durable.is_empty());
    desk.event(leads(1));
    desk.command(Command::Pause).unwrap();
    assert!(desk.brain.ledger().paused.is_some());
}

#[test]
fn one_that_steps_down_forgets_what_is_not_durable_and_can_lead_again() {
    let mut desk = Desk::following(settings());
    desk.event(leads(1));
    desk.run_for(20);
    desk.answer_always("promote", Phase::Apply, &Reply::Silence);
    desk.outage();
    desk.run_for(40);
    let intent =
        |record: &Record| matches!(&record.entry, Entry::StepIntent { step, .. } if step.as_str() == "promote");
    let place = desk.durable.iter().position(intent).expect("an intent to promote");
    // The write of the intent did not come through before the lease was over.
    desk.calls.clear();
    desk.notices.clear();
    desk.step_down(place);
    assert_eq!(desk.notices.len(), 1, "{:?}", desk.notices);
    assert!(
        desk.notices[0].importance == Importance::Page
            && desk.notices[0].subject.contains("leads no more: the lease was not renewed in time")
    );
    desk.run_for(30);
    assert!(desk.calls.is_empty() && desk.durable.len() == place, "it starts nothing");
    assert_eq!(desk.notices.len(), 1, "it is said once");
    desk.as_usual("promote", Phase::Apply);
    desk.event(leads(2));
    desk.run_for(60);
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert_eq!(desk.run().epoch, Epoch(2));
    assert_eq!(desk.runs().len(), 1);
}

/// What it saw as a leader it has seen: it does not begin to confirm anew.
#[test]
fn one_that_leads_again_has_seen_the_outage_for_as_long_as_it_lasts() {
    let mut desk = Desk::following(settings());
    desk.event(leads(1));
    desk.run_for(20);
    desk.outage();
    desk.run_for(9);
    assert_eq!(desk.decision(), "hold:confirming");
    desk.step_down(desk.durable.len());
    desk.event(leads(2));
    desk.run_for(5);
    assert_eq!(desk.result(), Some(RunResult::Done), "{}", desk.decision());
}

#[test]
fn a_new_leader_tells_people_once_and_pages_only_where_an_incident_is_open() {
    for open in [false, true] {
        let mut former = Desk::following(settings());
        former.event(leads(1));
        former.run_for(20);
        if open {
            former.outage();
            former.run_for(10);
        }
        let mut desk = Desk::following(with(|s| s.name = "other".into()));
        desk.run_for(20);
        desk.replicate(&former.durable);
        desk.event(leads(2));
        let told: Vec<&Notice> = desk.notices.iter().filter(|told| told.subject.contains("leads now")).collect();
        assert_eq!(told.len(), 1, "{:?}", desk.notices);
        assert!(told[0].subject.contains("other leads now in place of"), "{}", told[0].subject);
        assert_eq!(told[0].importance == Importance::Page, open);
        assert_eq!(told[0].subject.contains("open incidents"), open, "{}", told[0].subject);
    }
}

#[test]
fn the_lead_is_handed_over_between_two_changes_and_not_during_one() {
    let other = || with(|s| s.witnesses = vec![WitnessSettings { name: "other".into(), domain: "there".into() }]);
    let mut desk = Desk::new(other());
    let hand_over = |to: Option<&str>| Command::HandOver { to: to.map(Into::into) };
    assert_eq!(desk.command(hand_over(None)).unwrap_err().code, "not_now", "it is alone");
    let mut desk = Desk::following(other());
    desk.event(leads(1));
    desk.run_for(20);
    assert_eq!(desk.command(hand_over(Some("nobody"))).unwrap_err().code, "not_found");
    assert!(desk.command(hand_over(Some("here"))).unwrap().text.contains("leads already"));
    assert!(!desk.effects.iter().any(|effect| matches!(effect, Effect::HandOver { .. })));
    desk.command(hand_over(Some("other"))).unwrap();
    assert!(
        desk.effects.iter().any(|effect| matches!(effect, Effect::HandOver { to: Some(_), why: Resigned::ByHand }))
    );
    let mut desk = Desk::following(settings());
    desk.event(leads(1));
    desk.run_for(20);
    desk.answer_always("promote", Phase::Apply, &Reply::Silence);
    desk.outage();
    desk.run_for(20);
    let refused = desk.command(hand_over(None)).unwrap_err();
    assert!(refused.message.contains("being applied"), "{refused}");
}

/// The hand-overs that nobody asked for.
fn given_back(desk: &Desk) -> usize {
    let blind = Effect::HandOver { to: None, why: Resigned::Blind };
    desk.effects.iter().filter(|effect| **effect == blind).count()
}

fn leading(settings: Settings) -> Desk {
    let mut desk = Desk::following(settings);
    desk.event(leads(1));
    desk.run_for(20);
    desk
}

const ALL: [&str; 5] = ["api", "db", "cache", "standby", "dns"];

fn anchored() -> Settings {
    with(|s| {
        s.probes.push(probe("dns"));
        (s.anchors, s.anchors_at_least) = (vec!["dns".into()], 1);
    })
}

/// No descriptors, no resolver, or cut off from everything but the store: it could neither judge nor act.
#[test]
fn a_leader_that_goes_blind_gives_the_lead_back_once() {
    for (observation, down_before) in [(blind(), false), (bad(), false), (bad(), true)] {
        let mut desk = leading(anchored());
        if down_before {
            desk.see("cache", bad());
            desk.run_for(20);
        }
        ALL.iter().for_each(|probe| desk.see(probe, observation.clone()));
        // Three looks in vain, and five seconds.
        desk.run_for(6);
        assert_eq!(given_back(&desk), 0);
        desk.run_for(4);
        assert_eq!(given_back(&desk), 1, "{observation:?}");
        desk.run_for(60);
        assert_eq!(given_back(&desk), 1, "it was asked once");
        // It comes back to one that sees nothing: nobody else wanted it, and it must not go round.
        let kept = desk.durable.len();
        desk.step_down(kept);
        desk.event(leads(2));
        desk.run_for(60);
        assert_eq!(given_back(&desk), 1);
        // It saw again, and lost sight again.
        ALL.iter().for_each(|probe| desk.see(probe, up()));
        desk.run_for(20);
        ALL.iter().for_each(|probe| desk.see(probe, observation.clone()));
        desk.run_for(10);
        assert_eq!(given_back(&desk), 2);
    }
}

#[test]
fn a_leader_that_sees_one_thing_or_has_been_blind_for_a_moment_keeps_the_lead() {
    for (one, seen) in [("standby", up()), ("db", bad())] {
        let mut desk = leading(settings());
        ALL.iter().filter(|probe| **probe != one).for_each(|probe| desk.see(probe, blind()));
        desk.see(one, seen);
        desk.run_for(60);
        assert_eq!(given_back(&desk), 0, "{one}");
    }
    let mut desk = leading(settings());
    for _ in 0..5 {
        ALL.iter().for_each(|probe| desk.see(probe, blind()));
        desk.run_for(6);
        ALL.iter().for_each(|probe| desk.see(probe, up()));
        desk.run_for(10);
    }
    assert_eq!(given_back(&desk), 0);
    // One that is alone has nobody to give it to, and one that follows has nothing to give.
    for mut desk in [Desk::settled(settings()), Desk::following(settings())] {
        desk.run_for(20);
        ALL.iter().for_each(|probe| desk.see(probe, blind()));
        desk.run_for(60);
        assert_eq!(given_back(&desk), 0);
    }
}

#[test]
fn a_leader_that_goes_blind_waits_for_the_outcome_of_a_change() {
    let mut desk = leading(settings());
    desk.answer_always("promote", Phase::Apply, &Reply::Silence);
    desk.outage();
    desk.run_for(20);
    assert!(desk.phases("promote").ends_with("apply"), "{}", desk.phases("promote"));
    ALL.iter().for_each(|probe| desk.see(probe, blind()));
    let mut waited = 0;
    while given_back(&desk) == 0 {
        desk.run_for(1);
        waited += 1;
        assert!(waited < 600, "it keeps the lead for ever");
    }
    assert!(waited > 10, "{waited} s");
}

#[test]
fn a_store_out_of_reach_is_told_once_and_so_is_its_return() {
    let mut desk = Desk::following(settings());
    for trouble in [Some("no answer"), Some("refused"), None, None] {
        desk.event(Event::StoreReached { trouble: trouble.map(str::to_owned) });
    }
    let told: Vec<(Importance, &str)> = desk.notices.iter().map(|told| (told.importance, &*told.subject)).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].0 == Importance::Page && told[0].1.contains("no answer; it goes on probing"), "{told:?}");
    assert!(told[1].0 == Importance::Info && told[1].1.contains("again"), "{told:?}");
}

#[test]
fn a_term_that_does_not_grow_puts_the_state_in_doubt() {
    let mut former = Desk::following(settings());
    former.event(leads(7));
    for (term, is_taken) in [(6, false), (7, false), (8, true)] {
        let mut desk = Desk::following(settings());
        desk.replicate(&former.durable);
        desk.event(leads(term));
        assert_eq!(
            desk.brain.ledger().leader.as_ref().map(|(_, term)| *term),
            Some(Term(if is_taken { 8 } else { 7 }))
        );
        assert_eq!(desk.brain.status(desk.now).in_doubt.is_none(), is_taken, "term {term}");
    }
}

#[test]
fn what_a_run_was_granted_by_its_leader_counts_for_the_next_run_too() {
    let undisturbed = Desk::in_outage(settings(), 40);
    let started = undisturbed.durable.iter().position(|record| matches!(record.entry, Entry::RunStarted { .. }));
    let mut desk = follower_in_outage(&undisturbed.durable[..=started.unwrap()]);
    desk.event(leads(5));
    desk.run_for(60);
    assert_eq!(desk.brain.ledger().epoch, Epoch(2));
    assert_eq!(desk.result(), Some(RunResult::Done));
}

/// The loss that one saw coming by its own clock is not made smaller by what another one wrote down by
/// a clock that runs ahead: a standby that is cut off says that it has everything.
#[test]
fn what_a_member_saw_itself_is_not_overruled_by_the_clock_of_another() {
    let lies = |desk: &mut Desk| {
        desk.see("standby", lagging(Duration::from_secs(20)));
        desk.run_for(20);
        desk.outage();
        desk.run_for(2);
        desk.see("standby", lagging(Duration::ZERO));
        desk.run_for(28);
    };
    let strict = |name: &str| {
        with(|s| {
            s.name = name.into();
            s.scenarios[0].rpo = Some(HumanDuration::secs(10));
        })
    };
    let mut former = Desk::following(strict("here"));
    former.clock_set = 25_000;
    former.event(leads(1));
    lies(&mut former);
    assert_eq!(former.decision(), "hold:lag_above_rpo");
    let mut desk = Desk::following(strict("other"));
    lies(&mut desk);
    desk.replicate(&former.durable);
    desk.event(leads(2));
    desk.run_for(5);
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:lag_above_rpo", 0));
}
