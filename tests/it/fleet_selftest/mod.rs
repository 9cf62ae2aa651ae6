//! The fleet itself: every counterpart is as real as the tests that lean on it believe.

mod aws;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::fleet::dns::Dns;
use crate::fleet::http_app::{Answer, HttpApp, LocalApp};
use crate::fleet::postgres::{self, PgOptions, Postgres, StandbyOptions};
use crate::fleet::process::{Failoverd, NotifySocket};
use crate::fleet::prometheus::Prometheus;
use crate::fleet::proxy::{Mode, Proxy};
use crate::fleet::redis::{Redis, RedisOptions};
use crate::fleet::{child, eventually, http, port, scratch_dir};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn waiting_names_what_it_waited_for_and_why_it_failed() {
    let wait =
        eventually::<()>(Duration::from_millis(20), "the moon", async || anyhow::bail!("it is below the horizon"));
    let error = format!("{:#}", wait.await.unwrap_err());
    assert_eq!(error, "waited 20ms for the moon: it is below the horizon");
}

#[tokio::test]
async fn a_child_that_ends_early_shows_its_last_words() -> Result<()> {
    let dir = scratch_dir("words")?;
    let mut sh = child::command("sh");
    sh.args(["-c", "echo no such page in the atlas >&2; exit 3"]);
    let mut proc = child::Proc::start("sh", sh, &dir.path().join("log"))?;
    let wait = proc.ready::<()>(SOON, "an answer", async || anyhow::bail!("none"));
    let error = format!("{:#}", wait.await.unwrap_err());
    assert!(error.contains("exit status: 3"), "{error}");
    assert!(error.contains("no such page in the atlas"), "{error}");
    Ok(())
}

