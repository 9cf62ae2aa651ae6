//! `secretsmanager.put`. No value may be in any outcome: every one of them is looked through for the
//! canary that the secrets here are made of.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::clients::Clients;
use serde_json::{Value, json};

use super::{CANARY, Subject, accepted, aws, before, done, impossible, refused, secret, unknown, unseen};
use crate::fleet::moto::{Fault, Kind, Moto};

const WEST: &str = "us-west-2";
const PUT: &str = "PutSecretValue";

fn url(host: &str) -> String {
    format!("postgres://shop:{CANARY}@{host}:5432/shop?sslmode=require")
}

fn put(clients: &Arc<Clients>, params: Value) -> Subject {
    let mut all = json!({ "region": WEST, "secret": "shop/db" });
    all.as_object_mut().expect("a table").extend(params.as_object().expect("a table").clone());
    Subject::new("secretsmanager.put", all, clients)
}

async fn with_secret(text: &str) -> Result<(Moto, Arc<Clients>)> {
    let moto = Moto::start().await?;
    let create = json!({ "Name": "shop/db", "SecretString": text, "ClientRequestToken": "x".repeat(32) });
    moto.json("secretsmanager", WEST, "secretsmanager.CreateSecret", create).await?;
    let clients = aws(moto.port());
    Ok((moto, clients))
}

fn object() -> String {
    json!({ "password": CANARY, "DATABASE_URL": url("old.example"), "port": 5432 }).to_string()
}

async fn current(moto: &Moto) -> Result<(String, String)> {
    let seen = moto.cli(WEST, &["secretsmanager", "get-secret-value", "--secret-id", "shop/db"]).await?;
    let text = |key: &str| seen[key].as_str().map(str::to_owned).context("a text");
    Ok((text("SecretString")?, text("VersionId")?))
}

#[tokio::test]
async fn a_host_and_a_value_change_and_the_rest_stays() -> Result<()> {
    let (moto, clients) = with_secret(&object()).await?;
    let (_file, token) = secret(&format!("{CANARY}-token"))?;
    let params = json!({
        "set": { "region": "us-west-2", "token": token }, "hosts": { "DATABASE_URL": "new.example:6432" },
    });
    let subject = put(&clients, params);
    before(subject.observe().await)?;
    accepted(subject.apply().await)?;
    assert_eq!(subject.permits.asked(), 1);
    let (_, outputs) = subject.yields().await?;
    ensure!(outputs.is_empty(), "{outputs:?}");
    done(subject.observe().await)?;
    let (text, version) = current(&moto).await?;
    let wanted = json!({
        "password": CANARY, "DATABASE_URL": url("new.example").replace("5432", "6432"), "port": 5432,
        "region": "us-west-2", "token": format!("{CANARY}-token"),
    });
    assert_eq!(serde_json::from_str::<Value>(&text)?, wanted);
    assert_eq!(version.len(), 64, "the version's name is ours");
    assert_eq!(moto.calls_of(PUT).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_plain_secret_changes_as_a_whole_or_by_its_host() -> Result<()> {
    let (moto, clients) = with_secret(&url("old.example")).await?;
    let subject = put(&clients, json!({ "host": "new.example" }));
    subject.run().await?;
    assert_eq!(current(&moto).await?.0, url("new.example"));
    done(subject.observe().await)?;
    let (_file, whole) = secret(&url("other.example"))?;
    let subject = put(&clients, json!({ "whole": whole }));
    subject.run().await?;
    assert_eq!(current(&moto).await?.0, url("other.example"));
    Ok(())
}

/// The name of the version follows from run, step and what was there: twice is once.
#[tokio::test]
async fn a_lost_answer_leads_to_no_second_version() -> Result<()> {
    for kind in [Kind::SuccessThenTimeout, Kind::SuccessThenReset, Kind::SuccessThen500] {
        let (moto, clients) = with_secret(&object()).await?;
        moto.fault(Fault::new(kind).action(PUT)).await?;
        let subject =
            put(&clients, json!({ "hosts": { "DATABASE_URL": "new.example" } })).within(Duration::from_secs(3));
        unknown(subject.apply().await)?;
        done(subject.observe().await)?;
        subject.verify().await?;
        assert_eq!(moto.calls_of(PUT).await?.len(), 1);
    }
    let (moto, clients) = with_secret(&object()).await?;
    let subject = put(&clients, json!({ "hosts": { "DATABASE_URL": "new.example" } }));
    moto.fault(Fault::new(Kind::Error500).action(PUT).times(1)).await?;
    unknown(subject.apply().await)?;
    accepted(subject.apply().await)?;
    let calls = moto.calls_of(PUT).await?;
    assert_eq!(calls[0].params["ClientRequestToken"], calls[1].params["ClientRequestToken"]);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_changed_is_said_without_what_is_in_it() -> Result<()> {
    let (moto, clients) = with_secret(&object()).await?;
    for (params, why) in [
        (json!({ "host": "new.example" }), "is not a URL"),
        (json!({ "hosts": { "password": "new.example" } }), "under `password`"),
        (json!({ "hosts": { "port": "new.example" } }), "no text under `port`"),
        (json!({ "hosts": { "missing": "new.example" } }), "no key `missing`"),
        (json!({ "set": { "a": { "file": "/nowhere/at/all" } } }), "cannot read the secret file"),
        (json!({ "secret": "other", "set": { "a": "b" } }), "ResourceNotFound"),
    ] {
        let subject = put(&clients, params);
        let reason = impossible(subject.observe().await)?;
        ensure!(reason.contains(why), "{reason}");
        refused(subject.apply().await, false)?;
    }
    let plain = json!({ "SecretId": "shop/db", "SecretString": CANARY });
    moto.json("secretsmanager", WEST, "secretsmanager.PutSecretValue", plain).await?;
    let subject = put(&clients, json!({ "set": { "a": "b" } }));
    let reason = impossible(subject.observe().await)?;
    ensure!(reason.contains("not a JSON object") && reason.contains("`whole`"), "{reason}");
    let large = put(&clients, json!({ "whole": "x".repeat(70_000) }));
    let reason = refused(large.apply().await, false)?;
    ensure!(reason.contains("longer than"), "{reason}");
    ensure!(moto.calls_of(PUT).await?.is_empty(), "something was written");
    Ok(())
}

#[tokio::test]
async fn refusals_and_failed_looks_are_told_apart() -> Result<()> {
    let (moto, clients) = with_secret(&object()).await?;
    let subject = put(&clients, json!({ "set": { "a": "b" } }));
    for (fault, again) in [
        (Fault::new(Kind::Throttle), true),
        (Fault::new(Kind::AccessDenied), false),
        (Fault::error(400, "InvalidRequestException"), false),
    ] {
        moto.fault(fault.action(PUT).times(1)).await?;
        refused(subject.apply().await, again)?;
    }
    moto.fault(Fault::new(Kind::Error500).action("GetSecretValue").times(1)).await?;
    unseen(subject.observe().await)?;
    let subject = subject.overtaken();
    subject.apply().await.expect_err("the epoch was overtaken");
    ensure!(moto.calls_of(PUT).await?.iter().all(|call| !call.carried_out), "something was written");
    Ok(())
}
