//! AWS: clients of one region, and what an error of the SDK means.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, ConfigLoader, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_rds::config::http::HttpResponse;
use aws_sdk_rds::error::{ProvideErrorMetadata, SdkError};

use super::CONNECT_TIMEOUT;
use super::failure::{Failure, FailureKind, causes, find, never_sent, one_line};

/// Changes how the AWS configuration is read, for example to another endpoint.
pub type Adjust = dyn Fn(ConfigLoader) -> ConfigLoader + Send + Sync;

/// Declares the services of a region: each client is built when it is first used.
macro_rules! services {
    ($( $(#[doc = $about:literal])+ $service:ident: $sdk:ident, )+) => {
        /// The clients of one region; they share connections and credentials.
        pub struct Region {
            config: SdkConfig,
            $( $service: OnceLock<$sdk::Client>, )+
            routing_controls: Mutex<BTreeMap<String, aws_sdk_route53recoverycluster::Client>>,
        }

        impl Region {
            fn new(config: SdkConfig) -> Self {
                Self { config, $( $service: OnceLock::new(), )+ routing_controls: Mutex::default() }
            }

            $(
                $(#[doc = $about])+
                pub fn $service(&self) -> &$sdk::Client {
                    self.$service.get_or_init(|| $sdk::Client::new(&self.config))
                }
            )+
        }
    };
}

services! {
    /// Amazon EC2 Auto Scaling.
    autoscaling: aws_sdk_autoscaling,
    /// Amazon ECS.
    ecs: aws_sdk_ecs,
    /// Amazon EKS.
    eks: aws_sdk_eks,
    /// Amazon ElastiCache.
    elasticache: aws_sdk_elasticache,
    /// AWS IAM.
    iam: aws_sdk_iam,
    /// Amazon RDS.
    rds: aws_sdk_rds,
    /// Amazon Route 53.
    route53: aws_sdk_route53,
    /// Amazon S3.
    s3: aws_sdk_s3,
    /// AWS Secrets Manager.
    secretsmanager: aws_sdk_secretsmanager,
    /// Amazon SNS.
    sns: aws_sdk_sns,
    /// AWS STS.
    sts: aws_sdk_sts,
    /// Amazon CloudWatch.
    cloudwatch: aws_sdk_cloudwatch,
    /// AWS Health.
    health: aws_sdk_health,
}

impl Region {
    /// Reads the environment and the shared configuration files; calls nothing. Credentials are
    /// looked for at the first call.
    ///
    /// The SDK's own retries are off: it would repeat a mutating call whose outcome is unknown.
    /// <https://docs.aws.amazon.com/sdk-for-rust/latest/dg/retries.html>
    pub async fn load(region: &str, adjust: Option<&Adjust>) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(aws_config::Region::new(region.to_owned()))
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build());
        if let Ok(name) = AppName::new("failoverd") {
            loader = loader.app_name(name);
        }
        if let Some(adjust) = adjust {
            loader = adjust(loader);
        }
        Self::new(loader.load().await)
    }

    /// One endpoint of a cluster of routing controls, signed for this region.
    pub fn routing_control(&self, endpoint: &str) -> aws_sdk_route53recoverycluster::Client {
        let mut known = self.routing_controls.lock().unwrap_or_else(PoisonError::into_inner);
        let build = || {
            let config =
                aws_sdk_route53recoverycluster::config::Builder::from(&self.config).endpoint_url(endpoint).build();
            aws_sdk_route53recoverycluster::Client::from_conf(config)
        };
        known.entry(endpoint.to_owned()).or_insert_with(build).clone()
    }
}

/// Makes a call and waits for its answer until `until`.
///
/// # Errors
/// [`Failure`]; [`FailureKind::Unknown`] where the time ran out, since the request may have arrived.
pub async fn call<T, E>(
    what: &str,
    until: Instant,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match tokio::time::timeout_at(until.into(), request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(classify(what, &error)),
        Err(_) => Err(Failure::unknown(format!("{what}: no answer in time"))),
    }
}

/// What an error of the SDK says about the target.
pub fn classify<E>(what: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) => Failure::refused(format!("{what}: not sent: {}", causes(error))),
        SdkError::TimeoutError(_) if never_sent(error) => Failure::again(format!("{what}: cannot connect in time")),
        SdkError::TimeoutError(_) => Failure::unknown(format!("{what}: no answer in time")),
        SdkError::DispatchFailure(_) => match find::<CredentialsError>(error) {
            Some(missing) => credentials(what, missing),
            None if never_sent(error) => Failure::again(format!("{what}: cannot connect: {}", causes(error))),
            None => Failure::unknown(format!("{what}: the connection broke: {}", causes(error))),
        },
        SdkError::ServiceError(service) => answer(
            what,
            service.raw().status().as_u16(),
            service.err().code(),
            service.err().message().unwrap_or_default(),
        ),
        // Something answered, and not in the language of the API: a proxy's HTML, half a body.
        _ => Failure::unknown(format!("{what}: the answer cannot be read: {}", causes(error))),
    }
}

/// The code of a failure to have credentials; AWS has none for it.
pub const NO_CREDENTIALS: &str = "NoCredentials";

