//! `dns.verify` and `dns.update` against BIND 9.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use failoverd::model::{Observed, Verified};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::{Subject, accepted, clients, done, impossible, refused, secret, unknown, unseen};
use crate::fleet::dns::{Dns, TsigKey};

const NAME: &str = "api.shop.example";
const MARK: &str = "_failoverd.api.shop.example";

async fn zone(records: &[&str]) -> Result<Dns> {
    Dns::start("shop.example", records).await
}

fn subject(kind: &str, params: Value) -> Subject {
    Subject::new(kind, params, &Arc::new(clients())).within(Duration::from_secs(8))
}

fn looking(mut params: Value) -> Subject {
    params["name"] = json!(NAME);
    subject("dns.verify", params)
}

async fn not_yet(subject: &Subject) -> Result<String> {
    match subject.verify_once().await {
        Verified::NotYet { evidence } => Ok(evidence),
        other => bail!("not `NotYet`: {other:?}"),
    }
}

async fn point_to(dns: &Dns, address: &str) -> Result<()> {
    dns.update(&[&format!("update delete {NAME} A"), &format!("update add {NAME} 60 A {address}")]).await
}

#[tokio::test]
async fn every_server_has_to_answer_so() -> Result<()> {
    let primary = zone(&["api 60 IN A 10.0.0.1"]).await?;
    let mut secondary = primary.secondary(3600).await?;
    let servers = json!([primary.addr().to_string(), secondary.addr().to_string()]);
    let wants = |address: &str| looking(json!({ "values": [address], "servers": servers }));
    wants("10.0.0.1").verify().await?;
    point_to(&primary, "10.0.0.2").await?;
    let evidence = not_yet(&wants("10.0.0.2")).await?;
    ensure!(evidence.contains(&format!("{} answers 10.0.0.1", secondary.addr())), "{evidence}");
    ensure!(evidence.contains("1 of 2") && !evidence.contains(&primary.addr().to_string()), "{evidence}");
    let subject = wants("10.0.0.2");
    ensure!(matches!(subject.observe().await, Observed::InProgress { .. }), "it is looked at until it is so");
    refused(subject.apply().await, false)?;
    assert_eq!(subject.permits.asked(), 0);

    // One that is lost is no right answer, unless the owner says so.
    secondary.kill9();
    let evidence = not_yet(&wants("10.0.0.2")).await?;
    ensure!(evidence.contains(&secondary.addr().to_string()), "{evidence}");
    looking(json!({ "values": ["10.0.0.2"], "servers": servers, "allow_silent": true })).verify().await?;
    let only = json!([secondary.addr().to_string()]);
    not_yet(&looking(json!({ "values": ["10.0.0.2"], "servers": only, "allow_silent": true }))).await?;
    Ok(())
}

#[tokio::test]
async fn a_secondary_that_follows_is_seen() -> Result<()> {
    let primary = zone(&["api 60 IN A 10.0.0.1"]).await?;
    let secondary = primary.secondary(1).await?;
    point_to(&primary, "10.0.0.2").await?;
    let servers = json!([primary.addr().to_string()]);
    let resolvers = json!([secondary.addr().to_string()]);
    looking(json!({ "values": ["10.0.0.2"], "servers": servers, "resolvers": resolvers })).verify().await?;
    assert_eq!(secondary.dig(NAME, "A").await?, ["10.0.0.2"]);
    Ok(())
}

#[tokio::test]
async fn the_answer_has_all_values_and_no_others() -> Result<()> {
    let dns = zone(&["api 60 IN A 10.0.0.1", "api 60 IN A 10.0.0.2", "api 60 IN TXT \"Mixed Case\""]).await?;
    let server = json!([dns.addr().to_string()]);
    looking(json!({ "values": ["10.0.0.2", "10.0.0.1"], "servers": server })).verify().await?;
    for values in [json!(["10.0.0.1"]), json!(["10.0.0.1", "10.0.0.2", "10.0.0.3"])] {
        not_yet(&looking(json!({ "values": values, "servers": server }))).await?;
    }
    looking(json!({ "record": "TXT", "values": ["Mixed Case"], "servers": server })).verify().await?;
    let missing = looking(json!({ "record": "AAAA", "values": ["2001:db8::1"], "servers": server }));
    ensure!(not_yet(&missing).await?.contains("has no such record"), "NODATA");
    let gone = subject("dns.verify", json!({ "name": "no.shop.example", "values": ["10.0.0.1"], "servers": server }));
    ensure!(not_yet(&gone).await?.contains("knows no such name"), "NXDOMAIN");
    let foreign =
        subject("dns.verify", json!({ "name": "api.else.example", "values": ["10.0.0.1"], "servers": server }));
    ensure!(not_yet(&foreign).await?.contains("answers"), "REFUSED");
    let mut dry = looking(json!({ "values": ["10.0.0.2", "10.0.0.1"], "servers": server }));
    dry.context.run = None;
    done(dry.observe().await)?;
    Ok(())
}

