//! `[plans]`: steps with one action each, an order, a point of no return.

use std::collections::{BTreeMap, BTreeSet};

use super::common::not_zero;
use super::conditions::Resolver;
use super::steps::Maker;
use super::{Names, dangling, plain_name};
use crate::config::expand::Order;
use crate::config::path::Path;
use crate::config::references::References;
use crate::config::report::Report;
use crate::config::shape::{FenceNeed, File, ParameterTable, PlanTable, Step as StepTable};
use crate::config::suggest;
use crate::core::plan as arithmetic;
use crate::model::{EffectKind, OnError, Parameter, Plan, Step, StepName, Work};

/// The plans that could be made, their steps in the order written.
pub fn plans(
    file: &File,
    names: &Names,
    resolver: &mut Resolver<'_>,
    order: &Order,
    references: &References,
    report: &mut Report<'_>,
) -> Vec<Plan> {
    let base = Path::of(&["plans"]);
    let mut made = Vec::new();
    for (name, table) in &file.plans {
        let order = order.get(name).map(Vec::as_slice).unwrap_or_default();
        let maker = Maker {
            file,
            names,
            resolver: &mut *resolver,
            references,
            plan: name,
            table,
            outputs: BTreeMap::new(),
            destroys: Vec::new(),
        };
        made.push(plan(maker, report, &base.key(name), order));
    }
    made
}

fn plan(mut maker: Maker<'_, '_>, report: &mut Report<'_>, at: &Path, order: &[String]) -> Plan {
    let (name, table) = (maker.plan, maker.table);
    let steps_at = at.key("steps");
    if table.steps.is_empty() && !report.touches_broken(&steps_at) {
        report.error("empty", at, "this plan has no steps", format!("add [plans.{name}.steps.NAME] with an action"));
    }
    not_zero(report, &at.key("rto"), table.rto);
    let known: BTreeSet<String> = table.steps.keys().cloned().chain(report.broken_names(&steps_at)).collect();
    let mut steps = Vec::new();
    for step_name in order.iter().filter(|step| table.steps.contains_key(*step)) {
        let (step_at, step_table) = (steps_at.key(step_name), &table.steps[step_name]);
        plain_name(report, &step_at, step_name);
        after(report, &step_at, step_table, &known);
        steps.push(maker.step(report, &step_at, step_name, step_table));
    }
    let parameters = parameters(report, &at.key("parameters"), table);
    let mut plan = Plan { name: name.into(), steps, point_of_no_return: None, parameters, rto: table.rto };
    if let Err(cycle) = arithmetic::topological(&plan) {
        let first = cycle.steps.first().map(StepName::as_str).unwrap_or_default();
        report.error(
            "circle",
            &steps_at.key(first).key("after"),
            format!("these steps wait for each other: {cycle}"),
            "take one of them out of an `after`",
        );
    }
    point_of_no_return(report, at, table, &known, &mut plan);
    one_promotion_per_service(report, &steps_at, &plan);
    nothing_waits_for_what_comes_after_all(report, &steps_at, &plan);
    routes_after_promotions(report, &steps_at, &plan);
    fences_before_promotions(report, &steps_at, &plan, table);
    approvals_before(report, &steps_at, &plan, &maker.destroys);
    super::handed::check(report, &steps_at, &plan, &maker.outputs);
    plan
}

fn parameters(report: &mut Report<'_>, at: &Path, table: &PlanTable) -> Vec<Parameter> {
    let make = |(name, table): (&String, &ParameterTable)| {
        let at = at.key(name);
        plain_name(report, &at, name);
        if let Some(Err(why)) = table.default.as_ref().map(|value| table.kind.accepts(value)) {
            report.error("wrong_value", &at.key("default"), why, "write a value of its type, or another `type`");
        }
        for (place, why) in
            table.one_of.iter().enumerate().filter_map(|(place, value)| Some((place, table.kind.accepts(value).err()?)))
        {
            report.error("wrong_value", &at.key("one_of").index(place), why, "write values of its type");
        }
        let made = parameter(name, table);
        let default = table.default.as_ref().filter(|value| table.kind.accepts(value).is_ok());
        if let Some(Err(why)) = default.map(|value| made.accepts(value)) {
            report.error("wrong_value", &at.key("default"), why, "write one of these, or add it to `one_of`");
        }
        made
    };
    table.parameters.iter().map(make).collect()
}

