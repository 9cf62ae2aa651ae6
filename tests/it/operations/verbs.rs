//! What the person on call types, from the page to the end.

use anyhow::Result;
use failoverd::model::{Decision, HoldReason, RunResult};

use super::shop::{PLAN, Shop, Sketch, has};

#[tokio::test]
async fn in_peace_every_verb_has_an_answer() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    has(&shop.fails(4, &["status"]).await?, &["no failoverd answers on", "systemctl status failoverd"]);
    let _daemon = shop.start().await?;
    has(&shop.ok(&["status"]).await?, &["shop", "mode auto", "outage", "api", "backup", "up"]);
    let status = shop.json(&["status"]).await?;
    assert_eq!((&status["name"], &status["mode"]), (&"shop".into(), &"auto".into()));
    assert_eq!(status["probes"].as_array().map(Vec::len), Some(2));
    let explain = shop.ok(&["explain", "outage"]).await?;
    has(&explain, &["outage  P0, mode auto", "api is down", "It would act once the condition holds"]);
    assert_eq!(shop.json(&["explain"]).await?[0]["name"], "outage");
    has(&shop.fails(1, &["explain", "outge"]).await?, &["no scenario", "outage"]);
    has(&shop.ok(&["runs"]).await?, &["no run yet"]);
    assert_eq!(shop.json(&["runs"]).await?.as_array().map(Vec::len), Some(0));
    assert_eq!(shop.json(&["incidents"]).await?.as_array().map(Vec::len), Some(0));
    has(&shop.ok(&["incidents"]).await?, &["no incident"]);
    for verb in ["ack", "deny"] {
        has(&shop.fails(1, &[verb]).await?, &["no incident"]);
    }
    has(&shop.fails(1, &["approve"]).await?, &["no incident waits for approval"]);
    has(&shop.fails(3, &["abort"]).await?, &["no run is active"]);
    has(&shop.fails(3, &["step", "retry", "switch"]).await?, &["no run is active"]);
    has(&shop.fails(1, &["runs", "RUN-1"]).await?, &["there is no run `RUN-1`"]);
    let error = shop.fails(3, &["abort", "--json"]).await?;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&error)?["code"], "not_now");
    Ok(())
}

/// Mode approve: asked, acknowledged, denied, approved after all, carried out.
#[tokio::test]
async fn from_the_page_to_the_end() -> Result<()> {
    let shop = Shop::open(Sketch { mode: "approve", ..Sketch::default() }).await?;
    let _daemon = shop.start().await?;
    shop.break_api();
    let incident = shop.asks().await?;
    let id = incident.id.as_str();
    shop.told(&format!("failoverd approve {id}")).await?;
    has(&shop.ok(&["status"]).await?, &[&format!("failoverd approve {id}"), "RTO ends in", "503"]);
    has(
        &shop.ok(&["explain"]).await?,
        &[&format!("`failoverd approve {id}` is given; last moment"), "(in ", "decide by"],
    );
    let decision = &shop.json(&["explain"]).await?[0]["decision"];
    assert!(
        decision["ask_approval"]["until"].is_number() || decision["ask_approval"]["until"].is_string(),
        "{decision}"
    );

    has(&shop.ok(&["ack"]).await?, &[&format!("{id} acknowledged")]);
    has(&shop.ok(&["ack", id]).await?, &["already acknowledged"]);
    has(&shop.ok(&["deny"]).await?, &["denied"]);
    shop.incident("the denial", |incident| {
        matches!(incident.decision, Some(Decision::Hold(HoldReason::Denied { .. })))
    })
    .await?;
    has(&shop.ok(&["explain"]).await?, &["denied", "denied by root (uid 0)"]);
    assert_eq!(shop.hooks.requests(), 0);

    // Nothing asks any more, but a person may change their mind, by name.
    has(&shop.fails(1, &["approve"]).await?, &["no incident waits"]);
    has(&shop.ok(&["approve", id]).await?, &["approved: run RUN-"]);
    let run = shop.ended().await?;
    assert_eq!(
        (run.result, shop.hooks.seen_at("/prepare"), shop.hooks.seen_at("/switch")),
        (Some(RunResult::Done), 1, 1)
    );
    has(&shop.fails(3, &["approve", id]).await?, &[run.id.as_str()]);

    has(&shop.ok(&["runs"]).await?, &[run.id.as_str(), "DONE", "met"]);
    has(
        &shop.ok(&["runs", run.id.as_str()]).await?,
        &["approved by root (uid 0)", "switch", "done", "time      detect"],
    );
    assert_eq!(shop.json(&["runs", run.id.as_str()]).await?["result"], "done");
    has(
        &shop.ok(&["incidents", id]).await?,
        &["acknowledged by root", "denied by root", "approved by root", "step switch: done", "ended: done"],
    );
    assert_eq!(shop.json(&["incidents", id]).await?["run"], run.id.as_str());
    shop.heal_api();
    shop.incident("the end of the incident", |incident| incident.closed.is_some()).await?;
    has(&shop.fails(3, &["ack", id]).await?, &["is closed"]);
    shop.told("outage is over").await
}

