//! Fencing at the target: an older leader that was frozen between its permit and its call, while a newer
//! one did its own. `Frozen` stands for that: what the newer one does happens inside the permit.
//! Route 53, Kubernetes, DNS, Cloudflare and the health switch have theirs beside their actions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use failoverd::model::Epoch;
use failoverd::ports::{Authority, Denied};
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};

use super::{Subject, accepted, aws, clients, impossible, refused, secret, unknown};
use crate::fleet::moto::Moto;
use crate::fleet::postgres::{PASSWORD, PgOptions, Postgres, StandbyOptions};
use crate::fleet::redis::{Redis, RedisOptions};

type Meanwhile = Box<dyn Fn() -> LocalBoxFuture<'static, Result<()>> + Send + Sync>;

/// Grants every permit; before it comes back from the `nth`, something else happens.
struct Frozen {
    nth: u32,
    asked: AtomicU32,
    meanwhile: Meanwhile,
}

impl Authority for Frozen {
    fn permit(&self, _epoch: Epoch) -> Result<(), Denied> {
        if self.asked.fetch_add(1, Ordering::SeqCst) + 1 == self.nth {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| runtime.block_on((self.meanwhile)())).expect("the newer one goes through");
        }
        Ok(())
    }
}

/// The subject as it is frozen after its `nth` permit.
fn frozen(mut subject: Subject, nth: u32, meanwhile: Meanwhile) -> Subject {
    subject.context.authority = Arc::new(Frozen { nth, asked: AtomicU32::new(0), meanwhile });
    subject
}

fn subject(kind: &str, url: &str, more: Value) -> Result<(tempfile::NamedTempFile, Subject)> {
    let (file, url) = secret(url)?;
    let mut params = json!({ "url": url });
    params.as_object_mut().expect("a table").extend(more.as_object().cloned().unwrap_or_default());
    Ok((file, Subject::new(kind, params, &Arc::new(clients()))))
}

async fn marks(server: &Postgres) -> Result<String> {
    let sql = "SELECT coalesce(string_agg(name || '=' || setting, ',' ORDER BY name), '') FROM pg_file_settings \
               WHERE name LIKE 'failoverd.%'";
    server.value(sql).await
}

