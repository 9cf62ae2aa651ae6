//! The promises, checked after each step against what the simulator itself knows.

mod starts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use failoverd::core::ledger::Ledger;
use failoverd::core::run_ledger::{RunLedger, StepState};
use failoverd::core::{Command, Event};
use failoverd::model::*;

use crate::setup::{NARROW, PRIMARY};
use crate::trace::{Violation, ensure};
use crate::votes::Votes;

/// An approval that is older than this is worth nothing.
const ANSWER_VALID_FOR: Duration = Duration::from_secs(600);
/// What an incident knows of the replication is worth nothing after this.
const HANDED_DOWN_FOR: Duration = Duration::from_secs(60);
/// A last look that is older than this at the first change is no last look.
const LOOK_VALID_FOR: Duration = Duration::from_secs(13);

/// What is known of the change that a step makes (S8).
#[derive(Clone, Debug, PartialEq)]
enum Known {
    /// Nothing is in doubt.
    Clear,
    /// A call is out, has failed in the dark, or was lost with the daemon.
    Unsure,
}

/// So old at that time.
#[derive(Clone, Copy, Debug)]
struct Age(MonoTime, Duration);

impl Age {
    fn of(now: Now, at: WallTime) -> Self {
        Self(now.mono, now.wall.since(at))
    }

    fn at(self, now: MonoTime) -> Duration {
        self.1 + now.since(self.0)
    }
}

/// What the world knows at the start of a run and the brain does not.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    /// Since when the primary has really been down.
    pub down_since: Option<MonoTime>,
    /// What is really lost if the standby is promoted.
    pub loss: Duration,
}

#[derive(Debug)]
pub struct Checker {
    /// The settings as they should be, whatever a mutation gives to the brain.
    pub settings: Settings,
    pub votes: Votes,
    /// A second ledger that gets only what is durable, as far as this daemon knows.
    pub shadow: Ledger,
    /// The same, with what it has decided and not yet written.
    decided: Ledger,
    pub doubt: bool,
    pub doubt_paged: bool,
    /// The daemon was told to end.
    pub ending: bool,
    /// How old the starts and the ends of runs were at a time. The wall clock is asked once for each
    /// life: within a life no jump of it makes anything older or younger.
    ages: BTreeMap<RunId, (Age, Option<Age>)>,
    /// How old the outages of the open incidents were at a time.
    outages: BTreeMap<IncidentId, Age>,
    highest: Epoch,
    pub plans: BTreeMap<RunId, Plan>,
    pub parked: BTreeSet<RunId>,
    known: BTreeMap<(RunId, StepName), (CallId, Known)>,
    /// When the active run began in this life of the daemon.
    began: MonoTime,
    by_hand: bool,
    retried: BTreeSet<StepName>,
}

