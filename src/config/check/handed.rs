//! What steps hand to each other, and what messages name: seen to be there before a run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::suggest;
use crate::core::plan::ancestors;
use crate::core::values::{fill, plain};
use crate::model::reference::Reference;
use crate::model::{Plan, Step, StepName, Work};

/// What each step hands on.
pub type Outputs = BTreeMap<StepName, BTreeSet<String>>;

/// Tells of values that nobody hands on, and of messages that cannot be filled in.
pub fn check(report: &mut Report<'_>, steps_at: &Path, plan: &Plan, outputs: &Outputs) {
    for step in &plan.steps {
        let at = steps_at.key(step.name.as_str());
        let before = ancestors(plan, &step.name);
        if let Some(spec) = step.work.action() {
            for (pointer, reference) in Reference::all_in(&spec.params) {
                let at = pointer.split('/').skip(1).fold(at.clone(), |path, part| path.key(part));
                within(report, &at, &reference, &before, outputs);
            }
        }
        for value in step.terms.values.values() {
            for (_, reference) in Reference::all_in(value) {
                within(report, &at, &reference, &before, outputs);
            }
        }
        messages(report, &at, plan, step, &before, outputs);
    }
}

fn within(report: &mut Report<'_>, at: &Path, reference: &Reference, before: &BTreeSet<StepName>, outputs: &Outputs) {
    match reference {
        Reference::Join(parts) => {
            for part in parts.iter().filter_map(Reference::of) {
                within(report, at, &part, before, outputs);
            }
        }
        Reference::Output { steps, output } => {
            for step in steps {
                handed(report, at, step, output, before, outputs);
            }
        }
        Reference::Parameter(_) | Reference::Item(_) => {}
    }
}

fn handed(
    report: &mut Report<'_>,
    at: &Path,
    step: &StepName,
    output: &str,
    before: &BTreeSet<StepName>,
    outputs: &Outputs,
) {
    // The value itself is a stand-in, which is not looked at; its table is.
    let at = at.split_last().map_or_else(|| at.clone(), |(parent, _)| parent);
    if !before.contains(step) {
        let names = before.iter().map(StepName::as_str);
        let fix = format!("{}; or add `{step}` to `after`", suggest::fix(step.as_str(), "step before it", names));
        report.error("unknown_name", &at, format!("`{step}` is no step before this one"), fix);
        return;
    }
    let known = outputs.get(step).cloned().unwrap_or_default();
    if !known.contains(output) {
        let fix = if known.is_empty() {
            format!("`{step}` hands on nothing")
        } else {
            suggest::fix(output, "output", known.iter().map(String::as_str))
        };
        report.error("unknown_name", &at, format!("`{step}` hands on no `{output}`"), fix);
    }
}

/// Fills in each message once with samples.
fn messages(
    report: &mut Report<'_>,
    at: &Path,
    plan: &Plan,
    step: &Step,
    before: &BTreeSet<StepName>,
    outputs: &Outputs,
) {
    let samples = samples(plan, step, before, outputs);
    let mut told = |at: &Path, text: &str| {
        if let Err(why) = fill(text, &samples) {
            let fix = "name `run.…`, `param.NAME` or `step.NAME.OUTPUT` of a step before it (`-` and `.` as `_`)";
            report.error("bad_message", at, why, fix);
        }
    };
    match &step.work {
        Work::Approval { message } => told(&at.key("approval").key("message"), message),
        Work::Task { message, .. } => told(&at.key("task").key("message"), message),
        Work::Action(spec) => {
            for pointer in &spec.messages {
                let at = pointer.split('/').skip(1).fold(at.clone(), |path, part| path.key(part));
                texts(spec.params.pointer(pointer).unwrap_or(&Value::Null)).iter().for_each(|text| told(&at, text));
            }
        }
        Work::Wait { .. } | Work::Gather { .. } | Work::VerifyProbe { .. } => {}
    }
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(of) => of.iter().flat_map(texts).collect(),
        Value::Object(table) => table.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// What a message can name, with values that only have the form.
fn samples(plan: &Plan, step: &Step, before: &BTreeSet<StepName>, outputs: &Outputs) -> Value {
    let mut parameters: Map<String, Value> =
        plan.parameters.iter().map(|one| (plain(&one.name), one.kind.sample())).collect();
    parameters.extend(step.terms.values.keys().map(|name| (plain(name), "sample".into())));
    let mut steps = Map::new();
    for name in before {
        let handed = outputs.get(name).into_iter().flatten();
        let mut values: Map<String, Value> = handed.map(|output| (output.clone(), "sample".into())).collect();
        values.insert("ended".into(), "done".into());
        if let Some(short) = name.as_str().strip_prefix(&step.terms.scope).filter(|_| !step.terms.scope.is_empty()) {
            steps.insert(plain(short), values.clone().into());
        }
        steps.insert(plain(name.as_str()), values.into());
    }
    let run = ["id", "plan", "scenario", "service", "epoch", "kind", "trigger", "outage_start", "started", "rto"];
    let run: Map<String, Value> = run.into_iter().map(|name| (name.to_owned(), "sample".into())).collect();
    json!({ "run": run, "param": parameters, "step": steps })
}
