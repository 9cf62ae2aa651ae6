//! What is seen is not what it seems: a primary that answers after all, a backup that is no better,
//! a flapping service, and a daemon that is cut off itself. Nothing is changed.

use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::core::view::StepStateView;
use failoverd::model::{Health, RunResult};

use crate::fleet::eventually;
use crate::fleet::http_app::Answer;
use crate::fleet::proxy::{Mode, Proxy};
use crate::operations::shop::{SOON, Shop, Sketch, has, state_of};

#[tokio::test]
async fn a_primary_that_answers_at_the_last_look_is_not_failed_over() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let _daemon = shop.start().await?;
    // Nothing is answered; the last look waits for its answer as each probe did.
    shop.api.hold("/health");
    let looking = shop.newest_run("the last look", |run| run.last_look).await?;
    ensure!(state_of(&looking, "prepare") == Some(StepStateView::Waiting), "{looking:?}");
    shop.api.release("/health");
    let run = shop.ended().await?;
    assert_eq!((run.id, run.result), (looking.id, Some(RunResult::Aborted)));
    assert_eq!(run.aborting_by.as_deref(), Some("the primary answered at the last look"));
    assert_eq!(shop.hooks.requests(), 0, "something was changed");
    shop.told("the primary answered at the last look").await?;
    shop.incident("the end of the incident", |incident| incident.closed.is_some()).await?;
    assert_eq!(shop.client()?.runs().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_unhealthy_backup_holds_and_pages() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let _daemon = shop.start().await?;
    shop.backup.set(Some(Answer::status(503)));
    shop.sees("the backup down", |status| health(status, "backup") == Health::Down).await?;
    shop.break_api();
    shop.told("nothing healthy to fail over to").await?;
    has(&shop.ok(&["explain"]).await?, &["hold", "nothing healthy to fail over to", "backup"]);
    assert_eq!((shop.client()?.runs().await?.len(), shop.hooks.requests()), (0, 0));
    // It holds no longer than it has to.
    shop.backup.set(None);
    assert_eq!(shop.ended().await?.result, Some(RunResult::Done));
    Ok(())
}

#[tokio::test]
async fn a_flapping_primary_is_not_failed_over() -> Result<()> {
    let shop = Shop::open(Sketch::default()).await?;
    let _daemon = shop.start().await?;
    shop.api.flap(true);
    let before = shop.api.requests();
    eventually(SOON, "many looks", async || {
        ensure!(shop.api.requests() > before + 40, "{} so far", shop.api.requests() - before);
        Ok(())
    })
    .await?;
    let client = shop.client()?;
    assert!(client.runs().await?.is_empty() && client.incidents().await?.is_empty(), "{:?}", client.status().await?);
    assert_eq!(shop.hooks.seen_at("/prepare"), 0);
    Ok(())
}

/// Anchors that do not answer: it is we who are cut off. What was Down is Unknown, nothing is done,
/// and people are told; when the anchors are back, the outage is real.
#[tokio::test]
async fn everything_unknown_holds_and_pages() -> Result<()> {
    let elsewhere = crate::fleet::http_app::LocalApp::start("elsewhere").await?;
    let anchor = Proxy::to_port(elsewhere.port()).await?;
    let more = format!("[anchors]\ntcp = [\"{}\"]\nat_least = 1\n", anchor.addr());
    let shop = Shop::open(Sketch { more: &more, ..Sketch::default() }).await?;
    let _daemon = shop.start().await?;
    anchor.set(Mode::Refuse).await?;
    shop.break_api();
    let status = shop.sees("that it is cut off", |status| status.isolated).await?;
    shop.sees("its votes withdrawn", |status| health(status, "api") == Health::Unknown).await?;
    ensure!(status.run.is_none(), "{status:?}");
    shop.told("cannot tell whether outage holds: api (anchors unreachable: ").await?;
    has(&shop.ok(&["explain"]).await?, &["anchors"]);
    // Longer than the confirmation takes.
    shop.sees("a while", |now| now.at.since(status.at) > Duration::from_secs(1)).await?;
    assert_eq!((shop.client()?.runs().await?.len(), shop.hooks.requests()), (0, 0));
    anchor.set(Mode::Pass).await?;
    assert_eq!(shop.ended().await?.result, Some(RunResult::Done));
    Ok(())
}

fn health(status: &failoverd::core::view::StatusView, probe: &str) -> Health {
    status.probes.iter().find(|one| one.name.as_str() == probe).map_or(Health::Unknown, |one| one.health)
}
