//! Gray failure and the daemon's own history, with the daemon as a process and a server that becomes slow, and
//! dies.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use failoverd::control::client::Client;
use failoverd::core::view::{ProbeView, StatusView};
use failoverd::model::Health;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fleet::http_app::HttpApp;
use crate::fleet::process::{Failoverd, Finished, Running};
use crate::fleet::{eventually, http, port, scratch_dir};

const PATIENCE: Duration = Duration::from_secs(30);
const BINARY: &str = env!("CARGO_BIN_EXE_failoverd");

struct Shop {
    folder: TempDir,
    app: HttpApp,
    metrics: u16,
}

impl Shop {
    /// `when` is the condition of the scenario.
    async fn open(when: &str) -> Result<Self> {
        let (folder, app, metrics) = (scratch_dir("gray")?, HttpApp::start("us-east-1").await?, port()?);
        let config = format!(
            r#"
[daemon]
name = "shop"
mode = "auto"
state = "sqlite:{dir}/state.db"
socket = "{dir}/failoverd.sock"
[policy]
startup_grace = "0s"
tilt_for = "100ms"
[metrics]
listen = "127.0.0.1:{metrics}"
[probes.api]
interval = "50ms"
timeout = "1s"
fall = 3
rise = 2
http = {{ url = "{url}" }}
[probes.whole]
interval = "100ms"
fall = 2
rise = 2
window = {{ of = ["api"], over = "3s", p90 = "200ms", at_least = 20 }}
[scenarios.outage]
severity = "P0"
when = "{when}"
confirm_for = "300ms"
rto = "1h"
plan = "p"
[plans.p.steps.rest]
wait = "10ms"
"#,
            dir = folder.path().display(),
            url = app.url(),
        );
        std::fs::write(folder.path().join("failoverd.toml"), config)?;
        Ok(Self { folder, app, metrics })
    }

    fn dress(&self, verb: &[&str]) -> Failoverd {
        let config = self.folder.path().join("failoverd.toml").display().to_string();
        Failoverd::new(BINARY).args(verb).args(["--config", &config])
    }

    fn state(&self, suffix: &str) -> std::path::PathBuf {
        self.folder.path().join(format!("state.db{suffix}"))
    }

    fn client(&self) -> Result<Client> {
        Ok(Client::new(&self.folder.path().join("failoverd.sock"))?)
    }

    async fn sees(
        &self,
        daemon: &mut Running,
        probe: &str,
        what: &str,
        wanted: impl Fn(&ProbeView) -> bool,
    ) -> Result<StatusView> {
        let client = self.client()?;
        daemon
            .ready(PATIENCE, what, async || {
                let status = client.status().await?;
                let found = status.probes.iter().find(|view| view.name.as_str() == probe).context("no probe")?;
                ensure!(wanted(found), "{found:?}");
                Ok(status)
            })
            .await
    }

    async fn fails_over(&self, daemon: &mut Running) -> Result<()> {
        let client = self.client()?;
        daemon
            .ready(PATIENCE, "the failover", async || {
                let runs = client.runs().await?;
                ensure!(runs.first().is_some_and(|run| run.ended.is_some()), "{runs:?}");
                Ok(())
            })
            .await
    }

