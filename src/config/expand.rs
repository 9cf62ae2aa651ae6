//! Steps that stand for several: `for_each` and `run_plan` are written out before the file is read, so
//! that everything behind it (checks, hashes, journal, views) knows plain steps only.
//!
//! The step itself stays as a `gather` of those that it stands for: what comes `after` it waits for
//! enough of them, and what they hand on is handed on by it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::path::Path;
use super::report::Report;
use super::suggest;
use crate::model::reference::{Reference, resolve};

/// The steps of each plan in the order in which people read them.
pub type Order = BTreeMap<String, Vec<String>>;

/// So many steps one may stand for.
const MOST: usize = 200;

/// Writes them out in the tree, and tells what is wrong with them.
pub fn expand(tree: &mut Value, report: &mut Report<'_>) -> Order {
    let mut order = Order::new();
    let Some(plans) = tree.get_mut("plans").and_then(Value::as_object_mut) else { return order };
    let names: Vec<String> = plans.keys().cloned().collect();
    for name in &names {
        let at = Path::of(&["plans", name, "steps"]);
        let Some(steps) = steps_of(plans, name) else { continue };
        let mut written: Vec<String> = steps.keys().cloned().collect();
        written.sort_by_key(|step| report.layers().written_order(&at.key(step)));
        order.insert(name.clone(), each(&at, steps, written, report));
    }
    // A child plan is taken as it is written, with its own lists written out.
    let whole = plans.clone();
    for name in &names {
        let at = Path::of(&["plans", name, "steps"]);
        let (Some(steps), Some(written)) = (steps_of(plans, name), order.get_mut(name)) else { continue };
        let mut all = Vec::new();
        for step in std::mem::take(written) {
            if steps.get(&step).and_then(|table| table.get("run_plan")).is_some() {
                all.extend(child_plan(&at, steps, &step, &whole, report));
            }
            all.push(step);
        }
        *written = all;
    }
    super::drills::write_out(plans, &whole, &mut order, report);
    order
}

fn steps_of<'a>(plans: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    plans.get_mut(name)?.get_mut("steps")?.as_object_mut()
}

/// Writes out `for_each`.
fn each(at: &Path, steps: &mut Map<String, Value>, written: Vec<String>, report: &mut Report<'_>) -> Vec<String> {
    let mut order = Vec::new();
    for name in written {
        let at = at.key(&name);
        let table = steps.get(&name).and_then(Value::as_object).cloned().unwrap_or_default();
        match table.get("for_each") {
            None => {
                if table.contains_key("minimum_success") {
                    let fix = "add `for_each = [ … ]`, or leave it out";
                    report.error("nothing_to_count", &at.key("minimum_success"), "there is nothing to count", fix);
                }
            }
            Some(Value::Array(items)) if !items.is_empty() && items.len() <= MOST => {
                let children = items_of(&at, steps, &name, &table, items, report);
                order.extend(children.iter().cloned());
                let minimum = minimum(&at, &table, children.len(), report);
                let gather = gather(&table, &waited_for(&table, steps, &children), minimum);
                steps.insert(name.clone(), gather);
            }
            Some(_) => {
                let message = "this is no list of items, or an empty one";
                report.error("empty", &at.key("for_each"), message, "write `for_each = [\"a\", \"b\"]`");
                report.set_broken(&at);
                steps.insert(name.clone(), json!({ "wait": "1s" }));
            }
        }
        order.push(name);
    }
    order
}

