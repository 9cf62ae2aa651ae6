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

/// As under `systemd/failoverd.service`, whose sandbox it has to live in.
const UNDER_SYSTEMD: &str = r#"
[daemon]
name = "shop"
[defaults.probe]
interval = "200ms"
[probes.metrics]
http = { url = "http://127.0.0.1:9464/healthz" }
[scenarios.outage]
severity = "P0"
when = "metrics is down"
confirm_for = "30s"
rto = "5m"
"#;

/// What is asked inside, one answer a line.
const CHECK: &str = r#"
echo booted
failoverd() { /usr/bin/failoverd-under-test "$@"; }
show() { systemctl show failoverd --property="$1" --value; }
until_is() { for _ in $(seq 200); do [ "$(show "$1")" = "$2" ] && return; sleep 0.05; done; }
echo "first: $(show ActiveState), $(show StatusText)"
for _ in $(seq 50); do failoverd status 2>&1 | grep -q 'metrics .* up ' && break; sleep 0.05; done
echo "status: $(failoverd status | grep -o 'metrics.*up')"
echo "owner: $(stat -c '%U %a' /var/lib/failoverd/state.db) $(stat -c '%U %a' /run/failoverd/failoverd.sock)"
systemctl reload failoverd
until_is ActiveState active
echo "reloaded: $(show ActiveState) restarts=$(show NRestarts)"
kill -STOP "$(show MainPID)"
until_is NRestarts 1
until_is ActiveState active
echo "watchdog: $(show ActiveState) restarts=$(show NRestarts)"
systemctl stop failoverd
echo "stopped: $(show ActiveState) $(show Result)"
echo '[demon]' >> /etc/failoverd/failoverd.toml
systemctl start failoverd || true
echo "wrong: $(show ActiveState) exit=$(show ExecMainStatus)"
journalctl --sync || true
journalctl --unit=failoverd --output=cat --no-pager | grep -e 'did not end by itself' -e 'demon' -e 'configuration reloaded' | sed 's/^/log: /'
"#;

/// The real daemon under the real unit and a real systemd, in namespaces of its own.
#[test]
fn the_daemon_lives_under_its_unit() -> Result<()> {
    let work = tempfile::tempdir()?;
    std::fs::write(work.path().join("check.sh"), CHECK)?;
    std::fs::write(work.path().join("failoverd.toml"), UNDER_SYSTEMD)?;
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let booted = std::process::Command::new("timeout")
        .args(["--signal=KILL", "90", "sh"])
        .arg(here.join("tests/it/systemd_boot.sh"))
        .arg(work.path())
        .arg(here.join("systemd"))
        .args([super::shop::BINARY, "run --config /etc/failoverd/failoverd.toml"])
        .output()?;
    let said = std::fs::read_to_string(work.path().join("said")).unwrap_or_default();
    ensure!(said.starts_with("booted"), "no systemd: {}", String::from_utf8_lossy(&booted.stderr));
    super::shop::has(
        &said,
        &[
            "first: active, watching 1 probes, mode approve",
            "status: metrics",
            "owner: failoverd 600 failoverd 666",
            "reloaded: active restarts=0",
            "watchdog: active restarts=1",
            "stopped: inactive success",
            // Only a person can mend a wrong configuration: it is not tried again and again.
            "wrong: failed exit=2",
            "configuration reloaded",
            "the last daemon on this state did not end by itself",
            "unknown key `demon`",
        ],
    );
    Ok(())
}
