//! The database's own failover comes first.

use std::time::Duration;

use failoverd::core::Command;
use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

fn patient() -> Settings {
    with(|s| {
        let layer = "RDS Multi-AZ".to_owned();
        s.scenarios[0].lower_layers_first = Some(LowerLayers { grace: HumanDuration::secs(60), layer });
    })
}

fn until_it_acts(desk: &mut Desk) -> Duration {
    let began = desk.now.mono;
    while desk.runs().is_empty() {
        desk.go_on();
        assert!(desk.now.mono.since(began) < Duration::from_secs(300));
    }
    desk.now.mono.since(began)
}

#[test]
fn nothing_is_done_before_the_grace_is_over_and_it_runs_beside_the_confirmation() {
    let mut desk = Desk::settled(patient());
    desk.outage();
    desk.run_for(20);
    assert_eq!(desk.decision(), "hold:lower_layers_first");
    let view = desk.brain.status(desk.now).scenarios.remove(0);
    let guard = view.guards.iter().find(|guard| guard.name == "lower_layers_first").unwrap();
    assert!(guard.detail.contains("RDS Multi-AZ") && guard.until.is_some(), "{guard:?}");
    assert!(desk.notices_of(NoticeKind::Holding).is_empty(), "time alone ends it: nobody is paged");
    let took = until_it_acts(&mut desk) + Duration::from_secs(20);
    assert!((59..=61).contains(&took.as_secs()), "{took:?}");
    desk.run_for(5);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn a_confirmation_that_is_longer_is_not_made_longer() {
    let mut settings = patient();
    settings.scenarios[0].confirm_for = HumanDuration::secs(90);
    let mut desk = Desk::settled(settings.clone());
    desk.outage();
    let with_grace = until_it_acts(&mut desk);
    settings.scenarios[0].lower_layers_first = None;
    let mut desk = Desk::settled(settings);
    desk.outage();
    assert_eq!(with_grace, until_it_acts(&mut desk));
}

#[test]
fn a_layer_that_mends_it_leaves_nothing_to_do() {
    let mut desk = Desk::settled(patient());
    desk.outage();
    desk.run_for(50);
    desk.recovery();
    desk.run_for(60);
    assert!(desk.runs().is_empty() && desk.calls.is_empty());
    assert_eq!(desk.decision(), "none");
}

#[test]
fn neither_the_wall_clock_nor_a_restart_makes_it_shorter_or_longer() {
    let mut desk = Desk::settled(patient());
    desk.outage();
    desk.run_for(20);
    desk.clock_set = 3_600_000;
    desk.run_for(20);
    assert_eq!(desk.decision(), "hold:lower_layers_first");
    let took = until_it_acts(&mut desk) + Duration::from_secs(40);
    assert!((59..=61).contains(&took.as_secs()), "{took:?}");

    let mut desk = Desk::settled(patient());
    desk.outage();
    desk.run_for(30);
    desk.restart(desk.durable.len());
    let took = until_it_acts(&mut desk) + Duration::from_secs(30);
    assert!((59..=61).contains(&took.as_secs()), "counted from the outage, not from the restart: {took:?}");
}

#[test]
fn a_person_need_not_wait() {
    let mut desk = Desk::settled(patient());
    desk.outage();
    desk.run_for(20);
    desk.command(Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None }).unwrap();
    desk.run_for(2);
    assert_eq!(desk.result(), Some(RunResult::Done));
}
