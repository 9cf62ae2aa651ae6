//! Messages: a route that fails delays nothing and nobody, and gets what it missed.

use failoverd::model::RunResult;

use crate::fleet::http_app::Answer;
use crate::fleet::until;
use crate::rig::{PATIENCE, Rig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_fails_delays_nothing_and_gets_what_it_missed() {
    let mut rig = Rig::start(&[]).await.unwrap();
    rig.world.chat.set(Some(Answer::status(503)));
    let mut daemon = rig.outage().await.unwrap();
    // One that a loaded machine made it give up before the first change is followed by another.
    let run = daemon.run("the run to be done", |run| run.result == Some(RunResult::Done)).await.unwrap();
    // The other route has everything.
    let inbox = rig.world.inbox().await.unwrap();
    inbox.wait_for(PATIENCE, run.id.as_str()).await.unwrap();
    daemon.ends().await.unwrap();
    let missed = rig.unsent().unwrap();
    assert!(!missed.is_empty() && missed.iter().all(|left| left.starts_with("chat: ")), "{missed:#?}");
    rig.world.chat.forget();
    rig.world.chat.set(None);
    let mut daemon = rig.life().unwrap();
    until(PATIENCE, "what the chat has missed", async || {
        let told = rig.told();
        ["incident_opened", "run_started", "run_ended"]
            .iter()
            .all(|kind| told.iter().any(|notice| notice["kind"] == *kind))
    })
    .await
    .unwrap();
    daemon.ends().await.unwrap();
    let left = rig.unsent().unwrap();
    assert!(left.is_empty(), "{left:#?}");
}
