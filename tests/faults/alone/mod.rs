//! What goes wrong on the worst day, with the whole daemon on the whole world: each fault is told
//! in one clear message, on every route, and nothing is lost.

mod cluster;
mod eyes;
mod messages;
mod services;

use anyhow::{Context, Result, ensure};
use failoverd::core::event::Command;
use failoverd::core::view::RunView;
use failoverd::model::{RunResult, StepName};
use serde_json::Value;

use crate::fleet::eventually;
use crate::fleet::world::World;
use crate::rig::{Daemon, PATIENCE, Rig, describe, is_over, parked};

/// Waits until the run is parked at the step, and everybody was paged with these words.
async fn parks(rig: &Rig, daemon: &mut Daemon, step: &str, says: &[&str]) -> Result<RunView> {
    let run = daemon.run("the run to be parked", |run| parked(run).is_some_and(|at| at.name.as_str() == step)).await?;
    paged(rig, &[&[&format!("is parked at step {step}"), run.id.as_str()], says].concat()).await?;
    Ok(run)
}

/// Waits until the same page with all of these words has reached the chat and the SNS topic.
async fn paged(rig: &Rig, says: &[&str]) -> Result<()> {
    let has = |subject: &str| says.iter().all(|needle| subject.contains(needle));
    eventually(PATIENCE, &format!("a page with {says:?} in the chat"), async || {
        let told = rig.told();
        let page =
            |notice: &&Value| notice["importance"] == "page" && has(notice["subject"].as_str().unwrap_or_default());
        told.iter().find(page).map(drop).with_context(|| format!("{told:#?}"))
    })
    .await?;
    let inbox = rig.world.inbox().await?;
    let mut seen = Vec::new();
    eventually(PATIENCE, &format!("a page with {says:?} from SNS"), async || {
        seen.extend(inbox.take().await?);
        seen.iter().find(|message| has(&message.to_string())).map(drop).with_context(|| format!("{seen:#?}"))
    })
    .await
}

/// `failoverd step retry`.
async fn retry(daemon: &Daemon, step: &str) -> Result<()> {
    let command = Command::StepRetry { run: None, step: StepName::new(step) };
    daemon.client.command(&command).await.map(drop).context("failoverd step retry")
}

/// Waits for the good end of the run, and looks from outside: everything was done, and once.
async fn is_done(rig: &Rig, daemon: &mut Daemon) -> Result<RunView> {
    let run = daemon.run("the run to be over", is_over).await?;
    ensure!(run.result == Some(RunResult::Done), "the run is not done: {}", describe(&run));
    let differences = rig.world.differences().await?;
    ensure!(differences.is_empty(), "not as a failover leaves it: {differences:#?}");
    for action in ["PromoteReadReplica", "ChangeResourceRecordSets"] {
        let calls = rig.world.moto.calls_of(action).await?;
        let carried_out = calls.iter().filter(|call| call.carried_out).count();
        ensure!(carried_out <= 1, "{action} was carried out {carried_out} times: {calls:#?}");
    }
    Ok(run)
}

/// Nothing was promoted, and the traffic goes where it went.
async fn is_untouched(world: &World) -> Result<()> {
    ensure!(world.backup.db.is_in_recovery().await?, "the standby was promoted");
    ensure!(world.backup.cache.role().await? == "slave", "the cache was promoted");
    let target = world.alias_target().await?;
    ensure!(target.contains("primary-lb"), "the alias points to {target}");
    Ok(())
}
