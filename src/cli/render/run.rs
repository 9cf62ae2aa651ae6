//! `failoverd runs`, and the run within `status` and `watch`.

use std::fmt::Write as _;

use super::style::{Style, Tone, clean, lines};
use super::time::{absolute, moment, relative, span, whole};
use crate::core::view::{RunView, StepStateView, StepView};
use crate::model::{DrillVerdict, RunResult, WallTime};

/// One run: where it stands against the RTO, and each step.
pub fn render_run(run: &RunView, now: WallTime, style: &Style) -> String {
    let mut text = String::new();
    let (tone, state) = state(run);
    let _ = writeln!(
        text,
        "{}  {} → plan {} ({})  epoch {}  {}",
        style.paint(Tone::Head, run.id.as_str()),
        run.scenario,
        run.plan,
        run.plan_hash.short(),
        run.epoch,
        style.paint(tone, &clean(&state)),
    );
    let _ = writeln!(text, "  started   {}, {}", moment(now, run.started), clean(&run.trigger));
    let _ = writeln!(text, "  outage    since {}", moment(now, run.outage_start));
    let _ = writeln!(text, "  RTO       {}", objective(run, now, style));
    if run.ended.is_none() && run.drill_on.is_none() {
        let undo = if run.past_no_return {
            "no longer: past its point of no return, forward only"
        } else {
            "still possible: `failoverd abort`"
        };
        let _ = writeln!(text, "  undo      {undo}");
    }
    if run.last_look {
        let _ = writeln!(text, "  waiting   for the last look at the primary before the point of no return");
    }
    if run.ended.is_some() {
        let split = run.split;
        let _ = writeln!(
            text,
            "  time      detect {} + decide {} + execute {} + verify {} = {}",
            span(split.detect.get()),
            span(split.decide.get()),
            span(split.execute.get()),
            span(split.verify.get()),
            span(split.detect.get() + split.decide.get() + split.execute.get() + split.verify.get()),
        );
    }
    text.push_str(&steps(run, now, style));
    for step in run.steps.iter().filter(|step| waits_for_somebody(step)) {
        let _ = writeln!(text, "{}", style.paint(Tone::Bad, &parked_hint(run, step)));
    }
    text
}

/// A step that was given up for now, or one whose work is to ask.
fn waits_for_somebody(step: &StepView) -> bool {
    let asks = step.kind == "approval" && step.started.is_some();
    step.state == StepStateView::Parked || asks && step.state == StepStateView::Waiting
}

fn parked_hint(run: &RunView, step: &StepView) -> String {
    let name = &step.name;
    if step.kind == "approval" {
        return format!("→ {name} waits for a yes: `failoverd step approve {name}`, or `failoverd abort`");
    }
    let abort = if run.past_no_return || run.drill_on.is_some() { "" } else { ", `failoverd abort`" };
    format!("→ {name} needs somebody: `failoverd step retry {name}`, `failoverd step skip {name}`{abort}")
}

/// A drill that was judged.
fn judged(run: &RunView, verdict: &DrillVerdict) -> (Tone, String) {
    let parked = run.steps.iter().any(|step| step.state == StepStateView::Parked);
    let (tone, does) = match (&run.set_aside, run.ended) {
        (Some(by), _) => (Tone::Warn, format!(", set aside: {by}")),
        (None, None) if parked => (Tone::Bad, ", PARKED while cleaning up".into()),
        (None, None) => (Tone::Warn, ", cleaning up".into()),
        (None, Some(_)) => (if *verdict == DrillVerdict::Passed { Tone::Good } else { Tone::Warn }, String::new()),
    };
    (tone, format!("DRILL {verdict}{does}"))
}

fn state(run: &RunView) -> (Tone, String) {
    if let Some(verdict) = &run.verdict {
        return judged(run, verdict);
    }
    match (run.result, &run.aborting_by) {
        (Some(RunResult::Done), _) => (Tone::Good, "DONE".into()),
        (Some(RunResult::Aborted), _) => (Tone::Warn, "ABORTED".into()),
        (None, Some(by)) => (Tone::Warn, format!("ABORTING ({by})")),
        (None, None) if run.steps.iter().any(|step| step.state == StepStateView::Parked) => {
            (Tone::Bad, "PARKED".into())
        }
        (None, None) => (Tone::Warn, "RUNNING".into()),
    }
}

