//! `failoverd status`.

use std::fmt::Write as _;

use super::run::render_run;
use super::style::{Style, Tone, clean, lines};
use super::time::{moment, relative, span, whole};
use crate::core::view::{ProbeView, ScenarioView, StatusView};
use crate::model::{Decision, Facts, Health, HoldReason, Readiness, Role, Truth, WallTime};

/// Everything at a glance: what is wrong first, then the run, the scenarios and the probes.
pub fn render_status(view: &StatusView, now: WallTime, style: &Style) -> String {
    let mut text = String::new();
    let mode_by = view.mode_by.as_deref().map_or(String::new(), |by| format!(", set by {by}"));
    let _ = writeln!(
        text,
        "{}  mode {}{}  epoch {}  up for {}",
        style.paint(Tone::Head, &clean(&view.name)),
        style.paint(Tone::Head, &view.mode.to_string()),
        clean(&mode_by),
        view.epoch,
        whole(now.since(view.started)),
    );
    if now.since(view.at).as_secs() > 10 {
        let _ = writeln!(text, "{}", style.paint(Tone::Warn, &format!("! seen {}", moment(now, view.at))));
    }
    text.push_str(&super::members::membership(view, style));
    for warning in warnings(view, now) {
        let _ = writeln!(text, "{}", style.paint(Tone::Bad, &format!("! {}", clean(&warning))));
    }
    for plan in &view.readiness {
        let (tone, word) = match &plan.verdict {
            Readiness::Ready => continue,
            Readiness::NotReady { .. } => (Tone::Bad, "NOT READY"),
            Readiness::Unknown { .. } => (Tone::Warn, "readiness unknown"),
        };
        let line =
            format!("! plan {}: {word}: {} (`failoverd readiness {}`)", plan.plan, plan.verdict.reason(), plan.plan);
        let _ = writeln!(text, "{}", style.paint(tone, &clean(&line)));
    }
    if let Some(run) = &view.run {
        let _ = write!(text, "\n{}", render_run(run, now, style));
    }
    if !view.scenarios.is_empty() {
        let _ = write!(text, "\n{}", scenarios(view, now, style));
    }
    for hint in view.scenarios.iter().filter_map(|scenario| hint(scenario, now)) {
        let _ = writeln!(text, "{}", style.paint(Tone::Warn, &hint));
    }
    for task in &view.tasks {
        let due = task.due.map(|due| match now < due {
            true => format!("due {}", relative(now, due)),
            false => format!("OVERDUE since {}", moment(now, due)),
        });
        let (run, step) = (&task.run, &task.step);
        let line = format!(
            "☐ {}, {} (`failoverd step done {step} --run {run}`)",
            clean(&task.message),
            due.unwrap_or_else(|| "open".into())
        );
        let _ = writeln!(text, "{}", style.paint(Tone::Warn, &line));
    }
    text.push_str(&super::people::people(view, now, style));
    text.push_str(&super::scorecard::slo_lines(&view.services, style));
    if view.vantages.len() > 1 {
        let _ = write!(text, "\n{}", vantages(view, now, style));
    }
    if !view.probes.is_empty() {
        let _ = write!(text, "\n{}", probes(view, now, style));
    }
    text
}

fn warnings(view: &StatusView, now: WallTime) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(what) = &view.in_doubt {
        all.push(format!("IN DOUBT: {what}. Nothing new is started."));
    }
    if view.isolated {
        let who = view.tellers();
        all.push(format!("ISOLATED: {who} do not answer, so it may be us who are cut off. Nothing is concluded."));
    }
    if let Some(until) = view.tilt_until {
        all.push(format!("TILT: the clock jumped or the loop stalled; only looking until {}.", moment(now, until)));
    }
    if let Some(by) = &view.paused_by {
        all.push(format!("PAUSED by {by}. Nothing new is started until `failoverd resume`."));
    }
    all
}

fn scenarios(view: &StatusView, now: WallTime, style: &Style) -> String {
    let mut table = style.table(&["SCENARIO", "SEV", "MODE", "CONDITION", "DECISION", "BUDGET / RTO", "LOSS / RPO"]);
    for scenario in &view.scenarios {
        let (tone, truth) = truth(scenario.truth);
        table.add_row([
            style.cell(Tone::Head, scenario.name.as_str()),
            style.cell(Tone::Plain, scenario.severity.to_string()),
            style.cell(Tone::Plain, scenario.mode.to_string()),
            style.cell(tone, truth),
            style.cell(decision_tone(scenario.decision.as_ref()), decision(scenario.decision.as_ref(), now)),
            style.cell(Tone::Plain, format!("{} / {}", span(scenario.budget.get()), span(scenario.rto.get()))),
            loss(scenario, style),
        ]);
    }
    lines(&table)
}

