//! The disaster-recovery plan of Waqiti.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::core::view::StepStateView::{self, Failed, Parked, Skipped};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use rustix::process::{Pid, Signal};
use serde_json::json;

use super::outside::{
    backed_up, database, kubectl, node, psql, redis_cli, restored, script, secret, service, shows, told, velero,
    velero_backup,
};
use super::stage::{Door, Ended, Stage, all_done_but};
use crate::actions::CANARY;
use crate::actions::cloudflare::Double;
use crate::fleet::eventually;
use crate::fleet::http_app::{Answer, LocalApp};
use crate::fleet::kube::{BACKUP_CONTEXT, Kube, deployment};
use crate::fleet::moto::Moto;
use crate::fleet::postgres::{PgOptions, Postgres, StandbyOptions, own};
use crate::fleet::redis::{Redis, RedisOptions};

const EAST: &str = "us-east-1";
const WEST: &str = "us-west-2";
const SPACE: &str = "waqiti";
const SOON: Duration = Duration::from_secs(90);
const SERVICES: [&str; 6] =
    ["payment-service", "wallet-service", "user-service", "auth-service", "analytics-service", "marketing-service"];

const SCHEMA: &str = "
    CREATE TABLE health_check (timestamp timestamptz NOT NULL, status text NOT NULL);
    CREATE TABLE ledger (payment int, amount int);
    INSERT INTO ledger SELECT i, a FROM generate_series(1, 100) i, (VALUES (1), (-1)) AS of (a)";

/// What the platform's own script does: every payment takes from one wallet what it gives to another.
const INTEGRITY: &str = "#!/bin/sh
exec psql -XAtq -v ON_ERROR_STOP=1 -d \"$DATABASE_URL\" -c 'SELECT 1 / (sum(amount) = 0)::int FROM ledger'
";

/// What all of its plans share.
struct Waqiti {
    stage: Stage,
    api: LocalApp,
    dr_api: LocalApp,
    status_page: LocalApp,
    slack: LocalApp,
    stripe: LocalApp,
    zones: [Option<Door>; 3],
    cluster: Option<Door>,
    dr_cluster: Door,
    db: Postgres,
    standby: Postgres,
    dr: Postgres,
    cache: Redis,
    replica: Redis,
    dr_cache: Redis,
    cloudflare: Double,
    moto: Moto,
}

impl Waqiti {
    async fn open() -> Result<Self> {
        let hints = ("wal_log_hints".to_owned(), "on".to_owned());
        let db = Postgres::primary(PgOptions { settings: vec![hints], ..PgOptions::default() }).await?;
        psql(&db.url(), SCHEMA)?;
        // In this order: a copy of a primary whose commits wait for a standby would wait as well.
        let dr = db.standby(StandbyOptions { name: Some("dr".into()), ..StandbyOptions::default() }).await?;
        let standby = db.standby(StandbyOptions { synchronous: true, ..StandbyOptions::default() }).await?;
        let cache = Redis::primary(RedisOptions::default()).await?;
        let (replica, dr_cache) = (cache.replica().await?, cache.replica().await?);
        let listen = Door::open;
        let record = json!([{ "id": "r1", "type": "CNAME", "name": "api.waqiti.example", "ttl": 60,
            "content": "lb.us-east-1.waqiti.example", "proxied": false, "comment": "" }]);
        let waqiti = Self {
            stage: Stage::of("waqiti")?,
            api: LocalApp::start(EAST).await?,
            dr_api: LocalApp::start(WEST).await?,
            status_page: LocalApp::start("status").await?,
            slack: LocalApp::start("slack").await?,
            stripe: LocalApp::start("stripe").await?,
            zones: [Some(listen().await?), Some(listen().await?), Some(listen().await?)],
            cluster: Some(listen().await?),
            dr_cluster: listen().await?,
            db,
            standby,
            dr,
            cache,
            replica,
            dr_cache,
            cloudflare: Double::start(record).await?,
            moto: Moto::start().await?,
        };
        waqiti.dressed().await
    }

