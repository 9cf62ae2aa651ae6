//! How people and programs reach the running daemon.
//!
//! Lives here: the API on a Unix socket (HTTP/1.1 with JSON) and its client, who may do what by the
//! kernel's word for who calls, metrics, and the health endpoints. Does not live here: what a
//! command does (`core`), and how anything is shown to people (`cli`). Imports `model` and `core`.
//!
//! ```text
//! client ──unix socket──► serve (bounds) ──► api (roles) ──► Handle ──► the daemon's loop
//! Prometheus, probes ──TCP──► serve (bounds) ──► health ──► Metrics, Pulse, StatusView
//! ```

pub mod accounts;
pub mod api;
mod attempts;
pub mod client;
pub mod health;
pub mod health_switch;
pub mod links;
mod member_gauges;
pub mod metrics;
mod metrics_people;
pub mod peer;
mod plan_gauges;
pub mod serve;
mod service_gauges;
pub mod socket;

pub use api::Handle;
pub use client::{Client, ClientError};
pub use health::Pulse;
pub use metrics::Metrics;
pub use peer::{Gate, Lists, Peer, Role};

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
