//! `failoverd backtest`: what each setting would have done, and which to take.

use std::fmt::Write as _;

use super::style::{Style, Tone, clean, lines};
use super::time::{absolute, span};
use crate::backtest::report::{Advice, ProbeHistory, Report, Tried};
use crate::backtest::score::{Score, Spread};

/// So many settings are shown; the JSON has all.
const MOST_SETTINGS: usize = 25;
/// So many failovers and outages of the configuration as it is.
const MOST_MOMENTS: usize = 12;

/// The report.
pub fn render_backtest(report: &Report, style: &Style) -> String {
    let mut text = String::new();
    let head = format!("Played from {} to {}", absolute(report.from), absolute(report.to));
    let _ = writeln!(text, "{}  ({})\n", style.paint(Tone::Head, &head), span(report.to.since(report.from)));
    text.push_str(&recorded(&report.probes, style));
    text.push('\n');
    for note in &report.notes {
        let _ = writeln!(text, "{}", style.paint(Tone::Dim, &clean(note)));
    }
    if !report.notes.is_empty() {
        text.push('\n');
    }
    text.push_str(&settings(report, style));
    moments(&mut text, report, style);
    advice(&mut text, report, style);
    text
}

fn recorded(probes: &[ProbeHistory], style: &Style) -> String {
    let mut table = style.table(&["PROBE", "LOOKS", "EVERY", "UP", "DOWN", "UNKNOWN"]);
    for probe in probes {
        let tone = |time: crate::model::HumanDuration, tone| if time.get().is_zero() { Tone::Dim } else { tone };
        table.add_row([
            style.cell(Tone::Head, probe.probe.as_str()),
            style.cell(Tone::Plain, probe.looks.to_string()),
            style.cell(Tone::Plain, span(probe.interval.get())),
            style.cell(Tone::Plain, span(probe.up.get())),
            style.cell(tone(probe.down, Tone::Plain), span(probe.down.get())),
            style.cell(tone(probe.unknown, Tone::Warn), span(probe.unknown.get())),
        ]);
    }
    lines(&table)
}

