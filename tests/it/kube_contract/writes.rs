//! Writes: scale, patches, preconditions, generations.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{EPOCH, SOON, STALE, fresh, merge, plain, refused, refused_with, settle, settled, version};
use crate::fleet::kube::{BACKUP_CONTEXT, Kube, RESTRICTED_CONTEXT, deployment};

pub(super) async fn creates_lists_and_deletes(kube: &Kube) -> Result<()> {
    let (api, created) = fresh(kube, "crud", 2).await?;
    ensure!(created.metadata.generation == Some(1) && created.metadata.uid.is_some() && !version(&created).is_empty());
    ensure!(created.metadata.creation_timestamp.is_some());
    let message = "deployments.apps \"api\" already exists";
    refused_with(api.create(&PostParams::default(), &deployment("api", 1)).await, 409, "AlreadyExists", message)?;
    api.create(&PostParams::default(), &deployment("web", 1)).await?;
    let names = |list: Vec<Deployment>| list.into_iter().filter_map(|item| item.metadata.name).collect::<Vec<_>>();
    let all = api.list(&ListParams::default()).await?;
    ensure!(all.metadata.resource_version.as_deref().is_some_and(|version| version != "0"), "no list version");
    ensure!(names(all.items) == ["api", "web"]);
    ensure!(names(api.list(&ListParams::default().labels("app=web")).await?.items) == ["web"]);
    ensure!(names(api.list(&ListParams::default().fields("metadata.name=api")).await?.items) == ["api"]);
    let everywhere: Api<Deployment> = Api::all(kube.client(BACKUP_CONTEXT).await?);
    let everywhere = everywhere.list(&ListParams::default()).await?.items;
    ensure!(everywhere.iter().filter(|item| item.metadata.namespace.as_deref() == Some("crud")).count() == 2);
    let namespaces: Api<Namespace> = Api::all(kube.client(BACKUP_CONTEXT).await?);
    ensure!(namespaces.get("crud").await?.metadata.name.as_deref() == Some("crud"));
    kube.delete("crud", "api").await?;
    ensure!(api.get_opt("api").await?.is_none(), "still there after its deletion");
    Ok(())
}

pub(super) async fn scale_is_read_and_patched(kube: &Kube) -> Result<()> {
    let (api, before) = settled(kube, "scale", 2).await?;
    let scale = api.get_scale("api").await?;
    ensure!(scale.spec.as_ref().and_then(|spec| spec.replicas) == Some(2), "scale {scale:?}");
    let status = scale.status.context("no scale status")?;
    ensure!(status.replicas == 2 && status.selector.as_deref() == Some("app=api"), "status {status:?}");
    ensure!(
        scale.metadata.resource_version == before.metadata.resource_version,
        "another version than its deployment's"
    );
    ensure!(scale.metadata.uid == before.metadata.uid);
    let patch = merge(json!({ "metadata": { "resourceVersion": version(&before) }, "spec": { "replicas": 5 } }));
    let scaled = api.patch_scale("api", &plain(), &patch).await?;
    ensure!(scaled.spec.and_then(|spec| spec.replicas) == Some(5));
    ensure!(scaled.metadata.resource_version != before.metadata.resource_version, "the version did not move");
    let after = api.get("api").await?;
    ensure!(kube.replicas("scale", "api").await? == 5 && after.metadata.generation == Some(2));
    Ok(())
}

pub(super) async fn scale_of_zero_reads_as_none(kube: &Kube) -> Result<()> {
    let (api, _) = settled(kube, "zero", 0).await?;
    // Go leaves a zero out: whoever reads this as "no answer" cannot scale a pilot light up.
    ensure!(api.get_scale("api").await?.spec.is_some_and(|spec| spec.replicas.is_none()));
    ensure!(kube.replicas("zero", "api").await? == 0, "the deployment itself does say zero");
    let mut scale: Scale = api.get_scale("api").await?;
    scale.spec.get_or_insert_default().replicas = Some(3);
    api.replace_scale("api", &PostParams::default(), &scale).await?;
    ensure!(kube.replicas("zero", "api").await? == 3);
    api.patch_scale("api", &plain(), &merge(json!({ "spec": { "replicas": 0 } }))).await?;
    ensure!(kube.replicas("zero", "api").await? == 0);
    Ok(())
}

