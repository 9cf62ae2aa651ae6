//! `rds.failover`, `rds.stop` and `rds.create_read_replica`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::clients::Clients;
use serde_json::json;

use super::{Subject, accepted, aws, before, done, going, impossible, refused, unknown, unseen};
use crate::fleet::aws::db_arn;
use crate::fleet::moto::{Fault, HOLD, Kind, Moto};

const EAST: &str = "us-east-1";
const WEST: &str = "us-west-2";

fn failover(clients: &Arc<Clients>) -> Subject {
    Subject::new("rds.failover", json!({ "region": EAST, "instance": "shop" }), clients)
}

fn stop(clients: &Arc<Clients>, instance: &str) -> Subject {
    Subject::new("rds.stop", json!({ "region": EAST, "instance": instance }), clients)
}

async fn multi_az() -> Result<(Moto, Subject)> {
    let moto = Moto::start().await?;
    moto.create_db(EAST, "shop").await?;
    let change = [("DBInstanceIdentifier", "shop"), ("MultiAZ", "true"), ("ApplyImmediately", "true")];
    moto.query("rds", EAST, "ModifyDBInstance", &change).await?;
    moto.set_delay("rds_reboot", Duration::ZERO).await?;
    let subject = failover(&aws(moto.port()));
    Ok((moto, subject))
}

