//! Who runs where, what it costs, and how many files it may have open.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::fleet::child::command;

/// The prober has a core of its own, so that nothing else's caches and wake-ups are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// The first core.
    Prober,
    /// The last.
    Target,
}

/// A command on that core only.
pub fn pinned(core: Core, program: impl AsRef<OsStr>) -> Command {
    let mut command = command(TASKSET);
    command.args(place(core)).arg(program);
    command
}

/// What starts a program on a core only; it becomes that program, with the same process id.
pub const TASKSET: &str = "taskset";

/// Its arguments before the program's name.
pub fn place(core: Core) -> [String; 2] {
    let last = std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1);
    ["-c".to_owned(), if core == Core::Prober { 0 } else { last }.to_string()]
}

/// Children may open as many files as this process may allow them.
pub fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, the part that needs it says so itself.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// How long all threads of a process have run, in microseconds: by the scheduler's own clock, which
/// counts nanoseconds and not ticks.
pub fn cpu(pid: i32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).context("the process has ended")? {
        // A thread may end between the two reads; what it ran is then lost, and was little.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanoseconds += text.split(' ').next().and_then(|ran| ran.parse::<f64>().ok()).context("no schedstat")?;
    }
    Ok(nanoseconds / 1000.0)
}