/// What a newer epoch does that decides against this standby: it marks it.
async fn mark(url: String, epoch: u64) -> Result<()> {
    let set = format!("SET failoverd.epoch_{epoch} = 'newer'");
    // Both in one session, as the action does it.
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.simple_query(&set).await?;
    client.simple_query(&format!("ALTER SYSTEM SET failoverd.epoch_{epoch} = 'newer'")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_a_newer_epoch_marked_is_not_promoted_by_a_late_call() -> Result<()> {
    let primary = Postgres::primary(PgOptions::default()).await?;
    let standby = primary.standby(StandbyOptions::default()).await?;
    // Frozen before it marks, and before it promotes.
    for (nth, newer) in [(1, 6), (2, 7)] {
        let (_file, old) = subject("postgres.promote", &standby.url(), json!({}))?;
        let url = standby.url();
        let old = frozen(old.at_epoch(newer - 1), nth, Box::new(move || Box::pin(mark(url.clone(), newer))));
        let reason = refused(old.apply().await, false)?;
        ensure!(reason.contains(&format!("fenced by epoch {newer}")), "{reason}");
        ensure!(standby.is_in_recovery().await?, "promoted by a late call");
        ensure!(impossible(old.observe().await)?.contains("fenced by epoch"), "observe");
    }
    // The newest goes through, and leaves one mark.
    let (_file, newest) = subject("postgres.promote", &standby.url(), json!({}))?;
    let newest = newest.at_epoch(8);
    newest.run().await?;
    assert_eq!(marks(&standby).await?, "failoverd.epoch_8=RUN-20261101-001");
    Ok(())
}

#[tokio::test]
async fn a_role_that_may_not_write_the_epoch_down_promotes_and_says_so() -> Result<()> {
    let primary = Postgres::primary(PgOptions::default()).await?;
    primary.sql(&format!("CREATE ROLE failover LOGIN PASSWORD '{PASSWORD}'")).await?;
    primary.sql("GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO failover").await?;
    let standby = primary.standby(StandbyOptions::default()).await?;
    let url = standby.url().replace("//postgres:", "//failover:");
    let (_file, low) = subject("postgres.promote", &url, json!({}))?;
    let evidence = accepted(low.apply().await)?;
    ensure!(evidence.contains("an older epoch is not kept away: postgres: "), "{evidence}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_under_an_older_epoch_is_never_read_by_the_server() -> Result<()> {
    let primary = Postgres::primary(PgOptions::default()).await?;
    let (_file, newer) = subject("postgres.fence", &primary.url(), json!({}))?;
    // The newer epoch lifts a fence that is not there: what stays of it is its mark.
    accepted(newer.at_epoch(7).compensate(&Value::Null).await)?;
    let (_file, old) = subject("postgres.fence", &primary.url(), json!({}))?;
    let old = old.at_epoch(6);
    ensure!(impossible(old.observe().await)?.contains("fenced by epoch 7"), "observe");
    ensure!(refused(old.apply().await, false)?.contains("fenced by epoch 7"), "apply");
    ensure!(refused(old.compensate(&Value::Null).await, false)?.contains("fenced by epoch 7"), "compensate");

    // Frozen before the server is to read what was written down.
    let (_file, old) = subject("postgres.fence", &primary.url(), json!({}))?;
    let url = primary.url();
    let old = frozen(old.at_epoch(8), 3, Box::new(move || Box::pin(mark(url.clone(), 9))));
    ensure!(unknown(old.apply().await)?.contains("fenced by epoch 9"), "a part of it stands");
    primary.sql("CREATE TABLE writable ()").await?;
    Ok(())
}

async fn redis_pair() -> Result<(Redis, Redis)> {
    let primary = Redis::primary(RedisOptions::default()).await?;
    let _: String = primary.call(&["SET", "cart", "1"]).await?;
    let replica = primary.replica().await?;
    Ok((primary, replica))
}

/// The newer epoch made another server the master, and lets this one follow it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_a_newer_epoch_uses_is_not_promoted_by_a_late_call() -> Result<()> {
    let (primary, replica) = redis_pair().await?;
    let (_file, old) = subject("redis.promote", &replica.url(), json!({}))?;
    let (primary_port, replica_url) = (primary.port(), replica.url());
    let meanwhile = move || -> LocalBoxFuture<'static, Result<()>> {
        let (port, replica_url) = (primary_port, replica_url.clone());
        Box::pin(async move {
            let set = json!({ "command": ["SET", "mode", "primary"] });
            let (_file, newer) = subject("redis.command", &format!("redis://127.0.0.1:{port}"), set)?;
            accepted(newer.at_epoch(7).apply().await)?;
            crate::fleet::eventually(super::SOON, "the mark to arrive", async || {
                let client = redis::Client::open(replica_url.as_str())?;
                let mut connection = client.get_multiplexed_async_connection().await?;
                let mark: Option<u64> =
                    redis::cmd("GET").arg("failoverd:fence:epoch").query_async(&mut connection).await?;
                ensure!(mark == Some(7), "{mark:?}");
                Ok(())
            })
            .await
        })
    };
    let old = frozen(old.at_epoch(6), 1, Box::new(meanwhile));
    let reason = refused(old.apply().await, false)?;
    ensure!(reason.contains("fenced by epoch 7"), "{reason}");
    assert_eq!(replica.role().await?, "slave");
    ensure!(impossible(old.observe().await)?.contains("fenced by epoch 7"), "observe");

    // The newer one itself goes through; the mark is there the moment that it is the master.
    let (_file, newer) = subject("redis.promote", &replica.url(), json!({}))?;
    accepted(newer.at_epoch(8).apply().await)?;
    let mark: u64 = replica.call(&["GET", "failoverd:fence:epoch"]).await?;
    assert_eq!(mark, 8);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_epoch_has_written_to_redis_stays() -> Result<()> {
    let (primary, _replica) = redis_pair().await?;
    let port = primary.port();
    let newer = move || -> LocalBoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let set = json!({ "command": ["SET", "mode", "newer"] });
            let (_file, newer) = subject("redis.command", &format!("redis://127.0.0.1:{port}"), set)?;
            accepted(newer.at_epoch(7).apply().await).map(drop)
        })
    };
    let old = |kind: &str, more: Value| subject(kind, &primary.url(), more).map(|(file, old)| (file, old.at_epoch(6)));
    let (_file, set) = old("redis.command", json!({ "command": ["SET", "mode", "older"] }))?;
    let (_file2, flush) = old("redis.flush", json!({}))?;
    for late in [frozen(set, 1, Box::new(newer)), flush] {
        let reason = refused(late.apply().await, false)?;
        ensure!(reason.contains("fenced by epoch 7"), "{reason}");
        let mode: String = primary.call(&["GET", "mode"]).await?;
        assert_eq!(mode, "newer");
    }
    // Frozen in the middle of its own transaction.
    let _: i64 = primary.call(&["DEL", "failoverd:fence:epoch"]).await?;
    let (_file, flush) = old("redis.flush", json!({}))?;
    let reason = refused(frozen(flush, 1, Box::new(newer)).apply().await, false)?;
    ensure!(reason.contains("fenced by epoch 7"), "{reason}");
    let carts: u64 = primary.call(&["EXISTS", "cart"]).await?;
    assert_eq!(carts, 1, "emptied by a late call");
    Ok(())
}

