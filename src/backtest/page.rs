//! The report as one page of HTML that needs nothing else: no script, no other file, no network.

use std::fmt::Write as _;

use super::history::History;
use super::report::{Advice, Report, Tried};
use super::score::{Score, Spread};
use super::timeline::{Marks, Span, draw};
/// So many moments are drawn near.
const MOST_CLOSE_UPS: usize = 24;
/// So many variants are in the table; the JSON has all.
const MOST_ROWS: usize = 500;
/// What is shown before and after a moment that is drawn near, at least, in milliseconds.
const AROUND: i64 = 60_000;

const STYLE: &str = "\
:root{--ink:#1b1f24;--dim:#667;--page:#fff;--line:#d8dce2;--up:#3fa66a;--down:#d1383d;--unknown:#b9bec7;--label:#e0a100}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--dim:#9aa2ad;--page:#15181c;--line:#333a43;--unknown:#59616c}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1240px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}p,li{max-width:60em}.dim{color:var(--dim)}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}
th,td{text-align:left;padding:.25em .9em .25em 0;border-bottom:1px solid var(--line);white-space:nowrap}th{color:var(--dim);font-weight:500}
tr.best td{font-weight:600}.good{color:var(--up)}.bad{color:var(--down)}
pre{border:1px solid var(--line);padding:.8em;overflow-x:auto}
svg{width:100%;height:auto;margin:.3em 0 1em}svg text{font-size:11px;fill:var(--ink)}svg text.axis{fill:var(--dim)}
.up{fill:var(--up)}.down{fill:var(--down)}.unknown{fill:var(--unknown)}.outage{fill:var(--label);opacity:.16}.label{fill:var(--label)}
.right{fill:var(--up)}.wrong{fill:var(--down)}.trip{fill:var(--label)}circle{stroke:var(--page);stroke-width:1.5}
";

/// The page.
pub fn render(report: &Report, history: &History) -> String {
    let mut page = String::from("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width\">\n<title>failoverd backtest</title>\n");
    let _ = writeln!(page, "<style>\n{STYLE}</style>\n<h1>failoverd backtest</h1>");
    let _ = writeln!(page, "<p>What was recorded from {} to {}.</p>", report.from, report.to);
    advice(&mut page, report);
    let outages = spans(report);
    let lanes = lanes(report);
    page.push_str("<h2>The whole time</h2>\n");
    page.push_str(&draw(history, (history.from, history.to), &outages, &marks(&lanes)));
    page.push_str(
        "<p class=\"dim\">Green: up. Red: down. Grey: nobody could tell. Yellow: labelled outages. Dots: failovers \
         (green: of a labelled outage; red: false).</p>\n",
    );
    settings(&mut page, report);
    close_ups(&mut page, history, &outages, &lanes);
    recorded(&mut page, report);
    if !report.notes.is_empty() {
        page.push_str("<h2>Taken for granted</h2>\n<ul>\n");
        report.notes.iter().for_each(|note| {
            let _ = writeln!(page, "<li>{}</li>", escape(note));
        });
        page.push_str("</ul>\n");
    }
    page
}

/// Text that came from outside, so that it is nothing but text.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() && c != '\n' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

fn advice(page: &mut String, report: &Report) {
    match (&report.advice, report.best()) {
        (Advice::Take(_), Some(best)) if best.toml.is_empty() => {
            page.push_str("<p class=\"good\">The configuration as it is meets the RTO with no false failover.</p>\n");
        }
        (Advice::Take(_), Some(best)) => {
            let _ = writeln!(
                page,
                "<p>The cheapest setting that meets the RTO with no false failover: <b>{}</b></p>\n<pre>{}</pre>",
                escape(&best.name),
                escape(&best.toml)
            );
        }
        (Advice::None(why), _) => {
            let _ = writeln!(page, "<p class=\"bad\">No setting is recommended: {}.</p>", escape(why));
        }
        (Advice::Take(_), None) => {}
    }
}

fn spans(report: &Report) -> Vec<Span> {
    let all = report.outages.iter().flatten();
    all.map(|outage| Span {
        from: outage.from.0,
        to: outage.to.0,
        words: format!("{} {} to {} {}", outage.scenario, outage.from, outage.to, outage.note),
    })
    .collect()
}

type Lane = (String, Vec<(i64, Option<bool>, String)>);

/// The failovers of the configuration as it is, and of the setting that is recommended.
fn lanes(report: &Report) -> Vec<Lane> {
    let current = report.tried.first();
    let best = report.best().filter(|best| !best.toml.is_empty());
    let lane = |name: &str, tried: &Tried| {
        let listed = tried.score.iter().flat_map(|score| &score.listed);
        let words = |right| match right {
            Some(true) => "failover",
            Some(false) => "FALSE failover",
            None => "failover (nobody labelled)",
        };
        let at = listed.map(|trip| {
            (trip.at.0, trip.genuine, format!("{} of {} at {}", words(trip.genuine), trip.scenario, trip.at))
        });
        (name.to_owned(), at.collect())
    };
    current
        .map(|tried| lane("as configured", tried))
        .into_iter()
        .chain(best.map(|tried| lane("recommended", tried)))
        .collect()
}

fn marks(lanes: &[Lane]) -> Vec<Marks<'_>> {
    lanes.iter().map(|(name, at)| Marks { name, at: at.clone() }).collect()
}

