//! Drills: the code and the guards of the real thing, and never in its way.

use failoverd::core::matrix::Standing;
use failoverd::core::run_ledger::{Judged, RunLedger, StepState};
use failoverd::core::{Command, Effect};
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

fn go() -> Command {
    Command::Drill { plan: "regional".into(), target: None }
}

/// The drill, which is the first run.
fn the_drill(desk: &Desk) -> &RunLedger {
    desk.brain.ledger().runs.values().find(|run| run.is_drill()).expect("a drill")
}

fn verdict(desk: &Desk) -> Option<DrillVerdict> {
    the_drill(desk).judged.as_ref().map(|Judged { verdict, .. }| verdict.clone())
}

fn subjects(desk: &Desk) -> Vec<&str> {
    desk.notices_of(NoticeKind::Drill).into_iter().map(|notice| notice.subject.as_str()).collect()
}

/// A drill that hangs in the verification of its promotion.
fn hanging(settings: Settings) -> Desk {
    let mut desk = Desk::settled(settings);
    desk.answer("promote", Phase::Verify, [Reply::Silence]);
    desk.command(go()).unwrap();
    desk.run_for(1);
    assert_eq!(desk.changes(), "fence scale promote");
    desk
}

#[test]
fn a_drill_does_all_steps_measures_and_cleans_up() {
    let mut desk = Desk::settled(with_drill(|_| {}));
    let answer = desk.command(go()).unwrap();
    assert!(answer.text.contains("a drill of regional on staging"), "{}", answer.text);
    desk.run_for(3);
    assert_eq!(desk.changes(), "fence scale promote route tell -tell -route -promote -scale -fence");
    assert!(desk.done.is_empty());
    assert!(desk.calls.iter().all(|call| call.spec.target.starts_with(STAND_IN) && call.epoch == Epoch(1)));
    assert_eq!((verdict(&desk), desk.result()), (Some(DrillVerdict::Passed), Some(RunResult::Done)));
    assert!(the_drill(&desk).judged.as_ref().unwrap().took.is_some());
    assert!(subjects(&desk).last().unwrap().starts_with("drill of regional on staging passed, recovered in"));
    let ledger = desk.brain.ledger();
    assert!(ledger.step_times.is_empty() && ledger.drill_times.len() == 5, "kept apart");
    assert!(desk.notices.iter().all(|notice| notice.importance == Importance::Info), "nobody is paged");
    // A restart knows the same of it.
    let before = desk.brain.ledger().clone();
    desk.restart(desk.durable.len());
    assert_eq!(desk.brain.ledger().runs, before.runs);
}

#[test]
fn a_drill_never_counts() {
    let mut desk = Desk::settled(with(|s| {
        (s.failover_limit, s.drills.all) = (1, vec![drill(&s.plans[0])]);
    }));
    desk.command(go()).unwrap();
    desk.run_for(3);
    assert_eq!(desk.result(), Some(RunResult::Done));
    desk.outage();
    desk.run_for(20);
    assert_eq!((desk.runs().len(), desk.run().is_drill()), (2, false), "{}", desk.decision());
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert_eq!(desk.run().epoch, Epoch(2));
}

#[test]
fn what_has_no_stand_in_is_refused_by_name() {
    let real = |drill: &mut DrillSettings, step: usize| {
        if let Work::Action(spec) = &mut drill.plan.steps[step].work {
            spec.target = spec.target.trim_start_matches(STAND_IN).to_owned();
        }
    };
    let mut desk = Desk::settled(with_drill(|drill| real(drill, 3)));
    let refusal = desk.command(go()).unwrap_err();
    assert!(refusal.message.contains("would touch production at route"), "{}", refusal.message);
    // What another step of the real plan touches is production as well.
    let mut desk = Desk::settled(with_drill(|drill| {
        if let Work::Action(spec) = &mut drill.plan.steps[2].work {
            spec.target = "test.route".into();
        }
    }));
    let refusal = desk.command(go()).unwrap_err();
    assert!(refusal.message.contains("at scale") && refusal.message.contains("as the real step `route` does"));
    assert!(desk.runs().is_empty());
    // Said to be harmless, or left out.
    let mut desk = Desk::settled(with_drill(|drill| {
        real(drill, 2);
        real(drill, 3);
        drill.as_is = vec!["scale".into()];
        drill.plan.steps[3].terms.drill = DrillPart::LeftOut;
    }));
    desk.command(go()).unwrap();
    desk.run_for(3);
    assert_eq!(desk.changes(), "fence scale promote tell -tell -promote -scale -fence");
    assert_eq!(verdict(&desk), Some(DrillVerdict::Passed));
}

