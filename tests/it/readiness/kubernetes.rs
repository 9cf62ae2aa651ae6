//! The real API server.

use std::sync::Arc;

use anyhow::{Result, ensure};
use failoverd::model::Aspect;
use k8s_openapi::api::core::v1::ResourceQuota;

use super::{is, look, look_again};
use crate::actions::clients;
use crate::actions::kube::kubectl;
use crate::fleet::kube::{BACKUP_CONTEXT, Kube, RESTRICTED_CONTEXT};

#[tokio::test]
async fn a_deployment_its_quota_and_our_rights_are_looked_at() -> Result<()> {
    let kube = Kube::real().await?;
    let clients = Arc::new(clients());
    kube.create_deployment("ready", "api", 2).await?;
    kube.wait_ready("ready", "api", 2, crate::actions::SOON).await?;
    let step = |context: &str, deployment: &str, replicas: u32| {
        let file = kube.kubeconfig().display();
        format!(
            r#"scale.kubernetes.scale = {{ kubeconfig = "{file}", context = "{context}", deployment = "{deployment}", replicas = {replicas} }}"#
        )
    };
    let before = kubectl(&kube, "-n ready get deployment api -o jsonpath={.metadata.generation}").await?;
    let good = look(&step(BACKUP_CONTEXT, "ready/api", 5), "", &clients).await?;
    ensure!(good.verdict.name() == "ready", "{good:#?}");
    is(&good, Aspect::Permitted, "patch deployments.apps in ready", "ready", "")?;
    is(&good, Aspect::Capacity, "quota of ready", "ready", "")?;

    let found = look(&step(BACKUP_CONTEXT, "ready/apo", 5), "", &clients).await?;
    is(&found, Aspect::Exists, "ready/apo", "not_ready", "NotFound")?;
    let found = look(&step(RESTRICTED_CONTEXT, "ready/api", 5), "", &clients).await?;
    is(&found, Aspect::Permitted, "get deployments.apps in ready", "ready", "")?;
    is(&found, Aspect::Permitted, "patch deployments.apps in ready", "not_ready", "")?;
    is(&found, Aspect::Capacity, "quota of ready", "unknown", "resourcequotas")?;

    kubectl(&kube, "-n ready create quota small --hard=pods=4").await?;
    let found = look(&step(BACKUP_CONTEXT, "ready/api", 5), "", &clients).await?;
    is(&found, Aspect::Capacity, "quota of ready", "unknown", "not counted yet")?;
    // The controller that counts does not run here.
    let quotas: ::kube::Api<ResourceQuota> = ::kube::Api::namespaced(kube.client(BACKUP_CONTEXT).await?, "ready");
    let counted = serde_json::json!({ "status": { "hard": { "pods": "4" }, "used": { "pods": "2" } } });
    let patch = ::kube::api::Patch::Merge(counted);
    quotas.patch_status("small", &::kube::api::PatchParams::default(), &patch).await?;
    let found = look(&step(BACKUP_CONTEXT, "ready/api", 5), "", &clients).await?;
    is(&found, Aspect::Capacity, "quota of ready", "not_ready", "2 of 4 are used")?;
    let found = look(&step(BACKUP_CONTEXT, "ready/api", 4), "", &clients).await?;
    is(&found, Aspect::Capacity, "quota of ready", "ready", "")?;
    let after = kubectl(&kube, "-n ready get deployment api -o jsonpath={.metadata.generation}").await?;
    ensure!(before == after, "the Deployment was changed: {before} {after}");

    kubectl(&kube, "-n ready scale deployment api --replicas=3").await?;
    let moved = look_again(&step(BACKUP_CONTEXT, "ready/api", 3), "", &clients, Some(&good)).await?;
    let replicas = moved.drift.iter().find(|drift| drift.fact == "replicas");
    ensure!(replicas.is_some_and(|drift| drift.is.as_deref() == Some("3")), "{:?}", moved.drift);
    Ok(())
}
