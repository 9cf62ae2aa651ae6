//! Text → checked settings.
//!
//! Lives here: the shape of the file as types (with their JSON Schema), layers, secrets by
//! reference, faults with file, line and column, lints. Does not live here: what is decided by
//! the settings. Imports `model`, and `core` for the arithmetic of plans.

pub mod action;
pub mod check;
pub mod drills;
pub mod expand;
pub mod fault;
pub mod layers;
pub mod lists;
pub mod load;
pub mod path;
pub mod probe;
pub mod read;
pub mod redact;
pub mod references;
pub mod report;
pub mod schema;
pub mod secret;
pub mod shape;
pub mod suggest;
pub mod templates;
pub mod trust;

pub use action::ActionConfig;
pub use fault::{Fault, Faults, Level};
pub use load::{DEFAULT_FILE, LoadOptions, Loaded, LoadedProbe, load};
pub use probe::ProbeKind;
pub use schema::schema;
pub use secret::{Secret, SecretText};
