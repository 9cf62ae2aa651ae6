//! `failoverd explain`: why it does not act now, what would make it act, and when.

use std::fmt::Write as _;

use super::status::{decision, truth};
use super::style::{Style, Tone, clean};
use super::time::{moment, relative, span};
use crate::core::view::{GuardView, ScenarioView};
use crate::model::{Decision, HoldReason, Mode, Truth, WallTime};

/// Each scenario with its decision, its guards, and what comes next.
pub fn render_explain(scenarios: &[ScenarioView], now: WallTime, style: &Style) -> String {
    if scenarios.is_empty() {
        return "The configuration has no scenario.\n".into();
    }
    scenarios.iter().map(|scenario| one(scenario, now, style)).collect::<Vec<_>>().join("\n")
}

fn one(scenario: &ScenarioView, now: WallTime, style: &Style) -> String {
    let mut text = String::new();
    let (tone, holds) = truth(scenario.truth);
    let _ = writeln!(
        text,
        "{}  {}, mode {}: {}",
        style.paint(Tone::Head, scenario.name.as_str()),
        clean(&scenario.severity.to_string()),
        scenario.mode,
        style.paint(tone, holds)
    );
    let _ = writeln!(text, "  condition  {}", clean(&scenario.condition));
    let _ = writeln!(text, "  decision   {}", clean(&decision(scenario.decision.as_ref(), now)));
    if let Some(incident) = &scenario.incident {
        let _ = writeln!(text, "  incident   {incident}");
    }
    if let Some(extent) = &scenario.extent {
        let _ = writeln!(text, "  extent     {}", clean(&extent.to_string()));
    }
    if let Some(choice) = &scenario.choice {
        let _ = writeln!(text, "  chosen     {}", clean(&choice.to_string()));
    }
    if let Some(start) = scenario.outage_start {
        let _ = writeln!(text, "  outage     since {}", moment(now, start));
    }
    match scenario.deadline {
        Some(deadline) => {
            let _ = writeln!(text, "  RTO        {}, ends {}", span(scenario.rto.get()), moment(now, deadline));
        }
        None => {
            let _ = writeln!(text, "  RTO        {}", span(scenario.rto.get()));
        }
    }
    if let Some(plan) = &scenario.plan {
        let _ = writeln!(text, "  plan       {plan}, takes {}", span(scenario.budget.get()));
    }
    if let Some(at) = scenario.decide_by {
        let _ = writeln!(text, "  decide by  {}", moment(now, at));
    }
    if let Some(rpo) = scenario.rpo {
        let loss = scenario.predicted_loss.map_or("unknown".into(), |loss| span(loss.get()));
        let _ = writeln!(text, "  loss       {loss} of data, were it to fail over now; the RPO is {}", span(rpo.get()));
    }
    if !scenario.guards.is_empty() {
        let _ = writeln!(text, "  guards");
    }
    let wide = scenario.guards.iter().map(|guard| guard.name.chars().count()).max().unwrap_or(0);
    for guard in &scenario.guards {
        let _ = writeln!(text, "    {}", guard_line(guard, wide, now, style));
    }
    let _ = writeln!(text, "  {}", style.paint(Tone::Head, &next(scenario, now)));
    text
}

fn guard_line(guard: &GuardView, wide: usize, now: WallTime, style: &Style) -> String {
    let sign = if guard.passes { style.paint(Tone::Good, "✓") } else { style.paint(Tone::Bad, "✗") };
    let until =
        guard.until.filter(|_| !guard.passes).map(|at| format!(", passes {}", moment(now, at))).unwrap_or_default();
    format!("{sign} {:wide$}  {}{until}", clean(&guard.name), clean(&guard.detail))
}

