//! Looks at the outside: one file per kind of probe, and the runner that keeps their time.
//!
//! Lives here: one attempt of each kind ([`build`]), whose fault a failure is ([`classify`]), and
//! when attempts start and end ([`runner`]). Does not live here: what an observation means (rise
//! and fall, quorum, incidents: `core`). Imports `model`, `ports`, `config` and
//! `clients` (addresses, TLS, logins: a probe reaches a server in the way that the action will).
//!
//! What all kinds keep to:
//! - Down is said only of the target; where we could not look it is Unknown ([`classify`]).
//! - A cause's detail never holds a URL, a header or a password (S14).
//! - Secrets are read again for each new connection, so that a rotated one is found.
//! - Nothing here is bounded by luck: bodies, headers, rows, addresses and attempts have limits.

pub mod aws;
pub mod classify;
mod cookies;
pub mod dial;
pub mod dns;
mod everywhere;
pub mod exec;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod grpc;
pub mod http;
mod http_expect;
pub mod http_sequence;
pub mod icmp;
pub mod kept;
pub mod kubernetes;
mod message;
pub mod names;
mod parked;
mod perfdata;
pub mod postgres;
mod postgres_facts;
pub mod promql;
pub mod redis;
pub mod runner;
mod schedule;
mod secure;
pub mod stage;
pub mod tcp;
pub mod tls;
pub mod wire;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use jiff::Timestamp;

use crate::clients::tls::{TlsError, Trust};
use crate::clients::{Api, Clients};
use crate::config::shape::Limits;
use crate::config::{ProbeKind, SecretText};
use crate::model::{Cause, CauseKind, Facts, HumanDuration, Observation, Role};
use crate::ports::Probe;
use classify::Fault;
use names::Names;
use runner::Nudge;
use stage::{Stage, StageMark, waiting_for};

/// What all probes share: the resolver and the certificates. Cheap to clone.
#[derive(Clone)]
pub struct ProbeClients {
    /// Names to addresses.
    pub names: Arc<Names>,
    /// TLS configurations.
    pub trust: Arc<Trust>,
    /// The APIs of clouds and clusters, with the limits that the plans' calls keep to.
    pub apis: Arc<Clients>,
}

impl ProbeClients {
    /// Through the system's resolver, trusting the system's certificates. Reads nothing yet.
    pub fn system() -> Self {
        Self {
            names: Arc::new(Names::system()),
            trust: Arc::new(Trust::default()),
            apis: Arc::new(Clients::new(&Limits::default())),
        }
    }

    /// The same, asking clouds and clusters through the clients of the plans: one limit for both.
    #[must_use]
    pub fn through(self, apis: Arc<Clients>) -> Self {
        Self { apis, ..self }
    }
}

/// What one probe is built with.
#[derive(Clone)]
pub struct ProbeContext {
    /// Shared by all probes.
    pub clients: ProbeClients,
    /// The probe's timeout: it bounds what a query may go on doing on the server after we left.
    pub timeout: Duration,
    /// Called when a kept connection is cut between two attempts; `None`: nobody listens.
    pub nudge: Option<Nudge>,
    /// Where in its row of kept and fresh attempts it begins, another number for each probe: thousands
    /// that begin together must not all be fresh at the same time, again and again.
    pub phase: u32,
}

impl ProbeContext {
    /// For a probe of this timeout, without a nudge.
    pub fn new(clients: ProbeClients, timeout: Duration) -> Self {
        Self { clients, timeout, nudge: None, phase: 0 }
    }
}

/// Why a probe cannot be built. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ProbeBuildError {
    /// The parameter of the probe, as in the file (`url`, `headers.x-token`, `ca_file`).
    pub field: String,
    /// What is wrong, and what to write instead.
    pub reason: String,
}

