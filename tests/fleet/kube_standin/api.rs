//! The HTTP side: from a request to who asks for what, and from there to an answer.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::kube::{ADMIN, READER, READER_RULES};
use super::faults::{self, Fault};
use super::patch::{Lists, merge};
use super::status::{Refusal, qualified};
use super::store::{Key, Written, desired, expect_version};
use super::{Seen, Shared, objects, watching};

const BODY_LIMIT: usize = 3 << 20;
const ANONYMOUS: &str = "system:anonymous";

/// What a request asks for, in the API's own terms.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub verb: &'static str,
    pub group: &'static str,
    /// With the subresource: `deployments/scale`.
    pub resource: &'static str,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub query: HashMap<String, String>,
    content_type: String,
    pub body: Bytes,
}

type Answer = Result<Response, Refusal>;

/// Answers every request.
pub(super) async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_LIMIT).await else {
        return Refusal::bad_request("the body could not be read").into_response();
    };
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default();
    let query: HashMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let mut call = route(&path).unwrap_or_default();
    call.verb = verb(&parts.method, &call, &query);
    call.query = query;
    call.content_type = content_type(&parts.headers);
    call.body = body;
    let fault = {
        let mut state = shared.lock();
        let body = serde_json::from_slice(&call.body).unwrap_or(Value::Null);
        state.seen.push(Seen { verb: call.verb, path: path.clone(), body });
        faults::take(&mut state.faults, call.verb, &path)
    };
    let answer = || answer(&shared, &call, &path, &parts.headers).unwrap_or_else(Refusal::into_response);
    match fault {
        None => answer(),
        Some(Fault::Slow(delay)) => {
            tokio::time::sleep(delay).await;
            answer()
        }
        Some(Fault::Error(code)) => Refusal::fault(code).into_response(),
        Some(Fault::Throttled { retry_after }) => Refusal::throttled(retry_after),
        Some(Fault::Html(code)) => html(code),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::HangAfterwards) => {
            answer();
            std::future::pending().await
        }
        Some(Fault::ErrorAfterwards(code)) => {
            answer();
            Refusal::fault(code).into_response()
        }
    }
}

fn html(code: u16) -> Response {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
    let page = format!("<html><head><title>{code}</title></head><body><h1>{code}</h1></body></html>\n");
    (code, [(header::CONTENT_TYPE, "text/html")], page).into_response()
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_owned()
}

fn route(path: &str) -> Option<Call> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, resource, namespace, name) = match parts[..] {
        ["api", "v1", "namespaces"] => ("", "namespaces", None, None),
        // To RBAC a namespace lies in itself.
        ["api", "v1", "namespaces", name] => ("", "namespaces", Some(name), Some(name)),
        ["api", "v1", "pods"] => ("", "pods", None, None),
        ["api", "v1", "namespaces", namespace, "pods"] => ("", "pods", Some(namespace), None),
        ["apis", "apps", "v1", "deployments"] => ("apps", "deployments", None, None),
        ["apis", "apps", "v1", "namespaces", namespace, "deployments"] => {
            ("apps", "deployments", Some(namespace), None)
        }
        ["apis", "apps", "v1", "namespaces", namespace, "deployments", name] => {
            ("apps", "deployments", Some(namespace), Some(name))
        }
        ["apis", "apps", "v1", "namespaces", namespace, "deployments", name, "scale"] => {
            ("apps", "deployments/scale", Some(namespace), Some(name))
        }
        ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"] => {
            ("authorization.k8s.io", "selfsubjectaccessreviews", None, None)
        }
        _ => return None,
    };
    let owned = |part: Option<&str>| part.map(str::to_owned);
    Some(Call { group, resource, namespace: owned(namespace), name: owned(name), ..Call::default() })
}

fn verb(method: &Method, call: &Call, query: &HashMap<String, String>) -> &'static str {
    let watch = query.get("watch").is_some_and(|value| value == "true" || value == "1");
    match method.as_str() {
        "GET" if call.name.is_none() && watch => "watch",
        "GET" if call.name.is_none() && !call.resource.is_empty() => "list",
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "unknown",
    }
}

