//! `iam.deactivate_access_key`.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Subject, aws, before, done, impossible, refused, unknown, unseen};
use crate::fleet::moto::{Fault, Kind, Moto};

const EAST: &str = "us-east-1";
const UPDATE: &str = "UpdateAccessKey";

#[tokio::test]
async fn a_leaked_key_works_no_more() -> Result<()> {
    let moto = Moto::start().await?;
    moto.query("iam", EAST, "CreateUser", &[("UserName", "deploy")]).await?;
    let made = moto.cli(EAST, &["iam", "create-access-key", "--user-name", "deploy"]).await?;
    let key = made["AccessKey"]["AccessKeyId"].as_str().context("a key")?.to_owned();
    let clients = aws(moto.port());
    let of = |user: &str, key: &str| {
        Subject::new("iam.deactivate_access_key", json!({ "user": user, "access_key_id": key }), &clients)
    };
    let subject = of("deploy", &key);
    before(subject.observe().await)?;
    for (fault, again) in [(Fault::new(Kind::Throttle), true), (Fault::new(Kind::AccessDenied), false)] {
        moto.fault(fault.action(UPDATE).times(1)).await?;
        refused(subject.apply().await, again)?;
    }
    of("deploy", &key).overtaken().apply().await.expect_err("the epoch was overtaken");
    moto.fault(Fault::new(Kind::SuccessThenReset).action(UPDATE).times(1)).await?;
    unknown(subject.apply().await)?;
    done(subject.observe().await)?;
    subject.verify().await?;
    let seen = moto.cli(EAST, &["iam", "list-access-keys", "--user-name", "deploy"]).await?;
    assert_eq!(seen["AccessKeyMetadata"][0]["Status"], "Inactive");
    let none = "AKIAIOSFODNN7EXAMPLE";
    for (user, key, why) in [("deploy", none, "no access key"), ("nobody", none, "NoSuchEntity")] {
        let reason = impossible(of(user, key).observe().await)?;
        ensure!(reason.contains(why), "{reason}");
    }
    refused(of("deploy", none).apply().await, false)?;
    moto.fault(Fault::new(Kind::Error500).action("ListAccessKeys").times(1)).await?;
    unseen(subject.observe().await)?;
    Ok(())
}
