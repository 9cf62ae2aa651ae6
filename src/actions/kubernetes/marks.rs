//! The marks that an object carries which we wrote: under which epoch, and by which run.

use std::collections::BTreeMap;

use kube::api::{DynamicObject, ObjectMeta};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::actions::{Halt, fenced};
use crate::clients::Failure;
use crate::model::Applied;
use crate::ports::{ActionContext, Denied};

use super::cluster::{Changed, Place};

/// The annotation that holds the epoch that last wrote.
pub const EPOCH: &str = "failoverd/epoch";

/// The annotation that holds the run that last wrote.
pub const RUN: &str = "failoverd/run";

/// The epoch that last wrote an object; 0 where none did.
///
/// # Errors
/// Where the annotation holds no number.
pub fn epoch(metadata: &ObjectMeta) -> Result<u64, Failure> {
    match metadata.annotations.as_ref().and_then(|annotations| annotations.get(EPOCH)) {
        None => Ok(0),
        Some(text) => {
            text.parse().map_err(|_| Failure::refused(format!("the annotation {EPOCH} holds no number; remove it")))
        }
    }
}

/// Refuses an object that was written under a higher epoch than ours.
pub(in crate::actions) fn ours(context: &ActionContext, object: &DynamicObject) -> Result<(), Halt> {
    let theirs = epoch(&object.metadata)?;
    // A dry run has no epoch of its own yet.
    if context.run.is_some() && theirs > context.epoch.0 {
        return Err(Halt::Overtaken(fenced(&Place::of(object).to_string(), theirs, context.epoch.0)));
    }
    Ok(())
}

/// The annotations of what we write.
pub fn annotations(context: &ActionContext) -> BTreeMap<String, String> {
    let mut marks = BTreeMap::from([(EPOCH.to_owned(), context.epoch.to_string())]);
    if let Some(run) = &context.run {
        marks.insert(RUN.to_owned(), run.to_string());
    }
    marks
}

/// The metadata of a patch: our marks, more annotations, and the version that it is made for, so that
/// it is refused where somebody wrote in between.
///
/// # Errors
/// Where the object came without a version.
pub fn metadata(context: &ActionContext, seen: &DynamicObject, more: &[(&str, &str)]) -> Result<Value, Failure> {
    let version = seen.metadata.resource_version.as_ref();
    let version = version.ok_or_else(|| Failure::unknown("kubernetes: an object without a resourceVersion"))?;
    let mut marks: Map<String, Value> =
        annotations(context).into_iter().map(|(key, value)| (key, Value::String(value))).collect();
    marks.extend(more.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))));
    Ok(serde_json::json!({ "resourceVersion": version, "annotations": marks }))
}

/// What names this step of this run, and no other: the same after a crash and for each attempt.
pub fn token(context: &ActionContext) -> String {
    let run = context.run.as_ref().map_or("dry-run", |run| run.as_str());
    format!("{run}/{}", context.step)
}

/// [`token`] in ten characters, for names.
pub fn short_token(context: &ActionContext) -> String {
    let hash = Sha256::digest(token(context).as_bytes());
    hash.iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

/// The text of an annotation.
pub fn annotation<'o>(metadata: &'o ObjectMeta, key: &str) -> Option<&'o str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Of several changes of one step: goes on to the next one, or tells how far it came. Observing tells
/// what is left.
pub(in crate::actions) struct Progress {
    what: &'static str,
    all: usize,
    made: usize,
}

impl Progress {
    /// `what` was done to the objects: `restarted`.
    pub fn new(what: &'static str, all: usize) -> Self {
        Self { what, all, made: 0 }
    }

    /// Takes the outcome of one change.
    ///
    /// # Errors
    /// The outcome of the step, where it does not go on. What was done stays done and is seen by the
    /// next look; the kind of the outcome is that of the change that was not made.
    pub fn step<T>(&mut self, changed: Changed<T>) -> Result<T, Result<Applied, Denied>> {
        match changed {
            Ok(Ok(done)) => {
                self.made += 1;
                Ok(done)
            }
            Ok(Err(failure)) => Err(Ok(self.stopped(failure))),
            // Nothing was changed, or what was is for the next look.
            Err(denied) => Err(Err(denied)),
        }
    }

    /// The outcome where something failed before the next change was sent.
    pub fn not_sent(&self, failure: Failure) -> Applied {
        self.stopped(Failure { kind: failure.kind.before_sending(), ..failure })
    }

    /// The outcome where the next change failed.
    fn stopped(&self, failure: Failure) -> Applied {
        if self.made == 0 {
            return failure.applied();
        }
        let reason = format!("{} of {} were {}, then: {}", self.made, self.all, self.what, failure.reason);
        Failure { reason, ..failure }.applied()
    }
}
