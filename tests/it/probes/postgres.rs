use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use failoverd::model::{CauseKind, Health, Lag, Role};
use failoverd::probes::runner::{ProbeRunner, ProbeSpec, RunnerEvent};
use failoverd::probes::{attempt, build};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{LONG, SHORT, assert_falls_silent, assert_saw, context, facts, kind, look, probe};
use crate::fleet::eventually;
use crate::fleet::postgres::{PASSWORD, PgOptions, Postgres, StandbyOptions};
use crate::fleet::proxy::{Mode, Proxy};

/// A server that recovers from a crash replays its own log, as a standby does its primary's; where it was
/// promoted, and what it took over, it must not make of that.
#[tokio::test]
async fn a_promotion_is_told_until_the_server_is_started_anew_and_a_crash_is_none() -> Result<()> {
    let settings = vec![("track_commit_timestamp".to_owned(), "on".to_owned())];
    let mut primary = Postgres::primary(PgOptions { settings, durable: true }).await?;
    let mut standby = primary.standby(StandbyOptions::default()).await?;
    let ask = |server: &Postgres| probe(json!({ "postgres": { "url": server.url(), "expect": "primary" } }));
    primary.sql("CREATE TABLE t (i int)").await?;
    let before = facts(&ask(&primary)).await;
    assert_eq!(before.promoted_at, None);
    eventually(LONG, "the standby to have it", async || {
        let seen = look(&ask(&standby)).await;
        ensure!(seen.facts().is_some_and(|facts| facts.transaction == before.transaction), "{seen:?}");
        Ok(())
    })
    .await?;

    primary.kill9();
    primary.restart().await?;
    let crashed = facts(&ask(&primary)).await;
    assert_eq!(crashed.promoted_at, None, "it was promoted nowhere");
    assert_eq!((crashed.transaction, crashed.last_commit), (before.transaction, before.last_commit));
    ensure!(crashed.last_commit.is_some(), "what was committed last is told after a crash too");

    let received = look(&ask(&standby)).await.facts().and_then(|facts| facts.offset);
    standby.promote().await?;
    let promoted = facts(&ask(&standby)).await;
    ensure!(promoted.promoted_at.is_some() && promoted.promoted_at >= received, "{promoted:?}, {received:?}");
    assert_eq!(promoted.last_commit, before.last_commit, "the newest that it took over");
    standby.sql("CREATE TABLE mine (i int)").await?;
    assert_eq!(facts(&ask(&standby)).await.last_commit, before.last_commit, "and none of its own");
    standby.kill9();
    standby.restart().await?;
    assert_eq!(facts(&ask(&standby)).await.promoted_at, None, "unknown is better than wrong");
    Ok(())
}

