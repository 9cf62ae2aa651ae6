//! A TCP connection: Up when it is accepted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::classify::Fault;
use super::dial::{dial, dial_any};
use super::everywhere::everywhere;
use super::names::Names;
use super::stage::{Stage, waiting_for};
use super::{ProbeBuildError, ProbeContext};
use crate::config::probe::TcpProbe;
use crate::model::Observation;
use crate::ports::Probe;

/// See [`TcpProbe`].
pub struct Tcp {
    host: String,
    port: u16,
    names: Arc<Names>,
    /// The attempt's timeout, where each address is asked by itself.
    every_address: Option<Duration>,
}

impl Tcp {
    /// Checks the address.
    ///
    /// # Errors
    /// Where it is not `host:port`.
    pub fn new(config: &TcpProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        let (host, port) = split_host_port(&config.address).ok_or_else(|| {
            ProbeBuildError::new(
                "address",
                format!("`{}` is not host:port, for example db.example:5432", config.address),
            )
        })?;
        let every_address = config.every_address.then_some(context.timeout);
        Ok(Self { host, port, names: Arc::clone(&context.clients.names), every_address })
    }
}

impl Tcp {
    async fn everywhere(&self, timeout: Duration) -> Result<Observation, Fault> {
        let addresses = self.names.lookup_port(&self.host, self.port).await?;
        let look = |address| async move {
            let started = Instant::now();
            waiting_for(Stage::Connect, dial_any(&[address])).await.map(|_| started.elapsed())
        };
        Ok(everywhere(&addresses, timeout, look).await)
    }
}

#[async_trait]
impl Probe for Tcp {
    async fn attempt(&self) -> Observation {
        let started = Instant::now();
        let seen = match self.every_address {
            Some(timeout) => self.everywhere(timeout).await,
            None => dial(&self.names, &self.host, self.port).await.map(|_| Observation::up(started.elapsed())),
        };
        seen.unwrap_or_else(Observation::from)
    }

    fn is_light(&self) -> bool {
        true
    }
}

/// `host:port`, `192.0.2.1:80`, `[2001:db8::1]:80`.
pub(super) fn split_host_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = bracketed.unwrap_or(host);
    // A bare IPv6 address would lose its last group to the port.
    let ambiguous = bracketed.is_none() && host.contains(':');
    (!host.is_empty() && !ambiguous && !host.contains(char::is_whitespace)).then(|| (host.to_owned(), port))
}