async fn zone(moto: &Moto) -> Result<String> {
    let seen = moto.cli(EAST, &["rds", "describe-db-instances", "--db-instance-identifier", "shop"]).await?;
    Ok(seen["DBInstances"][0]["AvailabilityZone"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_multi_az_instance_goes_over_to_its_standby_once() -> Result<()> {
    let (moto, subject) = multi_az().await?;
    moto.set_delay("rds_reboot", HOLD).await?;
    let stood = before(subject.observe().await)?;
    assert_eq!(stood["zone"], "us-east-1a");
    accepted(subject.apply().await)?;
    // The mark and the reboot, each with a permit of its own.
    assert_eq!(subject.permits.asked(), 2);
    going(subject.observe().await)?;
    moto.set_delay("rds_reboot", Duration::ZERO).await?;
    let (_, outputs) = subject.yields().await?;
    ensure!(outputs["endpoint"].starts_with("shop."), "{outputs:?}");
    assert_eq!((outputs["port"].as_str(), outputs["instance"].as_str()), ("5432", "shop"));
    done(subject.observe().await)?;
    assert_eq!(moto.calls_of("RebootDBInstance").await?.len(), 1);
    assert_eq!(zone(&moto).await?, "us-east-1b");
    // Another run has its own failover to do.
    let mut other = failover(&aws(moto.port()));
    other.context.run = Some("RUN-20261101-002".into());
    before(other.observe().await)?;
    Ok(())
}

/// The zone may change long after the failover: the events tell of it, and nobody fails back.
#[tokio::test]
async fn a_zone_that_is_told_late_leads_to_no_second_failover() -> Result<()> {
    let (moto, subject) = multi_az().await?;
    moto.set_delay("rds_zone", HOLD).await?;
    moto.fault(Fault::new(Kind::SuccessThenReset).action("RebootDBInstance")).await?;
    unknown(subject.apply().await)?;
    let evidence = subject.verify().await?;
    ensure!(evidence.contains("tells of a failover"), "{evidence}");
    done(subject.observe().await)?;
    assert_eq!(zone(&moto).await?, "us-east-1a");
    assert_eq!(moto.calls_of("RebootDBInstance").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_crash_between_the_mark_and_the_reboot_is_not_a_failover() -> Result<()> {
    let (moto, subject) = multi_az().await?;
    moto.fault(Fault::new(Kind::Error500).action("RebootDBInstance").times(1)).await?;
    unknown(subject.apply().await)?;
    before(subject.observe().await)?;
    moto.fault(Fault::new(Kind::Throttle).action("AddTagsToResource").times(1)).await?;
    refused(subject.apply().await, true)?;
    subject.run().await?;
    let carried_out = moto.calls_of("RebootDBInstance").await?.iter().filter(|call| call.carried_out).count();
    assert_eq!(carried_out, 1);
    Ok(())
}

#[tokio::test]
async fn what_has_no_standby_is_not_rebooted() -> Result<()> {
    let (moto, subject) = multi_az().await?;
    moto.set_db_status(EAST, "shop", "backing-up").await?;
    unseen(subject.observe().await)?;
    refused(subject.apply().await, true)?;
    moto.set_db_status(EAST, "shop", "available").await?;
    let denied = failover(&aws(moto.port())).overtaken();
    denied.apply().await.expect_err("the epoch was overtaken");
    moto.create_db(EAST, "lone").await?;
    let clients = aws(moto.port());
    for (name, why) in [("lone", "not Multi-AZ"), ("nobody", "DBInstanceNotFound")] {
        let subject = Subject::new("rds.failover", json!({ "region": EAST, "instance": name }), &clients);
        let reason = impossible(subject.observe().await)?;
        ensure!(reason.contains(why), "{reason}");
        refused(subject.apply().await, false)?;
    }
    ensure!(moto.calls_of("RebootDBInstance").await?.is_empty(), "a reboot was asked for");
    ensure!(moto.calls_of("AddTagsToResource").await?.is_empty(), "something was marked");
    Ok(())
}

#[tokio::test]
async fn a_stopped_primary_is_a_fence_and_starts_again() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db(EAST, "shop").await?;
    moto.set_delay("rds_stop", HOLD).await?;
    let subject = stop(&aws(moto.port()), "shop");
    let stood = before(subject.observe().await)?;
    moto.fault(Fault::new(Kind::SuccessThen500).action("StopDBInstance")).await?;
    unknown(subject.apply().await)?;
    going(subject.observe().await)?;
    refused(subject.compensate(&stood).await, true)?;
    moto.set_delay("rds_stop", Duration::ZERO).await?;
    assert_eq!(subject.verify().await?, "shop is stopped");
    done(subject.observe().await)?;
    let seen = moto.cli(EAST, &["rds", "describe-db-instances", "--db-instance-identifier", "shop"]).await?;
    assert_eq!(seen["DBInstances"][0]["DBInstanceStatus"], "stopped");
    refused(subject.compensate(&json!(null)).await, false)?;
    accepted(subject.compensate(&stood).await)?;
    moto.wait_db(EAST, "shop", "available").await?;
    assert_eq!(moto.calls_of("StopDBInstance").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_aws_does_not_stop_is_said_with_a_way_out() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db_with_replica("shop", "shop-replica").await?;
    moto.create_replica(EAST, "shop-near", EAST, "shop").await?;
    let clients = aws(moto.port());
    for (name, why) in
        [("shop", "promote the replica first"), ("shop-near", "is a read replica of shop"), ("none", "NotFound")]
    {
        let subject = stop(&clients, name);
        let reason = impossible(subject.observe().await)?;
        ensure!(reason.contains(why), "{reason}");
        refused(subject.apply().await, false)?;
    }
    moto.create_db(EAST, "other").await?;
    let subject = stop(&clients, "other");
    moto.set_db_status(EAST, "other", "modifying").await?;
    unseen(subject.observe().await)?;
    moto.set_db_status(EAST, "other", "failed").await?;
    impossible(subject.observe().await)?;
    ensure!(moto.calls_of("StopDBInstance").await?.is_empty(), "a stop was asked for");
    Ok(())
}

fn replica(clients: &Arc<Clients>, instance: &str) -> Subject {
    let params = json!({
        "region": WEST, "instance": instance, "source": db_arn(EAST, "shop"), "class": "db.t3.large",
        "security_groups": ["sg-1"], "tags": { "team": "shop" },
    });
    Subject::new("rds.create_read_replica", params, clients)
}

#[tokio::test]
async fn a_new_replica_follows_the_source() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db(EAST, "shop").await?;
    moto.set_delay("rds_replica", HOLD).await?;
    let subject = replica(&aws(moto.port()), "shop-again");
    before(subject.observe().await)?;
    moto.fault(Fault::new(Kind::SuccessThenReset).action("CreateDBInstanceReadReplica")).await?;
    unknown(subject.apply().await)?;
    going(subject.observe().await)?;
    moto.set_delay("rds_replica", Duration::ZERO).await?;
    let (_, outputs) = subject.yields().await?;
    assert_eq!(outputs["instance"], "shop-again");
    done(subject.observe().await)?;
    assert_eq!(moto.calls_of("CreateDBInstanceReadReplica").await?.len(), 1);
    let seen = moto.cli(WEST, &["rds", "describe-db-instances", "--db-instance-identifier", "shop-again"]).await?;
    let seen = &seen["DBInstances"][0];
    assert_eq!(seen["ReadReplicaSourceDBInstanceIdentifier"], db_arn(EAST, "shop"));
    assert_eq!(seen["DBInstanceClass"], "db.t3.large");
    ensure!(seen["TagList"].to_string().contains("failoverd:run"), "{seen}");
    ensure!(seen["TagList"].to_string().contains("\"team\""), "{seen}");
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_taken_is_not_a_replica() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db(EAST, "shop").await?;
    moto.create_db(WEST, "billing").await?;
    let clients = aws(moto.port());
    let reason = impossible(replica(&clients, "billing").observe().await)?;
    ensure!(reason.contains("follows nobody"), "{reason}");
    let params = json!({ "region": WEST, "instance": "r", "source": db_arn(EAST, "missing") });
    let missing = Subject::new("rds.create_read_replica", params, &clients);
    let reason = refused(missing.apply().await, false)?;
    ensure!(reason.contains("NotFound"), "{reason}");
    replica(&clients, "r").overtaken().apply().await.expect_err("the epoch was overtaken");
    Ok(())
}
