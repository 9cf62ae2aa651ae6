//! The first hour with it.

use anyhow::Result;

use super::shop::{BINARY, SOON, Shop, Sketch, has};
use crate::fleet::process::Failoverd;

#[tokio::test]
async fn a_typo_is_shown_where_it_is_and_what_was_meant() -> Result<()> {
    let shop = Shop::open(Sketch { daemon: "shutdown_grase = \"5s\"", ..Sketch::default() }).await?;
    for verb in ["run", "check"] {
        let done = shop.run(&[verb]).await?;
        assert_eq!(done.status.code(), Some(2), "{verb}: {done:?}");
        // The daemon tells it where its log goes; what `check` finds is its output.
        let told = if verb == "run" { done.stderr } else { done.stdout };
        has(&told, &["failoverd.toml:6:1", "shutdown_grase", "`shutdown_grace`"]);
    }
    assert!(!shop.state().exists() && !shop.socket().exists(), "nothing is begun on a wrong configuration");
    Ok(())
}

#[tokio::test]
async fn without_a_configuration_it_says_where_it_looked() -> Result<()> {
    let done = Failoverd::new(BINARY).args(["run", "--config", "/nowhere/failoverd.toml"]).run(SOON).await?;
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    has(&done.stderr, &["/nowhere/failoverd.toml"]);
    if !std::path::Path::new("/etc/failoverd").exists() {
        let done = Failoverd::new(BINARY).arg("run").run(SOON).await?;
        assert_eq!(done.status.code(), Some(2), "{done:?}");
        has(&done.stderr, &["/etc/failoverd/failoverd.toml"]);
    }
    let done = Failoverd::new(BINARY).run(SOON).await?;
    assert_eq!(done.status.code(), Some(2));
    has(&done.stderr, &["Usage: failoverd", "Exit codes:"]);
    let done = Failoverd::new(BINARY).arg("statsu").run(SOON).await?;
    assert_eq!(done.status.code(), Some(2));
    has(&done.stderr, &["'status'"]);
    Ok(())
}

/// A state directory that is not there yet is named, with what to do.
#[tokio::test]
async fn a_directory_that_is_missing_is_named() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    std::fs::remove_dir(shop.dir().join("state"))?;
    let told = shop.fails(1, &["run"]).await?;
    has(&told, &[&shop.dir().join("state").display().to_string()]);
    Ok(())
}
