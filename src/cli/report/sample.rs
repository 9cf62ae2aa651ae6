//! A journal of a failover that was approved and met its objectives.

use std::time::Duration;

use crate::core::report::{Linked, Report};
use crate::model::*;

const T0: i64 = 1_795_143_600_000;

fn action(name: &str, kind: &str, effect: EffectKind, after: &[&str], estimate: u64) -> Step {
    Step {
        name: name.into(),
        after: after.iter().map(|name| (*name).into()).collect(),
        work: Work::Action(ActionSpec {
            kind: kind.into(),
            effect,
            repeat: Repeat::ByObservation,
            target: format!("us-west-2/{name}"),
            service: None,
            region: None,
            estimate: HumanDuration::secs(estimate),
            messages: vec![],
            makes: false,
            params: serde_json::json!({ "target": name }),
        }),
        timeout: HumanDuration::secs(600),
        retry: Retry::default(),
        on_error: OnError::Park,
        estimate: HumanDuration::secs(estimate),
        terms: Terms::default(),
    }
}

fn plan() -> Plan {
    Plan {
        name: "move-to-west".into(),
        steps: vec![
            action("fence", "rds.stop_instance", EffectKind::Fence, &[], 5),
            action("promote-database", "rds.promote_read_replica", EffectKind::Promote, &["fence"], 60),
            action("scale-api", "kubernetes.scale", EffectKind::Scale, &["fence"], 20),
            action("switch-dns", "route53.alias", EffectKind::Route, &["promote-database", "scale-api"], 10),
        ],
        point_of_no_return: Some("promote-database".into()),
        parameters: vec![],
        rto: None,
    }
}

fn vote(probe: &str, vantage: &str, health: Health, cause: &str) -> VoteEvidence {
    VoteEvidence {
        probe: probe.into(),
        vantage: vantage.into(),
        domain: format!("{vantage}-domain").as_str().into(),
        health,
        seen: WallTime(T0 + 5_500),
        cause: (health != Health::Up).then(|| Cause::new(CauseKind::Timeout, cause)),
    }
}

