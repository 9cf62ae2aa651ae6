//! The playbook of corporate-intel.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::core::view::StepStateView;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::Value;

use super::stage::{Door, Stage, all_done_but};
use crate::fleet::child::command;
use crate::fleet::dns::Dns;
use crate::fleet::eventually;
use crate::fleet::http_app::{Answer, LocalApp};
use crate::fleet::kube::{BACKUP_CONTEXT, Kube, deployment};
use crate::fleet::moto::Moto;
use crate::fleet::postgres::{PgOptions, Postgres, StandbyOptions, bin_dir, query};
use crate::fleet::redis::{Redis, RedisOptions};

const EAST: &str = "us-east-1";
const WEST: &str = "us-west-2";
const SPACE: &str = "corporate-intel";
const API: &str = "corporate-intel-api";
const BALANCER: &str = "backup-lb.corporate-intel.com";

/// What all of its plans share.
struct Company {
    stage: Stage,
    api: LocalApp,
    backup: LocalApp,
    status_page: LocalApp,
    slack: LocalApp,
    db: Postgres,
    standby: Postgres,
    /// The API server of the primary cluster, as far as a probe sees of it.
    cluster: Option<Door>,
    moto: Moto,
}

impl Company {
    async fn open() -> Result<Self> {
        let moto = Moto::start().await?;
        for (name, delay) in [("rds_promote", 100), ("route53_insync", 100), ("rds_restore", 100)] {
            moto.set_delay(name, Duration::from_millis(delay)).await?;
        }
        let db = Postgres::primary(PgOptions::default()).await?;
        let standby = db.standby(StandbyOptions { synchronous: true, ..StandbyOptions::default() }).await?;
        let (api, backup) = (LocalApp::start(EAST).await?, LocalApp::start(WEST).await?);
        let (status_page, slack) = (LocalApp::start("status").await?, LocalApp::start("slack").await?);
        let cluster = Door::open().await?;
        let mut stage = Stage::of("corporate-intel")?;
        stage.replace("https://api.corporate-intel.com", &api.at(""))?;
        stage.replace("https://backup.corporate-intel.com", &backup.at(""))?;
        stage.replace("https://status.corporate-intel.com", &status_page.at(""))?;
        stage.replace("primary-cluster.corporate-intel.com:6443", cluster.address())?;
        stage.replace("backup-lb.us-west-2.elb.amazonaws.com", BALANCER)?;
        stage.file("/etc/failoverd/primary.url", &db.url())?;
        stage.file("/etc/failoverd/standby.url", &standby.url())?;
        stage.file("/etc/failoverd/slack.url", &slack.url())?;
        stage.pager("arn:aws:sns:us-west-2:123456789012:on-call")?;
        stage.file("/etc/failoverd/status-page.authorization", "Bearer canary")?;
        stage.env(moto.env());
        stage.quick();
        for topic in ["critical-alerts", "on-call"] {
            let region = if topic == "on-call" { WEST } else { EAST };
            moto.cli(region, &["sns", "create-topic", "--name", topic]).await?;
        }
        Ok(Self { stage, api, backup, status_page, slack, db, standby, cluster: Some(cluster), moto })
    }

    /// The zone, its name server, and the replica that a promotion really promotes.
    async fn cloud(&mut self) -> Result<(String, Dns)> {
        self.moto.create_db(EAST, "corporate-intel").await?;
        self.moto.create_replica(WEST, "corporate-intel-replica", EAST, "corporate-intel").await?;
        self.moto.back_with(WEST, "corporate-intel-replica", &self.standby).await?;
        let zone = self.moto.create_zone("corporate-intel.com").await?;
        let dns = Dns::start("corporate-intel.com", &["api 60 IN A 127.0.0.1", "backup-lb 60 IN A 127.0.0.2"]).await?;
        self.moto.publish(&zone, &dns, &[("old.corporate-intel.com", "127.0.0.1"), (BALANCER, "127.0.0.2")]).await?;
        self.moto.upsert_alias(&zone, "api.corporate-intel.com", "old.corporate-intel.com", "Z0987654321XYZ").await?;
        self.stage.replace("Z1234567890ABC", &zone)?;
        let at = dns.addr();
        let verify = format!("dns.verify = {{ servers = [\"{at}\"], via = \"{at}\", ");
        self.stage.replace("dns.verify = { ", &verify)?;
        Ok((zone, dns))
    }
}

/// A statement by `psql`.
fn psql(server: &Postgres, statement: &str) -> Result<String> {
    let mut psql = command(bin_dir().join("psql"));
    let output = psql.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]).arg(server.url()).output()?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

async fn found(kube: &Kube) -> Result<Deployment> {
    let client = kube.client(BACKUP_CONTEXT).await?;
    Ok(Api::namespaced(client, SPACE).get(API).await?)
}

fn environment(deployment: &Deployment, name: &str) -> Option<String> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers[0].env.as_ref()?.iter().find(|one| one.name == name)?.value.clone()
}

