//! Abort before the point of no return, and compensation.

use failoverd::core::run_ledger::StepState;
use failoverd::core::{Command, Effect, Event};
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

const ABORT: Command = Command::Abort { run: None };

/// a → b → c → promote, parked at c.
fn chain() -> Settings {
    let chain = [("a", vec![]), ("b", vec!["a"]), ("c", vec!["b"])];
    let mut steps: Vec<Step> = chain.iter().map(|(name, after)| step(name, after, EffectKind::Call)).collect();
    steps.push(step("promote", &["c"], EffectKind::Promote));
    let mut settings = with_steps(steps);
    settings.plans[0].point_of_no_return = Some("promote".into());
    settings
}

fn parked_at_c(script: impl FnOnce(&mut Desk)) -> Desk {
    let mut desk = Desk::settled(chain());
    desk.answer("c", Phase::Apply, [Reply::Say(refused(false))]);
    script(&mut desk);
    desk.outage();
    desk.run_for(20);
    desk
}

#[test]
fn abort_undoes_in_the_reverse_order() {
    let mut desk = parked_at_c(|_| {});
    assert!(desk.is_parked("c"));
    desk.command(ABORT).unwrap();
    desk.run_for(5);
    assert_eq!(desk.changes(), "a b c -b -a", "c was refused, and is as it was before");
    assert_eq!(desk.result(), Some(RunResult::Aborted));
    assert!(desk.done.is_empty());
}

#[test]
fn each_undoing_has_its_intent_first() {
    let mut desk = parked_at_c(|_| {});
    desk.command(ABORT).unwrap();
    desk.run_for(5);
    for step in ["a", "b"] {
        let intent = desk.effects.iter().position(|effect| {
            let Effect::Journal(records) = effect else { return false };
            records
                .iter()
                .any(|r| matches!(&r.entry, Entry::CompensationIntent { step: named, .. } if named.as_str() == step))
        });
        let call = desk.effects.iter().position(
            |effect| matches!(effect, Effect::Call(c) if c.phase == Phase::Compensate && c.step.as_str() == step),
        );
        assert!(intent.is_some() && intent < call, "{step}: intent at {intent:?}, call at {call:?}");
    }
}

#[test]
fn on_error_compensate_undoes_by_itself() {
    let mut settings = chain();
    settings.plans[0].steps[2].on_error = OnError::Compensate;
    let mut desk = Desk::settled(settings);
    desk.answer("c", Phase::Apply, [Reply::Say(refused(false))]);
    desk.outage();
    desk.run_for(20);
    assert_eq!(desk.changes(), "a b c -b -a", "what was refused did not change anything");
    assert_eq!(desk.result(), Some(RunResult::Aborted));
}

#[test]
fn after_the_point_of_no_return_it_goes_forward_or_parks() {
    let mut settings = settings();
    settings.plans[0].steps[3].on_error = OnError::Compensate;
    let mut desk = Desk::settled(settings);
    desk.answer("route", Phase::Apply, [Reply::Say(refused(false))]);
    desk.outage();
    desk.run_for(30);
    assert!(desk.is_parked("route"), "{:?}", desk.state("route"));
    assert_eq!(desk.command(ABORT).unwrap_err().code, "point_of_no_return");
    assert!(!desk.changes().contains('-'));
}

/// Not even a journal that says so makes a run go back.
#[test]
fn the_ledger_refuses_an_abort_past_the_point_of_no_return() {
    let mut desk = Desk::settled(settings());
    desk.answer("promote", Phase::Verify, [Reply::Silence]);
    desk.outage();
    desk.run_for(15);
    let mut ledger = desk.brain.ledger().clone();
    let run = desk.run().id.clone();
    let entry = Entry::RunAborting { run, by: "ann".into(), compensate: true };
    let refused = ledger.apply(&Record { seq: ledger.seq + 1, at: desk.now.wall, entry }).unwrap_err();
    assert!(refused.reason.contains("point of no return"), "{refused}");
    assert_eq!(ledger, *desk.brain.ledger());
}

#[test]
fn the_point_of_no_return_is_passed_with_its_intent_and_not_with_its_end() {
    let mut desk = Desk::settled(settings());
    desk.answer("promote", Phase::Apply, [Reply::Silence]);
    desk.outage();
    desk.run_for(15);
    assert_eq!(desk.command(ABORT).unwrap_err().code, "point_of_no_return");
}

