//! `redis.command`, `redis.follow` and `redis.flush`. What they did is asked of `redis-cli`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::config::ActionConfig;
use failoverd::model::EffectKind;
use serde_json::{Value, json};

use super::postgres_sql::{handed_on, not_yet};
use super::{CANARY, SOON, Subject, accepted, before, clients, done, impossible, refused, secret, unknown, unseen};
use crate::fleet::child::command;
use crate::fleet::eventually;
use crate::fleet::proxy::{Mode, Proxy};
use crate::fleet::redis::{Redis, RedisOptions};

/// What `redis-cli` answers: another client than ours.
fn redis_cli(server: &Redis, words: &[&str]) -> Result<String> {
    let mut cli = command("redis-cli");
    cli.args(["-p", &server.port().to_string(), "--no-auth-warning"]).env("REDISCLI_AUTH", CANARY).args(words);
    let output = cli.output()?;
    ensure!(output.status.success(), "redis-cli: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

async fn primary() -> Result<Redis> {
    Redis::primary(RedisOptions { password: Some(CANARY.to_owned()), ..RedisOptions::default() }).await
}

fn action(verb: &str, url: &str, more: Value) -> Result<(tempfile::NamedTempFile, Subject)> {
    let (file, url) = secret(url)?;
    let mut params = json!({ "url": url });
    params.as_object_mut().expect("a table").extend(more.as_object().cloned().unwrap_or_default());
    Ok((file, Subject::new(&format!("redis.{verb}"), params, &Arc::new(clients()))))
}

#[tokio::test]
async fn each_command_that_changes_something_is_seen_by_another() -> Result<()> {
    let server = primary().await?;
    redis_cli(&server, &["SET", "old", "1"])?;
    redis_cli(&server, &["SADD", "members", "m", "n"])?;
    redis_cli(&server, &["HSET", "hash", "gone", "1"])?;
    for (words, look, answer) in [
        (
            vec!["SADD", "blocked_api_keys", "user_api_key_xyz"],
            vec!["SISMEMBER", "blocked_api_keys", "user_api_key_xyz"],
            "1",
        ),
        (vec!["srem", "members", "m"], vec!["SMEMBERS", "members"], "n"),
        (vec!["SET", "mode", "backup"], vec!["GET", "mode"], "backup"),
        (vec!["HSET", "flags", "read", "on", "write", "off"], vec!["HGET", "flags", "write"], "off"),
        (vec!["HDEL", "hash", "gone"], vec!["EXISTS", "hash"], "0"),
        (vec!["EXPIRE", "mode", "600"], vec!["TTL", "mode"], "600"),
        (vec!["PERSIST", "mode"], vec!["TTL", "mode"], "-1"),
        (vec!["UNLINK", "mode", "none"], vec!["EXISTS", "mode"], "0"),
        (vec!["DEL", "old"], vec!["EXISTS", "old"], "0"),
        (
            vec!["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
            vec!["CONFIG", "GET", "maxmemory-policy"],
            "maxmemory-policy\nallkeys-lru",
        ),
    ] {
        let (_file, subject) = action("command", &server.url(), json!({ "command": words }))?;
        let (_denied_file, denied) = action("command", &server.url(), json!({ "command": words }))?;
        denied.overtaken().apply().await.expect_err("overtaken");
        ensure!(redis_cli(&server, &look)? != answer || words[0] == "EXPIRE", "{words:?} was sent without a permit");
        subject.run().await?;
        assert_eq!(redis_cli(&server, &look)?, answer, "{words:?}");
        done(subject.observe().await)?;
        assert_eq!(subject.permits.asked(), 1);
    }
    let (_file, subject) = action("command", &server.url(), json!({ "command": ["EXPIRE", "nothing", "60"] }))?;
    ensure!(impossible(subject.observe().await)?.contains("no such key"));
    let (_file, subject) = action("command", &server.url(), json!({ "command": ["SADD", "flags", "x"] }))?;
    ensure!(impossible(subject.observe().await)?.contains("WRONGTYPE"));
    Ok(())
}

#[tokio::test]
async fn a_look_waits_for_its_answer_and_a_secret_word_is_never_shown() -> Result<()> {
    let server = primary().await?;
    let look = |more: Value| action("command", &server.url(), more);
    let (_file, subject) = look(json!({ "command": ["PING"], "expect": "PONG" }))?;
    assert_eq!(handed_on(&subject).await?.1["value"], "PONG");
    refused(subject.apply().await, false)?;
    let (_file, subject) = look(json!({ "command": ["INFO", "replication"], "contains": "role:master" }))?;
    handed_on(&subject).await?;
    let (_file, subject) = look(json!({ "command": ["GET", "flag"], "expect": "on" }))?;
    not_yet(&subject).await?;
    redis_cli(&server, &["SET", "flag", "on"])?;
    subject.verify().await?;

    // The leaked key itself, by reference: every outcome is looked through for it.
    let (_key_file, key) = secret(CANARY)?;
    let (_file, subject) = look(json!({ "command": ["SADD", "blocked", key] }))?;
    subject.run().await?;
    assert_eq!(redis_cli(&server, &["SISMEMBER", "blocked", CANARY])?, "1");
    let (_file, subject) = look(json!({ "command": ["SET", "leaked", key] }))?;
    subject.run().await?;
    let (_file, subject) = look(json!({ "command": ["HGET", "leaked", key] }))?;
    ensure!(not_yet(&subject).await?.contains("WRONGTYPE"));

    let proxy = Proxy::to_port(server.port()).await?;
    let through = server.url().replace(&server.port().to_string(), &proxy.port().to_string());
    let (_file, subject) = action("command", &through, json!({ "command": ["SET", "late", "1"] }))?;
    let subject = subject.within(Duration::from_secs(2));
    proxy.set(Mode::LoseAnswers).await?;
    unseen(subject.observe().await)?;
    proxy.set(Mode::Pass).await?;
    let lose = async {
        eventually(SOON, "the permit to be asked for", async || {
            ensure!(subject.permits.asked() == 1, "not yet");
            Ok(())
        })
        .await?;
        proxy.set(Mode::LoseAnswers).await
    };
    proxy.set(Mode::Latency(Duration::from_millis(60))).await?;
    let (applied, lost) = tokio::join!(subject.apply(), lose);
    lost?;
    unknown(applied)?;
    proxy.set(Mode::Pass).await?;
    eventually(SOON, "it to be seen", async || done(subject.observe().await).map(drop)).await
}

#[test]
fn only_listed_commands_may_be_sent_and_a_flush_needs_an_approval() {
    let config = |verb: &str, more: Value| {
        let mut params = json!({ "url": "redis://cache.example" });
        params.as_object_mut().expect("a table").extend(more.as_object().cloned().unwrap_or_default());
        serde_json::from_value::<ActionConfig>(json!({ "redis": { verb: params } })).expect("it is read")
    };
    let build = |config: &ActionConfig| {
        let spec = config.to_spec().expect("a specification");
        failoverd::actions::build(&spec, &Arc::new(clients())).err().map(|error| error.to_string())
    };
    for (command, words) in [
        (json!([]), "no command"),
        (json!(["FLUSHALL"]), "not a command that may be sent"),
        (json!(["EVAL", "return 1", "0"]), "not a command that may be sent"),
        (json!([{ "env": "X" }]), "no command"),
        (json!(["SHUTDOWN"]), "not a command that may be sent"),
        (json!(["CONFIG", "SET", "dir", "/etc"]), "arguments that it needs"),
        (json!(["CONFIG", "REWRITE"]), "arguments that it needs"),
        (json!(["SET", "a", "b", "EX", "1"]), "arguments that it needs"),
        (json!(["EXPIRE", "a", "-1"]), "arguments that it needs"),
        (json!(["HSET", "a", "b"]), "arguments that it needs"),
    ] {
        let reason = build(&config("command", json!({ "command": command }))).expect("refused");
        assert!(reason.contains(words), "{command}: {reason}");
    }
    let sadd = config("command", json!({ "command": ["SADD", "blocked", "leaked"] }));
    assert_eq!(sadd.parameters().target(), "SADD blocked … at Redis at redis://cache.example");
    assert_eq!(sadd.parameters().effect(), EffectKind::Call);
    assert_eq!(config("command", json!({ "command": ["PING"] })).parameters().effect(), EffectKind::Verify);
    assert!(config("flush", json!({})).parameters().needs_approval());
    assert!(!sadd.parameters().needs_approval());
}

#[tokio::test]
async fn an_old_master_follows_the_new_one_and_never_the_other_way_round() -> Result<()> {
    let mut old = primary().await?;
    let new = old.replica().await?;
    redis_cli(&old, &["SET", "cart", "1"])?;
    eventually(SOON, "the key to arrive", async || {
        ensure!(redis_cli(&new, &["GET", "cart"])? == "1", "not yet");
        Ok(())
    })
    .await?;
    // While the new one is a replica still, there is nobody to follow.
    let follow = |server: &Redis, master: &Redis| -> Result<_> {
        let (file, master) = secret(&master.url())?;
        Ok((file, action("follow", &server.url(), json!({ "master": master }))?))
    };
    let (_f, (_g, subject)) = follow(&old, &new)?;
    ensure!(impossible(subject.observe().await)?.contains("itself a replica"));
    redis_cli(&new, &["REPLICAOF", "NO", "ONE"])?;
    redis_cli(&new, &["SET", "cart", "2"])?;
    // Mixed up: the promoted one would throw away its writes.
    let (_f, (_g, mixed_up)) = follow(&new, &old)?;
    let reason = impossible(mixed_up.observe().await)?;
    ensure!(reason.contains("was promoted from the one"), "{reason}");
    refused(mixed_up.apply().await, false)?;
    assert_eq!(mixed_up.permits.asked(), 0);
    let (_f, (_g, itself)) = follow(&new, &new)?;
    ensure!(impossible(itself.observe().await)?.contains("the same server"));

    let (_f, (_g, denied)) = follow(&old, &new)?;
    denied.overtaken().apply().await.expect_err("overtaken");
    assert_eq!(old.role().await?, "master");
    // Without the password of its new master it never gets there.
    redis_cli(&old, &["CONFIG", "SET", "masterauth", "wrong"])?;
    before(subject.observe().await)?;
    accepted(subject.apply().await)?;
    ensure!(not_yet(&subject).await?.contains("masterauth"));
    redis_cli(&old, &["CONFIG", "SET", "masterauth", CANARY])?;
    subject.verify().await?;
    assert_eq!(redis_cli(&old, &["GET", "cart"])?, "2");
    assert_eq!((old.role().await?, new.role().await?), ("slave".into(), "master".into()));
    done(subject.observe().await)?;
    refused(subject.apply().await, true)?;
    refused(subject.compensate(&json!({})).await, false)?;
    old.kill9();
    unseen(subject.observe().await)?;
    Ok(())
}

#[tokio::test]
async fn a_store_is_emptied_once_even_when_clients_write_on() -> Result<()> {
    let server = primary().await?;
    let replica = server.replica().await?;
    for (database, key) in [("0", "a"), ("0", "b"), ("3", "c")] {
        redis_cli(&server, &["-n", database, "SET", key, "1"])?;
    }
    let (_file, on_replica) = action("flush", &replica.url(), json!({}))?;
    ensure!(impossible(on_replica.observe().await)?.contains("it is a replica of"));
    let (_file, denied) = action("flush", &server.url(), json!({}))?;
    denied.overtaken().apply().await.expect_err("overtaken");
    assert_eq!(redis_cli(&server, &["DBSIZE"])?, "2");

    let (_file, subject) = action("flush", &server.url(), json!({}))?;
    subject.run().await?;
    assert_eq!(redis_cli(&server, &["EXISTS", "a", "b"])?, "0");
    assert_eq!(redis_cli(&server, &["-n", "3", "EXISTS", "c"])?, "1", "another database stays");
    // A client writes; the step looks again after a crash, and does not empty the store twice.
    redis_cli(&server, &["SET", "new", "1"])?;
    ensure!(done(subject.observe().await)?.contains("1 keys since"));
    refused(subject.apply().await, true)?;
    subject.verify().await?;
    assert_eq!(redis_cli(&server, &["EXISTS", "new"])?, "1");
    ensure!(redis_cli(&server, &["TTL", "failoverd:flush:RUN-20261101-001/step"])?.parse::<i64>()? > 80_000);

    // Another run empties it anew.
    let (_file, mut all) = action("flush", &server.url(), json!({ "scope": "all" }))?;
    all.context.run = Some("RUN-20261101-002".into());
    all.run().await?;
    assert_eq!(redis_cli(&server, &["-n", "3", "DBSIZE"])?, "0");
    let mut keys: Vec<_> = redis_cli(&server, &["KEYS", "*"])?.lines().map(str::to_owned).collect();
    keys.sort();
    assert_eq!(keys, ["failoverd:fence:epoch", "failoverd:flush:RUN-20261101-002/step"]);
    // A user who may not set the mark empties nothing.
    redis_cli(&server, &["SET", "kept", "1"])?;
    redis_cli(&server, &["ACL", "SETUSER", "low", "on", ">low-pw-1", "~kept", "+@all"])?;
    let low = format!("redis://low:low-pw-1@127.0.0.1:{}", server.port());
    let (_file, mut low) = action("flush", &low, json!({}))?;
    low.context.run = Some("RUN-20261101-003".into());
    let reason = refused(low.apply().await, false)?;
    ensure!(reason.contains("no permissions"), "{reason}");
    assert_eq!(redis_cli(&server, &["EXISTS", "kept"])?, "1");
    Ok(())
}
