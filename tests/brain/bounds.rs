//! Where a step's attempts, time and turn end, and what comes late: to the number and to the word.

use std::time::Duration;

use failoverd::core::run_ledger::StepState;
use failoverd::core::{Command, Event};
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

fn by_hand(desk: &mut Desk) {
    desk.command(Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None }).unwrap();
}

/// Why a step of the newest run is parked.
#[track_caller]
fn parked<'a>(desk: &'a Desk, step: &str) -> &'a str {
    let StepState::Parked { reason } = desk.state(step) else { panic!("{:?}", desk.state(step)) };
    reason
}

#[test]
fn as_many_attempts_are_made_as_are_allowed() {
    let unobservable = Reply::Say(CallOutcome::Observed(Observed::Unobservable));
    for (looks, outcome, why) in [
        (None, unknown(), "not done after 3 attempts: as before"),
        (None, refused(true), "refused 3 times: throttled"),
        (Some(unobservable), unknown(), "out of attempts: timeout after send"),
    ] {
        let mut desk = Desk::settled(settings());
        if let Some(looks) = looks {
            desk.answer_always("fence", Phase::Observe, &looks);
        }
        desk.answer_always("fence", Phase::Apply, &Reply::Say(outcome));
        desk.outage();
        desk.run_for(40);
        assert_eq!(parked(&desk, "fence"), why);
        assert_eq!(desk.changes().matches("fence").count(), 3, "{why}");
    }
}

/// The last look is at the end of the step's time, and not when the growing waits come to it.
#[test]
fn a_look_that_tells_nothing_ends_with_the_time_of_the_step() {
    let mut desk = Desk::settled(settings());
    let unknown = CallOutcome::Observed(Observed::Unknown { reason: "5xx".into() });
    desk.answer_always("fence", Phase::Observe, &Reply::Say(unknown));
    by_hand(&mut desk);
    let started = desk.run().started;
    desk.run_for(70);
    parked(&desk, "fence");
    let ended = desk.run().steps[0].changed.unwrap();
    assert_eq!(ended.since(started), Duration::from_secs(60));
}

/// What an apply comes to after the abort is written down, and nothing more is begun of the step.
#[test]
fn an_outcome_that_comes_after_the_abort_is_only_written_down() {
    for outcome in [refused(false), refused(true), unknown(), not_done()] {
        for on_error in [OnError::Park, OnError::Compensate] {
            let mut desk = Desk::settled(with(|s| s.plans[0].steps[0].on_error = on_error));
            desk.answer("fence", Phase::Apply, [Reply::Silence]);
            by_hand(&mut desk);
            let call = desk.calls.iter().find(|call| call.phase == Phase::Apply && call.step.as_str() == "fence");
            let call = call.unwrap().call;
            desk.command(Command::Abort { run: None }).unwrap();
            assert_eq!(desk.result(), None, "the apply is waited for");
            let calls = desk.calls.len();
            desk.event(Event::Outcome { call, outcome: outcome.clone() });
            assert!(desk.calls[calls..].iter().all(|call| call.phase != Phase::Verify), "{outcome:?}");
            desk.run_for(10);
            assert_eq!(desk.brain.status(desk.now).in_doubt, None, "{outcome:?}");
            assert_eq!(desk.result(), Some(RunResult::Aborted), "{outcome:?}");
        }
    }
    let mut desk = Desk::settled(settings());
    desk.answer("fence", Phase::Apply, [Reply::Silence]);
    by_hand(&mut desk);
    let call = desk.calls.iter().find(|call| call.phase == Phase::Apply && call.step.as_str() == "fence").unwrap().call;
    desk.command(Command::Abort { run: None }).unwrap();
    let outcome = CallOutcome::Applied(Applied::Accepted { evidence: "late".into() });
    desk.event(Event::Outcome { call, outcome });
    desk.run_for(10);
    assert_eq!(desk.phases("fence"), "observe apply compensate");
}

/// A plan may name its steps in any order: all that can go on does at once, without an event between.
#[test]
fn what_needs_no_call_is_through_in_one_go() {
    let gather = |name: &str, after: &[&str]| step_of(name, after, Work::Gather { of: vec![], minimum: 0 });
    let mut steps = vec![gather("d", &["c"]), gather("c", &["b"]), gather("b", &["a"]), gather("a", &[])];
    steps.push(step("tell", &["d"], EffectKind::Notify));
    let mut desk = Desk::settled(with_steps(steps));
    desk.answer("tell", Phase::Observe, [Reply::Silence]);
    by_hand(&mut desk);
    assert_eq!(desk.phases("tell"), "observe");
}

