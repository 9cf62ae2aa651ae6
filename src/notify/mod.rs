//! Routes to people.
//!
//! Lives here: how a notice is delivered, one file per kind of route. Does not live here: what is
//! told to whom and when (the brain), what is kept until it is delivered (the outbox in `state`).
//! Imports `model`, `ports`, `config`, `clients`.
//!
//! A delivery needs no permit: telling people twice, or by two daemons, is better than not at all.

pub mod alertmanager;
pub mod email;
mod lifecycle;
pub mod opsgenie;
pub mod pagerduty;
mod post;
pub mod s3;
pub mod slack;
pub mod sns;
pub mod statuspage;
pub mod webhook;
mod worded;

use std::sync::Arc;
use std::time::Duration;

use crate::clients::Clients;
pub use crate::config::shape::NOTIFY_KINDS as KINDS;
use crate::config::shape::{NotifyRoute, Templates};
use crate::config::templates::Words;
use crate::ports::Notifier;

/// How long one delivery may take, if the caller does not bound it more tightly.
const DELIVERY: Duration = Duration::from_secs(20);

/// Why a route cannot be built. `check` finds it before a notice is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// No kind, or more than one.
    #[error("a route has exactly one of {}", KINDS.join(", "))]
    NotOne,
    /// Its parameters contradict each other.
    #[error("{0}")]
    Invalid(String),
}

/// Builds a route of the daemon of this name, with the words for its audience. Reads nothing and calls nothing.
///
/// # Errors
/// [`BuildError`].
pub fn build(
    route: &NotifyRoute,
    daemon: &str,
    templates: &Templates,
    clients: &Arc<Clients>,
) -> Result<Box<dyn Notifier>, BuildError> {
    let clients = || Arc::clone(clients);
    let words = Words::new(route.audience(), templates);
    // Who reads what everybody may know is not told the daemon's name either.
    let shown = if route.audience().is_public() { "" } else { daemon };
    let mut built: Vec<Result<Box<dyn Notifier>, String>> = Vec::new();
    if let Some(params) = route.sns.clone() {
        built.push(sns::Topic::new(params, clients()).map(|route| Box::new(route) as _));
    }
    if let Some(params) = route.webhook.clone() {
        built.push(webhook::Webhook::new(params, clients()).map(|route| Box::new(route) as _));
    }
    if let Some(params) = route.slack.clone() {
        built.push(slack::Slack::new(params, shown, clients()).map(|route| Box::new(route) as _));
    }
    if let Some(params) = route.pagerduty.clone() {
        built.push(Ok(Box::new(pagerduty::Pagerduty::new(params, daemon, clients()))));
    }
    if let Some(params) = route.opsgenie.clone() {
        built.push(Ok(Box::new(opsgenie::Opsgenie::new(params, daemon, clients()))));
    }
    if let Some(params) = route.alertmanager.clone() {
        built.push(Ok(Box::new(alertmanager::Alertmanager::new(params, daemon, clients()))));
    }
    if let Some(params) = route.statuspage.clone() {
        built.push(Ok(Box::new(statuspage::Statuspage::new(params, daemon, words.clone(), clients()))));
    }
    if let Some(params) = route.s3.clone() {
        built.push(Ok(Box::new(s3::Bucket::new(params, clients()))));
    }
    if let Some(params) = route.email.clone() {
        built.push(email::Email::new(params, daemon, words.clone()).map(|route| Box::new(route) as _));
    }
    // Mail and the page put it into words themselves.
    let says_itself = words.is_plain() || route.email.is_some() || route.statuspage.is_some();
    match (built.pop(), built.is_empty()) {
        (Some(one), true) if says_itself => one.map_err(BuildError::Invalid),
        (Some(one), true) => {
            let one = one.map_err(BuildError::Invalid)?;
            Ok(Box::new(worded::Worded::new(words, daemon, one)))
        }
        _ => Err(BuildError::NotOne),
    }
}

#[cfg(test)]
pub(crate) mod sample {
    //! Notices for tests.

    use crate::model::{Importance, Notice, NoticeKind, Severity, WallTime};

    /// Of the incident `INC-1`, loud.
    pub fn page(kind: NoticeKind, severity: &str) -> Notice {
        Notice {
            kind,
            importance: Importance::Page,
            at: WallTime(1_785_381_164_000),
            scenario: Some("outage".into()),
            severity: Some(Severity(severity.into())),
            incident: Some("INC-1".into()),
            run: None,
            subject: format!("{severity} outage"),
            body: "first bad observation".into(),
            approval: None,
            routes: None,
            situation: None,
        }
    }

    /// The same, quiet.
    pub fn info(kind: NoticeKind) -> Notice {
        Notice { importance: Importance::Info, ..page(kind, "P0") }
    }
}
