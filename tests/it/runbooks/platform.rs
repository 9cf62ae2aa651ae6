//! The runbook of the platform on RDS and EKS.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::core::view::StepStateView::{self, Failed, Parked, Skipped};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::{Value, json};

use super::outside::{
    aws_cli, backed_up, cron_job, database, kubeconfig, kubectl, node, psql, restored, script, secret, service, shows,
    told, velero, velero_backup,
};
use super::stage::{Ended, Stage, all_done_but};
use crate::fleet::dns::Dns;
use crate::fleet::eventually;
use crate::fleet::http_app::{Answer, LocalApp};
use crate::fleet::kube::{BACKUP_CONTEXT, Kube, deployment};
use crate::fleet::moto::{Fault, Kind, Moto};
use crate::fleet::postgres::{PgOptions, Postgres, StandbyOptions};
use crate::fleet::prometheus::Prometheus;

const EAST: &str = "us-east-1";
const WEST: &str = "us-west-2";
const SPACE: &str = "platform-prod";
const BALANCER: &str = "dr-lb.platform.example.com";
const QUARANTINE: &str = "sg-0a1b2c3d4e5f60718";
const SOON: Duration = Duration::from_secs(90);

const SCHEMA: &str = "
    CREATE TABLE data_points (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, value int);
    CREATE INDEX data_points_created_at ON data_points (created_at);
    CREATE TABLE processed_results (id bigint PRIMARY KEY, status text,
        data_point bigint CONSTRAINT processed_results_data_point_fkey REFERENCES data_points);
    CREATE TABLE audit_logs (id bigint PRIMARY KEY);
    INSERT INTO data_points SELECT i, now() - make_interval(hours => i), i FROM generate_series(1, 240) i;
    INSERT INTO processed_results SELECT i, 'done', i FROM generate_series(1, 240) i;
    INSERT INTO audit_logs VALUES (1)";

/// What all of its plans share.
struct Platform {
    stage: Stage,
    api: LocalApp,
    dr_api: LocalApp,
    /// What a probe sees of the Kubernetes API in `us-east-1`.
    cluster: LocalApp,
    status_page: LocalApp,
    slack: LocalApp,
    db: Postgres,
    standby: Postgres,
    moto: Moto,
    _metrics: LocalApp,
    prometheus: Prometheus,
}

impl Platform {
    async fn open() -> Result<Self> {
        let moto = Moto::start().await?;
        for name in ["rds_promote", "route53_insync", "rds_restore", "rds_reboot"] {
            moto.set_delay(name, Duration::from_millis(100)).await?;
        }
        let db = Postgres::primary(PgOptions::default()).await?;
        psql(&db.url(), SCHEMA)?;
        // RDS of the test makes no server: what it would restore stands there.
        psql(&db.url(), "CREATE DATABASE restored")?;
        psql(&database(&db.url(), "restored"), SCHEMA)?;
        let standby = db.standby(StandbyOptions { synchronous: true, ..StandbyOptions::default() }).await?;
        let metrics = LocalApp::start("metrics").await?;
        metrics.set_path("/metrics", Some(Answer { body: "of_the_test 1\n".into(), ..Answer::status(200) }));
        let prometheus = Prometheus::start(&format!("127.0.0.1:{}", metrics.port()), None).await?;
        let platform = Self {
            stage: Stage::of("platform")?,
            api: LocalApp::start(EAST).await?,
            dr_api: LocalApp::start(WEST).await?,
            cluster: LocalApp::start(EAST).await?,
            status_page: LocalApp::start("status").await?,
            slack: LocalApp::start("slack").await?,
            db,
            standby,
            moto,
            _metrics: metrics,
            prometheus,
        };
        platform.dressed().await
    }