fn items_of(
    at: &Path,
    steps: &mut Map<String, Value>,
    name: &str,
    table: &Map<String, Value>,
    items: &[Value],
    report: &mut Report<'_>,
) -> Vec<String> {
    let few = table.get("minimum_success").and_then(Value::as_u64).is_some_and(|n| n < items.len() as u64);
    let mut children = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let child = format!("{name}.{}", label(item).unwrap_or_else(|| (place + 1).to_string()));
        let child = if children.contains(&child) { format!("{child}-{}", place + 1) } else { child };
        let mut own = table.clone();
        own.remove("for_each");
        own.remove("minimum_success");
        // The group decides how many of them may fail.
        if few && !own.contains_key("on_error") {
            own.insert("on_error".into(), "continue".into());
        }
        let filled = resolve(&Value::Object(own), &mut |reference| match reference {
            Reference::Item(field) => field_of(item, field).map(Some),
            _ => Ok(None),
        });
        report.alias(with_last(at, &child), at.clone());
        match filled {
            Ok(filled) => {
                steps.insert(child.clone(), filled);
                children.push(child);
            }
            Err(why) => report.error("unknown_item", &at.key("for_each").index(place), why, "mend the item"),
        }
    }
    children
}

fn with_last(at: &Path, name: &str) -> Path {
    at.split_last().map_or_else(|| at.clone(), |(parent, _)| parent.key(name))
}

/// What a child is called after: the item, or its `name`.
fn label(item: &Value) -> Option<String> {
    let text = match item {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Object(table) => table.get("name")?.as_str()?.to_owned(),
        _ => return None,
    };
    let plain: String = text.chars().map(|c| if suggest::is_plain_name(&c.to_string()) { c } else { '-' }).collect();
    Some(plain).filter(|plain| !plain.is_empty())
}

fn field_of(item: &Value, field: &str) -> Result<Value, String> {
    match (item, field) {
        (Value::Object(table), _) => {
            table.get(field).cloned().ok_or_else(|| format!("this item has no `{field}`, which the step names"))
        }
        (other, "value") => Ok(other.clone()),
        _ => Err(format!("this item is no table, so that it has no `{field}`; `{{ item = \"value\" }}` is all of it")),
    }
}

fn minimum(at: &Path, table: &Map<String, Value>, all: usize, report: &mut Report<'_>) -> usize {
    // Where nothing is said, each one's `on_error` decides: one that may not fail parks by itself.
    let Some(value) = table.get("minimum_success") else { return 0 };
    match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
        Some(minimum) if (1..=all).contains(&minimum) => minimum,
        _ => {
            let message = format!("{value} of {all} cannot be required");
            report.error("bad_minimum", &at.key("minimum_success"), message, format!("write 1 to {all}"));
            all
        }
    }
}

/// Those of the children that the step itself waits for. A step of the recovery cannot wait for one that
/// comes after the recovery; and the run waits for no task after it, nor may it by way of the step.
fn waited_for(table: &Map<String, Value>, steps: &Map<String, Value>, children: &[String]) -> Vec<String> {
    let after_recovery = |table: &Map<String, Value>| table.get("post_recovery") == Some(&Value::Bool(true));
    let let_go =
        |child: &Map<String, Value>| after_recovery(child) && (child.contains_key("task") || !after_recovery(table));
    let child = |name: &String| steps.get(name).and_then(Value::as_object);
    children.iter().filter(|name| !child(name).is_some_and(let_go)).cloned().collect()
}

/// The step that waits for the others.
fn gather(table: &Map<String, Value>, children: &[String], minimum: usize) -> Value {
    let kept = ["on_error", "post_recovery"].into_iter();
    let mut own: Map<String, Value> = kept.filter_map(|key| Some((key.to_owned(), table.get(key)?.clone()))).collect();
    // Where it waits for none of them, it still comes after what they come after.
    let before = table.get("after").filter(|_| children.is_empty()).cloned();
    own.insert("after".into(), before.unwrap_or_else(|| json!(children)));
    own.insert("gather".into(), json!({ "of": children, "minimum": minimum }));
    Value::Object(own)
}

