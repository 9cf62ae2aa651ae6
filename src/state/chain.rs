//! The journal's rows, each bound to the one before it.
//!
//! `checksum = hex(sha256(previous checksum, "\n", seq, "\n", at, "\n", entry))`, with the numbers in
//! decimal and sixty-four zeros before the first row. It is text over text, so that an auditor can
//! check it with a few lines of any language and without failoverd.

use std::fmt::Write;

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::schema;
use crate::model::{Entry, Epoch, Record, WallTime};
use crate::ports::JournalError;

/// What comes before the first row.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Where the chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) seq: u64,
    pub(super) checksum: String,
    pub(super) highest: Epoch,
}

impl Default for Tail {
    fn default() -> Self {
        Self { seq: 0, checksum: GENESIS.to_owned(), highest: Epoch(0) }
    }
}

/// A record on its way to the disk.
pub(super) struct Row {
    pub(super) seq: i64,
    pub(super) at: i64,
    pub(super) entry: String,
    pub(super) checksum: String,
}

impl Tail {
    /// The row of the record that follows, and the tail behind it.
    pub(super) fn follow(&self, record: &Record) -> Result<(Row, Self), String> {
        let expected = self.seq.saturating_add(1);
        if record.seq != expected {
            return Err(format!("it does not follow: record {expected} comes next"));
        }
        let highest = self.granted(&record.entry)?;
        let seq = i64::try_from(record.seq).map_err(|_| "its number is too large".to_owned())?;
        let entry = serde_json::to_string(&record.entry).map_err(|error| format!("it has no JSON: {error}"))?;
        // A row that replay cannot read would keep the daemon from ever starting again.
        serde_json::from_str::<Entry>(&entry).map_err(|error| format!("it could not be read again: {error}"))?;
        let checksum = link(&self.checksum, seq, record.at.0, &entry);
        let tail = Self { seq: record.seq, checksum: checksum.clone(), highest };
        Ok((Row { seq, at: record.at.0, entry, checksum }, tail))
    }

    /// The highest epoch behind this entry. Granting one twice would let two runs pass for one.
    fn granted(&self, entry: &Entry) -> Result<Epoch, String> {
        match entry {
            Entry::RunStarted { epoch, .. }
            | Entry::RunTakenUp { epoch, .. }
            | Entry::LeaderChanged { epoch: Some(epoch), .. } => {
                if *epoch <= self.highest {
                    return Err(format!("it grants epoch {epoch}, and epoch {} was granted before", self.highest));
                }
                Ok(*epoch)
            }
            _ => Ok(self.highest),
        }
    }
}

pub(super) fn link(previous: &str, seq: i64, at: i64, entry: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(previous);
    hasher.update(format!("\n{seq}\n{at}\n"));
    hasher.update(entry);
    hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads every row in order, checks that it follows from the one before, and hands it on with its checksum.
pub(super) fn walk(
    connection: &Connection,
    path: &str,
    mut each: impl FnMut(Record, &str),
) -> Result<Tail, JournalError> {
    let mut tail = Tail::default();
    let unreadable = |tail: &Tail, error: &rusqlite::Error| JournalError::Corrupt {
        path: path.to_owned(),
        seq: tail.seq.saturating_add(1),
        reason: schema::describe(error),
    };
    let mut statement = connection
        .prepare("SELECT seq, at, entry, checksum FROM journal ORDER BY seq")
        .map_err(|error| unreadable(&tail, &error))?;
    let mut rows = statement.query([]).map_err(|error| unreadable(&tail, &error))?;
    while let Some(row) = rows.next().map_err(|error| unreadable(&tail, &error))? {
        let row = read(row).map_err(|error| unreadable(&tail, &error))?;
        let (record, next) =
            check(&tail, row).map_err(|(seq, reason)| JournalError::Corrupt { path: path.to_owned(), seq, reason })?;
        each(record, &next.checksum);
        tail = next;
    }
    Ok(tail)
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row { seq: row.get(0)?, at: row.get(1)?, entry: row.get(2)?, checksum: row.get(3)? })
}

pub(super) fn check(tail: &Tail, row: Row) -> Result<(Record, Tail), (u64, String)> {
    let expected = tail.seq.saturating_add(1);
    let seq = u64::try_from(row.seq).unwrap_or(0);
    if seq != expected {
        return Err((expected, format!("it is missing: record {} comes next", row.seq)));
    }
    if link(&tail.checksum, row.seq, row.at, &row.entry) != row.checksum {
        return Err((seq, "its checksum does not match what it says and what came before".to_owned()));
    }
    // The checksum holds, so this is what was written: by a newer version, most likely.
    let entry: Entry = serde_json::from_str(&row.entry).map_err(|error| {
        (
            seq,
            format!(
                "failoverd {} cannot read it: {error}; was it written by a newer version?",
                env!("CARGO_PKG_VERSION")
            ),
        )
    })?;
    let highest = tail.granted(&entry).map_err(|reason| (seq, reason))?;
    let record = Record { seq, at: WallTime(row.at), entry };
    Ok((record, Tail { seq, checksum: row.checksum, highest }))
}