    async fn dressed(mut self) -> Result<Self> {
        let stage = &mut self.stage;
        stage.replace("https://api.platform.example.com", &self.api.at(""))?;
        stage.replace("https://dr-lb.platform.example.com", &self.dr_api.at(""))?;
        stage.replace("https://status.platform.example.com", &self.status_page.at(""))?;
        let own = format!("url = \"{}\"", self.cluster.at("/readyz"));
        let readyz = "url = \"https://0123456789abcdef.gr7.us-east-1.eks.amazonaws.com/readyz\", \
                      ca_file = \"/etc/failoverd/platform-prod.ca.pem\"";
        stage.replace(readyz, &own)?;
        for prometheus in ["prometheus.monitoring.svc.cluster.local", "prometheus.dr.platform.example.com"] {
            stage.replace(&format!("http://{prometheus}:9090"), &self.prometheus.url())?;
        }
        stage.file("/etc/failoverd/platform-prod.url", &self.db.url())?;
        stage.file("/etc/failoverd/platform-prod-restored.url", &database(&self.db.url(), "restored"))?;
        stage.file("/etc/failoverd/platform-prod-replica-dr.url", &self.standby.url())?;
        stage.file("/etc/failoverd/slack.url", &self.slack.url())?;
        stage.pager("arn:aws:sns:us-west-2:123456789012:platform-oncall")?;
        stage.file("/etc/failoverd/status-page.authorization", "Bearer canary")?;
        stage.file("/var/lib/failoverd/counts.json", r#"{"data_points": 240}"#)?;
        stage.replace("/usr/bin/aws", "/etc/failoverd/aws")?;
        stage.replace("/opt/platform/scripts/", "/etc/failoverd/scripts/")?;
        stage.replace("directory = \"/opt/platform\"", "directory = \"/\"")?;
        let aws = script(stage, "/etc/failoverd/aws", &aws_cli(&self.moto)?)?;
        let connections = include_str!("../../../config/examples/platform/scripts/database-connections.sh");
        ensure!(connections.contains("/usr/bin/aws"), "the script of the example calls the AWS CLI");
        let connections = connections.replace("/usr/bin/aws", &aws.display().to_string());
        script(stage, "/etc/failoverd/scripts/database-connections.sh", &connections)?;
        let smoke = format!("#!/bin/sh\nexec curl -fsS '{}'\n", self.api.url());
        script(stage, "/etc/failoverd/scripts/smoke-tests.sh", &smoke)?;
        stage.env(self.moto.env());
        stage.quick();
        self.moto.create_db(EAST, "platform-prod").await?;
        self.multi_az(true).await?;
        self.moto.create_replica(WEST, "platform-prod-replica-dr", EAST, "platform-prod").await?;
        self.moto.back_with(WEST, "platform-prod-replica-dr", &self.standby).await?;
        self.moto.cli(WEST, &["sns", "create-topic", "--name", "platform-oncall"]).await?;
        // Nothing is deployed there in quiet times.
        self.dr_api.set(Some(Answer::status(503)));
        Ok(self)
    }

    /// The clusters. Of the one in the DR region the probe sees the API server itself, with its TLS,
    /// where that is a real one.
    fn on(&mut self, prod: &Kube, dr: &Kube, manifests: &Value) -> Result<()> {
        self.stage.kubeconfig(&[("platform-prod", prod), ("platform-prod-dr", dr)])?;
        self.stage.file("/etc/failoverd/kubeconfig", &kubeconfig(prod, "platform-prod")?)?;
        for name in ["base", "overlays-prod", "helm-dr"] {
            let objects = manifests[name].as_array().context("a list of objects")?;
            let text: Vec<String> = objects.iter().map(Value::to_string).collect();
            self.stage.file(&format!("/etc/failoverd/manifests/{name}.yaml"), &text.join("\n---\n"))?;
        }
        let Kube::Real(real) = dr else { anyhow::bail!("the DR cluster is a real API server") };
        self.stage.replace("https://fedcba9876543210.gr7.us-west-2.eks.amazonaws.com", real.url())?;
        let config = ::kube::config::Kubeconfig::read_from(real.kubeconfig())?;
        let authority = config.clusters.first().and_then(|named| named.cluster.as_ref());
        let authority = authority.and_then(|cluster| cluster.certificate_authority.clone()).context("an authority")?;
        self.stage.file("/etc/failoverd/platform-prod-dr.ca.pem", &std::fs::read_to_string(authority)?)?;
        Ok(())
    }

    async fn multi_az(&self, multi_az: bool) -> Result<()> {
        let value = multi_az.to_string();
        let change =
            [("DBInstanceIdentifier", "platform-prod"), ("MultiAZ", value.as_str()), ("ApplyImmediately", "true")];
        self.moto.query("rds", EAST, "ModifyDBInstance", &change).await.map(drop)
    }

    /// An instance as the AWS CLI shows it.
    async fn instance(&self, region: &str, name: &str) -> Result<Value> {
        let look = ["rds", "describe-db-instances", "--db-instance-identifier", name];
        Ok(self.moto.cli(region, &look).await?["DBInstances"][0].take())
    }

    /// Makes room for the next restore, as the operator has to.
    async fn forget_restored(&self) -> Result<()> {
        let name = ("DBInstanceIdentifier", "platform-prod-restored");
        let unlock = [name, ("DeletionProtection", "false"), ("ApplyImmediately", "true")];
        self.moto.query("rds", EAST, "ModifyDBInstance", &unlock).await?;
        self.moto.query("rds", EAST, "DeleteDBInstance", &[name, ("SkipFinalSnapshot", "true")]).await.map(drop)
    }
}

/// An application as a manifest.
fn application(name: &str, replicas: i32) -> Result<Value> {
    let mut manifest = serde_json::to_value(deployment(name, replicas))?;
    manifest["metadata"]["namespace"] = SPACE.into();
    Ok(manifest)
}

/// The namespace with a Service and, since no controller of the test makes them, its Endpoints.
fn base() -> Vec<Value> {
    let metadata = json!({ "name": "platform-api", "namespace": SPACE });
    vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SPACE } }),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": { "selector": { "app": "platform-api" }, "ports": [{ "port": 80, "protocol": "TCP" }] } }),
        json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
            "subsets": [{ "addresses": [{ "ip": "192.0.2.1" }], "ports": [{ "port": 80, "protocol": "TCP" }] }] }),
    ]
}

