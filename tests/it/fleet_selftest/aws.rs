//! The AWS API as AWS documents it: each rule that plain moto lacks, and each way to break it.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::SOON;
use crate::fleet::aws::{alias, db_arn, record};
use crate::fleet::dns::Dns;
use crate::fleet::eventually;
use crate::fleet::moto::{Fault, HOLD, Kind, Moto};
use crate::fleet::postgres::{PgOptions, Postgres, StandbyOptions};

const EAST: &str = "us-east-1";
const WEST: &str = "us-west-2";

/// The error of a call that must be refused, with the service's code in it.
fn refused<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    format!("{:#}", outcome.expect_err("it was accepted"))
}

async fn rds(moto: &Moto, region: &str, action: &str, id: &str) -> Result<String> {
    let params = [("DBInstanceIdentifier", id)];
    moto.query("rds", region, action, &params).await
}

#[tokio::test]
async fn a_promotion_takes_its_time_and_ends_replication_on_both_sides() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db_with_replica("shop", "shop-replica").await?;
    moto.set_delay("rds_promote", HOLD).await?;
    let replica = moto.db(WEST, "shop-replica").await?;
    assert_eq!(replica.source, Some(db_arn(EAST, "shop")));
    let listed = [db_arn(WEST, "shop-replica")];
    assert_eq!(moto.db(EAST, "shop").await?.replicas, listed);

    rds(&moto, WEST, "PromoteReadReplica", "shop-replica").await?;
    assert_eq!(moto.db(WEST, "shop-replica").await?.status, "modifying");
    for action in ["PromoteReadReplica", "RebootDBInstance", "ModifyDBInstance"] {
        let error = refused(rds(&moto, WEST, action, "shop-replica").await);
        assert!(error.contains("InvalidDBInstanceState"), "{error}");
    }
    moto.set_delay("rds_promote", Duration::ZERO).await?;
    let promoted = moto.wait_db(WEST, "shop-replica", "available").await?;
    assert_eq!(promoted.source, None);
    assert!(moto.db(EAST, "shop").await?.replicas.is_empty());
    let error = refused(rds(&moto, WEST, "PromoteReadReplica", "shop-replica").await);
    assert!(error.contains("InvalidDBInstanceState"), "{error}");
    assert!(error.contains("not a read replica"), "{error}");
    Ok(())
}

#[tokio::test]
async fn rds_refuses_what_the_instance_s_state_forbids() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db_with_replica("shop", "shop-replica").await?;
    let error = refused(rds(&moto, WEST, "PromoteReadReplica", "nobody").await);
    assert!(error.contains("404"), "{error}");
    assert!(error.contains("DBInstanceNotFound"), "{error}");
    moto.set_db_status(WEST, "shop-replica", "backing-up").await?;
    let error = refused(rds(&moto, WEST, "PromoteReadReplica", "shop-replica").await);
    assert!(error.contains("InvalidDBInstanceState"), "{error}");
    // An instance with a read replica cannot be stopped, nor can the replica.
    let error = refused(rds(&moto, EAST, "StopDBInstance", "shop").await);
    assert!(error.contains("read replica"), "{error}");
    moto.create_db(EAST, "alone").await?;
    for (delay, action, meanwhile, afterwards) in [
        ("rds_stop", "StopDBInstance", "stopping", "stopped"),
        ("rds_start", "StartDBInstance", "starting", "available"),
        ("rds_reboot", "RebootDBInstance", "rebooting", "available"),
    ] {
        moto.set_delay(delay, HOLD).await?;
        rds(&moto, EAST, action, "alone").await?;
        assert_eq!(moto.db(EAST, "alone").await?.status, meanwhile);
        moto.set_delay(delay, Duration::ZERO).await?;
        moto.wait_db(EAST, "alone", afterwards).await?;
    }
    Ok(())
}

#[tokio::test]
async fn promoting_the_replica_promotes_the_real_standby_behind_it() -> Result<()> {
    let (moto, primary) = tokio::try_join!(Moto::start(), Postgres::primary(PgOptions::default()))?;
    let standby = primary.standby(StandbyOptions::default()).await?;
    moto.create_db_with_replica("shop", "shop-replica").await?;
    moto.back_with(WEST, "shop-replica", &standby).await?;
    rds(&moto, WEST, "PromoteReadReplica", "shop-replica").await?;
    moto.wait_db(WEST, "shop-replica", "available").await?;
    assert!(!standby.is_in_recovery().await?);
    let hooks = moto.state().await?["hooks"].clone();
    assert_eq!(hooks[0]["output"], "t\n", "{hooks}");
    Ok(())
}

