//! What Kubernetes would permit: a `SelfSubjectAccessReview` for each verb that a step needs, in each
//! namespace that it names.
//! <https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/self-subject-access-review-v1/>

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::actions::kubernetes::cluster::Cluster;
use crate::clients::Clients;
use crate::config::action::KubernetesCluster;
use crate::config::action::permissions::{self, KubernetesRight};
use crate::model::{ActionSpec, Aspect, Finding};

/// The cluster of a step, where it names one.
pub fn cluster_of(spec: &ActionSpec) -> Option<KubernetesCluster> {
    let (family, verb) = spec.kind.as_str().split_once('.')?;
    if !matches!(family, "kubernetes" | "velero") {
        return None;
    }
    let params = &spec.params[family][verb];
    let text = |key: &str| params[key].as_str().map(str::to_owned);
    Some(KubernetesCluster { kubeconfig: text("kubeconfig").map(Into::into), context: text("context") })
}

/// The namespaces that the parameters name: of the objects, else the one namespace; an empty list means
/// the cluster as a whole.
fn namespaces(params: &Value) -> BTreeSet<String> {
    let single = ["deployment", "secret", "cron_job", "service"].map(|key| &params[key]);
    let several = params["deployments"].as_array().into_iter().flatten();
    let placed = single.into_iter().chain(several).filter_map(Value::as_str).filter_map(|text| text.split_once('/'));
    let mut found: BTreeSet<String> = placed.map(|(namespace, _)| namespace.to_owned()).collect();
    found.extend(params["namespace"].as_str().map(str::to_owned));
    found
}

/// Asks the cluster about everything that a step needs; nothing for a step that needs nothing of it.
pub async fn permitted(spec: &ActionSpec, clients: &Arc<Clients>, until: Instant) -> Vec<Finding> {
    let Some(at) = cluster_of(spec) else { return Vec::new() };
    let rights = permissions::kubernetes(spec.kind.as_str());
    let cluster = Cluster::new(at, Arc::clone(clients));
    let (family, verb) = spec.kind.as_str().split_once('.').unwrap_or_default();
    let named = namespaces(&spec.params[family][verb]);
    let places: Vec<Option<&str>> =
        if named.is_empty() { vec![None] } else { named.iter().map(|name| Some(name.as_str())).collect() };
    let mut findings = Vec::new();
    for right in &rights {
        for namespace in &places {
            findings.push(one(&cluster, right, *namespace, until).await);
        }
    }
    findings
}

async fn one(cluster: &Cluster, right: &KubernetesRight, namespace: Option<&str>, until: Instant) -> Finding {
    let dot = if right.group.is_empty() { "" } else { "." };
    let place = namespace.map(|namespace| format!(" in {namespace}")).unwrap_or_default();
    let subject = format!("{} {}{dot}{}{place}", right.verb, right.resource, right.group);
    match cluster.may(&right.verb, &right.group, &right.resource, namespace, until).await {
        Ok(Ok(())) => Finding::ready(subject, Aspect::Permitted),
        Ok(Err(why)) => Finding::not_ready(subject, Aspect::Permitted, why),
        Err(failure) => Finding::unknown(subject, Aspect::Permitted, failure.reason),
    }
}
