//! Files that others may write: refused at the start and at a reload, with the command that mends them.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::shop::{SOON, Shop, Sketch, has, stop};

fn mode(path: &Path, mode: u32) -> Result<()> {
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

async fn open() -> Result<Shop> {
    let shop = Shop::open(Sketch::default()).await?;
    let secret = shop.dir().join("secrets/token");
    std::fs::create_dir(shop.dir().join("secrets"))?;
    std::fs::write(&secret, "hook-token\n")?;
    mode(&secret, 0o600)?;
    let more = format!(
        "[notify.second]\nwebhook = {{ url = \"HOOKS/second\", headers = {{ authorization = {{ file = \"{}\" }} }} }}\n",
        secret.display()
    );
    shop.configure(Sketch { more: &more, ..Sketch::default() })?;
    Ok(shop)
}

#[tokio::test]
async fn the_daemon_neither_starts_nor_reloads_with_what_others_may_write() -> Result<()> {
    let shop = open().await?;
    let secret = shop.dir().join("secrets/token");
    let state = shop.dir().join("state");
    for (path, good, bad) in [
        (shop.config(), 0o644, 0o646),
        (secret.clone(), 0o600, 0o622),
        (state, 0o700, 0o777),
        (shop.dir().join("secrets"), 0o755, 0o777),
    ] {
        mode(&path, bad)?;
        let shown = path.display().to_string();
        for verb in ["check", "run"] {
            let done = shop.run(&[verb]).await?;
            ensure!(done.status.code() == Some(2), "{verb} {shown}: {done:?}");
            // Lines are broken to the width of a page.
            let said = [done.stdout, done.stderr].concat();
            let words = said.split_whitespace().filter(|word| *word != "│");
            let said = words.collect::<Vec<_>>().join(" ");
            has(&said, &["writable_by_all", &format!("(mode {bad:04o}, uid 0)"), "chmod "]);
        }
        mode(&path, good)?;
    }
    let mut daemon = shop.start().await?;
    mode(&secret, 0o666)?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_log(SOON, "was not reloaded").await?;
    has(&daemon.stderr(), &["everybody may write it", &format!("chmod 0600 {}", secret.display())]);
    mode(&secret, 0o600)?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_log(SOON, "configuration reloaded").await?;
    stop(&mut daemon).await
}

/// Whoever owns a file may write it. The one who checks need not be the one who runs it.
#[tokio::test]
async fn a_file_of_another_user_is_refused_by_the_daemon_and_told_by_a_check() -> Result<()> {
    let shop = open().await?;
    chown(shop.config(), Some(4242), None)?;
    let done = shop.run(&["run"]).await?;
    ensure!(done.status.code() == Some(2), "{done:?}");
    has(&done.stderr, &["foreign_owner", "belongs to uid 4242", "chown -h root"]);
    let faults = shop.json(&["check"]).await?["faults"].clone();
    ensure!(faults[0]["code"] == "foreign_owner" && faults[0]["level"] == "warning", "{faults:#}");
    Ok(())
}
