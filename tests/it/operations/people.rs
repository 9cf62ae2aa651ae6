//! Who is told, who answers, and what is left to do: with the real daemon.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::shop::{SOON, Shop, Sketch, has, stop};
use crate::fleet::eventually;
use crate::fleet::http_app::Answer;

const TIER: &str = r#"
[severities.P0]
respond_within = "300ms"
update_every = "500ms"
escalate = [{ after = "0s", routes = ["pager"], to = "L1" }, { after = "600ms", routes = ["boss"], to = "L2" }]
duties = [{ name = "post-mortem", after = "48h", from = "closed", message = "Write the post-mortem." }]
[severities.P1]
[notify.pager]
webhook = { url = "HOOKS/pager" }
[notify.boss]
webhook = { url = "HOOKS/boss" }
[notify.clients]
audience = "customers"
webhook = { url = "HOOKS/clients" }
[templates.customers]
body = "Stage: {{ stage }}.{% if next_update %} More at {{ next_update }}.{% endif %}"
"#;

/// What came to a path of the hooks.
fn sent(shop: &Shop, path: &str) -> Vec<Value> {
    let of = shop.hooks.seen().into_iter().filter(|seen| seen.path == path);
    of.filter_map(|seen| serde_json::from_str(&seen.body).ok()).collect()
}

async fn came(shop: &Shop, path: &str, kind: &str) -> Result<Value> {
    eventually(SOON, &format!("{kind} at {path}"), async || {
        let all = sent(shop, path);
        let one = all.iter().find(|notice| notice["kind"] == *kind).cloned();
        one.with_context(|| format!("{all:#?}"))
    })
    .await
}

#[tokio::test]
async fn a_ladder_is_climbed_until_somebody_answers_and_a_duty_is_left() -> Result<()> {
    let shop = Shop::open(Sketch { mode: "approve", more: TIER, ..Sketch::default() }).await?;
    let mut daemon = shop.start().await?;
    shop.break_api();
    came(&shop, "/pager", "incident_opened").await?;
    assert!(sent(&shop, "/boss").is_empty(), "it is not their turn");
    came(&shop, "/pager", "unanswered").await?;
    let told = came(&shop, "/boss", "escalated").await?;
    has(told["subject"].as_str().context("a subject")?, &["nobody has answered", "L2 is told", "failoverd ack INC-"]);
    has(&shop.ok(&["status"]).await?, &["nobody has answered, LATE, told: L1, L2", "failoverd ack INC-"]);
    came(&shop, "/clients", "status_update").await?;
    let metrics =
        ["failoverd_response_overdue{scenario=\"outage\"} 1", "failoverd_escalations_total{severity=\"P0\"} 2"];
    eventually(SOON, "the metrics", async || {
        let text = shop.get("/metrics").await?.1;
        ensure!(metrics.iter().all(|line| text.contains(line)), "{text}");
        Ok(())
    })
    .await?;
    shop.ok(&["ack"]).await?;
    has(&shop.ok(&["status"]).await?, &["answered by"]);
    // Also the life that comes after a crash knows who has answered, and tells nobody again.
    daemon.kill9();
    let mut daemon = shop.up_again().await?;
    shop.heal_api();
    came(&shop, "/clients", "incident_closed").await?;
    assert_eq!(
        sent(&shop, "/boss").iter().filter(|notice| notice["kind"] == "escalated").count(),
        1,
        "told once, by two lives"
    );
    let customers = serde_json::to_string(&sent(&shop, "/clients"))?;
    has(&customers, &["Stage: investigating. More at 2", "Stage: resolved.", "Service disruption"]);
    for ours in ["outage", "api is down", "P0"] {
        assert!(!customers.contains(ours), "{ours}: {customers}");
    }
    let duty = shop.ok(&["duty", "list"]).await?;
    has(&duty, &["post-mortem", "Write the post-mortem.", "due in"]);
    let incident = shop.json(&["duty", "list"]).await?[0]["incident"].as_str().context("an incident")?.to_owned();
    has(&shop.fails(1, &["duty", "done", &incident, "postmortem"]).await?, &["no duty postmortem", "post-mortem"]);
    has(&shop.ok(&["duty", "done", &incident, "post-mortem", "--note", "in the wiki"]).await?, &["is done"]);
    has(&shop.ok(&["duty", "list"]).await?, &["No duty is open"]);
    has(&shop.ok(&["incidents", &incident]).await?, &["told to L2", "in the wiki"]);
    stop(&mut daemon).await
}

