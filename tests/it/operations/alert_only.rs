//! Everything but acting: by the configuration, by the flag, at run time.

use anyhow::Result;
use failoverd::model::{Decision, RunResult};

use super::shop::{Shop, Sketch, has, stop};

/// It tells what it would do, and nobody can make it do it.
async fn only_alerts(shop: &Shop) -> Result<()> {
    shop.break_api();
    let incident = shop.incident("the alert", |incident| incident.decision == Some(Decision::Alert)).await?;
    shop.told("alert-only, it would act now").await?;
    has(&shop.fails(3, &["failover", "outage", "--yes"]).await?, &["alert-only"]);
    has(&shop.ok(&["approve", incident.id.as_str()]).await?, &["not started yet: alert only"]);
    assert_eq!((shop.hooks.requests(), shop.client()?.runs().await?.len()), (0, 0));
    has(&shop.ok(&["explain"]).await?, &["It never acts in mode alert-only"]);
    Ok(())
}

#[tokio::test]
async fn by_the_configuration() -> Result<()> {
    let shop = Shop::open(Sketch { mode: "alert-only", ..Sketch::default() }).await?;
    let _daemon = shop.start().await?;
    only_alerts(&shop).await
}

#[tokio::test]
async fn by_the_flag_which_nothing_loosens() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let mut daemon = shop.up(shop.verb(&["run", "--alert-only"]).start()?).await?;
    has(&shop.ok(&["status"]).await?, &["mode alert-only"]);
    shop.ok(&["mode", "auto"]).await?;
    only_alerts(&shop).await?;
    daemon.signal(rustix::process::Signal::HUP)?;
    daemon.wait_log(super::shop::SOON, "configuration reloaded").await?;
    has(&shop.fails(3, &["failover", "outage", "--yes"]).await?, &["alert-only"]);
    stop(&mut daemon).await?;
    assert_eq!(shop.hooks.requests(), 0);
    Ok(())
}

/// A mode that was set outlives the daemon, until it is given back.
#[tokio::test]
async fn at_run_time() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let mut daemon = shop.start().await?;
    has(&shop.ok(&["mode", "alert-only"]).await?, &["mode is alert-only"]);
    stop(&mut daemon).await?;
    let _daemon = shop.start().await?;
    has(&shop.ok(&["status"]).await?, &["mode alert-only, set by root (uid 0)"]);
    only_alerts(&shop).await?;
    has(&shop.ok(&["mode", "config"]).await?, &["the configuration's again: auto"]);
    assert_eq!(shop.ended().await?.result, Some(RunResult::Done));
    Ok(())
}
