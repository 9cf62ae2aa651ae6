//! The merged tree → [`File`], with every fault of its shape told at once.
//!
//! serde stops at its first error. So what is wrong is told, put aside, and the rest is read
//! again, until all of it could be read. What was put aside is remembered ([`Report::set_broken`]),
//! so that nothing that follows from it is told as a fault of its own.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::path::{Path, Segment};
use super::redact::is_secret_key;
use super::report::Report;
use super::shape::File;
use super::{lists, suggest};

/// So many faults of the shape are told; a file with more is another kind of file.
const MOST: usize = 200;

/// Reads the tree. `None` where it could not be read even after what is wrong was put aside; then
/// there is a fault that says so.
pub fn read(tree: &mut Value, report: &mut Report<'_>) -> Option<File> {
    let mut stand_ins: BTreeMap<Path, usize> = BTreeMap::new();
    for path in lists::in_place_of_tables(tree) {
        report.error("wrong_value", &path, "a list where a table is expected", "write a table: { … }");
        if let Some(secret) = sensitive(&path) {
            report.hide(&secret);
        }
        put_aside(tree, &path, &mut stand_ins, report);
    }
    // Each fault may need every stand-in to be tried.
    for _ in 0..MOST * stand_in_count() {
        let error = match serde_path_to_error::deserialize::<_, File>(&*tree) {
            Ok(file) => return Some(file),
            Err(error) => error,
        };
        let path = existing(&Path::from(error.path()), tree);
        let problem = Problem::of(&error.inner().to_string());
        repair(tree, &path, problem, &mut stand_ins, report);
    }
    report.error(
        "too_many_faults",
        &Path::default(),
        "there are too many faults to tell them all",
        "mend those above first",
    );
    None
}

/// What serde says is wrong.
#[derive(Debug, PartialEq)]
enum Problem {
    /// A key that is not allowed, and those that are.
    UnknownKey(String, Vec<String>),
    /// A key that must be there.
    MissingKey(String),
    /// One of a fixed set was expected.
    UnknownVariant(String, Vec<String>),
    /// Anything else, in words.
    Other(String),
}

impl Problem {
    /// serde tells its errors as text only; these four have kept their words for years, and a
    /// test holds them.
    fn of(message: &str) -> Self {
        let quoted = |text: &str| -> Vec<String> {
            text.split('`').skip(1).step_by(2).map(str::to_owned).filter(|name| !name.is_empty()).collect()
        };
        let first = |rest: &str| quoted(rest).into_iter().next().unwrap_or_default();
        // The unknown name itself may contain a backtick; what follows it is told by the comma.
        let named = |rest: &str| {
            let (name, expected) = rest.split_once("`, ").unwrap_or((rest, ""));
            (name.trim_end_matches('`').to_owned(), quoted(expected))
        };
        if let Some(rest) = message.strip_prefix("unknown field `") {
            let (name, expected) = named(rest);
            return Self::UnknownKey(name, expected);
        }
        if let Some(rest) = message.strip_prefix("missing field ") {
            return Self::MissingKey(first(rest));
        }
        if let Some(rest) = message.strip_prefix("unknown variant `") {
            let (name, expected) = named(rest);
            return Self::UnknownVariant(name, expected);
        }
        Self::Other(message.to_owned())
    }
}

/// The path as far as the tree has it, and one segment more: serde's path may name a key twice
/// (as the table's and as the variant's).
fn existing(path: &Path, tree: &Value) -> Path {
    let mut known = Path::default();
    for segment in &path.0 {
        let mut longer = known.clone();
        longer.0.push(segment.clone());
        if longer.find(tree).is_none() {
            break;
        }
        known = longer;
    }
    known
}

fn repair(
    tree: &mut Value,
    path: &Path,
    problem: Problem,
    stand_ins: &mut BTreeMap<Path, usize>,
    report: &mut Report<'_>,
) {
    if let Some(secret) = sensitive(path) {
        report.hide(&secret);
    }
    match problem {
        Problem::UnknownKey(name, allowed) => unknown_key(tree, path, &name, &allowed, report),
        Problem::MissingKey(name) => missing_key(tree, path, &name, stand_ins, report),
        Problem::UnknownVariant(name, allowed) => {
            // In the file it is a text (`mode = "atuo"`) or the key of a table (`rds.promot = …`).
            let at = if path.find(tree).is_some_and(Value::is_object) { path.key(&name) } else { path.clone() };
            let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
            let fix = suggest::fix(&name, "value", allowed.iter().copied());
            let message = match allowed.as_slice() {
                [only] => format!("`{name}` is not `{only}`"),
                several => format!("`{name}` is none of {}", suggest::list(several)),
            };
            if at == *path {
                report.error("unknown_value", &at, message, fix);
            } else {
                report.error_at_key("unknown_value", &at, message, fix);
            }
            put_aside(tree, path, stand_ins, report);
        }
        Problem::Other(message) => {
            if !as_text(tree, path, &message, report) {
                let (what, fix) = in_words(&message);
                // The value is quoted in it.
                let hidden = sensitive(path).is_some() || wants_secret(path, &message);
                if hidden {
                    report.error_in_secret("wrong_value", path, "this is not what is expected here", fix);
                } else {
                    report.error("wrong_value", path, what, fix);
                }
                put_aside(tree, path, stand_ins, report);
            }
        }
    }
}

