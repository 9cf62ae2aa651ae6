//! The Kubernetes API on a bad day. Here the stand-in, which alone breaks on request; the faults
//! that a real server makes too are in `kube_faults.rs` and `actions/kubernetes.rs`.

use std::time::Duration;

use super::{is_done, parks, retry};
use crate::fleet::kube_standin::Fault;
use crate::fleet::world::REPLICAS;
use crate::rig::Rig;

const DEPLOYMENT: &str = "/deployments/api";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_stumbles_is_asked_again() {
    let mut rig = Rig::start(&[]).await.unwrap();
    let faults = [
        Fault::Slow(Duration::from_millis(700)).on("get", DEPLOYMENT).times(1),
        Fault::Html(502).on("get", DEPLOYMENT).times(1),
        // Somebody else wrote between the look and the change; a server that has enough to do; and
        // one that did what it says it did not.
        Fault::Error(409).on("patch", DEPLOYMENT).times(1),
        Fault::Throttled { retry_after: 1 }.on("patch", DEPLOYMENT).times(1),
        Fault::ErrorAfterwards(500).on("patch", DEPLOYMENT).times(1),
    ];
    faults.into_iter().for_each(|fault| rig.stand_in().inject(fault));
    let mut daemon = rig.outage().await.unwrap();
    is_done(&rig, &mut daemon).await.unwrap();
    assert_eq!(rig.patches(), 3, "two that were refused, and one that was not");
    daemon.ends().await.unwrap();
}

/// The databases go on meanwhile; the traffic waits for the cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cluster_refuses_parks_the_step_and_holds_the_route() {
    let mut rig = Rig::start(&[]).await.unwrap();
    rig.world.keep().await.unwrap();

    rig.reset().await.unwrap();
    rig.stand_in().inject(Fault::Error(403).on("patch", DEPLOYMENT));
    let mut daemon = rig.outage().await.unwrap();
    parks(&rig, &mut daemon, "scale", &["403", "`patch` on deployments.apps is needed"]).await.unwrap();
    assert!(rig.world.alias_target().await.unwrap().contains("primary-lb"));
    assert_eq!(rig.world.kube.replicas("shop", "api").await.unwrap(), REPLICAS.0);
    rig.stand_in().clear_faults();
    retry(&daemon, "scale").await.unwrap();
    is_done(&rig, &mut daemon).await.unwrap();
    daemon.ends().await.unwrap();

    rig.reset().await.unwrap();
    rig.world.kube.delete("shop", "api").await.unwrap();
    let mut daemon = rig.outage().await.unwrap();
    parks(&rig, &mut daemon, "scale", &["404", "deployment shop/api"]).await.unwrap();
    assert!(rig.world.alias_target().await.unwrap().contains("primary-lb"));
    rig.world.kube.create_deployment("shop", "api", REPLICAS.0).await.unwrap();
    retry(&daemon, "scale").await.unwrap();
    is_done(&rig, &mut daemon).await.unwrap();
    daemon.ends().await.unwrap();
}
