//! Refusals: the `Status` objects that a real API server answers with, to the word.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Why a request was refused.
#[derive(Debug)]
pub(super) struct Refusal {
    code: u16,
    reason: &'static str,
    message: String,
    details: Value,
}

impl Refusal {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: json!({}) }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let refusal = Self::new(404, "NotFound", format!("{} \"{name}\" not found", qualified(resource, group)));
        refusal.about(group, resource, name)
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    pub(super) fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(resource, group));
        Self::new(409, "AlreadyExists", message).about(group, resource, name)
    }

    pub(super) fn conflict(group: &str, resource: &str, name: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; \
             please apply your changes to the latest version and try again",
            qualified(resource, group)
        );
        Self::new(409, "Conflict", message).about(group, resource, name)
    }

    pub(super) fn invalid(kind: &str, group: &str, name: &str, field: &str, problem: &str) -> Self {
        let message = format!("{} \"{name}\" is invalid: {field}: {problem}", qualified(kind, group));
        Self::new(422, "Invalid", message).about(group, kind, name)
    }

    /// Adds what the refusal is about.
    pub(super) fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        self.details = json!({ "name": name, "kind": kind });
        if !group.is_empty() {
            self.details["group"] = json!(group);
        }
        self
    }

    /// A failure that names no object: what a fault produces.
    pub(super) fn fault(code: u16) -> Self {
        match code {
            409 => Self::new(
                409,
                "Conflict",
                "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest \
                 version and try again",
            ),
            503 => Self::new(503, "ServiceUnavailable", "the server is currently unable to handle the request"),
            504 => Self::new(504, "Timeout", "request did not complete within the allotted timeout"),
            _ => Self::new(code, "InternalError", "Internal error occurred: injected by the test"),
        }
    }

    pub(super) fn throttled(retry_after: u32) -> Response {
        let mut refusal =
            Self::new(429, "TooManyRequests", "The server has received too many requests, try again later");
        refusal.details = json!({ "retryAfterSeconds": retry_after });
        let mut response = refusal.into_response();
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
        response
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": self.details, "code": self.code,
        })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, axum::Json(self.to_json())).into_response()
    }
}

/// `deployments.apps`, but `pods`.
pub(super) fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}
