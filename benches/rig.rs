//! The daemon as a process with a configuration of the bench's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::control::client::Client;
use failoverd::core::view::StatusView;
use failoverd::model::Health;
use tempfile::TempDir;

use crate::fleet::process::{Failoverd, Running};
use crate::fleet::{port, scratch_dir};

/// The binary that `cargo bench` built with this program, or the one that is named.
pub fn binary() -> PathBuf {
    std::env::var_os("FAILOVERD_BENCH_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_failoverd").into(), PathBuf::from)
}

/// A daemon that runs.
pub struct Rig {
    pub daemon: Running,
    pub client: Client,
    metrics: u16,
    dir: TempDir,
}

impl Rig {
    /// Starts it on `[daemon]` and `[metrics]` of the rig's own and the rest as given.
    pub async fn start(mode: &str, rest: &str) -> Result<Self> {
        let dir = scratch_dir("bench")?;
        let metrics = port()?;
        let head = head(dir.path(), mode, &format!("127.0.0.1:{metrics}"));
        let config = dir.path().join("failoverd.toml");
        std::fs::write(&config, format!("{head}\n{rest}"))?;
        let daemon = Failoverd::new(binary()).args(["run", "--config"]).arg(&config).start()?;
        let client = Client::new(&dir.path().join("failoverd.sock"))?;
        let mut this = Self { daemon, client, metrics, dir };
        this.all_up().await?;
        Ok(this)
    }

    /// Where its state is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until every probe is up and no incident is open.
    pub async fn all_up(&mut self) -> Result<StatusView> {
        let client = self.client.clone();
        self.daemon
            .ready(Duration::from_secs(30), "failoverd to see everything up", async || {
                let status = client.status().await?;
                let down = status.probes.iter().find(|probe| probe.health != Health::Up);
                ensure!(down.is_none(), "{down:?}");
                let open = status.scenarios.iter().find(|scenario| scenario.incident.is_some());
                ensure!(open.is_none() && status.run.is_none(), "an incident is open");
                Ok(status)
            })
            .await
    }

    /// How often the journal was written so far, and for how many milliseconds.
    pub async fn journal_writes(&self) -> Result<(f64, f64)> {
        let url = format!("http://127.0.0.1:{}/metrics", self.metrics);
        let text = crate::fleet::http().get(url).send().await?.error_for_status()?.text().await?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse::<f64>().ok()).with_context(|| format!("no metric {name}"))
        };
        let seconds = value("failoverd_journal_append_seconds_sum")?;
        Ok((value("failoverd_journal_append_seconds_count")?, seconds * 1000.0))
    }
}

/// The tables that every configuration of a bench begins with.
pub fn head(dir: &Path, mode: &str, metrics: &str) -> String {
    let dir = dir.display();
    format!(
        r#"[daemon]
name = "bench"
mode = "{mode}"
state = "sqlite:{dir}/state.db"
socket = "{dir}/failoverd.sock"
[metrics]
listen = "{metrics}"
[policy]
startup_grace = "0s"
cool_down = "0s"
failover_limit = 10000
[policy.flap_damping]
enabled = false
[regions.primary]
role = "primary"
[regions.backup]
role = "backup"
"#
    )
}
