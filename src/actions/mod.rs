//! The code that knows how to observe, apply, verify and undo one kind of change.
//!
//! Lives here: one file per family. Does not live here: when a phase is called and what follows from its outcome (the brain), how a service is reached and what its
//! errors mean ([`crate::clients`]). Imports `model`, `ports`, `config`, `clients`.
//!
//! Rules that every action keeps:
//! - `observe` and `verify` change nothing. `apply` and `compensate` make at most one call that
//!   changes anything, and [`ActionContext::permit`] stands immediately before it.
//! - An action keeps nothing that a later phase needs: it may be built anew for each call, and by
//!   another process after a crash.
//! - Each call is bounded by the context's deadline and by a limit of its own, so that one that
//!   hangs does not use up the step's time.
//! - What is not known for sure is `Unknown`.

pub mod aws;
pub mod cloudflare;
pub mod dns;
mod dns_update;
pub mod exec;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod health_switch;
pub mod http;
pub mod kubernetes;
pub mod postgres;
pub mod ready;
pub mod redis;
mod sentinel;
pub mod velero;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clients::{Clients, Failure};
use crate::config::ActionConfig;
use crate::config::action::{HttpAction, Route53Action, SnsAction, VeleroAction};
use crate::model::{ActionKind, ActionSpec, Applied, Observed, Outputs, Verified, WrongValue};
use crate::ports::{Action, ActionContext};

/// Why an action cannot be built. `check` finds it before a run does.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The parameters are not those of the kind.
    #[error("{0}")]
    Params(String),
    /// The parameters contradict each other.
    #[error("{kind}: {reason}")]
    Invalid {
        /// The kind.
        kind: ActionKind,
        /// Why.
        reason: String,
    },
}

/// What is wrong with an action whose values are all known, as `check` says it. Reads nothing and calls
/// nothing.
pub fn wrong(spec: &ActionSpec, clients: &Arc<Clients>) -> Vec<WrongValue> {
    let whole = |why: String| vec![WrongValue { pointer: String::new(), why }];
    let errors = match ActionConfig::from_spec(spec) {
        Ok(action) => action.errors(),
        Err(why) => return whole(why),
    };
    match build(spec, clients) {
        Err(why) if errors.is_empty() => whole(why.to_string()),
        _ => errors,
    }
}

/// Builds the action that a step names. Reads nothing and calls nothing.
///
/// # Errors
/// [`BuildError`].
pub fn build(spec: &ActionSpec, clients: &Arc<Clients>) -> Result<Box<dyn Action>, BuildError> {
    let config = ActionConfig::from_spec(spec).map_err(BuildError::Params)?;
    let clients = clients.clone();
    let built: Result<Box<dyn Action>, String> = match config {
        ActionConfig::Postgres(action) => postgres::build(action),
        ActionConfig::Redis(action) => redis::build(action),
        ActionConfig::Rds(action) => aws::rds(action, clients),
        ActionConfig::Route53(Route53Action::UpsertAlias(params)) => {
            aws::route53::UpsertAlias::new(params, clients).map(|action| Box::new(action) as _)
        }
        ActionConfig::Kubernetes(action) => kubernetes::build(action, clients),
        ActionConfig::Sns(SnsAction::Publish(params)) => {
            aws::sns::Publish::new(params, clients).map(|action| Box::new(action) as _)
        }
        ActionConfig::Http(HttpAction::Request(params)) => {
            http::Request::new(params, clients).map(|action| Box::new(action) as _)
        }
        ActionConfig::Velero(VeleroAction::Restore(params)) => {
            velero::Restore::new(params, clients).map(|action| Box::new(action) as _)
        }
        ActionConfig::Exec(action) => exec::build(action),
        ActionConfig::Dns(action) => dns::build(action),
        ActionConfig::Cloudflare(action) => cloudflare::build(action, clients),
        ActionConfig::HealthSwitch(action) => health_switch::build(action, clients),
        ActionConfig::Secretsmanager(action) => aws::secretsmanager(action, clients),
        ActionConfig::Iam(action) => aws::iam(action, clients),
        ActionConfig::Elasticache(action) => aws::elasticache(action, clients),
        ActionConfig::Autoscaling(action) => aws::autoscaling(action, clients),
        ActionConfig::Ecs(action) => aws::ecs(action, clients),
        ActionConfig::Eks(action) => aws::eks(action, clients),
        ActionConfig::S3(action) => aws::s3(action, clients),
        ActionConfig::Arc(action) => aws::arc(action, clients),
    };
    built.map_err(|reason| BuildError::Invalid { kind: spec.kind.clone(), reason })
}

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(10);

/// How long a call that changes something may take: longer than a look, since giving it up leaves
/// an unknown outcome.
const CHANGE: Duration = Duration::from_secs(20);

/// Until when a call may take: at most `limit`, and a little less than the context's deadline, so
/// that what is known then is told before the executor drops the call.
fn until(context: &ActionContext, limit: Duration) -> Instant {
    let left = context.left();
    let told = (left / 10).min(Duration::from_millis(100));
    Instant::now() + (left - told).min(limit)
}

/// The answer to an apply of what only looks: the brain never asks for it.
fn only_looks() -> Applied {
    Applied::Refused { reason: "this action only looks: there is nothing to apply".into(), again: false }
}

/// The longest value that is handed to later steps, in characters.
const VALUE_CHARS: usize = 1000;

/// A foreign text as an output: bounded, and without control characters.
fn value(text: &str) -> String {
    text.chars().take(VALUE_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What a step hands on, where it is one value.
fn output(name: &str, text: &str) -> Outputs {
    Outputs::from([(name.to_owned(), value(text))])
}

/// Why a look at a target that holds an epoch gave nothing to go on from.
enum Halt {
    /// The look failed.
    Blind(Failure),
    /// The target was written under a higher epoch than ours.
    Overtaken(String),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Blind(failure)
    }
}

impl Halt {
    fn observed(self) -> Observed {
        match self {
            Self::Blind(failure) => failure.observed(),
            Self::Overtaken(reason) => Observed::Impossible { reason },
        }
    }

    /// The call that changes something was not made.
    fn not_sent(self) -> Applied {
        match self {
            Self::Blind(failure) => failure.not_sent(),
            Self::Overtaken(reason) => Applied::Refused { reason, again: false },
        }
    }

    fn verified(self) -> Verified {
        match self {
            Self::Blind(failure) => failure.verified(),
            Self::Overtaken(reason) => Verified::Failed { reason },
        }
    }
}

/// The mark of an overtaken run, in one wording for every target that can hold an epoch.
fn fenced(what: &str, theirs: u64, ours: u64) -> String {
    format!("fenced by epoch {theirs}: {what} was written under it, and ours is {ours}")
}

#[cfg(test)]
mod tests;
