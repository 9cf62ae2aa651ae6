//! The disk fills up under a run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use failoverd::core::view::StepStateView;
use failoverd::model::RunResult;

use super::shop::{SOON, Shop, Sketch, has};

/// A small file system of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Result<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(at).output()?;
        let said = String::from_utf8_lossy(&mount.stderr).into_owned();
        ensure!(mount.status.success(), "the tests mount a small disk, which only root can: {said}");
        Ok(Self(at.to_owned()))
    }

    /// Takes all that is left of it, byte by byte at the end.
    fn fill(&self) -> Result<()> {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.join("filler"))?;
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        ensure!(file.write_all(b"x").is_err(), "the disk is not full");
        Ok(())
    }

    fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.0.join("filler"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there loses only the name.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// S2, S11: what cannot be written down is not done; people are told without the outbox, which is
/// on the same disk; the next start goes on where the journal ends.
#[tokio::test]
async fn a_run_stops_where_it_cannot_be_written_down() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let disk = SmallDisk::mount(&shop.dir().join("state"))?;
    let mut daemon = shop.start().await?;
    shop.hooks.hold("/prepare");
    shop.break_api();
    let run = shop.step("prepare", StepStateView::Applying).await?;
    disk.fill()?;
    shop.hooks.release("/prepare");
    let status = daemon.wait_exit(SOON).await?;
    assert_eq!(status.code(), Some(1), "{}", daemon.stderr());
    has(&daemon.stderr(), &["state.db", "no space is left", "make room"]);
    shop.told("shop stops").await?;
    let last = shop.chat.seen().into_iter().rfind(|seen| seen.body.contains("shop stops"));
    let last: serde_json::Value = serde_json::from_str(&last.map(|seen| seen.body).unwrap_or_default())?;
    assert_eq!((&last["importance"], &last["run"]), (&"page".into(), &run.id.as_str().into()));
    assert_eq!((shop.hooks.seen_at("/prepare"), shop.hooks.seen_at("/switch")), (1, 0));
    assert!(!shop.socket().exists(), "the socket is left behind");

    // Its end gave back the room of the write-ahead log. A start without any says so too, and a
    // supervisor that tries again and again makes no storm of pages.
    disk.fill()?;
    for _ in 0..3 {
        let again = shop.verb(&["run"]).run(SOON).await?;
        assert_eq!((again.status.code(), shop.hooks.seen_at("/switch")), (Some(1), 0), "{again:?}");
        has(&again.stderr, &["state.db", "no space is left"]);
    }
    shop.told("shop does not start").await?;
    let pages = shop.notices().into_iter().filter(|subject| subject.contains("does not start"));
    assert_eq!(pages.count(), 1, "{:#?}", shop.notices());

    disk.free()?;
    let mut daemon = shop.up_again().await?;
    let after = shop.ended().await?;
    assert_eq!((after.id, after.result), (run.id, Some(RunResult::Done)));
    assert_eq!(shop.hooks.seen_at("/switch"), 1);
    super::shop::stop(&mut daemon).await
}

/// A store that is lost in peace is found in peace, and not when something has to be written down.
#[tokio::test]
async fn a_state_that_is_taken_away_ends_the_daemon_at_once() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let mut daemon = shop.start().await?;
    std::fs::rename(shop.state(), shop.dir().join("taken-away.db"))?;
    let status = daemon.wait_exit(SOON).await?;
    assert_eq!(status.code(), Some(1), "{}", daemon.stderr());
    shop.told("shop stops").await?;
    has(&daemon.stderr(), &["state.db"]);
    Ok(())
}
