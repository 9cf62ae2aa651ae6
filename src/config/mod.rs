//! Text → checked settings.
//!
//! Lives here: the shape of the file as types (with their JSON Schema), layers, secrets by
//! reference, faults with file, line and column, lints. Does not live here: what is decided by
//! the settings. Imports `model`, and `core` for the arithmetic of plans.

pub mod action;
pub mod probe;
pub mod secret;
pub mod shape;

pub use action::ActionConfig;
pub use probe::ProbeKind;
pub use secret::{Secret, SecretText};