fn manifests() -> Result<Value> {
    let applications = vec![application("platform-api", 3)?, application("platform-worker", 2)?];
    let whole: Vec<Value> = base().into_iter().chain(applications.clone()).collect();
    Ok(json!({ "base": base(), "overlays-prod": applications, "helm-dr": whole }))
}

async fn deployed(kube: &Kube) -> Result<()> {
    for (name, replicas) in [("platform-api", 3), ("platform-worker", 2)] {
        kube.create_deployment(SPACE, name, replicas).await?;
        kube.wait_ready(SPACE, name, replicas, SOON).await?;
    }
    service(kube, SPACE, "platform-api").await
}

/// How often the Deployment's template was changed.
async fn generation(kube: &Kube, name: &str) -> Result<i64> {
    let api: Api<Deployment> = Api::namespaced(kube.client(BACKUP_CONTEXT).await?, SPACE);
    api.get(name).await?.metadata.generation.context("a generation")
}

/// Scenario 1 by hand, scenario 4, the validation.
#[tokio::test]
async fn backups_are_restored_with_a_real_api_server() -> Result<()> {
    let mut platform = Platform::open().await?;
    let kube = Kube::real().await?;
    deployed(&kube).await?;
    platform.on(&kube, &kube, &manifests()?)?;
    let url = platform.db.url();
    let replay = move || psql(&url, "INSERT INTO data_points VALUES (1000, now(), 7)").map(drop);
    let _replay = cron_job(&kube, SPACE, "data-replay", replay).await?;
    backed_up(&platform.moto, &platform.db.url(), EAST, "platform-backups", "postgres/platform-prod-1.dump").await?;
    platform.stage.open().await?;
    platform.stage.plan("repair-data", &[]).await?;
    let _daemon = platform.stage.start_with(&["dr-api"]).await?;
    let ended = platform.stage.execute("validate", &[]).await?;
    let other = ["counts.restored", "counts.dr", "gaps.restored", "gaps.dr"].map(|step| (step, Skipped));
    all_done_but(&ended, &other)?;

    from_backups(&mut platform, &kube).await?;
    repaired(&mut platform, &kube).await
}

/// Scenario 1 by itself.
#[tokio::test]
async fn the_database_is_recovered_on_a_real_api_server() -> Result<()> {
    let mut platform = Platform::open().await?;
    let kube = Kube::real().await?;
    deployed(&kube).await?;
    platform.on(&kube, &kube, &manifests()?)?;
    platform.stage.open().await?;
    for plan in ["recover-database", "validate", "tell-customers"] {
        platform.stage.plan(plan, &[]).await?;
    }
    let _daemon = platform.stage.start_with(&["dr-api"]).await?;
    by_itself(&mut platform, &kube).await?;
    without_another_zone(&mut platform, &kube).await
}

/// Steps, and how they ended where they were not done.
type Ends = Vec<(String, StepStateView)>;

/// What a validation of this database leaves out: the looks at the others.
fn validated(prefix: &str, of: &str) -> Ends {
    let others = ["primary", "restored", "dr"].into_iter().filter(|name| *name != of);
    others.flat_map(|name| ["counts", "gaps"].map(|step| (format!("{prefix}.{step}.{name}"), Skipped))).collect()
}

