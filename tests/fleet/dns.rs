//! An authoritative name server (BIND 9) with one zone, open to signed dynamic updates.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::child::{Proc, command, run};
use super::{START, port, scratch_dir};

/// The key that may update and transfer the zone (RFC 8945).
#[derive(Clone, Debug)]
pub struct TsigKey {
    /// Its name, which both sides must know it by.
    pub name: String,
    /// The algorithm's name.
    pub algorithm: String,
    /// The secret in base64.
    pub secret: String,
}

impl Default for TsigKey {
    fn default() -> Self {
        Self {
            name: "failoverd-key".into(),
            algorithm: "hmac-sha256".into(),
            // Fixed, so that a search for leaked secrets knows what to look for.
            secret: "Zm9yIHRlc3RzIG9ubHk6IG5vdCBhIHJlYWwgc2VjcmV0IQ==".into(),
        }
    }
}

/// One name server.
pub struct Dns {
    zone: String,
    port: u16,
    key: TsigKey,
    server: Option<Proc>,
    dir: TempDir,
}

impl Dns {
    /// A primary for `zone` (no dot at the end) with `records` in zone-file syntax, e.g.
    /// `api 60 IN A 127.0.0.1`.
    pub async fn start(zone: &str, records: &[&str]) -> Result<Self> {
        let this = Self::new(zone)?;
        let mut text = format!(
            "$ORIGIN {zone}.\n$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 86400 1\n@ IN NS ns\nns IN A 127.0.0.1\n"
        );
        for record in records {
            text.push_str(record);
            text.push('\n');
        }
        std::fs::write(this.dir.path().join("zone"), text)?;
        let key = &this.key.name;
        let body = format!("type primary; allow-update {{ key {key}; }}; allow-transfer {{ key {key}; }};");
        this.launch(&body).await
    }

    /// A secondary of this server that asks for changes after this many seconds: until then its
    /// answers are honestly stale, as a remote authoritative server's are.
    pub async fn secondary(&self, refresh: u32) -> Result<Self> {
        let this = Self::new(&self.zone)?;
        let (port, key) = (self.port, &self.key.name);
        let body = format!(
            "type secondary; primaries {{ 127.0.0.1 port {port} key {key}; }}; \
             max-refresh-time {refresh}; min-refresh-time 1; masterfile-format text;"
        );
        this.launch(&body).await
    }

    fn new(zone: &str) -> Result<Self> {
        Ok(Self {
            zone: zone.to_owned(),
            port: port()?,
            key: TsigKey::default(),
            server: None,
            dir: scratch_dir("dns")?,
        })
    }

    async fn launch(mut self, zone_body: &str) -> Result<Self> {
        let TsigKey { name, algorithm, secret } = &self.key;
        let (zone, port, dir) = (&self.zone, self.port, self.dir.path().display());
        let conf = format!(
            "key {name} {{ algorithm {algorithm}; secret \"{secret}\"; }};\n\
             options {{ directory \"{dir}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
               pid-file none; session-keyfile none; managed-keys-directory \"{dir}\";\n\
               recursion no; notify no; dnssec-validation no; allow-query {{ any; }}; }};\n\
             controls {{ }};\n\
             zone \"{zone}\" {{ file \"{dir}/zone\"; {zone_body} }};\n"
        );
        std::fs::write(self.dir.path().join("named.conf"), conf)?;
        self.start_server().await?;
        Ok(self)
    }

    async fn start_server(&mut self) -> Result<()> {
        let log = self.dir.path().join("named.log");
        let mut named = command(named_binary(self.dir.path())?);
        named.args(["-f", "-4", "-n", "1", "-c"]).arg(self.dir.path().join("named.conf"));
        let server = Proc::start("named", named, &log)?;
        self.server = Some(server);
        let zone = self.zone.clone();
        let addr = self.addr();
        let server = self.server.as_mut().context("just set")?;
        server
            .ready(START, "named to answer for its zone", async || {
                let soa = dig(addr, &zone, "SOA").await?;
                ensure!(!soa.is_empty(), "no SOA yet");
                Ok(())
            })
            .await
    }

    /// Where it listens, UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The zone's name, without a dot at the end.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The key that may update the zone.
    pub fn key(&self) -> &TsigKey {
        &self.key
    }

    /// What `dig` sees here: the data of the answers, one string each.
    pub async fn dig(&self, name: &str, record_type: &str) -> Result<Vec<String>> {
        dig(self.addr(), name, record_type).await
    }

    /// Sends `nsupdate` commands, e.g. `update add api.shop.example 60 A 127.0.0.2`.
    pub async fn update(&self, commands: &[&str]) -> Result<()> {
        let TsigKey { name, algorithm, secret } = &self.key;
        let script = self.dir.path().join("update");
        std::fs::write(
            &script,
            format!("server 127.0.0.1 {}\nzone {}\n{}\nsend\n", self.port, self.zone, commands.join("\n")),
        )?;
        let mut nsupdate = command("nsupdate");
        nsupdate.args(["-y", &format!("{algorithm}:{name}:{secret}")]).arg(&script);
        run(nsupdate, Duration::from_secs(10)).await.map(drop)
    }

    /// Power loss.
    pub fn kill9(&mut self) {
        self.server = None;
    }

    /// Starts it again on the same port, with the zone as it was.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9();
        self.start_server().await
    }

    /// It keeps its socket but answers nothing: queries time out.
    pub fn sigstop(&mut self) -> Result<()> {
        self.proc()?.signal_tree(Signal::STOP)
    }

    /// It answers again.
    pub fn sigcont(&mut self) -> Result<()> {
        self.proc()?.signal_tree(Signal::CONT)
    }

    fn proc(&mut self) -> Result<&mut Proc> {
        self.server.as_mut().context("named is not running")
    }
}

/// Asks one server once, without recursion.
pub async fn dig(server: SocketAddr, name: &str, record_type: &str) -> Result<Vec<String>> {
    let mut dig: Command = command("dig");
    dig.args(["+short", "+norecurse", "+tries=1", "+time=2"]).arg(format!("@{}", server.ip())).args([
        "-p",
        &server.port().to_string(),
        name,
        record_type,
    ]);
    let out = run(dig, Duration::from_secs(5)).await?;
    Ok(out.lines().map(str::to_owned).collect())
}

/// Debian confines `/usr/sbin/named` with AppArmor to its own directories. The profile goes by
/// the path, so where AppArmor is on, a copy in the scratch directory may read its files there.
fn named_binary(scratch: &Path) -> Result<PathBuf> {
    let installed = PathBuf::from("/usr/sbin/named");
    let confined = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|v| v.starts_with('Y'));
    if !confined {
        return Ok(installed);
    }
    let copy = scratch.join("named");
    if !copy.exists() {
        std::fs::copy(&installed, &copy).context("copying named; install.sh installs it")?;
    }
    Ok(copy)
}
