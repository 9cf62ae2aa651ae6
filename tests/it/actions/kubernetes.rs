//! `kubernetes.scale`: the same against the real API server and the stand-in, and faults against
//! the stand-in alone.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::model::{Observed, Verified};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::{Value, json};

use super::{Subject, accepted, before, clients, done, impossible, refused, unknown, unseen};
use crate::fleet::kube::{BACKUP_CONTEXT, Kube, RESTRICTED_CONTEXT};
use crate::fleet::kube_standin::{Fault, KubeStandIn};

const KIND: &str = "kubernetes.scale";
const SPACE: &str = "shop";

fn scale(kube: &Kube, name: &str, replicas: u32) -> Subject {
    scale_as(kube, BACKUP_CONTEXT, name, replicas)
}

fn scale_as(kube: &Kube, context: &str, name: &str, replicas: u32) -> Subject {
    let params = json!({
        "kubeconfig": kube.kubeconfig(), "context": context,
        "deployment": format!("{SPACE}/{name}"), "replicas": replicas,
    });
    Subject::new(KIND, params, &Arc::new(clients()))
}

async fn deployment(kube: &Kube, name: &str) -> Result<Deployment> {
    let api: Api<Deployment> = Api::namespaced(kube.client(BACKUP_CONTEXT).await?, SPACE);
    Ok(api.get(name).await?)
}

async fn epoch(kube: &Kube, name: &str) -> Result<Option<String>> {
    let annotations = deployment(kube, name).await?.metadata.annotations.unwrap_or_default();
    Ok(annotations.get("failoverd/epoch").cloned())
}

async fn scales(kube: &Kube) -> Result<()> {
    kube.create_deployment(SPACE, "api", 1).await?;
    kube.wait_ready(SPACE, "api", 1, super::SOON).await?;
    let subject = scale(kube, "api", 3);
    kube.set_ready_delay(Duration::MAX);
    let stood = before(subject.observe().await)?;
    assert_eq!(stood["replicas"], 1);
    accepted(subject.apply().await)?;
    ensure!(matches!(subject.observe().await, Observed::InProgress { .. }), "not ready yet");
    ensure!(matches!(subject.verify_once().await, Verified::NotYet { .. }), "not ready yet");
    kube.set_ready_delay(Duration::ZERO);
    subject.verify().await?;
    done(subject.observe().await)?;
    assert_eq!((kube.replicas(SPACE, "api").await?, epoch(kube, "api").await?.as_deref()), (3, Some("5")));
    // Again: nothing is called. More is left alone.
    accepted(subject.apply().await)?;
    accepted(scale(kube, "api", 2).apply().await)?;
    assert_eq!((kube.replicas(SPACE, "api").await?, subject.permits.asked()), (3, 1));

    accepted(subject.compensate(&stood).await)?;
    assert_eq!(kube.replicas(SPACE, "api").await?, 1);
    accepted(subject.compensate(&stood).await)?;
    assert_eq!(subject.permits.asked(), 2, "it stands as before");
    refused(subject.compensate(&Value::Null).await, false)?;
    stops(kube).await
}

/// `exact` scales down too, and waits until the others are gone.
async fn stops(kube: &Kube) -> Result<()> {
    kube.create_deployment(SPACE, "jobs", 2).await?;
    kube.wait_ready(SPACE, "jobs", 2, super::SOON).await?;
    let params = json!({
        "kubeconfig": kube.kubeconfig(), "context": BACKUP_CONTEXT,
        "deployment": format!("{SPACE}/jobs"), "replicas": 0, "exact": true,
    });
    let subject = Subject::new(KIND, params, &Arc::new(clients()));
    let stood = before(subject.observe().await)?;
    assert_eq!(stood["replicas"], 2);
    subject.run().await?;
    assert_eq!(kube.replicas(SPACE, "jobs").await?, 0);
    let evidence = done(subject.observe().await)?;
    ensure!(evidence.contains("0 of 0"), "{evidence}");
    accepted(subject.compensate(&stood).await)?;
    assert_eq!(kube.replicas(SPACE, "jobs").await?, 2);
    Ok(())
}

