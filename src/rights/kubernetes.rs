//! From steps and probes to rights of Kubernetes, each on the objects that are named and no others.
//!
//! RBAC cannot name what is listed, nor what is created by its own name; there the namespace is the bound.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources>

use std::collections::BTreeSet;

use super::kinds::plural;
use super::values::{ANY, Values};
use super::{Given, Manifest, Rights, apply_of};
use crate::config::ProbeKind;
use crate::config::action::KubernetesCluster;

/// One verb on objects of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesRight {
    /// The cluster.
    pub cluster: KubernetesCluster,
    /// The namespace; `None` for what has none.
    pub namespace: Option<String>,
    /// The API group; empty for the core.
    pub group: String,
    /// The resource, in the plural.
    pub resource: String,
    /// The objects; empty: all of the namespace, or of the cluster.
    pub names: BTreeSet<String>,
    /// `get`, `patch`, …
    pub verb: String,
    /// What needs it: `plan regional-failover, step scale`.
    pub needed_by: BTreeSet<String>,
}

/// What tells one right from another.
type Key = (KubernetesCluster, Option<String>, String, String, BTreeSet<String>, String);

impl KubernetesRight {
    pub(super) fn key(&self) -> Key {
        let Self { cluster, namespace, group, resource, names, verb, .. } = self.clone();
        (cluster, namespace, group, resource, names, verb)
    }
}

/// Adds rights for one need.
struct For<'a> {
    rights: &'a mut Rights,
    whose: &'a str,
    cluster: KubernetesCluster,
}

impl For<'_> {
    /// `resource` with its group: `deployments.apps`. A namespace or a name that is not known is any.
    fn right(&mut self, verbs: &[&str], resource: &str, namespace: Option<&str>, names: &[String]) {
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let known = names.iter().all(|name| !name.contains(ANY));
        let names: BTreeSet<String> = if known { names.iter().cloned().collect() } else { BTreeSet::new() };
        for verb in verbs {
            self.rights.kubernetes.push(KubernetesRight {
                cluster: self.cluster.clone(),
                namespace: namespace.filter(|namespace| !namespace.contains(ANY)).map(str::to_owned),
                group: group.to_owned(),
                resource: resource.to_owned(),
                names: names.clone(),
                verb: (*verb).to_owned(),
                needed_by: BTreeSet::from([self.whose.to_owned()]),
            });
        }
    }

    /// The same on each `namespace/name`.
    fn each(&mut self, verbs: &[&str], resource: &str, places: &[String]) {
        for place in places {
            let (namespace, name) = place.split_once('/').unwrap_or((ANY, ANY));
            self.right(verbs, resource, Some(namespace), &[name.to_owned()]);
        }
    }

    /// The same on all objects of the namespaces of `namespace/name`.
    fn around(&mut self, verbs: &[&str], resource: &str, places: &[String]) {
        for place in places {
            self.right(verbs, resource, place.split_once('/').map(|(namespace, _)| namespace), &[]);
        }
    }
}

/// What an action needs; nothing where it is none of Kubernetes.
pub fn of_action(rights: &mut Rights, kind: &str, values: &Values<'_>, whose: &str, given: &Given<'_>) {
    let Some(("kubernetes" | "velero", verb)) = kind.split_once('.') else { return };
    let cluster =
        KubernetesCluster { kubeconfig: values.text("kubeconfig").map(Into::into), context: values.text("context") };
    let mut to = For { rights, whose, cluster };
    let deployments = "deployments.apps";
    match verb {
        "scale" => {
            let places = values.texts("deployment");
            to.each(&["get", "patch"], deployments, &places);
            // Readiness looks whether there is room.
            to.around(&["list"], "resourcequotas", &places);
        }
        "set_env" => to.each(&["get", "patch"], deployments, &values.texts("deployment")),
        "rollout_undo" => {
            let places = values.texts("deployment");
            to.each(&["get", "patch"], deployments, &places);
            to.around(&["list"], "replicasets.apps", &places);
        }
        "rollout_restart" => several(&mut to, values, &["get", "patch"]),
        "rollout_status" => several(&mut to, values, &["get"]),
        "secret" => {
            let places = values.texts("secret");
            to.each(&["get", "patch"], "secrets", &places);
            to.around(&["create"], "secrets", &places);
        }
        "create_job" => {
            let places = values.texts("cron_job");
            to.each(&["get"], "cronjobs.batch", &places);
            to.around(&["get", "create"], "jobs.batch", &places);
        }
        "cordon" => {
            let nodes = values.texts("nodes");
            to.right(&["get", "patch"], "nodes", None, &nodes);
            if values.has("selector") || nodes.is_empty() {
                to.right(&["list"], "nodes", None, &[]);
            }
        }
        "delete_pods" => {
            for namespace in values.texts("namespace") {
                to.right(&["list", "delete"], "pods", Some(&namespace), &[]);
                to.right(&["get", "create"], "configmaps", Some(&namespace), &[]);
            }
        }
        "pods_ready" => {
            values.texts("namespace").iter().for_each(|of| to.right(&["list"], "pods", Some(of), &[]));
        }
        "endpoints_ready" => {
            to.each(&["get"], "endpoints", &values.texts("service"));
            for namespace in values.texts("namespace") {
                to.right(&["list"], "endpoints", Some(&namespace), &[]);
                to.right(&["list"], "services", Some(&namespace), &[]);
            }
        }
        "wait" => wait(&mut to, values),
        "apply" => apply(&mut to, values, given),
        "restore" => velero(&mut to, values),
        _ => {}
    }
}