#[tokio::test]
async fn a_target_is_looked_up_and_compared() -> Result<()> {
    let dns = zone(&[
        "api 60 IN A 10.0.0.8",
        "lb 60 IN A 10.0.0.8",
        "lb 60 IN A 10.0.0.9",
        "old 60 IN A 10.0.0.1",
        "by-name 60 IN CNAME lb",
    ])
    .await?;
    let to = |name: &str, target: &str| {
        let (server, via) = (json!([dns.addr().to_string()]), dns.addr().to_string());
        subject("dns.verify", json!({ "name": name, "target": target, "servers": server, "via": via }))
    };
    to(NAME, "lb.shop.example").verify().await?;
    to("by-name.shop.example", "LB.shop.example.").verify().await?;
    ensure!(not_yet(&to(NAME, "old.shop.example")).await?.contains("10.0.0.8"), "what it answers is told");
    ensure!(not_yet(&to(NAME, "missing.shop.example")).await?.contains("has no A record"), "no target");
    Ok(())
}

/// Nobody listens on port 53 here: that they were found and asked is told all the same.
#[tokio::test]
async fn the_servers_of_the_zone_are_found() -> Result<()> {
    let dns = zone(&["api 60 IN A 10.0.0.1"]).await?;
    for more in [json!({}), json!({ "zone": "shop.example" })] {
        let mut params = json!({ "values": ["10.0.0.77"], "via": dns.addr().to_string() });
        params.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        let evidence = not_yet(&looking(params)).await?;
        ensure!(evidence.contains("0 of 1") && evidence.contains("ns.shop.example (127.0.0.1)"), "{evidence}");
    }
    Ok(())
}

/// An update at this server with the key of the fleet.
struct Updates {
    key: Value,
    _file: NamedTempFile,
}

impl Updates {
    fn new(dns: &Dns) -> Result<Self> {
        let (file, key) = secret(&dns.key().secret)?;
        Ok(Self { key, _file: file })
    }

    fn to(&self, server: SocketAddr, more: Value) -> Subject {
        let mut params = json!({
            "server": server.to_string(), "zone": "shop.example", "name": NAME, "values": ["10.0.0.2"],
            "key_name": "failoverd-key", "key": self.key,
        });
        params.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        subject("dns.update", params)
    }
}

#[tokio::test]
async fn an_update_moves_the_record_and_marks_it() -> Result<()> {
    let dns = zone(&["api 300 IN A 10.0.0.1"]).await?;
    let updates = Updates::new(&dns)?;
    let subject = updates.to(dns.addr(), json!({ "ttl": "30s" }));
    let was = subject.run().await?;
    assert_eq!(was, json!({ "record": { "ttl": 300, "values": ["10.0.0.1"] } }));
    assert_eq!(dns.dig(NAME, "A").await?, ["10.0.0.2"]);
    assert_eq!(dns.dig(MARK, "TXT").await?, ["\"epoch=5 run=RUN-20261101-001\""]);
    done(subject.observe().await)?;
    assert_eq!(subject.permits.asked(), 1);
    // An older epoch cannot take it back, and a newer one marks it for itself.
    let older = updates.to(dns.addr(), json!({ "values": ["10.0.0.1"] })).at_epoch(4);
    ensure!(impossible(older.observe().await)?.starts_with("fenced by epoch 5"), "observe");
    ensure!(refused(older.apply().await, false)?.starts_with("fenced by epoch 5"), "apply");
    let newer = updates.to(dns.addr(), json!({})).at_epoch(6);
    newer.run().await?;
    assert_eq!(dns.dig(MARK, "TXT").await?, ["\"epoch=6 run=RUN-20261101-001\""]);
    Ok(())
}

