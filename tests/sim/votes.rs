//! What the observations that were handed to the brain say, worked out a second time and plainly:
//! the simulator's own idea of votes, quorum and confirmation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use failoverd::model::*;

#[derive(Clone, Debug, Default)]
struct Own {
    newest: Option<MonoTime>,
    health: Option<Health>,
    good: u32,
    bad: u32,
    unknown: u32,
    first_bad: Option<MonoTime>,
    supported: MonoTime,
    last_up: Option<MonoTime>,
    /// Since when none was good, whatever was dropped meanwhile.
    failing: Option<MonoTime>,
}

#[derive(Clone, Debug)]
struct Theirs {
    domain: FailureDomain,
    health: Health,
    seen: MonoTime,
    first_bad: Option<MonoTime>,
}

#[derive(Debug, Default)]
pub struct Votes {
    own: BTreeMap<ProbeName, Own>,
    theirs: BTreeMap<(ProbeName, VantageId), Theirs>,
    /// When each of their domains last saw the database up, whatever became of its vote since.
    theirs_up: BTreeMap<FailureDomain, MonoTime>,
    tilt_until: Option<MonoTime>,
    /// When this life began.
    pub started: MonoTime,
    /// Since when the condition of each scenario has held, by quorum.
    held: BTreeMap<ScenarioName, MonoTime>,
    /// The same, or by what is left where the only witness may have fallen with the region.
    held_by_those_left: BTreeMap<ScenarioName, MonoTime>,
    /// What our own attempts saw, up or down, by when they began.
    looks: BTreeMap<ProbeName, (MonoTime, Health)>,
    /// How far behind the standby said that it was.
    lags: Vec<(MonoTime, Duration)>,
    /// What the primary last said of its commits: do they wait for the standby?
    waits: Option<(MonoTime, bool)>,
}

impl Votes {
    pub fn new_life(&mut self) {
        *self = Self::default();
    }

    /// What the journal hands down to a new life.
    pub fn recall(&mut self, now: Now, known: &ReplicationEvidence) {
        let mono = |at: WallTime| now.mono_of(at).min(now.mono);
        let db = self.own.entry("db".into()).or_default();
        db.last_up = db.last_up.or(known.primary_up.map(mono));
        if known.synchronous && known.down_since.is_some() && self.waits.is_none() {
            self.waits = Some((now.mono, true));
        }
        if let Some((at, lag)) = known.lag.filter(|_| self.lags.is_empty()) {
            self.lags.push((mono(at), lag.time));
        }
    }

    pub fn observed(&mut self, settings: &ProbeSettings, started: MonoTime, observation: &Observation) {
        let own = self.own.entry(settings.name.clone()).or_default();
        if own.newest.is_some_and(|newest| started <= newest) {
            return;
        }
        own.newest = Some(started);
        let health = observation.health();
        // One that could not look takes nothing back of what was seen.
        if health != Health::Unknown {
            self.looks.insert(settings.name.clone(), (started, health));
        }
        if let Some(lag) = observation.facts().and_then(|facts| facts.lag) {
            self.lags.push((started, lag.time));
        }
        if let Some(waits) = observation.facts().and_then(|facts| facts.synchronous) {
            self.waits = Some((started, waits));
        }
        let same = own.health == Some(health);
        let concluded = match health {
            Health::Up => {
                (own.bad, own.unknown, own.good, own.last_up) = (0, 0, own.good + 1, Some(started));
                own.failing = None;
                own.good >= settings.rise || own.health.is_none() || same
            }
            Health::Down => {
                if own.bad == 0 && !same {
                    own.first_bad = Some(started);
                }
                own.failing.get_or_insert(started);
                (own.good, own.unknown, own.bad) = (0, 0, own.bad + 1);
                own.bad >= settings.fall || same
            }
            Health::Unknown => {
                own.unknown += 1;
                own.unknown >= settings.fall && !same
            }
        };
        if concluded {
            (own.health, own.supported) = (Some(health), started);
            match health {
                Health::Up => own.first_bad = None,
                Health::Down => {}
                Health::Unknown => (own.good, own.bad, own.first_bad, own.failing) = (0, 0, None, None),
            }
        }
    }

