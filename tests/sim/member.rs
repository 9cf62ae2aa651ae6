//! The body of one of several daemons: it campaigns, renews, appends, steps down. A double of the daemon's
//! shell; the lease that it asks whether it may act is the real one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use failoverd::core::campaign::may_campaign;
use failoverd::core::lease::Lease;
use failoverd::core::{Brain, Effect, Event, Resigned};
use failoverd::model::*;

use crate::sim::{Sim, What};
use crate::store::{Ask, Request, Said, TTL};
use crate::trace::{Violation, ensure};

/// A request that was not answered by then is sent again, or given up.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// So often a member looks after its lease and its requests, by its own clock.
const BEAT: u64 = 250;
/// Without any answer for so long the store counts as out of reach.
const OUT_OF_REACH: Duration = Duration::from_secs(5);

/// What a member knows beside its brain.
pub struct Shell {
    pub lease: Lease,
    grant: Option<(Term, u64)>,
    /// The brain was told that it leads.
    pub leads: bool,
    /// What the brain wants, in its order, and waits for the journal.
    wants: VecDeque<Effect>,
    append: Option<(Ask, MonoTime)>,
    asked: BTreeMap<u64, (Kind, MonoTime)>,
    /// When the lease was known to be taken: a read that was sent after it has all of the journal.
    taken: MonoTime,
    answered: MonoTime,
    began: MonoTime,
    /// Since when it has known that nobody holds the lease.
    free_since: Option<MonoTime>,
    trouble: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Campaign,
    Renew,
    Append { after: u64 },
    Read,
    Resign,
}

impl Shell {
    pub fn new(now: MonoTime) -> Self {
        Self {
            lease: Lease::new(Duration::from_millis(TTL)),
            grant: None,
            leads: false,
            wants: VecDeque::new(),
            append: None,
            asked: BTreeMap::new(),
            taken: now,
            answered: now,
            began: now,
            free_since: None,
            trouble: false,
        }
    }

    /// Is nothing on its way to the journal?
    fn is_quiet(&self) -> bool {
        self.append.is_none() && !self.wants.iter().any(|effect| matches!(effect, Effect::Journal(_)))
    }

    fn waits_for(&self, kind: Kind, now: MonoTime) -> bool {
        self.asked.values().any(|(asked, sent)| *asked == kind && now.since(*sent) < PATIENCE)
    }

    fn newest(&self, kind: Kind) -> Option<MonoTime> {
        self.asked.values().filter(|(asked, _)| *asked == kind).map(|(_, sent)| *sent).max()
    }
}

impl Sim {
    fn shell(&mut self) -> Option<&mut Shell> {
        self.nodes[self.me].shell.as_mut()
    }

    /// A request leaves. It may be lost, late, or arrive twice.
    fn ask(&mut self, ask: Ask) {
        self.requests += 1;
        let (number, now, node) = (self.requests, self.time().mono, self.me);
        let kind = match &ask {
            Ask::Campaign => Kind::Campaign,
            Ask::Renew { .. } => Kind::Renew,
            Ask::Append { after, .. } => Kind::Append { after: *after },
            Ask::Read { .. } => Kind::Read,
            Ask::Resign { .. } => Kind::Resign,
        };
        let life = self.nodes[node].life;
        if let Some(shell) = self.shell() {
            shell.asked.retain(|_, (_, sent)| now.since(*sent) < Duration::from_secs(30));
            shell.asked.insert(number, (kind, now));
        }
        let request = Request { number, life, node, ask };
        if self.case.links[node].iter().any(|link| link.to_store && link.is_cut(self.now)) {
            return self.trace.count("link to the store cut");
        }
        let wait = self.store_latency();
        if self.rng.chance(self.faults.store) {
            match self.rng.below(3) {
                0 => return self.trace.count("request lost"),
                1 => {
                    self.trace.count("request twice");
                    let again = wait + self.rng.between(10, 12_000);
                    self.after(again, What::Request(Box::new(request.clone())));
                }
                _ => {
                    self.trace.count("request late");
                    let late = self.rng.between(500, 12_000);
                    return self.after(late, What::Request(Box::new(request)));
                }
            }
        }
        self.after(wait, What::Request(Box::new(request)));
    }

    fn store_latency(&mut self) -> u64 {
        if self.rng.chance(self.faults.store) { self.rng.between(50, 900) } else { self.rng.between(2, 15) }
    }

