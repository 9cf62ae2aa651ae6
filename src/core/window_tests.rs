use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn at(milliseconds: u64) -> MonoTime {
    MonoTime::ZERO + Duration::from_millis(3_600_000 + milliseconds)
}

fn answered(milliseconds: u64) -> Sample {
    Sample::Answered(Some(Duration::from_millis(milliseconds)))
}

fn settings() -> WindowSettings {
    WindowSettings {
        of: vec!["api".into()],
        over: HumanDuration::secs(60),
        at_least: 20,
        latency: vec![LatencyLimit { percentile: 90, at_most: HumanDuration::millis(500) }],
        error_ratio: Some(0.1),
        burn_rate: None,
    }
}

fn owner(causes: &[(CauseKind, Meaning)]) -> ProbeSettings {
    ProbeSettings {
        name: "whole".into(),
        region: None,
        zone: None,
        target: "whole".into(),
        interval: HumanDuration::secs(1),
        fast_interval: HumanDuration::secs(1),
        timeout: HumanDuration::secs(1),
        fall: 1,
        rise: 1,
        max_age: HumanDuration::secs(4),
        causes: causes.iter().copied().collect::<BTreeMap<_, _>>(),
        window: None,
    }
}

fn kind(observation: &Observation) -> Option<CauseKind> {
    observation.cause().map(|cause| cause.kind)
}

/// One look a second, each from its second on.
fn feed(window: &mut Window, from: u64, samples: impl IntoIterator<Item = Sample>) -> Observation {
    for (second, sample) in samples.into_iter().enumerate() {
        let started = at((from + second as u64) * 1000);
        window.take(started, sample);
        window.is_due(started, Duration::from_secs(1));
    }
    window.look(None, &owner(&[]))
}

#[test]
fn too_few_looks_are_unknown_and_one_more_is_enough() {
    let mut window = Window::new(settings());
    let seen = feed(&mut window, 0, vec![answered(10); 19]);
    assert_eq!(kind(&seen), Some(CauseKind::NoData));
    assert!(matches!(seen, Observation::Unknown { .. }), "{seen:?}");
    let seen = feed(&mut window, 19, [answered(10)]);
    assert!(matches!(seen, Observation::Up { degraded: None, .. }), "{seen:?}");
}

#[test]
fn slow_answers_are_degraded_and_the_cause_has_the_figures() {
    let mut window = Window::new(settings());
    let looks = (0..40).map(|look| answered(if look % 4 == 0 { 900 } else { 20 }));
    let seen = feed(&mut window, 0, looks);
    let cause = seen.cause().expect("slow");
    assert_eq!(cause.kind, CauseKind::SlowWindow);
    assert!(cause.detail.starts_with("p90 of 40 answers within 1m is "), "{cause}");
    assert!(cause.detail.ends_with(", more than 500ms"), "{cause}");
    assert!(matches!(seen, Observation::Up { latency, .. } if (850..=950).contains(&latency.as_millis())), "{seen:?}");
    let figures: Vec<_> = seen.facts().expect("facts").figures.iter().map(|figure| figure.name.as_str()).collect();
    assert_eq!(figures, ["looks", "p90", "error_ratio"]);
}

#[test]
fn failed_looks_count_as_errors_and_not_as_slow() {
    let mut window = Window::new(settings());
    let looks = (0..40).map(|look| if look % 5 == 0 { Sample::Failed } else { answered(20) });
    let seen = feed(&mut window, 0, looks);
    assert_eq!(
        seen.cause().map(ToString::to_string).as_deref(),
        Some("error_ratio: 8 of 40 looks within 1m failed, 20 %, more than 10 %")
    );
    // At the limit it is not crossed.
    let mut window = Window::new(settings());
    let looks = (0..40).map(|look| if look % 10 == 0 { Sample::Failed } else { answered(20) });
    assert_eq!(kind(&feed(&mut window, 0, looks)), None);
}

#[test]
fn where_all_fail_there_is_no_latency_and_the_errors_tell() {
    let mut window = Window::new(settings());
    assert_eq!(kind(&feed(&mut window, 0, vec![Sample::Failed; 40])), Some(CauseKind::ErrorRatio));
    let mut window = Window::new(WindowSettings { error_ratio: None, ..settings() });
    let seen = feed(&mut window, 0, vec![Sample::Failed; 40]);
    assert!(matches!(seen, Observation::Unknown { .. }), "nobody answered, so nobody was slow: {seen:?}");
}

