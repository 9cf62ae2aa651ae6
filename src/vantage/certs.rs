//! The authority of the vantages, and the certificates that it signs.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::{Span, Zoned};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

use super::identity::mark;
use crate::model::{FailureDomain, VantageId};

/// The authority's certificate, in its folder.
pub const CA_CERTIFICATE: &str = "ca.pem";
/// The authority's key: needed to sign only, so it is kept away from every vantage.
pub const CA_KEY: &str = "ca.key";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What was asked for.
    #[error("{0}")]
    Wrong(String),
    /// The making.
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key, readable by its owner only.
    pub key: PathBuf,
}

/// Makes an authority in a folder. One that is there already stays.
///
/// # Errors
/// [`CertsError`], where a file is there already or cannot be written.
pub fn authority(folder: &Path, days: u16) -> Result<Written, CertsError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named("failoverd vantages");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, days)?;
    let certificate = params.self_signed(&key)?;
    write(folder, CA_CERTIFICATE, CA_KEY, &certificate.pem(), &key.serialize_pem())
}

/// Makes a vantage's certificate, for the hosts at which it is asked.
///
/// # Errors
/// [`CertsError`], where the authority cannot be read, or a file is there already.
pub fn issue(
    folder: &Path,
    vantage: &VantageId,
    domain: &FailureDomain,
    hosts: &[String],
    days: u16,
) -> Result<Written, CertsError> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|error| CertsError::File {
            path,
            reason: format!("{error}; `failoverd certs init` makes the authority"),
        })
    };
    let issuer = Issuer::from_ca_cert_pem(&read(CA_CERTIFICATE)?, KeyPair::from_pem(&read(CA_KEY)?)?)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = named(vantage.as_str());
    let mark = Ia5String::try_from(mark(vantage, domain))?;
    params.subject_alt_names.push(SanType::URI(mark));
    params.is_ca = IsCa::NoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Each vantage asks and is asked.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    valid_for(&mut params, days)?;
    let certificate = params.signed_by(&key, &issuer)?;
    let file = |suffix: &str| format!("{vantage}.{suffix}");
    write(folder, &file("pem"), &file("key"), &certificate.pem(), &key.serialize_pem())
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// From yesterday, so that a clock that is behind by hours does not refuse it.
fn valid_for(params: &mut CertificateParams, days: u16) -> Result<(), CertsError> {
    let today = Zoned::now().date();
    let moved = |by: i64| {
        let date = today.checked_add(Span::new().days(by));
        let date = date.map_err(|error| CertsError::Wrong(format!("{days} days: {error}")))?;
        let number = |part: i8| u8::try_from(part).unwrap_or(1);
        Ok::<_, CertsError>(rcgen::date_time_ymd(i32::from(date.year()), number(date.month()), number(date.day())))
    };
    params.not_before = moved(-1)?;
    params.not_after = moved(i64::from(days))?;
    Ok(())
}

/// Both files or none; neither replaces one that is there.
fn write(folder: &Path, certificate: &str, key: &str, pem: &str, secret: &str) -> Result<Written, CertsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| CertsError::File {
            reason: if error.kind() == std::io::ErrorKind::AlreadyExists {
                "is there already, and is not replaced; move it away first".to_owned()
            } else {
                error.to_string()
            },
            path,
        }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let written = Written { certificate: folder.join(certificate), key: folder.join(key) };
    let create = |path: &Path, mode: u32, text: &str| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed(path))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed(path))
    };
    create(&written.key, 0o600, secret)?;
    create(&written.certificate, 0o644, pem).inspect_err(|_| drop(std::fs::remove_file(&written.key)))?;
    Ok(written)
}
