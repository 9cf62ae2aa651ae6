use std::collections::HashMap;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::model::ProbeName;
use crate::probes::runner::{MOST_IN_FLIGHT, Pace, ProbeReport, ProbeRunner, ProbeSpec, RunnerEvent, RunnerHandle};

enum Fake {
    Up,
    Hangs,
    Refused,
    Panics,
    /// Blocks the whole runtime, as SIGSTOP would, then waits on.
    Blocks(Duration),
}

#[async_trait]
impl Probe for Fake {
    async fn attempt(&self) -> Observation {
        match self {
            Self::Up => Observation::up(Duration::ZERO),
            Self::Refused => Observation::down(CauseKind::ConnectionRefused, ""),
            Self::Hangs => std::future::pending().await,
            Self::Panics => panic!("on purpose"),
            Self::Blocks(time) => {
                std::thread::sleep(*time);
                std::future::pending().await
            }
        }
    }
}

fn spec(name: &str, interval: u64, timeout: u64, fake: Fake) -> ProbeSpec {
    ProbeSpec {
        name: name.into(),
        index: name.len(),
        interval: Duration::from_millis(interval),
        fast_interval: Duration::from_millis(interval / 4),
        timeout: Duration::from_millis(timeout),
        probe: Arc::new(fake),
    }
}

struct Rig {
    handle: RunnerHandle,
    events: mpsc::Receiver<RunnerEvent>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn run(probes: Vec<ProbeSpec>) -> Rig {
    let (sender, events) = mpsc::channel(4096);
    let cancel = CancellationToken::new();
    let (runner, handle) = ProbeRunner::new(sender, cancel.clone());
    handle.replace(probes);
    Rig { handle, events, cancel, task: tokio::spawn(runner.run()) }
}

impl Rig {
    async fn event(&mut self) -> RunnerEvent {
        tokio::time::timeout(LONG, self.events.recv()).await.expect("no event came").expect("the runner ended")
    }

    /// The next report. Where the machine did not run us the runner abstains, rightly; that has
    /// a test of its own, and the others wait for the next attempt.
    async fn report(&mut self) -> ProbeReport {
        loop {
            if let RunnerEvent::Report(report) = self.event().await
                && report.observation.cause().is_none_or(|cause| cause.kind != CauseKind::Stalled)
            {
                return report;
            }
        }
    }

