//! What is logged and told, and what never is.

use anyhow::Result;
use failoverd::model::RunResult;

use super::shop::{SOON, Shop, Sketch, has, stop};
use crate::fleet::http_app::Answer;
use crate::fleet::port;

/// Each secret of the world below has this in it.
const CANARY: &str = "canary7Zq";

const SECRETS: &str = r#"
[plans.failover]
point_of_no_return = "switch"
[plans.failover.steps.echo]
http.request = { url = { env = "HOOK_URL" }, headers = { x-token = { env = "HOOK_TOKEN" } }, idempotent = true }
on_error = "continue"
estimate = "1s"
[plans.failover.steps.switch]
after = ["echo"]
http.request = { url = "HOOKS/switch", headers = { authorization = { file = "TOKEN_FILE" } }, effect = "route", idempotent = true }
estimate = "1s"
"#;

const PROBES: &str = r#"
[probes.db]
postgres = { url = { env = "DB_URL" } }
[probes.cache]
redis = { url = { env = "CACHE_URL" } }
[probes.private]
http = { url = { env = "PRIVATE_URL" }, headers = { authorization = { env = "PRIVATE_TOKEN" } } }
[notify.lost]
from = "info"
webhook = { url = { env = "LOST_URL" } }
"#;

/// A shop whose every secret is a canary; what is behind most of them is not there, so that errors
/// are told of all of them.
async fn shop() -> Result<Shop> {
    let mut shop = Shop::open(Sketch::default()).await?;
    let token = shop.dir().join("token");
    std::fs::write(&token, format!("Bearer {CANARY}-file\n"))?;
    let plan = SECRETS.replace("TOKEN_FILE", &token.display().to_string());
    shop.configure(Sketch { plan: &plan, more: PROBES, daemon: "", ..Sketch::default() })?;
    let (gone, hooks) = (port()?, shop.hooks.at(""));
    for (name, value) in [
        ("HOOK_URL", format!("{hooks}/echo?key={CANARY}-query")),
        ("HOOK_TOKEN", format!("{CANARY}-header")),
        ("DB_URL", format!("postgres://shop:{CANARY}-pg@127.0.0.1:{gone}/shop")),
        ("CACHE_URL", format!("redis://:{CANARY}-redis@127.0.0.1:{gone}")),
        ("PRIVATE_URL", format!("{hooks}/private/{CANARY}-path")),
        ("PRIVATE_TOKEN", format!("{CANARY}-probe")),
        ("LOST_URL", format!("http://127.0.0.1:{gone}/hook/{CANARY}-webhook")),
        ("FAILOVERD_LOG", "trace".into()),
    ] {
        shop.set_env(name, value);
    }
    // A server that tells everybody what it was told.
    let echo = |text: &str| Answer { body: format!("{{\"you\":\"{text}\"}}"), ..Answer::status(400) };
    shop.hooks.set_path("/echo", Some(echo(&format!("{CANARY}-query {CANARY}-header"))));
    shop.hooks.set_path(&format!("/private/{CANARY}-path"), Some(echo(&format!("{CANARY}-probe"))));
    Ok(shop)
}

/// S14.
#[tokio::test]
async fn no_secret_is_told_anywhere() -> Result<()> {
    let shop = shop().await?;
    let mut daemon = shop.up_again().await?;
    shop.sees("the probes down or unknown", |status| {
        let bad = |name: &str| status.probes.iter().any(|one| one.name.as_str() == name && !one.why.is_empty());
        bad("db") && bad("cache") && bad("private")
    })
    .await?;
    shop.break_api();
    assert_eq!(shop.ended().await?.result, Some(RunResult::Done));
    assert!(
        shop.hooks.seen().iter().any(|seen| seen
            .headers
            .values()
            .any(|value| { value.to_str().is_ok_and(|value| value.contains(&format!("{CANARY}-file"))) })),
        "the secret did not reach the one who is to have it"
    );
    daemon.wait_log(SOON, "not delivered yet").await?;

    let mut told = vec![("metrics", shop.get("/metrics").await?.1)];
    for verb in [["status"].as_slice(), &["explain"], &["incidents"], &["runs"], &["check"], &["plan"]] {
        let (text, json) = (shop.run(verb).await?, shop.run(&[verb, &["--json"]].concat()).await?);
        told.push((verb[0], text.stdout + &text.stderr + &json.stdout + &json.stderr));
    }
    daemon.signal(rustix::process::Signal::HUP)?;
    daemon.wait_log(SOON, "configuration reloaded").await?;
    stop(&mut daemon).await?;
    told.push(("stdout", daemon.stdout()));
    told.push(("the log", daemon.stderr()));
    let mut folders = vec![shop.dir().join("state")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                // The recording of what the brain was told.
                folders.push(path);
            } else {
                told.push(("the state", String::from_utf8_lossy(&std::fs::read(path)?).into_owned()));
            }
        }
    }
    told.extend(shop.chat.seen().into_iter().map(|seen| ("a notice", seen.body)));
    for (place, text) in told {
        let at = text.find(CANARY).map(|at| text[..at].chars().rev().take(200).collect::<Vec<_>>());
        let before: String = at.iter().flatten().rev().collect();
        assert!(at.is_none(), "a secret is in {place}, after: {before}");
    }
    Ok(())
}

#[tokio::test]
async fn where_no_terminal_is_every_line_is_json() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let mut daemon = shop.start().await?;
    shop.break_api();
    shop.ended().await?;
    stop(&mut daemon).await?;
    let log = daemon.stderr();
    let lines: Vec<serde_json::Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    has(&log, &["watching 2 probes", "\"message\":\"ended\""]);
    assert!(daemon.stdout().is_empty(), "{}", daemon.stdout());
    Ok(())
}