/// Writes out `run_plan`.
pub(super) fn child_plan(
    at: &Path,
    steps: &mut Map<String, Value>,
    name: &str,
    plans: &Map<String, Value>,
    report: &mut Report<'_>,
) -> Vec<String> {
    let at = at.key(name);
    let table = steps.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let run = &table["run_plan"];
    let plan = run.get("plan").and_then(Value::as_str).unwrap_or_default();
    let found = plans.get(plan).and_then(|plan| plan.get("steps")).and_then(Value::as_object);
    let wrong = match found {
        None => {
            Some((suggest::fix(plan, "plan", plans.keys().map(String::as_str)), format!("there is no plan `{plan}`")))
        }
        Some(child) if child.values().any(|step| step.get("run_plan").is_some()) => Some((
            "name the inner plan here as well".into(),
            format!("the plan `{plan}` runs a plan itself, and one level is all there is"),
        )),
        Some(child) if child.len() > MOST => {
            Some(("make it smaller".into(), format!("`{plan}` has more than {MOST} steps")))
        }
        Some(_) => None,
    };
    let (None, Some(child)) = (wrong.clone(), found) else {
        let (fix, message) = wrong.unwrap_or_default();
        report.error("unknown_name", &at.key("run_plan").key("plan"), message, fix);
        report.set_broken(&at);
        steps.insert(name.to_owned(), json!({ "wait": "1s" }));
        return Vec::new();
    };
    let with = given(&at, run, &plans[plan], report);
    let (gate, inner_table) = match asked_once(name, &table, child) {
        Some((gate, asks, rest)) => {
            report.alias(with_last(&at, &gate), at.clone());
            steps.insert(gate.clone(), asks);
            (Some(gate), rest)
        }
        None => (None, table.clone()),
    };
    let inner = Child { name, table: &inner_table, with: &with, names: child.keys().collect() };
    let mut children = Vec::new();
    let from = Path::of(&["plans", plan, "steps"]);
    let mut written: Vec<&String> = child.keys().collect();
    written.sort_by_key(|step| report.layers().written_order(&from.key(step)));
    for step in written {
        let own = format!("{name}.{step}");
        report.alias(with_last(&at, &own), from.key(step));
        steps.insert(own.clone(), inner.step(child[step].as_object().cloned().unwrap_or_default()));
        children.push(own);
    }
    let gather = gather(&inner_table, &waited_for(&table, steps, &children), 0);
    steps.insert(name.to_owned(), gather);
    gate.into_iter().chain(children).collect()
}

/// A condition over probes is asked once for the whole child plan, by a step of its own, and the steps
/// go by that answer: asked again before each of them, a primary that answers now and then would stop it
/// halfway. That step, its table, and what the child plan's steps get of `table` instead.
fn asked_once(
    name: &str,
    table: &Map<String, Value>,
    child: &Map<String, Value>,
) -> Option<(String, Value, Map<String, Value>)> {
    let when = match table.get("when")? {
        Value::Array(of) => of.clone(),
        one => vec![one.clone()],
    };
    let of_probes = |guard: &Value| guard.get("param").is_none() && guard.get("step").is_none();
    if !when.iter().any(of_probes) {
        return None;
    }
    let gate = if child.contains_key("when") { format!("{name}.asked") } else { format!("{name}.when") };
    let kept = ["after", "when", "only_in", "post_recovery"].into_iter();
    let mut asks: Map<String, Value> = kept.filter_map(|key| Some((key.to_owned(), table.get(key)?.clone()))).collect();
    asks.insert("gather".into(), json!({ "of": [], "minimum": 0 }));
    let mut rest = table.clone();
    rest.insert("after".into(), json!([gate]));
    let others = when.into_iter().filter(|guard| !of_probes(guard));
    let own = std::iter::once(json!({ "step": gate, "ended": "done" }));
    rest.insert("when".into(), others.chain(own).collect());
    Some((gate, Value::Object(asks), rest))
}