    async fn dressed(mut self) -> Result<Self> {
        let stage = &mut self.stage;
        stage.replace("https://api.waqiti.example", &self.api.at(""))?;
        stage.replace("https://dr.waqiti.example", &self.dr_api.at(""))?;
        stage.replace("https://status.example.com/api", &self.status_page.at("/api"))?;
        stage.replace("https://api.stripe.com", &self.stripe.at(""))?;
        stage.replace("https://api.cloudflare.com/client/v4", &self.cloudflare.url)?;
        for (zone, listener) in ["a", "b", "c"].into_iter().zip(&self.zones) {
            let listener = listener.as_ref().context("it is there")?;
            stage.replace(&format!("us-east-1{zone}.ingress.waqiti.example:443"), listener.address())?;
        }
        let cluster = self.cluster.as_ref().context("it is there")?;
        stage.replace("kubernetes.us-east-1.waqiti.example:6443", cluster.address())?;
        stage.replace("kubernetes.us-west-2.waqiti.example:6443", self.dr_cluster.address())?;
        // The new, empty servers are databases of the ones that are there.
        let urls = [
            ("postgres-primary", self.db.url()),
            ("postgres-standby", self.standby.url()),
            ("postgres-new", database(&self.db.url(), "new")),
            ("postgres-dr", self.dr.url()),
            ("postgres-dr-new", database(&self.dr.url(), "dr_new")),
            ("redis-primary", self.cache.url()),
            ("redis-replica", self.replica.url()),
            ("redis-dr", self.dr_cache.url()),
            ("slack", self.slack.url()),
        ];
        for (name, url) in urls {
            stage.file(&format!("/etc/failoverd/{name}.url"), &url)?;
        }
        stage.pager("arn:aws:sns:us-west-2:123456789012:pagerduty")?;
        stage.file("/etc/failoverd/status-page.authorization", "Bearer canary")?;
        stage.file("/etc/failoverd/cloudflare.token", &format!("{CANARY}-token"))?;
        stage.replace("/opt/waqiti/scripts/", "/etc/failoverd/scripts/")?;
        script(stage, "/etc/failoverd/scripts/verify-data-integrity.sh", INTEGRITY)?;
        // PostgreSQL of the test has no unit, and its settings lie elsewhere.
        let settings = settings(&self.db)?.display().to_string();
        stage.replace("/etc/postgresql/15/main", &settings)?;
        stage.replace("/var/lib/postgresql/15/main", &self.db.data().display().to_string())?;
        stage.replace(", start = [\"/usr/bin/systemctl\", \"start\", \"postgresql@15-main\"]", "")?;
        stage.env(self.moto.env());
        stage.quick();
        for topic in ["stakeholders", "pagerduty"] {
            self.moto.cli(WEST, &["sns", "create-topic", "--name", topic]).await?;
        }
        // Nothing is deployed there in quiet times; and Stripe asks for a key.
        self.dr_api.set(Some(Answer::status(503)));
        self.stripe.set(Some(Answer::status(401)));
        Ok(self)
    }

    fn on(&mut self, prod: &Kube, dr: &Kube) -> Result<()> {
        self.stage.kubeconfig(&[("waqiti-prod", prod), ("waqiti-dr", dr)])?;
        let manifests = self.stage.path("/etc/failoverd/manifests/dr");
        std::fs::create_dir_all(&manifests)?;
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SPACE } });
        std::fs::write(manifests.join("namespace.json"), namespace.to_string())?;
        for name in SERVICES {
            let mut manifest = serde_json::to_value(deployment(name, 1))?;
            manifest["metadata"]["namespace"] = SPACE.into();
            // How many there are is not the manifest's to say: the plan scales them.
            manifest["spec"].as_object_mut().context("a spec")?.remove("replicas");
            std::fs::write(manifests.join(format!("{name}.json")), manifest.to_string())?;
        }
        Ok(())
    }

    /// Everything is there, and the daemon sees it.
    async fn started(&mut self, plans: &[&str]) -> Result<crate::fleet::process::Running> {
        self.stage.open().await?;
        for plan in plans {
            self.stage.plan(plan, &[]).await.with_context(|| (*plan).to_owned())?;
        }
        self.stage.start_with(&["dr-payments"]).await
    }

    /// Tasks that are left to people are done.
    async fn tasks_done(&self) -> Result<()> {
        let open = self.stage.client()?.status().await?.tasks;
        for task in open {
            self.stage.ok(&["step", "done", task.step.as_str(), "--note", "done in the test"]).await?;
        }
        self.stage.sees("no open task", |status| status.tasks.is_empty()).await.map(drop)
    }
}

