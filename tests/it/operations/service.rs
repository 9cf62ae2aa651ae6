//! What the service manager hears, over a real notify socket.

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::shop::{SOON, Shop, Sketch, stop};
use crate::fleet::eventually;
use crate::fleet::process::NotifySocket;

fn count(socket: &mut NotifySocket, line: &str) -> usize {
    socket.received().iter().filter(|one| *one == line).count()
}

async fn more(socket: &mut NotifySocket, line: &str, than: usize) -> Result<()> {
    eventually(SOON, &format!("more than {than} times {line}"), async || {
        ensure!(count(socket, line) > than, "{:?}", socket.received());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_service_manager_hears_each_turn() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let mut socket = NotifySocket::open()?;
    let daemon = shop.verb(&["run"]).envs(socket.env()).env("WATCHDOG_USEC", "400000").start()?;
    let mut daemon = shop.up(daemon).await?;
    socket.wait_for(SOON, "READY=1").await?;
    let status = socket.wait_for(SOON, "STATUS=watching 2 probes, mode auto, 0 open incidents, no run").await?;
    assert!(!status.is_empty());
    more(&mut socket, "WATCHDOG=1", 2).await?;

    shop.break_api();
    socket.wait_for(SOON, "STATUS=watching 2 probes, mode auto, 1 open incidents, run RUN-").await?;
    let ready = count(&mut socket, "READY=1");
    daemon.signal(Signal::HUP)?;
    socket.wait_for(SOON, "RELOADING=1").await?;
    let at: u64 = socket.wait_for(SOON, "MONOTONIC_USEC=").await?.trim_start_matches("MONOTONIC_USEC=").parse()?;
    assert!(at > 0);
    more(&mut socket, "READY=1", ready).await?;
    // A reload that is refused ends as well: systemd waits for it.
    std::fs::write(shop.config(), "[daemon]\nnmae = \"shop\"\n")?;
    let ready = count(&mut socket, "READY=1");
    daemon.signal(Signal::HUP)?;
    more(&mut socket, "READY=1", ready).await?;
    daemon.wait_log(SOON, "was not reloaded").await?;
    stop(&mut daemon).await?;
    socket.wait_for(SOON, "STOPPING=1").await?;
    Ok(())
}

/// The watchdog is fed by the loop: a daemon that stands still is not fed.
#[tokio::test]
async fn a_daemon_that_stands_still_is_not_fed() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let mut socket = NotifySocket::open()?;
    let daemon = shop.verb(&["run"]).envs(socket.env()).env("WATCHDOG_USEC", "400000").start()?;
    let mut daemon = shop.up(daemon).await?;
    more(&mut socket, "WATCHDOG=1", 0).await?;
    daemon.signal(Signal::STOP)?;
    let stat = format!("/proc/{}/stat", daemon.pid());
    eventually(SOON, "the daemon to stand still", async || {
        ensure!(std::fs::read_to_string(&stat)?.contains(") T "), "it runs");
        Ok(())
    })
    .await?;
    let fed = count(&mut socket, "WATCHDOG=1");
    // There is nothing to poll for: that nothing comes shows in time only, here ten meals' worth.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(count(&mut socket, "WATCHDOG=1"), fed);
    daemon.signal(Signal::CONT)?;
    more(&mut socket, "WATCHDOG=1", fed).await?;
    // It noticed that it stood still, and forgot what it believed.
    daemon.wait_log(SOON, "we stood still").await?;
    stop(&mut daemon).await
}