fn settings(page: &mut String, report: &Report) {
    page.push_str("<h2>Settings</h2>\n<table>\n<tr>");
    let heads = [
        "Setting",
        "Probes/min",
        "Failovers",
        "True",
        "False",
        "Missed",
        "Called off",
        "Detect (median, p99)",
        "Act (median, p99)",
        "RTO",
    ];
    heads.iter().for_each(|head| {
        let _ = write!(page, "<th>{head}</th>");
    });
    page.push_str("</tr>\n");
    for (place, tried) in report.tried.iter().enumerate().take(MOST_ROWS + 1) {
        let class = if report.advice == Advice::Take(place) { " class=\"best\"" } else { "" };
        let _ = write!(page, "<tr{class}><td>{}</td>", escape(&tried.name));
        match (&tried.score, &tried.refused) {
            (Some(score), _) => row(page, score),
            (None, why) => {
                let why = why.as_deref().unwrap_or_default();
                let _ = write!(page, "<td colspan=\"9\" class=\"dim\">refused by check: {}</td>", escape(why));
            }
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n");
}

fn row(page: &mut String, score: &Score) {
    let finer = if score.finer_than_recorded { " ~" } else { "" };
    let count = |count: Option<usize>| count.map_or("–".to_owned(), |count| count.to_string());
    let bad = |number: Option<usize>| if number.unwrap_or(0) > 0 { " class=\"bad\"" } else { "" };
    let spread = |of: Option<Spread>| of.map_or("–".to_owned(), |of| format!("{}, {}", of.median, of.p99));
    let (class, rto) = match score.meets_rto {
        Some(true) => (" class=\"good\"", "met"),
        Some(false) => (" class=\"bad\"", "missed"),
        None => ("", "–"),
    };
    let _ = write!(
        page,
        "<td>{:.1}{finer}</td><td>{}</td><td>{}</td><td{}>{}</td><td{}>{}</td><td>{}</td><td>{}</td><td>{}</td><td{class}>{rto}</td>",
        score.probes_per_minute,
        score.trips,
        count(score.genuine),
        bad(score.false_trips),
        count(score.false_trips),
        bad(score.missed),
        count(score.missed),
        score.called_off,
        spread(score.detect),
        spread(score.act),
    );
}

/// Each labelled outage, and each false failover of the configuration as it is, drawn near.
fn close_ups(page: &mut String, history: &History, outages: &[Span], lanes: &[Lane]) {
    let around = |from: i64, to: i64| {
        let margin = ((to - from) / 2).clamp(AROUND, 30 * AROUND);
        ((from - margin).max(history.from), (to + margin).min(history.to))
    };
    let labelled = outages.iter().map(|outage| (outage.words.clone(), around(outage.from, outage.to)));
    let wrong = lanes.iter().take(1).flat_map(|(_, at)| at).filter(|(_, right, _)| *right != Some(true));
    let wrong = wrong.map(|(at, _, words)| (format!("as configured: {words}"), around(at - AROUND, *at)));
    let moments: Vec<(String, (i64, i64))> = labelled.chain(wrong).collect();
    if moments.is_empty() {
        return;
    }
    page.push_str("<h2>Close up</h2>\n");
    for (words, time) in moments.iter().take(MOST_CLOSE_UPS) {
        let _ = writeln!(page, "<p>{}</p>", escape(words));
        page.push_str(&draw(history, *time, outages, &marks(lanes)));
    }
    if moments.len() > MOST_CLOSE_UPS {
        let _ = writeln!(page, "<p class=\"dim\">… and {} more.</p>", moments.len() - MOST_CLOSE_UPS);
    }
}

fn recorded(page: &mut String, report: &Report) {
    page.push_str("<h2>Recorded</h2>\n<table>\n<tr><th>Probe</th><th>Looks</th><th>Every</th><th>Up</th><th>Down</th><th>Unknown</th></tr>\n");
    for probe in &report.probes {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(probe.probe.as_str()),
            probe.looks,
            probe.interval,
            probe.up,
            probe.down,
            probe.unknown
        );
    }
    page.push_str("</table>\n");
    // When it was made is no part of it, so that equal histories make equal pages.
    let _ = writeln!(page, "<p class=\"dim\">Made by failoverd {}.</p>", env!("CARGO_PKG_VERSION"));
}

#[cfg(test)]
mod tests {
    use super::super::labels::Outage;
    use super::super::replay::tests::{recorded, settings};
    use super::super::report::{Job, run};
    use super::*;
    use crate::config::LoadOptions;
    use crate::model::WallTime;

    #[test]
    fn the_page_is_whole_and_what_came_from_outside_is_text() {
        let history = History::new([recorded("api", 7200, &[(1000, 1030), (3000, 3600)])]).expect("some");
        let outage = Outage {
            from: WallTime(2_990_000),
            to: WallTime(3_600_000),
            scenario: "api-outage".into(),
            note: "<script src=\"http://evil.example\">".into(),
        };
        let options = LoadOptions::file_only("/nonexistent");
        let settings = settings();
        let job = Job {
            options: &options,
            settings: &settings,
            history: &history,
            labels: Some((vec![outage], 0)),
            variants: Vec::new(),
            phases: 1,
            notes: Vec::new(),
        };
        let report = run(job, &|| {}).expect("played");
        let page = render(&report, &history);
        assert!(!page.contains("<script") && !page.contains("src=\"") && !page.contains("href"), "{page}");
        assert!(page.contains("&lt;script"), "the note is there as text");
        assert!(page.contains("as configured") && page.contains("class=\"wrong\"") && page.contains("class=\"right\""));
        assert!(
            page.contains("No setting is recommended: of 1 settings 1 fail over where there was no outage"),
            "{page}"
        );
        // One of the whole time, one of the outage, one of the false failover.
        assert_eq!(page.matches("<svg").count(), 3);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }
}
