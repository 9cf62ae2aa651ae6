//! Drills on real parts: stand-ins are changed, production is not, and what is killed in the middle of
//! its cleanup cleans up after all.

use anyhow::{Context, Result, ensure};
use failoverd::core::matrix::{EvidenceView, Standing};
use failoverd::core::view::RunView;
use failoverd::model::{DrillVerdict, Entry, RunResult};
use failoverd::state::crash::VARIABLE;
use rustix::process::Signal;

use super::shop::{SOON, Shop, Sketch, has, stop};
use crate::fleet::postgres::{PgOptions, Postgres, StandbyOptions};
use crate::fleet::redis::{Redis, RedisOptions};
use crate::fleet::{eventually, port};

/// Production, and what stands in for it.
struct World {
    shop: Shop,
    postgres: [Postgres; 3],
    redis: [Redis; 3],
}

impl World {
    async fn open() -> Result<Self> {
        let primary = Postgres::primary(PgOptions::default()).await?;
        let named = |name: &str| StandbyOptions { name: Some(name.to_owned()), ..StandbyOptions::default() };
        let standby = primary.standby(named("standby")).await?;
        let stand_in = primary.standby(named("stand_in")).await?;
        let master = Redis::primary(RedisOptions::default()).await?;
        let (replica, cache) = tokio::try_join!(master.replica(), master.replica())?;
        let postgres = [primary, standby, stand_in];
        let redis = [master, replica, cache];
        let shop = Shop::open(Sketch::default()).await?;
        let (standby, stand_in) = (shop.dir().join("standby.url"), shop.dir().join("stand-in.url"));
        std::fs::write(&standby, postgres[1].url())?;
        std::fs::write(&stand_in, postgres[2].url())?;
        let plan = PLAN
            .replace("STANDBY", &standby.display().to_string())
            .replace("STAND_IN", &stand_in.display().to_string())
            .replace("REPLICA", &redis[1].url())
            .replace("CACHE_PORT", &redis[2].port().to_string())
            .replace("CACHE", &redis[2].url())
            .replace("MASTER_PORT", &redis[0].port().to_string())
            .replace("LISTEN", &port()?.to_string())
            .replace("DIR", &shop.dir().display().to_string());
        shop.configure(Sketch { plan: &plan, ..Sketch::default() })?;
        Ok(Self { shop, postgres, redis })
    }

    /// Nothing of production was changed: the standby is one, the replica is one, no traffic moved.
    async fn is_untouched(&self) -> Result<()> {
        ensure!(self.postgres[1].is_in_recovery().await?, "the real standby was promoted");
        ensure!(self.redis[1].role().await? == "slave", "the real replica was promoted");
        ensure!(self.shop.hooks.seen_at("/switch") == 0, "the real hook was called");
        Ok(())
    }

    async fn evidence(&self) -> Result<EvidenceView> {
        Ok(self.shop.client()?.evidence().await?)
    }
}

const PLAN: &str = r#"
[health_switch]
listen = "127.0.0.1:LISTEN"
directory = "DIR/health"
[health_switch.switches]
west = { initially = "off" }
rehearsed = { initially = "off" }

[plans.failover]
drill_every = "30d"
[plans.failover.steps.promote]
postgres.promote = { url = { file = "STANDBY" } }
[plans.failover.steps.cache]
redis.promote = { url = "REPLICA" }
[plans.failover.steps.west]
after = ["promote", "cache"]
health_switch.set = { name = "west", on = true }
[plans.failover.steps.switch]
after = ["west"]
http.request = { url = "HOOKS/switch", effect = "route", idempotent = true }

[plans.failover.drills.staging]
cleanup = { plan = "reseed" }
outcome = ["backup"]
[plans.failover.drills.staging.steps]
promote.postgres.promote = { url = { file = "STAND_IN" } }
cache.redis.promote = { url = "CACHE" }
west.health_switch.set = { name = "rehearsed" }
switch.http.request = { url = "HOOKS/rehearsed" }

[plans.reseed.steps.cache]
exec.run = { argv = ["/usr/bin/redis-cli", "-p", "CACHE_PORT", "replicaof", "127.0.0.1", "MASTER_PORT"], idempotent = true }
[plans.reseed.steps.switch]
health_switch.set = { name = "rehearsed", on = false }
[plans.reseed.steps.database]
after = ["cache"]
http.request = { url = "HOOKS/reseed", idempotent = true }

[plans.failover.drills.switches]
skip = ["promote", "cache", "switch"]
schedule = "0 10 * * 2 Europe/Berlin"
[plans.failover.drills.switches.steps.west]
health_switch.set = { name = "rehearsed" }
"#;

