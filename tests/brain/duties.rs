//! What people have to do for an incident afterwards.

use failoverd::core::Command;
use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

const HOUR: u64 = 3600;

fn duty(name: &str, hours: u64, from: DutyFrom) -> Duty {
    Duty {
        name: name.into(),
        after: HumanDuration::secs(hours * HOUR),
        from,
        message: "Do it.".into(),
        remind_before: HumanDuration::secs(hours * HOUR / 4),
    }
}

fn with_duties() -> Settings {
    with(|s| {
        s.scenarios[0].mode = Mode::AlertOnly;
        s.severities = vec![SeveritySettings {
            name: Severity("P0".into()),
            respond_within: None,
            update_every: None,
            routes: None,
            escalate: Vec::new(),
            duties: vec![duty("post-mortem", 4, DutyFrom::Closed), duty("authority", 8, DutyFrom::Opened)],
        }];
    })
}

fn over(settings: Settings) -> Desk {
    let mut desk = Desk::in_outage(settings, 20);
    desk.recovery();
    desk.run_for(10);
    desk
}

fn told(desk: &Desk, name: &str) -> Vec<(u64, Importance)> {
    let incident = desk.brain.ledger().incidents.values().next_back().unwrap();
    let of = |notice: &&Notice| (notice.at.since(incident.opened).as_secs() / HOUR, notice.importance);
    let all = desk.notices_of(NoticeKind::DutyOpen);
    all.iter().filter(|notice| notice.subject.contains(name)).map(of).collect()
}

fn done(desk: &mut Desk, name: &str) -> Result<failoverd::core::Answer, failoverd::core::Refusal> {
    let incident = desk.brain.ledger().incidents.keys().next_back().unwrap().clone();
    desk.command(Command::DutyDone { incident, duty: name.into(), note: Some("see the wiki".into()) })
}

#[test]
fn a_duty_is_told_when_it_begins_before_it_is_due_and_then_again_and_again() {
    let mut desk = over(with_duties());
    assert_eq!(told(&desk, "post-mortem"), [(0, Importance::Info)]);
    desk.run_for(3 * HOUR);
    assert_eq!(told(&desk, "post-mortem")[1..], [(3, Importance::Page)], "a quarter before it is due");
    desk.run_for(HOUR);
    assert_eq!(told(&desk, "post-mortem").len(), 3, "it is due");
    desk.run_for(25 * HOUR);
    assert_eq!(told(&desk, "post-mortem").len(), 4, "once a day from then on");
    assert!(desk.notices.last().unwrap().subject.contains("OVERDUE since"));
}

#[test]
fn the_time_of_one_begins_with_the_opening_and_of_the_other_with_the_end() {
    let mut desk = Desk::in_outage(with_duties(), 60);
    let names = |desk: &Desk| -> Vec<(String, bool)> {
        let duties = desk.brain.status(desk.now).duties;
        duties.into_iter().map(|duty| (duty.duty.to_string(), duty.due.is_some())).collect()
    };
    assert_eq!(names(&desk), [("authority".to_owned(), true), ("post-mortem".to_owned(), false)]);
    assert!(told(&desk, "post-mortem").is_empty() && told(&desk, "authority").len() == 1);
    desk.recovery();
    desk.run_for(10);
    assert_eq!(names(&desk), [("post-mortem".to_owned(), true), ("authority".to_owned(), true)], "the first due first");
}

#[test]
fn done_is_done_and_is_said_by_whom() {
    let mut desk = over(with_duties());
    assert_eq!(done(&mut desk, "postmortem").unwrap_err().code, "not_found");
    assert!(done(&mut desk, "post-mortem").is_ok());
    assert_eq!(done(&mut desk, "post-mortem").unwrap_err().code, "not_now");
    desk.run_for(6 * HOUR);
    assert_eq!(told(&desk, "post-mortem").len(), 1);
    let timeline = &desk.brain.incidents()[0].timeline;
    assert!(timeline.iter().any(|line| line.text == "duty post-mortem done by ann: see the wiki"), "{timeline:?}");
    assert_eq!(desk.brain.status(desk.now).duties.len(), 1);
}

#[test]
fn neither_a_restart_nor_another_configuration_forgets_a_duty() {
    let mut desk = over(with_duties());
    let records = desk.durable.len();
    desk.restart(records);
    desk.run_for(60);
    assert_eq!(told(&desk, "post-mortem").len(), 1, "told by the former life");
    let mut without = with_duties();
    without.severities.clear();
    desk.reload(without);
    desk.run_for(3 * HOUR + 60);
    assert_eq!(told(&desk, "post-mortem").len(), 2);
    assert_eq!(desk.brain.status(desk.now).duties.len(), 2);
}
