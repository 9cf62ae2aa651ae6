//! Many eyes: a daemon and two witnesses as real processes, over mutual TLS with certificates of
//! `failoverd certs`. Each sees the service, and each other, through a proxy of its own, so that any one way
//! can be cut.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::control::client::Client;
use failoverd::core::Command;
use failoverd::core::view::{ProbeView, RunView, StatusView};
use failoverd::model::{Decision, Health};
use tempfile::TempDir;

use crate::fleet::http_app::HttpApp;
use crate::fleet::process::{Failoverd, Finished, Running};
use crate::fleet::proxy::{Mode, Proxy};
use crate::fleet::{eventually, http, port, scratch_dir};

const PATIENCE: Duration = Duration::from_secs(20);
/// A few intervals after every vote is there: whatever trips wrongly has tripped.
const QUIET: Duration = Duration::from_secs(3);

const BINARY: &str = env!("CARGO_BIN_EXE_failoverd");

/// A vantage that runs.
struct Vantage {
    process: Running,
    /// Its way to the service.
    eye: Proxy,
    metrics: u16,
}

struct Eyes {
    folder: TempDir,
    app: HttpApp,
    /// The daemon's way to each witness.
    ways: [Proxy; 2],
    daemon: Option<Vantage>,
    witnesses: Vec<Vantage>,
}

async fn failoverd(arguments: &[&str]) -> Result<Finished> {
    Failoverd::new(BINARY).args(arguments).run(PATIENCE).await
}

async fn certs(folder: &Path, arguments: &[&str]) -> Result<Finished> {
    let place = folder.display().to_string();
    let done = failoverd(&[&["certs"], arguments, &["--folder", &place]].concat()).await?;
    ensure!(done.status.success(), "{arguments:?}: {}", done.stderr);
    Ok(done)
}

/// `{name}` of each vantage stands for its own files: `TLS` names them.
fn config(folder: &Path, ways: &[u16; 2], listens: &[u16; 2]) -> String {
    format!(
        r#"
[daemon]
name = "shop"
failure_domain = "us-west-2"
mode = "auto"
state = "sqlite:{dir}/state.db"
socket = "{dir}/failoverd.sock"
shutdown_grace = "1s"
[policy]
startup_grace = "0s"
[quorum]
vantages = 2
[vantage_tls]
ca_file = "ca.pem"
certificate_file = "own.pem"
key_file = "own.key"
[witnesses.eu]
domain = "eu-central-1"
url = "https://127.0.0.1:{}"
listen = "127.0.0.1:{}"
[witnesses.ap]
domain = "ap-east-1"
url = "https://127.0.0.1:{}"
listen = "127.0.0.1:{}"
[regions.us-east-1]
role = "primary"
[probes.api]
region = "us-east-1"
interval = "100ms"
timeout = "500ms"
fall = 3
rise = 2
http = {{ url = {{ env = "API" }} }}
[scenarios.outage]
severity = "P0"
when = "api"
confirm_for = "300ms"
rto = "1h"
plan = "p"
[plans.p.steps.rest]
wait = "10ms"
"#,
        ways[0],
        listens[0],
        ways[1],
        listens[1],
        dir = folder.display(),
    )
}

impl Eyes {
    async fn open() -> Result<Self> {
        Self::open_as(str::to_owned, &["eu", "ap"]).await
    }

    /// A daemon in the backup region, one witness in the primary's, and an anchor.
    async fn open_in_two_regions() -> Result<Self> {
        let two_regions = |config: &str| {
            let (before, rest) = config.split_once("[witnesses.ap]").unwrap_or_default();
            let (_, after) = rest.split_once("[regions.us-east-1]").unwrap_or_default();
            let before = before.replace("eu-central-1", "us-east-1");
            let anchor = rest.split_once("127.0.0.1:").and_then(|(_, port)| port.split_once('"')).unwrap_or_default().0;
            format!("{before}[anchors]\ntcp = [\"127.0.0.1:{anchor}\"]\n[regions.us-east-1]{after}")
        };
        Self::open_as(two_regions, &["eu"]).await
    }

