//! The last look before the first change.

use std::time::Duration;

use failoverd::core::{Command, Event};
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

const PRIMARY: [&str; 3] = ["api", "db", "cache"];

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
    // Nor was it a failover: neither cool-down nor "already run" hold the next one.
    desk.run_for(10);
    desk.outage();
    desk.run_for(20);
    assert_eq!(desk.runs().len(), 2, "{}", desk.decision());
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

/// Waits for the next run; its last look is answered by one of the primary's probes too many. How long
/// it took.
fn one_in_vain(desk: &mut Desk) -> u64 {
    let (from, runs) = (desk.now.mono, desk.runs().len());
    while desk.runs().len() == runs {
        desk.go_on();
        assert!(desk.now.mono.since(from) < Duration::from_secs(200), "{}", desk.decision());
    }
    let took = desk.now.mono.since(from).as_secs();
    desk.recovery();
    desk.run_for(1);
    desk.outage();
    assert_eq!(desk.result(), Some(RunResult::Aborted));
    took
}

fn pages(desk: &Desk, kind: NoticeKind) -> usize {
    desk.notices_of(kind).iter().filter(|notice| notice.importance == Importance::Page).count()
}

#[test]
fn looks_in_vain_become_rarer_and_page_no_more() {
    let mut desk = Desk::settled(settings());
    desk.answers_now = false;
    desk.outage();
    let took: Vec<u64> = (0..7).map(|_| one_in_vain(&mut desk)).collect();
    assert!(took[0] <= 13 && took[1] <= 11, "{took:?}");
    assert!((18..=20).contains(&took[2]) && (38..=40).contains(&took[3]), "each one doubles the wait: {took:?}");
    assert!(took[4..].iter().all(|took| (58..=60).contains(took)), "at most a minute: {took:?}");
    assert_eq!((pages(&desk, NoticeKind::RunStarted), pages(&desk, NoticeKind::RunEnded)), (1, 1));
    assert_eq!(desk.notices_of(NoticeKind::RunEnded).len(), 7, "who wants to know is told");
    desk.run_for(1);
    assert_eq!((desk.decision().as_str(), pages(&desk, NoticeKind::Holding)), ("hold:looks_in_vain", 1));

    // A real one in the end: people are told that it goes on.
    desk.answers_now = true;
    desk.run_for(62);
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert_eq!((pages(&desk, NoticeKind::RunStarted), pages(&desk, NoticeKind::RunEnded)), (2, 2));
}

#[test]
fn an_end_of_the_condition_forgets_the_looks_in_vain() {
    let mut desk = Desk::settled(settings());
    desk.answers_now = false;
    desk.outage();
    let _: Vec<u64> = (0..4).map(|_| one_in_vain(&mut desk)).collect();
    desk.recovery();
    desk.run_for(5);
    assert_eq!(desk.decision(), "none");
    desk.outage();
    assert!(one_in_vain(&mut desk) <= 13);
    assert_eq!(pages(&desk, NoticeKind::RunStarted), 2);
}

/// RTO 110 s and a plan of 30 s × 120 %: whatever came before, at 74 s it is high time.
#[test]
fn looks_in_vain_cost_no_recovery_time_objective() {
    let mut desk = Desk::settled(with(|s| {
        s.scenarios[0].rto = HumanDuration::secs(110);
        s.plans[0].steps = vec![step("promote", &[], EffectKind::Promote)];
        s.plans[0].steps[0].estimate = HumanDuration::secs(30);
    }));
    desk.answers_now = false;
    let began = desk.now.mono;
    desk.outage();
    let _: Vec<u64> = (0..4).map(|_| one_in_vain(&mut desk)).collect();
    assert!(desk.now.mono.since(began) < Duration::from_secs(78), "{:?}", desk.now.mono.since(began));
}

/// The journal may be slow: what is seen between the look and the change still counts.
#[test]
fn a_primary_that_answers_between_the_look_and_the_change_is_looked_at_again() {
    let mut desk = Desk::settled(settings());
    let steps: Vec<StepName> = settings().plans[0].steps.iter().map(|step| step.name.clone()).collect();
    for step in &steps {
        desk.answer_always(step.as_str(), Phase::Observe, &Reply::Silence);
    }
    desk.outage();
    while desk.runs().is_empty() {
        desk.go_on();
    }
    // The look passes; what the first steps found is still on its way when the primary is back.
    desk.run_for(1);
    assert!(!desk.calls.is_empty() && desk.result().is_none(), "{:?}", desk.run());
    desk.recovery();
    desk.run_for(2);
    let out: Vec<CallId> = desk.calls.iter().map(|call| call.call).collect();
    for step in &steps {
        desk.as_usual(step.as_str(), Phase::Observe);
    }
    for call in out {
        desk.event(Event::Outcome { call, outcome: not_done() });
    }
    desk.run_for(40);
    assert_eq!(desk.changes(), "", "it is back: nothing is changed");
    assert_eq!(desk.result(), Some(RunResult::Aborted));
}

