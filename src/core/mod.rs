//! The brain: everything that decides, and nothing that does.
//!
//! Lives here: detection (rise and fall), quorum, scenarios, policy with its guards, plans, runs,
//! and the ledger that the journal replays to. Does not live here: clocks, sockets, files,
//! randomness, environment, await. Imports `model` only; `tests/house.rs` and `clippy.toml` see to it.

pub mod anchor;
pub mod ballot;
mod brain;
pub mod campaign;
mod checkpoint;
mod commands;
mod consent;
pub mod correlate;
mod course;
mod detect;
pub mod drill;
mod drill_clock;
mod drill_run;
mod duties;
mod escalation;
pub mod event;
pub mod evidence;
mod extent;
mod failback;
mod fallback;
mod flap;
mod gate;
pub mod given;
pub mod incident;
pub mod lease;
pub mod ledger;
mod loss;
mod marks;
pub mod matrix;
mod member;
mod outlook;
pub mod plan;
mod policy;
mod quorum;
pub mod readiness;
mod recall;
mod recorder;
pub mod replay;
mod replicas;
pub mod report;
mod report_chart;
mod report_hindsight;
mod run;
pub mod run_ledger;
mod run_outcome;
mod run_turn;
mod run_undo;
mod scenario;
pub mod scorecard;
mod sight;
mod situation;
pub mod slo;
mod stakes;
pub mod tape;
mod tasks;
pub mod told;
pub mod values;
pub mod view;
mod view_members;
mod view_people;
mod views;
mod views_people;
mod window;
mod windows;

pub use ballot::{Juror, Refused};
pub use brain::Brain;
pub use checkpoint::Checkpoint;
pub use event::{Answer, Command, Effect, Event, PeerVoteOf, Refusal};
pub use given::ActionCheck;
pub use member::{Membership, Resigned};
pub use recorder::Recorder;
pub use sight::Sight;