/// How much of the RTO is used up, as a bar and in words.
fn objective(run: &RunView, now: WallTime, style: &Style) -> String {
    let end = run.ended.unwrap_or(now);
    let rto = run.deadline.since(run.outage_start);
    let used = end.since(run.outage_start);
    let late = end > run.deadline;
    let words = match (run.ended, late) {
        (Some(_), false) => format!("met: {} of {} used", span(used), span(rto)),
        (Some(_), true) => format!("MISSED by {}: took {} of {}", span(end.since(run.deadline)), span(used), span(rto)),
        (None, false) => format!("{} left of {}", whole_left(run.deadline, now), span(rto)),
        (None, true) => format!("MISSED {}", relative(now, run.deadline)),
    };
    let parts = if rto.is_zero() { 20 } else { (used.as_millis() * 20 / rto.as_millis()).min(20) };
    let full = usize::try_from(parts).unwrap_or(20);
    let tone = match full {
        _ if late => Tone::Bad,
        15.. => Tone::Warn,
        _ => Tone::Good,
    };
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(20 - full));
    format!("{} {}", style.paint(tone, &bar), style.paint(if late { Tone::Bad } else { Tone::Plain }, &words))
}

fn whole_left(deadline: WallTime, now: WallTime) -> String {
    whole(deadline.since(now))
}

fn steps(run: &RunView, now: WallTime, style: &Style) -> String {
    match style.width {
        Some(width) => step_lines(run, now, style, usize::from(width)),
        None => step_table(run, now, style),
    }
}

/// Everything there is to say, for a place that is not wrapped.
fn step_table(run: &RunView, now: WallTime, style: &Style) -> String {
    let mut table = style.table(&["", "STEP", "STATE", "TOOK", "EXPECTED", "WHAT", "DETAIL"]);
    for step in &run.steps {
        let (mark, tone) = mark(step.state);
        table.add_row([
            style.cell(tone, format!("  {mark}")),
            style.cell(Tone::Head, step.name.as_str()),
            style.cell(tone, state_and_tries(step)),
            style.cell(Tone::Plain, took(step, now)),
            style.cell(Tone::Dim, span(step.estimate.get())),
            style.cell(Tone::Plain, format!("{} {}", step.kind, step.target)),
            style.cell(Tone::Plain, step.detail.as_str()),
        ]);
    }
    lines(&table)
}

/// One line a step on a terminal, cut at its edge: a frame that wraps cannot be read while it
/// changes. What went wrong is said in full below.
fn step_lines(run: &RunView, now: WallTime, style: &Style, width: usize) -> String {
    let widest = |of: fn(&StepView) -> usize| run.steps.iter().map(of).max().unwrap_or(0);
    let name = widest(|step| step.name.as_str().chars().count());
    let state = widest(|step| state_and_tries(step).chars().count());
    let mut text = String::new();
    for step in &run.steps {
        let (mark, tone) = mark(step.state);
        let what = if step.detail.is_empty() { format!("{} {}", step.kind, step.target) } else { step.detail.clone() };
        let time = format!("{} of {}", took(step, now), span(step.estimate.get()));
        let used = 4 + name + 2 + state + 2 + time.chars().count().max(16) + 2;
        let _ = writeln!(
            text,
            "  {} {}  {}  {time:<16}  {}",
            style.paint(tone, mark),
            style.paint(Tone::Head, &format!("{:<name$}", step.name)),
            style.paint(tone, &format!("{:<state$}", state_and_tries(step))),
            style.paint(Tone::Dim, &cut(&clean(&what), width.saturating_sub(used).max(12))),
        );
    }
    for step in run.steps.iter().filter(|step| matches!(step.state, StepStateView::Failed | StepStateView::Parked)) {
        let _ = writeln!(text, "  {} {}", style.paint(Tone::Bad, &format!("{}:", step.name)), clean(&step.detail));
    }
    text
}

fn state_and_tries(step: &StepView) -> String {
    let tries = if step.attempts > 1 { format!(" (attempt {})", step.attempts) } else { String::new() };
    format!("{}{tries}", state_word(step.state))
}

/// At most so many characters, the last one a sign that there is more.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

