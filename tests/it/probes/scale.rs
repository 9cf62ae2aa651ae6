use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use failoverd::model::{CauseKind, Health, ProbeName};
use failoverd::probes::runner::{ProbeRunner, ProbeSpec, RunnerEvent};
use failoverd::probes::{ProbeClients, ProbeContext, build};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::kind;

/// Answers 200 on kept connections.
async fn web_server() -> Result<(u16, AbortOnDropHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let serve = async |mut stream: TcpStream| {
        let mut buffer = [0; 2048];
        while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    };
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok((port, AbortOnDropHandle::new(task)))
}

fn resident_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// A thousand real HTTP probes, one of them into a server that accepts and says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_http_probes_keep_their_interval_beside_one_that_hangs() -> Result<()> {
    let (port, _server) = web_server().await?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let before = resident_kib()?;
    let clients = ProbeClients::system();
    let interval = Duration::from_secs(2);
    let specs: Result<Vec<ProbeSpec>> = (0..1000)
        .map(|index| {
            let port = if index == 0 { silent.local_addr()?.port() } else { port };
            let http = kind(json!({ "http": { "url": format!("http://127.0.0.1:{port}/"), "contains": "ok" } }));
            let timeout = Duration::from_secs(1);
            Ok(ProbeSpec {
                name: ProbeName::new(format!("probe-{index}")),
                index,
                interval,
                fast_interval: interval,
                timeout,
                probe: Arc::from(build(&http, &ProbeContext::new(clients.clone(), timeout))?),
            })
        })
        .collect();
    let built = resident_kib()?;
    let (sender, mut events) = tokio::sync::mpsc::channel(4096);
    let (runner, handle) = ProbeRunner::new(sender, CancellationToken::new());
    handle.replace(specs?);
    let _task = AbortOnDropHandle::new(tokio::spawn(runner.run()));
    let mut starts: HashMap<usize, Vec<Instant>> = HashMap::new();
    let mut abstained = 0;
    let until = Instant::now() + interval * 4;
    while let Ok(event) = tokio::time::timeout(until.saturating_duration_since(Instant::now()), events.recv()).await {
        if let Some(RunnerEvent::Report(report)) = event {
            // On a machine that does not run us we abstain, which is right; we never say Down of a
            // server that answers, nor Up of one that does not.
            let stalled = report.observation.cause().is_some_and(|cause| cause.kind == CauseKind::Stalled);
            abstained += u32::from(stalled);
            let expected = if report.index == 0 { Health::Down } else { Health::Up };
            ensure!(stalled || report.observation.health() == expected, "{report:?}");
            starts.entry(report.index).or_default().push(report.started);
        }
    }
    ensure!(starts.len() == 1000, "only {} probes were heard", starts.len());
    let mut off: Vec<Duration> = starts
        .values()
        .flat_map(|starts| starts.windows(2).map(|pair| pair[1].duration_since(pair[0]).abs_diff(interval)))
        .collect();
    off.sort();
    println!(
        "off the interval: median {:?}, p99 {:?}, worst {:?}; memory: {} KiB built, {} KiB running; {abstained} abstained; {:?}",
        off[off.len() / 2],
        off[off.len() * 99 / 100],
        off[off.len() - 1],
        built.saturating_sub(before),
        resident_kib()?.saturating_sub(before),
        handle.stats(),
    );
    ensure!(off[off.len() / 2] < Duration::from_millis(20), "the median start is {:?} off", off[off.len() / 2]);
    Ok(())
}
