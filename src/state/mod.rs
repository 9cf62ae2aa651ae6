//! Where the journal, the outbox and the right to act are kept.
//!
//! Lives here: the embedded store (SQLite, one daemon), its lock, the crash points by which its
//! durability is tested, the state of several daemons (etcd), and, in a file of its own that may be lost, the probes' history and the recording of what the brain was told. Does not live here: what the records mean. Imports `model`, `ports`, and of `core` the lease.
//!
//! One process owns a state, by an OS lock; every write is on disk before it is reported; the
//! first write that fails is the last: [`ports::JournalError::Write`](crate::ports::JournalError),
//! once, and then every append and every [`permit`](crate::ports::Authority::permit) is refused
//! until a new process has read the whole journal again (S2, S11, S12).

mod chain;
pub mod crash;
pub mod etcd;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod history;
mod inputs;
mod lock;
mod outbox;
mod schema;
mod sqlite;

#[cfg(test)]
mod tests;

pub use history::{HistoryError, HistoryFile, history_path, read_history};
pub use inputs::{Blocks, InputsError, InputsWriter, Segment, inputs_path, read_segments};
pub use outbox::SqliteOutbox;
pub use sqlite::{Audit, SqliteAuthority, SqliteJournal, SqliteState, audit, audit_against, read_linked, read_records};
