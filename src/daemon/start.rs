//! Starts the daemon: state, brain, socket, probes, loop; and takes them down again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::anchors::Anchors;
use super::clock::Clock;
use super::executor::Executor;
use super::handle::Handle;
use super::history::History;
use super::last_words::LastWords;
use super::links;
use super::logging::{self, LoggingError};
use super::looping::{Ears, Loop};
use super::members::{self, MemberEars, Members};
use super::notices::{Notices, Route};
use super::notify_socket::Systemd;
use super::readiness::Desk;
use super::recording::Recording;
use super::reload::{Fixed, ProbeBuilder, Reloader, lists, routes};
use super::renewal::Renewals;
use super::sight_log::SightLog;
use super::signals::Signals;
use super::switches;
use super::voice;
use super::witnesses::Witnesses;
use crate::actions;
use crate::clients::Clients;
use crate::config::load::{LoadOptions, Loaded};
use crate::config::shape::File;
use crate::control::api;
use crate::control::health::{self, Health, Pulse};
use crate::control::metrics::Metrics;
use crate::control::peer::Gate;
use crate::control::serve::{Bounds, TcpSource, UnixSource, serve};
use crate::control::socket::{self, SocketError};
use crate::core::ledger::IllegalRecord;
use crate::core::{ActionCheck, Brain};
use crate::model::WallTime;
use crate::ports::{Authority, Journal, JournalError};
use crate::probes::runner::ProbeRunner;
use crate::readiness::{Subject, kept_path};
use crate::state::{SqliteAuthority, SqliteJournal, SqliteState, history_path, inputs_path};

/// A loop that has not come round for so long is stuck, says `/healthz`.
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// How long the end waits for notices that are due.
const LAST_NOTICES: Duration = Duration::from_secs(2);
/// Requests that wait for the loop.
const REQUESTS: usize = 64;
/// Reports that wait for the loop.
const REPORTS: usize = 1024;
/// Answers of witnesses that wait for the loop.
const VOTES: usize = 64;

/// How the daemon is started.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where the configuration was read from, for the reload.
    pub load: LoadOptions,
    /// The socket, where it is not the configuration's.
    pub socket: Option<PathBuf>,
    /// Everything but acting, whatever the configuration or an operator says.
    pub alert_only: bool,
}

/// Why the daemon does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something that the configuration names cannot be built.
    #[error("{0}")]
    Configuration(String),
    /// The log filter.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// The state.
    #[error(transparent)]
    State(#[from] JournalError),
    /// The journal says something that cannot have happened.
    #[error(
        "the journal {path} cannot be replayed: {source}; nothing is done on a state that is not understood: restore it from a copy, or move it away to begin anew"
    )]
    Replay {
        /// The state.
        path: String,
        /// Which record, and why.
        source: IllegalRecord,
    },
    /// The socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A TCP endpoint.
    #[error("cannot listen on {address} for {what}: {source}; set {setting} to a free address, or to \"\"")]
    Listen {
        /// Which.
        address: String,
        /// What is served there.
        what: &'static str,
        /// The key of the file that says where.
        setting: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The log has it.
    #[error("the log says why")]
    Told {
        /// The exit code of what was told.
        exit_code: u8,
    },
    /// Something of the operating system.
    #[error("{what}: {source}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

impl StartError {
    /// Does the daemon stay away for a reason that nobody has seen who is not looking at its log? A
    /// wrong configuration, or a second daemon, is somebody's doing who is.
    fn leaves_nobody_watching(&self) -> bool {
        matches!(self, Self::Replay { .. })
            || matches!(self, Self::State(error) if !matches!(error, JournalError::Held { .. }))
    }

    /// The exit code: 2 where the configuration has to be changed, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) | Self::Logging(_) => 2,
            Self::Told { exit_code } => *exit_code,
            _ => 1,
        }
    }
}

/// Runs the daemon until it is asked to end.
///
/// # Errors
/// [`StartError`], which says what to do.
pub async fn run(loaded: Loaded, options: RunOptions) -> Result<(), StartError> {
    let log = logging::init(&loaded.file.log)?;
    live(loaded, options).await.map_err(|error| {
        if log.is_for_people() {
            return error;
        }
        // Whoever reads lines of JSON, or journald's, gets this one in the same form.
        tracing::error!("{error}");
        StartError::Told { exit_code: error.exit_code() }
    })
}

