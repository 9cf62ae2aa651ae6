//! `failoverd audit`: is the journal whole, and what is in it.

use std::path::Path;

use serde_json::json;

use super::args::{Audit, Global};
use super::check::load_options;
use super::exit::{Exit, Failure, print, print_json};
use super::render::style::{Style, Tone, clean, lines};
use crate::config;
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
        Audit::Verify { anchor } => {
            let found = match anchor {
                Some((seq, checksum)) => state::audit_against(path, *seq, checksum),
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