/// All steps of a child plan that was left out.
fn left_out(ended: &Ended, child: &str) -> Ends {
    let names = ended.run.steps.iter().map(|step| step.name.to_string());
    names.filter(|name| name.starts_with(&format!("{child}."))).map(|name| (name, Skipped)).collect()
}

fn all_but(ended: &Ended, children: &[Ends], others: &[(&str, StepStateView)]) -> Result<()> {
    let of_children = children.iter().flatten().map(|(name, state)| (name.as_str(), *state));
    all_done_but(ended, &of_children.chain(others.iter().copied()).collect::<Vec<_>>())
}

async fn by_itself(platform: &mut Platform, kube: &Kube) -> Result<()> {
    let pager = platform.moto.create_inbox(WEST, "platform-oncall").await?;
    let before = generation(kube, "platform-worker").await?;
    platform.db.kill9();
    // The endpoint of RDS leads to the other zone once the reboot with failover was asked for.
    let (ended, back) = tokio::join!(platform.stage.approve("database-failure"), async {
        let asked = async || {
            let calls = platform.moto.calls_of("RebootDBInstance").await?;
            ensure!(calls.len() == 1, "{calls:?}");
            anyhow::Ok(())
        };
        eventually(SOON, "the failover", asked).await?;
        platform.db.restart().await
    });
    back?;
    let ended = ended?;
    let others = [
        ("instead", Skipped),
        ("stop-old-primary", Skipped),
        ("latest", Skipped),
        ("secret", Skipped),
        ("new-replica", Skipped),
    ];
    all_but(&ended, &[left_out(&ended, "validate-restored"), validated("validate", "primary")], &others)?;
    ensure!(ended.detail("status")?.contains("platform-prod"), "{}", ended.detail("status")?);
    assert_eq!(platform.instance(EAST, "platform-prod").await?["AvailabilityZone"], "us-east-1b");
    ensure!(generation(kube, "platform-worker").await? > before, "restarted");
    assert_eq!(told(&platform.status_page, "status")?, ["investigating", "resolved"]);
    pager.wait_for(SOON, "database-failure").await?;
    ensure!(platform.slack.requests() > 0);
    Ok(())
}

/// An instance that has no standby in another zone.
async fn without_another_zone(platform: &mut Platform, kube: &Kube) -> Result<()> {
    platform.multi_az(false).await?;
    let ended = platform.stage.execute("recover-database", &[]).await?;
    assert_eq!(ended.asked.iter().map(String::as_str).collect::<Vec<_>>(), ["instead"]);
    let others = [("failover", Failed), ("new-replica", Parked)];
    all_but(&ended, &[left_out(&ended, "validate"), validated("validate-restored", "restored")], &others)?;
    let new = platform.instance(EAST, "platform-prod-restored").await?;
    assert_eq!((&new["MultiAZ"], &new["DeletionProtection"]), (&json!(true), &json!(true)));
    let host = new["Endpoint"]["Address"].as_str().context("an endpoint")?;
    assert_eq!(secret(kube, SPACE, "db-connection", "host").await?, host);
    assert_eq!(secret(kube, SPACE, "db-connection", "database").await?, "platform");
    let old = platform.instance(EAST, "platform-prod").await?;
    assert_eq!(old["VpcSecurityGroups"][0]["VpcSecurityGroupId"], QUARANTINE, "nobody reaches the old one");
    Ok(())
}

/// The newest snapshot, one by name, a point in time.
async fn from_backups(platform: &mut Platform, kube: &Kube) -> Result<()> {
    for name in ["named", "newest"] {
        let params = [("DBInstanceIdentifier", "platform-prod"), ("DBSnapshotIdentifier", name)];
        platform.moto.query("rds", EAST, "CreateDBSnapshot", &params).await?;
    }
    platform.moto.age_snapshot(EAST, "named", Duration::from_secs(7200)).await?;
    let past = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(30);
    let past = past.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let past = past.as_str();
    let steps = ["newest", "named", "point-in-time"];
    for (step, given, from) in [
        ("newest", vec![], "newest"),
        ("named", vec![("from", "snapshot"), ("snapshot", "named"), ("max_age", "3h")], "named"),
        ("point-in-time", vec![("from", "time"), ("restore_time", past)], past),
    ] {
        if step != "newest" {
            platform.forget_restored().await?;
        }
        let ended = platform.stage.execute("restore-database", &given).await.context(step)?;
        let others = steps.into_iter().filter(|other| *other != step).map(|other| (other, Skipped));
        let others: Vec<_> = others.chain([("new-replica", Parked)]).collect();
        all_but(&ended, &[validated("validate", "restored")], &others)?;
        let tags = platform.instance(EAST, "platform-prod-restored").await?["TagList"].to_string();
        ensure!(tags.contains(from), "{tags}");
    }
    let new = platform.instance(EAST, "platform-prod-restored").await?;
    assert_eq!(secret(kube, SPACE, "db-connection", "host").await?, new["Endpoint"]["Address"]);
    Ok(())
}

