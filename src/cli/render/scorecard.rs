//! `failoverd scorecard` and `failoverd slo`.

use std::fmt::Write as _;

use super::matrix::plain;
use super::style::{Style, Tone, clean, lines};
use super::time::{absolute, moment, span};
use crate::core::scorecard::{Scorecard, ScorecardRow};
use crate::core::slo::{ServiceLevel, days, percent};
use crate::model::{Grade, HumanDuration, WallTime};

const HEADINGS: [&str; 7] = ["INCIDENT", "SCENARIO", "PLAN", "WOULD ACT", "TOTAL / RTO", "LOSS / RPO", "GRADE"];

/// A row as texts; `at` says a time.
fn cells(row: &ScorecardRow, at: impl Fn(WallTime) -> String) -> [String; 7] {
    let of = |predicted: Option<HumanDuration>, objective: Option<HumanDuration>| match objective {
        None => "-".to_owned(),
        Some(objective) => {
            let predicted = predicted.map_or_else(|| "?".to_owned(), |predicted| span(predicted.get()));
            format!("{predicted} / {}", span(objective.get()))
        }
    };
    let grade = row.grade.as_ref().map_or_else(
        || if row.closed.is_some() { "-".to_owned() } else { "open".to_owned() },
        |given| {
            let note = given.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
            format!("{} by {}{note}", given.grade, given.by)
        },
    );
    [
        row.incident.to_string(),
        row.scenario.to_string(),
        row.plan.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        at(row.would_act),
        of(row.total, row.rto),
        of(row.loss, row.rpo),
        grade,
    ]
}

/// What stands at the foot.
fn foot(card: &Scorecard) -> String {
    let rows = card.rows.len();
    let of = format!("{} of {rows} {} graded", card.graded, if rows == 1 { "incident" } else { "incidents" });
    match card.precision {
        Some(precision) => format!("{of}, {} right: precision {}", card.right, percent(precision)),
        None => format!("{of} (`failoverd grade INCIDENT right|wrong|unsure`)"),
    }
}

/// For people at a terminal.
pub fn render_scorecard(card: &Scorecard, now: WallTime, style: &Style) -> String {
    if card.rows.is_empty() {
        return "In no incident would alert-only mode have acted.\n".into();
    }
    let mut table = style.table(&HEADINGS);
    for row in &card.rows {
        let graded = match row.grade.as_ref().map(|given| given.grade) {
            Some(Grade::Right) => Tone::Good,
            Some(Grade::Wrong) => Tone::Bad,
            Some(Grade::Unsure) => Tone::Warn,
            None => Tone::Dim,
        };
        let texts = cells(row, |at| moment(now, at));
        table.add_row(texts.into_iter().enumerate().map(|(place, text)| {
            let tone = match place {
                0 => Tone::Head,
                6 => graded,
                _ => Tone::Plain,
            };
            style.cell(tone, clean(&text))
        }));
    }
    format!("{}\n{}\n", lines(&table), foot(card))
}

/// For a page that somebody keeps.
pub fn render_markdown(card: &Scorecard) -> String {
    let mut text = String::from("# Scorecard of alert-only mode\n\n");
    let _ = writeln!(text, "| {} |", HEADINGS.join(" | "));
    let _ = writeln!(text, "|{}", " --- |".repeat(HEADINGS.len()));
    for row in &card.rows {
        let _ = writeln!(text, "| {} |", cells(row, absolute).map(|cell| plain(&cell)).join(" | "));
    }
    let _ = writeln!(text, "\n{}", foot(card));
    text
}

fn tone(level: &ServiceLevel) -> Tone {
    if level.left() < 0.0 {
        Tone::Bad
    } else if level.left() < 0.25 {
        Tone::Warn
    } else {
        Tone::Plain
    }
}

/// Finer than objectives are written.
fn availability(level: &ServiceLevel) -> String {
    // Rounded down: who was down for a second was not available all the time. The addend keeps what a binary
    // fraction cannot say exactly from losing a digit.
    format!("{:.4}%", (level.availability * 1e6 + 1e-4).floor() / 1e4)
}

