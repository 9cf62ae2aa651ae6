//! How often a target that is well is called down because the network loses packets: one of twenty in each
//! direction, in a network namespace of its own, by nftables (this kernel may have no netem).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use failoverd::model::Health;

use super::Line;
use super::cores::{Core, allow_files, cpu};
use super::crowd::Crowd;
use super::haproxy::Haproxy;
use super::prober::{Many, Prober};
use crate::figures::{Figures, aim};
use crate::fleet::child::{Proc, command, run};
use crate::fleet::{START, eventually, scratch_dir};
use crate::rounds;

/// The argument that makes this program measure where it is: in the namespace.
pub const FLAG: &str = "--loss";

const OURS: Many = Many { probes: 6000, interval: 1, more: "" };
/// It has enough false Downs to count with fewer.
const THEIRS: Many = Many { probes: 2000, ..OURS };
const MINUTE: Duration = Duration::from_secs(60);
/// For each target and hour.
const AIM: f64 = 0.01;

/// Measures in a namespace that ends with the measurement.
pub async fn bench() -> Result<Vec<Line>> {
    let dir = scratch_dir("loss")?;
    let (out, err) = (dir.path().join("lines"), dir.path().join("log"));
    let mut program = command("unshare");
    program.arg("--net").arg(std::env::current_exe()?).arg(FLAG);
    for name in ["FAILOVERD_BENCH_BINARY", "FAILOVERD_BENCH_ROUNDS"] {
        if let Some(value) = std::env::var_os(name) {
            program.env(name, value);
        }
    }
    let mut inside = Proc::start_split("the measurement (it needs root for its namespace)", program, &out, &err)?;
    let ended = inside.wait_exit(minutes() + 6 * START).await?;
    let said = std::fs::read_to_string(&out)?;
    anyhow::ensure!(ended.success(), "{ended}\n{said}\n{}", inside.log());
    let (line, table) = said.split_once('\n').context("nothing was measured")?;
    print!("{table}");
    Ok(vec![serde_json::from_str(line)?])
}

/// The rounds of this part are minutes.
fn minutes() -> Duration {
    MINUTE * rounds(3) as u32
}

/// Measures here.
pub fn inside() -> ExitCode {
    let measured = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from);
    match measured.and_then(|runtime| runtime.block_on(measure())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure() -> Result<()> {
    allow_files();
    let mut link = command("ip");
    link.args(["link", "set", "lo", "up"]);
    run(link, START).await?;
    let mut crowd = Crowd::start().await?;
    lose(crowd.ports()).await?;
    let ours = Prober::begin(OURS, &crowd)?;
    let theirs = Haproxy::begin(THEIRS, &crowd, Core::Target).await?;
    eventually(2 * START, "every probe to be up", async || {
        let up = ours.votes(Health::Up);
        anyhow::ensure!(up >= OURS.probes, "{up} are up");
        Ok(())
    })
    .await?;
    crowd.asked(3 * OURS.probes as u64).await?;
    let downs = || anyhow::Ok((ours.votes(Health::Down), theirs.as_ref().map(Haproxy::downs).transpose()?));
    let (before, blind, ran) = (downs()?, ours.votes(Health::Unknown), cpu(ours.daemon.pid())?);
    tokio::time::sleep(minutes()).await;
    let (after, ran) = (downs()?, cpu(ours.daemon.pid())? - ran);
    let blind = ours.votes(Health::Unknown) - blind;
    let busy = ran / 1e4 / minutes().as_secs_f64();
    let ours = Rate::new(after.0 - before.0, OURS.probes);
    let theirs = after.1.zip(before.1).map(|(after, before)| Rate::new(after - before, THEIRS.probes));
    show(&ours, theirs.as_ref(), blind, busy)
}

/// One of twenty in each direction, where it would be received: a packet that is refused where it is sent
/// would be told to the sender.
async fn lose(ports: &[u16]) -> Result<()> {
    let dir = scratch_dir("nft")?;
    let file = dir.path().join("loss.nft");
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let ports = ports.join(", ");
    std::fs::write(
        &file,
        format!(
            "table ip loss {{\n  chain arriving {{\n    type filter hook input priority 0;\n    \
             tcp dport {{ {ports} }} numgen random mod 100 < 5 drop\n    \
             tcp sport {{ {ports} }} numgen random mod 100 < 5 drop\n  }}\n}}\n"
        ),
    )?;
    let mut nft = command("nft");
    nft.arg("-f").arg(&file);
    run(nft, START).await?;
    Ok(())
}

/// False Downs in so many hours of targets.
struct Rate {
    downs: usize,
    hours: f64,
}

impl Rate {
    fn new(downs: usize, targets: usize) -> Self {
        Self { downs, hours: targets as f64 * minutes().as_secs_f64() / 3600.0 }
    }

    fn each(&self) -> f64 {
        self.downs as f64 / self.hours
    }

    /// With 95 % confidence it is below this: the mean of a Poisson distribution that gives so few, or
    /// fewer, in one of twenty cases.
    fn below(&self) -> f64 {
        let few = |mean: f64| {
            let mut term = (-mean).exp();
            let mut sum = term;
            for count in 1..=self.downs {
                term *= mean / count as f64;
                sum += term;
            }
            sum
        };
        let (mut low, mut high) = (0.0, 2.0 * self.downs as f64 + 10.0);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if few(middle) > 0.05 { low = middle } else { high = middle }
        }
        high / self.hours
    }
}

fn show(ours: &Rate, theirs: Option<&Rate>, blind: usize, busy: f64) -> Result<()> {
    let met = ours.each() <= AIM;
    let told = |rate: &Rate| format!("{:.3} ({} in {:.0} h)", rate.each(), rate.downs, rate.hours);
    let line = Line {
        figure: "false Down per target-hour at 5 % random loss each way, 1 Hz, 1 s timeout, fall 3".into(),
        reference: theirs.map_or_else(|| "not installed".into(), |rate| format!("HAProxy {}", told(rate))),
        ours: format!("{}; below {:.3} at 95 %", told(ours), ours.below()),
        aim: format!("at most {AIM}"),
        met: Some(met),
    };
    // For whoever reads it outside the namespace; the table is for people.
    println!("{}", serde_json::to_string(&line)?);
    let mut figures = Figures::new(
        "loss: 5 % of all packets in each direction, at random",
        &["who", "false Down", "target-hours", "for each", "95 %: below"],
    );
    for (who, rate) in [("failoverd", Some(ours)), ("haproxy", theirs)] {
        let Some(rate) = rate else { continue };
        figures.row(&[
            who.into(),
            rate.downs.to_string(),
            format!("{:.0}", rate.hours),
            format!("{:.3}", rate.each()),
            format!("{:.3}", rate.below()),
        ]);
    }
    let core = format!("failoverd abstained {blind} times, and used {busy:.0} % of its core.");
    figures.print(&[aim(met, &format!("at most {AIM} for each target-hour")), core]);
    Ok(())
}
