//! The plan language: parameters, values handed on, conditions of steps, groups, tasks, and what comes
//! after the recovery.

use failoverd::core::run_ledger::StepState;
use failoverd::core::view::StepStateView;
use failoverd::core::{ActionCheck, Command};
use failoverd::model::*;
use serde_json::json;

use crate::desk::{Desk, Reply};
use crate::settings::*;

const HOUR: u64 = 3600;

/// A step that calls something with these parameters.
fn calls(name: &str, after: &[&str], params: serde_json::Value) -> Step {
    let mut step = step(name, after, EffectKind::Call);
    if let Work::Action(spec) = &mut step.work {
        spec.params = params;
        spec.messages = vec!["/message".into()];
    }
    step
}

fn hands_on(outputs: &[(&str, &str)]) -> Reply {
    let outputs = outputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Reply::Say(CallOutcome::Verified(Verified::Yes { evidence: "well".into(), outputs }))
}

fn parameter(name: &str, kind: ParameterKind, value: Option<serde_json::Value>) -> Parameter {
    Parameter { name: name.into(), kind, one_of: Vec::new(), description: "what for".into(), value }
}

/// A plan that no scenario names.
fn by_hand(steps: Vec<Step>, parameters: Vec<Parameter>) -> Settings {
    with(|s| {
        let plan = Plan { name: "restore".into(), steps, point_of_no_return: None, parameters, rto: None };
        s.plans.push(plan);
    })
}

fn execute(
    desk: &mut Desk,
    given: &[(&str, &str)],
    kind: RunKind,
) -> Result<failoverd::core::Answer, failoverd::core::Refusal> {
    let parameters = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    desk.command(Command::Execute { plan: "restore".into(), parameters, kind, allow_data_loss: None })
}

/// The parameters that the step's last call had.
fn given_to(desk: &Desk, step: &str) -> serde_json::Value {
    desk.calls.iter().rfind(|call| call.step.as_str() == step).expect("it was called").spec.params.clone()
}

fn skipped(desk: &Desk, step: &str) -> Option<String> {
    match desk.state(step) {
        StepState::Ended(StepEnd::Skipped { by }) => Some(by.clone()),
        _ => None,
    }
}

#[test]
fn a_plan_is_carried_out_with_its_parameters_and_pinned_with_them() {
    let parameters =
        vec![parameter("at", ParameterKind::Time, None), parameter("many", ParameterKind::Integer, Some(2.into()))];
    let params = json!({ "at": { "param": "at" }, "n": { "param": "many" }, "message": "to {{ param.at }}" });
    let mut desk = Desk::settled(by_hand(vec![calls("pitr", &[], params)], parameters));
    let missing = execute(&mut desk, &[], RunKind::Ungraceful).unwrap_err();
    assert!(missing.code == "bad_parameters" && missing.message.contains("--set at="), "{missing:?}");
    for (wrong, says) in
        [(("at", "noon"), "RFC 3339"), (("many", "two"), "whole number"), (("when", "x"), "it has at, many")]
    {
        let refused = execute(&mut desk, &[wrong], RunKind::Ungraceful).unwrap_err();
        assert!(refused.message.contains(says), "{refused:?}");
    }
    assert!(desk.runs().is_empty());
    execute(&mut desk, &[("at", "2026-01-15T03:30:00Z"), ("many", "5")], RunKind::Ungraceful).unwrap();
    desk.run_for(5);
    assert_eq!(desk.result(), Some(RunResult::Done));
    let given = given_to(&desk, "pitr");
    assert_eq!(given, json!({ "at": "2026-01-15T03:30:00Z", "n": 5, "message": "to 2026-01-15T03:30:00Z" }));
    assert_eq!(desk.run().plan.parameters[1].value, Some(5.into()));
    assert_eq!(desk.run().plan_hash, desk.run().plan.hash());
}

#[test]
fn what_a_step_hands_on_reaches_the_next_ones_also_after_a_crash() {
    let open = json!({ "host": { "step": "create", "output": "endpoint" },
        "url": { "join": ["https://", { "step": "create", "output": "endpoint" }, "/"] }, "message": "{{ step.create.endpoint }}" });
    let steps = vec![calls("create", &[], json!({})), calls("use", &["create"], open)];
    let mut desk = Desk::settled(by_hand(steps, vec![]));
    desk.answer("create", Phase::Verify, [hands_on(&[("endpoint", "db.example")])]);
    desk.answer("use", Phase::Observe, [Reply::Silence]);
    execute(&mut desk, &[], RunKind::Ungraceful).unwrap();
    desk.run_for(3);
    let wanted = json!({ "host": "db.example", "url": "https://db.example/", "message": "db.example" });
    assert_eq!(given_to(&desk, "use"), wanted);
    desk.calls.clear();
    desk.restart(desk.durable.len());
    desk.run_for(5);
    assert_eq!((given_to(&desk, "use"), desk.result()), (wanted, Some(RunResult::Done)));
}

