//! Where the journal, the outbox and the right to act are kept.
//!
//! Lives here: the embedded store (SQLite, one daemon), its lock, and the crash points by which
//! its durability is tested. Does not live here: what the records mean. Imports `model`, `ports`.
//!
//! One process owns a state, by an OS lock; every write is on disk before it is reported; the
//! first write that fails is the last: [`ports::JournalError::Write`](crate::ports::JournalError),
//! once, and then every append and every [`permit`](crate::ports::Authority::permit) is refused
//! until a new process has read the whole journal again (S2, S11, S12).

mod chain;
pub mod crash;
mod lock;
mod outbox;
mod schema;
mod sqlite;

#[cfg(test)]
mod tests;

pub use outbox::SqliteOutbox;
pub use sqlite::{Audit, SqliteAuthority, SqliteJournal, SqliteState, audit, read_records};
