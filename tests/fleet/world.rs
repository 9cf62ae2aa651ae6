//! A two-region world of real parts, as `config/examples/demo.toml` expects it: the demo, the
//! durability tests and the benches start it, break it, and look at what became of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::aws::Inbox;
use super::http_app::{HttpApp, LocalApp};
use super::kube::Kube;
use super::moto::Moto;
use super::postgres::{PgOptions, Postgres, StandbyOptions};
use super::process::Failoverd;
use super::redis::{Redis, RedisOptions};

/// The regions.
pub const PRIMARY: &str = "us-east-1";
/// See [`PRIMARY`].
pub const BACKUP: &str = "us-west-2";
/// The name that clients use.
pub const NAME: &str = "api.shop.example";
/// Where it points to in peace.
pub const PRIMARY_TARGET: &str = "dualstack.primary-lb.us-east-1.elb.amazonaws.com";
/// Where it points to after the failover.
pub const BACKUP_TARGET: &str = "dualstack.backup-lb.us-west-2.elb.amazonaws.com";
/// The hosted zone of both load balancers, as far as the API is concerned.
pub const TARGET_ZONE: &str = "Z0987654321XYZ";
/// The SNS topic.
pub const TOPIC: &str = "critical";
/// How many replicas the backup has in peace, and after the failover.
pub const REPLICAS: (i32, i32) = (2, 6);

/// One region's servers.
pub struct Region {
    pub app: HttpApp,
    pub db: Postgres,
    pub cache: Redis,
}

/// Both regions and the APIs around them.
pub struct World {
    pub primary: Region,
    pub backup: Region,
    pub moto: Moto,
    pub kube: Kube,
    pub zone: String,
    /// Takes the webhook's notices.
    pub chat: LocalApp,
    dir: TempDir,
}

/// What a failover is to leave behind, one line for each thing that is otherwise.
pub type Differences = Vec<String>;

impl World {
    /// Starts everything; the databases stream, the record points to the primary.
    pub async fn start(kube: Kube) -> Result<Self> {
        let (databases, caches, apps, cloud) = tokio::join!(databases(), caches(), apps(), cloud());
        let ((db, standby), (cache, replica), (app, backup_app, chat), (moto, zone)) =
            (databases?, caches?, apps?, cloud?);
        moto.back_with(BACKUP, "shop-replica", &standby).await?;
        kube.create_deployment("shop", "api", REPLICAS.0).await?;
        kube.wait_ready("shop", "api", REPLICAS.0, Duration::from_secs(60)).await?;
        Ok(Self {
            primary: Region { app, db, cache },
            backup: Region { app: backup_app, db: standby, cache: replica },
            moto,
            kube,
            zone,
            chat,
            dir: super::scratch_dir("world")?,
        })
    }

    /// Keeps copies of what [`World::reset`] brings back.
    pub async fn keep(&mut self) -> Result<()> {
        // Its standby has everything when a primary has stopped in order.
        self.primary.db.stop().await?;
        self.backup.db.stop().await?;
        tokio::try_join!(self.primary.db.keep(), self.backup.db.keep())?;
        self.stream().await
    }

    /// Everything as it was at [`World::keep`], in a fraction of the time of another start.
    pub async fn reset(&mut self) -> Result<()> {
        self.moto.clear_faults().await?;
        let caches = async {
            self.primary.cache.restart().await?;
            self.backup.cache.restart().await?;
            self.backup.cache.online().await?;
            fill(&self.primary.cache, &self.backup.cache).await
        };
        let databases = async { tokio::try_join!(self.primary.db.restore(), self.backup.db.restore()) };
        tokio::try_join!(databases, caches, self.primary.app.restart(), self.backup.app.heal())?;
        self.primary.db.wait_streaming("west", "sync").await?;
        self.reset_apis().await
    }

    async fn stream(&mut self) -> Result<()> {
        tokio::try_join!(self.primary.db.restart(), self.backup.db.restart())?;
        self.primary.db.wait_streaming("west", "sync").await
    }

