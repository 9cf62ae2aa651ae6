//! `rds.promote_read_replica`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::clients::Clients;
use serde_json::json;

use super::{Subject, accepted, aws, before, done, impossible, refused, unknown, unseen};
use crate::fleet::aws::db_arn;
use crate::fleet::moto::{Fault, HOLD, Kind, Moto};
use crate::fleet::proxy::{Mode, Proxy};

const KIND: &str = "rds.promote_read_replica";
const WEST: &str = "us-west-2";
const PROMOTE: &str = "PromoteReadReplica";

fn promote(clients: &Arc<Clients>) -> Subject {
    Subject::new(KIND, json!({ "region": WEST, "instance": "shop-replica", "replica_of": "shop" }), clients)
}

async fn replica() -> Result<(Moto, Subject)> {
    let moto = Moto::start().await?;
    moto.create_db_with_replica("shop", "shop-replica").await?;
    moto.set_delay("rds_promote", Duration::ZERO).await?;
    let subject = promote(&aws(moto.port()));
    Ok((moto, subject))
}

#[tokio::test]
async fn a_replica_is_promoted_once() -> Result<()> {
    let (moto, subject) = replica().await?;
    moto.set_delay("rds_promote", HOLD).await?;
    let stood = before(subject.observe().await)?;
    assert_eq!(stood["source"], db_arn("us-east-1", "shop"));
    accepted(subject.apply().await)?;
    unseen(subject.observe().await)?;
    moto.set_delay("rds_promote", Duration::ZERO).await?;
    subject.verify().await?;
    done(subject.observe().await)?;
    // A second apply asks RDS for nothing: the replica follows nobody any more.
    refused(subject.apply().await, true)?;
    assert_eq!(moto.calls_of(PROMOTE).await?.len(), 1);
    assert_eq!(subject.permits.asked(), 2, "the epoch's tag, and the promotion");
    assert_eq!(moto.db(WEST, "shop-replica").await?.source, None);
    Ok(())
}

#[tokio::test]
async fn a_wrong_or_missing_replica_is_not_touched() -> Result<()> {
    let (moto, _) = replica().await?;
    let clients = aws(moto.port());
    let of = |instance: &str, source: &str| {
        Subject::new(KIND, json!({ "region": WEST, "instance": instance, "replica_of": source }), &clients)
    };
    let other = of("shop-replica", "billing");
    let reason = impossible(other.observe().await)?;
    ensure!(reason.contains("not of billing"), "{reason}");
    refused(other.apply().await, false)?;
    let missing = of("shop-replica-2", "shop");
    let reason = impossible(missing.observe().await)?;
    ensure!(reason.contains("DBInstanceNotFound"), "{reason}");
    refused(missing.apply().await, false)?;
    done(of("shop-replica", &db_arn("us-east-1", "shop")).observe().await).expect_err("it is a replica still");
    ensure!(moto.calls_of(PROMOTE).await?.is_empty(), "a promotion was asked for");
    Ok(())
}

#[tokio::test]
async fn without_a_permit_nothing_is_called() -> Result<()> {
    let (moto, subject) = replica().await?;
    let subject = subject.overtaken();
    subject.apply().await.expect_err("the epoch was overtaken");
    assert_eq!(subject.permits.asked(), 1);
    ensure!(moto.calls_of(PROMOTE).await?.is_empty(), "a promotion was asked for");
    Ok(())
}

#[tokio::test]
async fn what_rds_refuses_is_known_not_to_be_done() -> Result<()> {
    let (moto, subject) = replica().await?;
    for (fault, again) in [
        (Fault::new(Kind::Throttle), true),
        (Fault::error(400, "InvalidDBInstanceState"), true),
        (Fault::error(400, "ValidationError"), false),
        (Fault::new(Kind::AccessDenied), false),
        (Fault::new(Kind::ExpiredToken), false),
    ] {
        moto.fault(fault.action(PROMOTE).times(1)).await?;
        refused(subject.apply().await, again)?;
    }
    // Refused by AWS itself, in a state that passes.
    moto.set_db_status(WEST, "shop-replica", "backing-up").await?;
    let reason = unseen(subject.observe().await)?;
    ensure!(reason.contains("backing-up"), "{reason}");
    let reason = refused(subject.apply().await, true)?;
    ensure!(reason.contains("InvalidDBInstanceState"), "{reason}");
    ensure!(moto.calls_of(PROMOTE).await?.iter().all(|call| !call.carried_out), "a refused call was carried out");
    Ok(())
}

