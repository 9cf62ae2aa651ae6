//! A disk that takes long to say that something is on it, below a process that runs (strace).

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::child::{Proc, command};
use super::{START, eventually, scratch_dir};

/// As long as this lives, each time that the process has something put on its disk takes longer.
pub struct SlowDisk {
    _tracer: Proc,
    dir: tempfile::TempDir,
}

impl SlowDisk {
    /// Slows the disk below a process. Needs the right to trace it.
    pub async fn below(pid: i32, by: Duration) -> Result<Self> {
        let dir = scratch_dir("disk")?;
        let mut strace = command("strace");
        strace
            .args(["-f", "-qq", "-o", &Self::trace(&dir), "-p", &pid.to_string(), "-e", "trace=fsync,fdatasync", "-e"])
            .arg(format!("inject=fsync,fdatasync:delay_enter={}", by.as_micros()));
        let mut tracer = Proc::start("strace", strace, &dir.path().join("log"))?;
        tracer
            .ready(START, "strace to hold each thread", async || {
                for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
                    let status = std::fs::read_to_string(task.path().join("status"))?;
                    ensure!(!status.contains("TracerPid:\t0\n"), "one is not held: {}", task.path().display());
                }
                Ok(())
            })
            .await
            .context("strace is to slow a disk; may this user trace?")?;
        Ok(Self { _tracer: tracer, dir })
    }

    fn trace(dir: &tempfile::TempDir) -> String {
        dir.path().join("trace").display().to_string()
    }

    /// Waits until it has held something up: what is slowed is really asked for.
    pub async fn has_held_up(&self) -> Result<()> {
        eventually(START, "a write to be held up", async || {
            let trace = std::fs::read_to_string(Self::trace(&self.dir))?;
            ensure!(trace.contains("(DELAYED)"), "it holds nothing up: {trace}");
            Ok(())
        })
        .await
    }
}
