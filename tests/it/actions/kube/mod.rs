//! The rest of the Kubernetes family, and Velero, against the real API server; `kubectl` sets up what
//! they find, and looks at what they leave.

mod apply;
mod jobs;
mod objects;
pub mod velero;
mod workloads;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail, ensure};
use failoverd::model::{Epoch, Observed, Outputs, Verified};
use failoverd::ports::{Authority, Denied};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{Subject, clients};
use crate::fleet::kube::{BACKUP_CONTEXT, Kube, RESTRICTED_CONTEXT};

/// The action of `kind`, with the parameters and the step's name; the rights are the admin's.
fn subject(kube: &Kube, kind: &str, step: &str, params: Value) -> Subject {
    subject_as(kube, BACKUP_CONTEXT, kind, step, params)
}

/// The same with few rights.
fn reader(kube: &Kube, kind: &str, params: Value) -> Subject {
    subject_as(kube, RESTRICTED_CONTEXT, kind, "step", params)
}

fn subject_as(kube: &Kube, context: &str, kind: &str, step: &str, mut params: Value) -> Subject {
    params["kubeconfig"] = json!(kube.kubeconfig());
    params["context"] = json!(context);
    let mut subject = Subject::new(kind, params, &Arc::new(clients()));
    subject.context.step = step.into();
    subject
}

/// Plays kubelet: what became of a pod. kubectl can write a status only from 1.24 on.
async fn becomes(kube: &Kube, namespace: &str, pod: &str, status: Value) -> Result<()> {
    let api: ::kube::Api<Pod> = ::kube::Api::namespaced(kube.client(BACKUP_CONTEXT).await?, namespace);
    let patch = ::kube::api::Patch::Merge(json!({ "status": status }));
    api.patch_status(pod, &::kube::api::PatchParams::default(), &patch).await?;
    Ok(())
}

/// What kubectl prints.
pub async fn kubectl(kube: &Kube, arguments: &str) -> Result<String> {
    kubectl_with(kube, arguments, "").await
}

/// The same with something on its standard input.
pub async fn kubectl_with(kube: &Kube, arguments: &str, input: &str) -> Result<String> {
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

/// What kubectl shows at a JSON path: `get deployment api`, `.spec.replicas`.
async fn shows(kube: &Kube, arguments: &str, path: &str) -> Result<String> {
    kubectl(kube, &format!("{arguments} -o jsonpath={{{path}}}")).await
}

/// Makes a Deployment, and waits until it is ready.
async fn deployed(kube: &Kube, namespace: &str, name: &str, replicas: i32) -> Result<()> {
    kube.create_deployment(namespace, name, replicas).await?;
    rolled_out(kube, namespace, name).await
}

async fn rolled_out(kube: &Kube, namespace: &str, name: &str) -> Result<()> {
    kubectl(kube, &format!("-n {namespace} rollout status deployment/{name} --timeout=30s")).await?;
    quiet(kube, namespace, name).await
}

/// Waits until its controller writes to the Deployment no more: a write in between is a conflict.
async fn quiet(kube: &Kube, namespace: &str, name: &str) -> Result<()> {
    let (mut last, mut same) = (String::new(), 0);
    while same < 4 {
        let now = shows(kube, &format!("-n {namespace} get deployment {name}"), ".metadata.resourceVersion").await?;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    Ok(())
}

/// Permits so many calls and no more: what a crash or the loss of the lease between two calls leaves.
struct Permitted(AtomicU32);

impl Authority for Permitted {
    fn permit(&self, epoch: Epoch) -> Result<(), Denied> {
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| Denied::Overtaken { ours: epoch, highest: Epoch(99) })
    }
}

/// Applies, and is cut off after so many calls that change something.
async fn cut_off_after(subject: &mut Subject, calls: u32) -> Result<()> {
    let whole = std::mem::replace(&mut subject.context.authority, Arc::new(Permitted(AtomicU32::new(calls))));
    let applied = subject.apply().await;
    subject.context.authority = whole;
    ensure!(applied.is_err(), "not cut off: {applied:?}");
    Ok(())
}

fn in_progress(observed: Observed) -> Result<String> {
    match observed {
        Observed::InProgress { evidence } => Ok(evidence),
        other => bail!("not `InProgress`: {other:?}"),
    }
}

fn not_yet(verified: Verified) -> Result<String> {
    match verified {
        Verified::NotYet { evidence } => Ok(evidence),
        other => bail!("not `NotYet`: {other:?}"),
    }
}

fn failed(verified: Verified) -> Result<String> {
    match verified {
        Verified::Failed { reason } => Ok(reason),
        other => bail!("not `Failed`: {other:?}"),
    }
}

fn outputs(verified: Verified) -> Result<Outputs> {
    match verified {
        Verified::Yes { outputs, .. } => Ok(outputs),
        other => bail!("not `Yes`: {other:?}"),
    }
}
