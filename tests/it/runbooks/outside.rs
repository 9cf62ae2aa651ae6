//! What prepares the counterparts of a runbook, and what looks at them afterwards: psql, pg_dump,
//! kubectl and the AWS CLI, and stand-ins for the controllers that no test can have.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::stage::Stage;
use crate::fleet::child::command;
use crate::fleet::kube::{BACKUP_CONTEXT, Kube};
use crate::fleet::moto::Moto;
use crate::fleet::postgres::bin_dir;
use crate::fleet::venv_bin;

/// How often a stand-in looks for work.
const LOOK: Duration = Duration::from_millis(50);

/// What `psql` prints.
pub fn psql(url: &str, statement: &str) -> Result<String> {
    let mut psql = command(bin_dir().join("psql"));
    let output = psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]).arg(url).output()?;
    ensure!(output.status.success(), "psql: {statement}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The same server, another database.
pub fn database(url: &str, name: &str) -> String {
    url.replace("/postgres?", &format!("/{name}?"))
}

/// What `redis-cli` prints.
pub fn redis_cli(url: &str, words: &[&str]) -> Result<String> {
    let output = command("redis-cli").args(["--no-auth-warning", "-u", url]).args(words).output()?;
    ensure!(output.status.success(), "redis-cli: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A dump of a database, as a backup in S3.
pub async fn backed_up(moto: &Moto, url: &str, region: &str, bucket: &str, key: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    let mut pg_dump = command(bin_dir().join("pg_dump"));
    let output = pg_dump.args(["-F", "custom", "-f"]).arg(file.path()).args(["-d", url]).output()?;
    ensure!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
    stored(moto, file.path(), region, bucket, key).await
}

/// A file as an object in S3.
pub async fn stored(moto: &Moto, file: &Path, region: &str, bucket: &str, key: &str) -> Result<()> {
    let place = format!("LocationConstraint={region}");
    let mut create = vec!["s3api", "create-bucket", "--bucket", bucket];
    if region != "us-east-1" {
        create.extend(["--create-bucket-configuration", &place]);
    }
    moto.cli(region, &create).await?;
    let body = file.display().to_string();
    moto.cli(region, &["s3api", "put-object", "--bucket", bucket, "--key", key, "--body", &body]).await.map(drop)
}

/// A script of the example's, in the place where it stands there.
pub fn script(stage: &Stage, path: &str, text: &str) -> Result<PathBuf> {
    let own = stage.file(path, text)?;
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755))?;
    Ok(own)
}

/// The AWS CLI as a script that reaches the API of the test: a program that failoverd starts has none
/// of its environment.
pub fn aws_cli(moto: &Moto) -> Result<String> {
    let mut text = "#!/bin/sh\nexport AWS_MAX_ATTEMPTS=1 AWS_PAGER=\n".to_owned();
    for (name, value) in moto.env() {
        text += &format!("export {name}='{value}'\n");
    }
    let (aws, endpoint) = (venv_bin("aws")?, moto.endpoint());
    Ok(text + &format!("exec '{}' --endpoint-url '{endpoint}' \"$@\"\n", aws.display()))
}

/// What kubectl prints; `input` is on its standard input.
pub async fn kubectl(kube: &Kube, arguments: &str, input: &str) -> Result<String> {
    let mut child = tokio::process::Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(kube.kubeconfig())
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "kubectl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What kubectl shows at a JSON path.
pub async fn shows(kube: &Kube, arguments: &str, path: &str) -> Result<String> {
    kubectl(kube, &format!("{arguments} -o jsonpath={{{path}}}"), "").await
}

/// A key of a Secret, as the pods read it.
pub async fn secret(kube: &Kube, namespace: &str, name: &str, key: &str) -> Result<String> {
    let template = format!("-n {namespace} get secret {name} -o go-template={{{{.data.{key}|base64decode}}}}");
    kubectl(kube, &template, "").await
}

/// The kubeconfig of a server under another context's name, for programs that read one themselves.
pub fn kubeconfig(kube: &Kube, context: &str) -> Result<String> {
    Ok(std::fs::read_to_string(kube.kubeconfig())?.replace(BACKUP_CONTEXT, context))
}

/// A Service with an address behind it; no controller of the test would write that.
pub async fn service(kube: &Kube, namespace: &str, name: &str) -> Result<()> {
    let metadata = json!({ "name": name, "namespace": namespace });
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": { "selector": { "app": name }, "ports": [{ "port": 80, "protocol": "TCP" }] } });
    let endpoints = json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
        "subsets": [{ "addresses": [{ "ip": "192.0.2.1" }], "ports": [{ "port": 80 }] }] });
    let both = json!({ "apiVersion": "v1", "kind": "List", "items": [service, endpoints] });
    kubectl(kube, "apply -f -", &both.to_string()).await.map(drop)
}

