//! The history of clients that write all the time, wherever the record leads them: no write that was acknowledged
//! is lost (the standby is synchronous), and nobody ever knows two primaries that take writes.

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::{PATIENCE, epochs, is_done_once, team};
#[cfg(feature = "crash-points")]
use super::{first_leads, leaders};
use crate::fleet::history::{Clients, Side};
use crate::fleet::team::Team;

/// Nothing is lost, and there was one primary at each time.
async fn holds(team: &Team, clients: Clients) -> Result<()> {
    clients.reach(Side::Backup, 50, PATIENCE).await?;
    let history = clients.stop().await?;
    history.knows_one_primary()?;
    let lost = history.lost_on(&team.world.backup.db).await?;
    ensure!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
    epochs(&team.one_journal().await?).map(drop)
}

#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_lose_nothing_where_the_leader_dies_between_promotion_and_route() -> Result<()> {
    let mut team = first_leads("done:apply:promote").await?;
    let clients = Clients::start(&team.world).await?;
    clients.reach(Side::Primary, 200, PATIENCE).await?;
    let first = team.world.alias_target().await?;
    team.world.kill_primary();
    team.member(0).running.wait_exit(PATIENCE).await?;
    team.members[0] = None;
    ensure!(team.world.alias_target().await? == first, "the record moved before the run got there");
    let new = team.leader_among(&[1, 2]).await?;
    is_done_once(&mut team, new).await?;
    ensure!(leaders(&team.one_journal().await?).last().is_some_and(|last| last != "a"));
    holds(&team, clients).await
}

/// The old primary was only frozen, and comes back when all is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_lose_nothing_where_the_old_primary_wakes_after_the_failover() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    let clients = Clients::start(&team.world).await?;
    clients.reach(Side::Primary, 200, PATIENCE).await?;
    team.world.primary.db.sigstop()?;
    team.world.primary.app.kill9();
    team.world.primary.cache.kill9();
    is_done_once(&mut team, leader).await?;
    clients.reach(Side::Backup, 50, PATIENCE).await?;
    team.world.primary.db.sigcont()?;
    holds(&team, clients).await
}

/// The leader sleeps through the failover of its successor, and wakes under the load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_lose_nothing_where_the_leader_is_frozen_in_the_outage() -> Result<()> {
    let mut team = team(&[]).await?;
    let old = team.leader().await?;
    let clients = Clients::start(&team.world).await?;
    clients.reach(Side::Primary, 200, PATIENCE).await?;
    team.member(old).running.signal(Signal::STOP)?;
    team.world.kill_primary();
    let others: Vec<usize> = (0..3).filter(|place| *place != old).collect();
    let new = team.leader_among(&others).await?;
    is_done_once(&mut team, new).await?;
    team.member(old).running.signal(Signal::CONT)?;
    holds(&team, clients).await
}
