//! Packets between the daemons and the store are lost one by one, which a proxy cannot do: what TCP makes of it
//! is part of the fault.

use anyhow::{Context, Result, ensure};
use failoverd::model::{Entry, Record};

use super::{PATIENCE, epochs, is_told, leaders, others};
use crate::fleet::apart::Way;
use crate::fleet::eventually;
use crate::fleet::kube::Kube;
use crate::fleet::team::{NAMES, Team};

const BOTH: &[Way] = &[Way::Forth, Way::Back];

/// Each daemon in a network of its own; one of them leads.
async fn team_apart() -> Result<(Team, usize)> {
    let mut team = Team::prepare_apart(env!("CARGO_BIN_EXE_failoverd"), Kube::stand_in().await?, &[]).await?;
    (0..3).try_for_each(|place| team.life(place, None))?;
    let leader = team.settled().await?;
    Ok((team, leader))
}

/// The journal says that the run is done, whoever has done it; nothing was done twice.
async fn is_done_by_somebody(team: &Team) -> Result<Vec<Record>> {
    eventually(PATIENCE, "the run to be done", async || {
        let copies = (0..3).map(|place| team.records(place)).collect::<Result<Vec<_>>>()?;
        let ended = |record: &&Record| matches!(&record.entry, Entry::RunEnded { .. });
        copies.iter().flatten().find(ended).map(drop).context("no copy says so")
    })
    .await?;
    let journal = team.one_journal().await?;
    let ends: Vec<&Entry> =
        journal.iter().map(|record| &record.entry).filter(|entry| matches!(entry, Entry::RunEnded { .. })).collect();
    ensure!(ends.len() == 1 && format!("{ends:?}").contains("Done"), "{ends:?}");
    let started = journal.iter().filter(|record| matches!(record.entry, Entry::RunStarted { .. })).count();
    ensure!(started == 1, "{started} runs");
    eventually(PATIENCE, "the world to be as a failover leaves it", async || {
        let differences = team.world.differences().await?;
        ensure!(differences.is_empty(), "{differences:?}");
        Ok(())
    })
    .await?;
    let promoted = team.world.moto.calls_of("PromoteReadReplica").await?;
    let promoted = promoted.iter().filter(|call| call.carried_out).count();
    ensure!(promoted == 1, "promoted {promoted} times");
    // Each epoch may set its own mark on the record, and none sets two.
    let routed = team.world.moto.calls_of("ChangeResourceRecordSets").await?;
    let routed = routed.iter().filter(|call| call.carried_out).count();
    let granted = epochs(&journal)?.len();
    ensure!((1..=granted.max(1)).contains(&routed), "the record was set {routed} times under {granted} epochs");
    Ok(journal)
}

/// The rule was about packets that there are.
async fn has_lost_packets(team: &Team) -> Result<()> {
    let lost = team.apart()?.lost().await?;
    ensure!(lost > 0, "no packet was lost");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_loss_on_every_way_to_the_store_the_failover_is_done_once() -> Result<()> {
    let (mut team, _) = team_apart().await?;
    team.apart()?.lose(25, BOTH, &[0, 1, 2]).await?;
    team.world.kill_primary();
    is_done_by_somebody(&team).await?;
    has_lost_packets(&team).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_on_a_lossy_way_to_the_store_goes_on_or_is_followed_by_one() -> Result<()> {
    let (mut team, leader) = team_apart().await?;
    team.apart()?.lose(30, BOTH, &[leader]).await?;
    team.world.kill_primary();
    is_done_by_somebody(&team).await?;
    has_lost_packets(&team).await
}

/// Nothing comes through any more, one way; connections that stand say nothing of it.
async fn cut_one_way(way: Way) -> Result<()> {
    let (mut team, old) = team_apart().await?;
    team.apart()?.lose(100, &[way], &[old]).await?;
    let new = team.leader_among(&others(old)).await?;
    team.status(old, "it to have stepped down", |status| {
        let members = status.members.clone().context("it is one of several")?;
        ensure!(members.term.is_none(), "{members:?}");
        Ok(())
    })
    .await?;
    is_told(&team, &format!("{} leads no more", NAMES[old])).await?;
    team.world.kill_primary();
    let journal = is_done_by_somebody(&team).await?;
    ensure!(leaders(&journal) == [NAMES[old], NAMES[new]], "{:?}", leaders(&journal));
    has_lost_packets(&team).await?;
    team.apart()?.lose(100, &[], &[]).await?;
    team.status(old, "the run in its copy", |status| {
        ensure!(status.epoch.0 == 1, "epoch {}", status.epoch);
        Ok(())
    })
    .await?;
    ensure!(team.leader().await? == new, "it does not take the lead back");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_packets_to_the_store_are_dropped_is_followed_by_another() -> Result<()> {
    cut_one_way(Way::Forth).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_to_which_no_packet_of_the_store_comes_is_followed_by_another() -> Result<()> {
    cut_one_way(Way::Back).await
}

/// It goes on renewing its lease, and can neither look nor act.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_cut_off_from_all_but_the_store_gives_the_lead_back() -> Result<()> {
    let (mut team, old) = team_apart().await?;
    team.apart()?.close_gates(old).await?;
    team.member(old).running.wait_log(PATIENCE, "leads no more: none of its own probes").await?;
    let new = team.leader_among(&others(old)).await?;
    team.world.kill_primary();
    let journal = is_done_by_somebody(&team).await?;
    ensure!(leaders(&journal) == [NAMES[old], NAMES[new]], "{:?}", leaders(&journal));
    Ok(())
}