impl Drop for Waqiti {
    /// What `postgres.follow` started is no child of ours.
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.db.data().join("postmaster.pid")).ok();
        if let Some(pid) = pid.and_then(|text| Pid::from_raw(text.lines().next()?.trim().parse().ok()?)) {
            let _ = rustix::process::kill_process(pid, Signal::QUIT);
        }
    }
}

/// Settings apart from the data, as Debian keeps them, so that a rewind does not bring the other's port.
fn settings(db: &Postgres) -> Result<PathBuf> {
    let folder = db.data().parent().context("a folder")?.join("settings");
    std::fs::create_dir(&folder)?;
    let data = db.data().display().to_string();
    let text = format!(
        "data_directory = '{data}'\nhba_file = '{data}/pg_hba.conf'\nident_file = '{data}/pg_ident.conf'\n\
         listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nport = {}\nfsync = off\n\
         wal_level = replica\nmax_connections = 50\nshared_buffers = 16MB\nwal_log_hints = on\n",
        db.port()
    );
    std::fs::write(folder.join("postgresql.conf"), text)?;
    for path in [&folder, &folder.join("postgresql.conf")] {
        own(path)?;
    }
    Ok(folder)
}

/// The services, with the labels that say what they use.
async fn deployed(kube: &Kube) -> Result<()> {
    for name in SERVICES {
        kube.create_deployment(SPACE, name, 1).await?;
        kube.wait_ready(SPACE, name, 1, SOON).await?;
    }
    let api: Api<Deployment> = Api::namespaced(kube.client(BACKUP_CONTEXT).await?, SPACE);
    for name in ["payment-service", "wallet-service"] {
        let labels = Patch::Merge(json!({ "metadata": { "labels": { "database": "postgres", "cache": "redis" } } }));
        api.patch(name, &PatchParams::default(), &labels).await?;
    }
    service(kube, SPACE, "payment-service").await
}

/// How often the Deployment's pods were made anew.
async fn revision(kube: &Kube, name: &str) -> Result<i64> {
    let api: Api<Deployment> = Api::namespaced(kube.client(BACKUP_CONTEXT).await?, SPACE);
    let annotations = api.get(name).await?.metadata.annotations.unwrap_or_default();
    Ok(annotations.get("deployment.kubernetes.io/revision").context("a revision")?.parse()?)
}

async fn replicas(kube: &Kube) -> Result<(i32, i32)> {
    Ok((kube.replicas(SPACE, "payment-service").await?, kube.replicas(SPACE, "wallet-service").await?))
}

fn asked(ended: &Ended) -> Vec<&str> {
    ended.asked.iter().map(String::as_str).collect()
}

