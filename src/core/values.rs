//! What a step is told when its turn comes: values that earlier steps handed on, messages filled in,
//! and whether it is done at all.

use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Map, Value, json};

use super::brain::Brain;
use super::run_ledger::{RunLedger, StepState};
use crate::model::reference::{Reference, resolve, shown};
use crate::model::{ActionSpec, DrillPart, Ended, MonoTime, StepEnd, StepGuard, StepName, Terms, Trigger, Truth};

/// More work than this is no message any more.
const FUEL: u64 = 20_000;
/// A message is cut there.
const LONGEST: usize = 64 * 1024;

impl RunLedger {
    /// The action of a step with everything filled in.
    ///
    /// # Errors
    /// A value that is not there, or a message that cannot be filled in; in one line.
    pub(super) fn filled(&self, index: usize) -> Result<Option<ActionSpec>, String> {
        let step = &self.plan.steps[index];
        let Some(spec) = step.work.action() else { return Ok(None) };
        let mut spec = spec.clone();
        for (_, open) in Reference::all_in(&spec.params) {
            let value = resolve(&open.to_value(), &mut |reference| self.handed(reference))?;
            spec.target = spec.target.replace(&open.to_string(), &shown(&value));
        }
        spec.params = resolve(&spec.params, &mut |reference| self.handed(reference))?;
        let values = self.values(&step.terms)?;
        for pointer in &spec.messages {
            if let Some(message) = spec.params.pointer_mut(pointer) {
                fill_all(message, &values)?;
            }
        }
        Ok(Some(spec))
    }

    /// A message of the step, filled in.
    pub(super) fn message(&self, index: usize, template: &str) -> Result<String, String> {
        fill(template, &self.values(&self.plan.steps[index].terms)?)
    }

    fn handed(&self, reference: &Reference) -> Result<Option<Value>, String> {
        let Reference::Output { steps, output } = reference else {
            return Err(format!("{reference} was left open"));
        };
        let mut why = Vec::new();
        for name in steps {
            match self.index(name).map(|index| &self.steps[index].state) {
                Some(StepState::Ended(StepEnd::Done { outputs, .. })) => match outputs.get(output) {
                    Some(value) => return Ok(Some(Value::String(value.clone()))),
                    None => why.push(format!("step {name} handed on no `{output}`")),
                },
                Some(StepState::Ended(StepEnd::Skipped { .. })) => why.push(format!("step {name} was left out")),
                Some(StepState::Ended(StepEnd::Failed { .. })) => why.push(format!("step {name} failed")),
                Some(_) => why.push(format!("step {name} has not ended")),
                None => why.push(format!("there is no step {name}")),
            }
        }
        Err(format!("the value `{output}` is not there: {}", why.join(", ")))
    }

    /// What messages can name.
    fn values(&self, terms: &Terms) -> Result<Value, String> {
        let mut parameters: Map<String, Value> = self
            .plan
            .parameters
            .iter()
            .filter_map(|parameter| Some((plain(&parameter.name), parameter.value.clone()?)))
            .collect();
        for (name, value) in &terms.values {
            parameters.insert(plain(name), resolve(value, &mut |reference| self.handed(reference))?);
        }
        let mut steps = Map::new();
        for (step, ledger) in self.plan.steps.iter().zip(&self.steps) {
            let (ended, outputs) = match &ledger.state {
                StepState::Ended(StepEnd::Done { outputs, .. }) => ("done", json!(outputs)),
                StepState::Ended(StepEnd::Failed { .. }) => ("failed", json!({})),
                StepState::Ended(StepEnd::Skipped { .. }) => ("skipped", json!({})),
                _ => continue,
            };
            let mut values = outputs;
            values["ended"] = ended.into();
            if let Some(short) = step.name.as_str().strip_prefix(&terms.scope).filter(|_| !terms.scope.is_empty()) {
                steps.insert(plain(short), values.clone());
            }
            steps.insert(plain(step.name.as_str()), values);
        }
        Ok(json!({
            "run": {
                "id": self.id, "plan": self.plan.name, "scenario": self.scenario, "service": self.service,
                "epoch": self.epoch, "kind": self.kind.to_string(), "trigger": self.trigger.to_string(),
                "outage_start": self.outage_start.to_string(), "started": self.started.to_string(), "rto": self.rto,
            },
            "param": parameters,
            "step": steps,
        }))
    }
}