async fn live(loaded: Loaded, options: RunOptions) -> Result<(), StartError> {
    let stop = CancellationToken::new();
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let clients = Arc::new(Clients::new(&loaded.file.limits));
    let routes = routes(&loaded.file, &clients).map_err(StartError::Configuration)?;
    let socket = options.socket.clone().unwrap_or_else(|| loaded.file.daemon.socket.clone());
    let last_words = LastWords::beside(&socket);
    let (mut the_loop, ears, _socket) = match set_up(&loaded, options, (clients, routes.clone()), &socket, &stop).await
    {
        Ok(parts) => parts,
        Err(error) => {
            if error.leaves_nobody_watching() {
                let name = loaded.settings.name.as_str();
                let notice = LastWords::of(name, "does not start", &error, Clock::new().now().wall, None);
                last_words.say(&routes, &notice).await;
            }
            return Err(error);
        }
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), hash = %loaded.hash, "{}", the_loop.summary());
    the_loop.systemd.ready(&the_loop.summary());
    the_loop.warm();
    // What the adapters were built from is of no use to them any more, and with thousands of probes it is large.
    drop(loaded);
    let result = the_loop.run(ears).await;
    the_loop.systemd.stopping("ended");
    if let Some(members) = &mut the_loop.members {
        // Given back, so that nobody waits for the lease to end.
        tokio::task::block_in_place(|| members.cluster.finish());
    }
    stop.cancel();
    the_loop.history.finish(the_loop.clock.now().wall);
    the_loop.recording.finish(&the_loop.brain, result.is_ok());
    match &result {
        Ok(()) => {
            if let Err(error) = the_loop.anchor() {
                tracing::error!(%error, "the last anchor of the journal could not be sent");
            }
            the_loop.notices.finish(LAST_NOTICES).await;
            tracing::info!("ended");
        }
        Err(error) => last_words.say(the_loop.notices.routes(), &the_loop.last_words(error)).await,
    }
    Ok(result?)
}

/// What a member of several daemons has more than one that is alone.
struct Joined {
    members: Option<Members>,
    ears: MemberEars,
    journal: Box<dyn Journal>,
    authority: Arc<dyn Authority>,
}

/// Joins the other members, where the state is one that several share.
async fn join_others(
    loaded: &Loaded,
    since: WallTime,
    (journal, authority): (SqliteJournal, SqliteAuthority),
    stop: &CancellationToken,
) -> Result<Joined, StartError> {
    let Some(etcd) = members::etcd_settings(&loaded.file).map_err(StartError::Configuration)? else {
        let (journal, authority) = (Box::new(journal), Arc::new(authority));
        return Ok(Joined { members: None, ears: MemberEars::deaf(), journal, authority });
    };
    let name = &loaded.settings.name;
    let own = loaded.file.members.get(name.as_str()).filter(|_| loaded.file.members.len() > 1);
    let (voice, questions) = match own {
        Some(own) => {
            let (voice, questions) = voice::listen(&loaded.file, name, (own, "members.NAME.listen"), stop).await?;
            (Some(voice), questions)
        }
        None => (None, mpsc::channel(1).1),
    };
    let card = members::card(loaded, since);
    let joined = members::join(&etcd, card, (journal, authority));
    let no_thread = |source| StartError::System { what: "cannot start the thread of the state store", source };
    let (journal, authority, cluster, store) = joined.map_err(no_thread)?;
    tracing::info!(endpoints = ?etcd.endpoints, prefix = etcd.prefix, "one of several: it follows until it leads");
    Ok(Joined {
        members: Some(Members::new(cluster, voice)),
        ears: MemberEars { store, questions },
        journal: Box::new(journal),
        authority: Arc::new(authority),
    })
}

