//! One step: observe, intend, apply, verify; and everything that can come in between.

use std::time::Duration;

use failoverd::core::run_ledger::StepState;
use failoverd::core::{Command, Effect, Event};
use failoverd::model::*;

use crate::desk::{Desk, Reply};
use crate::settings::*;

fn observed(observed: Observed) -> Reply {
    Reply::Say(CallOutcome::Observed(observed))
}

fn verified(verified: Verified) -> Reply {
    Reply::Say(CallOutcome::Verified(verified))
}

/// A run of the usual plan, after the script was set.
fn run(script: impl FnOnce(&mut Desk)) -> Desk {
    run_of(settings(), script)
}

fn run_of(settings: Settings, script: impl FnOnce(&mut Desk)) -> Desk {
    let mut desk = Desk::settled(settings);
    script(&mut desk);
    desk.outage();
    desk.run_for(30);
    desk
}

#[test]
fn what_is_done_already_is_not_done_again() {
    let desk = run(|desk| {
        desk.done.insert("fence".into());
    });
    assert_eq!(desk.phases("fence"), "observe verify");
    assert!(matches!(desk.state("fence"), StepState::Ended(StepEnd::Done { already: true, .. })));
    assert_eq!(desk.result(), Some(RunResult::Done));
}

/// S6: a promoted database may take no writes, for example where each commit waits for a standby.
#[test]
fn what_is_found_done_is_verified_before_traffic_follows() {
    let no_writes = || verified(Verified::NotYet { evidence: "a commit did not end".into() });
    let by_hand = run(|desk| {
        desk.done.insert("promote".into());
        desk.answer("promote", Phase::Verify, [no_writes()]);
    });
    let answer_lost = run(|desk| {
        desk.answer("promote", Phase::Apply, [Reply::DoAndSay(unknown())]);
        desk.answer("promote", Phase::Verify, [no_writes()]);
    });
    for desk in [by_hand, answer_lost] {
        assert!(desk.phases("promote").ends_with("observe verify"), "{}", desk.phases("promote"));
        assert!(desk.is_parked("promote"), "{:?}", desk.state("promote"));
        assert_eq!(desk.phases("route"), "");
    }
}

/// What somebody promoted by hand is a point of no return also while it is still being verified.
#[test]
fn a_promotion_that_was_found_done_is_not_taken_for_a_reason_to_go_back() {
    let evidence = || "by hand".to_owned();
    for seen in [Observed::Done { evidence: evidence() }, Observed::InProgress { evidence: evidence() }] {
        let settings = with(|s| s.plans[0].steps[1].on_error = OnError::Compensate);
        let mut desk = run_of(settings, |desk| {
            desk.answer("promote", Phase::Observe, [observed(seen)]);
            desk.answer("promote", Phase::Verify, [verified(Verified::Failed { reason: "read-only".into() })]);
        });
        assert!(desk.is_parked("promote"), "{:?}", desk.state("promote"));
        let abort = desk.command(Command::Abort { run: None });
        assert_eq!(abort.unwrap_err().code, "point_of_no_return");
        assert!(!desk.changes().contains('-'), "{}", desk.changes());
    }
}

#[test]
fn the_intent_comes_before_the_call_in_the_effects() {
    let desk = run(|_| {});
    let place = |wanted: &dyn Fn(&Effect) -> bool| desk.effects.iter().position(wanted).expect("an effect");
    for step in ["fence", "promote", "scale", "route", "tell"] {
        let intent = place(&|effect| {
            let Effect::Journal(records) = effect else { return false };
            records.iter().any(|r| matches!(&r.entry, Entry::StepIntent { step: named, .. } if named.as_str() == step))
        });
        let call = place(
            &|effect| matches!(effect, Effect::Call(call) if call.phase == Phase::Apply && call.step.as_str() == step),
        );
        assert!(intent < call, "{step}");
    }
}

