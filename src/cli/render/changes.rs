//! `failoverd watch` where it does not go to a terminal: a line for each change.

use super::run::state_word;
use super::status::{decision, truth};
use super::style::clean;
use super::time::{absolute, span};
use crate::core::view::{RunView, ScenarioView, StatusView};
use crate::model::{Decision, WallTime};

/// What is different in `new`, a line each; all that matters where there is no `old`.
pub fn render_changes(old: Option<&StatusView>, new: &StatusView) -> Vec<String> {
    let mut lines = Vec::new();
    daemon(old, new, &mut lines);
    for probe in &new.probes {
        let before = old.and_then(|old| old.probes.iter().find(|one| one.name == probe.name));
        if before.is_none_or(|before| before.health != probe.health) {
            let was = before.map_or(String::new(), |before| format!(" (was {})", before.health));
            let why = if probe.why.is_empty() { String::new() } else { format!(": {}", probe.why) };
            lines.push(format!("probe {} is {}{was}{why}", probe.name, probe.health));
        }
    }
    for scenario in &new.scenarios {
        let before = old.and_then(|old| old.scenarios.iter().find(|one| one.name == scenario.name));
        changed_scenario(before, scenario, new, &mut lines);
    }
    let before = old.and_then(|old| old.run.as_ref());
    match (before, &new.run) {
        (Some(before), Some(now)) if before.id == now.id => changed_run(Some(before), now, &mut lines),
        (before, now) => {
            if let Some(before) = before {
                lines.push(format!("run {} ended", before.id));
            }
            if let Some(now) = now {
                changed_run(None, now, &mut lines);
            }
        }
    }
    stamped(new.at, lines)
}

/// What happened to a run between two looks at it, a line each.
pub fn render_run_changes(before: &RunView, now: &RunView, at: WallTime) -> Vec<String> {
    let mut lines = Vec::new();
    changed_run(Some(before), now, &mut lines);
    if let Some(result) = now.result.filter(|_| before.result.is_none()) {
        lines.push(format!("run {}: {result}", now.id));
    }
    stamped(at, lines)
}

fn stamped(at: WallTime, lines: Vec<String>) -> Vec<String> {
    lines.into_iter().map(|line| format!("{}  {}", absolute(at), clean(&line).replace('\n', " "))).collect()
}

fn daemon(old: Option<&StatusView>, new: &StatusView, lines: &mut Vec<String>) {
    if old.is_none_or(|old| old.mode != new.mode || old.started != new.started) {
        let by = new.mode_by.as_deref().map_or(String::new(), |by| format!(", set by {by}"));
        lines.push(format!("{} is in mode {}{by}, epoch {}", new.name, new.mode, new.epoch));
    }
    let mut switch = |was: Option<String>, is: Option<String>, over: &str| {
        if was != is {
            match is {
                Some(text) => lines.push(text),
                None => lines.push(over.to_owned()),
            }
        }
    };
    let paused = |view: &StatusView| view.paused_by.as_ref().map(|by| format!("PAUSED by {by}"));
    let doubt = |view: &StatusView| view.in_doubt.as_ref().map(|what| format!("IN DOUBT: {what}"));
    let tilt = |view: &StatusView| view.tilt_until.is_some().then(|| "TILT: only looking".to_owned());
    let isolated = |view: &StatusView| view.isolated.then(|| format!("ISOLATED: {} do not answer", view.tellers()));
    switch(old.and_then(paused), paused(new), "resumed");
    switch(old.and_then(doubt), doubt(new), "no longer in doubt");
    switch(old.and_then(tilt), tilt(new), "the tilt is over");
    switch(old.and_then(isolated), isolated(new), &format!("{} answer again", new.tellers()));
}

fn changed_scenario(before: Option<&ScenarioView>, now: &ScenarioView, view: &StatusView, lines: &mut Vec<String>) {
    if before.is_none_or(|before| before.truth != now.truth) {
        lines.push(format!("scenario {}: {}", now.name, truth(now.truth).1));
    }
    match (before.and_then(|before| before.incident.as_ref()), &now.incident) {
        (was, Some(is)) if was != Some(is) => {
            lines.push(format!("incident {is} opened ({}, {})", now.name, now.severity))
        }
        (Some(was), None) => lines.push(format!("incident {was} closed")),
        _ => {}
    }
    if name(before.and_then(|before| before.decision.as_ref())) != name(now.decision.as_ref()) {
        // That an incident is closed says it all.
        if now.decision.is_some() {
            lines.push(format!("decision on {}: {}", now.name, decision(now.decision.as_ref(), view.at)));
        }
    }
}

/// The kind of a decision: a countdown that moves is no change.
fn name(decision: Option<&Decision>) -> &'static str {
    match decision {
        None => "",
        Some(Decision::Hold(reason)) => reason.name(),
        Some(Decision::Alert) => "alert",
        Some(Decision::AskApproval { .. }) => "ask_approval",
        Some(Decision::Act) => "act",
    }
}

fn changed_run(before: Option<&RunView>, now: &RunView, lines: &mut Vec<String>) {
    if before.is_none() {
        let rto = span(now.deadline.since(now.started));
        lines.push(format!("run {} of plan {} began ({}), {rto} left of the RTO", now.id, now.plan, now.trigger));
    }
    if let Some(by) = now.aborting_by.as_ref().filter(|_| before.is_none_or(|before| before.aborting_by.is_none())) {
        lines.push(format!("run {} is aborted by {by}", now.id));
    }
    for step in &now.steps {
        let was = before.and_then(|before| before.steps.iter().find(|one| one.name == step.name)).map(|was| was.state);
        let pending = was.is_none() && step.attempts == 0 && step.started.is_none();
        if was == Some(step.state) || pending {
            continue;
        }
        let took = step
            .took
            .filter(|_| step.state.is_over())
            .map_or(String::new(), |took| format!(" in {}", span(took.get())));
        let detail = if step.detail.is_empty() { String::new() } else { format!(": {}", step.detail) };
        lines.push(format!("step {} {}{took}{detail}", step.name, state_word(step.state)));
    }
    if now.past_no_return && !before.is_some_and(|before| before.past_no_return) {
        lines.push(format!("run {} is past its point of no return", now.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample::{failing_over, hence, outage, quiet};

    #[test]
    fn tells_what_changed_and_only_that() {
        insta::assert_snapshot!(render_changes(None, &quiet()).join("\n"));
        assert!(render_changes(Some(&quiet()), &quiet()).is_empty());
        insta::assert_snapshot!("into_an_outage", render_changes(Some(&quiet()), &outage()).join("\n"));
        insta::assert_snapshot!("into_a_run", render_changes(Some(&outage()), &failing_over()).join("\n"));
        insta::assert_snapshot!("back_to_quiet", render_changes(Some(&failing_over()), &quiet()).join("\n"));
    }

    #[test]
    fn a_countdown_that_moves_is_no_change() {
        let mut later = outage();
        later.scenarios[0].decision = Some(Decision::AskApproval { until: hence(599) });
        assert!(render_changes(Some(&outage()), &later).is_empty());
    }

    #[test]
    fn pause_and_doubt_come_and_go() {
        let mut paused = quiet();
        paused.paused_by = Some("alice".into());
        paused.in_doubt = Some("the disk".into());
        let lines = render_changes(Some(&quiet()), &paused).join("\n");
        assert!(lines.contains("PAUSED by alice") && lines.contains("IN DOUBT: the disk"), "{lines}");
        let lines = render_changes(Some(&paused), &quiet()).join("\n");
        assert!(lines.contains("resumed") && lines.contains("no longer in doubt"), "{lines}");
    }
}
