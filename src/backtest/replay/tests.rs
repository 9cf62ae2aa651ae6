use std::collections::BTreeMap;

use super::*;
use crate::model::*;

const HOUR: i64 = 3_600_000;

fn probe(name: &str) -> ProbeSettings {
    ProbeSettings {
        name: name.into(),
        region: None,
        zone: None,
        target: name.into(),
        interval: HumanDuration::secs(2),
        fast_interval: HumanDuration::secs(2),
        timeout: HumanDuration::secs(1),
        fall: 3,
        rise: 2,
        max_age: HumanDuration::secs(7),
        causes: BTreeMap::new(),
        window: None,
    }
}

fn is(probe: &str, is: Is) -> Condition {
    Condition::Probe(Subject { probe: probe.into(), is })
}

/// One scenario: `api is down`, and the backup is up.
pub fn settings() -> Settings {
    let step = Step {
        name: "route".into(),
        after: Vec::new(),
        work: Work::Approval { message: "nobody answers here".into() },
        timeout: HumanDuration::secs(600),
        retry: Retry::default(),
        on_error: OnError::Park,
        estimate: HumanDuration::secs(60),
        terms: Terms::default(),
    };
    Settings {
        name: "here".into(),
        domain: "here".into(),
        mode: Mode::AlertOnly,
        quorum: 2,
        witnesses: Vec::new(),
        on_silent_witnesses: Default::default(),
        flap_damping: None,
        startup_grace: HumanDuration::secs(30),
        cool_down: HumanDuration::secs(600),
        failover_limit: 10,
        failover_window: HumanDuration::secs(86_400),
        tilt_for: HumanDuration::secs(10),
        safety_percent: 120,
        probes: vec![probe("api"), probe("backup"), probe("anchor:1.1.1.1:443")],
        anchors: vec!["anchor:1.1.1.1:443".into()],
        anchors_at_least: 1,
        severities: Vec::new(),
        services: Vec::new(),
        scenarios: vec![ScenarioSettings {
            name: "api-outage".into(),
            severity: Severity("P0".into()),
            service: "shop".into(),
            mode: Mode::Approve,
            on_no_answer: OnNoAnswer::Hold,
            approvals: 1,
            failback: None,
            when: is("api", Is::Down),
            unless: Vec::new(),
            requires: vec![is("backup", Is::Up)],
            confirm_for: HumanDuration::secs(10),
            lower_layers_first: None,
            rto: HumanDuration::secs(300),
            rpo: Some(HumanDuration::secs(1)),
            replication: vec![ReplicationPair { standby: "backup".into(), primary: None }],
            ask_replicas: true,
            plan: Some("switch".into()),
        }],
        plans: vec![Plan {
            name: "switch".into(),
            steps: vec![step],
            point_of_no_return: None,
            parameters: Vec::new(),
            rto: None,
        }],
        manual_scenario: None,
        drills: Default::default(),
    }
}

/// A look at `probe` each second from 0 to `to` seconds: down within these spans of seconds.
pub fn recorded(probe: &str, to: i64, down: &[(i64, i64)]) -> Series {
    let points = (0..=to).map(|second| {
        let is_down = down.iter().any(|(from, to)| (*from..*to).contains(&second));
        let health = if is_down { Health::Down } else { Health::Up };
        let cause = is_down.then_some(CauseKind::ConnectionRefused);
        Point { at: second * 1000, health, latency: None, cause }
    });
    Series::new(probe.into(), points.collect(), Duration::from_secs(1))
}

fn play_api(settings: &Settings, down: &[(i64, i64)]) -> Played {
    let history = History::new([recorded("api", 3600, down)]).expect("some");
    play(&history, settings)
}

fn seconds(at: WallTime) -> f64 {
    at.0 as f64 / 1000.0
}

#[test]
fn an_outage_is_acted_upon_after_detection_and_confirmation() {
    let played = play_api(&settings(), &[(1000, 1600)]);
    assert_eq!(played.trips.len(), 1, "{played:?}");
    let trip = &played.trips[0];
    let (opened, acted) = (seconds(played.incidents[0].at), seconds(trip.acted.expect("acted")));
    // Three looks, two seconds apart, the first at most one interval after the outage began.
    assert!((1004.0..1006.0).contains(&opened), "{opened}");
    assert!((opened + 10.0..opened + 10.1).contains(&acted), "{acted}");
    assert!((1000.0..1002.0).contains(&seconds(trip.outage_start)));
    assert!(played.incidents[0].closed.is_some_and(|at| (1602.0..1605.0).contains(&seconds(at))), "{played:?}");
}

