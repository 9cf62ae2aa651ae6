//! Kubernetes probes against the real API server.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use failoverd::model::{CauseKind, Health};
use failoverd::ports::Probe;
use failoverd::probes::attempt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

use super::{LONG, SHORT, assert_saw, look, probe};
use crate::actions::kube::{kubectl, kubectl_with, velero};
use crate::fleet::eventually;
use crate::fleet::kube::{ADMIN, BACKUP_CONTEXT, Kube, RESTRICTED_CONTEXT};
use crate::fleet::proxy::{Mode, Proxy};

fn asks(kubeconfig: &Path, kind: &str, more: Value) -> Arc<dyn Probe> {
    let mut config = json!({ "kubeconfig": kubeconfig, "context": BACKUP_CONTEXT });
    config.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
    probe(json!({ kind: config }))
}

fn cluster(kube: &Kube, more: Value) -> Arc<dyn Probe> {
    asks(kube.kubeconfig(), "kubernetes", more)
}

async fn assert_well(probe: &Arc<dyn Probe>) {
    let seen = look(probe).await;
    assert_eq!((seen.health(), seen.cause()), (Health::Up, None), "{seen:?}");
}

async fn eventually_sees(probe: &Arc<dyn Probe>, health: Health, kind: CauseKind) -> Result<String> {
    eventually(LONG, &format!("{health} for {kind}"), async || {
        let seen = look(probe).await;
        ensure!((seen.health(), seen.cause().map(|cause| cause.kind)) == (health, Some(kind)), "{seen:?}");
        Ok(seen.cause().map(|cause| cause.detail.clone()).unwrap_or_default())
    })
    .await
}

async fn scale(kube: &Kube, replicas: i32) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(kube.client(BACKUP_CONTEXT).await?, "shop");
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    api.patch("api", &PatchParams::default(), &patch).await?;
    Ok(())
}

#[tokio::test]
async fn a_deployment_is_what_its_controller_says_real_api_server() -> Result<()> {
    let kube = Kube::real().await?;
    let api = cluster(&kube, json!({ "deployment": "shop/api" }));
    assert_saw(&look(&api).await, Health::Down, CauseKind::NotFound);
    kube.create_deployment("shop", "api", 3).await?;
    kube.wait_ready("shop", "api", 3, LONG).await?;
    eventually(LONG, "the Deployment to be well", async || {
        let seen = look(&api).await;
        ensure!((seen.health(), seen.cause()) == (Health::Up, None), "{seen:?}");
        Ok(())
    })
    .await?;
    // A quarter of them may be missing, says its strategy.
    kube.set_ready_delay(Duration::MAX);
    scale(&kube, 4).await?;
    let text = eventually_sees(&api, Health::Up, CauseKind::Unhealthy).await?;
    assert!(text.contains("3 of 4 replicas of shop/api"), "{text}");
    scale(&kube, 10).await?;
    let text = eventually_sees(&api, Health::Down, CauseKind::Unhealthy).await?;
    assert!(text.contains("3 of 10"), "{text}");
    let few_rights = json!({ "nodes_ready": { "at_least": 1 }, "context": RESTRICTED_CONTEXT });
    let seen = look(&cluster(&kube, few_rights)).await;
    assert_saw(&seen, Health::Unknown, CauseKind::LocalPermission);
    assert!(seen.cause().expect("a cause").detail.contains("`list` on nodes is needed"), "{seen:?}");
    Ok(())
}

