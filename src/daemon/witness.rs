//! `failoverd witness NAME`: probes what the daemon probes, from another failure domain, and answers with
//! its votes. It decides nothing, changes nothing and keeps nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::logging;
use super::notify_socket::Systemd;
use super::reload::{ProbeBuilder, load_again};
use super::renewal::{Renewal, Renewals};
use super::sight_log::SightLog;
use super::signals::{Signals, Wish};
use super::start::{StartError, serve_health};
use super::voice::{self, Question, Voice};
use crate::clients::Clients;
use crate::config::load::{LoadOptions, Loaded};
use crate::control::health::Pulse;
use crate::control::metrics::Metrics;
use crate::core::view::StatusView;
use crate::core::{Brain, Effect, Event};
use crate::model::{Mode, Settings, VantageId};
use crate::probes::runner::{Pace, ProbeRunner, RunnerEvent, RunnerHandle};

/// The loop says that it lives at least this often.
const BEAT: Duration = Duration::from_millis(500);
/// What `/metrics` shows is made anew this often.
const REFRESH: Duration = Duration::from_secs(1);
/// Reports that wait for the loop.
const REPORTS: usize = 1024;

struct Witness {
    name: VantageId,
    brain: Brain,
    clock: Clock,
    runner: RunnerHandle,
    load: LoadOptions,
    builder: ProbeBuilder,
    metrics: Metrics,
    pulse: Pulse,
    status: watch::Sender<Arc<StatusView>>,
    voice: Voice,
    renewals: Renewals,
    sight_log: SightLog,
    systemd: Systemd,
    refreshed: Instant,
}

/// What the brain of a witness knows: the probes, and nothing that could be carried out.
fn settings_of(loaded: &Loaded, name: &VantageId) -> Result<Settings, StartError> {
    let all = &loaded.settings;
    let own = all.witnesses.iter().find(|witness| witness.name == *name).ok_or_else(|| {
        let known: Vec<&str> = all.witnesses.iter().map(|witness| witness.name.as_str()).collect();
        let known = if known.is_empty() { "there is none".into() } else { format!("there is {}", known.join(", ")) };
        StartError::Configuration(format!("there is no [witnesses.{name}] in the configuration ({known})"))
    })?;
    Ok(Settings {
        name: own.name.clone(),
        domain: own.domain.clone(),
        mode: Mode::AlertOnly,
        quorum: 1,
        witnesses: Vec::new(),
        scenarios: Vec::new(),
        plans: Vec::new(),
        manual_scenario: None,
        drills: Default::default(),
        ..all.clone()
    })
}

/// Runs a witness until it is asked to end.
///
/// # Errors
/// [`StartError`], which says what to do.
pub async fn run(loaded: Loaded, load: LoadOptions, name: &str) -> Result<(), StartError> {
    let log = logging::init(&loaded.file.log)?;
    live(&loaded, load, &name.into()).await.map_err(|error| {
        if log.is_for_people() {
            return error;
        }
        tracing::error!("{error}");
        StartError::Told { exit_code: error.exit_code() }
    })
}

async fn live(loaded: &Loaded, load: LoadOptions, name: &VantageId) -> Result<(), StartError> {
    let wrong = |error: String| StartError::Configuration(error);
    let settings = settings_of(loaded, name)?;
    let stop = CancellationToken::new();
    let clock = Clock::new();
    let metrics = Metrics::new().map_err(|error| wrong(error.to_string()))?;
    let mut builder = ProbeBuilder::new(Arc::new(Clients::new(&loaded.file.limits)));
    let brain = Brain::new(settings, &[], clock.now())
        .map_err(|source| StartError::Replay { path: "nothing".into(), source })?;
    let (reports_in, mut reports) = mpsc::channel(REPORTS);
    let (probe_runner, runner) = ProbeRunner::new(reports_in, stop.clone());
    let specs = builder.specs(loaded, &runner).map_err(wrong)?;
    let table = loaded.file.witnesses.get(name.as_str());
    let table = table.ok_or_else(|| wrong("it is not in the file".to_owned()))?;
    let (voice, mut questions) = voice::listen(&loaded.file, name, (table, "witnesses.NAME.listen"), &stop).await?;
    let (status, status_seen) = watch::channel(Arc::new(brain.status(clock.now())));
    let pulse = Pulse::new();
    serve_health(loaded.file.metrics.listen.as_deref(), &pulse, status_seen, &metrics, &stop).await?;
    pulse.set_state_open(true);
    let (renewals, mut renewed) = Renewals::start(&loaded.file, load.user, &stop);
    let mut signals =
        Signals::new().map_err(|source| StartError::System { what: "cannot listen to signals", source })?;
    runner.replace(specs);
    let no_thread = |source| StartError::System { what: "cannot start the thread of the probes", source };
    probe_runner.on_own_thread().map_err(no_thread)?;
    let mut witness = Witness {
        name: name.clone(),
        brain,
        clock,
        runner,
        load,
        builder,
        metrics,
        pulse,
        status,
        voice,
        renewals,
        sight_log: SightLog::default(),
        systemd: Systemd::from_env(),
        refreshed: Instant::now(),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), hash = %loaded.hash, "{}", witness.summary());
    witness.systemd.ready(&witness.summary());
    witness.run(&mut reports, &mut questions, &mut renewed, &mut signals).await;
    witness.systemd.stopping("ended");
    stop.cancel();
    tracing::info!("ended");
    Ok(())
}