pub(super) async fn annotations_move_the_generation_labels_do_not(kube: &Kube) -> Result<()> {
    let (api, before) = settled(kube, "generation", 1).await?;
    let labelled = merge(json!({ "metadata": { "labels": { "tier": "front" } } }));
    let labelled = api.patch("api", &plain(), &labelled).await?;
    ensure!(labelled.metadata.generation == before.metadata.generation, "a label is a new generation");
    // Whoever waits for observedGeneration after marking the epoch waits for the controller once more.
    let marked = api.patch("api", &plain(), &merge(json!({ "metadata": { "annotations": { EPOCH: "7" } } }))).await?;
    ensure!(marked.metadata.generation == before.metadata.generation.map(|number| number + 1), "an annotation is not");
    ensure!(marked.metadata.annotations.is_some_and(|all| all.contains_key("deployment.kubernetes.io/revision")));
    let deadline = Instant::now() + SOON;
    while api.get("api").await?.status.and_then(|status| status.observed_generation) != marked.metadata.generation {
        ensure!(Instant::now() < deadline, "the new generation was never observed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

pub(super) async fn scale_patch_loses_annotations(kube: &Kube) -> Result<()> {
    let (api, _) = settled(kube, "lost", 1).await?;
    let patch = merge(json!({ "metadata": { "annotations": { EPOCH: "7" } }, "spec": { "replicas": 2 } }));
    api.patch_scale("api", &plain(), &patch).await?;
    let after = api.get("api").await?;
    ensure!(!after.metadata.annotations.unwrap_or_default().contains_key(EPOCH), "the epoch came through the scale");
    Ok(())
}

pub(super) async fn a_stale_scale_is_a_conflict(kube: &Kube) -> Result<()> {
    let (api, stale) = settled(kube, "stale-scale", 1).await?;
    let mut put = api.get_scale("api").await?;
    api.patch("api", &plain(), &merge(json!({ "metadata": { "annotations": { "by": "another" } } }))).await?;
    let patch = merge(json!({ "metadata": { "resourceVersion": version(&stale) }, "spec": { "replicas": 9 } }));
    refused_with(api.patch_scale("api", &plain(), &patch).await, 409, "Conflict", STALE)?;
    put.spec.get_or_insert_default().replicas = Some(9);
    refused_with(api.replace_scale("api", &PostParams::default(), &put).await, 409, "Conflict", STALE)?;
    ensure!(kube.replicas("stale-scale", "api").await? == 1, "a refused write changed something");
    put.metadata.resource_version = None;
    api.replace_scale("api", &PostParams::default(), &put).await?;
    ensure!(kube.replicas("stale-scale", "api").await? == 9, "without a version it is unconditional");
    Ok(())
}

pub(super) async fn a_stale_patch_is_a_conflict(kube: &Kube) -> Result<()> {
    let (api, stale) = settled(kube, "stale-patch", 1).await?;
    let epoch = |version: &str, epoch: &str| json!({ "metadata": { "resourceVersion": version, "annotations": { EPOCH: epoch } } });
    api.patch("api", &plain(), &merge(epoch(version(&stale), "7"))).await?;
    refused_with(api.patch("api", &plain(), &merge(epoch(version(&stale), "6"))).await, 409, "Conflict", STALE)?;
    let strategic = Patch::Strategic(epoch(version(&stale), "6"));
    refused_with(api.patch("api", &plain(), &strategic).await, 409, "Conflict", STALE)?;
    let now = api.get("api").await?;
    ensure!(now.metadata.annotations.unwrap_or_default().get(EPOCH).map(String::as_str) == Some("7"));
    let mut whole = stale.clone();
    whole.spec.get_or_insert_default().replicas = Some(4);
    refused_with(api.replace("api", &PostParams::default(), &whole).await, 409, "Conflict", STALE)?;
    // The controller has yet to note the new annotation, and that is a write too.
    whole.metadata.resource_version = settle(&api, 1).await?.metadata.resource_version;
    api.replace("api", &PostParams::default(), &whole).await?;
    ensure!(kube.replicas("stale-patch", "api").await? == 4);
    Ok(())
}

pub(super) async fn one_patch_scales_and_marks_the_epoch(kube: &Kube) -> Result<()> {
    let (api, before) = settled(kube, "epoch", 1).await?;
    let patch = merge(json!({
        "metadata": { "resourceVersion": version(&before), "annotations": { EPOCH: "8" } },
        "spec": { "replicas": 3 },
    }));
    let after = api.patch("api", &plain(), &patch).await?;
    ensure!(after.metadata.annotations.clone().unwrap_or_default().get(EPOCH).map(String::as_str) == Some("8"));
    ensure!(after.spec.and_then(|spec| spec.replicas) == Some(3) && after.metadata.generation == Some(2));
    refused_with(api.patch("api", &plain(), &patch).await, 409, "Conflict", STALE)
}

pub(super) async fn an_equal_write_changes_nothing(kube: &Kube) -> Result<()> {
    let (api, before) = settled(kube, "equal", 2).await?;
    let same = merge(json!({ "spec": { "replicas": 2 } }));
    api.patch_scale("api", &plain(), &same).await?;
    api.patch("api", &plain(), &same).await?;
    let after = api.get("api").await?;
    ensure!(after.metadata.generation == before.metadata.generation, "the generation moved");
    ensure!(version(&after) == version(&before), "the version moved");
    Ok(())
}

pub(super) async fn a_negative_scale_is_invalid(kube: &Kube) -> Result<()> {
    let (api, _) = settled(kube, "negative", 1).await?;
    let patch = merge(json!({ "spec": { "replicas": -1 } }));
    let problem = "spec.replicas: Invalid value: -1: must be greater than or equal to 0";
    let message = format!("Scale.autoscaling \"api\" is invalid: {problem}");
    refused_with(api.patch_scale("api", &plain(), &patch).await, 422, "Invalid", &message)?;
    let message = format!("Deployment.apps \"api\" is invalid: {problem}");
    refused_with(api.patch("api", &plain(), &patch).await, 422, "Invalid", &message)
}

pub(super) async fn a_dry_run_changes_nothing(kube: &Kube) -> Result<()> {
    let (api, before) = settled(kube, "dry", 1).await?;
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = merge(json!({ "spec": { "replicas": 6 } }));
    ensure!(api.patch_scale("api", &dry, &patch).await?.spec.and_then(|spec| spec.replicas) == Some(6));
    ensure!(api.patch("api", &dry, &patch).await?.spec.and_then(|spec| spec.replicas) == Some(6));
    ensure!(version(&api.get("api").await?) == version(&before), "a dry run was written");
    let reader: Api<Deployment> = Api::namespaced(kube.client(RESTRICTED_CONTEXT).await?, "dry");
    refused(reader.patch_scale("api", &dry, &patch).await, 403, "Forbidden").context("a dry run is authorized too")?;
    Ok(())
}

pub(super) async fn strategic_merge_keeps_other_containers(kube: &Kube) -> Result<()> {
    let (api, _) = fresh(kube, "strategic", 0).await?;
    let containers = json!([{ "name": "sidecar", "image": "registry.invalid/sidecar:1" }]);
    let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
    let names = |deployment: Deployment| -> Vec<String> {
        let pod = deployment.spec.unwrap_or_default().template.spec.unwrap_or_default();
        let mut names: Vec<String> = pod.containers.into_iter().map(|container| container.name).collect();
        names.sort();
        names
    };
    ensure!(names(api.patch("api", &plain(), &Patch::Strategic(patch.clone())).await?) == ["main", "sidecar"]);
    ensure!(names(api.patch("api", &plain(), &merge(patch)).await?) == ["sidecar"], "a merge patch replaces lists");
    Ok(())
}

pub(super) async fn server_side_apply_creates_and_changes(kube: &Kube) -> Result<()> {
    let (api, _) = fresh(kube, "apply", 0).await?;
    let ours = PatchParams::apply("failoverd");
    let created = api.patch("web", &ours, &Patch::Apply(deployment("web", 2))).await?;
    ensure!(created.metadata.generation == Some(1));
    let changed = api.patch("web", &ours, &Patch::Apply(deployment("web", 3))).await?;
    ensure!(changed.spec.and_then(|spec| spec.replicas) == Some(3));
    Ok(())
}