/// These, and what they name with a `*` at the end, were left out.
fn skipped<'a>(ended: &'a Ended, names: &[&str], others: &[(&'a str, StepStateView)]) -> Vec<(&'a str, StepStateView)> {
    let is_of = |step: &str| {
        names.iter().any(|name| name.strip_suffix('*').map_or(*name == step, |prefix| step.starts_with(prefix)))
    };
    let steps = ended.run.steps.iter().map(|step| step.name.as_str()).filter(|step| is_of(step));
    steps.map(|step| (step, Skipped)).chain(others.iter().copied()).collect()
}

/// 1, the runbook's three phases, restores, and a database failover while all is well.
#[tokio::test]
async fn services_and_data_are_recovered_on_a_real_api_server() -> Result<()> {
    let mut waqiti = Waqiti::open().await?;
    let kube = Kube::real().await?;
    deployed(&kube).await?;
    waqiti.on(&kube, &kube)?;
    let _velero = velero(&kube).await?;
    for (name, phase, day) in [("daily-1", "Completed", 1), ("daily-2", "Completed", 2), ("daily-3", "Failed", 3)] {
        velero_backup(&kube, name, "waqiti-daily", phase, &format!("2026-01-0{day}T03:00:00Z")).await?;
    }
    backed_up(&waqiti.moto, &waqiti.db.url(), EAST, "waqiti-backups", "postgres/waqiti-1.dump").await?;
    psql(&waqiti.db.url(), "CREATE DATABASE new")?;
    let rdb = tempfile::NamedTempFile::new()?;
    redis_cli(&waqiti.cache.url(), &["--rdb", &rdb.path().display().to_string()])?;
    let put = ["s3api", "put-object", "--bucket", "waqiti-backups", "--key", "redis/dump.rdb", "--body"];
    waqiti.moto.cli(EAST, &[&put[..], &[&rdb.path().display().to_string()]].concat()).await?;
    let plans = ["assess", "scale-services", "restore-from-velero", "restore-database", "restore-redis"];
    let _daemon = waqiti.started(&plans).await?;

    all_done_but(&waqiti.stage.execute("assess", &[]).await?, &[])?;
    all_done_but(&waqiti.stage.execute("scale-services", &[("payments", "4"), ("wallets", "3")]).await?, &[])?;
    assert_eq!(replicas(&kube).await?, (4, 3));
    told_everybody(&mut waqiti).await?;
    one_service(&mut waqiti, &kube).await?;

    let ended = waqiti.stage.execute("restore-from-velero", &[]).await?;
    all_done_but(&ended, &[("named", Skipped)])?;
    let ended = waqiti.stage.execute("restore-from-velero", &[("from", "named"), ("backup", "daily-1")]).await?;
    all_done_but(&ended, &[("newest", Skipped)])?;
    assert_eq!(restored(&kube).await?, ["daily-1", "daily-2"]);
    let spaces = shows(&kube, "-n velero get restores.velero.io", ".items[*].spec.includedNamespaces[*]").await?;
    assert_eq!(spaces, "waqiti waqiti");

    let ended = waqiti.stage.execute("restore-redis", &[]).await?;
    all_done_but(&ended, &[])?;
    assert_eq!(asked(&ended), ["place", "sure"]);
    assert_eq!(std::fs::read(waqiti.stage.path("/var/lib/failoverd/restore/dump.rdb"))?, std::fs::read(rdb.path())?);

    planned(&mut waqiti, &kube).await?;
    from_the_dump(&mut waqiti, &kube).await
}

async fn told_everybody(waqiti: &mut Waqiti) -> Result<()> {
    let inbox = waqiti.moto.create_inbox(WEST, "stakeholders").await?;
    for (state, others, words) in [
        ("critical", ["status-page-resolved", "resolved"], "CRITICAL INCIDENT - Waqiti Platform"),
        ("resolved", ["status-page", "critical"], "RESOLVED - Waqiti Platform"),
    ] {
        let ended = waqiti.stage.execute("tell-everybody", &[("state", state)]).await?;
        all_done_but(&ended, &others.map(|step| (step, Skipped)))?;
        inbox.wait_for(SOON, words).await?;
    }
    assert_eq!(told(&waqiti.status_page, "status")?, ["investigating", "resolved"]);
    Ok(())
}

/// By itself: of the six services the one that is down.
async fn one_service(waqiti: &mut Waqiti, kube: &Kube) -> Result<()> {
    waqiti.api.set_path("/wallets/health", Some(Answer::status(500)));
    let (ended, healed) = tokio::join!(waqiti.stage.approve("critical-service"), async {
        let more = async || {
            ensure!(replicas(kube).await? == (4, 8), "not yet");
            anyhow::Ok(())
        };
        eventually(SOON, "the restart and more replicas", more).await?;
        waqiti.api.set_path("/wallets/health", None);
        anyhow::Ok(())
    });
    healed?;
    let ended = ended?;
    let others = skipped(
        &ended,
        &[
            "restart.payment-service",
            "restart.user-service",
            "restart.auth-service",
            "restart.analytics-service",
            "restart.marketing-service",
            "more.payment-service",
        ],
        &[("root-cause", Parked)],
    );
    all_done_but(&ended, &others)?;
    assert_eq!((revision(kube, "wallet-service").await?, revision(kube, "payment-service").await?), (2, 1));
    waqiti.tasks_done().await
}

/// The failover of a test: nothing is lost, since the old primary is fenced and waited for.
async fn planned(waqiti: &mut Waqiti, kube: &Kube) -> Result<()> {
    let before = revision(kube, "payment-service").await?;
    let ended = waqiti.stage.execute_with("fail-over-database", &[], &["--graceful"]).await?;
    all_done_but(&ended, &[("new-standby", Parked)])?;
    assert_eq!(psql(&waqiti.db.url(), "SHOW default_transaction_read_only")?, "on");
    assert_eq!(psql(&waqiti.standby.url(), "INSERT INTO ledger VALUES (0, 0); SELECT count(*) FROM ledger")?, "201");
    assert_eq!(psql(&waqiti.standby.url(), "SELECT count(*) FROM health_check")?, "0", "the row is rolled back");
    assert_eq!(secret(kube, SPACE, "postgres-connection", "host").await?, "postgres-standby.waqiti.example");
    assert_eq!(revision(kube, "payment-service").await?, before + 1);
    assert_eq!(revision(kube, "user-service").await?, 1, "it does not use the database");
    waqiti.tasks_done().await?;
    psql(&waqiti.db.url(), "ALTER SYSTEM RESET default_transaction_read_only")?;
    psql(&waqiti.db.url(), "SELECT pg_reload_conf()").map(drop)
}

/// The newest dump on a new server; the old one is fenced.
async fn from_the_dump(waqiti: &mut Waqiti, kube: &Kube) -> Result<()> {
    // The test's new server is a database of the old one, and would be fenced with it.
    let new = Postgres::primary(PgOptions::default()).await?;
    waqiti.stage.file("/etc/failoverd/postgres-new.url", &new.url())?;
    let ended = waqiti.stage.execute("restore-database", &[]).await?;
    all_done_but(&ended, &[("reconcile", Parked), ("breach", Parked)])?;
    assert_eq!(asked(&ended), ["sure"]);
    assert_eq!(psql(&new.url(), "SELECT count(*), sum(amount) FROM ledger")?, "200|0");
    assert_eq!(psql(&waqiti.db.url(), "SHOW default_transaction_read_only")?, "on");
    assert_eq!(secret(kube, SPACE, "postgres-connection", "host").await?, "postgres-new.waqiti.example");
    assert_eq!(replicas(kube).await?, (10, 8));
    waqiti.tasks_done().await
}

/// 2 by itself, and the way back of what was lost.
#[tokio::test]
async fn database_and_redis_fail_over_with_a_real_api_server() -> Result<()> {
    let mut waqiti = Waqiti::open().await?;
    let kube = Kube::real().await?;
    deployed(&kube).await?;
    waqiti.on(&kube, &kube)?;
    let mut daemon = waqiti.started(&["fail-over-redis", "fail-over-database"]).await?;

    redis_cli(&waqiti.cache.url(), &["SET", "session", "1"])?;
    eventually(SOON, "the session to be replicated", async || {
        ensure!(redis_cli(&waqiti.replica.url(), &["GET", "session"])? == "1", "not yet");
        Ok(())
    })
    .await?;
    waqiti.cache.kill9();
    let ended = waqiti.stage.approve("cache-failure").await?;
    all_done_but(&ended, &[("stop-old-master", Failed), ("new-replica", Parked)])?;
    ensure!(redis_cli(&waqiti.replica.url(), &["ROLE"])?.starts_with("master"));
    assert_eq!(redis_cli(&waqiti.replica.url(), &["GET", "session"])?, "1");
    assert_eq!(secret(&kube, SPACE, "redis-connection", "host").await?, "redis-replica.waqiti.example");
    assert_eq!(revision(&kube, "wallet-service").await?, 2);

    psql(&waqiti.db.url(), "INSERT INTO ledger VALUES (101, 5), (101, -5)")?;
    waqiti.db.kill9();
    let ended = waqiti.stage.approve("database-failure").await?;
    let others = [("stop-old-primary", Failed), ("caught-up", Skipped), ("new-standby", Parked)];
    all_done_but(&ended, &others)?;
    assert_eq!(psql(&waqiti.standby.url(), "SELECT count(*) FROM ledger")?, "202");
    assert_eq!(revision(&kube, "wallet-service").await?, 3);
    waqiti.tasks_done().await?;

    // The old master comes back as one, with what it had; the old primary has something of its own.
    waqiti.cache.restart().await?;
    let ended = waqiti.stage.execute("rebuild-replicas", &[]).await?;
    all_done_but(&ended, &[])?;
    assert_eq!(asked(&ended), ["sure"]);
    redis_cli(&waqiti.replica.url(), &["SET", "session", "2"])?;
    psql(&waqiti.standby.url(), "INSERT INTO ledger VALUES (0, 0)")?;
    eventually(SOON, "the old servers to follow", async || {
        ensure!(redis_cli(&waqiti.cache.url(), &["GET", "session"])? == "2", "Redis");
        ensure!(
            psql(&waqiti.db.url(), "SELECT count(*) FROM ledger WHERE pg_is_in_recovery()")? == "203",
            "PostgreSQL"
        );
        Ok(())
    })
    .await?;
    // What it started goes on without the daemon.
    daemon.terminate(SOON).await?;
    psql(&waqiti.db.url(), "SELECT 1").map(drop)
}

/// 3 by itself: a zone, with the primary and the Redis master in it.
#[tokio::test]
async fn a_zone_is_evacuated_on_a_real_api_server() -> Result<()> {
    let mut waqiti = Waqiti::open().await?;
    let kube = Kube::real().await?;
    deployed(&kube).await?;
    waqiti.on(&kube, &kube)?;
    for zone in ["a", "b", "c"] {
        let label = json!({ "topology.kubernetes.io/zone": format!("us-east-1{zone}") });
        node(&kube, &format!("node-{zone}"), label).await?;
    }
    let _daemon = waqiti.started(&["evacuate-zone"]).await?;
    let inbox = waqiti.moto.create_inbox(WEST, "stakeholders").await?;

    drop(waqiti.zones[0].take());
    waqiti.db.kill9();
    waqiti.cache.kill9();
    let ended = waqiti.stage.approve("zone-outage").await?;
    let others = skipped(
        &ended,
        &[
            "cordon.us-east-1b",
            "cordon.us-east-1c",
            "database.caught-up",
            "told.status-page-resolved",
            "told.resolved",
            "told-recovered.status-page",
            "told-recovered.critical",
        ],
        &[
            ("database.stop-old-primary", Failed),
            ("cache.stop-old-master", Failed),
            ("database.new-standby", Parked),
            ("cache.new-replica", Parked),
            ("zone-back", Parked),
        ],
    );
    all_done_but(&ended, &others)?;
    let cordoned = kubectl(&kube, "get nodes --field-selector spec.unschedulable=true -o name", "").await?;
    assert_eq!(cordoned, "node/node-a");
    assert_eq!(psql(&waqiti.standby.url(), "SELECT pg_is_in_recovery()")?, "f");
    ensure!(redis_cli(&waqiti.replica.url(), &["ROLE"])?.starts_with("master"));
    assert_eq!(replicas(&kube).await?, (10, 8));
    inbox.wait_for(SOON, "RESOLVED - Waqiti Platform").await?;
    waqiti.tasks_done().await
}

/// 4 by itself, and once more from a dump.
#[tokio::test]
async fn the_dr_site_is_activated_on_a_real_api_server() -> Result<()> {
    let mut waqiti = Waqiti::open().await?;
    let (prod, dr) = (Kube::stand_in().await?, Kube::real().await?);
    for name in SERVICES {
        prod.create_deployment(SPACE, name, 1).await?;
    }
    waqiti.on(&prod, &dr)?;
    let _daemon = waqiti.started(&["activate-dr"]).await?;
    let inbox = waqiti.moto.create_inbox(WEST, "stakeholders").await?;

    psql(&waqiti.db.url(), "INSERT INTO ledger VALUES (101, 5), (101, -5)")?;
    for (place, wanted) in [(&waqiti.standby, "202"), (&waqiti.dr, "202")] {
        let there = async || {
            ensure!(psql(&place.url(), "SELECT count(*) FROM ledger")? == wanted, "not yet");
            Ok(())
        };
        eventually(SOON, "the payment to be replicated", there).await?;
    }
    waqiti.api.set(Some(Answer::status(503)));
    waqiti.zones = [None, None, None];
    drop(waqiti.cluster.take());
    waqiti.db.kill9();
    waqiti.cache.kill9();
    let (ended, moved) = tokio::join!(waqiti.stage.approve("regional-disaster"), async {
        let running = async || dr.wait_ready(SPACE, "payment-service", 10, Duration::from_millis(1)).await;
        eventually(SOON, "the applications in the DR region", running).await?;
        ensure!(waqiti.cloudflare.records()[0]["content"] == "lb.us-east-1.waqiti.example", "moved too early");
        waqiti.dr_api.set(None);
        let moved = async || {
            ensure!(waqiti.cloudflare.records()[0]["content"] == "dr.waqiti.example", "not yet");
            anyhow::Ok(())
        };
        eventually(SOON, "the record to be moved", moved).await?;
        waqiti.api.set(None);
        anyhow::Ok(())
    });
    moved?;
    let ended = ended?;
    let told_once =
        ["told.status-page-resolved", "told.resolved", "told-recovered.status-page", "told-recovered.critical"];
    let parked = ["audit", "new-replicas"].map(|step| (step, Parked));
    let fences = [("stop-old-primary", Failed), ("stop-old-master", Failed)];
    let graceful = ["drain.*", "caught-up"];
    let others = skipped(&ended, &[&graceful[..], &told_once[..]].concat(), &[&parked[..], &fences[..]].concat());
    all_done_but(&ended, &others)?;
    assert_eq!(psql(&waqiti.dr.url(), "INSERT INTO ledger VALUES (0, 0); SELECT count(*) FROM ledger")?, "203");
    ensure!(redis_cli(&waqiti.dr_cache.url(), &["ROLE"])?.starts_with("master"));
    assert_eq!(secret(&dr, SPACE, "postgres-connection", "host").await?, "postgres-dr.waqiti.example");
    assert_eq!(secret(&dr, SPACE, "redis-connection", "host").await?, "redis-dr.waqiti.example");
    assert_eq!(replicas(&dr).await?, (10, 8));
    assert_eq!(replicas(&prod).await?, (1, 1), "nothing is drained where nobody answers");
    inbox.wait_for(SOON, "RESOLVED - Waqiti Platform").await?;
    ensure!(waqiti.slack.requests() > 0 && waqiti.stripe.requests() > 0);
    waqiti.tasks_done().await?;

    // As if the replica there were lost as well: a new server, and the dump of the replicated bucket.
    psql(&waqiti.dr.url(), "CREATE DATABASE dr_new")?;
    let bucket = "waqiti-backups-us-west-2";
    backed_up(&waqiti.moto, &waqiti.standby.url(), WEST, bucket, "postgres/waqiti-2.dump").await?;
    let refused = waqiti.stage.run(&["execute", "restore-dr", "--yes"]).await?;
    let said = refused.stdout + &refused.stderr;
    ensure!(refused.status.code() == Some(3) && said.contains("--allow-data-loss"), "{said}");
    let ended = waqiti.stage.execute_with("restore-dr", &[], &["--allow-data-loss", "3h"]).await?;
    assert_eq!(asked(&ended), ["sure"]);
    let parked = [("stop-old-primary", Failed), ("reconcile", Parked), ("breach", Parked)];
    all_done_but(&ended, &skipped(&ended, &told_once, &parked))?;
    assert_eq!(psql(&database(&waqiti.dr.url(), "dr_new"), "SELECT count(*), sum(amount) FROM ledger")?, "202|0");
    assert_eq!(secret(&dr, SPACE, "postgres-connection", "host").await?, "postgres-dr-new.waqiti.example");
    Ok(())
}