    pub fn voted(&mut self, event: &failoverd::core::Event, now: MonoTime) {
        let failoverd::core::Event::PeerVote { vantage, domain, probe, health, seen, first_bad, .. } = event else {
            return;
        };
        let vote = Theirs { domain: domain.clone(), health: *health, seen: *seen.min(&now), first_bad: *first_bad };
        if vote.health == Health::Up && probe.as_str() == "db" {
            let known = self.theirs_up.entry(vote.domain.clone()).or_insert(vote.seen);
            *known = vote.seen.max(*known);
        }
        let key = (probe.clone(), vantage.clone());
        if self.theirs.get(&key).is_none_or(|known| known.seen < vote.seen) {
            self.theirs.insert(key, vote);
        }
    }

    pub fn stalled(&mut self, until: MonoTime) {
        for own in self.own.values_mut() {
            let kept = Own { newest: own.newest, last_up: own.last_up, failing: own.failing, ..Own::default() };
            *own = kept;
        }
        self.theirs.clear();
        self.held.clear();
        self.held_by_those_left.clear();
        self.tilt_until = Some(until);
    }

    pub fn in_tilt(&self, now: MonoTime) -> bool {
        self.tilt_until.is_some_and(|until| now < until)
    }

    /// Do so many failure domains agree that the probe is down, each of them with one voice?
    fn is_down(&self, settings: &Settings, probe: &str, now: MonoTime) -> bool {
        let name = ProbeName::from(probe);
        let Some(max_age) = settings.probe(&name).map(|probe| probe.max_age.get()) else { return false };
        let mut domains: BTreeMap<FailureDomain, Vec<Health>> = BTreeMap::new();
        if let Some((own, health)) = self.own.get(&name).and_then(|own| Some((own, own.health?)))
            && now.since(own.supported) <= max_age
        {
            let cut_off = health == Health::Down && !self.anchors_answer(settings, own.first_bad.unwrap_or(now));
            domains.entry(settings.domain.clone()).or_default().push(if cut_off { Health::Unknown } else { health });
        }
        for ((_, _), vote) in self.theirs.iter().filter(|((of, _), _)| *of == name) {
            if now.since(vote.seen) <= max_age {
                domains.entry(vote.domain.clone()).or_default().push(vote.health);
            }
        }
        let agree = |wanted| domains.values().filter(|voices| voices.iter().all(|voice| *voice == wanted)).count();
        let need = settings.quorum as usize;
        !self.in_tilt(now) && agree(Health::Down) >= need && agree(Health::Up) < need
    }

    /// Ours and everybody's that is heard says that the probe is down, and whoever is silent stands where it
    /// does.
    fn is_presumed_down(&self, settings: &Settings, probe: &str, now: MonoTime) -> bool {
        let name = ProbeName::from(probe);
        let Some(asked) = settings.probe(&name).filter(|_| !self.in_tilt(now) && !settings.anchors.is_empty()) else {
            return false;
        };
        let max_age = asked.max_age.get();
        let own = self.own.get(&name).filter(|own| own.health == Some(Health::Down));
        let looks = own.is_some_and(|own| {
            now.since(own.supported) <= max_age && self.anchors_answer(settings, own.first_bad.unwrap_or(now))
        });
        let silent = |witness: &WitnessSettings| {
            let votes = self.theirs.iter().filter(|((_, vantage), _)| *vantage == witness.name);
            let last = votes.map(|(_, vote)| vote.seen).max().unwrap_or(self.started);
            now.since(last) > max_age
        };
        let fell =
            |witness: &WitnessSettings| asked.region.as_ref().is_some_and(|r| r.as_str() == witness.domain.as_str());
        looks
            && settings.quorum == 2
            && settings.witnesses.len() == 1
            && settings.witnesses.iter().all(|w| silent(w) && fell(w))
    }

