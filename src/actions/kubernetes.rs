//! `kubernetes.scale`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api as Objects;
use kube::api::{Patch, PatchParams};
use serde_json::Value;

use crate::actions::{CHANGE, Halt, LOOK, fenced, until};
use crate::clients::kubernetes::call;
use crate::clients::{Api, Clients, Failure, FailureKind};
use crate::config::action::{KubernetesCluster, KubernetesScale};
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// The annotation that holds the epoch that last wrote.
pub const EPOCH: &str = "failoverd/epoch";

/// The annotation that holds the run that last wrote.
pub const RUN: &str = "failoverd/run";

/// Sets a Deployment's replicas, unless a newer epoch has done so.
///
/// A HorizontalPodAutoscaler that looks after the same Deployment may scale it down again: raise
/// its `minReplicas` beforehand.
/// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/>
pub struct Scale {
    cluster: KubernetesCluster,
    namespace: String,
    name: String,
    replicas: i32,
    clients: Arc<Clients>,
}

/// What is asked of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    wanted: i32,
    ready: i32,
    version: String,
    epoch: u64,
}

impl Seen {
    fn read(found: &Deployment) -> Result<Self, Failure> {
        let none = BTreeMap::new();
        let annotations = found.metadata.annotations.as_ref().unwrap_or(&none);
        let epoch = match annotations.get(EPOCH) {
            None => 0,
            Some(text) => text
                .parse()
                .map_err(|_| Failure::refused(format!("the annotation {EPOCH} holds no number; remove it")))?,
        };
        let version = found.metadata.resource_version.clone();
        Ok(Self {
            // Kubernetes's own default.
            wanted: found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            ready: found.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0),
            version: version.ok_or_else(|| Failure::unknown("kubernetes: a Deployment without a resourceVersion"))?,
            epoch,
        })
    }
}

impl Scale {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where `deployment` is not `namespace/name`.
    pub fn new(params: KubernetesScale, clients: Arc<Clients>) -> Result<Self, String> {
        let parts: Vec<&str> = params.deployment.split('/').collect();
        let [namespace, name] = parts[..] else {
            return Err(format!("`{}` is not of the form namespace/name", params.deployment));
        };
        if namespace.is_empty() || name.is_empty() {
            return Err(format!("`{}` is not of the form namespace/name", params.deployment));
        }
        let replicas = i32::try_from(params.replicas).map_err(|_| "`replicas` is too large".to_owned())?;
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            cluster: KubernetesCluster { kubeconfig: params.kubeconfig, context: params.context },
            replicas,
            clients,
        })
    }

    async fn objects(&self, until: Instant) -> Result<Objects<Deployment>, Failure> {
        let client = self.clients.kubernetes(&self.cluster, until).await?;
        self.clients.pace(Api::Kubernetes, until).await?;
        Ok(Objects::namespaced(client, &self.namespace))
    }

    /// What is called, by its verb and object, as people name it.
    fn asks(&self, verb: &str) -> String {
        format!("kubernetes {verb} deployment {}/{}", self.namespace, self.name)
    }

    async fn look(&self, until: Instant) -> Result<Seen, Failure> {
        let objects = self.objects(until).await?;
        let found = call(&self.asks("get"), until, objects.get(&self.name)).await.map_err(explain)?;
        Seen::read(&found)
    }

    /// What stands there, unless it was written under a higher epoch than ours.
    async fn seen(&self, context: &ActionContext, until: Instant) -> Result<Seen, Halt> {
        let seen = self.look(until).await?;
        // A dry run has no epoch of its own yet.
        if context.run.is_some() && seen.epoch > context.epoch.0 {
            let name = format!("{}/{}", self.namespace, self.name);
            return Err(Halt::Overtaken(fenced(&name, seen.epoch, context.epoch.0)));
        }
        Ok(seen)
    }

    /// Writes replicas and epoch, if nobody has written since `seen`.
    async fn set(
        &self,
        context: &ActionContext,
        seen: &Seen,
        replicas: i32,
        until: Instant,
    ) -> Result<Applied, Denied> {
        let objects = match self.objects(until).await {
            Ok(objects) => objects,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let mut annotations = BTreeMap::from([(EPOCH, context.epoch.to_string())]);
        if let Some(run) = &context.run {
            annotations.insert(RUN, run.to_string());
        }
        // With a resourceVersion in it, a patch is a compare-and-swap: 409 where it has moved on.
        let patch = Patch::Merge(serde_json::json!({
            "metadata": { "resourceVersion": seen.version, "annotations": annotations },
            "spec": { "replicas": replicas },
        }));
        context.permit()?;
        let params = PatchParams::default();
        let patched = objects.patch(&self.name, &params, &patch);
        Ok(match call(&self.asks("patch"), until, patched).await.map_err(explain) {
            Ok(now) => {
                let version = now.metadata.resource_version.unwrap_or_default();
                Applied::Accepted {
                    evidence: format!(
                        "{}/{} set from {} to {replicas} replicas (resourceVersion {version})",
                        self.namespace, self.name, seen.wanted
                    ),
                }
            }
            Err(failure) => failure.applied(),
        })
    }
}

/// Which right is missing.
fn explain(failure: Failure) -> Failure {
    if failure.kind == FailureKind::Denied {
        let reason = format!("{}; `get` and `patch` on deployments.apps are needed", failure.reason);
        return Failure { reason, ..failure };
    }
    failure
}

#[async_trait]
impl Action for Scale {
    async fn warm(&self) {
        let _told_when_it_counts = self.clients.kubernetes(&self.cluster, Instant::now() + LOOK).await;
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let seen = match self.seen(context, until(context, LOOK)).await {
            Ok(seen) => seen,
            Err(halt) => return halt.observed(),
        };
        let evidence = format!("{} of {} replicas are ready", seen.ready, seen.wanted);
        if seen.wanted < self.replicas {
            let before = serde_json::json!({ "replicas": seen.wanted, "resource_version": seen.version });
            return Observed::NotDone { evidence, before };
        }
        if seen.ready >= self.replicas { Observed::Done { evidence } } else { Observed::InProgress { evidence } }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let seen = match self.seen(context, until).await {
            Ok(seen) => seen,
            Err(halt) => return Ok(halt.not_sent()),
        };
        if seen.wanted >= self.replicas {
            // Never scaled down: somebody may have had a reason for more.
            return Ok(Applied::Accepted { evidence: format!("{} replicas are asked for already", seen.wanted) });
        }
        self.set(context, &seen, self.replicas, until).await
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.seen(context, until(context, LOOK)).await {
            Err(halt) => halt.verified(),
            Ok(seen) => {
                let evidence = format!("{} of {} replicas are ready", seen.ready, seen.wanted);
                if seen.wanted >= self.replicas && seen.ready >= self.replicas {
                    Verified::yes(evidence)
                } else {
                    Verified::NotYet { evidence }
                }
            }
        }
    }

    async fn compensate(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied> {
        let Some(replicas) = before.get("replicas").and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()) else {
            return Ok(Failure::refused("it is not known how many replicas there were before").not_sent());
        };
        let until = until(context, CHANGE);
        let seen = match self.seen(context, until).await {
            Ok(seen) => seen,
            Err(halt) => return Ok(halt.not_sent()),
        };
        if seen.wanted == replicas {
            return Ok(Applied::Accepted { evidence: format!("{replicas} replicas, as before") });
        }
        if seen.wanted != self.replicas {
            let reason = format!("somebody else has set it to {} replicas; it is left alone", seen.wanted);
            return Ok(Failure::refused(reason).not_sent());
        }
        self.set(context, &seen, replicas, until).await
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}
