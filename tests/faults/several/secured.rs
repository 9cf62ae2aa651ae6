//! The etcd cluster over TLS, with a user who may touch nothing but the prefix of the members.

use anyhow::{Result, ensure};

use super::{is_done_once, is_told};
use crate::fleet::etcd::{Etcd, USER};
use crate::fleet::kube::Kube;
use crate::fleet::team::Team;

/// Nothing runs yet; the members have a client's certificate, and the password that is given.
async fn secured(password: &str) -> Result<Team> {
    let etcd = Etcd::start_secured(3, "/shop/");
    let mut team = Team::prepare_on(etcd, env!("CARGO_BIN_EXE_failoverd"), Kube::stand_in().await?, &[]).await?;
    let files = team.etcd.files().into_iter().flatten();
    for (key, file) in ["CA_FILE", "CERTIFICATE_FILE", "KEY_FILE"].iter().zip(files) {
        team.set_env(&format!("FAILOVERD__ETCD__TLS__{key}"), &file.display().to_string());
    }
    team.set_env("FAILOVERD__ETCD__USER__NAME", USER.0);
    let file = team.dir().join("etcd-password");
    std::fs::write(&file, password)?;
    team.set_env("FAILOVERD__ETCD__USER__PASSWORD__FILE", &file.display().to_string());
    Ok(team)
}

/// A cluster that restarts has forgotten whom it had let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_and_with_a_password_they_fail_over_also_when_the_cluster_has_restarted() -> Result<()> {
    let mut team = secured(USER.1).await?;
    (0..3).try_for_each(|place| team.life(place, None))?;
    team.settled().await?;
    for place in 0..3 {
        team.etcd.kill9(place);
        team.etcd.restart(place).await?;
    }
    let leader = team.leader().await?;
    team.world.kill_primary();
    is_done_once(&mut team, leader).await?;
    team.one_journal().await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_lets_nobody_in_is_told_without_the_password() -> Result<()> {
    let mut team = secured("canary-wrong-password").await?;
    (0..3).try_for_each(|place| team.life(place, None))?;
    is_told(&team, "authentication failed").await?;
    let log = team.member(0).running.stderr();
    ensure!(!log.contains("canary-"), "{log}");
    std::fs::write(team.dir().join("etcd-password"), USER.1)?;
    team.leader().await.map(drop)
}

/// The file is written first, as a secret's manager does, and nobody tells the members.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_changed_in_use_is_found_by_all() -> Result<()> {
    let mut team = secured(USER.1).await?;
    (0..3).try_for_each(|place| team.life(place, None))?;
    team.settled().await?;
    let next = "canary-next-password";
    std::fs::write(team.dir().join("etcd-password"), next)?;
    team.etcd.change_password(next).await?;
    let leader = team.leader().await?;
    team.world.kill_primary();
    is_done_once(&mut team, leader).await?;
    team.one_journal().await.map(drop)
}
