//! The plan language: what is made of it, and what is said of what is wrong in it.

use super::*;
use crate::model::{Ended, Given, Plan, Reference, RunKind, Step, StepGuard, Work};

const HEAD: &str = "[daemon]\nname = \"shop\"\n";

fn plan_of(text: &str) -> Plan {
    let loaded = Folder::new(&format!("{HEAD}{text}")).loaded();
    loaded.settings.plans.into_iter().find(|plan| plan.name.as_str() == "p").expect("there is a plan p")
}

/// `line:column code` of the errors; lines count from the end of the head.
fn errors(text: &str) -> Vec<String> {
    let head = HEAD.lines().count();
    Folder::new(&format!("{HEAD}{text}"))
        .faults()
        .iter()
        .filter(|fault| fault.level == Level::Error)
        .map(|fault| format!("{} {}: {}", fault.line - head, fault.code, fault.message))
        .collect()
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.name.as_str()).collect()
}

fn step<'a>(plan: &'a Plan, name: &str) -> &'a Step {
    plan.step(&name.into()).expect("the step is there")
}

#[test]
fn references_stay_in_the_plan_and_are_shown_in_what_it_touches() {
    let plan = plan_of(
        r#"
[plans.p.parameters.many]
type = "integer"
default = 3
[plans.p.parameters.who]
[plans.p.steps.scale]
kubernetes.scale = { deployment = { join = ["shop/", { param = "who" }] }, replicas = { param = "many" } }
"#,
    );
    let spec = step(&plan, "scale").work.action().unwrap();
    assert_eq!(Reference::all_in(&spec.params).len(), 2);
    assert_eq!(spec.target, "Deployment shop/‹who› to ‹many› replicas");
    let given = plan.with(&[("who".to_owned(), "api".into())].into()).unwrap();
    let spec = step(&given, "scale").work.action().unwrap();
    assert_eq!(spec.params["kubernetes"]["scale"]["deployment"], "shop/api");
    assert_eq!(spec.params["kubernetes"]["scale"]["replicas"], 3);
    assert_eq!(spec.target, "Deployment shop/api to 3 replicas");
    assert_eq!(plan.with(&Given::new()).unwrap_err(), "the parameter `who` () is missing: add --set who=…");
}

#[test]
fn what_decides_the_service_is_known_before_a_run() {
    let text = r#"
[plans.p.parameters.replica]
[plans.p.steps.promote]
rds.promote_read_replica = { region = "us-west-2", instance = { param = "replica" } }
"#;
    let said = errors(text);
    assert!(said.len() == 1 && said[0].contains("‹replica› decides which service"), "{said:?}");
    plan_of(&text.replace("} }", "}, service = \"shop\" }"));
}

#[test]
fn a_list_is_written_out_and_enough_of_it_is_waited_for() {
    let plan = plan_of(
        r#"
[plans.p.steps.scale]
for_each = [{ name = "payment", n = 10 }, { name = "wallet", n = 8 }]
minimum_success = 1
kubernetes.scale = { deployment = { join = ["pay/", { item = "name" }] }, replicas = { item = "n" } }
[plans.p.steps.tell]
after = ["scale"]
wait = "1s"
"#,
    );
    assert_eq!(names(&plan), ["scale.payment", "scale.wallet", "scale", "tell"]);
    let spec = step(&plan, "scale.wallet").work.action().unwrap();
    assert_eq!(spec.target, "Deployment pay/wallet to 8 replicas");
    assert_eq!(step(&plan, "scale.wallet").on_error, crate::model::OnError::Continue);
    let gather = step(&plan, "scale");
    assert_eq!(gather.work, Work::Gather { of: vec!["scale.payment".into(), "scale.wallet".into()], minimum: 1 });
    assert_eq!(gather.after.len(), 2);
}

