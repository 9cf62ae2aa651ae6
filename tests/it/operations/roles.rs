//! Who may do what, by the kernel's word, with real users.

use anyhow::{Result, ensure};

use super::shop::{BINARY, SOON, Shop, Sketch, has};
use crate::fleet::eventually;
use crate::fleet::process::{Failoverd, Finished};

/// The user that other people are played by.
const OTHER: &str = "65534";

/// A verb as another user.
async fn other(shop: &Shop, args: &[&str]) -> Result<Finished> {
    Failoverd::new("setpriv")
        .args([&format!("--reuid={OTHER}"), &format!("--regid={OTHER}"), "--clear-groups", BINARY])
        .args(args)
        .arg("--socket")
        .arg(shop.socket())
        .run(SOON)
        .await
}

/// A refusal is in the journal a moment after it was told.
async fn written_down(shop: &Shop, what: &str) -> Result<()> {
    eventually(SOON, &format!("the audit of {what}"), async || {
        let commands = shop.commands()?;
        let refused = commands.iter().any(|(by, command, result)| {
            by == "nobody (uid 65534)" && command.contains(what) && result.starts_with("refused")
        });
        ensure!(refused, "{commands:#?}");
        Ok(())
    })
    .await
}

async fn open(control: &str) -> Result<Shop> {
    use std::os::unix::fs::PermissionsExt;
    let shop = Shop::open(Sketch { more: control, ..Sketch::default() }).await?;
    // Anybody may come as far as the socket.
    std::fs::set_permissions(shop.dir(), std::fs::Permissions::from_mode(0o755))?;
    Ok(shop)
}

#[tokio::test]
async fn a_stranger_is_refused_and_written_down() -> Result<()> {
    assert!(rustix::process::geteuid().is_root(), "the tests become another user, which only root can");
    let shop = open("").await?;
    let _daemon = shop.start().await?;
    for verb in [vec!["status"], vec!["failover", "outage", "--yes"], vec!["abort"], vec!["pause"]] {
        let done = other(&shop, &verb).await?;
        assert_eq!(done.status.code(), Some(3), "{verb:?}: {done:?}");
        has(&done.stderr, &["nobody (uid 65534) is in no list of [control]"]);
    }
    for what in ["GET /v1/status", "POST /v1/command"] {
        written_down(&shop, what).await?;
    }
    assert_eq!((shop.client()?.runs().await?.len(), shop.hooks.requests()), (0, 0));
    Ok(())
}

#[tokio::test]
async fn each_role_may_what_it_may() -> Result<()> {
    assert!(rustix::process::geteuid().is_root(), "the tests become another user, which only root can");
    let shop = open("[control]\nviewers = [\"65534\"]\n").await?;
    let mut daemon = shop.start().await?;
    let exit = async |args: &[&str]| -> Result<Option<i32>> { Ok(other(&shop, args).await?.status.code()) };
    for look in [["status"].as_slice(), &["explain"], &["runs"], &["incidents"]] {
        assert_eq!(exit(look).await?, Some(0), "{look:?}");
    }
    let done = other(&shop, &["pause"]).await?;
    assert_eq!(done.status.code(), Some(3));
    has(&done.stderr, &["nobody (uid 65534) is viewer; this needs operator", "`operators` under [control]"]);
    written_down(&shop, "pause").await?;
    let (_, metrics) = shop.get("/metrics").await?;
    has(&metrics, &["failoverd_commands_total{command=\"pause\",result=\"forbidden\"} 1"]);

    shop.configure(Sketch { more: "[control]\noperators = [\"nobody\"]\n", ..Sketch::default() })?;
    daemon.signal(rustix::process::Signal::HUP)?;
    daemon.wait_log(SOON, "configuration reloaded").await?;
    assert_eq!(exit(&["pause"]).await?, Some(0));
    assert_eq!(exit(&["resume"]).await?, Some(0));
    assert_eq!(exit(&["mode", "alert-only"]).await?, Some(0));
    let done = other(&shop, &["mode", "auto"]).await?;
    has(&done.stderr, &["is operator; this needs approver"]);
    assert_eq!(exit(&["failover", "outage", "--yes"]).await?, Some(3));

    shop.configure(Sketch { more: "[control]\napprovers = [\"@nogroup\"]\n", ..Sketch::default() })?;
    daemon.signal(rustix::process::Signal::HUP)?;
    eventually(SOON, "the new role", async || {
        ensure!(exit(&["mode", "auto"]).await? == Some(0), "not yet");
        Ok(())
    })
    .await?;
    assert_eq!(exit(&["failover", "outage", "--yes"]).await?, Some(0));
    assert_eq!(shop.ended().await?.trigger, "by hand: nobody (uid 65534)");
    Ok(())
}
