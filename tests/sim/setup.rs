//! From a seed to a case: the settings, the weather, and how bad each kind of fault is.

use failoverd::model::*;
use serde_json::{Value, json};

use crate::rng::Rng;

pub const PRIMARY: [&str; 3] = ["api", "db", "cache"];
pub const STANDBY: &str = "standby";
pub const ANCHOR: &str = "anchor";
pub const SCENARIO: &str = "regional";
/// A scenario of the same service that wants only the database down.
pub const NARROW: &str = "narrow";
/// In milliseconds, as all times here.
pub const INTERVAL: u64 = 2_000;
/// Until here faults happen; then the world calms down.
pub const CHAOS: u64 = 120_000;

/// What the primary region really does.
#[derive(Clone, Debug)]
pub enum Weather {
    Fine,
    /// Down from here to there.
    Outage(u64, u64),
    /// Down now and then, for a few seconds each.
    Flaps(Vec<(u64, u64)>),
}

impl Weather {
    pub fn is_up(&self, at: u64) -> bool {
        match self {
            Self::Fine => true,
            Self::Outage(from, to) => at < *from || at >= *to,
            Self::Flaps(times) => !times.iter().any(|(from, to)| (*from..*to).contains(&at)),
        }
    }

    /// Since when it has been down now.
    pub fn down_since(&self, at: u64) -> Option<u64> {
        match self {
            Self::Fine => None,
            Self::Outage(from, to) => (*from..*to).contains(&at).then_some(*from),
            Self::Flaps(times) => times.iter().find(|(from, to)| (*from..*to).contains(&at)).map(|(from, _)| *from),
        }
    }
}

/// Another vantage.
#[derive(Clone, Debug)]
pub struct Peer {
    pub name: &'static str,
    pub domain: &'static str,
}

/// How often things go wrong, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub observation: u64,
    pub call: u64,
    pub crash: u64,
    pub operator: u64,
    pub clock: u64,
    pub reload: u64,
    pub disk: u64,
    /// The network before the store of several daemons.
    pub store: u64,
    pub freeze: u64,
    /// A call waits in the executor.
    pub executor: u64,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub seed: u64,
    pub settings: Settings,
    /// What a reload loads.
    pub other: Settings,
    pub peers: Vec<Peer>,
    pub weather: Weather,
    /// It is about the database alone.
    pub only_db: bool,
    pub faults: Faults,
    /// Our own line is cut in between; the anchors are silent then too.
    pub cut_off: Option<(u64, u64)>,
    /// Nothing that anybody sees reaches the daemon in between.
    pub silence: Option<(u64, u64)>,
    /// A partition between one peer and a primary that is up.
    pub peer_cut_off: Option<(u64, u64)>,
    /// The replication stands still in between.
    pub stuck: Option<(u64, u64)>,
    /// A standby that is cut off says that it has everything.
    pub standby_lies: bool,
    /// Until when each commit of the primary waits for the standby; `None`: never.
    pub synchronous_until: Option<u64>,
    /// The only witness stands in the region that fails, and is silent while it is down.
    pub witness_falls: bool,
    /// The daemon is asked to end then, and is gone a little later.
    pub ending: Option<u64>,
    /// The journal, the lease or the clock falls into doubt then.
    pub doubt: Option<u64>,
    /// One daemon, or three with one store.
    pub members: usize,
    /// How fast the clocks of each daemon run, in thousandths.
    pub rates: [u64; 3],
    /// The store has no quorum in between.
    pub quorum_lost: Vec<(u64, u64)>,
    /// What is cut between each daemon and the store, one way each.
    pub links: [Vec<Link>; 3],
    /// Whoever leads dies then.
    pub leader_dies: Option<u64>,
    /// A witness that says that the primary is down whenever it likes.
    pub witness_lies: bool,
    /// Targets that cannot hold an epoch.
    pub forgetful: Vec<&'static str>,
}

/// One way between a daemon and the store, cut in between.
#[derive(Clone, Debug)]
pub struct Link {
    pub to_store: bool,
    from: u64,
    to: u64,
}

impl Link {
    pub fn is_cut(&self, at: u64) -> bool {
        (self.from..self.to).contains(&at)
    }
}

impl Case {
    /// Is a target of the primary region up?
    pub fn is_up(&self, probe: &str, at: u64) -> bool {
        (self.only_db && probe != "db") || self.weather.is_up(at)
    }

    /// The scenario that has to act in an outage.
    pub fn meant(&self) -> &ScenarioSettings {
        let name = if self.only_db { NARROW } else { SCENARIO };
        self.settings.scenario(&name.into()).expect("a scenario")
    }