#[test]
fn the_guards_of_the_real_thing_hold() {
    let mut desk = Desk::settled(with_drill(|_| {}));
    desk.see("standby", bad());
    desk.run_for(5);
    assert!(desk.command(go()).unwrap_err().message.contains("not standby is up"));
    let mut desk = Desk::settled(with_drill(|_| {}));
    desk.command(Command::Pause).unwrap();
    assert!(desk.command(go()).unwrap_err().message.contains("paused"));
    let mut desk = Desk::in_outage(with_drill(|_| {}), 6);
    assert!(desk.command(go()).unwrap_err().message.contains("is open"));
    let mut desk = hanging(with_drill(|_| {}));
    assert!(desk.command(go()).unwrap_err().message.contains("is active"), "one at a time");
    let wrong = Command::Drill { plan: "regional".into(), target: Some("moon".into()) };
    assert!(desk.command(wrong).unwrap_err().message.contains("there is: staging"));
}

#[test]
fn a_real_incident_stops_a_drill_at_once_and_is_not_delayed() {
    let mut alone = Desk::settled(settings());
    let mut desk = hanging(with_drill(|_| {}));
    alone.run_for(desk.now.mono.since(alone.now.mono).as_secs());
    for desk in [&mut alone, &mut desk] {
        desk.outage();
        desk.run_for(4);
    }
    // It is being confirmed, and the drill has cleaned up meanwhile.
    assert_eq!(desk.decision(), "hold:confirming");
    let reason = format!("incident {} of regional opened", desk.incident());
    assert_eq!(verdict(&desk), Some(DrillVerdict::Aborted { reason }));
    assert_eq!(desk.changes(), "fence scale promote -promote -scale -fence");
    assert_eq!(desk.result(), Some(RunResult::Aborted));
    for desk in [&mut alone, &mut desk] {
        desk.run_for(16);
        assert_eq!(desk.result(), Some(RunResult::Done));
    }
    assert_eq!(desk.run().started, alone.run().started, "not a moment later");
    assert!(!desk.run().is_drill() && desk.run().epoch == Epoch(2));
}

#[test]
fn a_drill_that_cannot_clean_up_in_time_gives_way_and_cleans_up_afterwards() {
    let mut alone = Desk::settled(settings());
    let mut desk = hanging(with_drill(|_| {}));
    alone.run_for(desk.now.mono.since(alone.now.mono).as_secs());
    desk.answer("promote", Phase::Compensate, [Reply::Silence]);
    for desk in [&mut alone, &mut desk] {
        desk.outage();
        desk.run_for(20);
        assert_eq!(desk.result(), Some(RunResult::Done));
    }
    assert_eq!(desk.run().started, alone.run().started, "not a moment later");
    // The real run is over, its incident is not: what is left of the drill is cleaned up under an epoch
    // of its own, the newest.
    desk.run_for(5);
    let drill = the_drill(&desk);
    assert_eq!((drill.epoch, drill.ended.map(|(result, _)| result)), (Epoch(3), Some(RunResult::Aborted)));
    let undone: Vec<(&str, Epoch)> = desk
        .calls
        .iter()
        .filter(|call| call.phase == Phase::Compensate)
        .map(|call| (call.step.as_str(), call.epoch))
        .collect();
    let expected = [("promote", Epoch(1)), ("promote", Epoch(3)), ("scale", Epoch(3)), ("fence", Epoch(3))];
    assert_eq!(undone, expected);
    assert!(desk.done.iter().all(|place| !place.as_str().starts_with(STAND_IN)), "{:?}", desk.done);
    assert!(subjects(&desk).iter().any(|subject| subject.contains("gives way: a run of regional starts")));
}

