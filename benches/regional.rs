//! The regional plan beside the same runbook as a shell script, on the same servers.
//!
//! The servers are real (PostgreSQL behind the promotion, the Kubernetes API, an application), or answer as AWS does
//! (RDS, Route 53, SNS). What they take in earnest is scaled down 20:1. How long they need is not only computed but
//! measured: by a program that makes the calls of the critical path and looks every few milliseconds.

use std::process::Command;
use std::time::{Duration, Instant};

use ::kube::api::{Api, Patch, PatchParams};
use anyhow::{Context, Result, ensure};
use failoverd::control::client::Client;
use failoverd::core::view::{RunView, StepView};
use failoverd::model::{Health, RunResult};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;
use tempfile::TempDir;

use crate::endpoint::Endpoint;
use crate::figures::{Figures, Series, aim, micros, ms, ratio};
use crate::fleet::child::{Proc, command};
use crate::fleet::kube::{BACKUP_CONTEXT, Kube};
use crate::fleet::process::Failoverd;
use crate::fleet::world::{BACKUP, BACKUP_TARGET, NAME, REPLICAS, TARGET_ZONE, World};
use crate::fleet::{http, scratch_dir, venv_bin};
use crate::rig::binary;

/// Of the critical path.
const AIM: f64 = 0.02;
/// A minute.
const PROMOTE: Duration = Duration::from_millis(3000);
/// Half a minute.
const INSYNC: Duration = Duration::from_millis(1500);
/// Ten seconds from a pod's creation until it is ready.
const READY: Duration = Duration::from_millis(500);
/// The playbook's `sleep 30` before it looks at the backup's health.
const SOAK: Duration = Duration::from_millis(1500);
/// How often the script asks whether the promotion is over: every five seconds.
const POLL: Duration = Duration::from_millis(250);
/// How often the measuring program looks.
const GLANCE: Duration = Duration::from_millis(5);
/// In so many rounds the script runs, too.
const SCRIPTS: usize = 4;
/// What does not end within this has failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// Measures.
pub async fn bench(rounds: usize) -> Result<()> {
    let mut place = Place::start().await?;
    let [mut path, mut ours, mut outage, mut sequential, mut parallel, mut starts] =
        std::array::from_fn::<Series, 6, _>(|_| Series::default());
    for round in 0..rounds {
        place.reset().await?;
        path.push(place.bare_program().await?);
        place.reset().await?;
        let (run, from_kill) = place.failoverd(round).await?;
        ours.push(run);
        outage.push(from_kill);
        starts.push(start_of_cli().await?);
        // By turns: it takes the longest, and is so far away that a few figures are enough.
        let script = [("sequential", &mut sequential), ("parallel", &mut parallel)].into_iter().nth(round % 2);
        if let Some((how, series)) = script.filter(|_| round < SCRIPTS) {
            place.reset().await?;
            series.push(place.script(how).await?);
        }
    }
    let title = format!("regional: the playbook's failover, time scaled 20:1, {rounds} rounds");
    let mut figures = Figures::new(&title, &["who", "median", "p90", "times the critical path"]);
    for (who, series) in [
        ("critical path: the same calls by a program that looks every 5 ms", &path),
        ("failoverd, the run", &ours),
        ("failoverd, from the kill (detection, and 1.5 s of confirmation)", &outage),
        ("shell script, one step after the other", &sequential),
        ("shell script, parallel where the plan is", &parallel),
    ] {
        figures.row(&[
            who.into(),
            ms(series.median()),
            ms(series.quantile(0.9)),
            format!("{:.3}", series.median() / path.median()),
        ]);
    }
    figures.print(&[
        aim(
            ours.median() <= (1.0 + AIM) * path.median(),
            &format!("the run takes at most the critical path + {:.0} %", AIM * 100.0),
        ),
        format!(
            "the script takes {} times as long as failoverd, the parallel one {}",
            ratio(sequential.median(), ours.median()),
            ratio(parallel.median(), ours.median())
        ),
        format!(
            "set delays on the critical path: promotion {}, pods {} each time, soak {}, INSYNC {}",
            ms(millis(PROMOTE)),
            ms(millis(READY)),
            ms(millis(SOAK)),
            ms(millis(INSYNC))
        ),
        format!(
            "one start of the AWS CLI takes {}, and is not longer in earnest: there the script is nearer to the path",
            ms(starts.median())
        ),
    ]);
    Ok(())
}

/// Both regions, and what the runbook calls besides.
struct Place {
    world: World,
    status_page: Endpoint,
    /// The waiters of the AWS CLI, scaled.
    waiters: TempDir,
}

