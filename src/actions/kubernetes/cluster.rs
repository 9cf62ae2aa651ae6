//! The calls to one cluster, for objects of any kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ApiResource;
use serde_json::Value;

use crate::actions::LOOK;
use crate::clients::failure::one_line;
use crate::clients::kubernetes::call;
use crate::clients::{Clients, Failure, FailureKind};
use crate::config::action::KubernetesCluster;
use crate::ports::{ActionContext, Denied};

/// How many objects are asked for at once.
const PAGE: u32 = 500;

/// The most objects that a step changes: more than that is no plan's meaning.
pub const MOST: usize = 200;

/// A resource of the API: `resource("apps", "v1", "Deployment", "deployments")`.
pub fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// `deployments.apps`
pub fn deployments() -> ApiResource {
    resource("apps", "v1", "Deployment", "deployments")
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its namespace, where its kind has namespaces.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Place {
    /// In a namespace.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), name: name.to_owned() }
    }

    /// `namespace/name`.
    ///
    /// # Errors
    /// Where it is not of that form.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [namespace, name] if !namespace.is_empty() && !name.is_empty() => Ok(Self::new(namespace, name)),
            _ => Err(format!("`{text}` is not of the form namespace/name")),
        }
    }

    /// Where an object that was read is.
    pub fn of(object: &DynamicObject) -> Self {
        Self { namespace: object.metadata.namespace.clone(), name: object.metadata.name.clone().unwrap_or_default() }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// One cluster, with the rights of its kubeconfig.
pub struct Cluster {
    at: KubernetesCluster,
    clients: Arc<Clients>,
    conflict: AtomicBool,
}

/// What a call that changes something came to: `Denied` where it was not made for want of a permit.
pub type Changed<T> = Result<Result<T, Failure>, Denied>;

impl Cluster {
    /// Calls nothing.
    pub fn new(at: KubernetesCluster, clients: Arc<Clients>) -> Self {
        Self { at, clients, conflict: AtomicBool::new(false) }
    }

    /// Was a change since the last question refused because the object had moved on?
    pub fn met_conflict(&self) -> bool {
        self.conflict.swap(false, Ordering::Relaxed)
    }

    /// See [`crate::ports::Action::warm`].
    pub async fn warm(&self) {
        let _told_when_it_counts = self.clients.kubernetes(&self.at, Instant::now() + LOOK).await;
    }

    async fn client(&self, until: Instant) -> Result<kube::Client, Failure> {
        let client = self.clients.kubernetes(&self.at, until).await?;
        self.clients.pace(crate::clients::Api::Kubernetes, until).await?;
        Ok(client)
    }

    async fn api(
        &self,
        kind: &ApiResource,
        namespace: Option<&str>,
        until: Instant,
    ) -> Result<Api<DynamicObject>, Failure> {
        let client = self.client(until).await?;
        Ok(match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, kind),
            None => Api::all_with(client, kind),
        })
    }

    /// The object.
    ///
    /// # Errors
    /// [`FailureKind::Missing`] where it is not there, and any other [`Failure`].
    pub async fn get(&self, kind: &ApiResource, place: &Place, until: Instant) -> Result<DynamicObject, Failure> {
        let api = self.api(kind, place.namespace.as_deref(), until).await?;
        call(&asks("get", kind, place), until, api.get(&place.name))
            .await
            .map_err(|failure| right("get", kind, failure))
    }

    /// The object, where it is there.
    ///
    /// # Errors
    /// [`Failure`], where that cannot be told.
    pub async fn find(
        &self,
        kind: &ApiResource,
        place: &Place,
        until: Instant,
    ) -> Result<Option<DynamicObject>, Failure> {
        match self.get(kind, place, until).await {
            Ok(found) => Ok(Some(found)),
            Err(failure) if failure.kind == FailureKind::Missing => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The objects of a namespace, or of all; at most `most`.
    ///
    /// # Errors
    /// [`Failure`]; [`FailureKind::Refused`] where there are more.
    pub async fn list(
        &self,
        kind: &ApiResource,
        namespace: Option<&str>,
        selector: Option<&str>,
        most: usize,
        until: Instant,
    ) -> Result<Vec<DynamicObject>, Failure> {
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector = selector.map(str::to_owned);
        let what = format!("kubernetes list {} of {}", kind.plural, namespace.unwrap_or("the cluster"));
        let mut items = Vec::new();
        loop {
            let api = self.api(kind, namespace, until).await?;
            let page = call(&what, until, api.list(&params)).await.map_err(|failure| right("list", kind, failure))?;
            items.extend(page.items);
            if items.len() > most {
                return Err(Failure::refused(format!("{what}: there are more than {most}; narrow the selector")));
            }
            match page.metadata.continue_ {
                Some(more) if !more.is_empty() => params.continue_token = Some(more),
                _ => return Ok(items),
            }
        }
    }

    /// Changes an object. With a resourceVersion in the patch it is a compare-and-swap: 409 where the
    /// object has moved on.
    ///
    /// # Errors
    /// [`Denied`] where the permit was refused.
    pub async fn patch(
        &self,
        context: &ActionContext,
        kind: &ApiResource,
        place: &Place,
        params: &PatchParams,
        patch: &Patch<Value>,
        until: Instant,
    ) -> Changed<DynamicObject> {
        let api = match self.api(kind, place.namespace.as_deref(), until).await {
            Ok(api) => api,
            Err(failure) => return Ok(Err(not_sent(failure))),
        };
        context.permit()?;
        let patched = call(&asks("patch", kind, place), until, api.patch(&place.name, params, patch)).await;
        let conflict = |failure: &Failure| failure.code.as_deref() == Some("Conflict");
        self.conflict.fetch_or(patched.as_ref().is_err_and(conflict), Ordering::Relaxed);
        Ok(patched.map_err(|failure| right("patch", kind, failure)))
    }

    /// What a patch would make of an object. Changes nothing.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn would_patch(
        &self,
        kind: &ApiResource,
        place: &Place,
        params: &PatchParams,
        patch: &Patch<Value>,
        until: Instant,
    ) -> Result<DynamicObject, Failure> {
        let api = self.api(kind, place.namespace.as_deref(), until).await?;
        let params = PatchParams { dry_run: true, ..params.clone() };
        let patched = call(&asks("dry-run patch", kind, place), until, api.patch(&place.name, &params, patch)).await;
        patched.map_err(|failure| right("patch", kind, failure))
    }

    /// Creates an object; 409 where it is there.
    ///
    /// # Errors
    /// [`Denied`] where the permit was refused.
    pub async fn create(
        &self,
        context: &ActionContext,
        kind: &ApiResource,
        object: &DynamicObject,
        until: Instant,
    ) -> Changed<DynamicObject> {
        let place = Place::of(object);
        let api = match self.api(kind, place.namespace.as_deref(), until).await {
            Ok(api) => api,
            Err(failure) => return Ok(Err(not_sent(failure))),
        };
        context.permit()?;
        let created = call(&asks("create", kind, &place), until, api.create(&PostParams::default(), object)).await;
        Ok(created.map_err(|failure| right("create", kind, failure)))
    }

    /// Deletes exactly this object: another one of the same name is left alone.
    ///
    /// # Errors
    /// [`Denied`] where the permit was refused.
    pub async fn delete(
        &self,
        context: &ActionContext,
        kind: &ApiResource,
        place: &Place,
        uid: &str,
        until: Instant,
    ) -> Changed<()> {
        let api = match self.api(kind, place.namespace.as_deref(), until).await {
            Ok(api) => api,
            Err(failure) => return Ok(Err(not_sent(failure))),
        };
        let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
        context.permit()?;
        let deleted = call(&asks("delete", kind, place), until, api.delete(&place.name, &params)).await;
        Ok(deleted.map(|_| ()).map_err(|failure| right("delete", kind, failure)))
    }

    /// May we do this? `Err` within: no, and why. Changes nothing, although it is posted.
    ///
    /// # Errors
    /// [`Failure`], where that cannot be told.
    pub async fn may(
        &self,
        verb: &str,
        group: &str,
        resource_name: &str,
        namespace: Option<&str>,
        until: Instant,
    ) -> Result<Result<(), String>, Failure> {
        let kind = resource("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews");
        let attributes = serde_json::json!({
            "verb": verb, "group": group, "resource": resource_name, "namespace": namespace.unwrap_or_default(),
        });
        let mut review = DynamicObject::new("", &kind);
        review.metadata.name = None;
        review.data = serde_json::json!({ "spec": { "resourceAttributes": attributes } });
        let api = self.api(&kind, None, until).await?;
        let answer =
            call("kubernetes SelfSubjectAccessReview", until, api.create(&PostParams::default(), &review)).await?;
        if at(&answer, "/status/allowed").as_bool() == Some(true) {
            return Ok(Ok(()));
        }
        let why = at(&answer, "/status/reason").as_str().filter(|why| !why.is_empty()).map(one_line);
        Ok(Err(why.unwrap_or_else(|| "no rule of the cluster allows it to the kubeconfig's user".to_owned())))
    }

    /// What the API serves under an `apiVersion`; `None` where it does not serve it.
    ///
    /// # Errors
    /// [`Failure`], where that cannot be told.
    pub async fn served(&self, api_version: &str, until: Instant) -> Result<Option<Vec<APIResource>>, Failure> {
        let what = format!("kubernetes discovery of {api_version}");
        let client = self.client(until).await?;
        let Some((group, _)) = api_version.split_once('/') else {
            let list = call(&what, until, client.list_core_api_resources(api_version)).await?;
            return Ok(Some(list.resources));
        };
        // A group that is not served answers 404 with a text that proxies write, too: the list of the
        // groups tells it for sure.
        let groups = call(&what, until, client.list_api_groups()).await?.groups;
        let versions = groups.iter().filter(|served| served.name == group).flat_map(|served| &served.versions);
        if !versions.into_iter().any(|served| served.group_version == api_version) {
            return Ok(None);
        }
        let client = self.client(until).await?;
        let list = call(&what, until, client.list_api_group_resources(api_version)).await?;
        Ok(Some(list.resources))
    }

    /// The resource of a kind (`Certificate`, or any case of it, or its plural), and whether it has
    /// namespaces; `None` where it is not served.
    ///
    /// # Errors
    /// [`Failure`], where that cannot be told.
    pub async fn kind(
        &self,
        api_version: &str,
        kind: &str,
        until: Instant,
    ) -> Result<Option<(ApiResource, bool)>, Failure> {
        let found = self.served(api_version, until).await?.into_iter().flatten().find(|served| {
            let named = served.kind.eq_ignore_ascii_case(kind) || served.name.eq_ignore_ascii_case(kind);
            named && !served.name.contains('/')
        });
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Ok(found.map(|served| (resource(group, version, &served.kind, &served.name), served.namespaced)))
    }
}

