//! `/health/NAME`: what the health checkers of a DNS provider ask. Read-only, and it needs nothing
//! but this daemon: traffic moves without any control plane.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::serve::Bounds;

/// Tells how a switch stands: `None` where there is none of this name, `Some(None)` where it is not
/// known. It answers at once.
pub type Look = Arc<dyn Fn(&str) -> Option<Option<bool>> + Send + Sync>;

/// Anybody may ask. The checkers of a large provider come from many places at once (Route 53: from
/// about fifteen addresses in each of eight regions), ask one short question, and wait 4 s for a
/// connection and 2 s for an answer.
pub const BOUNDS: Bounds = Bounds {
    connections: 512,
    per_caller: 64,
    head: Duration::from_secs(5),
    unread: Duration::from_secs(5),
    grace: Duration::from_secs(1),
};

/// The routes: 200 while the switch is on, 503 while it is off or it is not known, 404 where there is
/// none.
pub fn router(look: Look) -> Router {
    Router::new().route("/health/{name}", get(health)).with_state(look)
}

async fn health(State(look): State<Look>, Path(name): Path<String>) -> Response {
    let (status, text) = match look(&name) {
        Some(Some(true)) => (StatusCode::OK, "on\n"),
        Some(Some(false)) => (StatusCode::SERVICE_UNAVAILABLE, "off\n"),
        Some(None) => (StatusCode::SERVICE_UNAVAILABLE, "it is not known\n"),
        None => (StatusCode::NOT_FOUND, "there is no such switch\n"),
    };
    (status, [(header::CACHE_CONTROL, "no-store")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_checker_is_told_how_the_switch_stands() {
        let look: Look = Arc::new(|name| match name {
            "east" => Some(Some(true)),
            "west" => Some(Some(false)),
            "broken" => Some(None),
            _ => None,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(async move { axum::serve(listener, router(look)).await });
        for (request, status) in [
            ("GET /health/east", 200),
            ("HEAD /health/east", 200),
            ("GET /health/west", 503),
            ("GET /health/broken", 503),
            ("GET /health/north", 404),
            ("GET /health/..%2Feast", 404),
            ("GET /health", 404),
            ("PUT /health/east", 405),
            ("POST /health/east", 405),
            ("DELETE /health/east", 405),
        ] {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
            let text = format!("{request} HTTP/1.0\r\n\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut stream, text.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.expect("an answer");
            assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "{request}: {answer}");
            let ours = request.contains("/health/") && status != 405;
            assert_eq!(answer.contains("cache-control: no-store"), ours, "{request}: {answer}");
        }
    }
}
