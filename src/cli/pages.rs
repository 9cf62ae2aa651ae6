//! What the pages of `failoverd actions` and `failoverd probes` share: parameters as people read
//! them, from the schema of the code that reads them.

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

/// One parameter.
#[derive(Debug, Serialize)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: String,
    /// Its type.
    pub(super) kind: String,
    /// Must it be given?
    pub(super) required: bool,
    /// What it is.
    pub(super) about: String,
}

/// The parameters, those first that must be given.
pub(super) fn fields(schema: &Value, parameters: &Value) -> Vec<Field> {
    let required: Vec<&str> =
        parameters["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let field = |(name, value): (&String, &Value)| Field {
        name: name.clone(),
        kind: type_of(schema, value),
        required: required.contains(&name.as_str()),
        about: prose(value["description"].as_str().unwrap_or_default()),
    };
    let mut fields: Vec<Field> = parameters["properties"].as_object().into_iter().flatten().map(field).collect();
    fields.sort_by_key(|field| !field.required);
    fields
}

/// What the parameters that are tables, or lists of them, hold themselves: the parameter, and its
/// own parameters.
pub(super) fn parts(schema: &Value, parameters: &Value) -> Vec<(String, Vec<Field>)> {
    let properties = parameters["properties"].as_object().into_iter().flatten();
    let part = |(name, value): (&String, &Value)| {
        let of = [value, &value["items"], &value["anyOf"][0]];
        let table = of.into_iter().map(|one| followed(schema, one)).find(|one| one["properties"].is_object())?;
        Some((name.clone(), fields(schema, table)))
    };
    properties.filter_map(part).collect()
}

/// An empty table with these columns.
pub(super) fn table_of(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns);
    table
}

/// Names, and what each is in one line.
pub(super) fn list_of<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    for (name, about) in rows {
        table.add_row([name, about.trim()]);
    }
    table
}

/// The parameters as a table.
pub(super) fn parameter_table(fields: &[Field]) -> Table {
    let mut table = table_of(&["parameter", "type", "", "meaning"]);
    for field in fields {
        let must = if field.required { "required" } else { "" };
        table.add_row([field.name.as_str(), &field.kind, must, &field.about]);
    }
    table
}

/// What a reference points to, or the schema itself.
pub(super) fn followed<'a>(schema: &'a Value, value: &'a Value) -> &'a Value {
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
pub(super) fn prose(text: &str) -> String {
    text.split("\n\n")
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n\n")
}
