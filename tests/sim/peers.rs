//! What is seen: our own attempts and the witnesses' votes, and what goes wrong on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use failoverd::core::Event;
use failoverd::model::*;

use crate::setup::{ANCHOR, INTERVAL, PRIMARY, Peer, STANDBY};
use crate::sim::{Sim, What};

/// A witness with a hysteresis of two.
pub struct PeerState {
    peer: Peer,
    seen: BTreeMap<&'static str, (u32, Option<u64>)>,
}

impl PeerState {
    pub fn new(peer: Peer) -> Self {
        Self { peer, seen: BTreeMap::new() }
    }
}

impl Sim {
    /// How far the standby really is behind. It falls behind by a second a second.
    pub fn true_lag(&self, at: u64) -> u64 {
        match self.case.stuck {
            Some((from, to)) if (from..to).contains(&at) => 100 + at - from,
            _ => 100,
        }
    }

    /// What is really lost where the primary fell at that time.
    pub fn true_loss(&self, fell: u64) -> u64 {
        let waited = self.case.synchronous_until.is_some_and(|until| fell < until);
        if waited { 0 } else { self.true_lag(fell) }
    }

    /// What the primary says of its commits. They hang while the replication stands still.
    fn commits_wait(&self) -> Option<bool> {
        let stuck = self.case.stuck.is_some_and(|(from, to)| (from..to).contains(&self.now));
        match self.case.synchronous_until {
            Some(until) if self.now < until => (!stuck).then_some(true),
            _ => Some(false),
        }
    }

    fn sees(&self, probe: &str) -> Observation {
        let cut_off = self.me == 0 && self.case.cut_off.is_some_and(|(from, to)| (from..to).contains(&self.now));
        let up = match probe {
            ANCHOR | STANDBY => true,
            _ => self.case.is_up(probe, self.now),
        };
        if (cut_off && probe != STANDBY) || !up {
            return Observation::down(CauseKind::Timeout, "");
        }
        let facts = match probe {
            STANDBY => self.standby_says(),
            "db" => Facts { role: Some(Role::Primary), synchronous: self.commits_wait(), ..Facts::default() },
            _ => return Observation::up(Duration::from_millis(5)),
        };
        Observation::Up { latency: Duration::from_millis(5), facts: Some(Box::new(facts)), degraded: None }
    }

    fn standby_says(&self) -> Facts {
        let lag = match self.case.weather.down_since(self.now) {
            None => Some(self.true_lag(self.now)),
            Some(_) if self.case.standby_lies => Some(0),
            Some(_) => None,
        };
        let lag = lag.map(|lag| Lag { time: Duration::from_millis(lag), bytes: None });
        Facts { role: Some(Role::Replica), streaming: Some(lag.is_some()), lag, ..Facts::default() }
    }

    pub fn attempt_on_schedule(&mut self, probe: &ProbeName) {
        let wait = INTERVAL - 100 + self.rng.below(101);
        self.after(wait, What::Attempt(self.me, probe.clone()));
        self.attempt(probe);
    }

    fn is_silent(&self) -> bool {
        self.me == 0 && self.case.silence.is_some_and(|(from, to)| (from..to).contains(&self.now))
    }

    /// One attempt, which begins now.
    pub fn attempt(&mut self, probe: &ProbeName) {
        let node = &self.nodes[self.me];
        if node.brain.is_none() || node.frozen_until.is_some() {
            return;
        }
        if self.is_silent() {
            return self.trace.count("silence");
        }
        let mut observation = self.sees(probe.as_str());
        let mut wait =
            if observation.health() == Health::Up { self.rng.between(2, 60) } else { self.rng.between(2, 1_000) };
        let mut copies = 1;
        if self.rng.chance(self.faults.observation) {
            match self.rng.below(5) {
                0 => {
                    self.trace.count("observation dropped");
                    return;
                }
                1 => {
                    self.trace.count("observation late");
                    wait += self.rng.between(500, 9_000);
                }
                2 => {
                    self.trace.count("observation twice");
                    copies = 2;
                }
                3 => {
                    self.trace.count("observation unknown");
                    observation = Observation::unknown(CauseKind::LocalResource, "");
                }
                _ => {
                    self.trace.count("observation wrong");
                    observation = Observation::down(CauseKind::Timeout, "");
                }
            }
        }
        let (life, started) = (self.nodes[self.me].life, self.time().mono);
        for copy in 0..copies {
            let event = Event::Observed { probe: probe.clone(), started, observation: observation.clone() };
            self.after(wait + copy * 700, What::Deliver(life, Box::new(event)));
        }
    }

    /// A witness looks at everything and sends its votes.
    pub fn peer_looks(&mut self, index: usize) {
        let wait = INTERVAL - 50 + self.rng.below(101);
        self.after(wait, What::PeerLooks(index));
        if self.case.witness_falls && !self.case.weather.is_up(self.now) {
            return self.trace.count("a witness that fell with its region");
        }
        let partition = index == 0 && self.case.peer_cut_off.is_some_and(|(from, to)| (from..to).contains(&self.now));
        if partition {
            self.trace.count("partition of a witness");
        }
        for probe in PRIMARY.into_iter().chain([STANDBY]) {
            let up = probe == STANDBY || (self.case.is_up(probe, self.now) && !partition);
            let now = self.now;
            let state = &mut self.peers[index];
            let (bad, first_bad) = state.seen.entry(probe).or_default();
            (*bad, *first_bad) = if up { (0, None) } else { (*bad + 1, first_bad.or(Some(now))) };
            if *bad == 1 {
                continue;
            }
            let (health, first_bad) = if up { (Health::Up, None) } else { (Health::Down, *first_bad) };
            let (vantage, domain) = (state.peer.name, state.peer.domain);
            let is_lie = self.case.witness_lies && index == 0 && probe != STANDBY && self.rng.chance(200);
            let (health, first_bad) = if is_lie { (Health::Down, Some(now)) } else { (health, first_bad) };
            if is_lie {
                self.trace.count("a witness lied");
            }
            for node in 0..self.nodes.len() {
                self.me = node;
                let clock = self.nodes[node].clock;
                self.send_vote(Event::PeerVote {
                    vantage: vantage.into(),
                    domain: domain.into(),
                    probe: probe.into(),
                    health,
                    seen: clock.mono(now),
                    first_bad: first_bad.map(|at| clock.mono(at)),
                    degraded: false,
                    cause: None,
                });
            }
        }
    }

    fn send_vote(&mut self, vote: Event) {
        let life = self.nodes[self.me].life;
        let mut wait = self.rng.between(5, 200);
        if self.is_silent() {
            return;
        }
        if self.rng.chance(self.faults.observation) {
            match self.rng.below(3) {
                0 => {
                    self.trace.count("vote dropped");
                    return;
                }
                1 => {
                    self.trace.count("vote late");
                    wait += self.rng.between(500, 9_000);
                }
                _ => {
                    self.trace.count("vote twice");
                    self.after(wait + 900, What::Deliver(life, Box::new(vote.clone())));
                }
            }
        }
        self.after(wait, What::Deliver(life, Box::new(vote)));
    }
}