/// The values of the child's parameters.
fn given(at: &Path, run: &Value, plan: &Value, report: &mut Report<'_>) -> Map<String, Value> {
    let with = run.get("with").and_then(Value::as_object).cloned().unwrap_or_default();
    let none = Map::new();
    let parameters = plan.get("parameters").and_then(Value::as_object).unwrap_or(&none);
    for name in with.keys().filter(|name| !parameters.contains_key(*name)) {
        let fix = suggest::fix(name, "parameter", parameters.keys().map(String::as_str));
        let at = at.key("run_plan").key("with").key(name);
        report.error_at_key("unknown_name", &at, format!("the plan has no parameter `{name}`"), fix);
    }
    let mut values = Map::new();
    for (name, parameter) in parameters {
        match with.get(name).or_else(|| parameter.get("default")) {
            Some(value) => {
                values.insert(name.clone(), value.clone());
            }
            None => {
                let fix = format!("add `with = {{ {name} = … }}`");
                report.error(
                    "missing_parameter",
                    &at.key("run_plan"),
                    format!("the parameter `{name}` is missing"),
                    fix,
                );
            }
        }
    }
    values
}

struct Child<'a> {
    name: &'a str,
    table: &'a Map<String, Value>,
    with: &'a Map<String, Value>,
    names: Vec<&'a String>,
}

impl Child<'_> {
    /// A step of the child plan as a step of the plan that runs it.
    fn step(&self, mut step: Map<String, Value>) -> Value {
        let own = |name: &str| format!("{}.{name}", self.name);
        let after: Vec<String> = step
            .get("after")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(own)
            .collect();
        let after = if after.is_empty() { self.table.get("after").cloned() } else { Some(json!(after)) };
        if let Some(after) = after {
            step.insert("after".into(), after);
        }
        if let Some(of) = step.get_mut("gather").and_then(|gather| gather.get_mut("of")).and_then(Value::as_array_mut) {
            of.iter_mut().for_each(|name| *name = own(name.as_str().unwrap_or_default()).into());
        }
        let when: Vec<Value> = [self.table.get("when").cloned(), step.get("when").map(|when| self.guards(when))]
            .into_iter()
            .flatten()
            .flat_map(|when| match when {
                Value::Array(of) => of,
                one => vec![one],
            })
            .collect();
        if !when.is_empty() {
            step.insert("when".into(), when.into());
        }
        for key in ["only_in", "post_recovery"] {
            if let Some(value) = self.table.get(key).filter(|_| !step.contains_key(key)) {
                step.insert(key.into(), value.clone());
            }
        }
        let filled = resolve(&Value::Object(step), &mut |reference| Ok(self.known(reference)));
        let mut filled = filled.unwrap_or_default();
        filled["scope"] = json!({ "prefix": own(""), "values": self.with });
        filled
    }

    fn known(&self, reference: &Reference) -> Option<Value> {
        match reference {
            Reference::Parameter(name) => self.with.get(name).cloned(),
            Reference::Output { steps, output } => {
                let steps: Vec<String> = steps.iter().map(|step| self.own(step.as_str())).collect();
                let step = if steps.len() == 1 { json!(steps[0]) } else { json!(steps) };
                Some(json!({ "step": step, "output": output }))
            }
            Reference::Join(_) | Reference::Item(_) => None,
        }
    }

    fn own(&self, name: &str) -> String {
        if self.names.iter().any(|known| *known == name) { format!("{}.{name}", self.name) } else { name.to_owned() }
    }

    /// The child's conditions: its steps by their new names, its parameters by their values.
    fn guards(&self, when: &Value) -> Value {
        match when {
            Value::Array(of) => of.iter().map(|one| self.guards(one)).collect(),
            Value::Object(table) => {
                let mut table = table.clone();
                if let Some(step) = table.get("step").and_then(Value::as_str).map(|step| self.own(step)) {
                    table.insert("step".into(), step.into());
                }
                if let Some(value) = table.get("param").and_then(Value::as_str).and_then(|name| self.with.get(name)) {
                    table.insert("given".into(), value.clone());
                }
                Value::Object(table)
            }
            other => other.clone(),
        }
    }
}
