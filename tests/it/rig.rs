//! What the tests of the whole daemon share: a world, a configuration made for the test, and
//! failoverd as a process on it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::control::client::Client;
use failoverd::core::view::{GuardView, RunView, ScenarioView, StatusView, StepStateView, StepView};
use failoverd::model::{Entry, Health, ReplicationEvidence};
use failoverd::ports::Outbox;
use failoverd::state::{SqliteState, read_records};
use rustix::process::Signal;

use crate::fleet::canary;
use crate::fleet::kube::Kube;
use crate::fleet::kube_standin::KubeStandIn;
use crate::fleet::process::Running;
use crate::fleet::world::World;

/// Nothing that these tests wait for takes longer on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A replacement in the text of `demo.toml`: what stands there exactly once, and what is put there.
pub type Edit = (&'static str, &'static str);

/// Quicker than the demo, and patient where a loaded machine is late.
const QUICK: &[Edit] = &[
    ("startup_grace = \"1s\"", "startup_grace = \"300ms\"\ntilt_for = \"200ms\""),
    (
        "interval = \"200ms\"\ntimeout = \"500ms\"\nfall = 3\nrise = 2",
        "interval = \"100ms\"\ntimeout = \"2s\"\nfall = 2\nrise = 1",
    ),
    ("confirm_for = \"1s\"", "confirm_for = \"200ms\""),
    ("for = \"500ms\"", "for = \"100ms\""),
];

/// A world with its configuration. Each life of the daemon on it shares one state, until
/// [`Rig::reset`].
pub struct Rig {
    pub world: World,
    config: PathBuf,
    env: Vec<(String, String)>,
    generation: u32,
    /// Requests that the Kubernetes API had seen at the last reset.
    seen: usize,
}

impl Rig {
    /// Starts a world; the configuration is the demo's, made quick and then edited.
    pub async fn start(edits: &[Edit]) -> Result<Self> {
        let world = World::start(Kube::stand_in().await?).await?;
        // As long as is needed for a change to be seen pending.
        for delay in ["rds_promote", "route53_insync"] {
            world.moto.set_delay(delay, Duration::from_millis(100)).await?;
        }
        world.inbox().await?;
        let config = world.dir().join("failoverd.toml");
        let rig = Self { world, config, env: Vec::new(), generation: 0, seen: 0 };
        rig.configure(edits)?;
        Ok(rig)
    }

    /// Writes the configuration anew, from the start.
    pub fn configure(&self, edits: &[Edit]) -> Result<()> {
        let mut text = std::fs::read_to_string(World::config())?;
        for (from, to) in QUICK.iter().chain(edits) {
            ensure!(
                text.matches(from).count() == 1,
                "{from:?} does not stand in the configuration exactly once:\n{text}"
            );
            text = text.replace(from, to);
        }
        std::fs::write(&self.config, text).context("writing the configuration")
    }

    /// The world as at the start, and a state of its own.
    pub async fn reset(&mut self) -> Result<()> {
        self.world.reset().await?;
        self.stand_in().clear_faults();
        self.generation += 1;
        self.seen = self.stand_in().seen().len();
        Ok(())
    }

    /// The Kubernetes API.
    pub fn stand_in(&self) -> &KubeStandIn {
        match &self.world.kube {
            Kube::StandIn(stand_in) => stand_in,
            Kube::Real(_) => unreachable!("the rig starts a stand-in"),
        }
    }

    /// How often a deployment was patched since the last reset.
    pub fn patches(&self) -> usize {
        self.stand_in().seen()[self.seen..].iter().filter(|seen| seen.verb == "patch").count()
    }

    /// Where the journal is.
    pub fn state(&self) -> PathBuf {
        self.world.dir().join(format!("state-{}.db", self.generation))
    }

    /// A life of the daemon.
    pub fn life(&self) -> Result<Daemon> {
        self.life_until(None)
    }