impl Witness {
    async fn run(
        &mut self,
        reports: &mut mpsc::Receiver<RunnerEvent>,
        questions: &mut mpsc::Receiver<Question>,
        renewed: &mut mpsc::Receiver<Renewal>,
        signals: &mut Signals,
    ) {
        let mut beat = tokio::time::interval(BEAT.min(self.systemd.watchdog_interval().unwrap_or(BEAT)));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let idle = Instant::now() + Duration::from_secs(3600);
            let wake = self.brain.next_wake().map_or(idle, |at| self.clock.instant(at));
            tokio::select! {
                biased;
                wish = signals.next() => match wish {
                    Wish::End => return,
                    Wish::Reload => self.reload().await,
                    Wish::Failover | Wish::TogglePause => {
                        tracing::warn!("a witness has nothing to fail over and nothing to pause");
                    }
                },
                _ = beat.tick() => self.beat(),
                () = tokio::time::sleep_until(wake.into()) => self.feed(Event::Tick),
                Some(question) = questions.recv() => {
                    // Whoever asked may have gone away.
                    drop(question.send(self.brain.own_votes(self.clock.now())));
                }
                Some(renewal) = renewed.recv() => self.renew(renewal),
                Some(report) = reports.recv() => self.report(report),
            }
            self.pulse.beat();
        }
    }

    /// Takes the certificate that is on disk now, where it is another one than before.
    fn renew(&mut self, renewal: Renewal) {
        let file = self.renewals.file();
        let table = file.witnesses.get(self.name.as_str());
        // Who looks at the files ends with the daemon.
        drop(renewal.send(table.map_or(Ok(false), |table| self.voice.reload(file, &self.name, table))));
    }

    fn beat(&mut self) {
        self.systemd.feed();
        if let Some(by) = self.clock.jumped() {
            tracing::warn!(?by, "the wall clock jumped");
            self.feed(Event::Stalled { by });
        }
        if self.refreshed.elapsed() >= REFRESH {
            self.refreshed = Instant::now();
            self.status.send_replace(Arc::new(self.brain.status(self.clock.now())));
        }
    }

    fn report(&mut self, event: RunnerEvent) {
        match event {
            RunnerEvent::Report(report) => {
                let took = report.finished.saturating_duration_since(report.started);
                self.metrics.probe_attempt(&report.probe, &report.observation, took);
                let started = self.clock.mono(report.started);
                self.feed(Event::Observed { probe: report.probe, started, observation: report.observation });
            }
            RunnerEvent::Stalled { lasted } => {
                self.metrics.loop_stalled();
                self.feed(Event::Stalled { by: lasted });
            }
        }
    }

    fn feed(&mut self, event: Event) {
        let (now, about) = (self.clock.now(), SightLog::about(&event));
        let changes_nothing = self.voice.changes_nothing(&event);
        let effects = self.brain.handle(now, event);
        self.sight_log.note(about, &self.brain, now);
        for effect in effects {
            match effect {
                Effect::Pace { probe, fast } => {
                    self.runner.set_pace(&probe, if fast { Pace::Fast } else { Pace::Normal });
                }
                Effect::ProbeNow(probe) => self.runner.probe_now(&probe),
                Effect::Notify(notice) => tracing::warn!("{}", notice.subject),
                // Without scenarios and plans there is nothing to be kept, called or answered.
                Effect::Journal(_)
                | Effect::Call(_)
                | Effect::Cancel(_)
                | Effect::Reply(_)
                | Effect::HandOver { .. } => {}
            }
        }
        if !changes_nothing {
            self.voice.note(now, &self.brain);
        }
    }

    async fn reload(&mut self) {
        self.systemd.reloading();
        let taken = load_again(&self.load).await;
        let settings = taken.and_then(|loaded| {
            let settings = settings_of(&loaded, &self.name).map_err(|error| error.to_string())?;
            self.runner.replace(self.builder.specs(&loaded, &self.runner)?);
            let table = loaded.file.witnesses.get(self.name.as_str());
            let told = table.map_or(Ok(false), |table| self.voice.reload(&loaded.file, &self.name, table));
            self.renewals.replace(&loaded.file);
            if let Err(error) = &told {
                tracing::error!("votes are told under the former certificate: {error}");
            }
            Ok((settings, told.is_ok()))
        });
        self.metrics.config_reload(matches!(settings, Ok((_, true))));
        match settings {
            Ok((settings, told)) => {
                self.feed(Event::Reload(Box::new(settings)));
                let but = if told { "" } else { ", but for the certificate, of which the former one holds" };
                tracing::info!("configuration reloaded{but}; its address is taken at the next start");
            }
            Err(error) => tracing::error!("the configuration was not reloaded, the old one holds:\n{error}"),
        }
        self.systemd.ready(&self.summary());
    }

    fn summary(&self) -> String {
        let settings = self.brain.settings();
        format!("witness {} in {}, watching {} probes", settings.name, settings.domain, settings.probes.len())
    }
}
