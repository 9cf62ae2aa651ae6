//! Plays recorded history through the brain, in virtual time.
//!
//! The series say what each target was like at each instant; the attempts are made as the setting that
//! is tried would make them, each with its own start, its timeout, and the fast pace while in doubt. The
//! brain is the daemon's own, and so is everything that it decides.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::history::{History, Point, Series};
use crate::core::plan::MOST_IN_FLIGHT;
use crate::core::{Brain, Effect, Event};
use crate::model::{
    CallId, CallOutcome, Cause, CauseKind, Entry, Health, IncidentId, MonoTime, Now, Observation, Observed, Phase,
    ProbeName, ProbeSettings, Record, RunId, ScenarioName, Settings, StepCall, Verified, WallTime,
};

pub mod stage;

/// Where the virtual clock begins, so that nothing lies before its start.
const BEGIN: u64 = 3_600_000_000_000;
const MILLISECOND: u64 = 1_000_000;
/// A target that answers, and of which nobody wrote down how fast.
const QUICK: Duration = Duration::from_millis(1);
/// No interval is taken to be shorter, as in the daemon.
const SHORTEST: u64 = 10 * MILLISECOND;
/// So many incidents in one replay are more than anybody looks at, and the ledger keeps each.
const MOST_INCIDENTS: usize = 2_000;

/// A failover that would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trip {
    /// For which scenario.
    pub scenario: ScenarioName,
    /// The first bad look behind it.
    pub outage_start: WallTime,
    /// When the run began.
    pub decided: WallTime,
    /// When it would have changed something for the first time; `None` where the last look called it
    /// off, or the history ended before.
    pub acted: Option<WallTime>,
}

/// An incident that would have been opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// For which scenario.
    pub scenario: ScenarioName,
    /// When the verdicts made its condition true.
    pub at: WallTime,
    /// When it was over; `None` where the history ended before.
    pub closed: Option<WallTime>,
    /// The last reason for not acting.
    pub held: Option<String>,
}

/// What came of one replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// The failovers, in the order of time.
    pub trips: Vec<Trip>,
    /// The incidents, in the order of time.
    pub incidents: Vec<Opened>,
    /// How many attempts were made.
    pub attempts: u64,
    /// Why the replay ended before the history.
    pub cut_short: Option<String>,
}

/// Where in their intervals the probes start: so many of so many equal parts of each later than usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// So many …
    pub number: u32,
    /// … of so many; at least 1.
    pub of: u32,
}

/// Plays the history with these settings.
pub fn play(history: &History, settings: &Settings) -> Played {
    play_at(history, settings, Start { number: 0, of: 1 })
}

/// The same, with other starts: what is near a limit is the luck of one of them.
pub fn play_at(history: &History, settings: &Settings, start: Start) -> Played {
    let now = Now { mono: MonoTime(BEGIN), wall: WallTime(history.from) };
    let staged = stage::staged(settings, history);
    let lanes: Vec<Lane<'_>> = staged.probes.iter().map(|probe| Lane::new(probe, history, start)).collect();
    let watched = stage::watched(&staged);
    match Brain::new(staged, &[], now) {
        Ok(brain) => {
            let mut replay = Replay {
                brain,
                lanes,
                by_name: HashMap::new(),
                queue: BTreeMap::new(),
                number: 0,
                now: BEGIN,
                from: history.from,
                notes: Notes::default(),
            };
            replay.run(BEGIN + nanoseconds(history.span()), &watched);
            replay.notes.played
        }
        // There is no record that could be illegal.
        Err(illegal) => Played { cut_short: Some(illegal.to_string()), ..Played::default() },
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}

/// One probe, its target, and when it looks.
struct Lane<'a> {
    name: ProbeName,
    series: Option<&'a Series>,
    /// See [`Series::at`].
    place: usize,
    interval: u64,
    fast_interval: u64,
    timeout: Duration,
    /// What stands for a failure without a cause: one that the owner has not given another meaning.
    nameless: [CauseKind; 2],
    phase: u64,
    due: u64,
    last_start: Option<u64>,
    fast: bool,
    in_flight: usize,
}

impl<'a> Lane<'a> {
    fn new(probe: &ProbeSettings, history: &'a History, start: Start) -> Self {
        let interval = nanoseconds(probe.interval.get()).max(SHORTEST);
        let free = |of: &[CauseKind]| {
            of.iter()
                .find(|kind| !probe.causes.contains_key(kind))
                .or(of.first())
                .copied()
                .unwrap_or(CauseKind::Stalled)
        };
        let later = u128::from(interval) * u128::from(start.number) / u128::from(start.of.max(1));
        let phase = (phase(probe.name.as_str(), interval) + u64::try_from(later).unwrap_or(0)) % interval;
        Self {
            name: probe.name.clone(),
            series: history.series.get(&probe.name),
            place: 0,
            interval,
            fast_interval: nanoseconds(probe.fast_interval.get()).max(SHORTEST),
            timeout: probe.timeout.get(),
            nameless: [
                free(&[CauseKind::Unhealthy, CauseKind::Timeout, CauseKind::NotServing, CauseKind::Protocol]),
                free(&[CauseKind::Stalled, CauseKind::LocalResource, CauseKind::LocalResolver]),
            ],
            phase,
            due: BEGIN + phase,
            last_start: None,
            fast: false,
            in_flight: 0,
        }
    }