/// What was left out is not missed.
#[test]
fn a_group_is_complete_without_what_was_left_out() {
    let mut desk = Desk::settled(with(|s| {
        let of = vec!["a".into(), "b".into()];
        s.plans[0] = small_plan("regional", "a", EffectKind::Scale);
        s.plans[0].steps.push(step("b", &[], EffectKind::Scale));
        s.plans[0].steps.push(step_of("all", &["a", "b"], Work::Gather { of, minimum: 2 }));
    }));
    desk.answer("b", Phase::Apply, [Reply::Say(refused(false))]);
    by_hand(&mut desk);
    desk.run_for(1);
    parked(&desk, "b");
    desk.command(Command::StepSkip { run: None, step: "b".into() }).unwrap();
    desk.run_for(1);
    assert_eq!(desk.result(), Some(RunResult::Done), "{:?}", desk.state("all"));
}

#[test]
fn people_are_told_once_of_a_recovery_that_is_not_the_end() {
    let mut desk = Desk::settled(with(|s| {
        let mut audit = step("audit", &["route"], EffectKind::Call);
        audit.terms.post_recovery = true;
        s.plans[0].steps.push(audit);
    }));
    desk.answer("route", Phase::Observe, [Reply::Silence]);
    by_hand(&mut desk);
    desk.run_for(1);
    assert!(desk.notices_of(NoticeKind::RunRecovered).is_empty());
    desk.run_for(30);
    assert_eq!(desk.result(), Some(RunResult::Done), "{:?}", desk.state("route"));
    let told = desk.notices_of(NoticeKind::RunRecovered);
    assert!(told.len() == 1 && told[0].subject.contains("; 1 steps after the recovery follow"), "{told:?}");
    let desk = Desk::in_outage(settings(), 40);
    assert_eq!((desk.result(), desk.notices_of(NoticeKind::RunRecovered).len()), (Some(RunResult::Done), 0));
}

/// Who starts a run by hand knows that the primary answers: no look ends it, in the next life neither.
#[test]
fn a_run_by_hand_goes_on_after_a_restart_although_the_primary_answers() {
    let mut desk = Desk::settled(settings());
    for step in ["fence", "scale"] {
        desk.answer(step, Phase::Observe, [Reply::Silence]);
    }
    by_hand(&mut desk);
    assert_eq!(desk.changes(), "");
    desk.restart(desk.durable.len());
    desk.run_for(20);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

/// Also where nothing has to be held: Down is not Up.
#[test]
fn a_probe_that_is_steadily_down_is_never_taken_for_up() {
    let mut desk = Desk::settled(with(|s| {
        s.probes.push(probe("backup"));
        let work = Work::VerifyProbe { probe: "backup".into(), hold: HumanDuration::ZERO };
        s.plans[0].point_of_no_return = None;
        s.plans[0].steps = vec![step_of("verify", &[], work)];
    }));
    desk.see("backup", bad());
    desk.run_for(10);
    by_hand(&mut desk);
    desk.run_for(10);
    assert_eq!(desk.result(), None, "{:?}", desk.state("verify"));
    desk.see("backup", up());
    desk.run_for(5);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn a_task_says_when_it_is_due_and_that_it_was_handed_out_before() {
    let told = |work| {
        let mut desk = Desk::settled(with_steps(vec![step_of("people", &[], work)]));
        by_hand(&mut desk);
        desk.run_for(25);
        desk.notices_of(NoticeKind::ApprovalAsked).iter().map(|told| told.subject.clone()).collect::<Vec<_>>()
    };
    let tasks = told(Work::Task { message: "call them".into(), remind: Some(HumanDuration::secs(20)) });
    assert_eq!(tasks.len(), 2, "{tasks:?}");
    assert!(tasks[0].contains(" has a task for you: call them, due 20") && !tasks[0].contains("still"), "{tasks:?}");
    assert!(tasks[1].contains(" still has a task for you: call them, due 20"), "{tasks:?}");
    let asked = told(Work::Approval { message: "go on?".into() });
    assert!(asked.len() == 1 && asked[0].contains(" asks: go on? (failoverd step approve people"), "{asked:?}");
}

/// It waits for the last look at the primary, which does not come in the step's own time.
#[test]
fn a_step_whose_time_is_over_is_not_applied() {
    let mut desk = Desk::settled(with(|s| s.plans[0].steps[0].timeout = HumanDuration::millis(100)));
    desk.answers_now = false;
    desk.outage();
    desk.run_for(30);
    assert_eq!(parked(&desk, "fence"), "its time is over");
    assert!(!desk.changes().contains("fence"), "{}", desk.changes());
}

#[test]
fn who_answers_another_question_is_not_asked_again_in_the_same_instant() {
    let mut desk = Desk::settled(with(|s| s.plans[0].steps[0].timeout = HumanDuration::secs(2)));
    desk.answer("fence", Phase::Observe, [Reply::Silence]);
    by_hand(&mut desk);
    let call = desk.calls.iter().find(|call| call.step.as_str() == "fence").unwrap().call;
    desk.move_to(desk.now.mono + Duration::from_secs(2));
    desk.event(Event::Outcome { call, outcome: CallOutcome::Verified(Verified::yes("it works")) });
    assert_eq!(desk.phases("fence"), "observe");
    desk.run_for(1);
    assert_eq!(desk.phases("fence"), "observe observe");
}