    async fn report_of(&mut self, name: &str) -> ProbeReport {
        loop {
            let report = self.report().await;
            if report.probe == ProbeName::from(name) {
                return report;
            }
        }
    }
}

#[tokio::test]
async fn reports_come_at_a_fixed_rate_with_the_callers_number() {
    let mut rig = run(vec![spec("abc", 40, 1000, Fake::Refused)]);
    let first = rig.report().await;
    assert_eq!((first.probe.as_str(), first.index), ("abc", 3));
    assert_saw(&first.observation, Health::Down, CauseKind::ConnectionRefused);
    let mut last = first.clone();
    for _ in 0..10 {
        last = rig.report().await;
    }
    // Ten intervals, not ten intervals and what the attempts took; late only at its end.
    let took = last.started.duration_since(first.started);
    assert!(took >= Duration::from_millis(385), "{took:?}");
    rig.cancel.cancel();
    tokio::time::timeout(LONG, rig.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_hanging_and_a_panicking_probe_are_reported_and_stop_nobody() {
    let mut rig = run(vec![
        spec("hangs", 50, 120, Fake::Hangs),
        spec("panics", 50, 120, Fake::Panics),
        spec("up", 50, 120, Fake::Up),
    ]);
    let mut seen = HashMap::new();
    while seen.len() < 3 {
        let report = rig.report().await;
        seen.insert(report.probe.as_str().to_owned(), report.observation);
    }
    assert_saw(&seen["hangs"], Health::Down, CauseKind::Timeout);
    assert_saw(&seen["panics"], Health::Unknown, CauseKind::LocalResource);
    assert_eq!(seen["up"].health(), Health::Up);
}

#[tokio::test]
async fn attempts_overlap_up_to_a_limit() {
    let mut rig = run(vec![spec("hangs", 20, 400, Fake::Hangs)]);
    let report = rig.report().await;
    assert_saw(&report.observation, Health::Down, CauseKind::Timeout);
    let stats = rig.handle.stats();
    assert!(stats.in_flight <= MOST_IN_FLIGHT && stats.skipped > 0, "{stats:?}");
}

#[tokio::test]
async fn our_own_stall_makes_bad_news_unknown_and_is_told() {
    let mut rig = run(vec![
        spec("hangs", 10_000, 600, Fake::Hangs),
        spec("blocks", 10_000, 5_000, Fake::Blocks(Duration::from_millis(500))),
        spec("up", 30, 5_000, Fake::Up),
    ]);
    rig.handle.probe_now(&"hangs".into());
    // The request is followed once the attempt is seen in flight.
    while rig.handle.stats().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    rig.handle.probe_now(&"blocks".into());
    let mut stalled = None;
    loop {
        match rig.event().await {
            RunnerEvent::Stalled { lasted } => stalled = Some(lasted),
            RunnerEvent::Report(report) if report.probe.as_str() == "hangs" => {
                assert_saw(&report.observation, Health::Unknown, CauseKind::Stalled);
                break;
            }
            RunnerEvent::Report(report) => assert_eq!(report.observation.health(), Health::Up),
        }
    }
    assert!(stalled.is_some_and(|lasted| lasted >= Duration::from_millis(400)), "{stalled:?}");
}

#[tokio::test]
async fn pace_and_extra_attempts_follow_the_caller() {
    let mut rig = run(vec![spec("p", 60_000, 1000, Fake::Up)]);
    rig.handle.probe_now(&"p".into());
    rig.report_of("p").await;
    let mut fast = spec("p", 60_000, 1000, Fake::Up);
    fast.fast_interval = Duration::from_millis(20);
    rig.handle.replace(vec![fast]);
    rig.handle.set_pace(&"p".into(), Pace::Fast);
    for _ in 0..5 {
        rig.report_of("p").await;
    }
    rig.handle.set_pace(&"p".into(), Pace::Normal);
    // A nudge is followed once per interval.
    let nudge = rig.handle.nudge(&"p".into());
    let before = rig.handle.stats().started;
    nudge.now();
    rig.report_of("p").await;
    nudge.now();
    rig.handle.probe_now(&"p".into());
    rig.report_of("p").await;
    let after = rig.handle.stats().started;
    assert!((before + 2..=before + 3).contains(&after), "{before} {after}");
}

#[tokio::test]
async fn a_removed_probe_is_given_up_and_a_lost_caller_ends_the_runner() {
    let mut rig = run(vec![spec("gone", 20, 60_000, Fake::Hangs)]);
    while rig.handle.stats().in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    rig.handle.replace(vec![spec("new", 20, 1000, Fake::Up)]);
    assert_eq!(rig.report().await.probe.as_str(), "new");
    assert_eq!(rig.handle.stats().in_flight, 0);
    drop(rig.events);
    tokio::time::timeout(LONG, rig.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn nobody_reading_costs_reports_and_nothing_else() {
    let (sender, mut events) = mpsc::channel(1);
    let (runner, handle) = ProbeRunner::new(sender, CancellationToken::new());
    handle.replace((0..200).map(|n| spec(&format!("p{n}"), 10, 1000, Fake::Up)).collect());
    let task = AbortOnDropHandle::new(tokio::spawn(runner.run()));
    let started = Instant::now();
    while handle.stats().dropped == 0 {
        assert!(started.elapsed() < LONG, "{:?}", handle.stats());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(tokio::time::timeout(LONG, events.recv()).await.unwrap().is_some());
    drop(task);
}

/// The aim: one that hangs delays none of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_probes_keep_their_rate_beside_one_that_hangs() {
    let mut probes: Vec<ProbeSpec> = (1..1000).map(|n| spec(&format!("p{n}"), 1000, 900, Fake::Up)).collect();
    probes.push(spec("hangs", 1000, 900, Fake::Hangs));
    let mut rig = run(probes);
    let mut starts: HashMap<ProbeName, Vec<Instant>> = HashMap::new();
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let report = rig.report().await;
        starts.entry(report.probe).or_default().push(report.started);
    }
    assert_eq!(starts.len(), 1000);
    let mut off: Vec<Duration> = starts
        .values()
        .flat_map(|starts| starts.windows(2).map(|pair| pair[1].duration_since(pair[0])))
        .map(|gap| gap.abs_diff(Duration::from_secs(1)))
        .collect();
    off.sort();
    let median = off[off.len() / 2];
    println!("median {median:?}, p99 {:?}, worst {:?}", off[off.len() * 99 / 100], off[off.len() - 1]);
    assert!(median < Duration::from_millis(20), "{median:?}");
    assert!(starts.values().all(|starts| starts.len() >= 3));
}

#[tokio::test]
async fn a_look_that_was_asked_for_does_not_wait_for_those_that_hang() {
    let rig = run(vec![spec("hole", 20, 60_000, Fake::Hangs)]);
    let running = async |count: usize| {
        let started = Instant::now();
        while rig.handle.stats().in_flight != count {
            assert!(started.elapsed() < LONG, "{:?}", rig.handle.stats());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    running(MOST_IN_FLIGHT).await;
    rig.handle.probe_now(&"hole".into());
    running(MOST_IN_FLIGHT + 1).await;
    // One more only, however often it is asked for and due.
    let skipped = rig.handle.stats().skipped;
    rig.handle.probe_now(&"hole".into());
    while rig.handle.stats().skipped < skipped + 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(rig.handle.stats().in_flight, MOST_IN_FLIGHT + 1);
}

#[tokio::test]
async fn intervals_and_timeouts_of_any_length_are_borne() {
    let mut rig = run(vec![spec("long", u64::MAX, u64::MAX, Fake::Up), spec("none", 0, 0, Fake::Hangs)]);
    rig.handle.set_pace(&"long".into(), Pace::Fast);
    rig.handle.set_pace(&"long".into(), Pace::Normal);
    rig.handle.probe_now(&"long".into());
    assert_eq!(rig.report_of("long").await.observation.health(), Health::Up);
    assert_saw(&rig.report_of("none").await.observation, Health::Down, CauseKind::Timeout);
}

/// Killed to Down: phase + (fall − 1) × interval + what a refusal takes + 20 ms at the median.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_is_seen_within_the_detection_budget() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tcp: ProbeKind =
        serde_json::from_value(serde_json::json!({ "tcp": { "address": address.to_string() } })).unwrap();
    let interval = Duration::from_millis(100);
    let probes = (0..50)
        .map(|n| ProbeSpec {
            probe: build(&tcp, &context()).unwrap().into(),
            ..spec(&format!("p{n}"), 100, 1000, Fake::Up)
        })
        .collect();
    let mut rig = run(probes);
    for _ in 0..100 {
        rig.report().await;
    }
    drop(listener);
    let killed = Instant::now();
    let mut bad: HashMap<ProbeName, Vec<Instant>> = HashMap::new();
    let mut over = Vec::new();
    while over.len() < 50 {
        let report = rig.report().await;
        if report.started < killed || report.observation.health() != Health::Down {
            continue;
        }
        let seen = bad.entry(report.probe).or_default();
        seen.push(report.finished);
        if seen.len() == 3 {
            // Over the two intervals from the first bad observation.
            over.push(seen[2].duration_since(seen[0]).saturating_sub(interval * 2));
            assert!(seen[0].duration_since(killed) < interval + Duration::from_millis(200));
        }
    }
    over.sort();
    println!("over the two intervals: median {:?}, worst {:?}", over[25], over[49]);
    assert!(over[25] < Duration::from_millis(20), "{over:?}");
}