/// Scenario 4.
async fn repaired(platform: &mut Platform, kube: &Kube) -> Result<()> {
    let url = platform.db.url();
    psql(
        &url,
        "INSERT INTO data_points VALUES (1000, now(), 7); INSERT INTO processed_results VALUES (1000, 'failed', 1000)",
    )?;
    psql(&url, "UPDATE data_points SET value = -1")?;
    let ended = platform.stage.execute("repair-data", &[]).await?;
    assert_eq!(ended.asked.iter().map(String::as_str).collect::<Vec<_>>(), ["sure"]);
    all_but(&ended, &[validated("validate", "primary")], &[("postmortem", Parked)])?;
    ensure!(ended.detail("failed")?.contains('1'), "{}", ended.detail("failed")?);
    assert_eq!(psql(&url, "SELECT count(*), count(*) FILTER (WHERE value = -1) FROM data_points")?, "241|0");
    let indexes =
        "SELECT string_agg(indexname, ' ' ORDER BY indexname) FROM pg_indexes WHERE tablename = 'data_points'";
    assert_eq!(psql(&url, indexes)?, "data_points_created_at data_points_pkey");
    let key = "SELECT convalidated FROM pg_constraint WHERE conname = 'processed_results_data_point_fkey'";
    assert_eq!(psql(&url, key)?, "t");
    assert_eq!((kube.replicas(SPACE, "platform-api").await?, kube.replicas(SPACE, "platform-worker").await?), (3, 2));
    let jobs = shows(kube, &format!("-n {SPACE} get jobs"), ".items[*].status.succeeded").await?;
    assert_eq!(jobs, "1", "replayed once");
    Ok(())
}

/// Scenario 2: a cluster that has to be made anew, and one that lost what was in it.
#[tokio::test]
async fn the_cluster_is_recovered_on_a_real_api_server() -> Result<()> {
    let mut platform = Platform::open().await?;
    let kube = Kube::real().await?;
    platform.on(&kube, &kube, &manifests()?)?;
    platform.stage.replace("timeout = \"5m\"\nestimate = \"1m\"", "timeout = \"2s\"\nestimate = \"1s\"")?;
    let (role, vpc) = ("arn:aws:iam::123456789012:role/eks", "subnetIds=subnet-1,subnet-2");
    let create =
        ["eks", "create-cluster", "--name", "platform-prod", "--role-arn", role, "--resources-vpc-config", vpc];
    platform.moto.cli(EAST, &create).await?;
    let _velero = velero(&kube).await?;
    for (name, schedule, phase, day) in [
        ("daily-1", "daily-platform-backup", "Completed", 1),
        ("daily-2", "daily-platform-backup", "Completed", 2),
        ("daily-3", "daily-platform-backup", "Failed", 3),
        ("weekly-1", "weekly-full-backup", "Completed", 1),
    ] {
        velero_backup(&kube, name, schedule, phase, &format!("2026-01-0{day}T03:00:00Z")).await?;
    }
    platform.stage.open().await?;
    platform.stage.plan("recover-kubernetes", &[]).await?;
    let _daemon = platform.stage.start_with(&["dr-api"]).await?;

    // There is nothing in kube-system, as in a cluster that has no control plane any more.
    let ended = platform.stage.execute("recover-kubernetes", &[]).await?;
    assert_eq!(ended.asked.iter().map(String::as_str).collect::<Vec<_>>(), ["recreate"]);
    let others = [("control-plane", Failed), ("nodes", Skipped)];
    all_but(&ended, &[validated("validate", "primary")], &others)?;
    assert_eq!(restored(&kube).await?, ["daily-2", "weekly-1"]);
    assert_eq!(kube.ready_replicas(SPACE, "platform-api").await?, 3);

    kube.create_deployment("kube-system", "coredns", 2).await?;
    kube.wait_ready("kube-system", "coredns", 2, SOON).await?;
    node(&kube, "ip-10-0-0-1", json!({})).await?;
    velero_backup(&kube, "daily-4", "daily-platform-backup", "Completed", "2026-01-04T03:00:00Z").await?;
    let before = kubectl(&kube, &format!("-n {SPACE} get deployments -o name"), "").await?;
    platform.cluster.set(Some(Answer::status(500)));
    let ended = platform.stage.approve("cluster-failure").await?;
    let left = ["recreate", "cluster-active", "full-restore", "base", "overlay"].map(|step| (step, Skipped));
    all_but(&ended, &[validated("validate", "primary")], &left)?;
    assert_eq!(restored(&kube).await?, ["daily-2", "daily-4", "weekly-1"]);
    assert_eq!(kubectl(&kube, &format!("-n {SPACE} get deployments -o name"), "").await?, before);
    Ok(())
}