#[test]
fn a_promotion_that_was_done_by_hand_is_a_point_of_no_return_too() {
    let mut desk = Desk::settled(settings());
    desk.done.insert("promote".into());
    desk.answer("route", Phase::Apply, [Reply::Say(refused(false))]);
    desk.outage();
    desk.run_for(30);
    assert_eq!(desk.command(ABORT).unwrap_err().code, "point_of_no_return");
}

#[test]
fn an_apply_under_way_is_waited_for_before_it_is_undone() {
    let mut desk = Desk::settled(chain());
    desk.answer("b", Phase::Apply, [Reply::Silence]);
    desk.outage();
    desk.run_for(15);
    desk.command(ABORT).unwrap();
    desk.run_for(5);
    assert_eq!(desk.changes(), "a b");
    let apply = desk.calls.last().unwrap().call;
    desk.done.insert("b".into());
    let outcome = CallOutcome::Applied(Applied::Accepted { evidence: "at last".into() });
    desk.event(Event::Outcome { call: apply, outcome });
    desk.run_for(5);
    assert_eq!(desk.changes(), "a b -b -a");
    assert_eq!(desk.result(), Some(RunResult::Aborted));
}

/// S8: not by undo either.
#[test]
fn an_unknown_apply_is_looked_at_before_it_is_undone() {
    for (stands, changes) in [(true, "a b -b -a"), (false, "a b -a")] {
        let mut desk = Desk::settled(chain());
        desk.answer("b", Phase::Apply, [Reply::Silence]);
        desk.outage();
        desk.run_for(15);
        desk.command(ABORT).unwrap();
        if stands {
            desk.done.insert("b".into());
        }
        desk.run_for(60);
        assert_eq!(desk.changes(), changes, "it stands: {stands}");
        assert!(desk.phases("b").starts_with("observe apply observe"), "{}", desk.phases("b"));
        assert_eq!(desk.result(), Some(RunResult::Aborted));
        assert!(matches!(desk.state("b"), StepState::Undone(Applied::Accepted { .. })), "{:?}", desk.state("b"));
    }
}

#[test]
fn an_unknown_undoing_is_looked_at_and_repeated() {
    let mut desk = parked_at_c(|desk| desk.answer("b", Phase::Compensate, [Reply::Say(unknown())]));
    desk.calls.clear();
    desk.command(ABORT).unwrap();
    desk.run_for(10);
    assert_eq!(desk.phases("b"), "compensate observe compensate");
    assert_eq!(desk.result(), Some(RunResult::Aborted));
}

#[test]
fn what_cannot_be_undone_is_named_and_does_not_stop_the_rest() {
    let always_unknown = |desk: &mut Desk| {
        desk.answer_always("b", Phase::Compensate, &Reply::Say(unknown()));
    };
    let refused_for_good = |desk: &mut Desk| {
        desk.answer("b", Phase::Compensate, [Reply::Say(refused(false))]);
    };
    for script in [&always_unknown as &dyn Fn(&mut Desk), &refused_for_good] {
        let mut desk = parked_at_c(script);
        desk.command(ABORT).unwrap();
        desk.run_for(60);
        assert_eq!(desk.result(), Some(RunResult::Aborted));
        assert!(desk.changes().ends_with("-a"), "{}", desk.changes());
        let told = desk.notices_of(NoticeKind::RunEnded);
        assert!(told[0].subject.contains("NOT undone: b"), "{}", told[0].subject);
    }
}

#[test]
fn what_leaves_nothing_to_bring_back_is_left() {
    let mut desk = parked_at_c(|desk| {
        let gone = Observed::NotDone { evidence: "as before".into(), before: serde_json::Value::Null };
        desk.answer("a", Phase::Observe, [Reply::Say(CallOutcome::Observed(gone))]);
    });
    desk.command(ABORT).unwrap();
    desk.run_for(10);
    assert_eq!(desk.changes(), "a b c -b");
    assert_eq!(desk.result(), Some(RunResult::Aborted));
}

#[test]
fn what_was_sent_back_with_retry_is_undone_as_well() {
    let mut desk = Desk::settled(chain());
    let failed = CallOutcome::Verified(Verified::Failed { reason: "half".into() });
    desk.answer("c", Phase::Verify, [Reply::Say(failed)]);
    desk.answer("c", Phase::Observe, [Reply::Say(not_done()), Reply::Silence]);
    desk.outage();
    desk.run_for(20);
    assert!(desk.is_parked("c"));
    desk.command(Command::StepRetry { run: None, step: "c".into() }).unwrap();
    desk.command(ABORT).unwrap();
    desk.run_for(5);
    assert_eq!(desk.changes(), "a b c -c -b -a");
}

