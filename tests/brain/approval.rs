//! Asking a person: until when, bound to what, and what follows from the answer or from none.

use failoverd::core::Command;
use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

/// RTO 120 s and a plan of 30 s × 120 %: the last moment to decide is 84 s after the outage began.
fn asking(on_no_answer: OnNoAnswer) -> Settings {
    with(|s| {
        s.scenarios[0].mode = Mode::Approve;
        s.scenarios[0].on_no_answer = on_no_answer;
        s.scenarios[0].rto = HumanDuration::secs(120);
        for step in &mut s.plans[0].steps {
            step.estimate = HumanDuration::ZERO;
        }
        s.plans[0].steps[1].estimate = HumanDuration::secs(30);
    })
}

fn approve(desk: &Desk) -> Command {
    Command::Approve { incident: desk.incident(), plan_hash: None, epoch: None, allow_data_loss: None }
}

#[test]
fn nobody_answers_and_it_fails_over_at_the_last_moment_to_decide() {
    let mut desk = Desk::in_outage(asking(OnNoAnswer::Failover), 20);
    assert_eq!(desk.decision(), "ask_approval");
    assert_eq!(desk.notices_of(NoticeKind::ApprovalAsked).len(), 1);
    desk.run_for(63);
    assert!(desk.runs().is_empty(), "83 s after the outage began");
    desk.run_for(3);
    assert_eq!(desk.run().trigger, Trigger::NoAnswer);
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert_eq!(desk.notices_of(NoticeKind::ApprovalAsked).len(), 1, "asked once");
}

