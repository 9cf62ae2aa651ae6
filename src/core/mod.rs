//! The brain.
pub mod plan;
