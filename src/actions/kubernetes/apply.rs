//! `kubernetes.apply`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use serde_json::Value;
use tokio::sync::Mutex;

use super::cluster::{Cluster, Place, resource, some};
use super::contended::Versioned;
use super::manifests::{self, Manifest};
use super::marks::{self, EPOCH, Progress, RUN};
use crate::actions::{CHANGE, Halt, LOOK, until};
use crate::clients::{Clients, Failure, FailureKind};
use crate::config::action::KubernetesApply;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// Who holds the fields that we apply.
const MANAGER: &str = "failoverd";

/// How many objects are looked at side by side.
const AT_ONCE: usize = 8;

/// How long to wait until a kind that was just defined is looked for again.
const SERVED_POLL: Duration = Duration::from_millis(250);

/// Applies rendered manifests by server-side apply.
/// <https://kubernetes.io/docs/reference/using-api/server-side-apply/>
pub struct Apply {
    cluster: Cluster,
    path: PathBuf,
    namespace: String,
    force: bool,
}

/// What the API serves, by `apiVersion`, as far as it was asked in this phase.
#[derive(Default)]
struct Served(Mutex<BTreeMap<String, Option<Vec<APIResource>>>>);

/// Where a manifest's object is, or will be.
struct Target {
    resource: ApiResource,
    place: Place,
}

impl Apply {
    /// The action for these parameters.
    pub fn new(params: KubernetesApply, clients: Arc<Clients>) -> Self {
        Self {
            cluster: Cluster::new(params.cluster(), clients),
            path: params.path,
            namespace: params.namespace.unwrap_or_else(|| "default".to_owned()),
            force: params.force,
        }
    }

    /// Reads the manifests, off the runtime's threads: the folder may be on a slow disk.
    async fn manifests(&self, until: Instant) -> Result<Vec<Manifest>, Failure> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || manifests::load(&path));
        match tokio::time::timeout_at(until.into(), read).await {
            Ok(Ok(read)) => read,
            _ => Err(Failure::again(format!("{} was not read in time", self.path.display()))),
        }
    }

    /// Where the object belongs; `None` where its kind is not served.
    async fn target(&self, served: &Served, manifest: &Manifest, until: Instant) -> Result<Option<Target>, Failure> {
        let mut known = served.0.lock().await;
        if !known.contains_key(&manifest.api_version) {
            let found = self.cluster.served(&manifest.api_version, until).await?;
            known.insert(manifest.api_version.clone(), found);
        }
        let kinds = known.get(&manifest.api_version).and_then(Option::as_ref).into_iter().flatten();
        let mut kinds = kinds.filter(|served| served.kind == manifest.kind && !served.name.contains('/'));
        let Some(kind) = kinds.next() else { return Ok(None) };
        let (group, version) = manifest.api_version.split_once('/').unwrap_or(("", &manifest.api_version));
        let namespace = kind.namespaced.then(|| manifest.namespace.clone().unwrap_or_else(|| self.namespace.clone()));
        let place = Place { namespace, name: manifest.name.clone() };
        Ok(Some(Target { resource: resource(group, version, &kind.kind, &kind.name), place }))
    }

    fn params(&self) -> PatchParams {
        let params = PatchParams::apply(MANAGER);
        if self.force { params.force() } else { params }
    }

    /// Would applying the object change anything? Asked of the server, which knows its defaults and
    /// how it writes quantities.
    async fn differs(
        &self,
        context: &ActionContext,
        served: &Served,
        all: &[Manifest],
        manifest: &Manifest,
        until: Instant,
    ) -> Result<bool, Halt> {
        let Some(target) = self.target(served, manifest, until).await? else {
            let group = manifest.api_version.split('/').next().unwrap_or_default();
            if all.iter().any(|other| other.defines() == Some((group, &manifest.kind))) {
                return Ok(true);
            }
            let reason =
                format!("{manifest}: the cluster does not serve {} of {}", manifest.kind, manifest.api_version);
            return Err(Failure::new(FailureKind::Missing, reason).into());
        };
        let Some(live) = self.cluster.find(&target.resource, &target.place, until).await? else { return Ok(true) };
        marks::ours(context, &live)?;
        let patch = Patch::Apply(body(manifest, &target));
        let would = self.cluster.would_patch(&target.resource, &target.place, &self.params(), &patch, until).await;
        let would = would.map_err(|failure| explain(manifest, failure))?;
        Ok(comparable(&live) != comparable(&would))
    }

    /// The manifests that are not as they should be, and how many there are in all.
    async fn open(&self, context: &ActionContext, until: Instant) -> Result<(Vec<String>, usize), Halt> {
        let all = self.manifests(until).await?;
        let served = Served::default();
        let looks = all.iter().map(|manifest| {
            let (all, served) = (&all, &served);
            async move { Ok::<_, Halt>((manifest, self.differs(context, served, all, manifest, until).await?)) }
        });
        let looks: Vec<_> = looks.collect();
        let seen: Vec<_> = futures::stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
        let open = seen.iter().filter(|(_, differs)| *differs).map(|(manifest, _)| manifest.to_string()).collect();
        Ok((open, all.len()))
    }

    /// Where the object belongs, once its kind is served: it may just have been defined.
    async fn awaited(&self, manifest: &Manifest, until: Instant) -> Result<Target, Failure> {
        loop {
            // Asked anew each time.
            let missing = match self.target(&Served::default(), manifest, until).await {
                Ok(Some(target)) => return Ok(target),
                Ok(None) => Failure::again(format!("{manifest}: its kind is not served yet")),
                // Its group is listed a moment before it answers.
                Err(failure) if matches!(failure.kind, FailureKind::Again | FailureKind::Unknown) => failure,
                Err(failure) => return Err(failure),
            };
            if Instant::now() + SERVED_POLL >= until {
                return Err(missing);
            }
            tokio::time::sleep(SERVED_POLL).await;
        }
    }

    /// Prepares the patch of one object, for the version that stands there.
    async fn prepare(
        &self,
        context: &ActionContext,
        served: &Served,
        manifest: &Manifest,
        until: Instant,
    ) -> Result<(Target, Patch<Value>), Halt> {
        let target = match self.target(served, manifest, until).await {
            Ok(Some(target)) => target,
            _ => self.awaited(manifest, until).await?,
        };
        let live = self.cluster.find(&target.resource, &target.place, until).await?;
        let mut body = body(manifest, &target);
        if let Some(live) = &live {
            marks::ours(context, live)?;
            body["metadata"]["resourceVersion"] = live.metadata.resource_version.clone().into();
        }
        if !body["metadata"]["annotations"].is_object() {
            body["metadata"]["annotations"] = Value::Object(serde_json::Map::new());
        }
        for (key, value) in marks::annotations(context) {
            body["metadata"]["annotations"][key] = value.into();
        }
        Ok((target, Patch::Apply(body)))
    }
}

