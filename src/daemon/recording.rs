//! Records what the brain is told and what it wants, for `failoverd replay`. The loop never waits for it: a
//! thread of its own writes, and what it cannot take in time is lost, counted, and named by the replay.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use crate::config::shape;
use crate::control::metrics::Metrics;
use crate::core::tape::Writer;
use crate::core::{Brain, Checkpoint, Effect, Event};
use crate::model::Now;
use crate::state::{InputsError, InputsWriter};

/// A segment is no longer: that is as much as has to be played to come to a decision.
const SEGMENT: Duration = Duration::from_secs(300);
/// So much is gathered before it is handed over.
const BLOCK: usize = 64 << 10;
/// Blocks that wait for the disk.
const BLOCKS: usize = 64;
/// How long the end of the daemon waits for the last block.
const LAST_BLOCK: Duration = Duration::from_secs(2);

enum Job {
    Begin(Box<Checkpoint>),
    Block { bytes: Vec<u8>, keep: bool },
}

/// The tape, and the way to its thread.
pub(super) struct Recording {
    /// `None` where nothing is recorded, or not any more.
    jobs: Option<SyncSender<Job>>,
    done: Receiver<()>,
    tape: Option<Writer>,
    began: Instant,
    /// Inputs since the last block that was taken.
    inputs: u64,
    /// Inputs that were lost since the last one that was not.
    lost: u64,
    /// The segment is marked as one to be kept.
    kept: bool,
    /// Something was decided, and is handed over once it was carried out.
    is_due: bool,
    is_reloaded: bool,
    metrics: Metrics,
}

impl Recording {
    /// Begins to record beside the state, unless the configuration says otherwise.
    pub(super) fn start(settings: &shape::Recording, folder: PathBuf, metrics: &Metrics) -> Self {
        let (jobs, to_write) = sync_channel::<Job>(BLOCKS);
        let (done_in, done) = sync_channel(1);
        let (keep, most_bytes) = (settings.keep.get(), u64::from(settings.max_size_mib) << 20);
        let mut jobs = Some(jobs).filter(|_| !keep.is_zero());
        if jobs.is_some() {
            let metrics = metrics.clone();
            let work = move || {
                if let Err(error) = write_all(&folder, keep, most_bytes, &to_write, &metrics) {
                    metrics.recording(false);
                    tracing::warn!("{error}; what the brain is told is not recorded until the next start");
                }
                let _nobody_waits = done_in.send(());
            };
            if let Err(error) = std::thread::Builder::new().name("recording".into()).spawn(work) {
                tracing::warn!(%error, "what the brain is told is not recorded: no thread for it");
                jobs = None;
            }
        }
        let metrics = metrics.clone();
        Self {
            jobs,
            done,
            tape: None,
            began: Instant::now(),
            inputs: 0,
            lost: 0,
            kept: false,
            is_due: false,
            is_reloaded: false,
            metrics,
        }
    }

    /// Before the brain begins.
    pub(super) fn begin(&mut self, now: Now, brain: &Brain) {
        if self.jobs.is_some() {
            self.segment(brain.beginning(now, env!("CARGO_PKG_VERSION")));
        }
    }

    /// Before the brain is told.
    pub(super) fn input(&mut self, now: Now, event: &Event, brain: &Brain) {
        if self.jobs.is_none() {
            return;
        }
        match &mut self.tape {
            Some(tape) => {
                self.inputs += 1;
                self.is_reloaded |= matches!(event, Event::Reload(_));
                tape.input(now, event, |probe| brain.place(probe));
            }
            None => self.lose(1),
        }
    }

    /// When it has said what it wants.
    pub(super) fn output(&mut self, effects: &[Effect]) {
        let Some(tape) = &mut self.tape else { return };
        tape.output(effects);
        self.is_due |= effects.iter().any(|effect| !matches!(effect, Effect::Pace { .. } | Effect::ProbeNow(_)));
    }

    /// When that was carried out: what is not in the journal must not be in the recording either.
    pub(super) fn settle(&mut self, now: Now, brain: &Brain) {
        if self.is_due || self.tape.as_ref().is_some_and(|tape| tape.waiting() >= BLOCK) {
            self.hand_over(brain);
        }
        if std::mem::take(&mut self.is_reloaded) && self.jobs.is_some() {
            // The probes have other places now.
            self.segment(brain.checkpoint(now, env!("CARGO_PKG_VERSION")));
        }
    }

    /// What the brain decided last was not carried out, and it was set back: a segment begins anew.
    pub(super) fn cut(&mut self, now: Now, brain: &Brain) {
        if self.jobs.is_some() {
            self.is_due = false;
            self.inputs = 0;
            self.segment(brain.checkpoint(now, env!("CARGO_PKG_VERSION")));
        }
    }

    /// Called now and then, between two inputs.
    pub(super) fn beat(&mut self, now: Now, brain: &Brain) {
        if self.jobs.is_none() {
            return;
        }
        self.hand_over(brain);
        if self.tape.is_none() || self.began.elapsed() >= SEGMENT {
            self.segment(brain.checkpoint(now, env!("CARGO_PKG_VERSION")));
        }
    }

    /// Hands over the rest, where it was carried out, and waits a moment for it.
    pub(super) fn finish(&mut self, brain: &Brain, carried_out: bool) {
        if carried_out {
            self.hand_over(brain);
        }
        if self.jobs.take().is_some() {
            let _in_time = self.done.recv_timeout(LAST_BLOCK);
        }
    }

    fn segment(&mut self, mut checkpoint: Checkpoint) {
        let now = checkpoint.now;
        checkpoint.lost = self.lost;
        if self.send(Job::Begin(Box::new(checkpoint))) {
            self.tape = Some(Writer::new(now));
            (self.began, self.lost, self.kept) = (Instant::now(), 0, false);
        }
    }

    fn hand_over(&mut self, brain: &Brain) {
        self.is_due = false;
        let Some(tape) = &mut self.tape else { return };
        if tape.waiting() == 0 {
            return;
        }
        let bytes = tape.take();
        let keep = !self.kept && brain.is_occupied();
        if self.send(Job::Block { bytes, keep }) {
            self.kept |= keep;
        } else {
            // What follows does not follow from what is on the disk: a segment begins anew.
            self.tape = None;
            self.lose(self.inputs);
        }
        self.inputs = 0;
    }

    fn lose(&mut self, inputs: u64) {
        self.lost += inputs;
        self.metrics.recording_lost(inputs);
    }

    fn send(&mut self, job: Job) -> bool {
        match self.jobs.as_ref().map(|jobs| jobs.try_send(job)) {
            Some(Ok(())) => true,
            Some(Err(TrySendError::Full(_))) => false,
            Some(Err(TrySendError::Disconnected(_))) | None => {
                (self.jobs, self.tape) = (None, None);
                false
            }
        }
    }
}

fn write_all(
    folder: &std::path::Path,
    keep: Duration,
    most_bytes: u64,
    jobs: &Receiver<Job>,
    metrics: &Metrics,
) -> Result<(), InputsError> {
    let mut inputs = InputsWriter::open(folder, keep, most_bytes)?;
    metrics.recording(true);
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Begin(checkpoint) => inputs.begin(&serde_json::to_vec(&checkpoint).unwrap_or_default())?,
            Job::Block { bytes, keep } => {
                inputs.write(&bytes)?;
                if keep {
                    inputs.keep()?;
                }
            }
        }
    }
    Ok(())
}
