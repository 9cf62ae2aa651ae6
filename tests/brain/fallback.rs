//! Two regions without a third vantage: the region that fell took its witness along, and a person is asked in
//! place of its vote.

use std::time::Duration;

use failoverd::core::{Command, Event};
use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

const PRIMARY: [&str; 3] = ["api", "db", "cache"];

/// A daemon in the backup region and a witness in the primary's, of which both have to agree.
fn two_regions(change: impl FnOnce(&mut Settings)) -> Settings {
    with(|s| {
        s.quorum = 2;
        s.witnesses = vec![WitnessSettings { name: "east".into(), domain: "us-east-1".into() }];
        s.probes[..3].iter_mut().for_each(|probe| probe.region = Some("us-east-1".into()));
        s.probes[3].region = Some("here".into());
        s.probes.push(probe("dns"));
        s.anchors = vec!["dns".into()];
        s.anchors_at_least = 1;
        s.scenarios[0].rto = HumanDuration::secs(200);
        s.scenarios[0].unless = vec![down("standby")];
        change(s);
    })
}

fn run_with(desk: &mut Desk, seconds: u64, witness: &str, domain: &str, health: Health) {
    for _ in 0..seconds {
        for probe in PRIMARY {
            desk.vote(witness, domain, probe, health);
        }
        desk.vote(witness, domain, "standby", Health::Up);
        desk.run_for(1);
    }
}

/// The region is gone, and its witness with it.
fn fallen(settings: Settings, seconds: u64) -> Desk {
    let mut desk = Desk::settled(settings);
    run_with(&mut desk, 5, "east", "us-east-1", Health::Up);
    desk.notices.clear();
    desk.outage();
    desk.run_for(seconds);
    desk
}

fn approve(desk: &Desk) -> Command {
    Command::Approve { incident: desk.incident(), plan_hash: None, epoch: None, allow_data_loss: None }
}

#[test]
fn a_person_is_asked_and_nothing_is_done_without_an_answer() {
    for (mode, otherwise) in [(Mode::Auto, OnNoAnswer::Failover), (Mode::Approve, OnNoAnswer::Failover)] {
        let mut desk = fallen(
            two_regions(|s| {
                s.mode = mode;
                s.scenarios[0].on_no_answer = otherwise;
            }),
            40,
        );
        assert_eq!(desk.decision(), "ask_approval", "{mode}");
        let asked = desk.notices_of(NoticeKind::ApprovalAsked);
        assert_eq!((asked.len(), asked[0].importance), (1, Importance::Page));
        assert!(
            asked[0].subject.contains("east in us-east-1 does not answer")
                && asked[0].subject.contains("it holds then")
        );
        let guards = desk.brain.status(desk.now).scenarios.remove(0).guards;
        assert!(guards.iter().any(|guard| guard.name == "quorum" && !guard.passes), "{guards:?}");
        desk.run_for(600);
        assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:no_quorum", 0), "{mode}");
        desk.command(approve(&desk)).unwrap();
        desk.run_for(2);
        assert_eq!(desk.result(), Some(RunResult::Done), "{mode}");
        let Trigger::Approved { without_quorum: Some(why), .. } = &desk.run().trigger else {
            panic!("{:?}", desk.run().trigger)
        };
        assert!(why.contains("may have gone down with it"));
    }
}

#[test]
fn the_loss_is_counted_from_when_it_fell() {
    let desk = fallen(two_regions(|_| {}), 100);
    let view = desk.brain.status(desk.now).scenarios.remove(0);
    assert!(view.predicted_loss.is_some_and(|loss| loss < HumanDuration::secs(5)), "{:?}", view.predicted_loss);
}

/// Each of these takes one condition of the rule away.
#[test]
fn nobody_is_asked_where_it_may_be_us_or_somebody_sees_otherwise() {
    let cases: [(&str, Settings); 6] = [
        ("no anchors", two_regions(|s| (s.anchors, s.anchors_at_least) = (vec![], 0))),
        ("hold", two_regions(|s| s.on_silent_witnesses = OnSilentWitnesses::Hold)),
        ("another domain", two_regions(|s| s.witnesses[0].domain = "eu".into())),
        ("a target elsewhere", two_regions(|s| s.probes[..3].iter_mut().for_each(|p| p.region = Some("eu".into())))),
        (
            "a second witness is silent too",
            two_regions(|s| {
                s.witnesses.push(WitnessSettings { name: "eu".into(), domain: "eu".into() });
            }),
        ),
        ("one more would be no quorum either", two_regions(|s| s.quorum = 3)),
    ];
    for (what, settings) in cases {
        let desk = fallen(settings, 60);
        assert_eq!(desk.decision(), "none", "{what}");
    }
    // It is we who are cut off.
    let mut desk = Desk::settled(two_regions(|_| {}));
    desk.outage();
    desk.see("dns", bad());
    desk.run_for(60);
    assert_eq!(desk.decision(), "none");
}

