//! What people are shown. Pure functions from a view and a moment to text: no clock, no terminal.

pub mod backtest;
pub mod changes;
pub mod check;
pub mod drill;
pub mod evidence;
pub mod explain;
pub mod incident;
pub mod matrix;
pub mod members;
pub mod people;
pub mod plan;
pub mod readiness;
pub mod run;
pub mod scorecard;
pub mod status;
pub mod style;
pub mod time;

pub use style::Style;
