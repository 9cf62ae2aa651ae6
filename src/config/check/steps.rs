//! A step: the one thing that it does, its terms, its bounds.

use std::collections::{BTreeMap, BTreeSet};

use super::common::{not_empty, not_zero};
use super::conditions::Resolver;
use super::{Names, dangling};
use crate::config::action::{ActionConfig, FAMILIES};
use crate::config::path::Path;
use crate::config::references::{References, put_back};
use crate::config::report::Report;
use crate::config::shape::{FenceNeed, File, PlanTable, RegionRole, Step as StepTable, VerifyAction, WhenConfig};
use crate::config::suggest;
use crate::core::plan as arithmetic;
use crate::model::{EffectKind, Health, HumanDuration, OnError, Step, StepGuard, StepName, Terms, Work};

/// What a step does without calling anything outside.
const OWN: [&str; 6] = ["verify", "approval", "task", "wait", "run_plan", "gather"];

/// All that a step can do, as keys of the file.
fn all_actions() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().copied().chain(OWN).filter(|name| *name != "gather")
}

/// Makes the steps of a plan.
pub struct Maker<'a, 'b> {
    /// The file.
    pub file: &'b File,
    /// What others may refer to.
    pub names: &'b Names,
    /// For the conditions.
    pub resolver: &'b mut Resolver<'a>,
    /// What is left open.
    pub references: &'b References,
    /// The plan's name.
    pub plan: &'b str,
    /// The plan.
    pub table: &'b PlanTable,
    /// What each step hands on.
    pub outputs: BTreeMap<StepName, BTreeSet<String>>,
    /// The steps that destroy something, so that a person has to say yes first.
    pub destroys: Vec<StepName>,
}

impl Maker<'_, '_> {
    /// A step whose action is wrong keeps its place, so that the order is checked all the same.
    pub fn step(&mut self, report: &mut Report<'_>, at: &Path, name: &str, table: &StepTable) -> Step {
        let work = self.work(report, at, name, table).unwrap_or(Work::Wait { duration: HumanDuration::ZERO });
        let terms = self.terms(report, at, table);
        let (timeout, estimate) = self.times(report, at, table, &work);
        if let Some(retry) = &table.retry {
            super::daemon::retry(report, &at.key("retry"), retry);
        }
        let effect = work.action().map(|spec| spec.effect);
        fence_fits(report, at, table, effect);
        on_error_fits(report, at, table, &work);
        let goes_on = effect == Some(EffectKind::Notify) || table.fence == Some(FenceNeed::BestEffort);
        Step {
            name: name.into(),
            after: table.after.iter().map(|name| name.as_str().into()).collect(),
            work,
            timeout,
            retry: table.retry.or(self.file.defaults.step.retry).unwrap_or_default(),
            on_error: table.on_error.unwrap_or(if goes_on { OnError::Continue } else { OnError::Park }),
            estimate,
            terms,
        }
    }

    /// The one thing that a step does.
    fn work(&mut self, report: &mut Report<'_>, at: &Path, name: &str, table: &StepTable) -> Option<Work> {
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
        match ActionConfig::of_step(table).into_iter().next() {
            Some((_, action)) => self.action(report, at, name, action),
            None => self.own(report, at, name, table),
        }
    }

    fn action(&mut self, report: &mut Report<'_>, at: &Path, name: &str, mut action: ActionConfig) -> Option<Work> {
        action.check(at, report);
        in_primary_region(self.file, report, at, &action);
        let taken = self.references.get(&(self.plan.to_owned(), name.to_owned()));
        let taken = taken.map(Vec::as_slice).unwrap_or_default();
        super::health_switch::set(self.file, self.names, report, at, taken, &mut action);
        let parameters = action.parameters();
        let fixed = parameters.outputs().iter().map(|output| output.name.to_string());
        let outputs = fixed.chain(parameters.named_outputs()).collect();
        self.outputs.insert(name.into(), outputs);
        if action.parameters().needs_approval() {
            self.destroys.push(name.into());
        }
        let made = action.to_spec().and_then(|mut spec| {
            put_back(&mut spec, taken)?;
            Ok(spec)
        });
        match made {
            Ok(spec) => Some(Work::Action(spec)),
            // What stands under a key that is wrong was told with the key.
            Err(_) if report.has_errors_below(at) => None,
            Err(why) => {
                report.error("bad_parameters", at, why, "write the value itself here (a path in UTF-8)");
                None
            }
        }
    }

    /// What is done without an outside call.
    fn own(&mut self, report: &mut Report<'_>, at: &Path, name: &str, table: &StepTable) -> Option<Work> {
        if let Some(VerifyAction::Probe(verify)) = &table.verify {
            let names = &self.names.probes;
            if !names.contains(&verify.probe) {
                dangling(report, &at.key("verify").key("probe").key("probe"), "probe", &verify.probe, names);
            }
            return Some(Work::VerifyProbe { probe: verify.probe.as_str().into(), hold: verify.hold });
        }
        if let Some(approval) = &table.approval {
            not_empty(report, &at.key("approval").key("message"), &approval.message);
            return Some(Work::Approval { message: approval.message.clone() });
        }
        if let Some(task) = &table.task {
            not_empty(report, &at.key("task").key("message"), &task.message);
            not_zero(report, &at.key("task").key("remind"), task.remind);
            return Some(Work::Task { message: task.message.clone(), remind: task.remind });
        }
        if let Some(gather) = &table.gather {
            let of: Vec<StepName> = gather.of.iter().map(|step| step.as_str().into()).collect();
            let outputs = of.iter().filter_map(|step| self.outputs.get(step)).flatten().cloned().collect();
            self.outputs.insert(name.into(), outputs);
            return Some(Work::Gather { of, minimum: gather.minimum });
        }
        not_zero(report, &at.key("wait"), table.wait);
        table.wait.map(|duration| Work::Wait { duration })
    }

