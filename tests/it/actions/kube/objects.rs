//! `kubernetes.secret`, `wait`, `pods_ready`, `endpoints_ready`, `cordon`.

use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::model::Observed;
use serde_json::{Value, json};

use super::super::{CANARY, accepted, before, done, impossible, refused, secret};
use super::{becomes, cut_off_after, deployed, in_progress, kubectl, kubectl_with, not_yet, reader, shows, subject};
use crate::fleet::kube::Kube;

#[tokio::test]
async fn against_the_real_api_server() -> Result<()> {
    let kube = Kube::real().await?;
    writes_a_secret(&kube).await?;
    waits_for_objects(&kube).await?;
    waits_for_pods(&kube).await?;
    waits_for_endpoints(&kube).await?;
    cordons_nodes(&kube).await
}

async fn writes_a_secret(kube: &Kube) -> Result<()> {
    const SECRET: &str = "kubernetes.secret";
    kubectl(kube, "create namespace hidden").await?;
    let (_file, password) = secret(CANARY)?;
    let params = json!({ "secret": "hidden/db", "data": { "host": "new.db", "password": password } });
    // Created where it is missing.
    let write = subject(kube, SECRET, "step", params.clone());
    let Observed::NotDone { evidence, before } = write.observe().await else { panic!("it is missing") };
    ensure!(evidence.contains("not there") && before.is_null(), "{evidence}");
    accepted(write.apply().await)?;
    done(write.observe().await)?;
    accepted(write.apply().await)?;
    assert_eq!(write.permits.asked(), 1);
    let read = kubectl(kube, "-n hidden get secret db -o go-template={{.data.password|base64decode}}").await?;
    assert_eq!(read, CANARY);

    // Only these keys are touched.
    kubectl(kube, "-n hidden create secret generic old --from-literal=host=old --from-literal=port=5432").await?;
    let mut other = params.clone();
    other["secret"] = json!("hidden/old");
    let write = subject(kube, SECRET, "step", other.clone());
    let Observed::NotDone { evidence, .. } = write.observe().await else { panic!("it differs") };
    ensure!(evidence.contains("host, password"), "{evidence}");
    write.run().await?;
    let read = kubectl(
        kube,
        "-n hidden get secret old -o go-template={{.data.host|base64decode}}:{{.data.port|base64decode}}",
    );
    assert_eq!(read.await?, "new.db:5432");
    assert_eq!(shows(kube, "-n hidden get secret old", ".metadata.annotations.failoverd/epoch").await?, "5");
    ensure!(impossible(subject(kube, SECRET, "step", other.clone()).at_epoch(4).observe().await)?.contains("fenced"));

    kubectl(kube, "-n hidden create secret generic fixed --from-literal=host=old").await?;
    kubectl(kube, r#"-n hidden patch secret fixed -p {"immutable":true}"#).await?;
    other["secret"] = json!("hidden/fixed");
    let fixed = subject(kube, SECRET, "step", other.clone());
    ensure!(impossible(fixed.observe().await)?.contains("immutable"));
    // What the server says to the value is not passed on.
    refused(fixed.apply().await, false)?;
    other["secret"] = json!("nowhere/db");
    let reason = refused(subject(kube, SECRET, "step", other.clone()).apply().await, false)?;
    ensure!(reason.contains("nowhere"), "{reason}");
    ensure!(impossible(reader(kube, SECRET, other.clone()).observe().await)?.contains("`get` on secrets is needed"));
    other["data"]["password"] = json!({ "file": "/nonexistent" });
    ensure!(impossible(subject(kube, SECRET, "step", other).observe().await)?.contains("/nonexistent"));
    Ok(())
}

async fn waits_for_objects(kube: &Kube) -> Result<()> {
    let wait = |params: Value| subject(kube, "kubernetes.wait", "step", params);
    let available = json!({ "resource": "deployment/api", "namespace": "wait", "condition": "Available" });
    let gone = wait(available.clone());
    ensure!(in_progress(gone.observe().await)?.contains("not there"));
    kube.set_ready_delay(Duration::MAX);
    kube.create_deployment("wait", "api", 1).await?;
    not_yet(gone.verify_once().await)?;
    refused(gone.apply().await, false)?;
    kube.set_ready_delay(Duration::ZERO);
    gone.verify().await?;
    done(gone.observe().await)?;
    let value = |pointer: &str, equals: Value| {
        wait(json!({ "resource": "Deployment/api", "namespace": "wait", "pointer": pointer, "equals": equals }))
    };
    done(value("/status/readyReplicas", json!(1)).observe().await)?;
    done(value("/metadata/labels/app", json!("api")).observe().await)?;
    ensure!(in_progress(value("/status/readyReplicas", json!(2)).observe().await)?.contains("not as wanted"));
    in_progress(value("/status/nothing", json!(2)).observe().await)?;
    let not = wait(json!({ "resource": "deployment/api", "namespace": "wait", "condition": "Available=False" }));
    in_progress(not.observe().await)?;
    // A kind that is looked up, also without namespaces, and one that nobody serves.
    let found = json!({ "resource": "flowschema/exempt", "api_version": "flowcontrol.apiserver.k8s.io/v1beta1", "condition": "Dangling=False" });
    wait(found).verify().await?;
    let unknown = json!({ "resource": "certificate/x", "namespace": "wait", "api_version": "cert-manager.io/v1", "condition": "Ready" });
    ensure!(in_progress(wait(unknown).observe().await)?.contains("not served"));
    let denied = json!({ "resource": "secret/x", "namespace": "wait", "condition": "Ready" });
    ensure!(impossible(reader(kube, "kubernetes.wait", denied).observe().await)?.contains("`get` on secrets"));
    Ok(())
}

async fn waits_for_pods(kube: &Kube) -> Result<()> {
    let ready = |params: Value| subject(kube, "kubernetes.pods_ready", "step", params);
    ensure!(in_progress(ready(json!({ "namespace": "pods" })).observe().await)?.contains("0 pods"), "an empty set");
    deployed(kube, "pods", "good", 2).await?;
    done(ready(json!({ "namespace": "pods" })).observe().await)?;
    in_progress(ready(json!({ "namespace": "pods", "at_least": 3 })).observe().await)?;
    kube.set_ready_delay(Duration::MAX);
    kube.create_deployment("pods", "late", 1).await?;
    let all = ready(json!({ "namespace": "pods" }));
    loop {
        // Its pod takes a moment.
        let evidence = match all.observe().await {
            Observed::InProgress { evidence } => evidence,
            _ => continue,
        };
        ensure!(evidence.contains("late-") && evidence.contains("Pending"), "{evidence}");
        break;
    }
    done(ready(json!({ "namespace": "pods", "selector": "app=good" })).observe().await)?;
    kube.set_ready_delay(Duration::ZERO);
    all.verify().await?;
    // A pod that has succeeded does not count, one that has failed does.
    for (name, phase) in [("done", "Succeeded"), ("broken", "Failed")] {
        kubectl(kube, &format!("-n pods run {name} --image=registry.invalid/x:1 --restart=Never")).await?;
        // The one who plays kubelet may write before us, and not after it.
        kubectl(kube, &format!("-n pods wait pod/{name} --for=condition=Ready --timeout=30s")).await?;
        becomes(kube, "pods", name, json!({ "phase": phase, "conditions": [] })).await?;
        match phase {
            "Succeeded" => drop(done(all.observe().await)?),
            _ => ensure!(in_progress(all.observe().await)?.contains("broken (Failed)")),
        }
    }
    Ok(())
}

async fn waits_for_endpoints(kube: &Kube) -> Result<()> {
    let ready = |params: Value| subject(kube, "kubernetes.endpoints_ready", "step", params);
    let all = ready(json!({ "namespace": "ends" }));
    ensure!(in_progress(all.observe().await)?.contains("no Service"), "an empty set");
    kubectl(kube, "create namespace ends").await?;
    kubectl(kube, "-n ends create service clusterip api --tcp=80").await?;
    kubectl(kube, "-n ends create service clusterip web --tcp=80").await?;
    kubectl(kube, "-n ends create service externalname away --external-name a.example").await?;
    ensure!(in_progress(all.observe().await)?.contains("2 of 2"));
    // No endpoints controller runs here: what it would write.
    let endpoints = |name: &str, key: &str| {
        json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": name, "namespace": "ends" },
                "subsets": [{ key: [{ "ip": "192.0.2.1" }], "ports": [{ "port": 80 }] }] })
        .to_string()
    };
    kubectl_with(kube, "apply -f -", &endpoints("api", "addresses")).await?;
    kubectl_with(kube, "apply -f -", &endpoints("web", "notReadyAddresses")).await?;
    done(ready(json!({ "service": "ends/api" })).observe().await)?;
    in_progress(ready(json!({ "service": "ends/web" })).observe().await)?;
    in_progress(ready(json!({ "service": "ends/none" })).observe().await)?;
    ensure!(in_progress(all.observe().await)?.contains("1 of 2 Services have no ready endpoint: web"));
    kubectl_with(kube, "apply -f -", &endpoints("web", "addresses")).await?;
    all.verify().await?;
    Ok(())
}

