//! What a daemon's body does for its brain: events in, effects out, the journal between them; how it dies
//! and comes back.

use std::time::Duration;

use failoverd::core::{Brain, Effect, Event, Resigned};
use failoverd::model::*;

use crate::check::Truth;
use crate::member::Shell;
use crate::mutation::Mutation;
use crate::setup::{CHAOS, NARROW, PRIMARY};
use crate::sim::{Sim, What};
use crate::trace::{Violation, ensure};

impl Sim {
    /// Hands an event to the brain, and does what it wants.
    pub fn feed(&mut self, event: Event) -> Result<(), Violation> {
        let now = self.time();
        let node = &self.nodes[self.me];
        if node.brain.is_none() {
            return Ok(());
        }
        if node.frozen_until.is_some() {
            let life = node.life;
            self.after(0, What::Deliver(life, Box::new(event)));
            return Ok(());
        }
        let words = if self.trace.verbose { self.brief(&event) } else { String::new() };
        self.trace.note(self.now, kind(&event), || words);
        let node = &mut self.nodes[self.me];
        node.check.event(now, &event);
        let looking = matches!(&event, Event::Observed { probe, .. } if PRIMARY.contains(&probe.as_str()))
            && node.check.shadow.active_run().is_some();
        let asked = matches!(event, Event::Command { .. });
        let Some(event) = self.mutation.event(event, looking) else { return Ok(()) };
        let Some(brain) = &mut self.nodes[self.me].brain else { return Ok(()) };
        let effects = brain.handle(now, event);
        if asked {
            self.is_written(&effects)?;
        }
        if self.revived_each.is_some_and(|each| self.trace.events.is_multiple_of(each)) {
            self.revive(&effects);
        }
        self.carry_out(effects)
    }

    /// S13: whatever was asked of one that decides is in the journal before it is answered.
    fn is_written(&mut self, effects: &[Effect]) -> Result<(), Violation> {
        let reply = effects.iter().position(|effect| matches!(effect, Effect::Reply(_)));
        let written = |effect: &Effect| {
            matches!(effect, Effect::Journal(records)
                if records.iter().any(|record| matches!(record.entry, Entry::Command { .. })))
        };
        let before = &effects[..reply.unwrap_or(effects.len())];
        let refused =
            matches!(reply.map(|at| &effects[at]), Some(Effect::Reply(Err(why))) if why.code == "not_leading");
        if refused {
            self.trace.count("command: not leading");
        }
        let decides = self.nodes[self.me].decides();
        ensure(refused != decides, "S13", || format!("it decides: {decides}, and answers {reply:?}"))?;
        ensure(refused || before.iter().any(written), "S13", || "a command that is not in the journal".into())
    }

    /// The brain goes by way of a checkpoint, as a replay takes it up.
    fn revive(&mut self, effects: &[Effect]) {
        if self.nodes[self.me].shell.is_some() {
            return;
        }
        let (now, Some(brain)) = (self.time(), self.nodes[self.me].brain.take()) else { return };
        let json = serde_json::to_vec(&brain.checkpoint(now, "sim")).expect("it has JSON");
        let mut records = self.durable.clone();
        for effect in effects {
            if let Effect::Journal(new) = effect {
                records.extend(new.iter().cloned());
            }
        }
        let checkpoint = serde_json::from_slice(&json).expect("it is read again");
        self.nodes[self.me].brain = Some(Brain::restore(checkpoint, &records).expect("the journal follows"));
    }

    fn carry_out(&mut self, mut effects: Vec<Effect>) -> Result<(), Violation> {
        self.mutation.effects(&mut effects);
        let (now, truth) = (self.time(), self.truth());
        for effect in &effects {
            let check = &mut self.nodes[self.me].check;
            match effect {
                Effect::Journal(records) => {
                    records.iter().try_for_each(|record| check.decides(now, record, truth))?;
                }
                Effect::Call(call) => check.wants_call(now, call)?,
                _ => {}
            }
        }
        if self.nodes[self.me].shell.is_some() {
            return self.wants(effects);
        }
        let mut written = false;
        for effect in effects {
            let outside = matches!(effect, Effect::Journal(_) | Effect::Call(_));
            if outside && self.now < CHAOS && self.rng.chance(self.faults.crash / 4) {
                self.crash("crash between effects");
                return Ok(());
            }
            match effect {
                Effect::Journal(records) if !self.is_taken(&records)? => return Ok(()),
                Effect::Journal(_) => written = true,
                effect => self.carry_out_one(effect)?,
            }
        }
        match &self.nodes[self.me].brain {
            Some(brain) if written => self.nodes[self.me].check.quiet(brain.ledger()),
            _ => Ok(()),
        }
    }