#[test]
fn a_crash_in_the_middle_of_undoing_is_taken_up() {
    let mut desk = parked_at_c(|desk| desk.answer("b", Phase::Compensate, [Reply::Silence]));
    desk.command(ABORT).unwrap();
    desk.run_for(5);
    assert!(matches!(desk.state("b"), StepState::Undoing), "{:?}", desk.state("b"));
    desk.restart(desk.durable.len());
    desk.run_for(10);
    assert_eq!(desk.result(), Some(RunResult::Aborted));
    assert!(desk.done.is_empty(), "{:?}", desk.done);
}

#[test]
fn a_person_s_abort_holds_although_nothing_was_touched_yet() {
    let pause = step_of("pause", &[], Work::Wait { duration: HumanDuration::secs(30) });
    let mut settings = with_steps(vec![pause, step("promote", &["pause"], EffectKind::Promote)]);
    settings.cool_down = HumanDuration::ZERO;
    let mut desk = Desk::settled(settings);
    desk.outage();
    desk.run_for(20);
    assert_eq!(desk.runs().len(), 1);
    desk.command(ABORT).unwrap();
    desk.run_for(60);
    assert_eq!(desk.result(), Some(RunResult::Aborted));
    assert_eq!(desk.runs().len(), 1, "it must not begin again by itself");
    assert!(desk.changes().is_empty());
}

/// c fails for good while all is paused, or ends; what was done before stands until that is over.
fn failed_at_c(held: &dyn Fn(&mut Desk)) -> Desk {
    let mut settings = chain();
    settings.plans[0].steps[2].on_error = OnError::Compensate;
    let mut desk = Desk::settled(settings);
    desk.answer("c", Phase::Apply, [Reply::Silence]);
    desk.outage();
    desk.run_for(15);
    let call = desk.calls.last().unwrap().call;
    held(&mut desk);
    desk.event(Event::Outcome { call, outcome: refused(false) });
    desk.run_for(60);
    desk
}

#[test]
fn undoing_that_a_failure_began_waits_for_the_end_of_a_pause() {
    let mut desk = failed_at_c(&|desk| {
        desk.command(Command::Pause).unwrap();
    });
    assert!(desk.run().aborting.is_some());
    assert_eq!((desk.result(), desk.changes().as_str()), (None, "a b c"));
    desk.command(Command::Resume).unwrap();
    desk.run_for(5);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), "a b c -b -a"));
}

/// Who aborts while all is paused wants the undoing, and would else wait for what never comes.
#[test]
fn undoing_that_a_person_asked_for_does_not_wait_for_the_end_of_a_pause() {
    let mut desk = parked_at_c(|_| {});
    desk.command(Command::Pause).unwrap();
    desk.command(ABORT).unwrap();
    desk.run_for(5);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), "a b c -b -a"));
}

#[test]
fn a_daemon_that_ends_leaves_the_undoing_to_its_next_life() {
    let mut desk = failed_at_c(&|desk| desk.event(Event::Ending));
    assert_eq!((desk.result(), desk.changes().as_str()), (None, "a b c"));
    desk.restart(desk.durable.len());
    desk.run_for(5);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Aborted), "a b c -b -a"));
}

/// Aborted while the apply of `a` is out, of which nobody knows afterwards what it did.
fn unsure_of_a(script: impl FnOnce(&mut Desk)) -> Desk {
    let mut desk = Desk::settled(chain());
    desk.answer("a", Phase::Apply, [Reply::Silence]);
    script(&mut desk);
    desk.outage();
    desk.run_for(13);
    let call = desk.calls.iter().rfind(|call| call.phase == Phase::Apply).expect("an apply").call;
    desk.command(ABORT).unwrap();
    desk.event(Event::Outcome { call, outcome: unknown() });
    desk
}

fn compensations(desk: &Desk) -> usize {
    desk.changes().matches("-a").count()
}

#[test]
fn what_stands_as_neither_before_nor_after_is_brought_back() {
    let as_before = Reply::Say(not_done());
    let otherwise = Observed::NotDone { evidence: "half".into(), before: serde_json::json!("something else") };
    for (seen, brought_back) in [(as_before, 0), (Reply::Say(CallOutcome::Observed(otherwise)), 1)] {
        let mut desk = unsure_of_a(|desk| desk.answer("a", Phase::Observe, [Reply::Say(not_done()), seen]));
        desk.run_for(5);
        assert_eq!((desk.result(), compensations(&desk)), (Some(RunResult::Aborted), brought_back));
    }
}

