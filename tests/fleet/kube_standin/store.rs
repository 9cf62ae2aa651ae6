//! What the stand-in remembers: objects under one growing revision, and every change to deployments, for watches.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::status::Refusal;

/// A namespace and a name.
pub(super) type Key = (String, String);

const GROUP: &str = "apps";
const RESOURCE: &str = "deployments";

/// One change to a deployment.
#[derive(Clone)]
pub(super) struct Event {
    pub revision: u64,
    pub kind: &'static str,
    pub object: Value,
}

/// What a write came to.
pub(super) struct Written {
    pub object: Value,
    /// The generation, where it moved: then there is something to reconcile.
    pub moved_to: Option<i64>,
}

pub(super) struct Store {
    revision: u64,
    namespaces: BTreeMap<String, Value>,
    deployments: BTreeMap<Key, Value>,
    events: Vec<Event>,
    news: watch::Sender<u64>,
}

impl Store {
    pub(super) fn new() -> Self {
        let mut store = Self {
            revision: 1,
            namespaces: BTreeMap::new(),
            deployments: BTreeMap::new(),
            events: Vec::new(),
            news: watch::Sender::new(1),
        };
        for name in ["default", "kube-system"] {
            store.namespaces.insert(name.to_owned(), namespace_object(name, 1));
        }
        store
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn namespaces(&self) -> Vec<Value> {
        self.namespaces.values().cloned().collect()
    }

    pub(super) fn namespace(&self, name: &str) -> Result<Value, Refusal> {
        self.namespaces.get(name).cloned().ok_or_else(|| Refusal::not_found("", "namespaces", name))
    }

    pub(super) fn create_namespace(&mut self, wanted: &Value) -> Result<Value, Refusal> {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if self.namespaces.contains_key(&name) {
            return Err(Refusal::already_exists("", "namespaces", &name));
        }
        self.revision += 1;
        let object = namespace_object(&name, self.revision);
        self.namespaces.insert(name, object.clone());
        Ok(object)
    }

    /// Deployments of one namespace or of all.
    pub(super) fn deployments(&self, namespace: Option<&str>) -> Vec<Value> {
        let here = |key: &&Key| namespace.is_none_or(|wanted| wanted == key.0);
        self.deployments.iter().filter(|(key, _)| here(key)).map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn deployment(&self, key: &Key) -> Result<&Value, Refusal> {
        self.deployments.get(key).ok_or_else(|| Refusal::not_found(GROUP, RESOURCE, &key.1))
    }

    pub(super) fn create(&mut self, namespace: &str, mut object: Value, dry_run: bool) -> Result<Written, Refusal> {
        self.namespace(namespace)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = (namespace.to_owned(), name);
        if self.deployments.contains_key(&key) {
            return Err(Refusal::already_exists(GROUP, RESOURCE, &key.1));
        }
        if object["spec"]["replicas"].is_null() {
            object["spec"]["replicas"] = json!(1);
        }
        validate(&object, &key.1)?;
        object["apiVersion"] = json!("apps/v1");
        object["kind"] = json!("Deployment");
        object["status"] = json!({});
        let metadata = &mut object["metadata"];
        metadata["namespace"] = json!(namespace);
        metadata["uid"] = json!(uid(self.revision + 1));
        metadata["creationTimestamp"] = json!(now());
        metadata["generation"] = json!(1);
        if !dry_run {
            object = self.put(&key, object, "ADDED");
        }
        Ok(Written { object, moved_to: (!dry_run).then_some(1) })
    }

    /// Replaces a deployment by what `change` makes of it. A resourceVersion in the result is a precondition; what
    /// belongs to the server stays as it was; a change that changes nothing is not a write.
    pub(super) fn write(
        &mut self,
        key: &Key,
        dry_run: bool,
        change: impl FnOnce(&Value) -> Result<Value, Refusal>,
    ) -> Result<Written, Refusal> {
        let old = self.deployment(key)?.clone();
        let mut new = change(&old)?;
        expect_version(&new, &old, &key.1)?;
        for field in ["name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion"] {
            new["metadata"][field] = old["metadata"][field].clone();
        }
        new["apiVersion"] = old["apiVersion"].clone();
        new["kind"] = old["kind"].clone();
        new["status"] = old["status"].clone();
        if new["spec"]["replicas"].is_null() {
            new["spec"]["replicas"] = json!(1);
        }
        drop_empty_maps(&mut new["metadata"]);
        validate(&new, &key.1)?;
        if new == old {
            return Ok(Written { object: old, moved_to: None });
        }
        let mut moved_to = None;
        // A new annotation is a new generation too, of deployments at least; a new label is not.
        if new["spec"] != old["spec"] || new["metadata"]["annotations"] != old["metadata"]["annotations"] {
            let generation = generation(&old) + 1;
            new["metadata"]["generation"] = json!(generation);
            moved_to = Some(generation);
        }
        if dry_run {
            return Ok(Written { object: new, moved_to: None });
        }
        let object = self.put(key, new, "MODIFIED");
        Ok(Written { object, moved_to })
    }

    pub(super) fn delete(&mut self, key: &Key, dry_run: bool) -> Result<Value, Refusal> {
        let object = self.deployment(key)?.clone();
        if !dry_run {
            self.deployments.remove(key);
            self.publish(object.clone(), "DELETED");
        }
        Ok(object)
    }

    /// The deployment controller has seen the newest generation: superfluous replicas are gone, new ones not ready.
    pub(super) fn observe(&mut self, key: &Key) {
        let Some(object) = self.deployments.get(key) else {
            return;
        };
        let ready = object["status"]["readyReplicas"].as_i64().unwrap_or(0);
        self.set_ready(key, ready.min(desired(object)));
    }

    /// All replicas of this generation are ready, unless a newer one has come.
    pub(super) fn make_ready(&mut self, key: &Key, of_generation: i64) {
        let Some(object) = self.deployments.get(key) else {
            return;
        };
        if generation(object) == of_generation {
            self.set_ready(key, desired(object));
        }
    }

    fn set_ready(&mut self, key: &Key, ready: i64) {
        let Some(object) = self.deployments.get(key) else {
            return;
        };
        let mut new = object.clone();
        new["status"] = status(object, ready);
        // The real controller writes it through the status, which is why it moves no generation.
        new["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("1");
        if new != *object {
            self.put(key, new, "MODIFIED");
        }
    }

    fn put(&mut self, key: &Key, object: Value, kind: &'static str) -> Value {
        let object = self.publish(object, kind);
        self.deployments.insert(key.clone(), object.clone());
        object
    }

    fn publish(&mut self, mut object: Value, kind: &'static str) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.events.push(Event { revision: self.revision, kind, object: object.clone() });
        self.news.send_replace(self.revision);
        object
    }

    /// The events after `revision`. Nothing is ever forgotten, so no watch is ever too late.
    pub(super) fn events_after(&self, revision: u64) -> Vec<Event> {
        let from = self.events.partition_point(|event| event.revision <= revision);
        self.events[from..].to_vec()
    }

    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}

fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or(0)
}

pub(super) fn desired(object: &Value) -> i64 {
    object["spec"]["replicas"].as_i64().unwrap_or(1)
}

fn status(object: &Value, ready: i64) -> Value {
    let desired = desired(object);
    let enough = desired - desired / 4;
    let (available, complete) = (truth(ready >= enough), ready == desired);
    let mut status = Map::new();
    let counts = [
        ("observedGeneration", generation(object)),
        ("replicas", desired),
        ("updatedReplicas", desired),
        ("readyReplicas", ready),
        ("availableReplicas", ready),
        ("unavailableReplicas", desired - ready),
    ];
    // As the real one does: zeros are left out.
    status
        .extend(counts.iter().filter(|(_, count)| *count != 0).map(|(name, count)| ((*name).to_owned(), json!(count))));
    let progress = if complete { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" };
    let reason = if ready >= enough { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" };
    status.insert(
        "conditions".to_owned(),
        json!([
            { "type": "Available", "status": available, "reason": reason },
            { "type": "Progressing", "status": "True", "reason": progress },
        ]),
    );
    Value::Object(status)
}

fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// Refuses a write that was made for another version than the present one.
pub(super) fn expect_version(wanted: &Value, present: &Value, name: &str) -> Result<(), Refusal> {
    match wanted["metadata"]["resourceVersion"].as_str() {
        None | Some("") => Ok(()),
        Some(version) if present["metadata"]["resourceVersion"] == version => Ok(()),
        Some(_) => Err(Refusal::conflict(GROUP, RESOURCE, name)),
    }
}

fn validate(object: &Value, name: &str) -> Result<(), Refusal> {
    let invalid = |field, problem| Err(Refusal::invalid("Deployment", GROUP, name, field, problem));
    if name.is_empty() {
        return invalid("metadata.name", "Required value: name or generateName is required");
    }
    let replicas = desired(object);
    if replicas < 0 {
        let problem = format!("Invalid value: {replicas}: must be greater than or equal to 0");
        return invalid("spec.replicas", &problem);
    }
    let labels = &object["spec"]["template"]["metadata"]["labels"];
    let Some(selector) = object["spec"]["selector"]["matchLabels"].as_object() else {
        return invalid("spec.selector", "Required value");
    };
    if selector.iter().any(|(label, value)| labels[label] != *value) {
        return invalid("spec.template.metadata.labels", "Invalid value: `selector` does not match template `labels`");
    }
    Ok(())
}

fn drop_empty_maps(metadata: &mut Value) {
    if let Some(fields) = metadata.as_object_mut() {
        fields.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()));
    }
}

fn namespace_object(name: &str, revision: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": name, "uid": uid(revision), "resourceVersion": revision.to_string(), "creationTimestamp": now(),
        },
        "spec": { "finalizers": ["kubernetes"] },
        "status": { "phase": "Active" },
    })
}

fn uid(revision: u64) -> String {
    format!("00000000-0000-4000-8000-{revision:012x}")
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
