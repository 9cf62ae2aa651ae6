//! S14, at one place for all: a secret of every kind that a configuration can name, and then everything that the
//! daemon and its verbs say, write and send. Each process, state and receiver is looked through when it ends
//! (`fleet::canary`); here it is seen to that there is something to be looked through.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use reqwest::Method;

use super::shop::{SOON, Shop, Sketch, has, stop};
use crate::fleet::http_app::Answer;
use crate::fleet::{canary, eventually, port};

/// A canary of its own, so that one that is found says where it came from.
fn secret(of: &str) -> String {
    format!("canary-{of}-0123456789abcdef0123456789")
}

/// Everything that takes a secret: by environment, by file, in an address. `NOWHERE` refuses connections, so that
/// each of them also comes to be told about in an error.
const EVERYTHING: &str = r#"
[links]
url = "http://127.0.0.1:LINKS"
listen = "127.0.0.1:LINKS"
key = { file = "DIR/secrets/link-key" }
[probes.db]
postgres = { url = { env = "C_PG_URL" } }
[probes.cache]
redis = { url = { env = "C_REDIS_URL" } }
[probes.told]
http = { url = { env = "C_HTTP_URL" }, headers = { authorization = { file = "DIR/secrets/bearer" } } }
[probes.plugin]
exec = { command = ["/bin/sh", "DIR/plugin"], environment = { TOKEN = { env = "C_EXEC" } } }
[probes.metric]
promql = { url = { env = "C_PROM_URL" }, query = "up", below = 1 }
[notify.hook]
webhook = { url = { env = "C_HOOK_URL" }, headers = { x-token = { env = "C_HOOK_TOKEN" } }, secret = { env = "C_HOOK_KEY" } }
[notify.lost]
webhook = { url = { env = "C_LOST_URL" } }
[notify.slack]
slack = { token = { env = "C_SLACK" }, channel = "C1", url = "HOOKS/slack" }
[notify.pager]
pagerduty = { routing_key = { env = "C_PAGER" }, url = "NOWHERE" }
[notify.genie]
opsgenie = { key = { env = "C_GENIE" }, url = "HOOKS/genie" }
[notify.alerts]
alertmanager = { url = "HOOKS/alerts", headers = { authorization = { env = "C_ALERTS" } } }
[notify.page]
statuspage = { key = { env = "C_PAGE" }, page = "p", title = "Down", url = "HOOKS/page" }
[notify.mail]
email = { host = "127.0.0.1", port = 1, security = "starttls", username = "u", password = { env = "C_MAIL" }, from = "a@shop.example", to = ["b@shop.example"] }
[notify.alice]
approver = "alice"
webhook = { url = "HOOKS/alice" }
[plans.failover.steps.tell]
after = ["verify"]
http.request = { url = "HOOKS/refuse", headers = { x-token = { env = "C_STEP" } }, idempotent = true }
retry = { attempts = 1 }
on_error = "continue"
estimate = "100ms"
[plans.failover.steps.program]
after = ["verify"]
exec.run = { argv = ["/bin/sh", "DIR/program"], env = { TOKEN = { env = "C_PROGRAM" } } }
on_error = "continue"
estimate = "100ms"
"#;

