//! How soon it is ready, and how much memory it holds once every client was used.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use failoverd::control::client::Client;
use failoverd::core::Command;
use failoverd::model::{RunResult, ScenarioName};
use tempfile::TempDir;

use crate::figures::{Figures, Series, aim, ms, ratio};
use crate::fleet::child::{Proc, command};
use crate::fleet::kube::Kube;
use crate::fleet::process::{Failoverd, Running};
use crate::fleet::world::World;
use crate::fleet::{port, scratch_dir};
use crate::rig;

/// Milliseconds.
const READY_AIM: f64 = 150.0;
/// Mebibytes.
const MEMORY_AIM: f64 = 45.0;
/// How many probes are watched while memory is measured.
const PROBES: usize = 20;

/// Measures.
pub async fn bench(rounds: usize) -> Result<()> {
    let world = World::start(Kube::stand_in().await?).await?;
    let config = world.dir().join("failoverd.toml");
    std::fs::write(&config, configuration()?)?;
    start(&world, &config, rounds)?;
    memory(&world, &config).await
}

/// The demo's world, with more of the same probes.
fn configuration() -> Result<String> {
    let mut text = std::fs::read_to_string(World::config())?;
    let there = text.lines().filter(|line| line.starts_with("[probes.")).count();
    let kinds = [
        r#"http = { url = { env = "BACKUP_API" } }"#,
        r#"postgres = { url = { env = "STANDBY_DB" } }"#,
        r#"redis = { url = { env = "STANDBY_CACHE" } }"#,
    ];
    for (number, kind) in (there..PROBES).zip(kinds.into_iter().cycle()) {
        text.push_str(&format!("[probes.more-{number}]\nregion = \"us-west-2\"\n{kind}\n"));
    }
    Ok(text)
}

fn start(world: &World, config: &Path, rounds: usize) -> Result<()> {
    let (mut first, mut again, mut redis) = (Series::default(), Series::default(), Series::default());
    let mut socket = ReadySocket::open()?;
    for _ in 0..rounds {
        let dir = scratch_dir("start")?;
        for series in [&mut first, &mut again] {
            let state = format!("sqlite:{}", dir.path().join("state.db").display());
            let daemon = daemon(world, config)
                .env("FAILOVERD__DAEMON__STATE", state)
                .env("FAILOVERD__DAEMON__SOCKET", dir.path().join("socket"))
                .env("NOTIFY_SOCKET", &socket.path);
            let begun = Instant::now();
            let _running = daemon.start()?;
            series.push(socket.ready(begun)?);
        }
        let mut program = command("redis-server");
        program.args(["--supervised", "systemd", "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(dir.path());
        program.args(["--port", &port()?.to_string()]).env("NOTIFY_SOCKET", &socket.path);
        let begun = Instant::now();
        let _running = Proc::start("redis", program, &dir.path().join("log"))?;
        redis.push(socket.ready(begun)?);
    }
    let mut figures = Figures::new(
        &format!("start: from exec to READY=1, {PROBES} probes, {rounds} rounds"),
        &["who", "median", "p90", "to the reference"],
    );
    for (who, series) in [
        ("failoverd, the state has to be created", &first),
        ("failoverd, after a kill -9", &again),
        ("reference: redis-server", &redis),
    ] {
        figures.row(&[
            who.into(),
            ms(series.median()),
            ms(series.quantile(0.9)),
            ratio(series.median(), redis.median()),
        ]);
    }
    let worst = first.median().max(again.median());
    figures.print(&[aim(worst <= READY_AIM, &format!("at most {READY_AIM} ms"))]);
    Ok(())
}

async fn memory(world: &World, config: &Path) -> Result<()> {
    let mut running = daemon(world, config).start()?;
    let client = Client::new(&world.socket())?;
    let answers = async || client.status().await.map(drop).map_err(anyhow::Error::from);
    running.ready(Duration::from_secs(20), "failoverd to answer", answers).await?;
    // A few rounds of every probe, and the start-up grace.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = Memory::of(running.pid())?;
    fail_over(&mut running, &client).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = Memory::of(running.pid())?;
    let reference = Memory::of(redis_pid(world).await?)?;
    let mut figures = Figures::new(
        &format!("memory: {PROBES} probes (HTTP, PostgreSQL, Redis), 200 ms interval"),
        &["who", "resident", "of it heap and stacks", "of it the program", "to the reference"],
    );
    for (who, memory) in [
        ("failoverd, watching", &before),
        ("failoverd, after a run with RDS, Route 53, SNS, Kubernetes, Redis", &after),
        ("reference: redis-server without data", &reference),
    ] {
        let mib = |value: f64| format!("{value:.1} MiB");
        figures.row(&[
            who.into(),
            mib(memory.resident),
            mib(memory.anonymous),
            mib(memory.resident - memory.anonymous),
            ratio(memory.resident, reference.resident),
        ]);
    }
    figures.print(&[aim(after.resident <= MEMORY_AIM, &format!("at most {MEMORY_AIM} MiB after the run"))]);
    Ok(())
}

fn daemon(world: &World, config: &Path) -> Failoverd {
    Failoverd::new(rig::binary()).args(["run", "--config"]).arg(config).envs(world.env())
}

/// The demo's plan by hand, while the primary stands: every client is built and used.
async fn fail_over(running: &mut Running, client: &Client) -> Result<()> {
    client
        .command(&Command::Failover { scenario: ScenarioName::new("regional-outage"), allow_data_loss: None })
        .await?;
    running
        .ready(Duration::from_secs(60), "the run to end", async || {
            let run = client.runs().await?.into_iter().next().context("no run")?;
            let result = run.result.with_context(|| format!("{:?}", run.steps))?;
            ensure!(result == RunResult::Done, "it ended as {result:?}");
            Ok(())
        })
        .await
}

async fn redis_pid(world: &World) -> Result<i32> {
    let text: String = world.primary.cache.call(&["INFO", "server"]).await?;
    let pid = text.lines().find_map(|line| line.strip_prefix("process_id:")).context("no process_id")?;
    Ok(pid.trim().parse()?)
}

/// In mebibytes.
struct Memory {
    resident: f64,
    anonymous: f64,
}

impl Memory {
    fn of(pid: i32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
            anyhow::Ok(kib / 1024.0)
        };
        Ok(Self { resident: field("VmRSS:")?, anonymous: field("RssAnon:")? })
    }
}

/// The receiving end of `sd_notify`, read without any polling.
struct ReadySocket {
    socket: UnixDatagram,
    path: PathBuf,
    _dir: TempDir,
}

impl ReadySocket {
    fn open() -> Result<Self> {
        let dir = scratch_dir("ready")?;
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { socket, path, _dir: dir })
    }

    /// Milliseconds until somebody is ready.
    fn ready(&mut self, begun: Instant) -> Result<f64> {
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).context("READY=1 did not come")?;
            let text = String::from_utf8_lossy(&buffer[..length]);
            if text.lines().any(|line| line == "READY=1") {
                return Ok(begun.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
}
