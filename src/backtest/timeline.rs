//! Timelines as inline SVG: the health of each probe, the labelled outages, the failovers.

use std::fmt::Write as _;

use super::history::{History, Series};
use super::page::escape;
use crate::model::{Health, WallTime};

/// The width of a drawing, in its own units; no stretch is drawn finer than one of them.
const WIDTH: usize = 1000;
/// At the left, for the names.
const NAMES: usize = 170;
const LANE: usize = 22;
/// So many lanes at most; a page that shows more shows nothing.
const MOST_LANES: usize = 40;

/// A span of time with its words.
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) words: String,
}

/// A lane of instants.
pub(super) struct Marks<'a> {
    pub(super) name: &'a str,
    /// When, whether it was right (`None` where nobody can tell), and in words.
    pub(super) at: Vec<(i64, Option<bool>, String)>,
}

/// Draws from an instant to another, in milliseconds since 1970.
pub(super) fn draw(history: &History, (from, to): (i64, i64), outages: &[Span], marks: &[Marks<'_>]) -> String {
    let scale = Scale { from, to: to.max(from + 1) };
    let shown: Vec<&Series> = history.series.values().take(MOST_LANES).collect();
    let lanes = shown.len() + marks.len() + 1;
    let height = lanes * LANE + 24;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {height}\" role=\"img\" aria-label=\"From {} to {}\">\n",
        NAMES + WIDTH,
        WallTime(from),
        WallTime(to)
    );
    for outage in outages.iter().filter(|outage| outage.from <= to && outage.to >= from) {
        let (x, width) = scale.span(outage.from, outage.to);
        let below = height - 24;
        rect(&mut svg, "outage", (x, 0.0), (width, below as f64), &outage.words);
    }
    for (lane, series) in shown.iter().enumerate() {
        name(&mut svg, lane, series.probe.as_str());
        for (start, end, health) in columns(series, &scale) {
            let class = match health {
                Health::Up => "up",
                Health::Down => "down",
                Health::Unknown => "unknown",
            };
            let words = format!("{} {health}, {} to {}", series.probe, WallTime(start), WallTime(end));
            let (x, width) = scale.span(start, end);
            rect(&mut svg, class, (x, (lane * LANE + 4) as f64), (width, 14.0), &words);
        }
    }
    name(&mut svg, shown.len(), "labelled");
    for outage in outages.iter().filter(|outage| outage.from <= to && outage.to >= from) {
        let (x, width) = scale.span(outage.from, outage.to);
        rect(&mut svg, "label", (x, (shown.len() * LANE + 7) as f64), (width, 8.0), &outage.words);
    }
    for (place, lane) in marks.iter().enumerate() {
        let lane_at = shown.len() + 1 + place;
        name(&mut svg, lane_at, lane.name);
        for (at, right, words) in lane.at.iter().filter(|(at, _, _)| (from..=to).contains(at)) {
            let class = match right {
                Some(true) => "right",
                Some(false) => "wrong",
                None => "trip",
            };
            let (x, y) = (scale.x(*at), lane_at * LANE + 11);
            let _ = writeln!(
                svg,
                "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y}\" r=\"5\"><title>{}</title></circle>",
                escape(words)
            );
        }
    }
    axis(&mut svg, &scale, height);
    svg.push_str("</svg>\n");
    svg
}

struct Scale {
    from: i64,
    to: i64,
}

impl Scale {
    fn x(&self, at: i64) -> f64 {
        let at = at.clamp(self.from, self.to);
        NAMES as f64 + (at - self.from) as f64 / (self.to - self.from) as f64 * WIDTH as f64
    }

    /// Where a span begins and how wide it is; the shortest can be seen too.
    fn span(&self, from: i64, to: i64) -> (f64, f64) {
        let (left, right) = (self.x(from), self.x(to));
        (left, (right - left).max(1.0))
    }

    /// The instant at which a column begins.
    fn column(&self, column: usize) -> i64 {
        let part = i128::from(self.to - self.from) * column as i128 / WIDTH as i128;
        self.from.saturating_add(i64::try_from(part).unwrap_or(0))
    }
}

