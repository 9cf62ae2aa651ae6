//! `kubernetes.wait`.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use serde_json::Value;

use super::cluster::{Cluster, Place, conditions, number, resource};
use super::looks::Looks;
use crate::clients::failure::one_line;
use crate::clients::{Clients, Failure};
use crate::config::action::KubernetesWait;
use crate::model::Verified;

/// The kinds that need no `api_version`: group, version, kind, plural.
const KNOWN: [[&str; 4]; 15] = [
    ["", "v1", "Pod", "pods"],
    ["", "v1", "Node", "nodes"],
    ["", "v1", "Namespace", "namespaces"],
    ["", "v1", "Service", "services"],
    ["", "v1", "Endpoints", "endpoints"],
    ["", "v1", "ConfigMap", "configmaps"],
    ["", "v1", "Secret", "secrets"],
    ["", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"],
    ["", "v1", "PersistentVolume", "persistentvolumes"],
    ["apps", "v1", "Deployment", "deployments"],
    ["apps", "v1", "StatefulSet", "statefulsets"],
    ["apps", "v1", "DaemonSet", "daemonsets"],
    ["apps", "v1", "ReplicaSet", "replicasets"],
    ["batch", "v1", "Job", "jobs"],
    ["networking.k8s.io", "v1", "Ingress", "ingresses"],
];

/// What is waited for.
enum Until {
    Condition { name: String, status: String },
    Value { pointer: String, equals: Value },
}

/// Waits for a condition or a value of an object.
pub struct Wait {
    cluster: Cluster,
    kind: String,
    known: Option<ApiResource>,
    api_version: Option<String>,
    place: Place,
    until: Until,
}

impl Wait {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where they do not name an object and what is waited for.
    pub fn new(params: KubernetesWait, clients: Arc<Clients>) -> Result<Self, String> {
        let cluster = Cluster::new(params.cluster(), clients);
        let [kind, name] = params.resource.split('/').collect::<Vec<_>>()[..] else {
            return Err(format!("`{}` is not of the form kind/name", params.resource));
        };
        if kind.is_empty() || name.is_empty() {
            return Err(format!("`{}` is not of the form kind/name", params.resource));
        }
        let known = KNOWN
            .iter()
            .filter(|_| params.api_version.is_none())
            .find(|[_, _, known, plural]| known.eq_ignore_ascii_case(kind) || plural.eq_ignore_ascii_case(kind))
            .map(|[group, version, kind, plural]| resource(group, version, kind, plural));
        if known.is_none() && params.api_version.is_none() {
            return Err(format!("`{kind}` is no kind of Kubernetes itself: write its `api_version`, too"));
        }
        let until = match (params.condition, params.pointer, params.equals) {
            (Some(text), None, None) => {
                let (name, status) = text.split_once('=').unwrap_or((&text, "True"));
                Until::Condition { name: name.to_owned(), status: status.to_owned() }
            }
            (None, Some(pointer), Some(equals)) if pointer.starts_with('/') => Until::Value { pointer, equals },
            _ => return Err("write either `condition`, or `pointer` (beginning with `/`) and `equals`".into()),
        };
        let place = Place { namespace: params.namespace, name: name.to_owned() };
        Ok(Self { cluster, kind: kind.to_owned(), known, api_version: params.api_version, place, until })
    }

    async fn resource(&self, until: Instant) -> Result<Option<ApiResource>, Failure> {
        match (&self.known, &self.api_version) {
            (Some(known), _) => Ok(Some(known.clone())),
            (None, Some(version)) => {
                Ok(self.cluster.kind(version, &self.kind, until).await?.map(|(resource, _)| resource))
            }
            (None, None) => Ok(None),
        }
    }

    fn judge(&self, object: &DynamicObject) -> Verified {
        let what = format!("{} {}", self.kind, self.place);
        match &self.until {
            Until::Condition { name, status } => {
                let observed = object.data.pointer("/status/observedGeneration").is_some();
                if observed && number(object, "/status/observedGeneration") < object.metadata.generation.unwrap_or(0) {
                    return Verified::NotYet { evidence: format!("{what}: its change has not been taken up yet") };
                }
                match conditions(object).find(|[found, ..]| found.eq_ignore_ascii_case(name)) {
                    Some([_, found, ..]) if found.eq_ignore_ascii_case(status) => {
                        Verified::yes(format!("{what}: {name} is {found}"))
                    }
                    Some([_, found, reason, message]) => {
                        let why = one_line(&format!("{reason} {message}"));
                        Verified::NotYet { evidence: format!("{what}: {name} is {found}: {why}") }
                    }
                    None => Verified::NotYet { evidence: format!("{what} has no condition {name}") },
                }
            }
            Until::Value { pointer, equals } => {
                // The metadata is kept apart from the rest.
                let whole = serde_json::to_value(object).unwrap_or_default();
                // What stands there is not shown: it may be in a Secret.
                match whole.pointer(pointer) {
                    Some(found) if found == equals => Verified::yes(format!("{what}: {pointer} is as wanted")),
                    Some(_) => Verified::NotYet { evidence: format!("{what}: {pointer} is not as wanted") },
                    None => Verified::NotYet { evidence: format!("{what} has nothing at {pointer}") },
                }
            }
        }
    }
}

#[async_trait]
impl Looks for Wait {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    async fn look(&self, until: Instant) -> Result<Verified, Failure> {
        let Some(resource) = self.resource(until).await? else {
            let version = self.api_version.as_deref().unwrap_or_default();
            return Ok(Verified::NotYet { evidence: format!("{} of {version} is not served", self.kind) });
        };
        Ok(match self.cluster.find(&resource, &self.place, until).await? {
            None => Verified::NotYet { evidence: format!("{} {} is not there", self.kind, self.place) },
            Some(object) => self.judge(&object),
        })
    }
}
