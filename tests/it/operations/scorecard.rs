//! What alert-only mode would have done, graded; objectives of services; anchors sent away.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use failoverd::model::Decision;

use super::shop::{SOON, Shop, Sketch, has, stop};
use crate::fleet::eventually;

const MORE: &str = r#"
[services.shop]
slo = "99.95%"
[audit]
anchor_every = "1s"
routes = ["vault"]
[notify.vault]
webhook = { url = "HOOKS/vault" }
"#;

#[tokio::test]
async fn what_it_would_have_done_is_graded_and_counts_against_the_objective() -> Result<()> {
    let shop = Shop::open(Sketch { mode: "alert-only", more: MORE, ..Sketch::default() }).await?;
    let mut daemon = shop.start().await?;
    shop.break_api();
    let incident = shop.incident("the alert", |incident| incident.decision == Some(Decision::Alert)).await?;
    let id = incident.id.as_str();
    has(&shop.fails(3, &["grade", id, "right"]).await?, &["is open: grade it when it is over"]);
    shop.heal_api();
    shop.incident("the end", |incident| incident.closed.is_some()).await?;
    has(&shop.ok(&["scorecard"]).await?, &[id, "outage", "failover", "/ 2 min", "0 of 1 incident graded"]);
    has(&shop.ok(&["grade", id, "right", "--note", "it was down"]).await?, &["is graded right"]);
    has(&shop.ok(&["scorecard"]).await?, &["right by root", "it was down", "1 right: precision 100%"]);
    has(&shop.ok(&["report", id]).await?, &["graded that right", "Of the error budget of 21m 36s"]);
    has(&shop.ok(&["slo"]).await?, &["shop", "99.95%", "30d", "21 min"]);
    has(&shop.ok(&["status"]).await?, &["slo shop: 99.99", "over 30d"]);
    eventually(SOON, "the metrics", async || {
        let text = shop.get("/metrics").await?.1;
        let wanted = [
            "failoverd_scorecard{grade=\"right\",scenario=\"outage\"} 1",
            "failoverd_slo_target_ratio{service=\"shop\"} 0.9995",
        ];
        ensure!(wanted.iter().all(|line| text.contains(line)), "{text}");
        ensure!(text.contains("failoverd_slo_budget_left_ratio{service=\"shop\"} 0.9"), "{text}");
        Ok(())
    })
    .await?;
    // A crash does not lose it, and a stopped daemon's state has it as well.
    daemon.kill9();
    let card = shop.json(&["scorecard", "--state"]).await?;
    assert_eq!((&card["precision"], &card["rows"][0]["grade"]["grade"]), (&1.0.into(), &"right".into()), "{card}");
    has(&shop.ok(&["scorecard", "--state", "--markdown"]).await?, &["# Scorecard", "precision 100%"]);
    Ok(())
}

#[tokio::test]
async fn anchors_that_were_sent_away_show_that_the_end_was_cut_off() -> Result<()> {
    let shop = Shop::open(Sketch { more: MORE, ..Sketch::default() }).await?;
    let mut daemon = shop.start().await?;
    let sent = || {
        let seen = shop.hooks.seen().into_iter().filter(|seen| seen.path == "/vault");
        seen.map(|seen| seen.body).collect::<Vec<_>>()
    };
    let many = async |wanted: usize| {
        eventually(SOON, "anchors", async || {
            let sent = sent();
            ensure!(sent.len() >= wanted, "{sent:#?}");
            Ok(())
        })
        .await
    };
    many(1).await?;
    shop.ok(&["pause"]).await?;
    many(2).await?;
    shop.ok(&["resume"]).await?;
    stop(&mut daemon).await?;
    // The last one is of the clean end: nothing of the journal is behind it.
    let records = shop.journal()?.len();
    many(3).await?;
    let sent = sent();
    ensure!(sent.iter().all(|body| body.contains("\"kind\":\"anchor\"")), "a page went to it: {sent:#?}");
    ensure!(sent.last().context("none")?.contains(&format!("\"body\":\"{records}:")), "{records}: {sent:#?}");
    let others = shop.notices();
    ensure!(!others.iter().any(|subject| subject.contains("anchor of the journal")), "{others:#?}");

    let file = shop.dir().join("anchors.jsonl");
    std::fs::write(&file, sent.join("\n"))?;
    let file = file.display().to_string();
    has(&shop.ok(&["audit", "verify", "--anchors-from", &file]).await?, &["fits"]);
    let sql = format!("DELETE FROM journal WHERE seq > {}", records - 1);
    let script =
        format!("import sqlite3; c=sqlite3.connect('{}'); c.execute(\"{sql}\"); c.commit()", shop.state().display());
    ensure!(Command::new("python3").args(["-c", &script]).status()?.success(), "python3");
    has(&shop.ok(&["audit", "verify"]).await?, &["is whole"]);
    let done = shop.run(&["audit", "verify", "--anchors-from", &file]).await?;
    assert_eq!(done.status.code(), Some(1), "{}{}", done.stdout, done.stderr);
    has(&done.stdout, &["fits", "CUT OFF"]);
    has(&done.stderr, &[&format!("the anchor of record {records} does not fit"), "was cut off", "nothing was changed"]);
    std::fs::write(&file, "5:beef\n")?;
    has(&shop.fails(2, &["audit", "verify", "--anchors-from", &file]).await?, &["line 1 is neither"]);
    Ok(())
}
