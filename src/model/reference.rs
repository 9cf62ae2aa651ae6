//! Values that a plan's author leaves open: given when the plan is carried out, or handed on by an
//! earlier step.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ids::StepName;
use super::time::HumanDuration;

/// A place that is filled in later. In the file, in place of any value of an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Reference {
    /// `{ param = "restore_time" }`: a parameter of the plan.
    Parameter(String),
    /// `{ step = "restore", output = "endpoint" }`: what a step handed on; of several (`step =
    /// ["snapshot", "point-in-time"]`) the first that was done.
    Output {
        /// The steps.
        steps: Vec<StepName>,
        /// The output's name.
        output: String,
    },
    /// `{ join = ["https://", { step = "restore", output = "endpoint" }, "/"] }`: one text made of
    /// several.
    Join(Vec<Value>),
    /// `{ item = "name" }`: a field of the item that `for_each` is at; `{ item = "value" }` is the
    /// whole of one that is no table.
    Item(String),
}

impl Reference {
    /// The reference that this value is, if it is one: a table of exactly these keys.
    pub fn of(value: &Value) -> Option<Self> {
        let table = value.as_object()?;
        let text = |key: &str| table.get(key).and_then(Value::as_str).map(str::to_owned);
        match (table.len(), table.get("step")) {
            (1, None) => text("param").map(Self::Parameter).or_else(|| text("item").map(Self::Item)).or_else(|| {
                let parts = table.get("join")?.as_array()?;
                Some(Self::Join(parts.clone()))
            }),
            (2, Some(step)) => {
                let names = match step {
                    Value::String(one) => vec![one.as_str()],
                    Value::Array(of) => of.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?,
                    _ => return None,
                };
                let steps = names.into_iter().map(StepName::new).collect();
                Some(Self::Output { steps, output: text("output")? })
            }
            _ => None,
        }
    }

    /// The value that it was read from.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Parameter(name) => json!({ "param": name }),
            Self::Output { steps, output } => match steps.as_slice() {
                [one] => json!({ "step": one, "output": output }),
                several => json!({ "step": several, "output": output }),
            },
            Self::Join(parts) => json!({ "join": parts }),
            Self::Item(field) => json!({ "item": field }),
        }
    }

    /// The references in a value, each with its JSON pointer; those within a `join` are not told
    /// apart from it.
    pub fn all_in(value: &Value) -> Vec<(String, Self)> {
        let mut found = Vec::new();
        collect(value, String::new(), &mut found);
        found
    }
}

fn collect(value: &Value, at: String, found: &mut Vec<(String, Reference)>) {
    if let Some(reference) = Reference::of(value) {
        found.push((at, reference));
        return;
    }
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            collect(value, format!("{at}/{key}"), found);
        }),
        Value::Array(of) => {
            of.iter().enumerate().for_each(|(place, value)| collect(value, format!("{at}/{place}"), found));
        }
        _ => {}
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameter(name) => write!(f, "‹{name}›"),
            Self::Output { steps, output } => {
                let names: Vec<&str> = steps.iter().map(StepName::as_str).collect();
                write!(f, "‹{}.{output}›", names.join("|"))
            }
            Self::Join(parts) => parts.iter().try_for_each(|part| match (Self::of(part), part) {
                (Some(reference), _) => write!(f, "{reference}"),
                (None, Value::String(text)) => f.write_str(text),
                (None, other) => write!(f, "{other}"),
            }),
            Self::Item(field) => write!(f, "‹item.{field}›"),
        }
    }
}

/// Fills in what `look_up` knows: `Ok(None)` leaves a reference as it is.
///
/// # Errors
/// What `look_up` says.
pub fn resolve(
    value: &Value,
    look_up: &mut impl FnMut(&Reference) -> Result<Option<Value>, String>,
) -> Result<Value, String> {
    match Reference::of(value) {
        Some(Reference::Join(parts)) => {
            let parts: Vec<Value> = parts.iter().map(|part| resolve(part, look_up)).collect::<Result<_, _>>()?;
            if parts.iter().any(|part| Reference::of(part).is_some()) {
                return Ok(json!({ "join": parts }));
            }
            Ok(Value::String(parts.iter().map(shown).collect()))
        }
        Some(reference) => Ok(look_up(&reference)?.unwrap_or_else(|| value.clone())),
        None => Ok(match value {
            Value::Object(table) => Value::Object(
                table
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), resolve(value, look_up)?)))
                    .collect::<Result<_, String>>()?,
            ),
            Value::Array(of) => of.iter().map(|value| resolve(value, look_up)).collect::<Result<_, String>>()?,
            other => other.clone(),
        }),
    }
}