async fn set_up(
    loaded: &Loaded,
    options: RunOptions,
    (clients, routes): (Arc<Clients>, Vec<Route>),
    socket_path: &Path,
    stop: &CancellationToken,
) -> Result<(Loop, Ears, socket::SocketPath), StartError> {
    let system = |what| move |source| StartError::System { what, source };
    let file = &loaded.file;
    // First what may be refused, then what others can see.
    let local = file.local_state().ok_or_else(|| {
        StartError::Configuration(format!("daemon.state is `{}`: it names no state", file.daemon.state))
    })?;
    let state = SqliteState::open(&local)?;
    if let Some(who) = state.left_behind() {
        tracing::warn!("the last daemon on this state did not end by itself: {who}");
    }
    let path = state.path().display().to_string();
    let (beside, kept) = (history_path(state.path()), kept_path(state.path()));
    let state_file = state.path().to_owned();
    let (mut journal, outbox, authority) = state.split();
    let records = journal.replay()?;
    let metrics = Metrics::new().map_err(|error| StartError::Configuration(error.to_string()))?;
    let gate = gate(file);
    let switches = switches::start(&file.health_switch, &metrics, stop).await?;
    let mut reloader = Reloader {
        options: options.load,
        alert_only: options.alert_only,
        clients: Arc::clone(&clients),
        gate: Arc::clone(&gate),
        switches,
        builder: ProbeBuilder::new(Arc::clone(&clients)),
        fixed: Fixed::of(file),
        links: None,
    };
    let clock = Clock::new();
    let brain = Brain::new(reloader.settings(loaded), &records, clock.now());
    let mut brain = brain.map_err(|source| StartError::Replay { path, source })?;
    brain.set_action_check(action_check(&clients));
    drop(records);
    let joined = join_others(loaded, clock.now().wall, (journal, authority), stop).await?;
    if joined.members.is_some() {
        brain.join();
    }

    let (reports_in, reports) = mpsc::channel(REPORTS);
    let (probe_runner, runner) = ProbeRunner::new(reports_in, stop.clone());
    let specs = reloader.builder.specs(loaded, &runner).map_err(StartError::Configuration)?;
    let (votes_in, votes) = mpsc::channel(VOTES);
    let mut witnesses = Witnesses::new(votes_in, metrics.clone(), stop.clone());
    witnesses.reload(file, &loaded.settings).map_err(|error| StartError::Configuration(error.to_string()))?;
    let (executor, finished) = Executor::new(Arc::clone(&clients), joined.authority);
    let (status, status_seen) = watch::channel(Arc::new(brain.status(clock.now())));
    let (requests_in, requests) = mpsc::channel(REQUESTS);
    let pulse = Pulse::new();
    let (desk, readiness) =
        Desk::start(Subject::of(loaded), clients, status_seen.clone(), (kept, witnesses.presented()), stop.clone());
    let handle = Handle {
        requests: requests_in,
        status: status_seen.clone(),
        readiness: desk.clone(),
        state: state_file.clone(),
    };
    reloader.links = links::start((file, reloader.options.user), handle.clone(), &metrics, stop).await?;
    let socket = serve_control(socket_path, handle, gate, &metrics, stop)?;
    serve_health(file.metrics.listen.as_deref(), &pulse, status_seen, &metrics, stop).await?;
    let signals = Signals::new().map_err(system("cannot listen to signals"))?;
    let (renewals, renewed) = Renewals::start(file, reloader.options.user, stop);
    let history = History::start(&file.history, beside, &metrics);
    let recording = Recording::start(&file.recording, inputs_path(&state_file), &metrics);
    let notices = Notices::start(Arc::new(Mutex::new(outbox)), routes, &metrics);
    let mut the_loop = Loop {
        brain,
        clock,
        journal: joined.journal,
        executor,
        notices,
        runner,
        metrics,
        pulse,
        status,
        systemd: Systemd::from_env(),
        reloader,
        witnesses,
        renewals,
        sight_log: SightLog::default(),
        history,
        readiness: desk,
        recording,
        anchors: Anchors::new(file.audit.clone()),
        members: joined.members,
        shutdown_grace: file.daemon.shutdown_grace.get(),
        published: Instant::now(),
        untold: false,
        ending: None,
    };
    let now = the_loop.clock.now();
    the_loop.recording.begin(now, &the_loop.brain);
    let effects = the_loop.brain.begin(now, env!("CARGO_PKG_VERSION"));
    the_loop.recording.output(&effects);
    the_loop.carry_out(effects)?;
    the_loop.recording.settle(now, &the_loop.brain);
    the_loop.pulse.set_state_open(true);
    the_loop.runner.replace(specs);
    probe_runner.on_own_thread().map_err(system("cannot start the thread of the probes"))?;
    let members = joined.ears;
    let ears = Ears { finished, reports, votes, requests, readiness, signals, renewals: renewed, members };
    Ok((the_loop, ears, socket))
}

/// Who may use the socket.
fn gate(file: &File) -> Arc<Gate> {
    let (gate, warnings) = Gate::for_this_process(lists(file));
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    Arc::new(gate)
}

/// For what a person gives to a plan.
fn action_check(clients: &Arc<Clients>) -> ActionCheck {
    let clients = Arc::clone(clients);
    ActionCheck::new(move |spec| actions::wrong(spec, &clients))
}

fn serve_control(
    path: &Path,
    handle: Handle,
    gate: Arc<Gate>,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<socket::SocketPath, StartError> {
    let (listener, ours) = socket::bind(path)?;
    let router = api::router(Arc::new(handle), Arc::clone(&gate), metrics.clone());
    tokio::spawn(serve(UnixSource { listener, gate }, router, Bounds::default(), stop.clone()));
    Ok(ours)
}

pub(super) async fn serve_health(
    listen: Option<&str>,
    pulse: &Pulse,
    status: watch::Receiver<Arc<crate::core::view::StatusView>>,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    let Some(address) = listen.filter(|address| !address.is_empty()) else { return Ok(()) };
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.map_err(|source| StartError::Listen {
        address: address.to_owned(),
        what: "/metrics",
        setting: "metrics.listen",
        source,
    })?;
    let health = Health { pulse: pulse.clone(), stuck_after: STUCK_AFTER, status, metrics: metrics.clone() };
    tokio::spawn(serve(TcpSource(listener), health::router(health), Bounds::default(), stop.clone()));
    Ok(())
}
