//! Certificates of our own, and servers that show them.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

pub(super) const DAY: i64 = 24 * 3600;

/// An authority, with its certificate in a file.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

/// A server's certificate, and those that it sends with it.
pub(super) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "an authority of the tests");
    params
}

impl Authority {
    pub(super) fn new() -> Self {
        let issuer = CertifiedIssuer::self_signed(authority_params(), KeyPair::generate().unwrap()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), issuer.as_ref().pem()).unwrap();
        Self { issuer, file }
    }

    pub(super) fn file(&self) -> &Path {
        self.file.path()
    }

    /// For this name, valid from and until so many seconds from now.
    pub(super) fn identity(&self, name: &str, from: i64, until: i64) -> Identity {
        let (params, key) = server_params(name, from, until);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { chain: vec![certificate.der().clone()], key }
    }

    /// The same by way of an authority in between, whose certificate is sent or is not.
    pub(super) fn identity_through_another(&self, name: &str, is_sent: bool) -> Identity {
        let mut between = authority_params();
        between.distinguished_name.push(rcgen::DnType::CommonName, "in between");
        let between = CertifiedIssuer::signed_by(between, KeyPair::generate().unwrap(), &self.issuer).unwrap();
        let (params, key) = server_params(name, -DAY, 90 * DAY);
        let mut chain = vec![params.signed_by(&key, &between).unwrap().der().clone()];
        if is_sent {
            chain.push(between.as_ref().der().clone());
        }
        Identity { chain, key }
    }
}

fn server_params(name: &str, from: i64, until: i64) -> (CertificateParams, KeyPair) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let at = |seconds: i64| {
        let since = i64::try_from(now.as_secs()).unwrap() + seconds;
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(since).unwrap())
    };
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (at(from), at(until));
    (params, KeyPair::generate().unwrap())
}

impl Identity {
    /// What shows it, and speaks these protocols.
    pub(super) fn acceptor(&self, alpn: &[&[u8]]) -> TlsAcceptor {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A server that does the handshake, and then waits.
    pub(super) async fn serve(&self) -> Server {
        let acceptor = self.acceptor(&[]);
        Server::start(move |_, stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
            }
        })
        .await
    }
}
