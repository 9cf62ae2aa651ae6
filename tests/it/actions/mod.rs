//! The actions against real counterparts: what they do, and above all what they say when something
//! goes wrong. No outcome may hold a secret (S14): every one of them is looked through.

mod arc;
mod aurora;
pub mod cloudflare;
mod compute;
mod dns;
mod elasticache;
mod exec;
mod fencing;
mod health_switch;
mod http;
mod iam;
pub mod kube;
mod kubernetes;
mod notices;
mod postgres;
mod postgres_data;
mod postgres_fence;
mod postgres_follow;
mod postgres_sql;
mod rds;
mod rds_instance;
mod rds_restore;
mod redis;
mod redis_more;
mod route53;
mod s3;
mod secretsmanager;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use aws_credential_types::Credentials;
use failoverd::actions;
use failoverd::clients::Clients;
use failoverd::config::shape::Limits;
use failoverd::model::{ActionSpec, Applied, EffectKind, Epoch, Observed, Outputs, Repeat, Verified};
use failoverd::ports::{Action, ActionContext, Authority, Denied};
use serde_json::{Value, json};

use crate::fleet::{moto, postgres as pg};

/// A secret that the tests of this room put wherever one can be.
pub const CANARY: &str = "canary-9fQx27";

/// Long enough for anything on a loaded machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Says yes or no, and counts how often it was asked.
pub struct Permits {
    denied: Option<Denied>,
    asked: AtomicU32,
}

impl Permits {
    /// How often a permit was asked for.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Authority for Permits {
    fn permit(&self, _epoch: Epoch) -> Result<(), Denied> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.denied.clone().map_or(Ok(()), Err)
    }
}

/// An action under test, with the context that it is called in.
pub struct Subject {
    action: Box<dyn Action>,
    pub context: ActionContext,
    pub permits: Arc<Permits>,
    /// For each call.
    pub time: Duration,
}

impl Subject {
    /// The action of `kind` as it is built for epoch 5.
    pub fn new(kind: &str, params: Value, clients: &Arc<Clients>) -> Self {
        let (family, verb) = kind.split_once('.').expect("family.verb");
        let spec = ActionSpec {
            kind: kind.into(),
            effect: EffectKind::Call,
            repeat: Repeat::ByObservation,
            target: String::new(),
            service: None,
            region: None,
            estimate: failoverd::model::HumanDuration::secs(1),
            messages: Vec::new(),
            makes: false,
            params: json!({ family: { verb: params } }),
        };
        let action = actions::build(&spec, clients).unwrap_or_else(|error| panic!("{error}"));
        let permits = Arc::new(Permits { denied: None, asked: AtomicU32::new(0) });
        let context = ActionContext {
            run: Some("RUN-20261101-001".into()),
            step: "step".into(),
            epoch: Epoch(5),
            attempt: 1,
            deadline: Instant::now(),
            authority: permits.clone(),
        };
        Self { action, context, permits, time: SOON }
    }

    /// The same under another epoch.
    pub fn at_epoch(mut self, epoch: u64) -> Self {
        self.context.epoch = Epoch(epoch);
        self
    }

    /// The same without a permit.
    pub fn overtaken(mut self) -> Self {
        let denied = Denied::Overtaken { ours: self.context.epoch, highest: Epoch(99) };
        self.permits = Arc::new(Permits { denied: Some(denied), asked: AtomicU32::new(0) });
        self.context.authority = self.permits.clone();
        self
    }

    /// The same with less time for each call.
    pub fn within(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    fn now(&self) -> ActionContext {
        ActionContext { deadline: Instant::now() + self.time, ..self.context.clone() }
    }

    /// It must answer before its deadline: else the executor would drop it and learn nothing.
    async fn call<T: std::fmt::Debug>(&self, phase: &str, call: impl Future<Output = T>) -> T {
        let outcome = tokio::time::timeout(self.time, call).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("{phase} did not answer within its deadline"));
        assert_no_secret(&format!("{outcome:?}"));
        outcome
    }

    pub async fn observe(&self) -> Observed {
        self.call("observe", self.action.observe(&self.now())).await
    }

    pub async fn apply(&self) -> Result<Applied, Denied> {
        self.call("apply", self.action.apply(&self.now(), &Value::Null)).await
    }

    /// Applies with exactly this context, for example after its deadline.
    pub async fn apply_at(&self, context: &ActionContext) -> Result<Applied, Denied> {
        self.action.apply(context, &Value::Null).await
    }

