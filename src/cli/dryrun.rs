//! `failoverd plan`: every step looks at its target, and nothing is changed.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::Global;
use super::check::{load_options, load_or_tell};
use super::context::Context;
use super::exit::{Exit, Failure, print, print_json};
use super::render::Style;
use super::render::plan::{DryRun, DryStep, Look, render_plan};
use super::show::unknown;
use crate::actions;
use crate::clients::Clients;
use crate::core::ActionCheck;
use crate::core::evidence::Budget;
use crate::core::given::given;
use crate::core::plan::{critical_path, topological};
use crate::model::{Epoch, Given, Observed, Plan, PlanName, Reference, Settings, Step, StepGuard, StepName, Work};
use crate::ports::{ActionContext, Authority, Denied};

/// So many steps look at the same time.
const AT_ONCE: usize = 16;

/// The evidence is worth having, and not worth waiting for.
const EVIDENCE_WITHIN: Duration = Duration::from_secs(3);

/// Denies everything: the second wall, should an action ever change something while it looks.
struct NothingMayChange;

impl Authority for NothingMayChange {
    fn permit(&self, _: Epoch) -> Result<(), Denied> {
        Err(Denied::StoreInDoubt("this is a dry run, which changes nothing".into()))
    }
}

/// `failoverd plan [NAME]`.
///
/// # Errors
/// [`Failure`]; exit code 1 where a step stands in the way of a run.
pub async fn plan(
    global: &Global,
    name: Option<&str>,
    within: Duration,
    set: &[(String, String)],
) -> Result<(), Failure> {
    let loaded = load_or_tell(global, &load_options(global, true))?;
    let plan = choose(&loaded.settings, name)?;
    let clients = Arc::new(Clients::new(&loaded.file.limits));
    let plan = &with_values(plan, set, &clients)?;
    let mut looks = look_at_all(&clients, plan, within, global.json).await;
    excuse_what_is_made_before(plan, &mut looks);
    let mut dry = assemble(&loaded.settings, plan, looks);
    dry.measured = measured(global, &dry.plan).await;
    if global.json {
        print_json(&dry)?;
    } else {
        print(&render_plan(&dry, &Style::detect()))?;
    }
    if dry.steps.iter().any(|step| step.look.is_in_the_way()) {
        return Err(Failure::said(Exit::Failed));
    }
    Ok(())
}