fn took(step: &StepView, now: WallTime) -> String {
    match (step.took, step.started) {
        (Some(took), _) => span(took.get()),
        (None, Some(started)) if !step.state.is_over() => {
            format!("{} …", whole(now.since(started)))
        }
        (None, _) => "-".into(),
    }
}

/// The sign of a step's state.
pub fn mark(state: StepStateView) -> (&'static str, Tone) {
    match state {
        StepStateView::Pending => ("·", Tone::Dim),
        StepStateView::Observing | StepStateView::Applying | StepStateView::Verifying => ("▶", Tone::Warn),
        StepStateView::Waiting => ("◷", Tone::Warn),
        StepStateView::Parked => ("!", Tone::Bad),
        StepStateView::Done | StepStateView::AlreadyDone => ("✓", Tone::Good),
        StepStateView::Failed => ("✗", Tone::Bad),
        StepStateView::Skipped => ("–", Tone::Dim),
        StepStateView::Compensated => ("↶", Tone::Warn),
    }
}

/// A step's state in words.
pub fn state_word(state: StepStateView) -> &'static str {
    match state {
        StepStateView::Pending => "pending",
        StepStateView::Observing => "looking",
        StepStateView::Waiting => "waiting",
        StepStateView::Applying => "applying",
        StepStateView::Verifying => "verifying",
        StepStateView::Parked => "PARKED",
        StepStateView::Done => "done",
        StepStateView::AlreadyDone => "was done",
        StepStateView::Failed => "FAILED",
        StepStateView::Skipped => "skipped",
        StepStateView::Compensated => "undone",
    }
}

/// The runs, the newest first.
pub fn render_runs(runs: &[RunView], now: WallTime, style: &Style) -> String {
    if runs.is_empty() {
        return "There was no run yet.\n".into();
    }
    let mut table = style.table(&["RUN", "SCENARIO", "PLAN", "STATE", "STARTED", "TOOK", "RTO"]);
    for run in runs {
        let (tone, state) = state(run);
        let end = run.ended.unwrap_or(now);
        let (objective_tone, objective) = if end > run.deadline {
            (Tone::Bad, format!("missed by {}", span(end.since(run.deadline))))
        } else if run.ended.is_some() {
            (Tone::Good, format!("met, {} to spare", span(run.deadline.since(end))))
        } else {
            (Tone::Plain, format!("{} left", whole_left(run.deadline, now)))
        };
        table.add_row([
            style.cell(Tone::Head, run.id.as_str()),
            style.cell(Tone::Plain, run.scenario.as_str()),
            style.cell(Tone::Plain, run.plan.as_str()),
            style.cell(tone, state),
            style.cell(Tone::Plain, format!("{} ({})", absolute(run.started), relative(now, run.started))),
            style.cell(Tone::Plain, whole(end.since(run.started))),
            style.cell(objective_tone, objective),
        ]);
    }
    lines(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample::{NOW, ago, hence, run};
    use crate::core::view::SplitView;
    use crate::model::HumanDuration;

    #[test]
    fn a_parked_run() {
        insta::assert_snapshot!(render_run(&run(), NOW, &Style::default()));
    }

    #[test]
    fn a_run_that_ended_late() {
        let mut run = run();
        run.ended = Some(NOW);
        run.deadline = ago(5);
        run.result = Some(RunResult::Done);
        run.split = SplitView {
            detect: HumanDuration::secs(8),
            decide: HumanDuration::secs(51),
            execute: HumanDuration::secs(25),
            verify: HumanDuration::secs(6),
        };
        for step in &mut run.steps {
            step.state = StepStateView::Done;
        }
        insta::assert_snapshot!(render_run(&run, NOW, &Style::default()));
        insta::assert_snapshot!("a_list_of_runs", render_runs(&[run], NOW, &Style::default()));
    }

    #[test]
    fn an_rto_of_nothing_does_not_divide_by_it() {
        let mut run = run();
        run.deadline = run.outage_start;
        assert!(render_run(&run, NOW, &Style::default()).contains("MISSED"));
        run.outage_start = hence(100);
        assert!(!render_run(&run, NOW, &Style::default()).is_empty());
        assert_eq!(render_runs(&[], NOW, &Style::default()), "There was no run yet.\n");
    }
}
