//! Kubernetes: a client of one cluster, and what an error of it means.

use std::future::Future;
use std::time::Instant;

use kube::client::AuthError;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::CONNECT_TIMEOUT;
use super::failure::{Failure, FailureKind, causes, find, never_sent, one_line};
use crate::config::action::KubernetesCluster;

/// Reads the kubeconfig and builds the client; calls nothing.
///
/// # Errors
/// [`FailureKind::Refused`] where the kubeconfig or its context is not there.
pub async fn connect(cluster: &KubernetesCluster) -> Result<kube::Client, Failure> {
    let options = KubeConfigOptions { context: cluster.context.clone(), ..KubeConfigOptions::default() };
    let mut config = match &cluster.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .map_err(|error| Failure::refused(format!("kubeconfig {}: {}", path.display(), causes(&error))))?;
            kube::Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|error| Failure::refused(format!("kubeconfig {}: {}", path.display(), causes(&error))))?
        }
        None if cluster.context.is_some() => kube::Config::from_kubeconfig(&options)
            .await
            .map_err(|error| Failure::refused(format!("the default kubeconfig: {}", causes(&error))))?,
        None => kube::Config::infer()
            .await
            .map_err(|error| Failure::refused(format!("neither a kubeconfig nor in a cluster: {}", causes(&error))))?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // kube would repeat a PATCH after 503 and 504, whose outcome is unknown.
    config.default_retry = false;
    kube::Client::try_from(config).map_err(|error| classify("kubernetes", &error))
}

/// Makes a call and waits for its answer until `until`.
///
/// # Errors
/// [`Failure`]; [`FailureKind::Unknown`] where the time ran out, since the request may have arrived.
pub async fn call<T>(
    what: &str,
    until: Instant,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout_at(until.into(), request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(classify(what, &error)),
        Err(_) => Err(Failure::unknown(format!("{what}: no answer in time"))),
    }
}

/// What an error of the client says about the target.
pub fn classify(what: &str, error: &kube::Error) -> Failure {
    if matches!(error, kube::Error::Auth(_)) || find::<AuthError>(error).is_some() {
        // Its text may quote what a credentials plugin printed, and that is a token.
        let reason = format!("{what}: not sent: the kubeconfig's credentials (plugin or token file) could not be had");
        return Failure::new(FailureKind::Denied, reason);
    }
    match error {
        kube::Error::Api(status) => answer(what, status.code, &status.reason, &status.message),
        kube::Error::BuildRequest(_) => Failure::refused(format!("{what}: not sent: {}", causes(error))),
        _ if never_sent(error) => Failure::again(format!("{what}: cannot connect: {}", causes(error))),
        _ => Failure::unknown(format!("{what}: {}", causes(error))),
    }
}

/// What an answer that is an error says about the target.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#http-response-codes>
pub fn answer(what: &str, status: u16, reason: &str, message: &str) -> Failure {
    // kube's own words for a body that is no `Status`: something before the API server answered.
    if reason == "Failed to parse error data" {
        return Failure::unknown(format!(
            "{what}: status {status}, and not from the API server: {}",
            one_line(message)
        ));
    }
    let kind = match status {
        401 | 403 => FailureKind::Denied,
        404 => FailureKind::Missing,
        // 409: somebody wrote in between; 429: slow down.
        409 | 429 => FailureKind::Again,
        400..=499 => FailureKind::Refused,
        _ => FailureKind::Unknown,
    };
    Failure::new(kind, format!("{what}: {reason} (status {status}): {}", one_line(message))).with_code(Some(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_whether_anything_was_changed() {
        use FailureKind::{Again, Denied, Missing, Refused, Unknown};
        let table = [
            (401, "Unauthorized", Denied),
            (403, "Forbidden", Denied),
            (404, "NotFound", Missing),
            (409, "Conflict", Again),
            (422, "Invalid", Refused),
            (429, "TooManyRequests", Again),
            (500, "InternalError", Unknown),
            (503, "ServiceUnavailable", Unknown),
            (504, "Timeout", Unknown),
            (0, "", Unknown),
            (404, "Failed to parse error data", Unknown),
        ];
        for (status, reason, kind) in table {
            assert_eq!(answer("kubernetes", status, reason, "why").kind, kind, "{status} {reason}");
        }
    }
}
