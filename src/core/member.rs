//! What a brain is among several: all see, one decides.
//!
//! One that follows takes in everything that is seen, so that it can decide at once when its turn comes;
//! it writes nothing, begins nothing and tells nobody. What the leader writes comes to it as records.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::brain::Brain;
use super::commands::refuse;
use super::drill_clock::DrillClock;
use super::event::{Answer, Effect, Refusal};
use super::ledger::Ledger;
use super::marks::Marks;
use super::run::{Activity, Doing};
use crate::model::sabotage::{Sabotage, is_broken};
use crate::model::{Entry, Health, Importance, MonoTime, NoticeKind, Now, Phase, Record, RunId, Term, VantageId};

/// A leader that has seen nothing for so long gives the lead back: a detector has waited for its own failures
/// already, and the next leader needs no more than the lease's time.
const BLIND_FOR: Duration = Duration::from_secs(5);

/// What a brain is among several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// There are no others.
    #[default]
    Alone,
    /// Another one decides, or nobody yet.
    Follows {
        /// Who, as far as is known.
        leader: Option<VantageId>,
    },
    /// It decides.
    Leads {
        /// Its term.
        term: Term,
    },
}

/// Why a member leads no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resigned {
    /// Somebody wanted it so.
    ByHand,
    /// It saw nothing any more of what it decides on.
    Blind,
    /// It may not, or cannot, write any more.
    Lost {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Resigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByHand => f.write_str("it was handed over"),
            Self::Blind => {
                f.write_str("none of its own probes comes to a conclusion any more, and those of another may")
            }
            Self::Lost { why } => f.write_str(why),
        }
    }
}

/// What a leader has seen in its term. One that never saw anything keeps the lead: whoever comes next may see
/// no more, and the lead must not go round for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sight {
    /// Nothing yet.
    #[default]
    Never,
    /// Something answers it.
    Sees,
    /// Nothing does, and that something is down is no fault of ours as long as an anchor or another member answers:
    /// looked at again after a while.
    SeesDown(MonoTime),
    /// It saw, and sees nothing since.
    Lost(MonoTime),
}

impl Sight {
    /// When it is to be looked at again, or has been lost for long enough.
    pub(super) fn wakes(self) -> Option<MonoTime> {
        match self {
            Self::SeesDown(since) | Self::Lost(since) => Some(since + BLIND_FOR),
            Self::Never | Self::Sees => None,
        }
    }
}

impl Brain {
    /// Makes it one of several: it follows until it is told that it leads.
    pub fn join(&mut self) {
        self.membership = Membership::Follows { leader: self.ledger.leader.as_ref().map(|(name, _)| name.clone()) };
        self.effects.clear();
    }

    /// What it is among several.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Does it leave the deciding to others?
    pub(super) fn follows(&self) -> bool {
        matches!(self.membership, Membership::Follows { .. })
    }

    pub(super) fn set_leader(&mut self, leader: Option<VantageId>) {
        if let Membership::Follows { leader: known } = &mut self.membership {
            *known = leader;
        }
    }

    /// Takes over: what the former leader left is taken up from what is there, under an epoch of its own.
    pub(super) fn lead(&mut self, now: Now, term: Term) {
        if !self.follows() {
            return;
        }
        self.membership = Membership::Leads { term };
        self.sight = Sight::Never;
        let active = self.ledger.active_run().map(|run| run.id.clone());
        let keeps = is_broken(Sabotage::OldEpochAtTakeOver);
        let epoch = active.is_some().then(|| self.ledger.epoch.next()).filter(|_| !keeps);
        let former = self.ledger.leader.as_ref().map(|(name, _)| name.clone());
        let member = self.settings.name.clone();
        if !self.commit(now, Entry::LeaderChanged { member: member.clone(), term, epoch }) {
            return;
        }
        self.find_orphans();
        self.recall(now);
        if let Some(run) = active {
            self.cut_off(now, &run, "the leader changed while the call was out");
            self.take_up_run(now);
        }
        self.tell_missed(now);
        let open = self.ledger.incidents.values().filter(|incident| incident.closed.is_none()).count();
        // In peace nobody has to get up for it; in an incident somebody wonders who answers.
        if let Some(former) = former.filter(|former| *former != member) {
            let importance = if open > 0 { Importance::Page } else { Importance::Info };
            let with = if open > 0 { format!(", with {open} open incidents") } else { String::new() };
            let subject = format!("{member} leads now in place of {former} (term {term}){with}");
            self.notify(now, NoticeKind::Daemon, importance, None, subject);
        }
    }

    /// Somebody wants another member to lead. Not while a change is out: its outcome would be lost.
    pub(super) fn hand_over(&mut self, to: Option<VantageId>) -> Result<Answer, Refusal> {
        if self.membership == Membership::Alone {
            return Err(refuse("not_now", "this daemon is alone: there is nobody to hand over to"));
        }
        let known = |name: &VantageId| self.settings.witnesses.iter().any(|other| other.name == *name);
        match &to {
            Some(to) if *to == self.settings.name => {
                return Ok(Answer { text: format!("{to} leads already"), run: None });
            }
            Some(to) if !known(to) => {
                return Err(refuse("not_found", format!("there is no member {to}; see `failoverd members`")));
            }
            _ => {}
        }
        if let Some(run) = self.changing() {
            let text = format!("a step of run {run} is being applied: try again when it is done");
            return Err(refuse("not_now", text));
        }
        let who = to.as_ref().map_or("another member".to_owned(), ToString::to_string);
        self.effects.push(Effect::HandOver { to, why: Resigned::ByHand });
        Ok(Answer { text: format!("{} gives the lead back; {who} takes it", self.settings.name), run: None })
    }

