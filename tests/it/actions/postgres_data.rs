//! `postgres.restore` and `postgres.compare_counts`, with real dumps.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::model::Verified;
use serde_json::json;

use super::postgres_sql::{action, handed_on, not_yet, psql};
use super::{CANARY, SOON, before, done, impossible, refused, unknown, unseen};
use crate::fleet::child::{Proc, command};
use crate::fleet::eventually;
use crate::fleet::postgres::{PASSWORD, PgOptions, Postgres, bin_dir};

const KEY: &str = "RUN-20261101-001/step";

/// A server with a shop in it, and dumps of the shop.
struct Shop {
    server: Postgres,
    folder: tempfile::TempDir,
}

impl Shop {
    async fn new() -> Result<Self> {
        let server = Postgres::primary(PgOptions::default()).await?;
        psql(&server.url(), "CREATE DATABASE shop")?;
        let shop = Self { server, folder: tempfile::tempdir()? };
        let url = shop.url("shop");
        psql(&url, "CREATE ROLE clerk")?;
        psql(&url, "CREATE TABLE companies (id int PRIMARY KEY, name text)")?;
        psql(&url, "INSERT INTO companies SELECT i, 'c' || i FROM generate_series(1, 1000) i")?;
        psql(&url, "CREATE TABLE filings (id int PRIMARY KEY, company int REFERENCES companies)")?;
        psql(&url, "INSERT INTO filings SELECT i, i FROM generate_series(1, 500) i")?;
        psql(&url, "ALTER TABLE filings OWNER TO clerk")?;
        Ok(shop)
    }

    fn url(&self, database: &str) -> String {
        self.server.url().replace("/postgres?", &format!("/{database}?"))
    }

    fn dump(&self, name: &str, format: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        let mut dump = command(bin_dir().join("pg_dump"));
        dump.args(["-d", &self.url("shop"), "-F", format, "-f"]).arg(&path);
        let output = dump.output()?;
        ensure!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
        Ok(path)
    }

    fn target(&self, name: &str) -> Result<String> {
        psql(&self.server.url(), &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(name))
    }
}

/// With what a step says of its dump.
fn of(dump: &Path) -> serde_json::Value {
    json!({ "dump": dump, "bin_directory": bin_dir() })
}

fn with(dump: &Path, more: serde_json::Value) -> serde_json::Value {
    let mut all = of(dump);
    all.as_object_mut().expect("a table").extend(more.as_object().cloned().unwrap_or_default());
    all
}

fn comment(url: &str) -> Result<String> {
    psql(
        url,
        "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = current_database()",
    )
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM companies) || ' ' || (SELECT count(*) FROM filings)";

#[tokio::test]
async fn a_dump_is_restored_once_and_a_full_target_is_refused() -> Result<()> {
    let shop = Shop::new().await?;
    let dump = shop.dump("shop.dump", "c")?;
    let target = shop.target("restored")?;
    let (_denied_file, denied) = action("restore", &target, of(&dump))?;
    denied.overtaken().apply().await.expect_err("overtaken");
    assert_eq!(comment(&target)?, "");
    psql(&target, "COMMENT ON DATABASE restored IS 'Ask Ada.'")?;

    let (_file, subject) = action("restore", &target, of(&dump))?;
    subject.run().await?;
    assert_eq!(psql(&target, COUNTS)?, "1000 500");
    match subject.verify_once().await {
        Verified::Yes { outputs, .. } => assert_eq!(outputs["tables"], "2"),
        other => panic!("{other:?}"),
    }
    let line = comment(&target)?;
    ensure!(line.starts_with(&format!("Ask Ada.\n[failoverd restore {KEY} epoch 5 ended 20")), "{line}");
    // After a crash the line says that it is done; clients may have written since.
    psql(&target, "DELETE FROM filings WHERE id > 100")?;
    done(subject.observe().await)?;
    refused(subject.apply().await, true)?;
    assert_eq!(psql(&target, COUNTS)?, "1000 100");

    // Another run is another restore: the target is not empty, unless it may be cleaned.
    let (_file, mut again) = action("restore", &target, of(&dump))?;
    again.context.run = Some("RUN-20261101-002".into());
    let reason = impossible(again.observe().await)?;
    ensure!(reason.contains("restore target exists already"), "{reason}");
    refused(again.apply().await, false)?;
    let (_file, mut clean) = action("restore", &target, with(&dump, json!({ "clean": true, "jobs": 2 })))?;
    clean.context.run = Some("RUN-20261101-002".into());
    clean.run().await?;
    assert_eq!(psql(&target, COUNTS)?, "1000 500");

    // One table of it, as one runbook does; what is else in the target stays.
    psql(&target, "DELETE FROM filings")?;
    psql(&target, "DELETE FROM companies WHERE id > 10")?;
    let (_file, mut one) = action("restore", &target, with(&dump, json!({ "tables": ["filings"], "clean": true })))?;
    one.context.run = Some("RUN-20261101-003".into());
    one.run().await?;
    assert_eq!(psql(&target, COUNTS)?, "10 500");

    // A dump that was made of a restored database can be restored in its turn.
    let source = shop.url("restored");
    let second = shop.folder.path().join("second.dump");
    let output = command(bin_dir().join("pg_dump")).args(["-d", &source, "-Fc", "-f"]).arg(&second).output()?;
    ensure!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
    let third = shop.target("third")?;
    let (_file, later) = action("restore", &third, of(&second))?;
    later.run().await?;
    assert_eq!((psql(&third, COUNTS)?, comment(&third)?.lines().count()), ("10 500".into(), 1));
    Ok(())
}

