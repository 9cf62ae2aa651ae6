//! A real Prometheus that scrapes one target.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::time::Duration;
use tempfile::TempDir;

use super::child::{Proc, command};
use super::{START, eventually, http, port, scratch_dir};

/// A running Prometheus.
pub struct Prometheus {
    port: u16,
    // Before `dir`: the server must be gone when its files go.
    _server: Proc,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts it; it scrapes `http://TARGET/metrics` (`host:port`) four times a second under the
    /// job name `failoverd`. `rules` is the text of a rule file.
    pub async fn start(target: &str, rules: Option<&str>) -> Result<Self> {
        Self::start_in(scratch_dir("prometheus")?, target, rules).await
    }

    /// Starts one that remembers this history (OpenMetrics with timestamps in seconds, of the last two
    /// weeks) and scrapes nobody.
    pub async fn start_with_history(openmetrics: &str) -> Result<Self> {
        let dir = scratch_dir("prometheus")?;
        let file = dir.path().join("history.txt");
        std::fs::write(&file, openmetrics)?;
        let mut promtool = command("promtool");
        promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&file).arg(dir.path().join("data"));
        let made = promtool.output().context("starting promtool; tests/fleet/install.sh installs it")?;
        if !made.status.success() {
            bail!("promtool: {}", String::from_utf8_lossy(&made.stderr));
        }
        // Nobody listens there.
        Self::start_in(dir, "127.0.0.1:1", None).await
    }

    async fn start_in(dir: TempDir, target: &str, rules: Option<&str>) -> Result<Self> {
        let port = port()?;
        let rule_file = dir.path().join("rules.yml");
        std::fs::write(&rule_file, rules.unwrap_or("groups: []\n"))?;
        let config = dir.path().join("prometheus.yml");
        std::fs::write(
            &config,
            format!(
                "global:\n  scrape_interval: 250ms\n  scrape_timeout: 250ms\n  evaluation_interval: 250ms\n\
                 rule_files: ['{}']\n\
                 scrape_configs:\n- job_name: failoverd\n  static_configs:\n  - targets: ['{target}']\n",
                rule_file.display()
            ),
        )?;
        let mut prometheus = command("prometheus");
        prometheus
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn");
        let mut server = Proc::start("prometheus", prometheus, &dir.path().join("prometheus.log"))?;
        let ready = format!("http://127.0.0.1:{port}/-/ready");
        server
            .ready(START, "Prometheus to be ready", async || {
                http().get(&ready).send().await?.error_for_status()?;
                Ok(())
            })
            .await?;
        Ok(Self { port, _server: server, _dir: dir })
    }

    /// The base URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// An instant query: (labels, value) of each series.
    pub async fn query(&self, promql: &str) -> Result<Vec<(Value, f64)>> {
        let answer: Value =
            http().get(format!("{}/api/v1/query", self.url())).query(&[("query", promql)]).send().await?.json().await?;
        if answer["status"] != "success" {
            bail!("{promql}: {answer}");
        }
        let series = answer["data"]["result"].as_array().context("a vector")?;
        series
            .iter()
            .map(|one| {
                let text = one["value"][1].as_str().context("a sample")?;
                Ok((one["metric"].clone(), text.parse()?))
            })
            .collect()
    }

    /// Waits until the query has a result whose first value passes `wanted`.
    pub async fn wait_for(&self, timeout: Duration, promql: &str, wanted: impl Fn(f64) -> bool) -> Result<f64> {
        eventually(timeout, &format!("Prometheus to see {promql}"), async || {
            let series = self.query(promql).await?;
            let value = series.first().context("no series")?.1;
            anyhow::ensure!(wanted(value), "it is {value}");
            Ok(value)
        })
        .await
    }
}