/// The look has passed; what the first steps found comes only with [`they_tell`].
fn past_the_look(settings: Settings, answered: impl FnOnce(&mut Desk)) -> (Desk, Vec<CallId>) {
    let steps: Vec<StepName> = settings.plans[0].steps.iter().map(|step| step.name.clone()).collect();
    let mut desk = Desk::settled(settings);
    desk.answers_now = false;
    for step in &steps {
        desk.answer_always(step.as_str(), Phase::Observe, &Reply::Silence);
    }
    answered(&mut desk);
    assert!(!desk.brain.status(desk.now).run.expect("a run").last_look, "{:?}", desk.run());
    steps.iter().for_each(|step| desk.as_usual(step.as_str(), Phase::Observe));
    let out = desk.calls.iter().map(|call| call.call).collect();
    (desk, out)
}

fn they_tell(desk: &mut Desk, out: Vec<CallId>) {
    for call in out {
        desk.event(Event::Outcome { call, outcome: not_done() });
    }
}

#[test]
fn an_answer_that_began_before_the_look_was_judged_has_it_looked_again() {
    let see = |desk: &mut Desk, probe: &str, began: MonoTime, observation: Observation| {
        desk.event(Event::Observed { probe: probe.into(), started: began, observation });
    };
    let mut ups = MonoTime::ZERO;
    let (mut desk, out) = past_the_look(settings(), |desk| {
        desk.outage();
        while desk.runs().is_empty() {
            desk.go_on();
        }
        let began = desk.now.mono;
        let after = |milliseconds| began + Duration::from_millis(milliseconds);
        ups = after(20);
        desk.move_to(after(30));
        PRIMARY.iter().for_each(|probe| see(desk, probe, after(10), bad()));
    });
    PRIMARY.iter().for_each(|probe| see(&mut desk, probe, ups, up()));
    they_tell(&mut desk, out);
    assert_eq!(desk.changes(), "", "it is looked again first");
    desk.recovery();
    desk.run_for(20);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), ""));
}

/// Two other failure domains see the primary down.
fn others_vote(desk: &mut Desk) {
    for (vantage, domain) in [("w1", "b"), ("w2", "c")] {
        PRIMARY.iter().for_each(|probe| desk.vote(vantage, domain, probe, Health::Down));
        desk.vote(vantage, domain, "standby", Health::Up);
    }
}

/// They look once an interval as well, and not because we ask ourselves something.
#[test]
fn others_whose_last_word_is_a_moment_older_than_the_look_stand_in_for_us() {
    let mut desk = Desk::settled(with(|s| s.quorum = 2));
    desk.answers_now = false;
    desk.outage();
    while desk.runs().is_empty() {
        others_vote(&mut desk);
        assert!(desk.runs().is_empty(), "else their word is of the look");
        desk.go_on();
    }
    PRIMARY.iter().for_each(|probe| desk.see(probe, blind()));
    desk.run_for(3);
    assert!(!desk.changes().is_empty(), "{:?}", desk.run());
}

#[test]
fn where_others_looked_for_us_an_answer_that_we_get_has_it_looked_again() {
    let (mut desk, out) = past_the_look(with(|s| s.quorum = 2), |desk| {
        desk.outage();
        for _ in 0..60 {
            others_vote(desk);
            desk.go_on();
            // We cannot look any more once it is to be looked.
            if !desk.runs().is_empty() {
                PRIMARY.iter().for_each(|probe| desk.see(probe, blind()));
            }
            if desk.brain.status(desk.now).run.is_some_and(|run| !run.last_look) {
                break;
            }
        }
    });
    let now = desk.now.mono;
    for probe in PRIMARY {
        desk.event(Event::Observed { probe: probe.into(), started: now, observation: up() });
    }
    they_tell(&mut desk, out);
    assert_eq!(desk.changes(), "", "it is looked again first");
    desk.recovery();
    desk.run_for(20);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), ""));
}

