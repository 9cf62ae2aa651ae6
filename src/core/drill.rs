//! Starting a drill: what it may touch, the guards of the real thing, and its own.

use serde_json::{Map, Value};

use super::brain::Brain;
use super::commands::refuse;
use super::event::{Answer, Refusal};
use super::plan::critical_path;
use crate::model::{
    ActionSpec, DrillPart, DrillSettings, DrillTarget, DrillVerdict, EffectKind, Given, Mode, Now, Plan, PlanName,
    RunId, ScenarioSettings, Settings, Step, StepName, Trigger, Truth,
};

/// The steps of a drill that would touch what a real run touches, each with what it is: they have no
/// stand-in of their own, and nobody said that the drill leaves them out (`skip`) or that they are
/// harmless (`as_is`).
///
/// `real`: the plans that are carried out in earnest, the drill's own among them.
pub fn touches_production(drill: &DrillSettings, real: &[&Plan]) -> Vec<(StepName, String)> {
    let filled: Vec<Plan> = real.iter().map(|plan| given_nothing(plan)).collect();
    let touched: Vec<(&StepName, &ActionSpec)> =
        filled.iter().flat_map(|plan| &plan.steps).filter_map(|step| Some((&step.name, changing(step)?))).collect();
    let rehearsed = given_nothing(&drill.plan);
    let wrong = rehearsed.steps.iter().filter(|step| step.terms.drill != DrillPart::LeftOut).filter_map(|step| {
        let spec = changing(step).filter(|_| !drill.is_as_is(&step.name))?;
        let own = touched.iter().find(|(name, real)| **name == step.name && is_same_object(spec, real));
        let (name, _) = own.or_else(|| touched.iter().find(|(_, real)| is_same_object(spec, real)))?;
        let of = if **name == step.name { String::new() } else { format!(", as the real step `{name}` does") };
        Some((step.name.clone(), format!("{} {}{of}", spec.kind, spec.target)))
    });
    wrong.collect()
}

/// The plans that are carried out in earnest: those that a scenario names, and the drill's own.
pub fn real_plans<'a>(plans: &'a [Plan], scenarios: &[ScenarioSettings], drill: &DrillSettings) -> Vec<&'a Plan> {
    let named = |plan: &&Plan| {
        plan.name == drill.plan.name || scenarios.iter().any(|scenario| scenario.plan.as_ref() == Some(&plan.name))
    };
    plans.iter().filter(named).collect()
}

/// The parameters that say which thing is changed, whatever it is changed to. What is not among them is
/// no stand-in: a drill with three replicas instead of ten scales production all the same.
const OBJECTS: [&str; 25] = [
    "access_key_id",
    "argv",
    "bucket",
    "cluster",
    "cron_job",
    "data_directory",
    "deployment",
    "global_cluster",
    "global_replication_group",
    "group",
    "instance",
    "key",
    "name",
    "nodes",
    "path",
    "prefix",
    "replication_group",
    "resource",
    "secret",
    "selector",
    "service",
    "states",
    "topic",
    "url",
    "user",
];
/// Those that say where it is.
const PLACES: [&str; 6] = ["context", "kubeconfig", "namespace", "region", "server", "zone"];

/// Do two actions change the same thing? Of two kinds only what both name is compared.
fn is_same_object(one: &ActionSpec, other: &ActionSpec) -> bool {
    if family(one) != family(other) {
        return false;
    }
    let (mine, theirs) = (parameters(one), parameters(other));
    let value =
        |of: Option<&Map<String, Value>>, key: &str| of.and_then(|of| of.get(key)).cloned().unwrap_or(Value::Null);
    let mut objects = 0;
    for key in OBJECTS.iter().chain(&PLACES).filter(|key| says_which(family(one), key)) {
        let (mine, theirs) = (value(mine, key), value(theirs, key));
        if mine.is_null() && theirs.is_null() || one.kind != other.kind && (mine.is_null() || theirs.is_null()) {
            continue;
        }
        let same = match (&mine, &theirs) {
            // What each of several is set to, by its name.
            (Value::Object(mine), Value::Object(theirs)) if *key == "states" => {
                mine.keys().any(|name| theirs.contains_key(name))
            }
            _ => mine == theirs,
        };
        if !same {
            return false;
        }
        objects += usize::from(OBJECTS.contains(key));
    }
    // Of what no parameter says which thing it changes (a restore goes where its backup came from), another
    // place alone makes another thing.
    let unsaid = mine.is_some() && one.kind == other.kind;
    objects > 0 || unsaid || one.target == other.target
}

