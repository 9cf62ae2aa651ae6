//! Records and notices to try the store with.

use std::time::Duration;

use serde_json::{Value, json};

use crate::model::*;

pub(super) fn plan() -> Plan {
    Plan {
        name: "regional".into(),
        steps: vec![Step {
            name: "promote".into(),
            after: vec!["fence".into()],
            work: Work::Action(ActionSpec {
                kind: "rds.promote_read_replica".into(),
                effect: EffectKind::Promote,
                repeat: Repeat::ByObservation,
                target: "us-west-2/shop-replica".into(),
                service: Some("shop".into()),
                region: Some("us-west-2".into()),
                estimate: crate::model::HumanDuration::secs(300),
                messages: vec!["/sns/publish/message".into()],
                makes: false,
                params: json!({"instance": "shop-replica", "nested": [1, null, "ü"]}),
            }),
            timeout: HumanDuration::secs(600),
            retry: Retry::default(),
            on_error: OnError::Park,
            estimate: HumanDuration::millis(1500),
            terms: Terms {
                when: vec![StepGuard::Step { step: "fence".into(), ended: Ended::Failed }],
                only_in: Some(RunKind::Ungraceful),
                ..Terms::default()
            },
        }],
        point_of_no_return: Some("promote".into()),
        parameters: vec![Parameter {
            name: "at".into(),
            kind: ParameterKind::Time,
            one_of: Vec::new(),
            description: "when".into(),
            value: None,
        }],
        rto: Some(HumanDuration::secs(60)),
    }
}

pub(super) fn run_started(epoch: u64) -> Entry {
    let plan = plan();
    Entry::RunStarted {
        run: "RUN-20260101-001".into(),
        incident: Some("INC-20260101-001".into()),
        service: "shop".into(),
        scenario: "outage".into(),
        epoch: Epoch(epoch),
        trigger: Trigger::Manual { by: "ann".into(), allow_data_loss: Some(Duration::from_millis(1500)) },
        votes: vec![VoteEvidence {
            probe: "db".into(),
            vantage: "w1".into(),
            domain: "az1".into(),
            health: Health::Down,
            seen: WallTime(1_767_225_600_123),
            cause: None,
        }],
        outage_start: WallTime(1_767_225_600_000),
        rto: HumanDuration::secs(900),
        predicted_loss: None,
        predicted_writes: Writes { bytes: Some(4096), transactions: None },
        plan_hash: plan.hash(),
        plan: Box::new(plan),
        run_kind: RunKind::Graceful,
    }
}

/// One of each kind, in which `text` and `value` stand for what comes from outside. A new kind
/// fails the `match` below until it is listed here.
pub(super) fn samples(text: &str, value: &Value, epoch: u64) -> Vec<Entry> {
    let by = || text.to_owned();
    let incident = || IncidentId::from("INC-20260101-001");
    let run = || RunId::from("RUN-20260101-001");
    let step = || StepName::from("promote");
    let plan_hash = plan().hash();
    vec![
        Entry::DaemonStarted { version: by() },
        Entry::LeaderChanged { member: text.into(), term: Term(epoch), epoch: None },
        Entry::ModeSet { mode: Some(Mode::AlertOnly), by: by() },
        Entry::ModeSet { mode: None, by: by() },
        Entry::Paused { by: by() },
        Entry::Resumed { by: by() },
        Entry::IncidentOpened {
            incident: incident(),
            scenario: text.into(),
            severity: Severity("P0".into()),
            outage_start: WallTime(1),
            votes: vec![],
            replication: vec![ReplicationEvidence {
                standby: text.into(),
                lag: Some((WallTime(1), Lag { time: Duration::from_secs(epoch), bytes: Some(epoch) })),
                primary_up: Some(WallTime(2)),
                down_since: Some(WallTime(3)),
                synchronous: epoch.is_multiple_of(2),
            }],
            extent: None,
            objectives: Some(Objectives {
                service: text.into(),
                rto: HumanDuration::secs(900),
                rpo: Some(HumanDuration::secs(5)),
                plan: Some(text.into()),
                slo: Some(crate::model::Slo {
                    target: "99.95%".parse().expect("an objective"),
                    window: HumanDuration::secs(86_400),
                }),
            }),
        },
        Entry::IncidentAcknowledged { incident: incident(), by: by() },
        Entry::Decided {
            incident: incident(),
            decision: Decision::Hold(HoldReason::Vetoed { condition: by() }),
            choice: None,
            outlook: None,
        },
        Entry::Decided {
            incident: incident(),
            decision: Decision::AskApproval { until: WallTime(5) },
            choice: None,
            outlook: Some(Outlook { total: HumanDuration::secs(epoch), loss: Some(HumanDuration::secs(2)) }),
        },
        Entry::Decided {
            incident: incident(),
            decision: Decision::Act,
            choice: Some(Choice {
                explains: vec![text.into()],
                all: true,
                over: vec![(text.into(), Preference::MoreSpecific)],
            }),
            outlook: None,
        },
        Entry::ExtentSeen {
            incident: incident(),
            extent: Extent {
                reach: Reach::Zone { zone: text.into(), region: Some(text.into()) },
                down: vec![text.into()],
                unclear: vec![text.into()],
            },
        },
        Entry::ApprovalAsked {
            incident: incident(),
            plan_hash: plan_hash.clone(),
            epoch: Epoch(epoch),
            until: WallTime(9),
            without_quorum: epoch.is_multiple_of(2).then(by),
        },
        Entry::ApprovalAnswered {
            incident: incident(),
            by: by(),
            approved: true,
            plan_hash,
            epoch: Epoch(epoch),
            allow_data_loss: Some(HumanDuration::secs(30)),
            loss_shown: LossShown::Unknown,
            predicted: Some(PredictedLoss { time: None, writes: Writes::NONE }),
        },
        Entry::ReplicationSeen { incident: incident(), replication: vec![] },
        Entry::LossMeasured {
            run: run(),
            divergence: Divergence {
                old: "db".into(),
                new: "standby".into(),
                writes: Writes { bytes: Some(9000), transactions: Some(3) },
                time: Some(HumanDuration::secs(2)),
                seen: WallTime(9),
            },
        },
        Entry::Escalated { incident: incident(), after: HumanDuration::secs(epoch), to: by() },
        Entry::Unanswered { incident: incident(), within: HumanDuration::secs(300) },
        Entry::StatusUpdated {
            incident: incident(),
            after: HumanDuration(Duration::from_nanos(1_000_000_001)),
            late: HumanDuration::ZERO,
            missed: 3,
        },
        Entry::DutiesTaken {
            incident: incident(),
            duties: vec![crate::model::Duty {
                name: text.into(),
                after: HumanDuration::secs(172_800),
                from: crate::model::DutyFrom::Closed,
                message: by(),
                remind_before: HumanDuration::secs(1),
            }],
        },
        Entry::DutyReminded { incident: incident(), duty: text.into() },
        Entry::DutyDone { incident: incident(), duty: text.into(), by: by(), note: epoch.is_multiple_of(2).then(by) },
        Entry::IncidentGraded {
            incident: incident(),
            grade: crate::model::Grade::Unsure,
            by: by(),
            note: epoch.is_multiple_of(2).then(by),
        },
        Entry::IncidentClosed { incident: incident(), why: by() },
        run_started(epoch),
        Entry::RunAborting { run: run(), by: by(), compensate: true },
        Entry::StepIntent {
            run: run(),
            step: step(),
            attempt: 2,
            epoch: Epoch(epoch),
            promotes: Some(text.into()),
            before: value.clone(),
        },
        Entry::StepApplied { run: run(), step: step(), attempt: 1, outcome: Applied::Unknown { reason: by() } },
        Entry::StepParked { run: run(), step: step(), reason: by() },
        Entry::StepUnparked { run: run(), step: step(), by: by() },
        Entry::StepEnded {
            run: run(),
            step: step(),
            end: StepEnd::Done { evidence: by(), already: false, outputs: [("endpoint".to_owned(), by())].into() },
            took: Duration::from_nanos(1_000_000_001),
        },
        Entry::CompensationIntent { run: run(), step: step(), epoch: Epoch(epoch) },
        Entry::CompensationEnded { run: run(), step: step(), outcome: Applied::Refused { reason: by(), again: true } },
        Entry::DrillJudged {
            run: run(),
            verdict: DrillVerdict::Failed { reason: by() },
            took: Some(HumanDuration::secs(30)),
        },
        Entry::RunSetAside { run: run(), by: by() },
        Entry::DrillMissed { plan: text.into(), target: text.into(), due: WallTime(7), why: by() },
        Entry::BudgetChanged {
            scenario: text.into(),
            fits: epoch.is_multiple_of(2),
            budget: HumanDuration::secs(90),
            rto: HumanDuration::secs(60),
        },
        Entry::RunEnded { run: run(), result: RunResult::Aborted },
        Entry::Command { by: by(), command: by(), result: by() },
    ]
}

