//! Routes to people.
//!
//! Lives here: how a notice is delivered, one file per kind of route. Does not live here: what is
//! told to whom and when (the brain), what is kept until it is delivered (the outbox in `state`).
//! Imports `model`, `ports`, `config`, `clients`.
//!
//! A delivery needs no permit: telling people twice, or by two daemons, is better than not at all.

pub mod sns;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use crate::clients::Clients;
use crate::config::shape::NotifyRoute;
use crate::ports::Notifier;

/// How long one delivery may take, if the caller does not bound it more tightly.
const DELIVERY: Duration = Duration::from_secs(20);

/// Why a route cannot be built. `check` finds it before a notice is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// No kind, or more than one.
    #[error("a route has exactly one of `sns`, `webhook`")]
    NotOne,
    /// Its parameters contradict each other.
    #[error("{0}")]
    Invalid(String),
}

/// Builds a route. Reads nothing and calls nothing.
///
/// # Errors
/// [`BuildError`].
pub fn build(route: &NotifyRoute, clients: &Arc<Clients>) -> Result<Box<dyn Notifier>, BuildError> {
    match (&route.sns, &route.webhook) {
        (Some(sns), None) => {
            sns::Topic::new(sns.clone(), clients.clone()).map(|route| Box::new(route) as _).map_err(BuildError::Invalid)
        }
        (None, Some(webhook)) => webhook::Webhook::new(webhook.clone(), clients.clone())
            .map(|route| Box::new(route) as _)
            .map_err(BuildError::Invalid),
        _ => Err(BuildError::NotOne),
    }
}
