//! `make bench-detect`: how well outages are seen, beside what others need for the same on the same
//! machine. Each part can be run alone by its name; all of them end in one table.

pub mod blackbox;
mod campaign;
mod cores;
pub mod cost;
pub mod crowd;
pub mod frozen;
mod haproxy;
pub mod loss;
mod memory;
mod outage;
mod prober;
mod quorum;
mod sentinel;
mod sights;
mod vantages;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::figures::{Figures, machine};
use crate::rounds;

/// The parts, in the order of the table.
pub const PARTS: [&str; 9] = ["cpu", "fresh", "memory", "kill", "hang", "quorum", "loss", "frozen", "campaign"];

/// One line of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// What was measured.
    pub figure: String,
    /// What the others need.
    pub reference: String,
    /// What failoverd needs.
    pub ours: String,
    /// What it should need at most.
    pub aim: String,
    /// Does it? `None` where it was not measured.
    pub met: Option<bool>,
}

impl Line {
    /// Of a part that could not be run; why was told before.
    pub fn not_run(part: &str) -> Self {
        let [reference, ours, aim] = ["–", "could not be run", "–"].map(str::to_owned);
        Self { figure: part.to_owned(), reference, ours, aim, met: None }
    }
}

/// Runs one part.
pub async fn part(name: &str) -> Result<Vec<Line>> {
    cores::allow_files();
    match name {
        "cpu" => cost::kept(rounds(3)).await,
        "fresh" => cost::fresh(rounds(3)).await,
        "memory" => memory::bench().await,
        "kill" => outage::kill(rounds(24)).await,
        "hang" => outage::hang(rounds(24)).await,
        "quorum" => quorum::bench(rounds(20)).await,
        "loss" => loss::bench().await,
        "frozen" => frozen::bench().await,
        _ => Ok(campaign::bench()),
    }
}

/// The table.
pub fn show(lines: &[Line]) {
    let mut table = Figures::words("detection, side by side", &["figure", "reference", "failoverd", "aim", ""]);
    for line in lines {
        let met = match line.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let [figure, reference, ours, aim] = [&line.figure, &line.reference, &line.ours, &line.aim].map(String::clone);
        table.row(&[figure, reference, ours, aim, met.to_owned()]);
    }
    let busy = format!("{}; on a machine that does something else too, compare the ratios only.", machine());
    table.print(&[busy]);
}