impl Checker {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            votes: Votes::default(),
            shadow: Ledger::default(),
            decided: Ledger::default(),
            doubt: false,
            doubt_paged: false,
            ending: false,
            ages: BTreeMap::new(),
            outages: BTreeMap::new(),
            highest: Epoch::default(),
            plans: BTreeMap::new(),
            parked: BTreeSet::new(),
            known: BTreeMap::new(),
            began: MonoTime::ZERO,
            by_hand: false,
            retried: BTreeSet::new(),
        }
    }

    /// The daemon died: votes are gone, and nobody will hear of the calls that are out.
    pub fn died(&mut self) {
        self.votes.new_life();
        self.doubt = false;
        self.doubt_paged = false;
        self.ending = false;
        self.forget_calls();
    }

    /// Another life counts its calls from the start again, and one that does not lead waits for none.
    fn forget_calls(&mut self) {
        self.known.values_mut().for_each(|(call, _)| *call = CallId(u64::MAX));
    }

    /// A life of one of several begins with this.
    pub fn reads(&mut self, records: &[Record]) -> Result<(), Violation> {
        self.shadow = Ledger::default();
        self.keep(records)
    }

    fn keep(&mut self, records: &[Record]) -> Result<(), Violation> {
        for record in records {
            match &record.entry {
                Entry::RunStarted { run, plan, .. } => {
                    self.plans.insert(run.clone(), (**plan).clone());
                }
                // Of another daemon: what became of it has to be looked at.
                Entry::StepIntent { run, step, .. } => {
                    self.known.insert((run.clone(), step.clone()), (CallId(u64::MAX), Known::Unsure));
                }
                Entry::CompensationIntent { run, step, .. } => {
                    self.known.insert((run.clone(), step.clone()), (CallId(u64::MAX), Known::Unsure));
                }
                Entry::StepApplied {
                    run, step, outcome: Applied::Accepted { .. } | Applied::Refused { .. }, ..
                }
                | Entry::StepEnded { run, step, end: StepEnd::Done { .. }, .. } => {
                    self.known.insert((run.clone(), step.clone()), (CallId(u64::MAX), Known::Clear));
                }
                _ => {}
            }
            self.shadow.apply(record).map_err(|illegal| Violation::new("S12", illegal.to_string()))?;
        }
        self.highest = self.highest.max(self.shadow.epoch);
        Ok(())
    }

    /// Records of the leader have come.
    pub fn replicated(&mut self, now: Now, records: &[Record]) -> Result<(), Violation> {
        records.iter().for_each(|record| self.note_ages(now, record));
        self.keep(records)?;
        self.decided = self.shadow.clone();
        Ok(())
    }

    /// This one of several decides from now on.
    pub fn leads(&mut self, now: Now) {
        self.began = now.mono;
        self.by_hand = false;
        self.recall(now);
    }

    /// And no more: what is not durable was not decided.
    pub fn steps_down(&mut self, now: Now) {
        self.forget_calls();
        (self.doubt, self.doubt_paged) = (self.ending, false);
        self.decided = self.shadow.clone();
        self.age(now);
    }

    pub fn begins(&mut self, now: Now) {
        self.began = now.mono;
        self.votes.started = now.mono;
        self.by_hand = false;
        self.decided = self.shadow.clone();
        self.age(now);
        self.recall(now);
    }

    fn age(&mut self, now: Now) {
        let age = |run: &RunLedger| (Age::of(now, run.started), run.ended.map(|(_, at)| Age::of(now, at)));
        self.ages = self.shadow.runs.values().map(|run| (run.id.clone(), age(run))).collect();
        let open = self.shadow.incidents.values().filter(|incident| incident.closed.is_none());
        self.outages = open.map(|incident| (incident.id.clone(), Age::of(now, incident.outage_start))).collect();
    }

    fn recall(&mut self, now: Now) {
        for scenario in &self.settings.scenarios {
            let Some(incident) = self.shadow.open_incident(&scenario.name) else { continue };
            let seen = incident.replication_seen.unwrap_or(incident.opened);
            if seen <= now.wall && now.wall.since(seen) <= HANDED_DOWN_FOR {
                incident.replication.iter().for_each(|known| self.votes.recall(now, known));
            }
        }
    }

    /// An event is about to be handed in.
    pub fn event(&mut self, now: Now, event: &Event) {
        self.by_hand =
            matches!(event, Event::Command { command: Command::Failover { .. } | Command::Execute { .. }, .. });
        match event {
            Event::Observed { probe, started, observation } => {
                if let Some(settings) = self.settings.probe(probe).cloned() {
                    self.votes.observed(&settings, *started, observation);
                }
            }
            Event::PeerVote { .. } => self.votes.voted(event, now.mono),
            Event::Ballot { .. } => panic!("the peers here vote one by one"),
            Event::Stalled { .. } => self.votes.stalled(now.mono + self.settings.tilt_for.get()),
            Event::StateInDoubt { .. } => self.doubt = true,
            Event::Reload(settings) => self.settings = (**settings).clone(),
            Event::Outcome { call, outcome } => self.outcome(*call, outcome),
            Event::Command { command: Command::StepRetry { step, .. }, .. } => {
                self.retried.insert(step.clone());
            }
            // An ending daemon starts nothing, like one in doubt.
            Event::Ending => (self.doubt, self.ending) = (true, true),
            Event::Tick
            | Event::Command { .. }
            | Event::Refused { .. }
            | Event::Leads { .. }
            | Event::Follows { .. }
            | Event::Replicated { .. }
            | Event::StoreReached { .. } => {}
        }
        self.votes.keep_time(&self.settings, now.mono);
    }

    pub fn was_retried(&self, step: &StepName) -> bool {
        self.retried.contains(step)
    }

    fn outcome(&mut self, call: CallId, outcome: &CallOutcome) {
        let Some((_, known)) = self.known.values_mut().find(|(last, _)| *last == call) else { return };
        match outcome {
            CallOutcome::Applied(Applied::Unknown { .. }) | CallOutcome::Observed(Observed::Unknown { .. }) => {}
            CallOutcome::Verified(_) => {}
            CallOutcome::Applied(_) | CallOutcome::Observed(_) | CallOutcome::NotPermitted { .. } => {
                *known = Known::Clear;
            }
        }
    }

    pub fn notice(&mut self, notice: &Notice) {
        if notice.importance != Importance::Page {
            return;
        }
        match notice.kind {
            NoticeKind::RunParked => self.parked.extend(notice.run.clone()),
            NoticeKind::Daemon => self.doubt_paged = true,
            _ => {}
        }
    }

    /// The brain wants a record to be written: it has decided.
    pub fn decides(&mut self, now: Now, record: &Record, truth: Truth) -> Result<(), Violation> {
        match &record.entry {
            Entry::RunStarted { .. } => self.run_starts(now, &record.entry, truth)?,
            Entry::RunTakenUp { epoch, .. } => self.is_granted(*epoch)?,
            Entry::LeaderChanged { member, epoch, .. } => match (self.decided.active_run(), epoch) {
                (Some(run), None) => {
                    return Err(Violation::new("S3", format!("{member} takes {} over under its old epoch", run.id)));
                }
                (_, epoch) => epoch.map_or(Ok(()), |epoch| self.is_granted(epoch))?,
            },
            Entry::IncidentOpened { replication, .. } | Entry::ReplicationSeen { replication, .. } => {
                replication.iter().try_for_each(|known| self.check_evidence(now, known))?;
            }
            _ => {}
        }
        self.note_ages(now, record);
        self.decided.apply(record).map_err(|illegal| Violation::new("S12", illegal.to_string()))
    }

    fn is_granted(&self, epoch: Epoch) -> Result<(), Violation> {
        ensure(epoch > self.highest, "S3", || format!("{epoch} is granted after {}", self.highest))
    }

    fn note_ages(&mut self, now: Now, record: &Record) {
        match &record.entry {
            Entry::IncidentOpened { incident, outage_start, .. } => {
                self.outages.insert(incident.clone(), Age::of(now, *outage_start));
            }
            Entry::RunStarted { run, .. } => {
                self.ages.insert(run.clone(), (Age::of(now, now.wall), None));
            }
            Entry::RunEnded { run, .. } => {
                self.ages.entry(run.clone()).and_modify(|(_, end)| *end = Some(Age::of(now, now.wall)));
            }
            _ => {}
        }
    }

    /// A record of its own has become durable, and it knows.
    pub fn durable(&mut self, record: &Record) -> Result<(), Violation> {
        if let Entry::RunStarted { run, plan, .. } = &record.entry {
            self.plans.insert(run.clone(), (**plan).clone());
        }
        self.shadow.apply(record).map_err(|illegal| Violation::new("S12", illegal.to_string()))?;
        self.highest = self.highest.max(self.shadow.epoch);
        Ok(())
    }

    /// The brain wants a call: it has decided. What its body waits for before it makes it changes nothing.
    pub fn wants_call(&self, now: Now, call: &StepCall) -> Result<(), Violation> {
        let Some(run) = self.decided.runs.get(&call.run) else { return Ok(()) };
        let pinned = self.pinned(run, &call.step);
        ensure(pinned == Some(&call.spec), "S9", || format!("{} is not what {} began with", call.step, call.run))?;
        if matches!(call.phase, Phase::Observe | Phase::Verify) {
            return Ok(());
        }
        ensure(!self.doubt, "S11", || format!("{:?} of {} in doubt", call.phase, call.step))?;
        self.check_order(run, &call.step, call.phase)?;
        if call.phase == Phase::Apply {
            let paused = self.decided.paused.as_ref();
            ensure(paused.is_none(), "S11", || format!("{} is changed in a pause by {paused:?}", call.step))?;
        }
        if call.phase == Phase::Apply && !matches!(call.spec.effect, EffectKind::Notify | EffectKind::Verify) {
            self.check_last_look(now, run, &call.step)?;
        }
        Ok(())
    }

    /// What the run began with. Its own record may be on its way to the journal still.
    fn pinned<'a>(&'a self, run: &'a RunLedger, step: &StepName) -> Option<&'a ActionSpec> {
        let plan = self.plans.get(&run.id).unwrap_or(&run.plan);
        plan.step(step).and_then(|step| step.work.action())
    }

    /// A call is handed to the executor.
    pub fn call(&mut self, call: &StepCall) -> Result<(), Violation> {
        self.check_known(call)?;
        let Some(run) = self.shadow.runs.get(&call.run) else {
            return Err(Violation::new("S2", format!("a call of {}, which is not in the journal", call.run)));
        };
        ensure(run.ended.is_none(), "S10", || format!("{} was called after the end of {}", call.step, call.run))?;
        if matches!(call.phase, Phase::Observe | Phase::Verify) {
            return Ok(());
        }
        self.leaves(call)?;
        let state = run.index(&call.step).map(|index| &run.steps[index]);
        let intended = match call.phase {
            Phase::Apply => state.is_some_and(|s| s.state == StepState::Intended && s.attempts == call.attempt),
            _ => state.is_some_and(|s| s.state == StepState::Undoing),
        };
        ensure(intended, "S2", || {
            format!("{:?} of {}, and its intent is not durable: {state:?}", call.phase, call.step)
        })
    }

    /// A change is about to leave: not under an epoch that is known to be overtaken (S3).
    pub fn leaves(&self, call: &StepCall) -> Result<(), Violation> {
        ensure(call.epoch >= self.highest, "S3", || {
            format!("{} under {}, and {} was granted", call.step, call.epoch, self.highest)
        })
    }

    /// The fence comes before the promotion (S7), and what is promoted before the traffic (S6).
    fn check_order(&self, run: &RunLedger, step: &StepName, phase: Phase) -> Result<(), Violation> {
        let first = match step.as_str() {
            "promote" => ("S7", "fence"),
            "route" => ("S6", "promote"),
            _ => return Ok(()),
        };
        let is_over = run.index(&first.1.into()).is_none_or(|index| run.steps[index].is_over());
        ensure(phase != Phase::Apply || is_over, first.0, || format!("{step} of {} before {}", run.id, first.1))
    }

    /// The first change of a run that nobody started by hand.
    fn check_last_look(&self, now: Now, run: &RunLedger, step: &StepName) -> Result<(), Violation> {
        let changes = |index: &&usize| {
            let effect = run.plan.steps[**index].work.action().map(|spec| spec.effect);
            !matches!(effect, Some(EffectKind::Notify | EffectKind::Verify))
        };
        let first = run.intended.iter().find(changes).is_some_and(|index| run.plan.steps[*index].name == *step);
        let alone = run.intended.iter().filter(changes).count() == 1
            && run.index(step).is_some_and(|i| run.steps[i].attempts == 1);
        if !first || !alone || matches!(run.trigger, Trigger::Manual { .. }) {
            return Ok(());
        }
        // The scenario may be another one by now; two of three is the least that the broad ones ask.
        let least: (&[&str], usize) = if run.scenario.as_str() == NARROW { (&["db"], 1) } else { (&PRIMARY, 2) };
        let since = self.began.max(now.mono.minus(LOOK_VALID_FOR));
        let looked = self.votes.looked_down(&self.settings, least, since, now.mono);
        ensure(looked, "S4", || format!("{step} of {} without a last look that saw the primary down", run.id))
    }

    fn check_known(&mut self, call: &StepCall) -> Result<(), Violation> {
        let key = (call.run.clone(), call.step.clone());
        let (_, known) = self.known.get(&key).cloned().unwrap_or((call.call, Known::Clear));
        if call.phase != Phase::Observe {
            ensure(known == Known::Clear, "S8", || {
                format!("{:?} of {} before it was seen what the last call did", call.phase, call.step)
            })?;
        }
        let known = match call.phase {
            Phase::Apply | Phase::Compensate => Known::Unsure,
            Phase::Observe | Phase::Verify => known,
        };
        self.known.insert(key, (call.call, known));
        Ok(())
    }

    /// Between two events: what is durable is what the brain believes.
    pub fn quiet(&self, believed: &Ledger) -> Result<(), Violation> {
        ensure(*believed == self.shadow, "S12", || {
            format!("the brain is at record {}, the journal at {}", believed.seq, self.shadow.seq)
        })
    }

    /// Does everything that could go on wait for a person?
    pub fn is_stuck(run: &RunLedger) -> bool {
        let parked = |index: usize| matches!(run.steps[index].state, StepState::Parked { .. });
        let could_go_on = |index: usize| !run.steps[index].is_over() && !parked(index) && run.is_ready(index);
        let steps = 0..run.steps.len();
        run.aborting.is_none() && steps.clone().any(parked) && !steps.clone().any(could_go_on)
    }
}
