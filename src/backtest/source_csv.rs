//! Recorded looks from a CSV file: `time,probe,health[,latency_ms][,cause]`.

use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::IntoDeserializer;

use super::csv::{Reader, Row};
use super::history::{History, MOST_POINTS, Point, Series};
use super::{Wrong, labels};
use crate::config::suggest;
use crate::model::{CauseKind, Health, ProbeName, Settings};

const TIME: usize = 0;
const PROBE: usize = 1;
const HEALTH: usize = 2;
const LATENCY: usize = 3;
const CAUSE: usize = 4;

/// The looks that count: from here until there, in milliseconds since 1970.
pub type Window = (Option<i64>, Option<i64>);

/// Reads the file.
///
/// # Errors
/// [`Wrong`] with file, line and column.
pub fn open(path: &Path, settings: &Settings, window: Window) -> Result<History, Wrong> {
    let name = path.display().to_string();
    read(labels::open(path)?, &name, settings, window)
}

/// Reads the text of a file that is called `name`.
///
/// # Errors
/// [`Wrong`] with file, line and column.
pub fn read(source: impl Read, name: &str, settings: &Settings, window: Window) -> Result<History, Wrong> {
    let source = std::io::BufReader::with_capacity(1 << 16, source);
    let points = rows(source, name, settings, window)?;
    let series = points.into_iter().enumerate().map(|(probe, points)| {
        let probe = &settings.probes[probe];
        Series::new(probe.name.clone(), points, probe.interval.get())
    });
    History::new(series).ok_or_else(|| match window {
        (None, None) => Wrong::Given(format!("{name}: nothing was recorded: there is no row below the first line")),
        _ => Wrong::Given(format!("{name}: nothing was recorded between --from and --to")),
    })
}

fn rows(source: impl BufRead, name: &str, settings: &Settings, window: Window) -> Result<Vec<Vec<Point>>, Wrong> {
    let mut reader = Reader::new(source, name, &["time", "probe", "health"], &["latency_ms", "cause"])?;
    let probes: HashMap<&str, usize> =
        settings.probes.iter().enumerate().map(|(place, probe)| (probe.name.as_str(), place)).collect();
    let mut points: Vec<Vec<Point>> = vec![Vec::new(); settings.probes.len()];
    let mut fields = Vec::new();
    let mut read = 0_usize;
    while let Some(row) = reader.next(&mut fields)? {
        read += 1;
        if read > MOST_POINTS {
            let more = format!("there are more than {MOST_POINTS} rows; split the file, or record less often");
            return Err(row.wrong(TIME, more));
        }
        let probe = row.text(PROBE);
        let Some(place) = probes.get(probe) else {
            return Err(row.wrong(PROBE, unknown_probe(probe, settings)));
        };
        if settings.probes[*place].window.is_some() {
            let what = format!("`{probe}` is computed from what other probes saw: leave its rows out");
            return Err(row.wrong(PROBE, what));
        }
        let point = point(&row)?;
        if window.0.is_none_or(|from| from <= point.at) && window.1.is_none_or(|to| point.at <= to) {
            points[*place].push(point);
        }
    }
    Ok(points)
}

/// There is no probe of this name.
pub fn unknown_probe(name: &str, settings: &Settings) -> String {
    let known: Vec<&str> = settings.probes.iter().map(|probe| ProbeName::as_str(&probe.name)).collect();
    let fix = match known.len() {
        0..=12 => suggest::fix(name, "probe", known),
        _ => suggest::nearest(name, known).map(|near| format!("did you mean `{near}`?")).unwrap_or_default(),
    };
    let what = format!("the configuration has no probe `{name}`");
    if fix.is_empty() { what } else { format!("{what}: {fix}") }
}

