//! `s3.fetch`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::clients::Clients;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

use super::{Subject, accepted, aws, before, done, impossible, refused, unseen};
use crate::fleet::moto::{Fault, Kind, Moto};
use crate::fleet::proxy::{Mode, Proxy};

const EAST: &str = "us-east-1";
const GET: &str = "GetObject";

struct Bucket {
    moto: Moto,
    clients: Arc<Clients>,
    dir: TempDir,
}

impl Bucket {
    async fn new() -> Result<Self> {
        let moto = Moto::start().await?;
        moto.cli(EAST, &["s3api", "create-bucket", "--bucket", "backups"]).await?;
        let clients = aws(moto.port());
        Ok(Self { moto, clients, dir: tempfile::tempdir()? })
    }

    async fn put(&self, key: &str, content: &str) -> Result<()> {
        let file = self.dir.path().join("upload");
        std::fs::write(&file, content)?;
        let body = file.to_str().context("a path")?;
        self.moto.cli(EAST, &["s3api", "put-object", "--bucket", "backups", "--key", key, "--body", body]).await?;
        // S3 counts in seconds: the next one shall be newer.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        Ok(())
    }

    fn to(&self) -> std::path::PathBuf {
        self.dir.path().join("fetched")
    }

    fn fetch(&self, more: Value) -> Subject {
        let mut params = json!({ "region": EAST, "bucket": "backups", "to": self.to() });
        params.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        Subject::new("s3.fetch", params, &self.clients)
    }

    fn only_the_upload(&self) -> Result<()> {
        let left: Vec<_> = std::fs::read_dir(self.dir.path())?.flatten().map(|entry| entry.file_name()).collect();
        ensure!(!self.to().exists(), "something was put in its place: {left:?}");
        Ok(())
    }
}

#[tokio::test]
async fn the_newest_backup_is_fetched_whole() -> Result<()> {
    let bucket = Bucket::new().await?;
    let big = "0123456789abcdef".repeat(60_000);
    for (key, content) in [("daily/2", "older"), ("daily/1", big.as_str()), ("weekly/1", "another")] {
        bucket.put(key, content).await?;
    }
    let subject = bucket.fetch(json!({ "prefix": "daily/", "max_age": "1h" }));
    before(subject.observe().await)?;
    accepted(subject.apply().await)?;
    let (_, outputs) = subject.yields().await?;
    assert_eq!(outputs["key"], "daily/1");
    assert_eq!(outputs["path"], bucket.to().display().to_string());
    ensure!(outputs["modified"].ends_with('Z'), "{outputs:?}");
    done(subject.observe().await)?;
    ensure!(std::fs::read_to_string(bucket.to())? == big, "the content is another one");
    let mode = std::fs::metadata(bucket.to())?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let left = std::fs::read_dir(bucket.dir.path())?.count();
    assert_eq!(left, 2, "the upload and what was fetched, and nothing beside");
    // A newer one came meanwhile: what was fetched is still known.
    bucket.put("daily/3", "newest").await?;
    assert_eq!(subject.yields().await?.1["key"], "daily/1");
    before(subject.observe().await)?;
    subject.run().await?;
    assert_eq!(std::fs::read_to_string(bucket.to())?, "newest");
    Ok(())
}

#[tokio::test]
async fn a_key_is_fetched_and_what_stood_there_replaced() -> Result<()> {
    let bucket = Bucket::new().await?;
    bucket.put("dump.sql", "select 1").await?;
    std::fs::write(bucket.to(), "select 0")?;
    let subject = bucket.fetch(json!({ "key": "dump.sql" }));
    // The same size and another time: not the same object.
    subject.run().await?;
    assert_eq!(std::fs::read_to_string(bucket.to())?, "select 1");
    assert_eq!(subject.yields().await?.1["key"], "dump.sql");
    Ok(())
}

#[tokio::test]
async fn what_is_not_wanted_is_not_fetched() -> Result<()> {
    let bucket = Bucket::new().await?;
    bucket.put("daily/1", "twelve bytes").await?;
    bucket.put("folder/", "").await?;
    for (more, why) in [
        (json!({ "prefix": "monthly/" }), "no object below"),
        (json!({ "prefix": "folder/" }), "no object below"),
        (json!({ "key": "daily/2" }), "no object s3://backups/daily/2"),
        (json!({ "bucket": "none", "prefix": "daily/" }), "NoSuchBucket"),
        (json!({ "prefix": "daily/", "max_bytes": 11 }), "may have 11 at most"),
        (json!({ "prefix": "daily/", "max_age": "1s" }), "may be 1s at most"),
    ] {
        let subject = bucket.fetch(more);
        let reason = impossible(subject.observe().await)?;
        ensure!(reason.contains(why), "{reason}");
        refused(subject.apply().await, false)?;
    }
    let nowhere = bucket.fetch(json!({ "key": "daily/1", "to": bucket.dir.path().join("none/deeper/file") }));
    let reason = impossible(nowhere.observe().await)?;
    ensure!(reason.contains("no folder"), "{reason}");
    refused(nowhere.apply().await, false)?;
    bucket.fetch(json!({ "key": "daily/1" })).overtaken().apply().await.expect_err("the epoch was overtaken");
    let made = || bucket.fetch(json!({ "key": "daily/1", "to": bucket.dir.path().join("made/file") }));
    made().overtaken().apply().await.expect_err("the epoch was overtaken");
    ensure!(!bucket.dir.path().join("made").exists(), "a folder was made without a permit");
    made().run().await?;
    assert_eq!(std::fs::read_to_string(bucket.dir.path().join("made/file"))?, "twelve bytes");
    std::fs::remove_dir_all(bucket.dir.path().join("made"))?;
    bucket.only_the_upload()
}

#[tokio::test]
async fn what_breaks_off_is_not_put_in_its_place() -> Result<()> {
    let bucket = Bucket::new().await?;
    bucket.put("dump.sql", &"0123456789abcdef".repeat(100_000)).await?;
    let subject = bucket.fetch(json!({ "key": "dump.sql" }));
    for kind in [Kind::Throttle, Kind::Error500, Kind::Reset] {
        bucket.moto.fault(Fault::new(kind).action(GET).times(1)).await?;
        refused(subject.apply().await, true)?;
        bucket.only_the_upload()?;
    }
    bucket.moto.fault(Fault::new(Kind::Error500).action("HeadObject").times(1)).await?;
    unseen(subject.observe().await)?;
    // The connection stays and nothing comes any more.
    let proxy = Proxy::to_port(bucket.moto.port()).await?;
    let slow = Subject::new(
        "s3.fetch",
        json!({ "region": EAST, "bucket": "backups", "to": bucket.to(), "key": "dump.sql" }),
        &aws(proxy.port()),
    );
    let slow = slow.within(Duration::from_secs(3));
    before(slow.observe().await)?;
    proxy.set(Mode::Blackhole).await?;
    refused(slow.apply().await, true)?;
    bucket.only_the_upload()?;
    subject.run().await?;
    assert_eq!(std::fs::metadata(bucket.to())?.len(), 1_600_000);
    Ok(())
}
