//! Calls to the cluster: each bounded in time, and made to another member of it where one does not answer.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::EtcdSettings;
use crate::config::shape::EtcdUser;

/// Certificates for the cluster.
#[derive(Clone, Debug)]
pub struct EtcdTls {
    /// The authority of the cluster's certificates, PEM; else the system's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// No member of the cluster answered as it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

/// The cluster.
pub struct Remote {
    endpoints: Vec<Endpoint>,
    current: AtomicUsize,
    user: Option<EtcdUser>,
    tls: Option<EtcdTls>,
    /// For one call to one member.
    patience: Duration,
}

struct Endpoint {
    address: String,
    client: Mutex<Option<Client>>,
}

impl Remote {
    /// Calls nobody yet.
    pub fn new(settings: &EtcdSettings) -> Self {
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let endpoint =
            |address: &String| Endpoint { address: format!("{scheme}://{address}"), client: Mutex::new(None) };
        Self {
            endpoints: settings.endpoints.iter().map(endpoint).collect(),
            current: AtomicUsize::new(0),
            user: settings.user.clone(),
            tls: settings.tls.clone(),
            // A member that is cut off from the others accepts calls and does not answer: three have to fit
            // into the half of the lease in which its holder may act.
            patience: (settings.ttl / 8).clamp(Duration::from_millis(250), Duration::from_secs(2)),
        }
    }

    /// Makes a call, to each member of the cluster in turn until one answers. Only for what may be done twice.
    ///
    /// # Errors
    /// [`Unreachable`], with what the last one said: whether it was carried out is not known.
    pub async fn call<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, Unreachable>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut last = Unreachable("there is no endpoint".to_owned());
        for _ in 0..self.endpoints.len() {
            let place = self.current.load(Ordering::Relaxed) % self.endpoints.len();
            match self.call_one(&self.endpoints[place], &call).await {
                Ok(answer) => return Ok(answer),
                Err(why) => {
                    last = why;
                    self.current.store(place + 1, Ordering::Relaxed);
                }
            }
        }
        Err(last)
    }

    async fn call_one<T, F>(&self, endpoint: &Endpoint, call: &impl Fn(Client) -> F) -> Result<T, Unreachable>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let unreachable = |why: String| Unreachable(format!("{}: {why}", endpoint.address));
        let late = |_| unreachable(format!("no answer within {:?}", self.patience));
        let client = match timeout(self.patience, self.connected(endpoint)).await.map_err(late)? {
            Ok(client) => client,
            Err(why) => return Err(unreachable(why)),
        };
        match timeout(self.patience, call(client)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                // A token that has expired, or a connection that is broken: made anew next time.
                *endpoint.client.lock().await = None;
                Err(unreachable(describe(&error)))
            }
            Err(elapsed) => {
                *endpoint.client.lock().await = None;
                Err(late(elapsed))
            }
        }
    }

    async fn connected(&self, endpoint: &Endpoint) -> Result<Client, String> {
        let mut kept = endpoint.client.lock().await;
        if let Some(client) = kept.as_ref() {
            return Ok(client.clone());
        }
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.patience)
            .with_keep_alive(Duration::from_secs(5), self.patience);
        if let Some(user) = &self.user {
            // Another one since the last time is found.
            let password = user.password.read().map_err(|error| format!("etcd.user.password: {error}"))?;
            options = options.with_user(user.name.clone(), password);
        }
        if let Some(tls) = &self.tls {
            options = options.with_tls(tls.options().map_err(|error| error.to_string())?);
        }
        let client = Client::connect([endpoint.address.clone()], Some(options)).await;
        let client = client.map_err(|error| describe(&error))?;
        *kept = Some(client.clone());
        Ok(client)
    }
}

impl EtcdTls {
    /// Reads the files.
    fn options(&self) -> std::io::Result<TlsOptions> {
        let mut options = TlsOptions::new();
        options = match &self.ca_file {
            Some(file) => options.ca_certificate(Certificate::from_pem(std::fs::read(file)?)),
            None => options.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            options = options.identity(Identity::from_pem(std::fs::read(certificate)?, std::fs::read(key)?));
        }
        Ok(options)
    }
}

/// One line, with the cause at its end. What etcd answers holds no password.
fn describe(error: &etcd_client::Error) -> String {
    match error {
        etcd_client::Error::GRpcStatus(status) => format!("{}: {}", status.code(), status.message()),
        other => crate::clients::failure::causes(other),
    }
}
