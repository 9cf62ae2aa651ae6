//! TLS to a real PostgreSQL, with an authority of our own: the probe and the client of
//! `postgres.promote` trust the same servers, and neither trusts another.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use failoverd::clients::FailureKind;
use failoverd::clients::postgres::connect;
use failoverd::config::SecretText;
use failoverd::model::{CauseKind, Health};
use serde_json::json;

use super::{LONG, assert_saw, facts, look, probe};
use crate::fleet::child::drop_root;
use crate::fleet::postgres::{PASSWORD, PgOptions, Postgres};

/// Fails where the session is not encrypted.
const ENCRYPTED: &str = "SELECT 1 / (SELECT ssl::int FROM pg_stat_ssl WHERE pid = pg_backend_pid())";

/// What both say of an address.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Encrypted,
    Plain,
    /// For its certificate.
    Refused,
    /// For offering no TLS at all.
    NoTls,
}

struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let file = folder.join(format!("{name}.pem"));
        std::fs::write(&file, params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: rcgen::Issuer::new(params, key), file })
    }

    /// A server whose certificate is valid for 127.0.0.1 only.
    async fn server(&self, folder: &Path) -> Result<Postgres> {
        let key = rcgen::KeyPair::generate()?;
        let cert = rcgen::CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &self.issuer)?;
        let (cert_file, key_file) = (folder.join("server.crt"), folder.join("server.key"));
        std::fs::write(&cert_file, cert.pem())?;
        std::fs::write(&key_file, key.serialize_pem())?;
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600))?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
        if let Some((uid, gid)) = drop_root("postgres")? {
            std::os::unix::fs::chown(&key_file, Some(uid), Some(gid))?;
        }
        let settings = [
            ("ssl", "on".to_owned()),
            ("ssl_cert_file", cert_file.display().to_string()),
            ("ssl_key_file", key_file.display().to_string()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Postgres::primary(PgOptions { settings, ..Default::default() }).await
    }
}

/// Both look at an address, and both have to find what is expected.
async fn both(url: &str, ca: Option<&Path>, expected: Expected) -> Result<()> {
    let mut params = json!({ "url": url });
    if let Some(ca) = ca {
        params["ca_file"] = json!(ca);
    }
    if let Expected::Encrypted = expected {
        params["query"] = json!(ENCRYPTED);
    }
    let on_server = probe(json!({ "postgres": params }));
    let until = Instant::now() + LONG;
    let session = connect(&SecretText::Plain(url.to_owned()), ca, until).await;
    match expected {
        Expected::Encrypted => {
            facts(&on_server).await;
            assert_eq!(session?.value(ENCRYPTED, until).await?, "1");
        }
        Expected::Plain => {
            facts(&on_server).await;
            session?.value(ENCRYPTED, until).await.expect_err("not encrypted");
        }
        Expected::Refused => {
            assert_saw(&look(&on_server).await, Health::Down, CauseKind::Tls);
            let failure = session.err().expect("the client was fooled");
            ensure!(failure.kind == FailureKind::Refused && failure.reason.contains("certificate"), "{failure}");
        }
        Expected::NoTls => {
            assert_saw(&look(&on_server).await, Health::Down, CauseKind::Tls);
            let failure = session.err().expect("the client went on without TLS");
            ensure!(failure.kind == FailureKind::Again && failure.reason.contains("TLS"), "{failure}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn probe_and_promotion_trust_the_same_servers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (ours, foreign) = (Authority::new(folder.path(), "ours")?, Authority::new(folder.path(), "foreign")?);
    let server = ours.server(folder.path()).await?;
    let without = Postgres::primary(PgOptions::default()).await?;
    let url = |server: &Postgres, host: &str, more: &str| {
        format!("postgres://postgres:{PASSWORD}@{host}:{}/postgres?{more}", server.port())
    };
    let (right, wrong) = (Some(ours.file.as_path()), Some(foreign.file.as_path()));
    let named = format!("sslmode=verify-full&sslrootcert={}", ours.file.display().to_string().replace('/', "%2F"));
    let words = |host: &str| {
        let (port, ca) = (server.port(), ours.file.display());
        format!(
            "host={host} hostaddr=127.0.0.1 port={port} user=postgres password='{PASSWORD}' \
             dbname=postgres sslmode=verify-full sslrootcert='{ca}'"
        )
    };
    use Expected::{Encrypted, NoTls, Plain, Refused};
    for (url, ca, expected) in [
        (url(&server, "127.0.0.1", "sslmode=verify-full"), right, Encrypted),
        (url(&server, "127.0.0.1", "sslmode=verify-ca&target_session_attrs=read-only"), right, Encrypted),
        (url(&server, "127.0.0.1", "sslmode=require"), right, Encrypted),
        (url(&server, "127.0.0.1", "sslmode=prefer"), right, Encrypted),
        (url(&server, "127.0.0.1", "sslmode=require"), None, Encrypted),
        (url(&server, "127.0.0.1", "sslmode=disable"), right, Plain),
        (url(&server, "127.0.0.1", &named), None, Encrypted),
        (words("127.0.0.1"), None, Encrypted),
        // The name is asked for by verify-full only, and is that of `host`.
        (url(&server, "localhost", "sslmode=verify-ca"), right, Encrypted),
        (url(&server, "localhost", "sslmode=verify-full"), right, Refused),
        (url(&server, "localhost", &named), None, Refused),
        (words("localhost"), None, Refused),
        // Somebody else's authority; `ca_file` goes before what the address names.
        (url(&server, "127.0.0.1", "sslmode=verify-full"), wrong, Refused),
        (url(&server, "127.0.0.1", "sslmode=verify-ca"), wrong, Refused),
        (url(&server, "127.0.0.1", "sslmode=require"), wrong, Refused),
        (url(&server, "127.0.0.1", &named), wrong, Refused),
        (url(&server, "127.0.0.1", "sslrootcert=system"), None, Refused),
        (url(&without, "127.0.0.1", "sslmode=prefer"), right, Plain),
        (url(&without, "127.0.0.1", "sslmode=require"), right, NoTls),
    ] {
        both(&url, ca, expected).await.map_err(|error| error.context(format!("{url} {ca:?} {expected:?}")))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_password_that_is_missing_is_missing_for_both() -> Result<()> {
    let server = Postgres::primary(PgOptions::default()).await?;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port());
    let seen = look(&probe(json!({ "postgres": { "url": url } }))).await;
    assert_saw(&seen, Health::Unknown, CauseKind::AuthenticationFailed);
    let failure = connect(&SecretText::Plain(url), None, Instant::now() + LONG).await.err().expect("no password");
    assert_eq!(failure.kind, FailureKind::Denied, "{failure}");
    Ok(())
}
