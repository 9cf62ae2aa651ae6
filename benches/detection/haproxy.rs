//! HAProxy with thousands of health checks on a crowd's target.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::cores::{Core, pinned};
use super::crowd::Crowd;
use super::prober::Many;
use crate::fleet::child::Proc;
use crate::fleet::{START, scratch_dir};
use crate::reference::HAPROXY;

/// A HAProxy that runs.
pub struct Haproxy {
    proxy: Proc,
    stats: PathBuf,
    _dir: TempDir,
}

impl Haproxy {
    /// Starts it, and waits until it has asked a few times; `None` where it is not installed.
    pub async fn start(many: Many, crowd: &mut Crowd, core: Core) -> Result<Option<Self>> {
        let Some(this) = Self::begin(many, crowd, core).await? else { return Ok(None) };
        crowd.asked(3 * many.probes as u64).await?;
        Ok(Some(this))
    }

    /// Starts it.
    pub async fn begin(many: Many, crowd: &Crowd, core: Core) -> Result<Option<Self>> {
        if !Path::new(HAPROXY).exists() {
            return Ok(None);
        }
        let dir = scratch_dir("haproxy")?;
        let (file, stats) = (dir.path().join("haproxy.cfg"), dir.path().join("stats"));
        std::fs::write(&file, configuration(many, crowd, &stats, dir.path()))?;
        let mut program = pinned(core, HAPROXY);
        program.arg("-db").arg("-f").arg(&file);
        let mut proxy = Proc::start("haproxy", program, &dir.path().join("log"))?;
        let socket = stats.clone();
        proxy.ready(START, "HAProxy to answer", async || Ok(UnixStream::connect(&socket)?)).await?;
        Ok(Some(Self { proxy, stats, _dir: dir }))
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.proxy.pid()
    }

    /// How often a server was called down, so far.
    pub fn downs(&self) -> Result<usize> {
        let mut stream = UnixStream::connect(&self.stats)?;
        stream.set_read_timeout(Some(START))?;
        stream.write_all(b"show stat\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let mut lines = text.lines();
        let columns = lines.next().context("HAProxy tells no columns")?.trim_start_matches("# ");
        let place = |name| columns.split(',').position(|column| column == name).context("a column is missing");
        let (server, downs) = (place("svname")?, place("chkdown")?);
        let rows = lines.map(|line| line.split(',').collect::<Vec<_>>());
        let servers: Vec<_> = rows.filter(|row| row.get(server).is_some_and(|name| name.starts_with('s'))).collect();
        ensure!(!servers.is_empty(), "HAProxy tells of no server");
        Ok(servers.iter().filter_map(|row| row.get(downs)?.parse::<usize>().ok()).sum())
    }
}

fn configuration(many: Many, crowd: &Crowd, stats: &Path, dir: &Path) -> String {
    let Many { probes, interval, .. } = many;
    let mut text = format!(
        "global\n  stats socket {}\n  maxconn 100\n\
         defaults\n  mode http\n  timeout connect 1s\n  timeout check 1s\n  timeout client 1s\n  timeout server 1s\n  \
         default-server inter {interval}s fall 3 rise 1\n\
         frontend idle\n  bind unix@{}/idle\n",
        stats.display(),
        dir.display()
    );
    let ports = crowd.ports();
    for (place, port) in ports.iter().enumerate() {
        let here = (probes + ports.len() - 1 - place) / ports.len();
        text.push_str(&format!(
            "backend b{place}\n  option httpchk GET /health\n  server-template s 1-{here} 127.0.0.1:{port} check\n"
        ));
    }
    text
}
