//! Signals.

use anyhow::Result;
use failoverd::core::view::StepStateView;
use failoverd::model::{Applied, Entry, RunResult};
use rustix::process::Signal;

use super::shop::{PLAN, SOON, Shop, Sketch, has, state_of, stop};

#[tokio::test]
async fn hup_takes_a_good_configuration_and_keeps_the_old_one_for_a_bad_one() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let mut daemon = shop.start().await?;
    let before = shop.client()?.status().await?;
    let more = "[probes.extra]\nhttp = { url = \"HOOKS/health\" }\n";
    shop.configure(Sketch { more, ..Sketch::default() })?;
    daemon.signal(Signal::HUP)?;
    let after = shop
        .sees("the new probe up", |status| {
            status.probes.len() == 3 && status.probes.iter().all(|probe| probe.health == failoverd::model::Health::Up)
        })
        .await?;
    let since = |status: &failoverd::core::view::StatusView| status.probes[0].since.map(|at| at.0 / 10);
    assert_eq!(after.probes[0].name.as_str(), "api");
    // It kept its vote; the brain's clock is told in milliseconds.
    assert!(since(&after).zip(since(&before)).is_some_and(|(a, b)| (a - b).abs() <= 1), "{after:?}\n{before:?}");

    shop.configure(Sketch { more: "[probes.extra]\nhttp = { ulr = \"HOOKS/health\" }\n", ..Sketch::default() })?;
    let line = std::fs::read_to_string(shop.config())?.lines().position(|line| line.contains("ulr")).unwrap_or(0) + 1;
    daemon.signal(Signal::HUP)?;
    daemon.wait_log(SOON, "was not reloaded, the old one holds").await?;
    has(&daemon.stderr(), &[&format!("failoverd.toml:{line}:"), "ulr"]);
    assert_eq!(shop.client()?.status().await?.probes.len(), 3);
    let (_, metrics) = shop.get("/metrics").await?;
    has(&metrics, &["config_reloads_total{result=\"refused\"} 1", "config_reloads_total{result=\"taken\"} 1"]);
    shop.configure(Sketch::default())?;
    daemon.signal(Signal::HUP)?;
    shop.sees("the probe gone", |status| status.probes.len() == 2).await?;
    stop(&mut daemon).await
}

/// S9: a run is pinned; what was edited under it holds for the next one.
#[tokio::test]
async fn a_reload_does_not_touch_the_run_that_is_active() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let mut daemon = shop.start().await?;
    shop.hooks.hold("/prepare");
    shop.break_api();
    shop.step("prepare", StepStateView::Applying).await?;
    shop.configure(Sketch { plan: &PLAN.replace("/switch", "/other"), ..Sketch::default() })?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_log(SOON, "configuration reloaded").await?;
    shop.hooks.release("/prepare");
    assert_eq!(shop.ended().await?.result, Some(RunResult::Done));
    assert_eq!((shop.hooks.seen_at("/switch"), shop.hooks.seen_at("/other")), (1, 0));
    Ok(())
}

#[tokio::test]
async fn usr1_carries_out_the_named_scenario_and_nothing_else() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let mut daemon = shop.start().await?;
    daemon.signal(Signal::USR1)?;
    daemon.wait_log(SOON, "SIGUSR1: daemon.manual_scenario is not set").await?;
    let named = Sketch { daemon: "manual_scenario = \"outage\"", ..Sketch::default() };
    shop.configure(named)?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_log(SOON, "configuration reloaded").await?;
    assert_eq!(shop.client()?.runs().await?.len(), 0);
    daemon.signal(Signal::USR1)?;
    let run = shop.ended().await?;
    assert_eq!((run.trigger.as_str(), run.result), ("by hand: signal SIGUSR1", Some(RunResult::Done)));
    shop.ok(&["pause"]).await?;
    daemon.signal(Signal::USR1)?;
    daemon.wait_log(SOON, "SIGUSR1: refused: paused by root").await?;
    let commands = shop.commands()?;
    let by_signal: Vec<&str> =
        commands.iter().filter(|(by, ..)| by == "signal SIGUSR1").map(|(.., result)| result.as_str()).collect();
    assert_eq!(by_signal.len(), 3, "{commands:?}");
    assert!(by_signal[0].starts_with("refused") && by_signal[2].starts_with("refused: paused"), "{by_signal:?}");
    Ok(())
}

