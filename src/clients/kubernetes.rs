//! Kubernetes: a client of one cluster, and what an error of it means.

use std::future::Future;
use std::time::Instant;

use kube::client::AuthError;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::CONNECT_TIMEOUT;
use super::failure::{Failure, FailureKind, causes, find, never_sent, one_line};
use crate::config::action::KubernetesCluster;

/// Reads the kubeconfig, runs its credentials plugin where it has one, and builds the client.
///
/// # Errors
/// [`FailureKind::Refused`] where the kubeconfig or its context is not there; [`FailureKind::Again`]
/// where the plugin failed.
pub async fn connect(cluster: &KubernetesCluster) -> Result<kube::Client, Failure> {
    build(configuration(cluster).await?).await
}

/// Reads the kubeconfig; runs nothing yet.
///
/// # Errors
/// [`FailureKind::Refused`] where the kubeconfig or its context is not there.
pub async fn configuration(cluster: &KubernetesCluster) -> Result<kube::Config, Failure> {
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
    Ok(config)
}

/// Builds a client, and runs the kubeconfig's credentials plugin where it has one.
///
/// kube runs the plugin and waits for it on the spot. That is done on a thread of its own, and not
/// on one of the runtime's, since the runtime waits for those when it ends, and a plugin may hang
/// for ever.
///
/// # Errors
/// [`FailureKind::Again`] where the plugin failed.
pub async fn build(config: kube::Config) -> Result<kube::Client, Failure> {
    let runtime = Handle::current();
    let (tell, told) = oneshot::channel();
    let work = move || {
        let _inside = runtime.enter();
        // Nobody listens where the time ran out.
        let _ = tell.send(kube::Client::try_from(config));
    };
    let lost = |_| Failure::again("kubernetes: not called: the kubeconfig's client could not be built");
    std::thread::Builder::new()
        .name("kubeconfig".into())
        .spawn(work)
        .map_err(|error| Failure::again(format!("kubernetes: not called: no thread could be started: {error}")))?;
    told.await.map_err(lost)?.map_err(|error| classify("kubernetes", &error))
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
    let credentials = match error {
        kube::Error::Auth(error) => Some(error),
        error => find::<AuthError>(error),
    };
    if let Some(error) = credentials {
        // Its text may quote what a credentials plugin printed, and that is a token.
        let reason = format!("{what}: not sent: the kubeconfig's credentials (plugin or token file) could not be had");
        return Failure::new(credentials_kind(error), reason);
    }
    match error {
        kube::Error::Api(status) => answer(what, status.code, &status.reason, &status.message),
        kube::Error::BuildRequest(_) => Failure::refused(format!("{what}: not sent: {}", causes(error))),
        _ if never_sent(error) => Failure::again(format!("{what}: cannot connect: {}", causes(error))),
        _ => Failure::unknown(format!("{what}: {}", causes(error))),
    }
}

/// A plugin that fails asks STS or the like, which fails for a moment in the very disasters that we
/// act in; a kubeconfig that cannot be used stays so.
fn credentials_kind(error: &AuthError) -> FailureKind {
    match error {
        AuthError::InvalidBasicAuth(_)
        | AuthError::InvalidBearerToken(_)
        | AuthError::MissingCommand
        | AuthError::ExecMissingClusterInfo
        | AuthError::NoValidNativeRootCA(_) => FailureKind::Denied,
        _ => FailureKind::Again,
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
    use std::time::Duration;

    use super::*;
    use crate::clients::Clients;
    use crate::config::shape::Limits;

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
    /// A kubeconfig with a context for each plugin, and one with a token: `token`.
    fn kubeconfig(plugins: &[(&str, &[&str])]) -> tempfile::NamedTempFile {
        let user = |name: &str, user: serde_json::Value| serde_json::json!({ "name": name, "user": user });
        let mut users = vec![user("token", serde_json::json!({ "token": "t" }))];
        users.extend(plugins.iter().map(|(name, command)| {
            let exec = serde_json::json!({
                "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
                "command": command[0], "args": command[1..],
            });
            user(name, serde_json::json!({ "exec": exec }))
        }));
        let contexts: Vec<_> = users
            .iter()
            .map(
                |user| serde_json::json!({ "name": user["name"], "context": { "cluster": "c", "user": user["name"] } }),
            )
            .collect();
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "users": users, "contexts": contexts,
            "clusters": [{ "name": "c", "cluster": { "server": "http://127.0.0.1:1" } }],
        });
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text.to_string()).expect("written");
        file
    }

    #[tokio::test]
    async fn a_plugin_that_hangs_holds_up_neither_its_caller_nor_another_cluster() {
        let file = kubeconfig(&[("hangs", &["sleep", "4"]), ("fails", &["false"]), ("none", &["/nonexistent"])]);
        let clients = Clients::new(&Limits::default());
        let cluster = |context: &str| KubernetesCluster {
            kubeconfig: Some(file.path().to_owned()),
            context: Some(context.to_owned()),
        };
        let started = Instant::now();
        let (short, long) = (started + Duration::from_millis(300), started + Duration::from_secs(30));
        let (hangs, token) = (cluster("hangs"), cluster("token"));
        let (hung, other) = tokio::join!(clients.kubernetes(&hangs, short), clients.kubernetes(&token, long));
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        assert_eq!(hung.err().map(|failure| failure.kind), Some(FailureKind::Again));
        assert!(other.is_ok(), "another cluster's client");
        for context in ["fails", "none"] {
            let failure = clients.kubernetes(&cluster(context), long).await.err().expect(context);
            assert_eq!(failure.kind, FailureKind::Again, "{failure}");
            assert!(failure.reason.contains("credentials"), "{failure}");
        }
    }
}
