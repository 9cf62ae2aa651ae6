//! Views for tests: a quiet afternoon, and a night with a run under way.

use std::time::Duration;

use crate::core::view::*;
use crate::model::*;

/// 2026-07-30T03:12:44Z.
pub(crate) const NOW: WallTime = WallTime(1_785_381_164_000);

pub(crate) fn ago(seconds: u64) -> WallTime {
    NOW.minus(Duration::from_secs(seconds))
}

pub(crate) fn hence(seconds: u64) -> WallTime {
    NOW + Duration::from_secs(seconds)
}

fn probe(name: &str, region: &str, health: Health, why: &str) -> ProbeView {
    ProbeView {
        name: name.into(),
        region: Some(region.into()),
        zone: None,
        anchor: false,
        health,
        degraded: false,
        why: why.into(),
        since: Some(ago(95)),
        last_seen: Some(ago(1)),
        latency_ms: (health == Health::Up).then_some(12.4),
        facts: None,
        fast: health == Health::Down,
        flapping_until: None,
    }
}

pub(crate) fn quiet() -> StatusView {
    let mut standby = probe("standby", "us-west-2", Health::Up, "");
    let lag = Lag { time: Duration::from_millis(1200), bytes: Some(4096) };
    standby.facts =
        Some(Facts { role: Some(Role::Replica), lag: Some(lag), streaming: Some(true), ..Facts::default() });
    StatusView {
        name: "shop".into(),
        tasks: Vec::new(),
        escalations: Vec::new(),
        duties: Vec::new(),
        budgets: Vec::new(),
        services: Vec::new(),
        scorecard: Vec::new(),
        readiness: Vec::new(),
        members: None,
        at: NOW,
        started: ago(86_400 * 3),
        mode: Mode::Approve,
        mode_by: None,
        paused_by: None,
        tilt_until: None,
        in_doubt: None,
        isolated: false,
        epoch: Epoch(4),
        vantages: Vec::new(),
        probes: vec![probe("api", "us-east-1", Health::Up, ""), standby],
        scenarios: vec![scenario()],
        run: None,
    }
}

fn scenario() -> ScenarioView {
    ScenarioView {
        name: "regional-outage".into(),
        severity: Severity("P0".into()),
        mode: Mode::Approve,
        condition: "at least 2 of (api is down, db is down)".into(),
        truth: Truth::False,
        incident: None,
        extent: None,
        choice: None,
        decision: None,
        guards: vec![guard("mode", true, "approve", None), guard("standby", true, "standby is up", None)],
        plan: Some("regional-failover".into()),
        plan_hash: None,
        rto: HumanDuration::secs(900),
        rpo: Some(HumanDuration::secs(60)),
        budget: HumanDuration::secs(252),
        predicted_loss: Some(HumanDuration::millis(1200)),
        predicted_writes: crate::model::Writes { bytes: Some(48_200), transactions: Some(12) },
        stakes: Vec::new(),
        outage_start: None,
        deadline: None,
        decide_by: None,
    }
}

pub(crate) fn guard(name: &str, passes: bool, detail: &str, until: Option<WallTime>) -> GuardView {
    GuardView { name: name.into(), passes, detail: detail.into(), until }
}

pub(crate) fn outage() -> StatusView {
    let mut view = quiet();
    view.probes[0] = probe("api", "us-east-1", Health::Down, "connection_refused: 10.0.0.1:443");
    let scenario = &mut view.scenarios[0];
    scenario.truth = Truth::True;
    scenario.incident = Some("INC-20260730-001".into());
    scenario.decision = Some(Decision::AskApproval { until: hence(600) });
    scenario.guards = vec![
        guard("confirmed", true, "held for 32s", None),
        guard("approval", false, "waits for a person", None),
        guard("cool-down", false, "a run ended 20m ago", Some(hence(120))),
    ];
    scenario.outage_start = Some(ago(48));
    scenario.extent = Some(extent());
    scenario.deadline = Some(hence(852));
    scenario.decide_by = Some(hence(600));
    view
}

fn extent() -> Extent {
    Extent { reach: Reach::Services, down: vec!["api".into()], unclear: vec!["db".into()] }
}

pub(crate) fn incident() -> IncidentView {
    IncidentView {
        id: "INC-20260730-001".into(),
        scenario: "regional-outage".into(),
        severity: Severity("P0".into()),
        outage_start: ago(48),
        extent: Some(extent()),
        opened: ago(40),
        closed: None,
        acknowledged_by: None,
        decision: Some(Decision::AskApproval { until: hence(600) }),
        approval: Some(ApprovalView {
            plan_hash: PlanHash::from("0123456789abcdef0123"),
            epoch: Epoch(5),
            until: hence(600),
            needed: 1,
            given: Vec::new(),
        }),
        run: None,
        timeline: vec![
            TimelineView { at: ago(48), text: "api: first bad observation".into() },
            TimelineView { at: ago(40), text: "incident opened".into() },
        ],
    }
}

fn step(name: &str, kind: &str, after: &[&str], state: StepStateView, detail: &str) -> StepView {
    StepView {
        name: name.into(),
        kind: kind.into(),
        target: format!("{name} of shop"),
        after: after.iter().map(|&name| name.into()).collect(),
        state,
        attempts: u32::from(state != StepStateView::Pending),
        started: (state != StepStateView::Pending).then(|| ago(30)),
        ended: state.is_over().then(|| ago(20)),
        took: state.is_over().then(|| HumanDuration::millis(10_400)),
        estimate: HumanDuration::secs(60),
        detail: detail.into(),
    }
}

pub(crate) fn run() -> RunView {
    RunView {
        id: "RUN-20260730-001".into(),
        scenario: "regional-outage".into(),
        incident: Some("INC-20260730-001".into()),
        plan: "regional-failover".into(),
        plan_hash: PlanHash::from("0123456789abcdef0123"),
        epoch: Epoch(5),
        trigger: "automatic".into(),
        outage_start: ago(90),
        deadline: hence(810),
        predicted_loss: Some(HumanDuration::millis(1200)),
        predicted_writes: crate::model::Writes::default(),
        measured_loss: Vec::new(),
        started: ago(31),
        ended: None,
        result: None,
        aborting_by: None,
        past_no_return: true,
        last_look: false,
        steps: vec![
            step("fence", "rds.stop", &[], StepStateView::Done, "stopped"),
            step("promote", "rds.promote_read_replica", &["fence"], StepStateView::Parked, "timed out after 10m"),
            step("route", "route53.upsert_alias", &["promote"], StepStateView::Pending, ""),
        ],
        split: SplitView { detect: HumanDuration::secs(8), decide: HumanDuration::secs(51), ..SplitView::default() },
        drill_on: None,
        verdict: None,
        set_aside: None,
    }
}

pub(crate) fn failing_over() -> StatusView {
    let mut view = outage();
    view.run = Some(run());
    view
}

/// Writes the fixtures of `tests/it/cli`, which sees the crate from outside.
#[test]
#[ignore = "run it after a change of the views: cargo test --lib write_fixtures -- --ignored"]
fn write_fixtures() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cli");
    let write = |name: &str, value: serde_json::Value| {
        let text = serde_json::to_string_pretty(&value).expect("views are JSON");
        std::fs::write(folder.join(name), text + "\n").expect("written");
    };
    write("quiet.json", serde_json::json!(quiet()));
    write("outage.json", serde_json::json!(outage()));
    write("failing_over.json", serde_json::json!(failing_over()));
    write("incident.json", serde_json::json!(incident()));
    write("run.json", serde_json::json!(run()));
}
