//! An example on a stage.
//!
//! The configuration is the example's own text. What it names of the outside world is replaced, each
//! replacement has to occur, and whatever still points outside is refused; a layer of its own in
//! `conf.d` makes the probes quick and gives the daemon its files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use failoverd::control::client::Client;
use failoverd::core::view::{RunView, StatusView, StepStateView, StepView};
use failoverd::model::{Decision, Health, RunResult};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::fleet::kube::Kube;
use crate::fleet::process::{Failoverd, Finished, Running};
use crate::fleet::{eventually, scratch_dir};

/// Nothing that these tests wait for takes longer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(100);
/// Where the examples keep what is secret, and what is theirs.
const FOLDERS: [&str; 2] = ["/etc/failoverd/", "/var/lib/failoverd/"];

/// An example, its files, and the daemon that runs it.
pub struct Stage {
    text: String,
    env: Vec<(String, String)>,
    quick: bool,
    anchor: Option<Door>,
    /// The newest run that the test has seen the end of.
    seen: Option<String>,
    dir: TempDir,
}

/// A port that takes every connection, as long as this is not dropped. (One that nobody takes
/// connections from is full after a thousand, and then looks as if it were cut off.)
pub struct Door {
    address: String,
    taking: JoinHandle<()>,
}

impl Door {
    /// Opens one on loopback.
    pub async fn open() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let taking = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        Ok(Self { address, taking })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.taking.abort();
    }
}

/// A run that came to a good end, and what people were asked in it.
pub struct Ended {
    /// The run.
    pub run: RunView,
    /// The steps that waited for a person.
    pub asked: BTreeSet<String>,
}

