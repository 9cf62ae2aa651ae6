//! Is there room for more pods in a namespace, by its resource quotas?
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

use std::time::Instant;

use kube::api::DynamicObject;
use serde_json::Value;

use super::cluster::{Cluster, MOST_SEEN, Place, at, resource};
use crate::model::{Aspect, Finding};

/// Looks whether `more` pods like those of the Deployment fit.
pub async fn room(cluster: &Cluster, place: &Place, deployment: &DynamicObject, more: i64, until: Instant) -> Finding {
    let namespace = place.namespace.as_deref().unwrap_or_default();
    let subject = format!("quota of {namespace}");
    if more <= 0 {
        return Finding::ready(subject, Aspect::Capacity).with("more pods", 0);
    }
    let kind = resource("", "v1", "ResourceQuota", "resourcequotas");
    let quotas = match cluster.list(&kind, Some(namespace), None, MOST_SEEN, until).await {
        Ok(quotas) => quotas,
        Err(failure) => return Finding::unknown(subject, Aspect::Capacity, failure.reason),
    };
    let wanted = wanted(deployment, more);
    if let Some(quota) = quotas.iter().find(|quota| is_uncounted(quota, &wanted)) {
        let name = quota.metadata.name.as_deref().unwrap_or_default();
        let reason = format!("what {name} has left is not counted yet");
        return Finding::unknown(subject, Aspect::Capacity, reason);
    }
    let wrong = quotas.iter().find_map(|quota| too_little(quota, &wanted));
    Finding::judged(subject, Aspect::Capacity, wrong).with("quotas", quotas.len()).with("more pods", more)
}

/// What so many more pods ask for, as quotas count it.
fn wanted(deployment: &DynamicObject, more: i64) -> Vec<(&'static str, f64)> {
    let containers = at(deployment, "/spec/template/spec/containers").as_array();
    let asked = |of: &str, what: &str| -> f64 {
        let each = containers.into_iter().flatten();
        each.filter_map(|container| container["resources"][of][what].as_str()).filter_map(quantity).sum()
    };
    #[allow(clippy::cast_precision_loss, reason = "replicas are far below 2^53")]
    let more = more as f64;
    let requests = [("requests.cpu", "cpu"), ("cpu", "cpu"), ("requests.memory", "memory"), ("memory", "memory")];
    let limits = [("limits.cpu", "cpu"), ("limits.memory", "memory")];
    let requests = requests.map(|(name, what)| (name, more * asked("requests", what)));
    let limits = limits.map(|(name, what)| (name, more * asked("limits", what)));
    [("pods", more), ("count/pods", more)].into_iter().chain(requests).chain(limits).collect()
}

/// Does it bound something that nobody has counted yet?
fn is_uncounted(quota: &DynamicObject, wanted: &[(&'static str, f64)]) -> bool {
    let (hard, used) = (at(quota, "/spec/hard"), at(quota, "/status/used"));
    wanted.iter().any(|(what, _)| !hard[what].is_null() && used[what].is_null())
}

/// What a quota has too little of.
fn too_little(quota: &DynamicObject, wanted: &[(&'static str, f64)]) -> Option<String> {
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    let figure = |side: &str, what: &str| -> Option<(String, f64)> {
        let text = match &at(quota, side)[what] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        Some((text.clone(), quantity(&text)?))
    };
    wanted.iter().find_map(|(what, more)| {
        let (hard_text, hard) = figure("/spec/hard", what)?;
        let (used_text, used) = figure("/status/used", what).unwrap_or_else(|| ("0".into(), 0.0));
        (used + more > hard)
            .then(|| format!("{name} leaves too little room: {what} {used_text} of {hard_text} are used"))
    })
}

/// A quantity of Kubernetes: `500m`, `2`, `1Gi`, `128M`.
pub(in crate::actions) fn quantity(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let factor = match &text[end..] {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        exponent => return format!("{number}{exponent}").parse().ok(),
    };
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, value) in [("2", 2.0), ("500m", 0.5), ("1Ki", 1024.0), ("1.5G", 1.5e9), ("1e3", 1000.0)] {
            assert_eq!(quantity(text), Some(value), "{text}");
        }
        assert_eq!(quantity("much"), None);
        assert_eq!(quantity("5x"), None);
    }
}