pub(super) fn kinds_known(entry: &Entry) {
    match entry {
        Entry::DaemonStarted { .. } | Entry::ModeSet { .. } | Entry::Paused { .. } | Entry::Resumed { .. } => {}
        Entry::IncidentOpened { .. } | Entry::IncidentAcknowledged { .. } | Entry::Decided { .. } => {}
        Entry::ApprovalAsked { .. } | Entry::ApprovalAnswered { .. } | Entry::IncidentClosed { .. } => {}
        Entry::ReplicationSeen { .. } | Entry::ExtentSeen { .. } => {}
        Entry::Escalated { .. } | Entry::Unanswered { .. } | Entry::StatusUpdated { .. } => {}
        Entry::DutiesTaken { .. } | Entry::DutyReminded { .. } | Entry::DutyDone { .. } => {}
        Entry::DrillJudged { .. } | Entry::RunSetAside { .. } | Entry::RunTakenUp { .. } => {}
        Entry::DrillMissed { .. } | Entry::BudgetChanged { .. } => {}
        Entry::RunStarted { .. } | Entry::RunAborting { .. } | Entry::RunEnded { .. } => {}
        Entry::StepIntent { .. } | Entry::StepApplied { .. } | Entry::StepParked { .. } => {}
        Entry::StepUnparked { .. } | Entry::StepEnded { .. } => {}
        Entry::CompensationIntent { .. } | Entry::CompensationEnded { .. } | Entry::Command { .. } => {}
        Entry::LossMeasured { .. } | Entry::IncidentGraded { .. } | Entry::LeaderChanged { .. } => {}
    }
}

pub(super) fn records(from: u64, entries: impl IntoIterator<Item = Entry>) -> Vec<Record> {
    let at = |seq: u64| WallTime(1_767_225_600_000 + i64::try_from(seq).unwrap());
    (from..).zip(entries).map(|(seq, entry)| Record { seq, at: at(seq), entry }).collect()
}

pub(super) fn paused(from: u64, count: usize) -> Vec<Record> {
    records(from, (0..count).map(|number| Entry::Paused { by: format!("person {number}") }))
}

pub(super) fn notice(subject: &str) -> Notice {
    Notice {
        kind: NoticeKind::RunParked,
        importance: Importance::Page,
        at: WallTime(7),
        scenario: Some("outage".into()),
        severity: Some(Severity("P0".into())),
        incident: None,
        run: None,
        subject: subject.into(),
        body: "line\nline".into(),
        approval: None,
        routes: None,
        situation: None,
    }
}
