//! `kubernetes.cordon`.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::cluster::{Cluster, MOST, Place, at, resource, some};
use super::contended::Versioned;
use super::marks::{self, Progress, RUN, annotation};
use crate::actions::{CHANGE, Halt, LOOK, until};
use crate::clients::{Clients, Failure, FailureKind};
use crate::config::action::KubernetesCordon;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// Keeps new pods off nodes.
pub struct Cordon {
    cluster: Cluster,
    nodes: Vec<String>,
    selector: Option<String>,
}

fn nodes() -> ApiResource {
    resource("", "v1", "Node", "nodes")
}

fn cordoned(node: &DynamicObject) -> bool {
    at(node, "/spec/unschedulable").as_bool() == Some(true)
}

fn place(name: &str) -> Place {
    Place { namespace: None, name: name.to_owned() }
}

impl Cordon {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where they do not say which nodes are meant.
    pub fn new(params: KubernetesCordon, clients: Arc<Clients>) -> Result<Self, String> {
        if params.nodes.is_empty() == params.selector.is_none() {
            return Err("exactly one of `nodes` and `selector` has to be there".into());
        }
        if params.selector.as_ref().is_some_and(|selector| selector.trim().is_empty()) {
            return Err("an empty `selector` means every node".into());
        }
        let cluster = Cluster::new(params.cluster(), clients);
        Ok(Self { cluster, nodes: params.nodes, selector: params.selector })
    }

    async fn seen(&self, context: &ActionContext, until: Instant) -> Result<Vec<DynamicObject>, Halt> {
        let mut found = Vec::new();
        for name in &self.nodes {
            found.push(self.cluster.get(&nodes(), &place(name), until).await?);
        }
        if let Some(selector) = &self.selector {
            found = self.cluster.list(&nodes(), None, Some(selector), MOST, until).await?;
            if found.is_empty() {
                let reason = format!("there is no node with {selector}");
                return Err(Failure::new(FailureKind::Missing, reason).into());
            }
        }
        found.iter().try_for_each(|node| marks::ours(context, node))?;
        Ok(found)
    }

    /// Marks one node, or takes the mark away, if nobody has written since `node`.
    async fn set(
        &self,
        context: &ActionContext,
        node: &DynamicObject,
        unschedulable: bool,
        until: Instant,
    ) -> super::cluster::Changed<DynamicObject> {
        let metadata = match marks::metadata(context, node, &[]) {
            Ok(metadata) => metadata,
            Err(failure) => return Ok(Err(Failure { kind: failure.kind.before_sending(), ..failure })),
        };
        let patch = Patch::Merge(json!({ "metadata": metadata, "spec": { "unschedulable": unschedulable } }));
        self.cluster.patch(context, &nodes(), &Place::of(node), &PatchParams::default(), &patch, until).await
    }
}

fn names(nodes: &[&DynamicObject]) -> Vec<String> {
    nodes.iter().map(|node| node.metadata.name.clone().unwrap_or_default()).collect()
}

impl Versioned for Cordon {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

#[async_trait]
impl Action for Cordon {
    async fn warm(&self) {
        self.cluster.warm().await;
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let all = match self.seen(context, until(context, LOOK)).await {
            Ok(all) => all,
            Err(halt) => return halt.observed(),
        };
        let open: Vec<&DynamicObject> = all.iter().filter(|node| !cordoned(node)).collect();
        if open.is_empty() {
            return Observed::Done { evidence: format!("all {} nodes are cordoned", all.len()) };
        }
        let open = names(&open);
        let evidence = format!("{} of {} nodes take pods: {}", open.len(), all.len(), some(&open));
        Observed::NotDone { evidence, before: json!({ "nodes": open }) }
    }

    /// One change for each node; a look tells which ones are left.
    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let all = match self.seen(context, until).await {
            Ok(all) => all,
            Err(halt) => return Ok(halt.not_sent()),
        };
        let open: Vec<&DynamicObject> = all.iter().filter(|node| !cordoned(node)).collect();
        let mut progress = Progress::new("cordoned", open.len());
        for node in &open {
            if let Err(stopped) = progress.step(self.set(context, node, true, until).await) {
                return stopped;
            }
        }
        Ok(Applied::Accepted { evidence: format!("cordoned: {}", some(&names(&open))) })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.observe(context).await {
            Observed::Done { evidence } => Verified::yes(evidence),
            Observed::NotDone { evidence, .. } | Observed::InProgress { evidence } => Verified::NotYet { evidence },
            Observed::Impossible { reason } => Verified::Failed { reason },
            Observed::Unknown { reason } => Verified::NotYet { evidence: reason },
            Observed::Unobservable => Verified::NotYet { evidence: "the nodes were not seen".into() },
        }
    }

    /// Only those that this run has cordoned.
    async fn compensate(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied> {
        let Some(listed) = before.get("nodes").and_then(Value::as_array) else {
            return Ok(Failure::refused("it is not known which nodes took pods before").not_sent());
        };
        let until = until(context, CHANGE);
        let mut progress = Progress::new("uncordoned", listed.len());
        for name in listed.iter().filter_map(Value::as_str) {
            let node = match self.cluster.find(&nodes(), &place(name), until).await {
                Ok(Some(node)) => node,
                // A node that is gone takes no pods.
                Ok(None) => continue,
                Err(failure) => return Ok(progress.not_sent(failure)),
            };
            if let Err(halt) = marks::ours(context, &node) {
                return Ok(halt.not_sent());
            }
            let run = context.run.as_ref().map(|run| run.as_str());
            if !cordoned(&node) || annotation(&node.metadata, RUN) != run {
                continue;
            }
            if let Err(stopped) = progress.step(self.set(context, &node, false, until).await) {
                return stopped;
            }
        }
        Ok(Applied::Accepted { evidence: format!("the {} nodes take pods as before", listed.len()) })
    }
}