#[test]
fn a_child_plan_is_written_out_with_its_own_names() {
    let plan = plan_of(
        r#"
[plans.tell]
[plans.tell.parameters.what]
[plans.tell.steps.first]
sns.publish = { topic = "arn:aws:sns:us-west-2:123456789012:x", message = "{{ param.what }}" }
[plans.tell.steps.second]
after = ["first"]
when = [{ step = "first", ended = "done" }, { param = "what", is = "it is over" }]
wait = "1s"
[plans.p.steps.before]
wait = "1s"
[plans.p.steps.told]
after = ["before"]
only_in = "graceful"
run_plan = { plan = "tell", with = { what = "it is over" } }
"#,
    );
    assert_eq!(names(&plan), ["before", "told.first", "told.second", "told"]);
    let (first, second) = (step(&plan, "told.first"), step(&plan, "told.second"));
    assert_eq!(first.after, ["before".into()]);
    assert_eq!(first.terms.values["what"], "it is over");
    assert_eq!(
        (first.terms.only_in, second.after.as_slice()),
        (Some(RunKind::Graceful), ["told.first".into()].as_slice())
    );
    assert!(second.terms.when.contains(&StepGuard::Step { step: "told.first".into(), ended: Ended::Done }));
    assert!(
        second
            .terms
            .when
            .iter()
            .any(|guard| matches!(guard, StepGuard::Parameter { value, .. } if value == "it is over"))
    );
}

/// Else the run would wait for the tasks that it leaves to people: for days, or for ever.
#[test]
fn what_stands_for_several_does_not_wait_for_the_tasks_after_the_recovery() {
    let text = r#"
[plans.review.steps.count]
post_recovery = true
wait = "1s"
[plans.review.steps.meeting]
post_recovery = true
task = { message = "hold it" }
[plans.mend.steps.mend]
wait = "1s"
[plans.mend.steps.officer]
post_recovery = true
task = { message = "tell the officer" }
[plans.p.steps.then]
run_plan = { plan = "mend" }
[plans.p.steps.only]
after = ["then"]
run_plan = { plan = "review" }
[plans.p.steps.later]
after = ["then"]
post_recovery = true
run_plan = { plan = "review" }
[plans.p.steps.each]
after = ["then"]
post_recovery = true
for_each = ["a", "b"]
task = { message = "once for each" }
"#;
    let plan = plan_of(text);
    let after = |name: &str| -> Vec<String> { step(&plan, name).after.iter().map(ToString::to_string).collect() };
    assert_eq!(after("then"), ["then.mend"], "the recovery waits for nothing that comes after it");
    assert_eq!(after("only"), ["then"], "where there is nothing else to wait for");
    assert_eq!(after("later"), ["later.count"], "but for what is no task");
    assert_eq!(after("each"), ["then"]);
    assert_eq!(after("each.a"), ["then"]);
    let wrong = format!("{text}[plans.p.steps.last]\nafter = [\"then.officer\", \"only\"]\nwait = \"1s\"\n");
    let said = errors(&wrong);
    assert!(said.len() == 1 && said[0].contains("`last` waits for `then.officer`"), "{said:#?}");
}

#[test]
fn what_the_probes_say_is_asked_once_for_a_child_plan() {
    let plan = plan_of(
        r#"
[probes.api]
tcp = { address = "127.0.0.1:9" }
[plans.child.steps.first]
wait = "1s"
[plans.child.steps.then]
after = ["first"]
wait = "1s"
[plans.p.parameters.how]
one_of = ["well", "badly"]
default = "well"
[plans.p.steps.before]
wait = "1s"
[plans.p.steps.go]
after = ["before"]
only_in = "ungraceful"
when = ["api is down", { param = "how", is = "well" }]
run_plan = { plan = "child" }
"#,
    );
    assert_eq!(names(&plan), ["before", "go.when", "go.first", "go.then", "go"]);
    let asks = step(&plan, "go.when");
    assert_eq!(asks.work, Work::Gather { of: Vec::new(), minimum: 0 });
    assert_eq!((asks.after[0].as_str(), asks.terms.when.len()), ("before", 2));
    for (name, after) in [("go.first", "go.when"), ("go.then", "go.first")] {
        let terms = &step(&plan, name).terms;
        let asked = StepGuard::Step { step: "go.when".into(), ended: Ended::Done };
        assert!(terms.when.contains(&asked) && terms.when.len() == 2, "{name}: {:?}", terms.when);
        assert_eq!(terms.only_in, Some(RunKind::Ungraceful));
        assert_eq!(step(&plan, name).after[0].as_str(), after);
    }
    assert_eq!(asks.terms.only_in, Some(RunKind::Ungraceful));
}

