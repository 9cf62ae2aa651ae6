//! `kill -9` at every boundary: before and after each append to the journal, and after each call.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use failoverd::core::Command;
use failoverd::model::RunResult;
use failoverd::state::read_records;

use super::traces::{Traces, at_the_end, undisturbed};
use crate::fleet::eventually;
use crate::rig::{Daemon, PATIENCE, Rig};

/// The calls of the plan: after each of them the daemon is killed once. A message that was sent
/// cannot be verified, and is not.
const CALLS: [&str; 13] = [
    "observe:promote",
    "apply:promote",
    "verify:promote",
    "observe:promote-cache",
    "apply:promote-cache",
    "verify:promote-cache",
    "observe:scale",
    "apply:scale",
    "verify:scale",
    "observe:route",
    "apply:route",
    "verify:route",
    "apply:tell",
];

/// The boundaries that are still to be tried, and what came of the others.
struct Work {
    calls: VecDeque<String>,
    append: u64,
    /// An append of this number was not reached: there are no more.
    last: u64,
    rows: Vec<Row>,
}

struct Row {
    boundary: String,
    /// The last record that was durable.
    after: String,
    result: String,
    took: Duration,
}

impl Work {
    fn next(&mut self) -> Option<String> {
        if self.append / 2 < self.last {
            let (number, when) = (self.append / 2 + 1, ["before", "after"][(self.append % 2) as usize]);
            self.append += 1;
            return Some(format!("append:{number}:{when}"));
        }
        self.calls.pop_front()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_boundary_the_run_ends_as_if_undisturbed() {
    let began = Instant::now();
    let (first, second) = tokio::join!(Rig::start(&[]), Rig::start(&[]));
    let mut rigs = [first.unwrap(), second.unwrap()];
    let calls = CALLS.iter().map(|call| format!("done:{call}")).collect();
    let work = Mutex::new(Work { calls, append: 0, last: u64::MAX, rows: Vec::new() });
    let worlds = rigs.iter_mut().map(|rig| work_off(rig, &work));
    futures::future::join_all(worlds).await;
    let work = work.into_inner().unwrap();
    table(&work.rows, began.elapsed());
    let wrong: Vec<&Row> = work.rows.iter().filter(|row| row.result != "same" && row.result != "not reached").collect();
    assert!(wrong.is_empty(), "{} of {} boundaries differ", wrong.len(), work.rows.len());
    let reached = work.rows.iter().filter(|row| row.result == "same").count();
    // Each step but the two that only look has an intent, an outcome and an end.
    assert!(reached > 2 * 3 * 5 + CALLS.len(), "only {reached} boundaries were reached");
    let missed = work.rows.iter().filter(|row| row.result == "not reached" && row.boundary.starts_with("done"));
    assert_eq!(missed.count(), 0, "a call was never made");
}

async fn work_off(rig: &mut Rig, work: &Mutex<Work>) {
    rig.world.keep().await.unwrap();
    let expected = undisturbed(rig).await.unwrap();
    println!("undisturbed: {expected:#?}");
    loop {
        let Some(boundary) = work.lock().unwrap().next() else { return };
        let began = Instant::now();
        rig.reset().await.expect("the world can be reset");
        let reset = began.elapsed().as_secs_f64();
        let result = killed_at(rig, &boundary, &expected).await;
        let (after, result) = match result {
            Ok(Some(after)) => (after, "same".to_owned()),
            Ok(None) => {
                if let Some(number) = boundary.split(':').nth(1).and_then(|number| number.parse::<u64>().ok()) {
                    let mut work = work.lock().unwrap();
                    work.last = work.last.min(number);
                }
                (String::new(), "not reached".to_owned())
            }
            Err(error) => (String::new(), format!("{error:#}")),
        };
        println!(
            "{boundary} ({reset:.1} and {:.1} s): {}",
            began.elapsed().as_secs_f64(),
            result.chars().rev().take(600).collect::<Vec<_>>().iter().rev().collect::<String>()
        );
        work.lock().unwrap().rows.push(Row { boundary, after, result, took: began.elapsed() });
    }
}

/// Kills the daemon there, starts it again and compares; `None` where the run never came there.
async fn killed_at(rig: &mut Rig, boundary: &str, expected: &Traces) -> Result<Option<String>> {
    let mut daemon = rig.life_until(Some(boundary))?;
    // The first appends come before anything is healthy.
    let killed = match daemon.healthy().await {
        Ok(()) => {
            rig.world.kill_primary();
            is_killed(&mut daemon).await?
        }
        Err(_) if !daemon.running.is_running() => true,
        Err(error) => return Err(error),
    };
    if killed {
        daemon.dies().await?;
    } else {
        daemon.ends().await?;
        return Ok(None);
    }
    let after = last_record(rig)?;
    let mut daemon = rig.life()?;
    let mut expected = expected.clone();
    if rig.world.primary_runs() {
        daemon.healthy().await?;
        rig.world.kill_primary();
    } else if !rig.goes_on_by_itself()? {
        // Born into an outage of which nothing was written down, or not yet that the database is down:
        // nobody knows how far the standby had followed, so it holds (S5), and a person accepts the loss.
        daemon.holds(if after == "daemon_started" { "lag_unknown" } else { "lag_above_rpo" }).await?;
        let (scenario, allow_data_loss) = ("regional-outage".into(), Some("1h".parse()?));
        daemon.client.command(&Command::Failover { scenario, allow_data_loss }).await?;
        let by_hand = crate::rig::newest(&daemon).await?.trigger;
        ensure!(by_hand.starts_with("by hand"), "the trigger is {by_hand}");
        expected.insert("the trigger".into(), by_hand);
    }
    let seen = at_the_end(rig, &mut daemon).await.with_context(|| format!("after {after}"))?;
    ensure!(seen == expected, "after {after} it differs: {}", difference(&seen, &expected));
    Ok(Some(after))
}

/// Waits until the daemon was killed, or has done everything without having been.
async fn is_killed(daemon: &mut Daemon) -> Result<bool> {
    eventually(PATIENCE, "the daemon to be killed, or the run to be over", async || {
        if !daemon.running.is_running() {
            return Ok(true);
        }
        let run = daemon.client.runs().await?.into_iter().next().context("there is no run")?;
        ensure!(run.result == Some(RunResult::Done), "{}", crate::rig::describe(&run));
        let decision = daemon.explain().await?.decision;
        let settled =
            matches!(&decision, Some(failoverd::model::Decision::Hold(reason)) if reason.name() == "already_run");
        ensure!(settled, "it decides {decision:?}");
        Ok(false)
    })
    .await
}

fn last_record(rig: &Rig) -> Result<String> {
    let Some(last) = read_records(&rig.state())?.pop() else { return Ok("nothing".into()) };
    let entry = serde_json::to_value(&last.entry)?;
    let (kind, step) = (entry["kind"].as_str().unwrap_or_default(), entry["step"].as_str().unwrap_or_default());
    Ok(format!("{kind} {step}").trim_end().to_owned())
}

fn difference(seen: &Traces, expected: &Traces) -> String {
    let names: std::collections::BTreeSet<&String> = seen.keys().chain(expected.keys()).collect();
    let differing = names.into_iter().filter(|name| seen.get(*name) != expected.get(*name));
    differing
        .map(|name| format!("{name}: {:?}, not {:?}", seen.get(name), expected.get(name)))
        .collect::<Vec<_>>()
        .join("; ")
}

fn table(rows: &[Row], took: Duration) {
    println!("{:<32} {:<32} {:>6}  result", "killed at", "last durable record", "s");
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by_key(|row| {
        let number = row.boundary.split(':').nth(1).and_then(|number| number.parse::<u64>().ok());
        (number.unwrap_or(u64::MAX), row.boundary.ends_with("after"))
    });
    for row in &rows {
        println!("{:<32} {:<32} {:>6.1}  {}", row.boundary, row.after, row.took.as_secs_f64(), row.result);
    }
    println!("{} boundaries in {:.0} s", rows.len(), took.as_secs_f64());
}
