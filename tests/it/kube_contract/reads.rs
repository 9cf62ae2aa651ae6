//! Who may look at what, and what they are told.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;

use super::{fresh, merge, plain, refused, refused_with};
use crate::fleet::kube::{BACKUP_CONTEXT, Kube, RESTRICTED_CONTEXT, deployment, pods};

pub(super) async fn answers_version_and_readiness(kube: &Kube) -> Result<()> {
    let client = kube.client(RESTRICTED_CONTEXT).await?;
    let version = client.apiserver_version().await?;
    ensure!(version.git_version.starts_with("v1."), "odd version {version:?}");
    for path in ["/readyz", "/livez"] {
        let request = axum::http::Request::get(path).body(Vec::new())?;
        ensure!(client.request_text(request).await? == "ok", "{path} is not ok");
    }
    let request = axum::http::Request::get("/apis/apps/v1/nonsense").body(Vec::new())?;
    let admin = kube.client(BACKUP_CONTEXT).await?;
    refused(admin.request_text(request).await, 404, "NotFound")?;
    Ok(())
}

pub(super) async fn a_missing_deployment_is_a_404_status(kube: &Kube) -> Result<()> {
    let (api, _) = fresh(kube, "missing", 0).await?;
    let status = refused(api.get("gone").await, 404, "NotFound")?;
    ensure!(status.message == "deployments.apps \"gone\" not found", "message {:?}", status.message);
    let details = status.details.context("no details")?;
    ensure!((details.name.as_str(), details.group.as_str(), details.kind.as_str()) == ("gone", "apps", "deployments"));
    ensure!(api.get_opt("gone").await?.is_none());
    refused(api.get_scale("gone").await, 404, "NotFound")?;
    refused(api.patch("gone", &plain(), &merge(json!({ "spec": { "replicas": 1 } }))).await, 404, "NotFound")?;
    let scale = merge(json!({ "spec": { "replicas": 1 } }));
    refused(api.patch_scale("gone", &plain(), &scale).await, 404, "NotFound")?;
    refused(api.delete("gone", &Default::default()).await, 404, "NotFound")?;
    let nowhere: Api<Deployment> = Api::namespaced(kube.client(BACKUP_CONTEXT).await?, "nowhere");
    let created = nowhere.create(&PostParams::default(), &deployment("api", 1)).await;
    refused_with(created, 404, "NotFound", "namespaces \"nowhere\" not found")?;
    ensure!(
        nowhere.list(&ListParams::default()).await?.items.is_empty(),
        "a namespace that is not there lists as empty"
    );
    Ok(())
}

pub(super) async fn a_wrong_token_is_a_401(kube: &Kube) -> Result<()> {
    use kube::config::{KubeConfigOptions, Kubeconfig};
    let mut file = Kubeconfig::read_from(kube.kubeconfig())?;
    for user in &mut file.auth_infos {
        let text = serde_json::to_string(&json!({ "token": "expired" }))?;
        user.auth_info = Some(serde_json::from_str(&text)?);
    }
    let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    let api: Api<Deployment> = Api::namespaced(kube::Client::try_from(config)?, "default");
    refused_with(api.get("api").await, 401, "Unauthorized", "Unauthorized")
}

pub(super) async fn the_reader_may_look_and_not_touch(kube: &Kube) -> Result<()> {
    fresh(kube, "reader", 1).await?;
    let api: Api<Deployment> = Api::namespaced(kube.client(RESTRICTED_CONTEXT).await?, "reader");
    api.get("api").await?;
    api.get_scale("api").await?;
    api.list(&ListParams::default()).await?;
    pods(kube.client(RESTRICTED_CONTEXT).await?, "reader", "api").await?;
    let patch = merge(json!({ "spec": { "replicas": 2 } }));
    let message = |verb: &str, resource: &str| {
        format!(
            "deployments.apps \"api\" is forbidden: User \"failoverd-reader\" cannot {verb} resource \"{resource}\" \
             in API group \"apps\" in the namespace \"reader\""
        )
    };
    let scaled = api.patch_scale("api", &plain(), &patch).await;
    refused_with(scaled, 403, "Forbidden", &message("patch", "deployments/scale"))?;
    refused_with(api.patch("api", &plain(), &patch).await, 403, "Forbidden", &message("patch", "deployments"))?;
    let deleted = api.delete("api", &Default::default()).await;
    refused_with(deleted, 403, "Forbidden", &message("delete", "deployments"))?;
    // Without the right to see it, even a missing object is forbidden rather than not found.
    let namespaces: Api<Namespace> = Api::all(kube.client(RESTRICTED_CONTEXT).await?);
    refused(namespaces.get("not-there").await, 403, "Forbidden")?;
    ensure!(kube.replicas("reader", "api").await? == 1);
    Ok(())
}

pub(super) async fn access_reviews_tell_the_truth(kube: &Kube) -> Result<()> {
    for (context, verb, subresource, expected) in [
        (BACKUP_CONTEXT, "patch", Some("scale"), true),
        (BACKUP_CONTEXT, "patch", None, true),
        (RESTRICTED_CONTEXT, "get", Some("scale"), true),
        (RESTRICTED_CONTEXT, "watch", None, true),
        (RESTRICTED_CONTEXT, "patch", Some("scale"), false),
        (RESTRICTED_CONTEXT, "patch", None, false),
    ] {
        let api: Api<SelfSubjectAccessReview> = Api::all(kube.client(context).await?);
        let review = serde_json::from_value(json!({ "metadata": {}, "spec": { "resourceAttributes": {
            "namespace": "review", "verb": verb, "group": "apps", "resource": "deployments", "subresource": subresource,
        } } }))?;
        let answer = api.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.context("no status")?.allowed;
        ensure!(allowed == expected, "{context} {verb} {subresource:?}: allowed is {allowed}");
    }
    Ok(())
}