#[test]
fn a_value_of_a_step_that_was_left_out_parks_with_one_clear_reason() {
    let mut create = calls("create", &[], json!({}));
    create.terms.only_in = Some(RunKind::Graceful);
    let open = json!({ "host": { "step": "create", "output": "endpoint" } });
    let mut desk = Desk::settled(by_hand(vec![create, calls("use", &["create"], open)], vec![]));
    execute(&mut desk, &[], RunKind::Ungraceful).unwrap();
    desk.run_for(5);
    let StepState::Parked { reason } = desk.state("use") else { panic!("{:?}", desk.state("use")) };
    assert_eq!(reason, "the value `endpoint` is not there: step create was left out");
    assert_eq!(desk.phases("use"), "");
}

#[test]
fn of_several_steps_the_one_that_was_done_hands_on() {
    let guard =
        |is: &str| StepGuard::Parameter { value: json!({ "param": "from" }), name: "from".into(), is: vec![is.into()] };
    let mut snapshot = calls("snapshot", &[], json!({}));
    snapshot.terms.when.push(guard("snapshot"));
    let mut pitr = calls("pitr", &[], json!({}));
    pitr.terms.when.push(guard("time"));
    let open = json!({ "host": { "step": ["snapshot", "pitr"], "output": "endpoint" } });
    let steps = vec![snapshot, pitr, calls("use", &["snapshot", "pitr"], open)];
    let mut desk = Desk::settled(by_hand(steps, vec![parameter("from", ParameterKind::Text, Some("snapshot".into()))]));
    desk.answer("pitr", Phase::Verify, [hands_on(&[("endpoint", "new.example")])]);
    execute(&mut desk, &[("from", "time")], RunKind::Ungraceful).unwrap();
    desk.run_for(5);
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert_eq!(given_to(&desk, "use"), json!({ "host": "new.example" }));
    assert_eq!(skipped(&desk, "snapshot").as_deref(), Some("the plan: from is snapshot does not hold"));
    assert_eq!(desk.phases("snapshot"), "");
}

#[test]
fn graceful_steps_are_left_out_of_a_run_that_is_not() {
    for (kind, drained) in [(RunKind::Graceful, true), (RunKind::Ungraceful, false)] {
        let mut drain = step("drain", &[], EffectKind::Call);
        drain.terms.only_in = Some(RunKind::Graceful);
        let mut desk = Desk::settled(by_hand(vec![drain, step("move", &["drain"], EffectKind::Call)], vec![]));
        execute(&mut desk, &[], kind).unwrap();
        desk.run_for(5);
        assert_eq!(desk.result(), Some(RunResult::Done));
        assert_eq!(desk.changes(), if drained { "drain move" } else { "move" });
    }
}

#[test]
fn a_step_can_depend_on_how_another_ended_and_on_verdicts() {
    let mut fallback = step("fallback", &["first"], EffectKind::Call);
    fallback.terms.when.push(StepGuard::Step { step: "first".into(), ended: Ended::Failed });
    let mut first = step("first", &[], EffectKind::Call);
    first.on_error = OnError::Continue;
    let mut if_down = step("if-down", &[], EffectKind::Call);
    if_down.terms.when.push(StepGuard::Holds(is("db", Health::Down)));
    let settings = by_hand(vec![first, fallback, if_down], vec![]);
    let mut well = Desk::settled(settings.clone());
    execute(&mut well, &[], RunKind::Ungraceful).unwrap();
    well.run_for(5);
    assert_eq!((well.result(), well.changes().as_str()), (Some(RunResult::Done), "first"));
    let mut ill = Desk::settled(settings);
    let impossible = Observed::Impossible { reason: "not there".into() };
    ill.answer("first", Phase::Observe, [Reply::Say(CallOutcome::Observed(impossible))]);
    execute(&mut ill, &[], RunKind::Ungraceful).unwrap();
    ill.run_for(5);
    assert_eq!((ill.result(), ill.changes().as_str()), (Some(RunResult::Done), "fallback"));
}

