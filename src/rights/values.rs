//! The values of a step's parameters, where some are known only when a run begins or later.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::{ActionSpec, Plan, Reference};

/// What stands for a value that nobody knows beforehand.
pub const ANY: &str = "*";

/// How many values of one parameter are told apart; beyond that it is any.
const MOST: usize = 50;

/// The parameters of one step.
pub struct Values<'a> {
    plan: &'a Plan,
    spec: &'a ActionSpec,
    whose: &'a str,
    notes: RefCell<BTreeSet<String>>,
}

impl<'a> Values<'a> {
    /// Of this step of this plan.
    pub fn new(plan: &'a Plan, spec: &'a ActionSpec, whose: &'a str) -> Self {
        Self { plan, spec, whose, notes: RefCell::default() }
    }

    /// The specification itself.
    pub fn spec(&self) -> &'a ActionSpec {
        self.spec
    }

    fn at(&self, key: &str) -> Option<&'a Value> {
        let pointer: String = self.spec.kind.as_str().split('.').map(|part| format!("/{part}")).collect();
        self.spec.params.pointer(&format!("{pointer}/{key}")).filter(|value| !value.is_null())
    }

    /// Is the parameter there?
    pub fn has(&self, key: &str) -> bool {
        match self.at(key) {
            None => false,
            Some(Value::Array(of)) => !of.is_empty(),
            Some(Value::Object(of)) => !of.is_empty(),
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        }
    }

    /// Is it `true`, or may it come to be?
    pub fn flag(&self, key: &str) -> bool {
        self.at(key).is_some_and(|value| value.as_bool().unwrap_or(true))
    }

    /// All that a text may be; [`ANY`] where nobody knows. Of a list, all that is in it. Nothing where it is
    /// not there.
    pub fn texts(&self, key: &str) -> Vec<String> {
        let Some(value) = self.at(key) else { return Vec::new() };
        let of = match value {
            Value::Array(of) => of.iter().collect(),
            one => vec![one],
        };
        let mut all: Vec<String> = of.into_iter().flat_map(|value| self.possible(key, value)).collect();
        all.sort();
        all.dedup();
        if all.len() > MOST { vec![ANY.to_owned()] } else { all }
    }

    /// The only text, where it is known.
    pub fn text(&self, key: &str) -> Option<String> {
        self.texts(key).into_iter().find(|text| !text.contains(ANY))
    }

    /// The keys of a table.
    pub fn keys(&self, key: &str) -> Vec<String> {
        let table = self.at(key).and_then(Value::as_object);
        table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
    }

    /// What has to be known of how wide the rights are.
    pub fn notes(&self) -> BTreeSet<String> {
        self.notes.borrow().clone()
    }

    fn note(&self, text: String) {
        self.notes.borrow_mut().insert(text);
    }

    fn possible(&self, key: &str, value: &Value) -> Vec<String> {
        match Reference::of(value) {
            None => vec![shown(value)],
            Some(Reference::Parameter(name)) => self.parameter(key, &name),
            Some(Reference::Join(parts)) => {
                let mut all = vec![String::new()];
                for part in &parts {
                    let ends = self.possible(key, part);
                    all = all.iter().flat_map(|begin| ends.iter().map(move |end| format!("{begin}{end}"))).collect();
                    if all.len() > MOST {
                        return vec![ANY.to_owned()];
                    }
                }
                all
            }
            Some(reference @ (Reference::Output { .. } | Reference::Item(_))) => {
                self.note(format!("{}: `{key}` is {reference}, known only in a run: any is permitted", self.whose));
                vec![ANY.to_owned()]
            }
        }
    }

    fn parameter(&self, key: &str, name: &str) -> Vec<String> {
        let Some(parameter) = self.plan.parameters.iter().find(|parameter| parameter.name == name) else {
            return vec![ANY.to_owned()];
        };
        if !parameter.one_of.is_empty() {
            return parameter.one_of.iter().map(shown).collect();
        }
        match &parameter.value {
            Some(default) => {
                self.note(format!(
                    "{}: `{key}` is the parameter {name}, and only its default is permitted; name its values in \
                     `one_of` to have them all",
                    self.whose
                ));
                vec![shown(default)]
            }
            None => {
                self.note(format!(
                    "{}: `{key}` is the parameter {name}, known only in a run: any is permitted; name its values in \
                     `one_of` to have no more than those",
                    self.whose
                ));
                vec![ANY.to_owned()]
            }
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
