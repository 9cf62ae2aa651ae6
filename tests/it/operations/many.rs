//! A thousand probes in one process, one of which never answers.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::core::view::StatusView;

use super::shop::{SOON, Shop, Sketch};
use crate::fleet::eventually;
use crate::fleet::http_app::LocalApp;

const PROBES: usize = 1000;
const INTERVAL: Duration = Duration::from_secs(2);

/// Processor time that a process has used, in seconds.
fn cpu(pid: i32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(") ").context("a stat")?.1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    // USER_HZ is 100 wherever Linux runs.
    Ok(ticks as f64 / 100.0)
}

/// How old the oldest of the newest looks is.
fn oldest(status: &StatusView) -> Option<Duration> {
    let hanging = |name: &str| name == "hanging";
    let mut ages = Vec::new();
    for probe in status.probes.iter().filter(|probe| !hanging(probe.name.as_str())) {
        ages.push(status.at.since(probe.last_seen?));
    }
    ages.into_iter().max()
}

async fn apps() -> Result<(Vec<LocalApp>, String)> {
    let mut apps = Vec::new();
    for number in 0..4 {
        apps.push(LocalApp::start(&format!("app-{number}")).await?);
    }
    let mut more = String::new();
    for number in 0..PROBES - 3 {
        let url = apps[number % apps.len()].at("/health");
        writeln!(more, "[probes.p{number}]\nhttp = {{ url = \"{url}\" }}\ninterval = \"2s\"")?;
    }
    apps[0].hold("/hanging");
    let hanging = apps[0].at("/hanging");
    writeln!(more, "[probes.hanging]\nhttp = {{ url = \"{hanging}\" }}\ninterval = \"2s\"\ntimeout = \"10s\"")?;
    Ok((apps, more))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_probes_are_each_begun_in_time() -> Result<()> {
    let (_apps, more) = apps().await?;
    let shop = Shop::open(Sketch { more: &more, ..Sketch::default() }).await?;
    let mut daemon = shop.verb(&["run"]).start()?;
    let client = shop.client()?;
    daemon
        .ready(SOON, "each probe to be seen", async || oldest(&client.status().await?).context("not all were seen"))
        .await?;
    let (began, before, rss) = (std::time::Instant::now(), cpu(daemon.pid())?, daemon.rss()?);
    let mut worst = Duration::ZERO;
    let mut rounds = 0;
    eventually(SOON, "three intervals", async || {
        let status = client.status().await?;
        worst = worst.max(oldest(&status).context("a probe was forgotten")?);
        rounds += 1;
        ensure!(began.elapsed() > INTERVAL * 3, "{:?}", began.elapsed());
        Ok(())
    })
    .await?;
    let used = (cpu(daemon.pid())? - before) / began.elapsed().as_secs_f64() * 100.0;
    println!("{PROBES} probes every {INTERVAL:?}: {used:.0} % of a processor, {} MiB", rss / (1 << 20));
    println!("the oldest look was {worst:?} old in {rounds} looks at the status");
    // A look is at most one interval old, and what the attempt itself took on a busy machine.
    assert!(worst < INTERVAL * 2, "a start was delayed: {worst:?}");
    let status = client.status().await?;
    assert_eq!(status.probes.len(), PROBES);
    assert!(status.tilt_until.is_none() && status.in_doubt.is_none());
    Ok(())
}
