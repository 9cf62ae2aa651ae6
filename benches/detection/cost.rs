//! What one HTTP probe costs: the processor time of the whole process, by the probes that reached the target.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Line;
use super::blackbox::{Blackbox, SCRAPES};
use super::cores::{Core, cpu, pinned};
use super::crowd::Crowd;
use super::haproxy::Haproxy;
use super::prober::{Many, Prober};
use crate::figures::{Figures, Series, aim, ratio};
use crate::fleet::child::Proc;
use crate::fleet::scratch_dir;

/// The argument that makes this program the least that a probe can be.
pub const FLOOR_FLAG: &str = "--floor";

const MANY: Many = Many { probes: 2000, interval: 1, more: "" };
const FRESH: Many = Many { more: ", fresh_every = 1", ..MANY };
const WINDOW: Duration = Duration::from_secs(3);
/// Ours over kept connections: each probe opens a fresh one once in ten looks.
const KEPT_WINDOW: Duration = Duration::from_secs(10);
/// Microseconds.
const KEPT_AIM: f64 = 20.0;
const FRESH_AIM: f64 = 50.0;

/// What one checker needed in each window.
struct Cost {
    who: &'static str,
    /// Microseconds for a probe.
    each: Series,
    /// Probes in a second.
    rate: Series,
    /// Fresh connections for a probe.
    fresh: Series,
}

impl Cost {
    async fn of(who: &'static str, pid: i32, crowd: &Crowd, rounds: usize, window: Duration) -> Result<Self> {
        let (mut each, mut rate, mut fresh) = (Series::default(), Series::default(), Series::default());
        for _ in 0..rounds {
            let (begun, counts, ran) = (Instant::now(), crowd.counts()?, cpu(pid)?);
            tokio::time::sleep(window).await;
            let (now, after, lasted) = (crowd.counts()?, cpu(pid)?, begun.elapsed());
            let made = (now.requests - counts.requests) as f64;
            ensure!(made > 0.0, "{who} has asked nothing");
            each.push((after - ran) / made);
            rate.push(made / lasted.as_secs_f64());
            fresh.push((now.connections - counts.connections) as f64 / made);
        }
        Ok(Self { who, each, rate, fresh })
    }
}

/// Over kept connections.
pub async fn kept(rounds: usize) -> Result<Vec<Line>> {
    let mut crowd = Crowd::start().await?;
    let ours = ours(MANY, KEPT_WINDOW, &mut crowd, rounds).await?;
    let haproxy = haproxy(&mut crowd, rounds).await?;
    let blackbox = match Blackbox::start(&mut crowd).await? {
        Some(exporter) => Some(Cost::of("blackbox_exporter", exporter.pid(), &crowd, rounds, WINDOW).await?),
        None => None,
    };
    let note = "every tenth of ours is fresh (fresh_every, by default); neither HAProxy's checks nor blackbox_exporter's probes keep a connection: both open one for each.";
    show("cpu: an HTTP probe over a kept connection", &ours, &[&haproxy, &blackbox], KEPT_AIM, note);
    let reference = format!("HAProxy {}, blackbox_exporter {} at {SCRAPES}/s", told(&haproxy), told(&blackbox));
    Ok(vec![line("CPU per HTTP probe, kept connection, 2,000/s", reference, &ours, KEPT_AIM)])
}

/// Over a fresh connection each.
pub async fn fresh(rounds: usize) -> Result<Vec<Line>> {
    let mut crowd = Crowd::start().await?;
    let ours = ours(FRESH, WINDOW, &mut crowd, rounds).await?;
    let haproxy = haproxy(&mut crowd, rounds).await?;
    let floor = {
        let dir = scratch_dir("floor")?;
        let mut program = pinned(Core::Prober, std::env::current_exe()?);
        program.arg(FLOOR_FLAG).args(crowd.ports().iter().map(u16::to_string));
        let floor = Proc::start("the floor", program, &dir.path().join("log"))?;
        crowd.asked(MANY.probes as u64).await?;
        Some(Cost::of("kernel floor", floor.pid(), &crowd, rounds, WINDOW).await?)
    };
    let note = "kernel floor: connect, write, read and reset in bursts of twenty, as often as the others.";
    show("fresh: an HTTP probe over a fresh connection", &ours, &[&floor, &haproxy], FRESH_AIM, note);
    let reference = format!("kernel floor {}, HAProxy {}", told(&floor), told(&haproxy));
    Ok(vec![line("CPU per HTTP probe, fresh connection, 2,000/s", reference, &ours, FRESH_AIM)])
}

async fn ours(many: Many, window: Duration, crowd: &mut Crowd, rounds: usize) -> Result<Cost> {
    let prober = Prober::start(many, crowd).await?;
    let cost = Cost::of("failoverd", prober.daemon.pid(), crowd, rounds, window).await?;
    prober.all_up().await?;
    Ok(cost)
}

async fn haproxy(crowd: &mut Crowd, rounds: usize) -> Result<Option<Cost>> {
    let Some(proxy) = Haproxy::start(MANY, crowd, Core::Prober).await? else { return Ok(None) };
    Ok(Some(Cost::of("haproxy", proxy.pid(), crowd, rounds, WINDOW).await?))
}

fn show(title: &str, ours: &Cost, others: &[&Option<Cost>], most: f64, note: &str) {
    let windows = format!("{title}; {} windows each, medians", ours.each.len());
    let mut figures = Figures::new(&windows, &["who", "a probe", "p90", "probes/s", "of them fresh", "to failoverd"]);
    for cost in [Some(ours)].into_iter().chain(others.iter().map(|other| Option::as_ref(other))).flatten() {
        figures.row(&[
            cost.who.to_owned(),
            micros(cost.each.median()),
            micros(cost.each.quantile(0.9)),
            format!("{:.0}", cost.rate.median()),
            format!("{:.0} %", 100.0 * cost.fresh.median()),
            ratio(cost.each.median(), ours.each.median()),
        ]);
    }
    let met = aim(ours.each.median() <= most, &format!("at most {most} µs"));
    figures.print(&[met, note.to_owned()]);
}

fn line(figure: &str, reference: String, ours: &Cost, most: f64) -> Line {
    let median = ours.each.median();
    Line {
        figure: figure.to_owned(),
        reference,
        ours: micros(median),
        aim: format!("at most {most} µs"),
        met: Some(median <= most),
    }
}

fn micros(value: f64) -> String {
    format!("{value:.1} µs")
}

fn told(cost: &Option<Cost>) -> String {
    cost.as_ref().map_or_else(|| "not installed".to_owned(), |cost| micros(cost.each.median()))
}

/// Connects, writes, reads and closes, twenty at once in each hundredth of a second, as no checker could do
/// with less: one wake-up for all of them, and connections that are reset, so that nothing is left to say.
pub fn floor(ports: &[String]) -> ExitCode {
    let ports: Vec<u16> = ports.iter().filter_map(|port| port.parse().ok()).collect();
    let mut next = Instant::now();
    for burst in ports.chunks(4).cycle() {
        if let Err(error) = ask(burst) {
            eprintln!("the floor: {error}");
            return ExitCode::FAILURE;
        }
        next += Duration::from_millis(10);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    ExitCode::SUCCESS
}

fn ask(ports: &[u16]) -> std::io::Result<()> {
    let mut streams = Vec::with_capacity(20);
    for port in ports.iter().cycle().take(20) {
        let mut stream = TcpStream::connect(("127.0.0.1", *port))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
        streams.push(stream);
    }
    for mut stream in streams {
        stream.read(&mut [0; 512]).map(drop)?;
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    }
    Ok(())
}
