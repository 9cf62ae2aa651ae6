//! Where everything stands in the drawing, and the same chart in letters.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::core::report::{Chart, LaneKind, Span, Tone};
use crate::model::{HumanDuration, WallTime};

/// Of the drawing, in its own units.
const WIDTH: f64 = 1200.0;
/// The names stand left of it.
const LEFT: f64 = 240.0;
/// From lane to lane.
const LANE: f64 = 22.0;
/// The first lane; above it stand the times.
const TOP: f64 = 38.0;
/// A name is cut after so many letters.
const LONGEST_NAME: usize = 34;
/// The columns of the chart in letters.
const COLUMNS: usize = 72;
/// Nothing that was is drawn thinner.
const THINNEST: f64 = 2.0;

/// The drawing, ready for its template.
#[derive(Serialize)]
pub(super) struct Drawing {
    width: f64,
    height: f64,
    left: f64,
    ticks: Vec<Tick>,
    marks: Vec<Tick>,
    lanes: Vec<Row>,
    left_out: usize,
}

#[derive(Serialize)]
struct Tick {
    x: f64,
    words: String,
    after: String,
}

#[derive(Serialize)]
struct Row {
    y: f64,
    head: &'static str,
    name: String,
    full: String,
    spans: Vec<Bar>,
}

#[derive(Serialize)]
struct Bar {
    x: f64,
    width: f64,
    tone: Tone,
    words: String,
}

/// Lays the chart out.
pub(super) fn drawing(chart: &Chart) -> Drawing {
    let x = |at: WallTime| tenths(LEFT + (WIDTH - LEFT) * share(chart, at));
    let mut y = TOP;
    let mut before = None;
    let mut lanes = Vec::new();
    for lane in &chart.lanes {
        let head = if before == Some(lane.kind) { "" } else { head(lane.kind) };
        if before.is_some() && !head.is_empty() {
            y += LANE;
        }
        before = Some(lane.kind);
        let bar = |span: &Span| Bar {
            x: x(span.from),
            width: tenths(x(span.to) - x(span.from)).max(THINNEST),
            tone: span.tone,
            words: format!("{}, {} to {}", span.words, span.from, span.to),
        };
        let spans = lane.spans.iter().map(bar).collect();
        lanes.push(Row { y, head, name: short(&lane.name), full: lane.name.clone(), spans });
        y += LANE;
    }
    let tick = |at: WallTime, words: String| Tick { x: x(at), words, after: String::new() };
    let mark = |mark: &crate::core::report::Mark| Tick {
        x: x(mark.at),
        words: mark.name.clone(),
        after: after(chart, mark.at),
    };
    Drawing {
        width: WIDTH,
        height: y + 6.0,
        left: LEFT,
        ticks: ticks(chart).into_iter().map(|at| tick(at, clock(at))).collect(),
        marks: chart.marks.iter().map(mark).collect(),
        lanes,
        left_out: chart.left_out,
    }
}

/// The chart in letters.
pub(super) fn text(chart: &Chart) -> String {
    let widest = chart.lanes.iter().map(|lane| short(&lane.name).chars().count()).max().unwrap_or(0);
    let mut text = format!("{:widest$}  {}{:>rest$}\n", "", clock(chart.from), clock(chart.to), rest = COLUMNS - 12);
    let mut before = None;
    for lane in &chart.lanes {
        if before != Some(lane.kind) {
            let _infallible = writeln!(text, "{}", head(lane.kind).to_uppercase());
            before = Some(lane.kind);
        }
        let mut cells = ['·'; COLUMNS];
        for span in &lane.spans {
            let (from, to) = (column(chart, span.from), column(chart, span.to));
            cells[from..=to.max(from)].fill(letter(span.tone));
        }
        let cells: String = cells.into_iter().collect();
        let _infallible = writeln!(text, "{:widest$}  {cells}", plain(&short(&lane.name)));
    }
    let mut moments = vec![' '; COLUMNS];
    for (number, mark) in chart.marks.iter().enumerate() {
        let place = column(chart, mark.at);
        let free = (place..COLUMNS).find(|place| moments[*place] == ' ').unwrap_or(place);
        moments[free] = char::from_digit(u32::try_from(number + 1).unwrap_or(0), 36).unwrap_or('*');
    }
    let moments: String = moments.into_iter().collect();
    let _infallible = writeln!(text, "{:widest$}  {}", "", moments.trim_end());
    text.push_str(
        "\n█ down  ░ up  ? unknown or skipped  ▓ done  x failed or undone  ▒ under way  p waited for a person\n",
    );
    for (number, mark) in chart.marks.iter().enumerate() {
        let digit = char::from_digit(u32::try_from(number + 1).unwrap_or(0), 36).unwrap_or('*');
        let _infallible = writeln!(text, "{digit} {} {}", after(chart, mark.at), plain(&mark.name));
    }
    if chart.left_out > 0 {
        let _infallible = writeln!(text, "{} lanes are left out", chart.left_out);
    }
    text
}

fn head(kind: LaneKind) -> &'static str {
    match kind {
        LaneKind::Votes => "Votes",
        LaneKind::Step => "Steps",
    }
}

fn letter(tone: Tone) -> char {
    match tone {
        Tone::Down => '█',
        Tone::Up => '░',
        Tone::Unknown => '?',
        Tone::Done => '▓',
        Tone::Failed => 'x',
        Tone::Busy => '▒',
        Tone::Parked => 'p',
    }
}

/// From 0 at the beginning to 1 at the end.
fn share(chart: &Chart, at: WallTime) -> f64 {
    let whole = chart.to.since(chart.from).as_secs_f64();
    if whole > 0.0 { (at.since(chart.from).as_secs_f64() / whole).clamp(0.0, 1.0) } else { 0.0 }
}

fn column(chart: &Chart, at: WallTime) -> usize {
    // Never negative, and below COLUMNS.
    ((share(chart, at) * COLUMNS as f64) as usize).min(COLUMNS - 1)
}

/// A drawing needs no more, and its text stays the same on every machine.
fn tenths(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

/// Four to nine round times.
fn ticks(chart: &Chart) -> Vec<WallTime> {
    const ROUND: [i64; 16] = [
        100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000,
        21_600_000, 86_400_000,
    ];
    let length = chart.to.0.saturating_sub(chart.from.0);
    let step = ROUND.into_iter().find(|step| length / step <= 8).unwrap_or_else(|| (length / 8).max(1));
    let first = chart.from.0.div_euclid(step) + 1;
    (0..10).map(|number| WallTime((first + number) * step)).take_while(|at| *at < chart.to).collect()
}

fn clock(at: WallTime) -> String {
    at.to_string().get(11..23).unwrap_or_default().to_owned()
}

fn after(chart: &Chart, at: WallTime) -> String {
    let start = chart.marks.first().map_or(chart.from, |mark| mark.at);
    format!("+{}", HumanDuration(Duration::from_millis(u64::try_from(at.since(start).as_millis()).unwrap_or(0))))
}

fn short(name: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return name.to_owned();
    }
    name.chars().take(LONGEST_NAME - 1).chain(['…']).collect()
}

/// Within a block of code nothing is markup but its end.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c == '`' || c.is_control() { '\'' } else { c }).collect()
}

#[cfg(test)]
#[path = "sample.rs"]
pub(super) mod tests;