#[test]
fn of_several_causes_the_one_counts_that_is_worst_in_the_owners_eyes() {
    let mut window = Window::new(settings());
    let looks = (0..40).map(|look| if look % 5 == 0 { Sample::Failed } else { answered(900) });
    assert_eq!(kind(&feed(&mut window, 0, looks)), Some(CauseKind::ErrorRatio));
    let seen = window.look(None, &owner(&[(CauseKind::SlowWindow, Meaning::Down)]));
    assert_eq!(kind(&seen), Some(CauseKind::SlowWindow));
    let seen = window.look(None, &owner(&[(CauseKind::ErrorRatio, Meaning::Up)]));
    assert_eq!(kind(&seen), Some(CauseKind::SlowWindow));
}

#[test]
fn what_is_not_seen_makes_it_unknown_whatever_was_seen_before() {
    let mut window = Window::new(settings());
    feed(&mut window, 0, vec![Sample::Failed; 40]);
    let seen = window.look(Some("api is unknown".into()), &owner(&[]));
    assert_eq!(seen, Observation::unknown(CauseKind::NoData, "api is unknown"));
}

#[test]
fn bad_looks_are_forgotten_when_the_window_has_passed() {
    let mut window = Window::new(settings());
    feed(&mut window, 0, vec![Sample::Failed; 30]);
    let seen = feed(&mut window, 30, vec![answered(10); 30]);
    assert_eq!(kind(&seen), Some(CauseKind::ErrorRatio));
    // The last bad one was at 29 s; a minute and a slice of two seconds later it is gone.
    let seen = feed(&mut window, 60, vec![answered(10); 32]);
    assert_eq!(kind(&seen), None, "{seen:?}");
    assert_eq!(window.over.sum.bad, 0);
    // A long silence forgets everything at once.
    let seen = feed(&mut window, 10_000, [answered(10)]);
    assert_eq!(kind(&seen), Some(CauseKind::NoData));
    assert_eq!(window.over.sum.looks(), 1);
}

#[test]
fn a_look_that_ends_late_counts_at_its_own_time() {
    let mut window = Window::new(settings());
    feed(&mut window, 100, vec![answered(10); 30]);
    window.take(at(90_000), Sample::Failed);
    assert_eq!(window.over.sum.bad, 1, "a slow look must not be lost because a quicker one overtook it");
    window.take(at(1_000), Sample::Failed);
    assert_eq!(window.over.sum.bad, 1, "but one from before the window is");
}

fn burning() -> WindowSettings {
    let burn = BurnRate { slo: 0.99, above: 10.0, short: HumanDuration::secs(60), long: HumanDuration::secs(600) };
    WindowSettings { latency: Vec::new(), error_ratio: None, burn_rate: Some(burn), ..settings() }
}

fn errors(percent: u64, looks: u64) -> impl Iterator<Item = Sample> {
    (0..looks).map(move |look| if look * percent % 100 < percent { Sample::Failed } else { answered(10) })
}

#[test]
fn a_burn_rate_has_to_be_crossed_in_both_windows() {
    // A minute of 50 % is 50 times the budget within the short window, and 5 times within the long one.
    let mut window = Window::new(burning());
    feed(&mut window, 0, vec![answered(10); 600]);
    let seen = feed(&mut window, 600, errors(50, 60));
    assert_eq!(kind(&seen), None, "{seen:?}");
    // Two and a half minutes of it are 12.5 times.
    let seen = feed(&mut window, 660, errors(50, 90));
    let cause = seen.cause().expect("burns");
    assert_eq!(cause.kind, CauseKind::BurnRate);
    assert!(cause.detail.contains("within 1m and 1") && cause.detail.contains("1 % may"), "{cause}");
    // It matters still, and has ended.
    let seen = feed(&mut window, 750, vec![answered(10); 62]);
    assert_eq!(kind(&seen), None, "{seen:?}");
}

#[test]
fn what_lies_before_the_first_look_is_free_of_errors() {
    let mut window = Window::new(burning());
    let seen = feed(&mut window, 0, errors(50, 60));
    assert_eq!(kind(&seen), None, "a bad minute is no bad hour: {seen:?}");
    let seen = feed(&mut window, 60, errors(50, 90));
    assert_eq!(kind(&seen), Some(CauseKind::BurnRate));
}

