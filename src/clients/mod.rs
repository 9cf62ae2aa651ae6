//! How foreign services are reached: clients, their rate limits, their TLS, and what their errors
//! mean.
//!
//! Lives here: construction of AWS, Kubernetes, HTTP, PostgreSQL and Redis clients; the rate limit
//! of each API; the question whether a failed call changed anything ([`Failure`]); redaction.
//! Does not live here: what is asked of the services (`actions`, `notify`, `probes`). Imports
//! `model` and `config`.
//!
//! No client retries by itself: whether a call may be made again is the brain's decision (S8), and
//! each call asks for a permit first (S3).

pub mod aws;
pub mod dns;
pub mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod health_switch;
pub mod http;
pub mod http_body;
pub mod kubernetes;
pub mod postgres;
pub mod postgres_address;
pub mod postgres_program;
pub mod program;
pub mod prometheus_range;
pub mod redact;
pub mod redis;
pub mod s3;
pub mod sns;
pub mod tls;
pub mod velero;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

pub use failure::{Failure, FailureKind};
pub use redact::Redactor;

use crate::config::action::KubernetesCluster;
use crate::config::shape::Limits;

/// How long a connection may take to come up. A regional endpoint answers within a fraction of it;
/// a target that drops packets must not use up a step's whole time.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The APIs that are called at a limited rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Api {
    /// Amazon RDS.
    Rds,
    /// Amazon Route 53.
    Route53,
    /// Amazon SNS.
    Sns,
    /// Kubernetes, all clusters together.
    Kubernetes,
    /// The other services of AWS, all together.
    Aws,
}

impl Api {
    /// Its name for people, as in `[limits]`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rds => "rds",
            Self::Route53 => "route53",
            Self::Sns => "sns",
            Self::Kubernetes => "kubernetes",
            Self::Aws => "aws",
        }
    }
}

/// One API's limit.
struct Limit {
    per_second: NonZeroU32,
    limiter: DefaultDirectRateLimiter,
}

impl Limit {
    /// `wanted` calls a second, or `default`; 0 is read as 1, since nothing could be done with it.
    fn new(wanted: Option<u32>, default: u32) -> Self {
        let per_second = NonZeroU32::new(wanted.unwrap_or(default)).unwrap_or(NonZeroU32::MIN);
        Self { per_second, limiter: RateLimiter::direct(Quota::per_second(per_second)) }
    }
}

/// The clients of the foreign APIs, each built when it is first needed and then kept, so that
/// connections and credentials are shared.
pub struct Clients {
    rds: Limit,
    route53: Limit,
    sns: Limit,
    kubernetes: Limit,
    aws: Limit,
    adjust_aws: Option<Box<aws::Adjust>>,
    aws_regions: tokio::sync::Mutex<HashMap<String, Arc<aws::Region>>>,
    clusters: std::sync::Mutex<HashMap<KubernetesCluster, kube::Client>>,
    http_clients: std::sync::Mutex<HashMap<Option<PathBuf>, reqwest::Client>>,
    changes: std::sync::Mutex<BTreeMap<String, String>>,
}

impl Clients {
    /// No client yet; nothing is read and nothing is called.
    pub fn new(limits: &Limits) -> Self {
        Self {
            rds: Limit::new(limits.rds, 10),
            route53: Limit::new(limits.route53, 4),
            sns: Limit::new(limits.sns, 10),
            kubernetes: Limit::new(limits.kubernetes, 20),
            aws: Limit::new(limits.aws, 10),
            adjust_aws: None,
            aws_regions: tokio::sync::Mutex::default(),
            clusters: std::sync::Mutex::default(),
            http_clients: std::sync::Mutex::default(),
            changes: std::sync::Mutex::default(),
        }
    }

    /// The same, with another way to the AWS API than the environment and the shared files say;
    /// for tests that run side by side in one process.
    #[must_use]
    pub fn with_aws(mut self, adjust: Box<aws::Adjust>) -> Self {
        self.adjust_aws = Some(adjust);
        self
    }

