//! Drills are written out before the file is read, each as a plan of its own with the stand-ins in their
//! places: so that it is checked like the plan itself, and a fault is shown where it was written.

use serde_json::{Map, Value, json};

use super::action::FAMILIES;
use super::expand::{Order, child_plan};
use super::path::Path;
use super::report::Report;
use super::suggest;

/// What stands between the plan and the target in the name of a drill's plan; no name has it.
const AT: char = '@';
/// The step that cleans up, and what the names of its steps begin with.
pub const CLEANUP: &str = "cleanup";
/// What of a step a stand-in may replace, beside its action.
const BESIDE: [&str; 3] = ["timeout", "estimate", "retry"];
/// The actions that are no family.
const OWN: [&str; 4] = ["verify", "approval", "task", "wait"];

/// The name of a drill's plan.
fn name_of(plan: &str, target: &str) -> String {
    format!("{plan}{AT}{target}")
}

/// The plan and the target, where this is the name of a drill's plan.
pub fn parts(name: &str) -> Option<(&str, &str)> {
    name.split_once(AT)
}

/// Writes them out among the plans. `whole` are the plans as they are written, with their lists written
/// out.
pub fn write_out(
    plans: &mut Map<String, Value>,
    whole: &Map<String, Value>,
    order: &mut Order,
    report: &mut Report<'_>,
) {
    let wrong: Vec<String> = plans.keys().filter(|name| name.contains(AT)).cloned().collect();
    for name in wrong {
        super::check::plain_name(report, &Path::of(&["plans", &name]), &name);
        plans.remove(&name);
        order.remove(&name);
    }
    let mut made = Map::new();
    for (plan, table) in plans.iter() {
        let Some(drills) = table.get("drills").and_then(Value::as_object) else { continue };
        for (target, drill) in drills {
            let Some(drill) = drill.as_object() else { continue };
            let writer = Writer { plan, target, drill };
            let (own, steps) = writer.plan(table, whole, order.get(plan).cloned().unwrap_or_default(), report);
            order.insert(name_of(plan, target), steps);
            made.insert(name_of(plan, target), own);
        }
    }
    plans.extend(made);
}

struct Writer<'a> {
    plan: &'a str,
    target: &'a str,
    drill: &'a Map<String, Value>,
}

impl Writer<'_> {
    /// Where the drill is written.
    fn written(&self) -> Path {
        Path::of(&["plans", self.plan, "drills", self.target])
    }

    /// The drill's plan, and its steps in their order.
    fn plan(
        &self,
        table: &Value,
        whole: &Map<String, Value>,
        mut order: Vec<String>,
        report: &mut Report<'_>,
    ) -> (Value, Vec<String>) {
        let at = Path::of(&["plans", &name_of(self.plan, self.target)]);
        let mut own = table.as_object().cloned().unwrap_or_default();
        own.remove("drills");
        own.remove("drill_every");
        self.parameters(&mut own, &at, report);
        let mut steps = own.get("steps").and_then(Value::as_object).cloned().unwrap_or_default();
        self.stand_ins(&mut steps, &at.key("steps"), report);
        if let Some(cleanup) = self.drill.get(CLEANUP).filter(|cleanup| cleanup.is_object()) {
            let steps_at = at.key("steps");
            if steps.keys().any(|step| step == CLEANUP || step.starts_with("cleanup.")) {
                let message = "a step of the plan is named `cleanup`, as what cleans up after a drill is";
                report.error("ambiguous_name", &self.written().key(CLEANUP), message, "give the step another name");
            } else {
                let after: Vec<&String> = steps.keys().collect();
                let step = json!({ "after": after, "post_recovery": true, "run_plan": cleanup });
                steps.insert(CLEANUP.into(), step);
                report.alias(steps_at.key(CLEANUP).key("run_plan"), self.written().key(CLEANUP));
                report.alias(steps_at.key(CLEANUP), self.written().key(CLEANUP));
                order.extend(child_plan(&steps_at, &mut steps, CLEANUP, whole, report));
                order.push(CLEANUP.into());
            }
        }
        own.insert("steps".into(), Value::Object(steps));
        report.alias(at, Path::of(&["plans", self.plan]));
        (Value::Object(own), order)
    }

    /// What the drill gives to the plan stands for the defaults of its parameters.
    fn parameters(&self, own: &mut Map<String, Value>, at: &Path, report: &mut Report<'_>) {
        let with = self.drill.get("with").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut parameters = own.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default();
        for (name, value) in with {
            let written = self.written().key("with").key(&name);
            match parameters.get_mut(&name).and_then(Value::as_object_mut) {
                Some(parameter) => {
                    parameter.insert("default".into(), value);
                    report.alias(at.key("parameters").key(&name).key("default"), written);
                }
                None => {
                    let fix = suggest::fix(&name, "parameter", parameters.keys().map(String::as_str));
                    report.error_at_key("unknown_name", &written, format!("the plan has no parameter `{name}`"), fix);
                }
            }
        }
        if !parameters.is_empty() {
            own.insert("parameters".into(), Value::Object(parameters));
        }
    }

    /// Puts the stand-ins into their places.
    fn stand_ins(&self, steps: &mut Map<String, Value>, at: &Path, report: &mut Report<'_>) {
        let all = self.drill.get("steps").and_then(Value::as_object).cloned().unwrap_or_default();
        for (name, stand_in) in all {
            let written = self.written().key("steps").key(&name);
            let Some(stand_in) = stand_in.as_object() else { continue };
            let known: Vec<String> = steps.keys().cloned().collect();
            let Some(step) = steps.get_mut(&name).and_then(Value::as_object_mut) else {
                let fix = suggest::fix(&name, "step", known.iter().map(String::as_str));
                report.error_at_key("unknown_name", &written, format!("the plan has no step `{name}`"), fix);
                continue;
            };
            for (key, value) in stand_in {
                if BESIDE.contains(&key.as_str()) {
                    step.insert(key.clone(), value.clone());
                } else if FAMILIES.contains(&key.as_str()) || OWN.contains(&key.as_str()) {
                    replace(step, key, value);
                } else {
                    let fix = format!("write an action, or one of {}", suggest::list(&BESIDE));
                    let message = format!("a stand-in has no key {key:?}");
                    report.error_at_key("unknown_key", &written.key(key), message, fix);
                    continue;
                }
                report.alias(at.key(&name).key(key), written.key(key));
            }
        }
    }
}

/// Puts the parameters of a stand-in into the action of a step; another action takes the place of the
/// one that is there. A parameter is replaced whole: half of a secret's place is none.
fn replace(step: &mut Map<String, Value>, family: &str, stand_in: &Value) {
    let same = step.get(family).is_some_and(|action| verb(action).is_some() && verb(action) == verb(stand_in));
    if !same {
        FAMILIES.iter().chain(&OWN).for_each(|other| drop(step.remove(*other)));
        step.insert(family.to_owned(), stand_in.clone());
        return;
    }
    let Some(verb) = verb(stand_in).map(str::to_owned) else { return };
    let given = stand_in.get(&verb).and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(parameters) =
        step.get_mut(family).and_then(|action| action.get_mut(&verb)).and_then(Value::as_object_mut)
    {
        parameters.extend(given);
    }
}

/// The verb of an action: the one key of its table, where what stands there is a table as well.
fn verb(action: &Value) -> Option<&str> {
    let table = action.as_object()?;
    let (verb, parameters) = table.iter().next()?;
    (table.len() == 1 && parameters.is_object()).then_some(verb.as_str())
}
