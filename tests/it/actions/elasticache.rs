//! `elasticache.reboot`, `elasticache.failover` and `elasticache.failover_global`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::clients::Clients;
use failoverd::model::Observed;
use serde_json::{Value, json};

use super::{Subject, accepted, aws, before, done, going, impossible, refused, unknown, unseen};
use crate::fleet::moto::{Fault, HOLD, Kind, Moto};

const EAST: &str = "us-east-1";
const WEST: &str = "us-west-2";

async fn group(moto: &Moto, automatic: bool) -> Result<()> {
    let automatic = automatic.to_string();
    let params = [
        ("ReplicationGroupId", "cache"),
        ("ReplicationGroupDescription", "sessions"),
        ("Engine", "redis"),
        ("ReplicasPerNodeGroup", "2"),
        ("AutomaticFailoverEnabled", automatic.as_str()),
    ];
    moto.query("elasticache", EAST, "CreateReplicationGroup", &params).await.map(drop)
}

async fn cache(automatic: bool) -> Result<(Moto, Arc<Clients>)> {
    let moto = Moto::start().await?;
    group(&moto, automatic).await?;
    moto.set_delay("elasticache_failover", Duration::ZERO).await?;
    let clients = aws(moto.port());
    Ok((moto, clients))
}

fn failover(clients: &Arc<Clients>, more: Value) -> Subject {
    let mut params = json!({ "region": EAST, "replication_group": "cache" });
    params.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
    Subject::new("elasticache.failover", params, clients)
}

async fn primary(moto: &Moto) -> Result<Value> {
    let look = ["elasticache", "describe-replication-groups", "--replication-group-id", "cache"];
    let seen = moto.cli(EAST, &look).await?;
    let members = seen["ReplicationGroups"][0]["NodeGroups"][0]["NodeGroupMembers"].clone();
    let members = members.as_array().cloned().unwrap_or_default();
    Ok(members
        .into_iter()
        .find(|m| m["CurrentRole"] == "primary")
        .map(|m| m["CacheClusterId"].clone())
        .unwrap_or_default())
}

#[tokio::test]
async fn a_failing_primary_is_left_for_another_node_once() -> Result<()> {
    let (moto, clients) = cache(true).await?;
    moto.set_delay("elasticache_failover", HOLD).await?;
    let subject = failover(&clients, json!({ "from": "cache-001" }));
    assert_eq!(before(subject.observe().await)?["primary"], "cache-001");
    moto.fault(Fault::new(Kind::SuccessThenReset).action("TestFailover")).await?;
    unknown(subject.apply().await)?;
    let reason = unseen(subject.observe().await)?;
    ensure!(reason.contains("modifying"), "{reason}");
    moto.set_delay("elasticache_failover", Duration::ZERO).await?;
    subject.verify().await?;
    done(subject.observe().await)?;
    refused(subject.apply().await, true)?;
    assert_eq!(moto.calls_of("TestFailover").await?.len(), 1);
    assert_eq!(primary(&moto).await?, "cache-002");
    Ok(())
}

