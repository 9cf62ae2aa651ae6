//! The settings as they are played: all that decides when to fail over is kept; what would need more
//! than was recorded is taken away, and said.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::backtest::history::History;
use crate::core::plan::critical_path;
use crate::model::{
    ActionSpec, EffectKind, HumanDuration, Mode, OnError, Plan, ProbeName, Repeat, Retry, ScenarioSettings, Settings,
    Step, Terms, Work,
};

/// The settings for the replay.
pub(super) fn staged(settings: &Settings, history: &History) -> Settings {
    let mut staged = settings.clone();
    staged.mode = Mode::Auto;
    // All vantages have seen the same: one is as good as many.
    staged.quorum = 1;
    if !settings.anchors.iter().any(|anchor| history.series.contains_key(anchor)) {
        staged.anchors.clear();
        staged.anchors_at_least = 0;
    }
    for scenario in &mut staged.scenarios {
        scenario.mode = Mode::Auto;
        scenario.rpo = None;
        scenario.replication.clear();
    }
    staged.plans = settings.plans.iter().map(stand_in).collect();
    staged
}

/// One change, and then as long as the plan's critical path takes: so that a run changes something, ends,
/// and what comes after it is counted from there.
fn stand_in(plan: &Plan) -> Plan {
    let length = HumanDuration(critical_path(plan, |step| step.estimate.get()).total);
    let act = ActionSpec {
        kind: "backtest.act".into(),
        effect: EffectKind::Call,
        repeat: Repeat::ByObservation,
        target: String::new(),
        service: None,
        region: None,
        estimate: HumanDuration::ZERO,
        messages: Vec::new(),
        makes: false,
        params: serde_json::Value::Null,
    };
    let step = |name: &str, after: &[&str], work: Work, estimate: HumanDuration| Step {
        name: name.into(),
        after: after.iter().map(|&name| name.into()).collect(),
        work,
        timeout: HumanDuration(estimate.get().saturating_add(Duration::from_secs(3600))),
        retry: Retry::default(),
        on_error: OnError::Continue,
        estimate,
        terms: Terms::default(),
    };
    Plan {
        name: plan.name.clone(),
        steps: vec![
            step("act", &[], Work::Action(act), HumanDuration::ZERO),
            step("rest", &["act"], Work::Wait { duration: length }, length),
        ],
        point_of_no_return: None,
        parameters: Vec::new(),
        rto: plan.rto,
    }
}

/// The probes that have a say and ask somebody: places in the settings.
pub(super) fn watched(settings: &Settings) -> Vec<usize> {
    let mut names: BTreeSet<&ProbeName> = settings.anchors.iter().collect();
    names.extend(asked(settings));
    let probes = settings.probes.iter().enumerate();
    probes.filter(|(_, probe)| names.contains(&probe.name)).map(|(place, _)| place).collect()
}

/// The probes that the scenarios ask; of a window, those whose looks it counts.
fn asked(settings: &Settings) -> BTreeSet<&ProbeName> {
    let named = settings.scenarios.iter().flat_map(probes_of);
    let parts = |name| match settings.probe(name).and_then(|probe| probe.window.as_ref()) {
        Some(window) => window.of.iter().collect(),
        None => vec![name],
    };
    named.flat_map(parts).collect()
}

/// The probes that a scenario asks.
pub fn probes_of(scenario: &ScenarioSettings) -> BTreeSet<&ProbeName> {
    let conditions = std::iter::once(&scenario.when).chain(&scenario.unless).chain(&scenario.requires);
    conditions.flat_map(|condition| condition.subjects()).map(|subject| &subject.probe).collect()
}

/// How many attempts a minute the probes that have a say make in quiet times.
pub fn attempts_per_minute(settings: &Settings) -> f64 {
    let interval = |place: usize| settings.probes[place].interval.get().as_secs_f64().max(0.01);
    watched(settings).into_iter().map(|place| 60.0 / interval(place)).sum()
}

/// What the replay takes for granted, in whole sentences.
pub fn assumptions(settings: &Settings, history: &History) -> Vec<String> {
    let mut said = Vec::new();
    let list = |names: &[&ProbeName]| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    if settings.quorum > 1 {
        said.push(format!("The quorum is {}: all vantages are taken to have seen what was recorded.", settings.quorum));
    }
    let recorded = |name: &ProbeName| history.series.contains_key(name);
    let missing: Vec<&ProbeName> = asked(settings).into_iter().filter(|name| !recorded(name)).collect();
    if !missing.is_empty() {
        said.push(format!("Nothing was recorded of {}: taken to be up all the time.", list(&missing)));
    }
    let anchors: Vec<&ProbeName> = settings.anchors.iter().filter(|name| !recorded(name)).collect();
    if !anchors.is_empty() {
        said.push(format!(
            "Nothing was recorded of the anchors {}: taken to be up all the time. The daemon itself would have held \
             its fire while it was cut off.",
            list(&anchors)
        ));
    }
    let rpo: Vec<&str> =
        settings.scenarios.iter().filter(|one| one.rpo.is_some()).map(|one| one.name.as_str()).collect();
    if !rpo.is_empty() {
        said.push(format!("Replication lag is not in the history: the RPO of {} is taken to be met.", rpo.join(", ")));
    }
    let without: Vec<&str> =
        settings.scenarios.iter().filter(|one| one.plan.is_none()).map(|one| one.name.as_str()).collect();
    if !without.is_empty() {
        said.push(format!("{} has no plan: it alerts only, and never fails over.", without.join(", ")));
    }
    said
}
