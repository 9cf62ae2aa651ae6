//! `kubernetes.set_env`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::cluster::{Cluster, Place, at, deployments};
use super::contended::Versioned;
use super::marks;
use super::rollout::{Rollout, rollout};
use crate::actions::{CHANGE, Halt, LOOK, until};
use crate::clients::{Clients, Failure};
use crate::config::action::KubernetesSetEnv;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// Sets and removes variables of one container, and waits for the rollout that follows. It cannot be
/// undone: what stood before would have to be journalled, and may be a secret.
pub struct SetEnv {
    cluster: Cluster,
    place: Place,
    params: KubernetesSetEnv,
}

/// What is asked of a Deployment.
struct Seen {
    /// The container that is meant.
    container: String,
    /// The variables that are not as they should be.
    wrong: Vec<String>,
    rollout: Rollout,
    object: DynamicObject,
}

impl SetEnv {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where `deployment` is not `namespace/name`, or no variable is named.
    pub fn new(params: KubernetesSetEnv, clients: Arc<Clients>) -> Result<Self, String> {
        if params.env.is_empty() && params.unset.is_empty() {
            return Err("neither `env` nor `unset` names a variable".into());
        }
        if let Some(both) = params.unset.iter().find(|name| params.env.contains_key(*name)) {
            return Err(format!("`{both}` is both set and removed"));
        }
        Ok(Self { cluster: Cluster::new(params.cluster(), clients), place: Place::parse(&params.deployment)?, params })
    }

    /// The container that is meant, as it stands.
    fn container<'o>(&self, object: &'o DynamicObject) -> Result<&'o Value, Failure> {
        let all = at(object, "/spec/template/spec/containers").as_array().map(Vec::as_slice).unwrap_or_default();
        let name = |container: &Value| container["name"].as_str().unwrap_or_default().to_owned();
        let names = || all.iter().map(name).collect::<Vec<_>>().join(", ");
        match (&self.params.container, all) {
            (None, [only]) => Ok(only),
            (None, _) => Err(Failure::refused(format!(
                "{} has several containers: write `container` = one of {}",
                self.place,
                names()
            ))),
            (Some(wanted), _) => all.iter().find(|container| name(container) == *wanted).ok_or_else(|| {
                Failure::refused(format!("{} has no container {wanted}, it has {}", self.place, names()))
            }),
        }
    }

    /// What stands there, unless it was written under a higher epoch than ours.
    async fn seen(&self, context: &ActionContext, until: Instant) -> Result<Seen, Halt> {
        let object = self.cluster.get(&deployments(), &self.place, until).await?;
        marks::ours(context, &object)?;
        let container = self.container(&object)?;
        let rollout = rollout(&object);
        if self.params.wait && rollout == Rollout::Paused {
            let reason = format!("{0} is paused: kubectl rollout resume deployment/{1}", self.place, self.place.name);
            return Err(Failure::refused(reason).into());
        }
        let variables = container["env"].as_array().map(Vec::as_slice).unwrap_or_default();
        // Of several with one name, the last one counts.
        let found = |name: &str| variables.iter().rfind(|variable| variable["name"] == name);
        let set = self.params.env.iter().filter(|(name, value)| {
            !found(name).is_some_and(|variable| {
                variable["value"].as_str().unwrap_or_default() == value.as_str() && variable["valueFrom"].is_null()
            })
        });
        let unset = self.params.unset.iter().filter(|name| found(name).is_some());
        let wrong = set.map(|(name, _)| name).chain(unset).cloned().collect();
        let container = container["name"].as_str().unwrap_or_default().to_owned();
        Ok(Seen { container, wrong, rollout, object })
    }

    /// A strategic merge patch: containers and variables are merged by their names.
    fn patch(&self, context: &ActionContext, seen: &Seen) -> Result<Patch<Value>, Failure> {
        let set =
            self.params.env.iter().map(|(name, value)| json!({ "name": name, "value": value, "valueFrom": null }));
        let unset = self.params.unset.iter().map(|name| json!({ "name": name, "$patch": "delete" }));
        let variables: Vec<Value> = set.chain(unset).collect();
        let container = json!({ "name": seen.container, "env": variables });
        Ok(Patch::Strategic(json!({
            "metadata": marks::metadata(context, &seen.object, &[])?,
            "spec": { "template": { "spec": { "containers": [container] } } },
        })))
    }

    fn evidence(&self, seen: &Seen) -> String {
        let what = if seen.wrong.is_empty() {
            format!("{} has the variables", self.place)
        } else {
            format!("{} has not yet: {}", self.place, seen.wrong.join(", "))
        };
        match &seen.rollout {
            Rollout::Finished(text) | Rollout::Running(text) if self.params.wait => format!("{what}; {text}"),
            _ => what,
        }
    }

    fn rolled_out(&self, seen: &Seen) -> bool {
        !self.params.wait || matches!(seen.rollout, Rollout::Finished(_))
    }
}

impl Versioned for SetEnv {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

#[async_trait]
impl Action for SetEnv {
    async fn warm(&self) {
        self.cluster.warm().await;
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let seen = match self.seen(context, until(context, LOOK)).await {
            Ok(seen) => seen,
            Err(halt) => return halt.observed(),
        };
        let evidence = self.evidence(&seen);
        if !seen.wrong.is_empty() {
            Observed::NotDone { evidence, before: Value::Null }
        } else if self.rolled_out(&seen) {
            Observed::Done { evidence }
        } else {
            Observed::InProgress { evidence }
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let seen = match self.seen(context, until).await {
            Ok(seen) => seen,
            Err(halt) => return Ok(halt.not_sent()),
        };
        if seen.wrong.is_empty() {
            return Ok(Applied::Accepted { evidence: self.evidence(&seen) });
        }
        let patch = match self.patch(context, &seen) {
            Ok(patch) => patch,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let params = PatchParams::default();
        let patched = self.cluster.patch(context, &deployments(), &self.place, &params, &patch, until).await?;
        Ok(match patched {
            Ok(_) => Applied::Accepted { evidence: format!("{}: changed {}", self.place, seen.wrong.join(", ")) },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.seen(context, until(context, LOOK)).await {
            Err(halt) => halt.verified(),
            Ok(seen) if seen.wrong.is_empty() && self.rolled_out(&seen) => Verified::yes(self.evidence(&seen)),
            Ok(seen) => Verified::NotYet { evidence: self.evidence(&seen) },
        }
    }

    fn is_paced(&self) -> bool {
        true
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}