#[test]
fn a_witness_that_is_there_and_sees_something_else_is_a_split() {
    for health in [Health::Up, Health::Unknown] {
        let mut desk = fallen(two_regions(|_| {}), 30);
        assert_eq!(desk.decision(), "ask_approval");
        run_with(&mut desk, 3, "east", "us-east-1", health);
        assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:inconclusive", 0), "{health}");
        // A word given before that is none for now.
        desk.command(approve(&desk)).unwrap();
        run_with(&mut desk, 3, "east", "us-east-1", health);
        assert!(desk.runs().is_empty(), "{health}");
    }
    // A third one that abstains is not silent.
    let mut settings = two_regions(|_| {});
    settings.witnesses.push(WitnessSettings { name: "eu".into(), domain: "eu".into() });
    let mut desk = Desk::settled(settings);
    desk.outage();
    run_with(&mut desk, 40, "eu", "eu", Health::Unknown);
    assert_eq!(desk.decision(), "none");
}

#[test]
fn an_isolation_that_comes_later_takes_the_question_back() {
    let mut desk = fallen(two_regions(|_| {}), 30);
    assert_eq!(desk.decision(), "ask_approval");
    desk.see("dns", bad());
    desk.run_for(5);
    assert_eq!(desk.decision(), "hold:inconclusive");
    desk.command(approve(&desk)).unwrap();
    desk.run_for(30);
    assert!(desk.runs().is_empty());
}

/// The witness is heard again between the approval and the first change.
#[test]
fn the_last_look_is_by_the_same_rule() {
    let mut desk = fallen(two_regions(|_| {}), 30);
    desk.answers_now = false;
    desk.command(approve(&desk)).unwrap();
    assert_eq!((desk.runs().len(), desk.changes().as_str()), (1, ""), "it looks");
    for probe in PRIMARY {
        desk.vote("east", "us-east-1", probe, Health::Up);
    }
    let started = desk.now.mono + Duration::from_millis(1);
    desk.move_to(started + Duration::from_millis(1));
    for (probe, observation) in [("dns", up()), ("api", bad()), ("db", bad()), ("cache", bad())] {
        desk.event(Event::Observed { probe: probe.into(), started, observation });
    }
    assert_eq!(desk.changes(), "");
    desk.run_for(5);
    assert_eq!((desk.run().ended.map(|(result, _)| result), desk.changes().as_str()), (Some(RunResult::Aborted), ""));
}

/// What was confirmed by half of a quorum is not confirmed by one.
#[test]
fn a_quorum_that_comes_back_confirms_anew_and_acts_by_itself() {
    let mut desk = fallen(two_regions(|_| {}), 40);
    run_with(&mut desk, 5, "east", "us-east-1", Health::Down);
    assert_eq!((desk.decision().as_str(), desk.runs().len()), ("hold:confirming", 0));
    run_with(&mut desk, 10, "east", "us-east-1", Health::Down);
    assert_eq!((desk.result(), &desk.run().trigger), (Some(RunResult::Done), &Trigger::Automatic));
}

#[test]
fn alert_only_asks_nobody() {
    let desk = fallen(two_regions(|s| s.mode = Mode::AlertOnly), 40);
    assert_eq!((desk.decision().as_str(), desk.notices_of(NoticeKind::ApprovalAsked).len()), ("alert", 0));
}

/// By hand too, what is left of the vantages is enough to see that the backup is healthy; and that it is not.
#[test]
fn by_hand_the_backup_is_judged_by_those_that_are_left() {
    let by_hand = || Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None };
    let mut desk = fallen(two_regions(|s| s.witnesses[0].domain = "us-east-1".into()), 30);
    desk.command(by_hand()).unwrap();
    desk.run_for(1);
    assert_eq!(desk.result(), Some(RunResult::Done));
    let mut desk = fallen(two_regions(|_| {}), 30);
    desk.see("standby", bad());
    desk.run_for(5);
    assert_eq!(desk.command(by_hand()).unwrap_err().code, "guard");
    assert_eq!(desk.decision(), "hold:vetoed");
}

#[test]
fn the_status_names_the_vantages_and_who_is_silent() {
    let mut desk = Desk::settled(two_regions(|s| (s.anchors, s.anchors_at_least) = (vec![], 0)));
    run_with(&mut desk, 5, "east", "us-east-1", Health::Up);
    let view = desk.brain.status(desk.now);
    let said: Vec<_> = view.vantages.iter().map(|v| (v.name.as_str(), v.silent, v.up, v.down, v.unknown)).collect();
    assert_eq!(said, [("here", false, 5, 0, 0), ("east", false, 4, 0, 0)]);
    assert!(view.vantages[0].own && view.vantages[1].domain.as_str() == "us-east-1");
    desk.outage();
    desk.run_for(10);
    let view = desk.brain.status(desk.now);
    assert!(view.vantages[1].silent && view.vantages[1].heard.is_some_and(|at| at < desk.now.wall));
    assert_eq!(view.vantages[0].down, 0, "without anchors a vote that no witness answers does not count");
    assert!(view.probes[0].why.starts_with("no witness answers; no answer of east"), "{}", view.probes[0].why);
    assert!(view.probes[3].why.contains("too few votes; no answer of east"), "{}", view.probes[3].why);
}

