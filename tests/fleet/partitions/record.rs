//! What happened, as it was written down: by the faults, by the clients, by the recorder that the plan calls,
//! and by the daemon about itself. Times are the wall clock's, in microseconds.

use std::time::Duration;

use failoverd::model::{Health, Truth};

use super::fault::What;

/// A fault as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub what: What,
    pub from: i64,
    pub until: i64,
}

/// One question of a client to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub at: i64,
    /// `None`: not within its patience.
    pub answered: Option<i64>,
}

/// What the daemon said of itself, from here on.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub at: i64,
    /// The verdicts on what the primary serves; Inconclusive is Unknown.
    pub verdicts: Vec<Health>,
    pub condition: Truth,
    /// The machine stood still: it only looked, or an attempt said nothing.
    pub stalled: bool,
    /// All of it in one line.
    pub line: String,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub faults: Vec<Broken>,
    /// Of each client.
    pub clients: Vec<Vec<Asked>>,
    /// When the first step of the plan came.
    pub failovers: Vec<i64>,
    pub seen: Vec<Seen>,
    /// What the vantages logged: when, and what.
    pub logged: Vec<(i64, String)>,
    /// When everything was whole, and the daemon saw it.
    pub normal: Vec<i64>,
    /// When the daemon was not back to normal in time after the end of an episode.
    pub lost: Vec<i64>,
}

/// In what time an outage has to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// As `failoverd check` prints it.
    pub detection: Duration,
    /// As `failoverd check` prints it.
    pub confirm_for: Duration,
    /// The last look at a primary that hangs, as `failoverd check` prints it.
    pub last_look: Duration,
}

impl Budget {
    /// From the outage to the first step.
    pub fn whole(self) -> Duration {
        self.detection + self.confirm_for + self.last_look
    }
}

/// An answer says that the client is served for so long.
pub const WINDOW: Duration = Duration::from_secs(1);
/// In which steps a span is looked at.
const STEP: i64 = 50_000;

/// Microseconds.
pub fn us(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

impl Record {
    /// Did more than half of the clients get an answer within the window before `at`?
    pub fn serves_majority(&self, at: i64) -> bool {
        let served = |questions: &&Vec<Asked>| {
            let first = questions.partition_point(|asked| asked.at < at - 2 * us(WINDOW));
            let mut near = questions[first..].iter().take_while(|asked| asked.at <= at);
            near.any(|asked| asked.answered.is_some_and(|answered| answered <= at && answered > at - us(WINDOW)))
        };
        2 * self.clients.iter().filter(served).count() > self.clients.len()
    }

    /// At every moment from `from` to `until`?
    pub fn served_throughout(&self, from: i64, until: i64) -> bool {
        (0..=(until - from) / STEP).all(|step| self.serves_majority(from + step * STEP)) && self.serves_majority(until)
    }

    /// How long the clients' majority was served between the first question and the last, in microseconds.
    pub fn served_for(&self, from: i64, until: i64) -> i64 {
        let steps = (0..(until - from).max(0) / STEP).filter(|step| self.serves_majority(from + step * STEP));
        steps.count() as i64 * STEP
    }

    /// What was broken at some time between `from` and `until`.
    pub fn broken_within(&self, from: i64, until: i64) -> Vec<&Broken> {
        self.faults.iter().filter(|fault| fault.from <= until && from <= fault.until).collect()
    }

    /// What the daemon said from `from` to `until`, what held at the beginning included.
    pub fn seen_within(&self, from: i64, until: i64) -> &[Seen] {
        let first = self.seen.partition_point(|seen| seen.at <= from).saturating_sub(1);
        let last = self.seen.partition_point(|seen| seen.at <= until);
        &self.seen[first.min(last)..last]
    }

    /// All that happened around a moment, for the one who has to find out why.
    pub fn timeline(&self, from: i64, until: i64) -> String {
        let mut lines: Vec<(i64, String)> = Vec::new();
        for fault in self.broken_within(from, until) {
            lines.push((fault.from, format!("broken: {}", fault.what)));
            lines.push((fault.until, format!("whole:  {}", fault.what)));
        }
        lines.extend(self.failovers.iter().map(|at| (*at, "FAILOVER: the first step".to_owned())));
        lines.extend(self.seen.iter().map(|seen| (seen.at, seen.line.clone())));
        lines.extend(self.logged.iter().cloned());
        let mut served = None;
        for step in 0..(until - from).max(0) / STEP {
            let (at, before) = (from + step * STEP, served);
            served = Some(self.serves_majority(at));
            if served != before {
                let word = if served == Some(true) { "serves" } else { "does not serve" };
                lines.push((at, format!("clients: the primary {word} a majority")));
            }
        }
        lines.retain(|(at, _)| (from..=until).contains(at));
        lines.sort();
        lines.iter().map(|(at, line)| format!("  {:>9.3} s  {line}\n", (at - from) as f64 / 1e6)).collect()
    }
}