/// Does a secret belong here? Then what stands here by mistake may be the secret itself.
fn wants_secret(path: &Path, message: &str) -> bool {
    let is_key = matches!(path.0.last(), Some(Segment::Key(key)) if key == "key");
    message.contains("expected where the secret is") || (is_key && message.contains("{ credential = "))
}

/// The part of the path that a secret may be written at by mistake: an address, a header, or
/// whatever is called like a secret. It is not shown.
fn sensitive(path: &Path) -> Option<Path> {
    let place = path.0.iter().position(|segment| match segment {
        Segment::Key(key) => matches!(key.as_str(), "url" | "headers") || is_secret_key(key),
        Segment::Index(_) => false,
    })?;
    Some(Path(path.0[..=place].to_vec()))
}

fn unknown_key(tree: &mut Value, path: &Path, name: &str, allowed: &[String], report: &mut Report<'_>) {
    // serde's path ends at the table, or at the key itself.
    let at = match path.find(tree) {
        Some(Value::Object(table)) if table.contains_key(name) => path.key(name),
        _ => path.clone(),
    };
    let fix = suggest::fix(name, "key", allowed.iter().map(String::as_str));
    report.error_at_key("unknown_key", &at, format!("unknown key `{name}`"), fix);
    remove(tree, &at);
}

fn missing_key(
    tree: &mut Value,
    path: &Path,
    name: &str,
    stand_ins: &mut BTreeMap<Path, usize>,
    report: &mut Report<'_>,
) {
    let at = path.key(name);
    if !report.is_broken(&at) {
        let fix = format!(
            "add `{name} = …`{}",
            example(path, name).map(|text| format!(", for example `{name} = {text}`")).unwrap_or_default()
        );
        // The table has a place in the text, the missing key has none.
        report.error("missing_key", path, format!("`{name}` is missing"), fix);
        report.set_broken(&at);
    }
    stand_in(tree, &at, stand_ins);
}

/// What a required key may look like.
fn example(table: &Path, name: &str) -> Option<&'static str> {
    let within = |kind: &str| table.0.iter().any(|segment| *segment == Segment::Key(kind.to_owned()));
    Some(match name {
        "url" if within("postgres") => "{ file = \"/etc/failoverd/database.url\" }",
        "url" if within("redis") => "\"redis://cache.example:6379\"",
        "severity" => "\"P1\"",
        "confirm_for" => "\"30s\"",
        "rto" => "\"15m\"",
        "when" => "\"api is down\"",
        "url" => "\"https://api.example/health\"",
        "address" => "\"db.example:5432\"",
        "topic" => "\"arn:aws:sns:us-west-2:123456789012:critical\"",
        "deployment" => "\"namespace/name\"",
        "replicas" => "3",
        "role" => "\"primary\"",
        "region" => "\"us-west-2\"",
        _ => return None,
    })
}

/// An environment variable has no quotes: `FAILOVERD__DAEMON__NAME=1` may be the text `1`.
fn as_text(tree: &mut Value, path: &Path, message: &str, report: &Report<'_>) -> bool {
    let wants_text = ["expected a string", "expected a duration", "expected path string"]
        .iter()
        .any(|expected| message.contains(expected));
    let Some(variable) = report.layers().variable(path).filter(|variable| variable.path == *path) else { return false };
    match path.find_mut(tree) {
        Some(value) if wants_text && !value.is_string() => {
            *value = Value::String(variable.text.clone());
            true
        }
        _ => false,
    }
}

