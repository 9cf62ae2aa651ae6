//! Kubernetes for tests and the demo: the real API server, or the stand-in where that one is not at hand.
//!
//! Both write a kubeconfig with the same contexts and users, so that a caller need not know which one it talks to.
//! `tests/it/kube_contract.rs` runs the same checks against both: that is what keeps the stand-in honest.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ::kube::api::{Api, DeleteParams, ListParams, PostParams};
use ::kube::config::{KubeConfigOptions, Kubeconfig};
use ::kube::{Client, Config};
use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::kube_real::KubeReal;
use super::kube_standin::KubeStandIn;

/// The context of the user that may do everything.
pub const BACKUP_CONTEXT: &str = "backup-cluster";
/// The context of the user that may only look (see [`READER_RULES`]).
pub const RESTRICTED_CONTEXT: &str = "restricted";
/// The user behind [`BACKUP_CONTEXT`], and its token.
pub const ADMIN: (&str, &str) = ("failoverd-admin", "canary-admin-token-of-a-test");
/// The user behind [`RESTRICTED_CONTEXT`], and its token.
pub(super) const READER: (&str, &str) = ("failoverd-reader", "canary-reader-token-of-a-test");
/// What the restricted user may do, as (API group, resource, verbs). The real server gets it as a ClusterRole, the
/// stand-in reads it directly.
pub(super) const READER_RULES: &[(&str, &str, &[&str])] = &[
    ("apps", "deployments", &["get", "list", "watch"]),
    ("apps", "deployments/scale", &["get"]),
    ("", "pods", &["get", "list", "watch"]),
];

/// A Kubernetes API that listens on loopback; gone when dropped.
pub enum Kube {
    /// etcd, kube-apiserver and kube-controller-manager.
    Real(KubeReal),
    /// Our own imitation, in this process.
    StandIn(KubeStandIn),
}

impl Kube {
    /// The real API server. Fails, and says how to get it, where it is not at hand: whoever goes on with the stand-in
    /// then decides so, and a test that means the real one cannot pass against an imitation.
    pub async fn real() -> Result<Self> {
        KubeReal::start().await.map(Self::Real)
    }

    /// The stand-in.
    pub async fn stand_in() -> Result<Self> {
        KubeStandIn::start().await.map(Self::StandIn)
    }

    /// The kubeconfig file with [`BACKUP_CONTEXT`] (current) and [`RESTRICTED_CONTEXT`].
    pub fn kubeconfig(&self) -> &Path {
        match self {
            Self::Real(real) => real.kubeconfig(),
            Self::StandIn(stand_in) => stand_in.kubeconfig(),
        }
    }

    /// How long a new pod takes until it is ready, none at first; `Duration::MAX` for never. It holds for the pods that
    /// are not ready yet too, so that a test can hold a rollout back and then let it go.
    pub fn set_ready_delay(&self, delay: Duration) {
        match self {
            Self::Real(real) => real.set_ready_delay(delay),
            Self::StandIn(stand_in) => stand_in.set_ready_delay(delay),
        }
    }

    /// A client for one of the kubeconfig's contexts. It never retries, so that a test sees each single answer.
    pub async fn client(&self, context: &str) -> Result<Client> {
        client(self.kubeconfig(), context).await
    }

    /// Creates a deployment, and its namespace where missing. It does not wait for pods.
    pub async fn create_deployment(&self, namespace: &str, name: &str, replicas: i32) -> Result<Deployment> {
        let client = self.client(BACKUP_CONTEXT).await?;
        create_namespace(&client, namespace).await?;
        let api: Api<Deployment> = Api::namespaced(client, namespace);
        Ok(api.create(&PostParams::default(), &deployment(name, replicas)).await?)
    }

    /// The replicas that the deployment asks for.
    pub async fn replicas(&self, namespace: &str, name: &str) -> Result<i32> {
        let found = self.get(namespace, name).await?;
        found.spec.and_then(|spec| spec.replicas).context("the deployment has no spec.replicas")
    }

    /// The replicas that are ready now.
    pub async fn ready_replicas(&self, namespace: &str, name: &str) -> Result<i32> {
        Ok(ready(&self.get(namespace, name).await?))
    }