fn answer(shared: &Arc<Shared>, call: &Call, path: &str, headers: &HeaderMap) -> Answer {
    let user = user(headers)?;
    match path {
        "/version" => return Ok(axum::Json(version()).into_response()),
        "/readyz" | "/livez" | "/healthz" => return Ok("ok".into_response()),
        _ => {}
    }
    if !may(user, call.verb, call.group, call.resource) {
        return Err(forbidden(user, call, path));
    }
    match (call.resource, call.verb) {
        ("namespaces" | "pods", _) => objects::serve(shared, call),
        ("selfsubjectaccessreviews", "create") => review(user, &json_body(call)?),
        ("deployments", "watch") => watching::serve(shared, call),
        ("deployments", "list") => objects::list_deployments(shared, call),
        ("deployments", "create") => create(shared, call),
        ("deployments", _) => deployment(shared, call),
        ("deployments/scale", _) => scale(shared, call),
        ("", _) => Err(Refusal::no_such_path()),
        _ => Err(not_allowed()),
    }
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "20", "gitVersion": "v1.20.2+stand-in", "gitCommit": "", "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
    })
}

fn not_allowed() -> Refusal {
    Refusal::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

fn user(headers: &HeaderMap) -> Result<&'static str, Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(ANONYMOUS);
    };
    let token = value.to_str().unwrap_or_default().strip_prefix("Bearer ").unwrap_or_default();
    let known = [ADMIN, READER].into_iter().find(|(_, secret)| *secret == token);
    known.map(|(name, _)| name).ok_or_else(|| Refusal::new(401, "Unauthorized", "Unauthorized"))
}

fn may(user: &str, verb: &str, group: &str, resource: &str) -> bool {
    let reads = |rule: &&(&str, &str, &[&str])| rule.0 == group && rule.1 == resource && rule.2.contains(&verb);
    match user {
        name if name == ADMIN.0 => true,
        ANONYMOUS => false,
        // Everybody who has a name may ask what they may do.
        _ if resource == "selfsubjectaccessreviews" => verb == "create",
        name => name == READER.0 && READER_RULES.iter().any(|rule| reads(&rule)),
    }
}

fn forbidden(user: &str, call: &Call, path: &str) -> Refusal {
    if call.resource.is_empty() {
        let message = format!("forbidden: User \"{user}\" cannot {} path \"{path}\"", call.verb);
        return Refusal::new(403, "Forbidden", message);
    }
    let kind = call.resource.split('/').next().unwrap_or_default();
    let name = call.name.as_deref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    let place = match &call.namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".to_owned(),
    };
    let message = format!(
        "{}{name} is forbidden: User \"{user}\" cannot {} resource \"{}\" in API group \"{}\" {place}",
        qualified(kind, call.group),
        call.verb,
        call.resource,
        call.group
    );
    Refusal::new(403, "Forbidden", message).about(call.group, kind, call.name.as_deref().unwrap_or_default())
}

fn review(user: &str, body: &Value) -> Answer {
    let asked = &body["spec"]["resourceAttributes"];
    let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
    let resource = match text("subresource") {
        sub if sub.is_empty() => text("resource"),
        sub => format!("{}/{sub}", text("resource")),
    };
    let mut status = json!({ "allowed": may(user, &text("verb"), &text("group"), &resource) });
    if status["allowed"] == true {
        status["reason"] = json!("RBAC: allowed by the stand-in's rules");
    }
    let review = json!({
        "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "metadata": { "creationTimestamp": null }, "spec": body["spec"], "status": status,
    });
    Ok((StatusCode::CREATED, axum::Json(review)).into_response())
}

fn json_body(call: &Call) -> Result<Value, Refusal> {
    // Server-side apply is sent as YAML, which kube writes as JSON; nothing else is understood here.
    serde_json::from_slice(&call.body)
        .map_err(|why| Refusal::bad_request(format!("the stand-in reads JSON only: {why}")))
}

fn dry_run(call: &Call) -> bool {
    call.query.get("dryRun").is_some_and(|value| value == "All")
}

fn key(call: &Call) -> Result<Key, Refusal> {
    let key = call.namespace.clone().zip(call.name.clone());
    key.ok_or_else(not_allowed)
}

/// How the lists of this patch are treated, by its content type.
fn patch_kind(call: &Call) -> Result<Lists, Refusal> {
    match call.content_type.as_str() {
        "application/merge-patch+json" => Ok(Lists::Replace),
        "application/strategic-merge-patch+json" => Ok(Lists::MergeByName),
        "application/apply-patch+yaml" if call.query.contains_key("fieldManager") => Ok(Lists::MergeByName),
        "application/apply-patch+yaml" => {
            let message =
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
            Err(Refusal::new(422, "Invalid", message))
        }
        other => {
            let message = format!("the body of the request was in an unknown format, {other:?}, to the stand-in");
            Err(Refusal::new(415, "UnsupportedMediaType", message))
        }
    }
}