#[tokio::test]
async fn a_promotion_whose_server_fails_ends_in_failed() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db_with_replica("shop", "shop-replica").await?;
    moto.hook("promote", WEST, "shop-replica", &["false"]).await?;
    rds(&moto, WEST, "PromoteReadReplica", "shop-replica").await?;
    let db = moto.wait_db(WEST, "shop-replica", "failed").await?;
    assert!(db.source.is_some());
    Ok(())
}

#[tokio::test]
async fn a_change_batch_happens_whole_or_not_at_all() -> Result<()> {
    let moto = Moto::start().await?;
    let zone = moto.create_zone("shop.example").await?;
    let www = record("www.shop.example", "A", 60, "192.0.2.1");
    let api = record("api.shop.example", "A", 60, "192.0.2.2");
    let wrong = record("api.shop.example", "A", 60, "192.0.2.99");
    let (create, delete) = (
        async |r: &str| moto.change_records(&zone, &[("CREATE", r)]).await,
        async |r: &str| moto.change_records(&zone, &[("DELETE", r)]).await,
    );
    create(&api).await?;
    for (batch, says) in [
        ([("CREATE", &www), ("CREATE", &api)], "already exists"),
        ([("CREATE", &www), ("DELETE", &wrong)], "do not match"),
        ([("DELETE", &api), ("DELETE", &api)], "not found"),
    ] {
        let batch = batch.map(|(action, r)| (action, r.as_str()));
        let error = refused(moto.change_records(&zone, &batch).await);
        assert!(error.contains("InvalidChangeBatch"), "{error}");
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(moto.record(&zone, "www.shop.example", "A").await?, None);
    assert!(moto.record(&zone, "api.shop.example", "A").await?.is_some());
    delete(&api).await?;
    assert_eq!(moto.record(&zone, "api.shop.example", "A").await?, None);

    let foreign = record("www.other.example", "A", 60, "192.0.2.1");
    assert!(refused(create(&foreign).await).contains("not permitted in zone"));
    let apex = record("shop.example", "CNAME", 60, "lb.example");
    assert!(refused(create(&apex).await).contains("conflicts with other records"));
    let nowhere = moto.change_records("Z000", &[("CREATE", &www)]).await;
    assert!(refused(nowhere).contains("NoSuchHostedZone"));
    Ok(())
}

#[tokio::test]
async fn an_alias_has_no_ttl_and_a_change_is_pending_before_it_is_in_sync() -> Result<()> {
    let moto = Moto::start().await?;
    let zone = moto.create_zone("shop.example").await?;
    let plain = alias("api.shop.example", "LB.us-west-2.elb.amazonaws.com", "Z1");
    let with_ttl = plain.replace("<AliasTarget>", "<TTL>60</TTL><AliasTarget>");
    let error = refused(moto.change_records(&zone, &[("UPSERT", &with_ttl)]).await);
    assert!(error.contains("InvalidInput"), "{error}");
    assert!(error.contains("more than one"), "{error}");

    moto.set_delay("route53_insync", HOLD).await?;
    let change = moto.change_records(&zone, &[("UPSERT", &plain)]).await?;
    assert_eq!(moto.change_status(&change).await?, "PENDING");
    moto.set_delay("route53_insync", Duration::ZERO).await?;
    assert_eq!(moto.change_status(&change).await?, "INSYNC");
    // Stored the way that Route 53 stores it, which is not the way it was written.
    let stored = moto.record(&zone, "api.shop.example", "A").await?.unwrap();
    let target = &stored["AliasTarget"]["DNSName"];
    assert_eq!(target, "lb.us-west-2.elb.amazonaws.com.");
    let unknown = refused(moto.change_status("C123").await);
    assert!(unknown.contains("NoSuchChange"), "{unknown}");
    Ok(())
}

#[tokio::test]
async fn a_change_in_sync_is_on_the_real_name_server() -> Result<()> {
    let records = ["api 60 IN A 127.0.0.1"];
    let (moto, dns) = tokio::try_join!(Moto::start(), Dns::start("shop.example", &records))?;
    let zone = moto.create_zone("shop.example").await?;
    let addresses = [("east.elb.test", "127.0.0.1"), ("west.elb.test", "127.0.0.2")];
    moto.publish(&zone, &dns, &addresses).await?;
    moto.upsert_alias(&zone, "api.shop.example", "west.elb.test", "Z1").await?;
    eventually(SOON, "the name server to answer the change", async || {
        let seen = dns.dig("api.shop.example", "A").await?;
        ensure!(seen == ["127.0.0.2"], "it says {seen:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn each_fault_looks_as_it_does_on_a_bad_day() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db_with_replica("shop", "shop-replica").await?;
    let describe = async || rds(&moto, WEST, "DescribeDBInstances", "shop-replica").await;
    for (kind, says) in [
        (Kind::Throttle, "<Code>Throttling</Code>"),
        (Kind::AccessDenied, "<Code>AccessDenied</Code>"),
        (Kind::ExpiredToken, "<Code>ExpiredToken</Code>"),
        (Kind::Error500, "<Code>InternalFailure</Code>"),
        (Kind::Error503, "<Code>ServiceUnavailable</Code>"),
        (Kind::Html502, "<h1>502 Bad Gateway</h1>"),
        (Kind::Reset, "error sending request"),
    ] {
        let fault = Fault::new(kind).service("rds").region(WEST).times(1);
        let rule = moto.fault(fault).await?;
        let error = refused(describe().await);
        assert!(error.contains(says), "{kind:?}: {error}");
        assert_eq!(moto.fault_hits(rule).await?, 1);
        describe().await?;
    }
    moto.fault(Fault::new(Kind::Hang).region(WEST)).await?;
    let hung = tokio::time::timeout(Duration::from_millis(200), describe()).await;
    assert!(hung.is_err(), "it answered");
    moto.db(EAST, "shop").await?;
    moto.clear_faults().await?;
    describe().await?;
    Ok(())
}

#[tokio::test]
async fn an_unknown_outcome_was_carried_out_and_the_log_knows_it() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db_with_replica("shop", "shop-replica").await?;
    let fault = Fault::new(Kind::SuccessThenReset).action("PromoteReadReplica").contains("shop-replica").times(1);
    moto.fault(fault).await?;
    let promote = ["rds", "promote-read-replica", "--db-instance-identifier", "shop-replica"];
    let error = refused(moto.cli(WEST, &promote).await);
    assert!(error.contains("Connection"), "{error}");
    moto.wait_db(WEST, "shop-replica", "available").await?;

    let calls = moto.calls().await?;
    assert_eq!(calls.len(), 1, "the fleet's own calls are left out");
    let call = &calls[0];
    assert_eq!(call.service.as_deref(), Some("rds"));
    assert_eq!(call.region.as_deref(), Some(WEST));
    assert_eq!(call.action.as_deref(), Some("PromoteReadReplica"));
    assert_eq!(call.params["DBInstanceIdentifier"], "shop-replica");
    assert!(call.carried_out && call.fault.as_deref() == Some("success_then_reset"));

    let fault = Fault::new(Kind::SuccessThen500).service("route53");
    moto.fault(fault).await?;
    assert!(refused(moto.create_zone("shop.example").await).contains("500"));
    let zones = moto.state().await?["route53"].clone();
    assert_eq!(zones.as_object().map(|z| z.len()), Some(1));
    Ok(())
}

#[tokio::test]
async fn the_aws_cli_agrees_from_outside() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db_with_replica("shop", "shop-replica").await?;
    let zone = moto.create_zone("shop.example").await?;
    let described = moto.cli(WEST, &["rds", "describe-db-instances"]).await?;
    let db = &described["DBInstances"][0];
    assert_eq!(db["DBInstanceStatus"], "available");
    let source = &db["ReadReplicaSourceDBInstanceIdentifier"];
    assert_eq!(*source, db_arn(EAST, "shop"));
    let batch = r#"{"Changes":[{"Action":"CREATE","ResourceRecordSet":{"Name":"api.shop.example",
        "Type":"A","TTL":60,"ResourceRecords":[{"Value":"192.0.2.1"}]}}]}"#;
    let change = ["route53", "change-resource-record-sets", "--hosted-zone-id", &zone, "--change-batch", batch];
    let changed = moto.cli(EAST, &change).await?;
    assert_eq!(changed["ChangeInfo"]["Status"], "PENDING");
    assert!(refused(moto.cli(EAST, &change).await).contains("InvalidChangeBatch"));
    let actions: Vec<_> = moto.calls().await?.into_iter().map(|c| c.action).collect();
    let change = Some("ChangeResourceRecordSets".to_owned());
    let described = Some("DescribeDBInstances".to_owned());
    assert_eq!(actions, [described, change.clone(), change]);
    Ok(())
}

#[tokio::test]
async fn what_is_published_to_the_topic_is_in_the_inbox() -> Result<()> {
    let moto = Moto::start().await?;
    let inbox = moto.create_inbox(WEST, "critical").await?;
    let params = [("TopicArn", inbox.topic_arn.as_str()), ("Subject", "P0"), ("Message", "the region is down")];
    moto.query("sns", WEST, "Publish", &params).await?;
    let message = inbox.wait_for(SOON, "region is down").await?;
    assert_eq!(message["Subject"], "P0");
    assert!(inbox.take().await?.is_empty());
    Ok(())
}
