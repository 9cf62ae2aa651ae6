use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use failoverd::clients::FailureKind;
use failoverd::clients::redis::{connect, query};
use failoverd::config::SecretText;
use failoverd::model::{CauseKind, Health, Role};
use serde_json::json;

use super::{LONG, assert_falls_silent, assert_saw, facts, look, probe};
use crate::fleet::eventually;
use crate::fleet::redis::{Redis, RedisOptions};

#[tokio::test]
async fn roles_and_links_are_told() -> Result<()> {
    let mut primary = Redis::primary(RedisOptions::default()).await?;
    let replica = primary.replica().await?;
    let on_primary = probe(json!({ "redis": { "url": primary.url(), "expect": "primary" } }));
    let on_replica = probe(json!({ "redis": { "url": replica.url(), "expect": "replica", "max_lag": "30s" } }));
    eventually(LONG, "the primary to see its replica", async || {
        ensure!(facts(&on_primary).await.streaming == Some(true));
        Ok(())
    })
    .await?;
    let (one, other) = (facts(&on_primary).await, facts(&on_replica).await);
    assert_eq!((one.role, one.synchronous), (Some(Role::Primary), Some(false)));
    assert_eq!((other.role, other.streaming), (Some(Role::Replica), Some(true)));
    assert!(one.cluster.is_some() && one.cluster == other.cluster);
    assert!(other.lag.is_some_and(|lag| lag.time < Duration::from_secs(30) && lag.bytes == Some(0)), "{other:?}");

    let wrong = probe(json!({ "redis": { "url": replica.url(), "expect": "primary" } }));
    assert_saw(&look(&wrong).await, Health::Down, CauseKind::WrongRole);

    primary.kill9();
    assert_saw(&look(&on_primary).await, Health::Down, CauseKind::ConnectionRefused);
    eventually(LONG, "the link to be seen down", async || {
        let seen = facts(&on_replica).await;
        ensure!(seen.streaming == Some(false) && seen.lag.is_none(), "{seen:?}");
        Ok(())
    })
    .await?;
    replica.call::<()>(&["REPLICAOF", "NO", "ONE"]).await?;
    assert_saw(&look(&on_replica).await, Health::Down, CauseKind::WrongRole);
    assert_eq!(facts(&wrong).await.role, Some(Role::Primary));
    Ok(())
}

#[tokio::test]
async fn a_stopped_server_runs_into_the_deadline() -> Result<()> {
    let mut server = Redis::primary(RedisOptions::default()).await?;
    let kept = probe(json!({ "redis": { "url": server.url() } }));
    facts(&kept).await;
    server.sigstop()?;
    assert_falls_silent(&kept).await;
    server.sigcont()?;
    facts(&kept).await;
    Ok(())
}

/// What the replica hears tells a primary that only we do not reach from one that hangs.
#[tokio::test]
async fn a_replica_tells_when_it_last_heard_from_its_primary() -> Result<()> {
    let mut primary = Redis::primary(RedisOptions::default()).await?;
    let replica = primary.replica().await?;
    let on_replica = probe(json!({ "redis": { "url": replica.url() } }));
    eventually(LONG, "a fresh message", async || {
        primary.call::<()>(&["SET", "k", "v"]).await?;
        let written = Instant::now();
        let seen = facts(&on_replica).await;
        // In whole seconds, and never fresher than it was.
        let bound = Duration::from_secs(2) + written.elapsed();
        let honest = |age: Duration| age >= Duration::from_secs(1) && age <= bound;
        ensure!(seen.last_message.is_some_and(honest), "{seen:?}");
        Ok(())
    })
    .await?;
    primary.sigstop()?;
    eventually(LONG, "its age to grow", async || {
        let seen = facts(&on_replica).await;
        ensure!(seen.last_message.is_some_and(|age| age > Duration::from_secs(4)), "{seen:?}");
        ensure!(seen.streaming == Some(true), "it goes on saying so: {seen:?}");
        Ok(())
    })
    .await?;
    primary.sigcont()
}