/// Scenario 3.
#[tokio::test]
async fn the_region_is_recovered_on_a_real_api_server() -> Result<()> {
    let mut platform = Platform::open().await?;
    let (prod, dr) = (Kube::stand_in().await?, Kube::real().await?);
    for name in ["platform-api", "platform-worker"] {
        prod.create_deployment(SPACE, name, 2).await?;
    }
    platform.on(&prod, &dr, &manifests()?)?;
    let zone = platform.moto.create_zone("platform.example.com").await?;
    let dns = Dns::start("platform.example.com", &["api 60 IN A 127.0.0.1", "dr-lb 60 IN A 127.0.0.2"]).await?;
    let addresses = [("old.platform.example.com", "127.0.0.1"), (BALANCER, "127.0.0.2")];
    platform.moto.publish(&zone, &dns, &addresses).await?;
    platform.moto.upsert_alias(&zone, "api.platform.example.com", "old.platform.example.com", "Z0987654321XYZ").await?;
    platform.stage.replace("Z1234567890ABC", &zone)?;
    platform.stage.replace("dr-lb.us-west-2.elb.amazonaws.com", BALANCER)?;
    let at = dns.addr();
    platform.stage.replace("dns.verify = { ", &format!("dns.verify = {{ servers = [\"{at}\"], via = \"{at}\", "))?;
    let pager = platform.moto.create_inbox(WEST, "platform-oncall").await?;
    platform.stage.open().await?;
    platform.stage.plan("full-platform-recovery", &[]).await?;
    let _daemon = platform.stage.start_with(&["dr-api"]).await?;

    psql(&platform.db.url(), "INSERT INTO audit_logs VALUES (2)")?;
    platform.api.set(Some(Answer::status(503)));
    platform.cluster.set(Some(Answer::status(503)));
    platform.moto.fault(Fault::new(Kind::Error503).service("rds").region(EAST)).await?;
    platform.db.kill9();
    let (ended, moved) = tokio::join!(platform.stage.approve("regional-outage"), async {
        let running = async || dr.wait_ready(SPACE, "platform-api", 3, Duration::from_millis(1)).await;
        eventually(SOON, "the applications in the DR region", running).await?;
        ensure!(dns.dig("api.platform.example.com", "A").await? == ["127.0.0.1"], "moved before it was well");
        platform.dr_api.set(None);
        let moved = async || {
            ensure!(dns.dig("api.platform.example.com", "A").await? == ["127.0.0.2"], "not yet");
            anyhow::Ok(())
        };
        eventually(SOON, "the name to lead there", moved).await?;
        platform.api.set(None);
        anyhow::Ok(())
    });
    moved?;
    let ended = ended?;
    let others = [
        ("drain.platform-api", Skipped),
        ("drain.platform-worker", Skipped),
        ("caught-up", Skipped),
        ("stop-old-primary", Failed),
        ("new-replica", Parked),
    ];
    all_but(&ended, &[validated("validate", "dr")], &others)?;
    assert_eq!(
        psql(&platform.standby.url(), "INSERT INTO audit_logs VALUES (3); SELECT count(*) FROM audit_logs")?,
        "3"
    );
    let seen = platform.instance(WEST, "platform-prod-replica-dr").await?;
    ensure!(seen.get("ReadReplicaSourceDBInstanceIdentifier").is_none_or(Value::is_null), "{seen}");
    let host = secret(&dr, SPACE, "db-connection", "host").await?;
    assert_eq!(host, "platform-prod-replica-dr.xyz.us-west-2.rds.amazonaws.com");
    assert_eq!(prod.replicas(SPACE, "platform-api").await?, 2, "nothing is drained where nobody answers");
    pager.wait_for(SOON, "All clear").await?;
    assert_eq!(told(&platform.status_page, "status")?, ["investigating", "resolved"]);
    Ok(())
}
