//! Runs all probes of this process on one scheduler.
//!
//! One loop on a thread of its own ([`ProbeRunner::on_own_thread`]), one schedule of next starts; an attempt is a
//! task only while it runs. Each has one deadline for the whole of it, so that a hanging target
//! delays no other probe. Attempts that are light ([`Probe::is_light`]) run on that same thread: what a
//! probe costs is mostly changes of threads and wake-ups. The others run on the daemon's.
//!
//! - **Overlap.** With a timeout above the interval, attempts of one probe overlap, at most four,
//!   and a fifth where it was asked for ([`RunnerHandle::probe_now`]): it must not wait for them.
//!   A start above that is skipped and counted ([`RunnerStats::skipped`]), and reported as
//!   nothing: it is no observation, and the four that hang will be reported as what they are.
//! - **Our own lateness.** The loop knows when it meant to wake up. Where it was late by more than
//!   250 ms and by more than a quarter of an attempt's timeout while that attempt ran (we were
//!   stopped, starved or suspended), an attempt that did not see Up is Unknown (`stalled`): its
//!   deadline may have passed while nobody looked at the answer. Lateness above 20 ms is summed
//!   over the attempt, so that a daemon that is starved in many small portions abstains too, and
//!   then without a [`RunnerEvent::Stalled`], which tells of single stalls. The price: on a host
//!   that starves us all the time, a target that hangs is never called Down (one that refuses
//!   is). A start that was missed is not made up for.
//! - **Answers of a crowd are taken together.** With eight attempts or more under way the thread rests for
//!   0.2 ms before it looks for answers; a latency may be told so much too long then.
//! - **Good news waits.** A good answer that nobody waits for is told within 10 ms, together with
//!   others; everything else at once.
//! - **Nobody reads.** Reports wait in a bounded queue; the oldest give way, and are counted.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::schedule::Schedule;
use crate::model::{CauseKind, Health, HumanDuration, Observation, ProbeName};
use crate::ports::Probe;

/// Attempts of one probe that may run at the same time.
pub const MOST_IN_FLIGHT: usize = 4;

/// The loop looks at the clock at least this often, so that it notices its own lateness.
const BEAT: Duration = Duration::from_millis(50);

/// Lateness below this is everyday scheduling and not counted.
const JITTER: Duration = Duration::from_millis(20);

/// Lateness from here on is a stall.
const STALL: Duration = Duration::from_millis(250);

/// Where so many attempts are under way, their answers are taken together: each would wake the thread by
/// itself, and that costs more than to take it.
const CROWD: usize = 8;
/// How long the thread rests before it looks for answers then. It is what a latency may be told too long.
const REST: Duration = Duration::from_micros(200);

/// Good news waits for so long at most.
const GATHER: Duration = Duration::from_millis(10);

/// Reports that nobody has read yet, at least; eight per probe where that is more.
const BACKLOG: usize = 1024;

/// A probe and its timing.
#[derive(Clone)]
pub struct ProbeSpec {
    /// Its name.
    pub name: ProbeName,
    /// The caller's own number for it, handed back in each report.
    pub index: usize,
    /// From start to start.
    pub interval: Duration,
    /// From start to start at [`Pace::Fast`].
    pub fast_interval: Duration,
    /// For a whole attempt.
    pub timeout: Duration,
    /// What is run. Handing the same one to [`RunnerHandle::replace`] keeps its connection.
    pub probe: Arc<dyn Probe>,
}

/// How often a probe starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Every `interval`.
    Normal,
    /// Every `fast_interval`.
    Fast,
}

/// What one attempt saw, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeReport {
    /// The probe.
    pub probe: ProbeName,
    /// The caller's number for it.
    pub index: usize,
    /// When the attempt began.
    pub started: Instant,
    /// When it ended.
    pub finished: Instant,
    /// What it saw.
    pub observation: Observation,
}

/// What the runner tells its caller.
#[derive(Clone, Debug, PartialEq)]
pub enum RunnerEvent {
    /// An attempt ended.
    Report(ProbeReport),
    /// We stood still.
    Stalled {
        /// For about this long.
        lasted: Duration,
    },
}