/// Deployments by their names, or all of a namespace.
fn several(to: &mut For<'_>, values: &Values<'_>, verbs: &[&str]) {
    to.each(verbs, "deployments.apps", &[values.texts("deployment"), values.texts("deployments")].concat());
    for namespace in values.texts("namespace") {
        let verbs = [&["list"][..], verbs].concat();
        to.right(&verbs, "deployments.apps", Some(&namespace), &[]);
    }
}

fn velero(to: &mut For<'_>, values: &Values<'_>) {
    for namespace in values.texts("namespace") {
        if values.has("backup") {
            to.right(&["get"], "backups.velero.io", Some(&namespace), &values.texts("backup"));
        }
        if values.has("schedule") {
            to.right(&["get", "list"], "backups.velero.io", Some(&namespace), &[]);
        }
        to.right(&["get", "create"], "restores.velero.io", Some(&namespace), &[]);
    }
}

fn wait(to: &mut For<'_>, values: &Values<'_>) {
    let api_version = values.text("api_version");
    let namespaces = values.texts("namespace");
    for resource in values.texts("resource") {
        let (kind, name) = resource.split_once('/').unwrap_or((ANY, ANY));
        let known = plural(kind, api_version.as_deref());
        if known.guessed {
            to.rights.notes.insert(format!("{}: `{}` is taken for the resource of {kind}", to.whose, known.resource));
        }
        let name = [name.to_owned()];
        if namespaces.is_empty() {
            to.right(&["get"], &known.resource, None, &name);
        }
        namespaces.iter().for_each(|namespace| to.right(&["get"], &known.resource, Some(namespace), &name));
    }
}

fn apply(to: &mut For<'_>, values: &Values<'_>, given: &Given<'_>) {
    let manifests = match apply_of(values.spec()) {
        Some(apply) => (given.manifests)(&apply).map(|manifests| (apply.namespace, manifests)),
        None => Err("its parameters are known only in a run".to_owned()),
    };
    let (namespace, manifests) = match manifests {
        Ok(read) => read,
        Err(why) => {
            let text = format!("{}: no right is listed for its manifests, which cannot be read here: {why}", to.whose);
            to.rights.notes.insert(text);
            return;
        }
    };
    let usual = namespace.as_deref().unwrap_or("default");
    for Manifest { api_version, kind, namespace, name } in &manifests {
        let known = plural(kind, Some(api_version));
        if known.guessed {
            to.rights.notes.insert(format!("{}: `{}` is taken for the resource of {kind}", to.whose, known.resource));
        }
        let namespace = (!known.cluster_wide).then(|| namespace.as_deref().unwrap_or(usual));
        to.right(&["get", "patch", "create"], &known.resource, namespace, std::slice::from_ref(name));
    }
}

/// What a probe needs; nothing where it asks nothing of Kubernetes.
pub fn of_probe(rights: &mut Rights, probe: &ProbeKind, whose: &str) {
    match probe {
        ProbeKind::Kubernetes(probe) => {
            let mut to = For { rights, whose, cluster: probe.cluster() };
            to.each(&["get"], "deployments.apps", probe.deployment.as_slice());
            if probe.nodes_ready.is_some() {
                to.right(&["list"], "nodes", None, &[]);
            }
        }
        ProbeKind::VeleroAge(probe) => {
            let mut to = For { rights, whose, cluster: probe.cluster() };
            to.right(&["list"], "backups.velero.io", Some(&probe.namespace), &[]);
        }
        _ => {}
    }
}