#[tokio::test]
async fn a_restore_that_was_cut_off_is_waited_for_and_done_again() -> Result<()> {
    let shop = Shop::new().await?;
    let dump = shop.dump("shop.dump", "c")?;
    let target = shop.target("restored")?;
    // A session that holds what `pg_restore` wants to make: it waits, and is killed in the end.
    psql(&target, "CREATE TABLE companies (id int)")?;
    let log = tempfile::NamedTempFile::new()?;
    let mut holder = command("psql");
    holder.args(["-XAtq", "-d", &target, "-c", "BEGIN; LOCK companies; SELECT pg_sleep(120)"]);
    let mut holder = Proc::start("psql", holder, log.path())?;
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted";
    eventually(SOON, "the lock to be held", async || {
        ensure!(psql(&target, locked)? != "0", "not yet");
        Ok(())
    })
    .await?;
    let (_file, subject) = action("restore", &target, with(&dump, json!({ "clean": true })))?;
    let subject = subject.within(Duration::from_secs(4));
    let reason = unknown(subject.apply().await)?;
    ensure!(reason.contains("pg_restore did not end in time"), "{reason}");
    // Its session at the server still waits for the lock: nothing is begun beside it.
    let reason = unseen(subject.observe().await)?;
    ensure!(reason.contains("still at work"), "{reason}");
    refused(subject.apply().await, true)?;
    psql(&target, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")?;
    holder.kill9();
    eventually(SOON, "the session to be gone", async || before(subject.observe().await).map(drop)).await?;
    assert_eq!(psql(&target, "SELECT count(*) FROM companies")?, "0");
    let subject = subject.within(SOON);
    subject.run().await?;
    assert_eq!(psql(&target, COUNTS)?, "1000 500");

    // Without `clean`: what a try that was cut off left is ours, as its line proves.
    let target = shop.target("second")?;
    let (_file, subject) = action("restore", &target, of(&dump))?;
    subject.run().await?;
    let begun = format!("COMMENT ON DATABASE second IS '[failoverd restore {KEY} epoch 5 begun]'");
    psql(&target, "DROP TABLE filings")?;
    psql(&target, &begun)?;
    subject.run().await?;
    assert_eq!(psql(&target, COUNTS)?, "1000 500");
    // A run under a lower epoch is overtaken.
    psql(&target, &begun)?;
    let subject = subject.at_epoch(4);
    ensure!(impossible(subject.observe().await)?.contains("fenced by epoch 5"));
    refused(subject.apply().await, false)?;
    Ok(())
}

#[tokio::test]
async fn an_error_of_pg_restore_leaves_nothing_and_is_told() -> Result<()> {
    let shop = Shop::new().await?;
    let dump = shop.dump("shop.dump", "c")?;
    psql(&shop.url("shop"), "ALTER TABLE filings OWNER TO postgres")?;
    psql(&shop.url("shop"), "DROP ROLE clerk")?;
    let target = shop.target("restored")?;
    let (_file, subject) = action("restore", &target, of(&dump))?;
    let reason = refused(subject.apply().await, false)?;
    ensure!(reason.contains("pg_restore ended with 1") && reason.contains("role \"clerk\" does not exist"), "{reason}");
    assert_eq!(psql(&target, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")?, "0");
    ensure!(format!("{:?}", subject.observe().await).contains("clerk"), "the reason is kept for who looks again");
    ensure!(comment(&target)?.starts_with(&format!("[failoverd restore {KEY} epoch 5 begun] pg_restore ended with 1")));
    let (_file, subject) = action("restore", &target, with(&dump, json!({ "no_owner": true })))?;
    subject.run().await?;
    assert_eq!(psql(&target, COUNTS)?, "1000 500");

    let target = shop.target("third")?;
    let gz = shop.folder.path().join("shop.dump.1");
    std::fs::write(&gz, [0x1f, 0x8b, 8, 0, 0, 0])?;
    let empty = shop.folder.path().join("empty");
    std::fs::write(&empty, "")?;
    let missing = shop.folder.path().join("missing");
    for (dump, words) in [
        (shop.dump("shop.plain", "p")?, "custom format"),
        (gz, "compressed"),
        (empty, "is empty"),
        (missing, "cannot be read"),
    ] {
        let (_file, subject) = action("restore", &target, of(&dump))?;
        let reason = impossible(subject.observe().await)?;
        ensure!(reason.contains(words), "{reason}");
        refused(subject.apply().await, false)?;
        assert_eq!(subject.permits.asked(), 0);
    }
    let (_file, subject) = action("restore", &shop.url("nowhere"), of(&dump))?;
    impossible(subject.observe().await)?;
    let (_file, subject) = action("restore", &target.replace(PASSWORD, CANARY), of(&dump))?;
    impossible(subject.observe().await)?;
    Ok(())
}

#[tokio::test]
async fn rows_are_compared_with_what_was_there_before() -> Result<()> {
    let shop = Shop::new().await?;
    let url = shop.url("shop");
    let file = shop.folder.path().join("counts.json");
    // Taken before, as the documentation shows it.
    let before = psql(
        &url,
        "SELECT json_build_object('companies', (SELECT count(*) FROM companies), 'public.filings', (SELECT count(*) FROM filings))",
    )?;
    std::fs::write(&file, &before)?;
    let (_file, subject) = action("compare_counts", &url, json!({ "file": file }))?;
    let (evidence, outputs) = handed_on(&subject).await?;
    assert_eq!((evidence.as_str(), outputs["differences"].as_str()), ("companies: 1000; public.filings: 500", "none"));
    refused(subject.apply().await, false)?;

    psql(&url, "DELETE FROM filings WHERE id > 495")?;
    let evidence = not_yet(&subject).await?;
    assert_eq!(evidence, "1 differ: public.filings: 495 instead of 500 (-1.00 %); 1 do not");
    let against = json!({ "companies": 1000, "filings": 500 });
    let (_file, subject) = action("compare_counts", &url, json!({ "against": against, "tolerance_percent": 1.0 }))?;
    let (_, outputs) = handed_on(&subject).await?;
    assert_eq!(outputs["differences"], "filings: 495 instead of 500 (-1.00 %)");
    let (_file, subject) = action("compare_counts", &url, json!({ "against": against, "tolerance_percent": 0.99 }))?;
    not_yet(&subject).await?;
    let (_file, subject) = action("compare_counts", &url, json!({ "against": { "nowhere": 1 } }))?;
    ensure!(not_yet(&subject).await?.contains("nowhere: postgres: "));
    for (text, words) in [("{\"companies\": -1}", "line 1"), ("{}", "no table"), ("{\"a\\\"b\": 1}", "not the name")] {
        std::fs::write(&file, text)?;
        let (_file, subject) = action("compare_counts", &url, json!({ "file": file }))?;
        let reason = impossible(subject.observe().await).context(text)?;
        ensure!(reason.contains(words), "{reason}");
    }
    Ok(())
}
