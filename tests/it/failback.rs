//! A real pair of PostgreSQL servers: what is predicted to be lost, what was, and the way back.

use anyhow::{Context, Result, ensure};
use failoverd::core::view::{ScenarioView, StatusView};

use crate::fleet::eventually;
use crate::fleet::postgres::{PgOptions, Postgres, StandbyOptions};
use crate::fleet::proxy::{Mode, Proxy};
use crate::operations::shop::{SOON, Shop, Sketch, has};

const TABLES: &str = r#"
[probes.old]
postgres = { url = { file = "DIR/old" }, expect = "primary" }
[probes.new]
postgres = { url = { file = "DIR/new" }, expect = "replica" }
[scenarios.database]
severity = "P0"
when = "old is down"
confirm_for = "200ms"
rto = "2m"
rpo = "1m"
replication = [{ standby = "new", primary = "old" }]
plan = "promote"
failback = "back"
[plans.promote]
point_of_no_return = "promote"
[plans.promote.steps.promote]
postgres.promote = { url = { file = "DIR/new" }, service = "shop" }
timeout = "30s"
[plans.back.steps.keep]
exec.run = { argv = ["/usr/bin/touch", "DIR/went-back"], effect = "call", idempotent = true }
"#;

struct Pair {
    old: Postgres,
    new: Postgres,
    /// What the standby streams through.
    cable: Proxy,
    shop: Shop,
}

impl Pair {
    async fn open() -> Result<Self> {
        let setting = ("track_commit_timestamp".to_owned(), "on".to_owned());
        let old = Postgres::primary(PgOptions { settings: vec![setting], durable: true }).await?;
        old.sql("CREATE TABLE orders (id int)").await?;
        let cable = Proxy::to_port(old.port()).await?;
        let new = old.standby(StandbyOptions { through: Some(cable.port()), ..StandbyOptions::default() }).await?;
        let shop = Shop::open(Sketch::default()).await?;
        for (name, server) in [("old", &old), ("new", &new)] {
            std::fs::write(shop.dir().join(name), server.url())?;
        }
        let more = TABLES.replace("DIR", &shop.dir().display().to_string());
        shop.configure(Sketch { more: &more, ..Sketch::default() })?;
        Ok(Self { old, new, cable, shop })
    }

    async fn scenario(&self, what: &str, wanted: impl Fn(&ScenarioView) -> bool) -> Result<ScenarioView> {
        let of = |view: &ScenarioView| view.name.as_str() == "database" && wanted(view);
        let status = self.shop.sees(what, |status| status.scenarios.iter().any(of)).await?;
        status.scenarios.into_iter().find(|view| view.name.as_str() == "database").context("it is there")
    }
}

fn is_cut_off(status: &StatusView) -> bool {
    let facts = status.probes.iter().find(|probe| probe.name.as_str() == "new").and_then(|probe| probe.facts.as_ref());
    facts.is_some_and(|facts| facts.streaming == Some(false))
}

#[tokio::test]
async fn what_is_lost_is_predicted_measured_and_given_up_before_the_way_back() -> Result<()> {
    let mut pair = Pair::open().await?;
    let _daemon = pair.shop.start().await?;
    let even = pair.scenario("both positions", |scenario| scenario.predicted_writes.transactions == Some(0)).await?;
    ensure!(even.stakes.is_empty(), "nothing is down: {:?}", even.stakes);

    pair.old.sql("INSERT INTO orders VALUES (0)").await?;
    eventually(SOON, "the first order on the standby", async || {
        ensure!(pair.new.value("SELECT count(*) FROM orders").await? == "1", "not yet");
        Ok(())
    })
    .await?;
    // The replication is cut: what is written from here on, only the primary has.
    pair.cable.set(Mode::Refuse).await?;
    pair.shop.sees("the standby to be cut off", is_cut_off).await?;
    for id in 1..=7 {
        pair.old.sql(&format!("INSERT INTO orders VALUES ({id})")).await?;
    }
    pair.scenario("the loss", |scenario| scenario.predicted_writes.transactions >= Some(7)).await?;
    pair.old.kill9();

    let run = pair.shop.ended().await?;
    ensure!(run.predicted_writes.transactions.is_some(), "{run:?}");
    ensure!(run.measured_loss.is_empty(), "the old primary is away");
    ensure!(!pair.new.is_in_recovery().await?);
    assert_eq!(pair.new.value("SELECT count(*) FROM orders").await?, "1", "seven are lost");

    pair.old.restart().await?;
    let run = pair.shop.newest_run("the measured loss", |run| !run.measured_loss.is_empty()).await?;
    let measured = &run.measured_loss[0];
    // Each row was a transaction of its own; the server's own may be among them.
    ensure!(measured.writes.transactions >= Some(7) && measured.writes.bytes > Some(0), "{measured:?}");
    ensure!(measured.time.is_some(), "both keep commit times: {measured:?}");
    let refused = pair.shop.fails(3, &["failback", "database", "--yes"]).await?;
    has(&refused, &["that new lacks", "--discard"]);
    ensure!(!pair.shop.dir().join("went-back").exists());
    pair.shop.ok(&["failback", "database", "--yes", "--discard"]).await?;
    let back = |run: &failoverd::core::view::RunView| run.plan.as_str() == "back" && run.ended.is_some();
    let run = pair.shop.newest_run("the failback", back).await?;
    ensure!(run.trigger.contains("failback") && pair.shop.dir().join("went-back").exists(), "{run:?}");
    let again = pair.shop.fails(3, &["failback", "database", "--yes", "--discard"]).await?;
    has(&again, &["has not failed over since"]);
    Ok(())
}
