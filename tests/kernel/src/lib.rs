//! The brain alone, under the daemon's name: `model` and `core`, and nothing that acts.

#[path = "../../../src/core/mod.rs"]
pub mod core;
#[path = "../../../src/model/mod.rs"]
pub mod model;