/// A node that is Ready. No kubelet and no controller looks after it.
pub async fn node(kube: &Kube, name: &str, labels: Value) -> Result<()> {
    let node =
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels } }).to_string();
    kubectl(kube, "create -f -", &node).await?;
    let api: Api<Node> = Api::all(kube.client(BACKUP_CONTEXT).await?);
    let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady",
        "message": "of the test", "lastHeartbeatTime": null, "lastTransitionTime": null }] } });
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(ready)).await?;
    Ok(())
}

/// Work that goes on beside the test, until it is dropped.
pub struct Beside(tokio::task::JoinHandle<()>);

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn velero_kind(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "velero.io".into(),
        version: "v1".into(),
        api_version: "velero.io/v1".into(),
        kind: kind.into(),
        plural: plural.into(),
    }
}

/// Velero's resources, and a stand-in for its controller: each Restore completes, and restores nothing.
/// Velero itself cannot run here.
pub async fn velero(kube: &Kube) -> Result<Beside> {
    for (kind, plural) in [("Backup", "backups"), ("Restore", "restores")] {
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.velero.io") },
            "spec": {
                "group": "velero.io", "scope": "Namespaced", "names": { "kind": kind, "plural": plural },
                "versions": [{ "name": "v1", "served": true, "storage": true, "schema": {
                    "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                } }],
            },
        });
        kubectl(kube, "create -f -", &definition.to_string()).await?;
        kubectl(kube, &format!("wait crd/{plural}.velero.io --for=condition=Established --timeout=30s"), "").await?;
    }
    kubectl(kube, "create namespace velero", "").await?;
    let client = kube.client(BACKUP_CONTEXT).await?;
    let restores: Api<DynamicObject> = Api::namespaced_with(client, "velero", &velero_kind("Restore", "restores"));
    Ok(Beside(tokio::spawn(async move {
        loop {
            // What cannot be read or written now can be at the next look.
            let found = restores.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
            for restore in found.iter().filter(|restore| restore.data.pointer("/status/phase").is_none()) {
                let done = Patch::Merge(json!({ "status": { "phase": "Completed" } }));
                let name = restore.metadata.name.as_deref().unwrap_or_default();
                let _ = restores.patch(name, &PatchParams::default(), &done).await;
            }
            tokio::time::sleep(LOOK).await;
        }
    })))
}

/// A Backup of a schedule.
pub async fn velero_backup(kube: &Kube, name: &str, schedule: &str, phase: &str, begun: &str) -> Result<()> {
    let backup = json!({
        "apiVersion": "velero.io/v1", "kind": "Backup",
        "metadata": { "name": name, "namespace": "velero", "labels": { "velero.io/schedule-name": schedule } },
        "spec": {}, "status": { "phase": phase, "startTimestamp": begun },
    });
    kubectl(kube, "create -f -", &backup.to_string()).await.map(drop)
}

/// The Backups that were restored, sorted.
pub async fn restored(kube: &Kube) -> Result<Vec<String>> {
    let names = shows(kube, "-n velero get restores.velero.io", ".items[*].spec.backupName").await?;
    let mut names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// A CronJob, and a stand-in for the container of its Jobs: `work` is what it does, and it succeeds.
pub async fn cron_job(
    kube: &Kube,
    namespace: &str,
    name: &str,
    work: impl Fn() -> Result<()> + Send + 'static,
) -> Result<Beside> {
    // 1.20 serves CronJobs as a beta only; the step finds that out by itself.
    let cron_job = json!({
        "apiVersion": "batch/v1beta1", "kind": "CronJob", "metadata": { "name": name, "namespace": namespace },
        "spec": { "schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": { "spec": {
            "backoffLimit": 0, "template": { "spec": {
                "restartPolicy": "Never", "containers": [{ "name": "main", "image": "registry.invalid/x:1" }],
            } } } } },
    });
    kubectl(kube, "create -f -", &cron_job.to_string()).await?;
    let pods: Api<Pod> = Api::namespaced(kube.client(BACKUP_CONTEXT).await?, namespace);
    Ok(Beside(tokio::spawn(async move {
        loop {
            let of_jobs = ListParams::default().labels("job-name").fields("status.phase=Running");
            for pod in pods.list(&of_jobs).await.map(|list| list.items).unwrap_or_default() {
                let phase = if work().is_ok() { "Succeeded" } else { "Failed" };
                let done = Patch::Merge(json!({ "status": { "phase": phase } }));
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let _ = pods.patch_status(name, &PatchParams::default(), &done).await;
            }
            tokio::time::sleep(LOOK).await;
        }
    })))
}

/// The first thing that is told as JSON at a place, of each of these requests.
pub fn told(app: &crate::fleet::http_app::LocalApp, key: &str) -> Result<Vec<String>> {
    let seen = app.seen();
    let bodies = seen.iter().filter(|seen| !seen.body.is_empty());
    bodies
        .map(|seen| {
            let body: Value = serde_json::from_str(&seen.body)?;
            Ok(body[key].as_str().with_context(|| format!("no {key} in {body}"))?.to_owned())
        })
        .collect()
}
