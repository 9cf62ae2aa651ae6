//! The etcd cluster on its worst days.

use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::core::view::StatusView;
use rustix::process::Signal;

use super::{PATIENCE, is_done_once, is_told, leaders, nobody, see_the_outage, team, told};
use crate::fleet::eventually;
use crate::fleet::team::{NAMES, Team};

/// Nobody leads, and everybody knows it.
pub(super) async fn nobody_leads(team: &mut Team) -> Result<()> {
    for place in 0..3 {
        team.status(place, "nobody to lead", |status: &StatusView| {
            let members = status.members.clone().unwrap();
            ensure!(members.term.is_none(), "{members:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_one_member_of_the_cluster_is_nobodys_business() -> Result<()> {
    for frozen in [false, true] {
        let mut team = team(&[]).await?;
        let leader = team.leader().await?;
        if frozen {
            team.etcd.signal(0, Signal::STOP)?;
        } else {
            team.etcd.kill9(0);
        }
        team.world.kill_primary();
        // Where the lost one led the cluster itself, the lease may have run out meanwhile.
        let leader = if leaders(&team.records(leader)?).len() > 1 { team.leader().await? } else { leader };
        is_done_once(&mut team, leader).await?;
        if frozen {
            team.etcd.signal(0, Signal::CONT)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_of_the_cluster_nothing_is_started_and_somebody_is_paged() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    team.etcd.kill9(0);
    team.etcd.kill9(1);
    nobody_leads(&mut team).await?;
    is_told(&team, &format!("{} leads no more", NAMES[leader])).await?;
    for name in NAMES {
        is_told(&team, &format!("{name} does not reach the state store")).await?;
    }
    team.world.kill_primary();
    // They go on looking.
    see_the_outage(&mut team, &[0, 1, 2]).await?;
    for place in 0..3 {
        ensure!(team.member(place).client.runs().await?.is_empty());
    }
    team.etcd.restart(0).await?;
    team.etcd.restart(1).await?;
    let leader = team.leader().await?;
    is_done_once(&mut team, leader).await?;
    team.one_journal().await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_and_a_restart_of_the_whole_cluster_lose_nothing() -> Result<()> {
    let mut team = team(&[]).await?;
    team.leader().await?;
    let revision = team.etcd.ctl(&["get", "/shop/tail", "-w", "fields"]).await?;
    let revision = revision.lines().find_map(|line| line.strip_prefix("\"Revision\" : ")).unwrap_or("1").to_owned();
    team.etcd.ctl(&["compact", "--physical", &revision]).await?;
    for place in 0..3 {
        team.etcd.kill9(place);
    }
    // Each answers only once there are two.
    for place in 0..3 {
        team.etcd.launch_again(place)?;
    }
    for place in 0..3 {
        team.etcd.healthy(place).await?;
    }
    let leader = team.leader().await?;
    team.world.kill_primary();
    is_done_once(&mut team, leader).await?;
    team.one_journal().await.map(drop)
}

/// One that has no copy yet could not tell an empty cluster from one that was emptied; that somebody leads does not say
/// that the others have read what it wrote.
async fn each_has_a_copy(team: &Team) -> Result<()> {
    eventually(PATIENCE, "each member to have a copy", async || {
        let copies = (0..3).map(|place| team.records(place)).collect::<Result<Vec<_>>>()?;
        ensure!(copies.iter().all(|copy| !copy.is_empty()), "one is empty");
        Ok(())
    })
    .await
}

/// Somebody wiped it, or put an older copy in its place: the epochs would begin anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_set_back_is_not_led_on() -> Result<()> {
    let mut team = team(&[]).await?;
    team.leader().await?;
    each_has_a_copy(&team).await?;
    team.etcd.ctl(&["del", "--prefix", "/shop/"]).await?;
    nobody_leads(&mut team).await?;
    is_told(&team, "not the one that this member has a copy of").await?;
    team.world.kill_primary();
    tokio::time::sleep(Duration::from_secs(3)).await;
    for place in 0..3 {
        ensure!(team.member(place).client.runs().await?.is_empty());
    }
    Ok(())
}

/// Waits until a member says why nobody leads on the journal in the cluster.
async fn says_why(team: &mut Team, place: usize, why: &str) -> Result<()> {
    let told = team.status(place, "the reason", |status| {
        let members = status.members.clone().unwrap();
        ensure!(members.term.is_none(), "{members:?}");
        let trouble = members.trouble.unwrap_or_default();
        ensure!(trouble.contains(why), "{trouble}");
        Ok(())
    });
    told.await.map(drop)
}

/// An empty cluster may be one that was wiped, and who has an empty copy cannot tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_begins_a_journal_before_each_member_has_said_that_it_has_none() -> Result<()> {
    let mut team = nobody(&[]).await?;
    team.life(1, None)?;
    team.life(2, None)?;
    says_why(&mut team, 1, "not yet heard: a.").await?;
    is_told(&team, "new, or wiped?").await?;
    team.life(0, None)?;
    let leader = team.settled().await?;
    team.world.kill_primary();
    is_done_once(&mut team, leader).await
}

/// Its own copy is gone as well: what it hears from the others keeps it from granting their epochs again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_a_copy_does_not_lead_on_a_wiped_cluster() -> Result<()> {
    let mut team = team(&[]).await?;
    each_has_a_copy(&team).await?;
    (0..3).for_each(|place| team.kill9(place));
    team.etcd.ctl(&["del", "--prefix", "/shop/"]).await?;
    for ending in ["", "-wal", "-shm"] {
        let mut path = team.local(2).into_os_string();
        path.push(ending);
        let _not_each_is_there = std::fs::remove_file(path);
    }
    team.life(2, None)?;
    says_why(&mut team, 2, "not yet heard: a, b.").await?;
    team.life(0, None)?;
    says_why(&mut team, 2, "a has a copy of").await?;
    says_why(&mut team, 0, "not the one that this member has a copy of").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_cannot_read_the_journal_does_not_lead() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    ensure!(team.etcd.value("/shop/schema").await? == "1");
    team.etcd.ctl(&["put", "/shop/schema", "2"]).await?;
    team.kill9(leader);
    let others: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    for place in others {
        team.status(place, "the reason", |status| {
            let trouble = status.members.clone().unwrap().trouble.unwrap_or_default();
            ensure!(trouble.contains("schema 2") && trouble.contains("upgrade this member"), "{trouble}");
            Ok(())
        })
        .await?;
    }
    is_told(&team, "schema 2").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_come_before_the_cluster_wait_for_it() -> Result<()> {
    let mut team = nobody(&[]).await?;
    for place in 0..3 {
        team.etcd.kill9(place);
    }
    (0..3).try_for_each(|place| team.life(place, None))?;
    is_told(&team, "does not reach the state store").await?;
    ensure!(!told(&team).iter().any(|subject| subject.contains("leads now")));
    for place in 0..3 {
        team.etcd.launch_again(place)?;
    }
    let leader = team.settled().await?;
    team.world.kill_primary();
    is_done_once(&mut team, leader).await
}
