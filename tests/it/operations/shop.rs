//! A shop of in-process applications, and a configuration of the daemon that watches it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::control::client::Client;
use failoverd::core::view::{IncidentView, RunView, StatusView, StepStateView};
use failoverd::model::{Decision, Entry, Health, Record};
use failoverd::state::read_records;
use serde_json::Value;
use tempfile::TempDir;

use crate::fleet::canary;
use crate::fleet::http_app::{Answer, LocalApp};
use crate::fleet::process::{Failoverd, Finished, Running};
use crate::fleet::{eventually, port, scratch_dir};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_failoverd");
/// What ought to happen within milliseconds, on a machine that is busy with other things.
pub const SOON: Duration = Duration::from_secs(30);

/// Two steps to the point of no return, and a look at the end. `HOOKS` stands for the target of
/// the actions.
pub const PLAN: &str = r#"
[plans.failover]
point_of_no_return = "switch"
[plans.failover.steps.prepare]
http.request = { url = "HOOKS/prepare", idempotent = true }
estimate = "100ms"
[plans.failover.steps.switch]
after = ["prepare"]
http.request = { url = "HOOKS/switch", effect = "route", idempotent = true }
estimate = "100ms"
[plans.failover.steps.verify]
after = ["switch"]
verify.probe = { probe = "backup" }
estimate = "100ms"
"#;

/// What is different from shop to shop.
#[derive(Clone, Copy)]
pub struct Sketch<'a> {
    /// The mode.
    pub mode: &'a str,
    /// More lines of `[daemon]`.
    pub daemon: &'a str,
    /// More lines of the scenario.
    pub scenario: &'a str,
    /// The plan `failover`.
    pub plan: &'a str,
    /// More tables.
    pub more: &'a str,
}

impl Default for Sketch<'_> {
    fn default() -> Self {
        Self { mode: "auto", daemon: "", scenario: "", plan: PLAN, more: "" }
    }
}

/// The applications, and the daemon's files.
pub struct Shop {
    /// What is watched.
    pub api: LocalApp,
    /// What is failed over to.
    pub backup: LocalApp,
    /// What the actions call.
    pub hooks: LocalApp,
    /// What the webhook tells.
    pub chat: LocalApp,
    metrics: u16,
    env: Vec<(String, String)>,
    dir: TempDir,
}

impl Shop {
    /// Starts the applications, and writes the configuration.
    pub async fn open(sketch: Sketch<'_>) -> Result<Self> {
        let shop = Self {
            api: LocalApp::start("api").await?,
            backup: LocalApp::start("backup").await?,
            hooks: LocalApp::start("hooks").await?,
            chat: LocalApp::start("chat").await?,
            metrics: port()?,
            env: Vec::new(),
            dir: scratch_dir("shop")?,
        };
        std::fs::create_dir(shop.dir().join("state"))?;
        shop.configure(sketch)?;
        Ok(shop)
    }

    /// Writes the configuration anew.
    pub fn configure(&self, sketch: Sketch<'_>) -> Result<()> {
        let dir = self.dir().display();
        let text = format!(
            r#"[daemon]
name = "shop"
mode = "{mode}"
state = "sqlite:{dir}/state/state.db"
socket = "{dir}/failoverd.sock"
{daemon}
[metrics]
listen = "127.0.0.1:{metrics}"
[policy]
startup_grace = "1ms"
cool_down = "1ms"
failover_limit = 100
tilt_for = "50ms"
[defaults.probe]
interval = "100ms"
timeout = "3s"
fall = 2
rise = 1
[defaults.step]
timeout = "25s"
[probes.api]
http = {{ url = "{api}" }}
[probes.backup]
http = {{ url = "{backup}" }}
[scenarios.outage]
severity = "P0"
when = "api is down"
requires = ["backup"]
confirm_for = "100ms"
rto = "2m"
plan = "failover"
{scenario}
[notify.chat]
from = "info"
webhook = {{ url = "{chat}" }}
{plan}
{more}
"#,
            mode = sketch.mode,
            daemon = sketch.daemon,
            metrics = self.metrics,
            api = self.api.url(),
            backup = self.backup.url(),
            scenario = sketch.scenario,
            chat = self.chat.at("/notice"),
            plan = sketch.plan.replace("HOOKS", &self.hooks.at("")),
            more = sketch.more.replace("HOOKS", &self.hooks.at("")),
        );
        std::fs::write(self.config(), text).context("writing the configuration")
    }

