//! `failoverd plan`: a plan looked at without doing it.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::evidence::render_budgets;
use super::style::{Style, Tone, clean, lines};
use super::time::span;
use crate::core::evidence::Budget;
use crate::model::{HumanDuration, Observed, PlanHash, PlanName, ScenarioName, StepName};

/// A plan and what its steps see now.
#[derive(Clone, Debug, Serialize)]
pub struct DryRun {
    /// The plan.
    pub plan: PlanName,
    /// Its hash.
    pub hash: PlanHash,
    /// How long its critical path takes.
    pub budget: HumanDuration,
    /// The scenarios that use it, with their recovery-time objectives.
    pub scenarios: Vec<(ScenarioName, HumanDuration)>,
    /// Its point of no return.
    pub point_of_no_return: Option<StepName>,
    /// Its steps, each after those that it waits for.
    pub steps: Vec<DryStep>,
    /// What runs and drills have measured, for each scenario that uses it, where the daemon tells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<Budget>,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct DryStep {
    /// Its name.
    pub name: StepName,
    /// `family.verb`.
    pub kind: String,
    /// What it touches.
    pub target: String,
    /// What comes before it.
    pub after: Vec<StepName>,
    /// From 1: those of one level can be done at the same time.
    pub level: usize,
    /// Does it come after the recovery?
    pub post_recovery: bool,
    /// Is it on the critical path?
    pub critical: bool,
    /// How long it is expected to take.
    pub estimate: HumanDuration,
    /// What it sees now.
    pub look: Look,
}

/// What a step sees now.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// What its action said.
    Observed(Observed),
    /// The daemon does it by itself; there is nothing to look at from here.
    ByDaemon,
    /// A value of it is known only later.
    Later {
        /// Which.
        values: String,
    },
    /// It cannot be done now; but a step before it makes things, maybe what it lacks.
    NotYet {
        /// That step.
        by: StepName,
        /// What it lacks.
        reason: String,
    },
    /// It is left out.
    LeftOut {
        /// Why.
        why: String,
    },
    /// The action cannot even be built.
    Broken {
        /// Why.
        reason: String,
    },
    /// It did not answer in time.
    TimedOut,
}

impl Look {
    /// Would the step stand in the way of a run that began now?
    pub fn is_in_the_way(&self) -> bool {
        matches!(
            self,
            Self::Broken { .. }
                | Self::TimedOut
                | Self::Observed(Observed::Impossible { .. } | Observed::Unknown { .. })
        )
    }

    fn words(&self) -> (Tone, String) {
        match self {
            Self::Observed(Observed::NotDone { evidence, .. }) => (Tone::Good, format!("○ ready: {evidence}")),
            Self::Observed(Observed::Done { evidence }) => (Tone::Good, format!("✓ done already: {evidence}")),
            Self::Observed(Observed::InProgress { evidence }) => (Tone::Warn, format!("▶ under way: {evidence}")),
            Self::Observed(Observed::Impossible { reason }) => (Tone::Bad, format!("✗ impossible: {reason}")),
            Self::Observed(Observed::Unknown { reason }) => (Tone::Bad, format!("? cannot look: {reason}")),
            Self::Observed(Observed::Unobservable) => (Tone::Dim, "· nothing to look at".into()),
            Self::ByDaemon => (Tone::Dim, "· done by the daemon itself".into()),
            Self::Later { values } => (Tone::Dim, format!("· cannot look yet: {values} is known only later")),
            Self::NotYet { by, reason } => (Tone::Warn, format!("· not before {by}: {reason}")),
            Self::LeftOut { why } => (Tone::Dim, format!("· left out: {why}")),
            Self::Broken { reason } => (Tone::Bad, format!("✗ {reason}")),
            Self::TimedOut => (Tone::Bad, "? did not answer in time".into()),
        }
    }
}

