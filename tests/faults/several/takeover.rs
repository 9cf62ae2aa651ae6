//! A leader ends, or is frozen, in the middle of a run: another one finishes it from what it observes, and
//! what the first one still has out changes nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::model::{Entry, Record};
use rustix::process::Signal;

use super::{PATIENCE, epochs, first_leads, is_done_once, leaders};
use crate::fleet::team::{NAMES, Team};

/// The first one leads, and comes to this point in the outage; the others are there.
async fn outage_at(point: &str) -> Result<Team> {
    let mut team = first_leads(point).await?;
    team.world.kill_primary();
    Ok(team)
}

/// The first one led, and then others: on a machine that stalls a lease may run out once more.
fn was_passed_on(journal: &[Record]) -> bool {
    let all = leaders(journal);
    all.iter().any(|name| name == "a") && all.last().is_some_and(|name| name != "a")
}

async fn killed_at(point: &str) -> Result<()> {
    let mut team = outage_at(point).await?;
    team.member(0).running.wait_exit(PATIENCE).await?;
    team.members[0] = None;
    let new = team.leader_among(&[1, 2]).await?;
    is_done_once(&mut team, new).await?;
    // It comes back, and follows.
    team.life(0, None)?;
    ensure!(team.leader().await? != 0);
    let journal = team.one_journal().await?;
    ensure!(was_passed_on(&journal), "{point}: {:?}", leaders(&journal));
    let started = journal.iter().filter(|record| matches!(record.entry, Entry::RunStarted { .. })).count();
    ensure!(started == 1, "{point}: {started} runs");
    epochs(&journal).map(drop)
}

macro_rules! killed_at {
    ($($name:ident: $point:literal),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> Result<()> {
                killed_at($point).await
            }
        )*
    };
}

killed_at! {
    killed_before_the_start_of_the_run_is_in_its_copy: "before:run_started",
    killed_after_the_start_of_the_run_is_in_its_copy: "after:run_started",
    killed_before_the_first_intent_is_in_its_copy: "before:step_intent",
    killed_after_an_intent: "after:step_intent:2",
    killed_between_permit_and_call: "permitted:2",
    killed_after_the_promotion: "done:apply:promote",
    killed_after_the_route: "done:apply:route",
    killed_before_the_end_is_in_its_copy: "before:run_ended",
}

/// The first one freezes between a permit and its call, until another one has finished the run; then it goes on
/// with the call that it was about to make, in a world that has moved on.
async fn frozen_at(permit: u32) -> Result<()> {
    let mut team = outage_at(&format!("stop@permitted:{permit}")).await?;
    let new = team.leader_among(&[1, 2]).await?;
    is_done_once(&mut team, new).await?;
    let promotions = carried_out(&team, "PromoteReadReplica").await?;
    let changes = carried_out(&team, "ChangeResourceRecordSets").await?;
    team.member(0).running.signal(Signal::CONT)?;
    team.status(0, "it to follow another one", |status| {
        let members = status.members.clone().unwrap();
        ensure!(members.leader.as_ref().is_some_and(|leader| leader.as_str() != NAMES[0]), "{members:?}");
        Ok(())
    })
    .await?;
    // The call that it had out has come to its end when it ends in order.
    let status = team.member(0).running.terminate(Duration::from_secs(40)).await?;
    ensure!(status.success(), "{status}");
    ensure!(carried_out(&team, "PromoteReadReplica").await? == promotions, "promoted again");
    ensure!(carried_out(&team, "ChangeResourceRecordSets").await? == changes, "the record was written again");
    let differences = team.world.differences().await?;
    ensure!(differences.is_empty(), "{differences:?}");
    let journal = team.one_journal().await?;
    ensure!(was_passed_on(&journal), "{:?}", leaders(&journal));
    let epochs = epochs(&journal)?;
    ensure!(epochs.len() >= 2, "the run was taken over under an epoch of its own: {epochs:?}");
    Ok(())
}

async fn carried_out(team: &Team, action: &str) -> Result<usize> {
    Ok(team.world.moto.calls_of(action).await?.iter().filter(|call| call.carried_out).count())
}

macro_rules! frozen_at {
    ($($name:ident: $permit:literal),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> Result<()> {
                frozen_at($permit).await
            }
        )*
    };
}

frozen_at! {
    frozen_at_the_first_permit_it_changes_nothing_when_it_wakes: 1,
    frozen_at_the_second_permit_it_changes_nothing_when_it_wakes: 2,
    frozen_at_the_third_permit_it_changes_nothing_when_it_wakes: 3,
    frozen_at_the_fourth_permit_it_changes_nothing_when_it_wakes: 4,
}