impl Stage {
    /// The example in `config/examples/NAME`.
    pub fn of(name: &str) -> Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name).join("failoverd.toml");
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let dir = scratch_dir("stage")?;
        for folder in FOLDERS {
            std::fs::create_dir_all(beneath(dir.path(), folder))?;
        }
        Ok(Self { text, env: Vec::new(), quick: false, anchor: None, seen: None, dir })
    }

    /// Every occurrence becomes something else; there has to be one.
    pub fn replace(&mut self, from: &str, to: &str) -> Result<()> {
        ensure!(self.text.contains(from), "{from:?} is not in the example");
        self.text = self.text.replace(from, to);
        Ok(())
    }

    /// PagerDuty cannot be here: a topic takes its place.
    pub fn pager(&mut self, topic: &str) -> Result<()> {
        let route = "pagerduty = { routing_key = { file = \"/etc/failoverd/pagerduty.key\" } }";
        self.replace(route, &format!("sns = {{ topic = \"{topic}\" }}"))
    }

    /// A file that the example reads, by the path that stands there; its folders are moved into this
    /// stage's own.
    pub fn file(&self, path: &str, contents: &str) -> Result<PathBuf> {
        ensure!(self.text.contains(path), "{path:?} is not in the example");
        let own = self.path(path);
        std::fs::create_dir_all(own.parent().context("it is in a folder")?)?;
        std::fs::write(&own, contents).with_context(|| own.display().to_string())?;
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o600))?;
        Ok(own)
    }

    /// Where a path of the example is on this stage.
    pub fn path(&self, path: &str) -> PathBuf {
        beneath(self.dir.path(), path)
    }

    /// Variables of all processes.
    pub fn env(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        self.env.extend(variables);
    }

    /// The contexts that the example names, and what they lead to.
    pub fn kubeconfig(&mut self, contexts: &[(&str, &Kube)]) -> Result<()> {
        let (mut clusters, mut users, mut named) = (Vec::new(), Vec::new(), Vec::new());
        for (context, kube) in contexts {
            let config: Value = serde_json::to_value(::kube::config::Kubeconfig::read_from(kube.kubeconfig())?)?;
            clusters.push(json!({ "name": context, "cluster": config["clusters"][0]["cluster"] }));
            // The secrets of what kube reads are not told by its own serialization.
            let token = crate::fleet::kube::ADMIN.1;
            users.push(json!({ "name": context, "user": { "token": token } }));
            named.push(json!({ "name": context, "context": { "cluster": context, "user": context } }));
        }
        let whole = json!({ "apiVersion": "v1", "kind": "Config", "clusters": clusters, "users": users,
            "contexts": named, "current-context": contexts.first().context("a context")?.0 });
        let path = self.dir.path().join("kubeconfig");
        std::fs::write(&path, whole.to_string())?;
        self.env.push(("KUBECONFIG".into(), path.display().to_string()));
        Ok(())
    }

    /// Probes look often, and what waits for a probe to stay up waits less long.
    pub fn quick(&mut self) {
        self.quick = true;
    }

    /// Writes the configuration. Nothing in it may point outside any more, and `check` has to pass.
    pub async fn open(&mut self) -> Result<()> {
        for folder in FOLDERS {
            let own = beneath(self.dir.path(), folder).display().to_string();
            self.text = self.text.replace(folder, &own);
        }
        let tree: toml::Table = self.text.parse()?;
        let mut outside = Vec::new();
        for (name, value) in &tree {
            // Anchors are the stage's own listener, below.
            if name != "anchors" {
                points_outside(name, value, &mut outside);
            }
        }
        ensure!(outside.is_empty(), "the example still points outside: {outside:#?}");
        let overlay = self.overlay(&tree).await?;
        let parts = self.dir.path().join("conf.d");
        std::fs::create_dir_all(&parts)?;
        std::fs::write(parts.join("stage.toml"), overlay)?;
        std::fs::write(self.config(), &self.text)?;
        self.ok(&["check"]).await.map(drop)
    }

    async fn overlay(&mut self, tree: &toml::Table) -> Result<String> {
        let dir = self.dir.path().display();
        let mut text = format!(
            "[daemon]\nstate = \"sqlite:{dir}/state.db\"\nsocket = \"{dir}/failoverd.sock\"\n\
             [metrics]\nlisten = \"\"\n\
             [policy]\nstartup_grace = \"1ms\"\ncool_down = \"1ms\"\nfailover_limit = 100\ntilt_for = \"200ms\"\n\
             [policy.flap_damping]\nenabled = false\n",
        );
        if tree.contains_key("anchors") {
            let door = Door::open().await?;
            let _ = writeln!(text, "[anchors]\ntcp = [\"{}\"]", door.address());
            self.anchor = Some(door);
        }
        if self.quick {
            text += "[defaults.probe]\ninterval = \"100ms\"\nfast_interval = \"50ms\"\ntimeout = \"3s\"\nfall = 2\nrise = 1\n";
            quicken(tree, &mut text);
        }
        keep_inside(tree, &mut text);
        Ok(text)
    }

    /// The configuration's file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("failoverd.toml")
    }

    /// The command line of a verb.
    pub fn verb(&self, args: &[&str]) -> Failoverd {
        let binary = env!("CARGO_BIN_EXE_failoverd");
        let command = Failoverd::new(binary).args(args).arg("--config").arg(self.config());
        // What a plan calls is counted here, and the looks of readiness are calls too.
        command.env("FAILOVERD__READINESS__EVERY", "0s").envs(self.env.clone())
    }

    /// Runs a verb to its end.
    pub async fn run(&self, args: &[&str]) -> Result<Finished> {
        self.verb(args).run(PATIENCE).await
    }

    /// What a verb prints, which must succeed.
    pub async fn ok(&self, args: &[&str]) -> Result<String> {
        let done = self.run(args).await?;
        ensure!(done.status.success(), "failoverd {args:?}: {}\n{}{}", done.status, done.stdout, done.stderr);
        Ok(done.stdout)
    }

    /// The dry run of a plan: it must find nothing that a run would stand still at.
    pub async fn plan(&self, plan: &str, given: &[(&str, &str)]) -> Result<String> {
        let values = set(given);
        let values: Vec<&str> = values.iter().map(|text| &**text).collect();
        self.ok(&[&["plan", plan], &values[..]].concat()).await
    }

    /// A client of the daemon.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::new(&self.dir.path().join("failoverd.sock"))?)
    }

    /// Starts the daemon, and waits until all probes are up.
    pub async fn start(&self) -> Result<Running> {
        self.start_with(&[]).await
    }

    /// Starts the daemon, and waits until all probes are up but these, which are down.
    pub async fn start_with(&self, down: &[&str]) -> Result<Running> {
        let mut daemon = self.verb(&["run"]).start()?;
        let client = self.client()?;
        daemon
            .ready(PATIENCE, "the daemon to see everything", async || {
                for probe in client.status().await?.probes {
                    let wanted = if down.contains(&probe.name.as_str()) { Health::Down } else { Health::Up };
                    ensure!(probe.health == wanted, "{} is {} {}", probe.name, probe.health, probe.why);
                }
                Ok(())
            })
            .await?;
        Ok(daemon)
    }

    /// Waits until the status is as wanted.
    pub async fn sees(&self, what: &str, wanted: impl Fn(&StatusView) -> bool) -> Result<StatusView> {
        let client = self.client()?;
        eventually(PATIENCE, what, async || {
            let status = client.status().await?;
            ensure!(wanted(&status), "{status:#?}");
            Ok(status)
        })
        .await
    }

    /// Carries out a plan by hand, answers what it asks, and waits for its good end.
    pub async fn execute(&mut self, plan: &str, given: &[(&str, &str)]) -> Result<Ended> {
        self.execute_with(plan, given, &[]).await
    }

    /// The same with more arguments: `--graceful`, `--allow-data-loss 5m`.
    pub async fn execute_with(&mut self, plan: &str, given: &[(&str, &str)], more: &[&str]) -> Result<Ended> {
        let values = set(given);
        let values: Vec<&str> = values.iter().map(|text| &**text).collect();
        let arguments = [&["execute", plan, "--yes"], &values[..], more].concat();
        eventually(PATIENCE, "the command to be taken", async || {
            let done = self.run(&arguments).await?;
            let said = format!("failoverd {arguments:?}: {}\n{}{}", done.status, done.stdout, done.stderr);
            // A loaded machine makes the daemon's loop stand still, and then it takes no such command.
            ensure!(!done.stderr.contains("failoverd: tilt until"), "{said}");
            Ok(done.status.success().then_some(()).ok_or(said))
        })
        .await?
        .map_err(anyhow::Error::msg)?;
        let ended = self.ended().await?;
        ensure!(ended.run.plan.as_str() == plan, "the run is of {}", ended.run.plan);
        Ok(ended)
    }

    /// Approves what the scenario asks, and waits for the good end of its run. A loaded machine makes the
    /// daemon's loop stand still: then it gives the run up before the first change, as it has to, and asks
    /// again.
    pub async fn approve(&mut self, scenario: &str) -> Result<Ended> {
        for _ in 0..5 {
            match self.approve_once(scenario).await {
                Err(why) if why.to_string().contains("the loop stalled before the first change") => {}
                other => return other,
            }
        }
        bail!("five runs of {scenario} were given up: the machine is too loaded for this test")
    }

    async fn approve_once(&mut self, scenario: &str) -> Result<Ended> {
        let client = self.client()?;
        let asks = format!("the question of {scenario}");
        eventually(PATIENCE, &asks, async || {
            let status = client.status().await?;
            let found =
                status.scenarios.iter().find(|one| one.name.as_str() == scenario).context("no such scenario")?;
            ensure!(
                matches!(found.decision, Some(Decision::AskApproval { .. })),
                "{:?} {:#?}",
                found.decision,
                found.guards
            );
            Ok(())
        })
        .await?;
        self.ok(&["approve", "--yes"]).await?;
        self.ended().await
    }

    /// Waits for the good end of the next run, and answers what it asks.
    pub async fn ended(&mut self) -> Result<Ended> {
        let client = self.client()?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut asked = BTreeSet::new();
        let run = loop {
            let newest = client.runs().await?.into_iter().next();
            let newest = newest.filter(|run| self.seen.as_deref() != Some(run.id.as_str()));
            if let Some(run) = newest.clone().filter(|run| run.ended.is_some()) {
                break run;
            }
            for step in newest.iter().flat_map(|run| &run.steps) {
                self.answer(step.name.as_str(), &step.kind, step.state, &mut asked).await?;
                let stuck = step.state == StepStateView::Parked && !matches!(&*step.kind, "approval" | "task");
                ensure!(!stuck, "{} is parked: {}\n{newest:#?}", step.name, step.detail);
            }
            ensure!(tokio::time::Instant::now() < deadline, "no end of the run: {newest:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        self.seen = Some(run.id.to_string());
        ensure!(run.result == Some(RunResult::Done), "the run ended otherwise: {run:#?}");
        Ok(Ended { run, asked })
    }

    async fn answer(&self, step: &str, kind: &str, state: StepStateView, asked: &mut BTreeSet<String>) -> Result<()> {
        if state.is_over() || state == StepStateView::Pending || asked.contains(step) {
            return Ok(());
        }
        let answer: &[&str] = match kind {
            "approval" => &["step", "approve", step],
            "task" => &["step", "done", step, "--note", "the test did it"],
            _ => return Ok(()),
        };
        // It may not have come to its question yet; then it is asked again.
        if self.run(answer).await?.status.success() {
            asked.insert(step.to_owned());
        }
        Ok(())
    }
}

impl Ended {
    /// Each step that was not simply done, and how it ended instead. A task that the run left to people
    /// counts as parked, also where the run had ended before the task's turn came.
    pub fn not_done(&self) -> BTreeMap<&str, StepStateView> {
        let other = |state| !matches!(state, StepStateView::Done | StepStateView::AlreadyDone);
        let left =
            |step: &StepView| if step.state == StepStateView::Pending { StepStateView::Parked } else { step.state };
        let steps = self.run.steps.iter().filter(|step| other(step.state));
        steps.map(|step| (step.name.as_str(), left(step))).collect()
    }

    /// What was seen of a step.
    pub fn detail(&self, step: &str) -> Result<&str> {
        let found = self.run.steps.iter().find(|one| one.name.as_str() == step);
        Ok(&found.with_context(|| format!("there is no step {step}"))?.detail)
    }
}

fn beneath(dir: &Path, path: &str) -> PathBuf {
    dir.join(path.trim_start_matches('/'))
}

fn set(given: &[(&str, &str)]) -> Vec<String> {
    given.iter().flat_map(|(name, value)| ["--set".to_owned(), format!("{name}={value}")]).collect()
}

/// Addresses of anything but loopback.
fn points_outside(at: &str, value: &toml::Value, found: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                points_outside(&format!("{at}.{key}"), value, found);
            }
        }
        toml::Value::Array(values) => values.iter().for_each(|value| points_outside(at, value, found)),
        toml::Value::String(text) => {
            let host = text.split_once("://").map(|(_, rest)| rest.rsplit_once('@').map_or(rest, |(_, host)| host));
            let inside = |host: &str| host.starts_with("127.0.0.1") || host.starts_with("localhost");
            let path = at.ends_with(".url") || at.ends_with(".address") || at.ends_with(".server");
            // Of a message, an address is only words.
            let words = ["message", "what", "description", "subject", "body"].iter().any(|key| at.ends_with(key));
            let bare = path && host.is_none() && !text.starts_with('/') && !inside(text);
            if !words && (host.is_some_and(|host| !inside(host)) || bare) {
                found.push(format!("{at} = {text:?}"));
            }
        }
        _ => {}
    }
}

