//! Three daemons on an etcd cluster of three: one leads, another takes over, and two never act at once.

mod certificates;
mod clocks;
mod disks;
mod history;
mod leading;
mod network;
mod operators;
mod secured;
mod store;
#[cfg(feature = "crash-points")]
mod takeover;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::model::{Entry, Epoch, Record, Truth};
use serde_json::Value;

use crate::fleet::eventually;
use crate::fleet::kube::Kube;
use crate::fleet::team::{Edit, NAMES, Team};

/// Nothing that is waited for takes longer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn team(edits: &[Edit]) -> Result<Team> {
    Team::start(env!("CARGO_BIN_EXE_failoverd"), Kube::stand_in().await?, edits).await
}

/// Nothing runs yet.
async fn nobody(edits: &[Edit]) -> Result<Team> {
    Team::prepare(env!("CARGO_BIN_EXE_failoverd"), Kube::stand_in().await?, edits).await
}

/// All run, everything is up, and the first one leads, whose life ends or stops at this point.
#[cfg(feature = "crash-points")]
async fn first_leads(point: &str) -> Result<Team> {
    let mut team = nobody(&[]).await?;
    team.life(0, Some(point))?;
    team.life(1, None)?;
    team.life(2, None)?;
    let leader = team.settled().await?;
    if leader != 0 {
        let done = team.verb(leader, &["hand-over", NAMES[0]]).run(PATIENCE).await?;
        ensure!(done.status.success(), "{done:?}");
    }
    ensure!(team.leader().await? == 0, "the first one leads");
    Ok(team)
}

/// Each of these members sees that the primary is down.
async fn see_the_outage(team: &mut Team, places: &[usize]) -> Result<()> {
    for place in places {
        team.status(*place, "the outage to be seen", |status| {
            ensure!(status.scenarios[0].truth == Truth::True, "{:?}", status.scenarios[0].truth);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Those that are not this one.
fn others(place: usize) -> Vec<usize> {
    (0..3).filter(|other| *other != place).collect()
}

/// What the chat was told.
fn told(team: &Team) -> Vec<String> {
    let text = |body: &str| serde_json::from_str::<Value>(body).ok()?["subject"].as_str().map(str::to_owned);
    team.world.chat.seen().iter().filter_map(|seen| text(&seen.body)).collect()
}

/// Waits until somebody was told that.
async fn is_told(team: &Team, what: &str) -> Result<()> {
    eventually(PATIENCE, &format!("{what:?} to be told"), async || {
        let told = told(team);
        told.iter().find(|subject| subject.contains(what)).map(drop).with_context(|| format!("{told:#?}"))
    })
    .await
}

/// The members that led, in their order, by the journal.
fn leaders(journal: &[Record]) -> Vec<String> {
    let leader = |record: &Record| match &record.entry {
        Entry::LeaderChanged { member, .. } => Some(member.to_string()),
        _ => None,
    };
    journal.iter().filter_map(leader).collect()
}

/// The epochs that were granted; each once, and each higher than those before.
fn epochs(journal: &[Record]) -> Result<Vec<Epoch>> {
    let granted = |record: &Record| match &record.entry {
        Entry::RunStarted { epoch, .. } | Entry::RunTakenUp { epoch, .. } => Some(*epoch),
        Entry::LeaderChanged { epoch, .. } => *epoch,
        _ => None,
    };
    let epochs: Vec<Epoch> = journal.iter().filter_map(granted).collect();
    ensure!(epochs.is_sorted_by(|one, next| one < next), "{epochs:?}");
    Ok(epochs)
}

/// Each change outside was made once.
async fn is_done_once(team: &mut Team, place: usize) -> Result<()> {
    team.is_done(place).await?;
    for action in ["PromoteReadReplica", "ChangeResourceRecordSets"] {
        let calls = team.world.moto.calls_of(action).await?;
        let carried_out = calls.iter().filter(|call| call.carried_out).count();
        // A mark of a later epoch is written once more.
        let most = if action == "PromoteReadReplica" { 1 } else { 2 };
        ensure!((1..=most).contains(&carried_out), "{action} was carried out {carried_out} times: {calls:#?}");
    }
    Ok(())
}
