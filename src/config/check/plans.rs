//! `[plans]`: steps with one action each, an order, a point of no return.

use std::collections::{BTreeMap, BTreeSet};

use super::common::{not_empty, not_zero};
use super::{Names, dangling, plain_name};
use crate::config::action::{ActionConfig, FAMILIES};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::shape::{File, PlanTable, RegionRole, Step as StepTable, VerifyAction};
use crate::config::suggest;
use crate::core::plan as arithmetic;
use crate::model::{EffectKind, HumanDuration, OnError, Plan, Step, StepName, Work};

/// What a step does without calling anything outside.
const OWN: [&str; 3] = ["verify", "approval", "wait"];

/// All that a step can do, as keys of the file.
fn all_actions() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().copied().chain(OWN)
}

/// The plans that could be made, their steps in the order written.
pub fn plans(file: &File, names: &Names, report: &mut Report<'_>) -> Vec<Plan> {
    let base = Path::of(&["plans"]);
    file.plans.iter().map(|(name, table)| plan(file, names, report, &base.key(name), name, table)).collect()
}

fn plan(file: &File, names: &Names, report: &mut Report<'_>, at: &Path, name: &str, table: &PlanTable) -> Plan {
    let steps_at = at.key("steps");
    if table.steps.is_empty() && !report.touches_broken(&steps_at) {
        report.error("empty", at, "this plan has no steps", format!("add [plans.{name}.steps.NAME] with an action"));
    }
    let known: BTreeSet<String> = table.steps.keys().cloned().chain(report.broken_names(&steps_at)).collect();
    let mut written: Vec<&String> = table.steps.keys().collect();
    written.sort_by_key(|step| report.layers().written_order(&steps_at.key(step)));
    let mut steps = Vec::new();
    for step_name in written {
        let (step_at, step_table) = (steps_at.key(step_name), &table.steps[step_name]);
        plain_name(report, &step_at, step_name);
        after(report, &step_at, step_table, &known);
        // A step whose action is wrong keeps its place, so that the order is checked all the same.
        let work =
            work(file, report, &step_at, step_table, names).unwrap_or(Work::Wait { duration: HumanDuration::ZERO });
        steps.push(step(file, report, &step_at, step_name, step_table, work));
    }
    let mut plan = Plan { name: name.into(), steps, point_of_no_return: None };
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
    routes_after_promotions(report, &steps_at, &plan);
    fences_before_promotions(report, &steps_at, &plan);
    plan
}

fn after(report: &mut Report<'_>, at: &Path, table: &StepTable, known: &BTreeSet<String>) {
    let at = at.key("after");
    for (place, name) in table.after.iter().enumerate() {
        if !known.contains(name) {
            dangling(report, &at.index(place), "step", name, known);
        }
    }
}

/// The one thing that a step does.
fn work(file: &File, report: &mut Report<'_>, at: &Path, table: &StepTable, names: &Names) -> Option<Work> {
    let given = given_actions(table);
    match given.as_slice() {
        [] => {
            if !all_actions().any(|action| report.touches_broken(&at.key(action))) {
                let fix = format!("add an action: one of {}", suggest::list(&all_actions().collect::<Vec<_>>()));
                report.error("not_exactly_one", at, "this step does nothing", fix);
            }
            return None;
        }
        [_] => {}
        several => report.error_at_key(
            "not_exactly_one",
            &at.key(several[1]),
            format!("a step does exactly one thing, and this one does {}", several.join(" and ")),
            "make two steps of it, the second with `after`",
        ),
    }
    if let Some((_, action)) = ActionConfig::of_step(table).into_iter().next() {
        action.check(at, report);
        in_primary_region(file, report, at, &action);
        return match action.to_spec() {
            Ok(spec) => Some(Work::Action(spec)),
            Err(why) => {
                report.error("bad_parameters", at, why, "write paths in UTF-8");
                None
            }
        };
    }
    if let Some(VerifyAction::Probe(verify)) = &table.verify {
        if !names.probes.contains(&verify.probe) {
            dangling(report, &at.key("verify").key("probe").key("probe"), "probe", &verify.probe, &names.probes);
        }
        return Some(Work::VerifyProbe { probe: verify.probe.as_str().into(), hold: verify.hold });
    }
    if let Some(approval) = &table.approval {
        not_empty(report, &at.key("approval").key("message"), &approval.message);
        return Some(Work::Approval { message: approval.message.clone() });
    }
    not_zero(report, &at.key("wait"), table.wait);
    table.wait.map(|duration| Work::Wait { duration })
}