/// The primary hangs: that is no fault of the replica, which is what is left.
#[tokio::test]
async fn a_replica_of_a_primary_that_hangs_is_up_with_unknown_lag() -> Result<()> {
    let mut primary = Redis::primary(RedisOptions::default()).await?;
    let replica = primary.replica().await?;
    let on_replica = probe(json!({ "redis": { "url": replica.url(), "expect": "replica", "max_lag": "15s" } }));
    // As Redis has it where nobody says otherwise.
    replica.call::<()>(&["CONFIG", "SET", "repl-timeout", "60"]).await?;
    eventually(LONG, "the link to stand", async || {
        ensure!(facts(&on_replica).await.lag.is_some());
        Ok(())
    })
    .await?;
    primary.sigstop()?;
    eventually(LONG * 2, "the silence to be seen", async || {
        // Panics where it is not Up.
        let seen = facts(&on_replica).await;
        ensure!(seen.streaming == Some(false) && seen.lag.is_none(), "{seen:?}");
        Ok(())
    })
    .await?;
    assert_eq!(replica.info("master_link_status").await?, "up", "it still calls the link up");
    facts(&on_replica).await;
    primary.sigcont()
}

/// A server that is full takes us a moment later; neither the probe nor `redis.promote` may take
/// that for a wrong password.
#[tokio::test]
async fn a_full_server_is_not_a_wrong_password() -> Result<()> {
    let password = "canary-redis-8";
    for (db, password) in [("", Some(password.to_owned())), ("/3", Some(password.to_owned())), ("", None)] {
        let server = Redis::primary(RedisOptions { password: password.clone(), ..Default::default() }).await?;
        let url = format!("{}{db}", server.url());
        let ask = async || {
            let until = Instant::now() + LONG;
            let mut connection = connect(&SecretText::Plain(url.clone()), until).await?;
            query::<i64>(&mut connection, &redis::cmd("DBSIZE"), until).await
        };
        assert_eq!(ask().await, Ok(0));
        let mut holds = redis::Client::open(server.url())?.get_multiplexed_async_connection().await?;
        let _: () = redis::cmd("CONFIG").arg(&["SET", "maxclients", "1"]).query_async(&mut holds).await?;
        // Whoever was cut off while we asked for that is gone by now.
        eventually(LONG, "the server to be full", async || {
            let failure = ask().await.err();
            ensure!(failure.is_some(), "not yet");
            let again = failure.as_ref().is_some_and(|failure| failure.kind.before_sending() == FailureKind::Again);
            assert!(again, "{failure:?}");
            Ok(())
        })
        .await?;
        let seen = look(&probe(json!({ "redis": { "url": url } }))).await;
        assert_eq!(seen.health(), Health::Down, "{seen:?}");
        let _: () = redis::cmd("CONFIG").arg(&["SET", "maxclients", "100"]).query_async(&mut holds).await?;
        assert_eq!(ask().await, Ok(0));
        if password.is_some() {
            let wrong = SecretText::Plain(url.replace("canary", "wrong"));
            let failure = connect(&wrong, Instant::now() + LONG).await.err();
            assert_eq!(failure.map(|failure| failure.kind), Some(FailureKind::Denied));
        }
    }
    Ok(())
}

#[tokio::test]
async fn refused_credentials_say_nothing_of_the_server() -> Result<()> {
    let password = "canary-redis-7";
    let server = Redis::primary(RedisOptions { password: Some(password.into()), ..Default::default() }).await?;
    facts(&probe(json!({ "redis": { "url": server.url() } }))).await;
    let open = Redis::primary(RedisOptions::default()).await?;
    for url in [
        server.url().replace(password, "canary-wrong"),
        format!("redis://127.0.0.1:{}", server.port()),
        format!("redis://nobody:canary-wrong@127.0.0.1:{}", server.port()),
        format!("redis://:canary-wrong@127.0.0.1:{}", open.port()),
    ] {
        let seen = look(&probe(json!({ "redis": { "url": url } }))).await;
        assert_saw(&seen, Health::Unknown, CauseKind::AuthenticationFailed);
        assert!(!format!("{seen:?}").contains("canary"), "{seen:?}");
    }
    Ok(())
}
