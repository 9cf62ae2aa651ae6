use super::*;
use crate::model::{ActionSpec, EffectKind, Is, Mode, OnError, ProbeName, Repeat, Retry, Subject, Weighted};

fn step(name: &str, after: &[&str], seconds: u64) -> Step {
    Step {
        name: name.into(),
        after: after.iter().map(|name| (*name).into()).collect(),
        work: Work::Wait { duration: HumanDuration::secs(seconds) },
        timeout: HumanDuration::secs(600),
        retry: Retry::default(),
        on_error: OnError::Park,
        estimate: HumanDuration::secs(seconds),
        terms: crate::model::Terms::default(),
    }
}

fn plan(steps: Vec<Step>) -> Plan {
    Plan { name: "plan".into(), steps, point_of_no_return: None, parameters: Vec::new(), rto: None }
}

fn estimate(step: &Step) -> Duration {
    step.estimate.get()
}

fn names(steps: &[StepName]) -> Vec<&str> {
    steps.iter().map(StepName::as_str).collect()
}

#[test]
fn the_longest_chain_counts_and_not_the_sum() {
    let plan = plan(vec![
        step("promote", &[], 300),
        step("scale", &[], 60),
        step("route", &["promote", "scale"], 60),
        step("tell", &[], 1),
    ]);
    let path = critical_path(&plan, estimate);
    assert_eq!(path.total, Duration::from_secs(360));
    assert_eq!(names(&path.steps), ["promote", "route"]);
}

#[test]
fn what_the_parameters_leave_out_takes_no_time() {
    let mut restore = step("restore", &[], 1800);
    let value = crate::model::Reference::Parameter("from".into()).to_value();
    restore.terms.when =
        vec![crate::model::StepGuard::Parameter { value, name: "from".into(), is: vec!["dump".into()] }];
    let mut plan = plan(vec![restore, step("promote", &[], 300), step("route", &["restore", "promote"], 60)]);
    let total = |plan: &Plan| critical_path(plan, estimate).total;
    assert_eq!(total(&plan), Duration::from_secs(1860), "nobody knows: it counts");
    plan.parameters = vec![crate::model::Parameter {
        name: "from".into(),
        kind: crate::model::ParameterKind::Text,
        one_of: Vec::new(),
        description: String::new(),
        value: Some("replica".into()),
    }];
    assert_eq!(total(&plan), Duration::from_secs(360));
    let given = plan.with(&[("from".to_owned(), "dump".into())].into()).unwrap();
    assert_eq!(total(&given), Duration::from_secs(1860));
}

#[test]
fn an_empty_plan_takes_no_time() {
    assert_eq!(critical_path(&plan(vec![]), estimate), CriticalPath::default());
}

#[test]
fn the_order_is_as_written_where_nothing_else_is_asked() {
    let plan = plan(vec![step("route", &["promote"], 1), step("z", &[], 1), step("promote", &["z"], 1)]);
    assert_eq!(topological(&plan), Ok(vec![1, 2, 0]));
}

#[test]
fn a_cycle_is_named_without_what_only_leads_to_it() {
    let plan = plan(vec![
        step("lead", &[], 1),
        step("a", &["c", "lead"], 1),
        step("b", &["a"], 1),
        step("c", &["b"], 1),
        step("tail", &["c"], 1),
    ]);
    let cycle = topological(&plan).unwrap_err();
    assert_eq!(cycle.to_string(), "a → b → c → a");
    assert_eq!(critical_path(&plan, estimate).total, Duration::from_secs(5));
}

#[test]
fn a_step_after_itself_is_a_cycle() {
    let cycle = topological(&plan(vec![step("a", &["a"], 1)])).unwrap_err();
    assert_eq!(cycle.to_string(), "a → a");
}

#[test]
fn ancestors_are_found_through_others() {
    let plan = plan(vec![step("a", &[], 1), step("b", &["a"], 1), step("c", &["b"], 1)]);
    let found: Vec<StepName> = ancestors(&plan, &"c".into()).into_iter().collect();
    assert_eq!(names(&found), ["a", "b"]);
}

fn probe(name: &str, interval: u64, fall: u32) -> ProbeSettings {
    ProbeSettings {
        name: name.into(),
        region: None,
        zone: None,
        target: "here".into(),
        interval: HumanDuration::secs(interval),
        fast_interval: HumanDuration::secs(1),
        timeout: HumanDuration::secs(1),
        fall,
        rise: 2,
        max_age: HumanDuration::secs(3 * interval + 1),
        causes: std::collections::BTreeMap::new(),
        window: None,
    }
}

fn settings() -> Settings {
    Settings {
        name: "here".into(),
        domain: "here".into(),
        mode: Mode::Auto,
        quorum: 1,
        witnesses: Vec::new(),
        on_silent_witnesses: Default::default(),
        flap_damping: None,
        startup_grace: HumanDuration::ZERO,
        cool_down: HumanDuration::ZERO,
        failover_limit: 1,
        failover_window: HumanDuration::ZERO,
        tilt_for: HumanDuration::ZERO,
        safety_percent: 120,
        probes: vec![probe("quick", 2, 3), probe("slow", 10, 3), probe("slowest", 30, 2)],
        anchors: vec![],
        anchors_at_least: 0,
        severities: Vec::new(),
        services: Vec::new(),
        scenarios: vec![],
        plans: vec![],
        manual_scenario: None,
        drills: Default::default(),
    }
}

fn down(name: &str) -> Condition {
    Condition::Probe(Subject { probe: name.into(), is: Is::Down })
}

fn seconds(condition: &Condition) -> u64 {
    detection_budget(&settings(), condition).as_secs()
}

