//! `failoverd audit`: is the journal whole, and what is in it.

use std::io::Read;
use std::path::Path;

use serde_json::json;

use super::args::{Audit, Global};
use super::check::load_options;
use super::exit::{Exit, Failure, print, print_json};
use super::render::style::{Style, Tone, clean, lines};
use crate::config;
use crate::core::anchor::{Anchor, Fit, fit};
use crate::model::Record;
use crate::ports::JournalError;
use crate::state;

/// `failoverd audit VERB`.
///
/// # Errors
/// [`Failure`]: the configuration is wrong, or the journal cannot be read or is not what was written.
pub fn audit(global: &Global, verb: &Audit) -> Result<(), Failure> {
    let loaded = config::load(&load_options(global, false))
        .map_err(|faults| Failure::new(Exit::Usage, "configuration", faults.render(false)))?;
    let written = &loaded.file.daemon.state;
    let path = Path::new(written.strip_prefix("sqlite:").unwrap_or(written));
    match verb {
        Audit::Verify { anchors_from: Some(file), .. } => verify(global, path, file),
        Audit::Verify { anchor, anchors_from: None } => {
            let found = match anchor {
                Some(anchor) => state::audit_against(path, anchor.record, &anchor.checksum),
                None => state::audit(path),
            };
            let found = found.map_err(not_whole)?;
            if global.json {
                return print_json(&json!({ "records": found.records, "checksum": found.head }));
            }
            let kept = if anchor.is_some() { ", and nothing before the anchor was changed" } else { "" };
            print(&format!(
                "The journal {} is whole: {} records{kept}.\nKeep elsewhere: --anchor {}:{}\n",
                path.display(),
                found.records,
                found.records,
                found.head
            ))
        }
        Audit::List { last } => {
            let records = state::read_records(path).map_err(not_whole)?;
            let from = last.map_or(0, |last| records.len().saturating_sub(last));
            let records = &records[from..];
            if global.json { print_json(&records) } else { print(&table(records, &Style::detect())) }
        }
    }
}

/// More than this nobody keeps in years.
const LONGEST_FILE: u64 = 64 * 1024 * 1024;

/// Holds the journal against every anchor of a file.
fn verify(global: &Global, path: &Path, file: &Path) -> Result<(), Failure> {
    let unread = |why: String| Failure::usage(format!("the anchors of {} cannot be read: {why}", file.display()));
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|error| unread(error.to_string()))?;
    opened.take(LONGEST_FILE).read_to_string(&mut text).map_err(|error| unread(error.to_string()))?;
    let anchors = Anchor::read(&text).map_err(|line| {
        unread(format!("line {line} is neither RECORD:CHECKSUM nor a notice as a webhook was sent it, in JSON"))
    })?;
    if anchors.is_empty() {
        return Err(unread("there are none in it".into()));
    }
    let records = state::read_linked(path).map_err(not_whole)?;
    let checksums: Vec<String> = records.into_iter().map(|(_, checksum)| checksum).collect();
    let told = fit(anchors, &checksums);
    if global.json {
        let line =
            |(anchor, fit): &(Anchor, Fit)| json!({ "record": anchor.record, "checksum": anchor.checksum, "fit": fit });
        print_json(&json!({ "records": checksums.len(), "anchors": told.iter().map(line).collect::<Vec<_>>() }))?;
    } else {
        print(&anchor_table(&told, &Style::detect()))?;
    }
    judge(path, checksums.len(), &told)
}

/// # Errors
/// [`Failure`] for the first anchor that does not fit.
fn judge(path: &Path, records: usize, told: &[(Anchor, Fit)]) -> Result<(), Failure> {
    let Some(place) = told.iter().position(|(_, fit)| *fit != Fit::Fits) else { return Ok(()) };
    let (anchor, fit) = &told[place];
    let what = match fit {
        Fit::CutOff => format!("the journal ends with record {records}: what came after it was cut off"),
        _ => format!("record {} has another checksum: it, or something before it, was written anew", anchor.record),
    };
    let good = match place.checked_sub(1).map(|before| &told[before].0) {
        Some(last) => format!("up to record {} nothing was changed", last.record),
        None => "no anchor before it shows how far it can be trusted".to_owned(),
    };
    let message = format!("{}: the anchor of record {} does not fit: {what}; {good}", path.display(), anchor.record);
    Err(Failure::new(Exit::Failed, "journal", message))
}

fn anchor_table(told: &[(Anchor, Fit)], style: &Style) -> String {
    let mut table = style.table(&["RECORD", "CHECKSUM", ""]);
    for (anchor, fit) in told {
        let (tone, word) = match fit {
            Fit::Fits => (Tone::Good, "fits"),
            Fit::CutOff => (Tone::Bad, "CUT OFF"),
            Fit::WrittenAnew => (Tone::Bad, "WRITTEN ANEW"),
        };
        table.add_row([
            style.cell(Tone::Head, anchor.record.to_string()),
            style.cell(Tone::Dim, anchor.checksum.chars().take(12).collect::<String>()),
            style.cell(tone, word),
        ]);
    }
    lines(&table)
}

fn not_whole(error: JournalError) -> Failure {
    Failure::new(Exit::Failed, "journal", error.to_string())
}

fn table(records: &[Record], style: &Style) -> String {
    let mut table = style.table(&["RECORD", "AT", "WHAT", ""]);
    for record in records {
        let (what, rest) = record.entry.told();
        table.add_row([
            style.cell(Tone::Head, record.seq.to_string()),
            style.cell(Tone::Plain, record.at.to_string()),
            style.cell(Tone::Plain, what),
            style.cell(Tone::Dim, clean(&rest)),
        ]);
    }
    lines(&table)
}