    /// A quiet case, in which a real outage has to be acted upon (L1).
    pub fn must_fail_over(&self) -> bool {
        let f = &self.faults;
        matches!(self.weather, Weather::Outage(..))
            && f.observation
                + f.call
                + f.crash
                + f.operator
                + f.clock
                + f.reload
                + f.disk
                + f.store
                + f.freeze
                + f.executor
                == 0
            && self.settings.mode == Mode::Auto
            && !self.witness_falls
            && self.cut_off.or(self.peer_cut_off).or(self.stuck).or(self.silence).is_none()
            && self.doubt.or(self.ending).is_none()
            && self.settings.quorum <= distinct_domains(&self.peers)
    }
}

fn distinct_domains(peers: &[Peer]) -> u32 {
    let mut domains: Vec<&str> = peers.iter().map(|peer| peer.domain).chain(["here"]).collect();
    domains.sort_unstable();
    domains.dedup();
    domains.len() as u32
}

pub fn case(seed: u64) -> Case {
    let mut rng = Rng::new(seed);
    let quiet = rng.chance(150);
    let quorum = if rng.chance(400) { 2 } else { 1 };
    let peers = match (quorum, rng.below(4)) {
        (1, 0..=2) => vec![],
        (_, 0) => vec![Peer { name: "w1", domain: "b" }, Peer { name: "w2", domain: "here" }],
        (_, 1) => vec![Peer { name: "w1", domain: "b" }, Peer { name: "w2", domain: "b" }],
        _ => vec![Peer { name: "w1", domain: "b" }, Peer { name: "w2", domain: "c" }],
    };
    let settings = settings(&mut rng, quorum);
    let mut other = settings.clone();
    other.probes.reverse();
    other.plans[0].steps[1].timeout = HumanDuration::secs(77);
    other.plans[0].steps[0].estimate = HumanDuration::secs(3);
    let from = rng.between(12_000, 50_000);
    let weather = match rng.below(10) {
        0 | 1 if !quiet => Weather::Fine,
        2 | 3 if !quiet => Weather::Flaps(flaps(&mut rng)),
        4 if !quiet => Weather::Outage(from, from + rng.between(8_000, 60_000)),
        _ => Weather::Outage(from, u64::MAX),
    };
    let span = |rng: &mut Rng, per_mille| {
        let from = rng.between(8_000, 80_000);
        let to = from + rng.between(5_000, 40_000);
        (rng.chance(per_mille) && !quiet).then_some((from, to))
    };
    let mut case = Case {
        seed,
        only_db: false,
        peers,
        weather,
        faults: if quiet { Faults::default() } else { faults(&mut rng) },
        cut_off: span(&mut rng, 200),
        peer_cut_off: span(&mut rng, 300),
        silence: span(&mut rng, 200),
        stuck: span(&mut rng, 300),
        standby_lies: rng.chance(300),
        doubt: (!quiet && rng.chance(40)).then(|| rng.between(5_000, 120_000)),
        settings,
        other,
        // Drawn last, so that a seed stays the story that it was.
        synchronous_until: match rng.below(10) {
            0..=2 => Some(u64::MAX),
            3 => Some(rng.between(8_000, 80_000)),
            _ => None,
        },
        ending: (rng.chance(120) && !quiet).then(|| rng.between(5_000, 110_000)),
        witness_falls: false,
        members: 1,
        rates: [1_000; 3],
        quorum_lost: Vec::new(),
        links: Default::default(),
        leader_dies: None,
        witness_lies: false,
        forgetful: Vec::new(),
    };
    if rng.chance(250) && !case.settings.anchors.is_empty() {
        two_regions(&mut case);
    }
    if rng.chance(300) {
        let damping = FlapDamping {
            half_life: HumanDuration::secs(60),
            suppress: 2_500,
            reuse: 1_000,
            max_suppress: HumanDuration::secs(120),
            steady_for: HumanDuration::secs(10),
        };
        (case.settings.flap_damping, case.other.flap_damping) = (Some(damping), Some(damping));
    }
    let narrow = rng.chance(600).then(|| narrow(&mut rng, &case.settings.plans[0].name));
    case.only_db = narrow.is_some() && rng.chance(300);
    let grace = LowerLayers { grace: HumanDuration::secs(rng.between(8, 25)), layer: "Multi-AZ".into() };
    let patient = [rng.chance(250), rng.chance(250)];
    for settings in [&mut case.settings, &mut case.other] {
        settings.scenarios[0].lower_layers_first = patient[0].then(|| grace.clone());
        // The order is one of severity: the narrow one may come first or last.
        let place = if rng.chance(500) { 0 } else { settings.scenarios.len() };
        if let Some(mut narrow) = narrow.clone() {
            narrow.lower_layers_first = patient[1].then(|| grace.clone());
            settings.scenarios.insert(place, narrow);
        }
    }
    several(&mut rng, &mut case, quiet);
    case
}