    /// The first start of the usual pace after `now`.
    fn on_lattice(&self, now: u64) -> u64 {
        let first = BEGIN + self.phase;
        if first > now { first } else { first + ((now - first) / self.interval + 1) * self.interval }
    }

    fn set_pace(&mut self, fast: bool, now: u64) {
        self.fast = fast;
        self.due = if fast {
            // Never later than it would have been.
            self.last_start.map_or(now, |last| (last + self.fast_interval).max(now)).min(self.due.max(now))
        } else {
            self.on_lattice(now)
        };
    }

    /// What an attempt that begins at `wall` sees, and how long it takes.
    fn attempt(&mut self, wall: i64) -> (Observation, Duration) {
        // Of a probe without history it is said aloud that it is taken to be up.
        let Some(series) = self.series else { return (Observation::up(QUICK), Duration::ZERO) };
        let Some(point) = series.at(wall, &mut self.place).copied() else {
            return (Observation::Unknown { cause: Cause::new(self.nameless[1], "") }, Duration::ZERO);
        };
        self.seen(point)
    }

    fn seen(&self, Point { health, latency, cause, .. }: Point) -> (Observation, Duration) {
        let took = latency.map(|latency| Duration::from_millis(latency.into()));
        let hangs = took.is_some_and(|took| took > self.timeout) || cause == Some(CauseKind::Timeout);
        let named = |cause: CauseKind| Cause::new(cause, "");
        match health {
            // It answered, but not within the timeout that is tried.
            Health::Up if hangs => (Observation::Down { cause: named(CauseKind::Timeout), facts: None }, self.timeout),
            Health::Up => {
                let latency = took.unwrap_or(QUICK);
                let seen = Observation::Up { latency, facts: None, degraded: cause.map(named) };
                (seen, took.unwrap_or_default())
            }
            Health::Down => {
                // Nobody knows how long it took: the latest that it can be told is after the timeout.
                let told = match (took, cause) {
                    _ if hangs => self.timeout,
                    (Some(took), _) => took,
                    (None, Some(_)) => Duration::ZERO,
                    (None, None) => self.timeout,
                };
                let cause = cause.unwrap_or(self.nameless[0]);
                (Observation::Down { cause: named(cause), facts: None }, told)
            }
            Health::Unknown => {
                let cause = cause.unwrap_or(self.nameless[1]);
                (Observation::Unknown { cause: named(cause) }, Duration::ZERO)
            }
        }
    }
}

/// Where in its interval a probe starts: a hash of its name (FNV-1a), the same in every replay.
fn phase(name: &str, interval: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The last bytes reach the high bits only when mixed.
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    u64::try_from((u128::from(hash) * u128::from(interval)) >> 64).unwrap_or(0)
}

/// What is to happen.
enum What {
    /// A probe's turn has come.
    Turn(usize),
    /// A probe is asked out of turn.
    AskNow(usize),
    /// An attempt has ended.
    Seen { lane: usize, started: u64, observation: Observation },
    /// A call has been answered.
    Answered(CallId, CallOutcome),
}

struct Replay<'a> {
    brain: Brain,
    lanes: Vec<Lane<'a>>,
    by_name: HashMap<ProbeName, usize>,
    /// What comes, by its time; of one time in the order in which it was put here.
    queue: BTreeMap<(u64, u64), What>,
    number: u64,
    now: u64,
    /// The wall time at [`BEGIN`], in milliseconds since 1970.
    from: i64,
    notes: Notes,
}

