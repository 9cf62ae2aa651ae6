//! What failoverd relies on in a Kubernetes API: the same checks against the real API server and the stand-in, so that
//! a test which passes against the stand-in means something.
//!
//! One test per counterpart, with named checks inside that run side by side: the real one takes seconds to start.

mod reads;
mod rollouts;
mod writes;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use futures::future::{BoxFuture, FutureExt, join_all};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use kube::core::Status;
use serde_json::Value;

use crate::fleet::kube::{BACKUP_CONTEXT, Kube};

const SOON: Duration = Duration::from_secs(30);
const EPOCH: &str = "failoverd.dev/epoch";

type Check = for<'a> fn(&'a Kube) -> BoxFuture<'a, Result<()>>;

macro_rules! checks {
    ($($room:ident::$name:ident),+ $(,)?) => { &[$((stringify!($name), |kube| $room::$name(kube).boxed())),+] };
}

const CHECKS: &[(&str, Check)] = checks![
    reads::answers_version_and_readiness,
    reads::a_missing_deployment_is_a_404_status,
    reads::a_wrong_token_is_a_401,
    writes::creates_lists_and_deletes,
    writes::scale_is_read_and_patched,
    writes::scale_of_zero_reads_as_none,
    writes::annotations_move_the_generation_labels_do_not,
    writes::scale_patch_loses_annotations,
    writes::a_stale_scale_is_a_conflict,
    writes::a_stale_patch_is_a_conflict,
    writes::one_patch_scales_and_marks_the_epoch,
    writes::an_equal_write_changes_nothing,
    writes::a_negative_scale_is_invalid,
    writes::a_dry_run_changes_nothing,
    writes::strategic_merge_keeps_other_containers,
    writes::server_side_apply_creates_and_changes,
    reads::the_reader_may_look_and_not_touch,
    reads::access_reviews_tell_the_truth,
    rollouts::replicas_become_ready_after_the_delay,
    rollouts::scaling_down_is_observed,
    rollouts::a_watch_tells_of_each_change,
];

#[tokio::test]
async fn real_api_server_keeps_the_contract() {
    let started = Instant::now();
    let kube = Kube::real().await.unwrap_or_else(|why| panic!("{why:#}"));
    println!("the real API server is ready after {:.1?}", started.elapsed());
    keep_the_contract(&kube).await;
    let Kube::Real(real) = &kube else { unreachable!("asked for the real one") };
    let address = real.url().trim_start_matches("https://").to_owned();
    drop(kube);
    let gone = tokio::net::TcpStream::connect(&address).await;
    assert!(gone.is_err(), "the API server outlived its owner");
}

#[tokio::test]
async fn stand_in_keeps_the_contract() {
    let kube = Kube::stand_in().await.unwrap_or_else(|why| panic!("{why:#}"));
    keep_the_contract(&kube).await;
}

async fn keep_the_contract(kube: &Kube) {
    let results = join_all(CHECKS.iter().map(async |(name, check)| {
        let started = Instant::now();
        let result = check(kube).await;
        println!("{:>8.0?}  {name}: {}", started.elapsed(), if result.is_ok() { "ok" } else { "FAILED" });
        result.err().map(|why| format!("{name}: {why:#}"))
    }));
    let mut broken: Vec<String> = results.await.into_iter().flatten().collect();
    // By itself, because the delay is the whole cluster's.
    broken.extend(
        rollouts::a_rollout_is_held_back_and_let_go(kube).await.err().map(|why| format!("ready delay: {why:#}")),
    );
    assert!(broken.is_empty(), "{} of {} checks failed:\n{}", broken.len(), CHECKS.len(), broken.join("\n"));
}

/// A deployment in a namespace that no other check uses, and the API of that namespace as the admin sees it.
async fn fresh(kube: &Kube, namespace: &str, replicas: i32) -> Result<(Api<Deployment>, Deployment)> {
    let created = kube.create_deployment(namespace, "api", replicas).await?;
    Ok((Api::namespaced(kube.client(BACKUP_CONTEXT).await?, namespace), created))
}

/// As [`fresh`], once the controllers are done with it and nothing but the check writes to it.
async fn settled(kube: &Kube, namespace: &str, replicas: i32) -> Result<(Api<Deployment>, Deployment)> {
    let (api, _) = fresh(kube, namespace, replicas).await?;
    let deployment = settle(&api, replicas).await?;
    Ok((api, deployment))
}

async fn settle(api: &Api<Deployment>, replicas: i32) -> Result<Deployment> {
    let mut last = None;
    let deadline = Instant::now() + SOON;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = api.get("api").await?;
        let status = now.status.clone().unwrap_or_default();
        let observed = status.observed_generation == now.metadata.generation;
        let complete = status.replicas.unwrap_or(0) == replicas && status.ready_replicas.unwrap_or(0) == replicas;
        let done = status.conditions.iter().flatten().any(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable"));
        let quiet = last == now.metadata.resource_version;
        if observed && complete && quiet && done {
            return Ok(now);
        }
        ensure!(Instant::now() < deadline, "not settled after {SOON:?}: {status:?}");
        last = now.metadata.resource_version;
    }
}

fn refused<T: std::fmt::Debug>(result: kube::Result<T>, code: u16, reason: &str) -> Result<Status> {
    match result {
        Err(kube::Error::Api(status)) => {
            ensure!(status.code == code && status.reason == reason, "expected {code} {reason}, got {status:?}");
            Ok(*status)
        }
        other => bail!("expected {code} {reason}, got {other:?}"),
    }
}

fn refused_with<T: std::fmt::Debug>(result: kube::Result<T>, code: u16, reason: &str, message: &str) -> Result<()> {
    let status = refused(result, code, reason)?;
    ensure!(status.message == message, "expected the message {message:?}, got {:?}", status.message);
    Ok(())
}

fn version(deployment: &Deployment) -> &str {
    deployment.metadata.resource_version.as_deref().unwrap_or_default()
}

fn merge(patch: Value) -> Patch<Value> {
    Patch::Merge(patch)
}

fn plain() -> PatchParams {
    PatchParams::default()
}

const STALE: &str = "Operation cannot be fulfilled on deployments.apps \"api\": the object has been modified; \
                     please apply your changes to the latest version and try again";
