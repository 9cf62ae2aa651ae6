//! Each example of a runbook, carried out: its own text, with real counterparts in the place of the
//! outside world.

mod corporate_intel;
mod outside;
mod platform;
pub mod stage;
mod waqiti;
