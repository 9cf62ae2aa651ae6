//! A daemon and two witnesses as processes of their own, with certificates of `failoverd certs`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::control::client::Client;
use failoverd::model::Health;
use tempfile::TempDir;

use super::sights::{SIGHT_LOG, sights};
use crate::fleet::process::{Failoverd, Running};
use crate::fleet::{START, eventually, port, scratch_dir};
use crate::rig;

/// Name and failure domain; the first is the daemon.
const VANTAGES: [(&str, &str); 3] = [("bench", "us-west-2"), ("eu", "eu-central-1"), ("ap", "ap-east-1")];

/// They run.
pub struct Vantages {
    folder: TempDir,
    /// The daemon first.
    processes: Vec<Running>,
}

impl Vantages {
    /// Starts them on this target.
    pub async fn start(target: u16) -> Result<Self> {
        let folder = scratch_dir("vantages")?;
        let dir = folder.path();
        certs(dir, &["init"]).await?;
        for (name, domain) in VANTAGES {
            certs(dir, &["issue", name, "--domain", domain, "--host", "127.0.0.1"]).await?;
            let home = dir.join(name);
            std::fs::create_dir(&home)?;
            std::fs::copy(dir.join("ca.pem"), home.join("ca.pem"))?;
            std::fs::copy(dir.join(format!("{name}.pem")), home.join("own.pem"))?;
            std::fs::copy(dir.join(format!("{name}.key")), home.join("own.key"))?;
        }
        std::fs::write(dir.join("failoverd.toml"), configuration(dir, target, [port()?, port()?]))?;
        let mut this = Self { folder, processes: Vec::new() };
        for (place, (name, _)) in VANTAGES.into_iter().enumerate() {
            let verb = if place == 0 { vec!["run"] } else { vec!["witness", name] };
            let process = Failoverd::new(rig::binary())
                .args(verb)
                .arg("--config")
                .arg(this.folder.path().join("failoverd.toml"))
                .dir(this.folder.path().join(name))
                .env(SIGHT_LOG.0, SIGHT_LOG.1)
                .env("FAILOVERD__METRICS__LISTEN", format!("127.0.0.1:{}", port()?))
                .start()?;
            this.processes.push(process);
        }
        Ok(this)
    }

    /// Waits until all three say up, and the quorum too.
    pub async fn all_up(&self) -> Result<()> {
        let client = Client::new(&self.folder.path().join("failoverd.sock"))?;
        eventually(START, "all vantages to see it up", async || {
            let status = client.status().await?;
            ensure!(status.probes.iter().all(|probe| probe.health == Health::Up), "{:?}", status.probes);
            for process in &self.processes {
                let last = sights(&process.stderr()).last();
                ensure!(last.as_ref().is_some_and(|sight| sight.vote == Health::Up), "{last:?}");
            }
            Ok(())
        })
        .await
    }

    /// Waits for the quorum's verdict on what was killed then; tells when each vantage voted, and when the
    /// quorum did.
    pub async fn down_after(&self, killed: i64) -> Result<(Vec<i64>, i64)> {
        eventually(START, "three votes and a verdict", async || {
            let mut votes = Vec::new();
            for process in &self.processes {
                let down =
                    sights(&process.stderr()).find(|sight| sight.unix_us >= killed && sight.vote == Health::Down);
                votes.push(down.context("a vantage has not voted yet")?.unix_us);
            }
            let said = self.processes[0].stderr();
            let down = sights(&said).find(|sight| sight.unix_us >= killed && sight.verdict == Health::Down);
            Ok((votes, down.context("there is no verdict yet")?.unix_us))
        })
        .await
    }
}

async fn certs(folder: &Path, arguments: &[&str]) -> Result<()> {
    let run = Failoverd::new(rig::binary()).arg("certs").args(arguments).arg("--folder").arg(folder);
    let done = run.run(Duration::from_secs(20)).await?;
    ensure!(done.status.success(), "{arguments:?}: {}", done.stderr);
    Ok(())
}

fn configuration(dir: &Path, target: u16, listens: [u16; 2]) -> String {
    // The metrics are each vantage's own; the environment says where.
    let head = rig::head(dir, "alert-only", "")
        .replace("name = \"bench\"", "name = \"bench\"\nfailure_domain = \"us-west-2\"");
    let mut text = format!(
        r#"{head}
[log]
format = "json"
[quorum]
vantages = 2
[vantage_tls]
ca_file = "ca.pem"
certificate_file = "own.pem"
key_file = "own.key"
[probes.api]
interval = "200ms"
fast_interval = "20ms"
timeout = "200ms"
fall = 3
rise = 1
http = {{ url = "http://127.0.0.1:{target}/health" }}
[scenarios.outage]
severity = "P1"
when = "api"
confirm_for = "0s"
rto = "1h"
"#
    );
    for ((name, domain), port) in VANTAGES[1..].iter().zip(listens) {
        text.push_str(&format!(
            "[witnesses.{name}]\ndomain = \"{domain}\"\nurl = \"https://127.0.0.1:{port}\"\nlisten = \"127.0.0.1:{port}\"\n"
        ));
    }
    text
}
