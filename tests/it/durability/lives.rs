//! Several lives: killed at any time, killed again and again, ended in order, and started again under
//! another configuration.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use failoverd::core::view::StepStateView;
use failoverd::model::{Applied, Entry};
use failoverd::state::read_records;

use super::traces::{Traces, at_the_end, undisturbed};
use crate::fleet::moto::{Fault, HOLD, Kind};
use crate::fleet::{eventually, until};
use crate::rig::{Daemon, PATIENCE, Rig, step};

/// Numbers that differ from run to run of the test, and are printed with a failure.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let seed = now.as_nanos() as u64 | 1;
        println!("seed {seed}");
        Self(seed)
    }

    /// Xorshift; below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// An outage in which RDS has taken the promotion and does not come to an end with it.
async fn promoting(rig: &mut Rig) -> Daemon {
    rig.reset().await.unwrap();
    rig.world.moto.set_delay("rds_promote", HOLD).await.unwrap();
    let mut daemon = rig.outage().await.unwrap();
    daemon.run("RDS to promote", |run| step(run, "promote").state == StepStateView::Verifying).await.unwrap();
    daemon
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_time_and_again_the_run_ends_as_if_undisturbed() {
    let mut rig = Rig::start(&[]).await.unwrap();
    rig.world.keep().await.unwrap();
    let began = Instant::now();
    let expected = undisturbed(&mut rig).await.unwrap();
    // From the outage to the end of the run, about.
    let long = began.elapsed().as_millis() as u64;
    let mut dice = Dice::new();
    for _ in 0..4 {
        rig.reset().await.unwrap();
        let mut daemon = rig.outage().await.unwrap();
        // A life that ends before anything is written down leaves a hold for a person: see `boundaries`.
        until(PATIENCE, "the outage to be written down", async || rig.goes_on_by_itself().is_ok_and(|knows| knows))
            .await
            .unwrap();
        let mut pauses = Vec::new();
        for _ in 0..1 + dice.below(3) {
            // The moment is what is tried here; there is no condition to wait for.
            let pause = Duration::from_millis(dice.below(long));
            tokio::time::sleep(pause).await;
            daemon.running.kill9();
            pauses.push(pause);
            daemon = rig.life().unwrap();
        }
        let seen = at_the_end(&rig, &mut daemon).await.with_context(|| format!("killed after {pauses:?}")).unwrap();
        assert_eq!(seen, expected, "killed after {pauses:?}");
    }
}

/// No life goes further than a few appends. What was intended again and again and never sent must
/// not look like so many attempts that failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_the_run_still_gets_on() {
    let mut rig = Rig::start(&[]).await.unwrap();
    rig.world.keep().await.unwrap();
    let expected = undisturbed(&mut rig).await.unwrap();
    rig.reset().await.unwrap();
    let mut dice = Dice::new();
    let mut daemon = rig.outage().await.unwrap();
    daemon.run("a run", |_| true).await.unwrap();
    daemon.running.kill9();
    let mut lives = 1;
    let seen: Traces = loop {
        // The first append of a life says that it began; each goes a little further than that.
        let boundary = format!("append:{}:{}", 2 + dice.below(3), ["before", "after"][dice.below(2) as usize]);
        let mut daemon = rig.life_until(Some(&boundary)).unwrap();
        lives += 1;
        assert!(lives < 60, "the run does not get on");
        if !dies_or_ends(&mut daemon).await.unwrap() {
            break at_the_end(&rig, &mut daemon).await.unwrap();
        }
    };
    println!("{lives} lives");
    assert!(lives > 6, "only {lives} lives");
    assert_eq!(seen, expected);
}

/// `true` where it was killed by its crash point.
async fn dies_or_ends(daemon: &mut Daemon) -> Result<bool> {
    eventually(PATIENCE, "the daemon to be killed, or the run to end", async || {
        if !daemon.running.is_running() {
            return Ok(true);
        }
        let run = daemon.client.runs().await?.into_iter().next().context("there is no run")?;
        ensure!(run.ended.is_some(), "{}", crate::rig::describe(&run));
        Ok(false)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_in_the_middle_of_a_run_it_goes_on_after_the_next_start() {
    let mut rig = Rig::start(&[]).await.unwrap();
    rig.world.keep().await.unwrap();
    let expected = undisturbed(&mut rig).await.unwrap();

    // RDS works on the promotion: nothing is out, and it ends at once.
    let mut daemon = promoting(&mut rig).await;
    daemon.ends().await.unwrap();
    rig.world.moto.set_delay("rds_promote", Duration::ZERO).await.unwrap();
    let mut daemon = rig.life().unwrap();
    assert_eq!(at_the_end(&rig, &mut daemon).await.unwrap(), expected);

    // The call that promotes is out: it is waited for, and what came of it is written down.
    rig.reset().await.unwrap();
    let slow = Fault::new(Kind::Slow).action("PromoteReadReplica").lasting(Duration::from_secs(2));
    rig.world.moto.fault(slow).await.unwrap();
    let mut daemon = rig.outage().await.unwrap();
    daemon.run("the call to be out", |run| step(run, "promote").state == StepStateView::Applying).await.unwrap();
    daemon.ends().await.unwrap();
    let records = read_records(&rig.state()).unwrap();
    let taken = records.iter().any(|record| {
        matches!(&record.entry, Entry::StepApplied { step, outcome: Applied::Accepted { .. }, .. } if step.as_str() == "promote")
    });
    assert!(taken, "the outcome is not in the journal");
    rig.world.moto.clear_faults().await.unwrap();
    let mut daemon = rig.life().unwrap();
    assert_eq!(at_the_end(&rig, &mut daemon).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_keeps_its_plan_whatever_the_configuration_says_meanwhile() {
    let mut rig = Rig::start(&[]).await.unwrap();
    rig.world.keep().await.unwrap();
    let expected = undisturbed(&mut rig).await.unwrap();
    let mut daemon = promoting(&mut rig).await;
    // Other steps, other targets, another instance.
    rig.configure(&[
        ("replicas = 6", "replicas = 9"),
        (
            "target = \"dualstack.backup-lb.us-west-2.elb.amazonaws.com\"",
            "target = \"dualstack.other.us-west-2.elb.amazonaws.com\"",
        ),
        ("instance = \"shop-replica\", replica_of", "instance = \"other-replica\", replica_of"),
        ("subject = \"shop: failed over to us-west-2\"", "subject = \"another message\""),
    ])
    .unwrap();
    daemon.running.signal(rustix::process::Signal::HUP).unwrap();
    daemon.running.wait_log(PATIENCE, "configuration reloaded").await.unwrap();
    daemon.running.kill9();
    let mut daemon = rig.life().unwrap();
    // It looks again and again until RDS is done with whatever it is that it changes.
    daemon.run("the run to go on", |run| step(run, "promote").state == StepStateView::Waiting).await.unwrap();
    rig.world.moto.set_delay("rds_promote", Duration::ZERO).await.unwrap();
    assert_eq!(at_the_end(&rig, &mut daemon).await.unwrap(), expected);
}
