//! The runbook of Atlantic.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::core::view::StatusView;
use failoverd::core::view::StepStateView::{Failed, Parked, Skipped};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::{Value, json};

use super::stage::{Door, Ended, Stage, all_done_but};
use crate::fleet::child::command;
use crate::fleet::eventually;
use crate::fleet::http_app::{Answer, LocalApp};
use crate::fleet::kube::{BACKUP_CONTEXT, Kube};
use crate::fleet::moto::Moto;
use crate::fleet::postgres::{PASSWORD, PgOptions, Postgres, bin_dir};
use crate::fleet::redis::{Redis, RedisOptions};

const EAST: &str = "us-east-1";
const SPACE: &str = "default";
const API: &str = "atlantic-api";
/// Long enough on a loaded machine.
const SOON: Duration = Duration::from_secs(60);
/// When the keys leaked.
const MOMENT: &str = "2026-02-05T10:14:00Z";

/// What all of its plans share.
struct Atlantic {
    stage: Stage,
    api: LocalApp,
    slack: LocalApp,
    db: Postgres,
    redis: Redis,
    moto: Moto,
    /// The relay, as far as a probe sees of it.
    _mail: Door,
}

impl Atlantic {
    async fn open() -> Result<Self> {
        let (moto, db, redis, api, slack) = tokio::try_join!(
            Moto::start(),
            Postgres::primary(PgOptions::default()),
            Redis::primary(RedisOptions::default()),
            LocalApp::start(EAST),
            LocalApp::start("slack"),
        )?;
        for delay in ["rds_reboot", "rds_restore", "elasticache_reboot"] {
            moto.set_delay(delay, Duration::from_millis(100)).await?;
        }
        psql(&db.url(), "CREATE TABLE users AS SELECT 1 AS id; CREATE TABLE transactions AS SELECT 1 AS id")?;
        psql(&db.url(), "CREATE TABLE audit_logs (key_id text, created_at timestamptz)")?;
        psql(&db.url(), "INSERT INTO audit_logs SELECT 'AKIA-OTHER', now() FROM generate_series(1, 5)")?;
        let mail = Door::open().await?;
        let mut stage = Stage::of("atlantic")?;
        stage.replace("https://api.atlantic.example", &api.at(""))?;
        stage.replace("https://admin.atlantic.example", &api.at("/admin"))?;
        stage.replace("smtp.atlantic.example:587", mail.address())?;
        stage.file("/etc/failoverd/database.url", &db.url())?;
        stage.file("/etc/failoverd/redis.url", &redis.url())?;
        stage.file("/etc/failoverd/slack.url", &slack.url())?;
        stage.env(moto.env());
        stage.quick();
        Ok(Self { stage, api, slack, db, redis, moto, _mail: mail })
    }

    /// The cluster, with the API of so many replicas in it.
    async fn cluster(&mut self, kube: &Kube, replicas: i32) -> Result<()> {
        kube.create_deployment(SPACE, API, replicas).await?;
        kube.wait_ready(SPACE, API, replicas, SOON).await?;
        self.stage.kubeconfig(&[("atlantic", kube)])
    }

    async fn secret(&self, name: &str, text: &str) -> Result<()> {
        let create = json!({ "Name": name, "SecretString": text, "ClientRequestToken": "x".repeat(32) });
        self.moto.json("secretsmanager", EAST, "secretsmanager.CreateSecret", create).await.map(drop)
    }

    /// A secret as the AWS CLI shows it.
    async fn secret_now(&self, name: &str) -> Result<String> {
        let seen = self.moto.cli(EAST, &["secretsmanager", "get-secret-value", "--secret-id", name]).await?;
        Ok(seen["SecretString"].as_str().context("a secret's text")?.to_owned())
    }

    /// An instance as the AWS CLI shows it.
    async fn instance(&self, name: &str) -> Result<Value> {
        let look = ["rds", "describe-db-instances", "--db-instance-identifier", name];
        Ok(self.moto.cli(EAST, &look).await?["DBInstances"][0].clone())
    }

