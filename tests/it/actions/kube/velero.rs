//! `velero.restore`: the resources are Velero's, and the test plays its controller.

use anyhow::{Result, ensure};
use failoverd::model::Observed;
use serde_json::{Value, json};

use super::super::{accepted, before, done, impossible, refused};
use super::{failed, in_progress, kubectl, kubectl_with, not_yet, outputs, reader, shows, subject};
use crate::fleet::kube::Kube;

const RESTORE: &str = "velero.restore";

/// A custom resource of Velero's, that takes everything.
pub fn definition(kind: &str, plural: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.velero.io") },
        "spec": {
            "group": "velero.io", "scope": "Namespaced", "names": { "kind": kind, "plural": plural },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": {
                "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            } }],
        },
    })
}

/// A Backup as Velero leaves it.
pub async fn backup(kube: &Kube, name: &str, schedule: &str, phase: &str, begun: &str) -> Result<()> {
    let backup = json!({
        "apiVersion": "velero.io/v1", "kind": "Backup",
        "metadata": { "name": name, "namespace": "velero", "labels": { "velero.io/schedule-name": schedule } },
        "spec": {}, "status": { "phase": phase, "startTimestamp": begun },
    });
    kubectl_with(kube, "create -f -", &backup.to_string()).await.map(drop)
}

async fn becomes(kube: &Kube, restore: &str, status: Value) -> Result<()> {
    let patch = json!({ "status": status }).to_string();
    kubectl(kube, &format!("-n velero patch restores.velero.io {restore} --type=merge -p {patch}")).await.map(drop)
}

#[tokio::test]
async fn against_the_real_api_server() -> Result<()> {
    let kube = Kube::real().await?;
    let daily = json!({ "schedule": "daily" });
    let restore = |step: &str, params: &Value| subject(&kube, RESTORE, step, params.clone());
    ensure!(impossible(restore("step", &daily).observe().await)?.contains("not installed"));
    for (kind, plural) in [("Backup", "backups"), ("Restore", "restores")] {
        kubectl_with(&kube, "create -f -", &definition(kind, plural).to_string()).await?;
        kubectl(&kube, &format!("wait crd/{plural}.velero.io --for=condition=Established --timeout=30s")).await?;
    }
    kubectl(&kube, "create namespace velero").await?;
    ensure!(impossible(restore("step", &daily).observe().await)?.contains("has 0 Backups"));
    backup(&kube, "daily-3", "daily", "PartiallyFailed", "2026-11-03T03:00:00Z").await?;
    ensure!(impossible(restore("step", &daily).observe().await)?.contains("none of them is Completed"));
    refused(restore("step", &daily).apply().await, false)?;
    backup(&kube, "daily-2", "daily", "Completed", "2026-11-02T03:00:00Z").await?;
    backup(&kube, "daily-1", "daily", "Completed", "2026-11-01T03:00:00Z").await?;
    backup(&kube, "weekly-9", "weekly", "Completed", "2026-11-09T03:00:00Z").await?;

    // The newest that is whole, once.
    let first = restore("step", &daily);
    let Observed::NotDone { evidence, .. } = first.observe().await else { panic!("it is not there") };
    ensure!(evidence.contains("daily-2"), "{evidence}");
    not_yet(first.verify_once().await)?;
    accepted(first.apply().await)?;
    ensure!(in_progress(first.observe().await)?.contains("daily-2 is New"));
    backup(&kube, "daily-4", "daily", "Completed", "2026-11-04T03:00:00Z").await?;
    accepted(restore("step", &daily).apply().await)?;
    let name = shows(&kube, "-n velero get restores.velero.io", ".items[*].metadata.name").await?;
    ensure!(!name.contains(' '), "made once: {name}");
    let from = shows(&kube, &format!("-n velero get restores.velero.io {name}"), ".spec.backupName").await?;
    assert_eq!(from, "daily-2");
    let progress = json!({ "itemsRestored": 3, "totalItems": 7 });
    becomes(&kube, &name, json!({ "phase": "InProgress", "progress": progress })).await?;
    ensure!(not_yet(first.verify_once().await)?.contains("3 of 7"));
    becomes(&kube, &name, json!({ "phase": "Completed" })).await?;
    first.verify().await?;
    let told = outputs(first.verify_once().await)?;
    assert_eq!((told["backup"].as_str(), told["restore"].as_str()), ("daily-2", name.as_str()));
    done(first.observe().await)?;

    // One by name, of some namespaces, which fails in part.
    let named = json!({ "backup": "weekly-9", "include_namespaces": ["shop"] });
    let second = restore("second", &named);
    accepted(second.apply().await)?;
    let items = format!("-n velero get restores.velero.io --field-selector metadata.name!={name}");
    let name = shows(&kube, &items, ".items[0].metadata.name").await?;
    assert_eq!(shows(&kube, &items, ".items[0].spec.includedNamespaces[0]").await?, "shop");
    becomes(&kube, &name, json!({ "phase": "PartiallyFailed", "errors": 2, "warnings": 5 })).await?;
    let reason = failed(second.verify_once().await)?;
    ensure!(reason.contains("PartiallyFailed with 2 errors and 5 warnings"), "{reason}");
    ensure!(impossible(second.observe().await)?.contains("2 errors"));
    becomes(&kube, &name, json!({ "phase": "FailedValidation", "validationErrors": ["no-such-storage"] })).await?;
    ensure!(failed(second.verify_once().await)?.contains("no-such-storage"));

    impossible(restore("third", &json!({ "backup": "none" })).observe().await)?;
    ensure!(impossible(restore("third", &json!({ "backup": "daily-3" })).observe().await)?.contains("PartiallyFailed"));
    ensure!(impossible(reader(&kube, RESTORE, daily).observe().await)?.contains("restores.velero.io is needed"));
    before(restore("fourth", &named).observe().await)?;
    Ok(())
}