    async fn reset_apis(&self) -> Result<()> {
        self.kube.delete("shop", "api").await?;
        self.kube.create_deployment("shop", "api", REPLICAS.0).await?;
        self.kube.wait_ready("shop", "api", REPLICAS.0, Duration::from_secs(60)).await?;
        // One that still follows is as it was at the start.
        if self.moto.wait_db(BACKUP, "shop-replica", "available").await?.source.is_none() {
            let promoted = [("DBInstanceIdentifier", "shop-replica"), ("SkipFinalSnapshot", "true")];
            self.moto.query("rds", BACKUP, "DeleteDBInstance", &promoted).await?;
            self.moto.create_replica(BACKUP, "shop-replica", PRIMARY, "shop").await?;
        }
        self.moto.forget_records(&self.zone).await?;
        self.moto.upsert_alias(&self.zone, NAME, PRIMARY_TARGET, TARGET_ZONE).await?;
        self.moto.forget_calls().await?;
        self.inbox().await?.take().await?;
        self.chat.set(None);
        self.chat.forget();
        Ok(())
    }

    /// The inbox of the topic; made before the failover, since a topic keeps nothing for later
    /// subscribers.
    pub async fn inbox(&self) -> Result<Inbox<'_>> {
        self.moto.create_inbox(BACKUP, TOPIC).await
    }

    /// Where the daemon of this world keeps its state and its socket.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("failoverd.sock")
    }

    /// The configuration of this world.
    pub fn config() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/demo.toml")
    }

    /// What `demo.toml` reads from the environment.
    pub fn env(&self) -> Vec<(String, String)> {
        let mut env = self.moto.env();
        let zone = "FAILOVERD__PLANS__FAILOVER__STEPS__ROUTE__ROUTE53__UPSERT_ALIAS__ZONE";
        let state = format!("sqlite:{}", self.dir.path().join("state.db").display());
        for (name, value) in [
            ("PRIMARY_API", format!("{}/health", self.primary.app.url())),
            ("PRIMARY_DB", self.primary.db.url()),
            ("PRIMARY_CACHE", self.primary.cache.url()),
            ("BACKUP_API", format!("{}/health", self.backup.app.url())),
            ("STANDBY_DB", self.backup.db.url()),
            ("STANDBY_CACHE", self.backup.cache.url()),
            ("CHAT_WEBHOOK", self.chat.url()),
            ("KUBECONFIG", self.kube.kubeconfig().display().to_string()),
            (zone, self.zone.clone()),
            ("FAILOVERD__DAEMON__STATE", state),
            ("FAILOVERD__DAEMON__SOCKET", self.socket().display().to_string()),
            ("FAILOVERD__METRICS__LISTEN", String::new()),
        ] {
            env.push((name.to_owned(), value));
        }
        env
    }

    /// The command line of a verb, with this world's configuration.
    pub fn failoverd(&self, binary: &Path, verb: &[&str]) -> Failoverd {
        Failoverd::new(binary).args(verb).arg("--config").arg(Self::config()).envs(self.env())
    }

    /// SIGKILL for all servers of the primary region.
    pub fn kill_primary(&mut self) {
        self.primary.app.kill9();
        self.primary.db.kill9();
        self.primary.cache.kill9();
    }

    /// Is the primary region still there, as far as we know?
    pub fn primary_runs(&self) -> bool {
        self.primary.app.runs()
    }

    /// Looks from outside, never through failoverd, at what a failover is to leave behind.
    pub async fn differences(&self) -> Result<Differences> {
        let mut found = Vec::new();
        let mut expect = |what: &str, is: String, wanted: String| {
            if is != wanted {
                found.push(format!("{what}: {is}, not {wanted}"));
            }
        };
        expect("the standby is in recovery", self.backup.db.is_in_recovery().await?.to_string(), "false".into());
        // One promotion begins one timeline. (`pg_control_checkpoint()` tells it only after the checkpoint.)
        let timeline = "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)";
        expect("the standby's timeline", self.backup.db.value(timeline).await?, "00000002".into());
        expect("a write to the new primary", self.try_write().await, "accepted".into());
        let db = self.moto.db(BACKUP, "shop-replica").await?;
        expect("shop-replica's status", db.status, "available".into());
        expect("shop-replica's source", db.source.unwrap_or_default(), String::new());
        expect("the cache's role", self.backup.cache.role().await?, "master".into());
        expect("the alias", self.alias_target().await?, format!("{BACKUP_TARGET}."));
        expect("replicas", self.kube.replicas("shop", "api").await?.to_string(), REPLICAS.1.to_string());
        expect("ready replicas", self.kube.ready_replicas("shop", "api").await?.to_string(), REPLICAS.1.to_string());
        Ok(found)
    }

    async fn try_write(&self) -> String {
        let sql = "CREATE TABLE IF NOT EXISTS written_after (at timestamptz); INSERT INTO written_after VALUES (now())";
        match self.backup.db.sql(sql).await {
            Ok(_) => "accepted".into(),
            Err(error) => format!("refused: {error:#}"),
        }
    }

    /// Where the alias points to.
    pub async fn alias_target(&self) -> Result<String> {
        self.watcher().alias_target().await
    }

    /// What looks where the record leads to while the world is changed.
    pub fn watcher(&self) -> Watcher {
        Watcher { state: self.moto.state_url(), zone: self.zone.clone() }
    }
}

