//! Real counterparts for tests, benches and the demo: database, cache, name server, AWS API,
//! applications, broken networks, and failoverd itself as a process.
//!
//! Rules that every part keeps:
//! - Nothing sleeps for a fixed time: conditions are polled with [`eventually`], which names what
//!   it waited for and what it saw last.
//! - Every part takes fresh ports ([`port`]) and its own directory ([`scratch_dir`]).
//! - Every child dies with us, also after `kill -9` of the test ([`child::Proc`]).
//! - No credentials or endpoints of the person who runs the tests reach a child
//!   ([`child::command`]): a test must never be able to touch a real cloud account.
//!
//! `install.sh` beside this file installs what is started here.
// Each consumer (tests, benches, demo) uses its own subset.
#![allow(dead_code)]

pub mod apart;
pub mod aws;
pub mod aws_cbor;
pub mod canary;
pub mod child;
pub mod dns;
pub mod etcd;
pub mod history;
pub mod http_app;
pub mod kube;
pub mod kube_real;
pub mod kube_standin;
pub mod load;
pub mod mail;
pub mod moto;
pub mod partitions;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod redis;
pub mod slow_disk;
pub mod team;
pub mod wall_clock;
pub mod world;

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a counterpart may take to start on a loaded machine with two cores.
pub const START: Duration = Duration::from_secs(30);

/// Polls `check` until it answers `Ok`, and returns what it answered. After `timeout` the error
/// names `what` was waited for and carries the last reason.
pub async fn eventually<T>(timeout: Duration, what: &str, mut check: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let left = timeout.saturating_sub(started.elapsed());
        // One attempt that hangs must not outlive the whole wait.
        let last = match tokio::time::timeout(left, check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("the last attempt had not answered"),
        };
        if started.elapsed() + pause >= timeout {
            return Err(last.context(format!("waited {timeout:?} for {what}")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// [`eventually`] for a plain condition.
pub async fn until(timeout: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) -> Result<()> {
    eventually(timeout, what, async || {
        anyhow::ensure!(holds().await, "it did not hold");
        Ok(())
    })
    .await
}

/// A TCP port on loopback that nobody else in the fleet gets as long as this process lives, also
/// while its server is down: a killed server must find its port free when it comes back.
///
/// Outside the kernel's ephemeral range, so that no outgoing connection takes it by chance; a
/// lock file per port keeps test processes that run side by side apart.
pub fn port() -> Result<u16> {
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    // One directory per user: another's lock files could not be opened.
    let user = rustix::process::geteuid().as_raw();
    let locks = std::env::temp_dir().join(format!("failoverd-fleet-ports.{user}"));
    std::fs::create_dir_all(&locks)?;
    let mut held = HELD.lock().unwrap_or_else(|e| e.into_inner());
    // Processes start at different places; otherwise each would try the others' ports first.
    let start = (std::process::id().wrapping_mul(7919) % u32::from(COUNT)) as u16;
    for i in 0..COUNT {
        let port = FIRST + (start + i) % COUNT;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(locks.join(port.to_string()))?;
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            held.push(lock);
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}

/// A directory of our own that vanishes with the value. What a killed test left behind earlier is
/// swept on the first call.
pub fn scratch_dir(name: &str) -> Result<tempfile::TempDir> {
    static SWEPT: OnceLock<()> = OnceLock::new();
    SWEPT.get_or_init(sweep_leftovers);
    tempfile::Builder::new()
        .prefix(&format!("{LEFTOVER}{}-{name}-", std::process::id()))
        .tempdir()
        .context("making a scratch directory")
}

const LEFTOVER: &str = "failoverd-fleet.";

fn sweep_leftovers() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|n| n.strip_prefix(LEFTOVER)) else {
            continue;
        };
        let owner = rest.split('-').next().unwrap_or_default();
        // Age as well as the pid: the pid may live in another namespace that shares this /tmp.
        let old = entry
            .metadata()
            .and_then(|m| m.modified())
            .is_ok_and(|t| t.elapsed().is_ok_and(|age| age > Duration::from_secs(3600)));
        if old && !Path::new("/proc").join(owner).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The directory of this module, where the Python parts and `install.sh` are.
pub fn fleet_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fleet")
}

/// A program of the Python environment that `install.sh` makes.
pub fn venv_bin(program: &str) -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let path = cache.join("failoverd/venv/bin").join(program);
    if !path.exists() {
        bail!("{} is missing: run tests/fleet/install.sh", path.display());
    }
    Ok(path)
}

/// A client for control endpoints on loopback: no proxies, no kept connections that would hide a
/// restart of the server.
pub fn http() -> reqwest::Client {
    // Made once: it reads the system's certificates, and tests poll with it.
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    let client = CLIENT.get_or_init(|| {
        // Whoever comes first installs it; all of them install the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(10))
            .build()
            .expect("a plain HTTP client can be built")
    });
    client.clone()
}
