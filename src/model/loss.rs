//! Writes that are lost, or would be: counted in bytes and transactions.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::ProbeName;
use super::time::{HumanDuration, WallTime};

/// How much was written, as far as the source tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writes {
    /// Bytes of the source's log (PostgreSQL's WAL, Redis' replication stream); not of its tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Transactions that changed something. An aborted one counts too: it is never fewer than were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transactions: Option<u64>,
}

impl Writes {
    /// Nothing at all.
    pub const NONE: Self = Self { bytes: Some(0), transactions: Some(0) };

    /// Does nothing tell how much it is?
    pub fn is_unknown(&self) -> bool {
        self.bytes.is_none() && self.transactions.is_none()
    }

    /// Both together; unknown where one of them is.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        Self { bytes: sum(self.bytes, other.bytes), transactions: sum(self.transactions, other.transactions) }
    }
}

impl fmt::Display for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transactions = self.transactions.map(|count| match count {
            1 => "1 transaction".to_owned(),
            count => format!("{count} transactions"),
        });
        let parts: Vec<String> = self.bytes.map(bytes).into_iter().chain(transactions).collect();
        f.pad(&if parts.is_empty() { "not counted".to_owned() } else { parts.join(", ") })
    }
}

/// `512 B`, `1.5 kB`, `20 MB`: by thousands.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// What a failover would lose now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredictedLoss {
    /// Seconds of writes; `None` where nobody knows.
    pub time: Option<HumanDuration>,
    /// How much that is.
    pub writes: Writes,
}

impl fmt::Display for PredictedLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time {
            Some(time) => write!(f, "{time}")?,
            None => f.write_str("an unknown time")?,
        }
        if self.writes.is_unknown() { Ok(()) } else { write!(f, " ({})", self.writes) }
    }
}

/// What an old primary has that the one which was promoted in its place lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// The probe of the old primary.
    pub old: ProbeName,
    /// The probe of the new one.
    pub new: ProbeName,
    /// What only the old one has. Bytes alone are no loss: a restarted server writes of itself.
    pub writes: Writes,
    /// From the last transaction that the new one took over to the last of the old one; `None` where the
    /// old one keeps no commit times (`track_commit_timestamp`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<HumanDuration>,
    /// When it was seen.
    pub seen: WallTime,
}

impl Divergence {
    /// Is there nothing that anybody could miss?
    pub fn is_none(&self) -> bool {
        self.writes.bytes == Some(0) || self.writes.transactions == Some(0)
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, new, writes, time, .. } = self;
        if self.is_none() {
            return write!(f, "{old} has no transaction that {new} lacks");
        }
        write!(f, "{old} has {writes} that {new} lacks")?;
        time.map_or(Ok(()), |time| write!(f, ", of {time}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_with_two_digits() {
        let shown = [0, 999, 1000, 1449, 9_949, 9_950, 20_400, 999_499, 999_500, 1_000_000, u64::MAX].map(bytes);
        assert_eq!(
            shown,
            ["0 B", "999 B", "1.0 kB", "1.4 kB", "9.9 kB", "10 kB", "20 kB", "999 kB", "1.0 MB", "1.0 MB", "18447 PB"]
        );
    }

    #[test]
    fn what_is_not_known_of_one_is_not_known_of_both() {
        let one = Writes { bytes: Some(5), transactions: None };
        assert_eq!(one.and(Writes::NONE), one);
        assert!(one.and(Writes::default()).is_unknown());
    }
}
