//! The rows and files of a state, reached by the fuzzer.

use serde_json::Value;

use super::chain::{Row, Tail, check, link};
use super::inputs::{Blocks, InputsError, blocks};
use crate::model::Record;

/// One row a line, `{"at": …, "entry": …, "checksum": …}`; a checksum of `null` is made right.
pub(crate) fn rows(data: &[u8]) {
    let mut tail = Tail::default();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let Ok(value) = serde_json::from_slice::<Value>(line) else { continue };
        let entry = match &value["entry"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let at = value["at"].as_i64().unwrap_or_default();
        let seq = i64::try_from(tail.seq).unwrap_or_default() + 1;
        let right = link(&tail.checksum, seq, at, &entry);
        let checksum = value["checksum"].as_str().map_or(right, str::to_owned);
        if let Ok((_record, next)) = check(&tail, Row { seq, at, entry, checksum }) {
            tail = next;
        }
    }
}

/// Records with their checksums, as far as they follow from each other.
pub(crate) fn linked(records: &[Record]) -> Vec<(Record, String)> {
    let mut tail = Tail::default();
    let mut linked = Vec::new();
    for record in records {
        let Ok((row, next)) = tail.follow(record) else { break };
        linked.push((record.clone(), row.checksum.clone()));
        let read = check(&tail, row);
        assert!(read.is_ok_and(|(read, _)| read == *record), "it does not read what it wrote");
        tail = next;
    }
    linked
}

/// The blocks of a segment.
pub(crate) fn segment(data: &[u8]) -> Result<Option<Blocks>, InputsError> {
    blocks(data, std::path::Path::new("1.segment"))
}
