//! `failoverd readiness`.

use std::fmt::Write as _;

use super::style::{Style, Tone, clean, lines};
use super::time::{moment, span};
use crate::cli::readiness::word;
use crate::model::{Drift, Finding, Looked, PlanReadiness, Readiness, RegionName, StepReadiness, WallTime};

/// Each plan: its verdict, its steps, the dependency proof, and what has drifted.
pub fn render_readiness(plans: &[&PlanReadiness], now: WallTime, style: &Style) -> String {
    if plans.is_empty() {
        return "the configuration has no plan\n".into();
    }
    plans.iter().map(|plan| one(plan, now, style)).collect::<Vec<_>>().join("\n")
}

fn tone(verdict: &Readiness) -> Tone {
    match verdict {
        Readiness::Ready => Tone::Good,
        Readiness::NotReady { .. } => Tone::Bad,
        Readiness::Unknown { .. } => Tone::Warn,
    }
}

fn one(plan: &PlanReadiness, now: WallTime, style: &Style) -> String {
    let mut text = String::new();
    let later = match plan.later() {
        0 => String::new(),
        1 => ", but for 1 step that cannot be looked at before the run".to_owned(),
        steps => format!(", but for {steps} steps that cannot be looked at before the run"),
    };
    let _ = writeln!(
        text,
        "{}  {}{later}  looked at {}, for {}",
        style.paint(Tone::Head, &clean(plan.plan.as_str())),
        style.paint(tone(&plan.verdict), word(&plan.verdict)),
        moment(now, plan.at),
        span(plan.took.get()),
    );
    if plan.verdict != Readiness::Ready {
        let _ = writeln!(text, "{}", style.paint(tone(&plan.verdict), &clean(plan.verdict.reason())));
    }
    let _ = write!(text, "\n{}", steps(plan, style));
    if !plan.lost.is_empty() {
        let _ = write!(text, "\n{}", proof(plan, style));
    }
    if let Some(good) = plan.last_good.filter(|_| !plan.drift.is_empty()) {
        let _ = writeln!(
            text,
            "\n{}",
            style.paint(Tone::Head, &format!("Different from {}, when it was last ready", moment(now, good)))
        );
        plan.drift.iter().for_each(|drift| text.push_str(&differs(drift, style)));
    }
    text
}

fn steps(plan: &PlanReadiness, style: &Style) -> String {
    let mut table = style.table(&["STEP", "VERDICT", "ASPECT", "OF", "DETAIL"]);
    for step in &plan.steps {
        match &step.looked {
            Looked::Found(findings) => findings.iter().for_each(|finding| {
                table.add_row(row(step.step.as_str(), finding, style));
            }),
            other => {
                table.add_row(unlooked(step, other, style));
            }
        }
    }
    for finding in &plan.general {
        table.add_row(row("-", finding, style));
    }
    lines(&table)
}

fn row(step: &str, finding: &Finding, style: &Style) -> Vec<comfy_table::Cell> {
    vec![
        style.cell(Tone::Head, step),
        style.cell(tone(&finding.verdict), word(&finding.verdict)),
        style.cell(Tone::Plain, finding.aspect.name()),
        style.cell(Tone::Plain, finding.subject.as_str()),
        style.cell(if finding.verdict == Readiness::Ready { Tone::Dim } else { Tone::Plain }, detail(finding)),
    ]
}

fn unlooked(step: &StepReadiness, looked: &Looked, style: &Style) -> Vec<comfy_table::Cell> {
    let (verdict, why) = match looked {
        Looked::Later { why } => ("later", why.as_str()),
        Looked::LeftOut { why } => ("left out", why.as_str()),
        Looked::Own | Looked::Found(_) => ("-", "failoverd does it itself"),
    };
    [step.step.as_str(), verdict, "-", step.kind.as_str(), why].map(|text| style.cell(Tone::Dim, text)).into()
}

/// Why, else what was seen.
fn detail(finding: &Finding) -> String {
    match finding.verdict.reason() {
        "" => {
            let facts = finding.seen.iter().chain(&finding.measured);
            facts.map(|(fact, value)| format!("{fact}: {value}")).collect::<Vec<_>>().join("; ")
        }
        reason => reason.to_owned(),
    }
}

fn proof(plan: &PlanReadiness, style: &Style) -> String {
    let lost: Vec<&str> = plan.lost.iter().map(RegionName::as_str).collect();
    let head = format!("Dependency proof: without {}", lost.join(", "));
    let mut table = style.table(&["HANGS ON", "VERDICT", "PLACE", "USED BY", "DETAIL"]);
    for finding in &plan.proof {
        let fact = |name: &str| finding.seen.get(name).map_or("-", String::as_str);
        let detail = if finding.verdict == Readiness::Ready { fact("may be lost") } else { finding.verdict.reason() };
        table.add_row([
            style.cell(Tone::Plain, finding.subject.as_str()),
            style.cell(tone(&finding.verdict), word(&finding.verdict)),
            style.cell(Tone::Plain, fact("place")),
            style.cell(Tone::Plain, fact("used by")),
            style.cell(Tone::Plain, detail),
        ]);
    }
    format!("{}\n{}", style.paint(Tone::Head, &head), lines(&table))
}

fn differs(drift: &Drift, style: &Style) -> String {
    let step = drift.step.as_ref().map(|step| format!("{step}: ")).unwrap_or_default();
    let about = format!("{step}{}: {}", drift.subject, drift.fact);
    let side = |sign: &str, value: Option<&String>, tone: Tone| match value {
        Some(value) => format!("  {}\n", style.paint(tone, &clean(&format!("{sign} {about}: {value}")))),
        None => String::new(),
    };
    side("-", drift.was.as_ref(), Tone::Bad) + &side("+", drift.is.as_ref(), Tone::Good)
}