#[test]
fn a_parameter_has_one_of_its_values() {
    let text = |default: &str, is: &str| {
        format!(
            "[plans.p.parameters.how]\none_of = [\"a\", \"b\"]\ndefault = \"{default}\"\n\
             [plans.p.steps.s]\nwhen = {{ param = \"how\", is = \"{is}\" }}\nwait = \"1s\"\n"
        )
    };
    let plan = plan_of(&text("a", "b"));
    let given = |value: &str| plan.with(&[("how".to_owned(), value.into())].into());
    assert!(given("b").is_ok());
    assert_eq!(given("c").unwrap_err(), "the parameter `how`: `c` is none of a, b");
    for (default, is) in [("c", "a"), ("a", "c")] {
        let said = errors(&text(default, is));
        assert!(said.len() == 1 && said[0].contains("`c` is none of a, b"), "{said:?}");
    }
    let said =
        errors("[plans.p.parameters.n]\ntype = \"integer\"\none_of = [\"x\"]\n[plans.p.steps.s]\nwait = \"1s\"\n");
    assert!(said.len() == 1 && said[0].contains("wrong_value"), "{said:?}");
}

#[test]
fn a_value_that_nobody_hands_on_is_told_with_its_place() {
    let text = r#"
[plans.p.steps.a]
wait = "1s"
[plans.p.steps.b]
http.request = { url = "https://x.example", headers = { x = { step = "a", output = "endpoint" } } }
[plans.p.steps.c]
after = ["a"]
http.request = { url = "https://x.example", headers = { x = { step = "a", output = "endpoint" } } }
[plans.p.steps.d]
http.request = { url = "https://x.example", headers = { x = { param = "nothing" } } }
[plans.p.steps.e]
http.request = { url = "https://x.example", body = "{{ run.idd }}" }
[plans.p.steps.f]
http.request = { url = "https://x.example", body = "{{ run.id" }
"#;
    let said = errors(text);
    let find = |line: usize, part: &str| {
        assert!(
            said.iter().any(|one| one.starts_with(&format!("{line} ")) && one.contains(part)),
            "{line} {part}: {said:#?}"
        );
    };
    find(5, "`a` is no step before this one");
    find(8, "`a` hands on no `endpoint`");
    find(10, "the plan has no parameter `nothing`");
    find(12, "undefined");
    find(14, "syntax error");
    assert_eq!(said.len(), 5, "{said:#?}");
}

#[test]
fn what_is_wrong_in_lists_and_child_plans_is_told_once_and_in_its_place() {
    let text = r#"
[plans.p.steps.a]
for_each = []
wait = "1s"
[plans.p.steps.b]
minimum_success = 1
wait = "1s"
[plans.p.steps.c]
for_each = ["x", "y"]
minimum_success = 3
kubernetes.scale = { deployment = "no", replicas = 1 }
[plans.p.steps.d]
run_plan = { plan = "q" }
[plans.p.steps.e]
run_plan = { plan = "nested" }
[plans.nested.steps.a]
run_plan = { plan = "p" }
[plans.p.steps.f]
for_each = ["x"]
wait = "1s"
http.request = { url = "https://x.example", body = { item = "name" } }
[plans.p.steps.g]
http.request = { url = "https://x.example", body = { item = "value" } }
"#;
    let said = errors(text);
    let find = |line: usize, part: &str| {
        let found = said.iter().filter(|one| one.starts_with(&format!("{line} ")) && one.contains(part)).count();
        assert_eq!(found, 1, "{line} {part}: {said:#?}");
    };
    find(3, "no list of items");
    find(6, "nothing to count");
    find(10, "3 of 2 cannot be required");
    find(11, "does not name a Deployment");
    find(13, "there is no plan `q`");
    find(15, "one level");
    find(19, "has no `name`");
    find(23, "no `for_each`");
}