fn create(shared: &Arc<Shared>, call: &Call) -> Answer {
    let Some(namespace) = &call.namespace else {
        return Err(not_allowed());
    };
    let written = shared.lock().store.create(namespace, json_body(call)?, dry_run(call))?;
    Ok((StatusCode::CREATED, axum::Json(settle(shared, written))).into_response())
}

fn deployment(shared: &Arc<Shared>, call: &Call) -> Answer {
    let key = key(call)?;
    let written = match call.verb {
        "get" => {
            return Ok(axum::Json(shared.lock().store.deployment(&key)?.clone()).into_response());
        }
        "delete" => return delete(shared, call, &key),
        "update" => {
            let body = json_body(call)?;
            shared.lock().store.write(&key, dry_run(call), |_| Ok(body))?
        }
        "patch" => {
            let (lists, body) = (patch_kind(call)?, json_body(call)?);
            let mut state = shared.lock();
            if call.content_type == "application/apply-patch+yaml" && state.store.deployment(&key).is_err() {
                let written = state.store.create(&key.0, body, dry_run(call))?;
                drop(state);
                return Ok((StatusCode::CREATED, axum::Json(settle(shared, written))).into_response());
            }
            state.store.write(&key, dry_run(call), |old| {
                let mut new = old.clone();
                merge(&mut new, &body, lists);
                Ok(new)
            })?
        }
        _ => return Err(not_allowed()),
    };
    Ok(axum::Json(settle(shared, written)).into_response())
}

fn delete(shared: &Arc<Shared>, call: &Call, key: &Key) -> Answer {
    let gone = shared.lock().store.delete(key, dry_run(call))?;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": { "name": key.1, "group": "apps", "kind": "deployments", "uid": gone["metadata"]["uid"] },
    });
    Ok(axum::Json(status).into_response())
}

fn scale(shared: &Arc<Shared>, call: &Call) -> Answer {
    let key = key(call)?;
    let change = match call.verb {
        "get" => {
            return Ok(axum::Json(scale_of(shared.lock().store.deployment(&key)?)).into_response());
        }
        "update" => (None, json_body(call)?),
        "patch" => (Some(patch_kind(call)?), json_body(call)?),
        _ => return Err(not_allowed()),
    };
    let written = shared.lock().store.write(&key, dry_run(call), |old| {
        let mut scale = scale_of(old);
        match change {
            (Some(lists), patch) => merge(&mut scale, &patch, lists),
            (None, body) => scale = body,
        }
        expect_version(&scale, old, &key.1)?;
        // Nothing but the number goes from a Scale to its deployment: annotations on it are lost.
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let problem = format!("Invalid value: {replicas}: must be greater than or equal to 0");
            return Err(Refusal::invalid("Scale", "autoscaling", &key.1, "spec.replicas", &problem));
        }
        let mut new = old.clone();
        new["spec"]["replicas"] = json!(replicas);
        Ok(new)
    })?;
    Ok(axum::Json(scale_of(&settle(shared, written))).into_response())
}

fn scale_of(deployment: &Value) -> Value {
    let metadata = &deployment["metadata"];
    let mut spec = json!({});
    // As the real one does: zero is left out.
    if desired(deployment) != 0 {
        spec["replicas"] = json!(desired(deployment));
    }
    let selector = deployment["spec"]["selector"]["matchLabels"].as_object();
    let selector =
        selector.into_iter().flatten().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()));
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": spec,
        "status": {
            "replicas": deployment["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": selector.collect::<Vec<_>>().join(","),
        },
    })
}

fn settle(shared: &Arc<Shared>, written: Written) -> Value {
    if let Some(generation) = written.moved_to {
        let text = |field: &str| written.object["metadata"][field].as_str().unwrap_or_default().to_owned();
        shared.reconcile((text("namespace"), text("name")), generation);
    }
    written.object
}

/// Wraps a stream of lines as a chunked answer.
pub(super) fn streamed<S>(lines: S) -> Response
where
    S: futures::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static,
{
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
}
