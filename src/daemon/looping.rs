//! The loop: an event in, `now` read, the brain asked, its effects carried out in their order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::anchors::Anchors;
use super::clock::Clock;
use super::executor::{Executor, Finished, changes};
use super::handle::Request;
use super::history::History;
use super::last_words::LastWords;
use super::members::{MemberEars, Members};
use super::notices::Notices;
use super::notify_socket::Systemd;
use super::readiness::Desk;
use super::recording::Recording;
use super::reload::{self, Reloader};
use super::renewal::{Renewal, Renewals};
use super::sight_log::SightLog;
use super::signals::{Signals, Wish};
use super::voice::Question;
use super::witnesses::Witnesses;
use crate::control::health::Pulse;
use crate::control::metrics::Metrics;
use crate::core::view::StatusView;
use crate::core::{Answer, Brain, Command, Effect, Event, Refusal};
use crate::model::{Entry, Notice, Record, StepEnd};
use crate::ports::{Addressed, Journal, JournalError};
use crate::probes::runner::{Pace, RunnerEvent, RunnerHandle};
use crate::readiness::Subject;
use crate::state::etcd::StoreEvent;
use crate::vantage::ask;

/// The loop says that it lives at least this often.
const BEAT: Duration = Duration::from_millis(500);
/// Watchers are told of what moves without a decision (latencies, lags) this often.
const REFRESH: Duration = Duration::from_secs(1);
/// What only changes how is probed is told at most this often: the view of a thousand
/// probes takes a millisecond to make, and an outage changes the pace of all of them.
const CALM: Duration = Duration::from_millis(50);
/// Reports that are taken at one go before everything else has its turn again.
const REPORTS: usize = 256;

/// What the loop hears.
pub(super) struct Ears {
    pub(super) finished: mpsc::UnboundedReceiver<Finished>,
    pub(super) reports: mpsc::Receiver<RunnerEvent>,
    pub(super) votes: mpsc::Receiver<ask::Heard>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) readiness: mpsc::Receiver<Notice>,
    pub(super) signals: Signals,
    pub(super) renewals: mpsc::Receiver<Renewal>,
    pub(super) members: MemberEars,
}

/// What the loop works with.
pub(super) struct Loop {
    pub(super) brain: Brain,
    pub(super) clock: Clock,
    pub(super) journal: Box<dyn Journal>,
    pub(super) executor: Executor,
    pub(super) notices: Notices,
    pub(super) runner: RunnerHandle,
    pub(super) metrics: Metrics,
    pub(super) pulse: Pulse,
    pub(super) status: watch::Sender<Arc<StatusView>>,
    pub(super) systemd: Systemd,
    pub(super) reloader: Reloader,
    pub(super) witnesses: Witnesses,
    pub(super) renewals: Renewals,
    pub(super) sight_log: SightLog,
    pub(super) history: History,
    pub(super) readiness: Desk,
    pub(super) recording: Recording,
    pub(super) anchors: Anchors,
    /// `None` where this daemon is alone.
    pub(super) members: Option<Members>,
    pub(super) shutdown_grace: Duration,
    pub(super) published: Instant,
    /// Something has changed since then.
    pub(super) untold: bool,
    pub(super) ending: Option<Instant>,
}

enum Heard {
    Finished(Finished),
    Report(RunnerEvent),
    Votes(ask::Heard),
    Request(Request),
    Readiness(Notice),
    Store(StoreEvent),
    Question(Question),
    Wish(Wish),
    Renewal(Renewal),
    Beat,
    Wake,
    Tell,
}

/// What is written at one go.
#[derive(Default)]
struct Writing {
    records: Vec<Record>,
    notices: Vec<Addressed>,
}

type Reply = Result<Answer, Refusal>;

