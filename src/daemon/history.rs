//! Hands what the probes see to the history beside the state. The loop never waits for it: a thread of its
//! own writes, and what it cannot take in time is lost, and counted.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use crate::config::shape;
use crate::control::metrics::Metrics;
use crate::core::Recorder;
use crate::model::{Observation, ProbeName, Stretch, WallTime};
use crate::state::HistoryFile;

/// What has ended is handed over this often.
const FLUSH: Duration = Duration::from_secs(10);
/// And what goes on each so many times.
const OPEN_EACH: u32 = 6;
/// Batches that wait for the disk.
const BATCHES: usize = 2;
/// Stretches that wait for the thread; the oldest give way.
const MOST_WAITING: usize = 100_000;
/// How long the end of the daemon waits for the last batch.
const LAST_BATCH: Duration = Duration::from_secs(2);

struct Batch {
    stretches: Vec<Stretch>,
    at: WallTime,
}

/// The recorder, and the way to its thread.
pub(super) struct History {
    recorder: Recorder,
    ended: VecDeque<Stretch>,
    /// `None` where nothing is recorded, or not any more.
    batches: Option<SyncSender<Batch>>,
    done: Receiver<()>,
    flushed: Instant,
    flushes: u32,
    metrics: Metrics,
}

impl History {
    /// Begins to record beside the state, unless the configuration says otherwise.
    pub(super) fn start(settings: &shape::History, path: PathBuf, metrics: &Metrics) -> Self {
        let (batches, to_write) = sync_channel::<Batch>(BATCHES);
        let (done_in, done) = sync_channel(1);
        let (keep, most_bytes) = (settings.keep.get(), u64::from(settings.max_size_mib) << 20);
        let mut batches = Some(batches).filter(|_| !keep.is_zero());
        if batches.is_some() {
            let metrics = metrics.clone();
            let work = move || {
                if let Err(error) = write_all(&path, keep, most_bytes, &to_write, &metrics) {
                    metrics.history_recording(false);
                    tracing::warn!("{error}; what the probes see is not recorded until the next start");
                }
                let _nobody_waits = done_in.send(());
            };
            if let Err(error) = std::thread::Builder::new().name("history".into()).spawn(work) {
                tracing::warn!(%error, "what the probes see is not recorded: no thread for it");
                batches = None;
            }
        }
        let (recorder, ended) = (Recorder::default(), VecDeque::new());
        Self { recorder, ended, batches, done, flushed: Instant::now(), flushes: 0, metrics: metrics.clone() }
    }

    /// Takes a look that began at `at`.
    pub(super) fn look(
        &mut self,
        probe: &ProbeName,
        at: WallTime,
        interval: Duration,
        observation: &Observation,
        took: Duration,
    ) {
        if self.batches.is_none() {
            return;
        }
        self.ended.extend(self.recorder.look(probe, at, interval, observation, took));
        while self.ended.len() > MOST_WAITING {
            let lost = self.ended.pop_front().map_or(0, |stretch| stretch.looks);
            self.metrics.history_lost(lost.into());
        }
    }

    /// Called now and then.
    pub(super) fn beat(&mut self, now: WallTime) {
        if self.batches.is_some() && self.flushed.elapsed() >= FLUSH {
            self.flushed = Instant::now();
            self.flushes = self.flushes.wrapping_add(1);
            self.flush(now, self.flushes.is_multiple_of(OPEN_EACH));
        }
    }

    fn flush(&mut self, at: WallTime, with_open: bool) {
        let Some(batches) = &self.batches else { return };
        let ended = self.ended.len();
        let mut stretches: Vec<Stretch> = self.ended.drain(..).collect();
        if with_open {
            stretches.extend(self.recorder.open().cloned());
        }
        if stretches.is_empty() {
            return;
        }
        match batches.try_send(Batch { stretches, at }) {
            Ok(()) => {}
            Err(TrySendError::Full(batch)) => self.ended.extend(batch.stretches.into_iter().take(ended)),
            Err(TrySendError::Disconnected(_)) => {
                self.batches = None;
                self.recorder.end();
            }
        }
    }

    /// Hands over the rest, and waits a moment for it.
    pub(super) fn finish(&mut self, now: WallTime) {
        self.flush(now, true);
        if self.batches.take().is_some() {
            // Where it takes longer, the rest is lost: the end of the daemon does not wait for it.
            let _in_time = self.done.recv_timeout(LAST_BATCH);
        }
    }
}

fn write_all(
    path: &std::path::Path,
    keep: Duration,
    most_bytes: u64,
    batches: &Receiver<Batch>,
    metrics: &Metrics,
) -> Result<(), crate::state::HistoryError> {
    let mut file = HistoryFile::open(path, keep, most_bytes)?;
    metrics.history_recording(true);
    loop {
        match batches.recv_timeout(Duration::from_secs(3600)) {
            Ok(Batch { stretches, at }) => file.keep(&stretches, at)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
