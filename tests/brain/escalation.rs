//! Who is told of an open incident, and when: the ladder, the answer that is waited for, the updates.

use std::time::Duration;

use failoverd::core::Command;
use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

fn minutes(minutes: u64) -> HumanDuration {
    HumanDuration::secs(minutes * 60)
}

fn rung(after: u64, to: &str, route: &str) -> Rung {
    Rung { after: minutes(after), to: Some(to.into()), routes: vec![route.into()] }
}

fn tier() -> SeveritySettings {
    SeveritySettings {
        name: Severity("P0".into()),
        respond_within: Some(minutes(5)),
        update_every: None,
        routes: Some(vec!["chat".into()]),
        escalate: vec![rung(0, "L1", "pager"), rung(15, "L2", "boss"), rung(30, "L3", "board")],
        duties: Vec::new(),
    }
}

fn waiting_for(change: impl FnOnce(&mut SeveritySettings)) -> Settings {
    with(|s| {
        s.scenarios[0].mode = Mode::AlertOnly;
        let mut tier = tier();
        change(&mut tier);
        s.severities = vec![tier];
    })
}

/// Who was told, in minutes since the incident opened.
fn told(desk: &Desk) -> Vec<(u64, String)> {
    let incident = desk.brain.ledger().incidents.values().next_back().unwrap();
    let of = |notice: &&Notice| (notice.at.since(incident.opened).as_secs() / 60, routes(notice));
    desk.notices_of(NoticeKind::Escalated).iter().map(of).collect()
}

