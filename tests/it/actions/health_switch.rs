//! `health_switch.set`, asked as a health checker asks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use failoverd::clients::health_switch::{Switches, read};
use failoverd::control::health_switch::{Look, router};
use failoverd::model::Verified;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Subject, accepted, before, clients, done, impossible, refused};
use crate::fleet::scratch_dir;

/// The endpoint as the daemon serves it, but for the look at each question. Each is a start of its own:
/// nothing is kept.
async fn serve(directory: &Path) -> Result<String> {
    let switches = Switches::new(directory.to_owned(), BTreeMap::from([("east".into(), true)]));
    let look: Look = Arc::new(move |name| {
        switches.refresh();
        switches.look(name)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/health/east", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router(look)).await });
    Ok(url)
}

/// Asked by another client than ours.
async fn curl(url: &str) -> Result<String> {
    let mut curl = crate::fleet::child::command("curl");
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", url]);
    crate::fleet::child::run(curl, super::SOON).await
}

fn set(directory: &TempDir, on: bool, url: &str) -> Subject {
    let params: Value = json!({ "name": "east", "on": on, "directory": directory.path(), "url": url });
    Subject::new("health_switch.set", params, &Arc::new(clients()))
}

#[tokio::test]
async fn a_switch_is_set_and_outlives_a_restart() -> Result<()> {
    let dir = scratch_dir("switches")?;
    let url = serve(dir.path()).await?;
    assert_eq!(curl(&url).await?, "200", "its default");
    let off = set(&dir, false, &url);
    let was = off.run().await?;
    assert_eq!(curl(&url).await?, "503");
    done(off.observe().await)?;
    assert_eq!(off.permits.asked(), 1);
    let again = serve(dir.path()).await?;
    assert_eq!(curl(&again).await?, "503", "after a restart");
    let setting = read(dir.path(), "east")?.expect("a setting");
    assert_eq!((setting.on, setting.epoch, setting.run.as_deref()), (false, 5, Some("RUN-20261101-001")));
    accepted(off.compensate(&was).await)?;
    assert_eq!(curl(&again).await?, "200");
    Ok(())
}

#[tokio::test]
async fn an_older_run_does_not_set_it_and_a_newer_one_marks_it() -> Result<()> {
    let dir = scratch_dir("switches")?;
    let url = serve(dir.path()).await?;
    set(&dir, false, &url).run().await?;
    let older = set(&dir, true, &url).at_epoch(4);
    ensure!(impossible(older.observe().await)?.starts_with("fenced by epoch 5"), "observe");
    ensure!(refused(older.apply().await, false)?.starts_with("fenced by epoch 5"), "apply");
    set(&dir, true, &url).overtaken().apply().await.expect_err("overtaken");
    assert_eq!(curl(&url).await?, "503");
    let newer = set(&dir, false, &url).at_epoch(6);
    before(newer.observe().await)?;
    newer.run().await?;
    assert_eq!(read(dir.path(), "east")?.expect("a setting").epoch, 6);
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_answers_otherwise_is_not_done() -> Result<()> {
    let (dir, other) = (scratch_dir("switches")?, scratch_dir("switches")?);
    let url = serve(other.path()).await?;
    let off = set(&dir, false, &url);
    accepted(off.apply().await)?;
    let Verified::NotYet { evidence } = off.verify_once().await else { anyhow::bail!("another directory is served") };
    ensure!(evidence.contains("answers 200, not 503"), "{evidence}");
    std::fs::write(dir.path().join("east.json"), "no setting")?;
    ensure!(impossible(off.observe().await)?.contains("put it right"), "what is not ours");
    refused(off.apply().await, false)?;
    Ok(())
}