#[tokio::test]
async fn an_update_is_undone() -> Result<()> {
    let dns = zone(&["api 300 IN A 10.0.0.1", "api 300 IN A 10.0.0.11"]).await?;
    let updates = Updates::new(&dns)?;
    let subject = updates.to(dns.addr(), json!({}));
    let was = subject.run().await?;
    accepted(subject.compensate(&was).await)?;
    let mut back = dns.dig(NAME, "A").await?;
    back.sort();
    assert_eq!(back, ["10.0.0.1", "10.0.0.11"]);
    subject.run().await?;
    point_to(&dns, "10.0.0.99").await?;
    ensure!(refused(subject.compensate(&was).await, false)?.contains("left alone"), "somebody else's");
    refused(subject.compensate(&Value::Null).await, false)?;
    // What was not there is deleted.
    let created = updates.to(dns.addr(), json!({ "name": "new.shop.example" }));
    let was = created.run().await?;
    accepted(created.compensate(&was).await)?;
    ensure!(dns.dig("new.shop.example", "A").await?.is_empty(), "it was not there before");
    Ok(())
}

#[tokio::test]
async fn other_types_of_records_are_updated() -> Result<()> {
    let dns = zone(&["api 60 IN CNAME old"]).await?;
    let updates = Updates::new(&dns)?;
    updates.to(dns.addr(), json!({ "record": "CNAME", "values": ["LB.example.net"] })).run().await?;
    assert_eq!(dns.dig(NAME, "CNAME").await?, ["lb.example.net."]);
    let six = json!({ "name": "six.shop.example", "record": "AAAA", "values": ["2001:DB8::1", "2001:db8::2"], "sentinel": "" });
    updates.to(dns.addr(), six).run().await?;
    assert_eq!(dns.dig("six.shop.example", "AAAA").await?.len(), 2);
    ensure!(dns.dig("_failoverd.six.shop.example", "TXT").await?.is_empty(), "without a sentinel");
    // The server would pass over such an update without a word.
    let beside = impossible(updates.to(dns.addr(), json!({})).observe().await)?;
    ensure!(beside.contains("beside a CNAME"), "{beside}");
    let cname = json!({ "name": "six.shop.example", "record": "CNAME", "values": ["a.example"] });
    impossible(updates.to(dns.addr(), cname).observe().await)?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_key_is_named() -> Result<()> {
    let dns = zone(&["api 60 IN A 10.0.0.1", "_failoverd.other 60 IN TXT \"v=spf1\""]).await?;
    let updates = Updates::new(&dns)?;
    let (_file, wrong) = secret("d3Jvbmc=")?;
    let (_other, broken) = secret("not base64!")?;
    for (more, text) in [
        (json!({ "key_name": "nobody" }), "BADKEY"),
        (json!({ "algorithm": "hmac-sha512" }), "BADKEY"),
        (json!({ "key": wrong }), "BADSIG"),
        (json!({ "key": broken }), "is not base64"),
        (json!({ "key": { "env": "FAILOVERD_TEST_NOT_SET" } }), "is not set"),
    ] {
        let subject = updates.to(dns.addr(), more);
        let reason = refused(subject.apply().await, false)?;
        ensure!(reason.contains(text) && !reason.contains(&dns.key().secret), "{reason}");
    }
    let foreign = updates.to(dns.addr(), json!({ "name": "other.shop.example" }));
    ensure!(impossible(foreign.observe().await)?.contains("not failoverd's"), "a foreign TXT record");
    let elsewhere = updates.to(dns.addr(), json!({ "zone": "else.example", "name": "api.else.example" }));
    impossible(elsewhere.observe().await)?;
    let secondary = dns.secondary(3600).await?;
    let reason = refused(updates.to(secondary.addr(), json!({})).apply().await, false)?;
    ensure!(reason.contains("REFUSED") || reason.contains("NOTAUTH") || reason.contains("NOTIMP"), "{reason}");
    let denied = updates.to(dns.addr(), json!({})).overtaken();
    denied.apply().await.expect_err("overtaken");
    assert_eq!(dns.dig(NAME, "A").await?, ["10.0.0.1"]);
    Ok(())
}

/// Hands everything on to a server, but does this to each update.
#[derive(Clone, Copy, PartialEq)]
enum Meddle {
    /// Somebody else writes between our look and our update.
    WriteFirst,
    /// The answer is lost.
    LoseAnswer,
}

fn write_first(server: SocketAddr, key: &TsigKey) -> Result<()> {
    let script = NamedTempFile::new()?;
    let head = format!("server 127.0.0.1 {}\nzone shop.example\n", server.port());
    let change = format!("update delete {NAME} A\nupdate add {NAME} 60 A 10.0.0.50\nsend\n");
    std::fs::write(script.path(), format!("{head}{change}"))?;
    let mut nsupdate = crate::fleet::child::command("nsupdate");
    nsupdate.args(["-y", &format!("{}:{}:{}", key.algorithm, key.name, key.secret)]).arg(script.path());
    ensure!(nsupdate.status()?.success(), "nsupdate failed");
    Ok(())
}

async fn meddler(dns: &Dns, how: Meddle) -> Result<(SocketAddr, Arc<AtomicBool>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let udp = UdpSocket::bind(address).await?;
    let server = dns.addr();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, client)) = udp.recv_from(&mut buffer).await {
            let Ok(out) = UdpSocket::bind("127.0.0.1:0").await else { return };
            let _ = out.send_to(&buffer[..length], server).await;
            let mut answer = vec![0; 65_535];
            if let Ok(Ok(length)) = tokio::time::timeout(Duration::from_secs(2), out.recv(&mut answer)).await {
                let _ = udp.send_to(&answer[..length], client).await;
            }
        }
    });
    let meddling = Arc::new(AtomicBool::new(true));
    let (on, key) = (meddling.clone(), dns.key().clone());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let active = on.load(Ordering::SeqCst);
            if active && how == Meddle::WriteFirst {
                let key = key.clone();
                let written = tokio::task::spawn_blocking(move || write_first(server, &key)).await;
                written.expect("not cancelled").expect("nsupdate");
            }
            let Ok(mut out) = TcpStream::connect(server).await else { return };
            if active && how == Meddle::LoseAnswer {
                let (mut reader, mut writer) = client.split();
                let request = tokio::io::copy(&mut reader, &mut out);
                let _ = tokio::time::timeout(Duration::from_millis(500), request).await;
                drop(tokio::io::AsyncWriteExt::shutdown(&mut writer).await);
            } else {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut out).await;
            }
        }
    });
    Ok((address, meddling))
}