async fn open() -> Result<Shop> {
    let mut shop = Shop::open(Sketch::default()).await?;
    let secrets = shop.dir().join("secrets");
    std::fs::create_dir(&secrets)?;
    std::fs::write(secrets.join("link-key"), secret("link"))?;
    std::fs::write(secrets.join("bearer"), format!("Bearer {}", secret("bearer")))?;
    for name in ["link-key", "bearer"] {
        std::fs::set_permissions(secrets.join(name), std::fs::Permissions::from_mode(0o600))?;
    }
    // Each repeats what it was given, as programs do.
    std::fs::write(shop.dir().join("plugin"), "echo \"WARNING: $TOKEN | $TOKEN=1\"; echo $TOKEN >&2; exit 1\n")?;
    std::fs::write(shop.dir().join("program"), "echo \"token is $TOKEN\"; echo password=$TOKEN >&2; exit 7\n")?;
    let nowhere = "127.0.0.1:1";
    let host = shop.hooks.at("").trim_start_matches("http://").to_owned();
    for (name, value) in [
        ("C_PG_URL", format!("postgresql://u:{}@{nowhere}/db", secret("postgres"))),
        ("C_REDIS_URL", format!("redis://u:{}@{nowhere}", secret("redis"))),
        ("C_HTTP_URL", format!("http://u:{}@{host}/told?token={}", secret("http"), secret("query"))),
        ("C_PROM_URL", format!("http://u:{}@{nowhere}", secret("prometheus"))),
        ("C_HOOK_URL", format!("http://{host}/hooks/{}", secret("hook"))),
        ("C_LOST_URL", format!("http://u:{}@{nowhere}/services/{}", secret("lost"), secret("lost-path"))),
    ] {
        shop.set_env(name, value);
    }
    for name in
        ["EXEC", "HOOK_TOKEN", "HOOK_KEY", "SLACK", "PAGER", "GENIE", "ALERTS", "PAGE", "MAIL", "STEP", "PROGRAM"]
    {
        shop.set_env(&format!("C_{name}"), secret(&name.to_lowercase()));
    }
    shop.set_env("AWS_SECRET_ACCESS_KEY", secret("aws"));
    shop.set_env("AWS_SESSION_TOKEN", secret("session"));
    let more = EVERYTHING
        .replace("DIR", &shop.dir().display().to_string())
        .replace("LINKS", &port()?.to_string())
        .replace("NOWHERE", &format!("http://{nowhere}"));
    // What a server sends back of ours is not repeated either.
    let echo = |of: &str| Some(Answer { body: format!("{{\"error\":\"{}\"}}", secret(of)), ..Answer::status(403) });
    for (path, of) in [("/refuse", "step"), ("/genie/v2/alerts", "genie"), ("/slack/chat.postMessage", "slack")] {
        shop.hooks.set_path(path, echo(of));
    }
    shop.configure(Sketch { mode: "approve", more: &more, ..Sketch::default() })?;
    Ok(shop)
}

#[tokio::test]
async fn a_secret_of_every_kind_is_in_nothing_that_is_said_written_or_sent() -> Result<()> {
    let mut shop = open().await?;
    // Everything that the log can say.
    shop.set_env("FAILOVERD_LOG", "failoverd=trace,info");
    let mut daemon = shop.up_again().await?;
    shop.sees("every probe", |status| status.probes.iter().all(|probe| probe.last_seen.is_some())).await?;
    shop.break_api();
    let incident = shop.asks().await?;
    let id = incident.id.as_str();
    for verb in [
        vec!["check"],
        vec!["plan", "failover"],
        vec!["status"],
        vec!["explain"],
        vec!["incidents", id],
        vec!["notices"],
        vec!["readiness"],
        vec!["approve", id, "--yes"],
    ] {
        let _any_exit = shop.run(&verb).await?;
        let _any_exit = shop.run(&[verb.as_slice(), &["--json"]].concat()).await?;
    }
    let run = shop.ended().await?;
    let told = serde_json::to_string(&run)?;
    has(&told, &["status 403", "exit code 7"]);
    eventually(SOON, "what was not delivered", async || {
        let text = shop.ok(&["notices"]).await?;
        for route in ["lost", "pager", "genie", "slack", "mail"] {
            ensure!(text.contains(route), "{route} is not in\n{text}");
        }
        Ok(())
    })
    .await?;
    shop.heal_api();
    shop.incident("the end of the incident", |incident| incident.closed.is_some()).await?;
    let run_id = run.id.to_string();
    for verb in [
        vec!["runs"],
        vec!["runs", &run_id],
        vec!["report", id],
        vec!["report", id, "--html"],
        vec!["replay", id],
        vec!["audit", "verify"],
        vec!["scorecard"],
        vec!["matrix"],
        vec!["slo"],
        vec!["duty", "list"],
        vec!["pause"],
        vec!["resume"],
        vec!["failover", "outage", "--yes"],
        vec!["drill"],
        vec!["backtest", "--history", "--probe-interval", "1s"],
        vec!["abort"],
    ] {
        let _any_exit = shop.run(&verb).await?;
    }
    routes(&shop, id, &run_id).await?;
    ensure!(!shop.get("/metrics").await?.1.is_empty());
    daemon.signal(rustix::process::Signal::HUP)?;
    daemon.wait_log(SOON, "configuration reloaded").await?;
    ensure!(shop.hooks.seen().iter().any(|seen| seen.path.contains("canary-hook")), "the hook was told");
    // There is something to be looked through.
    ensure!(daemon.stderr().lines().count() > 50, "{}", daemon.stderr());
    ensure!(shop.state().exists() && !shop.journal()?.is_empty());
    stop(&mut daemon).await
}

