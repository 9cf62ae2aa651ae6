use super::*;
use crate::core::Brain;
use crate::model::{HumanDuration, Mode, Now, ProbeSettings, WallTime};

const WITHIN: Duration = Duration::from_secs(3);

fn settings() -> Settings {
    let probe = |name: &str| ProbeSettings {
        name: name.into(),
        region: None,
        zone: None,
        target: "here".into(),
        interval: HumanDuration::secs(1),
        fast_interval: HumanDuration::secs(1),
        timeout: HumanDuration::secs(1),
        fall: 3,
        rise: 2,
        max_age: HumanDuration::secs(4),
        causes: std::collections::BTreeMap::new(),
        window: None,
    };
    Settings {
        name: "shop".into(),
        domain: "us-west-2".into(),
        mode: Mode::Auto,
        quorum: 2,
        witnesses: Vec::new(),
        on_silent_witnesses: Default::default(),
        flap_damping: None,
        startup_grace: HumanDuration::ZERO,
        cool_down: HumanDuration::ZERO,
        failover_limit: 1,
        failover_window: HumanDuration::secs(60),
        tilt_for: HumanDuration::secs(1),
        safety_percent: 100,
        probes: vec![probe("api"), probe("db")],
        anchors: Vec::new(),
        anchors_at_least: 0,
        severities: Vec::new(),
        services: Vec::new(),
        scenarios: Vec::new(),
        plans: Vec::new(),
        manual_scenario: None,
        drills: Default::default(),
    }
}

fn at(milliseconds: u64) -> MonoTime {
    MonoTime::ZERO + Duration::from_millis(milliseconds)
}

fn juror() -> Juror {
    let mut juror = Juror::new("eu".into(), "eu-central-1".into(), WITHIN);
    juror.ask(at(10_000), "n1".into());
    juror
}

fn vote(probe: &str, health: Health) -> BallotVote {
    BallotVote {
        probe: probe.into(),
        target: "here".into(),
        health,
        degraded: false,
        age_ms: 200,
        first_bad_ms: (health == Health::Down).then_some(2500),
        cause: None,
    }
}

fn ballot(nonce: &str, sequence: u64) -> Ballot {
    Ballot {
        vantage: "eu".into(),
        domain: "eu-central-1".into(),
        asker: "shop".into(),
        nonce: nonce.into(),
        boot: "b1".into(),
        sequence,
        change: 1,
        waited_ms: 500,
        votes: vec![vote("api", Health::Down), vote("db", Health::Up)],
    }
}

fn judge(juror: &mut Juror, ballot: &Ballot) -> Result<Counted, Refused> {
    juror.judge(at(11_000), ballot, &settings())
}