/// What would make it act, and when.
fn next(scenario: &ScenarioView, now: WallTime) -> String {
    // While the condition does not hold, the guards that only say so again are no news.
    let echo = |guard: &GuardView| scenario.truth != Truth::True && ["condition", "confirming"].contains(&&*guard.name);
    let failing: Vec<&GuardView> = scenario.guards.iter().filter(|guard| !guard.passes && !echo(guard)).collect();
    let names = || failing.iter().map(|guard| clean(&guard.name)).collect::<Vec<_>>().join(", ");
    match (&scenario.decision, scenario.truth) {
        (Some(Decision::Act), _) => "→ It acts now.".into(),
        (Some(Decision::AskApproval { until }), _) => {
            let incident = scenario.incident.as_ref().map_or("INCIDENT", |incident| incident.as_str());
            format!(
                "→ It acts as soon as `failoverd approve {incident}` is given; last moment {}.",
                moment(now, *until)
            )
        }
        (Some(Decision::Hold(HoldReason::RunActive { run })), _) => {
            format!("→ It has acted: `failoverd runs {run}` shows the active run.")
        }
        (Some(Decision::Hold(HoldReason::AlreadyRun { run })), _) => {
            format!("→ It has acted for this incident and does not again: `failoverd runs {run}`.")
        }
        _ if scenario.plan.is_none() => "→ It never acts: the scenario names no plan.".into(),
        _ if scenario.mode == Mode::AlertOnly => "→ It never acts in mode alert-only.".into(),
        (_, Truth::False | Truth::Unknown) if failing.is_empty() => {
            format!("→ It would {} once the condition holds and is confirmed.", verb(scenario.mode))
        }
        (_, Truth::False | Truth::Unknown) => {
            format!("→ Even if the condition held now, it would wait for: {}.", names())
        }
        (_, Truth::True) if failing.is_empty() => format!("→ It is about to {}.", verb(scenario.mode)),
        (_, Truth::True) => match failing.iter().map(|guard| guard.until).max().flatten() {
            // `None` sorts first, so all of them must be known for the latest to tell.
            Some(last) if failing.iter().all(|guard| guard.until.is_some()) => {
                format!(
                    "→ It will {} {} if nothing changes, at the earliest.",
                    verb(scenario.mode),
                    relative(now, last)
                )
            }
            _ => format!("→ It will {} once these pass: {}.", verb(scenario.mode), names()),
        },
    }
}

fn verb(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "act",
        Mode::Approve => "ask for approval",
        Mode::AlertOnly => "alert",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample::{NOW, guard, hence, outage, quiet};

    #[test]
    fn a_scenario_that_is_quiet_and_one_that_waits() {
        insta::assert_snapshot!(render_explain(
            &[outage().scenarios.remove(0), quiet().scenarios.remove(0)],
            NOW,
            &Style::default()
        ));
    }

    #[test]
    fn says_what_would_make_it_act() {
        let mut scenario = outage().scenarios.remove(0);
        scenario.mode = Mode::Auto;
        scenario.decision = Some(Decision::Hold(HoldReason::CoolDown { until: hence(120) }));
        scenario.guards =
            vec![guard("cool-down", false, "", Some(hence(120))), guard("grace", false, "", Some(hence(60)))];
        assert_eq!(next(&scenario, NOW), "→ It will act in 2 min if nothing changes, at the earliest.");
        scenario.guards.push(guard("standby", false, "standby is down", None));
        assert_eq!(next(&scenario, NOW), "→ It will act once these pass: cool-down, grace, standby.");
        scenario.truth = Truth::False;
        assert!(next(&scenario, NOW).starts_with("→ Even if the condition held now, it would wait for: cool-down"));
        scenario.guards = vec![guard("condition", false, "it does not hold", None)];
        assert_eq!(next(&scenario, NOW), "→ It would act once the condition holds and is confirmed.");
        scenario.decision = Some(Decision::Hold(HoldReason::RunActive { run: "RUN-1".into() }));
        assert!(next(&scenario, NOW).contains("`failoverd runs RUN-1`"));
        scenario.decision = None;
        scenario.mode = Mode::AlertOnly;
        assert_eq!(next(&scenario, NOW), "→ It never acts in mode alert-only.");
        scenario.plan = None;
        assert!(next(&scenario, NOW).contains("names no plan"));
    }
}