    /// The only daemon writes to its disk; where that fails, it stops acting and exits.
    fn is_taken(&mut self, records: &[Record]) -> Result<bool, Violation> {
        let fails = self.now < CHAOS && self.rng.chance(self.faults.disk);
        let takes_place = !fails || self.rng.chance(400);
        if takes_place {
            for record in records {
                self.becomes_durable(record.clone())?;
                self.nodes[0].check.durable(record)?;
            }
        }
        if !fails {
            return Ok(true);
        }
        self.crash(if takes_place { "a write that failed took place" } else { "a write failed" });
        if !takes_place && self.rng.chance(500) {
            self.nodes[0].full_until = self.now + self.rng.between(5_000, 30_000);
        }
        Ok(false)
    }

    /// A record is in the journal, whoever knows it yet.
    pub fn becomes_durable(&mut self, record: Record) -> Result<(), Violation> {
        self.trace.note(self.now, "journal", || format!("{:?}", record.entry));
        self.count_record(&record);
        self.ledger.apply(&record).map_err(|illegal| Violation::new("S12", illegal.to_string()))?;
        let active = self.ledger.runs.values().filter(|run| run.ended.is_none()).count();
        self.durable.push(record);
        ensure(active <= 1, "S1", || format!("{active} runs are active"))
    }

