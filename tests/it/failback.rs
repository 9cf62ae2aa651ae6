//! A real pair of PostgreSQL servers: what is predicted to be lost, what was, and the way back.

use anyhow::{Result, ensure};
use failoverd::core::view::ScenarioView;

use crate::fleet::postgres::{PgOptions, Postgres, StandbyOptions};
use crate::fleet::process::{Failoverd, Running};
use crate::fleet::{eventually, port, scratch_dir};
use crate::rig::PATIENCE;

const BINARY: &str = env!("CARGO_BIN_EXE_failoverd");

struct Pair {
    old: Postgres,
    new: Postgres,
    dir: tempfile::TempDir,
    metrics: u16,
}

impl Pair {
    async fn start() -> Result<Self> {
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let settings = vec![setting("track_commit_timestamp", "on")];
        let old = Postgres::primary(PgOptions { settings, durable: true }).await?;
        old.sql("CREATE TABLE orders (id int)").await?;
        let new = old.standby(StandbyOptions::default()).await?;
        let pair = Self { old, new, dir: scratch_dir("failback")?, metrics: port()? };
        pair.configure()?;
        Ok(pair)
    }

    fn configure(&self) -> Result<()> {
        let dir = self.dir.path().display();
        for (name, server) in [("old", &self.old), ("new", &self.new)] {
            std::fs::write(self.dir.path().join(name), server.url())?;
        }
        let text = format!(
            r#"[daemon]
name = "shop"
mode = "auto"
state = "sqlite:{dir}/state.db"
socket = "{dir}/failoverd.sock"
[metrics]
listen = "127.0.0.1:{metrics}"
[policy]
startup_grace = "1ms"
cool_down = "1ms"
failover_limit = 100
tilt_for = "50ms"
[defaults.probe]
interval = "100ms"
timeout = "3s"
fall = 2
rise = 1
[probes.old]
postgres = {{ url = {{ file = "{dir}/old" }}, expect = "primary" }}
[probes.new]
postgres = {{ url = {{ file = "{dir}/new" }}, expect = "replica" }}
[scenarios.database]
severity = "P0"
when = "old is down"
confirm_for = "200ms"
rto = "2m"
rpo = "1m"
replication = [{{ standby = "new", primary = "old" }}]
plan = "promote"
failback = "back"
[plans.promote]
point_of_no_return = "promote"
[plans.promote.steps.promote]
postgres.promote = {{ url = {{ file = "{dir}/new" }}, service = "shop" }}
timeout = "30s"
[plans.back.steps.keep]
exec.run = {{ argv = ["/usr/bin/touch", "{dir}/went-back"], effect = "call", idempotent = true }}
"#,
            metrics = self.metrics,
        );
        Ok(std::fs::write(self.dir.path().join("failoverd.toml"), text)?)
    }

    fn verb(&self, args: &[&str]) -> Failoverd {
        Failoverd::new(BINARY).args(args).arg("--config").arg(self.dir.path().join("failoverd.toml"))
    }

    fn client(&self) -> Result<failoverd::control::client::Client> {
        Ok(failoverd::control::client::Client::new(&self.dir.path().join("failoverd.sock"))?)
    }

    async fn daemon(&self) -> Result<Running> {
        let mut daemon = self.verb(&["run"]).start()?;
        let client = self.client()?;
        daemon.ready(PATIENCE, "the daemon", async || Ok(client.status().await?)).await?;
        Ok(daemon)
    }

    async fn scenario(&self, what: &str, wanted: impl Fn(&ScenarioView) -> bool) -> Result<ScenarioView> {
        let client = self.client()?;
        eventually(PATIENCE, what, async || {
            let scenario = client.status().await?.scenarios.remove(0);
            ensure!(wanted(&scenario), "{scenario:?}");
            Ok(scenario)
        })
        .await
    }
}

#[tokio::test]
async fn what_is_lost_is_predicted_measured_and_given_up_before_the_way_back() -> Result<()> {
    let mut pair = Pair::start().await?;
    let _daemon = pair.daemon().await?;
    let even = pair.scenario("both positions", |scenario| scenario.predicted_writes.transactions == Some(0)).await?;
    ensure!(even.stakes.is_empty(), "nothing is down: {:?}", even.stakes);

    // The standby stands still: what is written now, only the primary has.
    pair.new.sql("SELECT pg_wal_replay_pause()").await?;
    pair.new.sigstop()?;
    for id in 1..=7 {
        pair.old.sql(&format!("INSERT INTO orders VALUES ({id})")).await?;
    }
    pair.scenario("the loss", |scenario| scenario.predicted_writes.transactions >= Some(7)).await?;
    pair.old.kill9();
    pair.new.sigcont()?;
    pair.new.sql("SELECT pg_wal_replay_resume()").await?;

    let client = pair.client()?;
    let run = eventually(PATIENCE, "the failover", async || {
        let run = client.runs().await?.into_iter().next();
        run.filter(|run| run.ended.is_some()).ok_or_else(|| anyhow::anyhow!("not yet"))
    })
    .await?;
    ensure!(run.predicted_writes.transactions.is_some(), "{run:?}");
    ensure!(run.measured_loss.is_empty(), "the old primary is away");
    ensure!(!pair.new.is_in_recovery().await?);
    let kept: u64 = pair.new.value("SELECT count(*) FROM orders").await?.parse()?;

    pair.old.restart().await?;
    let measured = eventually(PATIENCE, "the measured loss", async || {
        let run = client.runs().await?.remove(0);
        run.measured_loss.first().cloned().ok_or_else(|| anyhow::anyhow!("not yet"))
    })
    .await?;
    // The truth, counted in rows; each was a transaction of its own.
    let lost = 7 - kept;
    if measured.writes.transactions.is_some() {
        ensure!(measured.writes.transactions >= Some(lost), "{measured:?}, {lost} rows");
    }
    if lost > 0 {
        ensure!(measured.writes.bytes > Some(0) && measured.time.is_some(), "{measured:?}, {lost} rows");
        let refused = pair.verb(&["failback", "database", "--yes"]).run(PATIENCE).await?;
        ensure!(refused.status.code() == Some(3), "{}{}", refused.stdout, refused.stderr);
        ensure!(
            refused.stderr.contains("that new lacks") && refused.stderr.contains("--discard"),
            "{}",
            refused.stderr
        );
        ensure!(!pair.dir.path().join("went-back").exists());
    }
    let done = pair.verb(&["failback", "database", "--yes", "--discard"]).run(PATIENCE).await?;
    ensure!(done.status.success(), "{}{}", done.stdout, done.stderr);
    eventually(PATIENCE, "the failback", async || {
        let run = client.runs().await?.remove(0);
        ensure!(run.plan.as_str() == "back" && run.ended.is_some() && run.trigger.contains("failback"), "{run:?}");
        Ok(())
    })
    .await?;
    ensure!(pair.dir.path().join("went-back").exists());
    let again = pair.verb(&["failback", "database", "--yes", "--discard"]).run(PATIENCE).await?;
    ensure!(again.status.code() == Some(3) && again.stderr.contains("has not failed over since"), "{}", again.stderr);
    Ok(())
}
