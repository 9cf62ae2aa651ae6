//! Makes adapters out of a configuration, at the start and at each reload.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::links::{self, Linked};
use super::notices::{Notices, Route};
use super::switches;
use crate::actions;
use crate::clients::Clients;
use crate::clients::health_switch::Switches;
use crate::config::load::{LoadOptions, Loaded, load};
use crate::config::shape::{File, NotifyFrom};
use crate::control::metrics::Metrics;
use crate::control::peer::{Gate, Lists};
use crate::model::{Mode, ProbeName, Settings, TargetHash};
use crate::notify;
use crate::ports::Probe;
use crate::probes::runner::{ProbeSpec, RunnerHandle};
use crate::probes::{self, ProbeClients, ProbeContext};

/// Reads the configuration again, and fits the adapters to it.
pub(super) struct Reloader {
    pub(super) options: LoadOptions,
    pub(super) alert_only: bool,
    pub(super) clients: Arc<Clients>,
    pub(super) gate: Arc<Gate>,
    pub(super) switches: Arc<Switches>,
    pub(super) builder: ProbeBuilder,
    /// Signs links; another key is taken with a reload.
    pub(super) links: Option<tokio::sync::watch::Sender<Arc<crate::control::links::Signer>>>,
    /// What only a restart can change.
    pub(super) fixed: Fixed,
}

/// Settings that hold for the life of a process.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fixed {
    state: String,
    socket: std::path::PathBuf,
    listen: Option<String>,
    switches_listen: Option<String>,
    switches_directory: std::path::PathBuf,
    history: (crate::model::HumanDuration, u32),
    links: Option<(String, Option<crate::config::shape::LinksTls>)>,
    recording: (crate::model::HumanDuration, u32),
    etcd: Option<crate::config::shape::Etcd>,
    members: Vec<String>,
}

impl Fixed {
    pub(super) fn of(file: &File) -> Self {
        Self {
            state: file.daemon.state.clone(),
            socket: file.daemon.socket.clone(),
            listen: file.metrics.listen.clone(),
            switches_listen: file.health_switch.address().map(str::to_owned),
            switches_directory: file.health_switch.directory().to_owned(),
            history: (file.history.keep, file.history.max_size_mib),
            links: file.links.as_ref().map(|links| (links.listen.clone(), links.tls.clone())),
            recording: (file.recording.keep, file.recording.max_size_mib),
            etcd: file.etcd.clone(),
            members: file.members.keys().cloned().collect(),
        }
    }
}

impl Reloader {
    /// Reads and checks.
    pub(super) async fn load(&self) -> Result<Loaded, String> {
        load_again(&self.options).await
    }

    /// Puts what was loaded in the place of what was.
    pub(super) fn take(
        &mut self,
        loaded: &Loaded,
        runner: &RunnerHandle,
        notices: &mut Notices,
        metrics: &Metrics,
    ) -> Settings {
        for warning in self.gate.reload(lists(&loaded.file)) {
            tracing::warn!("{warning}");
        }
        let fixed = Fixed::of(&loaded.file);
        if fixed != self.fixed {
            tracing::warn!(
                "daemon.state, daemon.socket, metrics.listen, health_switch.listen, health_switch.directory, \
                 links.listen, links.tls, [etcd], who is in [members], [history] and [recording] are taken at the next \
                 start only"
            );
        }
        self.switches.replace(switches::initially(&loaded.file.health_switch));
        if let (Some(signers), Ok(Some(signer))) = (&self.links, links::signer(&loaded.file)) {
            signers.send_replace(signer);
        }
        match routes(&loaded.file, &self.clients) {
            Ok(routes) => notices.replace(routes, metrics),
            // It could be built a moment ago.
            Err(error) => tracing::error!("the routes to people stay as they were: {error}"),
        }
        match self.builder.specs(loaded, runner) {
            Ok(specs) => runner.replace(specs),
            Err(error) => tracing::error!("the probes stay as they were: {error}"),
        }
        self.settings(loaded)
    }

    /// The brain's settings, with the flag of the command line in them.
    pub(super) fn settings(&self, loaded: &Loaded) -> Settings {
        let mut settings = loaded.settings.clone();
        if self.alert_only {
            // In every scenario: a mode that is set at run time cannot make one less careful.
            settings.mode = Mode::AlertOnly;
            settings.scenarios.iter_mut().for_each(|scenario| scenario.mode = Mode::AlertOnly);
        }
        settings
    }
}

/// Reads and checks a configuration again; what cannot be built is a fault too, so that nothing is half
/// taken.
pub(super) async fn load_again(options: &LoadOptions) -> Result<Loaded, String> {
    let options = options.clone();
    let loaded = tokio::task::spawn_blocking(move || load(&options)).await.map_err(|error| error.to_string())?;
    loaded.map_err(|faults| faults.to_string())
}