/// The plan by levels, the critical path marked, with what each step sees now.
pub fn render_plan(plan: &DryRun, style: &Style) -> String {
    let mut text = String::new();
    let head = format!("Plan {} ({})", plan.plan, plan.hash.short());
    let _ =
        writeln!(text, "{}  takes {}; nothing was changed", style.paint(Tone::Head, &head), span(plan.budget.get()));
    for (scenario, rto) in &plan.scenarios {
        let _ = writeln!(text, "  for {scenario}: RTO {}, {}", span(rto.get()), slack(plan.budget.get(), rto.get()));
    }
    let mut table = style.table(&["LEVEL", "", "STEP", "AFTER", "EXPECTED", "WHAT", "NOW"]);
    let mut shown = String::new();
    for step in &plan.steps {
        let own = if step.post_recovery { "after".to_owned() } else { step.level.to_string() };
        let level = if own == shown { String::new() } else { own.clone() };
        shown = own;
        let after = step.after.iter().map(StepName::as_str).collect::<Vec<_>>().join(", ");
        let flag = if plan.point_of_no_return.as_ref() == Some(&step.name) { " ⚑" } else { "" };
        let (tone, words) = step.look.words();
        table.add_row([
            style.cell(Tone::Dim, level),
            style.cell(Tone::Warn, if step.critical { "┃" } else { " " }),
            style.cell(Tone::Head, format!("{}{flag}", step.name)),
            style.cell(Tone::Dim, if after.is_empty() { "-".into() } else { after }),
            style.cell(Tone::Plain, span(step.estimate.get())),
            style.cell(Tone::Plain, format!("{} {}", step.kind, step.target)),
            style.cell(tone, words),
        ]);
    }
    text.push_str(&lines(&table));
    let flag = if plan.point_of_no_return.is_some() { "   ⚑ point of no return" } else { "" };
    let _ = writeln!(text, "{}", style.paint(Tone::Dim, &format!("┃ critical path{flag}")));
    let stuck: Vec<&str> =
        plan.steps.iter().filter(|step| step.look.is_in_the_way()).map(|step| step.name.as_str()).collect();
    if stuck.is_empty() {
        let _ = writeln!(text, "{}", style.paint(Tone::Good, "Nothing stands in the way of this plan now."));
    } else {
        let line = format!("A run that began now would stand still at: {}", clean(&stuck.join(", ")));
        let _ = writeln!(text, "{}", style.paint(Tone::Bad, &line));
    }
    text.push_str(&render_budgets(&plan.measured, style));
    text
}

/// How much of the objective is left beside the plan.
fn slack(budget: Duration, rto: Duration) -> String {
    match rto.checked_sub(budget) {
        Some(left) => format!("{} left to detect and decide", span(left)),
        None => format!("TOO SHORT by {}", span(budget.saturating_sub(rto))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, after: &[&str], level: usize, critical: bool, look: Look) -> DryStep {
        DryStep {
            name: name.into(),
            kind: format!("test.{name}"),
            target: "shop".into(),
            after: after.iter().map(|&after| after.into()).collect(),
            level,
            post_recovery: false,
            critical,
            estimate: HumanDuration::secs(30),
            look,
        }
    }

    fn dry() -> DryRun {
        let ready = Look::Observed(Observed::NotDone { evidence: "available".into(), before: serde_json::Value::Null });
        DryRun {
            plan: "regional-failover".into(),
            hash: PlanHash::from("0123456789abcdef"),
            budget: HumanDuration::secs(60),
            scenarios: vec![
                ("regional-outage".into(), HumanDuration::secs(900)),
                ("tight".into(), HumanDuration::secs(50)),
            ],
            point_of_no_return: Some("promote".into()),
            steps: vec![
                step("fence", &[], 1, true, ready.clone()),
                step("scale", &[], 1, false, Look::Observed(Observed::Done { evidence: "10 of 10 ready".into() })),
                step("promote", &["fence"], 2, true, ready),
                step("tell", &["promote"], 3, false, Look::Observed(Observed::Unobservable)),
                step("check", &["promote"], 3, false, Look::ByDaemon),
            ],
            measured: Vec::new(),
        }
    }

    #[test]
    fn a_plan_that_could_be_carried_out() {
        insta::assert_snapshot!(render_plan(&dry(), &Style::default()));
    }

    #[test]
    fn what_comes_after_the_recovery_and_what_is_made_first_is_told() {
        let mut plan = dry();
        let reason = "NotFound".to_owned();
        plan.steps[2].look = Look::NotYet { by: "scale".into(), reason };
        plan.steps[4].post_recovery = true;
        let text = render_plan(&plan, &Style::default());
        assert!(text.contains("· not before scale: NotFound") && text.contains("Nothing stands in the way"), "{text}");
        assert!(text.lines().any(|line| line.contains(" after ") && line.contains("check")), "{text}");
    }

    #[test]
    fn names_what_stands_in_the_way() {
        let mut plan = dry();
        plan.steps[0].look = Look::Observed(Observed::Impossible { reason: "there is no such instance".into() });
        plan.steps[1].look = Look::TimedOut;
        let text = render_plan(&plan, &Style::default());
        assert!(text.contains("✗ impossible: there is no such instance"), "{text}");
        assert!(text.contains("would stand still at: fence, scale"), "{text}");
    }
}
