//! Minutes of random partitions and outages between two regions and three vantages, held against what the
//! clients saw. `tests/fleet/partitions` plays and judges; here is the length, the seed, and the table.
//!
//! `FAILOVERD_CAMPAIGN_SECONDS` (600) and `FAILOVERD_CAMPAIGN_SEED` (a new one each time; it is printed).

mod table;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::figures::micros;
use crate::fleet::partitions::arena::Arena;
use crate::fleet::partitions::judge::judge;
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

/// Plays and judges.
///
/// # Errors
/// Where it could not be played, and where something was violated.
pub async fn bench() -> Result<()> {
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
    ensure!(report.violations.is_empty(), "{} violations with seed {seed}", report.violations.len());
    Ok(())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