#[test]
fn what_is_over_before_it_is_confirmed_is_no_failover() {
    let played = play_api(&settings(), &[(1000, 1010)]);
    assert!(played.trips.is_empty() && played.incidents.len() == 1, "{played:?}");
    assert!(played.incidents[0].held.as_ref().is_some_and(|why| why.starts_with("confirming")), "{played:?}");
    let played = play_api(&settings(), &[(1000, 1003)]);
    assert!(played.incidents.is_empty(), "two bad looks are not three: {played:?}");
}

#[test]
fn the_last_look_is_answered_from_the_history_too() {
    let mut settings = settings();
    settings.probes[0].interval = HumanDuration::secs(10);
    settings.probes[0].fast_interval = HumanDuration::secs(10);
    settings.probes[0].max_age = HumanDuration::secs(31);
    settings.probes[0].fall = 1;
    settings.scenarios[0].confirm_for = HumanDuration::secs(8);
    // It is back when the confirmation is over, which the next usual look would not know yet.
    let played = play_api(&settings, &[(1000, 1011)]);
    assert_eq!(played.trips.len(), 1, "{played:?}");
    assert_eq!(played.trips[0].acted, None, "called off: {played:?}");
}

#[test]
fn runs_end_and_the_cool_down_holds_the_next_one() {
    // Acted upon at 1016; the plan takes 60 s, and the cool-down 600 s from there.
    let played = play_api(&settings(), &[(1000, 1300), (1500, 1650)]);
    assert_eq!(played.trips.len(), 1, "{played:?}");
    assert!(played.incidents[1].held.as_ref().is_some_and(|why| why.starts_with("cool_down")), "{played:?}");
    let played = play_api(&settings(), &[(1000, 1300), (1500, 1800)]);
    let late = played.trips[1].acted.map(seconds).expect("acted");
    assert!((1674.0..1677.0).contains(&late), "it outlives the cool-down: {late}");
    let mut settings = settings();
    settings.cool_down = HumanDuration::secs(60);
    let played = play_api(&settings, &[(1000, 1300), (1500, 1650)]);
    assert_eq!(played.trips.len(), 2, "{played:?}");
}

#[test]
fn a_gap_is_unknown_and_never_down() {
    let mut series = recorded("api", 3600, &[(1000, 1002)]);
    series.points.retain(|point| !(1_002_000..1_600_000).contains(&point.at));
    let played = play(&History::new([series]).expect("some"), &settings());
    assert!(played.trips.is_empty() && played.incidents.is_empty(), "{played:?}");
}

#[test]
fn an_answer_slower_than_the_timeout_that_is_tried_is_none() {
    let mut series = recorded("api", 3600, &[]);
    for point in series.points.iter_mut().filter(|point| (1_000_000..1_600_000).contains(&point.at)) {
        point.latency = Some(1500);
    }
    let history = History::new([series]).expect("some");
    assert_eq!(play(&history, &settings()).trips.len(), 1);
    let mut patient = settings();
    patient.probes[0].timeout = HumanDuration::secs(2);
    assert!(play(&history, &patient).incidents.is_empty());
}

#[test]
fn a_target_that_hangs_is_told_only_after_the_timeout() {
    let hang = |cause: Option<CauseKind>, latency: Option<u32>| {
        let mut series = recorded("api", 3600, &[(1000, 1600)]);
        for point in series.points.iter_mut().filter(|point| point.health == Health::Down) {
            (point.cause, point.latency) = (cause, latency);
        }
        let mut settings = settings();
        settings.probes[0].timeout = HumanDuration::millis(1900);
        seconds(play(&History::new([series]).expect("some"), &settings).incidents[0].at)
    };
    let refused = hang(Some(CauseKind::ConnectionRefused), None);
    assert!((hang(Some(CauseKind::Timeout), Some(1)) - refused - 1.9).abs() < 0.01);
    assert!((hang(None, None) - refused - 1.9).abs() < 0.01, "nobody knows: the latest that can be");
    assert!((hang(None, Some(300)) - refused - 0.3).abs() < 0.01);
}