    /// A life in which everything is well, and then the primary region dies.
    pub async fn outage(&mut self) -> Result<Daemon> {
        let mut daemon = self.life()?;
        daemon.healthy().await?;
        self.world.kill_primary();
        Ok(daemon)
    }

    /// A life of the daemon that ends as suddenly as by `kill -9` where it comes to the crash point.
    pub fn life_until(&self, crash_at: Option<&str>) -> Result<Daemon> {
        let crash_at = crash_at.map(|at| (failoverd::state::crash::VARIABLE, at));
        let command = crate::fleet::process::Failoverd::new(env!("CARGO_BIN_EXE_failoverd"));
        let running = self.dress(command.arg("run")).envs(crash_at).start()?;
        Ok(Daemon { running, client: Client::new(&self.world.socket())? })
    }

    /// A variable of every life from here on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Will the next life go on by itself: is it written down that the primary database fell, or had a
    /// run begun already? Before both nobody knows whether the primary took writes after what is
    /// written there, and the next life leaves it to a person to accept their loss.
    pub fn goes_on_by_itself(&self) -> Result<bool> {
        let fell = |known: &ReplicationEvidence| known.down_since.is_some();
        Ok(read_records(&self.state())?.iter().any(|record| match &record.entry {
            Entry::IncidentOpened { replication, .. } | Entry::ReplicationSeen { replication, .. } => {
                replication.iter().any(fell)
            }
            Entry::RunStarted { .. } => true,
            _ => false,
        }))
    }

    /// The subjects of what is still in the outbox of a daemon that has ended.
    pub fn unsent(&self) -> Result<Vec<String>> {
        let (_journal, mut outbox, _authority) = SqliteState::open(&self.state())?.split();
        let mut left = Vec::new();
        for route in outbox.waiting()? {
            let items = outbox.pending(&route, 1000)?.into_iter();
            left.extend(items.map(|item| format!("{route}: {}", item.notice.subject)));
        }
        Ok(left)
    }

    /// A verb on this configuration and state.
    pub fn verb(&self, args: &[&str]) -> crate::fleet::process::Failoverd {
        self.dress(crate::fleet::process::Failoverd::new(env!("CARGO_BIN_EXE_failoverd")).args(args))
    }

    fn dress(&self, command: crate::fleet::process::Failoverd) -> crate::fleet::process::Failoverd {
        let state = format!("sqlite:{}", self.state().display());
        command
            .arg("--config")
            .arg(&self.config)
            .envs(self.world.env())
            .env("FAILOVERD__DAEMON__STATE", state)
            // What is called is counted here: nothing is looked at beside the run.
            .env("FAILOVERD__READINESS__EVERY", "0s")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
    }

    /// What the chat was told: the notices, in order.
    pub fn told(&self) -> Vec<serde_json::Value> {
        self.world.chat.seen().iter().filter_map(|seen| serde_json::from_str(&seen.body).ok()).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Journals, histories, recordings: of every generation.
        for entry in std::fs::read_dir(self.world.dir()).into_iter().flatten().flatten() {
            let path = entry.path();
            if !entry.file_name().to_string_lossy().starts_with("state-") {
                continue;
            }
            if path.is_dir() {
                canary::look_below(&path);
            } else {
                canary::look(&path.display().to_string(), &std::fs::read(&path).unwrap_or_default());
            }
        }
    }
}

/// One life of the daemon.
pub struct Daemon {
    pub running: Running,
    pub client: Client,
}

impl Daemon {
    /// Waits for something in the status; `None` names what is missing.
    pub async fn status(&mut self, what: &str, mut holds: impl FnMut(&StatusView) -> Result<()>) -> Result<StatusView> {
        let client = &self.client;
        self.running
            .ready(PATIENCE, what, async || {
                let status = client.status().await?;
                holds(&status)?;
                Ok(status)
            })
            .await
    }

