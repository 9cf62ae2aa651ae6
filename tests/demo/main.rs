//! `make demo`: a regional outage and its failover, on real servers.
//!
//! Starts a two-region world on loopback and failoverd on `config/examples/demo.toml`, writes to the
//! primary, kills the primary region with SIGKILL, and then looks from outside at what became of
//! it. Ends with one line that says how long it took and what was lost, or with what differs.

#[path = "../fleet/mod.rs"]
mod fleet;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::fleet::load::{self, WriteLoad};
use anyhow::{Context, Result, bail, ensure};
use failoverd::control::client::Client;
use failoverd::core::view::RunView;
use failoverd::model::{HumanDuration, RunResult, WallTime};
use fleet::kube::Kube;
use fleet::process::Running;
use fleet::world::World;

/// A failover that has not ended by then has failed: the RTO of the demo's scenario is a minute.
const PATIENCE: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("demo: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Whatever way it ends, the world is dropped, and its servers with it.
    runtime.block_on(async {
        let interrupted = async {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                _ = terminate.recv() => {}
                result = tokio::signal::ctrl_c() => result?,
            }
            anyhow::Ok(())
        };
        tokio::select! {
            result = demo() => match result {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("demo: FAILED: {error:#}");
                    ExitCode::FAILURE
                }
            },
            _ = interrupted => {
                eprintln!("\ndemo: interrupted; everything that was started is being stopped");
                ExitCode::from(130)
            }
        }
    })
}

async fn demo() -> Result<()> {
    let binary = binary()?;
    let began = Instant::now();
    say(
        "starting two regions: applications, PostgreSQL with a synchronous standby, Redis, the AWS and Kubernetes APIs",
    );
    let mut world = World::start(kubernetes().await?).await?;
    let inbox = world.inbox().await?;
    say(&format!("the world stands ({:.1} s)", began.elapsed().as_secs_f64()));

    let mut daemon = world.failoverd(&binary, &["run"]).start()?;
    let client = Client::new(&world.socket())?;
    ready(&mut daemon, &client).await?;
    say("failoverd watches; everything is up");
    say(&format!("  failoverd run --config {}", relative(&World::config())));

    let load = WriteLoad::start(&world.primary.db.url()).await?;
    load.reaches(500, Duration::from_secs(20)).await?;
    say(&format!("write load: {} writes acknowledged so far by {}", load.acknowledged(), fleet::world::PRIMARY));

    let mut watch = watch(&binary, &world)?;
    say(&format!("killing {} now: kill -9 of its application, database and cache", fleet::world::PRIMARY));
    let killed = wall();
    drop(inbox);
    world.kill_primary();
    let run = ended(&mut daemon, &client).await?;
    let _its_last_frame = tokio::time::timeout(Duration::from_secs(3), watch.wait()).await;

    let writes = load.stop().await;
    let differences = look(&world, &run, &writes).await?;
    let stopped = daemon.terminate(Duration::from_secs(15)).await?;
    ensure!(stopped.success(), "failoverd ended with {stopped}:\n{}", daemon.stderr());
    conclude(&run, killed, &writes, &differences)
}

/// Everything that is to be seen from outside.
async fn look(world: &World, run: &RunView, writes: &load::Writes) -> Result<Vec<String>> {
    let mut differences = world.differences().await?;
    if run.result != Some(RunResult::Done) {
        differences.push(format!("the run ended as {:?}: {}", run.result, steps(run)));
    }
    // The topic and the queue stand already; this only finds them again.
    let inbox = world.inbox().await?;
    if let Err(error) = inbox.wait_for(Duration::from_secs(10), "failed over to us-west-2").await {
        differences.push(format!("the SNS message did not arrive: {error:#}"));
    }
    let lost = writes.lost_on(&world.backup.db).await?;
    if !lost.is_empty() {
        differences.push(format!("{} acknowledged writes are lost, the first is {}", lost.len(), lost[0]));
    }
    Ok(differences)
}

