//! What people do with several daemons: they may ask any of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::core::Command;
use failoverd::model::{Entry, Record};
use rustix::process::Signal;

#[cfg(feature = "crash-points")]
use super::others;
use super::{PATIENCE, is_done_once, leaders, see_the_outage, team};
use crate::fleet::eventually;
use crate::fleet::process::Failoverd;
use crate::fleet::team::{NAMES, Team};

async fn say(team: &Team, place: usize, verb: &[&str]) -> Result<(bool, String)> {
    let done = team.verb(place, verb).run(Duration::from_secs(30)).await?;
    Ok((done.status.success(), format!("{}{}", done.stdout, done.stderr)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_to_any_member_is_carried_out_by_the_leader_and_audited() -> Result<()> {
    let mut team = team(&[("mode = \"auto\"", "mode = \"approve\"")]).await?;
    let leader = team.leader().await?;
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let (done, text) = say(&team, one, &["pause"]).await?;
    ensure!(done && text.contains("paused"), "{text}");
    let (done, text) = say(&team, other, &["resume"]).await?;
    ensure!(done && text.contains("resumed"), "{text}");
    team.world.kill_primary();
    let status = team
        .status(leader, "the question", |status| {
            ensure!(format!("{:?}", status.scenarios[0].decision).contains("AskApproval"), "{:?}", status.scenarios[0]);
            Ok(())
        })
        .await?;
    let incident = status.scenarios[0].incident.clone().context("an incident")?;
    team.status(one, "the incident in the copy", |status| {
        ensure!(status.scenarios[0].incident.as_ref() == Some(&incident));
        Ok(())
    })
    .await?;
    let (done, text) = say(&team, one, &["approve", incident.as_str(), "--yes"]).await?;
    // On a loaded machine a vote on the standby may just be old: then it starts with the next one.
    ensure!(done || text.contains("approved, valid for"), "{text}");
    is_done_once(&mut team, leader).await?;
    let journal = team.one_journal().await?;
    let commands = journal.iter().filter(|record| matches!(record.entry, Entry::Command { .. })).count();
    ensure!(commands == 3, "{commands} commands are in the journal");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_role_at_a_member_that_follows_is_in_the_journal_of_all() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut team = team(&[]).await?;
    let follower = (team.leader().await? + 1) % 3;
    // Anybody may come as far as the socket.
    std::fs::set_permissions(team.dir(), std::fs::Permissions::from_mode(0o755))?;
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_failoverd")];
    let socket = team.dir().join(format!("{}.sock", NAMES[follower]));
    let done = Failoverd::new("setpriv").args(user).args(["pause", "--socket"]).arg(socket).run(PATIENCE).await?;
    ensure!(done.status.code() == Some(3), "{done:?}");
    let by = format!("nobody (uid 65534) at {}", NAMES[follower]);
    eventually(PATIENCE, "the audit", async || {
        let journal = team.one_journal().await?;
        let is_there = |record: &Record| {
            matches!(&record.entry, Entry::Command { by: who, result, .. } if *who == by && result.starts_with("refused"))
        };
        ensure!(journal.iter().any(is_there), "nothing of {by}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_is_handed_over_to_the_member_that_is_named() -> Result<()> {
    let mut team = team(&[]).await?;
    let old = team.leader().await?;
    let new = (old + 2) % 3;
    // Asked of one that follows.
    let (done, text) = say(&team, (old + 1) % 3, &["hand-over", NAMES[new]]).await?;
    ensure!(done && text.contains(NAMES[new]), "{text}");
    ensure!(team.leader().await? == new);
    let (done, text) = say(&team, old, &["members"]).await?;
    ensure!(done && text.matches("follows").count() == 2 && text.matches("leads").count() == 1, "{text}");
    let (done, text) = say(&team, old, &["hand-over", "nobody"]).await?;
    ensure!(!done && text.contains("there is no member nobody"), "{text}");
    team.world.kill_primary();
    is_done_once(&mut team, new).await?;
    ensure!(leaders(&team.one_journal().await?) == [NAMES[old], NAMES[new]]);
    Ok(())
}

/// One after the other, as on an upgrade: the lead is handed over, the member ends and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_in_an_outage_loses_nothing() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    team.world.kill_primary();
    // What was known of the replication is in the journal from here on. Three members that all restart before
    // anyone has seen the outage know nothing of it, and hold.
    team.status(leader, "the incident", |status| {
        ensure!(status.scenarios[0].incident.is_some());
        Ok(())
    })
    .await?;
    for place in 0..3 {
        let status = team.member(place).running.terminate(Duration::from_secs(40)).await?;
        ensure!(status.success(), "{status}");
        team.life(place, None)?;
        team.leader().await?;
    }
    let leader = team.leader().await?;
    is_done_once(&mut team, leader).await?;
    team.one_journal().await.map(drop)
}

/// Ends a member in order, and starts it as one that reads the journal up to this version.
#[cfg(feature = "crash-points")]
async fn becomes(team: &mut Team, place: usize, schema: u32) -> Result<()> {
    let status = team.member(place).running.terminate(Duration::from_secs(40)).await?;
    ensure!(status.success(), "{status}");
    team.set_env_of(place, failoverd::state::crash::SCHEMA, &schema.to_string());
    team.life(place, None)
}

/// A later version is played by the one of now, which says that it reads more.
#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_upgrade_in_an_outage_raises_the_journal_when_all_can_read_it() -> Result<()> {
    let mut team = team(&[]).await?;
    let old = team.leader().await?;
    let [first, second] = [others(old)[0], others(old)[1]];
    for place in [first, second] {
        becomes(&mut team, place, 2).await?;
        team.settled().await?;
    }
    let done = team.verb(old, &["hand-over", NAMES[first]]).run(PATIENCE).await?;
    ensure!(done.status.success(), "{done:?}");
    ensure!(team.leader().await? == first, "one of the later version leads");
    ensure!(team.etcd.value("/shop/schema").await? == "1", "one that is there cannot read more");
    team.world.kill_primary();
    team.status(first, "the incident", |status| {
        ensure!(status.scenarios[0].incident.is_some());
        Ok(())
    })
    .await?;
    becomes(&mut team, old, 2).await?;
    is_done_once(&mut team, first).await?;
    let done = team.verb(first, &["hand-over", NAMES[second]]).run(PATIENCE).await?;
    ensure!(done.status.success(), "{done:?}");
    ensure!(team.leader().await? == second);
    ensure!(team.etcd.value("/shop/schema").await? == "2", "all can read it now");
    // Back to the earlier version: it cannot read what the others write from here on.
    becomes(&mut team, old, 1).await?;
    team.status(old, "the reason", |status| {
        let trouble = status.members.clone().and_then(|members| members.trouble).unwrap_or_default();
        ensure!(trouble.contains("schema 2") && trouble.contains("upgrade this member"), "{trouble}");
        Ok(())
    })
    .await?;
    is_done_once(&mut team, second).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_at_two_members_start_one_run() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    let failover = Command::Failover { scenario: "regional-outage".into(), allow_data_loss: None };
    team.world.kill_primary();
    see_the_outage(&mut team, &[leader]).await?;
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let clients = [one, other].map(|place| team.members[place].as_ref().map(|member| member.client.clone()));
    let [Some(first), Some(second)] = clients else { anyhow::bail!("both run") };
    let (first, second) = tokio::join!(first.command(&failover), second.command(&failover));
    ensure!(first.is_err() || second.is_err(), "{first:?} {second:?}");
    is_done_once(&mut team, leader).await?;
    let journal = team.one_journal().await?;
    let started = journal.iter().filter(|record| matches!(record.entry, Entry::RunStarted { .. })).count();
    ensure!(started == 1, "{started} runs");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_to_a_member_that_follows_is_handed_on() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    let follower = (leader + 1) % 3;
    team.member(follower).running.signal(Signal::USR2)?;
    for place in 0..3 {
        team.status(place, "the pause", |status| {
            ensure!(status.paused_by.as_deref() == Some("signal SIGUSR2"), "{:?}", status.paused_by);
            Ok(())
        })
        .await?;
    }
    Ok(())
}
