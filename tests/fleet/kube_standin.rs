//! A stand-in for the Kubernetes API server: the calls that failoverd makes, in this process, over plain HTTP.
//!
//! For quick tests, for faults that a real server will not produce on request, and for the demo on a machine without
//! the real one. It knows namespaces, deployments with their scale, pods (read only), access reviews and watches.
//! It does not know: server-side apply's field ownership (an apply merges and never conflicts), JSON patch, field
//! selectors other than metadata.name, bookmarks, discovery, and every other kind of object.

mod api;
mod faults;
mod objects;
mod patch;
mod status;
mod store;
mod watching;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

// Not every consumer breaks it.
#[allow(unused_imports)]
pub use faults::{Fault, FaultRule};

use super::kube::{Background, write_kubeconfig};
use store::{Key, Store};

/// A running stand-in; gone when dropped.
pub struct KubeStandIn {
    shared: Arc<Shared>,
    kubeconfig: PathBuf,
    url: String,
    _server: Background,
    _folder: TempDir,
}

/// One request that the stand-in received, faulty or not.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The API verb: get, list, watch, create, update, patch, delete.
    pub verb: &'static str,
    /// The path without the query.
    pub path: String,
    /// The body, `Null` where there was none.
    pub body: Value,
}

struct Shared {
    state: Mutex<State>,
    ready_delay: watch::Sender<Duration>,
}

struct State {
    store: Store,
    faults: Vec<FaultRule>,
    seen: Vec<Seen>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds this lock can leave the state half changed.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What the deployment and replica set controllers do after a change: note it at once, be ready after a while.
    fn reconcile(self: &Arc<Self>, key: Key, generation: i64) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            shared.lock().store.observe(&key);
            let since = Instant::now();
            let mut delay = shared.ready_delay.subscribe();
            loop {
                let left = delay.borrow_and_update().saturating_sub(since.elapsed());
                tokio::select! {
                    () = tokio::time::sleep(left) => break,
                    _ = delay.changed() => {}
                }
            }
            shared.lock().store.make_ready(&key, generation);
        });
    }
}

impl KubeStandIn {
    /// Starts the stand-in on a fresh loopback port, and says that it is one.
    pub async fn start() -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { store: Store::new(), faults: Vec::new(), seen: Vec::new() }),
            ready_delay: watch::Sender::new(Duration::ZERO),
        });
        let router = Router::new().fallback(api::serve).with_state(Arc::clone(&shared));
        let (server, url) = Background::start("kubernetes-stand-in", |report, stopped| async move {
            let listener = match TcpListener::bind("127.0.0.1:0").await {
                Ok(listener) => listener,
                Err(why) => return drop(report.send(Err(why.into()))),
            };
            let url = listener.local_addr().map(|address| format!("http://{address}"));
            let _ = report.send(url.map_err(Into::into));
            tokio::select! {
                _ = axum::serve(listener, router).into_future() => {}
                _ = stopped => {}
            }
        })
        .await?;
        eprintln!("Kubernetes: a STAND-IN answers at {url}, not a real API server");
        let folder = TempDir::with_prefix("failoverd-kubernetes-stand-in-")?;
        let kubeconfig = write_kubeconfig(folder.path(), &url, None)?;
        Ok(Self { shared, kubeconfig, url, _server: server, _folder: folder })
    }

    /// The kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where the stand-in listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How long new replicas take until they are ready.
    pub fn set_ready_delay(&self, delay: Duration) {
        self.shared.ready_delay.send_replace(delay);
    }

    /// Adds a fault; of several that match a request, the one added first happens.
    pub fn inject(&self, rule: FaultRule) {
        self.shared.lock().faults.push(rule);
    }

    /// Removes every fault. A request that hangs already goes on hanging.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Every request so far, in the order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }
}