#[test]
fn who_wants_a_drill_stopped_that_gave_way_is_told_what_becomes_of_it() {
    let mut desk = hanging(with_drill(|_| {}));
    desk.answer("promote", Phase::Compensate, [Reply::Silence]);
    desk.answer("fence", Phase::Verify, [Reply::Silence]);
    desk.outage();
    desk.run_for(20);
    assert!(desk.result().is_none() && the_drill(&desk).set_aside.is_some(), "{:?}", desk.runs());
    let id = the_drill(&desk).id.clone();
    let refusal = desk.command(Command::Abort { run: Some(id) }).unwrap_err();
    assert!(refusal.code == "not_now" && refusal.message.contains("gave way"), "{refusal}");
}

#[test]
fn a_restart_with_a_drill_set_aside_cleans_up_as_well() {
    let mut desk = hanging(with_drill(|_| {}));
    desk.answer("promote", Phase::Compensate, [Reply::Silence]);
    desk.outage();
    while desk.entries(|entry| matches!(entry, Entry::RunSetAside { .. })) == 0 {
        desk.go_on();
    }
    desk.restart(desk.durable.len());
    desk.run_for(60);
    assert_eq!(the_drill(&desk).ended.map(|(result, _)| result), Some(RunResult::Aborted));
    assert!(desk.done.iter().all(|place| !place.as_str().starts_with(STAND_IN)), "{:?}", desk.done);
}

#[test]
fn a_failover_by_hand_does_not_wait_for_a_drill_either() {
    let mut desk = hanging(with_drill(|_| {}));
    let answer = desk.command(Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None }).unwrap();
    desk.run_for(3);
    assert_eq!(answer.run, Some(desk.run().id.clone()));
    assert_eq!((desk.run().is_drill(), desk.result()), (false, Some(RunResult::Done)));
    desk.run_for(5);
    assert_eq!(the_drill(&desk).ended.map(|(result, _)| result), Some(RunResult::Aborted));
}

/// The epoch that a drill is taken up under would make the question another one.
#[test]
fn a_drill_that_waits_to_clean_up_does_not_void_a_question() {
    let mut desk = hanging(with(|s| {
        (s.mode, s.drills.all) = (Mode::Approve, vec![drill(&s.plans[0])]);
        s.scenarios[0].confirm_for = HumanDuration::secs(3);
    }));
    desk.answer_always("promote", Phase::Compensate, &Reply::Silence);
    desk.outage();
    desk.run_for(12);
    assert_eq!(desk.decision(), "ask_approval");
    let plan_hash = desk.brain.status(desk.now).scenarios[0].plan_hash.clone();
    desk.command(Command::Approve { incident: desk.incident(), plan_hash, epoch: None, allow_data_loss: None })
        .unwrap();
    desk.run_for(3);
    assert_eq!((desk.run().is_drill(), desk.result()), (false, Some(RunResult::Done)));
    assert_eq!(desk.notices_of(NoticeKind::ApprovalAsked).len(), 1, "asked once");
}

#[test]
fn a_step_that_fails_fails_the_drill_and_nobody_has_to_come() {
    let mut desk = Desk::settled(with_drill(|_| {}));
    desk.answer("route", Phase::Apply, [Reply::Say(refused(false))]);
    desk.command(go()).unwrap();
    desk.run_for(3);
    assert_eq!(verdict(&desk), Some(DrillVerdict::Failed { reason: "step route failed: throttled".into() }));
    assert_eq!(desk.result(), Some(RunResult::Aborted));
    assert!(desk.done.is_empty(), "past the point of no return of a stand-in: {:?}", desk.done);
    assert!(desk.notices_of(NoticeKind::RunParked).is_empty());
    let rows = desk.brain.plan_evidence(desk.now).rows;
    assert!(matches!(&rows[0].verdict, Standing::Misses { why } if why.contains("the last drill failed")));
}

