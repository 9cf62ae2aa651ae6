//! Kubernetes: what an API server says of itself, and of what runs in its cluster.
//!
//! The API server is the target of `readyz` alone. Everything else it is only asked about: where it does not
//! answer, or denies it, nothing is known of the target.

mod session;
pub mod velero_age;

use std::time::Instant;

use async_trait::async_trait;
use serde_json::Value;

use super::classify::Fault;
use super::{ProbeBuildError, ProbeContext, judged};
use crate::config::probe::{KubernetesProbe, NodesReady};
use crate::model::{Cause, CauseKind, HumanDuration, Observation};
use crate::ports::Probe;
use session::{List, Session, path_segment};

/// The most nodes that are looked at.
const NODES: usize = 2000;

/// See [`KubernetesProbe`].
pub struct Kubernetes {
    session: Session,
    look: Look,
}

/// What is looked at.
enum Look {
    Readyz { max_latency: Option<HumanDuration> },
    Deployment { name: String, path: String },
    Nodes(NodesReady),
}

impl Kubernetes {
    /// Checks the parameters; reads no kubeconfig.
    ///
    /// # Errors
    /// Names the parameter that cannot be used.
    pub fn new(config: &KubernetesProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        let look = match (config.readyz, &config.deployment, &config.nodes_ready) {
            (true, None, None) => Look::Readyz { max_latency: config.max_latency },
            (false, Some(name), None) => Look::Deployment { path: deployment_path(name)?, name: name.clone() },
            (false, None, Some(nodes)) => Look::Nodes(nodes.clone()),
            _ => {
                let text = "exactly one of `readyz`, `deployment` and `nodes_ready` has to be there";
                return Err(ProbeBuildError::new("kubernetes", text));
            }
        };
        Ok(Self { session: Session::new(config.cluster(), context), look })
    }

    async fn deployment(&self, name: &str, path: &str) -> Result<Option<Cause>, Fault> {
        let found = self.session.object(path, "`get` on deployments.apps", self.session.until()).await?;
        judge_deployment(name, &found)
    }

    async fn nodes(&self, wanted: &NodesReady) -> Result<(), Fault> {
        let list = List {
            path: "/api/v1/nodes",
            selector: wanted.selector.as_deref(),
            // A node is large: it lists its images.
            page: 100,
            most: NODES,
            right: "`list` on nodes",
        };
        let (mut all, mut ready) = (0_u32, 0_u32);
        let mut unready = Vec::new();
        let count = |node: Value| {
            all += 1;
            if condition(&node, "Ready") == Some("True") {
                ready += 1;
            } else if unready.len() < 5 {
                unready.push(node.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("?").to_owned());
            }
        };
        self.session.list(&list, self.session.until(), count).await?;
        if all == 0 {
            return Err(Fault::theirs(CauseKind::NotFound, "there is no such node"));
        }
        let enough = match (wanted.at_least, wanted.share) {
            (Some(least), _) => ready >= least,
            (None, Some(share)) => f64::from(ready) / f64::from(all) >= share,
            (None, None) => true,
        };
        if enough {
            return Ok(());
        }
        let text = format!("{ready} of {all} nodes are Ready; not so {}", unready.join(", "));
        Err(Fault::theirs(CauseKind::Unhealthy, text))
    }

    async fn look(&self, started: Instant) -> Observation {
        match &self.look {
            Look::Readyz { max_latency } => match self.session.readyz(*max_latency).await {
                Ok(latency) => Observation::up(latency),
                Err(fault) => fault.into(),
            },
            Look::Deployment { name, path } => judged(self.deployment(name, path).await, started.elapsed()),
            Look::Nodes(wanted) => judged(self.nodes(wanted).await.map(|()| None), started.elapsed()),
        }
    }
}

#[async_trait]
impl Probe for Kubernetes {
    async fn attempt(&self) -> Observation {
        self.look(Instant::now()).await
    }
}

fn deployment_path(name: &str) -> Result<String, ProbeBuildError> {
    let parts =
        name.split_once('/').and_then(|(namespace, name)| Some((path_segment(namespace)?, path_segment(name)?)));
    let (namespace, name) = parts
        .ok_or_else(|| ProbeBuildError::new("deployment", format!("`{name}` is not of the form namespace/name")))?;
    Ok(format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}"))
}

/// The status of one of the conditions of an object.
fn condition<'o>(object: &'o Value, kind: &str) -> Option<&'o str> {
    let all = object.pointer("/status/conditions")?.as_array()?;
    all.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

fn judge_deployment(name: &str, found: &Value) -> Result<Option<Cause>, Fault> {
    // Go leaves a zero out of a status, and not out of a spec.
    let wanted = found.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let available = found.pointer("/status/availableReplicas").and_then(Value::as_i64).unwrap_or(0);
    let text = format!("{available} of {wanted} replicas of {name} are available");
    if condition(found, "Available") != Some("True") {
        return Err(Fault::theirs(CauseKind::Unhealthy, format!("Deployment {name} is not Available: {text}")));
    }
    Ok((available < wanted).then(|| Cause::new(CauseKind::Unhealthy, text)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_is_judged_by_what_its_controller_wrote() {
        let deployment = |status: &str, wanted: i64, available: i64| {
            let found = json!({
                "spec": { "replicas": wanted },
                "status": { "availableReplicas": available, "conditions": [
                    { "type": "Progressing", "status": "True" }, { "type": "Available", "status": status },
                ] },
            });
            judge_deployment("shop/api", &found)
        };
        assert_eq!(deployment("True", 3, 3), Ok(None));
        assert_eq!(deployment("True", 0, 0), Ok(None));
        let degraded = deployment("True", 3, 2).expect("it serves").expect("and not well");
        assert_eq!(degraded.kind, CauseKind::Unhealthy);
        for status in ["False", "Unknown"] {
            let fault = deployment(status, 3, 3).expect_err("not Available");
            assert!(!fault.ours && fault.kind == CauseKind::Unhealthy, "{fault}");
        }
        assert!(judge_deployment("shop/api", &json!({ "spec": {} })).is_err(), "no controller has looked at it yet");
    }

    #[test]
    fn a_name_cannot_leave_its_path() {
        assert!(deployment_path("shop/api").is_ok());
        for name in ["shop", "shop/", "/api", "shop/../secrets", "shop/api?x", "shop/.."] {
            assert!(deployment_path(name).is_err(), "{name}");
        }
    }
}
