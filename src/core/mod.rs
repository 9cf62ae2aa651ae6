//! The brain: everything that decides, and nothing that does.
//!
//! Lives here: detection (rise and fall), quorum, scenarios, policy with its guards, plans, runs,
//! and the ledger that the journal replays to. Does not live here: clocks, sockets, files,
//! randomness, environment, await. Imports `model` only; `tests/house.rs` and `clippy.toml` see to it.

pub mod ballot;
mod brain;
mod checkpoint;
mod commands;
pub mod correlate;
mod detect;
pub mod event;
mod extent;
mod fallback;
mod flap;
mod gate;
pub mod given;
pub mod incident;
pub mod ledger;
mod marks;
mod outlook;
pub mod plan;
mod policy;
mod quorum;
mod recall;
mod recorder;
pub mod replay;
mod replicas;
pub mod report;
mod report_chart;
mod run;
pub mod run_ledger;
mod run_outcome;
mod run_turn;
mod run_undo;
mod scenario;
mod sight;
pub mod slo;
pub mod tape;
mod tasks;
pub mod values;
pub mod view;
mod views;
mod window;
mod windows;

pub use ballot::{Juror, Refused};
pub use brain::Brain;
pub use checkpoint::Checkpoint;
pub use event::{Answer, Command, Effect, Event, PeerVoteOf, Refusal};
pub use given::ActionCheck;
pub use recorder::Recorder;
pub use sight::Sight;