/// A real run may go on without a step; a rehearsal is there to find that it would have to.
#[test]
fn a_step_that_the_plan_goes_on_without_fails_the_drill_too() {
    let mut desk = Desk::settled(with_drill(|drill| drill.plan.steps[2].on_error = OnError::Continue));
    desk.answer_always("scale", Phase::Apply, &Reply::Say(refused(false)));
    desk.command(go()).unwrap();
    desk.run_for(5);
    assert!(desk.changes().contains("route"), "the plan went on: {}", desk.changes());
    let Some(DrillVerdict::Failed { reason }) = verdict(&desk) else { panic!("{:?}", verdict(&desk)) };
    assert!(reason.starts_with("step scale failed"), "{reason}");
}

#[test]
fn a_cleanup_that_fails_parks_and_is_tried_again_by_a_person() {
    let mut desk = Desk::settled(with_drill(|_| {}));
    desk.answer("scale", Phase::Compensate, [Reply::Say(refused(false))]);
    desk.command(go()).unwrap();
    desk.run_for(5);
    assert!(desk.is_parked("scale") && desk.result().is_none());
    assert_eq!(verdict(&desk), Some(DrillVerdict::Passed));
    let pages = desk.notices_of(NoticeKind::RunParked);
    assert!(pages.len() == 1 && pages[0].subject.contains("cleaning up after the drill failed"), "{pages:?}");
    assert_eq!(pages[0].importance, Importance::Page);
    // Also after a restart it waits, and is not in the way of a real failover.
    desk.restart(desk.durable.len());
    desk.run_for(5);
    assert!(desk.is_parked("scale"));
    desk.outage();
    desk.run_for(20);
    assert_eq!((desk.run().is_drill(), desk.result()), (false, Some(RunResult::Done)));
    desk.run_for(3);
    let parked = the_drill(&desk).id.clone();
    desk.command(Command::StepRetry { run: Some(parked), step: "scale".into() }).unwrap();
    desk.run_for(3);
    assert_eq!(the_drill(&desk).ended.map(|(result, _)| result), Some(RunResult::Done));
    assert!(desk.done.iter().all(|place| !place.as_str().starts_with(STAND_IN)), "{:?}", desk.done);
}

#[test]
fn what_a_person_leaves_of_a_cleanup_stays() {
    let mut desk = Desk::settled(with_drill(|_| {}));
    desk.answer("scale", Phase::Compensate, [Reply::Say(refused(false))]);
    desk.command(go()).unwrap();
    desk.run_for(3);
    desk.command(Command::StepSkip { run: None, step: "scale".into() }).unwrap();
    desk.run_for(2);
    assert_eq!(desk.result(), Some(RunResult::Done));
    assert!(subjects(&desk).last().unwrap().contains("NOT undone: scale"), "{:?}", subjects(&desk));
}

/// Its steps come after the verdict, whatever it is, and nothing is undone otherwise.
#[test]
fn a_plan_of_its_own_may_clean_up() {
    let with_cleanup = || {
        with_drill(|drill| {
            for (name, after) in [("cleanup.reseed", &[][..]), ("cleanup.check", &["cleanup.reseed"])] {
                let mut step = step(name, after, EffectKind::Call);
                step.after.push("tell".into());
                step.terms = Terms { post_recovery: true, drill: DrillPart::Cleanup, ..Terms::default() };
                if let Work::Action(spec) = &mut step.work {
                    spec.target = format!("{STAND_IN}{name}");
                }
                drill.plan.steps.push(step);
            }
        })
    };
    let mut desk = Desk::settled(with_cleanup());
    desk.command(go()).unwrap();
    desk.run_for(3);
    assert_eq!(desk.changes(), "fence scale promote route tell cleanup.reseed cleanup.check");
    assert_eq!((verdict(&desk), desk.result()), (Some(DrillVerdict::Passed), Some(RunResult::Done)));
    assert_eq!(desk.brain.ledger().drill_times.len(), 5, "cleaning up is no evidence");

    let mut desk = hanging(with_cleanup());
    desk.answer("cleanup.reseed", Phase::Apply, [Reply::Say(refused(false))]);
    desk.command(Command::Abort { run: None }).unwrap();
    desk.run_for(2);
    assert!(desk.is_parked("cleanup.reseed"));
    desk.command(Command::StepRetry { run: None, step: "cleanup.reseed".into() }).unwrap();
    desk.run_for(2);
    assert_eq!(desk.changes(), "fence scale promote cleanup.reseed cleanup.reseed cleanup.check");
    assert_eq!(verdict(&desk), Some(DrillVerdict::Aborted { reason: "by ann".into() }));
    assert_eq!(desk.result(), Some(RunResult::Aborted));
}

