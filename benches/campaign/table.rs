//! What the campaign prints.

use std::time::Duration;

use failoverd::model::Health;

use crate::figures::{Figures, Series, aim};
use crate::fleet::partitions::judge::{Found, Report};
use crate::fleet::partitions::record::{Budget, Record};

use super::MARGIN;

/// The table, what it says, and what was violated.
pub fn show(report: &Report, record: &Record, budget: Budget, seed: u64, episodes: u32, took: Duration) {
    let title = format!(
        "campaign: random partitions between 3 vantages and 2 regions; seed {seed}, {episodes} episodes in {:.0} s",
        took.as_secs_f64()
    );
    let mut kinds = Figures::new(&title, &["what broke", "times", "in all", "verdict, at most"]);
    for (kind, line) in &report.kinds {
        let worst = match line.worst {
            Health::Up => "up",
            Health::Unknown => "inconclusive",
            Health::Down => "down",
        };
        kinds.row(&[kind.clone(), line.times.to_string(), seconds(line.total.as_secs_f64()), worst.to_owned()]);
    }
    kinds.print(&[format!(
        "ground truth: {} questions of {} clients; the primary served a majority of them for {}",
        record.clients.iter().map(Vec::len).sum::<usize>(),
        record.clients.len(),
        seconds(report.served.as_secs_f64()),
    )]);
    outages(report);
    aims(report, budget);
    for odd in &report.odd {
        println!("\nfailed over once more, or late, seed {seed}:\n{odd}");
    }
    for violation in &report.violations {
        println!("\nVIOLATION, seed {seed}: {violation}");
    }
}

fn outages(report: &Report) {
    let mut figures = Figures::new(
        "campaign: outages",
        &["outage", "times", "found in time", "missed", "too short or unseen", "of these found", "stalled"],
    );
    let mut kinds: Vec<String> = report.outages.iter().map(|(what, _)| what.kind()).collect();
    kinds.sort();
    kinds.dedup();
    for kind in kinds {
        let count = |wanted: fn(&Found) -> bool| {
            report.outages.iter().filter(|(what, found)| what.kind() == kind && wanted(found)).count().to_string()
        };
        figures.row(&[
            kind.clone(),
            count(|_| true),
            count(|found| matches!(found, Found::InTime(_) | Found::AfterPartition)),
            count(|found| *found == Found::Missed),
            count(|found| matches!(found, Found::Anyway | Found::NotToBeSeen)),
            count(|found| *found == Found::Anyway),
            count(|found| *found == Found::Stalled),
        ]);
    }
    figures.print(&[]);
}

fn aims(report: &Report, budget: Budget) {
    let times: Series = report.times().into_iter().collect();
    let missed = report.ended(|found| *found == Found::Missed);
    let notes = [
        aim(
            report.wrong_failovers == 0,
            &format!(
                "no failover while the primary serves a majority of clients: {} of {} ({} more when it had just come back, {} once more in the same outage, or after its end)",
                report.wrong_failovers,
                report.failovers,
                report.hasty_failovers,
                report.odd.len()
            ),
        ),
        aim(
            missed == 0,
            &format!(
                "each real outage that a quorum can see is found in its budget: {missed} missed; median {:.2} s, at most {:.2} s, budget {} + {} as `check` prints it, and {} for a last look at what hangs: {} (and {} for the vote's way, the journal and the call)",
                times.median(),
                times.quantile(1.0),
                seconds(budget.detection.as_secs_f64()),
                seconds(budget.confirm_for.as_secs_f64()),
                seconds(budget.last_look.as_secs_f64()),
                seconds(budget.whole().as_secs_f64()),
                seconds(MARGIN.as_secs_f64()),
            ),
        ),
        aim(
            report.wrong_verdicts == 0,
            &format!(
                "partitions end in Inconclusive at most: {} verdicts of Down, {} of them in asymmetric ones",
                report.wrong_verdicts, report.asymmetric_verdicts
            ),
        ),
    ];
    for note in notes {
        println!("  {note}");
    }
}

fn seconds(value: f64) -> String {
    format!("{value:.1} s")
}
