//! Somebody, or something, sets the wall clock of one daemon. Nothing that decides is counted by it: the lease
//! and the probes count from a start, and what was seen before a jump is looked at afresh.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{epochs, is_done_once, is_told, leaders, nobody, others};
use crate::fleet::team::{NAMES, Team};
use crate::fleet::wall_clock::WallClock;

const HOUR: i64 = 3600;
const SEEN: Duration = Duration::from_secs(20);

/// Each daemon has a wall clock of its own, off by so much.
async fn with_clocks(off: [i64; 3]) -> Result<(Team, [WallClock; 3])> {
    let mut team = nobody(&[]).await?;
    let clocks = [WallClock::new(off[0])?, WallClock::new(off[1])?, WallClock::new(off[2])?];
    for (place, clock) in clocks.iter().enumerate() {
        for (name, value) in clock.env()? {
            team.set_env_of(place, name, &value);
        }
        team.life(place, None)?;
    }
    Ok((team, clocks))
}

/// The daemon has noticed.
async fn has_tilted(team: &mut Team, place: usize) -> Result<()> {
    team.member(place).running.wait_log(SEEN, "the wall clock jumped").await?;
    is_told(team, "tilt: the loop or the clock jumped").await
}

/// One run, by the one that leads and has led all the time.
async fn is_done_by(team: &mut Team, leader: usize) -> Result<()> {
    is_done_once(team, leader).await?;
    let journal = team.one_journal().await?;
    ensure!(leaders(&journal) == [NAMES[leader]], "{:?}", leaders(&journal));
    ensure!(epochs(&journal)?.len() == 1, "{:?}", epochs(&journal)?);
    Ok(())
}

/// Before an outage.
async fn jumps_before(by: i64) -> Result<()> {
    let (mut team, clocks) = with_clocks([0; 3]).await?;
    let leader = team.settled().await?;
    clocks[leader].set(by)?;
    has_tilted(&mut team, leader).await?;
    team.world.kill_primary();
    is_done_by(&mut team, leader).await
}

/// In the middle of the run, while the record is on its way.
async fn jumps_in_a_run(by: i64) -> Result<()> {
    let (mut team, clocks) = with_clocks([0; 3]).await?;
    let leader = team.settled().await?;
    team.world.moto.set_delay("route53_insync", Duration::from_secs(3)).await?;
    team.world.kill_primary();
    team.status(leader, "the run to have changed something", |status| {
        ensure!(status.run.as_ref().is_some_and(|run| run.past_no_return), "{:?}", status.run);
        Ok(())
    })
    .await?;
    clocks[leader].set(by)?;
    has_tilted(&mut team, leader).await?;
    is_done_by(&mut team, leader).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_is_set_an_hour_on_keeps_the_lead_and_fails_over() -> Result<()> {
    jumps_before(HOUR).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_is_set_an_hour_back_keeps_the_lead_and_fails_over() -> Result<()> {
    jumps_before(-HOUR).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_in_which_the_clock_is_set_an_hour_on_is_done_once() -> Result<()> {
    jumps_in_a_run(HOUR).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_in_which_the_clock_is_set_an_hour_back_is_done_once() -> Result<()> {
    jumps_in_a_run(-HOUR).await
}

/// One follows with a clock that was set on, the other with one that was set back, and then one of them leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_whose_clocks_are_set_apart_follow_and_one_of_them_takes_over() -> Result<()> {
    let (mut team, clocks) = with_clocks([0; 3]).await?;
    let old = team.settled().await?;
    let others = others(old);
    for (place, by) in others.iter().zip([HOUR, -HOUR]) {
        clocks[*place].set(by)?;
        team.member(*place).running.wait_log(SEEN, "the wall clock jumped").await?;
    }
    ensure!(team.leader().await? == old, "the lead is not counted by that clock");
    team.kill9(old);
    let new = team.leader_among(&others).await?;
    team.world.kill_primary();
    is_done_once(&mut team, new).await?;
    let journal = team.one_journal().await?;
    ensure!(leaders(&journal) == [NAMES[old], NAMES[new]], "{:?}", leaders(&journal));
    epochs(&journal).map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_start_with_clocks_an_hour_apart_hear_each_other_and_fail_over() -> Result<()> {
    let (mut team, _clocks) = with_clocks([HOUR, 0, -HOUR]).await?;
    let leader = team.settled().await?;
    let since: Vec<_> = team.membership(leader).await?.members.iter().map(|member| member.since).collect();
    let apart = since.iter().max().zip(since.iter().min()).map(|(last, first)| last.since(*first));
    ensure!(apart > Some(Duration::from_secs(3600)), "their clocks are not apart: {since:?}");
    team.world.kill_primary();
    is_done_by(&mut team, leader).await
}
