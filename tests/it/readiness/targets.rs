//! What serves, and with which certificate; and programs of this host.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use failoverd::model::Aspect;
use failoverd::vantage::certs;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::{is, look};
use crate::actions::clients;

/// Shows a certificate of its own for 127.0.0.1 that ends in so many days; its port, and the certificate.
async fn shows(days: u64) -> Result<(u16, tempfile::NamedTempFile)> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + (now - Duration::from_secs(86_400));
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + (now + Duration::from_secs(days * 86_400));
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), certificate.pem())?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _handshake_is_all = acceptor.accept(stream).await;
        }
    });
    Ok((port, file))
}

#[tokio::test]
async fn a_certificate_near_its_end_and_a_target_that_does_not_serve_are_found() -> Result<()> {
    let clients = Arc::new(clients());
    let step = |port: u16, ca: &std::path::Path| {
        format!(
            r#"call.http.request = {{ url = "https://127.0.0.1:{port}/switch", ca_file = "{}", idempotent = true }}"#,
            ca.display()
        )
    };
    let (port, ca) = shows(90).await?;
    let good = look(&step(port, ca.path()), "", &clients).await?;
    ensure!(good.verdict.name() == "ready", "{good:#?}");
    is(&good, Aspect::Fresh, "certificate of 127.0.0.1", "ready", "")?;
    let (port, ca) = shows(10).await?;
    let found = look(&step(port, ca.path()), "", &clients).await?;
    is(&found, Aspect::Fresh, "certificate of 127.0.0.1", "not_ready", "it ends in ")?;
    let short = look(&step(port, ca.path()), "[readiness]\ncertificate_days = 5", &clients).await?;
    ensure!(short.verdict.name() == "ready", "{short:#?}");
    let (_, stranger) = shows(90).await?;
    let found = look(&step(port, stranger.path()), "", &clients).await?;
    is(&found, Aspect::Serves, "127.0.0.1", "not_ready", "certificate")?;
    let found = look(&step(crate::fleet::port()?, ca.path()), "", &clients).await?;
    is(&found, Aspect::Serves, "127.0.0.1", "not_ready", "does not serve")
}

#[tokio::test]
async fn a_program_has_to_be_there_and_is_not_run() -> Result<()> {
    let clients = Arc::new(clients());
    let dir = tempfile::tempdir()?;
    let (program, trace) = (dir.path().join("fence.sh"), dir.path().join("was-run"));
    let step = format!(r#"fence.exec.run = {{ argv = ["{}"], idempotent = true }}"#, program.display());
    is(&look(&step, "", &clients).await?, Aspect::Exists, "fence.sh", "not_ready", "No such file")?;
    std::fs::write(&program, format!("#!/bin/sh\ntouch {}\n", trace.display()))?;
    is(&look(&step, "", &clients).await?, Aspect::Exists, "fence.sh", "not_ready", "not executable")?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let good = look(&step, "", &clients).await?;
    ensure!(good.verdict.name() == "ready", "{good:#?}");
    ensure!(!trace.exists(), "it was run");
    Ok(())
}

/// The daemon's own: without it no other vantage is heard, and no outage is told from one of ours.
#[tokio::test]
async fn a_certificate_of_our_own_near_its_end_is_found() -> Result<()> {
    let ca = tempfile::tempdir()?;
    certs::authority(ca.path(), 300)?;
    let own = certs::issue(ca.path(), &"shop".into(), &"us-west-2".into(), &[], 10)?;
    let (certificate, key) = (own.certificate.display().to_string(), own.key.display().to_string());
    let authority = ca.path().join("ca.pem").display().to_string();
    let more = |days: u32, certificate: &str| {
        format!(
            "[readiness]\ncertificate_days = {days}\n[vantage_tls]\nca_file = {authority:?}\ncertificate_file = {certificate:?}\nkey_file = {key:?}"
        )
    };
    let step = r#"run.exec.run = { argv = ["/bin/true"], idempotent = true }"#;
    let clients = Arc::new(clients());
    let good = look(step, &more(9, &certificate), &clients).await?;
    ensure!(good.general.is_empty(), "{:?}", good.general);
    let found = look(step, &more(11, &certificate), &clients).await?;
    is(&found, Aspect::Fresh, "vantage_tls.certificate_file", "not_ready", "it ends in 9 days")?;
    ensure!(found.verdict.name() == "not_ready" && found.general.len() == 1, "{found:#?}");
    let found = look(step, &more(9, &key), &clients).await?;
    is(&found, Aspect::Exists, "vantage_tls.certificate_file", "not_ready", "no certificate in PEM")
}