    /// The open task of that step, which is then done.
    async fn task(&self, step: &str) -> Result<String> {
        let status =
            self.stage.sees("the task", |status| status.tasks.iter().any(|task| task.step.as_str() == step)).await?;
        let task = status.tasks.iter().find(|task| task.step.as_str() == step).context("it was there")?;
        self.stage.ok(&["step", "done", step, "--run", task.run.as_str(), "--note", "done in the test"]).await?;
        Ok(task.message.clone())
    }

    fn slack_was_told(&self, needle: &str) -> bool {
        self.slack.seen().iter().any(|seen| seen.body.contains(needle))
    }
}

/// A statement by `psql`.
fn psql(url: &str, statement: &str) -> Result<String> {
    let mut psql = command(bin_dir().join("psql"));
    let output = psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]).arg(url).output()?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A command by `redis-cli`.
fn redis_cli(redis: &Redis, arguments: &[&str]) -> Result<String> {
    let mut cli = command("redis-cli");
    let output = cli.args(["-h", "127.0.0.1", "-p", &redis.port().to_string()]).args(arguments).output()?;
    ensure!(output.status.success(), "redis-cli: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

async fn found(kube: &Kube) -> Result<Deployment> {
    let client = kube.client(BACKUP_CONTEXT).await?;
    Ok(Api::namespaced(client, SPACE).get(API).await?)
}

async fn environment(kube: &Kube, name: &str) -> Result<Option<String>> {
    let pod = found(kube).await?.spec.context("a spec")?.template.spec.context("a pod's spec")?;
    let all = pod.containers.into_iter().flat_map(|container| container.env.unwrap_or_default());
    Ok(all.into_iter().find(|one| one.name == name).and_then(|one| one.value))
}

fn asked(ended: &Ended) -> Vec<&str> {
    ended.asked.iter().map(String::as_str).collect()
}

/// A.2: the primary dies, and its standby takes over behind the same endpoint.
#[tokio::test]
async fn the_database_goes_over_to_its_standby() -> Result<()> {
    let mut atlantic = Atlantic::open().await?;
    atlantic.moto.create_db(EAST, "atlantic").await?;
    let change = [("DBInstanceIdentifier", "atlantic"), ("MultiAZ", "true"), ("ApplyImmediately", "true")];
    atlantic.moto.query("rds", EAST, "ModifyDBInstance", &change).await?;
    for topic in ["on-call", "comms"] {
        atlantic.moto.cli(EAST, &["sns", "create-topic", "--name", topic]).await?;
    }
    atlantic.stage.open().await?;
    atlantic.stage.plan("database-failover", &[]).await?;
    let _daemon = atlantic.stage.start().await?;

    // Twenty sessions that wait for a lock: told, and nothing is done about it.
    let mut sessions = Vec::new();
    for _ in 0..21 {
        let mut psql = command(bin_dir().join("psql"));
        psql.args(["-XAtq", "-d", &atlantic.db.url(), "-c", "BEGIN; LOCK users; SELECT pg_sleep(60)"]);
        let log = tempfile::NamedTempFile::new()?;
        sessions.push((crate::fleet::child::Proc::start("psql", psql, log.path())?, log));
    }
    eventually(SOON, "the chat to be told of blocked sessions", async || {
        ensure!(atlantic.slack_was_told("database-blocked"), "not yet");
        Ok(())
    })
    .await?;
    drop(sessions);
    psql(
        &atlantic.db.url(),
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()",
    )?;
    ensure!(atlantic.moto.calls_of("RebootDBInstance").await?.is_empty(), "a failover ends what blocks, and all else");

    let (comms, pager) =
        (atlantic.moto.create_inbox(EAST, "comms").await?, atlantic.moto.create_inbox(EAST, "on-call").await?);
    atlantic.api.set(Some(Answer::status(500)));
    atlantic.db.kill9();
    // RDS brings the instance up again behind its endpoint, with all that was committed.
    let (moto, db, api) = (&atlantic.moto, &mut atlantic.db, &atlantic.api);
    let comes_back = async {
        eventually(SOON, "the reboot", async || {
            ensure!(!moto.calls_of("RebootDBInstance").await?.is_empty(), "not yet");
            Ok(())
        })
        .await?;
        db.restart().await?;
        api.set(None);
        anyhow::Ok(())
    };
    let (ended, back) = tokio::join!(atlantic.stage.approve("database-down"), comes_back);
    back?;
    all_done_but(&ended?, &[("review.document", Parked)])?;

    let seen = atlantic.instance("atlantic").await?;
    assert_eq!((&seen["AvailabilityZone"], &seen["DBInstanceStatus"]), (&json!("us-east-1b"), &json!("available")));
    assert_eq!(psql(&atlantic.db.url(), "INSERT INTO users VALUES (2); SELECT count(*) FROM users")?, "2");
    comms.wait_for(SOON, "goes over to its standby").await?;
    pager.wait_for(SOON, "database-down").await?;
    let message = atlantic.task("review.document").await?;
    ensure!(message.contains("5 whys"), "{message}");
    Ok(())
}

/// A.3: the data comes back in a new instance, and the API goes there.
#[tokio::test]
async fn damaged_data_comes_back_in_a_new_instance() -> Result<()> {
    let mut atlantic = Atlantic::open().await?;
    atlantic.moto.create_db(EAST, "atlantic").await?;
    let kube = Kube::stand_in().await?;
    atlantic.cluster(&kube, 4).await?;
    // What RDS restores is here a database of the same server, made before the damage.
    psql(&atlantic.db.url(), "CREATE DATABASE restored TEMPLATE template0")?;
    let restored = atlantic.db.url().replace("/postgres?", "/restored?");
    for table in ["users", "transactions", "audit_logs"] {
        psql(&restored, &format!("CREATE TABLE {table} AS SELECT generate_series(1, 1000) AS id"))?;
    }
    atlantic.stage.file("/etc/failoverd/restored.url", &restored)?;
    let old = format!("postgresql://api:{PASSWORD}@atlantic.{EAST}.rds.amazonaws.com:5432/atlantic?sslmode=require");
    atlantic.secret("atlantic/DATABASE_URL", &old).await?;
    atlantic.moto.cli(EAST, &["sns", "create-topic", "--name", "comms"]).await?;
    atlantic.stage.open().await?;
    let recent = "SELECT to_char(now() AT TIME ZONE 'UTC' - interval '1 hour', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
    let moment = psql(&atlantic.db.url(), recent)?;
    let given = [("restore_time", &*moment)];
    atlantic.stage.plan("restore-database", &given).await?;
    let _daemon = atlantic.stage.start().await?;
    psql(&atlantic.db.url(), "DELETE FROM users")?;

    let ended = atlantic.stage.execute("restore-database", &given).await?;
    all_done_but(&ended, &[("new-name", Parked), ("review.document", Parked)])?;
    assert_eq!(asked(&ended), ["sure"]);
    let seen = atlantic.instance("atlantic-restored").await?;
    assert_eq!((&seen["MultiAZ"], &seen["DeletionProtection"]), (&json!(true), &json!(true)));
    assert_eq!(seen["VpcSecurityGroups"][0]["VpcSecurityGroupId"], "sg-0123456789abcdef0");
    let endpoint = seen["Endpoint"]["Address"].as_str().context("an endpoint")?;
    let new = atlantic.secret_now("atlantic/DATABASE_URL").await?;
    assert_eq!(new, format!("postgresql://api:{PASSWORD}@{endpoint}:5432/atlantic?sslmode=require"));
    assert_eq!(kube.ready_replicas(SPACE, API).await?, 4);
    // The API was stopped before the secret changed, and started after it.
    let Kube::StandIn(stand_in) = &kube else { unreachable!("it is a stand-in") };
    let scaled: Vec<Value> = stand_in.seen().into_iter().filter(|seen| seen.verb == "patch").map(|s| s.body).collect();
    let replicas: Vec<&Value> = scaled.iter().filter_map(|body| body.pointer("/spec/replicas")).collect();
    assert_eq!(replicas, [&json!(0), &json!(4)]);
    let message = atlantic.task("new-name").await?;
    ensure!(message.contains(endpoint), "{message}");
    Ok(())
}

/// B: each of the ways.
#[tokio::test]
async fn the_cache_is_rebooted_flushed_and_bypassed() -> Result<()> {
    let mut atlantic = Atlantic::open().await?;
    let kube = Kube::stand_in().await?;
    atlantic.cluster(&kube, 2).await?;
    atlantic.moto.cli(EAST, &["sns", "create-topic", "--name", "comms"]).await?;
    let params = [
        ("CacheClusterId", "atlantic-redis-001"),
        ("Engine", "redis"),
        ("CacheNodeType", "cache.t3.micro"),
        ("NumCacheNodes", "1"),
    ];
    atlantic.moto.query("elasticache", EAST, "CreateCacheCluster", &params).await?;
    // So long it is looked whether the cache comes back.
    atlantic.stage.replace("timeout = \"2m\"\non_error = \"continue\"", "timeout = \"5s\"\non_error = \"continue\"")?;
    atlantic.stage.open().await?;
    for plan in ["restart-redis", "flush-redis", "bypass-redis", "use-redis"] {
        atlantic.stage.plan(plan, &[]).await?;
    }
    let _daemon = atlantic.stage.start().await?;

    assert_eq!(redis_cli(&atlantic.redis, &["SET", "session:1", "ada"])?, "OK");
    let ended = atlantic.stage.execute("flush-redis", &[]).await?;
    all_done_but(&ended, &[])?;
    assert_eq!(asked(&ended), ["sure"]);
    assert_eq!(redis_cli(&atlantic.redis, &["EXISTS", "session:1"])?, "0");

    // It hangs, and the reboot brings it back.
    atlantic.redis.kill9();
    let (moto, redis) = (&atlantic.moto, &mut atlantic.redis);
    let comes_back = async {
        eventually(SOON, "the reboot", async || {
            ensure!(!moto.calls_of("RebootCacheCluster").await?.is_empty(), "not yet");
            Ok(())
        })
        .await?;
        redis.restart().await
    };
    let (ended, back) = tokio::join!(atlantic.stage.approve("redis-down"), comes_back);
    back?;
    let without =
        [("ask", Skipped), ("bypass.switch", Skipped), ("bypass.back-again", Skipped), ("review.document", Parked)];
    all_done_but(&ended?, &without)?;
    assert_eq!(environment(&kube, "ENABLE_REDIS").await?, None);
    atlantic.task("review.document").await?;

    // It is completely dead: a person says to go on without it.
    let over = |status: &StatusView| status.scenarios.iter().all(|scenario| scenario.incident.is_none());
    atlantic.stage.sees("the end of the incident", over).await?;
    atlantic.redis.kill9();
    let ended = atlantic.stage.approve("redis-down").await?;
    all_done_but(&ended, &[("answers", Failed), ("bypass.back-again", Parked), ("review.document", Parked)])?;
    assert_eq!(asked(&ended), ["ask"]);
    assert_eq!(environment(&kube, "ENABLE_REDIS").await?.as_deref(), Some("false"));

    atlantic.redis.restart().await?;
    let ended = atlantic.stage.execute("use-redis", &[]).await?;
    all_done_but(&ended, &[])?;
    assert_eq!(environment(&kube, "ENABLE_REDIS").await?.as_deref(), Some("true"));
    let message = atlantic.task("bypass.back-again").await?;
    ensure!(message.contains("use-redis"), "{message}");
    Ok(())
}

/// C: a key of each place leaks.
#[tokio::test]
async fn leaked_keys_are_revoked_replaced_and_looked_up() -> Result<()> {
    let mut atlantic = Atlantic::open().await?;
    let kube = Kube::stand_in().await?;
    kube.create_deployment(SPACE, "worker", 1).await?;
    atlantic.cluster(&kube, 2).await?;
    for topic in ["comms", "on-call"] {
        atlantic.moto.cli(EAST, &["sns", "create-topic", "--name", topic]).await?;
    }
    atlantic.moto.query("iam", EAST, "CreateUser", &[("UserName", "api")]).await?;
    let made = atlantic.moto.cli(EAST, &["iam", "create-access-key", "--user-name", "api"]).await?;
    let key = made["AccessKey"]["AccessKeyId"].as_str().context("a key")?.to_owned();
    let leaked = json!({
        "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "leaked", "STRIPE_SECRET_KEY": "leaked",
        "MARQETA_TOKEN": "leaked", "SMTP_PASSWORD": "another",
    });
    atlantic.secret("atlantic/api", &leaked.to_string()).await?;
    let rows = format!("INSERT INTO audit_logs SELECT '{key}', now() FROM generate_series(1, 3)");
    psql(&atlantic.db.url(), &rows)?;
    psql(&atlantic.db.url(), &format!("INSERT INTO audit_logs VALUES ('{key}', '2026-02-05T10:13:59Z')"))?;
    for (file, text) in [
        ("aws-access-key-id", "AKIANEW"),
        ("aws-secret-access-key", "canary-aws"),
        ("stripe-secret-key", "canary-stripe"),
        ("marqeta-token", "canary-marqeta"),
    ] {
        atlantic.stage.file(&format!("/etc/failoverd/rotated/{file}"), text)?;
    }
    atlantic.stage.open().await?;
    let given = [("user", "api"), ("key", &*key), ("since", MOMENT)];
    atlantic.stage.plan("aws-key-leak", &given).await?;
    let _daemon = atlantic.stage.start().await?;

    let ended = atlantic.stage.execute("aws-key-leak", &given).await?;
    let told = [("then.privacy-officer", Parked), ("review.document", Parked)];
    all_done_but(&ended, &told)?;
    assert_eq!(asked(&ended), ["rotate"]);
    let seen = atlantic.moto.cli(EAST, &["iam", "list-access-keys", "--user-name", "api"]).await?;
    assert_eq!(seen["AccessKeyMetadata"][0]["Status"], "Inactive");
    let message = atlantic.task("then.privacy-officer").await?;
    ensure!(message.contains(&format!("With {key} 3 actions")) && message.contains("72 hours"), "{message}");
    let restarted = patches(&kube, API);
    ensure!(restarted == 1 && patches(&kube, "worker") == 1, "not all pods were restarted");

    let given = [("key", "sk-1"), ("since", MOMENT)];
    let ended = atlantic.stage.execute("stripe-key-leak", &given).await?;
    all_done_but(&ended, &told)?;
    assert_eq!(asked(&ended), ["rotate"]);
    let ended = atlantic.stage.execute("marqeta-key-leak", &given).await?;
    all_done_but(&ended, &told)?;
    assert_eq!(asked(&ended), ["revoke", "rotate"]);
    assert_eq!(patches(&kube, API), 3);
    let now: Value = serde_json::from_str(&atlantic.secret_now("atlantic/api").await?)?;
    let wanted = json!({
        "AWS_ACCESS_KEY_ID": "AKIANEW", "AWS_SECRET_ACCESS_KEY": "canary-aws", "STRIPE_SECRET_KEY": "canary-stripe",
        "MARQETA_TOKEN": "canary-marqeta", "SMTP_PASSWORD": "another",
    });
    assert_eq!(now, wanted);
    ensure!(!atlantic.slack_was_told("canary-"), "a key was told");

    // The parts, by themselves.
    let ended = atlantic.stage.execute("after-key-leak", &given).await?;
    all_done_but(&ended, &[("privacy-officer", Parked)])?;
    let ended = atlantic.stage.execute("post-mortem", &[]).await?;
    all_done_but(&ended, &[("document", Parked)])?;
    let comms = atlantic.moto.create_inbox(EAST, "comms").await?;
    let ended = atlantic.stage.execute("tell-comms", &[("what", "mails are late")]).await?;
    all_done_but(&ended, &[])?;
    comms.wait_for(SOON, "mails are late").await?;
    Ok(())
}

/// How often a deployment was patched.
fn patches(kube: &Kube, name: &str) -> usize {
    let Kube::StandIn(stand_in) = kube else { unreachable!("it is a stand-in") };
    let path = format!("/deployments/{name}");
    stand_in.seen().iter().filter(|seen| seen.verb == "patch" && seen.path.ends_with(&path)).count()
}

/// D: the quick fixes, and what alerts only.
#[tokio::test]
async fn the_api_is_mended_on_a_real_api_server() -> Result<()> {
    let mut atlantic = Atlantic::open().await?;
    let kube = Kube::real().await?;
    atlantic.cluster(&kube, 2).await?;
    atlantic.moto.cli(EAST, &["sns", "create-topic", "--name", "comms"]).await?;
    let kubeconfig = std::fs::read_to_string(atlantic.stage.config().with_file_name("kubeconfig"))?;
    atlantic.stage.file("/etc/failoverd/kubeconfig", &kubeconfig)?;
    let script =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples/atlantic/keep-logs.sh"))?;
    executable(&atlantic.stage.file("/etc/failoverd/keep-logs.sh", &script)?)?;
    // There is no kubelet here that has logs: a double of kubectl says what it was asked.
    let double = atlantic.stage.path("/var/lib/failoverd/bin/kubectl");
    std::fs::create_dir_all(double.parent().context("a folder")?)?;
    std::fs::write(&double, "#!/bin/sh\necho \"$KUBECONFIG $*\"\n")?;
    executable(&double)?;
    atlantic.stage.replace("LOGS", "PATH = \"/var/lib/failoverd/bin:/usr/bin:/bin\", LOGS")?;
    atlantic.stage.open().await?;
    atlantic.stage.plan("restart-api", &[("fix", "scale")]).await?;
    let _daemon = atlantic.stage.start().await?;

    let revision = async |wanted: &str| -> Result<()> {
        let now = found(&kube).await?.metadata.annotations.unwrap_or_default();
        let now = now.get("deployment.kubernetes.io/revision").cloned().unwrap_or_default();
        ensure!(now == wanted, "revision {now}, not {wanted}");
        Ok(())
    };
    for (fix, others, replicas, number) in [
        ("restart", ["undo", "scale"], 2, "2"),
        ("scale", ["restart", "undo"], 10, "2"),
        ("undo", ["restart", "scale"], 10, "3"),
    ] {
        let ended = atlantic.stage.execute("restart-api", &[("fix", fix)]).await?;
        all_done_but(&ended, &[(others[0], Skipped), (others[1], Skipped), ("review.document", Parked)])?;
        assert_eq!(kube.ready_replicas(SPACE, API).await?, replicas, "{fix}");
        revision(number).await.context(fix)?;
        let kept = atlantic.stage.path(&format!("/var/lib/failoverd/logs/{}.log", ended.run.id));
        let kept = std::fs::read_to_string(&kept).with_context(|| kept.display().to_string())?;
        ensure!(kept.ends_with(
            "--context atlantic --namespace default logs -l app=api --tail=100 --prefix --all-containers\n"
        ));
    }

    // By itself, where only the API is down: it asks, and the restart heals it.
    atlantic.api.set_path("/health", Some(Answer::status(502)));
    let (ended, healed) = tokio::join!(atlantic.stage.approve("api-down"), async {
        eventually(SOON, "the restart", async || revision("4").await).await?;
        atlantic.api.set_path("/health", None);
        anyhow::Ok(())
    });
    healed?;
    all_done_but(&ended?, &[("undo", Skipped), ("scale", Skipped), ("review.document", Parked)])?;

    // The admin dashboard is told, and nothing is done.
    atlantic.api.set_path("/admin/", Some(Answer::status(500)));
    eventually(SOON, "the chat to be told of the dashboard", async || {
        ensure!(atlantic.slack_was_told("admin-slow"), "not yet");
        Ok(())
    })
    .await
}

fn executable(path: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).with_context(|| path.display().to_string())
}
