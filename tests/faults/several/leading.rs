//! Who leads, and what becomes of it when a member ends, is frozen or is cut off.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::{PATIENCE, epochs, is_done_once, is_told, leaders, team, told};
use crate::fleet::proxy::Mode;
use crate::fleet::team::{NAMES, TTL, Team};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_daemons_fail_over_once_and_keep_one_journal() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    team.world.kill_primary();
    is_done_once(&mut team, leader).await?;
    let journal = team.one_journal().await?;
    ensure!(leaders(&journal) == [NAMES[leader]], "{:?}", leaders(&journal));
    ensure!(epochs(&journal)?.len() == 1);
    // Those that follow know of it.
    for place in (0..3).filter(|place| *place != leader).collect::<Vec<_>>() {
        team.status(place, "the run in the copy", |status| {
            ensure!(status.epoch.0 == 1, "epoch {}", status.epoch);
            Ok(())
        })
        .await?;
    }
    let opened = told(&team).iter().filter(|subject| subject.contains("run ") && subject.contains("started")).count();
    ensure!(opened == 1, "three daemons tell it once: {:#?}", told(&team));
    Ok(())
}

/// The leader is gone in each of these ways; another one leads, and fails over.
async fn without_its_leader(how: impl AsyncFnOnce(&mut Team, usize) -> Result<()>) -> Result<()> {
    let mut team = team(&[]).await?;
    let old = team.leader().await?;
    how(&mut team, old).await?;
    let others: Vec<usize> = (0..3).filter(|place| *place != old).collect();
    let new = team.leader_among(&others).await?;
    team.world.kill_primary();
    is_done_once(&mut team, new).await?;
    let journal = team.one_journal().await?;
    ensure!(leaders(&journal) == [NAMES[old], NAMES[new]], "{:?}", leaders(&journal));
    epochs(&journal).map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_is_followed_by_another() -> Result<()> {
    without_its_leader(async |team, leader| {
        team.kill9(leader);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_ends_in_order_gives_the_lead_back_at_once() -> Result<()> {
    without_its_leader(async |team, leader| {
        let status = team.member(leader).running.terminate(Duration::from_secs(20)).await?;
        ensure!(status.success());
        let ended = Instant::now();
        team.members[leader] = None;
        team.leader().await?;
        // Its lease would have gone on for longer than half of its time.
        ensure!(ended.elapsed() < TTL / 2 + Duration::from_secs(1), "it took {:?}", ended.elapsed());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_frozen_is_followed_by_another_and_steps_down_when_it_wakes() -> Result<()> {
    let mut team = team(&[]).await?;
    let old = team.leader().await?;
    team.member(old).running.signal(Signal::STOP)?;
    let others: Vec<usize> = (0..3).filter(|place| *place != old).collect();
    let new = team.leader_among(&others).await?;
    team.member(old).running.signal(Signal::CONT)?;
    ensure!(team.leader().await? == new, "it does not take the lead back");
    is_told(&team, &format!("{} leads no more", NAMES[old])).await?;
    team.world.kill_primary();
    is_done_once(&mut team, new).await
}

/// Each way in which a leader can be cut off from the cluster, and from nothing else.
async fn cut_off(mode: Mode) -> Result<()> {
    let mut team = team(&[]).await?;
    let old = team.leader().await?;
    team.cut(old, mode).await?;
    let others: Vec<usize> = (0..3).filter(|place| *place != old).collect();
    let new = team.leader_among(&others).await?;
    // It knows by itself that it may not act.
    team.status(old, "it to have stepped down", |status| {
        let members = status.members.clone().unwrap();
        ensure!(members.term.is_none(), "{members:?}");
        Ok(())
    })
    .await?;
    is_told(&team, &format!("{} leads no more", NAMES[old])).await?;
    team.world.kill_primary();
    is_done_once(&mut team, new).await?;
    team.cut(old, Mode::Pass).await?;
    // And catches up.
    team.status(old, "the run in its copy", |status| {
        ensure!(status.epoch.0 == 1, "epoch {}", status.epoch);
        Ok(())
    })
    .await?;
    ensure!(team.leader().await? == new);
    let journal = team.one_journal().await?;
    ensure!(leaders(&journal) == [NAMES[old], NAMES[new]], "{:?}", leaders(&journal));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_packets_are_lost_is_followed_by_another() -> Result<()> {
    cut_off(Mode::Blackhole).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_no_answers_is_followed_by_another() -> Result<()> {
    cut_off(Mode::LoseAnswers).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_refused_is_followed_by_another() -> Result<()> {
    cut_off(Mode::Refuse).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_answers_drip_is_followed_by_another() -> Result<()> {
    cut_off(Mode::Drip).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_reaches_one_member_of_the_cluster_goes_on() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    for node in 0..2 {
        team.cut_way(leader, node, Mode::Blackhole).await?;
    }
    team.world.kill_primary();
    is_done_once(&mut team, leader).await?;
    ensure!(leaders(&team.one_journal().await?) == [NAMES[leader]]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_follows_and_is_cut_off_is_told_and_changes_nothing() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    let follower = (leader + 1) % 3;
    team.cut(follower, Mode::Refuse).await?;
    is_told(&team, &format!("{} does not reach the state store", NAMES[follower])).await?;
    team.world.kill_primary();
    is_done_once(&mut team, leader).await?;
    team.cut(follower, Mode::Pass).await?;
    team.status(follower, "it to reach the store", |status| {
        let members = status.members.clone().unwrap();
        ensure!(members.trouble.is_none() && members.members.len() == 3, "{members:?}");
        Ok(())
    })
    .await?;
    ensure!(leaders(&team.one_journal().await?) == [NAMES[leader]]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_votes_of_the_others_there_is_no_quorum_and_nothing_is_done() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    for place in (0..3).filter(|place| *place != leader) {
        team.shut(place, Mode::Blackhole).await?;
    }
    team.world.kill_primary();
    is_told(&team, "cannot tell whether regional-outage holds").await?;
    let status = team.status(leader, "the votes to be gone", |status| {
        ensure!(status.vantages.iter().filter(|vantage| vantage.silent).count() == 2, "{:?}", status.vantages);
        Ok(())
    });
    status.await?;
    ensure!(team.member(leader).client.runs().await?.is_empty());
    for place in (0..3).filter(|place| *place != leader) {
        team.shut(place, Mode::Pass).await?;
    }
    let began = Instant::now();
    is_done_once(&mut team, leader).await?;
    ensure!(began.elapsed() < PATIENCE);
    Ok(())
}

/// Nothing new can be opened: no connection, no file. As long as those that it has serve, it goes on; where it sees
/// nothing any more, it gives the lead to one that does. Nobody ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_descriptors_is_no_danger() -> Result<()> {
    let mut team = team(&[]).await?;
    let old = team.leader().await?;
    let pid = rustix::process::Pid::from_raw(team.member(old).running.pid());
    let open = std::fs::read_dir(format!("/proc/{}/fd", team.member(old).running.pid()))?.count() as u64;
    let limit = rustix::process::Rlimit { current: Some(open.saturating_sub(1)), maximum: Some(open) };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit)?;
    team.world.kill_primary();
    // By whichever of them leads: it cannot look any more, and the others can.
    let began = Instant::now();
    loop {
        let mut done = false;
        for place in (0..3).filter(|place| *place != old).collect::<Vec<_>>() {
            let runs = team.member(place).client.runs().await?;
            done |= runs.first().is_some_and(|run| run.ended.is_some());
        }
        if done {
            break;
        }
        ensure!(began.elapsed() < PATIENCE * 2, "nobody has failed over");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let others: Vec<usize> = (0..3).filter(|place| *place != old).collect();
    let place = others[0];
    is_done_once(&mut team, place).await?;
    epochs(&team.one_journal().await?).map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_of_the_leader_in_a_run_changes_neither() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    team.world.moto.set_delay("route53_insync", Duration::from_secs(3)).await?;
    team.world.kill_primary();
    team.status(leader, "the run", |status| {
        ensure!(status.run.is_some());
        Ok(())
    })
    .await?;
    team.configure(&[("point_of_no_return = \"promote\"", "point_of_no_return = \"promote\"\n# changed")])?;
    for place in 0..3 {
        team.member(place).running.signal(Signal::HUP)?;
    }
    is_done_once(&mut team, leader).await?;
    let journal = team.one_journal().await?;
    ensure!(leaders(&journal) == [NAMES[leader]], "{:?}", leaders(&journal));
    ensure!(epochs(&journal)?.len() == 1);
    Ok(())
}
