//! AWS that stumbles, refuses, or has other things than the plan names.

use std::collections::BTreeSet;

use failoverd::core::event::Command;
use failoverd::core::view::StepStateView;
use failoverd::model::StepName;

use super::{is_done, is_untouched, paged, parks, retry};
use crate::deploy::allowed_by_the_policy;
use crate::fleet::moto::{Call, Fault, Kind};
use crate::fleet::until;
use crate::fleet::world::{BACKUP, PRIMARY};
use crate::rig::{PATIENCE, Rig, step};

/// The replica of the plan, gone.
async fn delete_replica(rig: &Rig) {
    let gone = [("DBInstanceIdentifier", "shop-replica"), ("SkipFinalSnapshot", "true")];
    rig.world.moto.query("rds", BACKUP, "DeleteDBInstance", &gone).await.unwrap();
}

/// Throttled, 5xx, a load balancer's page, a lost connection: nobody has to get up for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_stumbles_is_asked_again() {
    let mut rig = Rig::start(&[]).await.unwrap();
    for (kind, action, times) in [
        (Kind::Error503, "DescribeDBInstances", 2),
        (Kind::Throttle, "PromoteReadReplica", 1),
        (Kind::Error500, "PromoteReadReplica", 1),
        (Kind::Throttle, "ListResourceRecordSets", 1),
        (Kind::Reset, "ChangeResourceRecordSets", 1),
        (Kind::Html502, "ChangeResourceRecordSets", 1),
        (Kind::Error500, "GetChange", 1),
        (Kind::Throttle, "Publish", 1),
    ] {
        rig.world.moto.fault(Fault::new(kind).action(action).times(times)).await.unwrap();
    }
    let mut daemon = rig.outage().await.unwrap();
    is_done(&rig, &mut daemon).await.unwrap();
    for (action, tries) in [("PromoteReadReplica", 3), ("ChangeResourceRecordSets", 3)] {
        let calls = rig.world.moto.calls_of(action).await.unwrap();
        assert_eq!(calls.len(), tries, "{action}: {calls:#?}");
    }
    let calls = rig.world.moto.calls().await.unwrap();
    let name = |call: &Call| Some(format!("{}:{}", call.service.as_deref()?, call.action.as_deref()?));
    let called: BTreeSet<String> = calls.iter().filter_map(name).collect();
    let called: Vec<String> = called.into_iter().collect();
    assert_eq!(called, allowed_by_the_policy(), "what is called, and what the policy allows");
    assert!(!rig.told().iter().any(|notice| notice["kind"] == "run_parked"), "somebody was got up: {:#?}", rig.told());
    daemon.ends().await.unwrap();
}

/// What a person has to mend parks the run before anything is moved; then it goes on from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_promoted_parks_and_goes_on_when_it_is_mended() {
    let mut rig = Rig::start(&[]).await.unwrap();
    rig.world.keep().await.unwrap();

    rig.reset().await.unwrap();
    rig.world.moto.fault(Fault::new(Kind::AccessDenied).action("PromoteReadReplica")).await.unwrap();
    let mut daemon = rig.outage().await.unwrap();
    parks(&rig, &mut daemon, "promote", &["AccessDenied", "PromoteReadReplica"]).await.unwrap();
    is_untouched(&rig.world).await.unwrap();
    rig.world.moto.clear_faults().await.unwrap();
    retry(&daemon, "promote").await.unwrap();
    is_done(&rig, &mut daemon).await.unwrap();
    daemon.ends().await.unwrap();

    rig.reset().await.unwrap();
    delete_replica(&rig).await;
    let mut daemon = rig.outage().await.unwrap();
    parks(&rig, &mut daemon, "promote", &["shop-replica", "DBInstanceNotFound"]).await.unwrap();
    is_untouched(&rig.world).await.unwrap();
    rig.world.moto.create_replica(BACKUP, "shop-replica", PRIMARY, "shop").await.unwrap();
    retry(&daemon, "promote").await.unwrap();
    is_done(&rig, &mut daemon).await.unwrap();
    daemon.ends().await.unwrap();

    rig.reset().await.unwrap();
    delete_replica(&rig).await;
    rig.world.moto.create_db(PRIMARY, "billing").await.unwrap();
    rig.world.moto.create_replica(BACKUP, "shop-replica", PRIMARY, "billing").await.unwrap();
    let mut daemon = rig.outage().await.unwrap();
    parks(&rig, &mut daemon, "promote", &["shop-replica is a replica of", "billing", "not of shop"]).await.unwrap();
    is_untouched(&rig.world).await.unwrap();
    assert!(rig.world.moto.calls_of("PromoteReadReplica").await.unwrap().is_empty());
    daemon.ends().await.unwrap();
}

/// Somebody was quicker: it is seen, and not done once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_promoted_by_hand_is_not_promoted_again() {
    let mut rig = Rig::start(&[]).await.unwrap();
    // It cannot look before the replica is promoted.
    let blind = Fault::new(Kind::Error503).action("DescribeDBInstances");
    rig.world.moto.fault(blind).await.unwrap();
    let mut daemon = rig.outage().await.unwrap();
    daemon.run("the run", |_| true).await.unwrap();
    let by_hand = [("DBInstanceIdentifier", "shop-replica")];
    rig.world.moto.query("rds", BACKUP, "PromoteReadReplica", &by_hand).await.unwrap();
    until(PATIENCE, "the promotion by hand", async || rig.world.backup.db.is_in_recovery().await.is_ok_and(|is| !is))
        .await
        .unwrap();
    rig.world.moto.clear_faults().await.unwrap();
    let run = is_done(&rig, &mut daemon).await.unwrap();
    assert_eq!(step(&run, "promote").state, StepStateView::AlreadyDone);
    assert!(rig.world.moto.calls_of("PromoteReadReplica").await.unwrap().is_empty());
    daemon.ends().await.unwrap();
}

/// The traffic stays where it is; people are told, and what is done is not undone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_hosted_zone_parks_the_route() {
    let mut rig = Rig::start(&[]).await.unwrap();
    rig.set_env("FAILOVERD__PLANS__FAILOVER__STEPS__ROUTE__ROUTE53__UPSERT_ALIAS__ZONE", "Z00000000000");
    let mut daemon = rig.outage().await.unwrap();
    let run = parks(&rig, &mut daemon, "route", &["NoSuchHostedZone", "Z00000000000"]).await.unwrap();
    assert!(run.past_no_return, "{run:?}");
    assert!(rig.world.alias_target().await.unwrap().contains("primary-lb"));
    assert!(!rig.world.backup.db.is_in_recovery().await.unwrap());
    // Pointed there by hand, it is left out.
    let skip = Command::StepSkip { run: None, step: StepName::new("route") };
    daemon.client.command(&skip).await.unwrap();
    let run = daemon.run("the end", |run| run.ended.is_some()).await.unwrap();
    assert_eq!(step(&run, "route").state, StepStateView::Skipped);
    paged(&rig, &[run.id.as_str(), "done"]).await.unwrap();
    daemon.ends().await.unwrap();
}
