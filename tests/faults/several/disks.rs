//! The disks below the etcd cluster are slow: what it answers, it answers late.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{epochs, is_done_once, leaders, see_the_outage, team};
use crate::fleet::slow_disk::SlowDisk;
use crate::fleet::team::NAMES;

/// Longer than anybody has patience for.
const STUCK: Duration = Duration::from_secs(5);

/// The one that leads the others in the cluster, or one of those.
async fn one_is_slow(leads: bool) -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    let first = team.etcd.leader().await?;
    let slow = if leads { first } else { (first + 1) % 3 };
    let slow = SlowDisk::below(team.etcd.pid(slow)?, STUCK).await?;
    team.world.kill_primary();
    // Where the slow one led the cluster itself, the lease may have run out meanwhile.
    let leader = if leads { team.leader().await? } else { leader };
    is_done_once(&mut team, leader).await?;
    slow.has_held_up().await?;
    let journal = team.one_journal().await?;
    ensure!(leads || leaders(&journal) == [NAMES[leader]], "{:?}", leaders(&journal));
    epochs(&journal).map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_below_one_member_of_the_cluster_is_nobodys_business() -> Result<()> {
    one_is_slow(false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_below_the_one_that_leads_the_cluster_is_no_danger() -> Result<()> {
    one_is_slow(true).await
}

/// Everything that is written takes as long as a lease and longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_all_disks_below_the_cluster_are_stuck_nothing_is_done_and_then_it_is_done_once() -> Result<()> {
    let mut team = team(&[]).await?;
    team.leader().await?;
    let mut slow = Vec::new();
    for node in 0..3 {
        slow.push(SlowDisk::below(team.etcd.pid(node)?, STUCK).await?);
    }
    team.world.kill_primary();
    see_the_outage(&mut team, &[0, 1, 2]).await?;
    for disk in &slow {
        disk.has_held_up().await?;
    }
    // What is not written down was not begun.
    let promoted = team.world.moto.calls_of("PromoteReadReplica").await?;
    ensure!(promoted.iter().all(|call| !call.carried_out), "{promoted:#?}");
    drop(slow);
    let leader = team.leader().await?;
    is_done_once(&mut team, leader).await?;
    epochs(&team.one_journal().await?).map(drop)
}
