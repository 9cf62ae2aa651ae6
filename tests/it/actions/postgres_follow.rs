//! `postgres.follow`, with a pair that has diverged.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use failoverd::model::Observed;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use super::postgres_sql::{action, psql};
use super::{Subject, accepted, before, done, impossible, refused, secret};
use crate::fleet::postgres::{PASSWORD, PgOptions, Postgres, StandbyOptions, bin_dir, own};

/// An old primary, what was promoted in its place, and the old one's settings, as Debian keeps them:
/// apart from the data, so that a rewind does not bring the other's port.
struct Pair {
    old: Postgres,
    new: Postgres,
    settings: PathBuf,
}

impl Drop for Pair {
    /// What the action started is not a child of ours.
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.old.data().join("postmaster.pid")).ok();
        let pid = pid.and_then(|text| Pid::from_raw(text.lines().next()?.trim().parse().ok()?));
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, Signal::QUIT);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            while rustix::process::test_kill_process(pid).is_ok()
                && std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
                    .is_ok_and(|stat| !stat.contains(") Z "))
            {
                std::thread::yield_now();
            }
        }
    }
}

impl Pair {
    /// Both took writes that the other does not have.
    async fn diverged(hints: &str) -> Result<Self> {
        let setting = ("wal_log_hints".to_owned(), hints.to_owned());
        let old = Postgres::primary(PgOptions { settings: vec![setting], ..PgOptions::default() }).await?;
        old.sql("CREATE TABLE orders (id int)").await?;
        old.sql("INSERT INTO orders VALUES (1)").await?;
        let new = old.standby(StandbyOptions::default()).await?;
        new.promote().await?;
        new.sql("INSERT INTO orders VALUES (2)").await?;
        new.sql("SELECT pg_create_physical_replication_slot('old', true)").await?;
        old.sql("INSERT INTO orders VALUES (99)").await?;
        // The fence of the failover, which must not hold for ever.
        old.sql("ALTER SYSTEM SET default_transaction_read_only = on").await?;
        let settings = old.data().parent().context("a folder")?.join("settings");
        std::fs::create_dir(&settings)?;
        let data = old.data().display().to_string();
        let text = format!(
            "data_directory = '{data}'\nhba_file = '{data}/pg_hba.conf'\nident_file = '{data}/pg_ident.conf'\n\
             listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nport = {}\nfsync = off\n\
             wal_level = replica\nmax_connections = 50\nshared_buffers = 16MB\nwal_retrieve_retry_interval = 100ms\n\
             wal_log_hints = {hints}\n",
            old.port()
        );
        std::fs::write(settings.join("postgresql.conf"), text)?;
        for path in [&settings, &settings.join("postgresql.conf")] {
            own(path)?;
        }
        Ok(Self { old, new, settings })
    }

    fn follow(&self, more: Value) -> Result<(Vec<tempfile::NamedTempFile>, Subject)> {
        let (file, source) = secret(&self.new.url())?;
        let mut params = json!({
            "source": source, "data_directory": self.old.data(), "bin_directory": bin_dir(),
            "config_directory": self.settings, "slot": "old",
        });
        params.as_object_mut().expect("a table").extend(more.as_object().cloned().unwrap_or_default());
        let (url, subject) = action("follow", &self.old.url(), params)?;
        Ok((vec![file, url], subject))
    }

    fn beside(&self, end: &str) -> PathBuf {
        PathBuf::from(format!("{}{end}", self.old.data().display()))
    }

    /// As `psql` sees it on both sides.
    fn streams(&self) -> Result<()> {
        psql(&self.new.url(), "INSERT INTO orders VALUES (3)")?;
        let sql = "SELECT slot_name || ' ' || active FROM pg_replication_slots WHERE slot_name = 'old'";
        assert_eq!(psql(&self.new.url(), sql)?, "old true");
        Ok(())
    }

    async fn has_what_the_new_one_has(&self) -> Result<()> {
        crate::fleet::eventually(super::SOON, "the rows to arrive", async || {
            let rows = psql(&self.old.url(), "SELECT string_agg(id::text, ' ' ORDER BY id) FROM orders")?;
            ensure!(rows == "1 2 3", "{rows}");
            Ok(())
        })
        .await
    }
}

fn version(folder: &Path) -> Result<String> {
    Ok(std::fs::read_to_string(folder.join("PG_VERSION"))?.trim().to_owned())
}

