//! The simulator: virtual time, one queue, and the real brain in the middle.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use failoverd::core::{Brain, Command, Effect, Event};
use failoverd::model::*;

use crate::check::{Checker, Truth};
use crate::mutation::Mutation;
use crate::peers::PeerState;
use crate::rng::Rng;
use crate::setup::{CHAOS, Case, Faults, INTERVAL, NARROW, PRIMARY};
use crate::trace::{Trace, Violation, ensure};
use crate::world::World;

/// 2026-01-05T00:00:00Z
const START: i64 = 1_767_571_200_000;
/// At the latest so long after the faults stopped everything has come to its end.
const CALM: u64 = 600_000;

/// What is to happen at a time.
#[derive(Debug)]
pub enum What {
    /// One of our own probes begins an attempt.
    Attempt(ProbeName),
    /// A peer looks at everything.
    PeerLooks(usize),
    /// Something is handed to the daemon of that life.
    Deliver(u64, Box<Event>),
    /// A target does what it was told in that life.
    Happens(u64, Box<StepCall>),
    /// The executor looks whether the change is seen, until then.
    Poll(u64, Box<StepCall>, u64),
    Operator,
    Stall,
    ClockJump,
    Reload,
    Doubt,
    Crash,
    Ending,
    /// The daemon of that life has ended.
    Gone(u64),
    Restart,
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
    pub check: Checker,
    pub world: World,
    pub faults: Faults,
    pub mutation: Mutation,
    /// In milliseconds.
    pub now: u64,
    pub life: u64,
    pub peers: Vec<PeerState>,
    pub durable: Vec<Record>,
    /// Changes that are on their way, by the life and the call that asked for them.
    pub on_their_way: BTreeMap<(u64, CallId), StepName>,
    pub cancelled: BTreeSet<(u64, CallId)>,
    pub brain: Option<Brain>,
    settings: Settings,
    said: BTreeMap<String, Health>,
    queue: BinaryHeap<Reverse<Item>>,
    number: u64,
    wall_shift: i64,
    first_intent: Option<u64>,
    /// The faults have stopped.
    calm: bool,
    /// After so many events the brain is written down, and another one made of it.
    pub revived_each: Option<u64>,
}

