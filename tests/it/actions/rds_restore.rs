//! `rds.restore_snapshot` and `rds.restore_point_in_time`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::clients::Clients;
use serde_json::{Value, json};

use super::{Subject, accepted, aws, before, done, going, impossible, refused, unknown, unseen};
use crate::fleet::moto::{Fault, HOLD, Kind, Moto};

const EAST: &str = "us-east-1";
const SNAPSHOT: &str = "RestoreDBInstanceFromDBSnapshot";
const POINT: &str = "RestoreDBInstanceToPointInTime";

fn newest(clients: &Arc<Clients>, more: Value) -> Subject {
    let mut params = json!({
        "region": EAST, "instance": "shop-restored", "snapshot": "newest", "source": "shop",
        "settings": { "class": "db.t3.large", "security_groups": ["sg-1"], "multi_az": true, "tags": { "team": "shop" } },
    });
    params.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
    Subject::new("rds.restore_snapshot", params, clients)
}

fn point(clients: &Arc<Clients>, time: &str) -> Subject {
    let params = json!({ "region": EAST, "instance": "shop-pitr", "source": "shop", "restore_time": time });
    Subject::new("rds.restore_point_in_time", params, clients)
}

async fn snapshot(moto: &Moto, name: &str, age: Duration) -> Result<()> {
    let params = [("DBInstanceIdentifier", "shop"), ("DBSnapshotIdentifier", name)];
    moto.query("rds", EAST, "CreateDBSnapshot", &params).await?;
    moto.age_snapshot(EAST, name, age).await
}

/// An instance with a snapshot of today and one of yesterday, and no automated one.
async fn backups() -> Result<(Moto, Arc<Clients>)> {
    let moto = Moto::start().await?;
    moto.create_db(EAST, "shop").await?;
    let seen = moto.cli(EAST, &["rds", "describe-db-snapshots", "--snapshot-type", "automated"]).await?;
    for found in seen["DBSnapshots"].as_array().into_iter().flatten() {
        let name = found["DBSnapshotIdentifier"].as_str().unwrap_or_default();
        moto.query("rds", EAST, "DeleteDBSnapshot", &[("DBSnapshotIdentifier", name)]).await?;
    }
    snapshot(&moto, "today", Duration::from_secs(3600)).await?;
    snapshot(&moto, "yesterday", Duration::from_secs(90_000)).await?;
    moto.set_delay("rds_restore", Duration::ZERO).await?;
    moto.forget_calls().await?;
    let clients = aws(moto.port());
    Ok((moto, clients))
}

