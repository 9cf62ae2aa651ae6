//! `postgres.fence`.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::postgres_sql::{action, not_yet, psql};
use super::{CANARY, SOON, accepted, before, done, impossible, refused, unseen};
use crate::fleet::child::{Proc, command};
use crate::fleet::eventually;
use crate::fleet::postgres::{PASSWORD, PgOptions, Postgres, StandbyOptions};
use crate::fleet::proxy::{Mode, Proxy};

/// A client that holds a transaction open in which it has written.
async fn writer(server: &Postgres, url: &str) -> Result<Proc> {
    let log = tempfile::NamedTempFile::new()?;
    let mut client = command("psql");
    client.args(["-XAtq", "-d", url, "-c", "BEGIN; INSERT INTO orders VALUES (1); SELECT pg_sleep(120)"]);
    let client = Proc::start("psql", client, log.path())?;
    eventually(SOON, "the client to be at work", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        ensure!(psql(&server.url(), sql)? != "0", "not yet");
        Ok(())
    })
    .await?;
    Ok(client)
}

#[tokio::test]
async fn a_fenced_primary_refuses_writes_and_its_standby_still_streams() -> Result<()> {
    let server = Postgres::primary(PgOptions::default()).await?;
    let standby = server.standby(StandbyOptions::default()).await?;
    server.sql("CREATE TABLE orders (id int)").await?;
    let mut client = writer(&server, &server.url()).await?;
    let id = server.system_identifier().await?;
    let (_file, subject) = action("fence", &server.url(), json!({ "system_identifier": id }))?;
    let (_denied_file, denied) = action("fence", &server.url(), json!({}))?;
    denied.overtaken().apply().await.expect_err("overtaken");
    assert_eq!(psql(&server.url(), "SHOW default_transaction_read_only")?, "off");
    ensure!(client.is_running(), "ended without a permit");
    ensure!(not_yet(&subject).await?.contains("default_transaction_read_only is off"));

    let stood = before(subject.observe().await)?;
    accepted(subject.apply().await)?;
    let evidence = subject.verify().await?;
    ensure!(evidence.contains("a write was refused: ") && evidence.contains("read-only transaction"), "{evidence}");
    done(subject.observe().await)?;
    // Seen from outside: the open transaction is gone, a new one is refused, the standby streams.
    client.wait_exit(SOON).await?;
    let error = psql(&server.url(), "INSERT INTO orders VALUES (2)").expect_err("fenced");
    ensure!(error.to_string().contains("read-only transaction"), "{error}");
    assert_eq!(psql(&server.url(), "SELECT count(*) FROM orders")?, "0");
    server.wait_streaming("standby", "async").await?;
    assert_eq!(psql(&server.url(), "SELECT count(*) FROM pg_class WHERE relname LIKE 'failoverd%'")?, "0");
    // The standby is not fenced along with it.
    standby.promote().await?;
    psql(&standby.url(), "INSERT INTO orders VALUES (3)")?;

    accepted(subject.compensate(&stood).await)?;
    eventually(SOON, "writes to be taken again", async || {
        psql(&server.url(), "INSERT INTO orders VALUES (4)").map(drop)
    })
    .await?;
    let again = before(subject.observe().await)?;
    assert_eq!(again, stood, "as it stood before");
    Ok(())
}

/// What its page says of it.
#[tokio::test]
async fn a_session_that_asks_for_writes_by_itself_is_not_held() -> Result<()> {
    let server = Postgres::primary(PgOptions::default()).await?;
    server.sql("CREATE TABLE orders (id int)").await?;
    let (_file, subject) = action("fence", &server.url(), json!({}))?;
    subject.run().await?;
    psql(&server.url(), "BEGIN READ WRITE; INSERT INTO orders VALUES (1); COMMIT")?;
    psql(&server.url(), "INSERT INTO orders VALUES (2)").expect_err("fenced");
    Ok(())
}

#[tokio::test]
async fn a_crash_between_the_changes_leaves_a_rest_that_is_seen() -> Result<()> {
    let server = Postgres::primary(PgOptions::default()).await?;
    server.sql("CREATE TABLE orders (id int)").await?;
    let (_file, subject) = action("fence", &server.url(), json!({}))?;
    let stood = before(subject.observe().await)?;
    // After ALTER SYSTEM, before the reload.
    psql(&server.url(), "ALTER SYSTEM SET default_transaction_read_only = on")?;
    before(subject.observe().await)?;
    // After the reload, before the sessions were ended: the client's transaction goes on.
    let mut client = writer(&server, &server.url()).await?;
    psql(&server.url(), "SELECT pg_reload_conf()")?;
    eventually(SOON, "the setting to be read", async || {
        ensure!(psql(&server.url(), "SHOW default_transaction_read_only")? == "on", "not yet");
        Ok(())
    })
    .await?;
    let half = before(subject.observe().await)?;
    assert_ne!(half, stood, "an undo must not take it for untouched");
    ensure!(not_yet(&subject).await?.contains("1 older sessions"));
    accepted(subject.apply().await)?;
    client.wait_exit(SOON).await?;
    subject.verify().await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_seen_or_held_is_never_called_fenced() -> Result<()> {
    let server = Postgres::primary(PgOptions::default()).await?;
    let standby = server.standby(StandbyOptions::default()).await?;
    let (_file, subject) = action("fence", &standby.url(), json!({}))?;
    let reason = impossible(subject.observe().await)?;
    ensure!(reason.contains("it is a standby"), "{reason}");
    refused(subject.apply().await, false)?;
    let (_file, subject) = action("fence", &server.url(), json!({ "system_identifier": "7000000000000000001" }))?;
    ensure!(impossible(subject.observe().await)?.contains("another cluster"));

    server.sql("CREATE ROLE app LOGIN").await?;
    server.sql("ALTER ROLE app SET default_transaction_read_only = off").await?;
    let (_file, subject) = action("fence", &server.url(), json!({}))?;
    let reason = impossible(subject.observe().await)?;
    ensure!(reason.contains("role app"), "{reason}");
    server.sql("ALTER ROLE app RESET default_transaction_read_only").await?;

    let proxy = Proxy::to_port(server.port()).await?;
    let (_file, subject) = action("fence", &server.url_through(proxy.port()), json!({}))?;
    let subject = subject.within(Duration::from_secs(2));
    for mode in [Mode::Refuse, Mode::Reset, Mode::Blackhole] {
        proxy.set(mode).await?;
        unseen(subject.observe().await)?;
        refused(subject.apply().await, true)?;
        not_yet(&subject).await?;
    }
    assert_eq!(subject.permits.asked(), 0);
    // Options of the address that make only our own sessions read-only are no fence.
    let ours = format!("{}&options=-cdefault_transaction_read_only%3Don", server.url());
    let (_file, subject) = action("fence", &ours, json!({}))?;
    before(subject.observe().await)?;
    let (_file, subject) = action("fence", &server.url().replace(PASSWORD, CANARY), json!({}))?;
    impossible(subject.observe().await)?;
    // A user who may not see others' sessions cannot call it done.
    psql(&server.url(), "CREATE ROLE low LOGIN PASSWORD 'low-pw-1'")?;
    let low = server.url().replace(&format!("postgres:{PASSWORD}"), "low:low-pw-1");
    psql(&server.url(), "ALTER SYSTEM SET default_transaction_read_only = on")?;
    psql(&server.url(), "SELECT pg_reload_conf()")?;
    let (_file, subject) = action("fence", &low, json!({}))?;
    before(subject.observe().await)?;
    Ok(())
}
