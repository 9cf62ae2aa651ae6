//! `postgres.sql` and `postgres.verify_write`. What they did is asked of `psql`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::config::ActionConfig;
use failoverd::model::{EffectKind, Observed, Outputs, Repeat, Verified};
use serde_json::{Value, json};

use super::{CANARY, SOON, Subject, accepted, before, clients, done, impossible, refused, secret, unknown, unseen};
use crate::fleet::child::command;
use crate::fleet::eventually;
use crate::fleet::postgres::{PgOptions, Postgres, StandbyOptions};
use crate::fleet::proxy::{Mode, Proxy};

/// What `psql` answers: another client than ours.
pub fn psql(url: &str, sql: &str) -> Result<String> {
    let output = command("psql").args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]).output()?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// An action of PostgreSQL with an address by reference.
pub fn action(verb: &str, url: &str, more: Value) -> Result<(tempfile::NamedTempFile, Subject)> {
    let (file, url) = secret(url)?;
    let mut params = json!({ "url": url });
    params.as_object_mut().expect("a table").extend(more.as_object().cloned().unwrap_or_default());
    Ok((file, Subject::new(&format!("postgres.{verb}"), params, &Arc::new(clients()))))
}

/// What a look hands on, once it is true.
pub async fn handed_on(subject: &Subject) -> Result<(String, Outputs)> {
    let found = subject.observe().await;
    ensure!(matches!(found, Observed::InProgress { .. }), "a look has nothing to apply: {found:?}");
    match subject.verify_once().await {
        Verified::Yes { evidence, outputs } => Ok((evidence, outputs)),
        other => anyhow::bail!("not `Yes`: {other:?}"),
    }
}

/// Why a look is not true yet.
pub async fn not_yet(subject: &Subject) -> Result<String> {
    match subject.verify_once().await {
        Verified::NotYet { evidence } => Ok(evidence),
        other => anyhow::bail!("not `NotYet`: {other:?}"),
    }
}

async fn shop() -> Result<Postgres> {
    let server = Postgres::primary(PgOptions::default()).await?;
    server.sql("CREATE TABLE companies (id int PRIMARY KEY, name text)").await?;
    server.sql("INSERT INTO companies SELECT i, 'c' || i FROM generate_series(1, 10) i").await?;
    Ok(server)
}

#[tokio::test]
async fn a_look_is_true_when_the_answer_is_as_expected() -> Result<()> {
    let server = shop().await?;
    let count = "SELECT COUNT(*) FROM companies;";
    for (more, value) in [
        (json!({ "statement": "SELECT 1" }), "1"),
        (json!({ "statement": count, "expect": "10" }), "10"),
        (json!({ "statement": count, "at_least": 10, "at_most": 10.5, "rows": 1 }), "10"),
        (json!({ "statement": "-- all\n/* of them */ SELECT id FROM companies ORDER BY id", "rows": 10 }), "1"),
        (json!({ "statement": "SELECT repeat('x', 5000)" }), &"x".repeat(1000)),
        (json!({ "statement": "SELECT id FROM companies WHERE false", "rows": 0 }), ""),
        (json!({ "statement": "SELECT null" }), ""),
        (json!({ "statement": ["SELECT 1", "SELECT pg_is_in_recovery()"], "expect": "f" }), "f"),
        (json!({ "statement": "SHOW wal_level", "expect": "replica" }), "replica"),
    ] {
        let (_file, subject) = action("sql", &server.url(), more.clone())?;
        let (_, outputs) = handed_on(&subject).await.with_context(|| more.to_string())?;
        assert_eq!(outputs["value"], value, "{more}");
        refused(subject.apply().await, false)?;
        assert_eq!(subject.permits.asked(), 0);
    }
    for (more, words) in [
        (json!({ "statement": count, "expect": "11" }), "and not \"11\""),
        (json!({ "statement": count, "at_least": 11 }), "10 is less than 11"),
        (json!({ "statement": count, "at_most": 9 }), "10 is more than 9"),
        (json!({ "statement": "SELECT 'x'", "at_most": 9 }), "no number"),
        (json!({ "statement": "SELECT 'NaN'", "at_most": 9 }), "no number"),
        (json!({ "statement": "SELECT 1 WHERE false", "expect": "1" }), "and not \"1\""),
        (json!({ "statement": count, "rows": 2 }), "1 rows, and not 2"),
        (json!({ "statement": "SELECT * FROM nowhere" }), "does not exist"),
        (json!({ "statement": "SELECT 1; SELECT 2" }), "cannot insert multiple commands"),
        (json!({ "statement": "SELECT pg_sleep(20)", "statement_timeout": "200ms" }), "statement timeout"),
        (json!({ "statement": "WITH d AS (DELETE FROM companies RETURNING 1) SELECT 1 FROM d" }), "read-only"),
    ] {
        let (_file, subject) = action("sql", &server.url(), more.clone())?;
        match subject.verify_once().await {
            Verified::NotYet { evidence } | Verified::Failed { reason: evidence } => {
                ensure!(evidence.contains(words), "{more}: {evidence}");
            }
            other => panic!("{more}: {other:?}"),
        }
    }
    let (_file, subject) = action("sql", &server.url(), json!({ "statement": "SELECT FROM FROM" }))?;
    match subject.verify_once().await {
        Verified::Failed { reason } => ensure!(reason.contains("syntax error"), "{reason}"),
        other => panic!("waiting does not help: {other:?}"),
    }
    assert_eq!(psql(&server.url(), "SELECT count(*) FROM companies")?, "10");
    Ok(())
}