    /// A request arrives at the store, which takes it whole, and answers or not.
    pub fn arrives(&mut self, request: &Request) -> Result<(), Violation> {
        if self.case.quorum_lost.iter().any(|(from, to)| (*from..*to).contains(&self.now)) {
            self.trace.count("store without a quorum");
            return Ok(());
        }
        let node = request.node;
        let name = self.nodes[node].name;
        let (said, new) = self.store.answer(self.now, name, &request.ask, &self.durable);
        if matches!(said, Said::Taken { .. }) {
            self.trace.count("lease taken");
        }
        let is_dull = match &said {
            Said::Held { .. } | Said::Renewed => true,
            Said::Records { records, .. } => records.is_empty(),
            _ => false,
        };
        self.trace.note(self.now, "store", || match is_dull {
            true => String::new(),
            false => format!("{name} {:.160} => {:.60}", format!("{:?}", request.ask), format!("{said:?}")),
        });
        for record in new {
            self.becomes_durable(record)?;
        }
        if self.case.links[node].iter().any(|link| !link.to_store && link.is_cut(self.now)) {
            self.trace.count("link from the store cut");
            return Ok(());
        }
        let wait = self.store_latency();
        if self.rng.chance(self.faults.store) {
            self.trace.count("answer of the store lost");
            if matches!(said, Said::Appended) {
                self.trace.count("append of unknown outcome");
            }
            return Ok(());
        }
        self.after(wait, What::Response(request.life, request.number, Box::new(said)));
        Ok(())
    }

    /// A member looks after its lease and its requests.
    pub fn beat(&mut self, life: u64) -> Result<(), Violation> {
        let wait = BEAT * 1_000 / self.nodes[self.me].clock.rate;
        self.after(wait, What::Beat(life));
        let now = self.time().mono;
        let has_brain = self.nodes[self.me].brain.is_some();
        let seq = self.nodes[self.me].check.shadow.seq;
        let Some(shell) = self.shell() else { return Ok(()) };
        if !has_brain {
            if !shell.waits_for(Kind::Read, now) {
                self.ask(Ask::Read { after: 0 });
            }
            return Ok(());
        }
        let out_of_reach = now.since(shell.answered) > OUT_OF_REACH;
        if out_of_reach != shell.trouble {
            shell.trouble = out_of_reach;
            let trouble = out_of_reach.then(|| "no answer".to_owned());
            self.trace.count("store out of reach");
            self.feed(Event::StoreReached { trouble })?;
        }
        let Some(shell) = self.shell() else { return Ok(()) };
        let Some((_, lease)) = shell.grant else {
            let due = |newest: Option<MonoTime>, every| newest.is_none_or(|sent| now.since(sent) >= every);
            let free_for = shell.free_since.map_or(Duration::ZERO, |since| now.since(since));
            let ttl = Duration::from_millis(TTL);
            let may = may_campaign(ttl, now.since(shell.began), free_for);
            let campaign = may && due(shell.newest(Kind::Campaign), PATIENCE);
            let read = due(shell.newest(Kind::Read), Duration::from_millis(400));
            if campaign {
                self.ask(Ask::Campaign);
            }
            if read {
                self.ask(Ask::Read { after: seq });
            }
            return Ok(());
        };
        if let Err(why) = shell.lease.may_act(now) {
            return self.step_down(&why.to_string());
        }
        let again = shell.append.as_ref().filter(|(_, sent)| now.since(*sent) >= PATIENCE).map(|(ask, _)| ask.clone());
        let renew = shell.newest(Kind::Renew).is_none_or(|sent| now.since(sent) >= shell.lease.renewal_interval());
        let waits = !shell.leads && !shell.waits_for(Kind::Read, now);
        if renew {
            self.ask(Ask::Renew { lease });
        }
        if waits {
            self.ask(Ask::Read { after: seq });
        }
        if let Some(ask) = again {
            self.trace.count("append sent again");
            if let Some((_, sent)) = self.shell().and_then(|shell| shell.append.as_mut()) {
                *sent = now;
            }
            self.ask(ask);
        }
        Ok(())
    }