impl Sim {
    pub fn new(case: Case, mutation: Mutation, verbose: bool) -> Self {
        let mut sim = Self {
            rng: Rng::new(case.seed ^ 0xabcd),
            trace: Trace::new(verbose),
            check: Checker::new(case.settings.clone()),
            world: World::new(mutation == Mutation::WorldIgnoresEpochs),
            faults: case.faults,
            mutation,
            now: 1_000,
            life: 0,
            peers: case.peers.iter().map(|peer| PeerState::new(peer.clone())).collect(),
            durable: Vec::new(),
            on_their_way: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            brain: None,
            settings: case.settings.clone(),
            said: BTreeMap::new(),
            queue: BinaryHeap::new(),
            number: 0,
            wall_shift: 0,
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
        self.at(1_000, What::Restart);
        for probe in self.case.settings.probes.clone() {
            let at = 1_001 + self.rng.below(INTERVAL);
            self.at(at, What::Attempt(probe.name));
        }
        for peer in 0..self.peers.len() {
            let at = 1_001 + self.rng.below(INTERVAL);
            self.at(at, What::PeerLooks(peer));
        }
        let faults = self.faults;
        let kinds: [(u64, fn() -> What); 5] = [
            (faults.operator, || What::Operator),
            (faults.clock, || What::Stall),
            (faults.clock, || What::ClockJump),
            (faults.reload, || What::Reload),
            (faults.crash, || What::Crash),
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

    pub fn time(&self) -> Now {
        let wall = WallTime(START + self.now as i64 + self.wall_shift);
        Now { mono: mono(self.now), wall }
    }

    /// From the beginning to the end.
    pub fn run(&mut self) -> Result<(), Violation> {
        while self.step()? {}
        self.check.at_the_end(&self.durable)?;
        self.at_the_end()
    }

    fn step(&mut self) -> Result<bool, Violation> {
        let wake = self.brain.as_ref().and_then(Brain::next_wake).map(|at| at.0.div_ceil(1_000_000).max(self.now));
        let next = self.queue.peek().map_or(u64::MAX, |item| item.0.at);
        self.now = next.min(wake.unwrap_or(u64::MAX)).max(self.now);
        if !self.calm && self.now >= CHAOS {
            self.calm_down()?;
        }
        if self.calm && self.is_over() {
            return Ok(false);
        }
        if wake.is_some_and(|wake| wake < next) {
            self.feed(Event::Tick)?;
        } else if let Some(Reverse(item)) = self.queue.pop() {
            self.happen(item.what)?;
        }
        Ok(true)
    }

    fn happen(&mut self, what: What) -> Result<(), Violation> {
        match what {
            What::Attempt(probe) => self.attempt_on_schedule(&probe),
            What::PeerLooks(peer) => self.peer_looks(peer),
            What::Deliver(life, event) => {
                if life == self.life {
                    return self.feed(*event);
                }
                self.trace.count("answer after a crash");
            }
            What::Happens(life, call) => return self.happens(life, &call),
            What::Poll(life, call, until) => self.poll(life, call, until),
            // A stall may have carried what was still to come beyond the end of the faults.
            What::Operator | What::Stall | What::ClockJump | What::Reload | What::Doubt | What::Crash if self.calm => {}
            What::Operator => return self.operator(),
            What::Stall => {
                let by = self.rng.between(1_000, 20_000);
                self.trace.count("stall");
                self.now += by;
                return self.feed(Event::Stalled { by: Duration::from_millis(by) });
            }
            What::ClockJump => {
                let by = self.rng.between(1_000, 4_000_000) as i64;
                let by = if self.rng.chance(500) { by } else { -by };
                self.wall_shift += by;
                self.trace.count("clock jump");
                return self.feed(Event::Stalled { by: Duration::from_millis(by.unsigned_abs()) });
            }
            What::Reload => {
                self.trace.count("reload");
                std::mem::swap(&mut self.settings, &mut self.case.other);
                return self.feed(Event::Reload(Box::new(self.settings.clone())));
            }
            What::Doubt => {
                self.trace.count("doubt");
                return self.feed(Event::StateInDoubt { what: "fsync failed".into() });
            }
            What::Crash => self.crash("crash between events"),
            What::Ending => return self.end(),
            What::Gone(life) if life == self.life => self.crash("ended"),
            What::Gone(_) => {}
            What::Restart => return self.restart(),
            What::Reset if self.check.shadow.active_run().is_none() => self.world.is_reset(),
            What::Reset => {}
        }
        Ok(())
    }

    /// An event in one line; nothing for a health that is as it was.
    fn brief(&mut self, event: &Event) -> String {
        let (who, health, began) = match event {
            Event::Observed { probe, started, observation } => (probe.to_string(), observation.health(), started),
            Event::PeerVote { vantage, probe, health, seen, .. } => (format!("{vantage}: {probe}"), *health, seen),
            other => return format!("{other:?}"),
        };
        if self.said.insert(who.clone(), health) == Some(health) {
            return String::new();
        }
        format!("{who} is {health}, began {:.3}", began.0 as f64 / 1e9)
    }

    /// Hands an event to the brain, and does what it wants.
    pub fn feed(&mut self, event: Event) -> Result<(), Violation> {
        let now = self.time();
        if self.brain.is_none() {
            return Ok(());
        }
        let words = if self.trace.verbose { self.brief(&event) } else { String::new() };
        self.trace.note(self.now, kind(&event), || words);
        self.check.event(now, &event);
        let looking = matches!(&event, Event::Observed { probe, .. } if PRIMARY.contains(&probe.as_str()))
            && self.check.shadow.active_run().is_some();
        let Some(event) = self.mutation.event(event, looking) else { return Ok(()) };
        let Some(brain) = &mut self.brain else { return Ok(()) };
        let effects = brain.handle(now, event);
        if self.revived_each.is_some_and(|each| self.trace.events.is_multiple_of(each)) {
            self.revive(&effects);
        }
        self.carry_out(effects)
    }

    /// The brain goes by way of a checkpoint, as a replay takes it up.
    fn revive(&mut self, effects: &[Effect]) {
        let (now, Some(brain)) = (self.time(), self.brain.take()) else { return };
        let json = serde_json::to_vec(&brain.checkpoint(now, "sim")).expect("it has JSON");
        let mut records = self.durable.clone();
        for effect in effects {
            if let Effect::Journal(new) = effect {
                records.extend(new.iter().cloned());
            }
        }
        let checkpoint = serde_json::from_slice(&json).expect("it is read again");
        self.brain = Some(Brain::restore(checkpoint, &records).expect("the journal follows"));
    }

    fn carry_out(&mut self, mut effects: Vec<Effect>) -> Result<(), Violation> {
        let mut written = false;
        self.mutation.effects(&mut effects);
        for effect in effects {
            let outside = matches!(effect, Effect::Journal(_) | Effect::Call(_));
            if outside && self.now < CHAOS && self.rng.chance(self.faults.crash / 4) {
                self.crash("crash between effects");
                return Ok(());
            }
            written |= matches!(effect, Effect::Journal(_));
            self.carry_out_one(effect)?;
        }
        match &self.brain {
            Some(brain) if written => self.check.quiet(brain.ledger()),
            _ => Ok(()),
        }
    }

    fn carry_out_one(&mut self, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Journal(records) => {
                for record in records {
                    self.trace.note(self.now, "journal", || format!("{:?}", record.entry));
                    self.count_record(&record);
                    let truth = self.truth();
                    self.check.record(self.time(), &record, truth)?;
                    self.durable.push(record);
                }
            }
            Effect::Call(call) => {
                self.trace.note(self.now, "call", || {
                    format!("{:?} {} attempt {} epoch {}", call.phase, call.step, call.attempt, call.epoch)
                });
                self.check.call(self.time(), &call)?;
                self.call(call);
            }
            Effect::Notify(notice) => {
                self.trace.note(self.now, "notice", || notice.subject.clone());
                self.check.notice(&notice);
            }
            Effect::ProbeNow(probe) => self.attempt(&probe),
            Effect::Cancel(call) => self.trace.note(self.now, "cancel", || format!("{call:?}")),
            Effect::Pace { .. } | Effect::Reply(_) | Effect::HandOver { .. } => {}
        }
        Ok(())
    }

    fn truth(&self) -> Truth {
        let down_since = self.case.weather.down_since(self.now);
        let loss = Duration::from_millis(down_since.map_or(0, |at| self.true_loss(at)));
        Truth { down_since: down_since.map(mono), loss }
    }

    pub fn crash(&mut self, how: &'static str) {
        if self.brain.take().is_none() {
            return;
        }
        self.trace.count(how);
        self.trace.note(self.now, how, || format!("at record {}", self.durable.len()));
        self.life += 1;
        self.check.died();
        for (key, _) in std::mem::take(&mut self.on_their_way) {
            // The request may have left before the daemon died, or not.
            if self.rng.chance(500) {
                self.cancelled.insert(key);
            }
        }
        if self.mutation == Mutation::ShortJournal {
            self.durable.truncate(self.durable.len().saturating_sub(3));
        }
        let wait = self.rng.between(100, 15_000);
        self.after(wait, What::Restart);
    }

    /// The daemon is told to end, brings home what is out, and is gone.
    fn end(&mut self) -> Result<(), Violation> {
        if self.brain.is_none() {
            return Ok(());
        }
        self.trace.count("ending");
        let life = self.life;
        self.feed(Event::Ending)?;
        if life == self.life {
            let wait = self.rng.between(500, 10_000);
            self.after(wait, What::Gone(life));
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Violation> {
        let now = self.time();
        let settings = self.mutation.settings(self.settings.clone());
        let brain = Brain::new(settings, &self.durable, now);
        let mut brain = brain.map_err(|illegal| Violation::new("S12", illegal.to_string()))?;
        self.trace.note(self.now, "begin", || format!("life {} from record {}", self.life, self.durable.len()));
        self.check.begins(now);
        if self.case.synchronous_until.is_some() {
            self.trace.count("commits wait");
        }
        let effects = brain.begin(now, "sim");
        self.brain = Some(brain);
        self.carry_out(effects)?;
        self.end_pause()
    }

    /// The faults stop, and somebody ends the pause.
    fn calm_down(&mut self) -> Result<(), Violation> {
        self.calm = true;
        self.faults = Faults::default();
        self.trace.note(self.now, "calm", || "the faults stop".into());
        self.end_pause()
    }

    fn end_pause(&mut self) -> Result<(), Violation> {
        if self.now >= CHAOS && self.brain.is_some() && self.check.shadow.paused.is_some() {
            self.command("ann", Command::Resume)?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let run = self.check.shadow.active_run();
        let settled = run.is_none_or(|run| self.check.doubt_paged || self.check.is_stuck_and_paged(run));
        let resumed = self.brain.is_some() && !self.check.ending && self.check.shadow.paused.is_none();
        (settled && resumed && self.now >= CHAOS + 5_000) || self.now >= CHAOS + CALM
    }

    /// A real outage, a healthy quorum and no faults: the first change comes within the budget (L1).
    fn at_the_end(&mut self) -> Result<(), Violation> {
        let crate::setup::Weather::Outage(from, _) = self.case.weather else { return Ok(()) };
        if !self.case.must_fail_over() {
            return Ok(());
        }
        self.trace.count("quiet outage acted upon");
        let scenario = self.case.meant();
        let needs = failoverd::core::plan::recovery_budget(&self.case.settings, scenario).unwrap();
        // One look more: the probes of the last look may hang until their timeout.
        let waits = needs.confirmation.max(needs.grace) + needs.correlation;
        let budget = needs.detection + waits + Duration::from_millis(2_500);
        let latest = from + budget.as_millis() as u64;
        ensure(self.first_intent.is_some_and(|at| at <= latest), "L1", || {
            format!(
                "the outage began at {from}, the first change came at {:?}, expected by {latest}",
                self.first_intent
            )
        })
    }

    fn count_record(&mut self, record: &Record) {
        let what = match &record.entry {
            Entry::RunStarted { trigger: Trigger::Automatic, scenario, .. } if scenario.as_str() == NARROW => {
                "run: narrow"
            }
            Entry::RunStarted { trigger: Trigger::Automatic, .. } => "run: automatic",
            Entry::RunStarted { trigger: Trigger::Approved { without_quorum: Some(_), .. }, .. } => {
                "run: approved without a quorum"
            }
            Entry::RunStarted { trigger: Trigger::Approved { .. }, .. } => "run: approved",
            Entry::RunStarted { trigger: Trigger::NoAnswer, .. } => "run: no answer",
            Entry::RunStarted { trigger: Trigger::Manual { .. }, .. } => "run: manual",
            Entry::Decided { decision: Decision::Hold(HoldReason::Flapping { .. }), .. } => "held for flapping",
            Entry::Decided { decision: Decision::Hold(HoldReason::NoQuorum { .. }), .. } => "held for want of a quorum",
            Entry::RunEnded { result: RunResult::Done, .. } => "run done",
            Entry::RunEnded { result: RunResult::Aborted, .. } => "run aborted",
            Entry::RunAborting { compensate: false, .. } => "last look in vain",
            Entry::Decided { decision: Decision::Hold(HoldReason::ExplainedBy { .. }), .. } => "held: explained",
            Entry::Decided { decision: Decision::Hold(HoldReason::Correlating { .. }), .. } => "held: correlating",
            Entry::Decided { decision: Decision::Hold(HoldReason::LowerLayersFirst { .. }), .. } => {
                "held: lower layers"
            }
            Entry::ExtentSeen { .. } => "extent grew",
            Entry::StepParked { .. } => "step parked",
            Entry::ReplicationSeen { .. } => "replication seen anew",
            Entry::CompensationEnded { .. } => "step undone",
            Entry::StepIntent { step, .. } => {
                if step.as_str() != "tell" {
                    self.first_intent.get_or_insert(self.now);
                }
                return;
            }
            _ => return,
        };
        self.trace.count(what);
    }
}

pub fn mono(milliseconds: u64) -> MonoTime {
    MonoTime(milliseconds * 1_000_000)
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Observed { .. } => "observed",
        Event::PeerVote { .. } => "vote",
        Event::Ballot { .. } => "ballot",
        Event::Tick => "tick",
        Event::Outcome { .. } => "outcome",
        Event::Command { .. } => "command",
        Event::Stalled { .. } => "stalled",
        Event::Reload(_) => "reload",
        Event::StateInDoubt { .. } => "doubt",
        Event::Refused { .. } => "refused",
        Event::Ending => "ending",
    }
}
