//! `failoverd matrix`: as a table, as Markdown, and as one page of HTML that needs nothing else.

use std::fmt::Write as _;

use super::style::{Style, Tone, lines};
use super::time::{absolute, span};
use crate::backtest::page::escape;
use crate::core::evidence::Source;
use crate::core::matrix::{EvidenceView, MatrixRow, Standing};

/// The headings, in every form.
const HEADINGS: [&str; 11] =
    ["SCENARIO", "PLAN", "TIER", "RTO", "P50", "P95", "FROM", "RPO", "LOSS", "LAST DRILL", "VERDICT"];

/// A row as texts.
fn cells(row: &MatrixRow) -> [String; 11] {
    let none = || "-".to_owned();
    let from = row.measured.map_or_else(none, |measured| {
        let count =
            |what: &str| format!("{} {what}{}", measured.times.count, if measured.times.count == 1 { "" } else { "s" });
        match measured.source {
            Source::Drills => format!("{}, {} before", count("drill"), span(row.before.get())),
            Source::Runs | Source::Estimate => count("run"),
        }
    });
    let drill = row.last_drill.as_ref().map_or_else(none, |last| {
        let clean = if last.is_clean { "" } else { " (not cleaned up)" };
        format!("{} on {}: {}{clean}", last.at.day(), last.target, last.verdict.name())
    });
    [
        row.scenario.to_string(),
        row.plan.as_ref().map_or_else(none, ToString::to_string),
        row.tier.to_string(),
        span(row.rto.get()),
        row.measured.map_or_else(none, |measured| span(measured.times.p50.get())),
        row.measured.map_or_else(none, |measured| span(measured.times.p95.get())),
        from,
        row.rpo.map_or_else(none, |rpo| span(rpo.get())),
        row.loss.map_or_else(none, |loss| span(loss.get())),
        drill,
        row.verdict.to_string(),
    ]
}

fn tone(standing: &Standing) -> Tone {
    match standing {
        Standing::Meets => Tone::Good,
        Standing::Misses { .. } => Tone::Bad,
        Standing::NoEvidence | Standing::Overdue { .. } => Tone::Warn,
        Standing::NoPlan => Tone::Dim,
    }
}

/// For people at a terminal.
pub fn render_matrix(view: &EvidenceView, style: &Style) -> String {
    let mut table = style.table(&HEADINGS);
    for row in &view.rows {
        let last = HEADINGS.len() - 1;
        table.add_row(cells(row).into_iter().enumerate().map(|(place, text)| {
            let tone = match place {
                0 => Tone::Head,
                place if place == last => tone(&row.verdict),
                _ => Tone::Plain,
            };
            style.cell(tone, text)
        }));
    }
    lines(&table)
}

/// Text in a table of Markdown: a pipe ends a cell, and a line ends the table; what else Markdown would obey
/// is text as well.
pub(super) fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => safe.push(' '),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '#' | '~' => {
                safe.push('\\');
                safe.push(c);
            }
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// For a page that somebody keeps.
pub fn render_markdown(view: &EvidenceView) -> String {
    let mut text = format!("# Recovery-time matrix of {}\n\nAs of {}.\n\n", plain(&view.name), absolute(view.at));
    let _ = writeln!(text, "| {} |", HEADINGS.map(heading).join(" | "));
    let _ = writeln!(text, "|{}", " --- |".repeat(HEADINGS.len()));
    for row in &view.rows {
        let _ = writeln!(text, "| {} |", cells(row).map(|cell| plain(&cell)).join(" | "));
    }
    let _ = writeln!(text, "\n{NOTE}");
    text
}

const NOTE: &str = "P50 and P95 are of whole recoveries: of runs from the first bad observation, of drills from their \
                    start, to which the time before a plan begins (to detect, to confirm, the last look) is added for \
                    the verdict. Loss is the greatest that was predicted when a run was decided.";

fn heading(text: &str) -> String {
    if text.len() <= 3 {
        return text.to_owned();
    }
    let mut letters = text.chars();
    letters.next().map(|first| first.to_string() + &letters.as_str().to_lowercase()).unwrap_or_default()
}

