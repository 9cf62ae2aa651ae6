use super::*;
use crate::model::{ActionSpec, DependencyKind, PlanHash, Repeat, Retry, Terms, WallTime, Work};

fn step(name: &str, kind: &str, region: Option<&str>, after: &[&str]) -> Step {
    let spec = ActionSpec {
        kind: kind.into(),
        effect: EffectKind::Call,
        repeat: Repeat::ByObservation,
        target: name.into(),
        service: None,
        region: region.map(Into::into),
        estimate: HumanDuration::secs(1),
        messages: Vec::new(),
        makes: matches!(kind, "exec.run" | "velero.restore"),
        params: serde_json::Value::Null,
    };
    Step {
        name: name.into(),
        after: after.iter().map(|name| (*name).into()).collect(),
        work: Work::Action(spec),
        timeout: HumanDuration::secs(60),
        retry: Retry::default(),
        on_error: OnError::Park,
        estimate: HumanDuration::secs(1),
        terms: Terms::default(),
    }
}

fn plan(steps: Vec<Step>) -> Plan {
    Plan { name: "failover".into(), steps, point_of_no_return: None, parameters: Vec::new(), rto: None }
}

fn found(steps: Vec<(&str, Vec<Finding>)>) -> PlanReadiness {
    PlanReadiness {
        plan: "failover".into(),
        hash: PlanHash::new("one"),
        at: WallTime(0),
        took: HumanDuration::ZERO,
        verdict: Readiness::Ready,
        steps: steps
            .into_iter()
            .map(|(name, findings)| StepReadiness {
                step: name.into(),
                kind: "rds.stop".into(),
                looked: Looked::Found(findings),
            })
            .collect(),
        general: Vec::new(),
        lost: Vec::new(),
        proof: Vec::new(),
        last_good: None,
        drift: Vec::new(),
    }
}

#[test]
fn one_that_is_not_ready_decides_and_what_was_not_seen_is_never_ready() {
    let verdict = |findings: Vec<Finding>| combine(found(vec![("promote", findings)]).findings()).name();
    let (ready, not, unknown) = (
        Finding::ready("a", Aspect::Exists),
        Finding::not_ready("b", Aspect::Exists, "gone"),
        Finding::unknown("c", Aspect::Exists, "timeout"),
    );
    assert_eq!(verdict(vec![ready.clone()]), "ready");
    assert_eq!(verdict(vec![ready.clone(), unknown.clone()]), "unknown");
    assert_eq!(verdict(vec![unknown, ready, not]), "not_ready");
    assert_eq!(verdict(Vec::new()), "unknown", "nothing was looked at");
    let told = combine(found(vec![("promote", vec![Finding::not_ready("b", Aspect::Exists, "gone")])]).findings());
    assert_eq!(told.reason(), "promote: b: gone");
}

#[test]
fn what_an_earlier_step_makes_is_open_and_what_a_program_may_make_is_unknown() {
    let missing = || vec![Finding::not_ready("the Deployment", Aspect::Exists, "not there")];
    for (maker, verdict) in [("velero.restore", "ready"), ("exec.run", "unknown"), ("rds.stop", "not_ready")] {
        let plan = plan(vec![step("first", maker, None, &[]), step("scale", "kubernetes.scale", None, &["first"])]);
        let ready = vec![Finding::ready("first", Aspect::Exists)];
        let mut looked = found(vec![("first", ready), ("scale", missing())]);
        excuse_what_is_made_before(&plan, &mut looked.steps);
        assert_eq!(combine(looked.findings()).name(), verdict, "{maker}");
        assert_eq!(looked.later(), usize::from(maker == "velero.restore"), "{maker}");
    }
}

#[test]
fn drift_is_what_is_different_and_was_seen() {
    let replica = |of: &str| Finding::ready("shop-replica", Aspect::Matches).with("replica of", of);
    let good = found(vec![("promote", vec![replica("shop").with("class", "large").measuring("lag", "1s")])]);
    let now = found(vec![("promote", vec![replica("billing").measuring("lag", "9s")])]);
    let told: Vec<String> = drift(&now, &good)
        .iter()
        .map(|drift| format!("{}: {:?} -> {:?}", drift.fact, drift.was.as_deref(), drift.is.as_deref()))
        .collect();
    assert_eq!(told, ["class: Some(\"large\") -> None", "replica of: Some(\"shop\") -> Some(\"billing\")"]);
    let blind = found(vec![("promote", vec![Finding::unknown("shop-replica", Aspect::Exists, "timeout")])]);
    assert_eq!(drift(&blind, &good), [], "what could not be looked at has not changed");
    let mut other = found(vec![("move", Vec::new())]);
    other.hash = PlanHash::new("two");
    let told = drift(&other, &good);
    assert_eq!((told.len(), told[0].subject.as_str()), (1, "the plan itself"), "another plan has other steps");
}

#[test]
fn a_plan_within_one_region_does_not_lose_it() {
    let east: Vec<RegionName> = vec!["us-east-1".into()];
    let within = plan(vec![step("failover", "rds.failover", Some("us-east-1"), &[])]);
    assert_eq!(lost(&within, &east), []);
    let away = plan(vec![
        step("stop", "rds.stop", Some("us-east-1"), &[]),
        step("promote", "rds.promote_read_replica", Some("us-west-2"), &[]),
    ]);
    assert_eq!(lost(&away, &east), east);
    let named = plan(vec![step("route", "route53.upsert_alias", Some("us-east-1"), &[])]);
    assert_eq!(lost(&named, &east), east, "an API that answers from there is no work there");
}