/// The stretches of a series, merged to the columns of the drawing: in each the worst holds, so that
/// what was short is still seen.
fn columns(series: &Series, scale: &Scale) -> Vec<(i64, i64, Health)> {
    let exact = series.stretches(scale.from, scale.to);
    if exact.len() <= WIDTH {
        return exact;
    }
    let rank = |health: Health| match health {
        Health::Up => 0,
        Health::Unknown => 1,
        Health::Down => 2,
    };
    let mut merged: Vec<(i64, i64, Health)> = Vec::new();
    let mut next = 0;
    for column in 0..WIDTH {
        let (start, end) = (scale.column(column), scale.column(column + 1));
        while exact.get(next).is_some_and(|stretch| stretch.1 <= start) {
            next += 1;
        }
        let within = exact[next.min(exact.len())..].iter().take_while(|stretch| stretch.0 < end);
        let Some(worst) = within.map(|stretch| stretch.2).max_by_key(|health| rank(*health)) else { continue };
        match merged.last_mut() {
            Some(last) if last.2 == worst && last.1 == start => last.1 = end,
            _ => merged.push((start, end, worst)),
        }
    }
    merged
}

fn rect(svg: &mut String, class: &str, (x, y): (f64, f64), (width, height): (f64, f64), words: &str) {
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{height:.0}\"><title>{}</title></rect>",
        escape(words)
    );
}

fn name(svg: &mut String, lane: usize, name: &str) {
    // What is cut off here is whole in the tables and in the words of each stretch.
    let short: String =
        if name.chars().count() > 24 { name.chars().take(23).chain(['…']).collect() } else { name.into() };
    let _ = writeln!(svg, "<text x=\"0\" y=\"{}\">{}</text>", lane * LANE + 15, escape(&short));
}

/// Five instants below.
fn axis(svg: &mut String, scale: &Scale, height: usize) {
    for tick in 0..=4 {
        let at = scale.column(tick * WIDTH / 4);
        let text = WallTime(at).to_string();
        let text = text.split('.').next().unwrap_or_default().replace('T', " ");
        let anchor = match tick {
            0 => "start",
            4 => "end",
            _ => "middle",
        };
        let _ = writeln!(
            svg,
            "<text class=\"axis\" x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>",
            scale.x(at),
            height - 6
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::history::Point;
    use super::*;

    fn flapping(looks: i64) -> History {
        let points = (0..looks).map(|place| Point {
            at: place * 1000,
            health: if place % 2 == 0 { Health::Up } else { Health::Down },
            latency: None,
            cause: None,
        });
        History::new([Series::new("api".into(), points.collect(), Duration::from_secs(1))]).expect("some")
    }

    #[test]
    fn long_histories_are_merged_and_what_was_short_is_seen() {
        let history = flapping(100_000);
        let svg = draw(&history, (history.from, history.to), &[], &[]);
        assert!(svg.matches("<rect").count() <= WIDTH, "{}", svg.matches("<rect").count());
        assert!(svg.contains("class=\"down\""));
        let history = flapping(10);
        let svg = draw(&history, (history.from, history.to), &[], &[]);
        assert_eq!(svg.matches("<rect").count(), 9);
    }

    #[test]
    fn marks_and_outages_are_drawn_within_the_time_only() {
        let history = flapping(10);
        let outage = |from, to| Span { from, to, words: "a <b>".into() };
        let marks =
            Marks { name: "as configured", at: vec![(5000, Some(false), "x".into()), (90_000, None, "y".into())] };
        let svg = draw(&history, (0, 9000), &[outage(4000, 6000), outage(20_000, 30_000)], &[marks]);
        assert_eq!(svg.matches("class=\"outage\"").count(), 1);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains("a &lt;b&gt;") && !svg.contains("<b>"));
        assert!(svg.contains("class=\"wrong\" cx=\"725.6\""), "{svg}");
    }
}