    /// A variable of every process that is started from here on.
    pub fn set_env(&mut self, name: &str, value: impl Into<String>) {
        self.env.push((name.to_owned(), value.into()));
    }

    /// The daemon's files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.dir().join("failoverd.toml")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.dir().join("failoverd.sock")
    }

    /// The state's file.
    pub fn state(&self) -> PathBuf {
        self.dir().join("state/state.db")
    }

    /// `host:port` of the metrics.
    pub fn metrics(&self) -> String {
        format!("127.0.0.1:{}", self.metrics)
    }

    /// What the metrics' port answers: status and body.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let answer = crate::fleet::http().get(format!("http://{}{path}", self.metrics())).send().await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        canary::look(path, text.as_bytes());
        Ok((status, text))
    }

    /// The command line of a verb.
    pub fn verb(&self, args: &[&str]) -> Failoverd {
        let command = Failoverd::new(BINARY).args(args).arg("--config").arg(self.config());
        // Nothing is looked at beside what a test does, unless it asks.
        command.env("FAILOVERD__READINESS__EVERY", "0s").envs(self.env.clone())
    }

    /// Starts the daemon and waits until it has seen everything up.
    pub async fn start(&self) -> Result<Running> {
        self.up(self.verb(&["run"]).start()?).await
    }

    /// Waits until a daemon has seen everything up.
    pub async fn up(&self, mut daemon: Running) -> Result<Running> {
        let client = self.client()?;
        daemon
            .ready(SOON, "the daemon to see everything up", async || {
                let status = client.status().await?;
                let other = status.probes.iter().find(|probe| probe.health != Health::Up);
                other.map_or(Ok(()), |probe| Err(anyhow::anyhow!("{} is {} {}", probe.name, probe.health, probe.why)))
            })
            .await?;
        Ok(daemon)
    }

    /// Starts the daemon where something is down, and waits until it answers.
    pub async fn up_again(&self) -> Result<Running> {
        let mut daemon = self.verb(&["run"]).start()?;
        let client = self.client()?;
        daemon.ready(SOON, "the daemon to answer", async || Ok(client.status().await?)).await?;
        Ok(daemon)
    }

    /// A client of the daemon.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::new(&self.socket())?)
    }

    /// Runs a verb to its end.
    pub async fn run(&self, args: &[&str]) -> Result<Finished> {
        self.verb(args).run(SOON).await
    }

    /// What a verb prints, which must succeed.
    pub async fn ok(&self, args: &[&str]) -> Result<String> {
        let done = self.run(args).await?;
        ensure!(done.status.success(), "failoverd {args:?}: {}\n{}{}", done.status, done.stdout, done.stderr);
        Ok(done.stdout)
    }

    /// What a verb prints with `--json`.
    pub async fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.ok(&[args, &["--json"]].concat()).await?;
        serde_json::from_str(&text).with_context(|| format!("failoverd {args:?} --json printed {text}"))
    }

    /// What a verb says on standard error, which must end with this exit code.
    pub async fn fails(&self, code: i32, args: &[&str]) -> Result<String> {
        let done = self.run(args).await?;
        ensure!(
            done.status.code() == Some(code),
            "failoverd {args:?}: {}, not {code}\n{}{}",
            done.status,
            done.stdout,
            done.stderr
        );
        Ok(done.stderr)
    }

    /// The primary answers 503 from now on.
    pub fn break_api(&self) {
        self.api.set(Some(Answer::status(503)));
    }

    /// The primary is healthy.
    pub fn heal_api(&self) {
        self.api.set(None);
    }

    /// Waits until the status is as wanted.
    pub async fn sees(&self, what: &str, wanted: impl Fn(&StatusView) -> bool) -> Result<StatusView> {
        let client = self.client()?;
        eventually(SOON, what, async || {
            let status = client.status().await?;
            ensure!(wanted(&status), "{status:?}");
            Ok(status)
        })
        .await
    }

    /// Waits until the newest incident is as wanted.
    pub async fn incident(&self, what: &str, wanted: impl Fn(&IncidentView) -> bool) -> Result<IncidentView> {
        let client = self.client()?;
        eventually(SOON, what, async || {
            let incident = client.incidents().await?.into_iter().next().context("there is no incident")?;
            ensure!(wanted(&incident), "{incident:?}");
            Ok(incident)
        })
        .await
    }

    /// Waits until the newest incident asks for approval.
    pub async fn asks(&self) -> Result<IncidentView> {
        self.incident("the question", |incident| {
            matches!(incident.decision, Some(Decision::AskApproval { .. })) && incident.approval.is_some()
        })
        .await
    }

    /// Waits until the newest run is as wanted.
    pub async fn newest_run(&self, what: &str, wanted: impl Fn(&RunView) -> bool) -> Result<RunView> {
        let client = self.client()?;
        eventually(SOON, what, async || {
            let run = client.runs().await?.into_iter().next().context("there is no run")?;
            ensure!(wanted(&run), "{run:?}");
            Ok(run)
        })
        .await
    }

    /// Waits until the newest run has ended.
    pub async fn ended(&self) -> Result<RunView> {
        self.newest_run("the end of the run", |run| run.ended.is_some()).await
    }

    /// Waits until a step of the newest run is in a state.
    pub async fn step(&self, name: &str, state: StepStateView) -> Result<RunView> {
        self.newest_run(&format!("step {name} to be {state:?}"), |run| state_of(run, name) == Some(state)).await
    }

    /// The journal.
    pub fn journal(&self) -> Result<Vec<Record>> {
        Ok(read_records(&self.state())?)
    }

    /// The journalled commands: who, what, and what came of it.
    pub fn commands(&self) -> Result<Vec<(String, String, String)>> {
        let commands = self.journal()?.into_iter().filter_map(|record| match record.entry {
            Entry::Command { by, command, result } => Some((by, command, result)),
            _ => None,
        });
        Ok(commands.collect())
    }

    /// The subjects of the notices that came so far.
    pub fn notices(&self) -> Vec<String> {
        let bodies = self.chat.seen().into_iter().filter_map(|seen| serde_json::from_str::<Value>(&seen.body).ok());
        bodies.filter_map(|notice| notice["subject"].as_str().map(str::to_owned)).collect()
    }

    /// Waits for a notice whose subject contains `needle`.
    pub async fn told(&self, needle: &str) -> Result<()> {
        eventually(SOON, &format!("a notice of {needle:?}"), async || {
            let notices = self.notices();
            ensure!(notices.iter().any(|subject| subject.contains(needle)), "{notices:#?}");
            Ok(())
        })
        .await
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        canary::look_below(&self.dir().join("state"));
    }
}

/// Where a step stands.
pub fn state_of(run: &RunView, step: &str) -> Option<StepStateView> {
    run.steps.iter().find(|one| one.name.as_str() == step).map(|one| one.state)
}

/// Fails with the text where a needle is not in it.
#[track_caller]
pub fn has(text: &str, needles: &[&str]) {
    for needle in needles {
        assert!(text.contains(needle), "{needle:?} is not in:\n{text}");
    }
}

/// SIGTERM, and a good end.
pub async fn stop(daemon: &mut Running) -> Result<()> {
    let status = daemon.terminate(SOON).await?;
    ensure!(status.success(), "the daemon ended with {status}:\n{}", daemon.stderr());
    Ok(())
}
