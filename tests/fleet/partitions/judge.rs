//! The record held against the truth of the clients.
//!
//! - A failover is **false** where the primary served a majority of the clients at every moment of the
//!   `confirm_for` before it, and **hasty** where the service was back at that moment, but not all the time.
//! - A **real outage** is a primary that was killed, frozen or cut off. It **has to be found** where a quorum
//!   could see it, and each other, without interruption for the budget and the margin: from its beginning, or
//!   from [`SETTLE`] after the last partition that kept the quorum apart. It is **missed** where no first step
//!   came by then.
//! - A **wrong verdict** is Down of what the primary serves, without an outage now or in the [`SETTLE`]
//!   before. A partition may end in Inconclusive at most.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use failoverd::model::{Health, Truth};

use super::fault::{What, quorum_sees};
use super::record::{Broken, Budget, Record, us};

/// What a partition leaves behind is over by then: a vote has expired, a connection was made anew.
pub const SETTLE: Duration = Duration::from_secs(4);

/// What came of one outage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found {
    /// In so many seconds from its beginning.
    InTime(f64),
    /// In time, counted from the end of the partition that kept the quorum apart.
    AfterPartition,
    /// It has to be found, and was not.
    Missed,
    /// A quorum could not see it for long enough; a failover came all the same.
    Anyway,
    /// And none came.
    NotToBeSeen,
    /// Too late, and the machine stood still meanwhile: an attempt that overlaps a stall says nothing.
    Stalled,
}

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    pub times: u32,
    pub total: Duration,
    /// The worst verdict where no outage was near.
    pub worst: Health,
}

/// What became of it all.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub kinds: BTreeMap<String, Line>,
    pub outages: Vec<(What, Found)>,
    pub failovers: usize,
    pub wrong_failovers: usize,
    pub hasty_failovers: usize,
    /// One more in an outage that was failed over already, or one after its end, each with its timeline: no
    /// violation (there is no cool-down here), but somebody should know why.
    pub odd: Vec<String>,
    pub wrong_verdicts: usize,
    pub asymmetric_verdicts: usize,
    pub served: Duration,
    /// What must not be, each with its timeline.
    pub violations: Vec<String>,
}

/// Judges. `margin` comes on top of the budget: the vote's way, the journal, the call.
pub fn judge(record: &Record, budget: Budget, margin: Duration) -> Report {
    let mut report = Report { failovers: record.failovers.len(), ..Report::default() };
    kinds(record, &mut report);
    failovers(record, budget, &mut report);
    for outage in record.faults.iter().filter(|fault| fault.what.is_outage()) {
        let found = find(record, outage, budget.whole() + margin);
        if found == Found::Missed {
            report.violation(record, &format!("missed: {}", outage.what), outage.from, outage.until);
        }
        report.outages.push((outage.what, found));
    }
    verdicts(record, &mut report);
    for at in &record.lost {
        report.violation(record, "not back to normal after everything was whole", at - us(SETTLE) * 8, *at);
    }
    let ends = |pick: fn(&Broken) -> i64| record.faults.iter().map(pick);
    if let (Some(from), Some(until)) = (ends(|fault| fault.from).min(), ends(|fault| fault.until).max()) {
        report.served = Duration::from_micros(record.served_for(from, until).max(0) as u64);
    }
    report
}

impl Report {
    fn violation(&mut self, record: &Record, what: &str, from: i64, until: i64) {
        let timeline = record.timeline(from - us(SETTLE) * 2, until + us(SETTLE));
        self.violations.push(format!("{what}\n{timeline}"));
    }

    /// How long the failovers took that had to come, in seconds.
    pub fn times(&self) -> Vec<f64> {
        let time = |found: &Found| if let Found::InTime(seconds) = found { Some(*seconds) } else { None };
        self.outages.iter().filter_map(|(_, found)| time(found)).collect()
    }

    /// So many outages ended like this.
    pub fn ended(&self, wanted: impl Fn(&Found) -> bool) -> usize {
        self.outages.iter().filter(|(_, found)| wanted(found)).count()
    }
}

/// Is there an outage, or was there one a moment ago?
fn outage_near(record: &Record, from: i64, until: i64) -> bool {
    record.broken_within(from - us(SETTLE), until).iter().any(|fault| fault.what.is_outage())
}

