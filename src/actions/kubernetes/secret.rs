//! `kubernetes.secret`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::cluster::{Cluster, Place, resource};
use super::contended::Versioned;
use super::marks;
use crate::actions::{CHANGE, Halt, LOOK, until};
use crate::clients::{Clients, Failure, FailureKind, Redactor};
use crate::config::action::KubernetesSecret;
use crate::config::secret::SecretText;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// Writes keys of a Secret. It cannot be undone: what stood before must not be journalled.
pub struct WriteSecret {
    cluster: Cluster,
    place: Place,
    data: BTreeMap<String, SecretText>,
}

/// What is to stand there, encoded, and what hides it in foreign texts.
struct Wanted {
    data: BTreeMap<String, String>,
    redactor: Redactor,
}

impl Wanted {
    /// A server, or a webhook before it, may quote what it was sent.
    fn clean(&self, failure: Failure) -> Failure {
        Failure { reason: self.redactor.clean(&failure.reason), ..failure }
    }
}

/// What stands there: nothing, or an object and which of our keys differ.
struct Seen {
    object: Option<DynamicObject>,
    wrong: Vec<String>,
}

fn secrets() -> ApiResource {
    resource("", "v1", "Secret", "secrets")
}

impl WriteSecret {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where `secret` is not `namespace/name`, or no key is named.
    pub fn new(params: KubernetesSecret, clients: Arc<Clients>) -> Result<Self, String> {
        if params.data.is_empty() {
            return Err("`data` names no key".into());
        }
        Ok(Self {
            cluster: Cluster::new(params.cluster(), clients),
            place: Place::parse(&params.secret)?,
            data: params.data,
        })
    }

    fn wanted(&self) -> Result<Wanted, Failure> {
        let mut wanted = Wanted { data: BTreeMap::new(), redactor: Redactor::default() };
        for (key, value) in &self.data {
            let text = value.read().map_err(|error| Failure::new(FailureKind::Denied, error.to_string()))?;
            let encoded = STANDARD.encode(&text);
            if matches!(value, SecretText::Reference(_)) {
                wanted.redactor.hide(&text);
                wanted.redactor.hide(&encoded);
            }
            wanted.data.insert(key.clone(), encoded);
        }
        Ok(wanted)
    }

    async fn seen(&self, context: &ActionContext, wanted: &Wanted, until: Instant) -> Result<Seen, Halt> {
        let found = self.cluster.find(&secrets(), &self.place, until).await;
        let object = found.map_err(|failure| wanted.clean(failure))?;
        if let Some(object) = &object {
            marks::ours(context, object)?;
        }
        let data = object.as_ref().map_or(&Value::Null, |object| &object.data["data"]);
        let differs = |(key, value): &(&String, &String)| {
            data.get(key.as_str()).and_then(Value::as_str).unwrap_or_default() != value.as_str()
                || data.get(key.as_str()).is_none()
        };
        let wrong = wanted.data.iter().filter(differs).map(|(key, _)| key.clone()).collect();
        Ok(Seen { object, wrong })
    }

    fn evidence(&self, seen: &Seen) -> String {
        match (&seen.object, &seen.wrong[..]) {
            (None, _) => format!("Secret {} is not there", self.place),
            (Some(_), []) => format!("Secret {} has the keys as they should be", self.place),
            (Some(_), wrong) => format!("Secret {} differs in: {}", self.place, wrong.join(", ")),
        }
    }

    fn new_object(&self, context: &ActionContext, wanted: &Wanted) -> DynamicObject {
        let mut object = DynamicObject::new(&self.place.name, &secrets())
            .within(self.place.namespace.as_deref().unwrap_or_default())
            .data(json!({ "type": "Opaque", "data": wanted.data }));
        object.metadata.annotations = Some(marks::annotations(context));
        object
    }
}

impl Versioned for WriteSecret {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

#[async_trait]
impl Action for WriteSecret {
    async fn warm(&self) {
        self.cluster.warm().await;
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let wanted = match self.wanted() {
            Ok(wanted) => wanted,
            Err(failure) => return failure.observed(),
        };
        let seen = match self.seen(context, &wanted, until(context, LOOK)).await {
            Ok(seen) => seen,
            Err(halt) => return halt.observed(),
        };
        let evidence = self.evidence(&seen);
        if seen.wrong.is_empty() {
            return Observed::Done { evidence };
        }
        if seen.object.is_some_and(|object| object.data["immutable"] == true) {
            let reason = format!("{evidence}, and it is immutable: delete it first, or write another one");
            return Observed::Impossible { reason };
        }
        Observed::NotDone { evidence, before: Value::Null }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let wanted = match self.wanted() {
            Ok(wanted) => wanted,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let seen = match self.seen(context, &wanted, until).await {
            Ok(seen) => seen,
            Err(halt) => return Ok(halt.not_sent()),
        };
        if seen.wrong.is_empty() {
            return Ok(Applied::Accepted { evidence: self.evidence(&seen) });
        }
        let changed = match &seen.object {
            // One that somebody makes meanwhile answers 409, and is looked at again.
            None => self.cluster.create(context, &secrets(), &self.new_object(context, &wanted), until).await?,
            Some(object) => {
                let metadata = match marks::metadata(context, object, &[]) {
                    Ok(metadata) => metadata,
                    Err(failure) => return Ok(failure.not_sent()),
                };
                let patch = Patch::Merge(json!({ "metadata": metadata, "data": wanted.data }));
                let params = PatchParams::default();
                self.cluster.patch(context, &secrets(), &self.place, &params, &patch, until).await?
            }
        };
        Ok(match changed {
            Ok(_) => {
                let evidence = format!("Secret {}: wrote {}", self.place, seen.wrong.join(", "));
                Applied::Accepted { evidence }
            }
            Err(failure) => wanted.clean(failure).applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let wanted = match self.wanted() {
            Ok(wanted) => wanted,
            Err(failure) => return failure.verified(),
        };
        match self.seen(context, &wanted, until(context, LOOK)).await {
            Err(halt) => halt.verified(),
            Ok(seen) if seen.wrong.is_empty() => Verified::yes(self.evidence(&seen)),
            Ok(seen) => Verified::NotYet { evidence: self.evidence(&seen) },
        }
    }
}