async fn refuses(kube: &Kube) -> Result<()> {
    kube.create_deployment(SPACE, "web", 1).await?;
    let missing = scale(kube, "nothing", 3);
    let reason = impossible(missing.observe().await)?;
    ensure!(reason.contains("404"), "{reason}");
    refused(missing.apply().await, false)?;

    let reader = scale_as(kube, RESTRICTED_CONTEXT, "web", 3);
    let stood = before(reader.observe().await)?;
    let reason = refused(reader.apply().await, false)?;
    ensure!(reason.contains("403") && reason.contains("`patch` on deployments"), "{reason}");

    let nowhere = scale_as(kube, "no-such-context", "web", 3);
    impossible(nowhere.observe().await)?;

    let overtaken = scale(kube, "web", 3).overtaken();
    overtaken.apply().await.expect_err("overtaken");
    assert_eq!(kube.replicas(SPACE, "web").await?, 1);

    scale(kube, "web", 3).at_epoch(7).run().await?;
    let old = scale(kube, "web", 5).at_epoch(6);
    ensure!(matches!(old.verify_once().await, Verified::Failed { .. }), "an overtaken run goes on");
    let reason = refused(old.apply().await, false)?;
    ensure!(reason.contains("fenced by epoch 7"), "{reason}");
    refused(old.compensate(&stood).await, false)?;
    impossible(old.observe().await)?;
    let mut dry = scale(kube, "web", 5).at_epoch(0);
    dry.context.run = None;
    before(dry.observe().await)?;
    assert_eq!((kube.replicas(SPACE, "web").await?, old.permits.asked()), (3, 0));

    // Somebody else has scaled it since.
    scale(kube, "web", 4).at_epoch(7).run().await?;
    let reason = refused(scale(kube, "web", 3).at_epoch(7).compensate(&stood).await, false)?;
    ensure!(reason.contains("somebody else"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn against_the_real_api_server() -> Result<()> {
    let kube = Kube::real().await?;
    scales(&kube).await?;
    refuses(&kube).await
}

#[tokio::test]
async fn against_the_stand_in() -> Result<()> {
    let kube = Kube::stand_in().await?;
    scales(&kube).await?;
    refuses(&kube).await
}

async fn stand_in() -> Result<Kube> {
    let kube = Kube::stand_in().await?;
    kube.create_deployment(SPACE, "api", 1).await?;
    Ok(kube)
}

fn faults(kube: &Kube) -> &KubeStandIn {
    match kube {
        Kube::StandIn(stand_in) => stand_in,
        Kube::Real(_) => unreachable!("only the stand-in has faults"),
    }
}

fn patches(kube: &Kube) -> usize {
    faults(kube).seen().iter().filter(|seen| seen.verb == "patch").count()
}

#[tokio::test]
async fn what_is_refused_is_known_not_to_be_done() -> Result<()> {
    let kube = stand_in().await?;
    let subject = scale(&kube, "api", 3);
    for (fault, again) in
        [(Fault::Throttled { retry_after: 60 }, true), (Fault::Error(401), false), (Fault::Error(422), false)]
    {
        faults(&kube).inject(fault.on("patch", "/api").times(1));
        refused(subject.apply().await, again)?;
    }
    assert_eq!((patches(&kube), kube.replicas(SPACE, "api").await?), (3, 1));
    Ok(())
}

#[tokio::test]
async fn an_unknown_outcome_is_resolved_by_observing() -> Result<()> {
    let kube = stand_in().await?;
    let subject = scale(&kube, "api", 3).within(Duration::from_secs(2));
    for fault in [Fault::Error(500), Fault::Error(503), Fault::Error(504), Fault::Html(502), Fault::Hang] {
        faults(&kube).inject(fault.on("patch", "/api").times(1));
        unknown(subject.apply().await)?;
        before(subject.observe().await)?;
    }
    assert_eq!(patches(&kube), 5, "each was sent once");
    for (n, fault) in [Fault::HangAfterwards, Fault::ErrorAfterwards(504)].into_iter().enumerate() {
        let more = 3 + u32::try_from(n)?;
        let subject = scale(&kube, "api", more).within(Duration::from_secs(2));
        faults(&kube).inject(fault.on("patch", "/api").times(1));
        unknown(subject.apply().await)?;
        subject.verify().await?;
        done(subject.observe().await)?;
    }
    assert_eq!(patches(&kube), 7, "each was sent once");
    Ok(())
}

#[tokio::test]
async fn a_look_that_fails_is_not_a_finding() -> Result<()> {
    let kube = stand_in().await?;
    let subject = scale(&kube, "api", 3).within(Duration::from_secs(2));
    for fault in [Fault::Error(500), Fault::Html(404), Fault::Hang, Fault::Throttled { retry_after: 60 }] {
        faults(&kube).inject(fault.clone().on("get", "/api").times(1));
        unseen(subject.observe().await)?;
        faults(&kube).inject(fault.on("get", "/api").times(1));
        refused(subject.apply().await, true)?;
    }
    faults(&kube).inject(Fault::Slow(Duration::from_millis(500)).on("get", "/api").times(1));
    before(subject.observe().await)?;
    assert_eq!((patches(&kube), subject.permits.asked()), (0, 0));
    Ok(())
}

/// A rollout that is busy writes the object every few moments: that uses up no attempt of the step.
#[tokio::test]
async fn who_meets_a_conflict_looks_again_within_the_call() -> Result<()> {
    let kube = stand_in().await?;
    let subject = scale(&kube, "api", 3);
    faults(&kube).inject(Fault::Error(409).on("patch", "/api").times(2));
    accepted(subject.apply().await)?;
    assert_eq!((patches(&kube), kube.replicas(SPACE, "api").await?), (3, 3));
    assert_eq!(subject.permits.asked(), 3, "each call has a permit of its own");
    let looks = faults(&kube).seen().iter().filter(|seen| seen.verb == "get" && seen.path.ends_with("/api")).count();
    ensure!(looks >= 3, "it looks before each of them: {looks}");

    // Not for ever: then it is the step's next attempt.
    let endless = scale(&kube, "api", 4);
    faults(&kube).inject(Fault::Error(409).on("patch", "/api"));
    refused(endless.apply().await, true)?;
    assert_eq!((patches(&kube), endless.permits.asked()), (3 + 4, 4));
    Ok(())
}

/// Of several objects, those that were changed already are not changed again.
#[tokio::test]
async fn a_conflict_in_the_middle_of_several_changes_goes_on_with_the_others() -> Result<()> {
    let kube = stand_in().await?;
    kube.create_deployment(SPACE, "jobs", 1).await?;
    let params = json!({
        "kubeconfig": kube.kubeconfig(), "context": BACKUP_CONTEXT,
        "deployments": [format!("{SPACE}/api"), format!("{SPACE}/jobs")],
    });
    let restart = Subject::new("kubernetes.rollout_restart", params, &Arc::new(clients()));
    faults(&kube).inject(Fault::Error(409).on("patch", "/jobs").times(1));
    accepted(restart.apply().await)?;
    let patched: Vec<String> =
        faults(&kube).seen().into_iter().filter(|seen| seen.verb == "patch").map(|seen| seen.path).collect();
    assert_eq!(patched.iter().filter(|path| path.ends_with("/api")).count(), 1, "{patched:?}");
    assert_eq!(patched.iter().filter(|path| path.ends_with("/jobs")).count(), 2, "{patched:?}");
    Ok(())
}

/// Whoever lost looks again, and sees whose the object is by then.
#[tokio::test]
async fn of_two_that_write_at_once_the_newer_epoch_prevails() -> Result<()> {
    for slow in [1, 2] {
        let kube = stand_in().await?;
        faults(&kube).inject(Fault::Slow(Duration::from_millis(500)).on("patch", "/api").times(slow));
        let (older, newer) = (scale(&kube, "api", 3), scale(&kube, "api", 4).at_epoch(6));
        let (older, newer) = tokio::join!(older.apply(), newer.apply());
        accepted(newer)?;
        let overtaken = accepted(older.clone()).is_err();
        if overtaken {
            ensure!(refused(older, false)?.contains("fenced by epoch 6"), "not because of the conflict");
        }
        assert_eq!((kube.replicas(SPACE, "api").await?, epoch(&kube, "api").await?.as_deref()), (4, Some("6")));
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_was_sent_nothing() -> Result<()> {
    let kube = stand_in().await?;
    let gone = scale(&kube, "api", 3);
    // Keep the kubeconfig, and let the server go.
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("kubeconfig");
    std::fs::copy(kube.kubeconfig(), &copy)?;
    drop(kube);
    drop(gone);
    let params = json!({ "kubeconfig": copy, "deployment": "shop/api", "replicas": 3 });
    let subject = Subject::new(KIND, params, &Arc::new(clients()));
    let reason = unseen(subject.observe().await)?;
    ensure!(reason.contains("cannot connect"), "{reason}");
    refused(subject.apply().await, true)?;
    Ok(())
}
