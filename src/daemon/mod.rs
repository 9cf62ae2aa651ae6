//! The shell around the brain.

pub mod logging;
pub mod notify_socket;
