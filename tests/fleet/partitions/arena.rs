//! Everything in its place and running; episodes are played on it, and the record is what is left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use failoverd::control::client::Client;
use failoverd::core::view::StatusView;
use failoverd::model::{Health, HumanDuration};
use futures::StreamExt;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use super::fault::{Rule, What};
use super::net::Network;
use super::part::{Myself, micros};
use super::place::{ANCHORS, CLIENTS, Node};
use super::record::{Asked, Broken, Budget, Record, Seen};
use super::schedule::Episode;
use crate::fleet::child::Proc;
use crate::fleet::process::{Failoverd, Finished, Running};
use crate::fleet::{START, eventually, scratch_dir};

const API: u16 = 8080;
const DB: u16 = 5432;
const ANCHOR: u16 = 443;
/// On loopback beside the daemon: what the plan calls, whatever the network does.
const RECORDER: u16 = 9000;
const CONFIG: [&str; 2] = ["--config", "failoverd.toml"];
/// Of each probe.
const TIMEOUT: Duration = Duration::from_millis(800);
/// In so much time the daemon has to be back to normal once everything is whole.
const RECOVERY: Duration = Duration::from_secs(20);

/// The parts that answer and ask.
struct Parts {
    primary: Option<Proc>,
    _others: Vec<Proc>,
}

/// Both regions, the vantages and the clients.
pub struct Arena {
    network: Network,
    myself: Myself,
    binary: PathBuf,
    dir: TempDir,
    parts: Parts,
    vantages: BTreeMap<&'static str, Running>,
    seen: Arc<Mutex<Vec<Seen>>>,
    watcher: Option<tokio::task::JoinHandle<()>>,
    active: Vec<What>,
    faults: Vec<Broken>,
    lost: Vec<i64>,
    normal: Vec<i64>,
    lives: u32,
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

/// Where failoverd reads and keeps what it has.
fn config(dir: &Path) -> String {
    let dir = dir.display();
    let anchors: Vec<String> =
        (0..ANCHORS).map(|number| format!("\"{}:{ANCHOR}\"", Node::Anchor(number).address())).collect();
    let (anchors, primary, backup) = (anchors.join(", "), Node::Primary.address(), Node::Backup.address());
    let timeout = HumanDuration(TIMEOUT);
    let (east, eu) = (Node::East.address(), Node::Eu.address());
    format!(
        r#"[daemon]
name = "shop"
failure_domain = "us-west-2"
mode = "auto"
state = "sqlite:{dir}/state.db"
socket = "{dir}/failoverd.sock"
shutdown_grace = "1s"
[policy]
startup_grace = "0s"
cool_down = "0s"
failover_limit = 10000
tilt_for = "1s"
[policy.flap_damping]
enabled = false
[quorum]
vantages = 2
[vantage_tls]
ca_file = "{dir}/ca.pem"
certificate_file = "own.pem"
key_file = "own.key"
[witnesses.east]
domain = "us-east-1"
url = "https://{east}:7946"
[witnesses.eu]
domain = "eu-central-1"
url = "https://{eu}:7946"
[regions.us-east-1]
role = "primary"
[regions.us-west-2]
role = "backup"
[defaults.probe]
interval = "400ms"
timeout = "{timeout}"
fall = 3
rise = 2
[probes.api]
region = "us-east-1"
http = {{ url = "http://{primary}:{API}/health" }}
[probes.db]
region = "us-east-1"
http = {{ url = "http://{primary}:{DB}/ready" }}
[probes.backup-api]
region = "us-west-2"
http = {{ url = "http://{backup}:{API}/health" }}
[anchors]
tcp = [{anchors}]
at_least = 1
[scenarios.regional-outage]
severity = "P0"
when = {{ all = ["api", "db"] }}
requires = ["backup-api"]
confirm_for = "3s"
rto = "1h"
plan = "failover"
[plans.failover.steps.record]
http.request = {{ url = "http://127.0.0.1:{RECORDER}/failover", json = {{ state = "failing over" }}, effect = "notify", idempotent = true }}
timeout = "5s"
estimate = "100ms"
"#
    )
}

impl Arena {
    /// Starts everything, and returns when the daemon sees everything up.
    pub async fn start(binary: PathBuf, myself: Myself) -> Result<Self> {
        let (network, dir) = (Network::of(&Node::all()).await?, scratch_dir("partitions")?);
        std::fs::write(dir.path().join("failoverd.toml"), config(dir.path()))?;
        let parts = Parts { primary: None, _others: Vec::new() };
        let mut arena = Self {
            network,
            myself,
            binary,
            dir,
            parts,
            vantages: BTreeMap::new(),
            seen: Arc::default(),
            watcher: None,
            active: Vec::new(),
            faults: Vec::new(),
            lost: Vec::new(),
            normal: Vec::new(),
            lives: 0,
        };
        arena.certificates().await?;
        arena.start_parts().await?;
        for (name, node, verb) in [
            ("east", Node::East, &["witness", "east", CONFIG[0], CONFIG[1]] as &[&str]),
            ("eu", Node::Eu, &["witness", "eu", CONFIG[0], CONFIG[1]]),
            ("shop", Node::Daemon, &["run", CONFIG[0], CONFIG[1]]),
        ] {
            let running = arena.failoverd(Some(node), verb, &arena.dir.path().join(name))?.start()?;
            arena.vantages.insert(name, running);
        }
        arena.normal(START).await.with_context(|| arena.words())?;
        arena.watch().await?;
        Ok(arena)
    }