/// Counters since the start, and the present state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunnerStats {
    /// Probes on the schedule.
    pub probes: usize,
    /// Attempts running now.
    pub in_flight: usize,
    /// Attempts started.
    pub started: u64,
    /// Starts skipped since too many attempts of the probe were running.
    pub skipped: u64,
    /// Events dropped since nobody read them in time.
    pub dropped: u64,
    /// Stalls noticed.
    pub stalls: u64,
}

/// What was asked of the runner and not done yet. Requests of one kind for one probe fall into
/// one, so that nothing here grows and no caller ever waits.
#[derive(Default)]
struct Inbox {
    replace: Option<Vec<ProbeSpec>>,
    paces: HashMap<ProbeName, Pace>,
    now: HashSet<ProbeName>,
    nudged: HashSet<ProbeName>,
}

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    stats: Mutex<RunnerStats>,
    /// As in the statistics, for the thread that goes to sleep.
    in_flight: AtomicUsize,
    wake: Notify,
}

impl Shared {
    fn ask(&self, request: impl FnOnce(&mut Inbox)) {
        request(&mut lock(&self.inbox));
        self.wake.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks things of a runner. Never blocks; cheap to clone.
#[derive(Clone)]
pub struct RunnerHandle(Arc<Shared>);

impl RunnerHandle {
    /// Changes a probe's pace from its next start on.
    pub fn set_pace(&self, probe: &ProbeName, pace: Pace) {
        self.0.ask(|inbox| {
            inbox.paces.insert(probe.clone(), pace);
        });
    }

    /// Starts an attempt at once, besides the regular ones.
    pub fn probe_now(&self, probe: &ProbeName) {
        self.0.ask(|inbox| {
            inbox.now.insert(probe.clone());
        });
    }

    /// Puts these probes in the place of all. What keeps its name and timing keeps its phase and
    /// pace; attempts of probes that are gone are given up.
    pub fn replace(&self, probes: Vec<ProbeSpec>) {
        self.0.ask(|inbox| inbox.replace = Some(probes));
    }

    /// What a probe of this name calls when its kept connection is cut.
    pub fn nudge(&self, probe: &ProbeName) -> Nudge {
        Nudge { shared: Arc::clone(&self.0), probe: probe.clone() }
    }

    /// Counters.
    pub fn stats(&self) -> RunnerStats {
        *lock(&self.0.stats)
    }
}

/// "Look now: the connection that I kept was cut." Followed at most once per interval of the
/// probe, so that a server that closes idle connections does not double-click us into a storm.
#[derive(Clone)]
pub struct Nudge {
    shared: Arc<Shared>,
    probe: ProbeName,
}

impl Nudge {
    /// Asks for an attempt.
    pub fn now(&self) {
        self.shared.ask(|inbox| {
            inbox.nudged.insert(self.probe.clone());
        });
    }
}

/// An attempt that runs.
struct InFlight {
    name: ProbeName,
    probe: Arc<dyn Probe>,
    timeout: Duration,
    /// [`ProbeRunner::late`] when it started.
    late: Duration,
    spawned: Instant,
    why: Why,
    abort: AbortHandle,
}

type Finished = (Instant, Instant, Observation);

/// The scheduler. Run it as one task.
pub struct ProbeRunner {
    shared: Arc<Shared>,
    events: mpsc::Sender<RunnerEvent>,
    cancel: CancellationToken,
    schedule: Schedule,
    running: JoinSet<Finished>,
    in_flight: HashMap<Id, InFlight>,
    backlog: VecDeque<RunnerEvent>,
    /// Until when what is in the backlog is told; `None` where nothing is in it.
    tell_at: Option<Instant>,
    /// Nobody has read what was told.
    full: bool,
    /// Where attempts run that are not light; `None`: here.
    beside: Option<Handle>,
    /// All lateness so far.
    late: Duration,
    stats: RunnerStats,
}

/// Why an attempt starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// By the schedule, or by a nudge.
    Due,
    /// The brain asked for a look, for example the last one before it acts.
    Asked,
}

enum Woken {
    Cancelled,
    Finished(Result<(Id, Finished), JoinError>),
    Room,
    Other,
}

impl ProbeRunner {
    /// A runner without probes; [`RunnerHandle::replace`] gives it some.
    pub fn new(events: mpsc::Sender<RunnerEvent>, cancel: CancellationToken) -> (Self, RunnerHandle) {
        let shared = Arc::new(Shared::default());
        let handle = RunnerHandle(Arc::clone(&shared));
        let runner = Self {
            shared,
            events,
            cancel,
            schedule: Schedule::new(Instant::now()),
            running: JoinSet::new(),
            in_flight: HashMap::new(),
            backlog: VecDeque::new(),
            tell_at: None,
            full: false,
            beside: None,
            late: Duration::ZERO,
            stats: RunnerStats::default(),
        };
        (runner, handle)
    }

