//! `rds.failover_cluster`, `rds.failover_global_cluster` and `rds.switchover_global_cluster`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::clients::Clients;
use serde_json::{Value, json};

use super::{Subject, accepted, aws, before, done, going, impossible, refused, unknown, unseen};
use crate::fleet::moto::{Fault, HOLD, Kind, Moto};

const EAST: &str = "us-east-1";
const WEST: &str = "us-west-2";

fn arn(region: &str, name: &str) -> String {
    format!("arn:aws:rds:{region}:123456789012:cluster:{name}")
}

async fn cluster(moto: &Moto, region: &str, name: &str, more: &[(&str, &str)]) -> Result<()> {
    let mut params = vec![("DBClusterIdentifier", name), ("Engine", "aurora-postgresql")];
    params.extend_from_slice(more);
    moto.query("rds", region, "CreateDBCluster", &params).await?;
    moto.query("rds", region, "DescribeDBClusters", &[("DBClusterIdentifier", name)]).await.map(drop)
}

async fn member(moto: &Moto, cluster: &str, name: &str) -> Result<()> {
    let params = [
        ("DBInstanceIdentifier", name),
        ("DBClusterIdentifier", cluster),
        ("DBInstanceClass", "db.r6g.large"),
        ("Engine", "aurora-postgresql"),
    ];
    moto.query("rds", EAST, "CreateDBInstance", &params).await.map(drop)
}

const OWNER: [(&str, &str); 2] = [("MasterUsername", "postgres"), ("MasterUserPassword", "rds-s3cret-password")];

async fn aurora() -> Result<(Moto, Subject)> {
    let moto = Moto::start().await?;
    cluster(&moto, EAST, "shop", &OWNER).await?;
    for name in ["shop-1", "shop-2"] {
        member(&moto, "shop", name).await?;
    }
    moto.query("rds", EAST, "DescribeDBClusters", &[("DBClusterIdentifier", "shop")]).await?;
    moto.set_delay("rds_cluster_failover", Duration::ZERO).await?;
    let params = json!({ "region": EAST, "cluster": "shop", "instance": "shop-2" });
    let subject = Subject::new("rds.failover_cluster", params, &aws(moto.port()));
    Ok((moto, subject))
}

#[tokio::test]
async fn a_cluster_goes_over_to_the_chosen_instance_once() -> Result<()> {
    let (moto, subject) = aurora().await?;
    moto.set_delay("rds_cluster_failover", HOLD).await?;
    assert_eq!(before(subject.observe().await)?["writer"], "shop-1");
    moto.fault(Fault::new(Kind::SuccessThenReset).action("FailoverDBCluster")).await?;
    unknown(subject.apply().await)?;
    let reason = unseen(subject.observe().await)?;
    ensure!(reason.contains("failing-over"), "{reason}");
    moto.set_delay("rds_cluster_failover", Duration::ZERO).await?;
    let (_, outputs) = subject.yields().await?;
    ensure!(outputs["endpoint"].starts_with("shop.cluster-") && outputs["port"] == "5432", "{outputs:?}");
    done(subject.observe().await)?;
    refused(subject.apply().await, true)?;
    assert_eq!(moto.calls_of("FailoverDBCluster").await?.len(), 1);
    let seen = moto.cli(EAST, &["rds", "describe-db-clusters", "--db-cluster-identifier", "shop"]).await?;
    let members = seen["DBClusters"][0]["DBClusterMembers"].as_array().cloned().unwrap_or_default();
    let writers: Vec<_> = members.iter().filter(|m| m["IsClusterWriter"] == true).collect();
    assert_eq!(writers.len(), 1);
    assert_eq!(writers[0]["DBInstanceIdentifier"], "shop-2");
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_cannot_go_there_is_left_alone() -> Result<()> {
    let (moto, subject) = aurora().await?;
    let clients = aws(moto.port());
    for (cluster, instance, why) in [("shop", "other", "not a member"), ("none", "shop-2", "NotFound")] {
        let params = json!({ "region": EAST, "cluster": cluster, "instance": instance });
        let subject = Subject::new("rds.failover_cluster", params, &clients);
        let reason = impossible(subject.observe().await)?;
        ensure!(reason.contains(why), "{reason}");
        refused(subject.apply().await, false)?;
    }
    ensure!(moto.calls_of("FailoverDBCluster").await?.is_empty(), "a failover was asked for");
    moto.set_cluster_status(EAST, "shop", "backtracking").await?;
    unseen(subject.observe().await)?;
    let reason = refused(subject.apply().await, true)?;
    ensure!(reason.contains("InvalidDBClusterState"), "{reason}");
    moto.set_cluster_status(EAST, "shop", "available").await?;
    subject.overtaken().apply().await.expect_err("the epoch was overtaken");
    Ok(())
}

async fn global() -> Result<(Moto, Arc<Clients>)> {
    let moto = Moto::start().await?;
    let params = [("GlobalClusterIdentifier", "world"), ("Engine", "aurora-postgresql")];
    moto.query("rds", EAST, "CreateGlobalCluster", &params).await?;
    let of = ("GlobalClusterIdentifier", "world");
    cluster(&moto, EAST, "shop-east", &[OWNER[0], OWNER[1], of]).await?;
    cluster(&moto, WEST, "shop-west", &[of]).await?;
    moto.set_delay("rds_global", Duration::ZERO).await?;
    let clients = aws(moto.port());
    Ok((moto, clients))
}

fn move_to(clients: &Arc<Clients>, kind: &str, more: Value) -> Subject {
    let mut params = json!({ "region": WEST, "global_cluster": "world", "cluster": arn(WEST, "shop-west") });
    params.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
    Subject::new(kind, params, clients)
}

async fn writer(moto: &Moto) -> Result<Value> {
    let seen = moto.cli(WEST, &["rds", "describe-global-clusters", "--global-cluster-identifier", "world"]).await?;
    let members = seen["GlobalClusters"][0]["GlobalClusterMembers"].as_array().cloned().unwrap_or_default();
    Ok(members.into_iter().find(|m| m["IsWriter"] == true).map(|m| m["DBClusterArn"].clone()).unwrap_or_default())
}

#[tokio::test]
async fn a_global_database_fails_over_while_its_primary_is_gone() -> Result<()> {
    let (moto, clients) = global().await?;
    moto.set_cluster_status(EAST, "shop-east", "inaccessible-encryption-credentials").await?;
    moto.set_delay("rds_global", HOLD).await?;
    let subject = move_to(&clients, "rds.failover_global_cluster", json!({ "allow_data_loss": true }));
    assert_eq!(before(subject.observe().await)?["writer"], arn(EAST, "shop-east"));
    moto.fault(Fault::new(Kind::SuccessThen500).action("FailoverGlobalCluster")).await?;
    unknown(subject.apply().await)?;
    going(subject.observe().await)?;
    moto.set_delay("rds_global", Duration::ZERO).await?;
    let (_, outputs) = subject.yields().await?;
    ensure!(outputs["endpoint"].starts_with("shop-west.cluster-"), "{outputs:?}");
    done(subject.observe().await)?;
    let calls = moto.calls_of("FailoverGlobalCluster").await?;
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].params["AllowDataLoss"], "true");
    assert_eq!(calls[0].region.as_deref(), Some(WEST), "the lost region is not asked");
    assert_eq!(writer(&moto).await?, arn(WEST, "shop-west").as_str());
    Ok(())
}