    /// An answer of the store.
    pub fn hears(&mut self, number: u64, said: Said) -> Result<(), Violation> {
        let now = self.time().mono;
        let Some(shell) = self.nodes[self.me].shell.as_mut() else { return Ok(()) };
        let Some((kind, sent)) = shell.asked.remove(&number) else { return Ok(()) };
        shell.answered = now;
        match &said {
            Said::Held { .. } | Said::Records { leader: Some(_), .. } => shell.free_since = None,
            Said::Records { leader: None, .. } => drop(shell.free_since.get_or_insert(now)),
            _ => {}
        }
        match said {
            Said::Taken { term, lease } if shell.grant.is_none() => {
                shell.lease.taken(term, sent);
                shell.grant = Some((term, lease));
                shell.taken = now;
                let seq = self.nodes[self.me].check.shadow.seq;
                self.ask(Ask::Read { after: seq });
            }
            // A second campaign, which was overtaken: nobody renews it.
            Said::Taken { .. } | Said::Resigned => {}
            Said::Held { by } => return self.feed(Event::Follows { leader: Some(by.into()) }),
            Said::Renewed => {
                if let Some((term, _)) = shell.grant {
                    shell.lease.renewed(term, sent);
                }
            }
            Said::NoSuchLease if shell.grant.is_some() && kind == Kind::Renew => {
                return self.step_down("no such lease");
            }
            Said::NoSuchLease => {}
            Said::Appended => {
                // An answer to what was sent twice may come when the next append is out already.
                let is_out = matches!(&shell.append, Some((Ask::Append { after, .. }, _)) if kind == Kind::Append { after: *after });
                return if is_out { self.appended() } else { Ok(()) };
            }
            Said::Overtaken if shell.append.is_some() => return self.step_down("the journal was written by another"),
            Said::Overtaken => {}
            Said::Records { records, leader } => return self.reads(records, leader, sent),
        }
        Ok(())
    }

    fn appended(&mut self) -> Result<(), Violation> {
        let Some(shell) = self.shell() else { return Ok(()) };
        let Some((Ask::Append { records, .. }, _)) = shell.append.take() else { return Ok(()) };
        for record in &records {
            self.nodes[self.me].check.durable(record)?;
        }
        if self.now < crate::setup::CHAOS && self.rng.chance(self.faults.crash / 4) {
            self.crash("crash after an append");
            return Ok(());
        }
        self.pump()?;
        if self.calm { self.end_pause() } else { Ok(()) }
    }

    /// The journal as it is, or what of it is new.
    fn reads(&mut self, records: Vec<Record>, leader: Option<&'static str>, sent: MonoTime) -> Result<(), Violation> {
        let now = self.time();
        if self.nodes[self.me].brain.is_none() {
            return self.boots(&records);
        }
        let node = &mut self.nodes[self.me];
        let known = node.check.shadow.seq;
        let Some(shell) = node.shell.as_mut() else { return Ok(()) };
        if shell.leads {
            return Ok(());
        }
        let records: Vec<Record> = records.into_iter().filter(|record| record.seq > known).collect();
        // All of the journal as it is now: nobody else has appended since the lease was taken.
        let term = shell.grant.map(|(term, _)| term).filter(|_| shell.lease.may_act(now.mono).is_ok());
        let takes_over = term.filter(|_| sent >= shell.taken);
        if !records.is_empty() {
            self.nodes[self.me].check.replicated(now, &records)?;
            self.feed(Event::Replicated { records })?;
            self.is_as_the_journal()?;
        }
        let Some(term) = takes_over else {
            return self.feed(Event::Follows { leader: leader.map(Into::into) });
        };
        if let Some(shell) = self.shell() {
            shell.leads = true;
        }
        self.trace.count("took over");
        self.nodes[self.me].check.leads(now);
        self.feed(Event::Leads { term })?;
        self.end_pause()
    }

    /// A new life begins with all of the journal, and follows.
    fn boots(&mut self, records: &[Record]) -> Result<(), Violation> {
        let now = self.time();
        let settings = self.mutation.settings(self.nodes[self.me].settings.clone());
        let brain = Brain::new(settings, records, now);
        let mut brain = brain.map_err(|illegal| Violation::new("S12", illegal.to_string()))?;
        brain.join();
        let (life, name) = (self.nodes[self.me].life, self.nodes[self.me].name);
        self.trace.note(self.now, "begin", || format!("{name}, life {life}, follows from record {}", records.len()));
        let node = &mut self.nodes[self.me];
        node.check.reads(records)?;
        node.check.begins(now);
        let effects = brain.begin(now, "sim");
        node.brain = Some(brain);
        self.wants(effects)
    }