/// Credentials are looked for before the request is sent. The SDK says "not loaded" also where the
/// instance's metadata service or STS did not answer, which passes; a wrong profile does not.
fn credentials(what: &str, error: &CredentialsError) -> Failure {
    let kind = match error {
        CredentialsError::InvalidConfiguration(_) => FailureKind::Denied,
        _ => FailureKind::Again,
    };
    // The error's own text may quote what a credentials process printed.
    Failure::new(
        kind,
        format!("{what}: not sent: no AWS credentials could be had from the environment, profile or role"),
    )
    .with_code(Some(NO_CREDENTIALS))
}

/// What an answer that is an error says about the target.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/CommonErrors.html>
pub fn answer(what: &str, status: u16, code: Option<&str>, message: &str) -> Failure {
    let Some(code) = code else {
        return Failure::unknown(format!("{what}: status {status} without an error code of AWS"));
    };
    let plain = code.strip_suffix("Fault").unwrap_or(code);
    let kind = if throttled(plain) {
        FailureKind::Again
    } else if status >= 500 || !(400..500).contains(&status) {
        FailureKind::Unknown
    } else if denied(plain) {
        FailureKind::Denied
    } else if plain.starts_with("NoSuch") || plain.ends_with("NotFound") || plain.ends_with("NotFoundException") {
        FailureKind::Missing
    } else if passing_state(plain) {
        // The state passes: a backup ends, a change before ours is through.
        FailureKind::Again
    } else {
        FailureKind::Refused
    };
    // The message of a wrong signature quotes the signed headers, and the session token is one.
    let said = match plain {
        "SignatureDoesNotMatch" | "IncompleteSignature" => "the signature was refused".to_owned(),
        _ => one_line(message),
    };
    Failure::new(kind, format!("{what}: {plain} (status {status}): {said}")).with_code(Some(plain))
}

/// The target is in a state in which it does not take this, and which usually passes.
fn passing_state(code: &str) -> bool {
    matches!(
        code,
        "InvalidDBInstanceState"
            | "InvalidDBClusterState"
            | "InvalidDBSnapshotState"
            | "InvalidGlobalClusterState"
            | "InvalidCacheClusterState"
            | "InvalidReplicationGroupState"
            | "InvalidGlobalReplicationGroupState"
            | "PriorRequestNotComplete"
            | "ResourceContention"
            | "ScalingActivityInProgress"
    )
}

/// Have we asked too often?
pub fn throttled(code: &str) -> bool {
    matches!(
        code,
        "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "Throttled"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "RequestLimitExceeded"
            | "TooManyRequests"
            | "TooManyRequestsException"
            | "SlowDown"
            | "BandwidthLimitExceeded"
    )
}

fn denied(code: &str) -> bool {
    matches!(
        code,
        "AccessDenied"
            | "AccessDeniedException"
            | "AuthorizationError"
            | "AuthFailure"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "RequestExpired"
            | "InvalidClientTokenId"
            | "InvalidAccessKeyId"
            | "MissingAuthenticationToken"
            | "NotAuthorized"
            | "OptInRequired"
            | "SubscriptionRequiredException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "UnauthorizedOperation"
            | "UnrecognizedClientException"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_whether_anything_was_changed() {
        use FailureKind::{Again, Denied, Missing, Refused, Unknown};
        let table = [
            (400, Some("Throttling"), Again),
            (503, Some("SlowDown"), Again),
            (400, Some("InvalidDBInstanceState"), Again),
            (400, Some("InvalidDBInstanceStateFault"), Again),
            (400, Some("InvalidGlobalClusterStateFault"), Again),
            (400, Some("ScalingActivityInProgress"), Again),
            (404, Some("DBInstanceNotFound"), Missing),
            (404, Some("DBInstanceNotFoundFault"), Missing),
            (404, Some("NoSuchHostedZone"), Missing),
            (404, Some("NotFound"), Missing),
            (403, Some("AccessDenied"), Denied),
            (403, Some("ExpiredToken"), Denied),
            (400, Some("ValidationError"), Refused),
            (400, Some("InvalidParameterCombination"), Refused),
            (500, Some("InternalFailure"), Unknown),
            (503, Some("ServiceUnavailable"), Unknown),
            (200, Some("Odd"), Unknown),
            (403, None, Unknown),
            (502, None, Unknown),
        ];
        for (status, code, kind) in table {
            assert_eq!(answer("rds", status, code, "why").kind, kind, "{status} {code:?}");
        }
    }

    #[test]
    fn credentials_that_cannot_be_had_now_may_be_had_later() {
        use aws_sdk_rds::config::http::HttpResponse;
        use aws_sdk_rds::error::{ConnectorError, SdkError};
        use aws_sdk_rds::operation::describe_db_instances::DescribeDBInstancesError;
        for (error, kind) in [
            (CredentialsError::not_loaded("the metadata service cannot be reached"), FailureKind::Again),
            (CredentialsError::provider_timed_out(std::time::Duration::from_secs(5)), FailureKind::Again),
            (CredentialsError::provider_error("STS: 503"), FailureKind::Again),
            (CredentialsError::invalid_configuration("no such profile"), FailureKind::Denied),
        ] {
            let error: SdkError<DescribeDBInstancesError, HttpResponse> =
                SdkError::dispatch_failure(ConnectorError::other(Box::new(error), None));
            assert_eq!(classify("rds", &error).kind, kind, "{error:?}");
        }
    }

    #[test]
    fn a_wrong_signature_does_not_quote_the_session_token() {
        let message = "The canonical string should have been x-amz-security-token:CANARY";
        let failure = answer("rds", 403, Some("SignatureDoesNotMatch"), message);
        assert!(!failure.reason.contains("CANARY"), "{failure}");
    }
}