#[test]
fn while_in_doubt_it_looks_at_the_fast_pace() {
    let mut settings = settings();
    settings.probes[0].fast_interval = HumanDuration::millis(500);
    let quick = play_api(&settings, &[(1000, 1600)]);
    let opened = seconds(quick.incidents[0].at);
    assert!((1001.0..1003.1).contains(&opened), "{opened}");
    // Down is no doubt any more: it is back at the usual pace.
    assert!(quick.attempts < 3 * 1800 + 60, "{}", quick.attempts);
}

#[test]
fn recorded_anchors_tell_our_own_isolation() {
    let cut_off = [(1000, 1600)];
    let api = recorded("api", 3600, &cut_off);
    let anchor = recorded("anchor:1.1.1.1:443", 3600, &cut_off);
    let played = play(&History::new([api.clone(), anchor]).expect("some"), &settings());
    assert!(played.trips.is_empty(), "{played:?}");
    let anchor = recorded("anchor:1.1.1.1:443", 3600, &[]);
    assert_eq!(play(&History::new([api, anchor]).expect("some"), &settings()).trips.len(), 1);
}

#[test]
fn a_backup_that_was_down_holds_it() {
    let series = [recorded("api", 3600, &[(1000, 1600)]), recorded("backup", 3600, &[(900, 1700)])];
    let played = play(&History::new(series).expect("some"), &settings());
    assert!(played.trips.is_empty(), "{played:?}");
    assert!(played.incidents[0].held.as_ref().is_some_and(|why| why.starts_with("standby")), "{played:?}");
}

#[test]
fn the_same_history_is_the_same_story() {
    let down = [(1000, 1100), (1200, 1220), (2000, 2600)];
    assert_eq!(play_api(&settings(), &down), play_api(&settings(), &down));
}

#[test]
fn a_target_that_flaps_for_ever_ends_the_replay_early() {
    let mut settings = settings();
    (settings.probes[0].fall, settings.probes[0].rise) = (1, 1);
    let points = (0..4 * HOUR / 1000).map(|second| {
        let health = if second % 4 < 2 { Health::Down } else { Health::Up };
        Point {
            at: second * 1000,
            health,
            latency: None,
            cause: Some(CauseKind::ConnectionRefused).filter(|_| second % 4 < 2),
        }
    });
    let history = History::new([Series::new("api".into(), points.collect(), Duration::from_secs(1))]).expect("some");
    let played = play(&history, &settings);
    assert!(played.cut_short.is_some_and(|why| why.starts_with("more than 2000 incidents by 1970-01-01T02:")));
    assert_eq!(played.incidents.len(), 2_001);
}

#[test]
fn what_is_taken_for_granted_is_said() {
    let history = History::new([recorded("api", 10, &[])]).expect("some");
    let said = stage::assumptions(&settings(), &history).join("\n");
    for word in ["quorum is 2", "recorded of backup", "anchor:1.1.1.1:443", "RPO of api-outage"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!((stage::attempts_per_minute(&settings()) - 90.0).abs() < 0.001);
}

/// A window is computed from the recorded looks of its parts, by the same brain.
#[test]
fn gray_failure_is_found_in_what_was_recorded_of_the_parts() {
    let mut settings = settings();
    let window = WindowSettings {
        of: vec!["api".into()],
        over: HumanDuration::secs(120),
        at_least: 20,
        latency: vec![LatencyLimit { percentile: 90, at_most: HumanDuration::millis(300) }],
        error_ratio: None,
        burn_rate: None,
    };
    settings.probes.push(ProbeSettings { window: Some(Box::new(window)), ..probe("whole") });
    settings.scenarios[0].when = is("whole", Is::Degraded);
    let points = (0..3600).map(|second| {
        let slow = (1000..1600).contains(&second) && second % 3 == 0;
        Point { at: second * 1000, health: Health::Up, latency: Some(if slow { 800 } else { 20 }), cause: None }
    });
    let history = History::new([Series::new("api".into(), points.collect(), Duration::from_secs(1))]).expect("some");
    let played = play(&history, &settings);
    assert_eq!(played.incidents.len(), 1, "{played:?}");
    // A third of the answers is slow: a tenth of the window is, after 36 s.
    assert!((1030.0..1060.0).contains(&seconds(played.incidents[0].at)), "{played:?}");
    assert_eq!(played.trips.len(), 1, "{played:?}");
    let said = stage::assumptions(&settings, &history).join("\n");
    assert!(!said.contains("whole"), "{said}");
    assert!((stage::attempts_per_minute(&settings) - 90.0).abs() < 0.001, "a window asks nobody");
}