/// `failoverd slo`.
pub fn render_slo(services: &[ServiceLevel], style: &Style) -> String {
    if services.is_empty() {
        return "No service has an objective: write [services.NAME] slo = \"99.95%\".\n".into();
    }
    let mut table = style.table(&["SERVICE", "SLO", "WINDOW", "AVAILABLE", "DOWN", "ERROR BUDGET", "SPENT"]);
    for level in services {
        table.add_row([
            style.cell(Tone::Head, level.service.as_str()),
            style.cell(Tone::Plain, level.target.to_string()),
            style.cell(Tone::Plain, days(level.window)),
            style.cell(tone(level), availability(level)),
            style.cell(Tone::Plain, span(level.down.get())),
            style.cell(Tone::Plain, span(level.budget.get())),
            style.cell(tone(level), percent(level.spent)),
        ]);
    }
    lines(&table)
}

/// A short line for each service, for the status.
pub fn slo_lines(services: &[ServiceLevel], style: &Style) -> String {
    let line = |level: &ServiceLevel| {
        let text = format!(
            "slo {}: {} available of {} over {}, {} of the error budget is spent",
            clean(level.service.as_str()),
            availability(level),
            level.target,
            days(level.window),
            percent(level.spent)
        );
        style.paint(tone(level), &text) + "\n"
    };
    services.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample::{NOW, ago};
    use crate::core::scorecard::Graded;
    use crate::model::Severity;

    fn row(id: &str, grade: Option<Grade>) -> ScorecardRow {
        ScorecardRow {
            incident: id.into(),
            scenario: "outage".into(),
            severity: Severity("P0".into()),
            plan: Some("failover".into()),
            outage_start: ago(7200),
            would_act: ago(7100),
            total: Some(HumanDuration::secs(340)),
            rto: Some(HumanDuration::secs(900)),
            loss: None,
            rpo: Some(HumanDuration::secs(60)),
            closed: grade.map(|_| ago(3600)),
            grade: grade.map(|grade| Graded {
                grade,
                by: "alice (uid 1000)".into(),
                at: NOW,
                note: (grade == Grade::Wrong).then(|| "a | deploy\u{1b}[2J\n<b>".into()),
            }),
        }
    }

    fn card() -> Scorecard {
        let rows = vec![row("INC-3", None), row("INC-2", Some(Grade::Wrong)), row("INC-1", Some(Grade::Right))];
        Scorecard { rows, graded: 2, right: 1, precision: Some(0.5) }
    }

    #[test]
    fn the_scorecard_has_a_row_for_each_and_the_precision_at_its_foot() {
        let text = render_scorecard(&card(), NOW, &Style::default());
        assert!(!text.contains('\u{1b}'), "{text}");
        insta::assert_snapshot!(text);
        let text = render_markdown(&card());
        assert!(!text.contains('\u{1b}') && !text.contains("<b>") && text.contains("a \\| deploy"), "{text}");
        insta::assert_snapshot!(text);
        let none = Scorecard { rows: vec![row("INC-3", None)], ..Scorecard::default() };
        assert!(render_markdown(&none).contains("0 of 1 incident graded (`failoverd grade"), "{none:?}");
    }

    #[test]
    fn the_services_are_told_in_a_table_and_in_a_line() {
        let level = ServiceLevel {
            service: "shop".into(),
            target: "99.95%".parse().expect("an objective"),
            window: HumanDuration::secs(30 * 86_400),
            availability: 0.999_815,
            down: HumanDuration::secs(480),
            budget: HumanDuration::secs(1296),
            spent: 480.0 / 1296.0,
        };
        insta::assert_snapshot!(render_slo(std::slice::from_ref(&level), &Style::default()));
        assert_eq!(
            slo_lines(&[level], &Style::default()),
            "slo shop: 99.9815% available of 99.95% over 30d, 37% of the error budget is spent\n"
        );
    }
}