/// A replica in the region that fails is no replica to promote.
fn in_primary_region(file: &File, report: &mut Report<'_>, at: &Path, action: &ActionConfig) {
    let Some(region) = action.parameters().region().filter(|_| action.parameters().effect() == EffectKind::Promote)
    else {
        return;
    };
    if file.regions.get(&region).is_some_and(|table| table.role == RegionRole::Primary) {
        report.warn(
            "promotes_in_primary",
            at,
            format!("this promotes in {region}, which is the primary region itself"),
            format!("name the region of the replica, or mend the role of [regions.{region}]"),
        );
    }
}

fn given_actions(table: &StepTable) -> Vec<&'static str> {
    let own = OWN.into_iter().zip([table.verify.is_some(), table.approval.is_some(), table.wait.is_some()]);
    let outside = ActionConfig::of_step(table).into_iter().map(|(name, _)| (name, true));
    outside.chain(own).filter(|(_, given)| *given).map(|(name, _)| name).collect()
}

fn step(file: &File, report: &mut Report<'_>, at: &Path, name: &str, table: &StepTable, work: Work) -> Step {
    let defaults = &file.defaults.step;
    not_zero(report, &at.key("timeout"), table.timeout);
    let needed = match &work {
        Work::Wait { duration } => *duration,
        Work::VerifyProbe { hold, .. } => *hold,
        Work::Action(_) | Work::Approval { .. } => HumanDuration::ZERO,
    };
    let default = defaults.timeout.unwrap_or(HumanDuration::secs(600));
    // Nobody should have to raise a timeout only because a wait is longer than the default one.
    let timeout = table.timeout.unwrap_or_else(|| default.max(HumanDuration(needed.get().saturating_mul(2))));
    if needed > timeout || (needed == timeout && matches!(work, Work::VerifyProbe { .. })) {
        report.error(
            "timeout_too_short",
            &at.key("timeout"),
            format!("this step takes {needed} at least, and has {timeout}"),
            format!("write more than {needed}"),
        );
    }
    let estimate = table.estimate.unwrap_or_else(|| arithmetic::default_estimate(&work, timeout));
    if estimate > timeout && table.estimate.is_some() {
        report.error(
            "timeout_too_short",
            &at.key("estimate"),
            format!("this step is expected to take {estimate}, and is given up after {timeout}"),
            "write a longer `timeout`, or a shorter `estimate`",
        );
    }
    if let Some(retry) = &table.retry {
        super::daemon::retry(report, &at.key("retry"), retry);
    }
    let notifies = work.action().is_some_and(|spec| spec.effect == EffectKind::Notify);
    let on_error = table.on_error.unwrap_or(if notifies { OnError::Continue } else { OnError::Park });
    on_error_fits(report, at, table, &work);
    Step {
        name: name.into(),
        after: table.after.iter().map(|name| name.as_str().into()).collect(),
        work,
        timeout,
        retry: table.retry.or(defaults.retry).unwrap_or_default(),
        on_error,
        estimate,
    }
}

/// What nothing may go on without cannot say `continue`.
fn on_error_fits(report: &mut Report<'_>, at: &Path, table: &StepTable, work: &Work) {
    if table.on_error != Some(OnError::Continue) {
        return;
    }
    let why = match (work, work.action().map(|spec| spec.effect)) {
        (Work::Approval { .. }, _) => "where nobody answers, the run would go on as if somebody had said yes",
        (_, Some(EffectKind::Promote | EffectKind::Route)) => {
            "it has no effect here: a promotion or a route that failed always parks the run"
        }
        _ => return,
    };
    report.error("goes_on_without", &at.key("on_error"), why, "leave it out");
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
        let names = promotions_where(plan, |promotion| !before.contains(&promotion.name));
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

/// S7: a fence that a promotion does not wait for, or that may fail, keeps nobody from writing.
fn fences_before_promotions(report: &mut Report<'_>, steps_at: &Path, plan: &Plan) {
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
        } else if fence.on_error == OnError::Continue && with_effect(plan, EffectKind::Promote).next().is_some() {
            report.error(
                "fence_guards_nothing",
                &at.key("on_error"),
                "where this fails, the promotion would follow although the old primary still takes writes",
                format!("leave it out; {OTHERWISE}"),
            );
        }
    }
}