#[tokio::test]
async fn roles_lag_and_synchronous_commit_are_told() -> Result<()> {
    let primary = Postgres::primary(PgOptions::default()).await?;
    let on_primary = probe(json!({ "postgres": { "url": primary.url(), "expect": "primary", "query": "SELECT 1" } }));
    let alone = facts(&on_primary).await;
    assert_eq!((alone.role, alone.streaming, alone.synchronous), (Some(Role::Primary), Some(false), Some(false)));
    assert_eq!(alone.cluster, Some(primary.system_identifier().await?));
    assert!(alone.offset.is_some_and(|lsn| lsn > 0) && alone.lag.is_none());

    let standby = primary.standby(StandbyOptions { synchronous: true, ..Default::default() }).await?;
    let both = facts(&on_primary).await;
    assert_eq!((both.streaming, both.synchronous), (Some(true), Some(true)));
    let on_standby = probe(
        json!({ "postgres": { "url": standby.url(), "expect": "replica", "max_lag": "10s", "max_lag_bytes": 0 } }),
    );
    eventually(LONG, "no lag", async || {
        let seen = look(&on_standby).await;
        ensure!(
            seen.facts().is_some_and(|facts| facts.lag == Some(Lag { time: Duration::ZERO, bytes: Some(0) })),
            "{seen:?}"
        );
        ensure!(seen.health() == Health::Up, "{seen:?}");
        Ok(())
    })
    .await?;
    assert_eq!(facts(&on_standby).await.cluster, alone.cluster);

    // Wrong way round.
    let wrong = probe(json!({ "postgres": { "url": standby.url(), "expect": "primary" } }));
    let seen = look(&wrong).await;
    assert_saw(&seen, Health::Down, CauseKind::WrongRole);
    assert_eq!(seen.facts().and_then(|facts| facts.role), Some(Role::Replica));

    // What is acknowledged without waiting for the standby is not synchronous.
    primary.sql("ALTER SYSTEM SET synchronous_commit = 'local'").await?;
    primary.sql("SELECT pg_reload_conf()").await?;
    eventually(LONG, "synchronous_commit to be off", async || {
        ensure!(facts(&on_primary).await.synchronous == Some(false));
        Ok(())
    })
    .await?;

    // Lag: received, not replayed.
    standby.sql("SELECT pg_wal_replay_pause()").await?;
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 1000)").await?;
    eventually(LONG, "lag", async || {
        let seen = look(&on_standby).await;
        let lag = seen.facts().and_then(|facts| facts.lag);
        ensure!(lag.is_some_and(|lag| lag.bytes > Some(0) && lag.time > Duration::ZERO), "{seen:?}");
        assert_saw(&seen, Health::Down, CauseKind::LagTooHigh);
        Ok(())
    })
    .await?;
    standby.sql("SELECT pg_wal_replay_resume()").await?;
    eventually(LONG, "no lag", async || {
        let seen = look(&on_standby).await;
        ensure!(seen.health() == Health::Up, "{seen:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_killed_primary_leaves_a_standby_that_is_up_with_unknown_lag() -> Result<()> {
    let mut primary = Postgres::primary(PgOptions::default()).await?;
    let standby = primary.standby(StandbyOptions::default()).await?;
    let on_primary = probe(json!({ "postgres": { "url": primary.url() } }));
    let on_standby = probe(json!({ "postgres": { "url": standby.url(), "max_lag": "1s", "max_lag_bytes": 0 } }));
    facts(&on_primary).await;
    facts(&on_standby).await;
    primary.kill9();
    assert_saw(&look(&on_primary).await, Health::Down, CauseKind::ConnectionRefused);
    eventually(LONG, "the stream to be seen broken", async || {
        let seen = facts(&on_standby).await;
        ensure!(seen.streaming == Some(false) && seen.lag.is_none(), "{seen:?}");
        Ok(())
    })
    .await?;
    standby.promote().await?;
    let promoted = facts(&on_standby).await;
    assert_eq!((promoted.role, promoted.lag), (Some(Role::Primary), None));

    // The kept connection does not hide that it stands again.
    primary.restart().await?;
    facts(&on_primary).await;
    Ok(())
}

/// What the replica hears tells a primary that only we do not reach from one that is gone; that it says
/// `streaming` does not.
#[tokio::test]
async fn a_replica_tells_when_it_last_heard_from_its_primary() -> Result<()> {
    let mut primary = Postgres::primary(PgOptions::default()).await?;
    let standby = primary.standby(StandbyOptions::default()).await?;
    let way = Proxy::to_port(primary.port()).await?;
    let on_primary = probe(json!({ "postgres": { "url": primary.url_through(way.port()) } }));
    let on_standby = probe(json!({ "postgres": { "url": standby.url() } }));
    assert_eq!(facts(&on_primary).await.last_message, None, "a primary follows nobody");

    way.set(Mode::Refuse).await?;
    assert_saw(&look(&on_primary).await, Health::Down, CauseKind::ConnectionRefused);
    let lost = Instant::now();
    eventually(LONG, "a message since then", async || {
        primary.sql("CREATE TABLE IF NOT EXISTS t (i int)").await?;
        primary.sql("INSERT INTO t VALUES (1)").await?;
        let asked = lost.elapsed();
        let seen = facts(&on_standby).await;
        ensure!(seen.streaming == Some(true) && seen.last_message.is_some_and(|age| age < asked), "{seen:?}");
        Ok(())
    })
    .await?;

    primary.sigstop()?;
    let stopped = Instant::now();
    let mut grown = 0;
    while grown < 3 {
        let since = stopped.elapsed();
        let seen = facts(&on_standby).await;
        assert_eq!(seen.streaming, Some(true), "it goes on saying so: {seen:?}");
        let age = seen.last_message.expect("an age");
        // SIGSTOP takes hold a little after kill(2) returned.
        grown += u32::from(age > Duration::from_secs(1) && age + Duration::from_millis(500) > since);
        assert!(since < LONG, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    primary.sigcont()
}

#[tokio::test]
async fn a_stopped_server_runs_into_the_deadline() -> Result<()> {
    let mut primary = Postgres::primary(PgOptions::default()).await?;
    let kept = probe(json!({ "postgres": { "url": primary.url() } }));
    facts(&kept).await;
    let fresh = probe(json!({ "postgres": { "url": primary.url() } }));
    primary.sigstop()?;
    for probe in [&kept, &fresh] {
        assert_falls_silent(probe).await;
    }
    primary.sigcont()?;
    facts(&kept).await;
    Ok(())
}

#[tokio::test]
async fn refused_credentials_say_nothing_of_the_server_and_are_read_anew() -> Result<()> {
    let primary = Postgres::primary(PgOptions::default()).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("url");
    let on_primary = probe(json!({ "postgres": { "url": { "file": file } } }));
    for (url, kind) in [
        (primary.url().replace(PASSWORD, "canary-wrong"), CauseKind::AuthenticationFailed),
        (primary.url().replace("/postgres?", "/canary-none?"), CauseKind::AuthenticationFailed),
        (primary.url().replace(&format!(":{PASSWORD}"), ""), CauseKind::AuthenticationFailed),
        ("canary-no-url".to_owned(), CauseKind::LocalCredentials),
    ] {
        std::fs::write(&file, &url)?;
        let seen = look(&on_primary).await;
        assert_saw(&seen, Health::Unknown, kind);
        let text = format!("{seen:?}");
        assert!(
            !text.contains(PASSWORD) && !text.contains("canary-wrong") && !text.contains("canary-no-url"),
            "{text}"
        );
    }
    std::fs::write(&file, primary.url())?;
    facts(&on_primary).await;

    // A user without the right to see replication does not say that there is none.
    primary.sql("CREATE ROLE plain LOGIN PASSWORD 'x' CONNECTION LIMIT 1").await?;
    std::fs::write(&file, format!("postgres://plain:x@127.0.0.1:{}/postgres", primary.port()))?;
    let _standby = primary.standby(StandbyOptions::default()).await?;
    let plain = probe(json!({ "postgres": { "url": { "file": file } } }));
    let seen = facts(&plain).await;
    assert_eq!((seen.role, seen.streaming, seen.synchronous), (Some(Role::Primary), None, None));
    // Its only connection is kept by the first probe.
    let second = probe(json!({ "postgres": { "url": { "file": file } } }));
    assert_saw(&look(&second).await, Health::Down, CauseKind::ConnectionRefused);
    Ok(())
}

#[tokio::test]
async fn the_owners_query_decides_and_does_not_outlive_its_attempt() -> Result<()> {
    let primary = Postgres::primary(PgOptions::default()).await?;
    let with = |query: &str| json!({ "postgres": { "url": primary.url(), "query": query } });
    assert_saw(&look(&probe(with("SELECT * FROM nowhere"))).await, Health::Down, CauseKind::QueryFailed);
    facts(&probe(with("SELECT generate_series(1, 100000) -- many rows"))).await;
    let slow = build(&kind(with("SELECT pg_sleep(60)")), &context(SHORT))?;
    assert_saw(&attempt(&*slow, SHORT * 4).await, Health::Down, CauseKind::Timeout);
    eventually(LONG, "the query to end", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()";
        let left = primary.value(sql).await?;
        ensure!(left == "0", "{left} still run");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn two_clusters_are_told_apart() -> Result<()> {
    let (one, other) = (Postgres::primary(PgOptions::default()).await?, Postgres::primary(PgOptions::default()).await?);
    let cluster = async |server: &Postgres| facts(&probe(json!({ "postgres": { "url": server.url() } }))).await.cluster;
    assert_ne!(cluster(&one).await, cluster(&other).await);
    Ok(())
}

/// The next regular look is a minute away; the kept connection tells of the death at once.
#[tokio::test]
async fn a_cut_connection_nudges_the_runner() -> Result<()> {
    let mut primary = Postgres::primary(PgOptions::default()).await?;
    let (sender, mut events) = tokio::sync::mpsc::channel(64);
    let (runner, handle) = ProbeRunner::new(sender, CancellationToken::new());
    let mut context = context(LONG);
    context.nudge = Some(handle.nudge(&"db".into()));
    let minute = Duration::from_secs(60);
    handle.replace(vec![ProbeSpec {
        name: "db".into(),
        index: 0,
        interval: minute,
        fast_interval: minute,
        timeout: LONG,
        probe: build(&kind(json!({ "postgres": { "url": primary.url() } })), &context)?.into(),
    }]);
    let task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(runner.run()));
    handle.probe_now(&"db".into());
    let mut report = async || loop {
        if let Some(RunnerEvent::Report(report)) = tokio::time::timeout(LONG, events.recv()).await? {
            return anyhow::Ok(report);
        }
    };
    assert_eq!(report().await?.observation.health(), Health::Up);
    let killed = Instant::now();
    primary.kill9();
    let seen = report().await?;
    assert_saw(&seen.observation, Health::Down, CauseKind::ConnectionRefused);
    println!("killed to the first bad observation: {:?}", seen.finished.duration_since(killed));
    assert!(seen.finished.duration_since(killed) < Duration::from_secs(5));
    drop(task);
    Ok(())
}
