//! The shell around the brain: real time, real effects.
//!
//! Lives here: the wiring, the loop that turns events into effects, the executor of steps, the
//! delivery of notices, signals, logs, systemd. Does not live here: anything that decides (`core`),
//! and how a target is spoken to (`probes`, `actions`, `notify`). Sees all rooms.

mod anchors;
mod clock;
mod digest;
mod executor;
mod handle;
mod history;
mod last_words;
mod links;
pub mod logging;
mod looping;
mod members;
mod notices;
pub mod notify_socket;
mod readiness;
mod recording;
mod reload;
mod renewal;
mod sight_log;
mod signals;
mod start;
mod switches;
mod voice;
mod witness;
mod witnesses;

pub use start::{RunOptions, StartError, run};
pub use witness::run as run_witness;
