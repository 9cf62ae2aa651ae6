//! `/health/NAME`: what the health checkers of a DNS provider ask. Read-only, and it needs nothing
//! but this daemon: traffic moves without any control plane.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Tells how a switch stands; `None` where there is none of this name.
pub type Look = Arc<dyn Fn(&str) -> Option<bool> + Send + Sync>;

/// The routes: 200 while the switch is on, 503 while it is off, 404 where there is none.
pub fn router(look: Look) -> Router {
    Router::new().route("/health/{name}", get(health)).with_state(look)
}

async fn health(State(look): State<Look>, Path(name): Path<String>) -> Response {
    // It reads a small file, maybe from a disk that hangs: not on a thread that serves the others.
    let looked = tokio::task::spawn_blocking(move || look(&name)).await;
    let (status, text) = match looked {
        Ok(Some(true)) => (StatusCode::OK, "on\n"),
        Ok(Some(false)) => (StatusCode::SERVICE_UNAVAILABLE, "off\n"),
        Ok(None) => (StatusCode::NOT_FOUND, "there is no such switch\n"),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "it is not known\n"),
    };
    (status, [(header::CACHE_CONTROL, "no-store")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_checker_is_told_how_the_switch_stands() {
        let look: Look = Arc::new(|name| match name {
            "east" => Some(true),
            "west" => Some(false),
            "broken" => panic!("a bug"),
            _ => None,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(async move { axum::serve(listener, router(look)).await });
        for (path, status) in [
            ("health/east", 200),
            ("health/west", 503),
            ("health/north", 404),
            ("health/broken", 500),
            ("health/..%2Feast", 404),
            ("health", 404),
        ] {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
            let request = format!("GET /{path} HTTP/1.0\r\n\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.expect("an answer");
            assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "{path}: {answer}");
            assert_eq!(answer.contains("cache-control: no-store"), path.starts_with("health/"), "{path}: {answer}");
        }
    }
}
