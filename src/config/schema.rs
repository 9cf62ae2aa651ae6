//! The JSON Schema of the file, for editors.

use super::shape::File;

/// The schema. Everything may be left out at the root and in `[daemon]`, since the embedded default
/// has it; unknown keys are refused as the daemon refuses them.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(File).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "failoverd.toml".into());
        root.remove("required");
    }
    if let Some(daemon) = schema.pointer_mut("/$defs/Daemon").and_then(|daemon| daemon.as_object_mut()) {
        daemon.remove("required");
    }
    schema
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// As much of JSON Schema as our own needs.
    fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
        if let Some(name) = schema["$ref"].as_str() {
            let target = root.pointer(name.trim_start_matches('#')).unwrap();
            return fits(root, target, value);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(of) = schema[key].as_array() {
                return of.iter().any(|one| fits(root, one, value));
            }
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one.as_str()],
            Value::Array(of) => of.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        let own = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let typed = types.contains(&own) || (own == "integer" && types.contains(&"number"));
        if !types.is_empty() && !typed {
            return false;
        }
        if let Some(one_of) = schema["enum"].as_array()
            && !one_of.contains(value)
        {
            return false;
        }
        if schema.get("const").is_some_and(|only| only != value) {
            return false;
        }
        match value {
            Value::Array(items) => {
                items.iter().all(|item| schema["items"].is_null() || fits(root, &schema["items"], item))
            }
            Value::Object(table) => {
                let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                required.into_iter().all(|key| table.contains_key(key))
                    && table.iter().all(|(key, value)| {
                        match (&schema["properties"][key], &schema["additionalProperties"]) {
                            (Value::Null, Value::Bool(allowed)) => *allowed,
                            (Value::Null, Value::Null) => true,
                            (Value::Null, other) => fits(root, other, value),
                            (property, _) => fits(root, property, value),
                        }
                    })
            }
            _ => true,
        }
    }

    fn parsed(text: &str) -> Value {
        serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
    }

    #[test]
    fn what_is_shipped_fits_the_schema() {
        let schema = schema();
        for text in [super::super::layers::EMBEDDED, include_str!("../../config/examples/minimal.toml")] {
            assert!(fits(&schema, &schema, &parsed(text)));
        }
    }

    #[test]
    fn an_editor_flags_what_the_daemon_refuses() {
        let schema = schema();
        for text in [
            "[demon]",
            "[daemon]\nmode = \"atuo\"",
            "[daemon]\nnmae = \"x\"",
            "[probes.a]\ntcp = { adress = \"x:1\" }",
            "[probes.a]\ntcp = { }",
            "[probes.a]\nhttp = { url = { envv = \"x\" } }",
            "[probes.a]\nfall = \"3\"",
            "[plans.p.steps.s]\nrds.promot = { }",
            "[scenarios.s]\nwhen = { at_leest = 2 }",
        ] {
            assert!(!fits(&schema, &schema, &parsed(text)), "{text}");
        }
    }

    #[test]
    fn every_table_of_the_file_refuses_unknown_keys() {
        let schema = schema();
        let open: Vec<&String> = schema["$defs"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, of)| of["properties"].is_object() && of["additionalProperties"] != Value::Bool(false))
            .map(|(name, _)| name)
            .collect();
        assert!(open.is_empty(), "{open:?}");
    }

    /// Editors read the file, so it is kept beside the example.
    #[test]
    fn the_schema_beside_the_example_is_this_one() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/failoverd.schema.json");
        let text = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(kept == text, "run: UPDATE_SCHEMA=1 cargo test --lib config::schema");
    }

    #[test]
    fn the_list_of_tables_is_the_whole_one() {
        let schema = schema();
        let listed: BTreeSet<&str> = File::keys().into();
        let has: BTreeSet<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(listed, has);
    }
}
