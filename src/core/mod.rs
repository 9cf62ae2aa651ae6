//! The brain: everything that decides, and nothing that does.
//!
//! Lives here: detection (rise and fall), quorum, scenarios, policy with its guards, plans, runs,
//! and the ledger that the journal replays to. Does not live here: clocks, sockets, files,
//! randomness, environment, await. Imports `model` only; `tests/house.rs` and `clippy.toml` see to it.

pub mod event;
pub mod view;

pub use event::{Answer, Command, Effect, Event, Refusal};