#[tokio::test]
async fn nothing_is_changed_where_somebody_has_written_in_between() -> Result<()> {
    for sentinel in [None, Some("")] {
        let dns = zone(&["api 60 IN A 10.0.0.1"]).await?;
        let updates = Updates::new(&dns)?;
        let (address, meddling) = meddler(&dns, Meddle::WriteFirst).await?;
        let subject = updates.to(address, json!({ "sentinel": sentinel }));
        let reason = refused(subject.apply().await, true)?;
        ensure!(reason.contains("somebody else has changed"), "{reason}");
        assert_eq!(dns.dig(NAME, "A").await?, ["10.0.0.50"]);
        meddling.store(false, Ordering::SeqCst);
        subject.run().await?;
        assert_eq!(dns.dig(NAME, "A").await?, ["10.0.0.2"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_is_resolved_by_looking() -> Result<()> {
    let mut dns = zone(&["api 60 IN A 10.0.0.1"]).await?;
    let updates = Updates::new(&dns)?;
    let (address, _) = meddler(&dns, Meddle::LoseAnswer).await?;
    let subject = updates.to(address, json!({}));
    unknown(subject.apply().await)?;
    done(subject.observe().await)?;
    assert_eq!(dns.dig(NAME, "A").await?, ["10.0.0.2"]);
    dns.kill9();
    let subject = updates.to(dns.addr(), json!({}));
    unseen(subject.observe().await)?;
    refused(subject.apply().await, true)?;
    Ok(())
}