fn loss(scenario: &ScenarioView, style: &Style) -> comfy_table::Cell {
    match (scenario.predicted_loss, scenario.rpo) {
        (_, None) => style.cell(Tone::Dim, "-"),
        (None, Some(rpo)) => style.cell(Tone::Warn, format!("? / {}", span(rpo.get()))),
        (Some(loss), Some(rpo)) => {
            let tone = if loss > rpo { Tone::Bad } else { Tone::Plain };
            style.cell(tone, format!("{} / {}", span(loss.get()), span(rpo.get())))
        }
    }
}

/// The condition's truth in a word.
pub fn truth(truth: Truth) -> (Tone, &'static str) {
    match truth {
        Truth::True => (Tone::Bad, "HOLDS"),
        Truth::False => (Tone::Good, "quiet"),
        Truth::Unknown => (Tone::Warn, "cannot tell"),
    }
}

/// The decision in one line, with a countdown where time matters.
pub fn decision(decision: Option<&Decision>, now: WallTime) -> String {
    match decision {
        None => "-".into(),
        Some(Decision::AskApproval { until }) => format!("waits for approval, last moment {}", relative(now, *until)),
        Some(Decision::Hold(reason)) => match hold_until(reason) {
            Some(until) if until > now => {
                format!("hold: {}, over {}", reason.name().replace('_', " "), relative(now, until))
            }
            Some(_) => format!("hold: {}, about to end", reason.name().replace('_', " ")),
            None => format!("hold: {reason}"),
        },
        Some(other @ (Decision::Alert | Decision::Act)) => other.to_string(),
    }
}

fn decision_tone(decision: Option<&Decision>) -> Tone {
    match decision {
        None => Tone::Dim,
        Some(Decision::Hold(_) | Decision::Alert) => Tone::Warn,
        Some(Decision::AskApproval { .. } | Decision::Act) => Tone::Bad,
    }
}

/// When time alone ends this hold.
fn hold_until(reason: &HoldReason) -> Option<WallTime> {
    match reason {
        HoldReason::Confirming { until }
        | HoldReason::Flapping { until, .. }
        | HoldReason::StartupGrace { until }
        | HoldReason::CoolDown { until }
        | HoldReason::LooksInVain { until, .. }
        | HoldReason::FailoverLimit { until }
        | HoldReason::LowerLayersFirst { until, .. }
        | HoldReason::Correlating { until, .. }
        | HoldReason::Tilt { until } => Some(*until),
        HoldReason::Inconclusive { .. }
        | HoldReason::ReplicaStreams { .. }
        | HoldReason::NoQuorum { .. }
        | HoldReason::Vetoed { .. }
        | HoldReason::StandbyUnhealthy { .. }
        | HoldReason::LagUnknown { .. }
        | HoldReason::LagAboveRpo { .. }
        | HoldReason::Paused { .. }
        | HoldReason::Quiet { .. }
        | HoldReason::RunActive { .. }
        | HoldReason::AlreadyRun { .. }
        | HoldReason::NoAnswer
        | HoldReason::Denied { .. }
        | HoldReason::NoPlan
        | HoldReason::ExplainedBy { .. }
        | HoldReason::StateInDoubt { .. } => None,
    }
}

/// What somebody can do now about a scenario with an incident.
fn hint(scenario: &ScenarioView, now: WallTime) -> Option<String> {
    let incident = scenario.incident.as_ref()?;
    // Once its run is over, the clock of the outage runs for nobody.
    let over = matches!(&scenario.decision, Some(Decision::Hold(HoldReason::AlreadyRun { .. })));
    let deadline = scenario.deadline.filter(|_| !over);
    let deadline = deadline.map(|at| format!(", RTO ends {}", relative(now, at))).unwrap_or_default();
    let extent =
        scenario.extent.as_ref().map(|extent| format!(", {} down", clean(&extent.brief()))).unwrap_or_default();
    Some(match &scenario.decision {
        Some(Decision::AskApproval { .. }) => {
            format!("→ {incident}{extent}{deadline}: `failoverd approve {incident}` or `failoverd deny {incident}`")
        }
        _ => format!(
            "→ {incident}{extent}{deadline}: `failoverd incidents {incident}`, `failoverd explain {}`",
            scenario.name
        ),
    })
}

fn vantages(view: &StatusView, now: WallTime, style: &Style) -> String {
    let mut table = style.table(&["VANTAGE", "DOMAIN", "HEARD", "UP", "DOWN", "UNKNOWN"]);
    for vantage in &view.vantages {
        let heard = vantage.heard.map_or("never".into(), |at| relative(now, at));
        let (tone, heard) = if vantage.silent { (Tone::Bad, format!("SILENT, {heard}")) } else { (Tone::Good, heard) };
        table.add_row([
            style.cell(Tone::Head, format!("{}{}", vantage.name, if vantage.own { " (this daemon)" } else { "" })),
            style.cell(Tone::Plain, vantage.domain.as_str()),
            style.cell(tone, heard),
            style.cell(Tone::Plain, vantage.up.to_string()),
            style.cell(if vantage.down > 0 { Tone::Bad } else { Tone::Plain }, vantage.down.to_string()),
            style.cell(if vantage.unknown > 0 { Tone::Warn } else { Tone::Plain }, vantage.unknown.to_string()),
        ]);
    }
    lines(&table)
}