#[tokio::test]
async fn an_unknown_outcome_is_resolved_by_observing() -> Result<()> {
    for kind in [Kind::SuccessThenTimeout, Kind::SuccessThenReset, Kind::SuccessThen500] {
        let (moto, subject) = replica().await?;
        moto.fault(Fault::new(kind).action(PROMOTE)).await?;
        let subject = subject.within(Duration::from_secs(3));
        unknown(subject.apply().await)?;
        moto.wait_db(WEST, "shop-replica", "available").await?;
        done(subject.observe().await)?;
        let calls = moto.calls_of(PROMOTE).await?;
        assert_eq!(calls.len(), 1, "{kind:?}: nothing may repeat it");
        assert!(calls[0].carried_out, "{kind:?}");
    }
    Ok(())
}

/// A change that has nothing to do with us: a promotion is asked for once it is over, and not before.
#[tokio::test]
async fn a_replica_that_is_being_changed_is_waited_for_and_then_promoted() -> Result<()> {
    let (moto, subject) = replica().await?;
    for status in ["modifying", "rebooting"] {
        moto.set_db_status(WEST, "shop-replica", status).await?;
        let reason = unseen(subject.observe().await)?;
        ensure!(reason.contains(status), "{reason}");
    }
    ensure!(moto.calls_of(PROMOTE).await?.is_empty(), "a promotion was asked for");
    moto.set_db_status(WEST, "shop-replica", "available").await?;
    subject.run().await?;
    done(subject.observe().await)?;
    Ok(())
}

/// The same look after a promotion of ours whose answer was lost: no second one, and it ends done.
#[tokio::test]
async fn a_promotion_under_way_is_looked_at_until_it_is_through() -> Result<()> {
    let (moto, subject) = replica().await?;
    moto.set_delay("rds_promote", HOLD).await?;
    moto.fault(Fault::new(Kind::SuccessThenReset).action(PROMOTE)).await?;
    unknown(subject.apply().await)?;
    for _ in 0..3 {
        let reason = unseen(subject.observe().await)?;
        ensure!(reason.contains("modifying"), "{reason}");
    }
    moto.set_delay("rds_promote", Duration::ZERO).await?;
    moto.wait_db(WEST, "shop-replica", "available").await?;
    done(subject.observe().await)?;
    subject.verify().await?;
    assert_eq!(moto.calls_of(PROMOTE).await?.len(), 1, "asked for twice");
    Ok(())
}

#[tokio::test]
async fn an_answer_that_says_nothing_leaves_the_outcome_open() -> Result<()> {
    let (moto, subject) = replica().await?;
    for kind in [Kind::Error500, Kind::Error503, Kind::Html502, Kind::Reset] {
        moto.fault(Fault::new(kind).action(PROMOTE).times(1)).await?;
        unknown(subject.apply().await)?;
        before(subject.observe().await)?;
    }
    assert_eq!(moto.calls_of(PROMOTE).await?.len(), 4, "each call was made once");
    Ok(())
}

#[tokio::test]
async fn a_look_that_fails_is_not_a_finding() -> Result<()> {
    let (moto, subject) = replica().await?;
    let look = "DescribeDBInstances";
    for kind in [Kind::Throttle, Kind::Error500, Kind::Html502, Kind::Reset] {
        moto.fault(Fault::new(kind).action(look).times(1)).await?;
        unseen(subject.observe().await)?;
        moto.fault(Fault::new(kind).action(look).times(1)).await?;
        // The look before the call failed, so that the call was not made.
        refused(subject.apply().await, true)?;
    }
    moto.fault(Fault::new(Kind::AccessDenied).action(look).times(1)).await?;
    let reason = impossible(subject.observe().await)?;
    ensure!(reason.contains("AccessDenied"), "{reason}");
    ensure!(moto.calls_of(PROMOTE).await?.is_empty(), "a promotion was asked for");
    Ok(())
}

#[tokio::test]
async fn a_lost_instance_fails_at_once() -> Result<()> {
    let (moto, subject) = replica().await?;
    accepted(subject.apply().await)?;
    moto.set_db_status(WEST, "shop-replica", "failed").await?;
    impossible(subject.observe().await)?;
    subject.verify().await.expect_err("it will not come");
    Ok(())
}

#[tokio::test]
async fn only_what_was_not_sent_is_a_refusal_of_the_network() -> Result<()> {
    let (moto, _) = replica().await?;
    let proxy = Proxy::to_port(moto.port()).await?;
    let subject = promote(&aws(proxy.port())).within(Duration::from_secs(2));
    before(subject.observe().await)?;
    proxy.set(Mode::Refuse).await?;
    let reason = refused(subject.apply().await, true)?;
    ensure!(reason.contains("cannot connect"), "{reason}");
    unseen(subject.observe().await)?;
    ensure!(moto.calls_of(PROMOTE).await?.is_empty(), "a promotion was asked for");
    Ok(())
}