/// A value as a part of a text.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A value of an action that makes no sense there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongValue {
    /// Where it is in the parameters, as a JSON pointer; empty where it is none alone.
    pub pointer: String,
    /// What is wrong, in one line.
    pub why: String,
}

/// What a parameter may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParameterKind {
    /// Any text.
    #[default]
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// `90s`, `15m`.
    Duration,
    /// A moment, RFC 3339: `2026-01-15T03:30:00Z`.
    Time,
}

impl ParameterKind {
    /// Reads what somebody typed after `--set NAME=`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let value = match self {
            Self::Text | Self::Duration | Self::Time => Value::String(text.to_owned()),
            Self::Integer => text.parse::<i64>().map(Value::from).unwrap_or_else(|_| text.into()),
            Self::Boolean => text.parse::<bool>().map(Value::from).unwrap_or_else(|_| text.into()),
        };
        self.accepts(&value).map(|()| value)
    }

    /// Is this value of this kind?
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn accepts(self, value: &Value) -> Result<(), String> {
        let well = match (self, value) {
            (Self::Text, Value::String(text)) => !text.is_empty(),
            (Self::Integer, Value::Number(number)) => number.is_i64(),
            (Self::Boolean, Value::Bool(_)) => true,
            (Self::Duration, Value::String(text)) => text.parse::<HumanDuration>().is_ok(),
            (Self::Time, Value::String(text)) => text.parse::<jiff::Timestamp>().is_ok(),
            _ => false,
        };
        let wanted = match self {
            Self::Text => "a text that is not empty",
            Self::Integer => "a whole number",
            Self::Boolean => "`true` or `false`",
            Self::Duration => "a duration, for example `15m`",
            Self::Time => "a moment in RFC 3339, for example `2026-01-15T03:30:00Z`",
        };
        if well { Ok(()) } else { Err(format!("`{}` is not {wanted}", shown(value))) }
    }

    /// A value of this kind that stands for one that is not known yet.
    pub fn sample(self) -> Value {
        match self {
            Self::Text => "sample".into(),
            Self::Integer => 1.into(),
            Self::Boolean => true.into(),
            Self::Duration => "1m".into(),
            Self::Time => "2026-01-15T03:30:00Z".into(),
        }
    }
}

/// A value that a plan is given when it is carried out: `failoverd execute PLAN --set NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What it may be.
    pub kind: ParameterKind,
    /// The values that it may have; empty: any of its kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<Value>,
    /// What it is for.
    pub description: String,
    /// What it is where nobody gives it; in the plan of a run, what it is.
    pub value: Option<Value>,
}

impl Parameter {
    /// May it be this?
    ///
    /// # Errors
    /// Why not, in one line.
    pub fn accepts(&self, value: &Value) -> Result<(), String> {
        self.kind.accepts(value)?;
        if self.one_of.is_empty() || self.one_of.contains(value) {
            return Ok(());
        }
        let there: Vec<String> = self.one_of.iter().map(shown).collect();
        Err(format!("`{}` is none of {}", shown(value), there.join(", ")))
    }
}

/// The values of parameters, by name.
pub type Given = BTreeMap<String, Value>;