    /// Waits until the API's limit has room for one call.
    ///
    /// # Errors
    /// [`FailureKind::Again`] where that is not before `until`; nothing was called.
    pub async fn pace(&self, api: Api, until: Instant) -> Result<(), Failure> {
        let limit = match api {
            Api::Rds => &self.rds,
            Api::Route53 => &self.route53,
            Api::Sns => &self.sns,
            Api::Kubernetes => &self.kubernetes,
            Api::Aws => &self.aws,
        };
        // With no time left a request would still be begun, and its outcome would be unknown.
        if Instant::now() >= until {
            return Err(Failure::again(format!("{} not called: no time is left", api.name())));
        }
        tokio::time::timeout_at(until.into(), limit.limiter.until_ready()).await.map_err(|_| {
            Failure::again(format!(
                "not called: the limit of {} calls a second for {} left no room in time",
                limit.per_second,
                api.name()
            ))
        })
    }

    /// The clients of an AWS region. `AWS_ENDPOINT_URL` and its per-service variants are honoured.
    ///
    /// # Errors
    /// [`FailureKind::Again`] where the shared configuration was not read before `until`.
    pub async fn aws(&self, region: &str, until: Instant) -> Result<Arc<aws::Region>, Failure> {
        let build = async {
            let mut regions = self.aws_regions.lock().await;
            if let Some(known) = regions.get(region) {
                return known.clone();
            }
            let built = Arc::new(aws::Region::load(region, self.adjust_aws.as_deref()).await);
            regions.insert(region.to_owned(), built.clone());
            built
        };
        tokio::time::timeout_at(until.into(), build)
            .await
            .map_err(|_| Failure::again("not called: the AWS configuration could not be read in time"))
    }

    /// The client of a Kubernetes cluster.
    ///
    /// # Errors
    /// [`Failure`] where the kubeconfig cannot be read, or not before `until`; nothing was called.
    pub async fn kubernetes(&self, cluster: &KubernetesCluster, until: Instant) -> Result<kube::Client, Failure> {
        if let Some(known) = lock(&self.clusters).get(cluster) {
            return Ok(known.clone());
        }
        // Not under the lock: a cluster whose plugin hangs must not hold up the others. Two who ask
        // at once build two, and the later one is kept.
        let built = tokio::time::timeout_at(until.into(), kubernetes::connect(cluster)).await.map_err(|_| {
            Failure::again("not called: the kubeconfig could not be read, or its plugin did not end, in time")
        })??;
        lock(&self.clusters).insert(cluster.clone(), built.clone());
        Ok(built)
    }

    /// A client for plain HTTP that follows no redirect and trusts `ca_file` instead of the
    /// system's authorities, where given.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] where the authorities cannot be read.
    pub fn http(&self, ca_file: Option<&std::path::Path>) -> Result<reqwest::Client, Failure> {
        let mut known = lock(&self.http_clients);
        if let Some(client) = known.get(&ca_file.map(PathBuf::from)) {
            return Ok(client.clone());
        }
        let client = http::client(ca_file)?;
        known.insert(ca_file.map(PathBuf::from), client.clone());
        Ok(client)
    }

    /// Keeps the id of the last change of something, so that a later look can ask after it. Lost
    /// with the process: whoever asks must do without it.
    pub fn remember_change(&self, of: &str, id: &str) {
        lock(&self.changes).insert(of.to_owned(), id.to_owned());
    }

    /// Forgets the id of the last change: another change was asked for, and its id is not known.
    pub fn forget_change(&self, of: &str) {
        lock(&self.changes).remove(of);
    }

    /// The id of the last change of something, where this process made it.
    pub fn last_change(&self, of: &str) -> Option<String> {
        lock(&self.changes).get(of).cloned()
    }
}

/// A poisoned lock is used all the same: what is behind it is a cache, and each write is whole.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_limit_without_room_before_the_deadline_refuses() {
        let clients = Clients::new(&Limits { route53: Some(1), ..Limits::default() });
        let soon = Instant::now() + Duration::from_millis(50);
        clients.pace(Api::Route53, soon).await.expect("the first call has room");
        let failure = clients.pace(Api::Route53, soon).await.expect_err("the second has to wait a second");
        assert_eq!(failure.kind, FailureKind::Again);
        assert!(failure.reason.contains("1 calls a second for route53"), "{failure}");
    }

    #[test]
    fn a_limit_of_zero_is_one() {
        assert_eq!(Limit::new(Some(0), 4).per_second.get(), 1);
        assert_eq!(Limit::new(None, 4).per_second.get(), 4);
    }
}
