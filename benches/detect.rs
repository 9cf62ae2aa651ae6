//! From the kill of a process to the verdict on it.
//!
//! The theoretical minimum of a round: the rest of the interval in which the kill falls, and
//! `fall − 1` whole intervals; a refused connection costs nothing that could be seen here.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use failoverd::model::ProbeName;
use futures::StreamExt;
use rustix::process::Signal;

use crate::figures::{Figures, Series, aim, between, micros, ms, random_within, ratio};
use crate::fleet::child::{Proc, command};
use crate::fleet::{START, port, scratch_dir};
use crate::reference::{Reference, Timing, Told};
use crate::rig::Rig;
use crate::target::{Kind, Target};

const INTERVAL: Duration = Duration::from_millis(200);
const FALL: u32 = 3;
const TIMING: Timing =
    Timing { interval: INTERVAL, fast: INTERVAL, timeout: Duration::from_millis(150), who: "haproxy" };
/// What may come on top of the minimum, in milliseconds.
const AIM: f64 = 20.0;

/// What one checker needed for one kind of target.
#[derive(Default)]
struct Line {
    /// From the kill to the word of it, outside.
    told: Series,
    /// From the kill to the instant that the verdict carries; failoverd only.
    verdict: Series,
    /// The theoretical minimum.
    minimum: Series,
    /// `told − minimum`.
    over: Series,
}

type Lines = BTreeMap<String, Line>;

/// Measures.
pub async fn bench(rounds: usize) -> Result<()> {
    let (tcp, http, tcp_reference, http_reference, redis_port) = (port()?, port()?, port()?, port()?, port()?);
    let ports = [(Kind::Tcp, tcp), (Kind::Http, http), (Kind::Tcp, tcp_reference), (Kind::Http, http_reference)];
    let mut target = Target::start(&ports).await?;
    let mut redis = Redis { port: redis_port, server: None };
    redis.start().await?;
    let mut rig = Rig::start("alert-only", &configuration(tcp, http, redis_port)).await?;
    let told = Told::default();
    let watcher = watch(&rig, told.clone()).await?;
    let servers =
        [("tcp", Kind::Tcp, tcp_reference), ("http", Kind::Http, http_reference), ("redis", Kind::Tcp, redis_port)];
    let reference = Reference::start(&servers, TIMING, &told).await?;
    let mut lines = Lines::new();
    for _ in 0..rounds {
        rig.all_up().await?;
        told.wait(0).await?;
        // Both must have asked at least twice, so that their phases are known.
        tokio::time::sleep(2 * INTERVAL + random_within(2 * INTERVAL)).await;
        let status = rig.client.status().await?;
        let redis_asked = status.probes.iter().find(|probe| probe.name == ProbeName::new("redis"));
        let redis_asked = redis_asked.and_then(|probe| probe.last_seen).context("redis was never asked")?.0 * 1000;
        let killed = target.kill()?;
        redis.kill()?;
        let words = told.wait(6).await?;
        let asked = target.last_asked()?;
        let verdicts = verdicts(&rig).await?;
        for (key, at) in words {
            let (who, what) = key.split_once('/').unwrap_or_default();
            let ours = who == "failoverd";
            let last = match (what, ours) {
                ("tcp", true) => asked.get(&tcp).copied(),
                ("tcp", false) => asked.get(&tcp_reference).copied(),
                ("http", true) => asked.get(&http).copied(),
                ("http", false) => asked.get(&http_reference).copied(),
                (_, true) => Some(redis_asked),
                (_, false) => None,
            };
            let line = lines.entry(key.clone()).or_default();
            line.told.push(between(killed, at));
            if let Some(last) = last {
                let minimum = minimum(last, killed);
                line.minimum.push(minimum);
                line.over.push(between(killed, at) - minimum);
            }
            if let Some(verdict) = verdicts.get(what).filter(|_| ours) {
                line.verdict.push(between(killed, *verdict));
            }
        }
        target.restart().await?;
        redis.start().await?;
    }
    watcher.abort();
    show(&lines, reference.name(), rounds);
    Ok(())
}