/// Mail leaves for nowhere, and no drill begins by itself while a test happens to run.
fn keep_inside(tree: &toml::Table, text: &mut String) {
    let tables = |of: Option<&toml::Value>| of.and_then(toml::Value::as_table).cloned().unwrap_or_default();
    for (name, route) in tables(tree.get("notify")) {
        if route.get("email").is_some() {
            let _ = writeln!(text, "[notify.{name}.email]\nhost = \"127.0.0.1\"\nport = 9");
        }
    }
    for (plan, table) in tables(tree.get("plans")) {
        for (target, drill) in tables(table.get("drills")) {
            if drill.get("schedule").is_some() {
                let _ = writeln!(text, "[plans.{plan}.drills.{target}]\nschedule = \"0 0 29 2 *\"");
            }
        }
    }
}

/// What the example waits for on purpose, made short.
fn quicken(tree: &toml::Table, text: &mut String) {
    let tables = |name: &str| {
        let table = tree.get(name).and_then(toml::Value::as_table).cloned().unwrap_or_default();
        table.into_iter().filter_map(|(key, value)| Some((key, value.as_table()?.clone())))
    };
    for (name, probe) in tables("probes") {
        let own: Vec<&str> = ["interval", "fast_interval"].into_iter().filter(|key| probe.contains_key(*key)).collect();
        if !own.is_empty() {
            let _ = writeln!(text, "[probes.{name}]");
        }
        for key in own {
            let _ = writeln!(text, "{key} = \"100ms\"");
        }
    }
    for (name, scenario) in tables("scenarios") {
        if scenario.contains_key("confirm_for") {
            let _ = writeln!(text, "[scenarios.{name}]\nconfirm_for = \"200ms\"");
            if scenario.contains_key("lower_layers_first") {
                let _ = writeln!(text, "lower_layers_first.grace = \"300ms\"");
            }
        }
    }
    for (plan, table) in tables("plans") {
        let steps = table.get("steps").and_then(toml::Value::as_table).cloned().unwrap_or_default();
        for (step, body) in steps {
            if body.get("verify").and_then(|verify| verify.get("probe")).and_then(|probe| probe.get("for")).is_some() {
                let _ = writeln!(text, "[plans.{plan}.steps.{step}.verify.probe]\nfor = \"100ms\"");
            }
            // In a dead region: until then it is asked again and again.
            if body.get("fence").and_then(toml::Value::as_str) == Some("best-effort") || step == "stop-old-master" {
                let _ = writeln!(text, "[plans.{plan}.steps.{step}]\ntimeout = \"6s\"\nestimate = \"1s\"");
            }
            if body.get("wait").is_some() {
                let _ = writeln!(text, "[plans.{plan}.steps.{step}]\nwait = \"100ms\"");
            }
        }
    }
}

/// Fails where a step that was to be done was not, or one that was to be left out was done.
pub fn all_done_but(ended: &Ended, others: &[(&str, StepStateView)]) -> Result<()> {
    let wanted: BTreeMap<&str, StepStateView> = others.iter().copied().collect();
    if ended.not_done() != wanted {
        bail!("{:?}, not {wanted:?}\n{:#?}", ended.not_done(), ended.run);
    }
    Ok(())
}
