use super::*;
use crate::model::{CauseKind, HumanDuration};

fn detector(fall: u32, rise: u32) -> Detector {
    Detector::new(ProbeSettings {
        name: "api".into(),
        region: None,
        zone: None,
        target: "here".into(),
        interval: HumanDuration::secs(1),
        fast_interval: HumanDuration::secs(1),
        timeout: HumanDuration::secs(1),
        fall,
        rise,
        max_age: HumanDuration::secs(4),
        causes: std::collections::BTreeMap::new(),
        window: None,
    })
}

fn at(seconds: u64) -> MonoTime {
    MonoTime::ZERO + Duration::from_secs(seconds)
}

fn up() -> Observation {
    Observation::up(Duration::from_millis(1))
}

fn down() -> Observation {
    Observation::down(CauseKind::ConnectionRefused, "")
}

fn unknown() -> Observation {
    Observation::unknown(CauseKind::LocalResource, "")
}

fn feed(detector: &mut Detector, observations: &[Observation]) -> Option<Health> {
    let from = detector.latest.as_ref().map_or(0, |latest| latest.started.0 / 1_000_000_000);
    for (index, observation) in observations.iter().enumerate() {
        detector.observe(at(from + 1 + index as u64), observation.clone());
    }
    detector.health()
}

#[test]
fn falls_after_fall_bad_ones_in_a_row_and_the_outage_starts_at_the_first() {
    let mut detector = detector(3, 2);
    assert_eq!(feed(&mut detector, &[up(), down(), down()]), Some(Health::Up));
    assert_eq!(feed(&mut detector, &[up(), down(), down()]), Some(Health::Up), "a good one breaks the series");
    assert_eq!(feed(&mut detector, &[down()]), Some(Health::Down));
    assert_eq!(detector.first_bad(), Some(at(5)));
    assert_eq!(feed(&mut detector, &[up()]), Some(Health::Down));
    assert_eq!(feed(&mut detector, &[up()]), Some(Health::Up));
    assert_eq!(detector.first_bad(), None);
}

#[test]
fn degraded_has_the_same_hysteresis_and_is_up_all_the_while() {
    let mut detector = detector(2, 2);
    let unwell = || Observation::degraded(Duration::from_millis(1), CauseKind::Slow, "");
    assert_eq!(feed(&mut detector, &[up(), unwell()]), Some(Health::Up));
    assert!(!detector.is_degraded(), "once is not enough");
    assert_eq!(feed(&mut detector, &[unwell()]), Some(Health::Up));
    assert!(detector.is_degraded());
    feed(&mut detector, &[up()]);
    assert!(detector.is_degraded(), "nor is once enough to be well again");
    feed(&mut detector, &[up()]);
    assert!(!detector.is_degraded());
    feed(&mut detector, &[unwell(), unwell(), down(), down()]);
    assert!(!detector.is_degraded(), "what is down is not degraded");
}

#[test]
fn dropped_votes_do_not_drop_since_when_it_has_failed() {
    let mut detector = detector(2, 1);
    feed(&mut detector, &[up(), down(), down()]);
    detector.forget_vote();
    assert_eq!(feed(&mut detector, &[down(), down()]), Some(Health::Down));
    assert_eq!((detector.first_bad(), detector.failing_since()), (Some(at(4)), Some(at(2))));
    feed(&mut detector, &[unknown(), unknown()]);
    assert_eq!(detector.failing_since(), None, "nobody has looked meanwhile");
    feed(&mut detector, &[down(), up(), down()]);
    assert_eq!(detector.failing_since(), Some(at(10)));
}

#[test]
fn unknown_never_counts_as_down_and_abstains_after_a_while() {
    let mut detector = detector(3, 1);
    assert_eq!(feed(&mut detector, &[up(), down(), unknown(), down(), unknown()]), Some(Health::Up));
    assert_eq!(feed(&mut detector, &[unknown(), unknown()]), Some(Health::Unknown));
    assert_eq!(feed(&mut detector, &[down(), down()]), Some(Health::Unknown), "the old series is over");
}

#[test]
fn late_and_duplicate_observations_are_dropped() {
    let mut detector = detector(1, 1);
    detector.observe(at(5), up());
    assert_eq!(detector.observe(at(5), down()), Change::Late);
    assert_eq!(detector.observe(at(4), down()), Change::Late);
    assert_eq!(detector.health(), Some(Health::Up));
}

/// What the views and the pace of the probes hang on: any change of what is concluded, and the beginning and end
/// of a doubt.
#[test]
fn what_changes_is_told_and_nothing_else() {
    use Change::{Changed, Same};
    let unwell = || Observation::degraded(Duration::from_millis(1), CauseKind::Slow, "");
    let mut detector = detector(2, 2);
    let story = [
        (up(), Changed, false),
        (up(), Same, false),
        (down(), Changed, true),
        (unknown(), Same, true),
        (down(), Changed, false),
        (down(), Same, false),
        (up(), Changed, true),
        (unknown(), Same, true),
        (up(), Changed, false),
        (unwell(), Same, false),
        (unwell(), Changed, false),
        (unwell(), Same, false),
        (unknown(), Same, false),
        (unknown(), Changed, false),
        (unknown(), Same, false),
        (down(), Changed, true),
        (up(), Same, true),
        (down(), Same, true),
        (down(), Changed, false),
        (unknown(), Same, false),
        (unknown(), Changed, false),
        (up(), Changed, true),
    ];
    for (second, (observation, change, doubt)) in story.into_iter().enumerate() {
        assert_eq!(detector.observe(at(second as u64 + 1), observation), change, "{second}");
        assert_eq!(detector.in_doubt(), doubt, "{second}");
    }
}

#[test]
fn a_conclusion_holds_since_the_look_that_concluded_it() {
    let mut detector = detector(2, 2);
    feed(&mut detector, &[up(), up(), down(), down(), down()]);
    assert_eq!((detector.since(), detector.seen()), (at(4), at(5)));
    feed(&mut detector, &[up(), up(), up()]);
    assert_eq!((detector.since(), detector.seen()), (at(7), at(8)));
}

#[test]
fn so_many_lags_are_kept_and_no_more() {
    let mut detector = detector(2, 2);
    let lagging = |seconds| Observation::Up {
        latency: Duration::from_millis(1),
        facts: Some(Box::new(Facts {
            lag: Some(Lag { time: Duration::from_secs(seconds), bytes: None }),
            ..Facts::default()
        })),
        degraded: None,
    };
    let all = LAG_SAMPLES as u64;
    for second in 1..=all {
        detector.observe(at(second), lagging(second));
    }
    assert!(detector.lag_at(at(1)).is_some());
    detector.observe(at(all + 1), lagging(0));
    assert_eq!(detector.lag_at(at(1)), None);
    assert!(detector.lag_at(at(2)).is_some());
}

#[test]
fn a_vote_expires_although_unknown_observations_go_on() {
    let mut detector = detector(10, 1);
    feed(&mut detector, &[up(), unknown(), unknown()]);
    assert!(detector.is_fresh(at(5)));
    assert!(!detector.is_fresh(at(6)));
}