    fn fell(&self, settings: &Settings, probe: &str, now: MonoTime) -> bool {
        self.is_down(settings, probe, now) || self.is_presumed_down(settings, probe, now)
    }

    fn anchors_answer(&self, settings: &Settings, since: MonoTime) -> bool {
        let answering = settings.anchors.iter().filter_map(|anchor| self.own.get(anchor));
        let answering = answering.filter(|own| own.health == Some(Health::Up) && own.last_up >= Some(since));
        answering.count() >= settings.anchors_at_least as usize
    }

    /// What is down, by quorum, of what the scenario wants down.
    pub fn explained(&self, settings: &Settings, scenario: &ScenarioSettings, now: MonoTime) -> BTreeSet<ProbeName> {
        let wanted = scenario.when.wanted_down().into_iter();
        wanted.filter(|probe| self.is_down(settings, probe.as_str(), now)).collect()
    }

    /// To be called with each event: since when has each scenario's condition held?
    pub fn keep_time(&mut self, settings: &Settings, now: MonoTime) {
        let anybody = self.own.values().any(|own| own.health == Some(Health::Down))
            || self.theirs.values().any(|vote| vote.health == Health::Down);
        if !anybody {
            self.held_by_those_left.clear();
            return self.held.clear();
        }
        for scenario in &settings.scenarios {
            let wanted = scenario.when.wanted_down();
            let count = |is_down: &dyn Fn(&str) -> bool| wanted.iter().filter(|probe| is_down(probe.as_str())).count();
            let by_quorum = count(&|probe| self.is_down(settings, probe, now));
            let by_those_left = count(&|probe| self.fell(settings, probe, now));
            let enough = weight(&scenario.when) as usize;
            for (held, down) in [(&mut self.held, by_quorum), (&mut self.held_by_those_left, by_those_left)] {
                if down >= enough {
                    held.entry(scenario.name.clone()).or_insert(now);
                } else {
                    held.remove(&scenario.name);
                }
            }
        }
    }

    /// For how long its condition has held without interruption; `None` where it does not.
    /// `by_person`: by what is left of a quorum.
    pub fn held_for(&self, scenario: &ScenarioName, by_person: bool, now: MonoTime) -> Option<Duration> {
        let held = if by_person { &self.held_by_those_left } else { &self.held };
        held.get(scenario).map(|since| now.since(*since))
    }

    /// Since when our own attempts at a probe that is not down have failed, without a good one.
    pub fn doubted_since(&self, settings: &Settings, probe: &ProbeName, now: MonoTime) -> Option<MonoTime> {
        let own = self.own.get(probe)?;
        own.first_bad.filter(|_| !self.is_down(settings, probe.as_str(), now))
    }

    /// Did our own attempts since then, or a quorum of others where we could not look, see it down?
    pub fn looked_down(&self, settings: &Settings, least: (&[&str], usize), since: MonoTime, now: MonoTime) -> bool {
        let confirmed = |probe: &str| {
            let name = ProbeName::from(probe);
            match self.looks.get(&name).filter(|(started, _)| *started >= since) {
                Some((_, Health::Up)) => return false,
                Some((_, Health::Down)) if self.anchors_answer(settings, since) => return true,
                _ => {}
            }
            let others = self
                .theirs
                .iter()
                .filter(|((of, _), vote)| *of == name && vote.health == Health::Down && vote.domain != settings.domain);
            let max_age = settings.probes[0].max_age.get();
            let mut domains: Vec<_> =
                others.filter(|(_, v)| now.since(v.seen) <= max_age).map(|(_, v)| &v.domain).collect();
            domains.sort_unstable();
            domains.dedup();
            domains.len() >= settings.quorum as usize
        };
        let (probes, weight) = least;
        probes.iter().filter(|probe| confirmed(probe)).count() >= weight
    }