#[tokio::test]
async fn usr2_pauses_and_resumes() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let mut daemon = shop.start().await?;
    daemon.signal(Signal::USR2)?;
    shop.sees("the pause", |status| status.paused_by.as_deref() == Some("signal SIGUSR2")).await?;
    shop.break_api();
    shop.told("holds: paused by signal SIGUSR2").await?;
    assert_eq!(shop.hooks.requests(), 0);
    daemon.signal(Signal::USR2)?;
    assert_eq!(shop.ended().await?.result, Some(RunResult::Done));
    // Ctrl-C ends it as TERM does.
    daemon.signal(Signal::INT)?;
    assert!(daemon.wait_exit(SOON).await?.success());
    assert!(!shop.socket().exists(), "the socket is left behind");
    Ok(())
}

/// TERM in the middle of a step: what is out is waited for and written down; the next start goes on.
#[tokio::test]
async fn term_in_the_middle_of_a_step_leaves_the_rest_to_the_next_start() -> Result<()> {
    // Far more than the test has: it leaves because the outcome is written down, not by the clock.
    let shop = Shop::open(Sketch { daemon: "shutdown_grace = \"10m\"", ..Sketch::default() }).await?;
    let mut daemon = shop.start().await?;
    shop.hooks.hold("/prepare");
    shop.break_api();
    let run = shop.step("prepare", StepStateView::Applying).await?;
    daemon.signal(Signal::TERM)?;
    daemon.wait_log(SOON, "a run that is active goes on after the next start").await?;
    assert!(daemon.is_running(), "it waits for the call that is out");
    shop.hooks.release("/prepare");
    assert!(daemon.wait_exit(SOON).await?.success());
    let applied = shop.journal()?.into_iter().any(|record| {
        matches!(record.entry, Entry::StepApplied { step, outcome, .. }
            if step.as_str() == "prepare" && matches!(outcome, Applied::Accepted { .. }))
    });
    assert!(applied, "the outcome was not written down");
    assert_eq!(shop.hooks.seen_at("/switch"), 0, "a step was begun while it ended");

    let _daemon = shop.up_again().await?;
    let after = shop.ended().await?;
    assert_eq!((after.id, after.result), (run.id, Some(RunResult::Done)));
    assert_eq!((shop.hooks.seen_at("/prepare"), shop.hooks.seen_at("/switch")), (1, 1));
    shop.told("goes on after a restart").await
}

/// The grace is over before the call is: it leaves all the same, and the call counts as unknown.
#[tokio::test]
async fn term_does_not_wait_longer_than_its_grace() -> Result<()> {
    let once = PLAN.replace("\"HOOKS/prepare\", idempotent = true", "\"HOOKS/prepare\", idempotent = false");
    let sketch = Sketch { daemon: "shutdown_grace = \"300ms\"", plan: &once, ..Sketch::default() };
    let shop = Shop::open(sketch).await?;
    let mut daemon = shop.start().await?;
    shop.hooks.hold("/prepare");
    shop.break_api();
    shop.step("prepare", StepStateView::Applying).await?;
    stop(&mut daemon).await?;
    shop.hooks.release("/prepare");
    let _daemon = shop.up_again().await?;
    let run = shop.step("prepare", StepStateView::Parked).await?;
    has(&run.steps[0].detail, &["not known whether it was done", "must not be done twice"]);
    assert_eq!(state_of(&run, "switch"), Some(StepStateView::Pending));
    assert_eq!(shop.hooks.seen_at("/prepare"), 1);
    Ok(())
}

/// Whoever asks twice does not want to wait.
#[tokio::test]
async fn a_second_term_does_not_wait() -> Result<()> {
    let shop = Shop::open(Sketch { daemon: "shutdown_grace = \"10m\"", ..Sketch::default() }).await?;
    let mut daemon = shop.start().await?;
    shop.hooks.hold("/prepare");
    shop.break_api();
    shop.step("prepare", StepStateView::Applying).await?;
    daemon.signal(Signal::TERM)?;
    daemon.wait_log(SOON, "a run that is active goes on after the next start").await?;
    has(&shop.fails(3, &["failover", "outage", "--yes"]).await?, &["is active"]);
    daemon.signal(Signal::TERM)?;
    assert!(daemon.wait_exit(SOON).await?.success());
    has(&daemon.stderr(), &["asked to end twice"]);
    Ok(())
}