/// Three daemons in every other case; and what else can go wrong then.
fn several(rng: &mut Rng, case: &mut Case, quiet: bool) {
    if rng.chance(500) {
        case.forgetful = vec!["scale", "hook"];
    }
    case.witness_lies = !quiet && case.settings.quorum > 1 && !case.witness_falls && rng.chance(200);
    if !quiet && rng.chance(400) {
        case.faults.disk = rng.below(12);
    }
    if rng.chance(500) {
        return;
    }
    case.members = 3;
    case.rates = [rng.between(900, 1_100), rng.between(900, 1_100), rng.between(900, 1_100)];
    if let (Weather::Outage(from, _), true) = (&case.weather, quiet && rng.chance(500)) {
        case.leader_dies = Some(from + rng.between(0, 30_000));
    }
    if quiet {
        case.rates = [1_000; 3];
        return;
    }
    case.faults.disk = 0;
    if rng.chance(700) {
        case.faults.store = rng.below(150);
    }
    if rng.chance(500) {
        case.faults.freeze = rng.below(100);
    }
    if rng.chance(600) {
        case.faults.executor = rng.below(500);
    }
    for _ in 0..rng.below(3) {
        let from = rng.between(5_000, 100_000);
        case.quorum_lost.push((from, from + rng.between(1_000, 25_000)));
    }
    for node in 0..3 {
        for _ in 0..rng.below(4) {
            let from = rng.between(2_000, 110_000);
            let to = CHAOS.min(from + rng.between(3_000, 40_000));
            // A link falls one way, or both.
            for to_store in [true, false] {
                if rng.chance(650) {
                    case.links[node].push(Link { to_store, from, to });
                }
            }
        }
    }
}

/// A daemon in the backup region and one witness in the primary's, of which both have to agree.
fn two_regions(case: &mut Case) {
    case.witness_falls = true;
    case.peers = vec![Peer { name: "w1", domain: "b" }];
    for settings in [&mut case.settings, &mut case.other] {
        settings.quorum = 2;
        settings.witnesses = vec![WitnessSettings { name: "w1".into(), domain: "b".into() }];
        let primaries = settings.probes.iter_mut().filter(|probe| PRIMARY.contains(&probe.name.as_str()));
        primaries.for_each(|probe| probe.region = Some("b".into()));
    }
}

fn narrow(rng: &mut Rng, plan: &PlanName) -> ScenarioSettings {
    let mut narrow = scenario(rng, NARROW, 1, plan);
    if let Condition::AtLeast { of, .. } = &mut narrow.when {
        of.retain(|part| part.condition.wanted_down() == ["db".into()]);
    }
    narrow
}

fn flaps(rng: &mut Rng) -> Vec<(u64, u64)> {
    let mut at = 10_000;
    let mut times = Vec::new();
    while at < CHAOS {
        at += rng.between(4_000, 20_000);
        let end = at + rng.between(1_000, 14_000);
        times.push((at, end));
        at = end;
    }
    times
}

fn faults(rng: &mut Rng) -> Faults {
    let mut often = |most: u64| if rng.chance(350) { 0 } else { rng.below(most) };
    Faults {
        observation: often(250),
        call: often(600),
        crash: often(60),
        operator: often(300),
        clock: often(60),
        reload: often(60),
        disk: 0,
        store: 0,
        freeze: 0,
        executor: 0,
    }
}

fn settings(rng: &mut Rng, quorum: u32) -> Settings {
    let anchored = rng.chance(500);
    let mut probes: Vec<ProbeSettings> = PRIMARY.iter().chain([&STANDBY]).map(|name| probe(rng, name)).collect();
    if anchored {
        probes.push(probe(rng, ANCHOR));
    }
    let plan = plan(rng);
    let mode = *rng.pick(&[Mode::Auto, Mode::Auto, Mode::Auto, Mode::Approve, Mode::Approve, Mode::AlertOnly]);
    Settings {
        name: "here".into(),
        domain: "here".into(),
        mode,
        quorum,
        witnesses: Vec::new(),
        on_silent_witnesses: Default::default(),
        flap_damping: None,
        startup_grace: HumanDuration::secs(rng.below(5)),
        cool_down: HumanDuration::secs(60),
        failover_limit: 1 + rng.below(2) as u32,
        failover_window: HumanDuration::secs(600),
        tilt_for: HumanDuration::secs(5),
        safety_percent: 120,
        probes,
        anchors: if anchored { vec![ANCHOR.into()] } else { vec![] },
        anchors_at_least: u32::from(anchored),
        severities: Vec::new(),
        services: Vec::new(),
        scenarios: vec![scenario(rng, SCENARIO, 2, &plan.name), scenario(rng, "database", 3, &plan.name)],
        plans: vec![plan],
        manual_scenario: None,
        drills: Default::default(),
    }
}

