//! `kubernetes.pods_ready` and `kubernetes.endpoints_ready`.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use kube::api::DynamicObject;
use kube::core::ApiResource;

use super::cluster::{Cluster, MOST_SEEN, Place, at, conditions, resource, some};
use super::looks::Looks;
use crate::clients::{Clients, Failure};
use crate::config::action::{KubernetesEndpointsReady, KubernetesPodsReady};
use crate::model::Verified;

/// `pods`
pub(super) fn pods() -> ApiResource {
    resource("", "v1", "Pod", "pods")
}

/// Waits until every pod is Running and Ready.
pub struct PodsReady {
    cluster: Cluster,
    params: KubernetesPodsReady,
}

impl PodsReady {
    /// The action for these parameters.
    pub fn new(params: KubernetesPodsReady, clients: Arc<Clients>) -> Self {
        Self { cluster: Cluster::new(params.cluster(), clients), params }
    }
}

#[async_trait]
impl Looks for PodsReady {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    async fn look(&self, until: Instant) -> Result<Verified, Failure> {
        let KubernetesPodsReady { namespace, selector, at_least, .. } = &self.params;
        // Without a word in it a selector would mean everything.
        let selector = selector.as_deref().filter(|selector| !selector.trim().is_empty());
        let all = self.cluster.list(&pods(), Some(namespace), selector, MOST_SEEN, until).await?;
        let counts =
            |pod: &&DynamicObject| pod.metadata.deletion_timestamp.is_none() && at(pod, "/status/phase") != "Succeeded";
        let serving: Vec<&DynamicObject> = all.iter().filter(counts).collect();
        let ready = |pod: &&&DynamicObject| {
            at(pod, "/status/phase") == "Running"
                && conditions(pod).any(|[kind, status, ..]| kind == "Ready" && status == "True")
        };
        let unready: Vec<String> = serving
            .iter()
            .filter(|pod| !ready(pod))
            .map(|pod| {
                let phase = at(pod, "/status/phase").as_str().unwrap_or("without a phase");
                format!("{} ({phase})", pod.metadata.name.as_deref().unwrap_or_default())
            })
            .collect();
        let (found, wanted) = (serving.len(), usize::try_from(at_least.unwrap_or(1).max(1)).unwrap_or(usize::MAX));
        Ok(if !unready.is_empty() {
            let evidence =
                format!("{} of {found} pods of {namespace} are not ready: {}", unready.len(), some(&unready));
            Verified::NotYet { evidence }
        } else if found < wanted {
            Verified::NotYet { evidence: format!("{found} pods are in {namespace}, and {wanted} have to be") }
        } else {
            Verified::yes(format!("all {found} pods of {namespace} are ready"))
        })
    }
}

/// Which Services are meant.
enum Which {
    One(Place),
    Of(String),
}

/// Waits until Services have ready endpoints.
///
/// `Endpoints` and not `EndpointSlices`: every version serves them, and they tell the same.
pub struct EndpointsReady {
    cluster: Cluster,
    which: Which,
}

impl EndpointsReady {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where they do not say which Services are meant.
    pub fn new(params: KubernetesEndpointsReady, clients: Arc<Clients>) -> Result<Self, String> {
        let cluster = Cluster::new(params.cluster(), clients);
        let which = match (params.service, params.namespace) {
            (Some(service), None) => Which::One(Place::parse(&service)?),
            (None, Some(namespace)) => Which::Of(namespace),
            _ => return Err("exactly one of `service` and `namespace` has to be there".into()),
        };
        Ok(Self { cluster, which })
    }
}

#[async_trait]
impl Looks for EndpointsReady {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    async fn look(&self, until: Instant) -> Result<Verified, Failure> {
        let endpoints = resource("", "v1", "Endpoints", "endpoints");
        let namespace = match &self.which {
            Which::One(place) => {
                let found = self.cluster.find(&endpoints, place, until).await?;
                return Ok(if found.is_some_and(|found| addresses(&found) > 0) {
                    Verified::yes(format!("Service {place} has a ready endpoint"))
                } else {
                    Verified::NotYet { evidence: format!("Service {place} has no ready endpoint") }
                });
            }
            Which::Of(namespace) => namespace,
        };
        let services = resource("", "v1", "Service", "services");
        let services = self.cluster.list(&services, Some(namespace), None, MOST_SEEN, until).await?;
        let selecting = services.iter().filter(|service| {
            at(service, "/spec/selector").as_object().is_some_and(|selector| !selector.is_empty())
                && at(service, "/spec/type") != "ExternalName"
        });
        let wanted: Vec<&str> = selecting.filter_map(|service| service.metadata.name.as_deref()).collect();
        if wanted.is_empty() {
            return Ok(Verified::NotYet { evidence: format!("no Service of {namespace} selects pods") });
        }
        let found = self.cluster.list(&endpoints, Some(namespace), None, MOST_SEEN, until).await?;
        let serves = |name: &&&str| {
            found.iter().any(|object| object.metadata.name.as_deref() == Some(**name) && addresses(object) > 0)
        };
        let empty: Vec<&&str> = wanted.iter().filter(|name| !serves(name)).collect();
        Ok(if empty.is_empty() {
            Verified::yes(format!("all {} Services of {namespace} have ready endpoints", wanted.len()))
        } else {
            let evidence =
                format!("{} of {} Services have no ready endpoint: {}", empty.len(), wanted.len(), some(&empty));
            Verified::NotYet { evidence }
        })
    }
}

/// How many addresses are ready.
fn addresses(endpoints: &DynamicObject) -> usize {
    let subsets = endpoints.data["subsets"].as_array().map(Vec::as_slice).unwrap_or_default();
    subsets.iter().filter_map(|subset| subset["addresses"].as_array()).map(Vec::len).sum()
}