    fn failoverd(&self, node: Option<Node>, verb: &[&str], home: &Path) -> Result<Failoverd> {
        let program = match node {
            Some(node) => Failoverd::new("nsenter").args(self.network.prefix(node)?).arg(&self.binary),
            None => Failoverd::new(&self.binary),
        };
        Ok(program.args(verb).dir(home))
    }

    async fn tell(&self, verb: &[&str]) -> Result<Finished> {
        let done = self.failoverd(None, verb, self.dir.path())?.run(START).await?;
        ensure!(done.status.success(), "{verb:?}: {}{}", done.stdout, done.stderr);
        Ok(done)
    }

    async fn certificates(&self) -> Result<()> {
        self.tell(&["certs", "init", "--folder", "."]).await?;
        for (name, domain, node) in
            [("shop", "us-west-2", Node::Daemon), ("east", "us-east-1", Node::East), ("eu", "eu-central-1", Node::Eu)]
        {
            let host = node.address().to_string();
            self.tell(&["certs", "issue", name, "--domain", domain, "--host", &host, "--folder", "."]).await?;
            let home = self.dir.path().join(name);
            std::fs::create_dir_all(&home)?;
            for kind in ["pem", "key"] {
                std::fs::copy(self.dir.path().join(format!("{name}.{kind}")), home.join(format!("own.{kind}")))?;
            }
            std::fs::copy(self.dir.path().join("failoverd.toml"), home.join("failoverd.toml"))?;
        }
        Ok(())
    }

    async fn start_parts(&mut self) -> Result<()> {
        self.start_primary().await?;
        let mut servers =
            vec![(Node::Backup, API, "backup".to_owned()), (Node::Daemon, RECORDER, "recorder".to_owned())];
        servers.extend((0..ANCHORS).map(|number| (Node::Anchor(number), ANCHOR, format!("anchor-{number}"))));
        for (node, port, name) in servers {
            let server = self.serve(node, &name, &[port]).await?;
            self.parts._others.push(server);
        }
        for number in 0..CLIENTS {
            let (name, of) = (format!("client-{number}"), (Node::Primary.address(), API).into());
            let program = self.myself.client(&self.network, Node::Client(number), &self.log(&name), of)?;
            self.parts._others.push(Proc::start(&name, program, &self.dir.path().join(format!("{name}.said")))?);
        }
        Ok(())
    }