/// Names as templates can write them: `restore-db` is `restore_db` there.
pub fn plain(name: &str) -> String {
    name.replace(['-', '.'], "_")
}

/// Fills in one message.
///
/// # Errors
/// What is wrong with the template, or which value is not there.
pub fn fill(template: &str, values: &Value) -> Result<String, String> {
    if !template.contains("{{") && !template.contains("{%") && !template.contains("{#") {
        return Ok(template.to_owned());
    }
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    let mut text =
        environment.render_str(template, minijinja::Value::from(minijinja::value::Serde(values))).map_err(|error| {
            let line = error.line().filter(|line| *line > 1).map(|line| format!(" in line {line}")).unwrap_or_default();
            let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
            format!("the message cannot be filled in{line}: {}{detail}", error.kind())
        })?;
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    Ok(text)
}

/// Fills in every text below a value.
fn fill_all(value: &mut Value, values: &Value) -> Result<(), String> {
    match value {
        Value::String(text) => *text = fill(text, values)?,
        Value::Array(of) => of.iter_mut().try_for_each(|part| fill_all(part, values))?,
        Value::Object(table) => table.values_mut().try_for_each(|part| fill_all(part, values))?,
        _ => {}
    }
    Ok(())
}

/// Is a step done?
pub(super) enum Turn {
    /// Yes.
    Due,
    /// It is left out, and why.
    LeftOut(String),
    /// That cannot be told, and why.
    Unclear(String),
}

impl Brain {
    /// Do the terms of a step hold, now that its turn has come?
    pub(super) fn turn(&self, now: MonoTime, run: &RunLedger, index: usize) -> Turn {
        let terms = &run.plan.steps[index].terms;
        if terms.drill == DrillPart::LeftOut {
            return Turn::LeftOut("the drill: it is in `skip`".to_owned());
        }
        if let Some(only) = terms.only_in.filter(|only| *only != run.kind) {
            return Turn::LeftOut(format!("the plan: it is for {only} runs, and this one is {}", run.kind));
        }
        for guard in &terms.when {
            let holds = match guard {
                StepGuard::Parameter { value, is, .. } => truth(is.contains(value)),
                StepGuard::Step { step, ended } => truth(ended_so(run, step, *ended)),
                // Whoever stands in for a quorum knows that some vantages are missing.
                StepGuard::Holds(condition)
                    if matches!(run.trigger, Trigger::Approved { without_quorum: Some(_), .. }) =>
                {
                    self.truth_by_those_left(condition, now)
                }
                StepGuard::Holds(condition) => self.truth(condition, now),
            };
            match holds {
                Truth::True => {}
                Truth::False => return Turn::LeftOut(format!("the plan: {guard} does not hold")),
                Truth::Unknown => return Turn::Unclear(format!("it cannot be told whether {guard}")),
            }
        }
        Turn::Due
    }
}

fn truth(holds: bool) -> Truth {
    if holds { Truth::True } else { Truth::False }
}

fn ended_so(run: &RunLedger, step: &StepName, ended: Ended) -> bool {
    let state = run.index(step).map(|index| &run.steps[index].state);
    match state {
        Some(StepState::Ended(StepEnd::Done { .. })) => ended == Ended::Done,
        Some(StepState::Ended(StepEnd::Failed { .. })) => ended == Ended::Failed,
        Some(StepState::Ended(StepEnd::Skipped { .. })) => ended == Ended::Skipped,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_filled_in_and_what_is_missing_is_said() {
        let values = json!({ "run": { "id": "RUN-1" }, "step": { "restore": { "endpoint": "db.example" } } });
        assert_eq!(fill("{{ run.id }}: {{ step.restore.endpoint }}", &values).unwrap(), "RUN-1: db.example");
        assert_eq!(fill("{ \"a\": {} }", &values).unwrap(), "{ \"a\": {} }");
        assert!(fill("{{ run.idd }}", &values).unwrap_err().contains("undefined"));
        assert!(fill("{{ run.id ", &values).is_err());
        let endless = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
        assert!(fill(endless, &values).unwrap_err().contains("fuel"));
    }

    #[test]
    fn every_text_of_a_subtree_is_a_message() {
        let mut value = json!({ "a": ["{{ x }}", 1], "b": { "c": "{{ x }}!" } });
        fill_all(&mut value, &json!({ "x": "y" })).unwrap();
        assert_eq!(value, json!({ "a": ["y", 1], "b": { "c": "y!" } }));
    }
}
