//! The journal as it lies in the cluster: a row for each record, in the same chain as in the embedded store.

use std::sync::Arc;

use etcd_client::{GetOptions, KeyValue, SortOrder, SortTarget};

use super::keys::Keys;
use super::remote::{Remote, Unreachable};
use crate::model::Record;
use crate::state::chain::{Row, Tail, check};

/// So many rows are read at one go.
const PAGE: i64 = 500;

/// Why the journal in the cluster is not what this member knows of it.
#[derive(Debug, thiserror::Error)]
pub enum RollError {
    /// The cluster did not answer.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// It does not go on where this member's copy ends.
    #[error(
        "the journal in the cluster is not the one that this member has a copy of: record {seq}: {reason}; was the cluster set back to an older copy, or made anew? Nothing is led on it. If it shall hold, stop this member and move its local copy away; else restore the cluster"
    )]
    Diverged {
        /// Which record.
        seq: u64,
        /// How.
        reason: String,
    },
}

/// The end of the journal, as a value: the number of the last record and its checksum.
pub fn tail_text(tail: &Tail) -> String {
    format!("{} {}", tail.seq, tail.checksum)
}

/// The number of the last record.
pub fn tail_seq(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.split(' ').next()?.parse().ok()
}

/// A row as a value.
pub fn row_text(row: &Row) -> String {
    serde_json::json!({ "at": row.at, "entry": row.entry, "checksum": row.checksum }).to_string()
}

fn row(seq: u64, value: &[u8]) -> Result<Row, String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Value {
        at: i64,
        entry: String,
        checksum: String,
    }
    let value: Value = serde_json::from_slice(value).map_err(|error| format!("it is not a record: {error}"))?;
    let seq = i64::try_from(seq).map_err(|_| "its number is too large".to_owned())?;
    Ok(Row { seq, at: value.at, entry: value.entry, checksum: value.checksum })
}

/// The next records behind a tail, at most a page of them, and the tail behind these.
///
/// # Errors
/// [`RollError`]; then nothing was taken.
pub async fn next_page(remote: &Remote, keys: &Keys, tail: &Tail) -> Result<(Vec<Record>, Tail), RollError> {
    let (from, end) = (keys.record(tail.seq + 1), keys.records_end());
    let options = GetOptions::new().with_range(end).with_limit(PAGE).with_sort(SortTarget::Key, SortOrder::Ascend);
    let arguments = Arc::new((from, options));
    let answer = remote
        .call(|mut client| {
            let arguments = Arc::clone(&arguments);
            async move { client.get(arguments.0.clone(), Some(arguments.1.clone())).await }
        })
        .await?;
    let mut records = Vec::with_capacity(answer.kvs().len());
    let mut tail = tail.clone();
    for found in answer.kvs() {
        let (record, next) = take(keys, &tail, found)?;
        records.push(record);
        tail = next;
    }
    Ok((records, tail))
}

fn take(keys: &Keys, tail: &Tail, found: &KeyValue) -> Result<(Record, Tail), RollError> {
    let seq = tail.seq + 1;
    let diverged = |reason: String| RollError::Diverged { seq, reason };
    if found.key() != keys.record(seq).as_bytes() {
        let key = String::from_utf8_lossy(found.key()).into_owned();
        return Err(diverged(format!("it is missing: {key} comes next")));
    }
    let row = row(seq, found.value()).map_err(diverged)?;
    check(tail, row).map_err(|(seq, reason)| RollError::Diverged { seq, reason })
}
