//! Callers who mean no good: with the real daemon, as another user of the kernel.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::Value;

use super::shop::{Shop, Sketch, stop};
use crate::fleet::process::Failoverd;
use crate::fleet::{http, port};

/// `control::serve`: so many connections of one caller at a time.
const PER_CALLER: u64 = 24;

/// An operator floods the socket; everybody else is answered as ever, and nothing is done.
#[tokio::test]
async fn a_crowd_the_slow_the_huge_and_the_malformed_are_bounded() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "the tests become another user, which only root can");
    let shop = Shop::open(Sketch { more: "[control]\noperators = [\"65534\"]\n", ..Sketch::default() }).await?;
    std::fs::set_permissions(shop.dir(), std::fs::Permissions::from_mode(0o755))?;
    let mut daemon = shop.start().await?;
    let before = daemon.rss()?;
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/operations/intruder.py");
    // Read here: the other user need not reach the sources.
    let script = std::fs::read_to_string(script)?;
    let intruder = Failoverd::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", &script])
        .arg(shop.socket())
        .start()?;
    let mut intruder = intruder;
    let client = shop.client()?;
    let mut slowest = Duration::ZERO;
    while intruder.is_running() {
        let begun = Instant::now();
        client.status().await.context("root is answered whatever others do")?;
        slowest = slowest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(slowest < Duration::from_secs(3), "an answer took {slowest:?}");
    let text = intruder.stdout();
    let seen: Value = serde_json::from_str(&text).with_context(|| format!("{text}{}", intruder.stderr()))?;
    for (what, status) in seen["said"].as_object().context("answers")? {
        // 0: the connection was closed without an answer.
        let refused = status.as_u64().is_some_and(|status| status == 0 || (400..500).contains(&status));
        ensure!(refused, "{what}: {status}");
    }
    // The slow two hold places of their own.
    let held = seen["crowd"]["held"].as_u64().context("a number")?;
    ensure!((PER_CALLER - 4..=PER_CALLER).contains(&held), "{seen:#}");
    ensure!(seen["crowd"]["turned_away"] == 200 - held, "{seen:#}");
    let slow = |what: &str| seen["slow"][what]["seconds"].as_f64().unwrap_or(f64::MAX);
    ensure!(slow("body") < 12.0 && slow("head") < 20.0, "{seen:#}");
    ensure!(seen["slow"]["body"]["status"] == 408, "{seen:#}");
    ensure!(shop.commands()?.is_empty(), "{:#?}", shop.commands()?);
    let after = daemon.rss()?;
    ensure!(after < before + 64 * 1024 * 1024, "it grew from {before} to {after} bytes");
    stop(&mut daemon).await
}

/// Metrics, health checks and links: whatever is sent there, only an answer with a good link does anything.
#[tokio::test]
async fn what_is_there_to_look_at_changes_nothing() -> Result<()> {
    let (links, switches) = (port()?, port()?);
    let mut shop = Shop::open(Sketch::default()).await?;
    shop.set_env("LINK_KEY", "canary-0123456789abcdef0123456789ab");
    let more = format!(
        "[links]\nurl = \"http://127.0.0.1:{links}\"\nlisten = \"127.0.0.1:{links}\"\nkey = {{ env = \"LINK_KEY\" }}\n\
         [health_switch]\nlisten = \"127.0.0.1:{switches}\"\ndirectory = \"{}/health\"\n\
         [health_switch.switches]\neast = {{ initially = \"on\" }}\n",
        shop.dir().display()
    );
    shop.configure(Sketch { mode: "approve", more: &more, ..Sketch::default() })?;
    let mut daemon = shop.start().await?;
    shop.break_api();
    shop.asks().await?;
    let bodies = [
        ("application/json", r#"{"command":"pause"}"#),
        ("application/json", r#"{"command":"failover","scenario":"outage"}"#),
        ("application/x-www-form-urlencoded", "answer=approve"),
    ];
    let paths = [
        "/",
        "/metrics",
        "/healthz",
        "/readyz",
        "/v1/status",
        "/v1/command",
        "/v1/readiness",
        "/v1/watch",
        "/health/east",
        "/answer/",
        "/answer/forged.forged",
        "/answer/..%2f..%2fv1%2fcommand",
        "/dashboard",
        "/../v1/command",
    ];
    let looks = [Method::GET, Method::HEAD];
    let changes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::TRACE];
    let mut tried = 0;
    for at in [shop.metrics(), format!("127.0.0.1:{switches}"), format!("127.0.0.1:{links}")] {
        for path in paths {
            for (method, (kind, body)) in looks.iter().chain(&changes).flat_map(|one| bodies.map(|body| (one, body))) {
                let request = http().request(method.clone(), format!("http://{at}{path}"));
                let answer = request.header("content-type", kind).body(body).send().await?;
                let status = answer.status().as_u16();
                let fine = looks.contains(method) || [400, 404, 405].contains(&status);
                ensure!(fine, "{method} {at}{path}: {status}");
                tried += 1;
            }
        }
    }
    ensure!(tried == 3 * paths.len() * 8 * bodies.len(), "{tried}");
    let status = shop.client()?.status().await?;
    ensure!(status.paused_by.is_none() && shop.client()?.runs().await?.is_empty(), "{status:?}");
    ensure!(shop.hooks.requests() == 0, "nothing was carried out");
    // All that is written down is that forged links were shown.
    for (by, command, result) in shop.commands()? {
        let refused = by == "somebody at 127.0.0.1" && result.starts_with("refused");
        ensure!(refused && command.starts_with("answer by a link"), "{by} {command} {result}");
    }
    let east = http().get(format!("http://127.0.0.1:{switches}/health/east")).send().await?;
    ensure!(east.status() == 200, "{}", east.status());
    stop(&mut daemon).await
}
