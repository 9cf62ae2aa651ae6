//! The desk that a brain is tested on: virtual time, probes that see what a test says, targets that
//! take what they are told unless a test says otherwise, and a journal in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use failoverd::core::ledger::Ledger;
use failoverd::core::run_ledger::{RunLedger, StepState};
use failoverd::core::{Answer, Brain, Command, Effect, Event, Refusal, Resigned};
use failoverd::model::*;

use crate::settings::*;

/// What a target does with a call.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This, and nothing happens.
    Say(CallOutcome),
    /// It happens, and then this.
    DoAndSay(CallOutcome),
    /// Nothing ever comes back.
    Silence,
}

pub struct Desk {
    pub brain: Brain,
    pub now: Now,
    pub durable: Vec<Record>,
    pub notices: Vec<Notice>,
    pub effects: Vec<Effect>,
    /// Every call that was made, in order.
    pub calls: Vec<StepCall>,
    /// The steps whose change stands.
    pub done: BTreeSet<StepName>,
    /// Does `Effect::ProbeNow` lead to an attempt?
    pub answers_now: bool,
    /// How far the wall clock was set forward, in milliseconds.
    pub clock_set: i64,
    under_way: VecDeque<Effect>,
    bad_since: BTreeMap<(VantageId, ProbeName), MonoTime>,
    busy: bool,
    sees: BTreeMap<ProbeName, Observation>,
    script: BTreeMap<(StepName, Phase), VecDeque<Reply>>,
    settings: Settings,
}

/// 2026-01-05T00:00:00Z
const START: i64 = 1_767_571_200_000;

impl Desk {
    /// A daemon that has just begun; everything is up, and the standby is 100 ms behind.
    pub fn new(settings: Settings) -> Self {
        let now = Now { mono: MonoTime(1_000_000_000), wall: WallTime(START) };
        let brain = Brain::new(settings.clone(), &[], now).unwrap();
        let sees = settings.probes.iter().map(|probe| (probe.name.clone(), up())).collect();
        let mut desk = Self {
            brain,
            now,
            durable: Vec::new(),
            notices: Vec::new(),
            effects: Vec::new(),
            calls: Vec::new(),
            done: BTreeSet::new(),
            answers_now: true,
            clock_set: 0,
            under_way: VecDeque::new(),
            bad_since: BTreeMap::new(),
            busy: false,
            sees,
            script: BTreeMap::new(),
            settings,
        };
        desk.see("standby", lagging(Duration::from_millis(100)));
        let effects = desk.brain.begin(now, "test");
        desk.carry_out(effects);
        desk
    }

    /// One of several that does not lead.
    pub fn following(settings: Settings) -> Self {
        let mut desk = Self::new(settings.clone());
        desk.brain = Brain::new(settings, &[], desk.now).unwrap();
        desk.durable.clear();
        desk.effects.clear();
        desk.notices.clear();
        desk.brain.join();
        let effects = desk.brain.begin(desk.now, "test");
        desk.carry_out(effects);
        desk
    }

    /// It leads no more; what is durable ends at record `kept`.
    pub fn step_down(&mut self, kept: usize) {
        self.durable.truncate(kept);
        let ledger = Ledger::replay(&self.durable).unwrap();
        let effects =
            self.brain.step_down(self.now, ledger, &Resigned::Lost { why: "the lease was not renewed in time".into() });
        self.under_way.clear();
        self.carry_out(effects);
    }

    /// The records of another leader have come.
    pub fn replicate(&mut self, records: &[Record]) {
        self.durable.extend(records.iter().cloned());
        self.event(Event::Replicated { records: records.to_vec() });
    }

    /// The same, after twenty quiet seconds.
    pub fn settled(settings: Settings) -> Self {
        let mut desk = Self::new(settings);
        desk.run_for(20);
        desk
    }

    /// The same, with the region down for so long.
    pub fn in_outage(settings: Settings, seconds: u64) -> Self {
        let mut desk = Self::settled(settings);
        desk.outage();
        desk.run_for(seconds);
        desk
    }

    /// The daemon ends and comes back with what is durable; or with the first `records` of it.
    pub fn restart(&mut self, records: usize) {
        self.durable.truncate(records);
        self.brain = Brain::new(self.settings.clone(), &self.durable, self.now).unwrap();
        let effects = self.brain.begin(self.now, "test");
        self.carry_out(effects);
    }

    /// The configuration of the next life has none.
    pub fn forget_scenarios(&mut self) {
        self.settings.scenarios.clear();
    }

    pub fn see(&mut self, probe: &str, observation: Observation) {
        self.sees.insert(probe.into(), observation);
    }

    /// The primary region is gone; the standby has nobody to follow.
    pub fn outage(&mut self) {
        for probe in ["api", "db", "cache"] {
            self.see(probe, bad());
        }
        self.see("standby", cut_off());
    }