    async fn start_primary(&mut self) -> Result<()> {
        self.lives += 1;
        self.parts.primary = Some(self.serve(Node::Primary, &format!("primary-{}", self.lives), &[API, DB]).await?);
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    async fn serve(&self, node: Node, name: &str, ports: &[u16]) -> Result<Proc> {
        let log = self.log(name);
        let program = self.myself.server(&self.network, node, &log, ports)?;
        let mut server = Proc::start(name, program, &self.dir.path().join(format!("{name}.said")))?;
        server
            .ready(START, "it to listen", async || {
                ensure!(std::fs::read_to_string(&log)?.starts_with("ready"), "not yet");
                Ok(())
            })
            .await?;
        Ok(server)
    }

    fn client(&self) -> Result<Client> {
        Ok(Client::new(&self.dir.path().join("failoverd.sock"))?)
    }

    /// In what time an outage has to be found, as the daemon's own arithmetic says.
    pub async fn budget(&self) -> Result<Budget> {
        let said = self.tell(&["check", "--json", "--no-inspect", CONFIG[0], CONFIG[1]]).await?;
        let said: serde_json::Value = serde_json::from_str(&said.stdout)?;
        let time = |name: &str| -> Result<Duration> {
            let text = said["scenarios"][0][name].clone();
            Ok(serde_json::from_value::<HumanDuration>(text).with_context(|| format!("{name} in {said}"))?.get())
        };
        Ok(Budget { detection: time("detection")?, confirm_for: time("confirm_for")?, last_look: time("look")? })
    }

    /// Waits until everything is up, both witnesses are heard, and nothing is open.
    async fn normal(&self, timeout: Duration) -> Result<()> {
        let client = self.client()?;
        eventually(timeout, "the daemon to see everything up", async || {
            let status = client.status().await?;
            let wrong = status
                .probes
                .iter()
                .find(|probe| !probe.anchor && (probe.health != Health::Up || !probe.why.is_empty()));
            ensure!(wrong.is_none(), "{wrong:?}");
            ensure!(!status.scenarios.iter().any(|one| one.incident.is_some()), "an incident is open");
            ensure!(status.run.is_none(), "a run is active");
            Ok(())
        })
        .await
    }

    /// Notes each change of what the daemon says of itself.
    async fn watch(&mut self) -> Result<()> {
        let mut views = Box::pin(self.client()?.watch().await?);
        let seen = self.seen.clone();
        self.watcher = Some(tokio::spawn(async move {
            while let Some(Ok(view)) = views.next().await {
                let now = say(&view);
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if seen.last().is_none_or(|last| last.line != now.line) {
                    seen.push(now);
                }
            }
        }));
        Ok(())
    }

    /// Plays one episode to its end, and waits until the daemon is back to normal.
    pub async fn play(&mut self, episode: &Episode) -> Result<()> {
        let begun = Instant::now();
        let mut turns: Vec<(Duration, bool, What)> = Vec::new();
        for fault in &episode.faults {
            turns.extend([(fault.from, true, fault.what), (fault.until, false, fault.what)]);
        }
        // What ends at the same moment ends first.
        turns.sort_by_key(|(at, begins, _)| (*at, *begins));
        for (at, begins, what) in turns {
            tokio::time::sleep_until(begun + at).await;
            if begins { self.break_it(what).await? } else { self.mend(what).await? }
        }
        if let Err(error) = self.normal(RECOVERY).await {
            self.lost.push(micros());
            self.normal(RECOVERY * 3).await.with_context(|| self.words()).context(error)?;
        }
        self.normal.push(micros());
        ensure!(self.watcher.as_ref().is_some_and(|watcher| !watcher.is_finished()), "the daemon stopped telling");
        Ok(())
    }

    async fn break_it(&mut self, what: What) -> Result<()> {
        self.faults.push(Broken { what, from: micros(), until: i64::MAX });
        self.active.push(what);
        match what {
            What::Killed => self.primary()?.kill9(),
            What::Frozen => self.primary()?.signal(Signal::STOP)?,
            _ => self.filter().await?,
        }
        Ok(())
    }

    async fn mend(&mut self, what: What) -> Result<()> {
        self.active.retain(|active| *active != what);
        match what {
            What::Killed => self.start_primary().await?,
            What::Frozen => self.primary()?.signal(Signal::CONT)?,
            _ => self.filter().await?,
        }
        let open = |fault: &&mut Broken| fault.what == what && fault.until == i64::MAX;
        let fault = self.faults.iter_mut().rev().find(open).context("mended what was whole")?;
        fault.until = micros();
        Ok(())
    }

    fn primary(&mut self) -> Result<&mut Proc> {
        self.parts.primary.as_mut().context("there is no primary")
    }

    async fn filter(&self) -> Result<()> {
        let rules: Vec<Rule> = self.active.iter().flat_map(|what| what.rules()).collect();
        self.network.apply(&rules).await
    }

    /// What was written down until now.
    pub fn record(&self) -> Result<Record> {
        let mut record = Record {
            faults: self.faults.clone(),
            lost: self.lost.clone(),
            normal: self.normal.clone(),
            ..Record::default()
        };
        for number in 0..CLIENTS {
            record.clients.push(asked(&std::fs::read_to_string(self.log(&format!("client-{number}")))?)?);
        }
        let posted = std::fs::read_to_string(self.log("recorder"))?;
        let times = posted.lines().filter_map(|line| line.strip_prefix("posted ")).map(str::parse::<i64>);
        record.failovers = times.collect::<Result<_, _>>()?;
        record.seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, vantage) in &self.vantages {
            record.logged.extend(vantage.stderr().lines().filter_map(|line| logged(name, line)));
        }
        Ok(record)
    }