    /// Waits until exactly `replicas` are ready.
    pub async fn wait_ready(&self, namespace: &str, name: &str, replicas: i32, within: Duration) -> Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.client(BACKUP_CONTEXT).await?, namespace);
        let deadline = Instant::now() + within;
        loop {
            let seen = ready(&api.get(name).await?);
            if seen == replicas {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{namespace}/{name}: {seen} of {replicas} replicas are ready after {within:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Deletes the deployment.
    pub async fn delete(&self, namespace: &str, name: &str) -> Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.client(BACKUP_CONTEXT).await?, namespace);
        api.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    async fn get(&self, namespace: &str, name: &str) -> Result<Deployment> {
        let api: Api<Deployment> = Api::namespaced(self.client(BACKUP_CONTEXT).await?, namespace);
        Ok(api.get(name).await?)
    }
}

fn ready(deployment: &Deployment) -> i32 {
    deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}

/// A deployment that a real API server accepts.
pub fn deployment(name: &str, replicas: i32) -> Deployment {
    serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": "registry.invalid/main:1" }] },
            },
        },
    }))
    .expect("the literal above is a deployment")
}

async fn create_namespace(client: &Client, name: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let wanted = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
    match api.create(&PostParams::default(), &wanted).await {
        Ok(_) => Ok(()),
        Err(::kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(other) => Err(other.into()),
    }
}

/// A client for `context` of the kubeconfig file.
pub(super) async fn client(kubeconfig: &Path, context: &str) -> Result<Client> {
    // kube builds its TLS from the process-wide provider and panics without one; a second call changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = KubeConfigOptions { context: Some(context.to_owned()), ..Default::default() };
    let mut config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &options).await?;
    // kube would repeat a PATCH after 429, 503 and 504, up to 15 times: a test could not see the first answer.
    config.default_retry = false;
    if config.cluster_url.scheme_str() == Some("http") {
        // Else kube would read the system's whole CA store, a third of a second, for a TLS that is never used.
        config.root_cert = Some(Vec::new());
    }
    Ok(Client::try_from(config)?)
}

/// Lists the pods of `namespace` that carry `app=<name>`: how many there are, and how many are ready.
pub async fn pods(client: Client, namespace: &str, name: &str) -> Result<(usize, usize)> {
    let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client, namespace);
    let found = api.list(&ListParams::default().labels(&format!("app={name}"))).await?.items;
    let is_ready = |pod: &&k8s_openapi::api::core::v1::Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    Ok((found.len(), found.iter().filter(is_ready).count()))
}

/// Writes the kubeconfig that both counterparts share, and returns its path.
pub(super) fn write_kubeconfig(folder: &Path, server: &str, ca: Option<&Path>) -> Result<PathBuf> {
    let ca = ca.map(|path| format!(", certificate-authority: {}", path.display())).unwrap_or_default();
    let mut text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {BACKUP_CONTEXT}\n\
         clusters:\n- name: test\n  cluster: {{ server: \"{server}\"{ca} }}\ncontexts:\n"
    );
    for (context, user) in [(BACKUP_CONTEXT, ADMIN.0), (RESTRICTED_CONTEXT, READER.0)] {
        text += &format!("- name: {context}\n  context: {{ cluster: test, user: {user} }}\n");
    }
    text += "users:\n";
    for (user, token) in [ADMIN, READER] {
        text += &format!("- name: {user}\n  user: {{ token: \"{token}\" }}\n");
    }
    let path = folder.join("kubeconfig");
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Work on a thread and runtime of its own, stopped and joined when dropped.
///
/// Its own thread, because a test may block its runtime while it waits for a child process that talks to us, and
/// because children that are to die with their parent die in truth with the thread that started them.
pub(super) struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Background {
    /// Starts `work` and waits until it reports that it is ready. `work` gets where to report, and what ends it.
    pub async fn start<T, F, W>(name: &str, work: F) -> Result<(Self, T)>
    where
        T: Send + 'static,
        F: FnOnce(oneshot::Sender<Result<T>>, oneshot::Receiver<()>) -> W + Send + 'static,
        W: Future<Output = ()>,
    {
        let (stop, stopped) = oneshot::channel();
        let (report, ready) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(work(report, stopped));
        })?;
        let background = Self { stop: Some(stop), thread: Some(thread) };
        let ready = ready.await.map_err(|_| anyhow!("the thread of {name} ended before it was ready"))?;
        Ok((background, ready?))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
