//! `failoverd probes`: what a probe can ask and see, from the code that does it.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::exit::{Failure, print, print_json};
use super::pages::{Field, fields, followed, list_of, parameter_table, parts, prose, table_of};
use super::show::unknown;
use crate::config::ProbeKind;
use crate::config::probe::CauseRow;

/// What one kind takes and sees.
#[derive(Debug, Serialize)]
struct Page {
    /// As written in the file.
    name: String,
    /// In one line.
    about: String,
    /// All that there is to say.
    text: String,
    /// What it takes.
    parameters: Vec<Field>,
    /// What those of them hold that are tables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
    /// What it can see besides Up, and what that means.
    causes: Vec<CauseRow>,
}

/// A parameter that is a table, or a list of them.
#[derive(Debug, Serialize)]
struct Part {
    /// The parameter.
    name: String,
    /// What it holds.
    parameters: Vec<Field>,
}

/// `failoverd probes [KIND]`.
///
/// # Errors
/// [`Failure`], where there is no such kind.
pub fn probes(json: bool, kind: Option<&str>) -> Result<(), Failure> {
    let pages = pages();
    match kind {
        None if json => print_json(&pages),
        None => {
            let table = list_of(pages.iter().map(|page| (page.name.as_str(), page.about.as_str())));
            print(&format!(
                "{table}\n\n`failoverd probes KIND` tells what it takes, what it can see, and what that means.\n"
            ))
        }
        Some(kind) => {
            let known = pages.iter().find(|page| page.name == kind);
            let page =
                known.ok_or_else(|| unknown("kind of probe", kind, pages.iter().map(|page| page.name.as_str())))?;
            if json { print_json(page) } else { print(&shown(page)) }
        }
    }
}

/// The pages of all kinds, as they stand in [`ProbeKind`].
fn pages() -> Vec<Page> {
    let schema = schemars::schema_for!(ProbeKind).to_value();
    let kinds = schema["oneOf"].as_array().into_iter().flatten();
    let parts = kinds.flat_map(|one| {
        let about = one["description"].as_str().unwrap_or_default();
        one["properties"].as_object().into_iter().flatten().map(move |(name, of)| (name, about, of))
    });
    parts.map(|(name, about, of)| page(&schema, name, about, of)).collect()
}

fn page(schema: &Value, name: &str, about: &str, of: &Value) -> Page {
    let parameters = followed(schema, of);
    let mut seen = BTreeSet::new();
    Page {
        name: name.to_owned(),
        about: prose(about),
        text: prose(parameters["description"].as_str().unwrap_or_default()),
        parameters: fields(schema, parameters),
        parts: parts(schema, parameters).into_iter().map(|(name, parameters)| Part { name, parameters }).collect(),
        // The first row of a cause holds.
        causes: ProbeKind::causes_of(name).into_iter().filter(|row| seen.insert(row.cause)).collect(),
    }
}

fn shown(page: &Page) -> String {
    let mut causes = table_of(&["cause", "means", "when"]);
    for row in &page.causes {
        causes.add_row([row.cause.as_str(), &row.means.to_string(), row.when]);
    }
    let (name, about, text) = (&page.name, &page.about, &page.text);
    let mut parameters = parameter_table(&page.parameters).to_string();
    for part in &page.parts {
        parameters.push_str(&format!("\n\n`{}` holds:\n{}", part.name, parameter_table(&part.parameters)));
    }
    format!(
        "{name}\n  {about}\n\n{text}\n\n{parameters}\n\nWhat it can see besides up:\n{causes}\n\n\
         `causes = {{ CAUSE = \"degraded\" }}` beside the kind says otherwise; a cause on our own side never means down.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CauseKind, Meaning};

    #[test]
    fn every_kind_has_a_page_with_all_its_parameters_and_causes() {
        let pages = pages();
        assert!(pages.len() >= 5, "{pages:?}");
        for page in &pages {
            assert!(!page.about.is_empty() && !page.text.is_empty() && !page.parameters.is_empty(), "{page:?}");
            for field in page.parameters.iter().chain(page.parts.iter().flat_map(|part| &part.parameters)) {
                assert!(!field.about.is_empty() && !field.kind.is_empty(), "{} {field:?}", page.name);
            }
            assert!(page.causes.iter().any(|row| row.cause == CauseKind::Stalled), "{} sees nothing", page.name);
            for row in &page.causes {
                assert!(!row.cause.is_ours() || row.means == Meaning::Unknown, "{} {row:?}", page.name);
            }
        }
    }

    #[test]
    fn a_cause_is_told_once_with_the_row_that_holds() {
        let dns = pages().into_iter().find(|page| page.name == "dns").expect("there is one");
        let named: Vec<&CauseRow> = dns.causes.iter().filter(|row| row.cause == CauseKind::NameNotFound).collect();
        assert_eq!(named.len(), 1);
        assert!(named[0].when.contains("has no such record"), "{named:?}");
        let sequence = pages().into_iter().find(|page| page.name == "http_sequence").expect("there is one");
        assert!(shown(&sequence).contains("`steps` holds:"), "{}", shown(&sequence));
        let text = shown(&dns);
        assert!(text.contains("wrong_answer") && text.contains("one of `expect`"), "{text}");
    }
}
