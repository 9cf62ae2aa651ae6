//! What an action has to be permitted, from the sentence of its own documentation: one text for people,
//! for `failoverd actions --permissions`, and for the readiness that asks whether it is so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::Value;

use super::{ActionConfig, KINDS};

/// The sentence of a documentation that says what has to be permitted.
pub fn sentence(text: &str) -> Option<String> {
    let rest = &text[text.find("Needs ")? + "Needs ".len()..];
    let mut end = rest.len();
    for (at, _) in rest.match_indices('.') {
        // Not the one in `deployments.apps`.
        if rest[at + 1..].chars().next().is_none_or(char::is_whitespace) {
            end = at;
            break;
        }
    }
    Some(rest[..end].to_owned())
}

static SENTENCES: LazyLock<BTreeMap<&'static str, String>> = LazyLock::new(|| {
    let schema = schemars::schema_for!(ActionConfig).to_value();
    let of = |kind: &'static str| {
        let text = description(&schema, kind)?.split_whitespace().collect::<Vec<_>>().join(" ");
        Some((kind, sentence(&text)?))
    };
    KINDS.iter().filter_map(|(kind, _)| of(kind)).collect()
});

/// The documentation of an action's parameters: family, then verb.
fn description<'a>(schema: &'a Value, kind: &str) -> Option<&'a str> {
    let mut at = schema;
    for part in kind.split('.') {
        let found = at["oneOf"].as_array()?.iter().find_map(|one| one["properties"].get(part))?;
        at = match found["$ref"].as_str().and_then(|name| name.strip_prefix('#')) {
            Some(pointer) => schema.pointer(pointer)?,
            None => found,
        };
    }
    at["description"].as_str()
}

/// The rights of AWS that an action needs in any case; of each inner list one is enough. What it needs
/// only with some of its parameters is left out.
pub fn aws(kind: &str) -> Vec<Vec<String>> {
    let Some(sentence) = SENTENCES.get(kind) else { return Vec::new() };
    let mut rights: Vec<Vec<String>> = Vec::new();
    let (mut before, mut depth) = ("", 0_usize);
    let parts: Vec<&str> = sentence.split('`').collect();
    for (place, part) in parts.iter().enumerate() {
        // Between back quotes: what is quoted.
        if place % 2 == 0 {
            depth = depth + part.matches('(').count() - part.matches(')').count().min(depth);
            before = part;
            continue;
        }
        let after = parts.get(place + 1).copied().unwrap_or_default();
        let is_right = part.split_once(':').is_some_and(|(service, action)| {
            !service.is_empty() && action.starts_with(|c: char| c.is_ascii_uppercase())
        });
        if !is_right || depth > 0 || after.trim_start_matches([' ', '(']).starts_with("with") {
            continue;
        }
        match rights.last_mut() {
            Some(last) if before == " or " => last.push((*part).to_owned()),
            _ => rights.push(vec![(*part).to_owned()]),
        }
    }
    rights
}

/// All the rights of AWS that the documentation of an action names, also those that it needs only with some
/// of its parameters.
pub fn aws_in_any_case_or_not(kind: &str) -> BTreeSet<String> {
    let quoted = SENTENCES.get(kind).into_iter().flat_map(|sentence| sentence.split('`').skip(1).step_by(2));
    let is_right = |part: &&str| {
        part.split_once(':').is_some_and(|(service, action)| {
            !service.is_empty() && action.starts_with(|c: char| c.is_ascii_uppercase())
        })
    };
    quoted.filter(is_right).map(str::to_owned).collect()
}

/// A right of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesRight {
    /// `get`, `patch`, …
    pub verb: String,
    /// The API group; empty for the core.
    pub group: String,
    /// The resource, in the plural.
    pub resource: String,
}

/// The rights of Kubernetes that an action needs. What it needs on objects that only its parameters name
/// is left out.
pub fn kubernetes(kind: &str) -> Vec<KubernetesRight> {
    const VERBS: [&str; 5] = ["get", "list", "patch", "create", "delete"];
    let Some(sentence) = SENTENCES.get(kind) else { return Vec::new() };
    let (mut verbs, mut rights, mut on) = (Vec::new(), Vec::new(), false);
    for (place, part) in sentence.split('`').enumerate() {
        match (place % 2, on) {
            (0, _) if part.trim_start().starts_with("on") => on = part.trim() == "on",
            (0, _) => {}
            (_, true) => {
                let (resource, group) = part.split_once('.').unwrap_or((part, ""));
                rights.extend(verbs.drain(..).map(|verb: &str| KubernetesRight {
                    verb: verb.to_owned(),
                    group: group.to_owned(),
                    resource: resource.to_owned(),
                }));
                on = false;
            }
            (_, false) if VERBS.contains(&part) => verbs.push(part),
            (_, false) => {}
        }
    }
    rights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_in_any_case_is_read_from_the_documentation() {
        let plain = |kind: &str| aws(kind).iter().map(|any| any.join("|")).collect::<Vec<_>>();
        assert_eq!(plain("rds.promote_read_replica"), ["rds:DescribeDBInstances", "rds:PromoteReadReplica"]);
        assert_eq!(plain("rds.stop"), ["rds:DescribeDBInstances", "rds:StopDBInstance"], "the undo is none");
        assert_eq!(plain("s3.fetch"), ["s3:GetObject"], "the list only with `prefix`");
        assert_eq!(
            plain("elasticache.failover"),
            ["elasticache:DescribeReplicationGroups", "elasticache:TestFailover|elasticache:ModifyReplicationGroup"]
        );
        assert!(!plain("rds.restore_point_in_time").contains(&"rds:DescribeDBInstanceAutomatedBackups".to_owned()));
        assert_eq!(plain("kubernetes.scale"), Vec::<String>::new());
        let theirs = [
            "rds.",
            "route53.",
            "sns.",
            "secretsmanager.",
            "iam.",
            "elasticache.",
            "autoscaling.",
            "ecs.",
            "eks.",
            "s3.",
            "arc.",
        ];
        for (kind, _) in KINDS {
            let is_aws = theirs.iter().any(|family| kind.starts_with(family));
            assert_eq!(is_aws, !aws(kind).is_empty(), "{kind}");
        }
    }

    #[test]
    fn the_rights_of_kubernetes_are_read_from_the_documentation() {
        let plain = |kind: &str| {
            let told = |right: &KubernetesRight| format!("{} {}/{}", right.verb, right.group, right.resource);
            kubernetes(kind).iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(plain("kubernetes.scale"), ["get apps/deployments", "patch apps/deployments"]);
        assert_eq!(
            plain("kubernetes.rollout_undo"),
            ["get apps/deployments", "patch apps/deployments", "list apps/replicasets"]
        );
        assert_eq!(plain("kubernetes.create_job"), ["get batch/cronjobs", "get batch/jobs", "create batch/jobs"]);
        assert_eq!(
            plain("velero.restore"),
            ["get velero.io/backups", "list velero.io/backups", "get velero.io/restores", "create velero.io/restores"]
        );
        assert_eq!(plain("kubernetes.wait"), Vec::<String>::new(), "its parameters name the resource");
        assert_eq!(plain("kubernetes.apply"), Vec::<String>::new(), "its files name the resources");
    }
}