#[test]
fn alarms_keep_a_drill_from_beginning_and_stop_it() {
    let alarmed = || with_drill(|drill| drill.terms.stop_when = vec![down("cache")]);
    let mut desk = Desk::settled(alarmed());
    desk.see("cache", bad());
    desk.run_for(5);
    assert!(desk.command(go()).unwrap_err().message.contains("cache is down, which stops it"));
    desk.see("cache", blind());
    desk.run_for(10);
    assert!(desk.command(go()).unwrap_err().message.contains("cannot be told whether cache is down"));
    let mut desk = hanging(alarmed());
    desk.see("cache", bad());
    desk.run_for(5);
    let reason = "cache is down, which stops it".to_owned();
    assert_eq!(verdict(&desk), Some(DrillVerdict::Aborted { reason }));
    assert!(desk.result() == Some(RunResult::Aborted) && desk.done.is_empty());
}

#[test]
fn the_outcome_has_to_hold_at_the_end_for_a_pass() {
    let settings = || with_drill(|drill| drill.terms.outcome = vec![is("cache", Health::Up)]);
    let mut desk = Desk::settled(settings());
    desk.see("cache", bad());
    desk.run_for(5);
    desk.command(go()).unwrap();
    desk.run_for(10);
    assert_eq!(verdict(&desk), None, "it may show a moment later");
    desk.see("cache", up());
    desk.run_for(5);
    assert_eq!(verdict(&desk), Some(DrillVerdict::Passed));
    desk.see("cache", bad());
    desk.run_for(5);
    desk.command(go()).unwrap();
    desk.run_for(70);
    let failed = DrillVerdict::Failed { reason: "the outcome does not hold: cache is up".into() };
    assert_eq!(desk.run().judged.as_ref().map(|judged| judged.verdict.clone()), Some(failed));
}

#[test]
fn a_drill_that_takes_longer_than_the_objective_has_failed() {
    let mut desk = Desk::settled(with(|s| {
        s.scenarios[0].rto = HumanDuration::secs(5);
        s.drills.all.push(drill(&s.plans[0]));
    }));
    desk.answer(
        "promote",
        Phase::Observe,
        vec![Reply::Say(CallOutcome::Observed(Observed::Unknown { reason: "busy".into() })); 6],
    );
    desk.command(go()).unwrap();
    desk.run_for(20);
    assert!(matches!(verdict(&desk), Some(DrillVerdict::Failed { reason }) if reason.contains("the RTO is 5s")));
}

/// 2026-01-05 is a Monday.
fn scheduled(schedule: &str) -> Settings {
    with_drill(|drill| {
        drill.schedule = Some(Schedule::parse(schedule).unwrap());
        drill.announce = HumanDuration::secs(120);
    })
}

#[test]
fn a_scheduled_drill_is_announced_and_begun() {
    let mut desk = Desk::settled(scheduled("5 1 * * 1 Europe/Berlin"));
    desk.run_for(150);
    assert!(subjects(&desk).is_empty());
    desk.run_for(100);
    assert_eq!(subjects(&desk).len(), 1);
    assert!(subjects(&desk)[0].starts_with("a drill of regional on staging begins at 2026-01-05T00:05:00.000Z"));
    desk.run_for(40);
    assert_eq!(verdict(&desk), Some(DrillVerdict::Passed));
    assert_eq!(the_drill(&desk).trigger.to_string(), "drill on staging by schedule");
    assert_eq!(the_drill(&desk).started.to_string(), "2026-01-05T00:05:00.000Z");
    let view = desk.brain.plan_evidence(desk.now);
    assert_eq!(view.drills[0].next.unwrap().to_string(), "2026-01-12T00:05:00.000Z");
}