#[tokio::test]
async fn a_user_without_the_rights_for_the_epoch_promotes_and_says_so() -> Result<()> {
    let (primary, replica) = redis_pair().await?;
    let rights = ["ACL", "SETUSER", "low", "reset", "on", ">low-pw-1", "+role", "+info", "+dbsize", "+replicaof"];
    for more in [&["+del", "~failoverd:*"][..], &["+watch", "+get", "+multi", "+exec", "+discard"], &["+eval"]] {
        let _: String = match more {
            ["+del", ..] => replica.call(&[&rights[..], more].concat()).await?,
            more => replica.call(&[&["ACL", "SETUSER", "low"][..], more].concat()).await?,
        };
        let url = format!("redis://low:low-pw-1@127.0.0.1:{}", replica.port());
        let (_file, low) = subject("redis.promote", &url, json!({}))?;
        let evidence = accepted(low.apply().await)?;
        let said = evidence.contains("an older epoch is not kept away") || evidence.contains("could not be written");
        ensure!(said, "{more:?}: {evidence}");
        assert_eq!(replica.role().await?, "master");
        let _: String = replica.call(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).await?;
        replica.online().await?;
    }
    Ok(())
}

/// RDS compares nothing: the tag keeps away what has yet to look, and not a call on its way.
#[tokio::test]
async fn what_a_newer_epoch_has_tagged_in_rds_is_left_alone() -> Result<()> {
    let moto = Moto::start().await?;
    moto.create_db_with_replica("shop", "shop-replica").await?;
    moto.create_db("us-east-1", "alone").await?;
    let clients = aws(moto.port());
    let tag = async |region: &str, id: &str| {
        let arn = crate::fleet::aws::db_arn(region, id);
        let tags = [("ResourceName", arn.as_str()), ("Tags.Tag.1.Key", "failoverd:epoch"), ("Tags.Tag.1.Value", "7")];
        moto.query("rds", region, "AddTagsToResource", &tags).await.map(drop)
    };
    tag("us-west-2", "shop-replica").await?;
    tag("us-east-1", "alone").await?;
    for (kind, params) in [
        ("rds.promote_read_replica", json!({ "region": "us-west-2", "instance": "shop-replica" })),
        ("rds.stop", json!({ "region": "us-east-1", "instance": "alone" })),
    ] {
        let old = Subject::new(kind, params.clone(), &clients).at_epoch(6);
        ensure!(impossible(old.observe().await)?.contains("fenced by epoch 7"), "{kind}: observe");
        ensure!(refused(old.apply().await, false)?.contains("fenced by epoch 7"), "{kind}: apply");
    }
    for action in ["PromoteReadReplica", "StopDBInstance"] {
        ensure!(moto.calls_of(action).await?.is_empty(), "{action} was asked for");
    }
    let newer = Subject::new("rds.stop", json!({ "region": "us-east-1", "instance": "alone" }), &clients).at_epoch(8);
    accepted(newer.apply().await)?;
    let arn = crate::fleet::aws::db_arn("us-east-1", "alone");
    let tags = moto.cli("us-east-1", &["rds", "list-tags-for-resource", "--resource-name", &arn]).await?;
    assert_eq!(tags["TagList"], json!([{ "Key": "failoverd:epoch", "Value": "8" }]));
    Ok(())
}