fn need(step: &str, name: &str, place: Place) -> Need {
    let dependency = Dependency { kind: DependencyKind::Endpoint, name: name.into(), place };
    Need { step: Some(step.into()), dependency, dispensable: false }
}

#[test]
fn the_proof_names_each_thing_once_and_says_what_would_be_lost() {
    let (east, west) = (Place::Region("us-east-1".into()), Place::Region("us-west-2".into()));
    let lost: Vec<RegionName> = vec!["us-east-1".into()];
    let needs = [
        need("promote", "rds.west", west.clone()),
        need("scale", "rds.west", west.clone()),
        need("route", "route53", east.clone()),
        need("zone", "in-a-zone", Place::Region("us-east-1b".into())),
        need("other", "another", Place::Region("us-east-12".into())),
        need("tell", "chat", Place::Unsaid),
        need("cdn", "edge", Place::Anywhere),
        need("state", "sqlite", Place::Here),
        Need { dispensable: true, ..need("fence", "rds.east", east.clone()) },
    ];
    let verdicts = |here: &Place, accepts: &[String]| -> BTreeMap<String, &'static str> {
        let proof = prove(&needs, &lost, here, accepts);
        assert_eq!(proof.len(), 8);
        proof
            .iter()
            .map(|finding| (finding.subject.trim_start_matches("endpoint ").to_owned(), finding.verdict.name()))
            .collect()
    };
    let seen = verdicts(&west, &[]);
    let of = |name: &str| seen[name];
    assert_eq!((of("rds.west"), of("route53"), of("in-a-zone")), ("ready", "not_ready", "not_ready"));
    assert_eq!((of("another"), of("chat"), of("edge")), ("ready", "unknown", "ready"));
    assert_eq!((of("sqlite"), of("rds.east")), ("ready", "ready"), "a fence on the lost region may fail");
    assert_eq!(verdicts(&east, &[])["sqlite"], "not_ready", "the state falls with the region");
    assert_eq!(verdicts(&Place::Unsaid, &[])["sqlite"], "unknown");
    assert_eq!(verdicts(&west, &["route53".into()])["route53"], "ready", "the owner knows");
    let both = prove(&needs, &lost, &west, &[]);
    assert!(both.iter().any(|finding| finding.seen.get("used by").is_some_and(|by| by == "promote, scale")));
    assert_eq!(prove(&needs, &[], &east, &[]), [], "no region would be lost");
}

#[test]
fn people_are_told_once_and_again_when_it_is_ready() {
    let not = Readiness::NotReady { reason: "gone".into() };
    let blind = Readiness::Unknown { reason: "timeout".into() };
    let mut told = false;
    let mut said = Vec::new();
    for verdict in [&Readiness::Ready, &not, &not, &blind, &not, &Readiness::Ready, &blind, &Readiness::Ready] {
        let (say, now) = tell(told, verdict);
        told = now;
        said.extend(say);
    }
    assert_eq!(said, [Tell::NotReady, Tell::ReadyAgain]);
}

#[test]
fn evaluations_are_spread_by_a_tenth_and_no_more() {
    let every = Duration::from_secs(300);
    let dues: BTreeSet<MonoTime> = (0..200).map(|salt| next_due(MonoTime::ZERO, every, salt)).collect();
    let all = |due: &MonoTime| due.since(MonoTime::ZERO);
    assert!(dues.iter().map(all).all(|due| due >= every * 9 / 10 && due <= every * 11 / 10), "{dues:?}");
    assert!(dues.len() > 100, "{} different ones", dues.len());
}

#[test]
fn a_standby_is_as_fresh_as_it_was_over_the_last_hour() {
    let lag = |seconds: u64| Some(Lag { time: Duration::from_secs(seconds), bytes: None });
    let rpo = HumanDuration::secs(60);
    let judged = |samples: &[Option<Lag>]| {
        let mut history = LagHistory::default();
        samples.iter().for_each(|sample| history.sample(*sample));
        history.judge("standby", rpo).verdict.name()
    };
    assert_eq!(judged(&[]), "unknown");
    assert_eq!(judged(&[lag(1), None]), "unknown");
    assert_eq!(judged(&[lag(1), lag(61)]), "not_ready", "now");
    let mut often = vec![lag(1); 90];
    often.extend(vec![lag(100); 9]);
    often.push(lag(1));
    assert_eq!(judged(&often), "not_ready", "too often within the hour");
    let mut once = vec![lag(1); 99];
    once[0] = lag(100);
    assert_eq!(judged(&once), "ready");
    let mut long_ago = vec![lag(100); 50];
    long_ago.extend(vec![lag(1); SAMPLES]);
    assert_eq!(judged(&long_ago), "ready", "an hour is remembered");
}

#[test]
fn where_too_few_failure_domains_are_heard_there_is_no_quorum() {
    let vantage = |name: &str, domain: &str, silent| VantageView {
        name: name.into(),
        domain: domain.into(),
        own: false,
        heard: None,
        silent,
        up: 0,
        down: 0,
        unknown: 0,
    };
    let all =
        |c, d| [vantage("a", "west", false), vantage("b", "west", false), vantage("c", "eu", c), vantage("d", "ap", d)];
    assert_eq!(no_quorum(2, &all(false, true)), None, "one more may fall silent");
    let lacking = no_quorum(2, &all(true, true)).unwrap();
    assert_eq!(
        lacking.verdict.reason(),
        "2 failure domains have to agree, and 1 can be heard; silent: c, d",
        "two in one domain are one voice"
    );
    assert_eq!(no_quorum(1, &[vantage("a", "west", true)]), None, "it decides alone");
    assert_eq!(
        no_quorum(2, &[]).unwrap().verdict.reason(),
        "2 failure domains have to agree, and 0 can be heard; silent: nobody"
    );
}