#[test]
fn one_that_a_guard_forbids_is_told_and_not_made_up_for() {
    let mut desk = Desk::settled(scheduled("5 0 * * *"));
    desk.run_for(250);
    desk.command(Command::Pause).unwrap();
    desk.run_for(60);
    desk.command(Command::Resume).unwrap();
    desk.run_for(60);
    assert!(desk.runs().is_empty());
    assert!(subjects(&desk).last().unwrap().contains("was not begun: paused by ann"), "{:?}", subjects(&desk));
    let view = desk.brain.plan_evidence(desk.now);
    assert_eq!(view.drills[0].missed.as_ref().unwrap().0.to_string(), "2026-01-05T00:05:00.000Z");
}

#[test]
fn one_that_was_due_while_no_daemon_was_there_is_told_and_not_made_up_for() {
    let mut desk = Desk::settled(scheduled("*/2 0 * * *"));
    desk.run_for(60);
    // The daemon is gone for nine minutes.
    let end = desk.now.mono + std::time::Duration::from_secs(540);
    desk.move_to(end);
    desk.restart(desk.durable.len());
    let told = subjects(&desk).into_iter().find(|told| told.contains("was not begun")).unwrap_or_default();
    assert!(told.contains("due at 2026-01-05T00:10:00.000Z") && told.contains("as 4 before it"), "{told}");
    assert!(desk.runs().is_empty());
    desk.run_for(130);
    assert_eq!(the_drill(&desk).started.to_string(), "2026-01-05T00:12:00.000Z", "the next one is held");
    desk.restart(desk.durable.len());
    assert_eq!(desk.entries(|entry| matches!(entry, Entry::DrillMissed { .. })), 1, "told once");
}

#[test]
fn a_clock_that_is_set_forward_begins_no_drill() {
    let mut desk = Desk::settled(scheduled("30 0 * * *"));
    desk.clock_set = 3_600_000;
    desk.run_for(10);
    assert!(desk.runs().is_empty() && subjects(&desk).iter().any(|told| told.contains("the clock was set")));
}

#[test]
fn in_a_blocked_window_there_is_none_by_hand_neither() {
    let mut desk = Desk::settled(with_drill(|drill| {
        drill.schedule = Some(Schedule::parse("5 0 * * *").unwrap());
        drill.blocked = vec![Blocked::parse("2026-01-01", "2026-01-05").unwrap()];
    }));
    let refusal = desk.command(go()).unwrap_err();
    assert!(refusal.message.contains("from 2026-01-01 to 2026-01-05"), "{}", refusal.message);
    desk.run_for(330);
    assert!(desk.runs().is_empty());
    let view = desk.brain.plan_evidence(desk.now);
    assert_eq!(view.drills[0].next.unwrap().to_string(), "2026-01-06T00:05:00.000Z");
}

#[test]
fn a_drill_is_overdue_once_the_last_that_passed_is_too_long_ago() {
    let mut desk = Desk::settled(with(|s| {
        s.drills.all.push(drill(&s.plans[0]));
        s.drills.every.insert("regional".into(), HumanDuration::secs(60));
    }));
    let standing = |desk: &Desk| desk.brain.plan_evidence(desk.now).rows.remove(0).verdict;
    assert_eq!(standing(&desk), Standing::NoEvidence);
    desk.command(go()).unwrap();
    desk.run_for(3);
    assert_eq!(standing(&desk), Standing::Meets);
    desk.run_for(60);
    assert!(matches!(standing(&desk), Standing::Overdue { since: Some(_) }));
}

