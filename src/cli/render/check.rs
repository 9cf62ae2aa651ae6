//! `failoverd check`, where the configuration is good: the arithmetic of each scenario.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::style::{Style, Tone, clean, lines};
use super::time::span;
use crate::core::correlate::correlation_budget;
use crate::core::plan::{detection_budget, look_budget, recovery_budget};
use crate::model::{HumanDuration, LowerLayers, Mode, PlanName, ScenarioName, Settings, Severity, StepName};

/// What a scenario needs at most, held against its objective.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Objective {
    /// The scenario.
    pub scenario: ScenarioName,
    /// Its severity.
    pub severity: Severity,
    /// The mode that holds for it.
    pub mode: Mode,
    /// From the outage to the condition.
    pub detection: HumanDuration,
    /// For which the condition must hold.
    pub confirm_for: HumanDuration,
    /// A failover below it that may mend the outage first; its grace runs beside `confirm_for`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower_layers_first: Option<LowerLayers>,
    /// After both, at most: until it is clear that no broader scenario is meant.
    pub correlation: HumanDuration,
    /// The last look before the first change, at most.
    pub look: HumanDuration,
    /// What is carried out; `None` where it alerts only.
    pub plan: Option<PlannedTime>,
    /// The objective.
    pub rto: HumanDuration,
}

/// The share of the plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedTime {
    /// The plan.
    pub name: PlanName,
    /// Its longest chain.
    pub critical_path: Vec<StepName>,
    /// How long that chain takes, with the safety factor of the policy.
    pub budget: HumanDuration,
    /// What is left of the objective: in mode `approve`, the time that a person has to answer.
    pub slack: HumanDuration,
}

/// The arithmetic of each scenario, the most severe first.
pub fn objectives(settings: &Settings) -> Vec<Objective> {
    let one = |scenario: &crate::model::ScenarioSettings| Objective {
        scenario: scenario.name.clone(),
        severity: scenario.severity.clone(),
        mode: scenario.mode.max(settings.mode),
        detection: detection_budget(settings, &scenario.when).into(),
        confirm_for: scenario.confirm_for,
        lower_layers_first: scenario.lower_layers_first.clone(),
        correlation: correlation_budget(settings, scenario).into(),
        look: look_budget(settings, scenario).into(),
        plan: recovery_budget(settings, scenario).map(|budget| PlannedTime {
            name: budget.plan_name,
            critical_path: budget.plan.steps,
            budget: budget.plan_with_safety.into(),
            slack: scenario.rto.get().saturating_sub(budget.total).into(),
        }),
        rto: scenario.rto,
    };
    settings.scenarios.iter().map(one).collect()
}

/// The table of the objectives.
pub fn render_objectives(objectives: &[Objective], style: &Style) -> String {
    if objectives.is_empty() {
        return "There is no scenario: nothing is watched for.\n".into();
    }
    let mut table = style.table(&[
        "SCENARIO",
        "SEV",
        "MODE",
        "DETECT",
        "+ CONFIRM",
        "+ LOOK",
        "+ PLAN",
        "+ SLACK",
        "= RTO",
        "CRITICAL PATH",
    ]);
    for objective in objectives {
        let plan = objective.plan.as_ref();
        let time = |time: Option<HumanDuration>| time.map_or("-".into(), |time| span(time.get()));
        let path = plan.map_or("alerts only: no plan".into(), |plan| {
            plan.critical_path.iter().map(StepName::as_str).collect::<Vec<_>>().join(" → ")
        });
        // Nothing to spare today is a miss on the first slow day.
        let tight = plan.is_some_and(|plan| plan.slack.get() < objective.rto.get() / 10);
        table.add_row([
            style.cell(Tone::Head, objective.scenario.as_str()),
            style.cell(Tone::Plain, objective.severity.to_string()),
            style.cell(Tone::Plain, objective.mode.to_string()),
            style.cell(Tone::Plain, detection(objective.detection.get())),
            style.cell(Tone::Plain, waits(objective)),
            style.cell(Tone::Plain, time(plan.map(|_| objective.look))),
            style.cell(Tone::Plain, time(plan.map(|plan| plan.budget))),
            style.cell(if tight { Tone::Warn } else { Tone::Good }, time(plan.map(|plan| plan.slack))),
            style.cell(Tone::Plain, span(objective.rto.get())),
            style.cell(Tone::Dim, path),
        ]);
    }
    let mut text = lines(&table);
    for objective in objectives.iter().filter(|one| one.plan.is_some()) {
        if let Some(line) = explained(objective) {
            let _ = writeln!(text, "{}", style.paint(Tone::Dim, &line));
        }
    }
    let asked = objectives.iter().filter(|one| one.mode == Mode::Approve && one.plan.is_some());
    let least = asked.filter_map(|one| Some((one.plan.as_ref()?.slack.get(), &one.scenario))).min();
    if let Some((slack, scenario)) = least {
        let line = format!("A person has {} at most to answer ({scenario}).", span(slack));
        let _ = writeln!(text, "{}", style.paint(Tone::Dim, &line));
    }
    text
}

/// What stands between the condition and the plan, at most.
fn waits(objective: &Objective) -> String {
    let grace = objective.lower_layers_first.as_ref().map(|lower| lower.grace.get()).unwrap_or_default();
    let beside = span(objective.confirm_for.get().max(grace));
    match objective.correlation.get() {
        Duration::ZERO => beside,
        correlation => format!("{beside} + {}", span(correlation)),
    }
}

/// Where that is more than `confirm_for`, what it is made of.
fn explained(objective: &Objective) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(lower) = &objective.lower_layers_first {
        let (grace, confirm) = (span(lower.grace.get()), span(objective.confirm_for.get()));
        parts.push(format!("{} may mend it by itself for {grace}, beside confirm_for {confirm}", clean(&lower.layer)));
    }
    if !objective.correlation.get().is_zero() {
        let most = span(objective.correlation.get());
        parts.push(format!("up to {most} more until it is clear that no broader scenario is meant"));
    }
    (!parts.is_empty()).then(|| format!("{}: {}.", objective.scenario, parts.join("; ")))
}

fn detection(time: Duration) -> String {
    if time == Duration::MAX { "never".into() } else { format!("≤ {}", span(time)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective(mode: Mode, slack: u64) -> Objective {
        Objective {
            scenario: "regional-outage".into(),
            severity: Severity("P0".into()),
            mode,
            detection: HumanDuration::secs(7),
            confirm_for: HumanDuration::secs(30),
            lower_layers_first: None,
            correlation: HumanDuration::ZERO,
            look: HumanDuration::secs(1),
            plan: Some(PlannedTime {
                name: "regional-failover".into(),
                critical_path: vec!["promote".into(), "route".into()],
                budget: HumanDuration::secs(400),
                slack: HumanDuration::secs(slack),
            }),
            rto: HumanDuration::secs(900),
        }
    }

    #[test]
    fn the_sum_of_each_scenario() {
        let mut alerts = objective(Mode::AlertOnly, 0);
        alerts.plan = None;
        alerts.detection = Duration::MAX.into();
        let mut layered = objective(Mode::Auto, 100);
        layered.scenario = "database-failure".into();
        layered.lower_layers_first = Some(LowerLayers { grace: HumanDuration::secs(90), layer: "RDS Multi-AZ".into() });
        layered.correlation = HumanDuration::secs(7);
        let all = [layered, objective(Mode::Approve, 463), objective(Mode::Auto, 10), alerts];
        insta::assert_snapshot!(render_objectives(&all, &Style::default()));
        assert!(render_objectives(&[], &Style::default()).contains("nothing is watched for"));
    }
}
