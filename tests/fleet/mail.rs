//! Exim: a mail server with TLS by an authority of our own, a login, and one mailbox that takes everything.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::child::{Proc, command, drop_root};
use super::{START, port, scratch_dir};

/// Who may log in, and with what.
pub const LOGIN: (&str, &str) = ("shop", "exim-hunter2");
/// The local part of a recipient that the server refuses for good.
pub const REFUSED: &str = "nobody-here";

/// A mail server.
pub struct Mail {
    /// Where STARTTLS is offered; a login only after it.
    pub starttls: u16,
    /// Where TLS begins at once.
    pub tls: u16,
    /// The authority that signed its certificate, for `127.0.0.1` and `localhost`.
    pub ca_file: PathBuf,
    dir: TempDir,
    _server: Proc,
}

impl Mail {
    /// Starts it.
    pub async fn start() -> Result<Self> {
        let dir = scratch_dir("mail")?;
        let at = dir.path();
        let (starttls, tls) = (port()?, port()?);
        for folder in ["spool", "log", "mail"] {
            std::fs::create_dir(at.join(folder))?;
        }
        certificate(at)?;
        std::fs::write(at.join("exim.conf"), config(at, starttls, tls))?;
        std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755))?;
        // With a configuration of its own it gives root up, and has to write as its own user.
        if let Some((uid, gid)) = drop_root("Debian-exim")? {
            for ours in ["spool", "log", "mail", "key.pem"] {
                std::os::unix::fs::chown(at.join(ours), Some(uid), Some(gid))?;
            }
        }
        let mut program = command("exim4");
        program.arg("-C").arg(at.join("exim.conf")).args(["-bdf", "-q30m"]);
        let mut server = Proc::start("exim", program, &at.join("out"))?;
        server
            .ready(START, "the mail server to greet", async || {
                tokio::net::TcpStream::connect(("127.0.0.1", starttls)).await.context("connecting")?;
                tokio::net::TcpStream::connect(("127.0.0.1", tls)).await.context("connecting")?;
                Ok(())
            })
            .await?;
        let ca_file = at.join("ca.pem");
        Ok(Self { starttls, tls, ca_file, dir, _server: server })
    }

    /// Every message that it delivered, whole, in order.
    pub fn delivered(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("mail/all")).unwrap_or_default();
        text.split("\n=====\n").filter(|part| !part.trim().is_empty()).map(str::to_owned).collect()
    }
}

fn certificate(at: &Path) -> Result<()> {
    let ca_key = rcgen::KeyPair::generate()?;
    let mut ca = rcgen::CertificateParams::new(Vec::new())?;
    ca.distinguished_name.push(rcgen::DnType::CommonName, "mail authority");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(at.join("ca.pem"), ca.self_signed(&ca_key)?.pem())?;
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate()?;
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    std::fs::write(at.join("cert.pem"), certificate.pem())?;
    std::fs::write(at.join("key.pem"), key.serialize_pem())?;
    std::fs::set_permissions(at.join("key.pem"), std::fs::Permissions::from_mode(0o600)).context("key.pem")
}

fn config(at: &Path, starttls: u16, tls: u16) -> String {
    let at = at.display();
    let (user, password) = LOGIN;
    format!(
        r#"deliver_drop_privilege = true
spool_directory = {at}/spool
log_file_path = {at}/log/%slog
pid_file_path = {at}/spool/pid
primary_hostname = localhost
daemon_smtp_ports = {starttls} : {tls}
tls_on_connect_ports = {tls}
local_interfaces = 127.0.0.1
tls_advertise_hosts = *
tls_certificate = {at}/cert.pem
tls_privatekey = {at}/key.pem
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
acl_smtp_rcpt = recipients
acl_smtp_data = all
keep_environment =
host_lookup =
begin acl
recipients:
  deny local_parts = {REFUSED}
       message = no such mailbox here
  deny !authenticated = *
       message = log in first
  accept
all:
  accept
begin routers
all:
  driver = accept
  transport = file
begin transports
file:
  driver = appendfile
  file = {at}/mail/all
  envelope_to_add
  message_prefix =
  message_suffix = "\n=====\n"
  check_string =
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
"#
    )
}