/// Each run takes so long in the promotion.
fn slow_drill(desk: &mut Desk, seconds: u64) {
    desk.answer("promote", Phase::Verify, [Reply::Silence]);
    desk.command(go()).unwrap();
    desk.run_for(seconds);
    // The call that hangs is answered at last.
    let call = desk.calls.iter().rev().find(|call| call.step.as_str() == "promote").expect("a call").call;
    let outcome = CallOutcome::Verified(Verified::yes("at last"));
    desk.event(failoverd::core::Event::Outcome { call, outcome });
    desk.run_for(5);
    assert!(desk.run().ended.is_some(), "{:?}", desk.run().judged);
}

#[test]
fn people_are_told_before_an_incident_that_a_plan_fits_no_longer_once_for_each_change() {
    // Before the plan: 4 s to detect, 10 s to confirm, 1 s to look.
    let mut desk = Desk::settled(with(|s| {
        s.scenarios[0].rto = HumanDuration::secs(72);
        s.drills.all.push(drill(&s.plans[0]));
    }));
    let told = |desk: &Desk| desk.notices_of(NoticeKind::Budget).len();
    for _ in 0..3 {
        slow_drill(&mut desk, 10);
    }
    assert_eq!(told(&desk), 0);
    let fits = |desk: &Desk| desk.brain.status(desk.now).budgets[0].clone();
    assert!(fits(&desk).fits && fits(&desk).chance == Some(1.0), "{:?}", fits(&desk));
    slow_drill(&mut desk, 58);
    let budget = fits(&desk);
    assert!(
        !budget.fits && budget.p95 >= HumanDuration::secs(58) && budget.p50 < HumanDuration::secs(12),
        "{budget:?}"
    );
    assert!(budget.chance.is_some_and(|chance| (0.6..0.9).contains(&chance)), "{budget:?}");
    assert_eq!(budget.decide_within.get(), budget.rto.get() - budget.p95.get().mul_f64(1.2));
    let page = desk.notices_of(NoticeKind::Budget)[0].clone();
    assert!(page.subject.contains("no longer fits into the RTO of 1m 12s"), "{}", page.subject);
    assert_eq!(page.importance, Importance::Page);
    slow_drill(&mut desk, 10);
    desk.restart(desk.durable.len());
    desk.run_for(5);
    assert_eq!(told(&desk), 1, "once, also over a restart");
    // Near the objective it has to be well within it again.
    let (before, with_safety) = (budget.before.get(), budget.p95.get().mul_f64(1.2));
    let mut wide = with(|s| s.drills.all.push(drill(&s.plans[0])));
    wide.scenarios[0].rto = HumanDuration(before + with_safety + std::time::Duration::from_secs(2));
    desk.reload(wide.clone());
    desk.run_for(2);
    assert_eq!(told(&desk), 1);
    wide.scenarios[0].rto = HumanDuration::secs(900);
    desk.reload(wide);
    desk.run_for(2);
    assert!(
        told(&desk) == 2 && desk.notices_of(NoticeKind::Budget)[1].subject.contains("fits into the RTO of 15m again")
    );
}

/// Whatever a drill does, its intent is on disk first (S2), as for every run.
#[test]
fn each_undoing_of_a_drill_has_its_intent_first() {
    let mut desk = Desk::settled(with_drill(|_| {}));
    desk.command(go()).unwrap();
    desk.run_for(3);
    for step in ["fence", "scale", "promote", "route"] {
        let intent = desk.effects.iter().position(|effect| {
            let Effect::Journal(records) = effect else { return false };
            records
                .iter()
                .any(|r| matches!(&r.entry, Entry::CompensationIntent { step: named, .. } if named.as_str() == step))
        });
        let call = desk.effects.iter().position(
            |effect| matches!(effect, Effect::Call(c) if c.phase == Phase::Compensate && c.step.as_str() == step),
        );
        assert!(intent.is_some() && intent < call, "{step}: intent at {intent:?}, call at {call:?}");
    }
    assert!(matches!(desk.state("fence"), StepState::Undone(Applied::Accepted { .. })));
}
