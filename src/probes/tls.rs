//! The certificate of a TLS server: its chain, its name, and the days that are left.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use jiff::Timestamp;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::classify::Fault;
use super::dial::dial_any;
use super::names::Names;
use super::secure::{secure, server_name};
use super::stage::{Stage, waiting_for};
use super::tcp::split_host_port;
use super::{ProbeBuildError, ProbeContext};
use crate::clients::tls::Check;
use crate::config::probe::TlsProbe;
use crate::model::{CauseKind, Observation};
use crate::ports::Probe;

const DAY: i64 = 24 * 3600;

/// See [`TlsProbe`].
pub struct Tls {
    host: String,
    port: u16,
    name: ServerName<'static>,
    days_left: u32,
    names: Arc<Names>,
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter that cannot be used.
    pub fn new(config: &TlsProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        let (host, port) = split_host_port(&config.address).ok_or_else(|| {
            let text = format!("`{}` is not host:port, for example api.example:443", config.address);
            ProbeBuildError::new("address", text)
        })?;
        let wanted = config.server_name.as_deref().unwrap_or(&host);
        let name = server_name(wanted).ok_or_else(|| {
            let field = if config.server_name.is_some() { "server_name" } else { "address" };
            ProbeBuildError::new(field, format!("`{wanted}` is not a name that a certificate can be for"))
        })?;
        Ok(Self {
            host,
            port,
            name,
            days_left: config.days_left,
            names: Arc::clone(&context.clients.names),
            config: context.clients.trust.config(Check::Full, config.ca_file.as_deref())?,
        })
    }

    async fn look(&self) -> Result<Observation, Fault> {
        let addresses = self.names.lookup_port(&self.host, self.port).await?;
        // What our own resolver took is not the target's slowness.
        let started = Instant::now();
        let stream = waiting_for(Stage::Connect, dial_any(&addresses)).await?;
        let stream = secure(&self.config, self.name.clone(), stream).await?;
        let latency = started.elapsed();
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let ends = certificates
            .first()
            .and_then(not_after)
            .ok_or_else(|| Fault::theirs(CauseKind::Tls, "the end of the certificate's validity cannot be read"))?;
        Ok(judge(latency, ends, now(), self.days_left))
    }
}

/// When the certificate ends, in seconds since 1970.
fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A certificate that is valid now.
fn judge(latency: Duration, ends: i64, now: i64, days_left: u32) -> Observation {
    let left = ends.saturating_sub(now);
    if left > i64::from(days_left).saturating_mul(DAY) {
        return Observation::up(latency);
    }
    let when = Timestamp::from_second(ends).map(|ends| format!(", on {ends}")).unwrap_or_default();
    let days = match left.div_euclid(DAY) {
        ..=0 => "within a day".to_owned(),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    };
    Observation::degraded(latency, CauseKind::CertificateExpiring, format!("the certificate ends {days}{when}"))
}

#[async_trait]
impl Probe for Tls {
    async fn attempt(&self) -> Observation {
        self.look().await.unwrap_or_else(Observation::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_days_are_counted_to_the_second() {
        let at = |left: i64, days: u32| judge(Duration::ZERO, 1_800_000_000, 1_800_000_000 - left, days);
        assert_eq!(at(14 * DAY + 1, 14).cause(), None);
        let told = |left: i64, days: u32| at(left, days).cause().map(|cause| cause.detail.clone()).unwrap_or_default();
        assert_eq!(told(14 * DAY, 14), "the certificate ends in 14 days, on 2027-01-15T08:00:00Z");
        assert!(told(DAY, 14).contains("in 1 day,"));
        assert!(told(DAY - 1, 14).contains("within a day"));
        assert_eq!(at(1, 0).cause(), None, "0 days never warns");
    }
}