    /// Runs it on a thread of its own, as [`ProbeRunner::run`] does; attempts that are not light run on
    /// the runtime that this is called from.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn on_own_thread(mut self) -> std::io::Result<()> {
        self.beside = Some(Handle::current());
        let shared = Arc::clone(&self.shared);
        let rest = move || {
            if shared.in_flight.load(Ordering::Relaxed) >= CROWD {
                std::thread::sleep(REST);
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(rest).build()?;
        let thread = std::thread::Builder::new().name("prober".into());
        thread.spawn(move || runtime.block_on(self.run())).map(drop)
    }

    /// Runs until it is cancelled or nobody can hear it any more; then gives up all attempts.
    pub async fn run(mut self) {
        let mut now = Instant::now();
        loop {
            let beat = now + BEAT;
            let tell_at = self.tell_at.filter(|_| !self.full);
            let wake = self.schedule.next_wake().into_iter().chain(tell_at).fold(beat, Instant::min).max(now);
            let woken = self.wait(wake).await;
            now = Instant::now();
            // Before anything that ended is judged.
            self.note_lateness(now.saturating_duration_since(wake));
            match woken {
                Woken::Cancelled => break,
                Woken::Finished(first) => {
                    self.finish(first);
                    while let Some(next) = self.running.try_join_next_with_id() {
                        self.finish(next);
                    }
                }
                Woken::Room => {
                    self.full = false;
                    self.tell_at = Some(now);
                }
                Woken::Other => {}
            }
            self.follow_requests(now);
            while let Some(name) = self.schedule.pop_due(now) {
                self.start(&name, Why::Due, now);
            }
            if self.tell_at.is_some_and(|at| at <= now) && !self.full {
                self.send();
            }
            self.stats.probes = self.schedule.len();
            self.stats.in_flight = self.in_flight.len();
            self.shared.in_flight.store(self.in_flight.len(), Ordering::Relaxed);
            *lock(&self.shared.stats) = self.stats;
            if self.events.is_closed() {
                break;
            }
        }
        // Probes hold nudges, and nudges hold this.
        *lock(&self.shared.inbox) = Inbox::default();
        self.running.shutdown().await;
    }

    async fn wait(&mut self, wake: Instant) -> Woken {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Woken::Cancelled,
            Some(finished) = self.running.join_next_with_id() => Woken::Finished(finished),
            () = self.shared.wake.notified() => Woken::Other,
            // Resolves when there is room again, or nobody left to hear.
            _ = self.events.reserve(), if self.full => Woken::Room,
            () = tokio::time::sleep_until(wake.into()) => Woken::Other,
        }
    }

    fn note_lateness(&mut self, late: Duration) {
        if late > JITTER {
            self.late += late;
        }
        if late > STALL {
            self.stats.stalls += 1;
            tracing::warn!(lasted = %HumanDuration(late), "the daemon stood still; probes that were under way abstain");
            self.push(RunnerEvent::Stalled { lasted: late }, Instant::now());
        }
    }

