//! One small shop: an API, a database and a cache in the primary region, a standby in the backup.

use std::time::Duration;

use failoverd::model::*;
use serde_json::{Value, json};

/// The scenario that most tests are about.
pub const REGIONAL: &str = "regional";

pub fn probe(name: &str) -> ProbeSettings {
    ProbeSettings {
        name: name.into(),
        region: None,
        zone: None,
        target: name.into(),
        interval: HumanDuration::secs(1),
        fast_interval: HumanDuration::secs(1),
        timeout: HumanDuration::secs(1),
        fall: 3,
        rise: 2,
        max_age: HumanDuration::secs(5),
        causes: std::collections::BTreeMap::new(),
        window: None,
    }
}

pub fn is(probe: &str, health: Health) -> Condition {
    Condition::Probe(Subject { probe: probe.into(), is: health.into() })
}

pub fn down(probe: &str) -> Condition {
    is(probe, Health::Down)
}

pub fn at_least(weight: u32, probes: &[&str]) -> Condition {
    let of = probes.iter().map(|probe| Weighted { weight: 1, condition: down(probe) }).collect();
    Condition::AtLeast { weight, of }
}

pub fn action(kind: &str, effect: EffectKind, repeat: Repeat) -> ActionSpec {
    ActionSpec {
        kind: kind.into(),
        effect,
        repeat,
        target: kind.to_owned(),
        service: (effect == EffectKind::Promote).then(|| "shop".into()),
        region: None,
        estimate: failoverd::model::HumanDuration::secs(1),
        messages: Vec::new(),
        makes: false,
        params: Value::Null,
    }
}

pub fn step_of(name: &str, after: &[&str], work: Work) -> Step {
    Step {
        name: name.into(),
        after: after.iter().map(|name| (*name).into()).collect(),
        work,
        timeout: HumanDuration::secs(60),
        retry: Retry { attempts: 3, backoff: HumanDuration::millis(200), max_backoff: HumanDuration::secs(2) },
        on_error: OnError::Park,
        estimate: HumanDuration::secs(10),
        terms: failoverd::model::Terms::default(),
    }
}

pub fn step(name: &str, after: &[&str], effect: EffectKind) -> Step {
    let repeat = if effect == EffectKind::Notify { Repeat::AtLeastOnce } else { Repeat::ByObservation };
    step_of(name, after, Work::Action(action(&format!("test.{name}"), effect, repeat)))
}

/// fence → promote → route, with scale beside them and a message at the end.
pub fn plan(name: &str) -> Plan {
    Plan {
        name: name.into(),
        steps: vec![
            step("fence", &[], EffectKind::Fence),
            step("promote", &["fence"], EffectKind::Promote),
            step("scale", &[], EffectKind::Scale),
            step("route", &["promote", "scale"], EffectKind::Route),
            step("tell", &["route"], EffectKind::Notify),
        ],
        point_of_no_return: Some("promote".into()),
        parameters: Vec::new(),
        rto: None,
    }
}

/// What the targets of a drill begin with.
pub const STAND_IN: &str = "stand-in ";

/// A drill of the plan on `staging`: every target is another one.
pub fn drill(plan: &Plan) -> DrillSettings {
    let mut plan = plan.clone();
    for step in &mut plan.steps {
        if let Work::Action(spec) = &mut step.work {
            spec.target = format!("{STAND_IN}{}", spec.target);
        }
    }
    DrillSettings {
        plan,
        terms: DrillTerms { target: "staging".into(), stop_when: Vec::new(), outcome: Vec::new() },
        kind: RunKind::Ungraceful,
        as_is: Vec::new(),
        schedule: None,
        blocked: Vec::new(),
        announce: HumanDuration::ZERO,
    }
}

/// Settings with a drill, and with one thing of it changed.
pub fn with_drill(change: impl FnOnce(&mut DrillSettings)) -> Settings {
    with(|s| {
        let mut drill = drill(&s.plans[0]);
        change(&mut drill);
        s.drills.all.push(drill);
    })
}

