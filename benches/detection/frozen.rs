//! The prober itself is stopped and let go on, again and again, while every target is well.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use failoverd::model::Health;
use rustix::process::{Pid, Signal, kill_process};

use super::Line;
use super::cores::{Core, pinned};
use super::crowd::Crowd;
use super::haproxy::Haproxy;
use super::prober::{Many, Prober};
use crate::figures::{Figures, aim};
use crate::fleet::child::Proc;
use crate::fleet::scratch_dir;

/// The argument that makes this program a plain loop around each target.
pub const FLAG: &str = "--plain-loops";

const MANY: Many = Many { probes: 2000, interval: 1, more: "" };
const TIMES: u32 = 6;
const STOPPED: Duration = Duration::from_secs(2);
const RUNS: Duration = Duration::from_millis(100);
/// Whoever was wrong has said so by then.
const AFTER: Duration = Duration::from_secs(4);

/// Measures.
pub async fn bench() -> Result<Vec<Line>> {
    let mut crowd = Crowd::start().await?;
    let (ours, abstained) = {
        let prober = Prober::start(MANY, &mut crowd).await?;
        let before = prober.votes(Health::Unknown);
        freeze(prober.daemon.pid()).await?;
        (prober.votes(Health::Down), prober.votes(Health::Unknown) - before)
    };
    let haproxy = match Haproxy::start(MANY, &mut crowd, Core::Prober).await? {
        Some(proxy) => {
            freeze(proxy.pid()).await?;
            Some(proxy.downs()?)
        }
        None => None,
    };
    let plain = plain_loops(&mut crowd).await?;
    let mut figures = Figures::new(
        &format!(
            "frozen: {} targets, all well; the prober stopped for 2 s and let run for 0.1 s, {TIMES} times",
            MANY.probes
        ),
        &["who", "false Down"],
    );
    let told = |downs: Option<usize>| downs.map_or_else(|| "not installed".to_owned(), |downs| downs.to_string());
    for (who, downs) in [("failoverd", Some(ours)), ("haproxy", haproxy), ("plain loops (tokio, reqwest)", Some(plain))]
    {
        figures.row(&[who.to_owned(), told(downs)]);
    }
    let met = ours == 0;
    figures.print(&[aim(met, "none"), format!("failoverd abstained (Unknown) on {abstained} of them meanwhile.")]);
    Ok(vec![Line {
        figure: "false Down when the prober itself is frozen for 2 s, runs 0.1 s, six times".into(),
        reference: format!("HAProxy {}, plain tokio loops {plain}", told(haproxy)),
        ours: ours.to_string(),
        aim: "0".into(),
        met: Some(met),
    }])
}

async fn freeze(pid: i32) -> Result<()> {
    let pid = Pid::from_raw(pid).context("a pid is not zero")?;
    for _ in 0..TIMES {
        kill_process(pid, Signal::STOP)?;
        tokio::time::sleep(STOPPED).await;
        kill_process(pid, Signal::CONT)?;
        tokio::time::sleep(RUNS).await;
    }
    tokio::time::sleep(AFTER).await;
    Ok(())
}

async fn plain_loops(crowd: &mut Crowd) -> Result<usize> {
    let dir = scratch_dir("loops")?;
    let mut program = pinned(Core::Prober, std::env::current_exe()?);
    program.arg(FLAG).args((0..MANY.probes).map(|number| crowd.port(number).to_string()));
    let (out, err) = (dir.path().join("downs"), dir.path().join("log"));
    let loops = Proc::start_split("the loops", program, &out, &err)?;
    crowd.asked(3 * MANY.probes as u64).await?;
    let before = std::fs::read_to_string(&out)?.lines().count();
    freeze(loops.pid()).await?;
    Ok(std::fs::read_to_string(&out)?.lines().count() - before)
}

/// Looks at each port once a second, until it is killed, and prints a line for each that is down: the third
/// look in a row was not answered within a second.
pub fn run(ports: &[String]) -> ExitCode {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    runtime.block_on(async {
        let many = ports.len() as u32;
        let loops = ports.iter().zip(0..).map(|(port, number)| {
            let begin = tokio::time::Instant::now() + Duration::from_secs(1) * number / many;
            tokio::spawn(look(format!("http://127.0.0.1:{port}/health"), begin))
        });
        futures::future::join_all(loops.collect::<Vec<_>>()).await;
    });
    ExitCode::SUCCESS
}

async fn look(url: String, begin: tokio::time::Instant) {
    // A fresh connection each time.
    let client = crate::fleet::http();
    let mut ticks = tokio::time::interval_at(begin, Duration::from_secs(1));
    let mut failures = 0;
    loop {
        ticks.tick().await;
        let asked = tokio::time::timeout(Duration::from_secs(1), client.get(&url).send()).await;
        failures = if asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status().is_success())) {
            0
        } else {
            failures + 1
        };
        if failures == 3 {
            println!("{url} is down");
        }
    }
}
