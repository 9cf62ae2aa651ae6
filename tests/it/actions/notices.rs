//! `sns.publish`, and the routes to people.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::clients::Clients;
use failoverd::config::shape::{NotifyRoute, Templates};
use failoverd::model::{Importance, Notice, NoticeKind, Observed, WallTime};
use failoverd::notify;
use failoverd::ports::Notifier;
use serde_json::{Value, json};

use super::http::Echo;
use super::{CANARY, SOON, Subject, accepted, assert_no_secret, aws, clients, refused, secret, unknown};
use crate::fleet::moto::{Fault, Kind, Moto};

const EAST: &str = "us-east-1";
const WEST: &str = "us-west-2";

fn notice() -> Notice {
    Notice {
        kind: NoticeKind::RunParked,
        importance: Importance::Page,
        at: WallTime(1_793_500_000_000),
        scenario: Some("regional-outage".into()),
        severity: None,
        incident: Some("INC-20261101-001".into()),
        run: Some("RUN-20261101-001".into()),
        subject: "shop: the run needs you → step promote\nis parked".into(),
        body: "RDS is throttling us.".into(),
        approval: None,
        routes: None,
        situation: None,
    }
}

fn route(route: Value, clients: &Arc<Clients>) -> Result<Box<dyn Notifier>> {
    let route: NotifyRoute = serde_json::from_value(route)?;
    Ok(notify::build(&route, "shop", &Templates::default(), clients)?)
}

#[tokio::test]
async fn a_message_is_published() -> Result<()> {
    let moto = Moto::start().await?;
    let inbox = moto.create_inbox(WEST, "critical").await?;
    let params = json!({ "topic": inbox.topic_arn, "subject": "failed over", "message": "to us-west-2" });
    let subject = Subject::new("sns.publish", params.clone(), &aws(moto.port()));
    assert_eq!(subject.observe().await, Observed::Unobservable);
    let evidence = accepted(subject.apply().await)?;
    ensure!(evidence.contains("as message "), "{evidence}");
    subject.verify().await?;
    let message = inbox.wait_for(SOON, "to us-west-2").await?;
    assert_eq!(message["Subject"], "failed over");

    let subject = Subject::new("sns.publish", params, &aws(moto.port())).overtaken();
    moto.forget_calls().await?;
    subject.apply().await.expect_err("overtaken");
    ensure!(moto.calls_of("Publish").await?.is_empty(), "published without a permit");
    Ok(())
}

#[tokio::test]
async fn a_notice_is_kept_in_a_bucket_once() -> Result<()> {
    let moto = Moto::start().await?;
    moto.cli(EAST, &["s3api", "create-bucket", "--bucket", "anchors"]).await?;
    let clients = aws(moto.port());
    let table = json!({ "s3": { "region": EAST, "bucket": "anchors", "prefix": "shop/" } });
    let bucket = route(table, &clients)?;
    for _ in 0..2 {
        bucket.deliver(&notice()).await.map_err(anyhow::Error::msg)?;
    }
    let listed = moto.cli(EAST, &["s3api", "list-objects-v2", "--bucket", "anchors", "--prefix", "shop/"]).await?;
    assert_eq!(listed["Contents"].as_array().map(Vec::len), Some(1), "delivered twice is one object: {listed}");
    let nowhere = route(json!({ "s3": { "region": EAST, "bucket": "nowhere" } }), &clients)?;
    let why = nowhere.deliver(&notice()).await.expect_err("no such bucket");
    ensure!(why.contains("NoSuchBucket"), "{why}");
    Ok(())
}

#[tokio::test]
async fn a_failed_publication_says_what_is_known() -> Result<()> {
    let moto = Moto::start().await?;
    let topic = "arn:aws:sns:us-west-2:123456789012:nobody";
    let params = json!({ "topic": topic, "message": "m" });
    let subject = Subject::new("sns.publish", params, &aws(moto.port())).within(Duration::from_secs(3));
    refused(subject.apply().await, false)?;
    moto.fault(Fault::new(Kind::Throttle).service("sns").times(1)).await?;
    refused(subject.apply().await, true)?;
    moto.fault(Fault::new(Kind::Hang).service("sns").times(1)).await?;
    unknown(subject.apply().await)?;
    Ok(())
}

#[tokio::test]
async fn a_notice_reaches_a_topic() -> Result<()> {
    let moto = Moto::start().await?;
    let inbox = moto.create_inbox(WEST, "critical").await?;
    let clients = aws(moto.port());
    let topic = route(json!({ "sns": { "topic": inbox.topic_arn } }), &clients)?;
    topic.deliver(&notice()).await.map_err(anyhow::Error::msg)?;
    let message = inbox.wait_for(SOON, "throttling").await?;
    assert_eq!(message["Subject"], "shop: the run needs you > step promote is parked");
    let text = message["Message"].as_str().context("a text")?;
    ensure!(text.contains("→ step promote"), "the text keeps what the subject cannot hold: {text}");
    moto.fault(Fault::new(Kind::AccessDenied).service("sns").times(1)).await?;
    let reason = topic.deliver(&notice()).await.expect_err("refused");
    ensure!(reason.contains("AccessDenied"), "{reason}");
    assert_no_secret(&reason);
    Ok(())
}

#[tokio::test]
async fn a_notice_reaches_a_webhook_and_its_secrets_stay_here() -> Result<()> {
    let echo = Echo::start(200).await?;
    let (_url_file, url) = secret(&format!("{}/hooks/{CANARY}", echo.url()))?;
    let (_token_file, token) = secret(&format!("Bearer {CANARY}"))?;
    let clients = Arc::new(clients());
    let params = json!({ "webhook": { "url": url, "headers": { "authorization": token } } });
    let webhook = route(params, &clients)?;
    webhook.deliver(&notice()).await.map_err(anyhow::Error::msg)?;
    let request = echo.last().context("a request")?;
    ensure!(request.head.contains(&format!("authorization: Bearer {CANARY}")), "{}", request.head);
    let sent: Value = serde_json::from_str(&request.body)?;
    assert_eq!(sent["kind"], "run_parked");
    assert_eq!(sent["run"], "RUN-20261101-001");

    echo.answer(500);
    let reason = webhook.deliver(&notice()).await.expect_err("500 is not taken");
    ensure!(reason.contains("status 500"), "{reason}");
    ensure!(reason.contains("[redacted]"), "the answer quotes the request: {reason}");
    assert_no_secret(&reason);

    drop(echo);
    let reason = webhook.deliver(&notice()).await.expect_err("nobody listens");
    ensure!(reason.contains("cannot connect"), "{reason}");
    assert_no_secret(&reason);
    Ok(())
}

#[test]
fn a_route_leads_to_one_place() {
    let clients = Arc::new(clients());
    for (json, says) in [
        (json!({}), "exactly one"),
        (
            json!({ "sns": { "topic": "arn:aws:sns:us-west-2:1:t" }, "webhook": { "url": "http://a.example" } }),
            "exactly one",
        ),
        (json!({ "sns": { "topic": "t" } }), "not an ARN"),
        (json!({ "webhook": { "url": "http://a.example", "headers": { "a b": "c" } } }), "not the name of a header"),
    ] {
        let error = route(json.clone(), &clients).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(says), "{json}: {error}");
    }
}
