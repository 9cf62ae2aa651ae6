//! `kubernetes.create_job`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::cluster::{Cluster, Place, at, conditions, resource};
use super::marks::{self, RUN, annotation};
use crate::actions::{CHANGE, Halt, LOOK, until};
use crate::clients::failure::one_line;
use crate::clients::{Clients, Failure, FailureKind};
use crate::config::action::KubernetesCreateJob;
use crate::model::{Applied, Observed, Outputs, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// A Job's name becomes a label of its pods, which may have 63 characters.
const BASE_CHARS: usize = 50;

/// Runs a CronJob's Job once for each run.
pub struct CreateJob {
    cluster: Cluster,
    cron_job: Place,
}

/// How a Job ended, or that it has not.
enum State {
    Missing,
    Running(String),
    Complete,
    Failed(String),
}

fn jobs() -> ApiResource {
    resource("batch", "v1", "Job", "jobs")
}

impl CreateJob {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where `cron_job` is not `namespace/name`.
    pub fn new(params: KubernetesCreateJob, clients: Arc<Clients>) -> Result<Self, String> {
        let cluster = Cluster::new(params.cluster(), clients);
        Ok(Self { cluster, cron_job: Place::parse(&params.cron_job)? })
    }

    /// The Job of this step of this run: its name alone makes sure that there is only one.
    fn job(&self, context: &ActionContext) -> Place {
        let base: String = self.cron_job.name.chars().take(BASE_CHARS).collect();
        let name = format!("{}-{}", base.trim_end_matches(['-', '.']), marks::short_token(context));
        Place { namespace: self.cron_job.namespace.clone(), name }
    }

    async fn state(&self, context: &ActionContext, until: Instant) -> Result<State, Halt> {
        let place = self.job(context);
        let Some(job) = self.cluster.find(&jobs(), &place, until).await? else { return Ok(State::Missing) };
        marks::ours(context, &job)?;
        let run = context.run.as_ref().map(|run| run.as_str());
        if run.is_some() && annotation(&job.metadata, RUN) != run {
            return Err(Failure::refused(format!("Job {place} is there, and is not of this run")).into());
        }
        let ended = |wanted: &str| conditions(&job).find(|[kind, status, ..]| *kind == wanted && *status == "True");
        if ended("Complete").is_some() {
            return Ok(State::Complete);
        }
        if let Some([_, _, reason, message]) = ended("Failed") {
            return Ok(State::Failed(format!("Job {place} failed: {}", one_line(&format!("{reason}: {message}")))));
        }
        let [active, failed] =
            ["active", "failed"].map(|count| super::cluster::number(&job, &format!("/status/{count}")));
        Ok(State::Running(format!("Job {place}: {active} pods active, {failed} failed")))
    }

    /// The CronJob. Before 1.21 it was a beta.
    async fn template(&self, until: Instant) -> Result<DynamicObject, Failure> {
        let served = self.cluster.served("batch/v1", until).await?.unwrap_or_default();
        let version = if served.iter().any(|resource| resource.name == "cronjobs") { "v1" } else { "v1beta1" };
        let cron_jobs = resource("batch", version, "CronJob", "cronjobs");
        self.cluster.get(&cron_jobs, &self.cron_job, until).await
    }

    /// The Job that is created. It does not belong to the CronJob and does not end by itself some time
    /// after it is done, as others do: were it gone, a look after a crash would have it made again.
    fn new_object(&self, context: &ActionContext, cron_job: &DynamicObject) -> DynamicObject {
        let place = self.job(context);
        let template = at(cron_job, "/spec/jobTemplate");
        let mut spec = template["spec"].clone();
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("ttlSecondsAfterFinished");
        }
        let texts = |key: &str| -> Vec<(String, String)> {
            let pairs = template["metadata"][key].as_object().into_iter().flatten();
            pairs.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
        };
        let mut job = DynamicObject::new(&place.name, &jobs()).data(json!({ "spec": spec }));
        job.metadata.namespace = place.namespace;
        job.metadata.labels = Some(texts("labels").into_iter().collect());
        let manual = ("cronjob.kubernetes.io/instantiate".to_owned(), "manual".to_owned());
        let annotations = texts("annotations").into_iter().chain([manual]).chain(marks::annotations(context));
        job.metadata.annotations = Some(annotations.collect());
        job
    }
}

#[async_trait]
impl Action for CreateJob {
    async fn warm(&self) {
        self.cluster.warm().await;
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let until = until(context, LOOK);
        match self.state(context, until).await {
            Err(halt) => halt.observed(),
            Ok(State::Complete) => Observed::Done { evidence: format!("Job {} has completed", self.job(context)) },
            Ok(State::Failed(reason)) => Observed::Impossible { reason },
            Ok(State::Running(evidence)) => Observed::InProgress { evidence },
            Ok(State::Missing) => match self.template(until).await {
                Err(failure) => failure.observed(),
                Ok(_) => {
                    let evidence = format!("Job {} is not there", self.job(context));
                    Observed::NotDone { evidence, before: Value::Null }
                }
            },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let place = self.job(context);
        match self.state(context, until).await {
            Err(halt) => return Ok(halt.not_sent()),
            Ok(State::Missing) => {}
            Ok(_) => return Ok(Applied::Accepted { evidence: format!("Job {place} is there already") }),
        }
        let cron_job = match self.template(until).await {
            Ok(cron_job) => cron_job,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let object = self.new_object(context, &cron_job);
        Ok(match self.cluster.create(context, &jobs(), &object, until).await? {
            Ok(_) => Applied::Accepted { evidence: format!("Job {place} was created") },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let place = self.job(context);
        match self.state(context, until(context, LOOK)).await {
            // Another's Job of this name does not become ours by waiting.
            Err(Halt::Blind(failure)) if failure.kind == FailureKind::Refused => {
                Verified::Failed { reason: failure.reason }
            }
            Err(halt) => halt.verified(),
            Ok(State::Complete) => Verified::Yes {
                evidence: format!("Job {place} has completed"),
                outputs: Outputs::from([("job".to_owned(), place.name)]),
            },
            Ok(State::Failed(reason)) => Verified::Failed { reason },
            Ok(State::Running(evidence)) => Verified::NotYet { evidence },
            Ok(State::Missing) => Verified::NotYet { evidence: format!("Job {place} is not there") },
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}
