//! `failoverd replay`: an incident's recorded inputs through the brain of this program.

use std::sync::Arc;

use serde::Serialize;

use super::args::{Global, ReplayArgs};
use super::check::load_options;
use super::context::state_path;
use super::exit::{Exit, Failure, print, print_json};
use super::render::style::{Style, Tone, clean, lines};
use super::show::unknown;
use crate::actions;
use crate::clients::Clients;
use crate::config::shape::Limits;
use crate::core::replay::{Played, play};
use crate::core::report::{Course, incidents};
use crate::core::tape;
use crate::core::{ActionCheck, Checkpoint};
use crate::model::{IncidentId, Record, WallTime};
use crate::state::{Segment, inputs_path, read_segments};

/// What a replay found.
#[derive(Debug, Serialize)]
struct Found {
    incident: IncidentId,
    /// Everything of the incident came out as it was.
    same: bool,
    /// The journal's first and last record of the incident.
    records: (u64, u64),
    segments: Vec<Part>,
    /// What keeps the replay from being whole.
    missing: Vec<String>,
    /// What one has to know to read it.
    notes: Vec<String>,
}

/// What came of one segment.
#[derive(Debug, Serialize)]
struct Part {
    segment: u64,
    from: WallTime,
    version: String,
    played: Played,
}

/// `failoverd replay INCIDENT`.
///
/// # Errors
/// [`Failure`], exit code 1: there is no such incident or recording, it was changed, or it came out otherwise.
pub fn replay(global: &Global, args: &ReplayArgs) -> Result<(), Failure> {
    let path = match &args.state {
        Some(path) => path.clone(),
        None => state_path(&load_options(global, false))?,
    };
    let journal = super::report::journal(&path)?;
    let id = IncidentId::from(args.incident.as_str());
    let span = Course::of(&journal, &id).map(|course| (course.first, course.last));
    let Some(span) = span else {
        let known = incidents(&journal);
        return Err(unknown("incident", id.as_str(), known.iter().map(|id| id.as_str())));
    };
    let records: Vec<Record> = journal.into_iter().map(|linked| linked.record).collect();
    let unread = |error: crate::state::InputsError| Failure::new(Exit::Failed, "recording", error.to_string());
    let segments = read_segments(&inputs_path(&path)).map_err(unread)?;
    let found = play_all(id, span, &segments, &records)?;
    if global.json {
        print_json(&found)?;
    } else {
        print(&told(&found, &Style::detect()))?;
    }
    if found.same { Ok(()) } else { Err(Failure::said(Exit::Failed)) }
}