async fn cordons_nodes(kube: &Kube) -> Result<()> {
    const CORDON: &str = "kubernetes.cordon";
    for name in ["n1", "n2", "n3"] {
        let node =
            json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": { "zone": "a" } } });
        kubectl_with(kube, "create -f -", &node.to_string()).await?;
    }
    kubectl(kube, "cordon n3").await?;
    let all = json!({ "selector": "zone=a" });
    let stood = before(subject(kube, CORDON, "step", all.clone()).observe().await)?;
    assert_eq!(stood, json!({ "nodes": ["n1", "n2"] }));
    let mut cordon = subject(kube, CORDON, "step", all.clone());
    cut_off_after(&mut cordon, 1).await?;
    before(cordon.observe().await)?;
    not_yet(cordon.verify_once().await)?;
    cordon.run().await?;
    assert_eq!(cordon.permits.asked(), 1, "the first one stands");
    let unschedulable = || shows(kube, "get nodes", ".items[*].spec.unschedulable");
    assert_eq!(unschedulable().await?, "true true true");
    done(subject(kube, CORDON, "step", json!({ "nodes": ["n1", "n3"] })).observe().await)?;
    // Undone are only those that took pods before.
    accepted(cordon.compensate(&stood).await)?;
    assert_eq!(unschedulable().await?, "true", "n3 alone");
    accepted(cordon.compensate(&stood).await)?;
    refused(cordon.compensate(&Value::Null).await, false)?;
    ensure!(
        impossible(subject(kube, CORDON, "step", json!({ "selector": "zone=b" })).observe().await)?.contains("no node")
    );
    impossible(subject(kube, CORDON, "step", json!({ "nodes": ["n9"] })).observe().await)?;
    ensure!(impossible(reader(kube, CORDON, all).observe().await)?.contains("`list` on nodes is needed"));
    Ok(())
}