    pub fn carry_out_one(&mut self, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Call(call) => {
                let name = self.nodes[self.me].name;
                self.trace.note(self.now, "call", || {
                    format!("{name}: {:?} {} attempt {} epoch {}", call.phase, call.step, call.attempt, call.epoch)
                });
                let changes = matches!(call.phase, Phase::Apply | Phase::Compensate);
                if changes && self.lease_holds().is_some_and(|lease| lease.is_err()) {
                    // The journal took the intent, and the answer came too late.
                    return self.leave(call);
                }
                self.nodes[self.me].check.call(&call)?;
                self.call(call);
            }
            Effect::Notify(notice) => {
                self.trace.note(self.now, "notice", || notice.subject.clone());
                self.nodes[self.me].check.notice(&notice);
            }
            Effect::ProbeNow(probe) => self.attempt(&probe),
            Effect::Cancel(call) => self.trace.note(self.now, "cancel", || format!("{call:?}")),
            Effect::HandOver { why, .. } => {
                self.trace.count(if why == Resigned::Blind { "handed over blind" } else { "handed over" });
                self.resign();
                return self.step_down("handed over");
            }
            Effect::Journal(_) | Effect::Pace { .. } | Effect::Reply(_) => {}
        }
        Ok(())
    }

    fn truth(&self) -> Truth {
        let down_since = self.case.weather.down_since(self.now);
        let loss = Duration::from_millis(down_since.map_or(0, |at| self.true_loss(at)));
        Truth { down_since: down_since.map(|at| self.nodes[self.me].clock.mono(at)), loss }
    }

    pub fn crash(&mut self, how: &'static str) {
        let node = &mut self.nodes[self.me];
        if node.brain.take().is_none() {
            return;
        }
        let (died, name) = (node.life, node.name);
        self.trace.count(how);
        self.trace.note(self.now, how, || format!("{name}, at record {}", self.durable.len()));
        self.lives += 1;
        let node = &mut self.nodes[self.me];
        (node.life, node.shell, node.frozen_until) = (self.lives, None, None);
        node.check.died();
        let theirs: Vec<(u64, CallId)> = self.on_their_way.keys().filter(|(life, _)| *life == died).copied().collect();
        for key in theirs {
            self.on_their_way.remove(&key);
            // The request may have left before the daemon died, or not.
            if self.rng.chance(500) {
                self.cancelled.insert(key);
            }
        }
        if self.mutation == Mutation::ShortJournal {
            self.durable.truncate(self.durable.len().saturating_sub(3));
        }
        let wait = self.rng.between(100, 15_000);
        self.after(wait, What::Restart(self.me));
    }

    /// The daemon stands still: nothing of it happens until it goes on. For how long, in milliseconds.
    pub fn freeze(&mut self, how: &'static str) -> u64 {
        let node = &mut self.nodes[self.me];
        if node.brain.is_none() || node.frozen_until.is_some() {
            return 0;
        }
        let stands = self.rng.between(1_000, 40_000);
        let name = node.name;
        node.frozen_until = Some(self.now + stands);
        self.trace.count(how);
        self.trace.note(self.now, how, || format!("{name}, for {stands} ms"));
        self.after(stands, What::Thaw(self.me, self.now));
        stands
    }

    pub fn thaw(&mut self, node: usize, since: u64) -> Result<(), Violation> {
        self.me = node;
        // It may have been killed meanwhile.
        if self.nodes[node].frozen_until != Some(self.now) {
            return Ok(());
        }
        self.nodes[node].frozen_until = None;
        if let Some(why) = self.lease_holds().and_then(Result::err).filter(|_| self.nodes[node].decides()) {
            self.trace.count("woke up after its lease");
            self.trace.note(self.now, "wakes", || why);
        }
        let rate = self.nodes[node].clock.rate;
        self.feed(Event::Stalled { by: Duration::from_millis((self.now - since) * rate / 1_000) })?;
        self.end_pause()
    }

    /// The daemon is told to end, brings home what is out, and is gone.
    pub fn end(&mut self) -> Result<(), Violation> {
        if self.nodes[self.me].brain.is_none() {
            return Ok(());
        }
        self.trace.count("ending");
        let life = self.nodes[self.me].life;
        self.feed(Event::Ending)?;
        if life == self.nodes[self.me].life {
            let wait = self.rng.between(500, 10_000);
            self.after(wait, What::Gone(life));
        }
        Ok(())
    }

    pub fn restart(&mut self) -> Result<(), Violation> {
        let now = self.time();
        let node = &mut self.nodes[self.me];
        if self.now < node.full_until {
            let wait = node.full_until - self.now;
            self.trace.count("disk full");
            self.after(wait, What::Restart(self.me));
            return Ok(());
        }
        if self.case.members > 1 {
            self.lives += 1;
            (node.life, node.shell) = (self.lives, Some(Shell::new(now.mono)));
            self.after(0, What::Beat(self.lives));
            return Ok(());
        }
        let settings = self.mutation.settings(node.settings.clone());
        let brain = Brain::new(settings, &self.durable, now);
        let mut brain = brain.map_err(|illegal| Violation::new("S12", illegal.to_string()))?;
        let life = node.life;
        self.trace.note(self.now, "begin", || format!("life {life} from record {}", self.durable.len()));
        node.check.begins(now);
        if self.case.synchronous_until.is_some() {
            self.trace.count("commits wait");
        }
        let effects = brain.begin(now, "sim");
        node.brain = Some(brain);
        self.carry_out(effects)?;
        self.end_pause()
    }

    /// An event in one line; nothing for a health that is as it was.
    fn brief(&mut self, event: &Event) -> String {
        let node = &mut self.nodes[self.me];
        let (who, health, began) = match event {
            Event::Observed { probe, started, observation } => (probe.to_string(), observation.health(), started),
            Event::PeerVote { vantage, probe, health, seen, .. } => (format!("{vantage}: {probe}"), *health, seen),
            Event::Follows { .. } => return String::new(),
            Event::Replicated { records } => return format!("{}: {} records", node.name, records.len()),
            other => return format!("{}: {other:?}", node.name),
        };
        if node.said.insert(who.clone(), health) == Some(health) {
            return String::new();
        }
        format!("{}: {who} is {health}, began {:.3}", node.name, began.0 as f64 / 1e9)
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
            Entry::LeaderChanged { epoch: Some(_), .. } => "run taken over by another leader",
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
        Event::Leads { .. } => "leads",
        Event::Follows { .. } => "follows",
        Event::Replicated { .. } => "replicated",
        Event::StoreReached { .. } => "store reached",
    }
}
