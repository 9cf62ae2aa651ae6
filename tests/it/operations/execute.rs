//! Plans that a person carries out: parameters, dry run, tasks, and a crash in between.

use anyhow::Result;
use failoverd::core::view::StepStateView;
use failoverd::model::RunResult;

use super::shop::{SOON, Shop, Sketch, has};
use crate::fleet::eventually;

const PLANS: &str = r#"
[plans.announce]
[plans.announce.parameters.what]
[plans.announce.steps.say]
http.request = { url = "HOOKS/say", idempotent = true, body = "{{ run.id }}: {{ param.what }}" }

[plans.scale]
[plans.scale.parameters.deployment]
[plans.scale.steps.first]
http.request = { url = "HOOKS/first", idempotent = true }
[plans.scale.steps.more]
after = ["first"]
kubernetes.scale = { deployment = { param = "deployment" }, replicas = 3 }

[plans.restore]
description = "back to a moment"
[plans.restore.parameters.at]
type = "time"
description = "the moment"
[plans.restore.parameters.replicas]
type = "integer"
default = 2
[plans.restore.steps.drain]
only_in = "graceful"
http.request = { url = "HOOKS/drain", idempotent = true }
[plans.restore.steps.stop]
after = ["drain"]
for_each = ["api", "jobs"]
http.request = { url = { join = ["HOOKS/stop/", { item = "value" }] }, idempotent = true, json = { at = { param = "at" }, n = { param = "replicas" } } }
[plans.restore.steps.tell]
after = ["stop"]
run_plan = { plan = "announce", with = { what = "it is over" } }
[plans.restore.steps.officer]
post_recovery = true
task = { message = "call the officer about {{ run.id }}" }
timeout = "72h"
"#;

async fn open() -> Result<Shop> {
    Shop::open(Sketch { more: PLANS, ..Sketch::default() }).await
}

#[tokio::test]
async fn a_plan_is_looked_at_and_carried_out_with_its_parameters() -> Result<()> {
    let shop = open().await?;
    has(&shop.ok(&["plan", "restore"]).await?, &["stop.api", "tell.say", "known only later", "officer"]);
    has(&shop.fails(2, &["plan", "restore", "--set", "at=noon"]).await?, &["`noon` is not a moment"]);
    has(&shop.ok(&["plan", "restore", "--set", "at=2026-01-15T03:30:00Z"]).await?, &["nothing to look at"]);
    let _daemon = shop.start().await?;
    let execute = ["execute", "restore", "--yes"];
    has(&shop.fails(2, &execute).await?, &["the parameter `at` (the moment) is missing"]);
    has(&shop.fails(1, &["execute", "restor", "--yes"]).await?, &["there is no plan restor", "restore"]);
    has(&shop.fails(2, &["execute", "restore", "--set", "at"]).await?, &["NAME=VALUE"]);
    let given = ["--set", "at=2026-01-15T03:30:00Z", "--set", "replicas=5"];
    has(&shop.ok(&[&execute[..], &given].concat()).await?, &["run RUN-", "started"]);
    let run = shop.ended().await?;
    assert_eq!(run.result, Some(RunResult::Done));
    assert_eq!(shop.hooks.seen_at("/drain"), 0, "a step of graceful runs");
    let seen = shop.hooks.seen();
    let body = |path: &str| seen.iter().find(|seen| seen.path == path).map(|seen| seen.body.clone());
    assert_eq!(body("/stop/jobs").as_deref(), Some(r#"{"at":"2026-01-15T03:30:00Z","n":5}"#));
    assert_eq!(body("/say"), Some(format!("{}: it is over", run.id)));
    // The task is open although the run has ended, and a restart does not forget it.
    has(&shop.ok(&["status"]).await?, &[&format!("call the officer about {}", run.id), "step done officer"]);
    shop.ok(&[&execute[..], &given, &["--graceful"]].concat()).await?;
    eventually(SOON, "the graceful run to drain", async || {
        anyhow::ensure!(shop.hooks.seen_at("/drain") == 1);
        Ok(())
    })
    .await?;
    shop.ended().await?;
    has(&shop.fails(1, &["step", "done", "officer"]).await?, &["several runs left a task officer open"]);
    has(&shop.ok(&["step", "done", "officer", "--run", run.id.as_str(), "--note", "told"]).await?, &["is done"]);
    has(&shop.ok(&["runs", run.id.as_str()]).await?, &["done by", "told"]);
    Ok(())
}

/// Before the first step, and not at the step that cannot be made.
#[tokio::test]
async fn a_value_that_a_step_cannot_take_is_refused_before_the_run() -> Result<()> {
    let shop = open().await?;
    let says = ["step more", "parameter `deployment` = `Bad_Name`", "does not name a Deployment", "namespace/name"];
    has(&shop.fails(2, &["plan", "scale", "--set", "deployment=Bad_Name"]).await?, &says);
    let _daemon = shop.start().await?;
    has(&shop.fails(2, &["execute", "scale", "--yes", "--set", "deployment=Bad_Name"]).await?, &says);
    assert!(shop.client()?.runs().await?.is_empty());
    assert_eq!(shop.hooks.seen_at("/first"), 0);
    let commands = shop.commands()?;
    has(&commands[0].2, &["refused", "parameter `deployment`"]);
    Ok(())
}

#[tokio::test]
async fn a_run_by_hand_goes_on_after_a_crash_with_what_it_was_given() -> Result<()> {
    let shop = open().await?;
    shop.hooks.hold("/stop/api");
    let mut daemon = shop.start().await?;
    shop.ok(&["execute", "restore", "--yes", "--set", "at=2026-01-15T03:30:00Z"]).await?;
    shop.step("stop.api", StepStateView::Applying).await?;
    daemon.kill9();
    shop.hooks.release("/stop/api");
    let _daemon = shop.up(shop.verb(&["run"]).start()?).await?;
    let run = shop.ended().await?;
    assert_eq!(run.result, Some(RunResult::Done));
    let bodies = shop.hooks.seen().into_iter().filter(|seen| seen.path.starts_with("/stop/"));
    assert!(bodies.into_iter().all(|seen| seen.body == r#"{"at":"2026-01-15T03:30:00Z","n":2}"#));
    Ok(())
}
