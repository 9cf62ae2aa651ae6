//! The simulator: virtual time, one queue, and the real brains in the middle.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use failoverd::core::ledger::Ledger;
use failoverd::core::{Command, Event};
use failoverd::model::*;

use crate::mutation::Mutation;
use crate::node::{Clock, Node};
use crate::peers::PeerState;
use crate::rng::Rng;
use crate::setup::{CHAOS, Case, Faults, INTERVAL};
use crate::store::{Request, Said, Store};
use crate::trace::{Trace, Violation, ensure};
use crate::world::World;

/// At the latest so long after the faults stopped everything has come to its end.
const CALM: u64 = 600_000;
/// And so soon somebody leads.
const LED: u64 = 30_000;

/// What is to happen at a time. What is of a life happens to nobody where that life is over.
#[derive(Debug)]
pub enum What {
    /// A probe of that daemon begins an attempt.
    Attempt(usize, ProbeName),
    /// A peer looks at everything.
    PeerLooks(usize),
    /// Something is handed to the daemon of that life.
    Deliver(u64, Box<Event>),
    /// A change is about to leave the daemon of that life.
    Leave(u64, Box<StepCall>),
    /// A target does what it was told in that life, and in that term.
    Happens(u64, Box<StepCall>, Term),
    /// The executor looks whether the change is seen, until then.
    Poll(u64, Box<StepCall>, u64),
    /// One of several looks after its lease.
    Beat(u64),
    /// Something arrives at the store.
    Request(Box<Request>),
    /// And the answer to it at the daemon of that life.
    Response(u64, u64, Box<Said>),
    Operator,
    Stall,
    ClockJump,
    Freeze,
    /// A daemon that stood still goes on; for so long it stood.
    Thaw(usize, u64),
    Reload,
    Doubt,
    Crash,
    LeaderDies,
    Ending,
    /// The daemon of that life has ended.
    Gone(u64),
    Restart(usize),
    Reset,
}

