//! The patch formats.

use serde_json::{Map, Value, json};

/// How a patch's lists are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    /// A list replaces the old one (RFC 7386).
    Replace,
    /// Named elements are merged by name, as containers and their variables are in a strategic merge.
    MergeByName,
}

/// Applies a merge patch.
pub(super) fn merge(target: &mut Value, patch: &Value, lists: Lists) {
    match (target, patch) {
        (Value::Array(old), Value::Array(new)) if lists == Lists::MergeByName && named(new) => {
            for element in new {
                match old.iter_mut().find(|candidate| candidate["name"] == element["name"]) {
                    Some(same) => merge(same, element, lists),
                    None => old.push(element.clone()),
                }
            }
        }
        (target, Value::Object(changes)) => {
            if !target.is_object() {
                *target = json!({});
            }
            if let Value::Object(fields) = target {
                merge_fields(fields, changes, lists);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

fn merge_fields(fields: &mut Map<String, Value>, changes: &Map<String, Value>, lists: Lists) {
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), change, lists);
        }
    }
}

fn named(list: &[Value]) -> bool {
    !list.is_empty() && list.iter().all(|element| element["name"].is_string())
}