#[test]
fn undoing_is_tried_six_times_and_then_it_is_said_that_it_stands() {
    let refusing = |desk: &mut Desk| desk.answer_always("a", Phase::Compensate, &Reply::Say(refused(true)));
    let mut desk = Desk::settled(chain());
    desk.answer("c", Phase::Apply, [Reply::Say(refused(false))]);
    refusing(&mut desk);
    desk.outage();
    desk.run_for(20);
    desk.command(ABORT).unwrap();
    desk.run_for(30);
    assert_eq!((desk.result(), compensations(&desk)), (Some(RunResult::Aborted), 6));
    // Where nobody knows what it came to, each try is a look and, as it still stands, another undoing.
    let mut desk = unsure_of_a(|desk| {
        let stands = CallOutcome::Observed(Observed::Done { evidence: "still there".into() });
        desk.answer("a", Phase::Observe, [Reply::Say(not_done())]);
        desk.answer_always("a", Phase::Observe, &Reply::Say(stands));
        desk.answer_always("a", Phase::Compensate, &Reply::Say(unknown()));
    });
    desk.run_for(60);
    assert_eq!((desk.result(), compensations(&desk)), (Some(RunResult::Aborted), 3));
    let ended = desk.notices_of(NoticeKind::RunEnded);
    assert!(ended[0].subject.contains("NOT undone: a"), "{}", ended[0].subject);
    // Begun with an undoing, the last try is a look.
    let mut desk = parked_at_c(|desk| {
        let stands = CallOutcome::Observed(Observed::Done { evidence: "still there".into() });
        desk.answer("a", Phase::Observe, [Reply::Say(not_done())]);
        desk.answer_always("a", Phase::Observe, &Reply::Say(stands));
        desk.answer_always("a", Phase::Compensate, &Reply::Say(unknown()));
    });
    desk.command(ABORT).unwrap();
    desk.run_for(60);
    assert_eq!((desk.result(), compensations(&desk)), (Some(RunResult::Aborted), 3));
    let StepState::Undone(Applied::Refused { reason, .. }) = desk.state("a") else { panic!("{:?}", desk.state("a")) };
    assert_eq!(reason, "it stands: still there");
}

/// No probe answers and nothing else happens: the wake-ups that the brain asks for are enough.
#[test]
fn an_undoing_that_never_answers_is_given_up_at_a_wake_up() {
    let mut desk = unsure_of_a(|desk| {
        desk.answer("a", Phase::Observe, [Reply::Say(not_done()), Reply::Silence]);
        desk.answer("a", Phase::Compensate, [Reply::Silence]);
    });
    let look = desk.calls.last().unwrap().clone();
    assert_eq!(look.phase, Phase::Observe);
    let end = desk.now.mono + std::time::Duration::from_secs(120);
    while desk.result().is_none() {
        let wake = desk.brain.next_wake().filter(|wake| *wake <= end).expect("a wake-up");
        desk.move_to(wake);
        desk.event(Event::Tick);
    }
    let cancelled = |call: &StepCall| desk.effects.contains(&Effect::Cancel(call.call));
    assert!(cancelled(&look), "a look is cut off");
    let undoing = desk.calls.iter().find(|call| call.phase == Phase::Compensate);
    assert!(undoing.is_none_or(|call| !cancelled(call)), "what changes something is not");
}

#[test]
fn an_abort_cuts_off_a_look_and_gives_up_an_apply_in_its_time() {
    let mut desk = Desk::settled(chain());
    desk.answer("a", Phase::Observe, [Reply::Silence]);
    desk.outage();
    desk.run_for(13);
    let look = desk.calls.last().unwrap().call;
    desk.command(ABORT).unwrap();
    assert!(desk.effects.contains(&Effect::Cancel(look)));
    assert_eq!(desk.result(), Some(RunResult::Aborted));
    let mut desk = Desk::settled(chain());
    desk.answer("a", Phase::Apply, [Reply::Silence]);
    desk.outage();
    desk.run_for(13);
    let apply = desk.calls.last().unwrap().clone();
    let sent = desk.durable.iter().rfind(|record| matches!(record.entry, Entry::StepIntent { .. })).unwrap().at;
    desk.command(ABORT).unwrap();
    let given_up = |desk: &Desk| {
        let applied = desk.durable.iter().find(|record| matches!(record.entry, Entry::StepApplied { .. }));
        applied.map(|record| record.at.since(sent))
    };
    for _ in 0..100 {
        if given_up(&desk).is_some() {
            break;
        }
        let wake = desk.brain.next_wake().expect("a wake-up");
        desk.move_to(wake);
        desk.event(Event::Tick);
    }
    assert_eq!(given_up(&desk), Some(apply.timeout + std::time::Duration::from_secs(5)));
}