impl Place {
    async fn start() -> Result<Self> {
        // `kubectl` asks for more than the stand-in has.
        let mut world = World::start(Kube::real().await?).await?;
        world.keep().await?;
        world.moto.set_delay("rds_promote", PROMOTE).await?;
        world.moto.set_delay("route53_insync", INSYNC).await?;
        let waiters = scratch_dir("waiters")?;
        let dir = waiters.path().join("route53/2013-04-01");
        std::fs::create_dir_all(&dir)?;
        let waiter = json!({ "version": 2, "waiters": { "ResourceRecordSetsChanged": {
            "delay": 1.5, "maxAttempts": 60, "operation": "GetChange",
            "acceptors": [{ "matcher": "path", "expected": "INSYNC", "argument": "ChangeInfo.Status", "state": "success" }],
        } } });
        std::fs::write(dir.join("waiters-2.json"), waiter.to_string())?;
        Ok(Self { world, status_page: Endpoint::start().await?, waiters })
    }

    async fn reset(&mut self) -> Result<()> {
        self.world.kube.set_ready_delay(Duration::ZERO);
        self.world.reset().await?;
        self.world.kube.set_ready_delay(READY);
        self.status_page.arrivals();
        Ok(())
    }

    fn env(&self) -> Vec<(String, String)> {
        let mut env = self.world.env();
        env.push(("STATUS_PAGE".into(), self.status_page.url(0)));
        env
    }

    /// A daemon of its own for each round: one that acts once in years has nothing warmed up by earlier
    /// runs. Milliseconds of the run, and from the kill to its end.
    async fn failoverd(&mut self, round: usize) -> Result<(f64, f64)> {
        let state = format!("sqlite:{}", self.world.dir().join(format!("state-{round}.db")).display());
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/regional.toml");
        let daemon = Failoverd::new(binary()).args(["run", "--config", config]).envs(self.env());
        let mut daemon = daemon.env("FAILOVERD__DAEMON__STATE", state).start()?;
        let client = Client::new(&self.world.socket())?;
        daemon
            .ready(PATIENCE, "failoverd to see everything up", async || {
                let status = client.status().await?;
                let down = status.probes.iter().find(|probe| probe.health != Health::Up);
                ensure!(down.is_none(), "{down:?}");
                ensure!(status.tilt_until.is_none(), "the machine is too busy: the daemon stood still");
                Ok(())
            })
            .await?;
        let killed = micros();
        self.world.kill_primary();
        let run = daemon
            .ready(PATIENCE, "the run to end", async || {
                let last = client.runs().await?.into_iter().next().context("no run")?;
                ensure!(last.result.is_some(), "it runs");
                Ok(last)
            })
            .await?;
        tell(|| steps(&run));
        ensure!(run.result == Some(RunResult::Done), "the run ended as {:?}", run.result);
        let ended = run.ended.context("the run has no end")?;
        daemon.terminate(Duration::from_secs(15)).await?;
        self.look().await.context("after failoverd")?;
        Ok((millis(ended.since(run.started)), ended.0 as f64 - killed as f64 / 1000.0))
    }

    /// Milliseconds of the script.
    async fn script(&mut self, how: &str) -> Result<f64> {
        self.world.kill_primary();
        let mut script = command("bash");
        script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/regional.sh")).arg(how);
        script.envs(self.env()).env("AWS_PAGER", "").env("AWS_DATA_PATH", self.waiters.path());
        script.env("AWS_DEFAULT_REGION", "us-east-1").env("ZONE", &self.world.zone).env("PATH", path_with_aws()?);
        script.env("POLL", seconds(POLL)).env("SOAK", seconds(SOAK));
        let began = Instant::now();
        timed(script, &self.waiters).await.with_context(|| format!("the {how} script"))?;
        let took = millis(began.elapsed());
        self.look().await.with_context(|| format!("after the {how} script"))?;
        Ok(took)
    }