#[test]
fn a_stall_begins_the_window_anew_and_what_was_under_way_does_not_count() {
    let mut window = Window::new(settings());
    feed(&mut window, 0, vec![Sample::Failed; 40]);
    window.begin_anew(at(45_000));
    window.take(at(44_000), answered(9_000));
    assert_eq!(window.over.sum.looks(), 0, "its latency is our own lateness");
    let seen = feed(&mut window, 45, vec![answered(10); 19]);
    assert_eq!(kind(&seen), Some(CauseKind::Stalled), "{seen:?}");
    assert_eq!(kind(&feed(&mut window, 64, [answered(10)])), None);
}

#[test]
fn doubtful_failures_count_when_they_are_known_not_to_be_ours() {
    let mut window = Window::new(settings());
    feed(&mut window, 0, vec![answered(10); 20]);
    for second in [20, 21, 22] {
        window.doubt(at(second * 1000));
    }
    window.settle(at(0), |began| match (began.0 - at(0).0) / 1_000_000_000 {
        20 => Some(true),
        21 => Some(false),
        _ => None,
    });
    assert_eq!((window.over.sum.bad, window.doubtful.len()), (1, 1));
    window.settle(at(23_000), |_| None);
    assert_eq!((window.over.sum.bad, window.doubtful.len()), (1, 0), "nobody will ever know");
    (0..10_000).for_each(|look| window.doubt(at(look)));
    assert_eq!(window.doubtful.len(), MOST_DOUBTFUL);
}

#[test]
fn it_is_looked_at_once_an_interval_however_often_its_parts_look() {
    let interval = Duration::from_secs(2);
    let mut window = Window::new(settings());
    let turns = (0..600).filter(|look| window.is_due(at(look * 100), interval)).count();
    assert!((29..=31).contains(&turns), "{turns} in a minute");
    // Parts of the same interval that come a little early or late leave no turn out.
    let mut window = Window::new(settings());
    let turns = (0..30).filter(|look| window.is_due(at(look * 2000 + look % 3 * 50), interval)).count();
    assert_eq!(turns, 30);
    // Rarer ones are each a turn.
    let mut window = Window::new(settings());
    assert_eq!((0..10).filter(|look| window.is_due(at(look * 9000), interval)).count(), 10);
    // A look from before the newest tells nothing new.
    assert!(!window.is_due(at(1000), interval));
    window.ask();
    assert!(window.is_due(at(9 * 9000 + 1), interval), "asked for");
}

#[test]
fn the_room_does_not_grow_with_the_window_or_the_rate() {
    let room = |window: &Window| {
        let slices = &window.over.slices;
        slices.len() * size_of::<Slice>() + slices.iter().map(|slice| slice.answers.capacity() * 4).sum::<usize>()
    };
    for (over, step) in [(1, 1), (60, 7), (86_400 * 30, 60_000)] {
        let mut window = Window::new(WindowSettings { over: HumanDuration::secs(over), ..settings() });
        for look in 0..100_000_u64 {
            window.take(at(look * step), answered(look % 5_000));
        }
        assert_eq!(window.over.slices.len(), 31);
        assert!(room(&window) <= 31 * (size_of::<Slice>() + 4 * BUCKETS), "{} for {over}s", room(&window));
    }
}

proptest! {
    /// Against all answers in a list, whatever came when.
    #[test]
    fn percentiles_are_within_five_percent_of_the_real_ones(
        looks in proptest::collection::vec((0_u64..400, 1_u64..60_000), 20..400),
        percentile in prop::sample::select(vec![50_u8, 90, 95, 99]),
    ) {
        let mut window = Window::new(settings());
        let mut started = 0;
        let mut all: Vec<(u64, u64)> = Vec::new();
        for (step, latency) in looks {
            started += step;
            window.take(at(started), answered(latency));
            all.push((at(started).0 / window.over.width, latency));
        }
        // Those in the slices that reach into the window.
        let head = at(started).0 / window.over.width;
        let mut real: Vec<u64> = all.iter().filter(|(slice, _)| head - slice <= SLICES).map(|(_, took)| *took).collect();
        real.sort_unstable();
        let rank = (real.len() * usize::from(percentile)).div_ceil(100);
        let real_one = Duration::from_millis(real[rank - 1]).as_secs_f64();
        let (answers, told) = window.over.percentile(percentile).expect("answers");
        prop_assert_eq!(answers, real.len() as u64);
        prop_assert!((told.as_secs_f64() - real_one).abs() <= 0.05 * real_one, "{:?} for {}", told, real_one);
    }
}