impl Loop {
    /// Runs until it is asked to end, or until the journal cannot be written.
    pub(super) async fn run(&mut self, mut ears: Ears) -> Result<(), JournalError> {
        let mut beat = tokio::time::interval(BEAT.min(self.systemd.watchdog_interval().unwrap_or(BEAT)));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = self.brain.next_wake().map(|at| self.clock.instant(at));
            let idle = Instant::now() + Duration::from_secs(3600);
            let heard = tokio::select! {
                biased;
                Some(finished) = ears.finished.recv() => Heard::Finished(finished),
                wish = ears.signals.next() => Heard::Wish(wish),
                _ = beat.tick() => Heard::Beat,
                () = tokio::time::sleep_until(wake.unwrap_or(idle).into()) => Heard::Wake,
                () = tokio::time::sleep_until((self.published + CALM).into()), if self.untold => Heard::Tell,
                Some(event) = ears.members.store.recv() => Heard::Store(event),
                Some(votes) = ears.votes.recv() => Heard::Votes(votes),
                Some(question) = ears.members.questions.recv() => Heard::Question(question),
                Some(request) = ears.requests.recv() => Heard::Request(request),
                Some(notice) = ears.readiness.recv() => Heard::Readiness(notice),
                Some(renewal) = ears.renewals.recv() => Heard::Renewal(renewal),
                Some(report) = ears.reports.recv() => Heard::Report(report),
            };
            self.pulse.beat();
            let result = match heard {
                Heard::Report(first) => self.reports(first, &mut ears.reports),
                Heard::Wish(wish) => self.wish(wish).await,
                other => self.hear(other),
            };
            // A command may have asked for a hand-over.
            result.and_then(|()| self.hand_over()).or_else(|error| self.outlive(error))?;
            if self.has_ended() {
                return Ok(());
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.ending.is_some_and(|until| self.executor.changing() == 0 || Instant::now() >= until)
    }

    fn hear(&mut self, heard: Heard) -> Result<(), JournalError> {
        match heard {
            Heard::Finished(Finished { call, outcome }) => {
                self.executor.heard(call);
                self.feed(Event::Outcome { call, outcome })?;
            }
            Heard::Votes(heard) => {
                let counted = self.witnesses.count(heard, &self.clock, self.brain.settings());
                if let Some(event) = counted {
                    self.feed(event)?;
                }
            }
            Heard::Request(request) => self.request(request)?,
            Heard::Store(event) => self.store(event)?,
            // Whoever asked may have gone away.
            Heard::Question(question) => drop(question.send(self.brain.own_votes(self.clock.now()))),
            // Every member looks; one tells.
            Heard::Readiness(notice) if self.follows() => tracing::debug!("{}", notice.subject),
            Heard::Readiness(notice) => {
                let notices = vec![self.notices.address(notice)];
                self.write(&mut Writing { records: Vec::new(), notices })?;
            }
            Heard::Wake => {
                self.feed(Event::Tick)?;
            }
            Heard::Beat => self.beat()?,
            Heard::Tell => self.publish(),
            Heard::Renewal(renewal) => self.renew(renewal),
            Heard::Report(_) | Heard::Wish(_) => {}
        }
        Ok(())
    }

    fn beat(&mut self) -> Result<(), JournalError> {
        self.systemd.feed();
        // Also the outbox writes there, and somebody may have taken the file away.
        self.journal.sound()?;
        self.watch_lease()?;
        if let Some(by) = self.clock.jumped() {
            tracing::warn!(?by, "the wall clock jumped");
            self.feed(Event::Stalled { by })?;
        }
        if self.published.elapsed() >= REFRESH {
            self.publish();
        }
        let now = self.clock.now();
        self.history.beat(now.wall);
        self.recording.beat(now, &self.brain);
        if self.anchors.is_due() {
            self.anchor()?;
        }
        Ok(())
    }

    /// Sends an anchor of the journal away, where it has grown since the last one.
    pub(super) fn anchor(&mut self) -> Result<(), JournalError> {
        if self.follows() {
            return Ok(());
        }
        let (name, at) = (self.brain.settings().name.to_string(), self.clock.now().wall);
        let Some(notice) = self.anchors.notice(self.journal.newest(), &name, at) else { return Ok(()) };
        let notices = vec![self.notices.address(notice)];
        self.write(&mut Writing { records: Vec::new(), notices })
    }

    fn reports(&mut self, first: RunnerEvent, more: &mut mpsc::Receiver<RunnerEvent>) -> Result<(), JournalError> {
        self.report(first)?;
        for _ in 1..REPORTS {
            match more.try_recv() {
                Ok(report) => self.report(report)?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn report(&mut self, event: RunnerEvent) -> Result<(), JournalError> {
        match event {
            RunnerEvent::Report(report) => {
                let took = report.finished.saturating_duration_since(report.started);
                self.metrics.probe_attempt(&report.probe, &report.observation, took);
                let started = self.clock.mono(report.started);
                if let Some(probe) = self.brain.settings().probes.get(report.index) {
                    let at = self.clock.now().wall_of(started);
                    self.history.look(&report.probe, at, probe.interval.get(), &report.observation, took);
                }
                self.feed(Event::Observed { probe: report.probe, started, observation: report.observation })?;
            }
            RunnerEvent::Stalled { lasted } => {
                self.metrics.loop_stalled();
                tracing::warn!(?lasted, "we stood still");
                self.feed(Event::Stalled { by: lasted })?;
            }
        }
        Ok(())
    }

    fn request(&mut self, request: Request) -> Result<(), JournalError> {
        let now = self.clock.now();
        // Whoever asked may have gone away; the answer is then for nobody.
        match request {
            Request::Status(reply) => drop(reply.send(self.view())),
            Request::Incidents(reply) => drop(reply.send(self.brain.incidents())),
            Request::Runs(reply) => drop(reply.send(self.brain.runs(now))),
            Request::Run(id, reply) => drop(reply.send(self.brain.run(now, &id))),
            Request::Notices(reply) => drop(reply.send(self.notices.undelivered())),
            Request::Evidence(reply) => drop(reply.send(self.brain.plan_evidence(now))),
            Request::Scorecard(reply) => drop(reply.send(self.brain.scorecard())),
            Request::Command { by, command, reply } => {
                let Some((by, command, reply)) = self.forward(by, command, reply) else { return Ok(()) };
                if let Some(answer) = self.feed(Event::Command { by, command })? {
                    drop(reply.send(answer));
                }
            }
            Request::Refused { by, what } => self.refused(by, what)?,
        }
        Ok(())
    }

    async fn wish(&mut self, wish: Wish) -> Result<(), JournalError> {
        match wish {
            Wish::Reload => self.reload().await,
            Wish::Failover => match self.brain.settings().manual_scenario.clone() {
                Some(scenario) => self.by_signal("SIGUSR1", Command::Failover { scenario, allow_data_loss: None }),
                None => {
                    tracing::error!("SIGUSR1: daemon.manual_scenario is not set, so there is nothing to carry out");
                    let what = "failover: daemon.manual_scenario is not set".to_owned();
                    self.refused("signal SIGUSR1".into(), what)
                }
            },
            Wish::TogglePause => {
                let paused = self.brain.ledger().paused.is_some();
                self.by_signal("SIGUSR2", if paused { Command::Resume } else { Command::Pause })
            }
            Wish::End => self.end(),
        }
    }

    fn by_signal(&mut self, signal: &str, command: Command) -> Result<(), JournalError> {
        // The API counts its own commands.
        let name = crate::control::api::command_name(&command);
        let (answer, told) = tokio::sync::oneshot::channel();
        let Some((by, command, _)) = self.forward(format!("signal {signal}"), command, answer) else {
            let (signal, metrics) = (signal.to_owned(), self.metrics.clone());
            tokio::spawn(async move {
                if let Ok(reply) = told.await {
                    tell_reply(&signal, name, &reply, &metrics);
                }
            });
            return Ok(());
        };
        if let Some(reply) = self.feed(Event::Command { by, command })? {
            tell_reply(signal, name, &reply, &self.metrics);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), JournalError> {
        if self.ending.is_some() {
            tracing::warn!("asked to end twice: not waiting any longer");
            self.ending = Some(Instant::now());
            return Ok(());
        }
        let out = self.executor.changing();
        tracing::info!(calls = out, "ending; a run that is active goes on after the next start");
        self.systemd.stopping("ending");
        self.systemd.extend_timeout(self.shutdown_grace);
        self.ending = Some(Instant::now() + self.shutdown_grace);
        self.feed(Event::Ending)?;
        Ok(())
    }

    async fn reload(&mut self) -> Result<(), JournalError> {
        self.systemd.reloading();
        let taken = self.reloader.load().await;
        match taken {
            Ok(loaded) => {
                let vantages_taken = self.reload_vantages(&loaded);
                self.metrics.config_reload(vantages_taken);
                self.readiness.replace(Subject::of(&loaded));
                self.anchors.replace(loaded.file.audit.clone());
                let settings = self.reloader.take(&loaded, &self.runner, &mut self.notices, &self.metrics);
                self.feed(Event::Reload(Box::new(settings)))?;
                loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                self.warm();
                let but = if vantages_taken { "" } else { ", but for the certificates, of which the former ones hold" };
                tracing::info!(hash = %loaded.hash, "configuration reloaded{but}; what is running keeps its plan");
            }
            Err(error) => {
                self.metrics.config_reload(false);
                tracing::error!("the configuration was not reloaded, the old one holds:\n{error}");
            }
        }
        self.systemd.ready(&self.summary());
        Ok(())
    }

    /// Readies what a run will need.
    pub(super) fn warm(&self) {
        reload::warm(self.brain.settings(), self.notices.routes(), &self.reloader.clients);
    }

    /// Hands an event to the brain and carries out what it wants.
    pub(super) fn feed(&mut self, event: Event) -> Result<Option<Reply>, JournalError> {
        let (now, about) = (self.clock.now(), SightLog::about(&event));
        let is_quiet = self.members.as_ref().is_none_or(|members| members.changes_nothing(&event));
        self.recording.input(now, &event, &self.brain);
        let effects = self.brain.handle(now, event);
        self.recording.output(&effects);
        self.sight_log.note(about, &self.brain, now);
        if let Some(members) = self.members.as_mut().filter(|_| !is_quiet) {
            members.note(now, &self.brain);
        }
        let reply = if effects.is_empty() { None } else { self.carry_out(effects)? };
        self.recording.settle(now, &self.brain);
        Ok(reply)
    }

    /// Carries out effects in their order. Records are on disk before anything outside is changed
    /// (S2). Until then they are gathered, so that a verdict costs one write and not three; and what
    /// only looks (a probe, an observation) waits for no disk. A notice is kept together with the
    /// record that it tells of, so that a crash loses both or none, and costs no write of its own.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) -> Result<Option<Reply>, JournalError> {
        let mut reply = None;
        let mut writing = Writing::default();
        let moved = effects.iter().any(|effect| !matches!(effect, Effect::Pace { .. } | Effect::ProbeNow(_)));
        for effect in effects {
            match effect {
                Effect::Journal(records) => writing.records.extend(records),
                Effect::Notify(notice) => writing.notices.push(self.notices.address(notice)),
                Effect::ProbeNow(probe) => self.runner.probe_now(&probe),
                Effect::Call(call) => {
                    if changes(call.phase) {
                        self.write(&mut writing)?;
                    }
                    self.executor.begin(*call);
                }
                Effect::Cancel(call) => self.executor.cancel(call),
                Effect::Pace { probe, fast } => {
                    self.runner.set_pace(&probe, if fast { Pace::Fast } else { Pace::Normal });
                }
                Effect::HandOver { to, why } => {
                    if let Some(members) = &mut self.members {
                        members.heir = Some((to, why));
                    }
                }
                Effect::Reply(answer) => reply = Some(answer),
            }
        }
        self.write(&mut writing)?;
        self.untold = true;
        if moved || self.published.elapsed() >= CALM {
            self.publish();
        }
        Ok(reply)
    }

    fn write(&mut self, writing: &mut Writing) -> Result<(), JournalError> {
        let Writing { records, notices } = std::mem::take(writing);
        if !records.is_empty() || !notices.is_empty() {
            let began = Instant::now();
            let (journal, outbox) = (&mut self.journal, self.notices.outbox());
            // The loop waits: nothing that comes after may be begun before the records are on disk.
            tokio::task::block_in_place(|| journal.append_and_tell(&records, &notices, outbox))?;
            self.metrics.journal_append(began.elapsed());
            self.notices.deliver(&notices);
        }
        records.iter().for_each(|record| self.count(record));
        Ok(())
    }

    fn count(&self, record: &Record) {
        match &record.entry {
            Entry::RunEnded { run, result } => {
                if let Some(run) = self.brain.ledger().runs.get(run).filter(|run| !run.is_drill()) {
                    self.metrics.run_ended(&run.scenario, *result);
                }
            }
            Entry::DrillJudged { run, verdict, .. } => {
                let run = self.brain.ledger().runs.get(run);
                if let Some((run, terms)) = run.and_then(|run| Some((run, run.drill()?))) {
                    self.metrics.drill_judged(&run.plan.name, &terms.target, verdict, record.at);
                }
            }
            Entry::StepEnded { run, step, end, took } => {
                let run = self.brain.ledger().runs.get(run);
                let kind = run.and_then(|run| run.plan.step(step)).map(|step| step.work.kind());
                let result = match end {
                    StepEnd::Done { already: true, .. } => "already_done",
                    StepEnd::Done { .. } => "done",
                    StepEnd::Failed { .. } => "failed",
                    StepEnd::Skipped { .. } => "skipped",
                };
                if let Some(kind) = kind {
                    self.metrics.step_ended(kind.as_str(), result, *took);
                }
            }
            _ => {}
        }
        self.metrics.told(&record.entry, self.brain.ledger());
        tracing::debug!(seq = record.seq, entry = ?record.entry, "journal");
    }

    /// Everything at a glance, with what the brain has no part in.
    fn view(&self) -> StatusView {
        let own = &self.brain.settings().name;
        let members = self.members.as_ref().map(|members| members.view(own, self.brain.membership()));
        StatusView { readiness: self.readiness.lines(), members, ..self.brain.status(self.clock.now()) }
    }

    pub(super) fn publish(&mut self) {
        self.published = Instant::now();
        self.untold = false;
        self.status.send_replace(Arc::new(self.view()));
        self.systemd.status(&self.summary());
    }

    /// One line for `systemctl status`.
    pub(super) fn summary(&self) -> String {
        let view = self.status.borrow();
        let incidents = view.scenarios.iter().filter(|scenario| scenario.incident.is_some()).count();
        let run = match &view.run {
            Some(run) => format!("run {} active", run.id),
            None => "no run".to_owned(),
        };
        let paused = if view.paused_by.is_some() { ", paused" } else { "" };
        format!("watching {} probes, mode {}{paused}, {incidents} open incidents, {run}", view.probes.len(), view.mode)
    }

    /// The journal cannot be written: nothing is decided any more.
    pub(super) fn last_words(&self, error: &JournalError) -> Notice {
        let run = self.brain.ledger().active_run().map(|run| run.id.clone());
        LastWords::of(self.brain.settings().name.as_str(), "stops", error, self.clock.now().wall, run)
    }
}

fn tell_reply(signal: &str, name: &'static str, reply: &Reply, metrics: &Metrics) {
    metrics.command(name, if reply.is_ok() { "done" } else { "refused" });
    match reply {
        Ok(answer) => tracing::warn!("{signal}: {}", answer.text),
        Err(refusal) => tracing::error!("{signal}: refused: {refusal}"),
    }
}