    async fn open_as(change: impl Fn(&str) -> String, witnesses: &[&str]) -> Result<Self> {
        let folder = scratch_dir("eyes")?;
        let dir = folder.path();
        certs(dir, &["init"]).await?;
        let eu = if witnesses.len() == 1 { "us-east-1" } else { "eu-central-1" };
        for (name, domain) in [("shop", "us-west-2"), ("eu", eu), ("ap", "ap-east-1")] {
            certs(dir, &["issue", name, "--domain", domain, "--host", "127.0.0.1"]).await?;
            own_files(dir, name, name)?;
        }
        let listens = [port()?, port()?];
        let ways = [Proxy::to_port(listens[0]).await?, Proxy::to_port(listens[1]).await?];
        std::fs::write(dir.join("failoverd.toml"), change(&config(dir, &[ways[0].port(), ways[1].port()], &listens)))?;
        let app = HttpApp::start("us-east-1").await?;
        let mut eyes = Self { folder, app, ways, daemon: None, witnesses: Vec::new() };
        for name in witnesses {
            let witness = eyes.start(&["witness", name], name).await?;
            eyes.witnesses.push(witness);
        }
        eyes.daemon = Some(eyes.start(&["run"], "shop").await?);
        Ok(eyes)
    }

    /// With its own certificate, its own eye, and a port of its own for the metrics.
    async fn start(&self, verb: &[&str], name: &str) -> Result<Vantage> {
        let (eye, metrics) = (Proxy::to_port(self.app.port()).await?, port()?);
        let process = Failoverd::new(BINARY)
            .args(verb)
            .args(["--config", &self.folder.path().join("failoverd.toml").display().to_string()])
            .dir(self.home(name))
            .env("API", format!("http://127.0.0.1:{}/health", eye.port()))
            .env("FAILOVERD__METRICS__LISTEN", format!("127.0.0.1:{metrics}"))
            .env("FAILOVERD_LOG", "failoverd::daemon::sight_log=debug,info")
            .start()?;
        Ok(Vantage { process, eye, metrics })
    }

    fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("home-{name}"))
    }

    fn client(&self) -> Result<Client> {
        Ok(Client::new(&self.folder.path().join("failoverd.sock"))?)
    }

    fn daemon(&mut self) -> Result<&mut Vantage> {
        self.daemon.as_mut().context("there is no daemon")
    }

    /// Waits until the daemon's view of the service is as wanted.
    async fn sees(&mut self, what: &str, wanted: impl Fn(&ProbeView) -> bool) -> Result<StatusView> {
        let client = self.client()?;
        let daemon = self.daemon()?;
        daemon
            .process
            .ready(PATIENCE, what, async || {
                let status = client.status().await?;
                let api = status.probes.first().context("no probe")?;
                ensure!(wanted(api), "{api:?}");
                Ok(status)
            })
            .await
    }

    async fn all_up(&mut self) -> Result<()> {
        self.sees("everybody to see it up", |api| api.health == Health::Up).await?;
        self.metric("failoverd_witness_up{witness=\"ap\"} 1").await?;
        self.metric("failoverd_witness_up{witness=\"eu\"} 1").await
    }

    async fn metric(&self, line: &str) -> Result<()> {
        let daemon = self.daemon.as_ref().context("there is no daemon")?;
        let url = format!("http://127.0.0.1:{}/metrics", daemon.metrics);
        eventually(PATIENCE, line, async || {
            let text = http().get(&url).send().await?.text().await?;
            let related: Vec<&str> = text.lines().filter(|line| line.contains("witness")).collect();
            ensure!(text.contains(line), "{related:#?}");
            Ok(())
        })
        .await
    }

    /// Nothing was begun, and nothing is.
    async fn nothing_trips(&self) -> Result<()> {
        // That something does not come cannot be waited for otherwise.
        tokio::time::sleep(QUIET).await;
        let runs = self.client()?.runs().await?;
        ensure!(runs.is_empty(), "it failed over: {runs:#?}");
        Ok(())
    }
}

