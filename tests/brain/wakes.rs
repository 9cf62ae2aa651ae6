//! Woken by nothing but the time that the brain asked for.

use failoverd::core::{Command, Event};
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

/// A change that never answers is given up, and looked at, although nothing else happens meanwhile.
#[test]
fn a_silent_change_is_given_up_by_the_wake_up_alone() {
    let mut desk = Desk::settled(settings());
    desk.answer("fence", Phase::Apply, [Reply::Silence]);
    desk.command(Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None }).unwrap();
    assert_eq!(desk.phases("fence"), "observe apply");
    let began = desk.now.mono;
    while desk.phases("fence") == "observe apply" {
        let wake = desk.brain.next_wake().expect("somebody has to give it up");
        desk.move_to(wake);
        desk.event(Event::Tick);
        assert!(desk.now.mono.since(began).as_secs() < 60, "{}", desk.phases("fence"));
    }
    assert_eq!(desk.now.mono.since(began).as_secs(), 35, "30 s for the call, and 5 s more");
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert!(desk.phases("fence").starts_with("observe apply observe"), "{}", desk.phases("fence"));
}