/// A route that never answers, one where nobody is, and one that refuses: the run takes its usual time.
#[tokio::test]
async fn nothing_of_failing_routes_delays_a_run_and_what_they_missed_is_listed() -> Result<()> {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let more = format!(
        "[notify.silent]\nfallback = \"chat\"\nwebhook = {{ url = \"http://{}/\" }}\n\
         [notify.nobody]\nwebhook = {{ url = \"http://127.0.0.1:1/\" }}\n\
         [notify.refuses]\nfallback = \"chat\"\nwebhook = {{ url = \"HOOKS/refuses\" }}\n",
        silent.local_addr()?
    );
    let shop = Shop::open(Sketch { more: &more, ..Sketch::default() }).await?;
    shop.hooks.set_path("/refuses", Some(Answer::status(503)));
    let mut daemon = shop.start().await?;
    shop.break_api();
    let run = shop.ended().await?;
    let took = run.ended.context("an end")?.since(run.outage_start);
    // One attempt of the silent route alone takes ten.
    assert!(took < Duration::from_secs(8), "{took:?}: {run:#?}");
    eventually(SOON, "the list of what was not delivered", async || {
        let text = shop.ok(&["notices"]).await?;
        for part in ["nobody", "refuses", "silent", "waiting", "status 503"] {
            ensure!(text.contains(part), "{part} is not in\n{text}");
        }
        Ok(())
    })
    .await?;
    shop.told("[for refuses, which does not take it]").await?;
    let listed = shop.json(&["notices"]).await?;
    let handed = listed.as_array().context("a list")?.iter().filter(|notice| notice["state"] == "handed_over");
    assert!(handed.count() > 0, "{listed:#}");
    stop(&mut daemon).await
}

/// Slack's thread of an incident is the same after a crash. The receiver is a double: it answers as
/// `chat.postMessage` is documented to.
#[tokio::test]
async fn a_thread_outlives_a_crash() -> Result<()> {
    let more = "[notify.slack]\nfrom = \"info\"\n\
        slack = { token = { env = \"SLACK_TOKEN\" }, channel = \"C1\", url = \"HOOKS\" }\n";
    let mut shop = Shop::open(Sketch { mode: "approve", more, ..Sketch::default() }).await?;
    shop.set_env("SLACK_TOKEN", "canary-xoxb-1");
    shop.hooks.set_path(
        "/chat.postMessage",
        Some(Answer { body: r#"{"ok":true,"ts":"17.1"}"#.into(), ..Answer::status(200) }),
    );
    let mut daemon = shop.start().await?;
    shop.break_api();
    shop.asks().await?;
    let posted = async |many: usize| {
        eventually(SOON, "messages", async || {
            let all = sent(&shop, "/chat.postMessage");
            ensure!(all.len() >= many, "{all:#?}");
            Ok(all)
        })
        .await
    };
    let first = posted(2).await?;
    assert_eq!((&first[0]["thread_ts"], &first[1]["thread_ts"]), (&Value::Null, &"17.1".into()));
    daemon.kill9();
    let mut daemon = shop.up_again().await?;
    shop.ok(&["ack"]).await?;
    let all = posted(first.len() + 1).await?;
    assert!(all[1..].iter().all(|message| message["thread_ts"] == "17.1"), "{all:#?}");
    stop(&mut daemon).await
}