#[tokio::test]
async fn a_global_database_switches_over_while_all_is_well() -> Result<()> {
    let (moto, clients) = global().await?;
    let subject = move_to(&clients, "rds.switchover_global_cluster", json!({}));
    moto.set_cluster_status(EAST, "shop-east", "backing-up").await?;
    let reason = refused(subject.apply().await, true)?;
    ensure!(reason.contains("InvalidDBClusterState"), "{reason}");
    moto.set_cluster_status(EAST, "shop-east", "available").await?;
    subject.run().await?;
    done(subject.observe().await)?;
    assert_eq!(writer(&moto).await?, arn(WEST, "shop-west").as_str());
    // Its own cluster must take writes too, before traffic follows.
    moto.set_cluster_status(WEST, "shop-west", "maintenance").await?;
    let seen = format!("{:?}", subject.verify_once().await);
    ensure!(seen.contains("NotYet") && seen.contains("maintenance"), "{seen}");
    Ok(())
}

#[tokio::test]
async fn a_global_database_that_cannot_go_there_is_left_alone() -> Result<()> {
    let (moto, clients) = global().await?;
    let lossy = |more: Value| move_to(&clients, "rds.failover_global_cluster", more);
    let cases = [
        (json!({ "allow_data_loss": true, "cluster": arn(WEST, "other") }), "not a member"),
        (json!({ "allow_data_loss": true, "global_cluster": "nowhere" }), "NotFound"),
    ];
    for (more, why) in cases {
        let subject = lossy(more);
        let reason = impossible(subject.observe().await)?;
        ensure!(reason.contains(why), "{reason}");
        refused(subject.apply().await, false)?;
    }
    lossy(json!({ "allow_data_loss": true })).overtaken().apply().await.expect_err("the epoch was overtaken");
    ensure!(moto.calls_of("FailoverGlobalCluster").await?.is_empty(), "a failover was asked for");
    // Somebody else's move: it is waited for.
    moto.set_delay("rds_global", HOLD).await?;
    let east = json!({ "allow_data_loss": true, "cluster": arn(EAST, "shop-east"), "region": EAST });
    accepted(lossy(json!({ "allow_data_loss": true })).apply().await)?;
    done(lossy(east).observe().await)?;
    refused(lossy(json!({ "allow_data_loss": true })).apply().await, true)?;
    Ok(())
}
