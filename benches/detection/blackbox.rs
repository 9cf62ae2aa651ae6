//! blackbox_exporter, which probes when it is scraped, and a scraper.

use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use super::cores::{Core, pinned};
use super::crowd::Crowd;
use crate::fleet::child::Proc;
use crate::fleet::{START, port, scratch_dir};

/// The argument that makes this program a Prometheus that scrapes.
pub const FLAG: &str = "--scrape";
/// In a second.
pub const SCRAPES: u64 = 500;

const BLACKBOX: &str = "/usr/bin/prometheus-blackbox-exporter";
/// So many scrapes may be under way.
const LANES: u32 = 25;

/// The exporter, and what scrapes it.
pub struct Blackbox {
    server: Proc,
    _scraper: Proc,
    _dir: TempDir,
}

impl Blackbox {
    /// Starts both; `None` where it is not installed.
    pub async fn start(crowd: &mut Crowd) -> Result<Option<Self>> {
        if !Path::new(BLACKBOX).exists() {
            return Ok(None);
        }
        let (dir, own) = (scratch_dir("blackbox")?, port()?);
        let config = dir.path().join("blackbox.yml");
        std::fs::write(
            &config,
            "modules:\n  up:\n    prober: http\n    timeout: 1s\n    http:\n      preferred_ip_protocol: ip4\n",
        )?;
        let mut program = pinned(Core::Prober, BLACKBOX);
        program.arg(format!("--config.file={}", config.display()));
        program.arg(format!("--web.listen-address=127.0.0.1:{own}"));
        let mut server = Proc::start("blackbox_exporter", program, &dir.path().join("log"))?;
        server.ready(START, "it to listen", async || Ok(TcpStream::connect(("127.0.0.1", own))?)).await?;
        let mut program = pinned(Core::Target, std::env::current_exe()?);
        program.args([FLAG, &own.to_string(), &crowd.port(0).to_string()]);
        let scraper = Proc::start("the scraper", program, &dir.path().join("scraper"))?;
        crowd.asked(2 * SCRAPES).await?;
        Ok(Some(Self { server, _scraper: scraper, _dir: dir }))
    }

    /// The exporter's process id.
    pub fn pid(&self) -> i32 {
        self.server.pid()
    }
}

/// Scrapes the exporter for one target, until it is killed.
pub fn scrape(arguments: &[String]) -> ExitCode {
    let [exporter, target] = arguments else { return ExitCode::FAILURE };
    let url = format!("http://127.0.0.1:{exporter}/probe?module=up&target=http://127.0.0.1:{target}/health");
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    runtime.block_on(async {
        // Made for what it installs: the way to speak TLS, without which no client can be built.
        drop(crate::fleet::http());
        let Ok(client) = reqwest::Client::builder().no_proxy().build() else { return };
        let lanes = (0..LANES).map(|lane| ask_on(client.clone(), url.clone(), lane));
        futures::future::join_all(lanes).await;
    });
    ExitCode::SUCCESS
}

/// Every lane asks in its turn.
async fn ask_on(client: reqwest::Client, url: String, lane: u32) {
    let period = Duration::from_secs(u64::from(LANES)) / SCRAPES as u32;
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period * lane / LANES, period);
    loop {
        ticks.tick().await;
        // The target counts what came of it.
        if let Ok(answer) = client.get(&url).send().await {
            drop(answer.bytes().await);
        }
    }
}
