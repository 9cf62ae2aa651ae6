//! What follows a write: replicas that become ready, and watches that tell of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use kube::api::{PostParams, WatchEvent, WatchParams};
use serde_json::json;

use super::{EPOCH, SOON, merge, plain, settled, version};
use crate::fleet::kube::{BACKUP_CONTEXT, Kube, deployment, pods};

pub(super) async fn replicas_become_ready_after_the_delay(kube: &Kube) -> Result<()> {
    let (api, _) = settled(kube, "ready", 1).await?;
    api.patch_scale("api", &plain(), &merge(json!({ "spec": { "replicas": 4 } }))).await?;
    kube.wait_ready("ready", "api", 4, SOON).await?;
    let now = api.get("api").await?;
    let status = now.status.context("no status")?;
    ensure!(status.observed_generation == now.metadata.generation, "not observed: {status:?}");
    ensure!(status.available_replicas == Some(4) && status.updated_replicas == Some(4), "status {status:?}");
    ensure!(status.unavailable_replicas.is_none(), "a zero is left out");
    ensure!(pods(kube.client(BACKUP_CONTEXT).await?, "ready", "api").await? == (4, 4));
    Ok(())
}

pub(super) async fn a_rollout_is_held_back_and_let_go(kube: &Kube) -> Result<()> {
    let (api, _) = settled(kube, "held", 1).await?;
    kube.set_ready_delay(Duration::MAX);
    api.patch_scale("api", &plain(), &merge(json!({ "spec": { "replicas": 3 } }))).await?;
    let deadline = Instant::now() + SOON;
    while api.get("api").await?.status.and_then(|status| status.replicas) != Some(3) {
        ensure!(Instant::now() < deadline, "the new replicas were never made");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(kube.ready_replicas("held", "api").await? == 1, "ready without the delay");
    kube.set_ready_delay(Duration::ZERO);
    kube.wait_ready("held", "api", 3, SOON).await
}

pub(super) async fn scaling_down_is_observed(kube: &Kube) -> Result<()> {
    let (api, _) = settled(kube, "down", 3).await?;
    api.patch_scale("api", &plain(), &merge(json!({ "spec": { "replicas": 0 } }))).await?;
    kube.wait_ready("down", "api", 0, SOON).await?;
    let status = api.get("api").await?.status.context("no status")?;
    ensure!(status.ready_replicas.is_none(), "a zero is left out: {status:?}");
    Ok(())
}

pub(super) async fn a_watch_tells_of_each_change(kube: &Kube) -> Result<()> {
    let (api, before) = settled(kube, "watch", 1).await?;
    let wanted = WatchParams::default().fields("metadata.name=api").timeout(20);
    let mut present = api.watch(&wanted, "0").await?.boxed();
    match present.try_next().await?.context("the watch ended")? {
        WatchEvent::Added(found) => ensure!(found.metadata.uid == before.metadata.uid),
        other => bail!("expected what there is as Added, got {other:?}"),
    }
    let mut changes = api.watch(&wanted, version(&before)).await?.boxed();
    api.create(&PostParams::default(), &deployment("other", 0)).await?;
    api.patch("api", &plain(), &merge(json!({ "metadata": { "annotations": { EPOCH: "9" } } }))).await?;
    match changes.try_next().await?.context("the watch ended")? {
        WatchEvent::Modified(seen) => {
            ensure!(seen.metadata.name.as_deref() == Some("api"), "an event of another object");
            ensure!(seen.metadata.annotations.unwrap_or_default().get(EPOCH).map(String::as_str) == Some("9"));
        }
        other => bail!("expected Modified, got {other:?}"),
    }
    kube.delete("watch", "api").await?;
    loop {
        match changes.try_next().await?.context("the watch ended")? {
            WatchEvent::Deleted(gone) if gone.metadata.name.as_deref() == Some("api") => break,
            // The controller notes the annotation.
            WatchEvent::Modified(seen) if seen.metadata.name.as_deref() == Some("api") => {}
            other => bail!("expected Deleted, got {other:?}"),
        }
    }
    let mut short = api.watch(&WatchParams::default().timeout(1), version(&before)).await?.boxed();
    while short.try_next().await?.is_some() {}
    Ok(())
}