/// Sections 4.1, 3.3, 4.2 and 5.
#[tokio::test]
async fn the_region_fails_over_to_a_real_api_server() -> Result<()> {
    let mut company = Company::open().await?;
    let (zone, dns) = company.cloud().await?;
    let (old, new) = (Kube::stand_in().await?, Kube::real().await?);
    old.create_deployment(SPACE, API, 2).await?;
    let namespace = serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SPACE } });
    let mut manifest = serde_json::to_value(deployment(API, 1))?;
    manifest["metadata"]["namespace"] = SPACE.into();
    let manifests = format!("{namespace}\n---\n{manifest}\n");
    company.stage.file("/etc/failoverd/manifests/production.yaml", &manifests)?;
    company.stage.kubeconfig(&[("primary-cluster", &old), ("backup-cluster", &new)])?;
    let alerts = company.moto.create_inbox(EAST, "critical-alerts").await?;
    let pager = company.moto.create_inbox(WEST, "on-call").await?;
    company.stage.open().await?;
    company.stage.plan("failover-to-backup", &[]).await?;
    let _daemon = company.stage.start().await?;

    psql(&company.db, "CREATE TABLE companies (id int); INSERT INTO companies VALUES (1), (2)")?;
    company.api.set(Some(Answer::status(503)));
    company.db.kill9();
    drop(company.cluster.take());
    let ended = company.stage.approve("regional-outage").await?;
    all_done_but(
        &ended,
        &[
            ("drain", StepStateView::Skipped),
            ("stop-old-primary", StepStateView::Failed),
            ("new-replica", StepStateView::Parked),
        ],
    )?;

    assert_eq!(
        psql(&company.standby, "INSERT INTO companies VALUES (3); SELECT count(*) FROM companies")?,
        "INSERT 0 1\n3"
    );
    let look = ["rds", "describe-db-instances", "--db-instance-identifier", "corporate-intel-replica"];
    let seen = &company.moto.cli(WEST, &look).await?["DBInstances"][0];
    ensure!(seen.get("ReadReplicaSourceDBInstanceIdentifier").is_none_or(Value::is_null), "{seen}");
    let look = ["route53", "list-resource-record-sets", "--hosted-zone-id", &zone];
    ensure!(company.moto.cli(EAST, &look).await?.to_string().contains(BALANCER));
    assert_eq!(dns.dig("api.corporate-intel.com", "A").await?, ["127.0.0.2"]);
    let deployed = found(&new).await?;
    assert_eq!(deployed.spec.as_ref().and_then(|spec| spec.replicas), Some(10));
    let host = environment(&deployed, "POSTGRES_HOST");
    assert_eq!(host.as_deref(), Some("corporate-intel-replica.us-west-2.rds.amazonaws.com"));
    assert_eq!(old.replicas(SPACE, API).await?, 2, "nothing is drained where nobody answers");
    alerts.wait_for(Duration::from_secs(20), "FAILOVER COMPLETED").await?;
    pager.wait_for(Duration::from_secs(20), "regional-outage").await?;
    let told: Vec<Value> =
        company.status_page.seen().iter().filter_map(|seen| serde_json::from_str(&seen.body).ok()).collect();
    let said: Vec<&str> = told.iter().filter_map(|told| told["status"].as_str()).collect();
    assert_eq!(said, ["investigating", "monitoring"]);
    ensure!(company.slack.requests() > 0 && company.backup.requests() > 0);

    // What is left to people is told until they say that it is done.
    company.stage.ok(&["step", "done", "new-replica", "--note", "done in the test"]).await?;
    company.stage.sees("no open task", |status| status.tasks.is_empty()).await?;
    Ok(())
}

/// Section 3.2.
#[tokio::test]
async fn the_api_is_mended_on_a_real_api_server() -> Result<()> {
    let mut company = Company::open().await?;
    company.cloud().await?;
    let (east, west) = (Kube::real().await?, Kube::stand_in().await?);
    east.create_deployment(SPACE, API, 2).await?;
    east.wait_ready(SPACE, API, 2, Duration::from_secs(60)).await?;
    company.stage.kubeconfig(&[("primary-cluster", &east), ("backup-cluster", &west)])?;
    company
        .stage
        .file("/etc/failoverd/manifests/production.yaml", "kind: Namespace\napiVersion: v1\nmetadata: { name: x }\n")?;
    let metrics = Answer { body: "http_requests_total 1\n".into(), ..Answer::status(200) };
    company.api.set_path("/metrics", Some(metrics));
    company.stage.open().await?;
    for fix in ["restart", "scale"] {
        company.stage.plan("restart-api", &[("fix", fix)]).await?;
    }
    let _daemon = company.stage.start().await?;

    let revision = async |wanted: &str| -> Result<()> {
        let now = found(&east).await?.metadata.annotations.unwrap_or_default();
        let now = now.get("deployment.kubernetes.io/revision").cloned().unwrap_or_default();
        ensure!(now == wanted, "revision {now}, not {wanted}");
        Ok(())
    };
    revision("1").await?;
    ensure!(
        company.stage.plan("restart-api", &[("fix", "undo")]).await.is_err(),
        "there is no revision before this one"
    );
    for (fix, others, replicas, number) in [
        ("restart", ["scale-up", "undo"], 2, "2"),
        ("scale", ["restart", "undo"], 10, "2"),
        ("undo", ["restart", "scale-up"], 10, "3"),
    ] {
        let ended = company.stage.execute("restart-api", &[("fix", fix)]).await?;
        all_done_but(&ended, &others.map(|step| (step, StepStateView::Skipped)))?;
        assert_eq!(east.ready_replicas(SPACE, API).await?, replicas, "{fix}");
        revision(number).await.context(fix)?;
    }

    // By itself, where only the API is down: it asks, and the restart heals it.
    company.api.set_path("/health", Some(Answer::status(500)));
    let (ended, healed) = tokio::join!(company.stage.approve("api-down"), async {
        eventually(Duration::from_secs(90), "the restart", async || revision("4").await).await?;
        company.api.set_path("/health", None);
        anyhow::Ok(())
    });
    // What the run says first: where it was not begun, nothing can have healed.
    let ended = ended?;
    healed?;
    all_done_but(&ended, &[("scale-up", StepStateView::Skipped), ("undo", StepStateView::Skipped)])
}

