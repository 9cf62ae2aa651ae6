//! What AWS says of a target: against moto with the semantics of AWS, and against a double for what moto
//! does not speak.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use failoverd::clients::Clients;
use failoverd::config::shape::Limits;
use failoverd::model::{CauseKind, Health, Observation};
use failoverd::ports::Probe;
use failoverd::probes::{ProbeClients, ProbeContext, attempt, build};
use serde_json::{Value, json};

use super::{LONG, SHORT, assert_saw, kind, look};
use crate::actions::{CANARY, SOON, aws};
use crate::fleet::aws::db_arn;
use crate::fleet::aws_cbor::AwsCbor;
use crate::fleet::moto::{Fault, Kind, Moto, SECRET_KEY};
use crate::fleet::port;

const EAST: &str = "us-east-1";

fn probe(clients: &Arc<Clients>, value: Value) -> Arc<dyn Probe> {
    within(clients, LONG, value)
}

fn within(clients: &Arc<Clients>, timeout: Duration, value: Value) -> Arc<dyn Probe> {
    let context = ProbeContext::new(ProbeClients::system().through(Arc::clone(clients)), timeout);
    build(&kind(value), &context).expect("it can be built").into()
}

/// Up, and well.
async fn assert_well(probe: &Arc<dyn Probe>) {
    let seen = look(probe).await;
    assert_eq!((seen.health(), seen.cause()), (Health::Up, None), "{seen:?}");
}

async fn assert_sees(probe: &Arc<dyn Probe>, health: Health, kind: CauseKind) -> String {
    let seen = look(probe).await;
    assert_saw(&seen, health, kind);
    told(&seen)
}

/// What people are told; no secret is in it.
fn told(seen: &Observation) -> String {
    let text = seen.cause().map(|cause| cause.detail.clone()).unwrap_or_default();
    assert!(!text.contains(SECRET_KEY) && !text.contains(CANARY), "{text}");
    text
}

/// Whatever the API itself does, nothing is said of the target.
async fn assert_blames_nobody(moto: &Moto, probe: &Arc<dyn Probe>, service: &str) -> Result<()> {
    let asked = async || -> Result<usize> {
        let calls = moto.calls().await?;
        Ok(calls.iter().filter(|call| call.service.as_deref() == Some(service)).count())
    };
    for (fault, kind) in [
        (Fault::new(Kind::AccessDenied), CauseKind::LocalPermission),
        (Fault::new(Kind::ExpiredToken), CauseKind::LocalPermission),
        (Fault::new(Kind::Throttle), CauseKind::LocalThrottled),
        (Fault::new(Kind::Error500), CauseKind::ControlPlane),
        (Fault::new(Kind::Error503), CauseKind::ControlPlane),
        (Fault::new(Kind::Html502), CauseKind::ControlPlane),
        (Fault::new(Kind::Reset), CauseKind::ControlPlane),
    ] {
        let before = asked().await?;
        moto.fault(fault.service(service)).await?;
        assert_sees(probe, Health::Unknown, kind).await;
        assert_eq!(asked().await?, before + 1, "{service} was asked again after a failure");
        moto.clear_faults().await?;
    }
    moto.fault(Fault::new(Kind::Hang).service(service)).await?;
    let seen = attempt(&**probe, SHORT).await;
    assert_saw(&seen, Health::Unknown, CauseKind::ControlPlane);
    moto.clear_faults().await
}

#[tokio::test]
async fn an_instance_is_what_rds_says_of_it() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db(EAST, "shop").await?;
    let clients = aws(moto.port());
    let shop = probe(&clients, json!({ "rds": { "region": EAST, "instance": "shop" } }));
    assert_well(&shop).await;
    for (status, health, kind) in [
        ("modifying", Health::Up, CauseKind::Unhealthy),
        ("upgrading", Health::Up, CauseKind::Unhealthy),
        ("stopped", Health::Down, CauseKind::Unhealthy),
        ("storage-full", Health::Down, CauseKind::Unhealthy),
        ("inaccessible-encryption-credentials", Health::Down, CauseKind::Unhealthy),
        ("thinking", Health::Unknown, CauseKind::Protocol),
    ] {
        moto.set_db_status(EAST, "shop", status).await?;
        let text = assert_sees(&shop, health, kind).await;
        assert!(text.contains(&format!("instance shop is {status}")), "{text}");
    }
    moto.set_db_status(EAST, "shop", "backing-up").await?;
    assert_well(&shop).await;
    let none = probe(&clients, json!({ "rds": { "region": EAST, "instance": "none" } }));
    assert_sees(&none, Health::Down, CauseKind::NotFound).await;
    let elsewhere = probe(&clients, json!({ "rds": { "region": "us-west-2", "instance": "shop" } }));
    assert_sees(&elsewhere, Health::Down, CauseKind::NotFound).await;
    assert_blames_nobody(&moto, &shop, "rds").await?;
    assert_well(&shop).await;
    Ok(())
}

