//! Whom to trust, for probes and actions alike. One TLS configuration is shared by all probes that
//! trust the same, so that the system's certificates are read and held once, not once per probe.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme};

use super::Failure;

/// How the server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Its chain and its name.
    Full,
    /// Its chain only (libpq's `verify-ca`).
    Chain,
    /// Not at all (libpq's `require` without a CA): it encrypts, and stops no one in the middle.
    Nothing,
}

/// Why there is no TLS configuration. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct TlsError {
    /// What has to be looked at: `ca_file`, or `tls` as a whole.
    pub field: &'static str,
    /// What is wrong.
    pub reason: String,
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::refused(error.to_string())
    }
}

/// The shared TLS configurations.
#[derive(Default)]
pub struct Trust {
    system: OnceLock<Result<Arc<RootCertStore>, String>>,
    full: OnceLock<Arc<ClientConfig>>,
}

impl Trust {
    /// The configuration for the given check, trusting the authorities of `ca_file`, or else the
    /// system's.
    ///
    /// # Errors
    /// Where the file holds no certificate, or the system has none.
    pub fn config(&self, check: Check, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
        if check == Check::Nothing {
            return build(check, None);
        }
        match ca_file {
            Some(path) => build(check, Some(Arc::new(read_file(path)?))),
            None => {
                let roots = self.system_roots()?;
                if check == Check::Chain {
                    return build(check, Some(roots));
                }
                if let Some(config) = self.full.get() {
                    return Ok(Arc::clone(config));
                }
                let config = build(check, Some(roots))?;
                Ok(Arc::clone(self.full.get_or_init(|| config)))
            }
        }
    }

    fn system_roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let read = || {
            let mut roots = RootCertStore::empty();
            let loaded = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(loaded.certs);
            if added == 0 {
                return Err(
                    "the system trusts no certificate authority; install ca-certificates, or name a ca_file".to_owned()
                );
            }
            Ok(Arc::new(roots))
        };
        self.system.get_or_init(read).clone().map_err(|reason| TlsError { field: "tls", reason })
    }
}

fn read_file(path: &Path) -> Result<RootCertStore, TlsError> {
    let error = |reason: String| TlsError { field: "ca_file", reason: format!("{}: {reason}", path.display()) };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| error(e.to_string()))? {
        let certificate = certificate.map_err(|e| error(e.to_string()))?;
        roots.add(certificate).map_err(|e| error(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(error("holds no certificate in PEM".into()));
    }
    Ok(roots)
}

fn build(check: Check, roots: Option<Arc<RootCertStore>>) -> Result<Arc<ClientConfig>, TlsError> {
    let error = |reason: String| TlsError { field: "tls", reason };
    // The provider is named here, so that nothing depends on who installed a default one first.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| error(e.to_string()))?;
    let mut config = match (check, roots) {
        (Check::Full, Some(roots)) => builder.with_root_certificates(roots).with_no_client_auth(),
        (Check::Chain, Some(roots)) => {
            let full = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|e| error(e.to_string()))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(ChainOnly(full))).with_no_client_auth()
        }
        _ => builder.dangerous().with_custom_certificate_verifier(Arc::new(Any(provider))).with_no_client_auth(),
    };
    // A resumed session shows no certificate: one that expired in the meantime would go unseen.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The server's side, with a certificate of our own.
///
/// # Errors
/// Where the files hold no certificate or no key, or do not belong together.
pub fn server(certificate_file: &Path, key_file: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let error =
        |field, path: &Path, reason: String| TlsError { field, reason: format!("{}: {reason}", path.display()) };
    let chain = CertificateDer::pem_file_iter(certificate_file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|e| error("certificate_file", certificate_file, e.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|e| error("key_file", key_file, e.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| error("key_file", key_file, e.to_string()))?;
    Ok(Arc::new(config))
}

/// The chain, but not the name.
#[derive(Debug)]
struct ChainOnly(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Any certificate, as long as the server holds its key.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
