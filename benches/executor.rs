//! What the executor adds to a plan whose actions take a known time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use failoverd::core::Command;
use failoverd::model::{RunResult, ScenarioName};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use crate::endpoint::Endpoint;
use crate::figures::{Figures, Series, aim, ms, ratio};
use crate::fleet::port;
use crate::rig::Rig;
use crate::target::{Kind, Target};

/// Of the critical path.
const AIM: f64 = 0.02;

/// A step: its name, how many milliseconds it takes, and what comes before it.
type Step = (&'static str, u64, &'static [&'static str]);

/// Two regions' worth of work: seven levels, up to four branches at once.
const PLAN: [Step; 14] = [
    ("fence", 400, &[]),
    ("warm-cache", 300, &[]),
    ("promote-a", 900, &["fence"]),
    ("promote-b", 700, &["fence"]),
    ("promote-c", 500, &["fence"]),
    ("scale-a", 600, &[]),
    ("scale-b", 800, &["warm-cache"]),
    ("check-a", 200, &["promote-a"]),
    ("check-b", 300, &["promote-b"]),
    ("ready", 500, &["check-a", "check-b", "promote-c", "scale-a", "scale-b"]),
    ("route-a", 700, &["ready"]),
    ("route-b", 600, &["ready"]),
    ("verify", 800, &["route-a", "route-b"]),
    ("tell", 500, &["verify"]),
];

/// Measures.
pub async fn bench(rounds: usize) -> Result<()> {
    let probed = port()?;
    let _target = Target::start(&[(Kind::Tcp, probed)]).await?;
    let endpoint = Endpoint::start().await?;
    let mut rig = Rig::start("auto", &configuration(probed, &endpoint)).await?;
    let path = critical_path();
    let (mut ours, mut bare, mut writes) = (Series::default(), Series::default(), Series::default());
    for _ in 0..rounds {
        rig.all_up().await?;
        let before = rig.journal_writes().await?;
        ours.push(run(&mut rig).await? - path);
        let after = rig.journal_writes().await?;
        writes.push((after.1 - before.1) / (after.0 - before.0));
        bare.push(bare_program(&endpoint).await? - path);
    }
    let title = format!(
        "executor: {} steps of known duration, critical path {} in {} steps, {rounds} rounds",
        PLAN.len(),
        ms(path),
        critical_steps()
    );
    let mut figures =
        Figures::new(&title, &["who", "over the critical path", "p90", "of the path", "per step of the path"]);
    for (who, series) in [("failoverd, every step journaled", &ours), ("reference: a bare tokio program", &bare)] {
        figures.row(&[
            who.into(),
            ms(series.median()),
            ms(series.quantile(0.9)),
            format!("{:.2} %", 100.0 * series.median() / path),
            ms(series.median() / critical_steps() as f64),
        ]);
    }
    figures.print(&[
        aim(ours.median() <= AIM * path, &format!("at most {:.0} % of the critical path", AIM * 100.0)),
        format!("{} times the bare program's", ratio(ours.median(), bare.median())),
        format!("one journal write takes {} (mean of a round, median)", ms(writes.median())),
    ]);
    Ok(())
}

fn configuration(probed: u16, endpoint: &Endpoint) -> String {
    let mut text = format!(
        r#"[probes.primary]
interval = "200ms"
timeout = "100ms"
tcp = {{ address = "127.0.0.1:{probed}" }}
[scenarios.outage]
severity = "P0"
when = "primary"
confirm_for = "1s"
rto = "1h"
plan = "work"
"#
    );
    for (name, takes, after) in PLAN {
        let url = endpoint.url(takes);
        text.push_str(&format!(
            "[plans.work.steps.{name}]\nhttp.request = {{ url = \"{url}\", method = \"PUT\" }}\nafter = {after:?}\n\
             estimate = \"{takes}ms\"\n"
        ));
    }
    text
}

/// The longest chain: its duration in milliseconds, by step.
fn ends() -> BTreeMap<&'static str, (u64, usize)> {
    let mut ends = BTreeMap::new();
    for (name, takes, after) in PLAN {
        let (before, steps) = after.iter().map(|name| ends[name]).max().unwrap_or_default();
        ends.insert(name, (before + takes, steps + 1));
    }
    ends
}

fn critical_path() -> f64 {
    ends().values().max().map_or(0, |end| end.0) as f64
}

fn critical_steps() -> usize {
    ends().values().max().map_or(0, |end| end.1)
}

/// Carries the plan out by hand; milliseconds from the run's record to its end's.
async fn run(rig: &mut Rig) -> Result<f64> {
    let client = rig.client.clone();
    let last = client.runs().await?.first().map(|run| run.id.clone());
    client.command(&Command::Failover { scenario: ScenarioName::new("outage"), allow_data_loss: None }).await?;
    rig.daemon
        .ready(Duration::from_secs(60), "the run to end", async || {
            let run = client.runs().await?.into_iter().next().context("no run")?;
            ensure!(Some(&run.id) != last.as_ref(), "it has not begun");
            let ended = run.ended.context("it runs")?;
            ensure!(run.result == Some(RunResult::Done), "it ended as {:?}", run.result);
            Ok(ended.since(run.started).as_secs_f64() * 1000.0)
        })
        .await
}

/// The same calls in the same order, and nothing else; milliseconds.
async fn bare_program(endpoint: &Endpoint) -> Result<f64> {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
    let begun = Instant::now();
    let mut steps: BTreeMap<&str, Shared<BoxFuture<'static, Result<(), String>>>> = BTreeMap::new();
    for (name, takes, after) in PLAN {
        let before: Vec<_> = after.iter().map(|name| steps[name].clone()).collect();
        let request = client.put(endpoint.url(takes));
        let step = async move {
            futures::future::try_join_all(before).await?;
            let sent = async { request.send().await?.error_for_status()?.bytes().await };
            sent.await.map(drop).map_err(|error| error.to_string())
        };
        steps.insert(name, step.boxed().shared());
    }
    futures::future::try_join_all(steps.into_values()).await.map_err(anyhow::Error::msg)?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}
