//! Who was told of what, and what is left to do.

use std::fmt::Write as _;

use super::style::{Style, Tone, clean, lines};
use super::time::{moment, relative};
use crate::core::view::{DutyView, EscalationView, NoticeState, NoticeView, StatusView};
use crate::model::WallTime;

/// What `failoverd status` says of open incidents and duties.
pub fn people(view: &StatusView, now: WallTime, style: &Style) -> String {
    let mut text = String::new();
    for told in &view.escalations {
        let _ = writeln!(text, "{}", escalation(told, now, style));
    }
    for duty in &view.duties {
        let (incident, name) = (&duty.incident, &duty.duty);
        let line = format!(
            "☐ {name} of {incident}: {}, {} (`failoverd duty done {incident} {name}`)",
            clean(&duty.message),
            due(duty, now)
        );
        let _ = writeln!(text, "{}", style.paint(Tone::Warn, &line));
    }
    text
}

fn escalation(told: &EscalationView, now: WallTime, style: &Style) -> String {
    let update = told.next_update.map(|at| format!("; next update {}", relative(now, at))).unwrap_or_default();
    let (id, severity) = (&told.incident, clean(&told.severity.0));
    if let Some(by) = &told.answered_by {
        return style.paint(Tone::Plain, &format!("{id} ({severity}): answered by {}{update}", clean(by)));
    }
    let reached = told.told.iter().map(|to| clean(to)).collect::<Vec<_>>().join(", ");
    let reached = if reached.is_empty() { String::new() } else { format!(", told: {reached}") };
    let next = told.next.as_ref().map(|(to, at)| format!(", next {} {}", clean(to), relative(now, *at)));
    let late = if told.unanswered { ", LATE" } else { "" };
    let next = next.unwrap_or_default();
    let line = format!("! {id} ({severity}): nobody has answered{late}{reached}{next}{update} (`failoverd ack {id}`)");
    style.paint(if told.unanswered { Tone::Bad } else { Tone::Warn }, &line)
}

fn due(duty: &DutyView, now: WallTime) -> String {
    match duty.due {
        Some(due) if now < due => format!("due {}", relative(now, due)),
        Some(due) => format!("OVERDUE since {}", moment(now, due)),
        None => "its time begins with the end of the incident".into(),
    }
}

/// `failoverd duty list`.
pub fn render_duties(duties: &[DutyView], now: WallTime, style: &Style) -> String {
    if duties.is_empty() {
        return "No duty is open.\n".into();
    }
    let mut table = style.table(&["INCIDENT", "DUTY", "DUE", "WHAT"]);
    for duty in duties {
        let overdue = duty.due.is_some_and(|due| due <= now);
        table.add_row([
            style.cell(Tone::Head, duty.incident.as_str()),
            style.cell(Tone::Plain, duty.duty.as_str()),
            style.cell(if overdue { Tone::Bad } else { Tone::Plain }, due(duty, now)),
            style.cell(Tone::Plain, clean(&duty.message)),
        ]);
    }
    lines(&table)
}

/// `failoverd notices`.
pub fn render_notices(notices: &[NoticeView], now: WallTime, style: &Style) -> String {
    if notices.is_empty() {
        return "Every notice has reached its route.\n".into();
    }
    let mut table = style.table(&["ROUTE", "STATE", "DECIDED", "TRIED", "NOTICE", "WHY NOT"]);
    for notice in notices {
        let tone = if notice.state == NoticeState::GivenUp { Tone::Bad } else { Tone::Warn };
        table.add_row([
            style.cell(Tone::Head, clean(&notice.route)),
            style.cell(tone, notice.state.name()),
            style.cell(Tone::Plain, moment(now, notice.at)),
            style.cell(Tone::Plain, notice.attempts.to_string()),
            style.cell(Tone::Plain, clean(&notice.subject)),
            style.cell(Tone::Plain, clean(notice.reason.as_deref().unwrap_or("-"))),
        ]);
    }
    lines(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample::NOW;
    use crate::model::{Importance, NoticeKind, Severity, Stage};

    fn told() -> EscalationView {
        EscalationView {
            incident: "INC-1".into(),
            scenario: "outage".into(),
            severity: Severity("P0".into()),
            stage: Stage::Investigating,
            answered_by: None,
            respond_by: None,
            unanswered: true,
            told: vec!["L1".into()],
            next: Some(("L2".into(), WallTime(NOW.0 + 60_000))),
            updates: 0,
            next_update: Some(WallTime(NOW.0 + 120_000)),
        }
    }

    #[test]
    fn says_who_was_told_and_what_to_type() {
        let line = escalation(&told(), NOW, &Style::default());
        for part in ["nobody has answered, LATE, told: L1, next L2 in 1 min", "failoverd ack INC-1", "next update in 2"]
        {
            assert!(line.contains(part), "{part}: {line}");
        }
        let answered = EscalationView { answered_by: Some("ann".into()), ..told() };
        assert!(escalation(&answered, NOW, &Style::default()).contains("answered by ann"));
    }

    #[test]
    fn lists_duties_and_what_was_not_delivered() {
        let duty = |due| DutyView { incident: "INC-1".into(), duty: "report".into(), message: "Tell.".into(), due };
        let duties = [duty(Some(WallTime(NOW.0 - 1000))), duty(None)];
        let text = render_duties(&duties, NOW, &Style::default());
        assert!(text.contains("OVERDUE") && text.contains("begins with the end"), "{text}");
        let notice = NoticeView {
            id: 1,
            route: "pager".into(),
            state: NoticeState::GivenUp,
            at: NOW,
            kind: NoticeKind::RunParked,
            importance: Importance::Page,
            incident: None,
            subject: "P0".into(),
            attempts: 1500,
            reason: Some("503".into()),
        };
        let text = render_notices(&[notice], NOW, &Style::default());
        assert!(text.contains("GIVEN UP") && text.contains("503") && text.contains("1500"), "{text}");
    }
}