/// An answer is bound to the plan that was shown: after a reload it is asked anew.
#[tokio::test]
async fn an_answer_to_the_old_plan_is_none_to_the_new_one() -> Result<()> {
    let sketch = Sketch { mode: "approve", ..Sketch::default() };
    let shop = Shop::open(sketch).await?;
    let mut daemon = shop.start().await?;
    shop.break_api();
    let old = shop.asks().await?;
    let hash = |asked: &failoverd::core::view::IncidentView| asked.approval.as_ref().map(|one| one.plan_hash.clone());
    has(&shop.ok(&["pause"]).await?, &["paused"]);
    has(&shop.ok(&["approve"]).await?, &["not started yet", "paused by root"]);
    shop.configure(Sketch { plan: &PLAN.replace("/switch", "/switch-over"), ..sketch })?;
    daemon.signal(rustix::process::Signal::HUP)?;
    daemon.wait_log(super::shop::SOON, "configuration reloaded").await?;
    has(&shop.ok(&["resume"]).await?, &["resumed"]);
    let new = shop.incident("the new question", |asked| hash(asked).is_some() && hash(asked) != hash(&old)).await?;
    assert_eq!(shop.hooks.requests(), 0, "the old answer carried out the new plan");
    has(&shop.ok(&["approve", new.id.as_str()]).await?, &["approved: run RUN-"]);
    assert_eq!(shop.ended().await?.result, Some(RunResult::Done));
    assert_eq!((shop.hooks.seen_at("/switch"), shop.hooks.seen_at("/switch-over")), (0, 1));
    Ok(())
}

#[tokio::test]
async fn failover_by_hand_asks_first_and_is_counted_once() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let _daemon = shop.start().await?;
    has(&shop.fails(2, &["failover", "outage"]).await?, &["plan         failover", "say --yes"]);
    has(&shop.fails(1, &["failover", "outge", "--yes"]).await?, &["did you mean `outage`?"]);
    assert_eq!(shop.hooks.requests(), 0);
    let told = shop.ok(&["failover", "outage", "--yes", "--watch"]).await?;
    has(&told, &["run RUN-", "started", "by hand: root (uid 0)", "DONE", "switch"]);
    assert_eq!(shop.hooks.seen_at("/switch"), 1);
    let answer = shop.json(&["failover", "outage", "--yes"]).await?;
    assert!(answer["run"].as_str().is_some_and(|run| run.starts_with("RUN-")), "{answer}");
    shop.ended().await?;
    let (_, metrics) = shop.get("/metrics").await?;
    has(&metrics, &["failoverd_commands_total{command=\"failover\",result=\"done\"} 2\n"]);
    let commands = shop.commands()?;
    assert_eq!(commands.iter().filter(|(by, what, _)| by == "root (uid 0)" && what.contains("failover")).count(), 2);
    Ok(())
}