/// What is called, by its verb and object, as people name it.
fn asks(verb: &str, kind: &ApiResource, place: &Place) -> String {
    format!("kubernetes {verb} {} {place}", kind.kind.to_lowercase())
}

/// A change that was given up before its call was made leaves nothing open.
fn not_sent(failure: Failure) -> Failure {
    Failure { kind: failure.kind.before_sending(), ..failure }
}

/// Which right is missing.
fn right(verb: &str, kind: &ApiResource, failure: Failure) -> Failure {
    if failure.kind == FailureKind::Denied {
        let dot = if kind.group.is_empty() { "" } else { "." };
        let reason = format!("{}; `{verb}` on {}{dot}{} is needed", failure.reason, kind.plural, kind.group);
        return Failure { reason, ..failure };
    }
    failure
}

/// The most objects that a step looks at.
pub const MOST_SEEN: usize = 5000;

/// The value at a JSON pointer of an object.
pub fn at<'o>(object: &'o DynamicObject, pointer: &str) -> &'o Value {
    object.data.pointer(pointer).unwrap_or(&Value::Null)
}

/// The number at a JSON pointer; 0 where there is none, since Go leaves a zero out.
pub fn number(object: &DynamicObject, pointer: &str) -> i64 {
    at(object, pointer).as_i64().unwrap_or(0)
}

/// The conditions of a status: `(type, status, reason, message)`.
pub fn conditions(object: &DynamicObject) -> impl Iterator<Item = [&str; 4]> {
    let all = at(object, "/status/conditions").as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|condition| {
        ["type", "status", "reason", "message"].map(|key| condition.get(key).and_then(Value::as_str).unwrap_or(""))
    })
}

/// A few names for one line, and how many more there are.
pub fn some<T: std::fmt::Display>(names: &[T]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).map(T::to_string).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