#[test]
fn a_parameter_is_what_its_type_says_and_a_scenario_starts_by_itself() {
    let said = errors(
        r#"
[plans.p.parameters.at]
type = "time"
default = "noon"
[plans.p.parameters.n]
type = "integer"
[plans.p.steps.a]
when = { param = "n", is = "many" }
wait = "1s"
[probes.a]
tcp = { address = "a:1" }
[scenarios.s]
severity = "P1"
when = "a"
confirm_for = "5s"
rto = "5m"
plan = "p"
"#,
    );
    let find = |line: usize, part: &str| {
        assert!(
            said.iter().any(|one| one.starts_with(&format!("{line} ")) && one.contains(part)),
            "{line} {part}: {said:#?}"
        );
    };
    find(4, "RFC 3339");
    find(8, "whole number");
    find(17, "this plan cannot start by itself");
}

#[test]
fn a_fence_says_whether_it_has_to_hold() {
    let text = |fence: &str| {
        format!(
            "\n[plans.p.steps.fence]\nhttp.request = {{ url = \"https://x.example\", effect = \"fence\" }}\n{fence}\n\
             [plans.p.steps.promote]\nafter = [\"fence\"]\nredis.promote = {{ url = \"redis://cache.example\" }}\n"
        )
    };
    assert_eq!(step(&plan_of(&text("fence = \"best-effort\"")), "fence").on_error, crate::model::OnError::Continue);
    assert_eq!(step(&plan_of(&text("fence = \"required\"")), "fence").on_error, crate::model::OnError::Park);
    assert!(errors(&text("on_error = \"continue\""))[0].contains("fence_guards_nothing"));
    assert!(
        errors(&text("fence = \"required\"\non_error = \"continue\"")).iter().any(|said| said.contains("contradict"))
    );
}

#[test]
fn a_route_waits_for_a_promotion_that_may_be_left_out_only_where_it_is_left_out_too() {
    let text = |route: &str| {
        format!(
            "\n[plans.p.steps.promote]\nonly_in = \"graceful\"\nredis.promote = {{ url = \"redis://cache.example\" }}\n\
             [plans.p.steps.route]\nafter = [\"promote\"]\n{route}\n\
             route53.upsert_alias = {{ zone = \"Z1\", name = \"a.example\", values = [\"192.0.2.1\"] }}\n"
        )
    };
    assert!(errors(&text("")).iter().any(|said| said.contains("route_before_promotion")));
    plan_of(&text("only_in = \"graceful\""));
}

#[test]
fn nothing_is_destroyed_before_a_person_has_said_yes() {
    let text = |after: &str| {
        format!(
            "\n[plans.p.steps.sure]\napproval = {{ message = \"Really?\" }}\n\
             [plans.p.steps.flush]\n{after}\nredis.flush = {{ url = \"redis://cache.example\" }}\n"
        )
    };
    assert!(errors(&text(""))[0].contains("needs_approval"));
    plan_of(&text("after = [\"sure\"]"));
}

/// A value that is not known yet keeps nothing else of the plan from being looked at.
#[test]
fn the_rto_of_a_plan_with_open_values_is_looked_at() {
    let text = |rto: &str| {
        format!(
            r#"
[probes.api]
tcp = {{ address = "192.0.2.1:443" }}
[notify.a]
webhook = {{ url = "https://a.shop.example" }}
[notify.b]
webhook = {{ url = "https://b.shop.example" }}
[scenarios.api-down]
severity = "P1"
when = "api"
confirm_for = "10s"
rto = "{rto}"
plan = "p"
[plans.p.parameters.name]
default = "api"
[plans.p.steps.scale]
kubernetes.scale = {{ deployment = {{ join = ["shop/", {{ param = "name" }}] }}, replicas = 3 }}
estimate = "5m"
"#
        )
    };
    let told = errors(&text("5m"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("rto_out_of_reach"), "{told:?}");
    assert_eq!(errors(&text("10m")), [""; 0]);
}