    /// What the brain wants is done in its order, each after what stands before it is durable (S2).
    pub fn wants(&mut self, effects: Vec<Effect>) -> Result<(), Violation> {
        if let Some(shell) = self.shell() {
            shell.wants.extend(effects);
        }
        self.pump()
    }

    fn pump(&mut self) -> Result<(), Violation> {
        let life = self.nodes[self.me].life;
        while self.nodes[self.me].life == life {
            let (after, now) = (self.nodes[self.me].check.shadow.seq, self.time().mono);
            let Some(shell) = self.shell() else { return Ok(()) };
            if shell.append.is_some() {
                return Ok(());
            }
            let Some(effect) = shell.wants.pop_front() else { break };
            let outside = matches!(effect, Effect::Journal(_) | Effect::Call(_));
            if let Effect::Journal(records) = effect {
                let Some((term, _)) = shell.grant else {
                    return Err(Violation::new("S3", "one that does not lead writes".to_owned()));
                };
                let ask = Ask::Append { term, after, records };
                shell.append = Some((ask.clone(), now));
                self.ask(ask);
            } else {
                self.carry_out_one(effect)?;
            }
            if outside && self.now < crate::setup::CHAOS && self.rng.chance(self.faults.crash / 4) {
                self.crash("crash between effects");
            }
        }
        self.is_as_the_journal()
    }

    /// Where nothing is on its way, the brain believes what is durable.
    fn is_as_the_journal(&self) -> Result<(), Violation> {
        let node = &self.nodes[self.me];
        match (&node.brain, &node.shell) {
            (Some(brain), Some(shell)) if shell.is_quiet() => node.check.quiet(brain.ledger()),
            _ => Ok(()),
        }
    }

    /// It leads no more.
    pub fn step_down(&mut self, why: &str) -> Result<(), Violation> {
        let now = self.time();
        let name = self.nodes[self.me].name;
        let node = &mut self.nodes[self.me];
        let (Some(shell), Some(brain)) = (node.shell.as_mut(), node.brain.as_mut()) else { return Ok(()) };
        shell.lease.lost();
        shell.grant = None;
        shell.wants.clear();
        shell.append = None;
        if !std::mem::replace(&mut shell.leads, false) {
            return Ok(());
        }
        let effects = brain.step_down(now, node.check.shadow.clone(), &Resigned::Lost { why: why.to_owned() });
        node.check.steps_down(now);
        self.trace.note(self.now, "steps down", || format!("{name}: {why}"));
        self.trace.count("stepped down");
        for effect in effects {
            ensure(!matches!(effect, Effect::Journal(_) | Effect::Call(_)), "S3", || {
                format!("{name} steps down, and wants {effect:?}")
            })?;
            self.carry_out_one(effect)?;
        }
        self.is_as_the_journal()
    }

    /// At no time two members may act (S3), and whoever may, holds the key of the store.
    pub fn check_leaders(&mut self) -> Result<(), Violation> {
        let mut acting = None;
        for node in &self.nodes {
            let Some(shell) = &node.shell else { return Ok(()) };
            let Ok(term) = shell.lease.may_act(node.clock.mono(self.now)) else { continue };
            if let Some((other, _)) = acting.replace((node.name, term)) {
                return Err(Violation::new("S3", format!("{other} and {} may act at once", node.name)));
            }
        }
        let Some((name, term)) = acting else { return Ok(()) };
        let held = self.store.holder(self.now);
        ensure(held.is_some_and(|held| held.term == term), "S3", || {
            format!("{name} may act in term {term}, and the store says {held:?}")
        })
    }

    /// The lease of this member at a call: `None` where it is the only daemon.
    pub fn lease_holds(&mut self) -> Option<Result<Term, String>> {
        let now = self.time().mono;
        let shell = self.shell()?;
        Some(shell.lease.may_act(now).map_err(|why| why.to_string()))
    }

    /// It goes: gives back what it holds.
    pub fn resign(&mut self) {
        if let Some((term, _)) = self.shell().and_then(|shell| shell.grant) {
            self.trace.count("resigned");
            self.ask(Ask::Resign { term });
        }
    }
}