fn entries(cause: &str) -> Vec<(i64, Entry)> {
    let incident = IncidentId::from("INC-20261120-001");
    let run = RunId::from("RUN-20261120-001");
    let plan = plan();
    let hash = plan.hash();
    let votes = || {
        vec![
            vote("api", "daemon", Health::Down, cause),
            vote("api", "witness-eu", Health::Down, cause),
            vote("database", "daemon", Health::Down, "no answer within 2 s"),
            vote("standby", "daemon", Health::Up, ""),
        ]
    };
    let decided = |decision, outlook| Entry::Decided { incident: incident.clone(), decision, choice: None, outlook };
    let outlook = Outlook { total: HumanDuration::secs(85), loss: Some(HumanDuration::millis(1200)) };
    let intent = |step: &str, attempt| Entry::StepIntent {
        run: run.clone(),
        step: step.into(),
        attempt,
        epoch: Epoch(1),
        promotes: None,
        before: serde_json::Value::Null,
    };
    let applied =
        |step: &str, attempt, outcome| Entry::StepApplied { run: run.clone(), step: step.into(), attempt, outcome };
    let accepted = |evidence: &str| Applied::Accepted { evidence: evidence.into() };
    let ended = |step: &str, evidence: &str, took| Entry::StepEnded {
        run: run.clone(),
        step: step.into(),
        end: StepEnd::Done { evidence: evidence.into(), already: false, outputs: Outputs::new() },
        took: Duration::from_millis(took),
    };
    let hold = HoldReason::Confirming { until: WallTime(T0 + 16_000) };
    vec![
        (-3_600_000, Entry::DaemonStarted { version: "0.1.0".into() }),
        (
            6_000,
            Entry::IncidentOpened {
                incident: incident.clone(),
                scenario: "regional-outage".into(),
                severity: Severity("SEV-1".into()),
                outage_start: WallTime(T0),
                votes: votes(),
                replication: vec![],
                extent: Some(Extent {
                    reach: Reach::Region { region: "us-east-1".into() },
                    down: vec!["api".into(), "database".into()],
                    unclear: vec![],
                }),
                objectives: Some(Objectives {
                    service: "shop".into(),
                    rto: HumanDuration::secs(900),
                    rpo: Some(HumanDuration::secs(5)),
                    plan: Some("move-to-west".into()),
                    slo: None,
                }),
            },
        ),
        (6_000, decided(Decision::Hold(hold), None)),
        (16_000, decided(Decision::AskApproval { until: WallTime(T0 + 600_000) }, Some(outlook))),
        (
            16_000,
            Entry::ApprovalAsked {
                incident: incident.clone(),
                plan_hash: hash.clone(),
                epoch: Epoch(1),
                until: WallTime(T0 + 600_000),
                without_quorum: None,
            },
        ),
        (31_000, Entry::IncidentAcknowledged { incident: incident.clone(), by: "ana (uid 1001)".into() }),
        (
            31_000,
            Entry::Command {
                by: "ana (uid 1001)".into(),
                command: "{\"command\":\"ack\"}".into(),
                result: "acknowledged".into(),
            },
        ),
        (
            48_000,
            Entry::ApprovalAnswered {
                incident: incident.clone(),
                by: "ana (uid 1001)".into(),
                approved: true,
                plan_hash: hash.clone(),
                epoch: Epoch(1),
                allow_data_loss: None,
                loss_shown: LossShown::Known,
                predicted: Some(PredictedLoss {
                    time: Some(HumanDuration::millis(1200)),
                    writes: Writes { bytes: Some(48_200), transactions: Some(12) },
                }),
            },
        ),
        (48_000, decided(Decision::Act, None)),
        (
            48_000,
            Entry::RunStarted {
                run: run.clone(),
                incident: Some(incident.clone()),
                scenario: "regional-outage".into(),
                service: "shop".into(),
                epoch: Epoch(1),
                trigger: Trigger::Approved { by: "ana (uid 1001)".into(), allow_data_loss: None, without_quorum: None },
                votes: votes(),
                outage_start: WallTime(T0),
                rto: HumanDuration::secs(900),
                predicted_loss: Some(HumanDuration::millis(1200)),
                predicted_writes: Writes { bytes: Some(48_200), transactions: Some(12) },
                plan_hash: hash,
                plan: Box::new(plan),
                run_kind: RunKind::Ungraceful,
            },
        ),
        (49_000, intent("fence", 1)),
        (50_000, applied("fence", 1, accepted("stopping"))),
        (53_000, ended("fence", "the instance is stopped", 5_000)),
        (53_500, intent("promote-database", 1)),
        (53_600, intent("scale-api", 1)),
        (54_000, applied("promote-database", 1, accepted("modifying"))),
        (54_500, applied("scale-api", 1, Applied::Refused { reason: "429 Too Many Requests".into(), again: true })),
        (58_000, intent("scale-api", 2)),
        (58_300, applied("scale-api", 2, accepted("scaled to 6"))),
        (71_000, ended("scale-api", "6 of 6 ready", 17_400)),
        (110_000, ended("promote-database", "available, takes writes", 56_500)),
        (110_500, intent("switch-dns", 1)),
        (111_000, applied("switch-dns", 1, accepted("PENDING"))),
        (119_000, ended("switch-dns", "INSYNC, resolves to 192.0.2.20", 8_500)),
        (119_000, Entry::RunEnded { run, result: RunResult::Done }),
        (130_000, Entry::IncidentClosed { incident, why: "it holds no longer: api is down".into() }),
    ]
}

/// The report on it; `cause` is why the votes are down.
pub fn report(cause: &str) -> Report {
    let record = |(place, (at, entry)): (usize, (i64, Entry))| {
        let seq = place as u64 + 1;
        Linked {
            record: Record { seq, at: WallTime(T0 + at), entry },
            checksum: format!("{:064x}", seq * 0x1234_5678_9abc),
        }
    };
    let journal: Vec<Linked> = entries(cause).into_iter().enumerate().map(record).collect();
    Report::of(&journal, &"INC-20261120-001".into()).expect("it follows").expect("it is there")
}

#[test]
fn the_split_and_the_objectives_are_what_happened() {
    let report = report("x");
    let split = report.split.expect("a run");
    assert_eq!((split.detect, split.decide), (HumanDuration::secs(6), HumanDuration::secs(42)));
    let [rto, rpo] = &report.objectives[..] else { panic!("{:?}", report.objectives) };
    assert_eq!((rto.actual, rto.met), (Some(HumanDuration::secs(119)), Some(true)));
    assert_eq!((rpo.predicted, rpo.met, rpo.actual), (Some(HumanDuration::millis(1200)), None, None));
    assert_eq!(report.approvals.len(), 2);
    assert!(report.approvals[1].shown.contains("1m 25s") && report.approvals[1].by.is_some(), "{:?}", report.approvals);
}

#[test]
fn of_another_incident_there_is_no_report() {
    assert_eq!(Report::of(&[], &"INC-20261120-002".into()), Ok(None));
}
