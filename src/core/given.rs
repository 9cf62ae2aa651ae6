//! Plans with what a person gives them. What can be seen to be wrong with it is said before the run, and
//! not by a step in the middle of it.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::model::reference::{Reference, shown};
use crate::model::{ActionSpec, Given, Parameter, Plan, Step, StepGuard, WrongValue};

type Check = dyn Fn(&ActionSpec) -> Vec<WrongValue> + Send + Sync;

/// Tells what is wrong with an action whose values are all known, without a call: what `check` says of
/// an action in the file. The brain knows no action's parameters; whoever makes it brings this along.
#[derive(Clone)]
pub struct ActionCheck(Arc<Check>);

impl ActionCheck {
    /// Asks this.
    pub fn new(check: impl Fn(&ActionSpec) -> Vec<WrongValue> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }
}

impl Default for ActionCheck {
    /// Has nothing to say against any.
    fn default() -> Self {
        Self::new(|_| Vec::new())
    }
}

impl fmt::Debug for ActionCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActionCheck")
    }
}

/// The plan with its parameters as somebody typed them.
///
/// # Errors
/// A parameter that there is not, that is missing or of another kind; or one that makes no sense in a
/// step, with both names.
pub fn given(plan: &Plan, typed: &Given, check: &ActionCheck) -> Result<Plan, String> {
    let filled = plan.read(typed).and_then(|given| plan.with(&given))?;
    let wrong: Vec<String> = plan
        .steps
        .iter()
        .zip(&filled.steps)
        .flat_map(|(open, step)| wrong_in(open, step, &filled.parameters, check))
        .collect();
    if wrong.is_empty() { Ok(filled) } else { Err(wrong.join("; ")) }
}

/// What is wrong with a step that was left open and is known now. What waits for an earlier step's
/// value as well is looked at when that is there; what `check` could see in the file, it has said.
fn wrong_in(open: &Step, step: &Step, parameters: &[Parameter], check: &ActionCheck) -> Vec<String> {
    let (Some(before), Some(spec)) = (open.work.action(), step.work.action()) else { return Vec::new() };
    let references = Reference::all_in(&before.params);
    if references.is_empty() || !Reference::all_in(&spec.params).is_empty() || is_left_out(step) {
        return Vec::new();
    }
    let tell = |wrong: WrongValue| {
        let touches = |pointer: &str| below(pointer, &wrong.pointer) || below(&wrong.pointer, pointer);
        let mut names: Vec<String> = Vec::new();
        references.iter().filter(|(at, _)| touches(at)).for_each(|(_, one)| named(one, &mut names));
        if names.is_empty() {
            references.iter().for_each(|(_, one)| named(one, &mut names));
        }
        names.sort_unstable();
        names.dedup();
        let of = |name: &String| {
            let parameter = parameters.iter().find(|parameter| parameter.name == *name);
            let value = parameter.and_then(|parameter| parameter.value.as_ref()).map(shown).unwrap_or_default();
            format!("parameter `{name}` = `{value}`")
        };
        let given: Vec<String> = names.iter().map(of).collect();
        format!("step {}, {}: {}", step.name, given.join(", "), wrong.why)
    };
    (check.0)(spec).into_iter().map(tell).collect()
}

/// Is it seen already that the step will not be done?
fn is_left_out(step: &Step) -> bool {
    step.terms.when.iter().any(|guard| match guard {
        StepGuard::Parameter { value, is, .. } => Reference::of(value).is_none() && !is.contains(value),
        StepGuard::Step { .. } | StepGuard::Holds(_) => false,
    })
}

/// Is one place the other, or in it?
fn below(pointer: &str, above: &str) -> bool {
    pointer.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The parameters that a reference names.
fn named(reference: &Reference, names: &mut Vec<String>) {
    match reference {
        Reference::Parameter(name) => names.push(name.clone()),
        Reference::Join(parts) => {
            parts.iter().filter_map(|part: &Value| Reference::of(part)).for_each(|part| named(&part, names));
        }
        Reference::Output { .. } | Reference::Item(_) => {}
    }
}
