//! Operators during a run: pause, abort, retry, skip, approve a step; and that all is written down.

use failoverd::core::Command;
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

fn retry(step: &str) -> Command {
    Command::StepRetry { run: None, step: step.into() }
}

fn skip(step: &str) -> Command {
    Command::StepSkip { run: None, step: step.into() }
}

/// A run that is parked at `step`, whose target refuses for good.
fn parked_at(step: &str) -> Desk {
    let mut desk = Desk::settled(settings());
    desk.answer_always(step, Phase::Apply, &Reply::Say(refused(false)));
    desk.outage();
    desk.run_for(30);
    assert!(desk.is_parked(step), "{:?}", desk.state(step));
    desk
}

#[test]
fn a_step_that_cannot_be_done_parks_and_pages() {
    let desk = parked_at("promote");
    let pages = desk.notices_of(NoticeKind::RunParked);
    assert_eq!((pages.len(), pages[0].importance), (1, Importance::Page));
    assert!(pages[0].subject.contains("promote") && pages[0].subject.contains("throttled"), "{}", pages[0].subject);
    assert_eq!(desk.result(), None);
    assert_eq!(desk.changes(), "fence scale promote", "what does not come after it is done all the same");
}

#[test]
fn retry_looks_first_and_goes_on() {
    let mut desk = parked_at("promote");
    desk.as_usual("promote", Phase::Apply);
    desk.calls.clear();
    desk.command(retry("promote")).unwrap();
    desk.run_for(1);
    assert_eq!(desk.phases("promote"), "observe apply verify");
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn retry_after_somebody_did_it_by_hand_changes_nothing() {
    let mut desk = parked_at("promote");
    desk.done.insert("promote".into());
    desk.calls.clear();
    desk.command(retry("promote")).unwrap();
    desk.run_for(1);
    assert_eq!(desk.phases("promote"), "observe verify");
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn retry_gives_the_step_its_attempts_and_its_time_again() {
    let mut desk = Desk::settled(settings());
    desk.answer_always("fence", Phase::Apply, &Reply::Say(refused(true)));
    desk.outage();
    desk.run_for(30);
    let count = |desk: &Desk| desk.changes().split(' ').filter(|step| *step == "fence").count();
    assert!(desk.is_parked("fence") && count(&desk) == 3);
    desk.run_for(100);
    desk.command(retry("fence")).unwrap();
    desk.run_for(20);
    assert!(desk.is_parked("fence"));
    assert_eq!(count(&desk), 6);
}

#[test]
fn skip_goes_on_without_it() {
    let mut desk = parked_at("fence");
    assert_eq!(desk.command(skip("route")).unwrap_err().code, "not_now", "only what is parked can be skipped");
    desk.command(skip("fence")).unwrap();
    desk.run_for(1);
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert!(desk.changes().ends_with("promote route tell"), "{}", desk.changes());
}

#[test]
fn what_is_not_there_cannot_be_touched() {
    let mut desk = parked_at("fence");
    assert_eq!(desk.command(skip("nothing")).unwrap_err().code, "not_found");
    assert_eq!(desk.command(retry("scale")).unwrap_err().code, "not_now");
    let other = Command::Abort { run: Some("RUN-20200101-001".into()) };
    assert_eq!(desk.command(other).unwrap_err().code, "not_found");
    // A step that is parked, or that is no question or task, is not answered for as if it were one.
    for step in ["fence", "scale", "promote"] {
        for answer in [
            Command::StepApprove { run: None, step: step.into() },
            Command::StepDone { run: None, step: step.into(), note: None },
        ] {
            let refusal = desk.command(answer).unwrap_err();
            assert!(refusal.code == "not_now" && refusal.message.contains(step), "{refusal}");
        }
    }
    let ended = Desk::in_outage(settings(), 30);
    let (id, mut desk) = (ended.run().id.clone(), ended);
    let refusal = desk.command(Command::Abort { run: Some(id) }).unwrap_err();
    assert!(refusal.code == "not_now" && refusal.message.contains("has ended"), "{refusal}");
    let mut idle = Desk::settled(settings());
    assert_eq!(idle.command(Command::Abort { run: None }).unwrap_err().code, "not_now");
    let nowhere = Command::Failover { scenario: "nowhere".into(), allow_data_loss: None };
    assert_eq!(idle.command(nowhere).unwrap_err().code, "not_found");
}

#[test]
fn pause_lets_the_step_under_way_finish_and_begins_no_other() {
    let mut desk = Desk::settled(settings());
    for step in ["fence", "scale"] {
        desk.answer(step, Phase::Verify, [Reply::Silence]);
    }
    desk.outage();
    desk.run_for(15);
    desk.command(Command::Pause).unwrap();
    let verify = desk.calls.iter().rfind(|call| call.step.as_str() == "fence").unwrap().call;
    let outcome = CallOutcome::Verified(Verified::yes("stopped"));
    desk.event(failoverd::core::Event::Outcome { call: verify, outcome });
    desk.run_for(30);
    assert_eq!(desk.changes(), "fence scale");
    assert!(matches!(desk.state("fence"), failoverd::core::run_ledger::StepState::Ended(_)));
    desk.command(Command::Resume).unwrap();
    desk.run_for(60);
    assert!(desk.changes().starts_with("fence scale promote"), "{}", desk.changes());
}

#[test]
fn a_long_pause_does_not_use_up_a_steps_time() {
    let mut desk = Desk::settled(settings());
    desk.answer("promote", Phase::Apply, [Reply::Say(refused(true))]);
    desk.outage();
    // To the instant in which the promotion was refused and waits for its second attempt.
    while !desk.phases("promote").contains("apply") {
        desk.run_for(1);
    }
    desk.command(Command::Pause).unwrap();
    desk.run_for(300);
    desk.command(Command::Resume).unwrap();
    desk.run_for(5);
    assert_eq!(desk.result(), Some(RunResult::Done), "{:?}", desk.state("promote"));
}

#[test]
fn what_waits_for_a_person_or_a_probe_does_not_time_out_in_a_pause() {
    let ask = step_of("ask", &[], Work::Approval { message: "well?".into() });
    let work = Work::VerifyProbe { probe: "backup".into(), hold: HumanDuration::secs(10) };
    let mut desk = Desk::settled(with(|s| {
        s.probes.push(probe("backup"));
        s.plans[0].point_of_no_return = None;
        s.plans[0].steps = vec![ask, step_of("look", &[], work)];
    }));
    desk.see("backup", bad());
    desk.outage();
    desk.run_for(20);
    desk.command(Command::Pause).unwrap();
    desk.run_for(300);
    assert!(!desk.is_parked("ask") && !desk.is_parked("look"), "{:?}", desk.run().steps);
    desk.command(Command::Resume).unwrap();
    desk.run_for(50);
    assert!(!desk.is_parked("ask") && !desk.is_parked("look"), "the pause used up their time");
    desk.run_for(20);
    assert!(desk.is_parked("ask") && desk.is_parked("look"), "{:?}", desk.run().steps);
}

#[test]
fn a_look_that_runs_out_in_a_pause_is_repeated_after_it() {
    let not_yet = || Reply::Say(CallOutcome::Verified(Verified::NotYet { evidence: "not ready".into() }));
    let unseen = || Reply::Say(CallOutcome::Observed(Observed::Unknown { reason: "5xx".into() }));
    // The last answer of a verification, and of a look, comes while all is paused.
    for (phase, reply) in [(Phase::Verify, not_yet()), (Phase::Observe, unseen())] {
        let mut desk = Desk::settled(with(|s| s.plans[0].steps[1].timeout = HumanDuration::secs(8)));
        desk.answer("promote", phase, [Reply::Silence]);
        desk.outage();
        while desk.calls.last().is_none_or(|call| call.step.as_str() != "promote" || call.phase != phase) {
            desk.run_for(1);
        }
        let call = desk.calls.last().unwrap().call;
        desk.command(Command::Pause).unwrap();
        desk.run_for(10);
        let Reply::Say(outcome) = reply else { panic!("a word") };
        desk.event(failoverd::core::Event::Outcome { call, outcome });
        desk.run_for(60);
        assert!(!desk.is_parked("promote"), "{phase:?}: {:?}", desk.state("promote"));
        desk.command(Command::Resume).unwrap();
        desk.run_for(10);
        assert_eq!(desk.result(), Some(RunResult::Done), "{phase:?}: {:?}", desk.state("promote"));
    }
}

#[test]
fn an_approval_step_waits_asks_and_is_approved() {
    let ask = step_of("ask", &[], Work::Approval { message: "is the old primary really dead?".into() });
    let mut desk = Desk::in_outage(with_steps(vec![ask, step("promote", &["ask"], EffectKind::Promote)]), 30);
    let asked = desk.notices_of(NoticeKind::ApprovalAsked);
    assert!(asked.len() == 1 && asked[0].subject.contains("really dead"), "{asked:?}");
    assert_eq!(desk.changes(), "");
    desk.command(Command::StepApprove { run: None, step: "ask".into() }).unwrap();
    desk.run_for(5);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Done), "promote"));
}