#[tokio::test]
async fn maintenance_with_a_date_is_degraded() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db(EAST, "shop").await?;
    let clients = aws(moto.port());
    let watched = json!({ "rds": { "region": EAST, "instance": "shop", "pending_maintenance": true } });
    let (watched, unwatched) =
        (probe(&clients, watched), probe(&clients, json!({ "rds": { "region": EAST, "instance": "shop" } })));
    assert_well(&watched).await;
    moto.plan_maintenance(&db_arn(EAST, "shop"), "system-update", None).await?;
    assert_well(&watched).await;
    moto.plan_maintenance(&db_arn(EAST, "shop"), "system-update", Some(1_800_000_000)).await?;
    let text = assert_sees(&watched, Health::Up, CauseKind::MaintenancePending).await;
    assert_eq!(text, "system-update on 2027-01-15T08:00:00Z");
    assert_well(&unwatched).await;
    // What is worse comes first.
    moto.set_db_status(EAST, "shop", "failed").await?;
    assert_sees(&watched, Health::Down, CauseKind::Unhealthy).await;
    moto.set_db_status(EAST, "shop", "available").await?;
    moto.fault(Fault::new(Kind::AccessDenied).action("DescribePendingMaintenanceActions")).await?;
    assert_sees(&watched, Health::Unknown, CauseKind::LocalPermission).await;
    Ok(())
}

#[tokio::test]
async fn a_cluster_without_an_instance_serves_nobody() -> Result<()> {
    let moto = Moto::start().await?;
    let params = [
        ("DBClusterIdentifier", "shop"),
        ("Engine", "aurora-postgresql"),
        ("MasterUsername", "postgres"),
        ("MasterUserPassword", "rds-s3cret-password"),
    ];
    moto.query("rds", EAST, "CreateDBCluster", &params).await?;
    let clients = aws(moto.port());
    let shop = probe(&clients, json!({ "rds": { "region": EAST, "cluster": "shop" } }));
    let text = assert_sees(&shop, Health::Down, CauseKind::Unhealthy).await;
    assert!(text.contains("has no instance"), "{text}");
    let params = [
        ("DBInstanceIdentifier", "shop-1"),
        ("DBClusterIdentifier", "shop"),
        ("Engine", "aurora-postgresql"),
        ("DBInstanceClass", "db.r6g.large"),
    ];
    moto.query("rds", EAST, "CreateDBInstance", &params).await?;
    assert_well(&shop).await;
    for (status, health) in [("failing-over", Health::Up), ("inaccessible-encryption-credentials", Health::Down)] {
        moto.set_cluster_status(EAST, "shop", status).await?;
        assert_sees(&shop, health, CauseKind::Unhealthy).await;
    }
    let none = probe(&clients, json!({ "rds": { "region": EAST, "cluster": "none" } }));
    assert_sees(&none, Health::Down, CauseKind::NotFound).await;
    Ok(())
}

#[tokio::test]
async fn a_replication_group_is_what_elasticache_says_of_it() -> Result<()> {
    let moto = Moto::start().await?;
    let params = [
        ("ReplicationGroupId", "cache"),
        ("ReplicationGroupDescription", "sessions"),
        ("Engine", "redis"),
        ("ReplicasPerNodeGroup", "2"),
        ("AutomaticFailoverEnabled", "true"),
    ];
    moto.query("elasticache", EAST, "CreateReplicationGroup", &params).await?;
    let clients = aws(moto.port());
    let of = |name: &str| probe(&clients, json!({ "elasticache": { "region": EAST, "replication_group": name } }));
    let cache = of("cache");
    assert_well(&cache).await;
    for (status, health, kind) in [
        ("snapshotting", Health::Up, CauseKind::Unhealthy),
        ("create-failed", Health::Down, CauseKind::Unhealthy),
        ("thinking", Health::Unknown, CauseKind::Protocol),
    ] {
        moto.set_elasticache_status(EAST, "cache", status).await?;
        assert_sees(&cache, health, kind).await;
    }
    moto.set_elasticache_status(EAST, "cache", "available").await?;
    moto.set_node_group_status(EAST, "cache", "modifying").await?;
    let text = assert_sees(&cache, Health::Up, CauseKind::Unhealthy).await;
    assert!(text.contains("is modifying"), "{text}");
    moto.set_node_group_status(EAST, "cache", "available").await?;
    assert_well(&cache).await;
    moto.lose_cache_primary(EAST, "cache").await?;
    let text = assert_sees(&cache, Health::Down, CauseKind::Unhealthy).await;
    assert!(text.contains("has no primary"), "{text}");
    assert_sees(&of("none"), Health::Down, CauseKind::NotFound).await;
    assert_blames_nobody(&moto, &cache, "elasticache").await
}