#[tokio::test]
async fn the_newest_snapshot_is_restored_as_it_was_asked_for() -> Result<()> {
    let (moto, clients) = backups().await?;
    moto.set_delay("rds_restore", HOLD).await?;
    let subject = newest(&clients, json!({ "max_age": "2h" }));
    before(subject.observe().await)?;
    accepted(subject.apply().await)?;
    going(subject.observe().await)?;
    moto.set_delay("rds_restore", Duration::ZERO).await?;
    let (_, outputs) = subject.yields().await?;
    assert_eq!(outputs["snapshot"], "today");
    assert_eq!(outputs["instance"], "shop-restored");
    assert_eq!(outputs["port"], "5432");
    done(subject.observe().await)?;
    let look = ["rds", "describe-db-instances", "--db-instance-identifier", "shop-restored"];
    let seen = &moto.cli(EAST, &look).await?["DBInstances"][0];
    assert_eq!(seen["Endpoint"]["Address"], outputs["endpoint"].as_str());
    assert_eq!(seen["DBInstanceClass"], "db.t3.large");
    assert_eq!(seen["MultiAZ"], true);
    assert_eq!(seen["VpcSecurityGroups"][0]["VpcSecurityGroupId"], "sg-1");
    for tag in ["RUN-20261101-001", "\"step\"", "\"5\"", "\"today\"", "\"team\""] {
        ensure!(seen["TagList"].to_string().contains(tag), "{tag}: {}", seen["TagList"]);
    }
    assert_eq!(moto.calls_of(SNAPSHOT).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_unknown_restore_is_found_again_by_its_tags() -> Result<()> {
    for kind in [Kind::SuccessThenTimeout, Kind::SuccessThenReset, Kind::SuccessThen500] {
        let (moto, clients) = backups().await?;
        moto.fault(Fault::new(kind).action(SNAPSHOT)).await?;
        let subject = newest(&clients, json!({})).within(Duration::from_secs(3));
        unknown(subject.apply().await)?;
        subject.verify().await?;
        done(subject.observe().await)?;
        // A second run, or another step, finds a stranger in its place.
        let mut other = newest(&clients, json!({}));
        other.context.run = Some("RUN-20261101-002".into());
        let reason = impossible(other.observe().await)?;
        ensure!(reason.contains("made by RUN-20261101-001"), "{reason}");
        let mut other = newest(&clients, json!({}));
        other.context.step = "another".into();
        impossible(other.observe().await)?;
        other.verify().await.expect_err("it is not ours");
        assert_eq!(moto.calls_of(SNAPSHOT).await?.len(), 1);
    }
    Ok(())
}

#[tokio::test]
async fn an_instance_that_is_not_ours_is_left_alone() -> Result<()> {
    let (moto, clients) = backups().await?;
    moto.create_db(EAST, "shop-restored").await?;
    let subject = newest(&clients, json!({}));
    let reason = impossible(subject.observe().await)?;
    ensure!(reason.contains("not made by failoverd") && reason.contains("another identifier"), "{reason}");
    let reason = refused(subject.apply().await, false)?;
    ensure!(reason.contains("AlreadyExists"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn without_a_usable_snapshot_nothing_is_restored() -> Result<()> {
    let (moto, clients) = backups().await?;
    let cases = [
        (json!({ "source": "billing" }), "no snapshot of billing"),
        (json!({ "max_age": "30m" }), "may be 30m at most"),
        (json!({ "snapshot": "missing", "source": null }), "NotFound"),
    ];
    for (more, why) in cases {
        let subject = newest(&clients, more);
        let reason = impossible(subject.observe().await)?;
        ensure!(reason.contains(why), "{reason}");
        refused(subject.apply().await, false)?;
    }
    // The newer one is not usable yet: the older one is the newest.
    moto.set_snapshot_status(EAST, "today", "creating").await?;
    let named = newest(&clients, json!({ "snapshot": "today", "source": null }));
    unseen(named.observe().await)?;
    refused(named.apply().await, true)?;
    moto.set_snapshot_status(EAST, "today", "failed").await?;
    impossible(named.observe().await)?;
    newest(&clients, json!({})).overtaken().apply().await.expect_err("the epoch was overtaken");
    ensure!(moto.calls_of(SNAPSHOT).await?.is_empty(), "a restore was asked for");
    let subject = newest(&clients, json!({}));
    subject.run().await?;
    assert_eq!(subject.yields().await?.1["snapshot"], "yesterday");
    Ok(())
}

#[tokio::test]
async fn a_named_snapshot_is_restored() -> Result<()> {
    let (_moto, clients) = backups().await?;
    let subject = newest(&clients, json!({ "snapshot": "yesterday", "source": null }));
    subject.run().await?;
    assert_eq!(subject.yields().await?.1["snapshot"], "yesterday");
    Ok(())
}

#[tokio::test]
async fn a_point_in_time_is_restored_once() -> Result<()> {
    let (moto, clients) = backups().await?;
    let subject = point(&clients, "latest");
    before(subject.observe().await)?;
    moto.fault(Fault::new(Kind::SuccessThenReset).action(POINT)).await?;
    unknown(subject.apply().await)?;
    let (_, outputs) = subject.yields().await?;
    ensure!(outputs["restored_to"].ends_with('Z') && outputs["instance"] == "shop-pitr", "{outputs:?}");
    done(subject.observe().await)?;
    let calls = moto.calls_of(POINT).await?;
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].params["UseLatestRestorableTime"], "true");
    let look = ["rds", "describe-db-instances", "--db-instance-identifier", "shop-pitr"];
    let seen = &moto.cli(EAST, &look).await?["DBInstances"][0];
    ensure!(seen["TagList"].to_string().contains("RUN-20261101-001"), "{seen}");
    Ok(())
}

#[tokio::test]
async fn a_named_time_is_what_rds_is_asked_for() -> Result<()> {
    let (moto, clients) = backups().await?;
    let time =
        (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(5)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let subject = point(&clients, &time);
    subject.run().await?;
    let calls = moto.calls_of(POINT).await?;
    assert_eq!(calls[0].params["RestoreTime"], time.as_str());
    assert_eq!(subject.yields().await?.1["restored_to"], time);
    Ok(())
}

#[tokio::test]
async fn a_time_that_no_backup_has_is_refused_before_the_call() -> Result<()> {
    let (moto, clients) = backups().await?;
    let reason = impossible(point(&clients, "2999-01-01T00:00:00Z").observe().await)?;
    ensure!(reason.contains("at the latest"), "{reason}");
    let none = [("DBInstanceIdentifier", "shop"), ("BackupRetentionPeriod", "0")];
    moto.query("rds", EAST, "ModifyDBInstance", &none).await?;
    let subject = point(&clients, "latest");
    let reason = impossible(subject.observe().await)?;
    ensure!(reason.contains("automated backups are off"), "{reason}");
    refused(subject.apply().await, false)?;
    let params = json!({ "region": EAST, "instance": "x", "source": "missing", "restore_time": "latest" });
    let missing = Subject::new("rds.restore_point_in_time", params, &clients);
    let reason = impossible(missing.observe().await)?;
    ensure!(reason.contains("DBInstanceNotFound"), "{reason}");
    ensure!(moto.calls_of(POINT).await?.is_empty(), "a restore was asked for");
    Ok(())
}