/// The configuration as it is comes first, then the best of the others.
fn settings(report: &Report, style: &Style) -> String {
    let mut order: Vec<usize> = (1..report.tried.len()).collect();
    order.sort_by(|a, b| {
        rank(&report.tried[*a]).partial_cmp(&rank(&report.tried[*b])).unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut heads = vec!["", "SETTING", "PROBES/MIN", "FAILOVERS", "TRUE", "FALSE", "MISSED", "CALLED OFF"];
    heads.extend(["DETECT", "p99", "ACT", "p99", "RTO"]);
    let mut table = style.table(&heads);
    for place in std::iter::once(0).chain(order).take(MOST_SETTINGS + 1) {
        let Some(tried) = report.tried.get(place) else { continue };
        let mark = if report.advice == Advice::Take(place) { "→" } else { " " };
        let mut cells = vec![style.cell(Tone::Good, mark), style.cell(Tone::Head, &*tried.name)];
        match &tried.score {
            Some(score) => cells.extend(row(score, style)),
            None => {
                let why = tried.refused.as_deref().unwrap_or_default();
                let why = why.split(':').next().unwrap_or_default();
                cells.extend((0..10).map(|_| style.cell(Tone::Dim, "")));
                cells.push(style.cell(Tone::Dim, format!("refused: {why}")));
            }
        }
        table.add_row(cells);
    }
    let mut text = lines(&table);
    if report.tried.len() > MOST_SETTINGS + 1 {
        let more = format!("… and {} more settings (--json has all)", report.tried.len() - MOST_SETTINGS - 1);
        let _ = writeln!(text, "{}", style.paint(Tone::Dim, &more));
    }
    text
}

/// Good ones first, then those with the fewest mistakes; the cheaper before the dearer.
fn rank(tried: &Tried) -> (bool, usize, f64, f64) {
    let Some(score) = &tried.score else { return (true, usize::MAX, 0.0, 0.0) };
    let mistakes = score.false_trips.unwrap_or(0).saturating_add(score.missed.unwrap_or(0));
    let act = score.act.map_or(f64::MAX, |act| act.median.get().as_secs_f64());
    (!score.is_good(), mistakes, score.probes_per_minute, act)
}

fn row(score: &Score, style: &Style) -> Vec<comfy_table::Cell> {
    let count = |count: Option<usize>| count.map_or("-".to_owned(), |count| count.to_string());
    let wrong = |count: Option<usize>| if count.unwrap_or(0) > 0 { Tone::Bad } else { Tone::Plain };
    let time = |of: Option<Spread>, pick: fn(Spread) -> crate::model::HumanDuration| {
        style.cell(Tone::Plain, of.map_or("-".into(), |of| span(pick(of).get())))
    };
    let finer = if score.finer_than_recorded { " ~" } else { "" };
    let (tone, rto) = match (score.meets_rto, &score.cut_short) {
        (_, Some(_)) => (Tone::Warn, "ended early"),
        (Some(true), _) => (Tone::Good, "met"),
        (Some(false), _) => (Tone::Bad, "missed"),
        (None, _) => (Tone::Dim, "-"),
    };
    vec![
        style.cell(Tone::Plain, format!("{:.1}{finer}", score.probes_per_minute)),
        style.cell(Tone::Plain, score.trips.to_string()),
        style.cell(Tone::Plain, count(score.genuine)),
        style.cell(wrong(score.false_trips), count(score.false_trips)),
        style.cell(wrong(score.missed), count(score.missed)),
        style.cell(Tone::Dim, score.called_off.to_string()),
        time(score.detect, |of| of.median),
        time(score.detect, |of| of.p99),
        time(score.act, |of| of.median),
        time(score.act, |of| of.p99),
        style.cell(tone, rto),
    ]
}

/// What the configuration as it is would have done, moment by moment.
fn moments(text: &mut String, report: &Report, style: &Style) {
    let Some(score) = report.tried.first().and_then(|tried| tried.score.as_ref()) else { return };
    let mut all: Vec<(crate::model::WallTime, Tone, String)> = Vec::new();
    for trip in &score.listed {
        let (tone, kind) = match trip.genuine {
            Some(true) => (Tone::Good, "true"),
            Some(false) => (Tone::Bad, "FALSE"),
            None => (Tone::Plain, ""),
        };
        let line =
            format!("{kind:5} failover of {}, {} after the first bad look", trip.scenario, span(trip.after.get()));
        all.push((trip.at, tone, line.trim_start().to_owned()));
    }
    for missed in score.outages.iter().filter(|one| one.missed.is_some()) {
        let Some(outage) = report.outages.as_ref().and_then(|all| all.get(missed.outage)) else { continue };
        let why = missed.missed.as_deref().unwrap_or_default();
        all.push((outage.from, Tone::Bad, format!("MISSED {}: {}", outage.scenario, clean(why))));
    }
    if all.is_empty() {
        return;
    }
    all.sort_by_key(|(at, _, _)| *at);
    let _ = writeln!(text, "\n{}", style.paint(Tone::Head, "As configured"));
    for (at, tone, line) in all.iter().take(MOST_MOMENTS) {
        let _ = writeln!(text, "  {}  {}", absolute(*at), style.paint(*tone, line));
    }
    if all.len() > MOST_MOMENTS {
        let _ = writeln!(text, "  … and {} more (--json, --html)", all.len() - MOST_MOMENTS);
    }
}

fn advice(text: &mut String, report: &Report, style: &Style) {
    match (&report.advice, report.best()) {
        (Advice::Take(_), Some(best)) => {
            let finer = best.score.as_ref().is_some_and(|score| score.finer_than_recorded);
            let caveat = if finer { " (a guess: it looks more often than was recorded)" } else { "" };
            let head = format!(
                "The cheapest setting that meets the RTO with no false failover and no missed outage: {}{caveat}",
                best.name
            );
            let _ = writeln!(text, "\n{}", style.paint(Tone::Good, &head));
            if !best.toml.is_empty() {
                let _ = write!(text, "\n{}", best.toml);
            }
        }
        (Advice::Take(_), None) => {}
        (Advice::None(why), _) => {
            let tone = if report.outages.is_some() { Tone::Bad } else { Tone::Dim };
            let _ = writeln!(text, "\n{}", style.paint(tone, &format!("No setting is recommended: {}.", clean(why))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtest::Outage;
    use crate::backtest::score::{Judged, TripView};
    use crate::model::{HumanDuration, WallTime};

    const NOON: i64 = 1_785_412_800_000;

    fn score(false_trips: usize, missed: usize) -> Score {
        let spread =
            |seconds| Some(Spread { median: HumanDuration::secs(seconds), p99: HumanDuration::secs(seconds + 1) });
        Score {
            probes_per_minute: 60.0,
            trips: 2 + false_trips,
            genuine: Some(2 - missed),
            false_trips: Some(false_trips),
            missed: Some(missed),
            called_off: 1,
            detect: spread(5),
            act: spread(15),
            meets_rto: Some(missed == 0),
            ..Score::default()
        }
    }

    fn report() -> Report {
        let mut current = score(1, 1);
        current.listed = vec![TripView {
            at: WallTime(NOON),
            scenario: "outage".into(),
            genuine: Some(false),
            after: HumanDuration::secs(9),
        }];
        current.outages = vec![Judged {
            outage: 0,
            first_bad: WallTime(NOON + 60_000),
            detect: None,
            act: None,
            in_time: false,
            missed: Some("cool_down: until later".into()),
        }];
        let tried =
            |name: &str, toml: &str, score| Tried { name: name.into(), toml: toml.into(), refused: None, score };
        let mut refused = tried("fall 9", "[defaults.probe]\nfall = 9\n", None);
        refused.refused = Some("the RTO of 1m cannot be met: 2m are needed".into());
        Report {
            from: WallTime(NOON - 3_600_000),
            to: WallTime(NOON + 3_600_000),
            probes: vec![ProbeHistory {
                probe: "api".into(),
                looks: 7200,
                interval: HumanDuration::secs(1),
                up: HumanDuration::secs(6000),
                down: HumanDuration::secs(1200),
                unknown: HumanDuration::ZERO,
            }],
            outages: Some(vec![Outage {
                from: WallTime(NOON + 60_000),
                to: WallTime(NOON + 120_000),
                scenario: "outage".into(),
                note: String::new(),
            }]),
            notes: vec!["Nothing was recorded of backup: taken to be up all the time.".into()],
            tried: vec![
                tried("as configured", "", Some(current)),
                refused,
                tried("fall 2", "[defaults.probe]\nfall = 2\n", Some(score(1, 0))),
                tried("fall 4", "[defaults.probe]\nfall = 4\n", Some(score(0, 0))),
            ],
            advice: Advice::Take(3),
        }
    }

    #[test]
    fn the_best_comes_after_what_is_and_is_ready_to_be_written() {
        let text = render_backtest(&report(), &Style::default());
        let places = ["as configured", "→  fall 4", "fall 2", "fall 9", "As configured"];
        let found: Vec<usize> =
            places.iter().map(|word| text.find(word).unwrap_or_else(|| panic!("{word}: {text}"))).collect();
        assert!(found.is_sorted(), "{found:?} {text}");
        for word in [
            "refused: the RTO of 1m cannot be met\n",
            "2026-07-30 12:00:00 UTC  FALSE failover of outage, 9 s after the first bad look",
            "2026-07-30 12:01:00 UTC  MISSED outage: cool_down: until later",
            "no missed outage: fall 4\n\n[defaults.probe]\nfall = 4\n",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }

    #[test]
    fn where_nothing_is_recommended_it_says_why() {
        let mut report = report();
        report.advice = Advice::None("of 3 settings 3 miss an outage".into());
        report.tried[2].score.as_mut().expect("played").finer_than_recorded = true;
        let text = render_backtest(&report, &Style::default());
        assert!(text.ends_with("No setting is recommended: of 3 settings 3 miss an outage.\n"), "{text}");
        assert!(text.contains("60.0 ~"), "{text}");
    }
}