fn conclude(run: &RunView, killed: WallTime, writes: &load::Writes, differences: &[String]) -> Result<()> {
    if !differences.is_empty() {
        for difference in differences {
            println!("  differs: {difference}");
        }
        bail!("{} things are not as they should be", differences.len());
    }
    say("seen from outside: the standby is promoted and takes writes, the cache is primary, the alias points to");
    say("  the backup, the deployment is scaled and ready, the SNS message arrived");
    let ended = run.ended.context("the run has no end")?;
    let seconds = |duration: HumanDuration| duration.get().as_secs_f64();
    let total = ended.since(killed).as_secs_f64();
    let split = run.split;
    let detect = total - seconds(split.decide) - seconds(split.execute) - seconds(split.verify);
    println!(
        "demo: failed over in {total:.2} s (detect {detect:.2}, decide {:.2}, execute {:.2}, verify {:.2}), \
         0 of {} acknowledged writes lost",
        seconds(split.decide),
        seconds(split.execute),
        seconds(split.verify),
        writes.acknowledged(),
    );
    Ok(())
}

/// A real API server where there is one, else the stand-in, which is said.
async fn kubernetes() -> Result<Kube> {
    match Kube::real().await {
        Ok(kube) => {
            say("Kubernetes: a real API server");
            Ok(kube)
        }
        Err(error) => {
            say("Kubernetes: a stand-in for the API (the same contract tests hold for it);");
            say(&format!("  no real API server, since {}", first_line(&error)));
            Kube::stand_in().await
        }
    }
}

async fn ready(daemon: &mut Running, client: &Client) -> Result<()> {
    daemon
        .ready(Duration::from_secs(20), "failoverd to see everything up", async || {
            let status = client.status().await?;
            let down: Vec<String> = status
                .probes
                .iter()
                .filter(|probe| probe.name.as_str() != "new-primary" && probe.health != failoverd::model::Health::Up)
                .map(|probe| format!("{} is {} {}", probe.name, probe.health, probe.why))
                .collect();
            ensure!(down.is_empty(), "{}", down.join(", "));
            // The start-up grace of the demo.
            ensure!(wall().since(status.started) > Duration::from_millis(1200), "still in the start-up grace");
            Ok(())
        })
        .await
}

async fn ended(daemon: &mut Running, client: &Client) -> Result<RunView> {
    let last = std::cell::RefCell::new(None);
    let result = daemon
        .ready(PATIENCE, "the run to end", async || {
            let run = client.runs().await?.into_iter().next().context("there is no run yet")?;
            let parked = run.steps.iter().any(|s| s.state == failoverd::core::view::StepStateView::Parked);
            let over = run.ended.is_some() || parked;
            let text = steps(&run);
            last.replace(Some(run));
            ensure!(over, "{text}");
            Ok(())
        })
        .await;
    result.context("failoverd did not carry the failover to its end")?;
    last.into_inner().context("there is no run")
}

fn steps(run: &RunView) -> String {
    let steps: Vec<String> =
        run.steps.iter().map(|step| format!("{} {:?} {}", step.name, step.state, step.detail)).collect();
    steps.join("; ")
}

/// `failoverd watch`, on our terminal.
fn watch(binary: &Path, world: &World) -> Result<tokio::process::Child> {
    let mut command = tokio::process::Command::new(binary);
    command.args(["watch", "--until-run-ends", "--socket"]).arg(world.socket()).arg("--config").arg(World::config());
    command.envs(world.env()).stdin(Stdio::null()).kill_on_drop(true);
    command.spawn().context("failoverd watch cannot be started")
}

/// The binary beside this example: target/PROFILE/examples/demo → target/PROFILE/failoverd.
fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let profile = own.parent().and_then(Path::parent).context("no target folder")?;
    let binary = profile.join("failoverd");
    ensure!(binary.exists(), "{} is not built: cargo build --release --bin failoverd", binary.display());
    Ok(binary)
}

fn relative(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path).display().to_string()
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

fn say(line: &str) {
    println!("demo: {line}");
}

fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_millis()).unwrap_or_default())
}