    /// Waits until everything that ought to be up is, and the start-up grace is over.
    pub async fn healthy(&mut self) -> Result<()> {
        let healthy = |status: &StatusView| {
            for probe in status.probes.iter().filter(|probe| probe.name.as_str() != "new-primary") {
                ensure!(probe.health == Health::Up, "{} is {}: {}", probe.name, probe.health, probe.why);
            }
            let grace = guard(&status.scenarios[0], "startup_grace");
            ensure!(grace.is_none_or(|guard| guard.passes), "{grace:?}");
            Ok(())
        };
        self.status("everything to be up", healthy).await.map(drop)
    }

    /// Waits for something in the newest run.
    pub async fn run(&mut self, what: &str, mut holds: impl FnMut(&RunView) -> bool) -> Result<RunView> {
        let client = &self.client;
        self.running
            .ready(PATIENCE, what, async || {
                let run = client.runs().await?.into_iter().next().context("there is no run")?;
                ensure!(holds(&run), "{}", describe(&run));
                Ok(run)
            })
            .await
    }

    /// The first scenario, as `failoverd explain` shows it.
    pub async fn explain(&self) -> Result<ScenarioView> {
        let scenarios = self.client.explain(None).await?;
        scenarios.into_iter().next().context("there is no scenario")
    }

    /// Waits until the first scenario holds for this reason (its stable name).
    pub async fn holds(&mut self, reason: &str) -> Result<ScenarioView> {
        let client = &self.client;
        self.running
            .ready(PATIENCE, &format!("a hold for {reason:?}"), async || {
                let found = client.explain(None).await?.into_iter().next().context("there is no scenario")?;
                let name = match &found.decision {
                    Some(failoverd::model::Decision::Hold(reason)) => reason.name(),
                    Some(_) => "another decision",
                    None => "no decision",
                };
                ensure!(name == reason, "it is {:?}", found.decision);
                Ok(found)
            })
            .await
    }

    /// SIGTERM, and waits for the orderly end.
    pub async fn ends(&mut self) -> Result<()> {
        let status = self.running.terminate(Duration::from_secs(20)).await?;
        ensure!(status.success(), "the daemon ended with {status}:\n{}", self.running.stderr());
        Ok(())
    }

    /// Waits until it was killed by its crash point.
    pub async fn dies(&mut self) -> Result<()> {
        let status = self.running.wait_exit(PATIENCE).await?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        ensure!(signal == Some(Signal::KILL.as_raw()), "it ended with {status}:\n{}", self.running.stderr());
        Ok(())
    }
}

/// A guard by its stable name.
pub fn guard<'a>(scenario: &'a ScenarioView, name: &str) -> Option<&'a GuardView> {
    scenario.guards.iter().find(|guard| guard.name == name)
}

/// Has the run ended, or does it wait for a person?
pub fn is_over(run: &RunView) -> bool {
    run.ended.is_some() || parked(run).is_some()
}

/// The first step that waits for a person because it could not be done.
pub fn parked(run: &RunView) -> Option<&StepView> {
    run.steps.iter().find(|step| step.state == StepStateView::Parked)
}

/// A step by its name.
pub fn step<'a>(run: &'a RunView, name: &str) -> &'a StepView {
    run.steps.iter().find(|step| step.name.as_str() == name).unwrap_or_else(|| panic!("there is no step {name}"))
}

/// A run in one line.
pub fn describe(run: &RunView) -> String {
    let steps: Vec<String> =
        run.steps.iter().map(|step| format!("{} {:?} {}", step.name, step.state, step.detail)).collect();
    let aborting = run.aborting_by.as_deref().unwrap_or_default();
    format!("{} {:?} {aborting}: {}", run.id, run.result, steps.join("; "))
}

/// The newest run.
pub async fn newest(daemon: &Daemon) -> Result<RunView> {
    daemon.client.runs().await?.into_iter().next().context("there is no run")
}