/// What a step would stumble over is said before the run.
#[test]
fn what_makes_no_sense_in_a_step_is_refused_before_the_run() {
    let deployment = || vec![parameter("deployment", ParameterKind::Text, None)];
    let params = json!({ "where": { "deployment": { "join": ["shop/", { "param": "deployment" }] } } });
    let later =
        json!({ "where": { "deployment": { "param": "deployment" }, "host": { "step": "scale", "output": "host" } } });
    let mut left_out = calls("left-out", &[], json!({ "where": { "deployment": { "param": "deployment" } } }));
    let open = json!({ "param": "deployment" });
    left_out.terms.when.push(StepGuard::Parameter { value: open, name: "deployment".into(), is: vec!["api".into()] });
    let steps = vec![calls("scale", &[], params), calls("later", &["scale"], later), left_out];
    let mut desk = Desk::settled(by_hand(steps, deployment()));
    desk.brain.set_action_check(ActionCheck::new(|spec| {
        let deployment = spec.params["where"]["deployment"].as_str().unwrap_or_default();
        let wrong = WrongValue { pointer: "/where/deployment".into(), why: format!("{deployment} is no Deployment") };
        if deployment.contains('_') { vec![wrong] } else { vec![] }
    }));
    let refused = execute(&mut desk, &[("deployment", "Bad_Name")], RunKind::Ungraceful).unwrap_err();
    assert_eq!(refused.code, "bad_parameters");
    assert_eq!(
        refused.message, "step scale, parameter `deployment` = `Bad_Name`: shop/Bad_Name is no Deployment",
        "of the others one waits for a value, and one is left out"
    );
    assert!(desk.runs().is_empty());
    execute(&mut desk, &[("deployment", "api")], RunKind::Ungraceful).unwrap();
}

/// A run of one step, 20 s long, that hangs on a probe of which nothing is known yet.
fn unsure() -> Desk {
    let mut unsure = step("unsure", &[], EffectKind::Call);
    unsure.terms.when.push(StepGuard::Holds(is("never-seen", Health::Down)));
    unsure.timeout = HumanDuration::secs(20);
    let mut desk = Desk::settled(with(|s| {
        s.probes.push(probe("never-seen"));
        s.plans.push(Plan {
            name: "restore".into(),
            steps: vec![unsure],
            point_of_no_return: None,
            parameters: vec![],
            rto: None,
        });
    }));
    desk.see("never-seen", blind());
    desk.run_for(30);
    execute(&mut desk, &[], RunKind::Ungraceful).unwrap();
    desk
}

#[test]
fn what_cannot_be_told_is_waited_for_and_then_parks() {
    let mut desk = unsure();
    desk.run_for(18);
    assert!(!desk.is_parked("unsure"), "a verdict may still come");
    let view = desk.brain.runs(desk.now).remove(0).steps.remove(0);
    assert_eq!(
        (view.state, view.detail.as_str()),
        (StepStateView::Waiting, "it cannot be told whether never-seen is down")
    );
    desk.run_for(4);
    let StepState::Parked { reason } = desk.state("unsure") else { panic!("{:?}", desk.state("unsure")) };
    assert!(reason.contains("it cannot be told whether never-seen is down"), "{reason}");
    assert!(desk.changes().is_empty(), "it leaves nothing out and does nothing");
    // Tried again, it waits again.
    desk.command(Command::StepRetry { run: None, step: "unsure".into() }).unwrap();
    desk.run_for(10);
    assert!(!desk.is_parked("unsure"));
    desk.see("never-seen", bad());
    desk.run_for(10);
    assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Done), "unsure"));
}

#[test]
fn a_verdict_that_comes_late_decides() {
    for (seen, changes) in [(bad(), "unsure"), (up(), "")] {
        let mut desk = unsure();
        // Its time begins when its turn has come: what it does may take as long as it says.
        desk.run_for(15);
        desk.see("never-seen", seen);
        desk.run_for(10);
        assert_eq!((desk.result(), desk.changes().as_str()), (Some(RunResult::Done), changes));
    }
}