fn routes(notice: &Notice) -> String {
    let routes = notice.routes.as_deref().unwrap_or_default();
    routes.iter().map(RouteName::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_rung_is_told_in_its_turn_until_somebody_answers() {
    let mut desk = Desk::in_outage(waiting_for(|_| {}), 40 * 60);
    assert_eq!(told(&desk), [(15, "boss".to_owned()), (30, "board".to_owned())]);
    let opened = desk.notices_of(NoticeKind::IncidentOpened);
    assert_eq!(routes(opened[0]), "chat pager", "the first rung is told by the opening, and no other");
    desk.run_for(600);
    assert_eq!(told(&desk).len(), 2, "each rung once");
    desk.recovery();
    desk.run_for(10);
    let closed = desk.notices_of(NoticeKind::IncidentClosed);
    assert_eq!(routes(closed[0]), "chat pager boss board", "whoever was told hears of the end");
}

#[test]
fn an_answer_stops_the_ladder() {
    for answer in ["ack", "approve", "deny"] {
        let mut settings = waiting_for(|_| {});
        settings.scenarios[0].mode = Mode::Approve;
        settings.scenarios[0].rto = HumanDuration::secs(7200);
        let mut desk = Desk::in_outage(settings, 16 * 60);
        assert_eq!(told(&desk).len(), 1, "{answer}");
        let incident = desk.incident();
        desk.command(match answer {
            "ack" => Command::Ack { incident },
            "approve" => Command::Approve { incident, plan_hash: None, epoch: None, allow_data_loss: None },
            _ => Command::Deny { incident },
        })
        .unwrap();
        desk.run_for(20 * 60);
        assert_eq!(told(&desk).len(), 1, "{answer}");
    }
}

#[test]
fn the_end_of_the_incident_stops_the_ladder_and_a_run_does_not() {
    let mut desk = Desk::in_outage(waiting_for(|_| {}), 10 * 60);
    desk.recovery();
    desk.run_for(30 * 60);
    assert!(told(&desk).is_empty());
    let mut acting = waiting_for(|_| {});
    acting.scenarios[0].mode = Mode::Auto;
    let desk = Desk::in_outage(acting, 20 * 60);
    assert_eq!((desk.result(), told(&desk).len()), (Some(RunResult::Done), 1));
}

#[test]
fn a_restart_tells_nobody_twice_and_forgets_nobody() {
    let mut desk = Desk::in_outage(waiting_for(|_| {}), 16 * 60);
    let records = desk.durable.len();
    desk.restart(records);
    desk.run_for(60);
    assert_eq!(told(&desk).len(), 1, "the rung of 15 minutes was told by the former life");
    assert_eq!(desk.notices_of(NoticeKind::Unanswered).len(), 1);
    desk.run_for(15 * 60);
    assert_eq!(told(&desk)[1], (30, "board".to_owned()));
    // The opening was written down and its rung was not: the next life tells it.
    let mut desk = Desk::in_outage(waiting_for(|_| {}), 10);
    let opened =
        desk.durable.iter().position(|record| matches!(record.entry, Entry::IncidentOpened { .. })).unwrap() + 1;
    desk.restart(opened);
    desk.run_for(5);
    assert_eq!(told(&desk), [(0, "pager".to_owned())]);
}

#[test]
fn a_reload_changes_what_comes_next_and_repeats_nothing() {
    let mut desk = Desk::in_outage(waiting_for(|_| {}), 16 * 60);
    desk.reload(waiting_for(|tier| {
        tier.escalate = vec![rung(0, "L1", "pager"), rung(15, "L2", "boss"), rung(20, "L2b", "deputy")];
    }));
    desk.run_for(30 * 60);
    assert_eq!(told(&desk), [(15, "boss".to_owned()), (20, "deputy".to_owned())]);
}

#[test]
fn a_clock_that_is_set_moves_no_rung() {
    for jump in [-7_200_000, 7_200_000] {
        let mut desk = Desk::in_outage(waiting_for(|_| {}), 60);
        desk.clock_set += jump;
        desk.run_for(13 * 60);
        assert!(told(&desk).is_empty(), "{jump}");
        desk.run_for(60 + 10);
        assert_eq!(desk.notices_of(NoticeKind::Escalated).len(), 1, "{jump}");
    }
}

#[test]
fn that_nobody_answers_in_time_is_a_page_of_its_own() {
    let mut desk = Desk::in_outage(waiting_for(|_| {}), 4 * 60);
    assert!(desk.notices_of(NoticeKind::Unanswered).is_empty());
    desk.run_for(70);
    let pages = desk.notices_of(NoticeKind::Unanswered);
    assert_eq!((pages.len(), pages[0].importance, routes(pages[0])), (1, Importance::Page, "chat pager".into()));
    assert!(desk.brain.status(desk.now).escalations[0].unanswered);
    let mut answered = Desk::in_outage(waiting_for(|_| {}), 60);
    answered.command(Command::Ack { incident: answered.incident() }).unwrap();
    answered.run_for(600);
    assert!(answered.notices_of(NoticeKind::Unanswered).is_empty());
}

#[test]
fn people_are_told_how_it_stands_at_the_cadence_until_it_is_over() {
    let mut desk = Desk::in_outage(waiting_for(|tier| tier.update_every = Some(minutes(10))), 35 * 60);
    let updates = desk.notices_of(NoticeKind::StatusUpdate);
    assert_eq!(updates.len(), 3);
    let situation = updates[0].situation.clone().unwrap();
    assert_eq!(situation.stage, Stage::Investigating);
    let next = situation.next_update.unwrap().since(updates[0].at);
    assert!(next.abs_diff(Duration::from_secs(600)) < Duration::from_secs(2), "{next:?}");
    assert!(
        updates[0].body.contains("Known: since ") && updates[0].body.contains("Next update: "),
        "{}",
        updates[0].body
    );
    desk.command(Command::Ack { incident: desk.incident() }).unwrap();
    desk.run_for(600);
    assert_eq!(desk.notices_of(NoticeKind::StatusUpdate).len(), 4, "an answer does not end them");
    desk.recovery();
    desk.run_for(3600);
    assert_eq!(desk.notices_of(NoticeKind::StatusUpdate).len(), 4);
}

#[test]
fn updates_that_a_dead_daemon_missed_are_told_once_and_counted() {
    let mut desk = Desk::in_outage(waiting_for(|tier| tier.update_every = Some(minutes(10))), 60);
    desk.move_to(desk.now.mono + Duration::from_secs(900));
    desk.move_to(desk.now.mono + Duration::from_secs(900));
    let records = desk.durable.len();
    desk.restart(records);
    let entry = desk.durable.iter().find_map(|record| match &record.entry {
        Entry::StatusUpdated { late, missed, .. } => Some((late.get().as_secs() / 60, *missed)),
        _ => None,
    });
    assert_eq!(entry, Some((20, 2)));
    desk.run_for(5);
    assert_eq!(desk.notices_of(NoticeKind::StatusUpdate).len(), 1);
}

#[test]
fn the_stage_goes_with_the_run() {
    let mut settings = waiting_for(|_| {});
    settings.scenarios[0].mode = Mode::Auto;
    let mut desk = Desk::in_outage(settings, 40);
    desk.recovery();
    desk.run_for(10);
    let stage = |kind| desk.notices_of(kind)[0].situation.as_ref().unwrap().stage;
    assert_eq!(stage(NoticeKind::IncidentOpened), Stage::Investigating);
    assert_eq!(stage(NoticeKind::RunStarted), Stage::Identified);
    assert_eq!(stage(NoticeKind::RunEnded), Stage::Monitoring);
    assert_eq!(stage(NoticeKind::IncidentClosed), Stage::Resolved);
}

#[test]
fn where_no_severity_is_declared_all_is_as_it_was() {
    let desk = Desk::in_outage(settings(), 3600);
    assert!(desk.notices.iter().all(|notice| notice.routes.is_none()));
    assert!(desk.brain.status(desk.now).escalations.is_empty());
    assert_eq!(desk.notices_of(NoticeKind::StatusUpdate).len(), 0);
}
