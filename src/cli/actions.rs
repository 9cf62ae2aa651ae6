//! `failoverd actions`: what a step can do, from the code that does it.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

use super::exit::{Failure, print, print_json};
use super::show::unknown;
use crate::config::action::{ActionConfig, KINDS};

/// What one action takes and does.
#[derive(Debug, Serialize)]
struct Page {
    /// `family.verb`.
    name: &'static str,
    /// In one line.
    about: String,
    /// All that there is to say.
    text: String,
    /// What it takes.
    parameters: Vec<Field>,
}

/// One parameter.
#[derive(Debug, Serialize)]
struct Field {
    /// Its name.
    name: String,
    /// Its type.
    kind: String,
    /// Must it be given?
    required: bool,
    /// What it is.
    about: String,
}

/// What a step does without an outside call.
const OWN: [(&str, &str); 5] = [
    ("verify.probe", "A named probe must be Up."),
    ("approval", "A person must say yes."),
    ("task", "A job for a person, with a deadline and reminders."),
    ("wait", "Lets time pass."),
    ("run_plan", "The steps of another plan."),
];

/// `failoverd actions [NAME]`.
///
/// # Errors
/// [`Failure`], where there is no such action.
pub fn actions(json: bool, name: Option<&str>) -> Result<(), Failure> {
    let schema = schemars::schema_for!(ActionConfig).to_value();
    match name {
        None if json => print_json(&KINDS.iter().map(|(kind, about)| page(&schema, kind, about)).collect::<Vec<_>>()),
        None => print(&list()),
        Some(name) => {
            let known = KINDS.iter().find(|(kind, _)| *kind == name);
            let (kind, about) = known.ok_or_else(|| unknown("action", name, KINDS.iter().map(|(kind, _)| *kind)))?;
            let page = page(&schema, kind, about);
            if json { print_json(&page) } else { print(&shown(&page)) }
        }
    }
}

fn list() -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    for (kind, about) in KINDS.iter().copied().chain(OWN) {
        table.add_row([kind, about.trim()]);
    }
    format!("{table}\n\n`failoverd actions NAME` tells what it takes, when it counts as done, and what it needs.\n")
}

fn page(schema: &Value, kind: &'static str, about: &str) -> Page {
    let parameters = parameters_of(schema, kind).unwrap_or(&Value::Null);
    let required: Vec<&str> =
        parameters["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let fields = parameters["properties"].as_object().into_iter().flatten();
    let field = |(name, value): (&String, &Value)| Field {
        name: name.clone(),
        kind: type_of(schema, value),
        required: required.contains(&name.as_str()),
        about: prose(value["description"].as_str().unwrap_or_default()),
    };
    let mut parameters_shown: Vec<Field> = fields.map(field).collect();
    parameters_shown.sort_by_key(|field| !field.required);
    let text = prose(parameters["description"].as_str().unwrap_or_default());
    Page { name: kind, about: about.trim().to_owned(), text, parameters: parameters_shown }
}

/// The schema of an action's parameters: family, then verb.
fn parameters_of<'a>(schema: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut at = schema;
    for part in kind.split('.') {
        let of = at["oneOf"].as_array()?;
        let found = of.iter().find_map(|one| one["properties"].get(part))?;
        at = followed(schema, found);
    }
    Some(at)
}

fn followed<'a>(schema: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().map(|pointer| pointer.trim_start_matches('#'));
    pointer.and_then(|pointer| schema.pointer(pointer)).unwrap_or(value)
}

/// A type in a word or two.
fn type_of(schema: &Value, value: &Value) -> String {
    let name = value["$ref"].as_str().and_then(|pointer| pointer.rsplit('/').next());
    match name {
        Some("SecretText") => return "text or secret".into(),
        Some("HumanDuration") => return "duration".into(),
        _ => {}
    }
    if let Some(of) = value["anyOf"].as_array().or(value["oneOf"].as_array()) {
        let kinds: Vec<String> =
            of.iter().map(|one| type_of(schema, one)).filter(|kind| kind != "null" && !kind.is_empty()).collect();
        return kinds.join(" or ");
    }
    if name.is_some() {
        let target = followed(schema, value);
        if let Some(of) = target["enum"].as_array() {
            return of.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | ");
        }
        if let Some(of) = target["oneOf"].as_array() {
            let names: Vec<&str> = of.iter().filter_map(|one| one["const"].as_str()).collect();
            if !names.is_empty() {
                return names.join(" | ");
            }
        }
        return type_of(schema, target);
    }
    match &value["type"] {
        Value::String(kind) => named(schema, kind, value),
        Value::Array(kinds) => {
            let kinds = kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
            kinds.map(|kind| named(schema, kind, value)).collect::<Vec<_>>().join(" or ")
        }
        _ => "any".into(),
    }
}

fn named(schema: &Value, kind: &str, value: &Value) -> String {
    match kind {
        "string" => "text".into(),
        "integer" => "integer".into(),
        "number" => "number".into(),
        "boolean" => "true | false".into(),
        "array" => format!("list of {}", type_of(schema, &value["items"])),
        "object" if value["additionalProperties"].is_object() => {
            format!("table of {}", type_of(schema, &value["additionalProperties"]))
        }
        "object" => "table".into(),
        other => other.into(),
    }
}

/// Documentation in one line for each paragraph.
fn prose(text: &str) -> String {
    text.split("\n\n")
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn shown(page: &Page) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["parameter", "type", "", "meaning"]);
    for field in &page.parameters {
        let must = if field.required { "required" } else { "" };
        table.add_row([field.name.as_str(), &field.kind, must, &field.about]);
    }
    let mut text = format!("{}\n  {}\n\n{}\n\n{table}\n", page.name, page.about, page.text);
    let _ = writeln!(
        text,
        "\nAny value may be given later: {{ param = \"NAME\" }} is a parameter of the plan, {{ step = \"NAME\", output = \"NAME\" }} \
         what an earlier step handed on."
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_a_page_with_all_its_parameters() {
        let schema = schemars::schema_for!(ActionConfig).to_value();
        for (kind, about) in KINDS {
            let page = page(&schema, kind, about);
            assert!(!page.about.is_empty(), "{kind}");
            assert!(page.text.contains(kind), "{kind}: its documentation does not name it: {}", page.text);
            assert!(!page.parameters.is_empty(), "{kind}");
            for field in &page.parameters {
                assert!(!field.about.is_empty() && !field.kind.is_empty(), "{kind} {field:?}");
            }
        }
    }

    #[test]
    fn a_page_tells_types_as_people_say_them() {
        let schema = schemars::schema_for!(ActionConfig).to_value();
        let page = page(&schema, "http.request", "");
        let kind = |name: &str| page.parameters.iter().find(|field| field.name == name).map(|field| field.kind.clone());
        assert_eq!(kind("status").as_deref(), Some("list of integer"));
        assert_eq!(kind("url").as_deref(), Some("text or secret"));
        assert_eq!(kind("headers").as_deref(), Some("table of text or secret"));
        assert!(page.parameters.iter().any(|field| field.name == "url" && field.required));
    }
}
