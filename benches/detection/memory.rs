//! How much memory ten thousand probes take.

use anyhow::{Context, Result};

use super::Line;
use super::cores::Core;
use super::crowd::Crowd;
use super::haproxy::Haproxy;
use super::prober::{Many, Prober};
use crate::figures::{Figures, aim, ratio};

const MANY: Many = Many { probes: 10_000, interval: 5, more: "" };
/// Megabytes.
const AIM: f64 = 40.0;

/// In megabytes.
struct Memory {
    resident: f64,
    /// Heap and stacks.
    anonymous: f64,
    /// What is shared with other processes counts by its share.
    proportional: f64,
}

impl Memory {
    fn of(pid: i32) -> Result<Self> {
        let field = |file: &str, name: &str| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
            let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
            anyhow::Ok(kib * 1024.0 / 1e6)
        };
        Ok(Self {
            resident: field("status", "VmRSS:")?,
            anonymous: field("status", "RssAnon:")?,
            proportional: field("smaps_rollup", "Pss:")?,
        })
    }
}

/// Measures.
pub async fn bench() -> Result<Vec<Line>> {
    let mut crowd = Crowd::start().await?;
    let ours = {
        let prober = Prober::start(MANY, &mut crowd).await?;
        let memory = Memory::of(prober.daemon.pid())?;
        prober.all_up().await?;
        memory
    };
    let haproxy = match Haproxy::start(MANY, &mut crowd, Core::Prober).await? {
        Some(proxy) => Some(Memory::of(proxy.pid())?),
        None => None,
    };
    let mut figures = Figures::new(
        "memory: 10,000 HTTP probes, all up, after three rounds",
        &["who", "resident", "of it heap and stacks", "Pss", "to failoverd"],
    );
    for (who, memory) in [("failoverd", Some(&ours)), ("haproxy", haproxy.as_ref())] {
        let Some(memory) = memory else { continue };
        let cells = [memory.resident, memory.anonymous, memory.proportional].map(megabytes);
        let to_ours = ratio(memory.resident, ours.resident);
        let [resident, anonymous, proportional] = cells;
        figures.row(&[who.to_owned(), resident, anonymous, proportional, to_ours]);
    }
    let met = ours.resident <= AIM;
    figures.print(&[aim(met, &format!("at most {AIM} MB"))]);
    Ok(vec![Line {
        figure: "RSS at 10,000 HTTP probes".into(),
        reference: haproxy.map_or_else(|| "not installed".into(), |it| format!("HAProxy {}", megabytes(it.resident))),
        ours: megabytes(ours.resident),
        aim: format!("at most {AIM} MB"),
        met: Some(met),
    }])
}

fn megabytes(value: f64) -> String {
    format!("{value:.1} MB")
}
