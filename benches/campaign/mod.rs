//! Minutes of random partitions and outages between two regions and three vantages, held against what the
//! clients saw. `tests/fleet/partitions` plays and judges; here is the length, the seed, and the table.
//!
//! `FAILOVERD_CAMPAIGN_SECONDS` (600) and `FAILOVERD_CAMPAIGN_SEED` (a new one each time; it is printed).

mod table;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::detection::Line;
use crate::figures::micros;
use crate::fleet::partitions::arena::Arena;
use crate::fleet::partitions::judge::{Found, Report, judge};
use crate::fleet::partitions::part::{self, Myself};
use crate::fleet::partitions::schedule::{Rng, draw};
use crate::rig::binary;

/// The argument that makes this program a client or a server of the campaign.
pub const PART: &str = "--part-of-the-campaign";

/// What may come on top of the budget: the way of the vote, the journal, the call.
const MARGIN: Duration = Duration::from_secs(1);

/// This program once more, in a namespace.
pub fn play() -> ExitCode {
    match part::play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays and judges; what was violated is printed with its timeline.
///
/// # Errors
/// Where it could not be played.
pub async fn bench() -> Result<Vec<Line>> {
    let length = Duration::from_secs(number("FAILOVERD_CAMPAIGN_SECONDS").unwrap_or(600));
    let seed = number("FAILOVERD_CAMPAIGN_SEED").unwrap_or_else(|| micros().unsigned_abs() / 1000 % 1_000_000);
    let mut arena = Arena::start(binary(), Myself { arguments: vec![PART.to_owned()] }).await?;
    let budget = arena.budget().await?;
    println!("\ncampaign: seed {seed}, {length:?}; FAILOVERD_CAMPAIGN_SEED={seed} draws the same again");
    let (mut rng, begun) = (Rng::new(seed), Instant::now());
    let mut episodes = 0;
    while begun.elapsed() < length {
        arena.play(&draw(&mut rng, budget.whole())).await?;
        episodes += 1;
    }
    let record = arena.record()?;
    let report = judge(&record, budget, MARGIN);
    table::show(&report, &record, budget, seed, episodes, begun.elapsed());
    Ok(vec![line(&report, begun.elapsed())])
}

fn line(report: &Report, took: Duration) -> Line {
    let found = |wanted: fn(&Found) -> bool| report.outages.iter().filter(|(_, found)| wanted(found)).count();
    let in_time = found(|found| matches!(found, Found::InTime(_) | Found::AfterPartition));
    let missed = found(|found| *found == Found::Missed);
    Line {
        figure: format!("{:.0} s of random partitions, 3 vantages, 2 regions", took.as_secs_f64()),
        reference: "ground truth of 5 clients".into(),
        ours: format!(
            "{} failovers, {} of them false; of outages {in_time} found in time, {missed} missed",
            report.failovers, report.wrong_failovers
        ),
        aim: "no false failover, each outage in its budget".into(),
        met: Some(report.violations.is_empty()),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