#[tokio::test]
async fn killing_a_child_takes_what_it_started_along() -> Result<()> {
    let dir = scratch_dir("tree")?;
    let (log, pidfile) = (dir.path().join("log"), dir.path().join("pid"));
    let mut sh = child::command("sh");
    // `setsid` leaves the process group, as PostgreSQL's processes do.
    sh.arg("-c").arg(format!("setsid sleep 600 & echo $! > {}; wait", pidfile.display()));
    let mut proc = child::Proc::start("sh", sh, &log)?;
    let grandchild = eventually(SOON, "the grandchild", async || {
        let pid: u32 = std::fs::read_to_string(&pidfile)?.trim().parse()?;
        let cmdline = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
        ensure!(cmdline.starts_with("sleep"), "it is {cmdline:?}");
        Ok(pid)
    })
    .await?;
    proc.kill9();
    eventually(SOON, "the grandchild to be gone", async || {
        // Whoever inherits it may reap it late; a zombie runs no more.
        let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
        ensure!(stat.is_err() || stat.is_ok_and(|s| s.contains(") Z ")));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_synchronous_standby_has_every_commit_when_the_primary_loses_power() -> Result<()> {
    let mut primary = Postgres::primary(PgOptions::default()).await?;
    let standby = primary.standby(StandbyOptions { synchronous: true, ..Default::default() }).await?;
    primary.sql("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2)").await?;
    primary.kill9();
    assert!(primary.sql("SELECT 1").await.is_err());
    assert!(standby.is_in_recovery().await?);
    let refused = standby.sql("INSERT INTO orders VALUES (3)").await;
    assert!(format!("{:#}", refused.unwrap_err()).contains("read-only"));

    standby.promote().await?;
    assert!(!standby.is_in_recovery().await?);
    standby.sql("INSERT INTO orders VALUES (3)").await?;
    assert_eq!(standby.value("SELECT count(*) FROM orders").await?, "3");

    primary.restart().await?;
    assert!(!primary.is_in_recovery().await?, "the old one thinks so too");
    assert_eq!(primary.system_identifier().await?, standby.system_identifier().await?);
    Ok(())
}

#[tokio::test]
async fn a_stopped_postgres_hangs_and_an_unrelated_one_is_another_system() -> Result<()> {
    let mut one = Postgres::primary(PgOptions::default()).await?;
    let other = Postgres::primary(PgOptions::default()).await?;
    assert_ne!(one.system_identifier().await?, other.system_identifier().await?);
    one.sigstop()?;
    let hung = tokio::time::timeout(Duration::from_millis(300), one.sql("SELECT 1")).await;
    assert!(hung.is_err(), "a stopped server answered");
    one.sigcont()?;
    one.sql("SELECT 1").await?;
    one.stop().await?;
    assert!(one.sql("SELECT 1").await.is_err());
    one.restart().await?;
    let wrong = one.url().replace(postgres::PASSWORD, "guess");
    let refused = postgres::query(&wrong, "SELECT 1").await.unwrap_err();
    assert!(format!("{refused:?}").contains("password authentication failed"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn redis_replicates_and_a_replica_can_be_promoted() -> Result<()> {
    let options = RedisOptions { password: Some("redis-s3cret".into()), ..Default::default() };
    let mut primary = Redis::primary(options).await?;
    let replica = primary.replica().await?;
    assert_eq!(primary.role().await?, "master");
    assert_eq!(replica.role().await?, "slave");
    let () = primary.call(&["SET", "cart", "3"]).await?;
    eventually(SOON, "the write to arrive", async || {
        let value: Option<String> = replica.call(&["GET", "cart"]).await?;
        ensure!(value.as_deref() == Some("3"), "it is {value:?}");
        Ok(())
    })
    .await?;
    primary.kill9();
    assert!(primary.role().await.is_err());
    let () = replica.call(&["REPLICAOF", "NO", "ONE"]).await?;
    let () = replica.call(&["SET", "cart", "4"]).await?;
    primary.restart().await?;
    assert_eq!(primary.role().await?, "master");
    Ok(())
}

#[tokio::test]
async fn named_serves_its_zone_and_takes_signed_updates() -> Result<()> {
    let mut dns = Dns::start("shop.example", &["api 60 IN A 127.0.0.1"]).await?;
    let (stale, secondary) = tokio::try_join!(dns.secondary(3600), dns.secondary(1))?;
    assert_eq!(dns.dig("api.shop.example", "A").await?, ["127.0.0.1"]);
    dns.update(&["update delete api.shop.example A", "update add api.shop.example 60 A 127.0.0.2"]).await?;
    assert_eq!(dns.dig("api.shop.example", "A").await?, ["127.0.0.2"]);
    assert_eq!(stale.dig("api.shop.example", "A").await?, ["127.0.0.1"]);
    eventually(SOON, "the secondary to learn it", async || {
        let seen = secondary.dig("api.shop.example", "A").await?;
        ensure!(seen == ["127.0.0.2"], "it says {seen:?}");
        Ok(())
    })
    .await?;
    dns.kill9();
    assert!(dns.dig("api.shop.example", "A").await.is_err());
    dns.restart().await?;
    assert_eq!(dns.dig("api.shop.example", "A").await?, ["127.0.0.2"]);
    Ok(())
}

#[tokio::test]
async fn an_application_dies_hangs_and_misbehaves_as_told() -> Result<()> {
    let mut app = HttpApp::start("us-east-1").await?;
    let get = async |url: String| http().get(url).send().await;
    let body: serde_json::Value = get(app.url()).await?.json().await?;
    assert_eq!(body, json!({"status": "ok", "region": "us-east-1"}));
    app.answer(503, "overloaded").await?;
    let answer = get(app.url()).await?;
    assert_eq!((answer.status().as_u16(), answer.text().await?.as_str()), (503, "overloaded"));
    app.heal().await?;
    assert_eq!(app.requests().await?, 2);
    app.sigstop()?;
    let hung = tokio::time::timeout(Duration::from_millis(200), get(app.url())).await;
    assert!(hung.is_err(), "a stopped application answered");
    app.sigcont()?;
    app.kill9();
    assert!(get(app.url()).await.unwrap_err().is_connect());

    let local = LocalApp::start("us-west-2").await?;
    assert_eq!(get(local.url()).await?.status(), 200);
    local.set(Some(Answer { status: 500, body: String::new(), delay: Duration::ZERO }));
    assert_eq!(get(local.url()).await?.status(), 500);
    assert_eq!(local.requests(), 2);
    Ok(())
}

#[tokio::test]
async fn the_proxy_breaks_connections_in_each_of_its_ways() -> Result<()> {
    let app = LocalApp::start("us-east-1").await?;
    let proxy = Proxy::to_port(app.port()).await?;
    let url = format!("http://{}/health", proxy.addr());
    let get = async || http().get(&url).send().await?.bytes().await;
    let hangs = async || tokio::time::timeout(Duration::from_millis(200), http().get(&url).send()).await;
    assert!(get().await.is_ok());

    proxy.set(Mode::Latency(Duration::from_millis(60))).await?;
    let started = Instant::now();
    assert!(get().await.is_ok());
    assert!(started.elapsed() >= Duration::from_millis(120), "both ways");

    proxy.set(Mode::Reset).await?;
    assert!(get().await.is_err());
    proxy.set(Mode::Refuse).await?;
    assert!(get().await.unwrap_err().is_connect());

    proxy.set(Mode::Blackhole).await?;
    let before = app.requests();
    assert!(hangs().await.is_err());
    assert_eq!(app.requests(), before, "nothing arrives");
    // What its client has given up on is not delivered when the black hole ends, either.
    proxy.set(Mode::LoseAnswers).await?;
    assert!(hangs().await.is_err());
    assert_eq!(app.requests(), before + 1, "the request arrives");

    proxy.set(Mode::DropAfter(20)).await?;
    assert!(get().await.is_err());
    proxy.set(Mode::Drip).await?;
    assert!(hangs().await.is_err());
    proxy.set(Mode::Pass).await?;
    assert!(get().await.is_ok());
    Ok(())
}

#[tokio::test]
async fn a_mode_applies_to_open_connections_too() -> Result<()> {
    let primary = Postgres::primary(PgOptions::default()).await?;
    let proxy = Proxy::to_port(primary.port()).await?;
    let standby = primary.standby(StandbyOptions { through: Some(proxy.port()), ..Default::default() }).await?;
    proxy.set(Mode::Blackhole).await?;
    primary.sql("CREATE TABLE late (id int)").await?;
    let seen = "SELECT count(*) FROM pg_class WHERE relname = 'late'";
    assert_eq!(standby.value(seen).await?, "0", "the partition leaks");
    proxy.set(Mode::Pass).await?;
    eventually(SOON, "the standby to catch up", async || {
        ensure!(standby.value(seen).await? == "1", "not yet");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn prometheus_scrapes_its_target() -> Result<()> {
    let target = LocalApp::start("us-east-1").await?;
    target.set(Some(Answer { status: 200, body: "failoverd_up 1\n".into(), delay: Duration::ZERO }));
    let prometheus = Prometheus::start(&format!("127.0.0.1:{}", target.port()), None).await?;
    prometheus.wait_for(SOON, "failoverd_up", |v| v == 1.0).await?;
    target.set(None);
    prometheus.wait_for(SOON, "up", |v| v == 0.0).await?;
    Ok(())
}

#[tokio::test]
async fn notifications_arrive_in_order() -> Result<()> {
    let mut socket = NotifySocket::open()?;
    let sender = std::os::unix::net::UnixDatagram::unbound()?;
    let [(_, path)] = socket.env();
    sender.send_to(b"READY=1\nSTATUS=watching", &path)?;
    sender.send_to(b"WATCHDOG=1", &path)?;
    socket.wait_for(SOON, "WATCHDOG=").await?;
    assert_eq!(socket.received(), ["READY=1", "STATUS=watching", "WATCHDOG=1"]);
    Ok(())
}

#[tokio::test]
async fn a_process_is_run_watched_and_ended() -> Result<()> {
    let sh = |script: &str| Failoverd::new("sh").args(["-c", script]);
    let done = sh("echo out; echo err >&2; exit 2").run(SOON).await?;
    assert_eq!((done.status.code(), done.stdout.as_str(), done.stderr.as_str()), (Some(2), "out\n", "err\n"));

    let mut running =
        sh("trap 'echo leaving >&2; exit 0' TERM; echo begun >&2; while :; do sleep 0.01; done").start()?;
    running.wait_log(SOON, "begun").await?;
    assert!(running.is_running() && running.rss()? > 0);
    assert!(running.terminate(SOON).await?.success());
    assert_eq!(running.stderr(), "begun\nleaving\n");

    let mut killed = sh("sleep 600").start()?;
    killed.kill9();
    assert_eq!(killed.wait_exit(SOON).await?.code(), None);
    Ok(())
}

#[test]
fn ports_differ() -> Result<()> {
    let ports = [port()?, port()?, port()?];
    assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
    Ok(())
}