    /// The run of which a change is out.
    fn changing(&self) -> Option<&RunId> {
        let is_change = |activity: &Activity| {
            matches!(activity.doing, Doing::Calling { phase: Phase::Apply | Phase::Compensate, .. })
        };
        self.driver.as_ref().filter(|driver| driver.steps.iter().any(is_change)).map(|driver| &driver.run)
    }

    /// A leader whose own probes all fail to look (no descriptors left, no resolver, cut off from all but the
    /// store) could neither judge nor act: another one may.
    pub(super) fn mind_sight(&mut self, now: Now) {
        let Membership::Leads { .. } = self.membership else { return };
        self.sight = match (self.best_seen(now.mono), self.sight) {
            (Some(Health::Up), _) => Sight::Sees,
            (Some(_), _) => Sight::SeesDown(now.mono),
            (None, Sight::Sees | Sight::SeesDown(_)) => Sight::Lost(now.mono),
            (None, known) => known,
        };
        let is_blind = matches!(self.sight, Sight::Lost(since) if since + BLIND_FOR <= now.mono);
        if is_blind && self.changing().is_none() {
            self.sight = Sight::Never;
            self.effects.push(Effect::HandOver { to: None, why: Resigned::Blind });
        }
    }

    /// The best that its own probes say now, of what does not speak of its own isolation.
    fn best_seen(&self, now: MonoTime) -> Option<Health> {
        let fresh = self.detectors.iter().filter(|own| own.is_fresh(now));
        let counted = fresh.filter_map(|own| match own.health()? {
            Health::Up => Some(Health::Up),
            Health::Down => {
                // What was down before we were cut off has not been seen down since.
                let since = now.minus(own.settings.max_age.get()).max(own.first_bad().unwrap_or_default());
                (!self.is_isolated_since(since)).then_some(Health::Down)
            }
            Health::Unknown => None,
        });
        counted.max_by_key(|health| *health == Health::Up)
    }

    /// It leads no more: what was decided and is not in the journal was not decided. What was seen stays.
    /// `journal` is what is known to be durable.
    #[must_use]
    pub fn step_down(&mut self, now: Now, journal: Ledger, why: &Resigned) -> Vec<Effect> {
        self.effects.clear();
        self.membership = Membership::Follows { leader: None };
        self.marks = Marks::of(&journal, now);
        self.ledger = journal;
        self.driver = None;
        self.wanted = None;
        self.doubt = None;
        self.reminders.clear();
        self.drill_clock = DrillClock::since(Some(now.wall));
        self.telling = super::escalation::Telling::default();
        for watch in &mut self.watches {
            watch.forget_decisions();
        }
        self.note_evidence();
        let importance = match why {
            Resigned::ByHand => Importance::Info,
            Resigned::Blind | Resigned::Lost { .. } => Importance::Page,
        };
        let name = &self.settings.name;
        let subject =
            format!("{name} leads no more: {why}; it goes on probing and starts nothing until a member leads");
        self.notify(now, NoticeKind::Daemon, importance, None, subject);
        self.follow(now);
        std::mem::take(&mut self.effects)
    }

    /// The store cannot be reached from here, or can be again. Said once: this member cannot take over then.
    pub(super) fn note_store(&mut self, now: Now, trouble: Option<String>) {
        let was = std::mem::replace(&mut self.store_trouble, trouble);
        if !self.follows() || was.is_some() == self.store_trouble.is_some() {
            return;
        }
        let name = &self.settings.name;
        let (importance, subject) = match &self.store_trouble {
            Some(why) => (
                Importance::Page,
                format!("{name} does not reach the state store: {why}; it goes on probing and can not take over"),
            ),
            None => (Importance::Info, format!("{name} reaches the state store again")),
        };
        self.notify(now, NoticeKind::Daemon, importance, None, subject);
    }

    /// Takes what the leader wrote.
    pub(super) fn replicate(&mut self, now: Now, records: &[Record]) {
        for record in records {
            // What it knows already: the end of its own term was read again.
            if record.seq <= self.ledger.seq {
                continue;
            }
            if let Err(illegal) = self.ledger.apply(record) {
                return self.set_doubt(now, illegal.to_string());
            }
            self.marks.note(now, &record.entry);
            // So much the leader was alive for.
            self.drill_clock = DrillClock::since(Some(record.at));
            if matches!(record.entry, Entry::RunEnded { .. }) {
                self.note_evidence();
            }
        }
        if let (Membership::Follows { leader }, Some((name, _))) = (&mut self.membership, &self.ledger.leader) {
            *leader = Some(name.clone());
        }
    }

    /// What one that follows thinks: how things stand, so that its turn finds it ready.
    pub(super) fn follow(&mut self, now: Now) {
        self.tilt_until = self.tilt_until.filter(|until| now.mono < *until);
        self.note_flaps(now.mono);
        let settings = std::sync::Arc::clone(&self.settings);
        for (index, scenario) in settings.scenarios.iter().enumerate() {
            let (truth, is_alone) = self.truth_of_outage(&scenario.when, now.mono);
            let watch = &mut self.watches[index];
            watch.confirm(now.mono, truth, is_alone);
            // What a primary's last writes were is known only now.
            self.keep_replication(now, scenario);
        }
        self.set_paces();
        self.attentive = self.watches.iter().any(super::scenario::Watch::is_attentive);
        self.wake = self.earliest_wake(now.mono);
    }

    /// The refusal of one that follows.
    pub(super) fn not_leading(&self) -> Refusal {
        let who = match &self.membership {
            Membership::Follows { leader: Some(leader) } => format!("{leader} leads: ask it"),
            _ => "nobody leads now: wait until a member does, or see `failoverd members`".to_owned(),
        };
        refuse("not_leading", format!("{} does not lead; {who}", self.settings.name))
    }
}
