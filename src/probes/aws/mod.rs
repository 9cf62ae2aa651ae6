//! Amazon Web Services: what AWS says of a target, one file per kind of probe.
//!
//! AWS is only asked about the target. Where it does not answer, denies or throttles us, nothing is known
//! of the target: Unknown. Down is said only of what AWS said in so many words, and of what it says is not
//! there. Clients, limits and the meaning of errors are those of the actions ([`crate::clients::aws`]); the
//! SDK repeats nothing by itself, and a call that is dropped at the deadline leaves nothing behind.

pub mod cloudwatch;
pub mod elasticache;
pub mod health;
pub mod rds;
pub mod s3_age;

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_rds::config::http::HttpResponse;
use aws_sdk_rds::error::{ProvideErrorMetadata, SdkError};

use super::classify::Fault;
use super::stage::{Stage, waiting_for};
use super::{ProbeContext, room};
use crate::clients::{Api, Clients, Failure, FailureKind, aws};
use crate::model::CauseKind;

/// One region of AWS, as a probe asks it.
pub(super) struct Account {
    clients: Arc<Clients>,
    region: String,
    api: Api,
    timeout: Duration,
}

impl Account {
    /// Calls nothing. `api`: whose limit its calls keep to.
    fn new(context: &ProbeContext, region: &str, api: Api) -> Self {
        Self { clients: Arc::clone(&context.clients.apis), region: region.to_owned(), api, timeout: context.timeout }
    }

    /// When an attempt that begins now has to be over.
    fn until(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// The clients, once the limit has room for one call.
    async fn clients(&self, until: Instant) -> Result<Arc<aws::Region>, Fault> {
        let clients = waiting_for(Stage::Secret, self.clients.aws(&self.region, until)).await;
        let clients = clients.map_err(|failure| Fault::ours(CauseKind::LocalCredentials, failure.reason))?;
        room(&self.clients, self.api, until).await?;
        Ok(clients)
    }

    /// Makes one call.
    async fn ask<T, E>(
        &self,
        what: &str,
        until: Instant,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Fault>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        waiting_for(Stage::ControlPlane, aws::call(what, until, request)).await.map_err(fault)
    }
}

/// What a failed question says: of the target only that it is not there.
fn fault(failure: Failure) -> Fault {
    let code = failure.code.as_deref().unwrap_or_default();
    let kind = match failure.kind {
        FailureKind::Missing => return Fault::theirs(CauseKind::NotFound, failure.reason),
        _ if code == aws::NO_CREDENTIALS => CauseKind::LocalCredentials,
        FailureKind::Denied => CauseKind::LocalPermission,
        FailureKind::Again if aws::throttled(code) => CauseKind::LocalThrottled,
        FailureKind::Refused => CauseKind::QueryFailed,
        // S3 answers so where the bucket is in another region than the one that was asked.
        FailureKind::Unknown if matches!(code, "PermanentRedirect" | "Moved") => CauseKind::QueryFailed,
        FailureKind::Again | FailureKind::Unknown => CauseKind::ControlPlane,
    };
    Fault::ours(kind, failure.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Health, Observation};

    #[test]
    fn only_what_aws_says_is_not_there_is_down() {
        for (status, code, health, kind) in [
            (404, Some("DBInstanceNotFoundFault"), Health::Down, CauseKind::NotFound),
            (404, Some("NoSuchBucket"), Health::Down, CauseKind::NotFound),
            (403, Some("AccessDenied"), Health::Unknown, CauseKind::LocalPermission),
            (400, Some("ExpiredTokenException"), Health::Unknown, CauseKind::LocalPermission),
            (400, Some("SubscriptionRequiredException"), Health::Unknown, CauseKind::LocalPermission),
            (400, Some("Throttling"), Health::Unknown, CauseKind::LocalThrottled),
            (503, Some("SlowDown"), Health::Unknown, CauseKind::LocalThrottled),
            (400, Some("ValidationError"), Health::Unknown, CauseKind::QueryFailed),
            (301, Some("PermanentRedirect"), Health::Unknown, CauseKind::QueryFailed),
            (500, Some("InternalFailure"), Health::Unknown, CauseKind::ControlPlane),
            (503, Some("ServiceUnavailable"), Health::Unknown, CauseKind::ControlPlane),
            (502, None, Health::Unknown, CauseKind::ControlPlane),
            (404, None, Health::Unknown, CauseKind::ControlPlane),
        ] {
            let seen = Observation::from(fault(aws::answer("aws", status, code, "why")));
            let cause = seen.cause().map(|cause| cause.kind);
            assert_eq!((seen.health(), cause), (health, Some(kind)), "{status} {code:?}");
        }
    }
}