fn choose<'a>(settings: &'a Settings, name: Option<&str>) -> Result<&'a Plan, Failure> {
    let names = || settings.plans.iter().map(|plan| plan.name.as_str());
    match (name, settings.plans.as_slice()) {
        (Some(name), plans) => {
            plans.iter().find(|plan| plan.name.as_str() == name).ok_or_else(|| unknown("plan", name, names()))
        }
        (None, [plan]) => Ok(plan),
        (None, []) => Err(Failure::new(Exit::Failed, "not_found", "the configuration has no plan")),
        (None, _) => Err(Failure::usage(format!(
            "there is more than one plan; name one of: {}",
            names().collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// The plan with what is given. Without a value that it needs it is shown all the same, and what needs
/// that value is not looked at; but a value that is given is not ignored.
fn with_values(plan: &Plan, set: &[(String, String)], clients: &Arc<Clients>) -> Result<Plan, Failure> {
    let typed: Given = set.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let clients = Arc::clone(clients);
    let check = ActionCheck::new(move |spec| actions::wrong(spec, &clients));
    match given(plan, &typed, &check) {
        Ok(plan) => Ok(plan),
        Err(_) if set.is_empty() => Ok(plan.clone()),
        Err(why) => Err(Failure::usage(why)),
    }
}

async fn look_at_all(clients: &Arc<Clients>, plan: &Plan, within: Duration, quiet: bool) -> BTreeMap<StepName, Look> {
    let spinner = spinner(plan.steps.len(), quiet);
    let deadline = Instant::now() + within;
    let mut looking = futures::stream::iter(&plan.steps)
        .map(|step| async { (step.name.clone(), look(step, clients, deadline).await) })
        .buffer_unordered(AT_ONCE);
    let mut looks = BTreeMap::new();
    while let Some((step, look)) = looking.next().await {
        looks.insert(step, look);
        let waits: Vec<&str> =
            plan.steps.iter().filter(|step| !looks.contains_key(&step.name)).map(|step| step.name.as_str()).collect();
        spinner.inc(1);
        spinner.set_message(waits.join(", "));
    }
    spinner.finish_and_clear();
    looks
}

fn spinner(steps: usize, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let steps = u64::try_from(steps).unwrap_or(u64::MAX);
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{spinner} looked at {pos} of {len} steps, {elapsed}; waiting for {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

async fn look(step: &Step, clients: &Arc<Clients>, deadline: Instant) -> Look {
    let left_out = |guard: &&StepGuard| match guard {
        StepGuard::Parameter { value, is, .. } => Reference::of(value).is_none() && !is.contains(value),
        StepGuard::Step { .. } | StepGuard::Holds(_) => false,
    };
    if let Some(guard) = step.terms.when.iter().find(left_out) {
        return Look::LeftOut { why: format!("{guard} does not hold") };
    }
    let Some(spec) = step.work.action() else { return Look::ByDaemon };
    let open: Vec<String> = Reference::all_in(&spec.params).iter().map(|(_, open)| open.to_string()).collect();
    if !open.is_empty() {
        return Look::Later { values: open.join(", ") };
    }
    let action = match actions::build(spec, clients) {
        Ok(action) => action,
        Err(error) => return Look::Broken { reason: error.to_string() },
    };
    let context = ActionContext {
        run: None,
        step: step.name.clone(),
        epoch: Epoch(0),
        attempt: 1,
        deadline,
        authority: Arc::new(NothingMayChange),
    };
    match tokio::time::timeout_at(deadline.into(), action.observe(&context)).await {
        Ok(observed) => Look::Observed(observed),
        Err(_) => Look::TimedOut,
    }
}

/// What a step touches, or waits for, in one line.
fn target(work: &Work) -> String {
    match work {
        Work::Action(spec) => spec.target.clone(),
        Work::Wait { duration } => duration.to_string(),
        Work::Approval { message } | Work::Task { message, .. } => message.clone(),
        Work::Gather { of, .. } if of.is_empty() => "whether its condition holds, for all that follow".into(),
        Work::Gather { of, minimum: 0 } if of.len() == 1 => "1 step".into(),
        Work::Gather { of, minimum: 0 } => format!("{} steps", of.len()),
        Work::Gather { of, minimum } => format!("{minimum} of {} steps", of.len()),
        Work::VerifyProbe { probe, hold } => format!("{probe} is up for {hold}"),
    }
}

/// What a step lacks now may be there when its turn comes: another one that comes before makes things.
fn excuse_what_is_made_before(plan: &Plan, looks: &mut BTreeMap<StepName, Look>) {
    let made = |name: &StepName| {
        let step = plan.steps.iter().find(|step| step.name == *name)?;
        let not_there_yet = !matches!(looks.get(name), Some(Look::Observed(Observed::Done { .. })));
        (step.work.action().is_some_and(|spec| spec.makes) && not_there_yet).then(|| name.clone())
    };
    let makers: BTreeMap<StepName, StepName> = plan
        .steps
        .iter()
        .filter(|step| matches!(looks.get(&step.name), Some(Look::Observed(Observed::Impossible { .. }))))
        .filter_map(|step| {
            let maker = ancestors(plan, step).into_iter().find_map(|name| made(&name))?;
            Some((step.name.clone(), maker))
        })
        .collect();
    for (step, by) in makers {
        if let Some(Look::Observed(Observed::Impossible { reason })) = looks.remove(&step) {
            looks.insert(step, Look::NotYet { by, reason });
        }
    }
}

/// All that come before a step, the nearest first.
fn ancestors(plan: &Plan, step: &Step) -> Vec<StepName> {
    let mut found = step.after.clone();
    let mut next = 0;
    while let Some(name) = found.get(next).cloned() {
        let before = plan.steps.iter().find(|step| step.name == name).map(|step| step.after.as_slice());
        for name in before.unwrap_or_default() {
            if !found.contains(name) {
                found.push(name.clone());
            }
        }
        next += 1;
    }
    found
}

/// Puts the steps into their levels, and marks the critical path.
fn assemble(settings: &Settings, plan: &Plan, mut looks: BTreeMap<StepName, Look>) -> DryRun {
    let path = critical_path(plan, |step| step.estimate.get());
    let order = topological(plan).unwrap_or_else(|_| (0..plan.steps.len()).collect());
    let mut levels: BTreeMap<&StepName, usize> = BTreeMap::new();
    for place in order {
        let step = &plan.steps[place];
        let before = step.after.iter().filter_map(|name| levels.get(name)).max().copied().unwrap_or(0);
        levels.insert(&step.name, before + 1);
    }
    let mut steps: Vec<DryStep> = plan
        .steps
        .iter()
        .map(|step| DryStep {
            name: step.name.clone(),
            kind: step.work.kind().to_string(),
            target: target(&step.work),
            after: step.after.clone(),
            level: levels.get(&step.name).copied().unwrap_or(1),
            post_recovery: step.terms.post_recovery,
            critical: path.steps.contains(&step.name),
            estimate: step.estimate,
            look: looks.remove(&step.name).unwrap_or(Look::TimedOut),
        })
        .collect();
    // Stable: within a level the order is that of the file.
    steps.sort_by_key(|step| (step.post_recovery, step.level));
    let using = settings.scenarios.iter().filter(|scenario| scenario.plan.as_ref() == Some(&plan.name));
    DryRun {
        plan: plan.name.clone(),
        hash: plan.hash(),
        budget: path.total.into(),
        scenarios: using.map(|scenario| (scenario.name.clone(), scenario.rto)).collect(),
        point_of_no_return: plan.point_of_no_return.clone(),
        steps,
        measured: Vec::new(),
    }
}

/// What the daemon has measured of the plan; nothing where it is not there, or has nothing.
async fn measured(global: &Global, plan: &PlanName) -> Vec<Budget> {
    let Ok(context) = Context::new(global) else { return Vec::new() };
    let asked = tokio::time::timeout(EVIDENCE_WITHIN, context.client.evidence()).await;
    let budgets = asked.ok().and_then(Result::ok).map(|view| view.budgets).unwrap_or_default();
    budgets.into_iter().filter(|budget| budget.plan == *plan && budget.is_measured()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, Loaded, load};

    fn example() -> Loaded {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples/minimal.toml");
        load(&LoadOptions::file_only(file)).expect("the example is good")
    }

    #[test]
    fn steps_are_put_into_levels_and_the_critical_path_is_marked() {
        let loaded = example();
        let plan = choose(&loaded.settings, None).expect("only one");
        let dry = assemble(&loaded.settings, plan, BTreeMap::new());
        let level = |name: &str| dry.steps.iter().find(|step| step.name.as_str() == name).map(|step| step.level);
        assert_eq!(level("promote"), Some(1));
        assert_eq!(level("scale"), Some(1));
        assert!(level("route") > level("promote"));
        assert!(dry.steps.is_sorted_by_key(|step| step.level));
        assert!(dry.steps.iter().any(|step| step.critical) && dry.steps.iter().any(|step| !step.critical));
        assert_eq!(dry.scenarios.len(), 1);
    }

    #[test]
    fn a_plan_is_named_or_the_only_one() {
        let loaded = example();
        assert!(choose(&loaded.settings, Some("regional-failover")).is_ok());
        let error = choose(&loaded.settings, Some("regional-failver")).expect_err("a slip");
        assert!(error.message.contains("did you mean `regional-failover`?"), "{}", error.message);
    }

    #[test]
    fn what_an_earlier_step_makes_is_not_missed() {
        let mut plan = example().settings.plans[0].clone();
        let impossible = || Look::Observed(Observed::Impossible { reason: "not there".into() });
        let scale: StepName = "scale".into();
        let later = plan.steps.iter().find(|step| ancestors(&plan, step).contains(&scale)).expect("one");
        let later = later.name.clone();
        let looks = || BTreeMap::from([(scale.clone(), impossible()), (later.clone(), impossible())]);
        let mut seen = looks();
        excuse_what_is_made_before(&plan, &mut seen);
        assert_eq!(seen, looks(), "scaling makes nothing");
        let step = plan.steps.iter_mut().find(|step| step.name == scale).expect("it is there");
        let Work::Action(spec) = &mut step.work else { panic!("it is an action") };
        spec.makes = true;
        let mut seen = looks();
        excuse_what_is_made_before(&plan, &mut seen);
        assert_eq!(seen[&later], Look::NotYet { by: scale.clone(), reason: "not there".into() });
        assert_eq!(seen[&scale], impossible());
        let mut seen = looks();
        let done = Look::Observed(Observed::Done { evidence: "there".into() });
        seen.insert(scale.clone(), done);
        excuse_what_is_made_before(&plan, &mut seen);
        assert_eq!(seen[&later], impossible(), "it has made what it makes");
    }

    #[test]
    fn nothing_may_change() {
        assert!(NothingMayChange.permit(Epoch(7)).is_err());
    }
}