/// Takes the wrong value out, or puts something readable in its place where it has to be there.
fn put_aside(tree: &mut Value, path: &Path, stand_ins: &mut BTreeMap<Path, usize>, report: &mut Report<'_>) {
    if path.0.is_empty() {
        *tree = json!({});
        return;
    }
    let again = report.is_broken(path);
    report.set_broken(path);
    // An element that is taken out would move those after it, and their places in the text.
    if again || matches!(path.0.last(), Some(Segment::Index(_))) {
        stand_in(tree, path, stand_ins);
    } else {
        remove(tree, path);
    }
}

fn remove(tree: &mut Value, path: &Path) {
    if let Some((parent, Segment::Key(key))) = path.split_last()
        && let Some(Value::Object(table)) = parent.find_mut(tree)
    {
        table.remove(key);
    }
}

fn stand_in_values() -> [Value; 8] {
    // A text that is also a duration; a number; an empty list and table; and the enumerations
    // that have to be there.
    [json!("1s"), json!(1), json!([]), json!({}), json!(true), json!("auto"), json!("primary"), json!(200)]
}

fn stand_in_count() -> usize {
    stand_in_values().len() + 2
}

/// Puts the next readable value in the place of a wrong or missing one. Where none is left, what
/// contains it is put aside.
fn stand_in(tree: &mut Value, path: &Path, tried: &mut BTreeMap<Path, usize>) {
    let count = tried.entry(path.clone()).or_insert(0);
    let value = stand_in_values().into_iter().nth(*count);
    *count += 1;
    let Some((parent, last)) = path.split_last() else { return };
    match (value, parent.find_mut(tree), last) {
        (Some(value), Some(Value::Object(table)), Segment::Key(key)) => {
            table.insert(key.clone(), value);
        }
        (Some(value), Some(Value::Array(array)), Segment::Index(index)) if *index < array.len() => {
            array[*index] = value;
        }
        (None, Some(Value::Array(array)), _) => array.clear(),
        (None, ..) if parent.0.is_empty() => *tree = Value::Object(Map::new()),
        _ => remove(tree, &parent),
    }
}

/// serde's words for types → words of the file, and what to do.
fn in_words(message: &str) -> (String, String) {
    let split = message.strip_prefix("invalid ").and_then(|rest| rest.split_once(", expected "));
    let Some((got, expected)) = split else {
        let (what, fix) = message.split_once("; ").unwrap_or((message, ""));
        return (what.to_owned(), fix.to_owned());
    };
    let got = got.trim_start_matches("type: ").trim_start_matches("value: ");
    let renamed = [
        ("string ", "the text "),
        ("boolean ", ""),
        ("integer ", "the number "),
        ("floating point ", "the number "),
        ("sequence", "a list"),
        ("map", "a table"),
        ("null", "nothing"),
    ];
    let got = renamed
        .iter()
        .find_map(|(theirs, ours)| got.strip_prefix(theirs).map(|rest| format!("{ours}{rest}")))
        .unwrap_or_else(|| got.to_owned());
    let wanted = match expected {
        "a string" | "path string" => "a text in quotes",
        "a boolean" => "true or false",
        "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "f64" => "a number",
        "a sequence" => "a list: [ … ]",
        "a map" => "a table",
        "map with a single key" => "exactly one of them",
        other if other.starts_with("struct ") => "a table: { … }",
        other if other.starts_with("enum ") || other == "string or map" => "a table with the name of the action",
        other => other,
    };
    (format!("{got} where {wanted} is expected"), format!("write {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its errors are looked at")]
    struct Sample {
        number: u32,
        #[serde(default)]
        kind: Option<Kind>,
    }

    #[derive(serde::Deserialize, Debug)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        One,
        Two,
    }

    fn problem(value: Value) -> Problem {
        Problem::of(&serde_json::from_value::<Sample>(value).unwrap_err().to_string())
    }

    #[test]
    fn the_words_of_serde_are_still_those_that_are_read() {
        assert_eq!(
            problem(json!({ "numbr": 1 })),
            Problem::UnknownKey("numbr".into(), vec!["number".into(), "kind".into()])
        );
        assert_eq!(problem(json!({})), Problem::MissingKey("number".into()));
        assert_eq!(
            problem(json!({ "number": 1, "kind": "three" })),
            Problem::UnknownVariant("three".into(), vec!["one".into(), "two".into()])
        );
        assert!(matches!(problem(json!({ "number": "x" })), Problem::Other(_)));
    }

    #[test]
    fn types_are_told_in_the_words_of_the_file() {
        let (what, fix) = in_words("invalid type: string \"x\", expected u32");
        assert_eq!(what, "the text \"x\" where a whole number, 0 or more is expected");
        assert_eq!(fix, "write a whole number, 0 or more");
    }
}
