//! What Prometheus sees.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use failoverd::core::view::StepStateView;

use super::shop::{SOON, Shop, Sketch, has};
use crate::fleet::eventually;
use crate::fleet::http_app::Answer;
use crate::fleet::prometheus::Prometheus;

/// `promtool check metrics` has nothing to say.
fn lint(metrics: &str) -> Result<()> {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool: tests/fleet/install.sh installs it")?;
    promtool.stdin.take().context("its input")?.write_all(metrics.as_bytes())?;
    let output = promtool.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.trim().is_empty(), "promtool: {said}");
    Ok(())
}

const PEACE: [&str; 4] = [
    "failoverd_run_active 0",
    "failoverd_incident_open{scenario=\"outage\"} 0",
    "failoverd_probe_health{health=\"up\",probe=\"api\",region=\"\"} 1",
    "failoverd_mode{mode=\"auto\"} 1",
];

/// The metrics, once they have all that is wanted: what no decision hangs on is told a second late.
async fn metrics(shop: &Shop, wanted: &[&str]) -> Result<String> {
    eventually(SOON, "the metrics", async || {
        let (_, metrics) = shop.get("/metrics").await?;
        let missing: Vec<&&str> = wanted.iter().filter(|line| !metrics.contains(**line)).collect();
        ensure!(missing.is_empty(), "{missing:#?} are not in:\n{metrics}");
        Ok(metrics)
    })
    .await
}

#[tokio::test]
async fn the_metrics_of_a_parked_run_are_clean_and_true() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let _daemon = shop.start().await?;
    let peace = metrics(&shop, &PEACE).await?;
    lint(&peace)?;
    shop.hooks.set_path("/switch", Some(Answer::status(400)));
    shop.break_api();
    shop.step("switch", StepStateView::Parked).await?;
    shop.ok(&["pause"]).await?;
    shop.told("is parked at step switch").await?;
    let wanted = [
        "failoverd_probe_health{health=\"down\",probe=\"api\",region=\"\"} 1",
        "failoverd_probe_health{health=\"up\",probe=\"api\",region=\"\"} 0",
        "failoverd_probe_failures_total{cause=\"http_status\",probe=\"api\"}",
        "failoverd_scenario_condition{scenario=\"outage\",truth=\"true\"} 1",
        "failoverd_incident_open{scenario=\"outage\"} 1",
        "failoverd_decision{decision=\"hold\",reason=\"run_active\",scenario=\"outage\"} 1",
        "failoverd_run_active 1",
        "failoverd_run_parked 1",
        "failoverd_paused 1",
        "failoverd_epoch 1",
        "failoverd_rto_seconds{scenario=\"outage\"} 120",
        "failoverd_deadline_timestamp_seconds{scenario=\"outage\"} ",
        "failoverd_step_duration_seconds_count{kind=\"http.request\",result=\"done\"} 1",
        "failoverd_notifications_total{result=\"delivered\",route=\"chat\"}",
        "failoverd_commands_total{command=\"pause\",result=\"done\"} 1",
        "failoverd_journal_append_seconds_count ",
        "process_resident_memory_bytes ",
    ];
    let parked = metrics(&shop, &wanted).await?;
    lint(&parked)?;

    let prometheus = Prometheus::start(&shop.metrics(), None).await?;
    let down = "failoverd_probe_health{probe=\"api\",health=\"down\"}";
    prometheus.wait_for(SOON, down, |value| value == 1.0).await?;
    shop.heal_api();
    prometheus.wait_for(SOON, down, |value| value == 0.0).await?;
    prometheus.wait_for(SOON, "up", |value| value == 1.0).await?;
    Ok(())
}

/// Ready means: every probe has been looked at once. Alive it is before.
#[tokio::test]
async fn it_is_ready_once_everything_was_seen() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    shop.api.hold("/health");
    let mut daemon = shop.verb(&["run"]).start()?;
    let report = daemon
        .ready(SOON, "the backup to be seen", async || {
            let (status, body) = shop.get("/readyz").await?;
            ensure!(!body.contains("backup"), "{status} {body}");
            Ok((status, body))
        })
        .await?;
    assert_eq!(report.0, 503, "{}", report.1);
    has(&report.1, &["not observed yet: api"]);
    assert_eq!(shop.get("/healthz").await?.0, 200);
    shop.api.release("/health");
    eventually(SOON, "readiness", async || {
        let (status, body) = shop.get("/readyz").await?;
        ensure!(status == 200, "{status} {body}");
        Ok(())
    })
    .await?;
    assert_eq!(shop.get("/nothing").await?.0, 404);
    Ok(())
}