#[tokio::test]
async fn a_look_waits_until_it_is_true_and_works_on_a_standby() -> Result<()> {
    let server = shop().await?;
    let standby = server.standby(StandbyOptions::default()).await?;
    let more = json!({ "statement": "SELECT count(*) FROM companies", "expect": "11" });
    let (_file, subject) = action("sql", &standby.url(), more)?;
    not_yet(&subject).await?;
    psql(&server.url(), "INSERT INTO companies VALUES (11, 'new')")?;
    subject.verify().await?;
    Ok(())
}

#[tokio::test]
async fn a_change_is_committed_once_and_seen_by_done_when() -> Result<()> {
    let server = shop().await?;
    let more = json!({
        "statement": ["CREATE TABLE blocked (who text)", "INSERT INTO blocked VALUES ('a'), ('b')"],
        "read_only": false, "rows": 2, "done_when": "SELECT to_regclass('blocked') IS NOT NULL",
    });
    let (_file, subject) = action("sql", &server.url(), more.clone())?;
    let (_denied_file, denied) = action("sql", &server.url(), more)?;
    denied.overtaken().apply().await.expect_err("overtaken");
    assert_eq!(psql(&server.url(), "SELECT to_regclass('blocked') IS NULL")?, "t");
    subject.run().await?;
    assert_eq!(psql(&server.url(), "SELECT count(*) FROM blocked")?, "2");
    done(subject.observe().await)?;

    // Several statements are one transaction: the second fails, and nothing of the first is left.
    let more = json!({
        "statement": ["DELETE FROM companies", "INSERT INTO nowhere VALUES (1)"], "read_only": false, "idempotent": true,
    });
    let (_file, subject) = action("sql", &server.url(), more)?;
    ensure!(matches!(subject.observe().await, Observed::Unobservable));
    refused(subject.apply().await, false)?;
    // What is not as expected is rolled back.
    let more = json!({ "statement": "DELETE FROM companies", "read_only": false, "rows": 9 });
    let (_file, subject) = action("sql", &server.url(), more)?;
    let reason = refused(subject.apply().await, false)?;
    ensure!(reason.contains("rolled back: 10 rows, and not 9"), "{reason}");
    // Nor does an error in the commit's place leave a part.
    assert_eq!(psql(&server.url(), "SELECT count(*) FROM companies")?, "10");
    // A lock that is held: refused now, and later it may be taken.
    let mut holder = command("psql")
        .args(["-XAtq", "-d", &server.url(), "-c", "BEGIN; LOCK companies; SELECT pg_sleep(30)"])
        .spawn()?;
    eventually(SOON, "the lock to be held", async || {
        let held = psql(&server.url(), "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted")?;
        ensure!(held != "0", "{held}");
        Ok(())
    })
    .await?;
    let more = json!({ "statement": "UPDATE companies SET name = ''", "read_only": false, "lock_timeout": "100ms" });
    let (_file, subject) = action("sql", &server.url(), more)?;
    let reason = refused(subject.apply().await, true)?;
    ensure!(reason.contains("lock timeout"), "{reason}");
    holder.kill()?;
    holder.wait()?;
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_to_a_commit_is_unknown_and_seen_afterwards() -> Result<()> {
    let server = shop().await?;
    let proxy = Proxy::to_port(server.port()).await?;
    let more = json!({
        "statement": "INSERT INTO companies SELECT 11, 'done' FROM pg_sleep(1)", "read_only": false,
        "done_when": "SELECT count(*) = 1 FROM companies WHERE name = 'done'",
    });
    let (_file, subject) = action("sql", &server.url_through(proxy.port()), more)?;
    let subject = subject.within(Duration::from_secs(4));
    let lose = async {
        eventually(SOON, "the statement to be at work", async || {
            let at_work = psql(&server.url(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")?;
            ensure!(at_work == "1", "{at_work}");
            Ok(())
        })
        .await?;
        proxy.set(Mode::LoseAnswers).await
    };
    let (applied, lost) = tokio::join!(subject.apply(), lose);
    lost?;
    unknown(applied)?;
    proxy.set(Mode::Pass).await?;
    // Not committed: its COMMIT was never sent. Observing says so, and it is done again.
    before(subject.observe().await)?;
    assert_eq!(psql(&server.url(), "SELECT count(*) FROM companies")?, "10");
    accepted(subject.apply().await)?;
    subject.verify().await?;
    assert_eq!(psql(&server.url(), "SELECT count(*) FROM companies")?, "11");
    proxy.set(Mode::Refuse).await?;
    unseen(subject.observe().await)?;
    refused(subject.apply().await, true)?;
    let wrong = server.url().replace(crate::fleet::postgres::PASSWORD, CANARY);
    let (_file, subject) =
        action("sql", &wrong, json!({ "statement": "SELECT 1", "read_only": false, "done_when": "SELECT true" }))?;
    impossible(subject.observe().await)?;
    Ok(())
}

#[test]
fn what_does_not_only_look_is_refused_before_a_run() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let built = |more: Value| {
        let mut params = json!({ "url": "postgresql://db.example/shop" });
        params.as_object_mut().expect("a table").extend(more.as_object().cloned().unwrap_or_default());
        let config: ActionConfig =
            serde_json::from_value(json!({ "postgres": { "sql": params } })).expect("it is read");
        let spec = config.to_spec().expect("a specification");
        let built = failoverd::actions::build(&spec, &Arc::new(clients()));
        (spec.effect, spec.repeat, built.err().map(|error| error.to_string()))
    };
    let look = (EffectKind::Verify, Repeat::ByObservation, None);
    assert_eq!(built(json!({ "statement": "SELECT 1" })), look);
    let change = |more: Value| {
        let mut all = json!({ "statement": "DELETE FROM x", "read_only": false });
        all.as_object_mut().expect("a table").extend(more.as_object().cloned().unwrap_or_default());
        built(all)
    };
    assert_eq!(change(json!({})), (EffectKind::Call, Repeat::Never, None));
    assert_eq!(change(json!({ "idempotent": true })), (EffectKind::Call, Repeat::AtLeastOnce, None));
    assert_eq!(change(json!({ "done_when": "SELECT true" })), (EffectKind::Call, Repeat::ByObservation, None));
    for (more, words) in [
        (json!({ "statement": "DELETE FROM x" }), "DELETE does not only look"),
        (json!({ "statement": "/* SELECT */ drop table x" }), "DROP does not only look"),
        (json!({ "statement": "COPY x TO PROGRAM 'sh'" }), "COPY does not only look"),
        (json!({ "statement": "SELECT PG_Promote()" }), "`pg_promote` changes the server"),
        (json!({ "statement": "" }), "empty"),
        (json!({ "statement": [] }), "no statement"),
        (json!({ "statement": ["COMMIT", "SELECT 1"], "read_only": false }), "COMMIT controls the transaction"),
        (json!({ "statement": "SELECT 1", "idempotent": true }), "this only looks"),
        (json!({ "statement": "DELETE FROM x", "read_only": false, "done_when": "DELETE FROM x" }), "not a query"),
    ] {
        let reason = built(more.clone()).2.unwrap_or_else(|| panic!("{more} was taken"));
        assert!(reason.contains(words), "{more}: {reason}");
    }
}

#[tokio::test]
async fn a_write_is_committed_read_back_and_leaves_nothing() -> Result<()> {
    let server = Postgres::primary(PgOptions::default()).await?;
    let standby = server.standby(StandbyOptions::default()).await?;
    server
        .sql("CREATE TABLE health_check (timestamp timestamptz NOT NULL, status text CHECK (status <> 'bad'))")
        .await?;
    let id = server.system_identifier().await?;
    let more = json!({
        "table": "public.health_check", "row": { "timestamp": "now", "status": "it's a \\ test" }, "system_identifier": id,
    });
    let (_file, subject) = action("verify_write", &server.url(), more)?;
    let (evidence, _) = handed_on(&subject).await?;
    for words in
        ["a write was committed at ", "read back as committed", "took a row, which was read back and rolled back"]
    {
        ensure!(evidence.contains(words), "{evidence}");
    }
    assert_eq!(psql(&server.url(), "SELECT count(*) FROM health_check")?, "0");
    assert_eq!(psql(&server.url(), "SELECT count(*) FROM pg_class WHERE relname LIKE 'failoverd%'")?, "0");
    refused(subject.apply().await, false)?;

    let (_file, subject) = action("verify_write", &standby.url(), json!({}))?;
    ensure!(not_yet(&subject).await?.contains("in recovery"));
    for (more, words) in [
        (json!({ "system_identifier": "7000000000000000001" }), "another cluster"),
        (json!({ "table": "nowhere" }), "does not exist"),
        (json!({ "table": "health_check" }), "null value"),
        (json!({ "table": "health_check", "row": { "timestamp": "now", "status": "bad" } }), "check constraint"),
    ] {
        let (_file, subject) = action("verify_write", &server.url(), more)?;
        let evidence = not_yet(&subject).await?;
        ensure!(evidence.contains(words), "{evidence}");
    }
    psql(&server.url(), "ALTER SYSTEM SET default_transaction_read_only = on")?;
    psql(&server.url(), "SELECT pg_reload_conf()")?;
    let (_file, subject) = action("verify_write", &server.url(), json!({}))?;
    eventually(SOON, "the write to be refused", async || {
        let evidence = not_yet(&subject).await?;
        ensure!(evidence.contains("read-only by default"), "{evidence}");
        Ok(())
    })
    .await
}