    fn terms(&mut self, report: &mut Report<'_>, at: &Path, table: &StepTable) -> Terms {
        let mut when = Vec::new();
        if let Some(config) = &table.when {
            self.guards(report, &at.key("when"), config, &mut when);
        }
        Terms {
            when,
            only_in: table.only_in,
            post_recovery: table.post_recovery,
            scope: table.scope.prefix.clone(),
            values: table.scope.values.clone(),
            drill: crate::model::DrillPart::default(),
        }
    }

    fn guards(&mut self, report: &mut Report<'_>, at: &Path, config: &WhenConfig, when: &mut Vec<StepGuard>) {
        match config {
            WhenConfig::All(of) => {
                of.iter().enumerate().for_each(|(place, one)| self.guards(report, &at.index(place), one, when));
            }
            WhenConfig::Condition(condition) => {
                let made = self.resolver.condition(report, at, condition, Health::Down);
                when.extend(made.map(StepGuard::Holds));
            }
            WhenConfig::Step(guard) => {
                let known: BTreeSet<String> = self.table.steps.keys().cloned().collect();
                if !known.contains(&guard.step) {
                    dangling(report, &at.key("step"), "step", &guard.step, &known);
                }
                when.push(StepGuard::Step { step: guard.step.as_str().into(), ended: guard.ended });
            }
            WhenConfig::Parameter(guard) => {
                let is = match &guard.is {
                    serde_json::Value::Array(of) => of.clone(),
                    one => vec![one.clone()],
                };
                let known: BTreeSet<String> = self.table.parameters.keys().cloned().collect();
                let own = self.table.parameters.get(&guard.param);
                match own.filter(|_| guard.given.is_none()) {
                    None if guard.given.is_none() => {
                        dangling(report, &at.key("param"), "parameter", &guard.param, &known);
                    }
                    Some(own) => {
                        let own = super::plans::parameter(&guard.param, own);
                        for why in is.iter().filter_map(|value| own.accepts(value).err()) {
                            let fix = "write a value that the parameter may have";
                            report.error("wrong_value", &at.key("is"), why, fix);
                        }
                    }
                    None => {}
                }
                let open = serde_json::json!({ "param": guard.param });
                let value = guard.given.clone().unwrap_or(open);
                when.push(StepGuard::Parameter { value, name: guard.param.clone(), is });
            }
        }
    }

    /// The timeout, and how long it is expected to take.
    fn times(
        &self,
        report: &mut Report<'_>,
        at: &Path,
        table: &StepTable,
        work: &Work,
    ) -> (HumanDuration, HumanDuration) {
        not_zero(report, &at.key("timeout"), table.timeout);
        let needed = match work {
            Work::Wait { duration } => *duration,
            Work::VerifyProbe { hold, .. } => *hold,
            Work::Action(_) | Work::Approval { .. } | Work::Task { .. } | Work::Gather { .. } => HumanDuration::ZERO,
        };
        let default = self.file.defaults.step.timeout.unwrap_or(HumanDuration::secs(600));
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
        let estimate = table.estimate.unwrap_or_else(|| arithmetic::default_estimate(work, timeout));
        if estimate > timeout && table.estimate.is_some() {
            report.error(
                "timeout_too_short",
                &at.key("estimate"),
                format!("this step is expected to take {estimate}, and is given up after {timeout}"),
                "write a longer `timeout`, or a shorter `estimate`",
            );
        }
        (timeout, estimate)
    }
}

/// A replica in the region that fails is no replica to promote.
fn in_primary_region(file: &File, report: &mut Report<'_>, at: &Path, action: &ActionConfig) {
    let parameters = action.parameters();
    let elsewhere = parameters.effect() == EffectKind::Promote && !parameters.within_region();
    let Some(region) = parameters.region().filter(|_| elsewhere) else { return };
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
    let given = [
        table.verify.is_some(),
        table.approval.is_some(),
        table.task.is_some(),
        table.wait.is_some(),
        table.run_plan.is_some(),
        table.gather.is_some(),
    ];
    let outside = ActionConfig::of_step(table).into_iter().map(|(name, _)| (name, true));
    outside.chain(OWN.into_iter().zip(given)).filter(|(_, given)| *given).map(|(name, _)| name).collect()
}

/// `fence` is for fences, and says the same as `on_error`.
fn fence_fits(report: &mut Report<'_>, at: &Path, table: &StepTable, effect: Option<EffectKind>) {
    let Some(need) = table.fence else { return };
    let at = at.key("fence");
    if effect.is_some_and(|effect| effect != EffectKind::Fence) {
        report.error("no_fence", &at, "this step is no fence", "leave it out, or use an action that fences");
    }
    let contradicts = match need {
        FenceNeed::Required => table.on_error == Some(OnError::Continue),
        FenceNeed::BestEffort => table.on_error.is_some_and(|on_error| on_error != OnError::Continue),
    };
    if contradicts {
        report.error("no_fence", &at, "`fence` and `on_error` contradict each other", "leave `on_error` out");
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