/// Looks where the record leads to.
pub struct Watcher {
    state: String,
    zone: String,
}

impl Watcher {
    /// Where the alias points to.
    pub async fn alias_target(&self) -> Result<String> {
        let state: serde_json::Value = super::http().get(&self.state).send().await?.json().await?;
        let records = state["route53"][&self.zone]["records"].as_array().context("the zone is gone")?;
        let record = records.iter().find(|record| record["Name"] == format!("{NAME}.") && record["Type"] == "A");
        let target = record.context("the record is gone")?["AliasTarget"]["DNSName"].as_str().unwrap_or_default();
        Ok(format!("{}.", target.trim_end_matches('.')))
    }
}

async fn databases() -> Result<(Postgres, Postgres)> {
    let primary = Postgres::primary(PgOptions { durable: true, ..PgOptions::default() }).await?;
    let standby = primary
        .standby(StandbyOptions { name: Some("west".into()), synchronous: true, ..StandbyOptions::default() })
        .await?;
    primary.wait_streaming("west", "sync").await?;
    primary.sql("CREATE TABLE writes (id bigint PRIMARY KEY)").await?;
    Ok((primary, standby))
}

/// A key that both have: a replica that is empty could as well be one that never followed anybody,
/// and is not promoted.
async fn fill(primary: &Redis, replica: &Redis) -> Result<()> {
    primary.call::<String>(&["SET", "shop", "open"]).await?;
    super::until(Duration::from_secs(30), "the replica to have what was written", async || {
        replica.call::<Option<String>>(&["GET", "shop"]).await.is_ok_and(|value| value.as_deref() == Some("open"))
    })
    .await
}

async fn caches() -> Result<(Redis, Redis)> {
    let primary = Redis::primary(RedisOptions::default()).await?;
    let replica = primary.replica().await?;
    fill(&primary, &replica).await?;
    Ok((primary, replica))
}

async fn apps() -> Result<(HttpApp, HttpApp, LocalApp)> {
    let (primary, backup) = (HttpApp::start(PRIMARY).await?, HttpApp::start(BACKUP).await?);
    Ok((primary, backup, LocalApp::start("chat").await?))
}

async fn cloud() -> Result<(Moto, String)> {
    let moto = Moto::start().await?;
    moto.create_db(PRIMARY, "shop").await?;
    moto.create_replica(BACKUP, "shop-replica", PRIMARY, "shop").await?;
    // As long as AWS takes, scaled down.
    moto.set_delay("rds_promote", Duration::from_millis(500)).await?;
    moto.set_delay("route53_insync", Duration::from_millis(500)).await?;
    let zone = moto.create_zone("shop.example").await?;
    moto.upsert_alias(&zone, NAME, PRIMARY_TARGET, TARGET_ZONE).await?;
    ensure!(!zone.is_empty(), "moto made no zone");
    Ok((moto, zone))
}
