//! `kubernetes.apply`.

use std::path::Path;

use anyhow::{Result, ensure};
use failoverd::model::{Applied, Observed};
use serde_json::{Value, json};

use super::super::{CANARY, Subject, accepted, done, impossible, refused};
use super::{cut_off_after, kubectl, not_yet, reader, rolled_out, shows, subject};
use crate::fleet::kube::Kube;

const APPLY: &str = "kubernetes.apply";

/// Named so that only the order of kinds can make it work.
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n";
const CRD: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: widgets.shop.example }
spec:
  group: shop.example
  scope: Namespaced
  names: { kind: Widget, plural: widgets }
  versions:
  - name: v1
    served: true
    storage: true
    schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
";
const APP: &str = "
apiVersion: shop.example/v1
kind: Widget
metadata: { name: w, namespace: shop }
size: 3
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: api, namespace: shop, labels: { app: api } }
spec:
  replicas: 1
  selector: { matchLabels: { app: api } }
  template:
    metadata: { labels: { app: api } }
    spec:
      containers:
      - name: main
        image: registry.invalid/main:1
        resources: { requests: { cpu: 1000m, memory: 1024Mi } }
      volumes:
      - name: v
        configMap: { name: settings, defaultMode: 0644 }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: settings }
data: { mode: blue }
";

fn apply(kube: &Kube, path: &Path) -> Subject {
    apply_with(kube, path, json!({}))
}

fn apply_with(kube: &Kube, path: &Path, extra: Value) -> Subject {
    let mut params = json!({ "path": path, "namespace": "shop" });
    params.as_object_mut().expect("a table").extend(extra.as_object().expect("a table").clone());
    subject(kube, APPLY, "step", params)
}

#[tokio::test]
async fn against_the_real_api_server() -> Result<()> {
    let kube = Kube::real().await?;
    let folder = tempfile::tempdir()?;
    for (name, text) in [("1-app.yaml", APP), ("2-crd.yml", CRD), ("3-namespace.yaml", NAMESPACE)] {
        std::fs::write(folder.path().join(name), text)?;
    }
    applies_a_folder(&kube, folder.path()).await?;
    keeps_what_others_hold(&kube, folder.path()).await?;
    refuses(&kube).await
}

async fn applies_a_folder(kube: &Kube, folder: &Path) -> Result<()> {
    let mut whole = apply(kube, folder);
    let Observed::NotDone { evidence, .. } = whole.observe().await else { panic!("nothing is there") };
    ensure!(evidence.contains("5 of 5"), "{evidence}");
    // Cut off after the namespace, the definition and the widget.
    cut_off_after(&mut whole, 3).await?;
    let Observed::NotDone { evidence, .. } = whole.observe().await else { panic!("two are left") };
    ensure!(evidence.contains("2 of 5") && evidence.contains("Deployment shop/api"), "{evidence}");
    not_yet(whole.verify_once().await)?;
    whole.run().await?;
    rolled_out(kube, "shop", "api").await?;
    done(whole.observe().await)?;
    assert_eq!(shows(kube, "-n shop get widgets w", ".size").await?, "3");
    assert_eq!(shows(kube, "-n shop get configmap settings", ".data.mode").await?, "blue");
    let mode =
        shows(kube, "-n shop get deployment api", ".spec.template.spec.volumes[0].configMap.defaultMode").await?;
    assert_eq!(mode, "420", "0644 is octal");
    let epoch = ".metadata.annotations.failoverd/epoch";
    assert_eq!(shows(kube, "-n shop get deployment api", epoch).await?, "5");
    let again = shows(kube, "-n shop get deployment api", ".metadata.generation").await?;
    accepted(whole.apply().await)?;
    assert_eq!(shows(kube, "-n shop get deployment api", ".metadata.generation").await?, again, "it stays as it is");

    // Somebody changes one of them.
    kubectl(kube, r#"-n shop patch configmap settings --field-manager=failoverd -p {"data":{"mode":"red"}}"#).await?;
    let Observed::NotDone { evidence, .. } = apply_with(kube, folder, json!({ "force": true })).observe().await else {
        panic!("one differs")
    };
    ensure!(evidence.contains("1 of 5") && evidence.contains("ConfigMap settings"), "{evidence}");
    ensure!(impossible(apply(kube, folder).at_epoch(4).observe().await)?.contains("fenced by epoch 5"));
    ensure!(refused(apply(kube, folder).at_epoch(4).apply().await, false)?.contains("fenced by epoch 5"));
    Ok(())
}

async fn keeps_what_others_hold(kube: &Kube, folder: &Path) -> Result<()> {
    let reason = impossible(apply(kube, folder).observe().await)?;
    ensure!(reason.contains("force = true") && reason.contains("ConfigMap settings"), "{reason}");
    let reason = refused(apply(kube, folder).apply().await, false)?;
    ensure!(reason.contains("4 of 5 were applied, then") && reason.contains("force = true"), "{reason}");
    let force = apply_with(kube, folder, json!({ "force": true }));
    force.run().await?;
    assert_eq!(shows(kube, "-n shop get configmap settings", ".data.mode").await?, "blue");
    done(force.observe().await)?;
    Ok(())
}

async fn refuses(kube: &Kube) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("a.yaml");
    let said = |text: String| {
        let (kube, file) = (kube, file.clone());
        async move {
            std::fs::write(&file, text)?;
            let observed = impossible(apply(kube, &file).observe().await);
            anyhow::Ok((observed, apply(kube, &file).apply().await))
        }
    };
    let (observed, applied) = said(format!("{NAMESPACE}---\nkind: [{CANARY}\n")).await?;
    ensure!(observed?.contains("a.yaml, document 2 is no valid YAML"));
    refused(applied, false)?;
    let (observed, _) = said("apiVersion: none.example/v1\nkind: None\nmetadata: { name: nothing }\n".into()).await?;
    ensure!(observed?.contains("does not serve None"));
    // What the server says of a Secret may quote it.
    let broken = format!("apiVersion: v1\nkind: Secret\nmetadata: {{ name: s }}\ndata: {{ a: \"{CANARY}!\" }}\n");
    let (_, applied) = said(broken).await?;
    // Which status that is depends on the server's version.
    let (Applied::Refused { reason, .. } | Applied::Unknown { reason }) = applied? else { panic!("it was taken") };
    ensure!(reason.contains("may quote the Secret"), "{reason}");
    let invalid =
        "apiVersion: v1\nkind: Service\nmetadata: { name: s }\nspec: { ports: [{ port: 99999, protocol: TCP }] }\n";
    let (_, applied) = said(invalid.into()).await?;
    ensure!(refused(applied, false)?.contains("Service s (a.yaml, document 1)"));
    std::fs::write(folder.path().join("kustomization.yaml"), "resources: [a.yaml]")?;
    ensure!(impossible(apply(kube, folder.path()).observe().await)?.contains("kubectl kustomize"));
    std::fs::write(&file, NAMESPACE)?;
    let denied = reader(kube, APPLY, json!({ "path": file }));
    ensure!(impossible(denied.observe().await)?.contains("`get` on namespaces is needed"));
    impossible(apply(kube, Path::new("/nonexistent")).observe().await)?;
    Ok(())
}