#[tokio::test]
async fn a_diverged_primary_is_rewound_and_follows() -> Result<()> {
    let mut pair = Pair::diverged("on").await?;
    let (_files, subject) = pair.follow(json!({}))?;
    // It runs, as a primary: nothing is done to it.
    let reason = impossible(subject.observe().await)?;
    ensure!(reason.contains("stop it first"), "{reason}");
    refused(subject.apply().await, false)?;
    assert_eq!(psql(&pair.old.url(), "SELECT count(*) FROM orders")?, "2");
    pair.old.kill9();

    let (_denied_files, denied) = pair.follow(json!({}))?;
    denied.overtaken().apply().await.expect_err("overtaken");
    ensure!(!pair.old.data().join("standby.signal").exists(), "rewound without a permit");
    subject.run().await?;
    done(subject.observe().await)?;
    pair.streams()?;
    pair.has_what_the_new_one_has().await?;
    assert_eq!(psql(&pair.old.url(), "SELECT pg_is_in_recovery()")?, "t");
    assert_eq!(psql(&pair.old.url(), "SHOW default_transaction_read_only")?, "off", "an old fence is lifted");
    assert_eq!(psql(&pair.old.url(), "SHOW primary_slot_name")?, "old");
    ensure!(psql(&pair.old.url(), "SHOW primary_conninfo")?.contains(PASSWORD), "as pg_basebackup -R does");
    // A setting that was put right by half: seen, and put right without a restart.
    psql(&pair.old.url(), "ALTER SYSTEM SET primary_slot_name = 'standby'")?;
    psql(&pair.old.url(), "SELECT pg_reload_conf()")?;
    crate::fleet::eventually(super::SOON, "it to be seen", async || before(subject.observe().await).map(drop)).await?;
    accepted(subject.apply().await)?;
    subject.verify().await?;
    refused(subject.compensate(&Value::Null).await, false)?;
    Ok(())
}

#[tokio::test]
async fn a_crash_after_the_rewind_starts_no_second_primary() -> Result<()> {
    let mut pair = Pair::diverged("on").await?;
    pair.old.kill9();
    let (_files, subject) = pair.follow(json!({ "start": ["/bin/false"] }))?;
    before(subject.observe().await)?;
    let outcome = format!("{:?}", subject.apply().await);
    ensure!(outcome.contains("Unknown") && outcome.contains("false ended with 1"), "{outcome}");
    ensure!(pair.old.data().join("standby.signal").exists(), "rewound");
    before(subject.observe().await)?;
    // The next life does it again from there.
    let (_files, subject) = pair.follow(json!({}))?;
    subject.run().await?;
    pair.streams()?;
    pair.has_what_the_new_one_has().await
}

#[tokio::test]
async fn what_cannot_be_rewound_is_copied_only_where_that_was_said() -> Result<()> {
    let mut pair = Pair::diverged("off").await?;
    pair.old.kill9();
    let (_files, subject) = pair.follow(json!({}))?;
    before(subject.observe().await)?;
    let reason = refused(subject.apply().await, false)?;
    ensure!(reason.contains("on_diverged") && reason.contains("wal_log_hints"), "{reason}");
    ensure!(!pair.old.data().join("standby.signal").exists() && !pair.beside(".failoverd-old").exists());

    let (_files, subject) = pair.follow(json!({ "on_diverged": "base_backup" }))?;
    subject.run().await?;
    pair.streams()?;
    pair.has_what_the_new_one_has().await?;
    assert_eq!(version(&pair.beside(".failoverd-old"))?, "15", "what was there is kept");
    ensure!(!pair.beside(".failoverd-new").exists() && !pair.beside(".failoverd-ready").exists());
    Ok(())
}

#[tokio::test]
async fn what_it_must_not_follow_is_refused() -> Result<()> {
    let mut pair = Pair::diverged("on").await?;
    pair.old.kill9();
    let other = Postgres::primary(PgOptions::default()).await?;
    let standby = pair.new.standby(StandbyOptions { name: Some("third".into()), ..StandbyOptions::default() }).await?;
    let (_other_file, other_url) = secret(&other.url())?;
    let (_standby_file, standby_url) = secret(&standby.url())?;
    let (_wrong_file, wrong) = secret(&pair.new.url().replace(PASSWORD, super::CANARY))?;
    let empty = tempfile::tempdir()?;
    for (more, words) in [
        (json!({ "source": other_url }), "another cluster"),
        (json!({ "source": standby_url }), "in recovery"),
        (json!({ "source": wrong }), "password authentication failed"),
        (json!({ "slot": "none" }), "no slot none"),
        (json!({ "data_directory": empty.path() }), "not a data directory"),
        (json!({ "bin_directory": "/no/where" }), "cannot start /no/where/pg_controldata"),
    ] {
        let (_files, subject) = pair.follow(more)?;
        let reason = impossible(subject.observe().await)?;
        ensure!(reason.contains(words), "{reason}");
        refused(subject.apply().await, false)?;
        assert_eq!(subject.permits.asked(), 0);
    }
    drop(pair.new.stop().await);
    let (_files, subject) = pair.follow(json!({}))?;
    ensure!(matches!(subject.observe().await, Observed::Unknown { .. }));
    refused(subject.apply().await, true)?;
    Ok(())
}
