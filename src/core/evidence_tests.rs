use super::*;
use crate::model::{EffectKind, OnError, Repeat, Retry, Terms, Work};

fn step(name: &str, after: &[&str], estimate: u64) -> Step {
    Step {
        name: name.into(),
        after: after.iter().map(|&name| name.into()).collect(),
        work: Work::Action(crate::model::ActionSpec {
            kind: "test.do".into(),
            effect: EffectKind::Call,
            repeat: Repeat::ByObservation,
            target: name.into(),
            service: None,
            region: None,
            estimate: HumanDuration::secs(estimate),
            messages: Vec::new(),
            makes: false,
            params: serde_json::Value::Null,
        }),
        timeout: HumanDuration::secs(600),
        retry: Retry::default(),
        on_error: OnError::Park,
        estimate: HumanDuration::secs(estimate),
        terms: Terms::default(),
    }
}

/// a and b side by side, then c.
fn plan() -> Plan {
    Plan {
        name: "failover".into(),
        steps: vec![step("a", &[], 10), step("b", &[], 20), step("c", &["a", "b"], 5)],
        point_of_no_return: None,
        parameters: Vec::new(),
        rto: None,
    }
}

fn times(seconds: &[u64]) -> Vec<Duration> {
    seconds.iter().map(|seconds| Duration::from_secs(*seconds)).collect()
}

fn key(step: &str) -> (PlanName, StepName, ActionKind) {
    ("failover".into(), step.into(), "test.do".into())
}

#[test]
fn quantiles_are_times_that_were_seen() {
    let found = Quantiles::of(&times(&[4, 1, 3, 2])).unwrap();
    assert_eq!((found.count, found.p50, found.p95), (4, HumanDuration::secs(2), HumanDuration::secs(4)));
    let hundred: Vec<u64> = (1..=100).collect();
    let found = Quantiles::of(&times(&hundred)).unwrap();
    assert_eq!(
        (found.p50, found.p95, found.max),
        (HumanDuration::secs(50), HumanDuration::secs(95), HumanDuration::secs(100))
    );
    assert_eq!(Quantiles::of(&[]), None);
}

#[test]
fn drills_count_where_there_are_not_enough_runs() {
    let mut ledger = Ledger::default();
    fn source(ledger: &Ledger) -> Option<(Source, &[Duration])> {
        samples(ledger, &"failover".into(), &"a".into(), &"test.do".into())
    }
    assert_eq!(source(&ledger), None);
    ledger.drill_times.insert(key("a"), times(&[1, 2]));
    assert_eq!(source(&ledger), None, "two are no evidence");
    ledger.drill_times.insert(key("a"), times(&[1, 2, 3]));
    ledger.step_times.insert(key("a"), times(&[7, 8]));
    assert_eq!(source(&ledger).unwrap().0, Source::Drills);
    ledger.step_times.insert(key("a"), times(&[7, 8, 9]));
    assert_eq!(source(&ledger).unwrap(), (Source::Runs, &times(&[7, 8, 9])[..]));
}

#[test]
fn the_chance_is_that_of_the_longest_chain_and_the_same_each_time() {
    let mut ledger = Ledger::default();
    let within = |ledger: &Ledger, seconds| chance(ledger, &plan(), Some(Duration::from_secs(seconds)));
    assert_eq!(within(&ledger, 60), None);
    // a: one in four takes 40 s; b always 20 s; c: 5 s as estimated.
    ledger.drill_times.insert(key("a"), times(&[10, 10, 10, 40]));
    ledger.step_times.insert(key("b"), times(&[20, 20, 20]));
    let found = within(&ledger, 25).unwrap();
    assert!((found - 0.75).abs() < 0.05, "{found}");
    assert_eq!(within(&ledger, 25), Some(found));
    assert_eq!(within(&ledger, 45), Some(1.0));
    assert_eq!(within(&ledger, 24), Some(0.0));
    assert_eq!(chance(&ledger, &plan(), None), Some(0.0), "the objective is over before the plan begins");
}