async fn node(nodes: &Api<Node>, name: &str, ready: &str) -> Result<()> {
    let zone = if name.ends_with('0') { "a" } else { "b" };
    let node = serde_json::from_value(json!({ "metadata": { "name": name, "labels": { "zone": zone } } }))?;
    nodes.create(&PostParams::default(), &node).await?;
    let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": ready }] } });
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

#[tokio::test]
async fn nodes_are_counted_on_every_page_real_api_server() -> Result<()> {
    let kube = Kube::real().await?;
    let enough = |more: Value| cluster(&kube, json!({ "nodes_ready": more }));
    assert_saw(&look(&enough(json!({ "at_least": 1 }))).await, Health::Down, CauseKind::NotFound);
    let nodes: Api<Node> = Api::all(kube.client(BACKUP_CONTEXT).await?);
    // More than a page of them; those that are not ready come last.
    for number in 0..110 {
        node(&nodes, &format!("node-{number:03}"), if number < 99 { "True" } else { "Unknown" }).await?;
    }
    assert_well(&enough(json!({ "share": 0.9 }))).await;
    let seen = look(&enough(json!({ "share": 0.91 }))).await;
    assert_saw(&seen, Health::Down, CauseKind::Unhealthy);
    assert!(seen.cause().expect("a cause").detail.contains("99 of 110 nodes"), "{seen:?}");
    assert_well(&enough(json!({ "at_least": 99 }))).await;
    assert_saw(&look(&enough(json!({ "at_least": 100 }))).await, Health::Down, CauseKind::Unhealthy);
    assert_well(&enough(json!({ "at_least": 10, "selector": "zone=a" }))).await;
    assert_saw(
        &look(&enough(json!({ "at_least": 11, "selector": "zone=a" }))).await,
        Health::Down,
        CauseKind::Unhealthy,
    );
    assert_saw(&look(&enough(json!({ "at_least": 1, "selector": "zone=c" }))).await, Health::Down, CauseKind::NotFound);
    assert_saw(
        &look(&enough(json!({ "at_least": 1, "selector": "no (selector" }))).await,
        Health::Unknown,
        CauseKind::QueryFailed,
    );
    Ok(())
}

/// The same kubeconfig with something else in it.
fn changed(kube: &Kube, from: &str, to: &str) -> Result<tempfile::NamedTempFile> {
    let text = std::fs::read_to_string(kube.kubeconfig())?;
    ensure!(text.contains(from), "{from} is not in the kubeconfig");
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text.replace(from, to))?;
    Ok(file)
}

#[tokio::test]
async fn only_readyz_is_about_the_api_server_itself_real_api_server() -> Result<()> {
    let kube = Kube::real().await?;
    kube.create_deployment("shop", "api", 1).await?;
    kube.wait_ready("shop", "api", 1, LONG).await?;
    let Kube::Real(real) = &kube else { unreachable!("it is the real one") };
    let port = real.url().rsplit(':').next().context("a port")?.to_owned();
    let proxy = Proxy::to_port(port.parse()?).await?;
    let through = changed(&kube, &port, &proxy.port().to_string())?;
    let ready = asks(through.path(), "kubernetes", json!({ "readyz": true }));
    let api = asks(through.path(), "kubernetes", json!({ "deployment": "shop/api" }));
    assert_well(&ready).await;
    eventually(LONG, "the Deployment to be well", async || {
        let seen = look(&api).await;
        ensure!(seen.cause().is_none(), "{seen:?}");
        Ok(())
    })
    .await?;
    let quick = asks(through.path(), "kubernetes", json!({ "readyz": true, "max_latency": "1us" }));
    assert_saw(&look(&quick).await, Health::Down, CauseKind::Slow);

    // A kept connection that was cut is no outage.
    proxy.set(Mode::Refuse).await?;
    assert_saw(&look(&ready).await, Health::Down, CauseKind::ConnectionRefused);
    assert_saw(&look(&api).await, Health::Unknown, CauseKind::ControlPlane);
    proxy.set(Mode::Pass).await?;
    assert_well(&ready).await;
    assert_well(&api).await;
    proxy.set(Mode::Blackhole).await?;
    assert_saw(&attempt(&*ready, SHORT).await, Health::Down, CauseKind::Timeout);
    assert_saw(&attempt(&*api, SHORT).await, Health::Unknown, CauseKind::ControlPlane);
    proxy.set(Mode::Pass).await?;
    assert_well(&ready).await;

    let wrong = changed(&kube, ADMIN.1, "a-token-of-nobody")?;
    for more in [json!({ "readyz": true }), json!({ "deployment": "shop/api" })] {
        let seen = look(&asks(wrong.path(), "kubernetes", more)).await;
        assert_saw(&seen, Health::Unknown, CauseKind::LocalPermission);
        assert!(!format!("{seen:?}").contains("a-token-of-nobody"), "{seen:?}");
    }
    Ok(())
}

