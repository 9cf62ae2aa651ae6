//! What runs and drills have measured of a plan.

use std::fmt::Write as _;

use super::style::{Style, Tone, clean, lines};
use super::time::span;
use crate::core::evidence::{Budget, Quantiles, Source};

/// How long the plan really takes, for each scenario, and each of its steps. Empty where nothing was
/// measured.
pub fn render_budgets(budgets: &[Budget], style: &Style) -> String {
    let Some(first) = budgets.first() else { return String::new() };
    let mut text = format!("\n{}\n", style.paint(Tone::Head, "Measured"));
    for found in budgets {
        let chance = found.chance.map_or_else(|| "unknown".to_owned(), percent);
        let line = format!(
            "  for {}: p50 {}, p95 {}, longest {}; chance to meet the RTO of {}: {chance}; decide within {} of the outage",
            clean(found.scenario.as_str()),
            span(found.p50.get()),
            span(found.p95.get()),
            span(found.max.get()),
            span(found.rto.get()),
            span(found.decide_within.get()),
        );
        let _ = writeln!(text, "{}", style.paint(if found.fits { Tone::Plain } else { Tone::Warn }, &line));
        if !found.fits {
            let over = found.total.get().saturating_sub(found.rto.get());
            let line = format!("  TOO SHORT by {}: with its safety it takes {}", span(over), span(found.total.get()));
            let _ = writeln!(text, "{}", style.paint(Tone::Bad, &line));
        }
    }
    let mut table = style.table(&["STEP", "", "RUNS", "DRILLS", "EXPECTED", "FROM"]);
    for step in &first.steps {
        let from = match step.source {
            Source::Estimate => (Tone::Dim, "estimate"),
            source => (Tone::Plain, source.name()),
        };
        table.add_row([
            style.cell(Tone::Head, step.step.as_str()),
            style.cell(Tone::Warn, if first.critical.contains(&step.step) { "┃" } else { " " }),
            style.cell(Tone::Plain, quantiles(step.runs.as_ref())),
            style.cell(Tone::Plain, quantiles(step.drills.as_ref())),
            style.cell(Tone::Plain, span(step.expected.get())),
            style.cell(from.0, from.1),
        ]);
    }
    text.push_str(&lines(&table));
    text
}

/// Never a certainty that nobody has: a share of runs that were put together is none.
fn percent(chance: f64) -> String {
    match chance {
        0.995.. => "> 99 %".into(),
        ..0.005 => "< 1 %".into(),
        chance => format!("{:.0} %", chance * 100.0),
    }
}

fn quantiles(measured: Option<&Quantiles>) -> String {
    measured.map_or_else(
        || "-".to_owned(),
        |found| {
            let (p50, p95, max) = (span(found.p50.get()), span(found.p95.get()), span(found.max.get()));
            format!("{}× {p50} / {p95} / {max}", found.count)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::evidence::StepEvidence;
    use crate::model::HumanDuration;

    #[test]
    fn what_was_measured_is_told_with_the_chance_and_where_it_is_from() {
        let secs = HumanDuration::secs;
        let of = |count, p50, p95| Some(Quantiles { count, p50: secs(p50), p95: secs(p95), max: secs(p95 + 1) });
        let step = |name: &str, runs, drills, source, expected| StepEvidence {
            step: name.into(),
            runs,
            drills,
            source,
            expected: secs(expected),
        };
        let found = Budget {
            scenario: "regional-outage".into(),
            plan: "failover".into(),
            rto: secs(300),
            before: secs(43),
            p50: secs(120),
            p95: secs(230),
            max: secs(231),
            critical: vec!["promote".into()],
            total: secs(319),
            fits: false,
            chance: Some(0.934),
            decide_within: secs(24),
            steps: vec![
                step("promote", of(2, 90, 110), of(6, 120, 230), Source::Drills, 230),
                step("tell", None, None, Source::Estimate, 10),
            ],
        };
        insta::assert_snapshot!(render_budgets(&[found], &Style::default()));
        assert_eq!(render_budgets(&[], &Style::default()), "");
        assert_eq!([1.0, 0.5, 0.0].map(percent), ["> 99 %", "50 %", "< 1 %"]);
    }
}