/// Nothing comes from the probes (their tasks hang): the end of the look is what the brain asked to be woken for.
#[test]
fn a_look_of_which_nothing_comes_ends_by_the_wake_up_alone() {
    let mut desk = at_the_look(settings());
    let began = desk.now.mono;
    while desk.result().is_none() {
        let wake = desk.brain.next_wake().expect("the look has an end");
        desk.move_to(wake.max(desk.now.mono));
        desk.event(Event::Tick);
        assert!(desk.now.mono.since(began) < Duration::from_secs(10), "{:?}", desk.run());
    }
    assert_eq!(desk.now.mono.since(began), Duration::from_secs(2), "a probe's timeout of 1 s, and 1 s more");
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), ""));
}

/// Only an answer makes a doubt. Each Down in between would cost one more look, and a slow journal would never get to
/// its first change.
#[test]
fn a_primary_that_is_still_down_after_the_look_is_not_looked_at_again() {
    let (mut desk, out) = past_the_look(settings(), seen_down);
    let now = desk.now.mono + Duration::from_millis(1);
    desk.move_to(now);
    for probe in PRIMARY {
        desk.event(Event::Observed { probe: probe.into(), started: now, observation: bad() });
    }
    they_tell(&mut desk, out);
    assert!(!desk.changes().is_empty(), "{:?}", desk.run());
}

fn is_at_the_look(desk: &Desk) -> bool {
    desk.brain.status(desk.now).run.is_some_and(|run| run.last_look)
}

fn seen_down(desk: &mut Desk) {
    desk.outage();
    while desk.runs().is_empty() {
        desk.go_on();
    }
    let now = desk.now.mono;
    for probe in PRIMARY {
        desk.event(Event::Observed { probe: probe.into(), started: now, observation: bad() });
    }
}

/// Whatever held the first change up, and although nothing was seen since that would speak against it.
#[test]
fn a_look_counts_for_ten_seconds_and_no_longer() {
    for (milliseconds, is_looked_again) in [(10_000, false), (10_001, true)] {
        let (mut desk, out) = past_the_look(settings(), seen_down);
        desk.move_to(desk.now.mono + Duration::from_millis(milliseconds));
        they_tell(&mut desk, out);
        assert_eq!(desk.changes().is_empty(), is_looked_again, "{milliseconds}: {:?}", desk.run());
        assert_eq!(is_at_the_look(&desk), is_looked_again, "{milliseconds}");
    }
}

#[test]
fn after_an_answer_it_is_looked_again_at_once() {
    let (mut desk, out) = past_the_look(settings(), seen_down);
    let now = desk.now.mono + Duration::from_millis(1);
    desk.move_to(now);
    desk.event(Event::Observed { probe: "api".into(), started: now, observation: up() });
    they_tell(&mut desk, out);
    assert!(is_at_the_look(&desk), "{:?}", desk.run());
}

#[test]
fn that_a_run_goes_on_pages_only_after_looks_in_vain() {
    let desk = Desk::in_outage(settings(), 30);
    assert_eq!((desk.result(), pages(&desk, NoticeKind::RunStarted)), (Some(RunResult::Done), 1));
}

/// Whoever is cut off between the look and the change would not see it come back.
#[test]
fn anchors_that_fall_silent_after_the_look_have_it_looked_again() {
    let anchored = |quorum| {
        with(|s| {
            s.probes.push(probe("dns"));
            s.anchors = vec!["dns".into()];
            s.anchors_at_least = 1;
            s.quorum = quorum;
        })
    };
    let silence = |desk: &mut Desk| {
        for _ in 0..3 {
            let now = desk.now.mono + Duration::from_millis(1);
            desk.move_to(now);
            desk.event(Event::Observed { probe: "dns".into(), started: now, observation: bad() });
        }
    };
    for (falls_silent, changes) in [(false, true), (true, false)] {
        let (mut desk, out) = past_the_look(anchored(1), |desk| {
            seen_down(desk);
            let now = desk.now.mono + Duration::from_millis(1);
            desk.move_to(now);
            desk.event(Event::Observed { probe: "dns".into(), started: now, observation: up() });
        });
        if falls_silent {
            silence(&mut desk);
        }
        they_tell(&mut desk, out);
        assert_eq!((!desk.changes().is_empty(), is_at_the_look(&desk)), (changes, !changes));
    }
    // Where others looked in our place, that we cannot is no news.
    let mut desk = Desk::settled(anchored(2));
    desk.answers_now = false;
    desk.outage();
    while desk.runs().is_empty() {
        others_vote(&mut desk);
        desk.go_on();
    }
    desk.see("dns", bad());
    for _ in 0..20 {
        others_vote(&mut desk);
        desk.go_on();
    }
    assert!(!desk.changes().is_empty(), "{:?}", desk.run());
}