    async fn backtest(&self, more: &[&str]) -> Result<(Finished, Value)> {
        let verb = [&["backtest", "--json"], more].concat();
        let done = self.dress(&verb).run(PATIENCE).await?;
        let report = serde_json::from_str(&done.stdout).unwrap_or(Value::Null);
        Ok((done, report))
    }
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Every answer is a right one, and no probe of it would say a word.
#[tokio::test]
async fn a_server_that_becomes_slow_is_degraded_and_may_be_failed_over() -> Result<()> {
    let shop = Shop::open("whole is degraded").await?;
    let mut daemon = shop.dress(&["run"]).start()?;
    shop.sees(&mut daemon, "whole", "a full window", |whole| whole.health == Health::Up && !whole.degraded).await?;
    shop.app.set(json!({ "delay": 0.4 })).await?;
    let status = shop.sees(&mut daemon, "whole", "it to be degraded", |whole| whole.degraded).await?;
    let whole = status.probes.iter().find(|view| view.name.as_str() == "whole").context("a view")?;
    ensure!(whole.why.starts_with("slow_window: p90 of ") && whole.why.contains("more than 200ms"), "{whole:?}");
    ensure!(whole.latency_ms.is_some_and(|latency| latency > 350.0), "{whole:?}");
    let api = status.probes.iter().find(|view| view.name.as_str() == "api").context("a view")?;
    ensure!(api.health == Health::Up && !api.degraded, "{api:?}");
    shop.fails_over(&mut daemon).await?;
    let text = http().get(format!("http://127.0.0.1:{}/metrics", shop.metrics)).send().await?.text().await?;
    ensure!(text.contains("failoverd_probe_degraded{probe=\"whole\",region=\"\"} 1"), "{text}");
    // Nobody asks a window, so that there are no attempts of it.
    ensure!(!text.contains("failoverd_probe_attempts_total{probe=\"whole\""), "{text}");
    shop.app.heal().await?;
    shop.sees(&mut daemon, "whole", "it to be well again", |whole| !whole.degraded).await?;
    ensure!(daemon.terminate(PATIENCE).await?.success(), "{}", daemon.stderr());

    // And so says its own history.
    let (done, report) = shop.backtest(&["--history"]).await?;
    let score = &report["tried"][0]["score"];
    ensure!(score["trips"] == json!(1), "{}\n{report:#}", done.stderr);
    Ok(())
}

#[tokio::test]
async fn an_outage_is_found_again_in_the_daemons_own_history() -> Result<()> {
    let mut shop = Shop::open("api").await?;
    let (done, _) = shop.backtest(&["--history"]).await?;
    ensure!(done.status.code() == Some(1) && done.stderr.contains("there is no such file"), "{}", done.stderr);

    let mut daemon = shop.dress(&["run"]).start()?;
    shop.sees(&mut daemon, "api", "it up", |api| api.health == Health::Up).await?;
    // Long enough that the replay sees it up too.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let from = seconds();
    shop.app.kill9();
    shop.fails_over(&mut daemon).await?;
    // Long enough that the replay, whose looks fall elsewhere, has its last look within it too.
    tokio::time::sleep(Duration::from_secs(1)).await;
    shop.app.restart().await?;
    let to = seconds();
    shop.sees(&mut daemon, "api", "it up again", |api| api.health == Health::Up).await?;
    ensure!(daemon.terminate(PATIENCE).await?.success(), "{}", daemon.stderr());

    let labels = shop.folder.path().join("outages.csv");
    std::fs::write(&labels, format!("from,to,scenario\n{from:.3},{to:.3},outage\n"))?;
    let labels = labels.display().to_string();
    let (done, report) = shop.backtest(&["--history", "--outages", &labels]).await?;
    let score = &report["tried"][0]["score"];
    let counted = (&score["trips"], &score["genuine"], &score["missed"]);
    ensure!(counted == (&json!(1), &json!(1), &json!(0)), "{}\n{report:#}", done.stderr);
    ensure!(done.status.success(), "{}", done.stderr);
    let looks = report["probes"][0]["looks"].as_u64().context("looks")?;
    ensure!(looks > 40, "each look counts, not each stretch: {report:#}");

    // A part of it, and a copy of it.
    let until = format!("{from:.3}");
    let (_, report) = shop.backtest(&["--history", "--to", &until]).await?;
    ensure!(report["tried"][0]["score"]["trips"] == json!(0), "{report:#}");
    let copy = shop.folder.path().join("copy");
    std::fs::copy(shop.state(".history"), &copy)?;
    let (_, report) = shop.backtest(&[&format!("--history={}", copy.display())]).await?;
    ensure!(report["tried"][0]["score"]["trips"] == json!(1), "{report:#}");
    Ok(())
}

fn folder_with_a_file(at: &Path) -> Result<()> {
    std::fs::create_dir_all(at)?;
    Ok(std::fs::write(at.join("file"), "in the way")?)
}

/// Losing the history never hurts the daemon.
#[tokio::test]
async fn where_the_history_cannot_be_written_everything_else_goes_on() -> Result<()> {
    let shop = Shop::open("api").await?;
    folder_with_a_file(&shop.state(".history"))?;
    folder_with_a_file(&shop.state(".history.damaged"))?;
    let mut daemon = shop.dress(&["run"]).start()?;
    shop.sees(&mut daemon, "api", "it up", |api| api.health == Health::Up).await?;
    daemon.wait_log(PATIENCE, "is not recorded until the next start").await?;
    let url = format!("http://127.0.0.1:{}/metrics", shop.metrics);
    eventually(PATIENCE, "the metric", async || {
        let text = http().get(&url).send().await?.text().await?;
        ensure!(text.contains("failoverd_history_recording 0"), "{text}");
        Ok(())
    })
    .await?;
    ensure!(daemon.terminate(PATIENCE).await?.success(), "{}", daemon.stderr());
    ensure!(daemon.stderr().matches("is not recorded until").count() == 1, "{}", daemon.stderr());
    Ok(())
}