#[derive(Debug)]
struct Item {
    at: u64,
    number: u64,
    what: What,
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Item {}
impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Item {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

pub struct Sim {
    pub case: Case,
    pub rng: Rng,
    pub trace: Trace,
    pub world: World,
    pub faults: Faults,
    pub mutation: Mutation,
    /// In milliseconds.
    pub now: u64,
    /// One daemon, or those that share a store.
    pub nodes: Vec<Node>,
    /// The one that something happens to now.
    pub me: usize,
    pub lives: u64,
    pub peers: Vec<PeerState>,
    pub store: Store,
    pub requests: u64,
    /// The journal.
    pub durable: Vec<Record>,
    /// What it comes to.
    pub ledger: Ledger,
    /// Changes that are on their way, by the life and the call that asked for them.
    pub on_their_way: BTreeMap<(u64, CallId), StepName>,
    pub cancelled: BTreeSet<(u64, CallId)>,
    queue: BinaryHeap<Reverse<Item>>,
    number: u64,
    pub first_intent: Option<u64>,
    /// The faults have stopped.
    pub calm: bool,
    /// After so many events the brain is written down, and another one made of it.
    pub revived_each: Option<u64>,
}

impl Sim {
    pub fn new(case: Case, mutation: Mutation, verbose: bool) -> Self {
        let names = ["here", "there", "yonder"];
        let clock = |index: usize| Clock { rate: case.rates[index], ahead: index as u64 * 12_345, set: 0 };
        let nodes = (0..case.members).map(|i| Node::new(names[i], clock(i), &case.settings, &case.other)).collect();
        let mut sim = Self {
            rng: Rng::new(case.seed ^ 0xabcd),
            trace: Trace::new(verbose),
            world: World::new(mutation == Mutation::WorldIgnoresEpochs, case.forgetful.clone()),
            faults: case.faults,
            mutation,
            now: 1_000,
            nodes,
            me: 0,
            lives: 0,
            peers: case.peers.iter().map(|peer| PeerState::new(peer.clone())).collect(),
            store: Store::default(),
            requests: 0,
            durable: Vec::new(),
            ledger: Ledger::default(),
            on_their_way: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            queue: BinaryHeap::new(),
            number: 0,
            first_intent: None,
            calm: false,
            revived_each: None,
            case,
        };
        sim.plan_ahead();
        sim
    }

    /// What will happen whatever the brain does.
    fn plan_ahead(&mut self) {
        for node in 0..self.nodes.len() {
            self.at(1_000 + 50 * node as u64, What::Restart(node));
            for probe in self.case.settings.probes.clone() {
                let at = 1_001 + self.rng.below(INTERVAL);
                self.at(at, What::Attempt(node, probe.name));
            }
        }
        for peer in 0..self.peers.len() {
            let at = 1_001 + self.rng.below(INTERVAL);
            self.at(at, What::PeerLooks(peer));
        }
        let faults = self.faults;
        let kinds: [(u64, fn() -> What); 6] = [
            (faults.operator, || What::Operator),
            (faults.clock, || What::Stall),
            (faults.clock, || What::ClockJump),
            (faults.reload, || What::Reload),
            (faults.crash, || What::Crash),
            (faults.freeze, || What::Freeze),
        ];
        for (per_mille, what) in kinds.into_iter().filter(|(per_mille, _)| *per_mille > 0) {
            let mean = 3_000 + 300_000 / per_mille;
            let mut at = 4_000 + self.rng.below(mean);
            while at < CHAOS {
                self.at(at, what());
                at += self.rng.between(500, 2 * mean);
            }
        }
        if let Some(at) = self.case.doubt {
            self.at(at, What::Doubt);
        }
        if let Some(at) = self.case.ending {
            self.at(at, What::Ending);
        }
        if let Some(at) = self.case.leader_dies {
            self.at(at, What::LeaderDies);
        }
        if let crate::setup::Weather::Outage(_, to) = self.case.weather {
            self.at(to.min(CHAOS + CALM * 2).saturating_add(3_000), What::Reset);
        }
    }

    pub fn at(&mut self, at: u64, what: What) {
        self.number += 1;
        self.queue.push(Reverse(Item { at, number: self.number, what }));
    }

    pub fn after(&mut self, wait: u64, what: What) {
        self.at(self.now + wait, what);
    }

    /// The time on the clocks of the daemon that something happens to.
    pub fn time(&self) -> Now {
        self.nodes[self.me].clock.now(self.now)
    }

    /// From the beginning to the end.
    pub fn run(&mut self) -> Result<(), Violation> {
        while self.step()? {
            self.check_leaders()?;
        }
        self.replays_to_one_state()?;
        self.has_come_to_an_end()?;
        self.acted_in_time()
    }

    /// Who wants to be woken first, and when.
    fn first_wake(&self) -> Option<(u64, usize)> {
        let wake = |(index, node): (usize, &Node)| {
            let at = node.clock.world(node.brain.as_ref()?.next_wake()?);
            Some((at.max(self.now).max(node.frozen_until.unwrap_or(0)), index))
        };
        self.nodes.iter().enumerate().filter_map(wake).min()
    }

    fn step(&mut self) -> Result<bool, Violation> {
        let wake = self.first_wake();
        let next = self.queue.peek().map_or(u64::MAX, |item| item.0.at);
        self.now = next.min(wake.map_or(u64::MAX, |(at, _)| at)).max(self.now);
        if !self.calm && self.now >= CHAOS {
            self.calm_down()?;
        }
        if self.calm && self.is_over() {
            return Ok(false);
        }
        if let Some((_, node)) = wake.filter(|(wake, _)| *wake < next) {
            self.me = node;
            self.feed(Event::Tick)?;
        } else if let Some(Reverse(item)) = self.queue.pop() {
            self.happen(item.what)?;
        }
        Ok(true)
    }

    /// The daemon of that life is the one that something happens to now; `false` where it is no more.
    fn turns_to(&mut self, life: u64) -> bool {
        let node = self.nodes.iter().position(|node| node.life == life);
        node.inspect(|node| self.me = *node).is_some()
    }

    fn happen(&mut self, what: What) -> Result<(), Violation> {
        match what {
            What::Deliver(life, _)
            | What::Leave(life, _)
            | What::Poll(life, ..)
            | What::Beat(life)
            | What::Response(life, ..)
            | What::Gone(life) => {
                if !self.turns_to(life) {
                    if matches!(what, What::Deliver(..)) {
                        self.trace.count("answer after a crash");
                    }
                    return Ok(());
                }
                match self.nodes[self.me].frozen_until {
                    Some(until) => self.at(until, what),
                    None => return self.happens_to_one(what),
                }
            }
            What::Attempt(node, probe) => {
                self.me = node;
                self.attempt_on_schedule(&probe);
            }
            What::PeerLooks(peer) => self.peer_looks(peer),
            What::Happens(life, call, term) => return self.happens(life, &call, term),
            What::Request(request) => return self.arrives(&request),
            What::Thaw(node, stood) => return self.thaw(node, stood),
            What::Restart(node) => {
                self.me = node;
                return self.restart();
            }
            What::Reset if self.ledger.active_run().is_none() => self.world.is_reset(),
            What::Reset => {}
            // A stall may have carried what was still to come beyond the end of the faults.
            _ if self.calm => {}
            fault => return self.fault(fault),
        }
        Ok(())
    }

    fn happens_to_one(&mut self, what: What) -> Result<(), Violation> {
        match what {
            What::Deliver(_, event) => self.feed(*event),
            What::Leave(_, call) => self.leave(call),
            What::Poll(life, call, until) => {
                self.poll(life, call, until);
                Ok(())
            }
            What::Beat(life) => self.beat(life),
            What::Response(_, number, said) => self.hears(number, *said),
            _ => {
                self.resign();
                self.crash("ended");
                Ok(())
            }
        }
    }

    /// Something goes wrong, with one of them.
    fn fault(&mut self, what: What) -> Result<(), Violation> {
        let any = self.rng.below(self.nodes.len() as u64) as usize;
        let leader = self.nodes.iter().position(Node::decides);
        // It is worst for whoever decides.
        self.me = leader.filter(|_| self.rng.chance(600)).unwrap_or(any);
        match what {
            What::Operator => return self.operator(),
            What::LeaderDies if leader.is_some() => {
                self.me = leader.unwrap_or(any);
                self.crash("the leader died");
                return Ok(());
            }
            What::Crash => self.crash("crash between events"),
            _ if self.nodes[self.me].frozen_until.is_some() => {}
            What::Stall if self.nodes.len() == 1 => {
                let by = self.rng.between(1_000, 20_000);
                self.trace.count("stall");
                self.now += by;
                return self.feed(Event::Stalled { by: Duration::from_millis(by) });
            }
            What::Stall | What::Freeze => drop(self.freeze("frozen")),
            What::ClockJump => {
                let by = self.rng.between(1_000, 4_000_000) as i64;
                let by = if self.rng.chance(500) { by } else { -by };
                self.nodes[self.me].clock.set += by;
                self.trace.count("clock jump");
                return self.feed(Event::Stalled { by: Duration::from_millis(by.unsigned_abs()) });
            }
            What::Reload => {
                self.trace.count("reload");
                let node = &mut self.nodes[self.me];
                std::mem::swap(&mut node.settings, &mut node.other);
                let settings = node.settings.clone();
                return self.feed(Event::Reload(Box::new(settings)));
            }
            What::Doubt => {
                self.trace.count("doubt");
                return self.feed(Event::StateInDoubt { what: "fsync failed".into() });
            }
            What::Ending => return self.end(),
            _ => {}
        }
        Ok(())
    }

    /// The faults stop, and somebody ends the pause.
    fn calm_down(&mut self) -> Result<(), Violation> {
        self.calm = true;
        self.faults = Faults::default();
        self.trace.note(self.now, "calm", || "the faults stop".into());
        self.end_pause()
    }

    /// Once the faults have stopped somebody ends the pause, wherever it can be ended.
    pub fn end_pause(&mut self) -> Result<(), Violation> {
        let leads = |node: &Node| node.decides() && node.frozen_until.is_none();
        let Some(leader) = self.nodes.iter().position(leads) else { return Ok(()) };
        if self.now >= CHAOS && self.nodes[leader].check.shadow.paused.is_some() {
            self.me = leader;
            self.command("ann", Command::Resume)?;
        }
        Ok(())
    }

    /// Was anybody paged for what waits in this run?
    fn is_settled(&self, run: &failoverd::core::run_ledger::RunLedger) -> bool {
        let doubt = self.nodes.iter().any(|node| node.decides() && node.check.doubt_paged);
        let paged = self.nodes.iter().any(|node| node.check.parked.contains(&run.id));
        doubt || (paged && crate::check::Checker::is_stuck(run))
    }

    fn is_over(&self) -> bool {
        let settled = self.ledger.active_run().is_none_or(|run| self.is_settled(run));
        let leads = self.nodes.iter().any(|node| node.decides() && !node.check.ending);
        (settled && leads && self.ledger.paused.is_none() && self.now >= CHAOS + LED) || self.now >= CHAOS + CALM
    }

    /// S12: one state, byte for byte.
    fn replays_to_one_state(&self) -> Result<(), Violation> {
        let replayed = Ledger::replay(&self.durable).map_err(|illegal| Violation::new("S12", illegal.to_string()))?;
        ensure(replayed == self.ledger, "S12", || "another state after a replay".into())?;
        let bytes = serde_json::to_vec(&replayed).unwrap();
        let read: Ledger = serde_json::from_slice(&bytes).map_err(|error| Violation::new("S12", error.to_string()))?;
        ensure(serde_json::to_vec(&read).unwrap() == bytes, "S12", || "another state after it was written".into())
    }

    /// L2: each run ended, or waits and somebody was paged; and somebody decides.
    fn has_come_to_an_end(&self) -> Result<(), Violation> {
        ensure(self.nodes.iter().any(Node::decides), "L2", || "nobody leads".into())?;
        for run in self.ledger.runs.values() {
            // One that has just begun, and has changed nothing, may be known to nobody yet.
            let mut pinned = self.nodes.iter().filter_map(|node| node.check.plans.get(&run.id)).peekable();
            let is_as_pinned =
                (pinned.peek().is_none() && run.intended.is_empty()) || pinned.any(|plan| *plan == run.plan);
            ensure(is_as_pinned, "S9", || format!("the plan of {} changed", run.id))?;
            ensure(run.ended.is_some() || self.is_settled(run), "L2", || {
                format!("{} neither ended nor waits: {:?}", run.id, run.steps)
            })?;
        }
        Ok(())
    }

    /// A real outage, a healthy quorum and no faults: the first change comes within the budget (L1).
    fn acted_in_time(&mut self) -> Result<(), Violation> {
        let crate::setup::Weather::Outage(from, _) = self.case.weather else { return Ok(()) };
        if !self.case.must_fail_over() {
            return Ok(());
        }
        self.trace.count("quiet outage acted upon");
        let scenario = self.case.meant();
        let needs = failoverd::core::plan::recovery_budget(&self.case.settings, scenario).unwrap();
        // One look more: the probes of the last look may hang until their timeout.
        let waits = needs.confirmation.max(needs.grace) + needs.correlation;
        let mut latest = from + (needs.detection + waits + Duration::from_millis(2_500)).as_millis() as u64;
        if let Some(died) = self.case.leader_dies {
            // The lease runs out, and what the next one has seen meanwhile counts.
            latest = latest
                .max(died + crate::store::TTL + 5_000 + self.case.settings.startup_grace.get().as_millis() as u64);
        }
        ensure(self.first_intent.is_some_and(|at| at <= latest), "L1", || {
            format!(
                "the outage began at {from}, the first change came at {:?}, expected by {latest}",
                self.first_intent
            )
        })
    }
}