#[test]
fn one_probe_needs_its_interval_its_confirmations_and_a_hanging_last_attempt() {
    assert_eq!(seconds(&down("quick")), 2 + 2 + 1);
    assert_eq!(seconds(&down("slow")), 10 + 2 + 1);
    assert_eq!(seconds(&Condition::Probe(Subject { probe: "slow".into(), is: Is::Up })), 10 + 10 + 1);
}

/// In seconds: interval, fast interval, timeout, fall.
fn timed(interval: u64, fast: u64, timeout: u64, fall: u32) -> ProbeSettings {
    ProbeSettings {
        fast_interval: HumanDuration::secs(fast),
        timeout: HumanDuration::secs(timeout),
        ..probe("timed", interval, fall)
    }
}

#[test]
fn a_target_that_hangs_delays_the_fast_pace_by_its_timeout() {
    for (interval, fast, timeout, fall, expected) in [
        // The starts that count; the last one takes its timeout.
        (2, 1, 1, 1, 2 + 1),
        (2, 1, 1, 3, 4 + 1),              // 2, 3, 4
        (10, 1, 5, 3, 16 + 5),            // 10; told at 15, then 15, 16
        (2, 1, 5, 4, 7 + 5),              // 2, 4, 6; told at 7, then 7
        (1, 1, 10, 6, 13 + 10),           // 1, 2, 3, 4; they end at 11, 12, and then it is their turn
        (10, 1, 8, 6, 27 + 8),            // 10; told at 18, then 18, 19, 20, 21; one ends at 26, then 27
        (1, 1, 1, 2000, 1000 + 2000 + 1), // the rougher bound
    ] {
        let budget = fall_budget(&timed(interval, fast, timeout, fall));
        assert_eq!(budget.as_secs(), expected, "interval {interval}, fast {fast}, timeout {timeout}, fall {fall}");
    }
}

/// How many seconds the runner needs for `fall` bad answers, from an answered attempt at 0 on, where
/// each one after it hangs: second by second, as it does it.
fn paced(interval: u64, fast: u64, timeout: u64, fall: u32) -> u64 {
    let (mut due, mut last, mut told, mut step) = (interval, 0, 0, interval);
    let mut running: Vec<u64> = Vec::new();
    for now in 1.. {
        let before = running.len();
        running.retain(|start| start + timeout > now);
        for _ in running.len()..before {
            told += 1;
            if told == 1 {
                (step, due) = (fast, (last + fast).max(now).min(due));
            }
            if told == fall {
                return now;
            }
        }
        if due <= now {
            due += step;
            if running.len() < MOST_IN_FLIGHT {
                running.push(now);
                last = now;
            }
        }
    }
    unreachable!("it falls at some time")
}

#[test]
fn the_budget_is_never_shorter_than_what_the_runner_needs() {
    for interval in 1..12 {
        for fast in 1..=interval {
            for timeout in 1..30 {
                for fall in 1..9 {
                    let needed = paced(interval, fast, timeout, fall);
                    let budget = fall_budget(&timed(interval, fast, timeout, fall)).as_secs();
                    let told = format!("interval {interval}, fast {fast}, timeout {timeout}, fall {fall}");
                    assert!(budget >= needed, "{told}: {budget} s, and {needed} are needed");
                    let spare = fast * u64::from(fall.div_ceil(4));
                    assert!(budget <= needed + spare, "{told}: {budget} s, and only {needed} are needed");
                }
            }
        }
    }
}

#[test]
fn all_is_the_slowest_any_the_quickest() {
    let parts = vec![down("quick"), down("slow")];
    assert_eq!(seconds(&Condition::All(parts.clone())), 13);
    assert_eq!(seconds(&Condition::Any(parts.clone())), 5);
    // Not all down: the quickest to come up; not any down: the slowest.
    assert_eq!(seconds(&Condition::Not(Box::new(Condition::All(parts.clone())))), 5);
    assert_eq!(seconds(&Condition::Not(Box::new(Condition::Any(parts)))), 21);
}

#[test]
fn at_least_is_as_many_of_the_quickest_as_weigh_enough() {
    let of = vec![
        Weighted { weight: 1, condition: down("quick") },
        Weighted { weight: 1, condition: down("slow") },
        Weighted { weight: 2, condition: down("slowest") },
    ];
    let at_least = |weight| Condition::AtLeast { weight, of: of.clone() };
    assert_eq!(seconds(&at_least(1)), 5);
    assert_eq!(seconds(&at_least(2)), 13);
    assert_eq!(seconds(&at_least(3)), 32);
    assert_eq!(detection_budget(&settings(), &at_least(5)), Duration::MAX);
}

#[test]
fn a_probe_that_is_not_there_is_never_seen() {
    assert_eq!(detection_budget(&settings(), &down("nobody")), Duration::MAX);
}

#[test]
fn estimates_come_from_the_work_and_never_exceed_the_timeout() {
    let minute = HumanDuration::secs(60);
    let promote = Work::Action(ActionSpec {
        kind: "rds.promote_read_replica".into(),
        effect: EffectKind::Promote,
        repeat: Repeat::ByObservation,
        target: String::new(),
        service: None,
        region: None,
        estimate: HumanDuration::secs(300),
        messages: Vec::new(),
        makes: false,
        params: serde_json::Value::Null,
    });
    assert_eq!(default_estimate(&promote, HumanDuration::secs(600)), HumanDuration::secs(300));
    assert_eq!(default_estimate(&promote, minute), minute);
    assert_eq!(default_estimate(&Work::Approval { message: String::new() }, minute), minute);
    let verify = Work::VerifyProbe { probe: ProbeName::new("api"), hold: HumanDuration::secs(10) };
    assert_eq!(default_estimate(&verify, minute), HumanDuration::secs(15));
}
