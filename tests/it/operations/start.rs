//! What keeps the daemon from starting, and what it says.

use std::os::unix::net::UnixListener;

use anyhow::Result;
use failoverd::model::RunResult;

use super::shop::{BINARY, SOON, Shop, Sketch, has, stop};
use crate::fleet::process::Failoverd;

/// The one line of the log that says why it ended.
fn last_error(stderr: &str) -> String {
    let lines = stderr.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let errors = lines.filter(|line| line["level"] == "ERROR");
    errors.last().and_then(|line| line["message"].as_str().map(str::to_owned)).unwrap_or_default()
}

#[tokio::test]
async fn the_second_daemon_on_a_state_names_the_first() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let mut first = shop.start().await?;
    let other = shop.dir().join("other.sock");
    let second = shop.verb(&["run", "--socket", &other.display().to_string()]).run(SOON).await?;
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    has(&last_error(&second.stderr), &["state.db", &format!("pid {}", first.pid())]);
    assert!(first.is_running() && shop.socket().exists() && !other.exists());
    // Killed, it leaves nothing that has to be cleared away by hand.
    first.kill9();
    let again = shop.start().await?;
    has(&again.stderr(), &["the last daemon on this state did not end by itself"]);
    Ok(())
}

#[tokio::test]
async fn a_state_that_cannot_be_written_says_for_whom_it_has_to_be() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let shop = Shop::open(Sketch::default()).await?;
    let open = |path: std::path::PathBuf, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    open(shop.dir().to_owned(), 0o755)?;
    open(shop.dir().join("state"), 0o555)?;
    // Nothing is read-only for root.
    let mut command = match rustix::process::geteuid().is_root() {
        true => Failoverd::new("setpriv").args(["--reuid=65534", "--regid=65534", "--clear-groups", BINARY]),
        false => Failoverd::new(BINARY),
    };
    command = command.args(["run", "--config"]).arg(shop.config());
    let done = command.run(SOON).await?;
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    has(&last_error(&done.stderr), &["state", "must be writable for the user that runs failoverd"]);
    Ok(())
}

/// S12: a corrupt middle stops the daemon, which names the record.
#[tokio::test]
async fn a_state_that_was_tampered_with_is_not_acted_upon() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let mut daemon = shop.start().await?;
    shop.break_api();
    assert_eq!(shop.ended().await?.result, Some(RunResult::Done));
    stop(&mut daemon).await?;
    let bytes = std::fs::read(shop.state())?;
    let records = shop.journal()?;
    let intent = records
        .iter()
        .find(|record| serde_json::to_string(&record.entry).is_ok_and(|text| text.contains("step_intent")));
    let seq = intent.map_or(0, |record| record.seq);
    // Also where SQLite left an older copy of a page.
    let needle = b"{\"kind\":\"step_intent\"";
    let mut broken = bytes.clone();
    let places: Vec<usize> = (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
    assert!(!places.is_empty(), "the intent is not in the file");
    for at in places {
        broken[at + needle.len() - 3] ^= 1;
    }
    std::fs::write(shop.state(), broken)?;
    let done = shop.verb(&["run"]).run(SOON).await?;
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    has(&last_error(&done.stderr), &["state.db", &format!("record {seq}")]);
    // The bytes as they were are a state again.
    std::fs::write(shop.state(), bytes)?;
    shop.heal_api();
    shop.start().await.map(drop)
}

#[tokio::test]
async fn a_path_of_the_socket_that_is_taken_is_left_alone() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let living = UnixListener::bind(shop.socket())?;
    let done = shop.verb(&["run"]).run(SOON).await?;
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    has(&last_error(&done.stderr), &["failoverd.sock is in use by", &format!("process {}", std::process::id())]);
    // Nobody listens any more: it was left by a process that is gone, and is replaced.
    drop(living);
    assert!(shop.socket().exists());
    stop(&mut shop.start().await?).await?;
    std::fs::write(shop.socket(), "a letter")?;
    let done = shop.verb(&["run"]).run(SOON).await?;
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    has(&last_error(&done.stderr), &["is a file, not a socket, and is left alone"]);
    assert_eq!(std::fs::read_to_string(shop.socket())?, "a letter");
    Ok(())
}

#[tokio::test]
async fn a_port_of_the_metrics_that_is_taken_is_named() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let _taken = std::net::TcpListener::bind(shop.metrics())?;
    let done = shop.verb(&["run"]).run(SOON).await?;
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    has(&last_error(&done.stderr), &[&shop.metrics(), "metrics.listen"]);
    assert!(!shop.socket().exists(), "the socket of a daemon that did not start is left behind");
    Ok(())
}
