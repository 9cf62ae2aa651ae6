//! `failoverd incidents`.

use std::fmt::Write as _;

use super::status::decision;
use super::style::{Style, Tone, clean, lines};
use super::time::{clock, moment, relative, span};
use crate::core::view::IncidentView;
use crate::model::{Extent, WallTime};

/// The incidents, the newest first.
pub fn render_incidents(incidents: &[IncidentView], now: WallTime, style: &Style) -> String {
    if incidents.is_empty() {
        return "There was no incident yet.\n".into();
    }
    let mut table =
        style.table(&["INCIDENT", "SEV", "SCENARIO", "EXTENT", "OUTAGE SINCE", "STATE", "ACKNOWLEDGED", "RUN"]);
    for incident in incidents {
        let (tone, state) = match incident.closed {
            Some(closed) => (Tone::Good, format!("closed after {}", span(closed.since(incident.outage_start)))),
            None => (Tone::Bad, format!("OPEN: {}", decision(incident.decision.as_ref(), now))),
        };
        table.add_row([
            style.cell(Tone::Head, incident.id.as_str()),
            style.cell(Tone::Plain, incident.severity.to_string()),
            style.cell(Tone::Plain, incident.scenario.as_str()),
            style.cell(Tone::Plain, incident.extent.as_ref().map_or("-".into(), Extent::brief)),
            style.cell(Tone::Plain, moment(now, incident.outage_start)),
            style.cell(tone, state),
            style.cell(Tone::Plain, incident.acknowledged_by.as_deref().unwrap_or("-")),
            style.cell(Tone::Plain, incident.run.as_ref().map_or("-", |run| run.as_str())),
        ]);
    }
    lines(&table)
}

/// One incident with its timeline.
pub fn render_incident(incident: &IncidentView, now: WallTime, style: &Style) -> String {
    let mut text = String::new();
    let state = match incident.closed {
        Some(closed) => style.paint(Tone::Good, &format!("closed {}", relative(now, closed))),
        None => style.paint(Tone::Bad, "OPEN"),
    };
    let _ = writeln!(
        text,
        "{}  {}  {}  {state}",
        style.paint(Tone::Head, incident.id.as_str()),
        clean(&incident.severity.to_string()),
        incident.scenario
    );
    let _ = writeln!(text, "  outage       since {}", moment(now, incident.outage_start));
    if let Some(extent) = &incident.extent {
        let _ = writeln!(text, "  extent       {}", clean(&extent.to_string()));
    }
    let _ = writeln!(text, "  opened       {}", moment(now, incident.opened));
    if let Some(closed) = incident.closed {
        let length = span(closed.since(incident.outage_start));
        let _ = writeln!(text, "  closed       {}, after {length}", moment(now, closed));
    }
    let _ = writeln!(text, "  acknowledged {}", clean(incident.acknowledged_by.as_deref().unwrap_or("by nobody yet")));
    let _ = writeln!(text, "  decision     {}", clean(&decision(incident.decision.as_ref(), now)));
    if let Some(run) = &incident.run {
        let _ = writeln!(text, "  run          {run}: `failoverd runs {run}`");
    }
    if let Some(approval) = &incident.approval {
        let _ = writeln!(
            text,
            "  approval     of plan {} under epoch {}, last moment {}",
            approval.plan_hash.short(),
            approval.epoch,
            moment(now, approval.until)
        );
        if approval.needed > 1 {
            let given = match approval.given.as_slice() {
                [] => "nobody has yet".to_owned(),
                given => format!("so far {}", clean(&given.join(", "))),
            };
            let _ = writeln!(text, "  persons      {} have to say yes; {given}", approval.needed);
        }
        let hint = format!("→ `failoverd approve {0}` or `failoverd deny {0}`", incident.id);
        let _ = writeln!(text, "{}", style.paint(Tone::Bad, &hint));
    }
    if !incident.timeline.is_empty() {
        let _ = writeln!(text, "\n{}", style.paint(Tone::Head, "Timeline (UTC)"));
    }
    for line in &incident.timeline {
        let offset = span(line.at.since(incident.outage_start));
        let _ = writeln!(text, "  {}  {:>12}  {}", clock(line.at), format!("+{offset}"), clean(&line.text));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample::{NOW, incident};

    #[test]
    fn an_incident_that_waits() {
        insta::assert_snapshot!(render_incident(&incident(), NOW, &Style::default()));
        let mut two = incident();
        if let Some(approval) = &mut two.approval {
            (approval.needed, approval.given) = (2, vec!["alice (uid 1000)".into()]);
        }
        let text = render_incident(&two, NOW, &Style::default());
        assert!(text.contains("  persons      2 have to say yes; so far alice (uid 1000)\n"), "{text}");
    }

    #[test]
    fn a_list_of_incidents() {
        let mut closed = incident();
        closed.closed = Some(NOW);
        closed.acknowledged_by = Some("alice (uid 1000)".into());
        closed.run = Some("RUN-20260730-001".into());
        insta::assert_snapshot!(render_incidents(&[incident(), closed], NOW, &Style::default()));
        assert_eq!(render_incidents(&[], NOW, &Style::default()), "There was no incident yet.\n");
    }
}
