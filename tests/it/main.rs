//! Every test that needs a real counterpart or a real process; `tests/fleet` starts those.
#[path = "../fleet/mod.rs"]
mod fleet;

mod actions;
mod audit;
mod backtest;
mod cli;
mod deploy;
#[cfg(feature = "crash-points")]
mod durability;
mod email;
mod failback;
#[path = "../faults/mod.rs"]
mod faults;
mod fleet_selftest;
mod gray;
mod kube_contract;
mod kube_faults;
mod logging;
mod notify;
mod objectives;
mod operations;
mod partitions;
mod probes;
mod readiness;
mod rig;
mod rights;
mod runbooks;
mod state;
mod systemd;
mod witness;