/// Builds the probes, at the start and at each reload.
pub(super) struct ProbeBuilder {
    clients: ProbeClients,
    /// What is probed now; what is unchanged keeps its connection.
    probes: HashMap<ProbeName, Built>,
}

/// A probe, and what it was built of.
struct Built {
    target: TargetHash,
    timeout: Duration,
    probe: Arc<dyn Probe>,
}

impl ProbeBuilder {
    /// Nothing is built yet. Probes that ask the API of a provider do so through these clients.
    pub(super) fn new(clients: Arc<Clients>) -> Self {
        Self { clients: ProbeClients::system().through(clients), probes: HashMap::new() }
    }

    /// The probes, built; those that did not change are the same as before.
    pub(super) fn specs(&mut self, loaded: &Loaded, runner: &RunnerHandle) -> Result<Vec<ProbeSpec>, String> {
        let mut specs = Vec::new();
        let mut probes = HashMap::new();
        for (index, wanted) in loaded.probes.iter().enumerate().filter(|(_, wanted)| wanted.kind.asks()) {
            let (target, timeout) = (wanted.settings.target.clone(), wanted.settings.timeout.get());
            let probe = match self.probes.get(&wanted.name) {
                Some(built) if built.target == target && built.timeout == timeout => Arc::clone(&built.probe),
                _ => {
                    let context = ProbeContext {
                        clients: self.clients.clone(),
                        timeout,
                        nudge: Some(runner.nudge(&wanted.name)),
                        phase: u32::try_from(index % 1000).unwrap_or_default(),
                    };
                    let built = probes::build(&wanted.kind, &context);
                    Arc::from(built.map_err(|error| format!("probe {}: {error}", wanted.name))?)
                }
            };
            specs.push(ProbeSpec {
                name: wanted.name.clone(),
                index,
                interval: wanted.settings.interval.get(),
                fast_interval: wanted.settings.fast_interval.get(),
                timeout,
                probe: Arc::clone(&probe),
            });
            probes.insert(wanted.name.clone(), Built { target, timeout, probe });
        }
        self.probes = probes;
        Ok(specs)
    }
}

/// Readies every client that a plan or a route may need, beside the loop: a daemon that has watched
/// for months must not read certificate authorities between a verdict and its first call.
pub(super) fn warm(settings: &Settings, routes: &[Route], clients: &Arc<Clients>) {
    let notifiers: Vec<_> = routes.iter().map(|route| Arc::clone(&route.notifier)).collect();
    let steps = settings.plans.iter().flat_map(|plan| &plan.steps);
    let built = steps.filter_map(|step| step.work.action()).map(|spec| actions::build(spec, clients));
    let actions: Vec<_> = built.filter_map(Result::ok).collect();
    let runtime = tokio::runtime::Handle::current();
    let warm = async move {
        for notifier in notifiers {
            notifier.warm().await;
        }
        for action in actions {
            action.warm().await;
        }
    };
    // Files are read and, where a kubeconfig says so, a helper is run. On a thread that nothing waits
    // for: neither the probes nor the end of the daemon.
    let begun = std::thread::Builder::new().name("warm".into()).spawn(move || runtime.block_on(warm));
    if let Err(error) = begun {
        tracing::warn!(%error, "clients are built when they are first needed: no thread for it");
    }
}

/// Who may use the socket.
pub(super) fn lists(file: &File) -> Lists {
    Lists {
        viewers: file.control.viewers.clone(),
        operators: file.control.operators.clone(),
        approvers: file.control.approvers.clone(),
    }
}

/// The routes to people.
///
/// # Errors
/// All routes that cannot be built, one a line.
pub(super) fn routes(file: &File, clients: &Arc<Clients>) -> Result<Vec<Route>, String> {
    let mut routes = Vec::new();
    let mut errors = String::new();
    let signer = links::signer(file)?;
    for (name, route) in &file.notify {
        match notify::build(route, &file.daemon.name, &file.templates, clients) {
            Ok(notifier) => routes.push(Route {
                name: name.clone(),
                from: route.from.unwrap_or(NotifyFrom::Page),
                notifier: match (&route.approver, &signer) {
                    (Some(person), Some(signer)) => {
                        Arc::new(Linked { inner: notifier, signer: Arc::clone(signer), person: person.clone() })
                    }
                    _ => Arc::from(notifier),
                },
                audience: route.audience(),
                fallback: route.fallback.clone(),
            }),
            Err(error) => {
                let _infallible = writeln!(errors, "notify.{name}: {error}");
            }
        }
    }
    if errors.is_empty() { Ok(routes) } else { Err(errors) }
}