fn configuration(tcp: u16, http: u16, redis: u16) -> String {
    let interval = INTERVAL.as_millis();
    let mut text = format!(
        r#"[defaults.probe]
interval = "{interval}ms"
timeout = "150ms"
fall = {FALL}
rise = 1
[probes.tcp]
tcp = {{ address = "127.0.0.1:{tcp}" }}
[probes.http]
http = {{ url = "http://127.0.0.1:{http}/health" }}
[probes.redis]
redis = {{ url = "redis://127.0.0.1:{redis}" }}
"#
    );
    for probe in ["tcp", "http", "redis"] {
        text.push_str(&format!(
            "[scenarios.{probe}]\nseverity = \"P1\"\nwhen = \"{probe}\"\nconfirm_for = \"0s\"\nrto = \"1h\"\n"
        ));
    }
    text
}

/// The rest of the interval, and the whole intervals after it.
fn minimum(last_asked: i64, killed: i64) -> f64 {
    let interval = INTERVAL.as_micros() as i64;
    let next = last_asked + interval * ((killed - last_asked).max(0) / interval + 1);
    between(killed, next) + f64::from(FALL - 1) * INTERVAL.as_secs_f64() * 1000.0
}

/// Notes what the daemon pushes to its watchers.
async fn watch(rig: &Rig, told: Told) -> Result<tokio::task::JoinHandle<()>> {
    let mut views = Box::pin(rig.client.watch().await?);
    Ok(tokio::spawn(async move {
        while let Some(Ok(view)) = views.next().await {
            for scenario in &view.scenarios {
                told.note("failoverd", scenario.name.as_str(), scenario.incident.is_some());
            }
        }
    }))
}

/// When each open incident began, by the daemon's own clock. Its millisecond is rounded down.
async fn verdicts(rig: &Rig) -> Result<BTreeMap<String, i64>> {
    let open = rig.client.incidents().await?.into_iter().filter(|incident| incident.closed.is_none());
    Ok(open.map(|incident| (incident.scenario.to_string(), incident.opened.0 * 1000)).collect())
}

fn show(lines: &Lines, reference: &str, rounds: usize) {
    let title = format!("detect: from SIGKILL to the verdict; interval 200 ms, fall {FALL}, {rounds} rounds, medians");
    let mut figures = Figures::new(
        &title,
        &["checker / target", "kill → verdict", "kill → told", "minimum", "over the minimum", "p90", "told / minimum"],
    );
    let mut notes = Vec::new();
    for (key, line) in lines {
        let or_dash = |series: &Series, text: String| if series.len() == 0 { "–".to_owned() } else { text };
        let (told, minimum, over) = (line.told.median(), line.minimum.median(), line.over.median());
        figures.row(&[
            key.replace('/', " / "),
            or_dash(&line.verdict, ms(line.verdict.median())),
            ms(told),
            or_dash(&line.minimum, ms(minimum)),
            or_dash(&line.over, ms(over)),
            or_dash(&line.over, ms(line.over.quantile(0.9))),
            or_dash(&line.minimum, ratio(told, minimum)),
        ]);
        if let Some(what) = key.strip_prefix("failoverd/") {
            let theirs = lines.get(&format!("{reference}/{what}")).map_or(f64::NAN, |line| line.told.median());
            notes.push(aim(
                over <= AIM,
                &format!(
                    "{what}: at most {AIM} ms over the minimum; kill → told is {} of {reference}'s",
                    ratio(told, theirs)
                ),
            ));
        }
    }
    notes.push(
        "told: a watcher of the socket has read it, the journal's fsync included; the reference's log line.".into(),
    );
    notes
        .push("redis can be below the minimum: its kept connection is cut, and that starts an attempt at once.".into());
    figures.print(&notes);
}

/// A Redis that can be killed between two instants of the clock.
struct Redis {
    port: u16,
    server: Option<(Proc, tempfile::TempDir)>,
}

impl Redis {
    async fn start(&mut self) -> Result<()> {
        self.server = None;
        let dir = scratch_dir("redis")?;
        let mut program = command("redis-server");
        program.args(["--bind", "127.0.0.1", "--save", "", "--port", &self.port.to_string(), "--dir"]).arg(dir.path());
        let server = Proc::start("redis", program, &dir.path().join("log"))?;
        let port = self.port;
        let (server, _) = self.server.insert((server, dir));
        server
            .ready(START, "Redis to listen", async || {
                tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
                Ok(())
            })
            .await
    }

    fn kill(&mut self) -> Result<i64> {
        let (server, _) = self.server.as_mut().context("Redis is dead already")?;
        server.signal(Signal::KILL)?;
        Ok(micros())
    }
}