#[test]
fn an_approval_step_that_nobody_answers_parks_and_can_be_approved_then() {
    let ask = step_of("ask", &[], Work::Approval { message: "well?".into() });
    let mut desk = Desk::in_outage(with_steps(vec![ask, step("promote", &["ask"], EffectKind::Promote)]), 80);
    assert!(desk.is_parked("ask"));
    desk.command(Command::StepApprove { run: None, step: "ask".into() }).unwrap();
    desk.run_for(5);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn every_command_is_in_the_journal_carried_out_or_refused() {
    let mut desk = parked_at("fence");
    let before = desk.entries(|entry| matches!(entry, Entry::Command { .. }));
    for command in [Command::Pause, Command::Resume, retry("nothing"), Command::Abort { run: None }] {
        let _ = desk.command(command);
    }
    assert_eq!(desk.entries(|entry| matches!(entry, Entry::Command { .. })), before + 4);
    let refused = |entry: &Entry| matches!(entry, Entry::Command { result, .. } if result.starts_with("refused"));
    assert_eq!(desk.entries(refused), 1);
}

#[test]
fn an_acknowledgement_is_kept_and_changes_nothing_else() {
    let mut desk = Desk::in_outage(settings(), 5);
    let incident = desk.incident();
    desk.command(Command::Ack { incident: incident.clone() }).unwrap();
    assert_eq!(desk.brain.ledger().incidents[&incident].acknowledged_by.as_deref(), Some("ann"));
    desk.run_for(20);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn a_question_or_a_task_whose_turn_has_not_come_cannot_be_answered_and_one_that_was_answered_neither() {
    let ask = || step_of("ask", &["fence"], Work::Approval { message: "well?".into() });
    let task = || step_of("call", &["fence"], Work::Task { message: "call them".into(), remind: None });
    let answers = || {
        [
            Command::StepApprove { run: None, step: "ask".into() },
            Command::StepDone { run: None, step: "call".into(), note: None },
        ]
    };
    let last = step("promote", &["ask", "call"], EffectKind::Promote);
    let mut desk = Desk::settled(with_steps(vec![step("fence", &[], EffectKind::Fence), ask(), task(), last]));
    desk.answer("fence", Phase::Verify, [Reply::Silence]);
    desk.outage();
    desk.run_for(14);
    for answer in answers() {
        assert_eq!(desk.command(answer).unwrap_err().code, "not_now", "its turn has not come");
    }
    desk.answer("promote", Phase::Verify, [Reply::Silence]);
    desk.run_for(70);
    assert!(desk.is_parked("fence"));
    desk.command(retry("fence")).unwrap();
    desk.run_for(2);
    for answer in answers() {
        desk.command(answer.clone()).unwrap();
        assert_eq!(desk.command(answer).unwrap_err().code, "not_now", "it was answered");
    }
}

#[test]
fn how_long_somebody_was_waited_for_is_written_down() {
    let ask = step_of("ask", &[], Work::Approval { message: "well?".into() });
    let mut desk = Desk::in_outage(with_steps(vec![ask, step("promote", &["ask"], EffectKind::Promote)]), 15);
    desk.run_for(7);
    desk.command(Command::StepApprove { run: None, step: "ask".into() }).unwrap();
    let took = desk.run().steps[0].took.expect("it has ended");
    assert!((7..20).contains(&took.as_secs()), "{took:?}");
}
