//! A probe-hour through the brain: 20 probes every 2 s, all well, 36,000 observations.
//!
//! `cargo bench --bench brain`. At most 50 ms: the daemon sits beside other services, and what it
//! does all day is this. Beside it, in the same run, the least that anybody could do with an
//! observation: find the probe by its name and keep the time.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use failoverd::core::{Brain, Event};
use failoverd::model::*;

const PROBES: u64 = 20;
const ROUNDS: u64 = 1_800;
const LIMIT: Duration = Duration::from_millis(50);
const REPEATS: usize = 7;

fn probe(number: u64) -> ProbeSettings {
    ProbeSettings {
        name: format!("probe-{number}").into(),
        region: None,
        zone: None,
        target: "here".into(),
        interval: HumanDuration::secs(2),
        fast_interval: HumanDuration::millis(500),
        timeout: HumanDuration::secs(1),
        fall: 3,
        rise: 2,
        max_age: HumanDuration::secs(7),
        causes: std::collections::BTreeMap::new(),
        window: None,
    }
}

fn settings() -> Settings {
    let down = |number: u64| Weighted {
        weight: 1,
        condition: Condition::Probe(Subject { probe: format!("probe-{number}").into(), is: Is::Down }),
    };
    let scenario = |name: &str, from: u64| ScenarioSettings {
        name: name.into(),
        severity: Severity("P0".into()),
        service: "shop".into(),
        mode: Mode::Auto,
        on_no_answer: OnNoAnswer::Hold,
        when: Condition::AtLeast { weight: 2, of: (from..from + 5).map(down).collect() },
        unless: vec![],
        requires: vec![],
        confirm_for: HumanDuration::secs(30),
        lower_layers_first: None,
        rto: HumanDuration::secs(900),
        rpo: Some(HumanDuration::secs(60)),
        replication: vec![ReplicationPair { standby: "probe-19".into(), primary: Some("probe-0".into()) }],
        ask_replicas: true,
        approvals: 1,
        plan: None,
        failback: None,
    };
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
        probes: (0..PROBES).map(probe).collect(),
        anchors: vec!["probe-17".into(), "probe-18".into()],
        anchors_at_least: 1,
        severities: Vec::new(),
        services: Vec::new(),
        scenarios: vec![scenario("regional", 0), scenario("database", 5), scenario("cache", 10)],
        plans: vec![],
        manual_scenario: None,
        drills: Default::default(),
    }
}

/// Every observation of an hour with the time at which it is handed in.
fn hour() -> Vec<(Now, Event)> {
    let mut events = Vec::with_capacity((PROBES * ROUNDS) as usize);
    for round in 0..ROUNDS {
        for number in 0..PROBES {
            let started = MonoTime(1_000_000_000 + round * 2_000_000_000 + number * 100_000_000);
            let mono = started + Duration::from_millis(3);
            let lag = Facts { lag: Some(Lag::default()), streaming: Some(true), ..Facts::default() };
            let facts = (number == 19).then(|| Box::new(lag));
            let observation = Observation::Up { latency: Duration::from_millis(3), facts, degraded: None };
            let now = Now { mono, wall: WallTime(1_767_571_200_000 + (mono.0 / 1_000_000) as i64) };
            events.push((now, Event::Observed { probe: format!("probe-{number}").into(), started, observation }));
        }
    }
    events
}

fn through_the_brain(events: Vec<(Now, Event)>) -> Duration {
    let first = events[0].0;
    let mut brain = Brain::new(settings(), &[], first).expect("a brain");
    black_box(brain.begin(first, "bench"));
    let start = Instant::now();
    for (now, event) in events {
        // As the daemon does: woken when it asked for it.
        if brain.next_wake().is_some_and(|wake| wake <= now.mono) {
            black_box(brain.handle(now, Event::Tick));
        }
        black_box(brain.handle(now, event));
    }
    start.elapsed()
}

fn through_a_map(events: Vec<(Now, Event)>) -> Duration {
    let mut map: HashMap<ProbeName, MonoTime> = HashMap::new();
    let start = Instant::now();
    for (now, event) in events {
        if let Event::Observed { probe, .. } = event {
            black_box(map.insert(probe, now.mono));
        }
    }
    start.elapsed()
}

fn best(work: impl Fn(Vec<(Now, Event)>) -> Duration) -> Duration {
    let events = hour();
    (0..REPEATS).map(|_| work(events.clone())).min().unwrap_or_default()
}

fn main() {
    let (brain, map) = (best(through_the_brain), best(through_a_map));
    let count = PROBES * ROUNDS;
    println!(
        "{count} observations: brain {:.2} ms ({} ns each), a map alone {:.2} ms, ratio {:.1}; limit {} ms",
        brain.as_secs_f64() * 1e3,
        brain.as_nanos() / u128::from(count),
        map.as_secs_f64() * 1e3,
        brain.as_secs_f64() / map.as_secs_f64(),
        LIMIT.as_millis(),
    );
    assert!(brain <= LIMIT, "a probe-hour took {brain:?}, at most {LIMIT:?}");
}