/// The manifest, in the namespace that it is applied to.
fn body(manifest: &Manifest, target: &Target) -> Value {
    let mut body = manifest.object.clone();
    if let Some(namespace) = &target.place.namespace {
        body["metadata"]["namespace"] = namespace.clone().into();
    }
    body
}

/// What of an object is compared: all but what the server or we ourselves write beside it.
fn comparable(object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(whole) = value.as_object_mut() {
        whole.remove("status");
    }
    let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else { return value };
    for key in ["managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"] {
        metadata.remove(key);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(EPOCH);
        annotations.remove(RUN);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    value
}

/// Names the manifest, and what to do about a conflict. The server's words on a Secret are left out,
/// since they may quote it.
fn explain(manifest: &Manifest, failure: Failure) -> Failure {
    let (mut kind, mut reason) = (failure.kind, format!("{manifest}: {}", failure.reason));
    if manifest.kind == "Secret" {
        let code = failure.code.as_deref().unwrap_or("no answer");
        reason = format!("{manifest}: not applied ({code}); more is not shown, since it may quote the Secret");
    }
    if failure.reason.contains("Apply failed with") {
        kind = FailureKind::Refused;
        reason = format!(
            "{manifest}: another manager holds fields of it; leave them out, or write force = true: {}",
            failure.reason
        );
    }
    // A conflict names fields and managers, and no value.
    Failure { kind, ..Failure::new(kind, reason) }.with_code(failure.code.as_deref())
}

/// A kind that was just defined is listed as served a moment before it is.
fn too_early(failure: Failure) -> Failure {
    match failure.kind {
        FailureKind::Missing => Failure { kind: FailureKind::Again, ..failure },
        _ => failure,
    }
}

impl Versioned for Apply {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

#[async_trait]
impl Action for Apply {
    async fn warm(&self) {
        self.cluster.warm().await;
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        match self.open(context, until(context, LOOK)).await {
            Err(halt) => halt.observed(),
            Ok((open, all)) if open.is_empty() => {
                Observed::Done { evidence: format!("all {all} objects are as applied") }
            }
            Ok((open, all)) => {
                let evidence = format!("{} of {all} objects differ: {}", open.len(), some(&open));
                Observed::NotDone { evidence, before: Value::Null }
            }
        }
    }

    /// One change for each object, in an order in which each finds what it needs. Applied twice an
    /// object stays as it is, and a look tells which ones are left.
    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let all = match self.manifests(until).await {
            Ok(all) => all,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let served = Served::default();
        let mut progress = Progress::new("applied", all.len());
        for manifest in &all {
            let (target, patch) = match self.prepare(context, &served, manifest, until).await {
                Ok(prepared) => prepared,
                Err(Halt::Blind(failure)) => return Ok(progress.not_sent(failure)),
                Err(overtaken) => return Ok(overtaken.not_sent()),
            };
            let Target { resource, place } = &target;
            let patched = self.cluster.patch(context, resource, place, &self.params(), &patch, until).await;
            let patched = patched.map(|patched| patched.map_err(|failure| too_early(explain(manifest, failure))));
            if let Err(stopped) = progress.step(patched) {
                return stopped;
            }
        }
        Ok(Applied::Accepted { evidence: format!("applied {} objects of {}", all.len(), self.path.display()) })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.open(context, until(context, LOOK)).await {
            Err(halt) => halt.verified(),
            Ok((open, all)) if open.is_empty() => Verified::yes(format!("all {all} objects are as applied")),
            Ok((open, all)) => {
                Verified::NotYet { evidence: format!("{} of {all} objects differ: {}", open.len(), some(&open)) }
            }
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}
