//! Lease, journal and late calls of three daemons, checked in every order of what can happen (stateright).
//!
//! The lease is the real one. Around it stands what the design says: the store takes an append only under
//! the key of its term and at the journal's end; who takes a run over grants it a new epoch; the permit is
//! asked for immediately before a call; a call may come at any time after it has left, and an append twice.
//! Time goes in ticks of the store, and a daemon's clock may run at half the speed of the store's.

use std::collections::BTreeSet;
use std::time::Duration;

use failoverd::core::lease::Lease;
use failoverd::model::{MonoTime, Term};
use stateright::{Checker, Model, Property};

const DAEMONS: usize = 3;
const STEPS: u8 = 3;
/// How often the lease is taken at most.
const TERMS: u8 = 3;
/// In ticks of the store, of two units each on a daemon's clock.
const TTL: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Entry {
    Leads,
    Intent(u8),
    Done(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Append {
    term: u8,
    after: usize,
    entry: Entry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Answer {
    term: u8,
    /// How long ago its request was sent, by the daemon's clock.
    age: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Leading {
    /// How far it knows the journal.
    seen: usize,
    append: Option<Append>,
    /// It has called the step that is intended.
    called: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Daemon {
    /// Its term, and how long ago the newest renewal was sent that was answered.
    lease: Option<Answer>,
    leading: Option<Leading>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    daemons: [Daemon; DAEMONS],
    /// The term of whoever holds the key, and how many ticks are left.
    key: Option<(u8, u8)>,
    terms: u8,
    journal: Vec<(u8, Entry)>,
    /// Appends that may arrive, also again.
    appends: BTreeSet<Append>,
    /// Calls that may arrive: step, epoch, and the term of whoever made it.
    calls: BTreeSet<(u8, u8, u8)>,
    /// What the target took, in its order.
    taken: Vec<(u8, u8)>,
    refused: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Campaign(usize),
    Renew(usize),
    TakeOver(usize),
    GoOn(usize),
    Learn(usize),
    Arrive(Append),
    Deliver((u8, u8, u8)),
    StepDown(usize),
    /// With the daemons whose clocks run at half the speed in it, as bits.
    Tick(u8),
}

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    Nothing,
    /// The lease is acted under until it is over.
    WholeLease,
    /// A run is taken over under its old epoch.
    SameEpoch,
    /// Appends do not look where the journal ends: what is sent twice stands in it twice.
    NoCompare,
}

struct Design(Broken);

impl Design {
    /// The permit: asked of the real lease.
    fn may_act(&self, daemon: &Daemon) -> bool {
        let Some(Answer { term, age }) = daemon.lease else { return false };
        let units = u64::from(TTL) * 2;
        let ttl = if self.0 == Broken::WholeLease { units * 2 } else { units };
        let mut lease = Lease::new(Duration::from_nanos(ttl));
        lease.taken(Term(term.into()), MonoTime(0));
        lease.may_act(MonoTime(age.into())).is_ok()
    }

    fn epoch(&self, journal: &[(u8, Entry)]) -> u8 {
        let leaders = journal.iter().filter(|(_, entry)| *entry == Entry::Leads).count() as u8;
        if self.0 == Broken::SameEpoch { leaders.min(1) } else { leaders }
    }

    /// What the leader does next, by what it knows.
    fn next_entry(&self, world: &World, leading: &Leading) -> Option<Entry> {
        let known = &world.journal[..leading.seen];
        let last = known.iter().rev().find(|(_, entry)| *entry != Entry::Leads).map(|(_, entry)| *entry);
        match last {
            None => Some(Entry::Intent(0)),
            Some(Entry::Done(step)) if step + 1 < STEPS => Some(Entry::Intent(step + 1)),
            // It looks at the target: is it done?
            Some(Entry::Intent(step)) if world.taken.iter().any(|(done, _)| *done == step) => Some(Entry::Done(step)),
            _ => None,
        }
    }
}

impl Model for Design {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            daemons: Default::default(),
            key: None,
            terms: 0,
            journal: Vec::new(),
            appends: BTreeSet::new(),
            calls: BTreeSet::new(),
            taken: Vec::new(),
            refused: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (index, daemon) in world.daemons.iter().enumerate() {
            // An answer that comes late only makes the lease seem older than it is; one that is lost is none.
            match daemon.lease {
                None if world.key.is_none() && world.terms < TERMS => actions.push(Action::Campaign(index)),
                Some(_) => actions.push(Action::Renew(index)),
                None => {}
            }
            match &daemon.leading {
                None if self.may_act(daemon) => actions.push(Action::TakeOver(index)),
                Some(Leading { append: None, .. }) if self.may_act(daemon) => actions.push(Action::GoOn(index)),
                Some(Leading { append: Some(_), .. }) => actions.push(Action::Learn(index)),
                _ => {}
            }
            // It has to where it may not act, and dies whenever it likes.
            if daemon.lease.is_some() {
                actions.push(Action::StepDown(index));
            }
        }
        actions.extend(world.appends.iter().copied().map(Action::Arrive));
        actions.extend(world.calls.iter().copied().map(Action::Deliver));
        if world.key.is_some() || world.daemons.iter().any(|daemon| daemon.lease.is_some()) {
            let timed = |index: &usize| world.daemons[*index] != Daemon::default();
            let timed: Vec<usize> = (0..DAEMONS).filter(timed).collect();
            for slow in 0..1_u8 << timed.len() {
                let bits = timed.iter().enumerate().filter(|(place, _)| slow >> place & 1 == 1);
                actions.push(Action::Tick(bits.fold(0, |bits, (_, index)| bits | 1 << index)));
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Campaign(index) => {
                world.terms += 1;
                world.key = Some((world.terms, TTL));
                world.daemons[index].lease = Some(Answer { term: world.terms, age: 0 });
            }
            Action::Renew(index) => {
                let term = last.daemons[index].lease?.term;
                last.key.filter(|(held, _)| *held == term)?;
                world.key = Some((term, TTL));
                world.daemons[index].lease = Some(Answer { term, age: 0 });
            }
            Action::TakeOver(index) => {
                let term = last.daemons[index].lease?.term;
                // A linearizable read, once the lease is known to be held.
                let seen = last.journal.len();
                let append = Append { term, after: seen, entry: Entry::Leads };
                world.appends.insert(append);
                world.daemons[index].leading = Some(Leading { seen, append: Some(append), called: false });
            }
            Action::GoOn(index) => {
                let term = last.daemons[index].lease?.term;
                let leading = world.daemons[index].leading.as_mut()?;
                if let Some(entry) = self.next_entry(last, leading) {
                    let append = Append { term, after: leading.seen, entry };
                    world.appends.insert(append);
                    leading.append = Some(append);
                } else if let Some((_, Entry::Intent(step))) =
                    last.journal[..leading.seen].iter().rev().find(|(_, entry)| *entry != Entry::Leads)
                    && !leading.called
                {
                    leading.called = true;
                    world.calls.insert((*step, self.epoch(&last.journal[..leading.seen]), term));
                }
            }
            Action::Learn(index) => {
                let leading = world.daemons[index].leading.as_mut()?;
                let append = leading.append.take()?;
                (last.journal.get(append.after) == Some(&(append.term, append.entry))).then_some(())?;
                leading.seen += 1;
                leading.called &= !matches!(append.entry, Entry::Intent(_));
            }
            Action::Arrive(append) => {
                let holds = last.key.is_some_and(|(term, _)| term == append.term);
                let follows = last.journal.len() == append.after || self.0 == Broken::NoCompare;
                (holds && follows).then_some(())?;
                world.journal.push((append.term, append.entry));
                // The others can never be taken any more.
                let (end, keeps) = (world.journal.len(), self.0 == Broken::NoCompare);
                world.appends.retain(|append| keeps || append.after >= end);
            }
            Action::Deliver(call) => {
                world.calls.remove(&call);
                let (step, epoch, _) = call;
                if last.taken.iter().all(|(_, seen)| *seen <= epoch) {
                    world.taken.push((step, epoch));
                } else {
                    world.refused = true;
                }
            }
            Action::StepDown(index) => world.daemons[index] = Daemon::default(),
            Action::Tick(slow) => {
                world.key = last.key.map(|(term, left)| (term, left - 1)).filter(|(_, left)| *left > 0);
                for (index, daemon) in world.daemons.iter_mut().enumerate() {
                    let by = if slow >> index & 1 == 1 { 1 } else { 2 };
                    if let Some(lease) = &mut daemon.lease {
                        lease.age = (lease.age + by).min(TTL * 2);
                    }
                }
            }
        }
        // One daemon is like another.
        world.daemons.sort_unstable();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no two may act at once", |design: &Design, world: &World| {
                world.daemons.iter().filter(|daemon| design.may_act(daemon)).count() <= 1
            }),
            Property::always("one effect for each step and epoch", |_, world: &World| {
                world.taken.iter().collect::<BTreeSet<_>>().len() == world.taken.len()
            }),
            Property::always("no effect of a lower epoch after a higher", |_, world: &World| {
                world.taken.is_sorted_by_key(|(_, epoch)| *epoch)
            }),
            Property::always("the journal is linear", |_, world: &World| {
                let steps = world.journal.iter().filter(|(_, entry)| *entry != Entry::Leads).enumerate();
                let follow = steps.map(|(place, (_, entry))| match entry {
                    Entry::Intent(step) => usize::from(*step) * 2 == place,
                    Entry::Done(step) => usize::from(*step) * 2 + 1 == place,
                    Entry::Leads => false,
                });
                let terms = world.journal.is_sorted_by_key(|(term, _)| *term);
                let began = |(term, _): &(u8, Entry)| {
                    world
                        .journal
                        .iter()
                        .find(|(other, _)| other == term)
                        .is_some_and(|(_, first)| *first == Entry::Leads)
                };
                terms && follow.into_iter().all(|follows| follows) && world.journal.iter().all(began)
            }),
            Property::sometimes("all steps are done", |_, world: &World| {
                world.journal.last().is_some_and(|(_, entry)| *entry == Entry::Done(STEPS - 1))
            }),
            Property::sometimes("another one finishes", |_, world: &World| {
                world.journal.last() == Some(&(2, Entry::Done(STEPS - 1))) && world.journal[0].0 == 1
            }),
            Property::sometimes("a late call is refused", |_, world: &World| world.refused),
        ]
    }
}

fn explore(broken: Broken) -> impl Checker<Design> {
    Design(broken).checker().threads(2).spawn_bfs().join()
}

#[test]
fn lease_journal_and_late_calls_hold_in_every_order() {
    let checked = explore(Broken::Nothing);
    println!("{} states, {} of them unique", checked.state_count(), checked.unique_state_count());
    checked.assert_properties();
}

#[test]
fn each_broken_design_has_a_counterexample() {
    for (broken, property) in [
        (Broken::WholeLease, "no two may act at once"),
        (Broken::SameEpoch, "one effect for each step and epoch"),
        (Broken::NoCompare, "the journal is linear"),
    ] {
        let until = stateright::HasDiscoveries::AnyOf([property].into());
        let found = Design(broken).checker().threads(2).finish_when(until).spawn_bfs().join();
        assert!(found.discovery(property).is_some(), "{broken:?} breaks nothing");
    }
}