/// What the socket answers, as it is.
async fn routes(shop: &Shop, incident: &str, run: &str) -> Result<()> {
    let paths = [
        "status",
        "explain",
        "incidents",
        "runs",
        "notices",
        "evidence",
        "scorecard",
        "readiness",
        &format!("incidents/{incident}/report"),
        &format!("runs/{run}"),
        "nothing",
    ]
    .map(str::to_owned);
    let client = reqwest::Client::builder().unix_socket(shop.socket()).build()?;
    for path in paths {
        let answer = client.request(Method::GET, format!("http://failoverd/v1/{path}")).send().await?;
        let text = answer.text().await.with_context(|| path.clone())?;
        ensure!(!text.is_empty(), "{path}");
        canary::look(&path, text.as_bytes());
    }
    Ok(())
}

/// Mistakes are told with the lines that they are in; a secret that stands there is hidden.
#[tokio::test]
async fn a_secret_that_is_written_into_the_file_is_in_no_fault() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    for wrong in [
        "[probes.x]\npostgres = { url = \"postgresql://u:SECRET@db.example/x\" }\n",
        "[probes.x]\nhttp = { url = \"https://x.example/\", headers = { authorization = \"Bearer SECRET\" } }\n",
        "[probes.x]\nhttp = { url = \"https://x.example/?token=SECRET\", metod = \"GET\" }\n",
        "[notify.x]\nslack = { webhook = \"https://hooks.slack.com/services/T0/B0/SECRET\" }\n",
        "[notify.x]\npagerduty = { routing_key = \"SECRET\" }\n",
        "[notify.x]\nemail = { host = \"h\", username = \"u\", password = \"SECRET\", from = \"a@b.c\", to = [] }\n",
        "[links]\nurl = \"https://x.example\"\nlisten = \"127.0.0.1:1\"\nkey = \"SECRET\"\n",
        "[plans.failover.steps.x]\nhttp.request = { url = \"https://u:SECRET@x.example/\" }\n",
        "[plans.failover.steps.x]\nexec.run = { argv = [\"/bin/true\"], env = { API_TOKEN = \"SECRET\" } }\n",
    ] {
        shop.configure(Sketch { more: &wrong.replace("SECRET", &secret("written")), ..Sketch::default() })?;
        for verb in [["check"].as_slice(), &["check", "--json"], &["run"], &["status"]] {
            let done = shop.run(verb).await?;
            ensure!(!done.status.success(), "{verb:?} takes {wrong}");
        }
    }
    Ok(())
}

#[test]
fn a_canary_is_found_as_it_is_and_in_base64() -> Result<()> {
    let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let secret = secret("x");
    for text in [
        format!("a line\nwith {secret} in it"),
        encoded(&secret),
        encoded(&format!("u:{secret}")),
        encoded(&format!("us:{secret}")),
        encoded(&format!("use:{secret}")),
    ] {
        ensure!(canary::found(text.as_bytes()).is_some(), "{text}");
    }
    ensure!(canary::found(b"nothing").is_none());
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("below"))?;
    std::fs::write(folder.path().join("below/state.db"), secret)?;
    let looked = std::panic::catch_unwind(|| canary::look_below(Path::new(folder.path())));
    ensure!(looked.is_err(), "a file was passed over");
    Ok(())
}