    /// The calls of the plan and nothing else, by somebody who sees at once that something is done.
    async fn bare_program(&mut self) -> Result<f64> {
        self.world.kill_primary();
        let world = &self.world;
        let deployments: Api<Deployment> = Api::namespaced(world.kube.client(BACKUP_CONTEXT).await?, "shop");
        let inbox = world.inbox().await?;
        let told = || async { anyhow::Ok(http().post(self.status_page.url(0)).send().await?.error_for_status()?) };
        let patched = async |patch: Patch<serde_json::Value>| {
            deployments.patch("api", &PatchParams::default(), &patch).await?;
            glance("the rollout", async || Ok(rolled_out(&deployments.get("api").await?))).await
        };
        let promote = async {
            let replica = [("DBInstanceIdentifier", "shop-replica")];
            world.moto.query("rds", BACKUP, "PromoteReadReplica", &replica).await?;
            glance("the promotion", async || {
                let db = world.moto.db(BACKUP, "shop-replica").await?;
                Ok(db.status == "available" && db.source.is_none())
            })
            .await
        };
        let env = json!([{ "name": "POSTGRES_HOST", "value": "shop-replica.us-west-2.rds.amazonaws.com" },
            { "name": "POSTGRES_PORT", "value": "5432" }]);
        let template = json!({ "spec": { "containers": [{ "name": "main", "env": env }] } });
        let write = "BEGIN; CREATE TABLE failover_check (at timestamptz); ROLLBACK";

        let began = Instant::now();
        let phase = |what: &str| tell(|| format!("bare: {what} by {:.3} s", began.elapsed().as_secs_f64()));
        let scale = patched(Patch::Merge(json!({ "spec": { "replicas": REPLICAS.1 } })));
        tokio::try_join!(promote, scale, told())?;
        phase("promoted");
        let point = patched(Patch::Strategic(json!({ "spec": { "template": template } })));
        tokio::try_join!(point, world.backup.db.sql(write))?;
        phase("pointed");
        tokio::time::sleep(SOAK).await;
        http().get(format!("{}/health", world.backup.app.url())).send().await?.error_for_status()?;
        phase("healthy");
        let change = world.moto.upsert_alias(&world.zone, NAME, BACKUP_TARGET, TARGET_ZONE).await?;
        glance("INSYNC", async || Ok(world.moto.change_status(&change).await? == "INSYNC")).await?;
        phase("in sync");
        let message = [("TopicArn", inbox.topic_arn.as_str()), ("Message", "serving from us-west-2")];
        tokio::try_join!(world.moto.query("sns", BACKUP, "Publish", &message), told())?;
        let took = millis(began.elapsed());
        self.look().await.context("after the bare program")?;
        Ok(took)
    }

    /// Looks from outside whether all was done.
    async fn look(&self) -> Result<()> {
        let world = &self.world;
        ensure!(!world.backup.db.is_in_recovery().await?, "the standby was not promoted");
        ensure!(world.moto.db(BACKUP, "shop-replica").await?.source.is_none(), "the replica follows still");
        let target = world.alias_target().await?;
        ensure!(target.starts_with(BACKUP_TARGET), "the alias points to {target}");
        let deployments: Api<Deployment> = Api::namespaced(world.kube.client(BACKUP_CONTEXT).await?, "shop");
        let deployment = deployments.get("api").await?;
        ensure!(rolled_out(&deployment), "the rollout is not over");
        ensure!(world.kube.ready_replicas("shop", "api").await? == REPLICAS.1, "it was not scaled");
        ensure!(serde_json::to_string(&deployment.spec)?.contains("POSTGRES_HOST"), "the application was not told");
        ensure!(!self.status_page.arrivals().is_empty(), "the status page was not told");
        world.inbox().await?.wait_for(Duration::from_secs(10), "us-west-2").await.map(drop)
    }
}

/// What `kubectl rollout status` calls rolled out.
fn rolled_out(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= deployment.metadata.generation
            && [status.updated_replicas, status.replicas, status.available_replicas].iter().all(|is| *is == wanted)
    })
}

async fn glance(what: &str, mut done: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let watch = async {
        while !done().await? {
            tokio::time::sleep(GLANCE).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, watch).await.with_context(|| format!("waited {PATIENCE:?} for {what}"))?
}

/// Runs it to its end, which is seen at once.
async fn timed(command: Command, logs: &TempDir) -> Result<()> {
    let log = logs.path().join("script.log");
    let mut process = Proc::start("the script", command, &log)?;
    let status = tokio::time::timeout(PATIENCE, async {
        loop {
            match process.exited() {
                Some(status) => return status,
                None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    });
    let status = status.await.with_context(|| format!("it had not ended:\n{}", process.log()))?;
    ensure!(status.success(), "{status}:\n{}", process.log());
    Ok(())
}

/// Milliseconds that the AWS CLI takes to say its version.
async fn start_of_cli() -> Result<f64> {
    let mut aws = command(venv_bin("aws")?);
    aws.arg("--version");
    let began = Instant::now();
    timed(aws, &scratch_dir("aws")?).await?;
    Ok(millis(began.elapsed()))
}

fn path_with_aws() -> Result<std::ffi::OsString> {
    let venv = venv_bin("aws")?;
    let theirs = std::env::var_os("PATH").unwrap_or_default();
    let dirs = venv.parent().map(Into::into).into_iter().chain(std::env::split_paths(&theirs));
    Ok(std::env::join_paths(dirs)?)
}

/// Where the time went, for whoever asks (`FAILOVERD_BENCH_STEPS=1`).
fn tell(what: impl FnOnce() -> String) {
    if std::env::var_os("FAILOVERD_BENCH_STEPS").is_some() {
        println!("{}", what());
    }
}

fn steps(run: &RunView) -> String {
    let line = |step: &StepView| {
        let ended = step.ended.map_or(f64::NAN, |ended| ended.since(run.started).as_secs_f64());
        let took = step.took.unwrap_or_default().get().as_secs_f64();
        format!("failoverd: {} took {took:.3} s, by {ended:.3} s", step.name)
    };
    run.steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn seconds(duration: Duration) -> String {
    duration.as_secs_f64().to_string()
}
