//! `route53.upsert_alias`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::clients::Clients;
use failoverd::model::{Observed, Verified};
use serde_json::{Value, json};

use super::{Subject, accepted, aws, before, done, impossible, refused, unknown, unseen};
use crate::fleet::aws::record;
use crate::fleet::moto::{Fault, HOLD, Kind, Moto};

const KIND: &str = "route53.upsert_alias";
const NAME: &str = "api.shop.example";
const SENTINEL: &str = "_failoverd.api.shop.example";
const EAST: &str = "east.elb.example";
const WEST: &str = "West.elb.example";
const CHANGE: &str = "ChangeResourceRecordSets";

fn upsert(zone: &str, clients: &Arc<Clients>) -> Subject {
    Subject::new(KIND, json!({ "zone": zone, "name": NAME, "target": WEST, "target_zone": "Z2" }), clients)
}

/// A zone whose record leads east.
async fn zone() -> Result<(Moto, String, Subject)> {
    let moto = Moto::start().await?;
    moto.set_delay("route53_insync", Duration::ZERO).await?;
    let zone = moto.create_zone("shop.example").await?;
    moto.upsert_alias(&zone, NAME, EAST, "Z1").await?;
    moto.forget_calls().await?;
    let subject = upsert(&zone, &aws(moto.port()));
    Ok((moto, zone, subject))
}

async fn target(moto: &Moto, zone: &str) -> Result<Option<String>> {
    let record = moto.record(zone, NAME, "A").await?;
    Ok(record.and_then(|record| Some(record["AliasTarget"]["DNSName"].as_str()?.to_owned())))
}

async fn sentinel(moto: &Moto, zone: &str) -> Result<String> {
    let record = moto.record(zone, SENTINEL, "TXT").await?.context("no sentinel")?;
    Ok(record["ResourceRecords"][0].as_str().context("a value")?.to_owned())
}

#[tokio::test]
async fn a_record_is_pointed_elsewhere_and_marked() -> Result<()> {
    let (moto, zone, subject) = zone().await?;
    moto.set_delay("route53_insync", HOLD).await?;
    before(subject.observe().await)?;
    accepted(subject.apply().await)?;
    ensure!(matches!(subject.observe().await, Observed::InProgress { .. }), "pending");
    let before = moto.calls().await?.len();
    ensure!(matches!(subject.verify_once().await, Verified::NotYet { .. }), "pending");
    let asked: Vec<_> = moto.calls().await?.split_off(before).into_iter().filter_map(|call| call.action).collect();
    assert_eq!(asked, ["GetChange"], "the account's five calls a second are not spent on more while it is pending");
    moto.set_delay("route53_insync", Duration::ZERO).await?;
    let evidence = subject.verify().await?;
    ensure!(evidence.contains("INSYNC"), "{evidence}");
    done(subject.observe().await)?;
    assert_eq!(target(&moto, &zone).await?.as_deref(), Some("west.elb.example."));
    assert_eq!(sentinel(&moto, &zone).await?, "\"epoch=5 run=RUN-20261101-001\"");
    assert_eq!(moto.calls_of(CHANGE).await?.len(), 1, "record and mark are one call");
    Ok(())
}

#[tokio::test]
async fn another_process_can_verify_without_the_id_of_the_change() -> Result<()> {
    let (moto, zone, subject) = zone().await?;
    accepted(subject.apply().await)?;
    let after_a_crash = upsert(&zone, &aws(moto.port()));
    done(after_a_crash.observe().await)?;
    let evidence = after_a_crash.verify().await?;
    ensure!(evidence.contains("INSYNC was not asked"), "{evidence}");
    Ok(())
}

