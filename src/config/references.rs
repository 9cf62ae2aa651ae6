//! References in the parameters of actions: taken out before the file is read, with a sample in their
//! place, so that the types need not know of them; put back into the plans afterwards.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::action::FAMILIES;
use super::path::Path;
use super::report::Report;
use super::suggest;
use crate::model::reference::Reference;
use crate::model::{ActionSpec, ParameterKind};

/// A reference that was taken out.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Where it is in the parameters, as a JSON pointer.
    pub pointer: String,
    /// The same as a path of the file.
    pub path: Path,
    /// What it is.
    pub reference: Reference,
    /// What stood in its place meanwhile.
    pub sample: Value,
}

/// All of them, by plan and step.
pub type References = BTreeMap<(String, String), Vec<Taken>>;

/// Takes them out of the tree.
pub fn take(tree: &mut Value, report: &mut Report<'_>) -> References {
    let mut all = References::new();
    let Some(plans) = tree.get_mut("plans").and_then(Value::as_object_mut) else { return all };
    for (plan, table) in plans {
        let kinds = kinds(table);
        let Some(steps) = table.get_mut("steps").and_then(Value::as_object_mut) else { continue };
        for (step, table) in steps {
            let at = Path::of(&["plans", plan, "steps", step]);
            let mut taken = Vec::new();
            for family in FAMILIES {
                let Some(action) = table.get_mut(family) else { continue };
                for (pointer, reference) in Reference::all_in(action) {
                    let place = all.values().map(Vec::len).sum::<usize>() + taken.len();
                    let path = pointer_path(&at.key(family), &pointer);
                    let sample = sample(&reference, &kinds, place, &path, report);
                    if let Some(value) = action.pointer_mut(&pointer) {
                        *value = sample.clone();
                    }
                    taken.push(Taken { pointer: format!("/{family}{pointer}"), path, reference, sample });
                }
            }
            if !taken.is_empty() {
                all.insert((plan.clone(), step.clone()), taken);
            }
        }
    }
    all
}

/// The kinds of a plan's parameters.
fn kinds(plan: &Value) -> Map<String, Value> {
    plan.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn kind_of(kinds: &Map<String, Value>, name: &str) -> Option<ParameterKind> {
    let kind = kinds.get(name)?.get("type").cloned().unwrap_or_else(|| json!("text"));
    serde_json::from_value(kind).ok()
}

/// A value that nobody else writes, so that it can be found in what is made of it.
fn sample(
    reference: &Reference,
    kinds: &Map<String, Value>,
    place: usize,
    path: &Path,
    report: &mut Report<'_>,
) -> Value {
    let text = Value::String(format!("sample-{place}"));
    if let Reference::Join(parts) = reference {
        // What is fixed of it is checked as it stands: the statement's first word, the address's scheme.
        let part = |part: &Value| match Reference::of(part) {
            Some(_) => format!("sample-{place}"),
            None => crate::model::reference::shown(part),
        };
        return Value::String(parts.iter().map(part).collect());
    }
    let Reference::Parameter(name) = reference else {
        if let Reference::Item(_) = reference {
            let fix = "add `for_each = [ … ]` to the step";
            report.error("unknown_item", path, "there is no item here: the step has no `for_each`", fix);
        }
        return text;
    };
    match kind_of(kinds, name) {
        None if kinds.contains_key(name) => text,
        None => {
            let fix = match suggest::fix(name, "parameter", kinds.keys().map(String::as_str)) {
                fix if kinds.is_empty() => format!("{fix}: add [plans.NAME.parameters.{name}]"),
                fix => fix,
            };
            report.error("unknown_name", path, format!("the plan has no parameter `{name}`"), fix);
            text
        }
        Some(ParameterKind::Text) => text,
        Some(ParameterKind::Integer) => json!(60_001 + place),
        Some(other) => other.sample(),
    }
}

fn pointer_path(at: &Path, pointer: &str) -> Path {
    pointer.split('/').skip(1).fold(at.clone(), |path, part| {
        let part = part.replace("~1", "/").replace("~0", "~");
        match part.parse::<usize>() {
            Ok(index) if !part.is_empty() => path.index(index),
            _ => path.key(&part),
        }
    })
}

/// Puts the references of a step back into its action.
///
/// # Errors
/// What of the action may not be left open, in one line.
pub fn put_back(spec: &mut ActionSpec, taken: &[Taken]) -> Result<(), String> {
    for one in taken {
        let sample = crate::model::reference::shown(&one.sample);
        let shown = one.reference.to_string();
        let fixed = [&spec.service.as_ref().map(ToString::to_string), &spec.region.as_ref().map(ToString::to_string)];
        if fixed.iter().any(|text| text.as_ref().is_some_and(|text| text.contains(&sample))) {
            return Err(format!(
                "{shown} decides which service or region this is about, and that has to be known before a run"
            ));
        }
        spec.target = spec.target.replace(&sample, &shown);
        match spec.params.pointer_mut(&one.pointer) {
            Some(value) => *value = one.reference.to_value(),
            None => return Err(format!("{shown} cannot stand here")),
        }
    }
    Ok(())
}
