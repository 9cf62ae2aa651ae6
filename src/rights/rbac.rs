//! Rights of Kubernetes as manifests: a Role and its binding for each namespace, a ClusterRole and its
//! binding for what has none; one set for each cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::{KubernetesRight, Rights};
use crate::config::action::KubernetesCluster;

/// Who is to have the rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A service account: failoverd runs in that cluster.
    Account {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A group that an outside identity is mapped to (EKS access entries, OIDC).
    Group(String),
}

impl Whose {
    fn subject(&self) -> Value {
        match self {
            Self::Account { namespace, name } => {
                json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace })
            }
            Self::Group(name) => json!({ "kind": "Group", "name": name, "apiGroup": API_GROUP }),
        }
    }
}

const API_GROUP: &str = "rbac.authorization.k8s.io";

/// What one cluster is given.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterRights {
    /// The kubeconfig, where the configuration names one.
    pub kubeconfig: Option<String>,
    /// The context, where it names one.
    pub context: Option<String>,
    /// The manifests.
    pub manifests: Vec<Value>,
    /// Why each rule is there.
    pub why: Vec<Reason>,
}

/// Why a rule is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The namespace; `None` for what has none.
    pub namespace: Option<String>,
    /// The resource, with its group: `deployments.apps`.
    pub resource: String,
    /// The objects; empty: all.
    pub names: Vec<String>,
    /// What may be done.
    pub verbs: Vec<String>,
    /// What needs it.
    pub needed_by: Vec<String>,
}

/// Group, resource and objects.
type Rule = (String, String, BTreeSet<String>);

/// For each, what may be done, and what needs it.
type Rules = BTreeMap<Rule, (BTreeSet<String>, BTreeSet<String>)>;

/// What each cluster is given.
pub fn clusters(rights: &Rights, whose: &Whose) -> Vec<ClusterRights> {
    rights.clusters().into_iter().map(|cluster| of_cluster(rights, cluster, whose)).collect()
}

fn of_cluster(rights: &Rights, cluster: KubernetesCluster, whose: &Whose) -> ClusterRights {
    let mut places: BTreeMap<Option<String>, Rules> = BTreeMap::new();
    for right in rights.kubernetes.iter().filter(|right| right.cluster == cluster) {
        let KubernetesRight { namespace, group, resource, names, verb, needed_by, .. } = right.clone();
        let rules = places.entry(namespace).or_default();
        let (verbs, why) = rules.entry((group, resource, names)).or_default();
        verbs.insert(verb);
        why.extend(needed_by);
    }
    let (mut manifests, mut why) = (Vec::new(), Vec::new());
    for (namespace, rules) in places {
        let listed = rules.iter().map(|((group, resource, names), (verbs, _))| {
            let mut rule = json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs });
            if !names.is_empty() {
                rule["resourceNames"] = json!(names);
            }
            rule
        });
        let listed: Vec<Value> = listed.collect();
        let (role, binding) = match &namespace {
            Some(_) => ("Role", "RoleBinding"),
            None => ("ClusterRole", "ClusterRoleBinding"),
        };
        let mut metadata = json!({ "name": "failoverd" });
        if let Some(namespace) = &namespace {
            metadata["namespace"] = json!(namespace);
        }
        let version = format!("{API_GROUP}/v1");
        manifests.push(json!({ "apiVersion": version, "kind": role, "metadata": metadata, "rules": listed }));
        manifests.push(json!({
            "apiVersion": version, "kind": binding, "metadata": metadata,
            "roleRef": { "apiGroup": API_GROUP, "kind": role, "name": "failoverd" },
            "subjects": [whose.subject()],
        }));
        why.extend(rules.into_iter().map(|((group, resource, names), (verbs, needed_by))| Reason {
            namespace: namespace.clone(),
            resource: if group.is_empty() { resource } else { format!("{resource}.{group}") },
            names: names.into_iter().collect(),
            verbs: verbs.into_iter().collect(),
            needed_by: needed_by.into_iter().collect(),
        }));
    }
    let kubeconfig = cluster.kubeconfig.map(|path| path.display().to_string());
    ClusterRights { kubeconfig, context: cluster.context, manifests, why }
}

impl ClusterRights {
    /// The manifests as one stream of YAML, for `kubectl apply -f -`.
    pub fn yaml(&self) -> String {
        self.documents().iter().map(|document| format!("---\n{document}")).collect()
    }

    fn documents(&self) -> Vec<String> {
        let document = |manifest| {
            let mut text = String::new();
            write(&mut text, manifest, 0);
            text
        };
        self.manifests.iter().map(document).collect()
    }
}

/// Tables and lists as blocks, texts as JSON writes them where YAML could take them for something else.
fn write(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                match value {
                    Value::Object(_) => {
                        let _ = writeln!(text, "{indent}{key}:");
                        write(text, value, depth + 1);
                    }
                    Value::Array(of) if of.iter().any(Value::is_object) => {
                        let _ = writeln!(text, "{indent}{key}:");
                        of.iter().for_each(|item| write_item(text, item, depth + 1));
                    }
                    other => {
                        let _ = writeln!(text, "{indent}{key}: {}", flow(other));
                    }
                }
            }
        }
        other => {
            let _ = writeln!(text, "{indent}{}", flow(other));
        }
    }
}

fn write_item(text: &mut String, item: &Value, depth: usize) {
    let mut inner = String::new();
    write(&mut inner, item, depth + 1);
    // The dash takes the place of the indent of the first line.
    let dash = format!("{}- ", "  ".repeat(depth));
    text.push_str(&dash);
    text.push_str(inner.get(dash.len()..).unwrap_or_default());
}

fn flow(value: &Value) -> String {
    match value {
        Value::Array(of) => format!("[{}]", of.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) if plain(text) => text.clone(),
        other => other.to_string(),
    }
}

/// May it stand in YAML as it is?
fn plain(text: &str) -> bool {
    let word = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_'));
    let letter = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let taken = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    letter && word && !taken.iter().any(|taken| text.eq_ignore_ascii_case(taken))
}