    pub fn recovery(&mut self) {
        for probe in ["api", "db", "cache"] {
            self.see(probe, up());
        }
        self.see("standby", lagging(Duration::ZERO));
    }

    /// What the target of a step answers next, before it answers as usual again.
    pub fn answer(&mut self, step: &str, phase: Phase, replies: impl IntoIterator<Item = Reply>) {
        self.script.entry((step.into(), phase)).or_default().extend(replies);
    }

    /// Always the same answer.
    pub fn answer_always(&mut self, step: &str, phase: Phase, reply: &Reply) {
        self.answer(step, phase, std::iter::repeat_n(reply.clone(), 200));
    }

    pub fn as_usual(&mut self, step: &str, phase: Phase) {
        self.script.remove(&(step.into(), phase));
    }

    /// Lets time pass: every probe looks once a second, and the brain is woken when it asks for it.
    pub fn run_for(&mut self, seconds: u64) {
        let end = self.now.mono + Duration::from_secs(seconds);
        while self.now.mono < end {
            self.go_on();
        }
    }

    /// To the next second with its round of probes, or to what the brain wants to be woken for.
    pub fn go_on(&mut self) {
        let second = MonoTime((self.now.mono.0 / 1_000_000_000 + 1) * 1_000_000_000);
        match self.brain.next_wake().filter(|wake| *wake < second && *wake > self.now.mono) {
            Some(wake) => {
                self.move_to(wake);
                self.event(Event::Tick);
            }
            None => {
                self.move_to(second);
                // Attempts end a little after they began; what was under way is no answer to a
                // question that arises now.
                let started = self.now.mono.minus(Duration::from_millis(5));
                for probe in self.settings.probes.clone() {
                    self.attempt(&probe.name, started);
                }
                if self.brain.next_wake().is_some_and(|wake| wake <= self.now.mono) {
                    self.event(Event::Tick);
                }
            }
        }
    }

    fn attempt(&mut self, probe: &ProbeName, started: MonoTime) {
        let observation = self.sees[probe].clone();
        self.event(Event::Observed { probe: probe.clone(), started, observation });
    }

    pub fn vote(&mut self, vantage: &str, domain: &str, probe: &str, health: Health) {
        let key = (VantageId::from(vantage), ProbeName::from(probe));
        let first_bad = match health {
            Health::Down => Some(*self.bad_since.entry(key).or_insert(self.now.mono)),
            Health::Up | Health::Unknown => {
                self.bad_since.remove(&key);
                None
            }
        };
        self.event(Event::PeerVote {
            vantage: vantage.into(),
            domain: domain.into(),
            probe: probe.into(),
            health,
            seen: self.now.mono,
            first_bad,
            degraded: false,
            cause: None,
        });
    }

    pub fn move_to(&mut self, mono: MonoTime) {
        let by = mono.since(self.now.mono);
        self.now.mono = mono;
        self.now.wall = WallTime(START + (mono.0 / 1_000_000) as i64 - 1000 + self.clock_set);
        assert!(by < Duration::from_secs(1000), "a jump by {by:?}");
    }

    pub fn event(&mut self, event: Event) {
        let effects = self.brain.handle(self.now, event);
        self.carry_out(effects);
    }

    pub fn reload(&mut self, settings: Settings) {
        for probe in &settings.probes {
            self.sees.entry(probe.name.clone()).or_insert_with(up);
        }
        self.settings = settings.clone();
        self.event(Event::Reload(Box::new(settings)));
    }

    pub fn command(&mut self, command: Command) -> Result<Answer, Refusal> {
        self.command_of("ann", command)
    }