/// A parameter as the plan holds it.
pub(super) fn parameter(name: &str, table: &ParameterTable) -> Parameter {
    Parameter {
        name: name.to_owned(),
        kind: table.kind,
        one_of: table.one_of.clone(),
        description: table.description.clone(),
        value: table.default.clone(),
    }
}

fn after(report: &mut Report<'_>, at: &Path, table: &StepTable, known: &BTreeSet<String>) {
    let at = at.key("after");
    for (place, name) in table.after.iter().enumerate() {
        if !known.contains(name) {
            dangling(report, &at.index(place), "step", name, known);
        }
    }
}

/// What comes after the recovery waits for every step of it: one that waited for it in its turn would
/// never begin, and the run never end.
fn nothing_waits_for_what_comes_after_all(report: &mut Report<'_>, steps_at: &Path, plan: &Plan) {
    for step in plan.steps.iter().filter(|step| !step.terms.post_recovery) {
        let late = |name: &&StepName| plan.step(name).is_some_and(|before| before.terms.post_recovery);
        if let Some(before) = step.after.iter().find(late) {
            report.error(
                "never_begins",
                &steps_at.key(step.name.as_str()).key("after"),
                format!("`{}` waits for `{before}`, which comes after the recovery, and so after `{0}`", step.name),
                format!("take it out of `after`, or write `post_recovery = true` here as well, or not in `{before}`"),
            );
        }
    }
}

fn is_effect(step: &Step, effect: EffectKind) -> bool {
    step.work.action().is_some_and(|spec| spec.effect == effect)
}

fn point_of_no_return(
    report: &mut Report<'_>,
    at: &Path,
    table: &PlanTable,
    known: &BTreeSet<String>,
    plan: &mut Plan,
) {
    let order = arithmetic::topological(plan).unwrap_or_default();
    let first_promotion =
        order.iter().map(|place| &plan.steps[*place]).find(|step| is_effect(step, EffectKind::Promote));
    let Some(named) = &table.point_of_no_return else {
        plan.point_of_no_return = first_promotion.map(|step| step.name.clone());
        return;
    };
    let named_at = at.key("point_of_no_return");
    if !known.contains(named) {
        dangling(report, &named_at, "step", named, known);
        return;
    }
    let point = StepName::new(named.as_str());
    let early: Vec<&str> = plan
        .steps
        .iter()
        .filter(|step| is_effect(step, EffectKind::Promote) && step.name != point)
        .filter(|step| !arithmetic::ancestors(plan, &step.name).contains(&point))
        .map(|step| step.name.as_str())
        .collect();
    if !early.is_empty() {
        report.error(
            "promotion_before_point",
            &named_at,
            format!("{} promotes, which cannot be undone, and may run before `{named}`", suggest::list(&early)),
            format!("name `{}` here, or let it come after `{named}`", early[0]),
        );
    }
    plan.point_of_no_return = Some(point);
}

/// S1: at most one replica is promoted per service and epoch; a run has one epoch.
fn one_promotion_per_service(report: &mut Report<'_>, steps_at: &Path, plan: &Plan) {
    let mut seen: BTreeMap<&str, &StepName> = BTreeMap::new();
    for step in &plan.steps {
        let Some(service) = step.work.action().and_then(|spec| spec.service.as_ref()) else { continue };
        if let Some(first) = seen.get(service.as_str()) {
            report.error(
                "two_promotions",
                &steps_at.key(step.name.as_str()),
                format!(
                    "the service `{service}` is promoted by `{first}` already; two writable copies are a split brain"
                ),
                "leave one of them out, or, where they are different services, name them with `service = …`",
            );
        } else {
            seen.insert(service.as_str(), &step.name);
        }
    }
}

/// The steps of one effect, in the order written.
fn with_effect(plan: &Plan, effect: EffectKind) -> impl Iterator<Item = &Step> {
    plan.steps.iter().filter(move |step| is_effect(step, effect))
}

