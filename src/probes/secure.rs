//! TLS to a target, as all probes that speak it begin it.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::classify::{Fault, io_fault};
use super::stage::{Stage, waiting_for};

/// The name that a certificate has to be for: a host name, or an address (IPv6 also in brackets).
pub(super) fn server_name(host: &str) -> Option<ServerName<'static>> {
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match literal.parse::<IpAddr>() {
        Ok(address) => Some(ServerName::from(address)),
        // The dot of a full name is none of the certificate's.
        Err(_) => ServerName::try_from(host.strip_suffix('.').unwrap_or(host).to_owned()).ok(),
    }
}

/// The handshake. A deadline that passes in it is the target's silence.
pub(super) async fn secure(
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Fault> {
    let connector = TlsConnector::from(Arc::clone(config));
    waiting_for(Stage::Handshake, connector.connect(name, stream)).await.map_err(|error| io_fault(&error))
}
