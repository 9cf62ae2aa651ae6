//! Several scenarios hold at once: the most specific one that explains all of it acts, and no other.

use failoverd::core::Command;
use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

const DATABASE: &str = "database";

/// Scenarios of one service, the most severe first, each with a plan of its own.
fn of(scenarios: &[(&str, Condition)]) -> Settings {
    with(|s| {
        s.scenarios = scenarios.iter().map(|(name, when)| scenario(name, when.clone(), name)).collect();
        s.plans = scenarios.iter().map(|(name, _)| small_plan(name, name, EffectKind::Route)).collect();
        s.probes.push(probe("queue"));
        s.failover_limit = 9;
    })
}

fn any(probes: &[&str]) -> Condition {
    at_least(1, probes)
}

fn all(probes: &[&str]) -> Condition {
    at_least(u32::try_from(probes.len()).unwrap(), probes)
}

fn fell(desk: &mut Desk, probes: &[&str]) {
    probes.iter().for_each(|probe| desk.see(probe, bad()));
}

fn ran(desk: &Desk) -> Vec<&str> {
    desk.runs().into_iter().map(|run| run.scenario.as_str()).collect()
}

fn reason(desk: &Desk, of: &str) -> HoldReason {
    let views = desk.brain.status(desk.now).scenarios;
    match views.into_iter().find(|view| view.name.as_str() == of).and_then(|view| view.decision) {
        Some(Decision::Hold(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn explained_by(by: &str, why: Preference, down: &[&str]) -> HoldReason {
    let down = down.iter().map(|probe| (*probe).into()).collect();
    HoldReason::ExplainedBy { scenario: by.into(), why, down }
}

#[test]
fn of_two_that_explain_all_the_more_specific_one_acts_and_says_why() {
    let mut desk = Desk::settled(of(&[(REGIONAL, any(&["api", "db", "cache"])), (DATABASE, down("db"))]));
    fell(&mut desk, &["db"]);
    desk.run_for(120);
    assert_eq!(ran(&desk), [DATABASE]);
    assert_eq!(reason(&desk, REGIONAL), explained_by(DATABASE, Preference::MoreSpecific, &["db"]));
    let choice = desk.durable.iter().find_map(|record| match &record.entry {
        Entry::Decided { decision: Decision::Act, choice, .. } => choice.clone(),
        _ => None,
    });
    let over = vec![(REGIONAL.into(), Preference::MoreSpecific)];
    assert_eq!(choice, Some(Choice { explains: vec!["db".into()], all: true, over }));
    let timeline: Vec<String> = desk.brain.incidents().into_iter().flat_map(|i| i.timeline).map(|t| t.text).collect();
    assert!(timeline.iter().any(|line| line.contains("act: it explains all that is down (db); chosen over regional")));
    assert!(timeline.iter().any(|line| line.contains("hold: explained by database")), "{timeline:#?}");
    assert!(desk.notices_of(NoticeKind::Holding).iter().all(|notice| !notice.subject.contains("explained by")));
}

#[test]
fn the_broad_one_acts_where_only_it_explains_all_and_the_narrow_one_never_does() {
    let mut settings = of(&[(DATABASE, down("db")), (REGIONAL, all(&["api", "db", "cache"]))]);
    settings.cool_down = HumanDuration::secs(60);
    let mut desk = Desk::settled(settings);
    fell(&mut desk, &["api", "db", "cache"]);
    desk.run_for(15);
    assert_eq!(ran(&desk), [REGIONAL]);
    desk.run_for(300);
    assert_eq!(ran(&desk), [REGIONAL], "not after the cool-down either");
    assert_eq!(reason(&desk, DATABASE), explained_by(REGIONAL, Preference::ExplainsMore, &["api", "db", "cache"]));
}

#[test]
fn a_broad_one_that_cannot_act_is_no_reason_for_the_narrow_one_to() {
    let mut settings = of(&[(DATABASE, down("db")), (REGIONAL, all(&["api", "db", "cache"]))]);
    settings.scenarios[1].requires = vec![is("queue", Health::Up)];
    let mut desk = Desk::settled(settings);
    fell(&mut desk, &["api", "db", "cache", "queue"]);
    desk.run_for(300);
    assert!(desk.runs().is_empty());
    assert_eq!(desk.decision_of(DATABASE), "hold:explained_by");
    assert_eq!(desk.decision_of(REGIONAL), "hold:standby_unhealthy");
    assert!(desk.notices_of(NoticeKind::Holding).iter().any(|notice| notice.subject.contains(REGIONAL)));
    desk.command(Command::Failover { scenario: DATABASE.into(), allow_data_loss: None }).unwrap();
    desk.run_for(2);
    assert_eq!(ran(&desk), [DATABASE], "a person may");
}

#[test]
fn one_that_only_alerts_hides_none_that_may_act() {
    let mut settings = of(&[(DATABASE, down("db")), (REGIONAL, all(&["api", "db", "cache"]))]);
    settings.scenarios[1].mode = Mode::AlertOnly;
    let mut desk = Desk::settled(settings.clone());
    fell(&mut desk, &["api", "db", "cache"]);
    desk.run_for(30);
    assert_eq!(ran(&desk), [DATABASE]);
    // A daemon that only alerts tells what it would do were it allowed to.
    settings.scenarios[1].mode = Mode::Auto;
    settings.mode = Mode::AlertOnly;
    let mut desk = Desk::settled(settings);
    fell(&mut desk, &["api", "db", "cache"]);
    desk.run_for(30);
    assert_eq!((desk.decision_of(DATABASE), desk.decision_of(REGIONAL)), ("hold:explained_by".into(), "alert".into()));
}

#[test]
fn one_that_is_ruled_out_hides_none() {
    let mut settings = of(&[(REGIONAL, any(&["api", "db", "cache"])), (DATABASE, down("db"))]);
    settings.scenarios[1].unless = vec![down("queue")];
    let mut desk = Desk::settled(settings);
    fell(&mut desk, &["db", "queue"]);
    desk.run_for(30);
    assert_eq!(ran(&desk), [REGIONAL]);
    assert_eq!(desk.decision_of(DATABASE), "hold:vetoed");
}

#[test]
fn another_service_is_another_matter() {
    let mut settings = of(&[(REGIONAL, all(&["api", "db", "cache"])), (DATABASE, down("db"))]);
    settings.scenarios[1].service = "books".into();
    let mut desk = Desk::settled(settings);
    fell(&mut desk, &["api", "db", "cache"]);
    desk.run_for(30);
    assert_eq!(ran(&desk), [REGIONAL, DATABASE]);
}

#[test]
fn where_none_explains_all_the_one_that_explains_most_acts() {
    let settings = of(&[("left", all(&["api", "db"])), ("right", any(&["db", "cache", "queue"]))]);
    let mut desk = Desk::settled(settings.clone());
    fell(&mut desk, &["api", "db", "cache", "queue"]);
    desk.run_for(30);
    assert_eq!(ran(&desk), ["right"]);
    assert_eq!(reason(&desk, "left"), explained_by("right", Preference::ExplainsMore, &["db", "cache", "queue"]));
    // As much as the other: the more specific one.
    let mut desk = Desk::settled(settings);
    fell(&mut desk, &["api", "db", "cache"]);
    desk.run_for(30);
    assert_eq!(ran(&desk), ["left"]);
    assert_eq!(reason(&desk, "right"), explained_by("left", Preference::MoreSpecific, &["api", "db"]));
}

#[test]
fn two_faults_that_have_nothing_in_common_do_not_hide_each_other() {
    let mut settings = of(&[("critical", any(&["api", "db"])), ("minor", any(&["cache", "queue"]))]);
    settings.cool_down = HumanDuration::ZERO;
    let mut desk = Desk::settled(settings);
    fell(&mut desk, &["api", "cache", "queue"]);
    desk.run_for(40);
    assert_eq!(ran(&desk), ["critical", "minor"]);
}

#[test]
fn in_a_region_that_is_down_they_are_one_outage_although_they_name_other_probes() {
    let mut settings = of(&[(DATABASE, down("db")), (REGIONAL, all(&["api", "cache"]))]);
    for probe in ["api", "db", "cache"] {
        let place = settings.probes.iter().position(|known| known.name.as_str() == probe).unwrap();
        settings.probes[place].region = Some("east".into());
    }
    settings.cool_down = HumanDuration::ZERO;
    let mut desk = Desk::settled(settings.clone());
    fell(&mut desk, &["api", "db", "cache"]);
    desk.run_for(60);
    assert_eq!(ran(&desk), [REGIONAL]);
    assert_eq!(reason(&desk, DATABASE), explained_by(REGIONAL, Preference::ExplainsMore, &["api", "cache"]));
    // Something else of the region is up: they are two.
    settings.probes.iter_mut().for_each(|probe| probe.region = Some("east".into()));
    let mut desk = Desk::settled(settings);
    fell(&mut desk, &["api", "db", "cache"]);
    desk.run_for(60);
    assert_eq!(ran(&desk), [DATABASE, REGIONAL]);
}

#[test]
fn a_narrow_one_waits_while_the_outage_spreads() {
    let mut desk = Desk::settled(of(&[(DATABASE, down("db")), (REGIONAL, all(&["api", "db", "cache"]))]));
    fell(&mut desk, &["db"]);
    desk.run_for(11);
    fell(&mut desk, &["api", "cache"]);
    desk.run_for(2);
    assert!(desk.runs().is_empty(), "confirmed by now, but the others are in doubt");
    assert_eq!(desk.decision_of(DATABASE), "hold:correlating");
    let told = desk.notices_of(NoticeKind::Holding);
    assert!(told.is_empty(), "time alone ends it: {told:?}");
    desk.run_for(30);
    assert_eq!(ran(&desk), [REGIONAL]);
}

#[test]
fn doubt_ends_with_an_answer() {
    let mut desk = Desk::settled(of(&[(DATABASE, down("db")), (REGIONAL, all(&["api", "db", "cache"]))]));
    fell(&mut desk, &["db"]);
    desk.run_for(11);
    fell(&mut desk, &["api"]);
    desk.run_for(2);
    assert_eq!(desk.decision_of(DATABASE), "hold:correlating");
    desk.see("api", up());
    desk.run_for(1);
    assert_eq!(ran(&desk), [DATABASE]);
}

/// The budget that `check` prints: here 3 s and the timeout to fall, 10 s to confirm, and once more as
/// long as the slowest of the others needs to fall.
#[test]
fn doubt_is_bounded_although_it_begins_again_and_again() {
    let settings = of(&[(DATABASE, down("db")), (REGIONAL, all(&["api", "db", "cache"]))]);
    let most = failoverd::core::plan::recovery_budget(&settings, &settings.scenarios[0]).unwrap();
    assert_eq!((most.detection.as_secs(), most.confirmation.as_secs(), most.correlation.as_secs()), (4, 10, 4));
    let broad = failoverd::core::plan::recovery_budget(&settings, &settings.scenarios[1]).unwrap();
    assert_eq!(broad.correlation.as_secs(), 0);
    let mut desk = Desk::settled(settings);
    let began = desk.now.mono;
    fell(&mut desk, &["db"]);
    let mut second = 0;
    while desk.runs().is_empty() {
        desk.see("api", if second % 3 == 0 { up() } else { bad() });
        desk.see("cache", if second % 3 == 1 { up() } else { bad() });
        desk.run_for(1);
        second += 1;
        assert!(second < 60);
    }
    let took = desk.now.mono.since(began);
    let budget = most.detection + most.confirmation + most.correlation;
    assert!(took <= budget, "{took:?} of {budget:?}");
    assert!(took > most.detection + most.confirmation, "it had to wait: {took:?}");
    assert_eq!(ran(&desk), [DATABASE]);
}

#[test]
fn what_was_not_seen_since_the_outage_began_is_in_doubt_too() {
    let mut settings = of(&[(DATABASE, down("db")), (REGIONAL, all(&["api", "db", "cache"]))]);
    settings.scenarios[0].confirm_for = HumanDuration::ZERO;
    let mut desk = Desk::settled(settings);
    fell(&mut desk, &["db"]);
    desk.see("api", blind());
    desk.run_for(3);
    assert_eq!(desk.decision_of(DATABASE), "hold:correlating");
    let HoldReason::Correlating { probe, .. } = reason(&desk, DATABASE) else { panic!() };
    assert_eq!(probe.as_str(), "api");
    desk.run_for(5);
    assert_eq!(ran(&desk), [DATABASE], "and no longer than it would need to fall");
}

/// How long `check` says that a database's failover may have to wait for the other scenario.
fn waits_for(other: Condition, change: impl FnOnce(&mut Settings)) -> u64 {
    let mut settings = of(&[(DATABASE, down("db")), (REGIONAL, other)]);
    settings.probes.iter_mut().filter(|probe| probe.name.as_str() != "db").for_each(|probe| probe.fall = 6);
    change(&mut settings);
    failoverd::core::plan::recovery_budget(&settings, &settings.scenarios[0]).unwrap().correlation.as_secs()
}

#[test]
fn only_a_broader_one_that_has_to_do_with_it_is_waited_for() {
    let broader = || all(&["api", "db"]);
    assert_eq!(waits_for(broader(), |_| {}), 7, "six times a second and the timeout: for api, and not for its own db");
    assert_eq!(waits_for(all(&["api", "cache"]), |_| {}), 0, "nothing in common");
    let in_one_region = |s: &mut Settings| s.probes.iter_mut().for_each(|probe| probe.region = Some("east".into()));
    assert_eq!(waits_for(all(&["api", "cache"]), in_one_region), 7);
    assert_eq!(waits_for(down("api"), in_one_region), 0, "no broader");
    assert_eq!(waits_for(broader(), |s| s.scenarios[1].service = "books".into()), 0, "another service");
}

#[test]
fn of_two_that_are_as_good_the_first_acts() {
    let mut desk = Desk::settled(of(&[("left", any(&["api", "db"])), ("right", any(&["db", "cache"]))]));
    fell(&mut desk, &["db"]);
    desk.run_for(60);
    assert_eq!(ran(&desk), ["left"]);
    assert_eq!(reason(&desk, "right"), explained_by("left", Preference::ComesFirst, &["db"]));
}

/// Puts probes into zones, as `(probe, region, zone)`.
fn zoned(places: &[(&str, &str, &str)]) -> Desk {
    let mut settings = of(&[(DATABASE, down("db")), (REGIONAL, all(&["api", "cache"]))]);
    settings.cool_down = HumanDuration::ZERO;
    // One probe alone is no zone that is down.
    settings.probes.push(probe("disk"));
    for (name, region, zone) in places {
        let probe = settings.probes.iter_mut().find(|probe| probe.name.as_str() == *name).unwrap();
        (probe.region, probe.zone) = (Some((*region).into()), Some((*zone).into()));
    }
    let mut desk = Desk::settled(settings);
    fell(&mut desk, &["api", "db", "cache", "disk"]);
    desk.run_for(60);
    desk
}

#[test]
fn in_a_zone_that_is_down_they_are_one_outage_too_and_a_zone_of_that_name_elsewhere_is_another() {
    let places = |here: &'static str, theirs: (&'static str, &'static str), disk: &'static str, queue| {
        [
            ("db", "east", here),
            ("disk", "east", disk),
            ("api", theirs.0, theirs.1),
            ("cache", theirs.0, theirs.1),
            queue,
        ]
    };
    let one = zoned(&places("a", ("east", "a"), "a", ("queue", "east", "b")));
    assert_eq!(ran(&one), [REGIONAL]);
    assert_eq!(reason(&one, DATABASE), explained_by(REGIONAL, Preference::ExplainsMore, &["api", "cache"]));
    let two = zoned(&places("a", ("west", "a"), "a", ("queue", "east", "b")));
    assert_eq!(ran(&two), [DATABASE, REGIONAL]);
    let regions = zoned(&places("a", ("west", "b"), "c", ("queue", "west", "c")));
    assert_eq!(ran(&regions), [DATABASE, REGIONAL]);
}

/// `db` fails at the very moment in which the others were seen well last, and nothing comes of them since.
#[test]
fn what_was_well_when_the_outage_began_is_in_no_doubt() {
    let mut settings = of(&[(DATABASE, down("db")), (REGIONAL, all(&["api", "db", "cache"]))]);
    settings.scenarios[0].confirm_for = HumanDuration::ZERO;
    let mut desk = Desk::settled(settings);
    for second in 1..=3 {
        desk.move_to(desk.now.mono + std::time::Duration::from_secs(1));
        let started = desk.now.mono;
        let seen = [("api", up()), ("cache", up()), ("standby", up()), ("queue", up()), ("db", bad())];
        for (probe, observation) in seen.into_iter().skip(if second == 1 { 0 } else { 4 }) {
            desk.event(failoverd::core::Event::Observed { probe: probe.into(), started, observation });
        }
    }
    assert_eq!(ran(&desk), [DATABASE]);
}

#[test]
fn what_others_see_well_is_in_no_doubt_although_we_cannot_look() {
    let mut settings = of(&[(DATABASE, down("db")), (REGIONAL, all(&["api", "db", "cache"]))]);
    settings.scenarios[0].confirm_for = HumanDuration::ZERO;
    settings.quorum = 2;
    let mut desk = Desk::settled(settings);
    fell(&mut desk, &["db"]);
    desk.see("api", blind());
    for _ in 0..4 {
        for vantage in ["w1", "w2"] {
            for (probe, health) in [("db", Health::Down), ("api", Health::Up), ("cache", Health::Up)] {
                desk.vote(vantage, vantage, probe, health);
            }
            desk.vote(vantage, vantage, "standby", Health::Up);
        }
        desk.run_for(1);
        if desk.brain.status(desk.now).scenarios[0].truth == Truth::True {
            break;
        }
    }
    assert_eq!(ran(&desk), [DATABASE], "{}", desk.decision_of(DATABASE));
}