/// The promotions of a plan of which something is so: `` `a` and `b` ``.
fn promotions_where(plan: &Plan, so: impl Fn(&Step) -> bool) -> String {
    let names = with_effect(plan, EffectKind::Promote).filter(|step| so(step)).map(|step| format!("`{}`", step.name));
    names.collect::<Vec<_>>().join(" and ")
}

/// S6: traffic never moves to what was not verified. A promotion is verified before it ends. Which of
/// several services a name leads to is not known here: so a route waits for all promotions, or for a
/// look at where the traffic goes, which stops the run where it is not well.
fn routes_after_promotions(report: &mut Report<'_>, steps_at: &Path, plan: &Plan) {
    for route in with_effect(plan, EffectKind::Route) {
        let before = arithmetic::ancestors(plan, &route.name);
        let looked = plan.steps.iter().any(|step| {
            before.contains(&step.name)
                && matches!(step.work, Work::VerifyProbe { .. })
                && step.on_error != OnError::Continue
        });
        // One that may be left out where the route is not is not waited for either.
        let waits = |promotion: &Step| before.contains(&promotion.name) && same_terms(promotion, route);
        let names = promotions_where(plan, |promotion| !waits(promotion));
        if !looked && !names.is_empty() {
            report.error(
                "route_before_promotion",
                &steps_at.key(route.name.as_str()),
                format!(
                    "`{}` may move traffic before all promotions are done: it does not wait for {names}",
                    route.name
                ),
                format!(
                    "add {names} to its `after`; or, where the traffic goes elsewhere, a `verify.probe` of that place \
                     whose `on_error` is not `continue`"
                ),
            );
        }
    }
}

/// Nothing is destroyed before a person has said yes, in the plan itself: an approval of the whole plan
/// was given before its first steps showed anything.
fn approvals_before(report: &mut Report<'_>, steps_at: &Path, plan: &Plan, destroys: &[StepName]) {
    for name in destroys {
        let before = arithmetic::ancestors(plan, name);
        let asked = plan.steps.iter().any(|step| {
            before.contains(&step.name)
                && matches!(step.work, Work::Approval { .. })
                && plan.step(name).is_some_and(|destroys| same_terms(step, destroys))
        });
        if !asked {
            report.error(
                "needs_approval",
                &steps_at.key(name.as_str()),
                format!("`{name}` destroys what nobody can bring back, and no person is asked before it"),
                "add a step with `approval = { message = \"…\" }`, and name it in `after`",
            );
        }
    }
}

/// Is the route left out wherever the promotion is?
fn same_terms(promotion: &Step, route: &Step) -> bool {
    let (of, with) = (&promotion.terms, &route.terms);
    of.when.iter().all(|guard| with.when.contains(guard)) && (of.only_in.is_none() || of.only_in == with.only_in)
}

/// S7: a fence that a promotion does not wait for, or that may fail, keeps nobody from writing.
fn fences_before_promotions(report: &mut Report<'_>, steps_at: &Path, plan: &Plan, table: &PlanTable) {
    const OTHERWISE: &str = "or, where the promotion may do without it, write `effect = \"call\"`";
    for fence in with_effect(plan, EffectKind::Fence) {
        let at = steps_at.key(fence.name.as_str());
        let names =
            promotions_where(plan, |promotion| !arithmetic::ancestors(plan, &promotion.name).contains(&fence.name));
        if !names.is_empty() {
            report.error(
                "fence_guards_nothing",
                &at,
                format!("the old primary may take writes after a promotion: this fence is not waited for by {names}"),
                format!("add `{}` to the `after` of {names}; {OTHERWISE}", fence.name),
            );
        } else if table.steps.get(fence.name.as_str()).is_some_and(|step| step.fence == Some(FenceNeed::BestEffort)) {
            // Said so.
        } else if fence.on_error == OnError::Continue && with_effect(plan, EffectKind::Promote).next().is_some() {
            report.error(
                "fence_guards_nothing",
                &at.key("on_error"),
                "where this fails, the promotion would follow although the old primary still takes writes",
                format!("leave it out, or say that the fence may fail with `fence = \"best-effort\"`; {OTHERWISE}"),
            );
        }
    }
}
