//! `redis.promote`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::model::Verified;
use serde_json::json;

use super::{CANARY, SOON, Subject, accepted, before, clients, done, impossible, refused, secret, unseen};
use crate::fleet::eventually;
use crate::fleet::proxy::{Mode, Proxy};
use crate::fleet::redis::{Redis, RedisOptions};

const KIND: &str = "redis.promote";

fn promote(url: &str) -> Result<(tempfile::NamedTempFile, Subject)> {
    let (file, url) = secret(url)?;
    Ok((file, Subject::new(KIND, json!({ "url": url }), &Arc::new(clients()))))
}

fn with_password() -> RedisOptions {
    RedisOptions { password: Some(CANARY.to_owned()), ..RedisOptions::default() }
}

#[tokio::test]
async fn a_replica_is_promoted_and_takes_writes() -> Result<()> {
    let mut primary = Redis::primary(with_password()).await?;
    let replica = primary.replica().await?;
    let _: String = primary.call(&["SET", "cart", "1"]).await?;
    eventually(SOON, "the key to arrive", async || {
        let keys: u64 = replica.call(&["DBSIZE"]).await?;
        ensure!(keys == 1, "{keys} keys");
        Ok(())
    })
    .await?;
    let (_file, subject) = promote(&replica.url())?;
    before(subject.observe().await)?;
    let (_file, denied) = promote(&replica.url())?;
    let denied = denied.overtaken();
    denied.apply().await.expect_err("overtaken");
    assert_eq!(replica.role().await?, "slave");
    primary.kill9();
    let stood = before(subject.observe().await)?;
    accepted(subject.apply().await)?;
    subject.verify().await?;
    assert_eq!(replica.role().await?, "master");
    let keys: u64 = replica.call(&["DBSIZE"]).await?;
    assert_eq!(keys, 2, "the proof of a write leaves nothing behind; the other one is the epoch");
    done(subject.observe().await)?;
    refused(subject.apply().await, true)?;
    assert_eq!(subject.permits.asked(), 1);
    refused(subject.compensate(&stood).await, false)?;

    // A master that takes no writes is not verified.
    let _: String = replica.call(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await?;
    match subject.verify_once().await {
        Verified::NotYet { evidence } => ensure!(evidence.contains("NOREPLICAS"), "{evidence}"),
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// S6: traffic does not follow to what was never seen to take a write.
#[tokio::test]
async fn a_master_that_our_user_may_not_write_to_is_not_verified() -> Result<()> {
    let server = Redis::primary(RedisOptions::default()).await?;
    let password = format!(">{CANARY}");
    let user = |rights: &[&str]| {
        let fixed = ["ACL", "SETUSER", "failover", "reset", "on", password.as_str(), "+role", "+info"];
        fixed.iter().chain(rights).map(|word| (*word).to_owned()).collect::<Vec<_>>()
    };
    let (_file, subject) = promote(&format!("redis://failover:{CANARY}@127.0.0.1:{}", server.port()))?;
    for (rights, takes) in [(vec![], false), (vec!["+del"], false), (vec!["+del", "~failoverd:*"], true)] {
        let words = user(&rights);
        let _: String = server.call(&words.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        match (subject.verify_once().await, takes) {
            (Verified::Yes { .. }, true) => {}
            (Verified::NotYet { evidence }, false) => ensure!(evidence.contains("+del ~failoverd:*"), "{evidence}"),
            (other, _) => panic!("{rights:?}: {other:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_that_never_followed_is_not_promoted() -> Result<()> {
    let replica = Redis::primary(RedisOptions::default()).await?;
    let nowhere = crate::fleet::port()?.to_string();
    let _: String = replica.call(&["REPLICAOF", "127.0.0.1", &nowhere]).await?;
    let (_file, subject) = promote(&replica.url())?;
    let reason = impossible(subject.observe().await)?;
    ensure!(reason.contains("never followed"), "{reason}");
    refused(subject.apply().await, false)?;
    assert_eq!((replica.role().await?.as_str(), subject.permits.asked()), ("slave", 0));
    Ok(())
}

#[tokio::test]
async fn a_replica_in_its_first_copy_is_not_promoted() -> Result<()> {
    let primary = Redis::primary(RedisOptions::default()).await?;
    let keys: Vec<String> = (0..4).map(|n| format!("cart:{n}")).collect();
    for key in &keys {
        let _: String = primary.call(&["SET", key, "1"]).await?;
    }
    // A second for each key, so that the copy takes long enough to be seen.
    let _: String = primary.call(&["CONFIG", "SET", "rdb-key-save-delay", "1000000"]).await?;
    let replica = Redis::primary(RedisOptions::default()).await?;
    let (_file, subject) = promote(&replica.url())?;
    let _: String = replica.call(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).await?;
    eventually(SOON, "the copy to be seen", async || {
        let reason = unseen(subject.observe().await)?;
        ensure!(reason.contains("first copy"), "{reason}");
        Ok(())
    })
    .await?;
    refused(subject.apply().await, true)?;
    assert_eq!(subject.permits.asked(), 0);
    eventually(SOON, "the copy to be there", async || before(subject.observe().await)).await?;
    let there: usize = replica.call(&["DBSIZE"]).await?;
    assert_eq!(there, keys.len());
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_a_finding() -> Result<()> {
    let primary = Redis::primary(with_password()).await?;
    let replica = primary.replica().await?;
    let proxy = Proxy::to_port(replica.port()).await?;
    let url = format!("redis://:{CANARY}@127.0.0.1:{}", proxy.port());
    let (_file, subject) = promote(&url)?;
    let subject = subject.within(Duration::from_secs(2));
    for mode in [Mode::Refuse, Mode::Reset, Mode::Blackhole] {
        proxy.set(mode).await?;
        unseen(subject.observe().await)?;
        refused(subject.apply().await, true)?;
    }
    let (_file, subject) = promote(&format!("redis://:wrong-{CANARY}@127.0.0.1:{}", replica.port()))?;
    impossible(subject.observe().await)?;
    let (_file, subject) = promote(&format!("postgres://{CANARY}"))?;
    impossible(subject.observe().await)?;
    assert_eq!(replica.role().await?, "slave");
    Ok(())
}