#[tokio::test]
async fn an_older_epoch_is_fenced_off_and_the_same_is_not() -> Result<()> {
    let (moto, zone, subject) = zone().await?;
    subject.at_epoch(7).run().await?;
    moto.upsert_alias(&zone, NAME, EAST, "Z1").await?;
    let old = upsert(&zone, &aws(moto.port())).at_epoch(6);
    let reason = refused(old.apply().await, false)?;
    ensure!(reason.contains("fenced by epoch 7"), "{reason}");
    impossible(old.observe().await)?;
    assert_eq!(old.permits.asked(), 0);
    assert_eq!(target(&moto, &zone).await?.as_deref(), Some("east.elb.example."));
    // A rehearsal has no epoch of its own.
    let mut dry = upsert(&zone, &aws(moto.port())).at_epoch(0);
    dry.context.run = None;
    before(dry.observe().await)?;
    for epoch in [7, 8] {
        moto.upsert_alias(&zone, NAME, EAST, "Z1").await?;
        upsert(&zone, &aws(moto.port())).at_epoch(epoch).run().await?;
    }
    ensure!(sentinel(&moto, &zone).await?.starts_with("\"epoch=8 "), "the mark follows");
    Ok(())
}

#[tokio::test]
async fn a_record_that_leads_there_already_is_marked() -> Result<()> {
    let (moto, zone, subject) = zone().await?;
    moto.upsert_alias(&zone, NAME, WEST, "Z2").await?;
    let mut dry = upsert(&zone, &aws(moto.port()));
    dry.context.run = None;
    done(dry.observe().await)?;
    subject.run().await?;
    assert_eq!(sentinel(&moto, &zone).await?, "\"epoch=5 run=RUN-20261101-001\"");
    done(subject.observe().await)?;
    // An older run that was stuck between its permit and its call comes too late.
    let late = Subject::new(KIND, json!({ "zone": zone, "name": NAME, "values": ["192.0.2.1"] }), &aws(moto.port()));
    refused(late.at_epoch(4).apply().await, false)?;
    assert_eq!(target(&moto, &zone).await?.as_deref(), Some("west.elb.example."));
    Ok(())
}