fn witness(name: &str, domain: &str) -> WitnessSettings {
    WitnessSettings { name: name.into(), domain: domain.into() }
}

/// One vote of all is done without where a region fell with everybody in it, and nowhere else: what is left of the
/// quorum does not vouch for the backup either.
#[test]
fn by_hand_the_backup_is_judged_by_fewer_only_where_a_region_fell() {
    let cases = [
        ("no anchors", two_regions(|s| (s.anchors, s.anchors_at_least) = (vec![], 0)), None),
        ("our own region", two_regions(|s| s.witnesses[0].domain = "here".into()), None),
        ("half of it", two_regions(|s| s.witnesses.push(witness("east2", "us-east-1"))), Some("east2")),
        ("nobody fell", two_regions(|_| {}), Some("east")),
    ];
    for (what, settings, there) in cases {
        let mut desk = fallen(settings, 10);
        for _ in 0..10 {
            if let Some(vantage) = there {
                desk.vote(vantage, "us-east-1", "standby", Health::Unknown);
            }
            desk.run_for(1);
        }
        let by_hand = Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None };
        assert_eq!(desk.command(by_hand).unwrap_err().code, "guard", "{what}");
    }
}

/// A region that fell takes one along, and no other may be missing: also where a quorum but for one is there without
/// it.
#[test]
fn whoever_is_left_has_to_vote() {
    for (votes, quorum, decision) in [(true, 5, "ask_approval"), (false, 4, "none")] {
        let mut desk = Desk::settled(two_regions(|s| {
            s.quorum = quorum;
            s.witnesses.extend([witness("eu", "eu"), witness("sa", "sa"), witness("ap", "ap")]);
        }));
        run_with(&mut desk, 5, "east", "us-east-1", Health::Up);
        desk.outage();
        for _ in 0..40 {
            let last = if votes { &PRIMARY[..] } else { &[] };
            for (vantage, probes) in [("eu", &PRIMARY[..]), ("sa", &PRIMARY[..]), ("ap", last)] {
                probes.iter().for_each(|probe| desk.vote(vantage, vantage, probe, Health::Down));
                desk.vote(vantage, vantage, "standby", Health::Up);
            }
            desk.run_for(1);
        }
        assert_eq!(desk.decision(), decision, "all vote: {votes}");
    }
}

/// A first bad answer is none yet, and an old one none any more.
#[test]
fn what_is_left_has_to_have_seen_it_down_and_now() {
    let mut desk = Desk::settled(two_regions(|_| {}));
    run_with(&mut desk, 5, "east", "us-east-1", Health::Up);
    desk.run_for(10);
    desk.outage();
    desk.run_for(2);
    assert_eq!(desk.decision(), "none", "two bad answers of three");
    desk.run_for(20);
    assert_eq!(desk.decision(), "ask_approval");
    for _ in 0..8 {
        desk.move_to(desk.now.mono + Duration::from_secs(1));
        let started = desk.now.mono;
        desk.event(Event::Observed { probe: "dns".into(), started, observation: up() });
    }
    assert_eq!(desk.decision(), "hold:inconclusive");
}

#[test]
fn after_a_stall_nobody_is_asked_until_it_is_known_that_time_goes_on() {
    let mut desk = fallen(two_regions(|_| {}), 30);
    assert_eq!(desk.decision(), "ask_approval");
    desk.event(Event::Stalled { by: Duration::from_secs(30) });
    let until = desk.brain.status(desk.now).tilt_until.expect("a tilt");
    while desk.now.wall < until {
        assert_eq!(desk.decision(), "hold:tilt");
        desk.go_on();
    }
    desk.run_for(30);
    assert_eq!(desk.decision(), "ask_approval");
}

/// The condition itself may ask for the backup.
#[test]
fn a_condition_on_the_backup_is_judged_by_those_that_are_left() {
    let desk = fallen(
        two_regions(|s| {
            let when = s.scenarios[0].when.clone();
            s.scenarios[0].when = Condition::All(vec![when, is("standby", Health::Up)]);
        }),
        40,
    );
    assert_eq!(desk.decision(), "ask_approval");
}

#[test]
fn a_witness_is_silent_once_its_last_word_is_older_than_a_vote_may_be() {
    let mut desk = Desk::settled(two_regions(|_| {}));
    desk.vote("east", "us-east-1", "standby", Health::Up);
    let silent = |desk: &Desk| desk.brain.status(desk.now).vantages[1].silent;
    desk.move_to(desk.now.mono + settings().probes[0].max_age.get());
    assert!(!silent(&desk));
    desk.move_to(desk.now.mono + Duration::from_millis(1));
    assert!(silent(&desk));
}
