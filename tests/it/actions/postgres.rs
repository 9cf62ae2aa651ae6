//! `postgres.promote`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::model::Verified;
use serde_json::{Value, json};

use super::{CANARY, SOON, Subject, accepted, before, clients, done, impossible, refused, secret, unknown, unseen};
use crate::fleet::eventually;
use crate::fleet::postgres::{PgOptions, Postgres, StandbyOptions};
use crate::fleet::proxy::{Mode, Proxy};

const KIND: &str = "postgres.promote";

/// The action, and the file that its address is in.
fn promote(url: &str, more: Value) -> Result<(tempfile::NamedTempFile, Subject)> {
    let (file, url) = secret(url)?;
    let mut params = json!({ "url": url });
    params.as_object_mut().expect("a table").extend(more.as_object().cloned().unwrap_or_default());
    Ok((file, Subject::new(KIND, params, &Arc::new(clients()))))
}

async fn pair(options: StandbyOptions) -> Result<(Postgres, Postgres)> {
    let primary = Postgres::primary(PgOptions::default()).await?;
    let standby = primary.standby(options).await?;
    Ok((primary, standby))
}

#[tokio::test]
async fn a_standby_is_promoted_once_and_takes_writes() -> Result<()> {
    let (mut primary, standby) = pair(StandbyOptions::default()).await?;
    let id = standby.system_identifier().await?;
    let (_file, subject) = promote(&standby.url(), json!({ "system_identifier": id }))?;
    let denied = promote(&standby.url(), json!({}))?;
    primary.kill9();
    let stood = before(subject.observe().await)?;
    assert_eq!(stood, Value::Null, "a promotion cannot be undone");
    let overtaken = denied.1.overtaken();
    overtaken.apply().await.expect_err("overtaken");
    ensure!(standby.is_in_recovery().await?, "promoted without a permit");
    accepted(subject.apply().await)?;
    let evidence = subject.verify().await?;
    ensure!(evidence.contains("a write was committed at "), "{evidence}");
    assert_eq!(standby.timeline().await?, 2, "promoted once");
    done(subject.observe().await)?;
    refused(subject.apply().await, true)?;
    assert_eq!((standby.timeline().await?, subject.permits.asked()), (2, 2));
    // The proof of a write leaves nothing behind.
    let tables = standby.value("SELECT count(*) FROM pg_class WHERE oid >= 16384").await?;
    assert_eq!(tables, "0");
    refused(subject.compensate(&stood).await, false)?;
    Ok(())
}

#[tokio::test]
async fn another_cluster_is_refused_also_when_it_is_writable() -> Result<()> {
    let (primary, standby) = pair(StandbyOptions::default()).await?;
    for url in [standby.url(), primary.url()] {
        let (_file, subject) = promote(&url, json!({ "system_identifier": "7000000000000000001" }))?;
        let reason = impossible(subject.observe().await)?;
        ensure!(reason.contains("another cluster"), "{reason}");
        refused(subject.apply().await, false)?;
        assert_eq!(subject.permits.asked(), 0);
    }
    ensure!(standby.is_in_recovery().await?, "promoted");
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_a_finding() -> Result<()> {
    let (_primary, standby) = pair(StandbyOptions::default()).await?;
    let proxy = Proxy::to_port(standby.port()).await?;
    let (_file, subject) = promote(&standby.url_through(proxy.port()), json!({}))?;
    let subject = subject.within(Duration::from_secs(2));
    for mode in [Mode::Refuse, Mode::Reset, Mode::Blackhole] {
        proxy.set(mode).await?;
        unseen(subject.observe().await)?;
        refused(subject.apply().await, true)?;
    }
    assert_eq!(subject.permits.asked(), 0);
    let wrong = standby.url().replace(crate::fleet::postgres::PASSWORD, CANARY);
    let (_file, subject) = promote(&wrong, json!({}))?;
    let reason = impossible(subject.observe().await)?;
    ensure!(reason.contains("password authentication failed"), "{reason}");
    ensure!(standby.is_in_recovery().await?, "promoted");
    Ok(())
}

#[tokio::test]
async fn an_unknown_outcome_is_resolved_by_observing() -> Result<()> {
    let (_primary, mut standby) = pair(StandbyOptions::default()).await?;
    let proxy = Proxy::to_port(standby.port()).await?;
    let (_file, subject) = promote(&standby.url_through(proxy.port()), json!({}))?;
    let subject = subject.within(Duration::from_secs(5));
    // The server stands still between our look and our call; what we sent is done later.
    let sigstop = async {
        eventually(SOON, "the permit to be asked for", async || {
            ensure!(subject.permits.asked() == 2, "not yet");
            Ok(())
        })
        .await?;
        proxy.set(Mode::LoseAnswers).await
    };
    proxy.set(Mode::Latency(Duration::from_millis(60))).await?;
    let (applied, lost) = tokio::join!(subject.apply(), sigstop);
    lost?;
    unknown(applied)?;
    proxy.set(Mode::Pass).await?;
    eventually(SOON, "the promotion to be through", async || {
        done(subject.observe().await)?;
        Ok(())
    })
    .await?;
    assert_eq!(standby.timeline().await?, 2, "promoted once");
    standby.kill9();
    Ok(())
}

#[tokio::test]
async fn a_promotion_without_a_write_is_not_verified() -> Result<()> {
    // A standby that, once promoted, waits for a standby of its own at each commit.
    let waiting = StandbyOptions {
        settings: vec![("synchronous_standby_names".into(), "nobody".into())],
        ..StandbyOptions::default()
    };
    let (_primary, standby) = pair(waiting).await?;
    let (_file, subject) = promote(&standby.url(), json!({}))?;
    accepted(subject.apply().await)?;
    eventually(SOON, "the verification to say why", async || match subject.verify_once().await {
        Verified::NotYet { evidence } => {
            ensure!(evidence.contains("synchronous_standby_names = 'nobody'"), "{evidence}");
            Ok(())
        }
        other => panic!("{other:?}"),
    })
    .await?;
    // The look has not left a backend behind that waits for ever.
    eventually(SOON, "no backend to wait", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let waiting = standby.value(sql).await?;
        ensure!(waiting == "0", "{waiting} wait");
        Ok(())
    })
    .await?;
    standby.sql("ALTER SYSTEM SET synchronous_standby_names = ''").await?;
    standby.sql("SELECT pg_reload_conf()").await?;
    subject.verify().await?;

    standby.sql("ALTER SYSTEM SET default_transaction_read_only = on").await?;
    standby.sql("SELECT pg_reload_conf()").await?;
    eventually(SOON, "read-only to be seen", async || match subject.verify_once().await {
        Verified::NotYet { evidence } if evidence.contains("read-only") => Ok(()),
        other => anyhow::bail!("{other:?}"),
    })
    .await
}
