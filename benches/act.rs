//! From the verdict to the first outside call.
//!
//! In between: the incident, the decision and the run become durable, the last look at the primary
//! is made, the first step is observed, and its intent becomes durable.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use failoverd::model::RunResult;

use crate::endpoint::Endpoint;
use crate::figures::{Figures, Series, aim, between, ms, random_within, ratio};
use crate::fleet::port;
use crate::rig::Rig;
use crate::target::{Kind, Target};

/// Milliseconds.
const AIM: f64 = 10.0;
/// What one journal write puts into the write-ahead log, about: three pages with their headers.
const WRITE: usize = 3 * (4096 + 24);

/// Measures.
pub async fn bench(rounds: usize) -> Result<()> {
    let probed = port()?;
    let mut target = Target::start(&[(Kind::Tcp, probed)]).await?;
    let endpoint = Endpoint::start().await?;
    let mut rig = Rig::start("auto", &configuration(probed, &endpoint)).await?;
    let mut file = std::fs::File::create(rig.dir().join("reference"))?;
    let (mut acted, mut fsyncs, mut writes, mut journal) =
        (Series::default(), Series::default(), Series::default(), Series::default());
    for _ in 0..rounds {
        rig.all_up().await?;
        tokio::time::sleep(random_within(Duration::from_millis(100))).await;
        endpoint.arrivals();
        let before = rig.journal_writes().await?;
        target.kill()?;
        let (opened, ended) = ended(&mut rig).await?;
        let after = rig.journal_writes().await?;
        let arrivals = endpoint.arrivals();
        let first = *arrivals.first().context("nobody called")?;
        ensure!(arrivals.len() == 1, "{} calls were made, not one", arrivals.len());
        // The verdict's millisecond is rounded down; on the average half of it is too much.
        acted.push(between(opened * 1000 + 500, first));
        writes.push(after.0 - before.0);
        journal.push((after.1 - before.1) / (after.0 - before.0));
        fsyncs.push(fsync(&mut file)?);
        target.restart().await?;
        ensure!(ended == RunResult::Done, "the run ended as {ended:?}");
    }
    let title = format!("act: from the verdict to the first outside call, {rounds} rounds");
    let mut figures = Figures::new(&title, &["what", "median", "p90", "in raw fsyncs"]);
    let unit = fsyncs.median();
    for (what, series) in [
        ("verdict → call arrives at the endpoint", &acted),
        ("one journal write, inside the daemon (mean of a round)", &journal),
        ("reference: raw write and fsync of as many bytes", &fsyncs),
    ] {
        figures.row(&[what.into(), ms(series.median()), ms(series.quantile(0.9)), ratio(series.median(), unit)]);
    }
    figures.print(&[
        aim(acted.median() <= AIM, &format!("at most {AIM} ms at the median")),
        format!("{} journal writes for the whole of incident, run and recovery", writes.median()),
    ]);
    Ok(())
}

fn configuration(probed: u16, endpoint: &Endpoint) -> String {
    format!(
        r#"[defaults.probe]
interval = "100ms"
timeout = "80ms"
fall = 3
rise = 1
[probes.primary]
tcp = {{ address = "127.0.0.1:{probed}" }}
[scenarios.outage]
severity = "P0"
when = "primary"
confirm_for = "0s"
rto = "1h"
plan = "act"
[plans.act.steps.call]
http.request = {{ url = "{}", method = "PUT" }}
estimate = "100ms"
"#,
        endpoint.url(0)
    )
}

/// When the incident of this round was opened (milliseconds), and how its run ended.
async fn ended(rig: &mut Rig) -> Result<(i64, RunResult)> {
    let client = rig.client.clone();
    rig.daemon
        .ready(Duration::from_secs(30), "the run to end", async || {
            let incident = client.incidents().await?.into_iter().next().context("no incident")?;
            ensure!(incident.closed.is_none(), "it is that of the last round");
            let run = client.run(&incident.run.context("no run")?).await?;
            Ok((incident.opened.0, run.result.context("it runs")?))
        })
        .await
}

/// Milliseconds of one append that is on the disk when it returns.
fn fsync(file: &mut std::fs::File) -> Result<f64> {
    let mut times = Series::default();
    for _ in 0..5 {
        let begun = Instant::now();
        file.write_all(&[0x5a; WRITE])?;
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(times.median())
}
