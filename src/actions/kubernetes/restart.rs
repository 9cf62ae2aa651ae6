//! `kubernetes.rollout_restart` and `kubernetes.rollout_status`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::cluster::{Cluster, MOST, Place, at, deployments, some};
use super::contended::Versioned;
use super::looks::Looks;
use super::marks::{self, Progress};
use super::rollout::{Rollout, rollout};
use crate::actions::{CHANGE, Halt, LOOK, until};
use crate::clients::{Clients, Failure, FailureKind};
use crate::config::action::{KubernetesRolloutRestart, KubernetesRolloutStatus};
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// The annotation of the pods' template that makes new pods of them: `RUN/STEP`.
const RESTART: &str = "failoverd/restart";

/// Which Deployments are meant.
enum Which {
    Named(Vec<Place>),
    Of { namespace: String, selector: Option<String> },
}

impl Which {
    fn new(
        deployment: Option<String>,
        mut deployments: Vec<String>,
        namespace: Option<String>,
        selector: Option<String>,
    ) -> Result<Self, String> {
        if selector.as_ref().is_some_and(|selector| selector.trim().is_empty()) {
            return Err("an empty `selector` means everything: leave it out where that is meant".into());
        }
        match (deployment, deployments.is_empty(), namespace) {
            (Some(one), true, None) => deployments.push(one),
            (None, false, None) => {}
            (None, true, Some(namespace)) => return Ok(Self::Of { namespace, selector }),
            _ => return Err("exactly one of `deployment`, `deployments` and `namespace` has to be there".into()),
        }
        if selector.is_some() {
            return Err("`selector` goes with `namespace`".into());
        }
        deployments.iter().map(|text| Place::parse(text)).collect::<Result<_, _>>().map(Self::Named)
    }

    async fn find(&self, cluster: &Cluster, until: Instant) -> Result<Vec<DynamicObject>, Failure> {
        match self {
            Self::Named(places) => {
                let mut found = Vec::new();
                for place in places {
                    found.push(cluster.get(&deployments(), place, until).await?);
                }
                Ok(found)
            }
            Self::Of { namespace, selector } => {
                let found = cluster.list(&deployments(), Some(namespace), selector.as_deref(), MOST, until).await?;
                if found.is_empty() {
                    let labels = selector.as_ref().map(|labels| format!(" with {labels}")).unwrap_or_default();
                    return Err(Failure::new(
                        FailureKind::Missing,
                        format!("there is no Deployment in {namespace}{labels}"),
                    ));
                }
                Ok(found)
            }
        }
    }
}

/// How far the rollouts are: `None` where all have finished.
fn unfinished(all: &[DynamicObject]) -> Option<String> {
    let open: Vec<String> = all
        .iter()
        .filter_map(|object| match rollout(object) {
            Rollout::Finished(_) => None,
            Rollout::Running(text) => Some(format!("{}: {text}", Place::of(object))),
            Rollout::Paused => Some(format!("{}: it is paused", Place::of(object))),
        })
        .collect();
    (!open.is_empty()).then(|| format!("{} of {} are not finished: {}", open.len(), all.len(), some(&open)))
}

/// Makes new pods of Deployments.
pub struct RolloutRestart {
    cluster: Cluster,
    which: Which,
    wait: bool,
}

/// What stands there.
struct Seen {
    all: Vec<DynamicObject>,
    /// Those that this step has not restarted.
    left: Vec<DynamicObject>,
}

impl RolloutRestart {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where they do not say which Deployments are meant.
    pub fn new(params: KubernetesRolloutRestart, clients: Arc<Clients>) -> Result<Self, String> {
        let cluster = Cluster::new(params.cluster(), clients);
        let which = Which::new(params.deployment, params.deployments, params.namespace, params.selector)?;
        Ok(Self { cluster, which, wait: params.wait })
    }