impl Replay<'_> {
    fn run(&mut self, end: u64, watched: &[usize]) {
        self.by_name = self.lanes.iter().enumerate().map(|(lane, one)| (one.name.clone(), lane)).collect();
        for lane in watched {
            self.push(self.lanes[*lane].due, What::Turn(*lane));
        }
        let effects = self.brain.begin(self.time(), "backtest");
        self.carry_out(effects);
        loop {
            let wake = self.brain.next_wake().map_or(u64::MAX, |at| at.0.max(self.now));
            let next = self.queue.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            if wake.min(next) > end {
                break;
            }
            self.now = wake.min(next).max(self.now);
            if wake < next {
                self.feed(Event::Tick);
            } else if let Some(((at, _), what)) = self.queue.pop_first() {
                self.happen(at, what);
            }
            if self.notes.played.incidents.len() > MOST_INCIDENTS {
                let why = format!("more than {MOST_INCIDENTS} incidents by {}", self.time().wall);
                self.notes.played.cut_short = Some(why);
                break;
            }
        }
    }

    fn time(&self) -> Now {
        let passed = i64::try_from((self.now - BEGIN) / MILLISECOND).unwrap_or(i64::MAX);
        Now { mono: MonoTime(self.now), wall: WallTime(self.from.saturating_add(passed)) }
    }

    fn push(&mut self, at: u64, what: What) {
        self.number += 1;
        self.queue.insert((at, self.number), what);
    }

    fn happen(&mut self, at: u64, what: What) {
        match what {
            What::Turn(lane) => {
                let one = &mut self.lanes[lane];
                // The pace was changed meanwhile: it has another turn.
                if one.due != at {
                    return;
                }
                one.due += if one.fast { one.fast_interval } else { one.interval };
                let (due, room) = (one.due, one.in_flight < MOST_IN_FLIGHT);
                self.push(due, What::Turn(lane));
                if room {
                    self.start(lane);
                }
            }
            What::AskNow(lane) => self.start(lane),
            What::Seen { lane, started, observation } => {
                self.lanes[lane].in_flight -= 1;
                self.seen(lane, started, observation);
            }
            What::Answered(call, outcome) => self.feed(Event::Outcome { call, outcome }),
        }
    }

    fn start(&mut self, lane: usize) {
        let (now, wall) = (self.now, self.time().wall.0);
        self.notes.played.attempts += 1;
        let one = &mut self.lanes[lane];
        one.last_start = Some(now);
        let (observation, took) = one.attempt(wall);
        if took.is_zero() {
            return self.seen(lane, now, observation);
        }
        one.in_flight += 1;
        self.push(now + nanoseconds(took), What::Seen { lane, started: now, observation });
    }

    fn seen(&mut self, lane: usize, started: u64, observation: Observation) {
        let probe = self.lanes[lane].name.clone();
        self.feed(Event::Observed { probe, started: MonoTime(started), observation });
    }

    fn feed(&mut self, event: Event) {
        let effects = self.brain.handle(self.time(), event);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Journal(records) => records.into_iter().for_each(|record| self.notes.take(record)),
                Effect::Call(call) => {
                    let outcome = done(&call);
                    self.push(self.now, What::Answered(call.call, outcome));
                }
                Effect::Pace { probe, fast } => {
                    let Some(&lane) = self.by_name.get(&probe) else { continue };
                    self.lanes[lane].set_pace(fast, self.now);
                    self.push(self.lanes[lane].due, What::Turn(lane));
                }
                Effect::ProbeNow(probe) => {
                    let Some(&lane) = self.by_name.get(&probe) else { continue };
                    // An attempt that began at the same instant as the last one would be a duplicate.
                    self.push(self.now + MILLISECOND, What::AskNow(lane));
                }
                Effect::Notify(_) | Effect::Cancel(_) | Effect::Reply(_) | Effect::HandOver { .. } => {}
            }
        }
    }
}

/// Everything is done as soon as it is asked for.
fn done(call: &StepCall) -> CallOutcome {
    use crate::model::Applied;
    match call.phase {
        Phase::Observe => {
            CallOutcome::Observed(Observed::NotDone { evidence: String::new(), before: serde_json::Value::Null })
        }
        Phase::Apply | Phase::Compensate => CallOutcome::Applied(Applied::Accepted { evidence: String::new() }),
        Phase::Verify => CallOutcome::Verified(Verified::yes("")),
    }
}

/// What the journal tells.
#[derive(Default)]
struct Notes {
    played: Played,
    incidents: HashMap<IncidentId, usize>,
    runs: HashMap<RunId, usize>,
}

impl Notes {
    fn take(&mut self, record: Record) {
        let at = record.at;
        match record.entry {
            Entry::IncidentOpened { incident, scenario, .. } => {
                self.incidents.insert(incident, self.played.incidents.len());
                self.played.incidents.push(Opened { scenario, at, closed: None, held: None });
            }
            Entry::IncidentClosed { incident, .. } => {
                if let Some(place) = self.incidents.remove(&incident) {
                    self.played.incidents[place].closed = Some(at);
                }
            }
            Entry::Decided { incident, decision, .. } => {
                if let Some(place) = self.incidents.get(&incident) {
                    self.played.incidents[*place].held = match decision {
                        crate::model::Decision::Hold(reason) => Some(format!("{}: {reason}", reason.name())),
                        _ => None,
                    };
                }
            }
            Entry::RunStarted { run, scenario, outage_start, .. } => {
                self.runs.insert(run, self.played.trips.len());
                self.played.trips.push(Trip { scenario, outage_start, decided: at, acted: None });
            }
            Entry::StepIntent { run, .. } => {
                if let Some(place) = self.runs.get(&run) {
                    self.played.trips[*place].acted.get_or_insert(at);
                }
            }
            Entry::RunEnded { run, .. } => {
                self.runs.remove(&run);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