/// Section 3.1.
#[tokio::test]
async fn corruption_and_deletion_are_undone() -> Result<()> {
    let mut company = Company::open().await?;
    company.cloud().await?;
    let (kube, cache) = (Kube::stand_in().await?, Redis::primary(RedisOptions::default()).await?);
    kube.create_deployment(SPACE, API, 3).await?;
    company.stage.kubeconfig(&[("primary-cluster", &kube), ("backup-cluster", &kube)])?;
    company.stage.file("/etc/failoverd/redis.url", &cache.url())?;
    company
        .stage
        .file("/etc/failoverd/manifests/production.yaml", "kind: Namespace\napiVersion: v1\nmetadata: { name: x }\n")?;
    psql(&company.db, "CREATE ROLE mallory; CREATE TABLE companies (id int PRIMARY KEY)")?;
    psql(&company.db, "INSERT INTO companies SELECT generate_series(1, 1000); GRANT ALL ON companies TO mallory")?;
    psql(&company.db, "CREATE TABLE audit_log (action text, timestamp timestamptz)")?;
    psql(&company.db, "INSERT INTO audit_log SELECT 'DELETE', now() FROM generate_series(1, 7)")?;
    company.stage.file("/var/lib/failoverd/counts.json", r#"{"companies": 1000}"#)?;
    upload(&company).await?;
    company.stage.open().await?;
    company.stage.plan("restore-database", &[]).await?;
    let yesterday =
        (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24)).round(jiff::Unit::Second)?.to_string();
    let given = [("user", "mallory"), ("api_key", "key-1"), ("restore_time", yesterday.as_str())];
    company.stage.plan("undo-deletion", &given).await?;
    let _daemon = company.stage.start().await?;

    psql(&company.db, "DELETE FROM companies WHERE id > 10")?;
    let ended = company.stage.execute("restore-database", &[]).await?;
    all_done_but(&ended, &[])?;
    assert_eq!(ended.asked.iter().map(String::as_str).collect::<Vec<_>>(), ["sure", "wal"]);
    assert_eq!(psql(&company.db, "SELECT count(*) FROM companies")?, "1000");
    assert_eq!(kube.replicas(SPACE, API).await?, 5);

    psql(&company.db, "DELETE FROM companies WHERE id > 500")?;
    let ended = company.stage.execute("undo-deletion", &given).await?;
    all_done_but(&ended, &[])?;
    ensure!(ended.detail("what-is-gone")?.contains('7'), "{}", ended.detail("what-is-gone")?);
    assert_eq!(psql(&company.db, "SELECT has_table_privilege('mallory', 'companies', 'DELETE')")?, "f");
    assert_eq!(cache.call::<i64>(&["SISMEMBER", "blocked_api_keys", "key-1"]).await?, 1);
    let look = ["rds", "describe-db-instances", "--db-instance-identifier", "corporate-intel-before"];
    assert_eq!(company.moto.cli(EAST, &look).await?["DBInstances"][0]["DBInstanceStatus"], "available");
    let rows = query(&company.standby.url(), "SELECT count(*) FROM companies").await?;
    assert_eq!(rows[0][0].as_deref(), Some("500"), "the standby follows what was done on the primary");
    Ok(())
}

/// A dump of the database as the newest backup.
async fn upload(company: &Company) -> Result<()> {
    let dump = company.stage.path("/var/lib/failoverd/daily.dump");
    let mut pg_dump = command(bin_dir().join("pg_dump"));
    let output = pg_dump.args(["-F", "custom", "-f"]).arg(&dump).args(["-d", &company.db.url()]).output()?;
    ensure!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
    company.moto.cli(EAST, &["s3api", "create-bucket", "--bucket", "corporate-intel-backups"]).await?;
    let body = dump.display().to_string();
    let put =
        ["s3api", "put-object", "--bucket", "corporate-intel-backups", "--key", "daily/2026.dump", "--body", &body];
    company.moto.cli(EAST, &put).await.map(drop)
}
