//! Lists that stand where a table belongs.
//!
//! serde takes a list for a table, its elements for the keys in their order. Our schema does not,
//! and a person who wrote one did not mean it so.

use std::sync::LazyLock;

use serde_json::Value;

use super::path::Path;

/// The paths of the lists that no branch of the schema allows.
pub fn in_place_of_tables(tree: &Value) -> Vec<Path> {
    static SCHEMA: LazyLock<Value> = LazyLock::new(super::schema::schema);
    let mut found = Vec::new();
    find(&SCHEMA, &SCHEMA, tree, &Path::default(), &mut found);
    found
}

fn find(root: &Value, schema: &Value, value: &Value, path: &Path, found: &mut Vec<Path>) {
    let branches = branches(root, schema);
    match value {
        Value::Array(items) => {
            let allowed = branches.iter().any(|branch| is_of_type(branch, "array") || branch.get("type").is_none());
            if !allowed {
                // Where a table is not expected either, serde says in its own words what is.
                if branches.iter().any(|branch| is_of_type(branch, "object")) {
                    found.push(path.clone());
                }
            } else if let Some(of) = branches.iter().find_map(|branch| branch.get("items")) {
                for (place, item) in items.iter().enumerate() {
                    find(root, of, item, &path.index(place), found);
                }
            }
        }
        Value::Object(table) => {
            for (key, value) in table {
                let below = branches.iter().find_map(|branch| {
                    let property = branch.get("properties").and_then(|properties| properties.get(key));
                    property.or_else(|| branch.get("additionalProperties").filter(|more| more.is_object()))
                });
                if let Some(below) = below {
                    find(root, below, value, &path.key(key), found);
                }
            }
        }
        _ => {}
    }
}

/// The schemas that this one stands for, references and alternatives resolved.
fn branches<'s>(root: &'s Value, schema: &'s Value) -> Vec<&'s Value> {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        return root.pointer(target.trim_start_matches('#')).map(|schema| branches(root, schema)).unwrap_or_default();
    }
    let alternatives: Vec<&Value> =
        ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(*key)?.as_array()).flatten().collect();
    if alternatives.is_empty() {
        return vec![schema];
    }
    alternatives.into_iter().flat_map(|alternative| branches(root, alternative)).collect()
}

fn is_of_type(schema: &Value, wanted: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == wanted,
        Some(Value::Array(of)) => of.iter().any(|one| one == wanted),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_lists_in_place_of_tables_are_found() {
        let tree = json!({
            "anchors": ["1.1.1.1:443"],
            "probes": { "a": { "tcp": ["x:1"] }, "b": { "http": { "url": ["x"], "status": [200] } } },
            "scenarios": { "s": { "when": { "all": ["a", ["b"]] }, "unless": ["a"], "replication": [{ "standby": "a" }] } },
            "plans": { "p": { "steps": { "s": { "http": { "request": { "url": "x", "json": [1, [2]] } } } } } },
            "daemon": { "name": ["x"] },
        });
        let found: Vec<String> = in_place_of_tables(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["anchors", "probes.a.tcp", "probes.b.http.url", "scenarios.s.when.all[1]"]);
    }
}