fn votes(counted: Counted) -> Vec<PeerVoteOf> {
    match counted.event {
        Event::Ballot { votes, .. } => votes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ballot_counts_and_its_ages_are_put_on_our_clock() {
    let counted = judge(&mut juror(), &ballot("n1", 1)).expect("it counts");
    assert!(counted.refused.is_empty());
    let votes = votes(counted);
    // Asked at 10 s, waited half a second: what it says was true no earlier than 10.5 s.
    assert_eq!((votes[0].seen, votes[0].first_bad), (at(10_300), Some(at(8_000))));
    assert_eq!((votes[1].health, votes[1].first_bad), (Health::Up, None));
}

#[test]
fn a_witness_that_says_it_waited_long_does_not_vote_from_the_future() {
    let liar = Ballot { waited_ms: u64::MAX, ..ballot("n1", 1) };
    let votes = votes(judge(&mut juror(), &liar).expect("it counts"));
    assert_eq!(votes[0].seen, at(10_800), "no later than when it came");
}

#[test]
fn another_vantage_domain_asker_or_question_does_not_count() {
    let other = [
        (Ballot { vantage: "ap".into(), ..ballot("n1", 1) }, Refused::WrongVantage),
        (Ballot { domain: "us-west-2".into(), ..ballot("n1", 1) }, Refused::WrongDomain),
        (Ballot { asker: "bank".into(), ..ballot("n1", 1) }, Refused::Replayed),
        (ballot("n0", 1), Refused::Replayed),
    ];
    for (ballot, why) in other {
        assert_eq!(judge(&mut juror(), &ballot).err(), Some(why), "{ballot:?}");
    }
}

#[test]
fn an_answer_counts_once_in_its_time_and_in_order() {
    let mut juror = juror();
    assert_eq!(juror.judge(at(13_001), &ballot("n1", 1), &settings()).err(), Some(Refused::Late));
    assert_eq!(judge(&mut juror, &ballot("n1", 2)).err(), Some(Refused::Duplicate));
    juror.ask(at(10_000), "n2".into());
    // Its sequence was used: an old ballot with a new nonce pasted on, if the signature let it be.
    assert_eq!(judge(&mut juror, &ballot("n2", 1)).err(), Some(Refused::Replayed));
    juror.ask(at(10_000), "n3".into());
    assert!(judge(&mut juror, &ballot("n3", 2)).is_ok());
    juror.ask(at(10_000), "n4".into());
    let reborn = Ballot { boot: "b2".into(), ..ballot("n4", 1) };
    assert!(judge(&mut juror, &reborn).is_ok(), "a new life begins at 1 again");
    juror.ask(at(10_000), "n5".into());
    assert_eq!(judge(&mut juror, &ballot("n5", 3)).err(), Some(Refused::Replayed), "a former life");
}

#[test]
fn a_reload_moves_a_witness_and_lets_no_replay_in() {
    let mut juror = juror();
    assert!(judge(&mut juror, &ballot("n1", 7)).is_ok());
    juror.adjust("eu-west-1".into(), WITHIN);
    juror.ask(at(10_000), "n2".into());
    assert_eq!(judge(&mut juror, &ballot("n2", 8)).err(), Some(Refused::WrongDomain));
    let moved = |nonce: &str, sequence| Ballot { domain: "eu-west-1".into(), ..ballot(nonce, sequence) };
    assert_eq!(judge(&mut juror, &moved("n2", 7)).err(), Some(Refused::Replayed));
    juror.ask(at(10_000), "n3".into());
    assert!(judge(&mut juror, &moved("n3", 8)).is_ok());
}

#[test]
fn single_votes_that_do_not_count_are_told_and_the_others_do() {
    let mut wrong = ballot("n1", 1);
    wrong.votes = vec![
        BallotVote { target: "elsewhere".into(), ..vote("api", Health::Down) },
        vote("cache", Health::Down),
        vote("db", Health::Up),
        vote("db", Health::Down),
    ];
    let counted = judge(&mut juror(), &wrong).expect("it counts");
    assert_eq!(counted.refused, [Refused::WrongTarget, Refused::UnknownProbe, Refused::Duplicate]);
    let votes = votes(counted);
    assert_eq!(votes.iter().map(|vote| (vote.probe.as_str(), vote.health)).collect::<Vec<_>>(), [("db", Health::Up)]);
}

#[test]
fn a_down_without_a_beginning_is_no_vote() {
    for first_bad_ms in [None, Some(199)] {
        let mut wrong = ballot("n1", 1);
        wrong.votes = vec![BallotVote { first_bad_ms, ..vote("api", Health::Down) }];
        let counted = judge(&mut juror(), &wrong).expect("it counts");
        assert_eq!(counted.refused, [Refused::Malformed], "{first_bad_ms:?}");
        assert!(votes(counted).is_empty());
    }
}

#[test]
fn a_newer_ballot_holds_although_its_votes_were_seen_earlier_and_takes_back_what_it_leaves_out() {
    let now = |milliseconds| Now { mono: at(milliseconds), wall: WallTime(1_700_000_000_000) };
    let mut brain = Brain::new(Settings { quorum: 1, ..settings() }, &[], now(9_000)).expect("an empty journal");
    let health = |brain: &Brain| brain.status(now(11_500)).probes[0].health;
    let event = |votes: Vec<PeerVoteOf>| Event::Ballot { vantage: "eu".into(), domain: "eu-central-1".into(), votes };
    let said = |seen, health: Health| PeerVoteOf {
        probe: "api".into(),
        health,
        seen: at(seen),
        first_bad: (health == Health::Down).then(|| at(8_000)),
        degraded: false,
        cause: None,
    };
    let _effects = brain.handle(now(11_000), event(vec![said(10_900, Health::Up)]));
    assert_eq!(health(&brain), Health::Up);
    let _effects = brain.handle(now(11_000), event(vec![said(10_800, Health::Down)]));
    assert_eq!(health(&brain), Health::Down);
    let _effects = brain.handle(now(11_000), event(Vec::new()));
    assert_eq!(health(&brain), Health::Unknown, "what it does not say any more does not count");
    let seen_up = brain.last_writes_of(brain.index[&"api".into()], at(11_500)).believed;
    assert_eq!(seen_up, Some(at(10_900)), "who answered then may have taken a write then, whoever says so still");
}
