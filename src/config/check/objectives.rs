//! Can the recovery-time objective be met at all? Asked before any incident.

use std::time::Duration;

use crate::config::path::Path;
use crate::config::report::Report;
use crate::core::plan::{RecoveryBudget, recovery_budget};
use crate::model::{HumanDuration, ScenarioSettings, Settings};

/// Refuses each scenario that cannot meet its RTO, with every term of the sum.
pub fn check(settings: &Settings, report: &mut Report<'_>) {
    for scenario in &settings.scenarios {
        let at = Path::of(&["scenarios", scenario.name.as_str()]);
        if !is_sound(scenario, &at, report) {
            continue;
        }
        let Some(budget) = recovery_budget(settings, scenario) else { continue };
        let rto = scenario.rto.get();
        if budget.total <= rto {
            after_flapping(settings, scenario, budget.total, &at, report);
            continue;
        }
        let steps: Vec<String> = budget
            .plan
            .steps
            .iter()
            .map(|name| {
                let estimate = settings
                    .plan(&budget.plan_name)
                    .and_then(|plan| plan.step(name))
                    .map(|step| step.estimate)
                    .unwrap_or_default();
                format!("{name} {estimate}")
            })
            .collect();
        report.error(
            "rto_out_of_reach",
            &at.key("rto"),
            format!(
                "the RTO of {} cannot be met: {} are needed, {} too many: detection {} + {} + last look {} + plan {} × {} = {} ({})",
                scenario.rto,
                HumanDuration(budget.total),
                HumanDuration(budget.total.saturating_sub(rto)),
                HumanDuration(budget.detection),
                waits(scenario, &budget),
                HumanDuration(budget.look),
                HumanDuration(budget.plan.total),
                f64::from(settings.safety_percent) / 100.0,
                HumanDuration(budget.plan_with_safety),
                steps.join(" → "),
            ),
            "allow a longer `rto`; or shorten `confirm_for` or the `grace` of the lower layers, the probes' `interval` and `timeout`, or the `estimate` of a step that is known to be quicker; or let steps run at once",
        );
    }
}

/// What stands between the condition and the plan.
fn waits(scenario: &ScenarioSettings, budget: &RecoveryBudget) -> String {
    let confirm = format!("confirm_for {}", scenario.confirm_for);
    let beside = match &scenario.lower_layers_first {
        Some(lower) => format!("the longer one of {confirm} and the grace of {} for {}", lower.grace, lower.layer),
        None => confirm,
    };
    match budget.correlation {
        Duration::ZERO => beside,
        correlation => format!("{beside} + correlation {}", HumanDuration(correlation)),
    }
}

/// L1 is of an outage that begins at once. One that begins with flapping is acted upon later, and that may
/// be too late.
fn after_flapping(
    settings: &Settings,
    scenario: &ScenarioSettings,
    total: Duration,
    at: &Path,
    report: &mut Report<'_>,
) {
    let Some(damping) = settings.flap_damping.filter(|damping| !damping.never_suppresses()) else { return };
    let later = damping.steady_for.get().saturating_sub(scenario.confirm_for.get());
    if total.saturating_add(later) > scenario.rto.get() {
        report.warn(
            "late_after_flapping",
            &at.key("rto"),
            format!(
                "an outage that begins with flapping is acted upon {} later, after {} of steady outage, and misses the RTO of {}",
                HumanDuration(later),
                damping.steady_for,
                scenario.rto
            ),
            "shorten policy.flap_damping.steady_for, or allow a longer `rto`",
        );
    }
}

/// Where something that goes into the sum is wrong, the sum is wrong too.
fn is_sound(scenario: &ScenarioSettings, at: &Path, report: &Report<'_>) -> bool {
    let plan = scenario.plan.as_ref().map(|plan| Path::of(&["plans", plan.as_str()]));
    let tables = ["probes", "groups", "defaults", "policy"].map(|table| Path::of(&[table]));
    std::iter::once(at)
        .chain(&plan)
        .chain(&tables)
        .all(|path| !report.touches_unread(path) && !report.has_errors_below(path))
}