const STYLE: &str = "\
:root{--ink:#1b1f24;--dim:#667;--page:#fff;--line:#d8dce2;--good:#1f7a45;--bad:#b3261e;--warn:#8a5a00}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--dim:#9aa2ad;--page:#15181c;--line:#333a43;--good:#5bc98a;--bad:#f28b82;--warn:#f0b94d}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1240px;margin:2em auto;padding:0 1em}
h1{font-size:1.4em}.dim{color:var(--dim);max-width:60em}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.35em .8em .35em 0;border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--dim);font-weight:500}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
@media(max-width:800px){thead{display:none}tr{display:block;border-bottom:2px solid var(--line);padding:.6em 0}
td{display:flex;gap:1em;border:0;padding:.15em 0}td::before{content:attr(data-name);color:var(--dim);flex:0 0 7em}}
@media print{:root{--ink:#000;--dim:#444;--page:#fff;--line:#999;--good:#000;--bad:#000;--warn:#000}body{font-size:10pt;margin:0;max-width:none}
thead{display:table-header-group}tr{break-inside:avoid}.bad{font-weight:700}}
";

/// For a browser, a phone and a printer.
pub fn render_html(view: &EvidenceView) -> String {
    let mut page = String::from("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width\">\n<title>Recovery-time matrix</title>\n");
    let _ = writeln!(page, "<style>\n{STYLE}</style>\n<h1>Recovery-time matrix of {}</h1>", escape(&view.name));
    let _ = writeln!(page, "<p class=\"dim\">As of {}.</p>\n<table>\n<thead><tr>", escape(&absolute(view.at)));
    HEADINGS.map(heading).iter().for_each(|name| {
        let _ = writeln!(page, "<th>{name}</th>");
    });
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in &view.rows {
        page.push_str("<tr>\n");
        let last = HEADINGS.len() - 1;
        for (place, (name, cell)) in HEADINGS.iter().zip(cells(row)).enumerate() {
            let class = match tone(&row.verdict) {
                Tone::Good if place == last => " class=\"good\"",
                Tone::Bad if place == last => " class=\"bad\"",
                Tone::Warn if place == last => " class=\"warn\"",
                _ => "",
            };
            let _ = writeln!(page, "<td data-name=\"{}\"{class}><span>{}</span></td>", heading(name), escape(&cell));
        }
        page.push_str("</tr>\n");
    }
    let _ = writeln!(page, "</tbody>\n</table>\n<p class=\"dim\">{NOTE}</p>");
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample::{NOW, ago};
    use crate::core::evidence::Quantiles;
    use crate::core::matrix::{LastDrill, Measured};
    use crate::model::{DrillVerdict, HumanDuration, Severity};

    fn row(name: &str, verdict: Standing) -> MatrixRow {
        MatrixRow {
            scenario: name.into(),
            tier: Severity("P0".into()),
            plan: Some("failover".into()),
            rto: HumanDuration::secs(900),
            measured: None,
            before: HumanDuration::secs(43),
            rpo: None,
            loss: None,
            last_drill: None,
            drill_every: None,
            verdict,
        }
    }

    fn measured(source: Source, count: usize, p50: u64, p95: u64) -> Option<Measured> {
        let times = Quantiles {
            count,
            p50: HumanDuration::secs(p50),
            p95: HumanDuration::secs(p95),
            max: HumanDuration::secs(p95),
        };
        Some(Measured { source, times })
    }

    fn view() -> EvidenceView {
        let mut meets = row("regional-outage", Standing::Meets);
        meets.measured = measured(Source::Drills, 4, 212, 260);
        (meets.rpo, meets.loss) = (Some(HumanDuration::secs(60)), Some(HumanDuration::millis(1200)));
        meets.drill_every = Some(HumanDuration::secs(30 * 86_400));
        meets.last_drill = Some(LastDrill {
            run: "RUN-20260728-001".into(),
            target: "staging".into(),
            at: ago(2 * 86_400),
            verdict: DrillVerdict::Passed,
            took: Some(HumanDuration::secs(260)),
            is_clean: true,
        });
        let mut misses = row("database", Standing::Misses { why: "p95 is 20m, the RTO is 15m".into() });
        misses.measured = measured(Source::Runs, 2, 800, 1200);
        let mut overdue = row("cache", Standing::Overdue { since: Some(ago(86_400 * 10)) });
        overdue.measured = measured(Source::Drills, 1, 20, 20);
        let mut odd = row("odd", Standing::NoPlan);
        (odd.plan, odd.tier) = (None, Severity("<b>|`x`\u{1b}[2J".into()));
        EvidenceView {
            name: "shop".into(),
            at: NOW,
            rows: vec![meets, misses, overdue, row("new", Standing::NoEvidence), odd],
            budgets: Vec::new(),
            drills: Vec::new(),
        }
    }

    #[test]
    fn as_a_table() {
        insta::assert_snapshot!(render_matrix(&view(), &Style::default()));
    }

    #[test]
    fn as_markdown() {
        insta::assert_snapshot!(render_markdown(&view()));
    }

    #[test]
    fn as_json() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&view()).expect("JSON"));
    }

    #[test]
    fn as_a_page_that_needs_nothing_else_and_obeys_nothing_from_outside() {
        let page = render_html(&view());
        for outside in ["http://", "https://", "<script", "<b>", "\u{1b}", "src=", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("&lt;b&gt;|`x`"), "{page}");
        insta::assert_snapshot!(page);
    }
}
