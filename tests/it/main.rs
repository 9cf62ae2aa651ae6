//! Every test that needs a real counterpart or a real process; `tests/fleet` starts those.
#[path = "../fleet/mod.rs"]
mod fleet;

mod fleet_selftest;
mod probes;