#[tokio::test]
async fn probes_keep_to_the_limit_that_plans_keep_to() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db(EAST, "shop").await?;
    let port = moto.port();
    let limits = Limits { rds: Some(1), ..Limits::default() };
    let adjust = move |loader: aws_config::ConfigLoader| {
        let credentials = aws_credential_types::Credentials::new("testing", SECRET_KEY, None, None, "test");
        let endpoint = format!("http://127.0.0.1:{port}");
        loader.empty_test_environment().endpoint_url(endpoint).credentials_provider(credentials)
    };
    let clients = Arc::new(Clients::new(&limits).with_aws(Box::new(adjust)));
    let shop = within(&clients, SHORT, json!({ "rds": { "region": EAST, "instance": "shop" } }));
    // Whoever comes first has the one call of this second: here that is a plan.
    clients.pace(failoverd::clients::Api::Rds, std::time::Instant::now() + SOON).await?;
    let seen = attempt(&*shop, SHORT).await;
    assert_saw(&seen, Health::Unknown, CauseKind::LocalThrottled);
    assert!(moto.calls_of("DescribeDBInstances").await?.is_empty(), "AWS was asked without a place in the limit");
    Ok(())
}

#[tokio::test]
async fn an_api_that_cannot_be_reached_says_nothing_of_the_target() -> Result<()> {
    let clients = aws(port()?);
    for value in [
        json!({ "rds": { "region": EAST, "instance": "shop" } }),
        json!({ "elasticache": { "region": EAST, "replication_group": "cache" } }),
        json!({ "s3_age": { "region": EAST, "bucket": "b", "max_age": "1h" } }),
        json!({ "cloudwatch": { "region": EAST, "metrics": [{ "namespace": "n", "name": "m" }], "above": 1 } }),
        json!({ "aws_health": { "region": EAST } }),
    ] {
        let seen = look(&probe(&clients, value)).await;
        assert_saw(&seen, Health::Unknown, CauseKind::ControlPlane);
        told(&seen);
    }
    Ok(())
}

#[tokio::test]
async fn the_newest_object_that_counts_has_to_be_young() -> Result<()> {
    let moto = Moto::start().await?;
    moto.cli(EAST, &["s3api", "create-bucket", "--bucket", "backups"]).await?;
    let clients = aws(moto.port());
    let of = |more: Value| {
        let mut config = json!({ "region": EAST, "bucket": "backups", "prefix": "daily/", "max_age": "1h" });
        config.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        probe(&clients, json!({ "s3_age": config }))
    };
    assert_sees(&of(json!({})), Health::Down, CauseKind::NotFound).await;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("upload");
    std::fs::write(&file, "0123456789")?;
    let body = file.to_str().expect("a path").to_owned();
    moto.cli(EAST, &["s3api", "put-object", "--bucket", "backups", "--key", "daily/"]).await?;
    moto.cli(EAST, &["s3api", "put-object", "--bucket", "backups", "--key", "weekly/1", "--body", &body]).await?;
    // Neither a folder nor what is below another prefix.
    assert_sees(&of(json!({})), Health::Down, CauseKind::NotFound).await;
    moto.cli(EAST, &["s3api", "put-object", "--bucket", "backups", "--key", "daily/1", "--body", &body]).await?;
    assert_well(&of(json!({}))).await;
    let text = assert_sees(&of(json!({ "at_least_bytes": 11 })), Health::Down, CauseKind::NotFound).await;
    assert!(text.contains("1 smaller than 11 bytes"), "{text}");
    assert_well(&of(json!({ "at_least_bytes": 10 }))).await;
    let hasty = of(json!({ "max_age": "1s" }));
    let old = crate::fleet::eventually(SOON, "the object to be older than a second", async || {
        let seen = look(&hasty).await;
        anyhow::ensure!(seen.health() == Health::Down, "{seen:?}");
        Ok(seen)
    })
    .await?;
    assert_saw(&old, Health::Down, CauseKind::TooOld);
    assert!(told(&old).contains("s3://backups/daily/1"), "{old:?}");
    assert_sees(&of(json!({ "bucket": "none" })), Health::Down, CauseKind::NotFound).await;
    assert_blames_nobody(&moto, &of(json!({})), "s3").await
}

