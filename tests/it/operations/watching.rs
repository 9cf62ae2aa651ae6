//! `failoverd watch`: a run as somebody sees it who watched before it began.

use anyhow::{Context, Result};
use failoverd::core::view::StepStateView;

use super::shop::{SOON, Shop, Sketch, has};
use crate::fleet::eventually;

#[tokio::test]
async fn a_watcher_who_came_before_the_outage_sees_the_run() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let _daemon = shop.start().await?;
    let mut lines = shop.verb(&["watch", "--until-run-ends"]).start()?;
    let mut json = shop.verb(&["watch", "--until-run-ends", "--json"]).start()?;
    eventually(SOON, "the first view", async || {
        anyhow::ensure!(
            lines.stdout().contains("waiting for the next one") && !json.stdout().is_empty(),
            "nothing yet"
        );
        Ok(())
    })
    .await?;
    shop.hooks.hold("/switch");
    shop.break_api();
    shop.step("switch", StepStateView::Applying).await?;
    eventually(SOON, "the step in the watch", async || {
        lines.stdout().contains("step switch applying").then_some(()).context("it is not there")
    })
    .await?;
    assert!(lines.is_running() && json.is_running(), "they end with the run, not before it");
    shop.hooks.release("/switch");
    assert!(lines.wait_exit(SOON).await?.success() && json.wait_exit(SOON).await?.success());
    has(
        &lines.stdout(),
        &[
            "probe api is down (was up)",
            "opened (outage, P0)",
            "of plan failover began (automatic)",
            "left of the RTO",
            "step prepare done",
            "step switch applying",
            "step switch done",
            "is past its point of no return",
            "step verify done",
            ": done",
            "DONE",
            "met:",
        ],
    );
    let views: Vec<serde_json::Value> =
        json.stdout().lines().map(serde_json::from_str).collect::<Result<_, _>>().context("a view a line")?;
    assert!(views.first().is_some_and(|view| view["run"].is_null()), "the first view is before the run");
    assert!(views.iter().any(|view| view["run"]["id"].is_string()), "the run was never in a view");
    Ok(())
}

/// On a terminal: redrawn in place, with the table of steps and the countdown.
#[tokio::test]
async fn on_a_terminal_the_run_is_drawn_with_its_countdown() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let _daemon = shop.start().await?;
    // `script` gives the child a terminal.
    let line = format!(
        "{} watch --until-run-ends --socket {} --config {}",
        super::shop::BINARY,
        shop.socket().display(),
        shop.config().display()
    );
    let mut watch = crate::fleet::process::Failoverd::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .env("TERM", "xterm")
        .env("COLUMNS", "120")
        .start()?;
    eventually(SOON, "the first frame", async || watch.stdout().contains("PROBE").then_some(()).context("none"))
        .await?;
    shop.hooks.hold("/switch");
    shop.break_api();
    shop.step("switch", StepStateView::Applying).await?;
    eventually(SOON, "the run on the terminal", async || {
        let seen = watch.stdout();
        anyhow::ensure!(seen.contains("applying") && seen.contains(" left of 2 min"), "{seen}");
        Ok(())
    })
    .await?;
    shop.hooks.release("/switch");
    let status = watch.wait_exit(SOON).await?;
    assert!(status.success(), "{status}: {}", watch.stdout());
    has(&watch.stdout(), &["░", "switch", "DONE", "met:"]);
    Ok(())
}

/// The daemon is restarted under a watcher: the watch goes on.
#[tokio::test]
async fn a_restart_is_sat_out() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let mut daemon = shop.start().await?;
    let mut watch = shop.verb(&["watch", "--until-run-ends"]).start()?;
    eventually(SOON, "the first view", async || watch.stdout().contains("mode auto").then_some(()).context("none"))
        .await?;
    daemon.kill9();
    eventually(SOON, "the loss", async || watch.stdout().contains("does not answer").then_some(()).context("none"))
        .await?;
    let _daemon = shop.start().await?;
    shop.ok(&["failover", "outage", "--yes"]).await?;
    let status = watch.wait_exit(SOON).await?;
    assert!(status.success(), "{status}: {}", watch.stdout());
    has(&watch.stdout(), &["by hand: root (uid 0)", "DONE"]);
    Ok(())
}