#[test]
fn an_unknown_outcome_is_looked_at_and_found_done() {
    let desk = run(|desk| desk.answer("promote", Phase::Apply, [Reply::DoAndSay(unknown())]));
    assert_eq!(desk.phases("promote"), "observe apply observe verify");
    let StepState::Ended(StepEnd::Done { already, .. }) = desk.state("promote") else { panic!("{:?}", desk.run()) };
    assert!(!already, "it was us");
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn an_unknown_outcome_is_looked_at_and_tried_again() {
    let desk = run(|desk| desk.answer("promote", Phase::Apply, [Reply::Say(unknown())]));
    assert_eq!(desk.phases("promote"), "observe apply observe apply verify");
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn an_unknown_outcome_under_way_is_waited_for() {
    let desk = run(|desk| {
        desk.answer("promote", Phase::Apply, [Reply::Say(unknown())]);
        let under_way = observed(Observed::InProgress { evidence: "modifying".into() });
        desk.answer("promote", Phase::Observe, [Reply::Say(not_done()), under_way]);
    });
    assert_eq!(desk.phases("promote"), "observe apply observe verify");
    assert_eq!(desk.result(), Some(RunResult::Done));
}

/// A target that is busy with it, or with something else, and does not say which.
#[test]
fn an_unknown_outcome_that_cannot_be_seen_yet_is_not_tried_again_meanwhile() {
    let desk = run(|desk| {
        desk.answer("promote", Phase::Apply, [Reply::DoAndSay(unknown())]);
        let busy = || observed(Observed::Unknown { reason: "modifying".into() });
        desk.answer("promote", Phase::Observe, [Reply::Say(not_done()), busy(), busy()]);
    });
    assert_eq!(desk.phases("promote"), "observe apply observe observe observe verify");
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn an_answer_that_never_comes_is_an_unknown_outcome() {
    let mut desk = run(|desk| desk.answer("promote", Phase::Apply, [Reply::Silence]));
    let call = desk.calls.iter().rfind(|call| call.phase == Phase::Apply && call.step.as_str() == "promote").unwrap();
    let (late, timeout) = (call.call, call.timeout);
    desk.run_for(timeout.as_secs() + 6);
    assert_eq!(desk.phases("promote"), "observe apply observe apply verify");
    assert!(!desk.effects.contains(&Effect::Cancel(late)), "what changes something is not cut off");
    assert_eq!(desk.result(), Some(RunResult::Done));
}

/// No probe answers and nothing else happens: the wake-ups that the brain asks for are enough (L2).
#[test]
fn an_answer_that_never_comes_is_given_up_at_a_wake_up() {
    let mut desk = run(|desk| desk.answer("promote", Phase::Apply, [Reply::Silence]));
    let call = desk.calls.iter().rfind(|call| call.phase == Phase::Apply && call.step.as_str() == "promote").unwrap();
    let end = desk.now.mono + call.timeout + Duration::from_secs(6);
    while let Some(wake) = desk.brain.next_wake().filter(|wake| *wake <= end) {
        desk.move_to(wake);
        desk.event(Event::Tick);
    }
    assert_eq!(desk.phases("promote"), "observe apply observe apply verify");
}

#[test]
fn late_and_repeated_outcomes_are_dropped() {
    let mut desk = run(|desk| desk.answer("promote", Phase::Observe, [Reply::Say(not_done())]));
    let (calls, records) = (desk.calls.len(), desk.durable.len());
    for call in desk.calls.clone() {
        desk.event(Event::Outcome { call: call.call, outcome: unknown() });
        desk.event(Event::Outcome { call: CallId(999_999), outcome: refused(false) });
    }
    desk.run_for(5);
    assert_eq!((desk.calls.len(), desk.durable.len()), (calls, records));
}

#[test]
fn a_duplicate_in_the_middle_of_the_step_is_dropped() {
    let mut desk = run(|desk| desk.answer("promote", Phase::Verify, [Reply::Silence]));
    let apply = desk.calls.iter().rfind(|call| call.phase == Phase::Apply && call.step.as_str() == "promote").unwrap();
    let (call, records) = (apply.call, desk.durable.len());
    desk.event(Event::Outcome { call, outcome: refused(false) });
    assert_eq!(desk.durable.len(), records);
}

#[test]
fn refusals_are_retried_with_growing_jittered_waits_and_a_bound() {
    let mut desk = Desk::settled(with(|s| {
        s.plans[0].steps[0].retry =
            Retry { attempts: 6, backoff: HumanDuration::secs(1), max_backoff: HumanDuration::secs(4) };
    }));
    desk.answer_always("fence", Phase::Apply, &Reply::Say(refused(true)));
    desk.outage();
    desk.run_for(60);
    assert!(desk.is_parked("fence"));
    let times: Vec<WallTime> = desk
        .durable
        .iter()
        .filter(|record| matches!(&record.entry, Entry::StepIntent { step, .. } if step.as_str() == "fence"))
        .map(|record| record.at)
        .collect();
    assert_eq!(times.len(), 6, "as many attempts as were allowed");
    let waits: Vec<u128> = times.windows(2).map(|pair| pair[1].since(pair[0]).as_millis()).collect();
    for (wait, bound) in waits.iter().zip([1000, 2000, 4000, 4000, 4000]) {
        assert!((bound / 2..=bound + 10).contains(wait), "{waits:?}");
    }
    assert!(waits[2] != waits[3] || waits[3] != waits[4], "without jitter: {waits:?}");
}

#[test]
fn what_is_impossible_is_not_tried() {
    let desk = run(|desk| {
        desk.answer("promote", Phase::Observe, [observed(Observed::Impossible { reason: "no such instance".into() })]);
    });
    assert_eq!(desk.phases("promote"), "observe");
    assert!(desk.is_parked("promote"));
}

#[test]
fn a_look_that_tells_nothing_is_repeated_until_the_time_is_over() {
    let unknown = observed(Observed::Unknown { reason: "5xx".into() });
    let mut desk = run(|desk| desk.answer_always("promote", Phase::Observe, &unknown));
    desk.run_for(60);
    assert!(desk.is_parked("promote"), "{:?}", desk.state("promote"));
    let looks = desk.phases("promote").matches("observe").count();
    assert!((10..40).contains(&looks), "{looks} looks in 60 s");

    let desk = run(|desk| desk.answer("promote", Phase::Observe, vec![unknown.clone(); 3]));
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn not_seen_from_outside_in_time_parks() {
    for end in [Verified::NotYet { evidence: "old".into() }, Verified::Failed { reason: "gone".into() }] {
        let desk = run(|desk| desk.answer("route", Phase::Verify, [verified(end)]));
        assert!(desk.is_parked("route"));
    }
}

#[test]
fn a_permit_that_is_refused_parks() {
    let not_permitted = CallOutcome::NotPermitted { reason: "epoch overtaken".into() };
    let desk = run(|desk| desk.answer("promote", Phase::Apply, [Reply::Say(not_permitted)]));
    assert!(desk.is_parked("promote"));
    assert_eq!(desk.phases("promote"), "observe apply");
}

#[test]
fn on_error_continue_goes_on_but_never_past_a_promotion_or_a_route() {
    for (step, result) in
        [("fence", Some(RunResult::Done)), ("scale", Some(RunResult::Done)), ("promote", None), ("route", None)]
    {
        let settings = with(|s| s.plans[0].steps.iter_mut().for_each(|step| step.on_error = OnError::Continue));
        let desk = run_of(settings, |desk| desk.answer(step, Phase::Apply, [Reply::Say(refused(false))]));
        assert_eq!(desk.result(), result, "{step}");
        assert_eq!(desk.is_parked(step), result.is_none(), "{step}");
    }
}

#[test]
fn a_message_that_cannot_be_sent_never_fails_a_run() {
    for on_error in [OnError::Park, OnError::Compensate] {
        let settings = with(|s| s.plans[0].steps[4].on_error = on_error);
        let desk = run_of(settings, |desk| desk.answer_always("tell", Phase::Apply, &Reply::Say(refused(false))));
        assert_eq!(desk.result(), Some(RunResult::Done));
        assert!(matches!(desk.state("tell"), StepState::Ended(StepEnd::Failed { .. })));
    }
}

#[test]
fn a_wait_waits() {
    let wait = step_of("wait", &[], Work::Wait { duration: HumanDuration::secs(30) });
    let mut desk = Desk::in_outage(with_steps(vec![wait, step("scale", &["wait"], EffectKind::Scale)]), 14);
    let started = desk.run().started;
    desk.run_for(20);
    assert_eq!(desk.changes(), "");
    desk.run_for(20);
    assert_eq!(desk.changes(), "scale");
    let StepState::Ended(_) = desk.state("wait") else { panic!("{:?}", desk.state("wait")) };
    let ended = desk.run().steps[0].changed.unwrap();
    assert_eq!(ended.since(started).as_secs(), 30);
}

fn verifying(hold: u64) -> Settings {
    with(|s| {
        s.probes.push(probe("backup"));
        let work = Work::VerifyProbe { probe: "backup".into(), hold: HumanDuration::secs(hold) };
        s.plans[0].point_of_no_return = None;
        s.plans[0].steps = vec![step("route", &[], EffectKind::Route), step_of("verify", &["route"], work)];
    })
}

#[test]
fn verify_probe_wants_an_uninterrupted_hold_seen_within_the_step() {
    let mut desk = Desk::in_outage(verifying(10), 14);
    let held = |desk: &Desk| matches!(desk.state("verify"), StepState::Ended(_));
    desk.run_for(8);
    assert!(!held(&desk), "it has been up for long, but what counts is from here on");
    desk.see("backup", bad());
    desk.run_for(1);
    desk.see("backup", up());
    desk.run_for(9);
    assert!(!held(&desk), "one bad answer begins the hold afresh");
    desk.run_for(4);
    assert!(held(&desk));
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn the_end_of_a_hold_is_looked_at_when_it_comes_and_not_an_interval_later() {
    let desk = Desk::in_outage(verifying(10), 40);
    let held = |desk: &Desk| {
        let [route, verify] = [0, 1].map(|step| desk.run().steps[step].changed.expect("it has ended"));
        verify.since(route).as_millis()
    };
    // The probe looks once a second, and the hold begins between two of its looks.
    assert!((10_000..10_100).contains(&held(&desk)), "{} ms", held(&desk));
    assert_eq!(desk.result(), Some(RunResult::Done));
    let asked = desk.effects.iter().filter(|effect| **effect == Effect::ProbeNow("backup".into())).count();
    assert_eq!(asked, 2, "at its beginning and at its end");
}

#[test]
fn a_call_says_how_long_its_step_is_expected_to_take() {
    let mut settings = verifying(0);
    settings.plans[0].steps[0].estimate = HumanDuration::secs(7);
    let desk = Desk::in_outage(settings, 30);
    let told: Vec<Duration> = desk.calls.iter().map(|call| call.estimate).collect();
    assert!(!told.is_empty() && told.iter().all(|estimate| *estimate == Duration::from_secs(7)), "{told:?}");
}

#[test]
fn verify_probe_that_does_not_come_up_parks() {
    let mut desk = Desk::settled(verifying(10));
    desk.see("backup", bad());
    desk.outage();
    desk.run_for(80);
    assert!(desk.is_parked("verify"));
}

#[test]
fn a_probe_goes_back_to_its_own_pace_however_its_step_ends() {
    let paces = |desk: &Desk| -> Vec<bool> {
        let of = |effect: &Effect| match effect {
            Effect::Pace { probe, fast } if probe.as_str() == "backup" => Some(*fast),
            _ => None,
        };
        desk.effects.iter().filter_map(of).collect()
    };
    let held = Desk::in_outage(verifying(10), 30);
    assert_eq!((held.result(), paces(&held)), (Some(RunResult::Done), vec![true, false]));

    for on_error in [OnError::Park, OnError::Compensate, OnError::Continue] {
        let mut settings = verifying(10);
        settings.plans[0].steps[1].on_error = on_error;
        let mut desk = Desk::settled(settings);
        desk.see("backup", blind());
        desk.outage();
        desk.run_for(90);
        assert_eq!(paces(&desk), [true, false], "{on_error:?}");
    }

    let mut aborted = Desk::in_outage(verifying(30), 14);
    aborted.command(Command::Abort { run: None }).unwrap();
    assert_eq!(paces(&aborted), [true, false], "aborted");
}

/// The time of two steps is over at the same instant, and the end of one begins an abort.
#[test]
fn an_abort_is_not_disturbed_by_a_step_that_fails_at_the_same_instant() {
    let watch = |name: &str| {
        let work = Work::VerifyProbe { probe: "backup".into(), hold: HumanDuration::secs(10) };
        step_of(name, &["scale"], work)
    };
    for (first, second) in [(OnError::Compensate, OnError::Park), (OnError::Compensate, OnError::Compensate)] {
        let mut desk = Desk::settled(with(|s| {
            s.probes.push(probe("backup"));
            s.plans[0].point_of_no_return = None;
            s.plans[0].steps = vec![step("scale", &[], EffectKind::Scale), watch("one"), watch("two")];
            (s.plans[0].steps[1].on_error, s.plans[0].steps[2].on_error) = (first, second);
        }));
        desk.see("backup", bad());
        desk.outage();
        desk.run_for(100);
        assert_eq!(desk.result(), Some(RunResult::Aborted), "{:?}", desk.run());
        assert_eq!(desk.changes(), "scale -scale");
        assert_eq!(desk.notices_of(NoticeKind::Daemon), Vec::<&Notice>::new(), "the state is in doubt");
    }
}

/// What leaves no trace: the journal alone knows.
fn untraceable(repeat: Repeat) -> Settings {
    with_steps(vec![step_of("hook", &[], Work::Action(action("http.request", EffectKind::Call, repeat)))])
}

#[test]
fn what_cannot_be_observed_and_must_not_be_repeated_parks_on_an_unknown_outcome() {
    let nothing = observed(Observed::Unobservable);
    for (repeat, parked, phases) in [
        (Repeat::Never, true, "observe apply observe"),
        (Repeat::AtLeastOnce, false, "observe apply observe apply verify"),
    ] {
        let desk = run_of(untraceable(repeat), |desk| {
            desk.answer_always("hook", Phase::Observe, &nothing);
            desk.answer("hook", Phase::Apply, [Reply::DoAndSay(unknown())]);
        });
        assert_eq!(desk.is_parked("hook"), parked, "{repeat:?}");
        assert_eq!(desk.phases("hook"), phases, "{repeat:?}");
    }
}

#[test]
fn what_was_accepted_and_cannot_be_observed_is_not_repeated_after_a_crash() {
    let mut desk = run_of(untraceable(Repeat::Never), |desk| {
        desk.answer_always("hook", Phase::Observe, &observed(Observed::Unobservable));
        desk.answer("hook", Phase::Verify, [Reply::Silence]);
    });
    assert!(matches!(desk.state("hook"), StepState::Applied(Applied::Accepted { .. })));
    desk.restart(desk.durable.len());
    desk.run_for(5);
    assert_eq!(desk.phases("hook").matches("apply").count(), 1);
    assert_eq!(desk.result(), Some(RunResult::Done));
}

#[test]
fn a_second_promotion_of_one_service_is_refused_by_the_ledger() {
    let steps = vec![step("one", &[], EffectKind::Promote), step("two", &["one"], EffectKind::Promote)];
    let mut desk = Desk::in_outage(with_steps(steps), 60);
    assert_eq!(desk.changes(), "one");
    assert_eq!(desk.notices_of(NoticeKind::Daemon).len(), 1, "and somebody is told");
    assert!(desk.command(Command::Failover { scenario: REGIONAL.into(), allow_data_loss: None }).is_err());
}

#[test]
fn steps_that_do_not_wait_for_each_other_run_together() {
    let mut desk = Desk::settled(settings());
    desk.answer("fence", Phase::Apply, [Reply::Silence]);
    desk.answer("scale", Phase::Apply, [Reply::Silence]);
    desk.outage();
    desk.run_for(15);
    assert_eq!(desk.changes(), "fence scale");
    desk.run_for(5);
    assert_eq!(desk.phases("promote"), "");
}

#[test]
fn every_call_has_a_bounded_timeout_and_the_epoch_of_its_run() {
    let desk = run(|_| {});
    for call in &desk.calls {
        assert!(call.timeout > Duration::ZERO && call.timeout <= Duration::from_secs(60), "{call:?}");
        assert_eq!(call.epoch, desk.run().epoch);
    }
    assert_eq!(desk.run().epoch, Epoch(1));
}