/// Puts the given values in place of the defaults.
///
/// # Errors
/// A parameter that there is not, a value of another kind, or one that is missing.
pub fn give(parameters: &[Parameter], given: &Given) -> Result<Vec<Parameter>, String> {
    let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    if let Some(unknown) = given.keys().find(|name| !names.contains(&name.as_str())) {
        let there = if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
        return Err(format!("the plan has no parameter `{unknown}`: {there}"));
    }
    let mut values = Vec::new();
    for parameter in parameters {
        let value = given.get(&parameter.name).or(parameter.value.as_ref());
        let value = value.ok_or_else(|| {
            format!(
                "the parameter `{}` ({}) is missing: add --set {}=…",
                parameter.name, parameter.description, parameter.name
            )
        })?;
        parameter.accepts(value).map_err(|why| format!("the parameter `{}`: {why}", parameter.name))?;
        values.push(Parameter { value: Some(value.clone()), ..parameter.clone() });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_table_of_exactly_these_keys_is_a_reference() {
        let output = |steps: &[&str]| Reference::Output {
            steps: steps.iter().map(|step| StepName::new(*step)).collect(),
            output: "endpoint".into(),
        };
        for (value, is) in [
            (json!({ "param": "at" }), Some(Reference::Parameter("at".into()))),
            (json!({ "step": "a", "output": "endpoint" }), Some(output(&["a"]))),
            (json!({ "step": ["a", "b"], "output": "endpoint" }), Some(output(&["a", "b"]))),
            (json!({ "param": "at", "more": 1 }), None),
            (json!({ "param": 1 }), None),
            (json!({ "step": "a" }), None),
            (json!({ "step": [1], "output": "x" }), None),
            (json!("param"), None),
        ] {
            assert_eq!(Reference::of(&value), is, "{value}");
        }
    }

    #[test]
    fn what_is_known_is_filled_in_and_the_rest_is_left() {
        let value = json!({ "a": { "param": "x" }, "b": [{ "join": ["p-", { "param": "x" }, "-", { "step": "s", "output": "o" }] }] });
        let mut known = |reference: &Reference| {
            Ok(matches!(reference, Reference::Parameter(name) if name == "x").then(|| json!(7)))
        };
        let once = resolve(&value, &mut known).unwrap();
        assert_eq!(once["a"], 7);
        assert_eq!(Reference::all_in(&once).len(), 1);
        let mut rest = |_: &Reference| Ok(Some(json!("end")));
        assert_eq!(resolve(&once, &mut rest).unwrap(), json!({ "a": 7, "b": ["p-7-end"] }));
        let mut fails = |_: &Reference| Err("no".to_owned());
        assert_eq!(resolve(&value, &mut fails), Err("no".into()));
    }

    #[test]
    fn pointers_lead_back_to_the_references() {
        let value = json!({ "a/b": [0, { "param": "x" }] });
        let found = Reference::all_in(&value);
        assert_eq!(found, [("/a~1b/1".to_owned(), Reference::Parameter("x".into()))]);
        assert!(value.pointer(&found[0].0).is_some());
    }

    #[test]
    fn parameters_are_typed_named_and_there() {
        let at = Parameter {
            name: "at".into(),
            kind: ParameterKind::Time,
            one_of: Vec::new(),
            description: "when".into(),
            value: None,
        };
        let many = Parameter {
            name: "many".into(),
            kind: ParameterKind::Integer,
            one_of: vec![2.into(), 5.into()],
            description: "n".into(),
            value: Some(2.into()),
        };
        let parameters = [at, many];
        let given = |pairs: &[(&str, Value)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Given>()
        };
        let error = |pairs: &[(&str, Value)]| give(&parameters, &given(pairs)).unwrap_err();
        assert!(error(&[]).contains("`at` (when) is missing"));
        assert!(error(&[("at", json!("now"))]).contains("RFC 3339"));
        assert!(error(&[("when", json!("x"))]).contains("it has at, many"));
        let moment = ParameterKind::Time.parse("2026-01-15T03:30:00Z").unwrap();
        assert_eq!(error(&[("at", moment), ("many", json!(3))]), "the parameter `many`: `3` is none of 2, 5");
        let moment = ParameterKind::Time.parse("2026-01-15T03:30:00Z").unwrap();
        let values = give(&parameters, &given(&[("at", moment), ("many", ParameterKind::Integer.parse("5").unwrap())]));
        assert_eq!(values.unwrap()[1].value, Some(5.into()));
        assert!(ParameterKind::Integer.parse("five").is_err() && ParameterKind::Boolean.parse("yes").is_err());
        for kind in [
            ParameterKind::Text,
            ParameterKind::Integer,
            ParameterKind::Boolean,
            ParameterKind::Duration,
            ParameterKind::Time,
        ] {
            assert_eq!(kind.accepts(&kind.sample()), Ok(()));
        }
    }
}
