//! `kubernetes.scale`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::Value;

use super::cluster::{Cluster, Place, at, deployments, number};
use super::contended::Versioned;
use super::{marks, quota};
use crate::actions::ready::failed;
use crate::actions::{CHANGE, Halt, LOOK, until};
use crate::clients::{Clients, Failure};
use crate::config::action::KubernetesScale;
use crate::model::{Applied, Aspect, Finding, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied, ReadyContext};

/// Sets a Deployment's replicas, unless a newer epoch has done so.
///
/// A HorizontalPodAutoscaler that looks after the same Deployment may scale it down again: raise
/// its `minReplicas` beforehand.
/// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/>
pub struct Scale {
    cluster: Cluster,
    place: Place,
    replicas: i64,
    exact: bool,
}

/// What is asked of a Deployment.
struct Seen {
    wanted: i64,
    ready: i64,
    /// All that there are still, ready or not.
    all: i64,
    object: DynamicObject,
}

impl Scale {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where `deployment` is not `namespace/name`.
    pub fn new(params: KubernetesScale, clients: Arc<Clients>) -> Result<Self, String> {
        let replicas = i32::try_from(params.replicas).map_err(|_| "`replicas` is too large".to_owned())?;
        Ok(Self {
            cluster: Cluster::new(params.cluster(), clients),
            place: Place::parse(&params.deployment)?,
            replicas: i64::from(replicas),
            exact: params.exact,
        })
    }

    /// What stands there, unless it was written under a higher epoch than ours.
    async fn seen(&self, context: &ActionContext, until: Instant) -> Result<Seen, Halt> {
        let object = self.cluster.get(&deployments(), &self.place, until).await?;
        marks::ours(context, &object)?;
        Ok(Seen {
            // Kubernetes's own default.
            wanted: at(&object, "/spec/replicas").as_i64().unwrap_or(1),
            ready: number(&object, "/status/readyReplicas"),
            all: number(&object, "/status/replicas"),
            object,
        })
    }

    /// Is it asked for already?
    fn asked(&self, seen: &Seen) -> bool {
        if self.exact { seen.wanted == self.replicas } else { seen.wanted >= self.replicas }
    }

    /// Is it so?
    fn reached(&self, seen: &Seen) -> bool {
        self.asked(seen) && seen.ready >= self.replicas && (!self.exact || seen.all <= self.replicas)
    }

    fn evidence(seen: &Seen) -> String {
        match seen.all - seen.wanted {
            more if more > 0 => format!("{} of {} replicas are ready, {more} are still to go", seen.ready, seen.wanted),
            _ => format!("{} of {} replicas are ready", seen.ready, seen.wanted),
        }
    }

    /// Writes replicas and epoch, if nobody has written since `seen`.
    async fn set(
        &self,
        context: &ActionContext,
        seen: &Seen,
        replicas: i64,
        until: Instant,
    ) -> Result<Applied, Denied> {
        let metadata = match marks::metadata(context, &seen.object, &[]) {
            Ok(metadata) => metadata,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let patch = Patch::Merge(serde_json::json!({ "metadata": metadata, "spec": { "replicas": replicas } }));
        let params = PatchParams::default();
        let patched = self.cluster.patch(context, &deployments(), &self.place, &params, &patch, until).await?;
        Ok(match patched {
            Ok(now) => {
                let version = now.metadata.resource_version.unwrap_or_default();
                Applied::Accepted {
                    evidence: format!(
                        "{} set from {} to {replicas} replicas (resourceVersion {version})",
                        self.place, seen.wanted
                    ),
                }
            }
            Err(failure) => failure.applied(),
        })
    }
}

impl Versioned for Scale {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

#[async_trait]
impl Action for Scale {
    async fn warm(&self) {
        self.cluster.warm().await;
    }

    async fn ready(&self, look: &ReadyContext) -> Vec<Finding> {
        let name = format!("Deployment {}", self.place);
        let until = until(&look.context, LOOK);
        let seen = match self.seen(&look.context, until).await {
            Ok(seen) => seen,
            Err(Halt::Blind(failure)) => return vec![failed(&name, failure)],
            Err(Halt::Overtaken(reason)) => return vec![Finding::not_ready(name, Aspect::Matches, reason)],
        };
        let more = if self.asked(&seen) { 0 } else { self.replicas - seen.wanted };
        let images = at(&seen.object, "/spec/template/spec/containers").as_array().into_iter().flatten();
        let images: Vec<&str> = images.filter_map(|container| container["image"].as_str()).collect();
        let short = (seen.ready < seen.wanted)
            .then(|| format!("only {} of its {} replicas are ready now", seen.ready, seen.wanted));
        let found = Finding::judged(&name, Aspect::Exists, short)
            .with("replicas", seen.wanted)
            .with("images", images.join(", "))
            .measuring("ready", seen.ready);
        vec![found, quota::room(&self.cluster, &self.place, &seen.object, more, until).await]
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let seen = match self.seen(context, until(context, LOOK)).await {
            Ok(seen) => seen,
            Err(halt) => return halt.observed(),
        };
        let evidence = Self::evidence(&seen);
        if !self.asked(&seen) {
            let before = serde_json::json!({ "replicas": seen.wanted, "resource_version": seen.object.metadata.resource_version });
            return Observed::NotDone { evidence, before };
        }
        if self.reached(&seen) { Observed::Done { evidence } } else { Observed::InProgress { evidence } }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let seen = match self.seen(context, until).await {
            Ok(seen) => seen,
            Err(halt) => return Ok(halt.not_sent()),
        };
        if self.asked(&seen) {
            // Unless it is `exact`, never scaled down: somebody may have had a reason for more.
            return Ok(Applied::Accepted { evidence: format!("{} replicas are asked for already", seen.wanted) });
        }
        self.set(context, &seen, self.replicas, until).await
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.seen(context, until(context, LOOK)).await {
            Err(halt) => halt.verified(),
            Ok(seen) => {
                let evidence = Self::evidence(&seen);
                if self.reached(&seen) { Verified::yes(evidence) } else { Verified::NotYet { evidence } }
            }
        }
    }

    async fn compensate(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied> {
        let Some(replicas) = before.get("replicas").and_then(Value::as_i64) else {
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

    fn is_paced(&self) -> bool {
        true
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}