/// Puts the files of `whose` where the vantage `name` looks for its own.
fn own_files(folder: &Path, name: &str, whose: &str) -> Result<()> {
    let home = folder.join(format!("home-{name}"));
    std::fs::create_dir_all(&home)?;
    for (from, to) in [("ca.pem", "ca.pem"), (&format!("{whose}.pem"), "own.pem"), (&format!("{whose}.key"), "own.key")]
    {
        std::fs::copy(folder.join(from), home.join(to))?;
    }
    Ok(())
}

#[tokio::test]
async fn two_of_three_vantages_bring_a_region_down() -> Result<()> {
    let mut eyes = Eyes::open().await?;
    eyes.all_up().await?;
    // One witness is blind: the other and the daemon are enough.
    eyes.witnesses[1].process.kill9();
    eyes.app.kill9();
    let client = eyes.client()?;
    eyes.daemon()?
        .process
        .ready(PATIENCE, "the failover", async || {
            let runs = client.runs().await?;
            ensure!(runs.first().is_some_and(|run| run.ended.is_some()), "{runs:?}");
            Ok(())
        })
        .await?;
    let incident = client.incidents().await?.pop().context("no incident")?;
    ensure!(incident.closed.is_none(), "the outage goes on");
    // Each vantage's log tells when it changed its mind, the daemon's also when the quorum did.
    let (daemon, witness) = (eyes.daemon()?.process.stderr(), eyes.witnesses[0].process.stderr());
    ensure!(daemon.contains(r#""vote":"down","verdict":"down","unix_us":"#), "{daemon}");
    ensure!(witness.contains(r#""vote":"down""#), "{witness}");
    eyes.metric("failoverd_witness_up{witness=\"ap\"} 0").await
}

/// The region falls and takes its witness along: half of the quorum is left, and a person is asked.
#[tokio::test]
async fn where_the_witness_falls_with_its_region_a_person_is_asked() -> Result<()> {
    let mut eyes = Eyes::open_in_two_regions().await?;
    eyes.sees("both to see it up", |api| api.health == Health::Up).await?;
    eyes.metric("failoverd_witness_up{witness=\"eu\"} 1").await?;
    eyes.witnesses[0].process.kill9();
    eyes.app.kill9();
    let client = eyes.client()?;
    let asked = async || {
        let scenario = client.status().await?.scenarios.pop().context("no scenario")?;
        ensure!(matches!(scenario.decision, Some(Decision::AskApproval { .. })), "{:?}", scenario.decision);
        scenario.incident.context("no incident")
    };
    let incident = eyes.daemon()?.process.ready(PATIENCE, "the question", asked).await?;
    eyes.nothing_trips().await?;
    let vantages = client.status().await?.vantages;
    ensure!(vantages.len() == 2 && !vantages[0].silent && vantages[1].silent, "{vantages:?}");
    client.command(&Command::Approve { incident, plan_hash: None, epoch: None, allow_data_loss: None }).await?;
    eyes.daemon()?
        .process
        .ready(PATIENCE, "the failover", async || {
            let runs = client.runs().await?;
            let done = |run: &RunView| run.ended.is_some() && run.trigger.contains("without a quorum");
            ensure!(runs.first().is_some_and(done), "{runs:?}");
            Ok(())
        })
        .await
}

#[tokio::test]
async fn what_only_one_vantage_sees_down_is_its_own_trouble() -> Result<()> {
    let mut eyes = Eyes::open().await?;
    eyes.all_up().await?;
    // The daemon is cut off from the service.
    eyes.daemon()?.eye.set(Mode::Blackhole).await?;
    eyes.sees("our own vote against both others", |api| api.why.contains("timeout")).await?;
    eyes.nothing_trips().await?;
    eyes.daemon()?.eye.set(Mode::Pass).await?;
    // And a witness that says "down", whatever is.
    eyes.witnesses[0].eye.set(Mode::Refuse).await?;
    eyes.sees("ours and the other's", |api| api.health == Health::Up && api.why.is_empty()).await?;
    eyes.nothing_trips().await
}

#[tokio::test]
async fn nobody_fails_over_alone() -> Result<()> {
    let mut eyes = Eyes::open().await?;
    eyes.all_up().await?;
    // Cut off from both witnesses, in one direction each: the question, or only the answer, is lost.
    eyes.ways[0].set(Mode::Blackhole).await?;
    eyes.ways[1].set(Mode::LoseAnswers).await?;
    eyes.app.kill9();
    // Without anchors a daemon that no witness answers takes itself for the one that is cut off.
    eyes.sees("a vote that does not count", |api| {
        api.health == Health::Unknown
            && api.why.contains("no witness answers; no answer of")
            && api.why.contains("connection_re")
    })
    .await?;
    eyes.nothing_trips().await?;
    eyes.ways[0].set(Mode::Pass).await?;
    eyes.sees("the quorum, once a witness is heard again", |api| api.health == Health::Down).await.map(drop)
}

#[tokio::test]
async fn a_witness_with_another_ones_certificate_does_not_start_and_one_of_another_authority_is_not_heard() -> Result<()>
{
    let mut eyes = Eyes::open().await?;
    eyes.all_up().await?;
    // A new one of its own is used, also where nobody tells it so.
    for file in ["eu.pem", "eu.key"] {
        std::fs::remove_file(eyes.folder.path().join(file))?;
    }
    certs(eyes.folder.path(), &["issue", "eu", "--domain", "eu-central-1", "--host", "127.0.0.1"]).await?;
    own_files(eyes.folder.path(), "eu", "eu")?;
    eyes.witnesses[0].process.wait_log(PATIENCE, "the certificates were renewed").await?;
    eyes.metric("failoverd_witness_up{witness=\"eu\"} 1").await?;
    eyes.witnesses[0].process.kill9();
    own_files(eyes.folder.path(), "eu", "ap")?;
    let mut wrong = eyes.start(&["witness", "eu"], "eu").await?;
    let status = wrong.process.wait_exit(PATIENCE).await?;
    ensure!(status.code() == Some(2), "{status}");
    let said = wrong.process.stderr();
    ensure!(said.contains("the certificate of ap in ap-east-1") && said.contains("certs issue eu"), "{said}");
    // The right names, signed by somebody else.
    let other = scratch_dir("other")?;
    certs(other.path(), &["init"]).await?;
    certs(other.path(), &["issue", "eu", "--domain", "eu-central-1", "--host", "127.0.0.1"]).await?;
    own_files(other.path(), "eu", "eu")?;
    for file in ["ca.pem", "own.pem", "own.key"] {
        std::fs::copy(other.path().join("home-eu").join(file), eyes.home("eu").join(file))?;
    }
    let _stranger = eyes.start(&["witness", "eu"], "eu").await?;
    eyes.metric("failoverd_witness_up{witness=\"eu\"} 0").await?;
    eyes.app.kill9();
    eyes.witnesses[1].process.kill9();
    eyes.sees("no quorum", |api| api.health == Health::Unknown).await?;
    eyes.nothing_trips().await
}

#[tokio::test]
async fn certificates_say_whose_they_are_and_replace_none() -> Result<()> {
    let folder = scratch_dir("certs")?;
    let place = folder.path().display().to_string();
    let issue = ["certs", "issue", "eu", "--domain", "eu-central-1", "--host", "eu.example", "--folder", &place];
    let done = failoverd(&issue).await?;
    ensure!(!done.status.success() && done.stderr.contains("certs init"), "{done:?}");
    certs(folder.path(), &["init"]).await?;
    ensure!(failoverd(&issue).await?.status.success());
    let shown = failoverd(&["certs", "show", &folder.path().join("eu.pem").display().to_string()]).await?;
    ensure!(shown.stdout.starts_with("vantage eu in eu-central-1, valid for 82"), "{shown:?}");
    let key = folder.path().join("eu.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key)?.permissions());
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let before = std::fs::read(&key)?;
    let again = failoverd(&issue).await?;
    ensure!(!again.status.success() && again.stderr.contains("is there already"), "{again:?}");
    ensure!(std::fs::read(&key)? == before && !again.stderr.contains("PRIVATE"), "the key is as it was");
    let slash = failoverd(&["certs", "issue", "../eu", "--domain", "d", "--folder", &place]).await?;
    ensure!(slash.status.code() == Some(2) && slash.stderr.contains("is not a name"), "{slash:?}");
    Ok(())
}
