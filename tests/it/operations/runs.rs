//! A run that somebody takes a hand in: abort, pause, retry, skip, approve.

use anyhow::Result;
use failoverd::core::view::StepStateView;
use failoverd::model::RunResult;

use super::shop::{SOON, Shop, Sketch, has, state_of};
use crate::fleet::http_app::Answer;
use crate::fleet::kube::{BACKUP_CONTEXT, Kube};

/// Scales before its point of no return, and asks there; what comes after cannot be taken back.
const SCALE_AND_ASK: &str = r#"
[plans.failover]
point_of_no_return = "switch"
[plans.failover.steps.scale]
kubernetes.scale = { context = "CONTEXT", deployment = "shop/api", replicas = 6 }
estimate = "1s"
[plans.failover.steps.ask]
after = ["scale"]
approval = { message = "Shall the traffic move?" }
estimate = "1s"
[plans.failover.steps.switch]
after = ["ask"]
http.request = { url = "HOOKS/switch", effect = "route", idempotent = true }
estimate = "1s"
[plans.failover.steps.pay]
after = ["switch"]
approval = { message = "Shall the payments move?" }
estimate = "1s"
"#;

#[tokio::test]
async fn abort_undoes_before_the_point_of_no_return_and_is_refused_after_it() -> Result<()> {
    let kube = Kube::stand_in().await?;
    kube.create_deployment("shop", "api", 2).await?;
    kube.wait_ready("shop", "api", 2, SOON).await?;
    let plan = SCALE_AND_ASK.replace("CONTEXT", BACKUP_CONTEXT);
    let mut shop = Shop::open(Sketch { plan: &plan, ..Sketch::default() }).await?;
    shop.set_env("KUBECONFIG", kube.kubeconfig().display().to_string());
    let _daemon = shop.start().await?;

    shop.ok(&["failover", "outage", "--yes"]).await?;
    let run = shop.step("ask", StepStateView::Waiting).await?;
    shop.told("Shall the traffic move?").await?;
    assert_eq!(kube.replicas("shop", "api").await?, 6);
    has(&shop.fails(3, &["failover", "outage", "--yes"]).await?, &[run.id.as_str(), "is active"]);
    has(&shop.fails(3, &["step", "skip", "switch"]).await?, &["is not parked"]);
    has(&shop.fails(1, &["step", "approve", "sitch"]).await?, &["has no step sitch"]);
    has(&shop.ok(&["abort"]).await?, &["is undone, in the reverse order"]);
    let run = shop.ended().await?;
    assert_eq!(run.result, Some(RunResult::Aborted));
    assert_eq!(state_of(&run, "scale"), Some(StepStateView::Compensated));
    assert_eq!((kube.replicas("shop", "api").await?, shop.hooks.requests()), (2, 0));
    has(&shop.ok(&["runs", run.id.as_str()]).await?, &["ABORTED", "undone"]);
    has(&shop.fails(3, &["abort", run.id.as_str()]).await?, &["has ended"]);

    shop.ok(&["failover", "outage", "--yes"]).await?;
    shop.step("ask", StepStateView::Waiting).await?;
    has(&shop.ok(&["step", "approve", "ask"]).await?, &["step ask approved"]);
    let run = shop.step("pay", StepStateView::Waiting).await?;
    has(&shop.fails(3, &["abort"]).await?, &["past its point of no return (step switch)", "failoverd pause"]);
    assert!(shop.fails(3, &["abort", "--json"]).await?.contains("\"code\":\"point_of_no_return\""));
    has(&shop.ok(&["approve", "--step", run.id.as_str(), "pay"]).await?, &["step pay approved"]);
    assert_eq!(shop.ended().await?.result, Some(RunResult::Done));
    assert_eq!(kube.replicas("shop", "api").await?, 6);
    Ok(())
}

#[tokio::test]
async fn a_parked_run_is_retried_or_goes_on_without_the_step() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let _daemon = shop.start().await?;
    shop.hooks.set_path("/prepare", Some(Answer::status(400)));
    shop.hooks.set_path("/switch", Some(Answer::status(400)));
    shop.break_api();
    let run = shop.step("prepare", StepStateView::Parked).await?;
    shop.told(&format!("run {} is parked at step prepare", run.id)).await?;
    has(&shop.ok(&["status"]).await?, &["PARKED", "failoverd step retry prepare", "failoverd step skip prepare"]);
    has(&shop.fails(3, &["step", "approve", "prepare"]).await?, &["does not wait for an approval"]);

    shop.hooks.set_path("/prepare", None);
    has(&shop.ok(&["step", "retry", "prepare"]).await?, &["tried again: it looks first"]);
    shop.step("switch", StepStateView::Parked).await?;
    assert_eq!(shop.hooks.seen_at("/prepare"), 2);
    let answer = shop.json(&["step", "skip", "switch", "--run", run.id.as_str()]).await?;
    assert_eq!(answer["run"], run.id.as_str());
    let run = shop.ended().await?;
    assert_eq!(run.result, Some(RunResult::Done));
    assert_eq!(state_of(&run, "switch"), Some(StepStateView::Skipped));
    assert_eq!(shop.hooks.seen_at("/switch"), 1, "it was skipped, not called again");
    has(&shop.ok(&["incidents", run.incident.as_ref().map_or("", |id| id.as_str())]).await?, &["skipped by root"]);
    Ok(())
}

/// What is out finishes; nothing is begun before the pause ends.
#[tokio::test]
async fn pause_holds_a_run_at_the_boundary_of_a_step() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let _daemon = shop.start().await?;
    shop.hooks.hold("/prepare");
    shop.break_api();
    shop.step("prepare", StepStateView::Applying).await?;
    has(&shop.ok(&["pause"]).await?, &["a step that is under way finishes"]);
    has(&shop.ok(&["pause"]).await?, &["already paused by root"]);
    shop.hooks.release("/prepare");
    shop.step("prepare", StepStateView::Done).await?;
    // Several rounds of the loop, each of which would begin the step if it could.
    let client = shop.client()?;
    let first = client.status().await?.at;
    let status = shop.sees("half a second more", |status| status.at.since(first).as_millis() > 500).await?;
    assert_eq!(status.run.as_ref().and_then(|run| state_of(run, "switch")), Some(StepStateView::Pending));
    assert_eq!(shop.hooks.seen_at("/switch"), 0);
    has(&shop.ok(&["status"]).await?, &["PAUSED by root (uid 0)"]);
    has(&shop.ok(&["resume"]).await?, &["resumed"]);
    has(&shop.ok(&["resume"]).await?, &["not paused"]);
    assert_eq!(shop.ended().await?.result, Some(RunResult::Done));
    assert_eq!((shop.hooks.seen_at("/prepare"), shop.hooks.seen_at("/switch")), (1, 1));
    Ok(())
}