fn point(row: &Row<'_>) -> Result<Point, Wrong> {
    let latency = match row.text(LATENCY) {
        "" => None,
        text => match text.parse::<f64>() {
            Ok(latency) if (0.0..=86_400_000.0).contains(&latency) => Some(latency.ceil() as u32),
            _ => return Err(row.wrong(LATENCY, format!("`{text}` is no latency in milliseconds"))),
        },
    };
    let cause = match row.text(CAUSE) {
        "" => None,
        text => Some(cause(text).ok_or_else(|| {
            row.wrong(
                CAUSE,
                format!("`{text}` is no cause that we know; leave it empty, or write one such as `timeout`"),
            )
        })?),
    };
    Ok(Point { at: row.time(TIME)?, health: health(row)?, latency, cause })
}

fn health(row: &Row<'_>) -> Result<Health, Wrong> {
    let text = row.text(HEALTH);
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    match text {
        "1" => Ok(Health::Up),
        "0" => Ok(Health::Down),
        _ if is("up") => Ok(Health::Up),
        _ if is("down") => Ok(Health::Down),
        _ if is("unknown") => Ok(Health::Unknown),
        _ => Err(row.wrong(HEALTH, format!("`{text}` is no health: write up, down or unknown, or 1 or 0"))),
    }
}

fn cause(text: &str) -> Option<CauseKind> {
    let text: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
    CauseKind::deserialize(text).ok()
}

#[cfg(test)]
mod tests {
    use super::super::replay::tests::settings;
    use super::*;

    fn parse(text: &str) -> Result<History, Wrong> {
        read(text.as_bytes(), "h.csv", &settings(), (None, None))
    }

    fn wrong(text: &str) -> String {
        parse(text).expect_err("wrong").to_string()
    }

    #[test]
    fn rows_in_any_order_become_series() {
        let text = "time,probe,health,latency_ms,cause\n1785381166,api,1,,\n1785381164,api,up,12.4,\n\
                    2026-07-30T03:12:45Z,api,DOWN,1000,timeout\n1785381164,backup,unknown,,local_resolver\n";
        let history = parse(text).expect("good");
        let api = &history.series[&"api".into()].points;
        assert_eq!(api.iter().map(|point| point.health).collect::<Vec<_>>(), [Health::Up, Health::Down, Health::Up]);
        assert_eq!((api[0].latency, api[1].cause), (Some(13), Some(CauseKind::Timeout)));
        assert_eq!(history.series[&"backup".into()].points[0].cause, Some(CauseKind::LocalResolver));
        assert_eq!(history.span().as_secs(), 2);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert_eq!(
            wrong("time,probe,health\n1785381164,apo,up\n"),
            "h.csv:2:12: the configuration has no probe `apo`: did you mean `api`?"
        );
        assert_eq!(
            wrong("time,probe,health\n1785381164,api,upp\n"),
            "h.csv:2:16: `upp` is no health: write up, down or unknown, or 1 or 0"
        );
        assert!(wrong("time,probe,health\nsoon,api,up\n").starts_with("h.csv:2:1: `soon` is not a time"));
        assert!(
            wrong("time,probe,health,cause\n1,api,down,tiemout\n").starts_with("h.csv:2:12: `tiemout` is no cause")
        );
        assert!(wrong("time,probe,health,latency_ms\n1,api,up,-3\n").starts_with("h.csv:2:10: `-3` is no latency"));
        assert!(wrong("time,prob,health\n").contains("did you mean `probe`?"));
        assert!(wrong("time,probe,health\n").contains("nothing was recorded"));
        assert!(wrong("").contains("this is empty"));
    }

    #[test]
    fn only_what_lies_in_the_window_counts() {
        let text = "time,probe,health\n10,api,1\n20,api,0\n30,api,1\n";
        let read = |window| read(text.as_bytes(), "h.csv", &settings(), window);
        let history = read((Some(15_000), Some(30_000))).expect("two rows");
        assert_eq!((history.from, history.to), (20_000, 30_000));
        assert!(read((Some(40_000), None)).expect_err("nothing").to_string().contains("--from"));
    }
}
