//! `failoverd drill --list`.

use super::style::{Style, Tone, clean, lines};
use super::time::{moment, relative};
use crate::core::matrix::{DrillView, EvidenceView};
use crate::model::{DrillVerdict, WallTime};

/// The drills: when each is due next, and what came of the newest.
pub fn render_drills(view: &EvidenceView, now: WallTime, style: &Style) -> String {
    if view.drills.is_empty() {
        return "No plan has a drill: add [plans.PLAN.drills.TARGET] to the configuration.\n".into();
    }
    let mut table = style.table(&["PLAN", "TARGET", "NEXT", "SCHEDULE", "LAST", "MISSED"]);
    for drill in &view.drills {
        let next = match (drill.next, &drill.schedule) {
            (Some(at), _) => (Tone::Plain, moment(now, at)),
            (None, Some(_)) => (Tone::Warn, "never".into()),
            (None, None) => (Tone::Dim, "by hand".into()),
        };
        let mut schedule = drill.schedule.clone().unwrap_or_else(|| "-".into());
        if !drill.blocked.is_empty() {
            schedule = format!("{schedule}, but not {}", drill.blocked.join(", "));
        }
        let last = drill.last.as_ref().map_or((Tone::Dim, "-".to_owned()), |last| {
            let clean = if last.is_clean { "" } else { ", not cleaned up yet" };
            let tone = if last.verdict == DrillVerdict::Passed { Tone::Good } else { Tone::Bad };
            (tone, format!("{}{clean}, {} ({})", last.verdict, relative(now, last.at), last.run))
        });
        let missed = drill
            .missed
            .as_ref()
            .map_or((Tone::Dim, "-".to_owned()), |(at, why)| (Tone::Warn, format!("{}: {why}", relative(now, *at))));
        table.add_row([
            style.cell(Tone::Head, drill.plan.as_str()),
            style.cell(Tone::Head, drill.target.as_str()),
            style.cell(next.0, next.1),
            style.cell(Tone::Dim, schedule),
            style.cell(last.0, last.1),
            style.cell(missed.0, missed.1),
        ]);
    }
    lines(&table)
}

/// What somebody is asked before a drill.
pub fn render_going(plan: &str, target: Option<&str>, of_plan: &[&DrillView]) -> String {
    let only = of_plan.first().filter(|_| of_plan.len() == 1).map(|drill| drill.target.as_str());
    let on = target.or(only).map(|target| format!(" on {target}")).unwrap_or_default();
    clean(&format!("Rehearse plan {plan}{on} now? Its stand-ins are changed; a real incident stops it."))
}
