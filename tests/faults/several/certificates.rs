//! The certificates with which the members know each other run out while they are in use.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use failoverd::model::{Finding, PlanReadiness};
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustix::process::Signal;

use super::{PATIENCE, is_done_once, is_told, leaders, others, team};
use crate::fleet::team::{NAMES, Team};

/// Long enough for all to take them, and to be heard under them.
const SHORT: i64 = 10;
const LONG: i64 = 24 * 3600;
/// It ran out before.
const OVER: i64 = -60;

/// As `failoverd certs issue` makes them, but for a time of seconds from now, and in the place of those that are
/// there.
fn issue(folder: &Path, name: &str, life: i64) -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name));
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem")?, KeyPair::from_pem(&read("ca.key")?)?)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let mark = format!("failoverd://zone-{name}/{name}");
    params.subject_alt_names.push(SanType::URI(Ia5String::try_from(mark)?));
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let at = |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.unsigned_abs());
    (params.not_before, params.not_after) = (at(now - LONG), at(now + life));
    let certificate = params.signed_by(&key, &issuer)?;
    std::fs::write(folder.join(format!("{name}.pem")), certificate.pem())?;
    Ok(std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?)
}

/// New ones for all, and all are told.
fn renew(team: &mut Team, life: i64) -> Result<()> {
    NAMES.iter().try_for_each(|name| issue(team.dir(), name, life))?;
    (0..3).try_for_each(|place| team.member(place).running.signal(Signal::HUP))
}

/// How many others a member hears.
async fn hears(team: &mut Team, place: usize, many: usize) -> Result<()> {
    let what = format!("{many} others to be heard");
    let heard = team.status(place, &what, |status| {
        let heard = status.vantages.iter().filter(|vantage| !vantage.own && !vantage.silent).count();
        ensure!(heard == many, "{:?}", status.vantages);
        Ok(())
    });
    heard.await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_whose_certificates_run_out_do_nothing_until_there_are_new_ones() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    renew(&mut team, SHORT)?;
    for place in 0..3 {
        team.member(place).running.wait_log(PATIENCE, "configuration reloaded").await?;
        hears(&mut team, place, 2).await?;
    }
    // The connections go on; the certificates with which they began do not.
    for place in 0..3 {
        hears(&mut team, place, 0).await?;
        team.member(place).running.wait_log(PATIENCE, "the witness is not heard: refused: expired").await?;
    }
    team.world.kill_primary();
    is_told(&team, "cannot tell whether regional-outage holds").await?;
    ensure!(team.member(leader).client.runs().await?.is_empty(), "without a quorum nothing is begun");
    // Nobody tells the members.
    NAMES.iter().try_for_each(|name| issue(team.dir(), name, LONG))?;
    is_done_once(&mut team, leader).await?;
    for place in 0..3 {
        hears(&mut team, place, 2).await?;
    }
    ensure!(leaders(&team.one_journal().await?) == [NAMES[leader]], "the lease has nothing to do with it");
    Ok(())
}

/// One that nobody renewed: it is heard by nobody, and the others are enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_certificate_has_run_out_is_not_heard_and_not_needed() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    let late = others(leader)[0];
    issue(team.dir(), NAMES[late], SHORT)?;
    team.member(late).running.signal(Signal::HUP)?;
    team.member(leader).running.wait_log(PATIENCE, "the witness is not heard: refused: expired").await?;
    hears(&mut team, leader, 1).await?;
    // The file is on that member's host; the others know it by what it showed.
    let looked = team.verb(leader, &["readiness", "--now", "--json"]).run(PATIENCE).await?;
    let plans: Vec<PlanReadiness> = serde_json::from_str(&looked.stdout)?;
    let of_vantages = |finding: &&Finding| finding.subject.starts_with("certificate of vantage ");
    let found: Vec<&Finding> = plans.iter().flat_map(|plan| &plan.general).filter(of_vantages).collect();
    ensure!(!found.is_empty(), "{}", looked.stdout);
    for finding in found {
        ensure!(finding.subject == format!("certificate of vantage {}", NAMES[late]), "the other one is well");
        ensure!(finding.verdict.reason().starts_with("it ended on "), "{finding:?}");
    }
    team.world.kill_primary();
    is_done_once(&mut team, leader).await?;
    ensure!(leaders(&team.one_journal().await?) == [NAMES[leader]]);
    Ok(())
}

/// What works does not end for a certificate that nobody would accept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_does_not_take_a_certificate_that_has_run_out() -> Result<()> {
    let mut team = team(&[]).await?;
    let leader = team.leader().await?;
    renew(&mut team, OVER)?;
    for place in 0..3 {
        let running = &mut team.member(place).running;
        running.wait_log(PATIENCE, "the witnesses are asked as before").await?;
        running.wait_log(PATIENCE, "told our votes under the former certificate").await?;
        running.wait_log(PATIENCE, "configuration reloaded, but for the certificates").await?;
        hears(&mut team, place, 2).await?;
    }
    team.world.kill_primary();
    is_done_once(&mut team, leader).await
}
