//! `failoverd actions`: what a step can do, from the code that does it.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::exit::{Failure, print, print_json};
use super::pages::{Field, fields, followed, list_of, parameter_table, prose, table_of};
use super::show::unknown;
use crate::config::action::{ActionConfig, KINDS, Output, outputs_of, permissions};

/// What one action takes and does.
#[derive(Debug, Serialize)]
struct Page {
    /// `family.verb`.
    name: &'static str,
    /// In one line.
    about: String,
    /// All that there is to say.
    text: String,
    /// What it needs to be permitted; `None` where that depends on what it is told to do.
    needs: Option<String>,
    /// What it takes.
    parameters: Vec<Field>,
    /// What later steps can use.
    outputs: &'static [Output],
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

/// `failoverd actions --permissions`.
///
/// # Errors
/// [`Failure`], where it cannot be printed.
pub fn permissions(json: bool) -> Result<(), Failure> {
    let schema = schemars::schema_for!(ActionConfig).to_value();
    let pages: Vec<Page> = KINDS.iter().map(|(kind, about)| page(&schema, kind, about)).collect();
    if json {
        let of = pages.iter().map(|page| (page.name.to_owned(), page.needs.clone().into()));
        return print_json(&of.collect::<serde_json::Map<String, Value>>());
    }
    let mut table = table_of(&["action", "needs"]);
    for page in &pages {
        table.add_row([page.name, page.needs.as_deref().unwrap_or("see its page")]);
    }
    print(&format!("{table}\n"))
}

fn list() -> String {
    let table = list_of(KINDS.iter().copied().chain(OWN));
    format!("{table}\n\n`failoverd actions NAME` tells what it takes, when it counts as done, and what it needs.\n")
}

fn page(schema: &Value, kind: &'static str, about: &str) -> Page {
    let parameters = parameters_of(schema, kind).unwrap_or(&Value::Null);
    let text = prose(parameters["description"].as_str().unwrap_or_default());
    let (needs, outputs) = (permissions::sentence(&text), outputs_of(kind));
    Page { name: kind, about: about.trim().to_owned(), text, needs, parameters: fields(schema, parameters), outputs }
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

fn shown(page: &Page) -> String {
    let table = parameter_table(&page.parameters);
    let mut text = format!("{}\n  {}\n\n{}\n\n{table}\n", page.name, page.about, page.text);
    text.push_str(&handed_on(page));
    let _ = writeln!(
        text,
        "\nAny value may be given later: {{ param = \"NAME\" }} is a parameter of the plan, {{ step = \"NAME\", output = \"NAME\" }} \
         what an earlier step handed on."
    );
    text
}

/// What later steps can use.
fn handed_on(page: &Page) -> String {
    let named = page.parameters.iter().any(|field| field.name == "outputs");
    if page.outputs.is_empty() {
        return if named { "\nIt hands on what `outputs` names.\n".to_owned() } else { String::new() };
    }
    let mut table = table_of(&["output", "meaning", "for example"]);
    for output in page.outputs {
        table.add_row([output.name, output.meaning, output.sample]);
    }
    let first = page.outputs[0].name;
    format!("\nIt hands on, for later steps ({{ step = \"NAME\", output = \"{first}\" }}):\n{table}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(kind: &'static str) -> Page {
        page(&schemars::schema_for!(ActionConfig).to_value(), kind, "")
    }

    #[test]
    fn a_page_tells_what_later_steps_can_use() {
        insta::assert_snapshot!(handed_on(&page_of("rds.restore_snapshot")));
        assert!(shown(&page_of("rds.restore_snapshot")).contains("the snapshot that it was restored from"));
        let json = serde_json::to_value(page_of("eks.wait_cluster")).expect("it is plain data");
        assert_eq!(json["outputs"][0]["name"], "endpoint");
        assert_eq!(json["outputs"][0]["sample"], "https://endpoint.sample.example");
        assert_eq!(handed_on(&page_of("http.request")), "\nIt hands on what `outputs` names.\n");
        assert_eq!(handed_on(&page_of("kubernetes.scale")), "");
        let with = KINDS.iter().filter(|(kind, _)| !outputs_of(kind).is_empty()).count();
        assert_eq!(with, 15, "an action that hands something on has `OUTPUTS`");
    }

    /// What a policy is written from has to be whole.
    #[test]
    fn every_action_of_aws_and_kubernetes_says_what_it_needs() {
        const THEIRS: [&str; 13] = [
            "rds.",
            "route53.",
            "sns.",
            "kubernetes.",
            "velero.",
            "secretsmanager.",
            "iam.",
            "elasticache.",
            "autoscaling.",
            "ecs.",
            "eks.",
            "s3.",
            "arc.",
        ];
        let theirs = KINDS.iter().filter(|(kind, _)| THEIRS.iter().any(|family| kind.starts_with(family)));
        for (kind, _) in theirs {
            let needs = page_of(kind).needs.unwrap_or_default();
            assert!(needs.contains('`'), "{kind}: {needs:?}");
        }
        let undo = "`get` and `patch` on `deployments.apps`, and `list` on `replicasets.apps`";
        assert_eq!(page_of("kubernetes.rollout_undo").needs.as_deref(), Some(undo));
        assert_eq!(page_of("eks.wait_cluster").needs.as_deref(), Some("`eks:DescribeCluster`"));
    }

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