/// Nothing times out in a pause.
#[test]
fn a_pause_gives_the_time_back_to_who_waits_for_a_verdict() {
    let mut desk = unsure();
    desk.run_for(10);
    desk.command(Command::Pause).unwrap();
    desk.run_for(60);
    desk.command(Command::Resume).unwrap();
    desk.run_for(15);
    assert!(!desk.is_parked("unsure"));
    desk.run_for(10);
    assert!(desk.is_parked("unsure"));
}

#[test]
fn enough_of_a_group_is_enough() {
    let group = |minimum| {
        let mut steps: Vec<Step> = ["a", "b", "c"].iter().map(|name| step(name, &[], EffectKind::Scale)).collect();
        steps.iter_mut().for_each(|step| step.on_error = OnError::Continue);
        let of = vec!["a".into(), "b".into(), "c".into()];
        steps.push(step_of("all", &["a", "b", "c"], Work::Gather { of, minimum }));
        steps.push(step("next", &["all"], EffectKind::Call));
        steps
    };
    for (minimum, goes_on) in [(2, true), (3, false)] {
        let mut desk = Desk::settled(by_hand(group(minimum), vec![]));
        let impossible = Observed::Impossible { reason: "not there".into() };
        desk.answer("b", Phase::Observe, [Reply::Say(CallOutcome::Observed(impossible))]);
        execute(&mut desk, &[], RunKind::Ungraceful).unwrap();
        desk.run_for(5);
        assert_eq!(desk.result() == Some(RunResult::Done), goes_on);
        if !goes_on {
            let StepState::Parked { reason } = desk.state("all") else { panic!("{:?}", desk.state("all")) };
            assert_eq!(reason, "2 of 3 done, and 3 are needed; not done: b");
        }
    }
}

#[test]
fn what_comes_after_the_recovery_waits_for_it_and_does_not_count() {
    let mut audit = step("audit", &[], EffectKind::Call);
    audit.terms.post_recovery = true;
    audit.estimate = HumanDuration::secs(3600);
    let wait = step_of("settle", &[], Work::Wait { duration: HumanDuration::secs(10) });
    let settings = by_hand(vec![audit, wait], vec![]);
    let budget =
        failoverd::core::plan::critical_path(&settings.plans[settings.plans.len() - 1], |step| step.estimate.get());
    assert_eq!(budget.total.as_secs(), 10);
    let mut desk = Desk::settled(settings);
    desk.answer("audit", Phase::Verify, [Reply::Silence]);
    execute(&mut desk, &[], RunKind::Ungraceful).unwrap();
    desk.run_for(5);
    assert_eq!(desk.changes(), "");
    assert!(desk.notices_of(NoticeKind::RunRecovered).is_empty());
    desk.run_for(10);
    assert_eq!(desk.changes(), "audit");
    let told = desk.notices_of(NoticeKind::RunRecovered);
    assert!(told.len() == 1 && told[0].subject.contains("has recovered, 10s"), "{told:?}");
}

fn with_task(post_recovery: bool) -> Settings {
    let message = "call the privacy officer about {{ run.id }}".into();
    let mut task = step_of("officer", &[], Work::Task { message, remind: Some(HumanDuration::secs(3600)) });
    task.timeout = HumanDuration::secs(3 * HOUR);
    task.terms.post_recovery = post_recovery;
    by_hand(vec![step("rotate", &[], EffectKind::Call), task], vec![])
}

#[test]
fn a_task_is_told_again_until_it_is_done() {
    let mut desk = Desk::settled(with_task(false));
    execute(&mut desk, &[], RunKind::Ungraceful).unwrap();
    desk.run_for(3);
    let asked = desk.notices_of(NoticeKind::ApprovalAsked);
    assert!(asked.len() == 1 && asked[0].subject.contains("privacy officer about RUN-"), "{asked:?}");
    desk.run_for(3700);
    assert_eq!(desk.notices_of(NoticeKind::ApprovalAsked).len(), 2);
    assert_eq!(desk.result(), None);
    desk.command(Command::StepDone { run: None, step: "officer".into(), note: Some("mail sent".into()) }).unwrap();
    desk.run_for(2);
    assert_eq!(desk.result(), Some(RunResult::Done));
    let StepState::Ended(StepEnd::Done { evidence, .. }) = desk.state("officer") else { panic!() };
    assert!(evidence.starts_with("done by ") && evidence.ends_with(": mail sent"), "{evidence}");
}

