//! What a failover left behind, seen from outside and in the journal.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use failoverd::core::ledger::Ledger;
use failoverd::core::view::{RunView, StepStateView};
use failoverd::model::RunResult;
use failoverd::state::{audit, read_records};
use serde_json::Value;

use crate::fleet::kube::BACKUP_CONTEXT;
use crate::fleet::world::NAME;
use crate::rig::{Daemon, Rig, describe, is_over};

/// By name; two of them are compared as a whole.
pub type Traces = BTreeMap<String, String>;

/// Everything that has to be the same, whatever happened on the way. The daemon must have ended.
pub async fn of(rig: &Rig, run: &RunView) -> Result<Traces> {
    let world = &rig.world;
    let differences = world.differences().await?;
    ensure!(differences.is_empty(), "not as a failover leaves it: {differences:#?}");
    let mut traces = Traces::new();
    let (ours, any) = (format!("epoch={} run={}", run.epoch, run.id), "epoch=E run=RUN");
    let mut note = |name: &str, value: String| traces.insert(name.to_owned(), value.replace(&ours, any));
    let mark = world.moto.record(&world.zone, &format!("_failoverd.{NAME}"), "TXT").await?;
    note("the mark in the zone", mark.context("there is no mark in the zone")?["ResourceRecords"].to_string());
    note("the mark on the deployment", annotations(rig).await?);
    let commands: String = world.backup.cache.call(&["INFO", "commandstats"]).await?;
    let promotions = commands.lines().find_map(|line| line.strip_prefix("cmdstat_replicaof:calls="));
    note("REPLICAOF", promotions.and_then(|rest| rest.split(',').next()).unwrap_or("0").to_owned());
    note("PATCH of the deployment", rig.patches().to_string());
    for (action, times) in carried_out(rig).await? {
        // At least once: see `told`.
        if action != "Publish" {
            note(&action, times.to_string());
        }
    }
    note("the run", format!("{:?}, plan {}", run.result, run.plan_hash.short()));
    note("the trigger", run.trigger.clone());
    for step in &run.steps {
        // What is done after a crash was begun before it.
        let state = if step.state == StepStateView::AlreadyDone { StepStateView::Done } else { step.state };
        note(&format!("step {}", step.name), format!("{state:?}"));
    }
    Ok(traces)
}

/// How often each changing AWS call was carried out, whatever its caller was told.
pub async fn carried_out(rig: &Rig) -> Result<BTreeMap<String, usize>> {
    let mut times = BTreeMap::new();
    for call in rig.world.moto.calls().await?.into_iter().filter(|call| call.carried_out) {
        let action = call.action.unwrap_or_default();
        if !["Describe", "List", "Get"].iter().any(|look| action.starts_with(look)) {
            *times.entry(action).or_default() += 1;
        }
    }
    Ok(times)
}

async fn annotations(rig: &Rig) -> Result<String> {
    let client = rig.world.kube.client(BACKUP_CONTEXT).await?;
    let api: kube::Api<k8s_openapi::api::apps::v1::Deployment> = kube::Api::namespaced(client, "shop");
    let annotations = api.get("api").await?.metadata.annotations.unwrap_or_default();
    let ours = |name: &str| annotations.get(name).cloned().unwrap_or_default();
    Ok(format!("epoch={} run={}", ours("failoverd/epoch"), ours("failoverd/run")))
}

/// The journal replays, its chain holds, one run was begun and it ended well, each outcome belongs
/// to an intent; and every notice of the run has reached people.
pub fn sound(rig: &Rig, told: &[Value]) -> Result<()> {
    let records = read_records(&rig.state())?;
    let ledger = Ledger::replay(&records)?;
    let again = Ledger::replay(&read_records(&rig.state())?)?;
    ensure!(serde_json::to_vec(&ledger)? == serde_json::to_vec(&again)?, "the journal replays to two states");
    ensure!(audit(&rig.state())?.records == records.len() as u64, "the audit does not cover the journal");
    let runs =
        ledger.runs.values().filter(|run| run.changed() || !stood_still(run.aborting.as_ref().map(|(by, _)| by)));
    ensure!(runs.clone().count() == 1, "these runs were begun: {:?}", runs.map(|run| &run.id).collect::<Vec<_>>());
    ensure!(rig.unsent()?.is_empty(), "notices were left in the outbox: {:?}", rig.unsent()?);
    for kind in ["incident_opened", "run_started", "run_ended"] {
        ensure!(told.iter().any(|notice| notice["kind"] == kind), "nobody was told of {kind}: {told:#?}");
    }
    Ok(())
}

/// Was the run given up before it touched anything, since this machine was too busy to look? Another
/// one is begun then; that is not what these tests are about.
fn stood_still(aborting_by: Option<&String>) -> bool {
    aborting_by.is_some_and(|by| by.contains("the loop stalled"))
}

/// Waits until the run is done and its notices are delivered, ends the daemon, and looks.
pub async fn at_the_end(rig: &Rig, daemon: &mut Daemon) -> Result<Traces> {
    let run = daemon.run("the run to be over", |run| is_over(run) && !stood_still(run.aborting_by.as_ref())).await?;
    ensure!(run.result == Some(RunResult::Done), "the run is not done: {}", describe(&run));
    // The primary is still down, and nothing more is done about it.
    daemon.holds("already_run").await?;
    daemon.ends().await?;
    let traces = of(rig, &run).await?;
    sound(rig, &rig.told())?;
    let inbox = rig.world.inbox().await?;
    let messages = inbox.take().await?;
    ensure!(messages.iter().any(|m| m["Subject"] == "shop: failed over to us-west-2"), "SNS has {messages:#?}");
    Ok(traces)
}

/// What a failover leaves behind when nothing disturbs it.
pub async fn undisturbed(rig: &mut Rig) -> Result<Traces> {
    let mut daemon = rig.outage().await?;
    at_the_end(rig, &mut daemon).await
}
