use std::time::Duration;

use anyhow::{Result, ensure};
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