    fn follow_requests(&mut self, now: Instant) {
        let inbox = std::mem::take(&mut *lock(&self.shared.inbox));
        if let Some(probes) = inbox.replace {
            self.schedule.replace(probes, now);
            let schedule = &mut self.schedule;
            self.in_flight.retain(|_, attempt| {
                let kept =
                    schedule.get_mut(&attempt.name).is_some_and(|slot| Arc::ptr_eq(&slot.spec.probe, &attempt.probe));
                if !kept {
                    attempt.abort.abort();
                }
                kept
            });
        }
        for (name, pace) in inbox.paces {
            self.schedule.set_pace(&name, pace, now);
        }
        for name in inbox.now {
            self.start(&name, Why::Asked, now);
        }
        for name in inbox.nudged {
            let Some(slot) = self.schedule.get_mut(&name) else { continue };
            if slot.nudged.is_none_or(|last| now.saturating_duration_since(last) >= slot.spec.interval) {
                slot.nudged = Some(now);
                self.start(&name, Why::Due, now);
            }
        }
    }

    fn start(&mut self, name: &ProbeName, why: Why, now: Instant) {
        let Some(slot) = self.schedule.get_mut(name) else { return };
        let most = match why {
            Why::Due => MOST_IN_FLIGHT,
            // All that hang began before the question; the answer has to be of now.
            Why::Asked => MOST_IN_FLIGHT + 1,
        };
        if slot.in_flight >= most {
            self.stats.skipped += 1;
            return;
        }
        let (probe, timeout) = (Arc::clone(&slot.spec.probe), slot.spec.timeout);
        self.schedule.started(name, now);
        self.stats.started += 1;
        let attempt = {
            let probe = Arc::clone(&probe);
            async move {
                let started = Instant::now();
                let observation = super::attempt(&*probe, timeout).await;
                (started, Instant::now(), observation)
            }
        };
        let abort = match self.beside.as_ref().filter(|_| !probe.is_light()) {
            Some(beside) => self.running.spawn_on(attempt, beside),
            None => self.running.spawn(attempt),
        };
        let attempt = InFlight { name: name.clone(), probe, timeout, late: self.late, spawned: now, why, abort };
        self.in_flight.insert(attempt.abort.id(), attempt);
    }

    fn finish(&mut self, finished: Result<(Id, Finished), JoinError>) {
        let id = match &finished {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        // Those that were given up at a reload are no longer known.
        let Some(attempt) = self.in_flight.remove(&id) else { return };
        let Some(slot) = self.schedule.get_mut(&attempt.name) else { return };
        slot.in_flight = slot.in_flight.saturating_sub(1);
        let (index, calm) = (slot.spec.index, slot.is_calm() && attempt.why == Why::Due);
        let (started, finished, mut observation) = match finished {
            Ok((_, finished)) => finished,
            // Panics are caught inside; this is one in a destructor.
            Err(_) => {
                let bug =
                    Observation::unknown(CauseKind::LocalResource, "the probe itself failed (a bug: it panicked)");
                (attempt.spawned, Instant::now(), bug)
            }
        };
        let threshold = STALL.max(attempt.timeout / 4);
        let loop_late = self.late.saturating_sub(attempt.late);
        // Its own task may have been kept waiting where the loop was not.
        let own_late = finished.saturating_duration_since(attempt.spawned).saturating_sub(attempt.timeout);
        let late = loop_late.max(own_late);
        if late > threshold && observation.health() != Health::Up {
            observation = Observation::unknown(
                CauseKind::Stalled,
                format!("we stood still for {} while it ran", HumanDuration(late)),
            );
        }
        let good = observation.health() == Health::Up && observation.cause().is_none();
        let wait = if calm && good { GATHER } else { Duration::ZERO };
        self.push(
            RunnerEvent::Report(ProbeReport { probe: attempt.name, index, started, finished, observation }),
            finished + wait,
        );
    }

    /// To be told at `at`, at the latest.
    fn push(&mut self, event: RunnerEvent, at: Instant) {
        self.tell_at = Some(self.tell_at.map_or(at, |known| known.min(at)));
        if self.backlog.len() >= BACKLOG.max(8 * self.schedule.len()) {
            self.backlog.pop_front();
            self.stats.dropped += 1;
        }
        self.backlog.push_back(event);
    }

    fn send(&mut self) {
        self.tell_at = None;
        while let Some(event) = self.backlog.pop_front() {
            if let Err(error) = self.events.try_send(event) {
                if let mpsc::error::TrySendError::Full(event) = error {
                    self.backlog.push_front(event);
                    self.full = true;
                }
                return;
            }
        }
    }
}
