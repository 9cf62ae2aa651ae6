//! What a Deployment says of its rollout, as `kubectl rollout status` reads it.

use kube::api::DynamicObject;

use super::cluster::{at, conditions, number};

/// How far a rollout is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// All pods are of the newest template and available, and there are no others.
    Finished(String),
    /// Under way.
    Running(String),
    /// It stands still until somebody resumes it.
    Paused,
}

/// How far a Deployment's rollout is.
pub fn rollout(deployment: &DynamicObject) -> Rollout {
    if at(deployment, "/spec/paused").as_bool() == Some(true) {
        return Rollout::Paused;
    }
    let wanted = at(deployment, "/spec/replicas").as_i64().unwrap_or(1);
    let [updated, all, available] = ["updatedReplicas", "replicas", "availableReplicas"]
        .map(|count| number(deployment, &format!("/status/{count}")));
    if number(deployment, "/status/observedGeneration") < deployment.metadata.generation.unwrap_or(0) {
        return Rollout::Running("the change has not been taken up yet".to_owned());
    }
    // Kubernetes goes on all the same, and the condition may be one of the rollout before: the step's
    // own time decides.
    let slow = conditions(deployment).any(|[_, _, reason, _]| reason == "ProgressDeadlineExceeded");
    let slow = if slow { "; Kubernetes says that its progress deadline is exceeded" } else { "" };
    if updated < wanted {
        Rollout::Running(format!("{updated} of {wanted} pods are new{slow}"))
    } else if all > updated {
        Rollout::Running(format!("{} old pods are not gone yet{slow}", all - updated))
    } else if available < updated {
        Rollout::Running(format!("{available} of {updated} new pods are available{slow}"))
    } else {
        Rollout::Finished(format!("{available} of {wanted} pods are new and available"))
    }
}