fn worse(one: Health, other: Health) -> Health {
    let rank = |health| match health {
        Health::Up => 0,
        Health::Unknown => 1,
        Health::Down => 2,
    };
    if rank(other) > rank(one) { other } else { one }
}

fn kinds(record: &Record, report: &mut Report) {
    for fault in &record.faults {
        let line = Line { times: 0, total: Duration::ZERO, worst: Health::Up };
        let line = report.kinds.entry(fault.what.kind()).or_insert(line);
        line.times += 1;
        line.total += Duration::from_micros((fault.until - fault.from).max(0) as u64);
        for seen in record.seen_within(fault.from, fault.until) {
            if fault.what.is_outage() || !outage_near(record, seen.at, seen.at) {
                line.worst = seen.verdicts.iter().copied().fold(line.worst, worse);
            }
        }
    }
}

fn failovers(record: &Record, budget: Budget, report: &mut Report) {
    for &at in &record.failovers {
        let from = at - us(budget.confirm_for);
        if record.served_throughout(from, at) {
            report.wrong_failovers += 1;
            report.violation(record, "a failover while the primary served a majority", from, at);
        } else if record.serves_majority(at) {
            report.hasty_failovers += 1;
        }
        let outages = record.faults.iter().filter(|fault| fault.what.is_outage());
        let outage = outages.filter(|fault| fault.from <= at).max_by_key(|fault| fault.from);
        let earlier = |begun: i64| record.failovers.iter().any(|other| (begun..at).contains(other));
        if outage.is_none_or(|outage| outage.until < at || earlier(outage.from)) {
            let from = outage.map_or(from, |outage| outage.from) - us(SETTLE);
            report.odd.push(record.timeline(from, at + us(SETTLE)));
        }
    }
}

/// From when on a quorum could see it without interruption for so long; the earliest.
fn to_be_seen(record: &Record, outage: &Broken, long: i64) -> Option<i64> {
    // What was mended before everything was known to be whole left nothing behind.
    let whole = record.normal.iter().copied().filter(|at| *at <= outage.from).max().unwrap_or(i64::MIN);
    let broken = |from, until| {
        let faults = record.broken_within(from, until);
        faults.into_iter().filter(|fault| fault.until > whole).collect::<Vec<_>>()
    };
    let near = broken(outage.from - us(SETTLE), outage.until);
    let ends = near.iter().filter(|fault| fault.until < outage.until).map(|fault| fault.until + us(SETTLE));
    let starts: BTreeSet<i64> = ends.filter(|at| *at > outage.from).chain([outage.from]).collect();
    starts.into_iter().find(|&start| {
        let end = start + long;
        if end > outage.until {
            return false;
        }
        // All that was broken at some time of it, and what was whole for too short a time.
        let broken = broken(start - us(SETTLE) + 1, end);
        quorum_sees(&broken.iter().map(|fault| fault.what).collect::<Vec<_>>())
    })
}

fn find(record: &Record, outage: &Broken, long: Duration) -> Found {
    let came = record.failovers.iter().find(|at| (outage.from..=outage.until).contains(*at));
    let Some(start) = to_be_seen(record, outage, us(long)) else {
        return came.map_or(Found::NotToBeSeen, |_| Found::Anyway);
    };
    match came {
        Some(at) if *at <= outage.from + us(long) => Found::InTime((at - outage.from) as f64 / 1e6),
        Some(at) if *at <= start + us(long) => Found::AfterPartition,
        _ if record.seen_within(outage.from, start + us(long)).iter().any(|seen| seen.stalled) => Found::Stalled,
        _ => Found::Missed,
    }
}

fn verdicts(record: &Record, report: &mut Report) {
    let mut before = false;
    for seen in &record.seen {
        let down = seen.verdicts.contains(&Health::Down);
        let condition = seen.condition == Truth::True;
        // Each time that it begins, and not each time that it is told again.
        let begins = down && !before;
        before = down;
        if !begins || outage_near(record, seen.at, seen.at) {
            continue;
        }
        report.wrong_verdicts += 1;
        let broken = record.broken_within(seen.at - us(SETTLE), seen.at);
        if broken.iter().all(|fault| fault.what.is_asymmetric()) {
            report.asymmetric_verdicts += 1;
        }
        let what = if condition { "Down, and the condition held" } else { "a verdict of Down" };
        report.violation(record, &format!("{what}, while the primary served"), seen.at, seen.at);
    }
}