#[tokio::test]
async fn of_two_that_write_at_once_one_is_told_to_look_again() -> Result<()> {
    let (moto, zone, subject) = zone().await?;
    subject.at_epoch(3).run().await?;
    // Hold two batches back until both have read the same mark.
    moto.fault(Fault::new(Kind::Slow).action(CHANGE).lasting(Duration::from_millis(700)).times(2)).await?;
    let (one, two) = (upsert(&zone, &aws(moto.port())), upsert(&zone, &aws(moto.port())).at_epoch(6));
    let (one, two) = tokio::join!(one.apply(), two.apply());
    let results = [accepted(one.clone()).is_ok(), accepted(two.clone()).is_ok()];
    assert_eq!(results.iter().filter(|ok| **ok).count(), 1, "{one:?} {two:?}");
    let loser = if results[0] { two } else { one };
    let reason = refused(loser, true)?;
    ensure!(reason.contains("InvalidChangeBatch"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn undoing_brings_back_what_stood_before() -> Result<()> {
    let (moto, zone, subject) = zone().await?;
    let stored = moto.record(&zone, NAME, "A").await?;
    let stood = subject.run().await?;
    accepted(subject.compensate(&stood).await)?;
    assert_eq!(moto.record(&zone, NAME, "A").await?, stored);
    // Again: it stands as before, and nothing is called.
    let calls = moto.calls_of(CHANGE).await?.len();
    accepted(subject.compensate(&stood).await)?;
    assert_eq!(moto.calls_of(CHANGE).await?.len(), calls);
    refused(subject.compensate(&Value::Null).await, false)?;

    // What did not stand there goes away again.
    let params = json!({ "zone": zone, "name": "new.shop.example", "values": ["192.0.2.1"], "ttl": "30s" });
    let new = Subject::new(KIND, params, &aws(moto.port()));
    let stood = new.run().await?;
    assert_eq!(stood, json!({ "record": null }));
    accepted(new.compensate(&stood).await)?;
    assert_eq!(moto.record(&zone, "new.shop.example", "A").await?, None);
    Ok(())
}

#[tokio::test]
async fn undoing_leaves_alone_what_others_changed() -> Result<()> {
    let (moto, zone, subject) = zone().await?;
    let stood = subject.run().await?;
    moto.upsert_alias(&zone, NAME, "third.elb.example", "Z3").await?;
    let reason = refused(subject.compensate(&stood).await, false)?;
    ensure!(reason.contains("somebody else"), "{reason}");
    let newer = upsert(&zone, &aws(moto.port())).at_epoch(9);
    newer.run().await?;
    let reason = refused(subject.compensate(&stood).await, false)?;
    ensure!(reason.contains("fenced by epoch 9"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn without_a_permit_nothing_is_called() -> Result<()> {
    let (moto, zone, subject) = zone().await?;
    let stood = before(subject.observe().await)?;
    let subject = subject.overtaken();
    subject.apply().await.expect_err("overtaken");
    upsert(&zone, &aws(moto.port())).run().await?;
    let changes = moto.calls_of(CHANGE).await?.len();
    subject.compensate(&stood).await.expect_err("overtaken");
    assert_eq!(moto.calls_of(CHANGE).await?.len(), changes);
    assert_eq!(subject.permits.asked(), 2);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_changed_is_found_by_looking() -> Result<()> {
    let (moto, zone, _) = zone().await?;
    let clients = aws(moto.port());
    let reason = impossible(upsert("Z000", &clients).observe().await)?;
    ensure!(reason.contains("NoSuchHostedZone"), "{reason}");
    let at = |name: &str, sentinel: &str| {
        let params = json!({ "zone": zone, "name": name, "values": ["192.0.2.9"], "sentinel": sentinel });
        Subject::new(KIND, params, &clients)
    };
    let weighted = record("w.shop.example", "A", 60, "192.0.2.1")
        .replace("<TTL>", "<SetIdentifier>one</SetIdentifier><Weight>1</Weight><TTL>");
    let cname = record("c.shop.example", "CNAME", 60, "lb.example");
    let foreign = record("t.shop.example", "TXT", 60, "\"v=spf1 -all\"");
    for set in [&weighted, &cname, &foreign] {
        moto.change_records(&zone, &[("CREATE", set)]).await?;
    }
    moto.forget_calls().await?;
    for (subject, says) in [
        (at("w.shop.example", ""), "routing policy"),
        (at("c.shop.example", ""), "CNAME"),
        (at("n.shop.example", "t.shop.example"), "not failoverd's"),
    ] {
        let reason = impossible(subject.observe().await)?;
        ensure!(reason.contains(says), "{reason}");
        refused(subject.apply().await, false)?;
    }
    ensure!(moto.calls_of(CHANGE).await?.is_empty(), "a change was asked for");
    // Without a sentinel it works, and leaves none.
    at("n.shop.example", "").run().await?;
    assert_eq!(moto.record(&zone, "_failoverd.n.shop.example", "TXT").await?, None);
    Ok(())
}

#[tokio::test]
async fn faults_of_the_api_are_told_apart() -> Result<()> {
    let (moto, zone, subject) = zone().await?;
    for (fault, again) in [
        (Fault::new(Kind::Throttle), true),
        (Fault::error(400, "PriorRequestNotComplete"), true),
        (Fault::new(Kind::AccessDenied), false),
        (Fault::error(400, "InvalidInput"), false),
    ] {
        moto.fault(fault.action(CHANGE).times(1)).await?;
        refused(subject.apply().await, again)?;
    }
    for kind in [Kind::Error500, Kind::Html502, Kind::Reset] {
        moto.fault(Fault::new(kind).action(CHANGE).times(1)).await?;
        unknown(subject.apply().await)?;
        before(subject.observe().await)?;
    }
    moto.fault(Fault::new(Kind::Error503).action("ListResourceRecordSets").times(1)).await?;
    unseen(subject.observe().await)?;
    moto.forget_calls().await?;
    moto.fault(Fault::new(Kind::SuccessThenTimeout).action(CHANGE)).await?;
    let subject = subject.within(Duration::from_secs(3));
    unknown(subject.apply().await)?;
    done(subject.observe().await)?;
    let calls = moto.calls_of(CHANGE).await?;
    assert_eq!((calls.len(), calls[0].carried_out), (1, true));
    assert_eq!(target(&moto, &zone).await?.as_deref(), Some("west.elb.example."));
    Ok(())
}