    fn words(&self) -> String {
        let end = |text: String| text.lines().rev().take(12).collect::<Vec<_>>().join("\n");
        self.vantages
            .iter()
            .map(|(name, vantage)| format!("{name}, the newest first:\n{}\n", end(vantage.stderr())))
            .collect()
    }
}

fn say(view: &StatusView) -> Seen {
    let primary = |name: &str| matches!(name, "api" | "db");
    let probes = view.probes.iter().filter(|probe| !probe.anchor);
    let mut words: Vec<String> = probes
        .map(|probe| match probe.why.as_str() {
            "" => format!("{} {}", probe.name, probe.health),
            why => format!("{} {} ({why})", probe.name, probe.health),
        })
        .collect();
    let scenario = view.scenarios.first();
    let decision = scenario.and_then(|scenario| scenario.decision.as_ref());
    words.extend(decision.map(|decision| format!("{decision:?}")));
    words.extend(view.isolated.then(|| "isolated".to_owned()));
    words.extend(view.tilt_until.map(|_| "tilt".to_owned()));
    let verdicts = view.probes.iter().filter(|probe| primary(probe.name.as_str())).map(|probe| probe.health);
    Seen {
        at: micros(),
        verdicts: verdicts.collect(),
        condition: scenario.map_or(failoverd::model::Truth::Unknown, |scenario| scenario.truth),
        stalled: view.tilt_until.is_some() || view.probes.iter().any(|probe| probe.why.starts_with("stalled")),
        line: words.join("; "),
    }
}

fn asked(text: &str) -> Result<Vec<Asked>> {
    // A line that is being written is left out.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line: &str| -> Result<Asked> {
        let Some((at, answered)) = line.split_once(' ') else { bail!("a client wrote {line:?}") };
        Ok(Asked { at: at.parse()?, answered: if answered == "-" { None } else { Some(answered.parse()?) } })
    };
    whole.lines().map(parse).collect()
}

/// A line of a log, and when it was written.
fn logged(who: &str, line: &str) -> Option<(i64, String)> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let time = value.get("timestamp").or_else(|| value.get("time"))?.as_str()?;
    let at: jiff::Timestamp = time.parse().ok()?;
    Some((at.as_microsecond(), format!("log of {who}: {line}")))
}
