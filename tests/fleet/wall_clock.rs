//! The wall clock of one process, set while it runs (libfaketime). What counts from a start is not touched: who
//! sets a machine's clock does not make its time pass.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::scratch_dir;

/// A clock that can be set.
pub struct WallClock {
    dir: tempfile::TempDir,
}

impl WallClock {
    /// Off by so many seconds.
    pub fn new(seconds: i64) -> Result<Self> {
        let this = Self { dir: scratch_dir("clock")? };
        this.set(seconds)?;
        Ok(this)
    }

    /// From now on, off by so many seconds.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // In one piece: the process reads it whenever it asks for the time.
        let next = self.dir.path().join("next");
        std::fs::write(&next, format!("{seconds:+}\n"))?;
        std::fs::rename(&next, self.file()).context("setting a clock")
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }

    /// What a process needs in its environment to have it.
    pub fn env(&self) -> Result<[(&'static str, String); 5]> {
        let preload = library()?.display().to_string();
        let once = || "1".to_owned();
        Ok([
            ("LD_PRELOAD", preload),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", once()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", once()),
            // The times of files are the file system's.
            ("NO_FAKE_STAT", once()),
        ])
    }
}

/// In the folder of the machine's architecture.
fn library() -> Result<PathBuf> {
    let folders =
        std::fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    folders
        .into_iter()
        .find(|path| path.exists())
        .context("libfaketime is missing (Debian: faketime): run tests/fleet/install.sh")
}
