//! RDS, Route 53 and IAM.

use anyhow::{Result, ensure};
use failoverd::model::Aspect;

use super::{finding, is, look, look_again};
use crate::actions::aws;
use crate::fleet::moto::{Fault, Kind, Moto};

const PROMOTE: &str =
    r#"promote.rds.promote_read_replica = { region = "us-west-2", instance = "shop-replica", replica_of = "shop" }"#;

async fn replica() -> Result<Moto> {
    let moto = Moto::start().await?;
    moto.create_db_with_replica("shop", "shop-replica").await?;
    moto.forget_calls().await?;
    Ok(moto)
}

/// Only what reads, and what asks about rights.
async fn changed_nothing(moto: &Moto) -> Result<()> {
    let calls = moto.calls().await?;
    ensure!(!calls.is_empty(), "nothing was asked at all");
    for call in calls {
        let action = call.action.unwrap_or_default();
        let reads = ["Describe", "List", "Get", "Simulate"].iter().any(|verb| action.starts_with(verb));
        ensure!(reads, "{action} is no look");
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_is_ready_until_it_is_something_else() -> Result<()> {
    let moto = replica().await?;
    let clients = aws(moto.port());
    let good = look(PROMOTE, "", &clients).await?;
    ensure!(good.verdict.name() == "ready", "{good:#?}");
    is(&good, Aspect::Permitted, "rds:PromoteReadReplica", "ready", "")?;

    let other = PROMOTE.replace(r#"replica_of = "shop""#, r#"replica_of = "billing""#);
    is(&look(&other, "", &clients).await?, Aspect::Matches, "shop-replica", "not_ready", "not of billing")?;
    let missing = PROMOTE.replace("shop-replica", "shop-replica-2");
    is(&look(&missing, "", &clients).await?, Aspect::Exists, "shop-replica-2", "not_ready", "DBInstanceNotFound")?;
    moto.fault(Fault::new(Kind::Error503).action("DescribeDBInstances").times(1)).await?;
    let blind = look_again(PROMOTE, "", &clients, Some(&good)).await?;
    is(&blind, Aspect::Exists, "shop-replica", "unknown", "503")?;
    ensure!(blind.drift.is_empty(), "nobody knows that it has changed: {:?}", blind.drift);
    changed_nothing(&moto).await?;

    // Somebody promotes it by hand.
    moto.query("rds", "us-west-2", "PromoteReadReplica", &[("DBInstanceIdentifier", "shop-replica")]).await?;
    moto.wait_db("us-west-2", "shop-replica", "available").await?;
    let gone = look_again(PROMOTE, "", &clients, Some(&good)).await?;
    is(&gone, Aspect::Matches, "shop-replica", "not_ready", "follows nobody")?;
    let drift = gone.drift.iter().find(|drift| drift.fact == "replica of");
    ensure!(drift.is_some_and(|drift| drift.is.as_deref() == Some("nobody")), "{:?}", gone.drift);
    Ok(())
}

#[tokio::test]
async fn what_iam_denies_is_found_before_it_matters() -> Result<()> {
    let moto = replica().await?;
    let clients = aws(moto.port());
    moto.deny("rds:PromoteReadReplica", "explicitDeny").await?;
    let found = look(PROMOTE, "", &clients).await?;
    is(&found, Aspect::Permitted, "rds:PromoteReadReplica", "not_ready", "db:shop-replica")?;
    is(&found, Aspect::Permitted, "rds:DescribeDBInstances", "ready", "")?;
    let asked = moto.calls_of("SimulatePrincipalPolicy").await?;
    ensure!(asked.iter().all(|call| !call.params["PolicySourceArn"].is_null()), "{asked:?}");

    moto.fault(Fault::new(Kind::AccessDenied).action("SimulatePrincipalPolicy")).await?;
    is(&look(PROMOTE, "", &clients).await?, Aspect::Permitted, "IAM", "unknown", "readiness.iam_simulation")?;
    moto.clear_faults().await?;
    let without = look(PROMOTE, "[readiness]\niam_simulation = false", &clients).await?;
    ensure!(without.verdict.name() == "ready", "{without:#?}");
    moto.fault(Fault::new(Kind::ExpiredToken).action("GetCallerIdentity")).await?;
    is(&look(PROMOTE, "", &clients).await?, Aspect::Permitted, "credentials", "not_ready", "ExpiredToken")
}

#[tokio::test]
async fn a_zone_a_record_and_a_target_have_to_be_there() -> Result<()> {
    let moto = Moto::start().await?;
    let zone = moto.create_zone("shop.example").await?;
    moto.upsert_alias(&zone, "api.shop.example", "east.elb.example", "Z1").await?;
    let backup = crate::fleet::http_app::LocalApp::start("backup").await?;
    let port = url::Url::parse(&backup.url())?.port().unwrap_or_default();
    let clients = aws(moto.port());
    let step = |zone: &str, name: &str| {
        format!(r#"route.route53.upsert_alias = {{ zone = "{zone}", name = "{name}", values = ["127.0.0.1"] }}"#)
    };
    let serving = format!("[readiness]\nports = [{port}]");
    let good = look(&step(&zone, "api.shop.example"), &serving, &clients).await?;
    ensure!(good.verdict.name() == "ready", "{good:#?}");
    is(&good, Aspect::Serves, "127.0.0.1", "ready", "")?;
    ensure!(finding(&good, Aspect::Exists, "record")?.seen["leads to"].contains("east.elb.example"), "{good:#?}");
    ensure!(backup.seen().is_empty(), "a request was made: {:?}", backup.seen());

    let found = look(&step(&zone, "apo.shop.example"), &serving, &clients).await?;
    is(&found, Aspect::Exists, "record apo.shop.example", "not_ready", "no such record")?;
    let found = look(&step("Z0NOTHING", "api.shop.example"), &serving, &clients).await?;
    is(&found, Aspect::Exists, "zone Z0NOTHING", "not_ready", "NoSuchHostedZone")?;
    let closed = format!("[readiness]\nports = [{}]", crate::fleet::port()?);
    let found = look(&step(&zone, "api.shop.example"), &closed, &clients).await?;
    is(&found, Aspect::Serves, "127.0.0.1", "not_ready", "does not serve")?;

    moto.upsert_alias(&zone, "api.shop.example", "west.elb.example", "Z1").await?;
    let moved = look_again(&step(&zone, "api.shop.example"), &serving, &clients, Some(&good)).await?;
    let was = moved.drift.first().and_then(|drift| drift.was.clone()).unwrap_or_default();
    ensure!(moved.drift.len() == 1 && was.contains("east.elb.example"), "{:?}", moved.drift);
    moto.forget_calls().await?;
    look(&step(&zone, "api.shop.example"), &serving, &clients).await?;
    changed_nothing(&moto).await
}

#[tokio::test]
async fn what_hangs_on_the_lost_region_is_named() -> Result<()> {
    let moto = replica().await?;
    let clients = aws(moto.port());
    let hooks = crate::fleet::http_app::LocalApp::start("hooks").await?;
    let steps = format!(
        "{PROMOTE}\nroute.route53.upsert_alias = {{ zone = \"Z1\", name = \"api.shop.example\", values = [\"127.0.0.1\"] }}\n\
         route.after = [\"promote\"]\ntell.http.request = {{ url = \"{}\", idempotent = true }}\n\
         fence.rds.stop = {{ region = \"us-east-1\", instance = \"shop\" }}\nfence.fence = \"best-effort\"\n\
         promote.after = [\"fence\"]",
        hooks.url()
    );
    let regions = "[regions.us-east-1]\nrole = \"primary\"\n[regions.us-west-2]\nrole = \"backup\"\n";
    let found = look(&steps, regions, &clients).await?;
    ensure!(found.lost.len() == 1, "{found:#?}");
    is(&found, Aspect::Independent, "route53.amazonaws.com", "not_ready", "us-east-1, which would be lost")?;
    is(&found, Aspect::Independent, "rds.us-west-2.amazonaws.com", "ready", "")?;
    is(&found, Aspect::Independent, "credentials sts.us-west-2", "ready", "")?;
    // A fence at its best effort may fail with the region that it is in.
    is(&found, Aspect::Independent, "rds.us-east-1.amazonaws.com", "ready", "")?;
    is(&found, Aspect::Independent, "state sqlite", "ready", "")?;
    let accepted = format!("{regions}[readiness]\naccepts = [\"route53.amazonaws.com\"]");
    let found = look(&steps, &accepted, &clients).await?;
    is(&found, Aspect::Independent, "route53.amazonaws.com", "ready", "")
}
