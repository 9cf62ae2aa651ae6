//! `failoverd readiness` on a running daemon.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};

use super::shop::{SOON, Shop, Sketch, has, stop};
use crate::fleet::eventually;

fn script(shop: &Shop, text: &str) -> Result<()> {
    let path = shop.dir().join("prepare.sh");
    std::fs::write(&path, text)?;
    Ok(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?)
}

/// The shop's plan, with a program in the place of its first request.
fn plan(shop: &Shop) -> String {
    let program = format!("exec.run = {{ argv = [\"{}/prepare.sh\"], idempotent = true }}", shop.dir().display());
    super::shop::PLAN.replace("http.request = { url = \"HOOKS/prepare\", idempotent = true }", &program)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_looks_tells_once_and_shows_what_drifted_also_after_a_restart() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    shop.configure(Sketch { plan: &plan(&shop), ..Sketch::default() })?;
    script(&shop, "#!/bin/sh\n")?;
    let mut daemon = shop.start().await?;
    shop.fails(6, &["readiness"]).await?;
    let text = shop.ok(&["readiness", "--now"]).await?;
    has(&text, &["failover  ready", "prepare", "prepare.sh", "switch", "serves", "probe backup"]);

    std::fs::remove_file(shop.dir().join("prepare.sh"))?;
    for _ in 0..2 {
        shop.fails(5, &["readiness", "failover", "--now"]).await?;
    }
    shop.told("plan failover is not ready: prepare: ").await?;
    let told = shop.notices().iter().filter(|subject| subject.contains("not ready")).count();
    ensure!(told == 1, "told {told} times");
    has(&shop.ok(&["status"]).await?, &["plan failover: NOT READY", "prepare.sh"]);
    eventually(SOON, "the metrics", async || {
        let (_, metrics) = shop.get("/metrics").await?;
        for line in [
            "failoverd_readiness{plan=\"failover\",verdict=\"not_ready\"} 1",
            "failoverd_readiness{plan=\"failover\",verdict=\"ready\"} 0",
            "failoverd_readiness_findings{plan=\"failover\",verdict=\"not_ready\"} 1",
        ] {
            ensure!(metrics.contains(line), "{line}:\n{metrics}");
        }
        Ok(())
    })
    .await?;
    stop(&mut daemon).await?;

    // The last good evaluation, and that people know, outlive the daemon.
    let mut daemon = shop.start().await?;
    let done = shop.run(&["readiness", "--now"]).await?;
    ensure!(done.status.code() == Some(5), "{done:?}");
    has(&done.stdout, &["NOT READY", "Different from", "- prepare: ", "prepare.sh: bytes: 10"]);
    let local = shop.run(&["readiness", "--local"]).await?;
    ensure!(local.status.code() == Some(5), "{local:?}");
    has(&local.stdout, &["- prepare: ", "the daemon's probe backup tells"]);
    script(&shop, "#!/bin/sh\nexit 0\n")?;
    has(&shop.ok(&["readiness", "--now"]).await?, &["failover  ready", "+ prepare: ", "bytes: 17"]);
    shop.told("plan failover is ready again").await?;
    let told = shop.notices().iter().filter(|subject| subject.contains("not ready")).count();
    ensure!(told == 1, "told {told} times");
    ensure!(shop.hooks.seen().is_empty(), "a request was made: {:?}", shop.hooks.seen());
    let json = shop.json(&["readiness", "failover"]).await?;
    ensure!(
        json[0]["verdict"] == "ready" && json[0]["steps"][0]["looked"]["found"][0]["aspect"] == "exists",
        "{json:#}"
    );
    stop(&mut daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_looks_by_itself_after_the_start_and_after_a_reload() -> Result<()> {
    let mut shop = Shop::open(Sketch::default()).await?;
    shop.set_env("FAILOVERD__READINESS__EVERY", "1h");
    let mut daemon = shop.start().await?;
    shop.sees("the first look", |status| status.readiness.iter().any(|plan| plan.verdict.name() == "ready")).await?;
    let other = super::shop::PLAN.replace("HOOKS/switch", "http://127.0.0.1:9/switch");
    shop.configure(Sketch { plan: &other, ..Sketch::default() })?;
    daemon.signal(rustix::process::Signal::HUP)?;
    shop.sees("the look at the new plan", |status| {
        status.readiness.iter().any(|plan| plan.verdict.reason().contains("does not serve"))
    })
    .await
    .map(drop)
}