/// Elsewhere a service is the name of a guard, and a user that of a program.
fn says_which(family: &str, key: &str) -> bool {
    match key {
        "service" => family == "ecs",
        "user" => family == "iam",
        _ => true,
    }
}

fn family(spec: &ActionSpec) -> &str {
    spec.kind.as_str().split('.').next().unwrap_or_default()
}

/// The parameters of an action: below its family and its verb.
fn parameters(spec: &ActionSpec) -> Option<&Map<String, Value>> {
    let verb = spec.params.as_object()?.values().next()?;
    verb.as_object()?.values().next()?.as_object()
}

/// The action of a step that does anything but look. A message to people is not taken back either.
fn changing(step: &Step) -> Option<&ActionSpec> {
    step.work.action().filter(|spec| spec.effect != EffectKind::Verify)
}

fn given_nothing(plan: &Plan) -> Plan {
    plan.with(&Given::new()).unwrap_or_else(|_| plan.clone())
}

impl DrillSettings {
    /// Is the step one of those, or does it come from one, that are harmless as they are?
    pub fn is_as_is(&self, step: &StepName) -> bool {
        self.as_is.iter().any(|named| is_or_comes_from(step, named.as_str()))
    }
}

/// Is the step this one, or one of those that this one stands for (`for_each`, `run_plan`)?
pub fn is_or_comes_from(step: &StepName, named: &str) -> bool {
    step.as_str().strip_prefix(named).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Settings {
    /// What a plan is rehearsed for: the scenario that names it, the most severe first.
    pub fn scenario_of_plan(&self, plan: &PlanName) -> Option<&ScenarioSettings> {
        self.scenarios.iter().find(|scenario| scenario.plan.as_ref() == Some(plan))
    }
}

impl Brain {
    /// `failoverd drill`.
    pub(super) fn drill_by_hand(
        &mut self,
        now: Now,
        by: &str,
        plan: &PlanName,
        target: Option<&DrillTarget>,
    ) -> Result<Answer, Refusal> {
        let drill = self.choose_drill(plan, target)?.clone();
        let run = self.start_drill(now, by, &drill)?;
        let text = format!("run {run} started: a drill of {plan} on {}", drill.terms.target);
        Ok(Answer { text, run: Some(run) })
    }

    fn choose_drill<'a>(&'a self, plan: &PlanName, target: Option<&DrillTarget>) -> Result<&'a DrillSettings, Refusal> {
        let all = &self.settings.drills;
        if self.settings.plan(plan).is_none() {
            let known: Vec<&str> = self.settings.plans.iter().map(|plan| plan.name.as_str()).collect();
            return Err(refuse("not_found", format!("there is no plan {plan}; there are: {}", known.join(", "))));
        }
        let targets: Vec<&str> = all.of(plan).map(|drill| drill.terms.target.as_str()).collect();
        let found = match (target, targets.as_slice()) {
            (Some(target), _) => all.find(plan, target),
            (None, [_]) => all.of(plan).next(),
            (None, _) => None,
        };
        found.ok_or_else(|| match (target, targets.is_empty()) {
            (_, true) => {
                let what = format!("plan {plan} has no drill: add [plans.{plan}.drills.NAME] to the configuration");
                refuse("not_found", what)
            }
            (Some(target), false) => {
                let what = format!("plan {plan} has no drill on {target}; there is: {}", targets.join(", "));
                refuse("not_found", what)
            }
            (None, false) => refuse("guard", format!("name one of its targets with --target: {}", targets.join(", "))),
        })
    }

    /// Starts a drill, where the guards of the real thing and its own let it.
    pub(super) fn start_drill(&mut self, now: Now, by: &str, drill: &DrillSettings) -> Result<RunId, Refusal> {
        let known = self.settings.scenario_of_plan(&drill.plan.name).cloned();
        let scenario = known.unwrap_or_else(|| self.scenario_of(&drill.plan));
        if let Some(why) = self.keeps_from_drill(now, &scenario, drill) {
            return Err(refuse("guard", why));
        }
        let plan = drill.plan.with(&Given::new()).map_err(|why| refuse("guard", why))?;
        let trigger = Trigger::Drill { by: by.to_owned(), terms: Box::new(drill.terms.clone()) };
        let run = self.start_plan(now, &scenario, None, trigger, plan, drill.kind);
        run.ok_or_else(|| refuse("guard", "the run could not be started; see `failoverd explain`"))
    }

    /// Why a drill must not begin now.
    fn keeps_from_drill(&self, now: Now, scenario: &ScenarioSettings, drill: &DrillSettings) -> Option<String> {
        let real = real_plans(&self.settings.plans, &self.settings.scenarios, drill);
        let touching = touches_production(drill, &real);
        if !touching.is_empty() {
            let steps: Vec<String> = touching.iter().map(|(step, what)| format!("{step} ({what})")).collect();
            return Some(format!("it would touch production at {}", steps.join(", ")));
        }
        if self.mode_of(scenario) == Mode::AlertOnly {
            return Some("alert-only: `failoverd mode approve` first, or change the mode in the configuration".into());
        }
        if let Some(open) = self.ledger.incidents.values().find(|incident| incident.closed.is_none()) {
            return Some(format!("incident {} of {} is open", open.id, open.scenario));
        }
        if let Some(run) = self.ledger.active_run() {
            return Some(format!("run {} is active", run.id));
        }
        if let Some(run) = self.waiting_drill() {
            return Some(format!("drill {} gave way and has not cleaned up yet", run.id));
        }
        let local = drill.schedule.as_ref().and_then(|schedule| schedule.local(now.wall)).unwrap_or_else(|| utc(now));
        if let Some(window) = drill.blocked.iter().find(|window| window.holds(&local)) {
            return Some(format!("no drill of it is begun from {window}"));
        }
        let mut guards = self.standing_guards(now, scenario);
        guards.extend(self.target_guards(now, scenario, None, false));
        if let Some(reason) = guards.into_iter().find_map(|guard| guard.holds) {
            return Some(reason.to_string());
        }
        let alarm = drill.terms.stop_when.iter().find(|alarm| self.truth(alarm, now.mono) != Truth::False)?;
        Some(match self.truth(alarm, now.mono) {
            Truth::Unknown => format!("it cannot be told whether {alarm}, which stops it"),
            _ => format!("{alarm}, which stops it"),
        })
    }

    /// A person stops a drill. What it changed is a stand-in's, so that no point is one of no return.
    pub(super) fn abort_drill(&mut self, now: Now, by: &str, id: RunId) -> Answer {
        if self.judge_drill(now, &id, DrillVerdict::Aborted { reason: format!("by {by}") }) {
            let text = format!("aborting drill {id}: it cleans up now");
            return Answer { text, run: Some(id) };
        }
        Answer { text: format!("drill {id} is over, and cleans up"), run: Some(id) }
    }
}

fn utc(now: Now) -> jiff::Zoned {
    jiff::Timestamp::from_millisecond(now.wall.0)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_zoned(jiff::tz::TimeZone::UTC)
}

/// How long the rehearsed part of a drill is expected to take.
pub(super) fn expected(drill: &DrillSettings) -> std::time::Duration {
    critical_path(&drill.plan, |step| step.estimate.get()).total
}