fn play_all(id: IncidentId, span: (u64, u64), segments: &[Segment], records: &[Record]) -> Result<Found, Failure> {
    let wrong = |what: String| Failure::new(Exit::Failed, "recording", what);
    let mut found = Found {
        incident: id,
        same: false,
        records: span,
        segments: Vec::new(),
        missing: Vec::new(),
        notes: Vec::new(),
    };
    let mut read = Vec::new();
    for segment in segments {
        let blocks = segment.read().map_err(|error| wrong(error.to_string()))?;
        let Some(blocks) = blocks else { continue };
        let checkpoint: Checkpoint = serde_json::from_slice(&blocks.checkpoint).map_err(|error| {
            wrong(format!(
                "the recording {}: failoverd {} cannot read its checkpoint: {error}; was it made by another version?",
                segment.path.display(),
                env!("CARGO_PKG_VERSION")
            ))
        })?;
        read.push((segment, checkpoint, blocks));
    }
    let begins: Vec<u64> = read.iter().map(|(_, checkpoint, _)| checkpoint.seq).collect();
    let clients = Arc::new(Clients::new(&Limits::default()));
    let mut reached = None;
    let mut follows: Option<u64> = None;
    for (place, (segment, checkpoint, blocks)) in read.into_iter().enumerate() {
        // What happens in it begins behind its own checkpoint, and ends with the next one's.
        let end = begins.get(place + 1).copied().unwrap_or(u64::MAX);
        if end < span.0 || checkpoint.seq >= span.1 {
            continue;
        }
        if reached.is_none() && checkpoint.seq >= span.0 {
            found.missing.push(format!(
                "the recording begins behind record {}, and the incident with record {}",
                checkpoint.seq, span.0
            ));
        }
        if let Some(last) = follows.filter(|last| *last < checkpoint.seq && checkpoint.lost == 0) {
            found.missing.push(format!("records {} to {} are in no segment", last + 1, checkpoint.seq));
        }
        if checkpoint.lost > 0 {
            found.missing.push(format!(
                "a gap: {} inputs before {} could not be recorded in time",
                checkpoint.lost, checkpoint.now.wall
            ));
        }
        if checkpoint.version != env!("CARGO_PKG_VERSION") {
            found.notes.push(format!(
                "segment {} was recorded by failoverd {}, this is {}: it may decide otherwise, and not be wrong",
                segment.number,
                checkpoint.version,
                env!("CARGO_PKG_VERSION")
            ));
        }
        if blocks.is_torn {
            found.notes.push(format!("segment {} ends in the middle of a block, which is left out", segment.number));
        }
        let seq = checkpoint.seq;
        let (from, version) = (checkpoint.now.wall, checkpoint.version.clone());
        let settings = Arc::clone(&checkpoint.settings);
        let frames = tape::read(checkpoint.now, &blocks.rest, |place| {
            settings.probes.get(place).map(|probe| probe.name.clone())
        })
        .map_err(|what| wrong(format!("the recording {}: {what}", segment.path.display())))?;
        let check = {
            let clients = Arc::clone(&clients);
            ActionCheck::new(move |spec| actions::wrong(spec, &clients))
        };
        let played = play(checkpoint, &frames, records, check);
        let played = played.map_err(|error| Failure::new(Exit::Failed, "journal", error.to_string()))?;
        follows = played.difference.is_none().then_some(played.last.unwrap_or(seq));
        reached = played.last.or(reached).or(Some(seq));
        found.segments.push(Part { segment: segment.number, from, version, played });
    }
    match reached {
        None => found.missing.push("nothing of the incident was recorded, or it was given up since".into()),
        Some(last) if last < span.1 && found.segments.iter().all(|part| part.played.difference.is_none()) => {
            found
                .missing
                .push(format!("the recording ends with record {last}, and the incident with record {}", span.1));
        }
        Some(_) => {}
    }
    let differs = found.segments.iter().any(|part| part.played.difference.is_some());
    found.same = !differs && found.missing.is_empty();
    Ok(found)
}

fn told(found: &Found, style: &Style) -> String {
    let mut table = style.table(&["SEGMENT", "FROM", "VERSION", "INPUTS", "RECORDS", "DECISIONS", ""]);
    for part in &found.segments {
        let (tone, word) = match part.played.difference {
            None => (Tone::Good, "the same"),
            Some(_) => (Tone::Bad, "differs"),
        };
        table.add_row([
            style.cell(Tone::Head, part.segment.to_string()),
            style.cell(Tone::Plain, part.from.to_string()),
            style.cell(Tone::Plain, clean(&part.version)),
            style.cell(Tone::Plain, part.played.inputs.to_string()),
            style.cell(Tone::Plain, part.played.records.to_string()),
            style.cell(Tone::Plain, part.played.decisions.to_string()),
            style.cell(tone, word.to_owned()),
        ]);
    }
    let mut text = lines(&table);
    for part in &found.segments {
        let Some(difference) = &part.played.difference else { continue };
        let record = difference.record.map(|record| format!(", record {record}")).unwrap_or_default();
        text += &format!(
            "\nIt comes out otherwise after input {} of segment {} at {}{record}:\n  recorded  {}\n  now       {}\n",
            difference.input,
            part.segment,
            difference.at,
            clean(&difference.expected),
            clean(&difference.got)
        );
    }
    let notes = found.missing.iter().chain(&found.notes);
    notes.for_each(|note| text += &format!("\n{}\n", clean(note)));
    if found.same {
        let (first, last) = found.records;
        text += &format!("\n{}: records {first} to {last} come out the same, byte for byte.\n", found.incident);
    }
    text
}
