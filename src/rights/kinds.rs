//! The resources of Kubernetes' own kinds, as RBAC names them.

/// Group, kind, plural, and whether it has no namespace.
const KNOWN: &[(&str, &str, &str, bool)] = &[
    ("", "ConfigMap", "configmaps", false),
    ("", "Endpoints", "endpoints", false),
    ("", "Namespace", "namespaces", true),
    ("", "Node", "nodes", true),
    ("", "PersistentVolume", "persistentvolumes", true),
    ("", "PersistentVolumeClaim", "persistentvolumeclaims", false),
    ("", "Pod", "pods", false),
    ("", "ReplicationController", "replicationcontrollers", false),
    ("", "ResourceQuota", "resourcequotas", false),
    ("", "Secret", "secrets", false),
    ("", "Service", "services", false),
    ("", "ServiceAccount", "serviceaccounts", false),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", true),
    ("apps", "DaemonSet", "daemonsets", false),
    ("apps", "Deployment", "deployments", false),
    ("apps", "ReplicaSet", "replicasets", false),
    ("apps", "StatefulSet", "statefulsets", false),
    ("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers", false),
    ("batch", "CronJob", "cronjobs", false),
    ("batch", "Job", "jobs", false),
    ("networking.k8s.io", "Ingress", "ingresses", false),
    ("networking.k8s.io", "IngressClass", "ingressclasses", true),
    ("networking.k8s.io", "NetworkPolicy", "networkpolicies", false),
    ("policy", "PodDisruptionBudget", "poddisruptionbudgets", false),
    ("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", true),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings", true),
    ("rbac.authorization.k8s.io", "Role", "roles", false),
    ("rbac.authorization.k8s.io", "RoleBinding", "rolebindings", false),
    ("scheduling.k8s.io", "PriorityClass", "priorityclasses", true),
    ("storage.k8s.io", "StorageClass", "storageclasses", true),
];

/// The resource of a kind.
pub struct Plural {
    /// With its group: `deployments.apps`.
    pub resource: String,
    /// It has no namespace.
    pub cluster_wide: bool,
    /// The kind is none of Kubernetes' own: the plural is made as English makes it.
    pub guessed: bool,
}

/// The resource of a kind, or of a plural; `api_version` (`cert-manager.io/v1`) tells the group of a foreign
/// one.
pub fn plural(kind: &str, api_version: Option<&str>) -> Plural {
    let wanted = api_version.map(|version| version.split_once('/').map_or("", |(group, _)| group));
    let known = KNOWN.iter().find(|(group, known, plural, _)| {
        (known.eq_ignore_ascii_case(kind) || plural.eq_ignore_ascii_case(kind)) && wanted.is_none_or(|of| of == *group)
    });
    if let Some((group, _, plural, cluster_wide)) = known {
        return Plural { resource: with_group(plural, group), cluster_wide: *cluster_wide, guessed: false };
    }
    let one = kind.to_ascii_lowercase();
    let vowel = |c: char| "aeiou".contains(c);
    let plural = match one.strip_suffix('y') {
        Some(stem) if !stem.ends_with(vowel) => format!("{stem}ies"),
        _ if ["s", "x", "ch", "sh"].iter().any(|end| one.ends_with(end)) => format!("{one}es"),
        _ => format!("{one}s"),
    };
    Plural { resource: with_group(&plural, wanted.unwrap_or_default()), cluster_wide: false, guessed: true }
}

fn with_group(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}
