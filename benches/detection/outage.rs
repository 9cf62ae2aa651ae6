//! From the death of a target, or from its last sign of life, to Down.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use failoverd::model::Health;
use futures::StreamExt;
use tokio::task::JoinHandle;

use super::Line;
use super::sights::{FILTER, Sight, sights};
use crate::figures::{Figures, Series, aim, between, ms, random_within, ratio};
use crate::fleet::port;
use crate::reference::{Reference, Timing, Told};
use crate::rig::Rig;
use crate::target::{Kind, Target};

const INTERVAL: Duration = Duration::from_millis(200);
const FAST: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_millis(200);
const CALM: Timing = Timing { interval: INTERVAL, fast: INTERVAL, timeout: TIMEOUT, who: "haproxy" };
const EAGER: Timing = Timing { fast: FAST, who: "haproxy, fastinter 20 ms", ..CALM };
const OURS: &str = "failoverd";
const OURS_EAGER: &str = "failoverd, fast_interval 20 ms";
/// Until a watcher of the daemon's socket has read it.
const TOLD: &str = "the same, until a watcher was told";
const TOLD_EAGER: &str = "the same with fast_interval 20 ms";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outage {
    Kill,
    Hang,
}

/// SIGKILL.
pub async fn kill(rounds: usize) -> Result<Vec<Line>> {
    let lines = measure(Outage::Kill, rounds).await?;
    let (ours, theirs) = (&lines[OURS_EAGER], median_and_most(&lines, CALM.who));
    let met = ours.median() <= 60.0 && ours.quantile(1.0) <= 100.0;
    show("kill: from SIGKILL to Down", &lines, rounds, &[aim(met, "median at most 60 ms, never more than 100 ms")]);
    Ok(vec![Line {
        figure: "SIGKILL of a target → Down, interval 200 ms, fall 3".into(),
        reference: format!("HAProxy {theirs}; fastinter 20 ms: {}", median_and_most(&lines, EAGER.who)),
        ours: format!("{} (fast_interval 20 ms)", median_and_most(&lines, OURS_EAGER)),
        aim: "median 60 ms, at most 100 ms".into(),
        met: Some(met),
    }])
}

/// SIGSTOP.
pub async fn hang(rounds: usize) -> Result<Vec<Line>> {
    let lines = measure(Outage::Hang, rounds).await?;
    // The rest of an interval, two whole ones, and the timeout of the last attempt; a tenth for ourselves.
    let most = 1.1 * (INTERVAL.as_millis() as f64 * 2.5 + TIMEOUT.as_millis() as f64);
    let met = lines[OURS].median() <= most;
    show("hang: from SIGSTOP to Down", &lines, rounds, &[aim(met, &format!("median at most {most:.0} ms"))]);
    Ok(vec![Line {
        figure: "SIGSTOP of a target → Down, interval 200 ms, timeout 200 ms, fall 3".into(),
        reference: format!(
            "HAProxy {}; fastinter 20 ms: {}",
            median_and_most(&lines, CALM.who),
            median_and_most(&lines, EAGER.who)
        ),
        ours: format!(
            "{}; fast_interval 20 ms: {}",
            median_and_most(&lines, OURS),
            median_and_most(&lines, OURS_EAGER)
        ),
        aim: format!("at most {most:.0} ms"),
        met: Some(met),
    }])
}

type Lines = BTreeMap<String, Series>;

async fn measure(outage: Outage, rounds: usize) -> Result<Lines> {
    let ports = [port()?, port()?, port()?, port()?];
    let mut target = Target::start(&ports.map(|port| (Kind::Http, port))).await?;
    let mut rig = Rig::start("alert-only", &configuration(ports[0], ports[1])).await?;
    let told = Told::default();
    let watcher = watch(&rig, told.clone()).await?;
    let _calm = Reference::start(&[("calm", Kind::Http, ports[2])], CALM, &told).await?;
    let _eager = Reference::start(&[("eager", Kind::Http, ports[3])], EAGER, &told).await?;
    let mut lines = Lines::new();
    for _ in 0..rounds {
        rig.all_up().await?;
        told.wait(0).await?;
        // The outage keeps step with nobody.
        tokio::time::sleep(2 * INTERVAL + random_within(2 * INTERVAL)).await;
        let begun = if outage == Outage::Kill { target.kill()? } else { target.hang()? };
        for (key, at) in told.wait(4).await? {
            let who = key.split('/').next().unwrap_or_default();
            lines.entry(who.to_owned()).or_default().push(between(begun, at));
        }
        for (probe, who) in [("calm", OURS), ("eager", OURS_EAGER)] {
            let says = |sight: &Sight| sight.probe == probe && sight.verdict == Health::Down && sight.unix_us >= begun;
            let verdict = sights(&rig.daemon.stderr()).find(says).context("it was told before it was seen")?;
            lines.entry(who.to_owned()).or_default().push(between(begun, verdict.unix_us));
        }
        if outage == Outage::Kill { target.restart().await? } else { target.go_on()? }
    }
    watcher.abort();
    Ok(lines)
}

/// Notes what the daemon pushes to its watchers: the verdict, once its incident is on disk.
async fn watch(rig: &Rig, told: Told) -> Result<JoinHandle<()>> {
    let mut views = Box::pin(rig.client.watch().await?);
    Ok(tokio::spawn(async move {
        while let Some(Ok(view)) = views.next().await {
            for scenario in &view.scenarios {
                let who = if scenario.name.as_str() == "eager" { TOLD_EAGER } else { TOLD };
                told.note(who, scenario.name.as_str(), scenario.incident.is_some());
            }
        }
    }))
}

fn configuration(calm: u16, eager: u16) -> String {
    let [interval, fast, timeout] = [INTERVAL, FAST, TIMEOUT].map(|time| time.as_millis());
    let mut text = format!(
        "[log]\nformat = \"json\"\nfilter = \"{FILTER}\"\n\
         [defaults.probe]\ninterval = \"{interval}ms\"\ntimeout = \"{timeout}ms\"\nfall = 3\nrise = 1\n\
         [probes.calm]\nhttp = {{ url = \"http://127.0.0.1:{calm}/health\" }}\n\
         [probes.eager]\nfast_interval = \"{fast}ms\"\nhttp = {{ url = \"http://127.0.0.1:{eager}/health\" }}\n"
    );
    for probe in ["calm", "eager"] {
        text.push_str(&format!(
            "[scenarios.{probe}]\nseverity = \"P1\"\nwhen = \"{probe}\"\nconfirm_for = \"0s\"\nrto = \"1h\"\n"
        ));
    }
    text
}

fn show(title: &str, lines: &Lines, rounds: usize, notes: &[String]) {
    let title = format!("{title}; interval 200 ms, timeout 200 ms, fall 3, {rounds} rounds");
    let mut figures = Figures::new(&title, &["who", "median", "p90", "most", "to failoverd"]);
    let ours = lines[OURS_EAGER].median();
    for (who, series) in lines {
        let [median, p90, most] = [series.median(), series.quantile(0.9), series.quantile(1.0)].map(ms);
        figures.row(&[who.clone(), median, p90, most, ratio(series.median(), ours)]);
    }
    let told = "until the log says so, HAProxy's or ours; a watcher is told once the incident is on disk.";
    figures.print(&[notes, &[told.to_owned()]].concat());
}

fn median_and_most(lines: &Lines, who: &str) -> String {
    lines.get(who).map_or_else(
        || "not installed".to_owned(),
        |series| format!("{:.0} ms (most {:.0})", series.median(), series.quantile(1.0)),
    )
}
