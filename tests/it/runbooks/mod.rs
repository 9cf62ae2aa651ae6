//! Each example of a runbook, carried out: its own text, with real counterparts in the place of the
//! outside world.

mod atlantic;
mod corporate_intel;
mod firm_template;
mod outside;
mod platform;
pub mod stage;
mod waqiti;
