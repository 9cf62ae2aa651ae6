//! Does a target resolve and serve, with a certificate that its clients will take for a while yet? A
//! connection is made and, at a TLS port, a handshake; no request is sent.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::clients::failure::causes;
use crate::clients::tls::{Check, Trust};
use crate::clients::{CONNECT_TIMEOUT, dns};
use crate::model::{Aspect, Finding, HumanDuration};

/// Read once: the system's authorities are many.
static TRUST: LazyLock<Trust> = LazyLock::new(Trust::default);

/// What has to serve.
pub struct Target<'t> {
    /// A name or an address.
    pub host: &'t str,
    /// One of these ports is enough.
    pub ports: &'t [u16],
    /// At which of them is TLS spoken?
    pub tls: fn(u16) -> bool,
    /// The name that clients ask for, which the certificate has to bear.
    pub name: &'t str,
    /// The authorities to trust; `None`: the system's.
    pub ca_file: Option<&'t Path>,
    /// A certificate that ends sooner is not ready.
    pub certificate_left: Duration,
}

/// Looks at a target.
pub async fn serves(target: &Target<'_>, until: Instant) -> Vec<Finding> {
    let subject = target.host.to_owned();
    let first = target.ports.first().copied().unwrap_or(443);
    let addresses = match dns::addresses(target.host, first, until).await {
        Ok(found) if found.is_empty() => {
            return vec![Finding::not_ready(subject, Aspect::Exists, "it resolves to no address")];
        }
        Ok(found) => found,
        // getaddrinfo's words for a name that there is not, as opposed to a resolver that failed.
        Err(failure)
            if ["Name or service not known", "No address associated"].iter().any(|no| failure.reason.contains(no)) =>
        {
            return vec![Finding::not_ready(subject, Aspect::Exists, failure.reason)];
        }
        Err(failure) => return vec![Finding::unknown(subject, Aspect::Exists, failure.reason)],
    };
    let mut errors = Vec::new();
    for port in target.ports {
        for address in &addresses {
            let (mut address, limit) = (*address, until.min(Instant::now() + CONNECT_TIMEOUT));
            address.set_port(*port);
            match tokio::time::timeout_at(limit.into(), TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return accepted(target, *port, stream, until).await,
                Ok(Err(error)) => errors.push(format!("{address}: {error}")),
                Err(_) => errors.push(format!("{address}: no answer in time")),
            }
        }
    }
    errors.truncate(4);
    vec![Finding::not_ready(subject, Aspect::Serves, format!("it does not serve: {}", errors.join("; ")))]
}

/// It took a connection.
async fn accepted(target: &Target<'_>, port: u16, stream: TcpStream, until: Instant) -> Vec<Finding> {
    let serves = |wrong: Option<String>| Finding::judged(target.host, Aspect::Serves, wrong).with("port", port);
    if !(target.tls)(port) {
        return vec![serves(None)];
    }
    let config = match TRUST.config(Check::Full, target.ca_file) {
        Ok(config) => config,
        Err(error) => return vec![Finding::unknown(target.host, Aspect::Serves, error.to_string())],
    };
    let Ok(name) = ServerName::try_from(target.name.trim_end_matches('.').to_owned()) else {
        let text = format!("`{}` is not a name that a certificate can be for", target.name);
        return vec![serves(Some(text))];
    };
    let shaking = TlsConnector::from(Arc::clone(&config)).connect(name, stream);
    let stream = match tokio::time::timeout_at(until.into(), shaking).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return vec![serves(Some(format!("TLS at port {port} for {}: {}", target.name, causes(&error))))];
        }
        Err(_) => return vec![serves(Some(format!("TLS at port {port}: no answer in time")))],
    };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let subject = format!("certificate of {}", target.host);
    let first = certificates.first().map_or(&[][..], |first| first);
    vec![serves(None), lasts(subject, first, target.certificate_left).with("for", target.name)]
}

/// Is a certificate (DER) valid for longer than that?
pub fn lasts(subject: String, certificate: &[u8], longer_than: Duration) -> Finding {
    let ends = X509Certificate::from_der(certificate).ok().map(|(_, parsed)| parsed.validity().not_after.timestamp());
    let Some(ends) = ends else {
        return Finding::unknown(subject, Aspect::Fresh, "the end of its validity cannot be read");
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let left = Duration::from_secs(u64::try_from(ends).unwrap_or_default().saturating_sub(now));
    let when = Timestamp::from_second(ends).map(|ends| ends.to_string()).unwrap_or_default();
    let days = left.as_secs() / 86_400;
    let wrong = (left <= longer_than).then(|| match (left.is_zero(), HumanDuration(longer_than)) {
        (true, _) => format!("it ended on {when}"),
        (false, least) => format!("it ends in {days} days, on {when}; less than {least} is not ready"),
    });
    Finding::judged(subject, Aspect::Fresh, wrong).measuring("ends", when)
}