    /// Since when everybody who says that the database is down has seen it so; `None` where it is not
    /// down.
    pub fn database_fell(&self, settings: &Settings, now: MonoTime) -> Option<MonoTime> {
        if !self.fell(settings, "db", now) {
            return None;
        }
        let db = self.own.get(&"db".into());
        let max_age = settings.probe(&"db".into())?.max_age.get();
        let own = db.filter(|db| db.health == Some(Health::Down) && now.since(db.supported) <= max_age);
        let theirs = self.their_votes_on_the_database().filter(|vote| now.since(vote.seen) <= max_age);
        let bad = own.and_then(|db| db.failing).max(theirs.filter_map(|vote| vote.first_bad).max())?;
        // Whoever answered anybody after that may have taken writes.
        let well = self.eyes(settings, now).into_iter().max();
        Some(well.map_or(bad, |well| well.max(bad)))
    }

    /// When the database was last seen up: by us, and by each domain of others.
    fn eyes(&self, settings: &Settings, now: MonoTime) -> Vec<MonoTime> {
        self.own_eyes().into_iter().chain(self.their_eyes(settings, now)).collect()
    }

    fn own_eyes(&self) -> Option<MonoTime> {
        self.own.get(&"db".into()).and_then(|db| db.last_up)
    }

    fn their_eyes(&self, settings: &Settings, now: MonoTime) -> Vec<MonoTime> {
        let Some(probe) = settings.probe(&"db".into()) else { return Vec::new() };
        let mut all = self.theirs_up.clone();
        for vote in self.their_votes_on_the_database().filter(|vote| now.since(vote.seen) <= probe.max_age.get()) {
            // A witness that saw it down saw it up at the attempt before.
            let Some(up) = vote.first_bad.map(|bad| bad.minus(probe.interval.get())) else { continue };
            let known = all.entry(vote.domain.clone()).or_insert(up);
            *known = up.max(*known);
        }
        let mut all: Vec<MonoTime> = all.into_values().collect();
        all.sort_unstable();
        all
    }

    /// Until when the database was up for certain: by our own eyes, or as a quorum of others says, one of whom may
    /// lie.
    fn well(&self, settings: &Settings, now: MonoTime) -> Option<MonoTime> {
        let theirs = self.their_eyes(settings, now);
        let enough = theirs.len().checked_sub(settings.quorum.max(1) as usize);
        self.own_eyes().max(enough.map(|place| theirs[place]))
    }

    fn their_votes_on_the_database(&self) -> impl Iterator<Item = &Theirs> {
        self.theirs.iter().filter(|((of, _), _)| of.as_str() == "db").map(|(_, vote)| vote)
    }

    /// What a promotion would lose, as far as anything that was seen or handed down tells: what the
    /// standby did not have when it was last asked before the database fell, and all since then.
    pub fn loss(&self, settings: &Settings, now: MonoTime) -> Option<Duration> {
        let until = self.database_fell(settings, now).unwrap_or(now);
        if self.waited(settings, until) {
            return Some(Duration::ZERO);
        }
        let well = self.well(settings, now)?;
        let (at, lag) = self.lags.iter().rev().find(|(at, _)| *at <= well)?;
        Some(*lag + until.since(*at))
    }

    /// Did commits wait for the standby when the primary last said so, before then?
    pub fn waited(&self, settings: &Settings, until: MonoTime) -> bool {
        let max_age = settings.probe(&"db".into()).map_or(Duration::ZERO, |probe| probe.max_age.get());
        self.waits.is_some_and(|(at, waits)| waits && at >= until.minus(max_age))
    }

    /// Was this lag measured, then?
    pub fn was_measured(&self, at: MonoTime, lag: Duration) -> bool {
        // The journal keeps milliseconds.
        let near = |known: MonoTime| known.since(at).max(at.since(known)) <= Duration::from_millis(2);
        self.lags.iter().any(|(known, value)| near(*known) && *value == lag)
    }
}

/// So many of what a scenario names have to be down.
fn weight(when: &Condition) -> u32 {
    match when {
        Condition::AtLeast { weight, .. } => *weight,
        _ => 1,
    }
}
