//! Who a vantage is: its certificate, its key, and the authority that it trusts.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, UnparsedPublicKey};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::shape::VantageTls;
use crate::model::{FailureDomain, VantageId};

/// Why a vantage has no identity. Never holds a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("vantage_tls.{field}: {reason}")]
pub struct IdentityError {
    /// The key of the file.
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl IdentityError {
    fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}

/// A certificate, its key, and the authority.
pub struct Identity {
    /// The vantage that the certificate names.
    pub vantage: VantageId,
    /// The failure domain that it names.
    pub domain: FailureDomain,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    signing: EcdsaKeyPair,
    roots: Arc<RootCertStore>,
    /// As read, for the client.
    pub(super) pem: Vec<u8>,
    pub(super) ca_pem: Vec<u8>,
}

/// What a certificate says of its vantage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The vantage.
    pub vantage: VantageId,
    /// Its failure domain.
    pub domain: FailureDomain,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
}

/// How a certificate names a vantage and its domain, as a URI among its names.
pub(super) fn mark(vantage: &VantageId, domain: &FailureDomain) -> String {
    format!("failoverd://{domain}/{vantage}")
}

/// Reads what a certificate says; `None` where it is no vantage's.
pub fn named(der: &[u8]) -> Option<Named> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let (domain, vantage) = names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("failoverd://")?.split_once('/'),
        _ => None,
    })?;
    let not_after = certificate.validity().not_after.timestamp();
    Some(Named { vantage: vantage.into(), domain: domain.into(), not_after })
}

/// Is this text signed by the key of the certificate?
pub(super) fn is_signed(der: &[u8], text: &[u8], signature: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let key = &certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(text, signature).is_ok()
}

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// [`IdentityError`], which names the file and says what to do.
    pub fn load(files: &VantageTls) -> Result<Self, IdentityError> {
        let read = |field: &'static str, path: &Path| {
            std::fs::read(path).map_err(|error| IdentityError::new(field, format!("{}: {error}", path.display())))
        };
        let ca_pem = read("ca_file", &files.ca_file)?;
        let chain_pem = read("certificate_file", &files.certificate_file)?;
        let key_pem = read("key_file", &files.key_file)?;
        let chain = certificates("certificate_file", &chain_pem)?;
        let first = chain.first().ok_or_else(|| IdentityError::new("certificate_file", "holds no certificate"))?;
        let Named { vantage, domain, not_after } = named(first).ok_or_else(|| {
            IdentityError::new("certificate_file", "names no vantage; make one with `failoverd certs issue`")
        })?;
        let no_key = |_| IdentityError::new("key_file", "holds no key in PEM (PKCS #8)");
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(no_key)?;
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_der())
            .map_err(|_| IdentityError::new("key_file", "is no ECDSA P-256 key; `failoverd certs issue` makes one"))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca_file", &ca_pem)? {
            roots.add(certificate).map_err(|error| IdentityError::new("ca_file", error.to_string()))?;
        }
        let pem = [chain_pem.as_slice(), b"\n", &key_pem].concat();
        Ok(Self { vantage, domain, not_after, chain, key, signing, roots: Arc::new(roots), pem, ca_pem })
    }

    /// The server's side: whoever asks has to have a certificate of the same authority.
    ///
    /// # Errors
    /// Where certificate and key do not belong together.
    pub fn server(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let clients = self.verifier()?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| IdentityError::new("key_file", error.to_string()))?
            .with_client_cert_verifier(clients)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| IdentityError::new("key_file", error.to_string()))?;
        Ok(Arc::new(config))
    }

    /// What looks whether a certificate is of this authority, and of now.
    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, IdentityError> {
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider())
            .build()
            .map_err(|error| IdentityError::new("ca_file", error.to_string()))
    }

    /// Is it the certificate of this vantage, in this domain?
    ///
    /// # Errors
    /// Whose it is, and how to make the right one.
    pub fn is_of(&self, vantage: &VantageId, domain: &FailureDomain) -> Result<(), IdentityError> {
        if (&self.vantage, &self.domain) == (vantage, domain) {
            return Ok(());
        }
        let reason = format!(
            "it is the certificate of {} in {}, and this is {vantage} in {domain}: make one with `failoverd certs issue {vantage} --domain {domain}`",
            self.vantage, self.domain
        );
        Err(IdentityError::new("certificate_file", reason))
    }

    /// Does it take the place of the one that was used before? `false` where it is the same one.
    ///
    /// # Errors
    /// Where nobody would accept it: what works must not end for one that has run out, or is of another authority.
    pub fn replaces(&self, before: &Self, now: UnixTime) -> Result<bool, IdentityError> {
        if (&self.pem, &self.ca_pem) == (&before.pem, &before.ca_pem) {
            return Ok(false);
        }
        let (first, others) =
            self.chain.split_first().ok_or_else(|| IdentityError::new("certificate_file", "holds no certificate"))?;
        self.verifier()?.verify_client_cert(first, others, now).map_err(|error| {
            let reason = format!("no other vantage would accept it ({error}); make one with `failoverd certs issue`");
            IdentityError::new("certificate_file", reason)
        })?;
        Ok(true)
    }

    /// Its certificate, DER.
    #[cfg(test)]
    pub(super) fn certificate(&self) -> &[u8] {
        self.chain.first().map_or(&[], |certificate| certificate.as_ref())
    }

    /// Signs a text; `None` where the system gives no randomness.
    pub(super) fn sign(&self, text: &[u8]) -> Option<Vec<u8>> {
        self.signing.sign(&SystemRandom::new(), text).ok().map(|signature| signature.as_ref().to_vec())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certificates(field: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| IdentityError::new(field, error.to_string()))?;
    if read.is_empty() {
        return Err(IdentityError::new(field, "holds no certificate in PEM"));
    }
    Ok(read)
}
