//! `kubernetes.rollout_undo`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::cluster::{Cluster, MOST_SEEN, Place, at, deployments, resource};
use super::contended::Versioned;
use super::marks::{self, annotation};
use super::rollout::{Rollout, rollout};
use crate::actions::{CHANGE, Halt, LOOK, until};
use crate::clients::{Clients, Failure};
use crate::config::action::KubernetesRolloutUndo;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// The annotation of a Deployment that tells which step went back: `RUN/STEP`. "The revision before"
/// is another one after each time, so that nothing else could tell.
const UNDO: &str = "failoverd/undo";

/// The annotation in which Kubernetes keeps the number of a revision.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The label that Kubernetes adds to the template of each ReplicaSet.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Brings a Deployment back to an earlier revision.
pub struct RolloutUndo {
    cluster: Cluster,
    place: Place,
    to_revision: Option<u64>,
    wait: bool,
}

impl RolloutUndo {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where `deployment` is not `namespace/name`.
    pub fn new(params: KubernetesRolloutUndo, clients: Arc<Clients>) -> Result<Self, String> {
        if params.to_revision == Some(0) {
            return Err("`to_revision` is at least 1".into());
        }
        Ok(Self {
            cluster: Cluster::new(params.cluster(), clients),
            place: Place::parse(&params.deployment)?,
            to_revision: params.to_revision.map(u64::from),
            wait: params.wait,
        })
    }

    async fn seen(&self, context: &ActionContext, until: Instant) -> Result<DynamicObject, Halt> {
        let object = self.cluster.get(&deployments(), &self.place, until).await?;
        marks::ours(context, &object)?;
        if rollout(&object) == Rollout::Paused {
            let reason = format!("{0} is paused: kubectl rollout resume deployment/{1}", self.place, self.place.name);
            return Err(Failure::refused(reason).into());
        }
        Ok(object)
    }

    /// Has this step gone back?
    fn is_done(context: &ActionContext, object: &DynamicObject) -> bool {
        annotation(&object.metadata, UNDO) == Some(&marks::token(context))
    }

    /// The revision to go back to, and its template.
    async fn target(&self, object: &DynamicObject, until: Instant) -> Result<(u64, Value), Failure> {
        let replica_sets = resource("apps", "v1", "ReplicaSet", "replicasets");
        let labels = selector(object)?;
        let namespace = self.place.namespace.as_deref();
        let all = self.cluster.list(&replica_sets, namespace, Some(&labels), MOST_SEEN, until).await?;
        let owned = |set: &&DynamicObject| {
            let owners = set.metadata.owner_references.as_deref().unwrap_or_default();
            owners.iter().any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref())
        };
        let present = revision(object).ok_or_else(|| {
            Failure::again(format!("{} has no revision yet: its controller has not seen it", self.place))
        })?;
        let mut earlier: Vec<(u64, &DynamicObject)> = all
            .iter()
            .filter(owned)
            .filter_map(|set| revision(set).map(|number| (number, set)))
            .filter(|(number, _)| *number < present)
            .collect();
        earlier.sort_by_key(|(number, _)| *number);
        let found = match self.to_revision {
            None => earlier.last(),
            Some(wanted) => earlier.iter().find(|(number, _)| *number == wanted),
        };
        let Some((number, set)) = found else {
            let known: Vec<String> = earlier.iter().map(|(number, _)| number.to_string()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let wanted = self.to_revision.map_or_else(|| "an earlier one".to_owned(), |number| number.to_string());
            return Err(Failure::refused(format!(
                "{} is at revision {present}; {wanted} cannot be had, earlier ones that are kept: {known}",
                self.place
            )));
        };
        let mut template = at(set, "/spec/template").clone();
        if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.remove(TEMPLATE_HASH);
        }
        Ok((*number, template))
    }

    async fn look(&self, context: &ActionContext, until: Instant) -> Result<Observed, Halt> {
        let object = self.seen(context, until).await?;
        if Self::is_done(context, &object) {
            return Ok(match rollout(&object) {
                Rollout::Running(text) if self.wait => Observed::InProgress { evidence: text },
                _ => Observed::Done { evidence: format!("{} was brought back by this step", self.place) },
            });
        }
        if let Some(wanted) = self.to_revision.filter(|wanted| revision(&object) == Some(*wanted)) {
            let evidence = format!("{} is at revision {wanted}", self.place);
            return Ok(match rollout(&object) {
                Rollout::Running(_) if self.wait => Observed::InProgress { evidence },
                _ => Observed::Done { evidence },
            });
        }
        let (number, _) = self.target(&object, until).await?;
        let now = revision(&object).unwrap_or(0);
        let evidence = format!("{} is at revision {now}; {number} would be brought back", self.place);
        Ok(Observed::NotDone { evidence, before: Value::Null })
    }

    async fn change(&self, context: &ActionContext, until: Instant) -> Result<Result<Applied, Halt>, Denied> {
        let prepared = async {
            let object = self.seen(context, until).await?;
            if Self::is_done(context, &object)
                || self.to_revision.is_some_and(|wanted| revision(&object) == Some(wanted))
            {
                return Ok(None);
            }
            let (number, mut template) = self.target(&object, until).await?;
            // The whole template, and not a merge with what is there.
            template["$patch"] = "replace".into();
            let metadata = marks::metadata(context, &object, &[(UNDO, &marks::token(context))])?;
            let patch = Patch::Strategic(json!({ "metadata": metadata, "spec": { "template": template } }));
            Ok(Some((number, patch)))
        };
        let (number, patch) = match prepared.await {
            Ok(Some(prepared)) => prepared,
            Ok(None) => {
                let evidence = format!("{} was brought back already", self.place);
                return Ok(Ok(Applied::Accepted { evidence }));
            }
            Err(halt) => return Ok(Err(halt)),
        };
        let params = PatchParams::default();
        let patched = self.cluster.patch(context, &deployments(), &self.place, &params, &patch, until).await?;
        Ok(Ok(match patched {
            Ok(_) => Applied::Accepted { evidence: format!("{} goes back to revision {number}", self.place) },
            Err(failure) => failure.applied(),
        }))
    }
}

fn revision(object: &DynamicObject) -> Option<u64> {
    annotation(&object.metadata, REVISION)?.parse().ok()
}

/// The labels by which a Deployment finds its ReplicaSets. Those of its expressions alone would find
/// too many at worst, and the owner decides.
fn selector(object: &DynamicObject) -> Result<String, Failure> {
    let labels = at(object, "/spec/selector/matchLabels").as_object();
    let pairs = labels.into_iter().flatten();
    let text: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if text.is_empty() {
        return Err(Failure::refused(format!("{} selects its pods by no label that is matched", Place::of(object))));
    }
    Ok(text.join(","))
}

impl Versioned for RolloutUndo {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

#[async_trait]
impl Action for RolloutUndo {
    async fn warm(&self) {
        self.cluster.warm().await;
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        self.look(context, until(context, LOOK)).await.unwrap_or_else(Halt::observed)
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        Ok(self.change(context, until(context, CHANGE)).await?.unwrap_or_else(Halt::not_sent))
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.look(context, until(context, LOOK)).await {
            Ok(Observed::Done { evidence }) => Verified::yes(evidence),
            Ok(Observed::InProgress { evidence } | Observed::NotDone { evidence, .. }) => Verified::NotYet { evidence },
            Ok(_) => Verified::NotYet { evidence: format!("{} was not seen", self.place) },
            Err(halt) => halt.verified(),
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}