#[test]
fn a_task_after_the_recovery_holds_no_run_open_and_is_not_forgotten_by_a_restart() {
    let mut desk = Desk::settled(with_task(true));
    execute(&mut desk, &[], RunKind::Ungraceful).unwrap();
    desk.run_for(5);
    assert_eq!(desk.result(), Some(RunResult::Done));
    let now = desk.now;
    assert_eq!(desk.brain.status(now).tasks.len(), 1);
    desk.restart(desk.durable.len());
    desk.run_for(3700);
    let told = desk.notices_of(NoticeKind::TaskOpen);
    assert!(!told.is_empty() && told[0].subject.contains("step done officer --run RUN-"), "{told:?}");
    // It is overdue after three hours, and said so at once in a new life.
    desk.run_for(3 * HOUR);
    desk.restart(desk.durable.len());
    desk.run_for(2);
    assert!(desk.notices_of(NoticeKind::TaskOpen).iter().any(|notice| notice.subject.contains("OVERDUE")));
    desk.command(Command::StepDone { run: None, step: "officer".into(), note: None }).unwrap();
    let now = desk.now;
    assert!(desk.brain.status(now).tasks.is_empty());
    let again = desk.command(Command::StepDone { run: None, step: "officer".into(), note: None }).unwrap_err();
    assert_eq!(again.code, "not_found");
}

#[test]
fn a_plan_of_a_scenario_keeps_that_scenarios_guards() {
    let mut desk = Desk::settled(settings());
    desk.see("standby", bad());
    desk.run_for(30);
    let plan = desk.brain.settings().plans[0].name.clone();
    let command = Command::Execute { plan, parameters: Given::new(), kind: RunKind::Graceful, allow_data_loss: None };
    let refused = desk.command(command).unwrap_err();
    assert_eq!(refused.code, "guard", "{refused:?}");
    assert!(
        desk.command(Command::Execute {
            plan: "nothing".into(),
            parameters: Given::new(),
            kind: RunKind::Graceful,
            allow_data_loss: None
        })
        .unwrap_err()
        .message
        .contains("there are:")
    );
}

/// A child plan whose steps are left out, or may fail by their own `on_error`, holds nobody up.
#[test]
fn a_group_hands_on_what_its_steps_do_and_misses_none_that_was_left_out() {
    let mut left_out = calls("c.drain", &[], json!({}));
    left_out.terms.only_in = Some(RunKind::Graceful);
    let mut told = calls("c.tell", &[], json!({}));
    told.on_error = OnError::Continue;
    let of = || vec!["c.drain".into(), "c.create".into(), "c.tell".into()];
    for (minimum, goes_on) in [(0, true), (1, true), (2, false)] {
        let group = step_of("c", &["c.drain", "c.create", "c.tell"], Work::Gather { of: of(), minimum });
        let open = json!({ "host": { "step": "c", "output": "endpoint" } });
        let steps =
            vec![left_out.clone(), calls("c.create", &[], json!({})), told.clone(), group, calls("use", &["c"], open)];
        let mut desk = Desk::settled(by_hand(steps, vec![]));
        desk.answer("c.create", Phase::Verify, [hands_on(&[("endpoint", "db.example")])]);
        let impossible = Observed::Impossible { reason: "not there".into() };
        desk.answer("c.tell", Phase::Observe, [Reply::Say(CallOutcome::Observed(impossible))]);
        execute(&mut desk, &[], RunKind::Ungraceful).unwrap();
        desk.run_for(5);
        assert_eq!(desk.result() == Some(RunResult::Done), goes_on, "{minimum}: {:?}", desk.state("c"));
        if goes_on {
            assert_eq!(given_to(&desk, "use"), json!({ "host": "db.example" }));
        }
    }
}

/// S5: by hand too, nobody promotes what nobody knows the lag of.
#[test]
fn a_promotion_that_no_scenario_guards_needs_the_loss_to_be_accepted() {
    let mut desk = Desk::settled(by_hand(vec![step("promote-it", &[], EffectKind::Promote)], vec![]));
    let refused = execute(&mut desk, &[], RunKind::Ungraceful).unwrap_err();
    assert!(refused.code == "guard" && refused.message.contains("--allow-data-loss"), "{refused:?}");
    assert!(desk.runs().is_empty());
    let allow_data_loss = Some(HumanDuration::secs(60));
    let (parameters, kind) = (Given::new(), RunKind::Ungraceful);
    desk.command(Command::Execute { plan: "restore".into(), parameters, kind, allow_data_loss }).unwrap();
    desk.run_for(5);
    assert_eq!(desk.changes(), "promote-it");
}