fn verdict(run: &RunView) -> Option<&DrillVerdict> {
    run.verdict.as_ref()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_changes_its_stand_ins_and_cleans_up_also_when_it_is_killed() -> Result<()> {
    let mut world = World::open().await?;
    let mut daemon = world.shop.start().await?;
    let shop = &world.shop;
    has(&shop.fails(3, &["drill", "failover", "--yes"]).await?, &["--target", "staging, switches"]);
    has(&shop.fails(1, &["drill", "failovre", "--yes"]).await?, &["did you mean `failover`?"]);
    has(&shop.ok(&["drill", "--list"]).await?, &["staging", "by hand", "0 10 * * 2 Europe/Berlin"]);
    ensure!(world.evidence().await?.rows[0].verdict == Standing::NoEvidence);

    has(&shop.ok(&["drill", "failover", "--target", "staging", "--yes"]).await?, &["a drill of failover on staging"]);
    let run = shop.ended().await?;
    ensure!(verdict(&run) == Some(&DrillVerdict::Passed) && run.result == Some(RunResult::Done), "{run:#?}");
    world.is_untouched().await?;
    ensure!(!world.postgres[2].is_in_recovery().await?, "the stand-in is what was promoted");
    eventually(SOON, "the cache to be a replica again", async || {
        let role = world.redis[2].role().await?;
        ensure!(role == "slave", "it is {role}");
        Ok(())
    })
    .await?;
    ensure!((shop.hooks.seen_at("/rehearsed"), shop.hooks.seen_at("/reseed")) == (1, 1));
    ensure!(world.evidence().await?.rows[0].verdict == Standing::Meets);
    has(&shop.ok(&["runs", run.id.as_str()]).await?, &["DRILL passed", "cleanup.cache"]);
    shop.told("drill of failover on staging passed").await?;
    let (_, metrics) = shop.get("/metrics").await?;
    has(
        &metrics,
        &[
            "failoverd_drills_total{plan=\"failover\",target=\"staging\",verdict=\"passed\"} 1",
            "failoverd_plan_rto_seconds{plan=\"failover\",scenario=\"outage\"} 120",
            "failoverd_plan_step_seconds{figure=\"p50\",plan=\"failover\",source=\"drills\",step=\"promote\"}",
        ],
    );
    stop(&mut daemon).await?;

    // What a plan of its own cleans up, and what is undone, also where the daemon dies in between.
    for (target, point) in [("staging", "done:apply:cleanup.cache"), ("switches", "done:compensate:west")] {
        world.shop.set_env(VARIABLE, point);
        let mut daemon = world.shop.start().await?;
        world.shop.ok(&["drill", "failover", "--target", target, "--yes"]).await?;
        let status = daemon.wait_exit(SOON).await?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        ensure!(signal == Some(Signal::KILL.as_raw()), "{target}: {status}\n{}", daemon.stderr());
        world.shop.set_env(VARIABLE, "never");
        let mut daemon = world.shop.start().await?;
        let run = world.shop.ended().await?;
        ensure!(verdict(&run) == Some(&DrillVerdict::Passed) && run.result == Some(RunResult::Done), "{run:#?}");
        let switch = std::fs::read_to_string(world.shop.dir().join("health/rehearsed.json")).context("the switch")?;
        ensure!(
            switch.contains("\"on\":false") || switch.contains("\"on\": false"),
            "{target}: the switch is {switch:?}"
        );
        world.is_untouched().await?;
        stop(&mut daemon).await?;
    }

    // The state of a daemon that has ended tells the same, in every form.
    let shop = &world.shop;
    let view: EvidenceView = serde_json::from_value(shop.json(&["matrix", "--state"]).await?)?;
    ensure!(view.rows[0].verdict == Standing::Meets && view.rows[0].measured.unwrap().times.count == 3, "{view:#?}");
    has(&shop.ok(&["matrix", "--state"]).await?, &["outage", "3 drills", "meets"]);
    has(&shop.ok(&["matrix", "--state", "--markdown"]).await?, &["# Recovery-time matrix of shop", "| meets |"]);
    has(&shop.ok(&["matrix", "--state", "--html"]).await?, &["<!doctype html>", ">meets<"]);
    has(&shop.fails(4, &["matrix"]).await?, &["failoverd"]);

    // No drill has counted, and the real thing does what was rehearsed.
    let mut daemon = shop.start().await?;
    shop.break_api();
    let run = shop.newest_run("the real run", |run| run.drill_on.is_none() && run.ended.is_some()).await?;
    ensure!(run.result == Some(RunResult::Done) && run.epoch.0 == 4, "{run:#?}");
    ensure!(!world.postgres[1].is_in_recovery().await? && world.redis[1].role().await? == "master");
    ensure!(shop.hooks.seen_at("/switch") == 1);
    let judged = shop.journal()?.iter().filter(|record| matches!(record.entry, Entry::DrillJudged { .. })).count();
    ensure!(judged == 3, "{judged}");
    stop(&mut daemon).await
}