fn probes(view: &StatusView, now: WallTime, style: &Style) -> String {
    let mut table = style.table(&["PROBE", "REGION", "HEALTH", "FOR", "SEEN", "LATENCY", "DETAIL"]);
    for probe in &view.probes {
        table.add_row([
            style.cell(Tone::Head, format!("{}{}", probe.name, if probe.anchor { " (anchor)" } else { "" })),
            style.cell(Tone::Plain, place(probe)),
            style.cell(tone(probe), health(probe)),
            style.cell(Tone::Plain, probe.since.map_or("-".into(), |at| whole(now.since(at)))),
            style.cell(Tone::Dim, probe.last_seen.map_or("never".into(), |at| relative(now, at))),
            style.cell(Tone::Plain, probe.latency_ms.map_or("-".into(), |ms| format!("{ms:.1} ms"))),
            style.cell(Tone::Plain, detail(probe, now)),
        ]);
    }
    lines(&table)
}

/// Its region, and its zone where it has one.
fn place(probe: &ProbeView) -> String {
    let region = probe.region.as_ref().map(|region| region.as_str());
    let zone = probe.zone.as_ref().map(|zone| zone.as_str());
    let parts: Vec<&str> = region.into_iter().chain(zone).collect();
    if parts.is_empty() { "-".into() } else { parts.join(", ") }
}

fn health(probe: &ProbeView) -> String {
    if probe.degraded { "degraded".into() } else { probe.health.to_string() }
}

fn tone(probe: &ProbeView) -> Tone {
    match probe.health {
        Health::Up if probe.degraded => Tone::Warn,
        Health::Up => Tone::Good,
        Health::Down => Tone::Bad,
        Health::Unknown => Tone::Warn,
    }
}

fn detail(probe: &ProbeView, now: WallTime) -> String {
    let facts = probe.facts.as_ref().map(facts).unwrap_or_default();
    let flaps = probe.flapping_until.map(|until| format!("FLAPS, taken for steady {}", relative(now, until)));
    [flaps.as_deref().unwrap_or_default(), probe.why.as_str(), facts.as_str()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

fn facts(facts: &Facts) -> String {
    let mut parts = Vec::new();
    match facts.role {
        Some(Role::Primary) => parts.push("primary".to_owned()),
        Some(Role::Replica) => parts.push("replica".to_owned()),
        None => {}
    }
    if facts.streaming == Some(false) {
        parts.push("NOT streaming".into());
    }
    if let Some(lag) = facts.lag {
        parts.push(format!("lag {}", span(lag.time)));
    }
    if facts.synchronous == Some(true) {
        parts.push("synchronous".into());
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample::{NOW, ago, failing_over, hence, outage, quiet};
    use crate::core::view::VantageView;

    #[test]
    fn a_quiet_afternoon() {
        insta::assert_snapshot!(render_status(&quiet(), NOW, &Style::default()));
    }

    #[test]
    fn an_outage_that_waits_for_somebody() {
        insta::assert_snapshot!(render_status(&outage(), NOW, &Style::default()));
    }

    #[test]
    fn everything_is_wrong_at_once() {
        let mut view = failing_over();
        view.in_doubt = Some("the disk is full".into());
        view.isolated = true;
        view.paused_by = Some("alice (uid 1000)".into());
        view.tilt_until = Some(hence(20));
        insta::assert_snapshot!(render_status(&view, NOW, &Style::default()));
    }

    #[test]
    fn witnesses_and_what_they_say() {
        let mut view = outage();
        view.isolated = true;
        let vantage = |name: &str, domain: &str, heard, down| VantageView {
            name: name.into(),
            domain: domain.into(),
            own: name == "shop",
            heard,
            silent: heard.is_none_or(|at| at < ago(60)),
            up: 1,
            down,
            unknown: 0,
        };
        view.vantages = vec![
            vantage("shop", "us-west-2", Some(ago(1)), 1),
            vantage("east", "us-east-1", Some(ago(90)), 0),
            vantage("eu", "eu-central-1", None, 0),
        ];
        view.probes[0].flapping_until = Some(hence(40));
        insta::assert_snapshot!(render_status(&view, NOW, &Style::default()));
    }

    #[test]
    fn fits_into_a_narrow_terminal() {
        let style = Style { colour: false, width: Some(80) };
        let text = render_status(&failing_over(), NOW, &style);
        let too_long: Vec<&str> =
            text.lines().filter(|line| line.starts_with(' ') && line.chars().count() > 80).collect();
        assert!(too_long.is_empty(), "{too_long:#?}\n{text}");
    }
}