/// Against a double: it says what the test says, and no figure of it is CloudWatch's.
#[tokio::test]
async fn figures_of_cloudwatch_cross_a_threshold() -> Result<()> {
    const CALL: &str = "GetMetricData";
    let double = AwsCbor::start().await?;
    let clients = aws(double.port());
    let errors = json!({ "cloudwatch": {
        "region": EAST, "expression": "m2/m1*100", "above": 5, "datapoints_to_alarm": 2, "of": 3,
        "metrics": [
            { "id": "m1", "namespace": "AWS/ApplicationELB", "name": "RequestCount", "stat": "Sum",
              "dimensions": { "LoadBalancer": "app/shop/1" } },
            { "id": "m2", "namespace": "AWS/ApplicationELB", "name": "HTTPCode_Target_5XX_Count", "stat": "Sum" },
        ],
    } });
    let errors = probe(&clients, errors);
    // The double sends the oldest first, and of four the oldest does not count.
    let figures = |values: &[f64], status: &str| {
        let times: Vec<Value> = (0..values.len()).map(|n| json!({ "$time": 1_800_000_000 + 60 * n })).collect();
        let result = json!({ "Id": "failoverd_result", "Timestamps": times, "Values": values, "StatusCode": status });
        double.set(CALL, json!({ "MetricDataResults": [result] }));
    };
    figures(&[9.0, 1.0, 1.0, 9.0], "Complete");
    assert_well(&errors).await;
    let (operation, asked) = double.last()?;
    assert_eq!(operation, CALL);
    let queries = asked["MetricDataQueries"].as_array().expect("queries");
    assert_eq!(queries.len(), 3, "{asked}");
    assert_eq!(queries[0]["MetricStat"]["Metric"]["Dimensions"][0]["Value"], "app/shop/1");
    assert_eq!((&queries[0]["ReturnData"], &queries[2]["ReturnData"]), (&json!(false), &json!(true)));
    assert_eq!(queries[2]["Expression"], "m2/m1*100");
    let [start, end] = ["StartTime", "EndTime"].map(|time| asked[time].as_f64().expect("a time"));
    assert_eq!((end - start, end % 60.0), (5.0 * 60.0, 0.0), "{asked}");

    figures(&[1.0, 9.0, 9.0], "Complete");
    assert_sees(&errors, Health::Down, CauseKind::ThresholdCrossed).await;
    figures(&[9.0, 1.0], "PartialData");
    assert_sees(&errors, Health::Unknown, CauseKind::NoData).await;
    figures(&[], "Complete");
    assert_sees(&errors, Health::Unknown, CauseKind::NoData).await;
    figures(&[9.0, 9.0, 9.0], "InternalError");
    assert_sees(&errors, Health::Unknown, CauseKind::ControlPlane).await;
    figures(&[9.0, 9.0, 9.0], "Forbidden");
    assert_sees(&errors, Health::Unknown, CauseKind::LocalPermission).await;
    double.set(CALL, json!({ "MetricDataResults": [] }));
    assert_sees(&errors, Health::Unknown, CauseKind::QueryFailed).await;
    for (status, code, kind) in [
        (403, "AccessDeniedException", CauseKind::LocalPermission),
        (400, "ThrottlingException", CauseKind::LocalThrottled),
        (400, "ValidationError", CauseKind::QueryFailed),
        (500, "InternalServiceFault", CauseKind::ControlPlane),
    ] {
        let before = double.requests();
        double.fail(CALL, status, code);
        assert_sees(&errors, Health::Unknown, kind).await;
        assert_eq!(double.requests(), before + 1, "it was asked again after {code}");
    }
    Ok(())
}

/// Against a double, which has no events of its own.
#[tokio::test]
async fn an_open_issue_is_degraded_and_never_down() -> Result<()> {
    const CALL: &str = "DescribeEvents";
    let double = AwsCbor::start().await?;
    let clients = aws(double.port());
    let events = probe(&clients, json!({ "aws_health": { "region": "us-west-2", "services": ["RDS", "EC2"] } }));
    double.set(CALL, json!({ "events": [] }));
    assert_well(&events).await;
    let (_, asked) = double.last()?;
    let wanted = json!({
        "regions": ["us-west-2"], "services": ["RDS", "EC2"],
        "eventTypeCategories": ["issue"], "eventStatusCodes": ["open"],
    });
    assert_eq!(asked["filter"], wanted);
    let event = json!({
        "service": "RDS", "eventTypeCode": "AWS_RDS_OPERATIONAL_ISSUE", "region": "us-west-2",
        "startTime": { "$time": 1_800_000_000 }, "statusCode": "open",
    });
    double.set(CALL, json!({ "events": [event] }));
    let text = assert_sees(&events, Health::Up, CauseKind::ProviderEvent).await;
    assert!(text.contains("AWS_RDS_OPERATIONAL_ISSUE since 2027-01-15T08:00:00Z"), "{text}");
    for (status, code, kind) in [
        (400, "SubscriptionRequiredException", CauseKind::LocalPermission),
        (500, "InternalServerError", CauseKind::ControlPlane),
    ] {
        double.fail(CALL, status, code);
        assert_sees(&events, Health::Unknown, kind).await;
    }
    Ok(())
}