#[tokio::test]
async fn a_chosen_node_is_promoted_where_aws_does_not_choose() -> Result<()> {
    let (moto, clients) = cache(false).await?;
    let subject = failover(&clients, json!({ "to": "cache-003" }));
    subject.run().await?;
    done(subject.observe().await)?;
    assert_eq!(primary(&moto).await?, "cache-003");
    assert_eq!(moto.calls_of("ModifyReplicationGroup").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn the_way_has_to_fit_the_replication_group() -> Result<()> {
    let (moto, clients) = cache(true).await?;
    let missing = json!({ "replication_group": "none", "from": "cache-001" });
    for (more, why) in [
        (json!({ "to": "cache-002" }), "automatic failover of cache is enabled"),
        (json!({ "from": "other-001" }), "not a node of cache"),
        (missing, "NotFound"),
    ] {
        let subject = failover(&clients, more);
        let reason = impossible(subject.observe().await)?;
        ensure!(reason.contains(why), "{reason}");
        refused(subject.apply().await, false)?;
    }
    moto.set_elasticache_status(EAST, "cache", "snapshotting").await?;
    let subject = failover(&clients, json!({ "from": "cache-001" }));
    unseen(subject.observe().await)?;
    refused(subject.apply().await, true)?;
    moto.set_elasticache_status(EAST, "cache", "available").await?;
    subject.overtaken().apply().await.expect_err("the epoch was overtaken");
    ensure!(moto.calls_of("TestFailover").await?.is_empty(), "a failover was asked for");
    let (moto, clients) = cache(false).await?;
    let reason = impossible(failover(&clients, json!({ "from": "cache-001" })).observe().await)?;
    ensure!(reason.contains("automatic failover of cache is disabled"), "{reason}");
    drop(moto);
    Ok(())
}

#[tokio::test]
async fn a_cache_is_rebooted_and_waited_for() -> Result<()> {
    let moto = Moto::start().await?;
    let params =
        [("CacheClusterId", "lone"), ("Engine", "redis"), ("CacheNodeType", "cache.t3.micro"), ("NumCacheNodes", "1")];
    moto.query("elasticache", EAST, "CreateCacheCluster", &params).await?;
    moto.set_delay("elasticache_reboot", HOLD).await?;
    let clients = aws(moto.port());
    let reboot = |name: &str| Subject::new("elasticache.reboot", json!({ "region": EAST, "cluster": name }), &clients);
    let subject = reboot("lone");
    assert_eq!(subject.observe().await, Observed::Unobservable);
    accepted(subject.apply().await)?;
    going(subject.observe().await)?;
    let reason = refused(subject.apply().await, true)?;
    ensure!(reason.contains("InvalidCacheClusterState"), "{reason}");
    moto.set_delay("elasticache_reboot", Duration::ZERO).await?;
    subject.verify().await?;
    let calls = moto.calls_of("RebootCacheCluster").await?;
    ensure!(calls[0].params.to_string().contains("0001"), "{:?}", calls[0].params);
    let seen = moto.cli(EAST, &["elasticache", "describe-cache-clusters", "--cache-cluster-id", "lone"]).await?;
    assert_eq!(seen["CacheClusters"][0]["CacheClusterStatus"], "available");
    let missing = reboot("none");
    impossible(missing.observe().await)?;
    refused(missing.apply().await, false)?;
    moto.set_elasticache_status(EAST, "lone", "deleting").await?;
    impossible(subject.observe().await)?;
    reboot("lone").overtaken().apply().await.expect_err("the epoch was overtaken");
    Ok(())
}

#[tokio::test]
async fn a_global_datastore_fails_over_once() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_global_datastore("ldgnf-cache", &[(EAST, "cache-east"), (WEST, "cache-west")]).await?;
    moto.set_delay("elasticache_global", HOLD).await?;
    let clients = aws(moto.port());
    let to = |global: &str, group: &str| {
        let params = json!({ "region": WEST, "global_replication_group": global, "replication_group": group });
        Subject::new("elasticache.failover_global", params, &clients)
    };
    let subject = to("ldgnf-cache", "cache-west");
    assert_eq!(before(subject.observe().await)?["primary"], "cache-east in us-east-1");
    moto.fault(Fault::new(Kind::SuccessThen500).action("FailoverGlobalReplicationGroup")).await?;
    unknown(subject.apply().await)?;
    unseen(subject.observe().await)?;
    refused(subject.apply().await, true).expect_err("an answer of 500 is unknown");
    moto.clear_faults().await?;
    refused(subject.apply().await, true)?;
    moto.set_delay("elasticache_global", Duration::ZERO).await?;
    subject.verify().await?;
    done(subject.observe().await)?;
    let carried_out = moto.calls_of("FailoverGlobalReplicationGroup").await?;
    assert_eq!(carried_out.iter().filter(|call| call.carried_out).count(), 1);
    let look = [
        "elasticache",
        "describe-global-replication-groups",
        "--global-replication-group-id",
        "ldgnf-cache",
        "--show-member-info",
    ];
    let seen = moto.cli(WEST, &look).await?;
    let members = seen["GlobalReplicationGroups"][0]["Members"].as_array().cloned().unwrap_or_default();
    let primary: Vec<_> = members.iter().filter(|m| m["Role"] == "PRIMARY").collect();
    assert_eq!(primary.len(), 1);
    assert_eq!(primary[0]["ReplicationGroupId"], "cache-west");
    impossible(to("ldgnf-cache", "other").observe().await)?;
    impossible(to("none", "cache-west").observe().await)?;
    Ok(())
}