#[test]
fn nobody_answers_and_it_holds_until_somebody_does() {
    let mut desk = Desk::in_outage(asking(OnNoAnswer::Hold), 100);
    assert_eq!(desk.decision(), "hold:no_answer");
    desk.run_for(60);
    assert!(desk.runs().is_empty());
    desk.command(approve(&desk)).unwrap();
    desk.run_for(1);
    assert_eq!(desk.run().trigger, Trigger::Approved { by: "ann".into(), allow_data_loss: None, without_quorum: None });
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn an_approval_is_acted_upon_at_once() {
    let mut desk = Desk::in_outage(asking(OnNoAnswer::Hold), 20);
    let answer = desk.command(approve(&desk)).unwrap();
    assert_eq!(answer.run.as_ref(), Some(&desk.run().id));
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn an_approval_before_the_confirmation_waits_for_it() {
    let mut desk = Desk::in_outage(asking(OnNoAnswer::Hold), 5);
    let answer = desk.command(approve(&desk)).unwrap();
    assert!(answer.run.is_none() && answer.text.contains("confirming"), "{}", answer.text);
    desk.run_for(5);
    assert!(desk.runs().is_empty());
    desk.run_for(6);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn denied_until_approved_after_all() {
    for mode in [Mode::Approve, Mode::Auto] {
        let mut settings = asking(OnNoAnswer::Failover);
        settings.scenarios[0].mode = mode;
        let mut desk = Desk::in_outage(settings, 8);
        desk.command(Command::Deny { incident: desk.incident() }).unwrap();
        desk.run_for(200);
        assert_eq!(desk.decision(), "hold:denied", "{mode}");
        assert!(desk.runs().is_empty(), "{mode}");
        desk.command(approve(&desk)).unwrap();
        desk.run_for(1);
        assert_eq!(desk.result(), Some(RunResult::Done), "{mode}");
    }
}

#[test]
fn an_approval_of_another_plan_is_refused() {
    let mut desk = Desk::in_outage(asking(OnNoAnswer::Hold), 20);
    let shown = small_plan("regional", "other", EffectKind::Call).hash();
    let approve = |hash| Command::Approve {
        incident: desk.incident(),
        plan_hash: Some(hash),
        epoch: None,
        allow_data_loss: None,
    };
    let (wrong, right) = (approve(shown), approve(desk.brain.settings().plans[0].hash()));
    assert_eq!(desk.command(wrong).unwrap_err().code, "guard");
    assert!(desk.runs().is_empty());
    desk.command(right).unwrap();
    assert_eq!(desk.runs().len(), 1);
}

#[test]
fn an_approval_is_worth_nothing_once_the_plan_is_another_one() {
    let mut desk = Desk::in_outage(asking(OnNoAnswer::Hold), 5);
    desk.command(approve(&desk)).unwrap();
    let mut changed = asking(OnNoAnswer::Hold);
    changed.plans[0].steps.pop();
    desk.reload(changed);
    desk.run_for(30);
    assert!(desk.runs().is_empty(), "the answer was given for another plan");
    assert_eq!(desk.decision(), "ask_approval");
    assert_eq!(desk.notices_of(NoticeKind::ApprovalAsked).len(), 1, "and so it is asked for the new one");
}

/// The same, and another scenario that changes nothing of this one but the epoch.
fn asking_beside_another() -> Settings {
    with(|s| {
        *s = asking(OnNoAnswer::Hold);
        s.cool_down = HumanDuration::ZERO;
        s.scenarios.push(scenario("other", down("standby"), "other"));
        s.scenarios[1].requires.clear();
        s.plans.push(small_plan("other", "restart", EffectKind::Call));
    })
}

fn the_other_runs(desk: &mut Desk) {
    desk.command(Command::Failover { scenario: "other".into(), allow_data_loss: Some(HumanDuration::secs(9)) })
        .unwrap();
    assert_eq!(desk.run().scenario.as_str(), "other");
}

#[test]
fn who_is_asked_is_asked_again_once_it_is_for_something_else() {
    let mut another_plan = asking_beside_another();
    another_plan.plans[0].steps.pop();
    for plan in [true, false] {
        let mut desk = Desk::in_outage(asking_beside_another(), 20);
        let asked = |desk: &Desk| desk.notices_of(NoticeKind::ApprovalAsked).len();
        assert_eq!((desk.decision().as_str(), asked(&desk)), ("ask_approval", 1));
        if plan {
            desk.reload(another_plan.clone());
        } else {
            the_other_runs(&mut desk);
        }
        desk.run_for(5);
        assert_eq!((desk.decision().as_str(), asked(&desk)), ("ask_approval", 2), "another plan: {plan}, else epoch");
        // The run of another scenario is no answer to this question.
        desk.command(approve(&desk)).unwrap();
    }
}

#[test]
fn the_question_names_the_plan_and_what_comes_of_no_answer() {
    for (otherwise, said) in
        [(OnNoAnswer::Failover, "it fails over by itself then"), (OnNoAnswer::Hold, "it holds then")]
    {
        let desk = Desk::in_outage(asking(otherwise), 20);
        let asked = &desk.notices_of(NoticeKind::ApprovalAsked)[0].subject;
        assert!(asked.contains("approve plan regional (") && asked.contains(said), "{asked}");
    }
}

/// A report shows what was foreseen when something could be done about it; a hold foresees nothing.
#[test]
fn only_a_decision_to_do_something_is_written_down_with_what_it_foresees() {
    let desk = Desk::in_outage(asking(OnNoAnswer::Failover), 100);
    let decided = desk.durable.iter().filter_map(|record| match &record.entry {
        Entry::Decided { decision, outlook, .. } => Some((decision, outlook)),
        _ => None,
    });
    let (holds, others): (Vec<_>, Vec<_>) = decided.partition(|(decision, _)| matches!(decision, Decision::Hold(_)));
    assert!(!holds.is_empty() && holds.iter().all(|(_, outlook)| outlook.is_none()), "{holds:?}");
    assert!(others.len() == 2 && others.iter().all(|(_, outlook)| outlook.is_some()), "{others:?}");
}

#[test]
fn an_approval_is_worth_nothing_under_another_epoch() {
    let mut desk = Desk::in_outage(asking_beside_another(), 5);
    desk.command(approve(&desk)).unwrap();
    the_other_runs(&mut desk);
    desk.run_for(30);
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("ask_approval", 1));
}

#[test]
fn an_old_approval_is_not_valid_any_more() {
    let mut desk = Desk::settled(with(|s| {
        *s = asking(OnNoAnswer::Hold);
        s.scenarios[0].rto = HumanDuration::secs(3600);
    }));
    desk.outage();
    desk.see("standby", bad());
    desk.run_for(20);
    desk.command(approve(&desk)).unwrap();
    desk.run_for(601);
    desk.see("standby", cut_off());
    desk.run_for(10);
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("ask_approval", 0));
}

#[test]
fn no_answer_is_taken_while_the_run_that_it_asks_for_is_active() {
    let mut desk = Desk::settled(asking(OnNoAnswer::Hold));
    desk.answers_now = false;
    desk.outage();
    desk.run_for(20);
    desk.command(approve(&desk)).unwrap();
    assert_eq!(desk.runs().len(), 1);
    let refusal = desk.command(Command::Deny { incident: desk.incident() }).unwrap_err();
    assert!(refusal.message.contains("abort"), "{refusal}");
}

#[test]
fn what_is_not_open_cannot_be_answered() {
    let mut desk = Desk::in_outage(asking(OnNoAnswer::Hold), 20);
    let incident = desk.incident();
    let unknown = Command::Deny { incident: "INC-20200101-001".into() };
    assert_eq!(desk.command(unknown).unwrap_err().code, "not_found");
    desk.recovery();
    desk.run_for(10);
    let late = Command::Approve { incident, plan_hash: None, epoch: None, allow_data_loss: None };
    assert_eq!(desk.command(late).unwrap_err().code, "not_now");
    assert!(desk.runs().is_empty());
}

/// RTO and the plan's time are lengths: a clock that is set moves no last moment.
#[test]
fn a_clock_that_is_set_moves_neither_the_last_moment_to_decide_nor_the_age_of_an_answer() {
    for jump in [-7_200_000, 7_200_000] {
        let mut desk = Desk::in_outage(asking(OnNoAnswer::Failover), 20);
        desk.clock_set += jump;
        desk.run_for(63);
        assert!(desk.runs().is_empty(), "83 s after the outage began, {jump} ms");
        desk.run_for(3);
        assert_eq!(desk.runs().len(), 1, "86 s after the outage began, {jump} ms");
    }
    let mut desk = Desk::settled(with(|s| {
        *s = asking(OnNoAnswer::Hold);
        s.scenarios[0].rto = HumanDuration::secs(3600);
    }));
    desk.outage();
    desk.see("standby", bad());
    desk.run_for(20);
    desk.command(approve(&desk)).unwrap();
    desk.clock_set -= 7_200_000;
    desk.run_for(601);
    desk.see("standby", cut_off());
    desk.run_for(10);
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("ask_approval", 0), "the answer is old all the same");
}