    pub async fn compensate(&self, before: &Value) -> Result<Applied, Denied> {
        self.call("compensate", self.action.compensate(&self.now(), before)).await
    }

    pub async fn verify_once(&self) -> Verified {
        self.call("verify", self.action.verify(&self.now())).await
    }

    /// Verifies as the executor does, until it is there.
    pub async fn verify(&self) -> Result<String> {
        self.yields().await.map(|(evidence, _)| evidence)
    }

    /// The same, with what later steps are handed.
    pub async fn yields(&self) -> Result<(String, Outputs)> {
        let until = Instant::now() + SOON;
        loop {
            match self.verify_once().await {
                Verified::Yes { evidence, outputs } => return Ok((evidence, outputs)),
                Verified::Failed { reason } => bail!("failed: {reason}"),
                Verified::NotYet { evidence } if Instant::now() > until => bail!("not yet: {evidence}"),
                Verified::NotYet { .. } => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// A step as the executor walks it: observe, apply, verify. Returns what stood before.
    pub async fn run(&self) -> Result<Value> {
        let before = before(self.observe().await)?;
        accepted(self.apply().await)?;
        self.verify().await?;
        Ok(before)
    }
}

/// What stood before, where it can be done.
pub fn before(observed: Observed) -> Result<Value> {
    match observed {
        Observed::NotDone { before, .. } => Ok(before),
        other => bail!("not `NotDone`: {other:?}"),
    }
}

/// The evidence of what is done.
pub fn done(observed: Observed) -> Result<String> {
    match observed {
        Observed::Done { evidence } => Ok(evidence),
        other => bail!("not `Done`: {other:?}"),
    }
}

/// Why it cannot be done.
pub fn impossible(observed: Observed) -> Result<String> {
    match observed {
        Observed::Impossible { reason } => Ok(reason),
        other => bail!("not `Impossible`: {other:?}"),
    }
}

/// Why we could not look.
pub fn unseen(observed: Observed) -> Result<String> {
    match observed {
        Observed::Unknown { reason } => Ok(reason),
        other => bail!("not `Unknown`: {other:?}"),
    }
}

/// The evidence of what was taken.
pub fn accepted(applied: Result<Applied, Denied>) -> Result<String> {
    match applied? {
        Applied::Accepted { evidence } => Ok(evidence),
        other => bail!("not `Accepted`: {other:?}"),
    }
}

/// Why it was refused; `again`: may it be accepted later?
pub fn refused(applied: Result<Applied, Denied>, again: bool) -> Result<String> {
    match applied? {
        Applied::Refused { reason, again: said } if said == again => Ok(reason),
        other => bail!("not `Refused` with again = {again}: {other:?}"),
    }
}

/// Why nobody knows.
pub fn unknown(applied: Result<Applied, Denied>) -> Result<String> {
    match applied? {
        Applied::Unknown { reason } => Ok(reason),
        other => bail!("not `Unknown`: {other:?}"),
    }
}

/// Fails where a text holds a secret of the fleet or of this room.
pub fn assert_no_secret(text: &str) {
    for secret in [CANARY, moto::SECRET_KEY, pg::PASSWORD] {
        assert!(!text.contains(secret), "a secret is in {text}");
    }
}

/// Clients without limits that would slow a test down.
pub fn clients() -> Clients {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let fast = Some(1000);
    Clients::new(&Limits { route53: fast, rds: fast, sns: fast, kubernetes: fast, aws: fast })
}

/// Clients that reach the AWS API on this port of loopback, and nothing else.
pub fn aws(port: u16) -> Arc<Clients> {
    let adjust = move |loader: aws_config::ConfigLoader| {
        let credentials = Credentials::new("testing", moto::SECRET_KEY, Some(CANARY.to_owned()), None, "test");
        loader
            .empty_test_environment()
            .endpoint_url(format!("http://127.0.0.1:{port}"))
            .credentials_provider(credentials)
    };
    Arc::new(clients().with_aws(Box::new(adjust)))
}

/// A text by reference, as a secret is given: in a file that lives as long as the value.
pub fn secret(text: &str) -> Result<(tempfile::NamedTempFile, Value)> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), format!("{text}\n"))?;
    let reference = json!({ "file": file.path() });
    Ok((file, reference))
}

/// It is under way: the evidence.
pub fn going(observed: Observed) -> Result<String> {
    match observed {
        Observed::InProgress { evidence } => Ok(evidence),
        other => bail!("not `InProgress`: {other:?}"),
    }
}
