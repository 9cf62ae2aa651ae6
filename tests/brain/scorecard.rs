//! What alert-only mode would have done, what people say of it, and what an outage costs of the error budget.

use failoverd::core::Command;
use failoverd::core::scorecard::scorecard;
use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

fn grade(desk: &mut Desk, grade: Grade, note: Option<&str>) -> Result<String, String> {
    let incident = desk.brain.ledger().incidents.keys().next_back().unwrap().clone();
    let asked = desk.command(Command::Grade { incident, grade, note: note.map(Into::into) });
    asked.map(|answer| answer.text).map_err(|refusal| refusal.code)
}

#[test]
fn what_it_would_have_done_is_graded_once_it_is_over() {
    let mut desk = Desk::in_outage(with(|s| s.scenarios[0].mode = Mode::AlertOnly), 20);
    let card = scorecard(desk.brain.ledger());
    let row = &card.rows[0];
    assert_eq!((row.plan.as_ref().map(PlanName::as_str), row.rto), (Some("regional"), Some(HumanDuration::secs(900))));
    assert!(
        row.would_act > row.outage_start
            && row.total.is_some_and(|total| total.get() > row.would_act.since(row.outage_start))
    );
    assert_eq!((row.rpo, row.loss.is_some()), (Some(HumanDuration::secs(60)), true), "{row:?}");
    assert_eq!((card.graded, card.precision), (0, None));
    let text = grade(&mut desk, Grade::Right, None);
    assert_eq!(text, Err("not_now".into()), "the incident is open");

    desk.recovery();
    desk.run_for(10);
    assert!(grade(&mut desk, Grade::Right, None).unwrap().ends_with("is graded right"));
    assert!(grade(&mut desk, Grade::Wrong, Some("a deploy")).unwrap().contains("graded wrong in place of right"));
    let card = scorecard(desk.brain.ledger());
    let given = card.rows[0].grade.clone().unwrap();
    assert_eq!((given.grade, given.note.as_deref()), (Grade::Wrong, Some("a deploy")), "the later one holds");
    assert_eq!((card.graded, card.right, card.precision), (1, 0, Some(0.0)));
    assert_eq!(desk.entries(|entry| matches!(entry, Entry::IncidentGraded { .. })), 2, "both are in the audit");
    assert_eq!(desk.entries(|entry| matches!(entry, Entry::Command { .. })), 3);
}

#[test]
fn nothing_is_graded_that_alert_only_mode_had_no_part_in() {
    let mut desk = Desk::in_outage(settings(), 20);
    assert_eq!(grade(&mut desk, Grade::Right, None), Err("not_now".into()));
    assert!(scorecard(desk.brain.ledger()).rows.is_empty());
    let missing = Command::Grade { incident: "INC-0".into(), grade: Grade::Right, note: None };
    assert_eq!(desk.command(missing).unwrap_err().code, "not_found");
}

#[test]
fn who_is_asked_is_told_what_waiting_costs_of_the_error_budget() {
    let slo = Slo { target: "99.9%".parse().unwrap(), window: HumanDuration::secs(86_400) };
    let asks = |services: Vec<ServiceSettings>| {
        let mut desk = Desk::in_outage(
            with(|s| {
                s.mode = Mode::Approve;
                s.services = services;
            }),
            60,
        );
        desk.run_for(1);
        desk.brain.status(desk.now).scenarios[0].stakes[0].clone()
    };
    let service = settings().scenarios[0].service.clone();
    let told = asks(vec![ServiceSettings { name: service, slo }]);
    // 99.9% of a day leave 86.4 s.
    assert!(told.contains("% of the error budget of 1d is spent, each minute costs 69%"), "{told}");
    assert!(!told.contains("; 0% of the error budget"), "{told}");
    let other = asks(vec![ServiceSettings { name: "another".into(), slo }]);
    assert!(!other.contains("error budget"), "{other}");
}
