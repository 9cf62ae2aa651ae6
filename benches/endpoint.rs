//! The other end of `http.request`: notes when a request arrives, and answers after a known time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::extract::Path;
use axum::routing::any;
use tokio::task::JoinHandle;

use crate::figures::micros;

/// A running endpoint.
pub struct Endpoint {
    port: u16,
    arrivals: Arc<Mutex<Vec<i64>>>,
    server: JoinHandle<()>,
}

impl Endpoint {
    /// Starts it on loopback.
    pub async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let arrivals = Arc::<Mutex<Vec<i64>>>::default();
        let noted = Arc::clone(&arrivals);
        let answer = move |Path(wait): Path<u64>| {
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(micros());
            async move { tokio::time::sleep(Duration::from_millis(wait)).await }
        };
        let app = axum::Router::new().route("/wait/{milliseconds}", any(answer));
        let server = tokio::spawn(async move {
            // It ends when the task is aborted.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { port, arrivals, server })
    }

    /// Answers after so many milliseconds.
    pub fn url(&self, milliseconds: u64) -> String {
        format!("http://127.0.0.1:{}/wait/{milliseconds}", self.port)
    }

    /// When requests came since this was asked last, in microseconds.
    pub fn arrivals(&self) -> Vec<i64> {
        std::mem::take(&mut self.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}