/// A plugin of the kubeconfig that hangs is ours, and one of it is enough.
#[tokio::test]
async fn a_plugin_that_hangs_is_not_the_api_servers_silence() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (started, kubeconfig) = (dir.path().join("started"), dir.path().join("kubeconfig"));
    let script = format!("echo once >> {}; exec sleep 5", started.display());
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
        "command": "sh", "args": ["-c", script],
    });
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": BACKUP_CONTEXT,
        "users": [{ "name": "u", "user": { "exec": exec } }],
        "contexts": [{ "name": BACKUP_CONTEXT, "context": { "cluster": "c", "user": "u" } }],
        "clusters": [{ "name": "c", "cluster": { "server": "http://127.0.0.1:1" } }],
    });
    std::fs::write(&kubeconfig, text.to_string())?;
    let ready = asks(&kubeconfig, "kubernetes", json!({ "readyz": true }));
    for _ in 0..4 {
        assert_saw(&attempt(&*ready, SHORT).await, Health::Unknown, CauseKind::LocalCredentials);
    }
    assert_eq!(std::fs::read_to_string(&started)?, "once\n");
    Ok(())
}

async fn backup(kube: &Kube, name: &str, schedule: &str, phase: &str, age: SignedDuration) -> Result<()> {
    velero::backup(kube, name, schedule, phase, &(Timestamp::now() - age).to_string()).await
}

#[tokio::test]
async fn the_newest_completed_backup_has_to_be_young_real_api_server() -> Result<()> {
    let kube = Kube::real().await?;
    let of = |more: Value| {
        let mut config = json!({ "max_age": "1h" });
        config.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        asks(kube.kubeconfig(), "velero_age", config)
    };
    let daily = of(json!({ "schedule": "daily" }));
    let seen = look(&daily).await;
    assert_saw(&seen, Health::Down, CauseKind::NotFound);
    assert!(seen.cause().expect("a cause").detail.contains("not installed"), "{seen:?}");
    kubectl_with(&kube, "create -f -", &velero::definition("Backup", "backups").to_string()).await?;
    kubectl(&kube, "wait crd/backups.velero.io --for=condition=Established --timeout=30s").await?;
    kubectl(&kube, "create namespace velero").await?;
    let minute = SignedDuration::from_mins(1);
    let text = eventually_sees(&daily, Health::Down, CauseKind::NotFound).await?;
    assert!(text.contains("there are 0 Backups"), "{text}");
    backup(&kube, "daily-1", "daily", "Completed", minute * 120).await?;
    let seen = look(&daily).await;
    assert_saw(&seen, Health::Down, CauseKind::TooOld);
    assert!(seen.cause().expect("a cause").detail.contains("Backup daily-1 is 2h"), "{seen:?}");
    // What did not end well is no backup, and one of another schedule is another one.
    backup(&kube, "daily-2", "daily", "PartiallyFailed", minute).await?;
    backup(&kube, "weekly-1", "weekly", "Completed", minute * 5).await?;
    assert_saw(&look(&daily).await, Health::Down, CauseKind::TooOld);
    assert_well(&of(json!({}))).await;
    assert_well(&of(json!({ "selector": "velero.io/schedule-name in (weekly)" }))).await;
    backup(&kube, "daily-3", "daily", "Completed", minute).await?;
    assert_well(&daily).await;
    assert_saw(&look(&of(json!({ "schedule": "monthly" }))).await, Health::Down, CauseKind::NotFound);
    let few_rights = of(json!({ "context": RESTRICTED_CONTEXT }));
    assert_saw(&look(&few_rights).await, Health::Unknown, CauseKind::LocalPermission);
    Ok(())
}
