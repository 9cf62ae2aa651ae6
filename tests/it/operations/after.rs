//! After an incident: the report and the replay of a failover that really was.

use anyhow::{Context, Result, ensure};
use failoverd::core::report::Report;
use failoverd::state::{inputs_path, read_segments};
use serde_json::Value;

use super::shop::{SOON, Shop, Sketch, has, stop};
use crate::fleet::eventually;

/// A failover that is approved and carried out, and the primary's return.
async fn failover(shop: &Shop) -> Result<String> {
    shop.break_api();
    let incident = shop.asks().await?;
    shop.ok(&["approve", incident.id.as_str(), "--yes"]).await?;
    shop.ended().await?;
    shop.heal_api();
    shop.incident("the end of the incident", |incident| incident.closed.is_some()).await?;
    Ok(incident.id.to_string())
}

#[tokio::test]
async fn a_failover_is_reported_and_replayed_byte_for_byte() -> Result<()> {
    let token = "a-secret-that-nobody-writes-down";
    let more = "[plans.failover.steps.tell]\nafter = [\"verify\"]\nhttp.request = { url = \"HOOKS/tell\", headers = { x-token = { env = \"TOKEN\" } }, idempotent = true }\nestimate = \"100ms\"\n";
    let mut shop = Shop::open(Sketch { mode: "approve", more, ..Sketch::default() }).await?;
    shop.set_env("TOKEN", token);
    let mut daemon = shop.start().await?;
    let id = failover(&shop).await?;

    // The running daemon's report, and that of its journal after its end.
    let asked: Report = serde_json::from_value(shop.json(&["report", &id]).await?)?;
    has(&shop.ok(&["report", &id]).await?, &["## Action items", "approved", "| switch |", "## Votes and steps", "RTO"]);
    let page = shop.dir().join("report.html");
    shop.ok(&["report", &id, "--html", "--out", &page.display().to_string()]).await?;
    let page = std::fs::read_to_string(page)?;
    has(&page, &["<svg", "Five whys", "http.request", "met</em>"]);
    has(&shop.fails(1, &["report", "INC-20200101-001"]).await?, &["there is no incident INC-20200101-001"]);
    ensure!(shop.verb(&["replay", &id]).run(SOON).await?.status.success(), "while it runs");
    stop(&mut daemon).await?;
    let kept: Report = serde_json::from_value(shop.json(&["report", &id, "--state"]).await?)?;
    assert_eq!(asked, kept, "the same journal");
    has(&shop.fails(4, &["report", &id]).await?, &["--state"]);

    let played = shop.json(&["replay", &id]).await?;
    assert_eq!(played["same"], Value::Bool(true), "{played}");
    ensure!(played["segments"][0]["played"]["decisions"].as_u64() >= Some(3), "{played}");
    has(&shop.ok(&["replay", &id]).await?, &["come out the same, byte for byte"]);

    // No secret is in it.
    let segments = read_segments(&inputs_path(&shop.state()))?;
    let segment = segments.last().context("a segment")?;
    let bytes = std::fs::read(&segment.path)?;
    ensure!(!bytes.windows(token.len()).any(|part| part == token.as_bytes()), "the secret is in the recording");

    // Somebody changes one byte.
    let mut changed = bytes.clone();
    let place = bytes.len() / 2;
    changed[place] ^= 1;
    std::fs::write(&segment.path, &changed)?;
    has(&shop.fails(1, &["replay", &id]).await?, &["was changed"]);
    std::fs::write(&segment.path, &bytes)?;

    // Another brain: other settings in the checkpoint, with checksums that fit.
    std::fs::write(&segment.path, with_other_settings(segment)?)?;
    let other = shop.verb(&["replay", &id, "--json"]).run(SOON).await?;
    assert_eq!(other.status.code(), Some(1), "{}", other.stdout);
    let other: Value = serde_json::from_str(&other.stdout)?;
    let difference = &other["segments"][0]["played"]["difference"];
    ensure!(difference["record"].is_u64(), "it is not located: {other}");
    has(&difference.to_string(), &["P0", "P9"]);
    Ok(())
}

/// The segment as a brain with another severity would have written it.
fn with_other_settings(segment: &failoverd::state::Segment) -> Result<Vec<u8>> {
    let blocks = segment.read()?.context("whole")?;
    let checkpoint = String::from_utf8(blocks.checkpoint)?;
    ensure!(checkpoint.contains("\"severity\":\"P0\""), "{checkpoint}");
    let dir = tempfile::tempdir()?;
    let mut writer = failoverd::state::InputsWriter::open(dir.path(), std::time::Duration::from_secs(60), u64::MAX)?;
    writer.begin(checkpoint.replace("\"severity\":\"P0\"", "\"severity\":\"P9\"").as_bytes())?;
    writer.write(&blocks.rest)?;
    Ok(std::fs::read(&read_segments(dir.path())?[0].path)?)
}

#[tokio::test]
async fn a_killed_daemon_leaves_a_recording_that_is_played_with_the_next_lifes() -> Result<()> {
    let shop = Shop::open(Sketch { mode: "approve", ..Sketch::default() }).await?;
    let mut daemon = shop.start().await?;
    shop.break_api();
    let incident = shop.asks().await?;
    daemon.kill9();
    daemon.wait_exit(SOON).await?;
    let mut daemon = shop.up_again().await?;
    shop.ok(&["approve", incident.id.as_str(), "--yes"]).await?;
    shop.ended().await?;
    shop.heal_api();
    shop.incident("the end of the incident", |incident| incident.closed.is_some()).await?;
    eventually(SOON, "both lives to be played", async || {
        let played = shop.json(&["replay", incident.id.as_str()]).await?;
        ensure!(played["segments"].as_array().is_some_and(|segments| segments.len() == 2), "{played}");
        Ok(())
    })
    .await?;
    stop(&mut daemon).await?;
    Ok(())
}

#[tokio::test]
async fn a_reload_in_the_middle_is_played_too_and_nothing_is_recorded_where_nobody_wants_it() -> Result<()> {
    let shop = Shop::open(Sketch { mode: "approve", ..Sketch::default() }).await?;
    let mut daemon = shop.start().await?;
    shop.break_api();
    let incident = shop.asks().await?;
    let more = "[probes.aaa]\nhttp = { url = \"HOOKS/aaa\" }\n";
    shop.configure(Sketch { mode: "approve", more, ..Sketch::default() })?;
    daemon.signal(rustix::process::Signal::HUP)?;
    shop.sees("the new probe", |status| status.probes.iter().any(|probe| probe.name.as_str() == "aaa")).await?;
    shop.ok(&["deny", incident.id.as_str()]).await?;
    shop.heal_api();
    shop.incident("the end of the incident", |incident| incident.closed.is_some()).await?;
    stop(&mut daemon).await?;
    let played = shop.json(&["replay", incident.id.as_str()]).await?;
    ensure!(played["segments"].as_array().is_some_and(|segments| segments.len() == 2), "{played}");

    let quiet = Shop::open(Sketch { more: "[recording]\nkeep = \"0s\"\n", ..Sketch::default() }).await?;
    let mut daemon = quiet.start().await?;
    stop(&mut daemon).await?;
    ensure!(!inputs_path(&quiet.state()).exists(), "something was recorded");
    Ok(())
}