/// A plan of one action.
pub fn small_plan(name: &str, step_name: &str, effect: EffectKind) -> Plan {
    Plan {
        name: name.into(),
        steps: vec![step(step_name, &[], effect)],
        point_of_no_return: None,
        parameters: Vec::new(),
        rto: None,
    }
}

pub fn scenario(name: &str, when: Condition, plan: &str) -> ScenarioSettings {
    ScenarioSettings {
        name: name.into(),
        severity: Severity("P0".into()),
        service: "shop".into(),
        mode: Mode::Auto,
        on_no_answer: OnNoAnswer::Hold,
        approvals: 1,
        failback: None,
        when,
        unless: vec![],
        requires: vec![is("standby", Health::Up)],
        confirm_for: HumanDuration::secs(10),
        lower_layers_first: None,
        rto: HumanDuration::secs(900),
        rpo: Some(HumanDuration::secs(60)),
        replication: vec![ReplicationPair { standby: "standby".into(), primary: Some("db".into()) }],
        ask_replicas: true,
        plan: Some(plan.into()),
    }
}

pub fn settings() -> Settings {
    Settings {
        name: "here".into(),
        domain: "here".into(),
        mode: Mode::Auto,
        quorum: 1,
        witnesses: Vec::new(),
        on_silent_witnesses: Default::default(),
        flap_damping: None,
        startup_grace: HumanDuration::ZERO,
        cool_down: HumanDuration::secs(1800),
        failover_limit: 3,
        failover_window: HumanDuration::secs(86_400),
        tilt_for: HumanDuration::secs(10),
        safety_percent: 120,
        probes: ["api", "db", "cache", "standby"].map(probe).to_vec(),
        anchors: vec![],
        anchors_at_least: 0,
        severities: Vec::new(),
        services: Vec::new(),
        scenarios: vec![scenario(REGIONAL, at_least(2, &["api", "db", "cache"]), "regional")],
        plans: vec![plan("regional")],
        manual_scenario: None,
        drills: Default::default(),
    }
}

/// Settings with one thing changed.
pub fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = settings();
    change(&mut settings);
    settings
}

/// Settings with a plan of these steps.
pub fn with_steps(steps: Vec<Step>) -> Settings {
    with(|s| {
        s.plans[0].point_of_no_return =
            s.plans[0].point_of_no_return.take().filter(|p| steps.iter().any(|t| t.name == *p));
        s.plans[0].steps = steps;
    })
}

pub fn up() -> Observation {
    Observation::up(Duration::from_millis(5))
}

pub fn bad() -> Observation {
    Observation::down(CauseKind::ConnectionRefused, "refused")
}

pub fn blind() -> Observation {
    Observation::unknown(CauseKind::LocalResource, "no socket")
}

pub fn up_with(facts: Facts) -> Observation {
    Observation::Up { latency: Duration::from_millis(5), facts: Some(Box::new(facts)), degraded: None }
}

/// A standby that streams and is so far behind.
pub fn lagging(lag: Duration) -> Observation {
    up_with(Facts {
        role: Some(Role::Replica),
        lag: Some(Lag { time: lag, bytes: None }),
        streaming: Some(true),
        ..Facts::default()
    })
}

/// A standby that is cut off from its primary.
pub fn cut_off() -> Observation {
    up_with(Facts { role: Some(Role::Replica), streaming: Some(false), ..Facts::default() })
}

pub fn not_done() -> CallOutcome {
    CallOutcome::Observed(Observed::NotDone { evidence: "as before".into(), before: json!("before") })
}

pub fn refused(again: bool) -> CallOutcome {
    CallOutcome::Applied(Applied::Refused { reason: "throttled".into(), again })
}

pub fn unknown() -> CallOutcome {
    CallOutcome::Applied(Applied::Unknown { reason: "timeout after send".into() })
}