    pub fn command_of(&mut self, by: &str, command: Command) -> Result<Answer, Refusal> {
        let effects = self.brain.handle(self.now, Event::Command { by: by.into(), command });
        let reply = effects.iter().find_map(|effect| match effect {
            Effect::Reply(reply) => Some(reply.clone()),
            _ => None,
        });
        self.carry_out(effects);
        reply.expect("a reply to every command")
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.effects.push(effect.clone());
            match effect {
                Effect::Journal(records) => self.durable.extend(records),
                Effect::Notify(notice) => self.notices.push(notice),
                Effect::ProbeNow(_) | Effect::Call(_) => self.under_way.push_back(effect),
                Effect::Cancel(_) | Effect::Pace { .. } | Effect::Reply(_) | Effect::HandOver { .. } => {}
            }
        }
        assert_eq!(self.durable.len() as u64, self.brain.ledger().seq, "a record that was not handed out");
        if std::mem::replace(&mut self.busy, true) {
            return;
        }
        while let Some(effect) = self.under_way.pop_front() {
            match effect {
                Effect::Call(call) => self.carry_out_call(*call),
                Effect::ProbeNow(probe) if self.answers_now => {
                    let started = self.now.mono;
                    self.move_to(started + Duration::from_millis(1));
                    self.attempt(&probe, started);
                }
                _ => {}
            }
        }
        self.busy = false;
    }

    fn carry_out_call(&mut self, call: StepCall) {
        self.calls.push(call.clone());
        let scripted = self.script.get_mut(&(call.step.clone(), call.phase)).and_then(VecDeque::pop_front);
        let outcome = match scripted {
            Some(Reply::Silence) => return,
            Some(Reply::Say(outcome)) => outcome,
            Some(Reply::DoAndSay(outcome)) => {
                self.act(&call);
                outcome
            }
            None => self.act(&call),
        };
        self.event(Event::Outcome { call: call.call, outcome });
    }

    /// An honest target.
    fn act(&mut self, call: &StepCall) -> CallOutcome {
        let evidence = format!("{} of {}", call.phase_name(), call.step);
        let place = place_of(call);
        match call.phase {
            Phase::Observe if self.done.contains(&place) => CallOutcome::Observed(Observed::Done { evidence }),
            Phase::Observe => not_done(),
            Phase::Verify => CallOutcome::Verified(Verified::yes(evidence)),
            Phase::Apply => {
                self.done.insert(place);
                CallOutcome::Applied(Applied::Accepted { evidence })
            }
            Phase::Compensate => {
                self.done.remove(&place);
                CallOutcome::Applied(Applied::Accepted { evidence })
            }
        }
    }
}

/// Where a change stands: what a drill changes is not what a run changes.
fn place_of(call: &StepCall) -> StepName {
    match call.spec.target.strip_prefix(STAND_IN) {
        Some(_) => format!("{STAND_IN}{}", call.step).into(),
        None => call.step.clone(),
    }
}

trait PhaseName {
    fn phase_name(&self) -> String;
}

impl PhaseName for StepCall {
    fn phase_name(&self) -> String {
        format!("{:?}", self.phase).to_lowercase()
    }
}

/// What a test asks of a desk.
impl Desk {
    /// `hold:confirming`, `ask_approval`, `act`, `alert`, or `none` without an open incident.
    pub fn decision(&self) -> String {
        self.decision_of(REGIONAL)
    }

    pub fn decision_of(&self, scenario: &str) -> String {
        let status = self.brain.status(self.now);
        let view = status.scenarios.into_iter().find(|view| view.name.as_str() == scenario).expect("a scenario");
        match view.decision {
            None => "none".into(),
            Some(Decision::Hold(reason)) => format!("hold:{}", reason.name()),
            Some(Decision::AskApproval { .. }) => "ask_approval".into(),
            Some(Decision::Alert) => "alert".into(),
            Some(Decision::Act) => "act".into(),
        }
    }

    pub fn incident(&self) -> IncidentId {
        let open = self.brain.ledger().incidents.values().rev().find(|incident| incident.closed.is_none());
        open.expect("an open incident").id.clone()
    }

    pub fn runs(&self) -> Vec<&RunLedger> {
        self.brain.ledger().runs.values().collect()
    }

    /// The newest run.
    pub fn run(&self) -> &RunLedger {
        self.brain.ledger().runs.values().next_back().expect("a run")
    }

    /// The newest run's result.
    pub fn result(&self) -> Option<RunResult> {
        self.run().ended.map(|(result, _)| result)
    }

    pub fn state(&self, step: &str) -> &StepState {
        let run = self.run();
        &run.steps[run.index(&step.into()).expect("a step")].state
    }

    pub fn is_parked(&self, step: &str) -> bool {
        matches!(self.state(step), StepState::Parked { .. })
    }

    /// The phases that were called of a step: `observe apply verify`.
    pub fn phases(&self, step: &str) -> String {
        let calls = self.calls.iter().filter(|call| call.step.as_str() == step);
        calls.map(PhaseName::phase_name).collect::<Vec<_>>().join(" ")
    }

    /// The steps that were changed, in order: `fence promote`, with `-` before what was undone.
    pub fn changes(&self) -> String {
        let changes = self.calls.iter().filter_map(|call| match call.phase {
            Phase::Apply => Some(call.step.to_string()),
            Phase::Compensate => Some(format!("-{}", call.step)),
            Phase::Observe | Phase::Verify => None,
        });
        changes.collect::<Vec<_>>().join(" ")
    }

    pub fn notices_of(&self, kind: NoticeKind) -> Vec<&Notice> {
        self.notices.iter().filter(|notice| notice.kind == kind).collect()
    }

    pub fn entries(&self, wanted: impl Fn(&Entry) -> bool) -> usize {
        self.durable.iter().filter(|record| wanted(&record.entry)).count()
    }
}
