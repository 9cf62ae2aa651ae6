//! Lists, and the kinds that can only be looked at: namespaces (which can also be made) and pods.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Shared;
use super::api::Call;
use super::status::Refusal;
use super::store::desired;

/// Which objects a list or watch wants.
pub(super) struct Filter {
    namespace: Option<String>,
    labels: Vec<(String, String)>,
    name: Option<String>,
}

impl Filter {
    pub(super) fn of(call: &Call) -> Result<Self, Refusal> {
        let selector = |field: &str| call.query.get(field).map(String::as_str).filter(|text| !text.is_empty());
        let mut labels = Vec::new();
        for part in selector("labelSelector").into_iter().flat_map(|text| text.split(',')) {
            let (label, value) = part.split_once('=').ok_or_else(|| unknown_selector(part))?;
            let value = value.strip_prefix('=').unwrap_or(value);
            if label.ends_with('!') || label.contains(' ') {
                return Err(unknown_selector(part));
            }
            labels.push((label.to_owned(), value.to_owned()));
        }
        let name = match selector("fieldSelector") {
            None => None,
            Some(text) => Some(text.strip_prefix("metadata.name=").ok_or_else(|| unknown_selector(text))?.to_owned()),
        };
        Ok(Self { namespace: call.namespace.clone(), labels, name })
    }

    pub(super) fn wants(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        self.namespace.as_deref().is_none_or(|namespace| metadata["namespace"] == namespace)
            && self.name.as_deref().is_none_or(|name| metadata["name"] == name)
            && self.labels.iter().all(|(label, value)| metadata["labels"][label] == value.as_str())
    }
}

fn unknown_selector(text: &str) -> Refusal {
    Refusal::bad_request(format!(
        "the stand-in understands label=value and metadata.name=value, not the selector {text:?}"
    ))
}

/// Namespaces and pods.
pub(super) fn serve(shared: &Arc<Shared>, call: &Call) -> Result<Response, Refusal> {
    let mut state = shared.lock();
    match (call.resource, call.verb) {
        ("namespaces", "create") => {
            let body: Value =
                serde_json::from_slice(&call.body).map_err(|why| Refusal::bad_request(why.to_string()))?;
            let created = state.store.create_namespace(&body)?;
            Ok((StatusCode::CREATED, axum::Json(created)).into_response())
        }
        ("namespaces", "get") => {
            let found = state.store.namespace(call.name.as_deref().unwrap_or_default())?;
            Ok(axum::Json(found).into_response())
        }
        ("namespaces", "list") => {
            let found = state.store.namespaces();
            Ok(list("v1", "NamespaceList", state.store.revision(), found, &Filter::of(call)?))
        }
        ("pods", "list") => {
            let found = state.store.deployments(call.namespace.as_deref());
            let found = found.iter().flat_map(pods_of).collect();
            Ok(list("v1", "PodList", state.store.revision(), found, &Filter::of(call)?))
        }
        _ => Err(Refusal::new(405, "MethodNotAllowed", "the stand-in's namespaces and pods can only be looked at")),
    }
}

pub(super) fn list_deployments(shared: &Arc<Shared>, call: &Call) -> Result<Response, Refusal> {
    let state = shared.lock();
    let found = state.store.deployments(call.namespace.as_deref());
    Ok(list("apps/v1", "DeploymentList", state.store.revision(), found, &Filter::of(call)?))
}

fn list(api_version: &str, kind: &str, revision: u64, mut items: Vec<Value>, filter: &Filter) -> Response {
    items.retain(|item| filter.wants(item));
    axum::Json(json!({
        "kind": kind, "apiVersion": api_version,
        "metadata": { "resourceVersion": revision.to_string() },
        "items": items,
    }))
    .into_response()
}

/// The pods that a deployment's status tells of.
fn pods_of(deployment: &Value) -> Vec<Value> {
    let status = &deployment["status"];
    let ready = status["readyReplicas"].as_i64().unwrap_or(0);
    let count = status["replicas"].as_i64().unwrap_or(0).min(desired(deployment));
    let name = deployment["metadata"]["name"].as_str().unwrap_or_default();
    (0..count)
        .map(|index| {
            let is_ready = index < ready;
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": format!("{name}-5d4f8c7b9-{index:05}"),
                    "namespace": deployment["metadata"]["namespace"],
                    "labels": deployment["spec"]["template"]["metadata"]["labels"],
                    "creationTimestamp": deployment["metadata"]["creationTimestamp"],
                },
                "spec": deployment["spec"]["template"]["spec"],
                "status": {
                    "phase": if is_ready { "Running" } else { "Pending" },
                    "conditions": [{ "type": "Ready", "status": if is_ready { "True" } else { "False" } }],
                },
            })
        })
        .collect()
}