fn probe(rng: &mut Rng, name: &str) -> ProbeSettings {
    ProbeSettings {
        name: name.into(),
        region: None,
        zone: None,
        target: name.into(),
        interval: HumanDuration::millis(INTERVAL),
        fast_interval: HumanDuration::secs(1),
        timeout: HumanDuration::secs(1),
        fall: rng.between(2, 3) as u32,
        rise: rng.between(1, 2) as u32,
        max_age: HumanDuration::secs(7),
        causes: std::collections::BTreeMap::new(),
        window: None,
    }
}

fn scenario(rng: &mut Rng, name: &str, weight: u32, plan: &PlanName) -> ScenarioSettings {
    let is = |probe: &str, health| Condition::Probe(Subject { probe: probe.into(), is: Is::from(health) });
    let of = PRIMARY.map(|probe| Weighted { weight: 1, condition: is(probe, Health::Down) }).to_vec();
    ScenarioSettings {
        name: name.into(),
        severity: Severity("P0".into()),
        service: "shop".into(),
        mode: Mode::Auto,
        on_no_answer: *rng.pick(&[OnNoAnswer::Failover, OnNoAnswer::Hold]),
        approvals: 1,
        failback: None,
        when: Condition::AtLeast { weight, of },
        unless: vec![],
        requires: vec![is(STANDBY, Health::Up)],
        confirm_for: HumanDuration::secs(rng.between(4, 9)),
        lower_layers_first: None,
        rto: HumanDuration::secs(90),
        rpo: Some(HumanDuration::secs(10)),
        replication: vec![ReplicationPair { standby: STANDBY.into(), primary: Some("db".into()) }],
        ask_replicas: true,
        plan: Some(plan.clone()),
    }
}

fn plan(rng: &mut Rng) -> Plan {
    let mut steps = vec![
        action(rng, "fence", &[], EffectKind::Fence, Repeat::ByObservation),
        action(rng, "promote", &["fence"], EffectKind::Promote, Repeat::ByObservation),
        action(rng, "scale", &[], EffectKind::Scale, Repeat::ByObservation),
        action(rng, "route", &["promote", "scale"], EffectKind::Route, Repeat::ByObservation),
        action(rng, "tell", &["route"], EffectKind::Notify, Repeat::AtLeastOnce),
    ];
    if rng.chance(300) {
        steps.push(action(rng, "hook", &["fence"], EffectKind::Call, Repeat::Never));
    }
    if rng.chance(150) {
        steps.push(step(rng, "ask", &[], Work::Approval { message: "well?".into() }));
        steps[1].after.push("ask".into());
    }
    if rng.chance(150) {
        steps.push(step(rng, "wait", &["fence"], Work::Wait { duration: HumanDuration::secs(3) }));
    }
    if rng.chance(200) {
        let work = Work::VerifyProbe { probe: STANDBY.into(), hold: HumanDuration::secs(4) };
        steps.push(step(rng, "verify", &["route"], work));
    }
    if rng.chance(50) {
        // `config` refuses it; the ledger has to as well.
        steps.push(action(rng, "promote2", &["promote"], EffectKind::Promote, Repeat::ByObservation));
    }
    Plan {
        name: "regional".into(),
        steps,
        point_of_no_return: Some("promote".into()),
        parameters: Vec::new(),
        rto: None,
    }
}

fn action(rng: &mut Rng, name: &str, after: &[&str], effect: EffectKind, repeat: Repeat) -> Step {
    let spec = ActionSpec {
        kind: format!("test.{name}").into(),
        effect,
        repeat,
        target: name.to_owned(),
        service: (effect == EffectKind::Promote).then(|| "shop".into()),
        region: None,
        estimate: failoverd::model::HumanDuration::secs(1),
        messages: Vec::new(),
        makes: false,
        params: if name == "scale" { json!({ "replicas": 10 }) } else { Value::Null },
    };
    step(rng, name, after, Work::Action(spec))
}

fn step(rng: &mut Rng, name: &str, after: &[&str], work: Work) -> Step {
    Step {
        name: name.into(),
        after: after.iter().map(|name| (*name).into()).collect(),
        work,
        timeout: HumanDuration::secs(rng.between(10, 40)),
        retry: Retry {
            attempts: rng.between(1, 4) as u32,
            backoff: HumanDuration::millis(200),
            max_backoff: HumanDuration::secs(2),
        },
        on_error: *rng.pick(&[OnError::Park, OnError::Continue, OnError::Compensate]),
        estimate: HumanDuration::secs(rng.between(1, 5)),
        terms: failoverd::model::Terms::default(),
    }
}