impl ProbeBuildError {
    /// For this parameter.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

impl From<TlsError> for ProbeBuildError {
    fn from(error: TlsError) -> Self {
        Self::new(error.field, error.reason)
    }
}

/// Builds the probe of a kind that asks somebody ([`ProbeKind::asks`]). Does not connect and reads no
/// secret.
///
/// # Errors
/// [`ProbeBuildError`] names the parameter that cannot be used.
pub fn build(kind: &ProbeKind, context: &ProbeContext) -> Result<Box<dyn Probe>, ProbeBuildError> {
    Ok(match kind {
        ProbeKind::Http(config) => Box::new(http::Http::new(config, context)?),
        ProbeKind::Tcp(config) => Box::new(tcp::Tcp::new(config, context)?),
        ProbeKind::Dns(config) => Box::new(dns::Dns::new(config)?),
        ProbeKind::Postgres(config) => Box::new(postgres::Postgres::new(config, context)?),
        ProbeKind::Redis(config) => Box::new(redis::Redis::new(config, context)?),
        ProbeKind::Kubernetes(config) => Box::new(kubernetes::Kubernetes::new(config, context)?),
        ProbeKind::Rds(config) => Box::new(aws::rds::Rds::new(config, context)?),
        ProbeKind::Elasticache(config) => Box::new(aws::elasticache::Elasticache::new(config, context)),
        ProbeKind::Promql(config) => Box::new(promql::Promql::new(config, context)?),
        ProbeKind::Cloudwatch(config) => Box::new(aws::cloudwatch::Cloudwatch::new(config, context)?),
        ProbeKind::S3Age(config) => Box::new(aws::s3_age::S3Age::new(config, context)),
        ProbeKind::VeleroAge(config) => Box::new(kubernetes::velero_age::VeleroAge::new(config, context)?),
        ProbeKind::AwsHealth(config) => Box::new(aws::health::AwsHealth::new(config, context)),
        ProbeKind::Tls(config) => Box::new(tls::Tls::new(config, context)?),
        ProbeKind::Grpc(config) => Box::new(grpc::Grpc::new(config, context)?),
        ProbeKind::Icmp(config) => Box::new(icmp::Icmp::new(config, context)?),
        ProbeKind::Exec(config) => Box::new(exec::Exec::new(config, context)?),
        ProbeKind::HttpSequence(config) => Box::new(http_sequence::HttpSequence::new(config, context)?),
        ProbeKind::Window(_) => return Err(ProbeBuildError::new("window", "it asks nobody: the brain computes it")),
    })
}

/// One attempt under its deadline. The deadline means Down (`timeout`), unless we were waiting
/// for something of our own ([`stage`]); a panic of the probe is Unknown (`local_resource`).
pub async fn attempt(probe: &dyn Probe, timeout: Duration) -> Observation {
    let mark = StageMark::default();
    let guarded = AssertUnwindSafe(mark.scope(probe.attempt())).catch_unwind();
    match tokio::time::timeout(timeout, guarded).await {
        Ok(Ok(observation)) => observation,
        Ok(Err(_)) => Observation::unknown(CauseKind::LocalResource, "the probe itself failed (a bug: it panicked)"),
        Err(_) => mark.timed_out(timeout).into(),
    }
}

/// Is it the role that was asked for? What was not asked for, or is not known, is right.
fn check_role(expected: Option<Role>, found: Option<Role>) -> Result<(), Fault> {
    let name = |role| if role == Role::Primary { "a primary" } else { "a replica" };
    match (expected, found) {
        (Some(expected), Some(found)) if found != expected => {
            Err(Fault::theirs(CauseKind::WrongRole, format!("it is {}, not {}", name(found), name(expected))))
        }
        _ => Ok(()),
    }
}

/// Up or Down by the judgement, with what the target said of itself either way.
fn with_facts(judgement: Result<(), Fault>, facts: Facts, latency: Duration) -> Observation {
    let facts = Some(Box::new(facts));
    match judgement.map_err(Observation::from) {
        Ok(()) => Observation::Up { latency, facts, degraded: None },
        Err(Observation::Down { cause, .. }) => Observation::Down { cause, facts },
        Err(other) => other,
    }
}

/// Up, or up but not well, or what stood in the way.
fn judged(look: Result<Option<Cause>, Fault>, latency: Duration) -> Observation {
    match look {
        Ok(degraded) => Observation::Up { latency, facts: None, degraded },
        Err(fault) => fault.into(),
    }
}

/// Is the newest of something young enough? A time that is still to come is no age: clocks differ.
fn young_enough(what: &str, made: Timestamp, now: Timestamp, max_age: HumanDuration) -> Result<(), Fault> {
    let age = Duration::try_from(now.duration_since(made)).unwrap_or_default();
    if age > max_age.get() {
        let age = HumanDuration::secs(age.as_secs());
        return Err(Fault::theirs(CauseKind::TooOld, format!("{what} is {age} old, more than {max_age}")));
    }
    Ok(())
}

/// Waits for room in the limit that plans and probes share, and never counts it against the target.
async fn room(clients: &Clients, api: Api, until: Instant) -> Result<(), Fault> {
    let paced = waiting_for(Stage::Limit, clients.pace(api, until)).await;
    paced.map_err(|failure| Fault::ours(CauseKind::LocalThrottled, failure.reason))
}

/// Reads a text that may be a secret, off the runtime's threads where it is in a file.
async fn read_secret(text: &SecretText) -> Result<String, Fault> {
    match text {
        SecretText::Plain(text) => Ok(text.clone()),
        SecretText::Reference(secret) => {
            let secret = secret.clone();
            let read = waiting_for(Stage::Secret, tokio::task::spawn_blocking(move || secret.read())).await;
            match read {
                Ok(Ok(text)) => Ok(text),
                Ok(Err(error)) => Err(Fault::ours(CauseKind::LocalCredentials, error.to_string())),
                Err(_) => Err(Fault::ours(CauseKind::LocalCredentials, "the secret could not be read")),
            }
        }
    }
}

#[cfg(test)]
mod tests;
