//! `kubernetes.delete_pods`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::cluster::{Cluster, MOST, Place, at, resource, some};
use super::marks::{self, Progress, RUN, annotation};
use super::ready::pods;
use crate::actions::{CHANGE, Halt, LOOK, until};
use crate::clients::{Clients, Failure, FailureKind};
use crate::config::action::KubernetesDeletePods;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// Deletes the pods that stand when the step begins.
///
/// Those that replace them look the same, also to the same selector. So the ones that are meant are
/// written into a ConfigMap first, under a name that only this step of this run has: it is created
/// once, whatever crashes in between.
pub struct DeletePods {
    cluster: Cluster,
    namespace: String,
    selector: String,
}

/// What stands there.
struct Seen {
    /// The pods that are meant: as written down, else those that stand now.
    meant: BTreeMap<String, String>,
    /// Is that written down?
    written: bool,
    /// Of those, the ones that nobody has deleted.
    standing: Vec<Place>,
    /// Of those, the ones on their way out.
    leaving: usize,
}

fn config_maps() -> ApiResource {
    resource("", "v1", "ConfigMap", "configmaps")
}

impl DeletePods {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where the selector is empty.
    pub fn new(params: KubernetesDeletePods, clients: Arc<Clients>) -> Result<Self, String> {
        if params.selector.trim().is_empty() {
            return Err("an empty `selector` means every pod of the namespace".into());
        }
        let cluster = Cluster::new(params.cluster(), clients);
        Ok(Self { cluster, namespace: params.namespace, selector: params.selector })
    }

    fn list(&self, context: &ActionContext) -> Place {
        Place::new(&self.namespace, &format!("failoverd-pods-{}", marks::short_token(context)))
    }

    /// The pods that were written down, by their UIDs.
    async fn written(&self, context: &ActionContext, until: Instant) -> Result<Option<BTreeMap<String, String>>, Halt> {
        let place = self.list(context);
        let Some(found) = self.cluster.find(&config_maps(), &place, until).await? else { return Ok(None) };
        marks::ours(context, &found)?;
        if annotation(&found.metadata, RUN) != context.run.as_ref().map(|run| run.as_str()) {
            return Err(Failure::refused(format!("ConfigMap {place} is there, and is not of this run")).into());
        }
        let text = at(&found, "/data/pods").as_str().unwrap_or_default();
        let read = serde_json::from_str(text)
            .map_err(|_| Failure::refused(format!("ConfigMap {place} does not tell which pods are meant")))?;
        Ok(Some(read))
    }

    async fn seen(&self, context: &ActionContext, until: Instant) -> Result<Seen, Halt> {
        let written = self.written(context, until).await?;
        let all = self.cluster.list(&pods(), Some(&self.namespace), Some(&self.selector), MOST, until).await?;
        let uid = |pod: &DynamicObject| pod.metadata.uid.clone().unwrap_or_default();
        let stays = |pod: &&DynamicObject| pod.metadata.deletion_timestamp.is_none();
        let known = written.is_some();
        let meant: BTreeMap<String, String> =
            written.unwrap_or_else(|| all.iter().filter(stays).map(|pod| (uid(pod), Place::of(pod).name)).collect());
        if meant.is_empty() {
            let reason = format!("there is no pod in {} with {}", self.namespace, self.selector);
            return Err(Failure::new(FailureKind::Missing, reason).into());
        }
        let there: Vec<&DynamicObject> = all.iter().filter(|pod| meant.contains_key(&uid(pod))).collect();
        let standing: Vec<Place> = there.iter().filter(|pod| stays(pod)).map(|pod| Place::of(pod)).collect();
        Ok(Seen { leaving: there.len() - standing.len(), standing, meant, written: known })
    }

    /// Writes down which pods are meant.
    async fn write(
        &self,
        context: &ActionContext,
        meant: &BTreeMap<String, String>,
        until: Instant,
    ) -> super::cluster::Changed<DynamicObject> {
        let text = serde_json::to_string(meant).unwrap_or_default();
        let place = self.list(context);
        let mut object = DynamicObject::new(&place.name, &config_maps())
            .within(&self.namespace)
            .data(json!({ "data": { "pods": text } }));
        object.metadata.annotations = Some(marks::annotations(context));
        let label = ("app.kubernetes.io/managed-by".to_owned(), "failoverd".to_owned());
        object.metadata.labels = Some(BTreeMap::from([label]));
        self.cluster.create(context, &config_maps(), &object, until).await
    }

    async fn delete(
        &self,
        context: &ActionContext,
        name: &str,
        uid: &str,
        until: Instant,
    ) -> super::cluster::Changed<()> {
        let place = Place::new(&self.namespace, name);
        Ok(match self.cluster.delete(context, &pods(), &place, uid, until).await? {
            Err(failure) if failure.kind == FailureKind::Missing => Ok(()),
            // Another pod of this name.
            Err(failure) if failure.code.as_deref() == Some("Conflict") => Ok(()),
            other => other,
        })
    }
}

#[async_trait]
impl Action for DeletePods {
    async fn warm(&self) {
        self.cluster.warm().await;
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let seen = match self.seen(context, until(context, LOOK)).await {
            Ok(seen) => seen,
            Err(halt) => return halt.observed(),
        };
        let (all, left) = (seen.meant.len(), seen.standing.len());
        if left > 0 {
            let evidence = format!("{left} of {all} pods stand: {}", some(&seen.standing));
            return Observed::NotDone { evidence, before: Value::Null };
        }
        if seen.leaving > 0 {
            return Observed::InProgress { evidence: format!("{} of {all} pods are on their way out", seen.leaving) };
        }
        Observed::Done { evidence: format!("the {all} pods that stood before are gone") }
    }

    /// First the list of those that are meant, then one deletion for each: a look compares the list
    /// with what stands, and so tells what is left.
    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let seen = match self.seen(context, until).await {
            Ok(seen) => seen,
            Err(halt) => return Ok(halt.not_sent()),
        };
        if !seen.written
            && let Err(failure) = self.write(context, &seen.meant, until).await?
        {
            return Ok(failure.applied());
        }
        let mut progress = Progress::new("deleted", seen.standing.len());
        for (uid, name) in &seen.meant {
            if !seen.standing.iter().any(|place| place.name == *name) {
                continue;
            }
            if let Err(stopped) = progress.step(self.delete(context, name, uid, until).await) {
                return stopped;
            }
        }
        Ok(Applied::Accepted { evidence: format!("deleted {} pods of {}", seen.standing.len(), self.namespace) })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.seen(context, until(context, LOOK)).await {
            Err(halt) => halt.verified(),
            Ok(seen) if seen.written && seen.standing.is_empty() && seen.leaving == 0 => {
                Verified::yes(format!("the {} pods that stood before are gone", seen.meant.len()))
            }
            Ok(seen) => {
                let (left, all) = (seen.standing.len() + seen.leaving, seen.meant.len());
                Verified::NotYet { evidence: format!("{left} of {all} pods are still there") }
            }
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}
