//! `velero.restore`, through Velero's custom resources.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::kubernetes::cluster::{Cluster, MOST_SEEN, Place, at, number, resource};
use super::kubernetes::marks::{self, RUN, annotation};
use super::{CHANGE, Halt, LOOK, until};
use crate::clients::failure::one_line;
use crate::clients::velero::{Newest, SCHEDULE};
use crate::clients::{Clients, Failure, FailureKind};
use crate::config::action::VeleroRestore;
use crate::model::{Applied, Observed, Outputs, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// Restores a Backup once for each run.
pub struct Restore {
    cluster: Cluster,
    params: VeleroRestore,
}

/// How a restore ended, or that it has not; with the Backup that it takes.
enum State {
    Missing,
    Running(String),
    Completed { backup: String },
    Failed(String),
}

fn velero(kind: &str, plural: &str) -> ApiResource {
    resource("velero.io", "v1", kind, plural)
}

impl Restore {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where they do not say which Backup is meant.
    pub fn new(params: VeleroRestore, clients: Arc<Clients>) -> Result<Self, String> {
        if params.schedule.is_some() == params.backup.is_some() {
            return Err("exactly one of `schedule` and `backup` has to be there".into());
        }
        Ok(Self { cluster: Cluster::new(params.cluster(), clients), params })
    }

    /// The Restore of this step of this run: its name alone makes sure that there is only one.
    fn place(&self, context: &ActionContext) -> Place {
        Place::new(&self.params.namespace, &format!("failoverd-{}", marks::short_token(context)))
    }

    async fn state(&self, context: &ActionContext, until: Instant) -> Result<State, Halt> {
        let place = self.place(context);
        let Some(found) = self.cluster.find(&velero("Restore", "restores"), &place, until).await? else {
            return Ok(State::Missing);
        };
        marks::ours(context, &found)?;
        let run = context.run.as_ref().map(|run| run.as_str());
        if run.is_some() && annotation(&found.metadata, RUN) != run {
            return Err(Failure::refused(format!("Restore {place} is there, and is not of this run")).into());
        }
        let backup = at(&found, "/spec/backupName").as_str().unwrap_or_default().to_owned();
        let phase = at(&found, "/status/phase").as_str().unwrap_or("New");
        Ok(match phase {
            "Completed" => State::Completed { backup },
            "PartiallyFailed" | "Failed" | "FailedValidation" => State::Failed(failed(&place, &backup, phase, &found)),
            // Also those that are bound to end as failed: the counts are not known before.
            _ => {
                let [done, all] =
                    ["itemsRestored", "totalItems"].map(|count| number(&found, &format!("/status/progress/{count}")));
                State::Running(format!("Restore {place} of {backup} is {phase}: {done} of {all} items"))
            }
        })
    }

    /// The Backup to take.
    async fn backup(&self, until: Instant) -> Result<String, Failure> {
        let kind = velero("Backup", "backups");
        let phase = |backup: &DynamicObject| at(backup, "/status/phase").as_str().unwrap_or("New").to_owned();
        if let Some(name) = &self.params.backup {
            let place = Place::new(&self.params.namespace, name);
            let found = self.cluster.get(&kind, &place, until).await?;
            return match phase(&found).as_str() {
                "Completed" => Ok(name.clone()),
                other => Err(Failure::refused(format!("Backup {place} is {other}, and not Completed"))),
            };
        }
        let schedule = self.params.schedule.as_deref().unwrap_or_default();
        let labels = format!("{SCHEDULE}={schedule}");
        let all = self.cluster.list(&kind, Some(&self.params.namespace), Some(&labels), MOST_SEEN, until).await?;
        let mut newest = Newest::default();
        all.iter().for_each(|backup| newest.take(backup.metadata.name.as_deref().unwrap_or_default(), &backup.data));
        newest.found.map(|(name, _)| name).ok_or_else(|| {
            let reason = format!("schedule {schedule} has {} Backups, and none of them is Completed", newest.seen);
            Failure::new(FailureKind::Missing, reason)
        })
    }

    /// Are Velero's resources served? A path that nobody serves answers like a broken proxy.
    async fn is_installed(&self, until: Instant) -> Result<(), Failure> {
        if self.cluster.served("velero.io/v1", until).await?.is_none() {
            let reason = "velero.io/v1 is not served: Velero is not installed in this cluster";
            return Err(Failure::new(FailureKind::Missing, reason));
        }
        Ok(())
    }

    fn new_object(&self, context: &ActionContext, backup: &str) -> DynamicObject {
        let mut spec = json!({ "backupName": backup });
        if !self.params.include_namespaces.is_empty() {
            spec["includedNamespaces"] = json!(self.params.include_namespaces);
        }
        let place = self.place(context);
        let mut object = DynamicObject::new(&place.name, &velero("Restore", "restores"))
            .within(&self.params.namespace)
            .data(json!({ "spec": spec }));
        object.metadata.annotations = Some(marks::annotations(context));
        object
    }
}

/// Why a restore failed, with the counts and Velero's own reasons.
fn failed(place: &Place, backup: &str, phase: &str, restore: &DynamicObject) -> String {
    let [errors, warnings] = ["errors", "warnings"].map(|count| number(restore, &format!("/status/{count}")));
    let invalid = at(restore, "/status/validationErrors").as_array().map(Vec::as_slice).unwrap_or_default();
    let reasons =
        at(restore, "/status/failureReason").as_str().into_iter().chain(invalid.iter().filter_map(Value::as_str));
    let why = one_line(&reasons.collect::<Vec<_>>().join("; "));
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    format!(
        "Restore {place} of {backup} is {phase} with {errors} errors and {warnings} warnings{why} (velero restore describe {} --details)",
        place.name
    )
}

#[async_trait]
impl Action for Restore {
    async fn warm(&self) {
        self.cluster.warm().await;
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let until = until(context, LOOK);
        if let Err(failure) = self.is_installed(until).await {
            return failure.observed();
        }
        match self.state(context, until).await {
            Err(halt) => halt.observed(),
            Ok(State::Completed { backup }) => Observed::Done { evidence: format!("Backup {backup} is restored") },
            Ok(State::Failed(reason)) => Observed::Impossible { reason },
            Ok(State::Running(evidence)) => Observed::InProgress { evidence },
            Ok(State::Missing) => match self.backup(until).await {
                Err(failure) => failure.observed(),
                Ok(backup) => {
                    Observed::NotDone { evidence: format!("Backup {backup} would be restored"), before: Value::Null }
                }
            },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let place = self.place(context);
        match self.state(context, until).await {
            Err(halt) => return Ok(halt.not_sent()),
            Ok(State::Missing) => {}
            Ok(_) => return Ok(Applied::Accepted { evidence: format!("Restore {place} is there already") }),
        }
        let backup = match self.backup(until).await {
            Ok(backup) => backup,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let object = self.new_object(context, &backup);
        Ok(match self.cluster.create(context, &velero("Restore", "restores"), &object, until).await? {
            Ok(_) => Applied::Accepted { evidence: format!("Restore {place} of Backup {backup} was created") },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let place = self.place(context);
        match self.state(context, until(context, LOOK)).await {
            Err(halt) => halt.verified(),
            Ok(State::Completed { backup }) => Verified::Yes {
                evidence: format!("Backup {backup} is restored by {place}"),
                outputs: Outputs::from([("backup".to_owned(), backup), ("restore".to_owned(), place.name)]),
            },
            Ok(State::Failed(reason)) => Verified::Failed { reason },
            Ok(State::Running(evidence)) => Verified::NotYet { evidence },
            Ok(State::Missing) => Verified::NotYet { evidence: format!("Restore {place} is not there") },
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}