    async fn seen(&self, context: &ActionContext, until: Instant) -> Result<Seen, Halt> {
        let all = self.which.find(&self.cluster, until).await?;
        let token = marks::token(context);
        let mut left = Vec::new();
        for object in &all {
            marks::ours(context, object)?;
            let annotations = at(object, "/spec/template/metadata/annotations");
            if annotations.get(RESTART).and_then(Value::as_str) != Some(&token) {
                left.push(object.clone());
            }
        }
        if let Some(paused) = left.iter().find(|object| rollout(object) == Rollout::Paused) {
            let place = Place::of(paused);
            let reason = format!("{place} is paused: kubectl rollout resume deployment/{}", place.name);
            return Err(Failure::refused(reason).into());
        }
        Ok(Seen { all, left })
    }

    fn open(&self, seen: &Seen) -> Option<String> {
        unfinished(&seen.all).filter(|_| self.wait)
    }
}

impl Versioned for RolloutRestart {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

#[async_trait]
impl Action for RolloutRestart {
    async fn warm(&self) {
        self.cluster.warm().await;
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let seen = match self.seen(context, until(context, LOOK)).await {
            Ok(seen) => seen,
            Err(halt) => return halt.observed(),
        };
        if !seen.left.is_empty() {
            let names: Vec<Place> = seen.left.iter().map(Place::of).collect();
            let evidence = format!("{} of {} are to be restarted: {}", names.len(), seen.all.len(), some(&names));
            return Observed::NotDone { evidence, before: Value::Null };
        }
        match self.open(&seen) {
            Some(evidence) => Observed::InProgress { evidence },
            None => Observed::Done { evidence: format!("{} were restarted by this step", seen.all.len()) },
        }
    }

    /// One change for each Deployment. Each carries the mark of this step in itself, so that after a
    /// crash between two of them a look tells which ones are left.
    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let seen = match self.seen(context, until).await {
            Ok(seen) => seen,
            Err(halt) => return Ok(halt.not_sent()),
        };
        let token = marks::token(context);
        let mut progress = Progress::new("restarted", seen.left.len());
        for object in &seen.left {
            let metadata = match marks::metadata(context, object, &[]) {
                Ok(metadata) => metadata,
                Err(failure) => return Ok(progress.not_sent(failure)),
            };
            let template = json!({ "metadata": { "annotations": { RESTART: token } } });
            let patch = Patch::Merge(json!({ "metadata": metadata, "spec": { "template": template } }));
            let (place, params) = (Place::of(object), PatchParams::default());
            let patched = self.cluster.patch(context, &deployments(), &place, &params, &patch, until).await;
            if let Err(stopped) = progress.step(patched) {
                return stopped;
            }
        }
        Ok(Applied::Accepted { evidence: format!("{} of {} were restarted", seen.left.len(), seen.all.len()) })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.seen(context, until(context, LOOK)).await {
            Err(halt) => halt.verified(),
            Ok(seen) if !seen.left.is_empty() => {
                Verified::NotYet { evidence: format!("{} of {} are not restarted", seen.left.len(), seen.all.len()) }
            }
            Ok(seen) => match self.open(&seen) {
                Some(evidence) => Verified::NotYet { evidence },
                None => Verified::yes(format!("{} were restarted by this step", seen.all.len())),
            },
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}

/// Waits for rollouts.
pub struct RolloutStatus {
    cluster: Cluster,
    which: Which,
}

impl RolloutStatus {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where they do not say which Deployments are meant.
    pub fn new(params: KubernetesRolloutStatus, clients: Arc<Clients>) -> Result<Self, String> {
        let cluster = Cluster::new(params.cluster(), clients);
        let which = Which::new(params.deployment, params.deployments, params.namespace, params.selector)?;
        Ok(Self { cluster, which })
    }
}

#[async_trait]
impl Looks for RolloutStatus {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    async fn look(&self, until: Instant) -> Result<Verified, Failure> {
        let all = self.which.find(&self.cluster, until).await?;
        Ok(match unfinished(&all) {
            Some(evidence) => Verified::NotYet { evidence },
            None => Verified::yes(format!("the rollouts of all {} have finished", all.len())),
        })
    }
}
