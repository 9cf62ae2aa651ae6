//! `postgres.compare_counts`.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::table;
use crate::actions::{only_looks, output, until};
use crate::clients::Failure;
use crate::clients::postgres::connect;
use crate::config::action::PostgresCompareCounts;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// How long all the counting may take: it reads whole tables.
const COUNTING: Duration = Duration::from_secs(300);

/// The longest file of counts.
const FILE_BYTES: u64 = 1 << 20;

/// How many characters of evidence: a line for each of some twenty tables.
const EVIDENCE_CHARS: usize = 1500;

/// Looks until tables have as many rows as they should.
pub(super) struct CompareCounts {
    params: PostgresCompareCounts,
}

/// One line of the table that is the evidence.
struct Counted {
    name: String,
    wanted: u64,
    actual: u64,
}

impl Counted {
    /// By how much it differs, in percent of what it should be.
    fn percent(&self) -> f64 {
        match self.actual.abs_diff(self.wanted) {
            0 => 0.0,
            // Nothing was expected: any row is too much.
            _ if self.wanted == 0 => f64::INFINITY,
            off => off as f64 * 100.0 / self.wanted as f64,
        }
    }

    fn line(&self) -> String {
        let Self { name, wanted, actual } = self;
        let sign = if actual < wanted { "-" } else { "+" };
        match self.percent() {
            0.0 => format!("{name}: {actual}"),
            off if off.is_infinite() => format!("{name}: {actual} instead of 0"),
            off => format!("{name}: {actual} instead of {wanted} ({sign}{off:.2} %)"),
        }
    }
}

impl CompareCounts {
    pub(super) fn new(params: PostgresCompareCounts) -> Result<Self, String> {
        if params.against.is_empty() == params.file.is_none() {
            return Err("exactly one of `against` and `file` has to be there".into());
        }
        if params.file.is_none() {
            PostgresCompareCounts::sound(&params.against).map_err(|(message, fix)| format!("{message}; {fix}"))?;
        }
        Ok(Self { params })
    }

    fn wanted(&self) -> Result<BTreeMap<String, u64>, String> {
        let Some(path) = &self.params.file else { return Ok(self.params.against.clone()) };
        let told = |error: String| format!("cannot read the counts in {}: {error}", path.display());
        let file = std::fs::File::open(path).map_err(|error| told(error.to_string()))?;
        let mut text = String::new();
        file.take(FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| told(error.to_string()))?;
        if text.len() as u64 > FILE_BYTES {
            return Err(told("it is longer than 1 MiB".into()));
        }
        // Its own error would repeat the file's text.
        let counts: BTreeMap<String, u64> = serde_json::from_str(&text)
            .map_err(|error| told(format!("line {}: not of the form {{\"table\": 1000}}", error.line())))?;
        PostgresCompareCounts::sound(&counts).map_err(|(message, fix)| told(format!("{message}; {fix}")))?;
        Ok(counts)
    }

    /// All in one snapshot.
    async fn count(&self, context: &ActionContext, wanted: BTreeMap<String, u64>) -> Result<Vec<Counted>, Failure> {
        let until = until(context, COUNTING);
        let session = connect(&self.params.url, self.params.ca_file.as_deref(), until).await?;
        let time = context.left().min(COUNTING).as_millis().max(1);
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '{time}ms'; \
             SET LOCAL lock_timeout = '5s'"
        );
        session.run(&begin, until).await?;
        let mut counted = Vec::new();
        for (name, wanted) in wanted {
            let text = session.value(&format!("SELECT count(*)::text FROM {}", table(&name)), until).await;
            let text = text.map_err(|failure| Failure { reason: format!("{name}: {}", failure.reason), ..failure })?;
            let actual = text.parse().map_err(|_| Failure::unknown(format!("{name}: its count is not a number")))?;
            counted.push(Counted { name, wanted, actual });
        }
        Ok(counted)
    }
}

fn lines<'a>(counted: impl Iterator<Item = &'a Counted>) -> String {
    let text = counted.map(Counted::line).collect::<Vec<_>>().join("; ");
    match text.char_indices().nth(EVIDENCE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[async_trait]
impl Action for CompareCounts {
    async fn observe(&self, _context: &ActionContext) -> Observed {
        match self.wanted() {
            Ok(wanted) => Observed::InProgress { evidence: format!("counting {} tables", wanted.len()) },
            Err(reason) => Observed::Impossible { reason },
        }
    }

    async fn apply(&self, _context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        Ok(only_looks())
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let wanted = match self.wanted() {
            Ok(wanted) => wanted,
            Err(evidence) => return Verified::NotYet { evidence },
        };
        let counted = match self.count(context, wanted).await {
            Ok(counted) => counted,
            Err(failure) => return failure.verified(),
        };
        let off = |counted: &&Counted| counted.percent() > self.params.tolerance_percent;
        if counted.iter().any(|counted| off(&counted)) {
            let (off, well): (Vec<_>, Vec<_>) = counted.iter().partition(off);
            let evidence = format!("{} differ: {}; {} do not", off.len(), lines(off.iter().copied()), well.len());
            return Verified::NotYet { evidence };
        }
        let differences = lines(counted.iter().filter(|counted| counted.actual != counted.wanted));
        let differences = if differences.is_empty() { "none" } else { &differences };
        Verified::Yes { evidence: lines(counted.iter()), outputs: output("differences", differences) }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_in_percent_of_what_should_be() {
        let line = |wanted, actual| Counted { name: "t".into(), wanted, actual }.line();
        assert_eq!(line(1000, 1000), "t: 1000");
        assert_eq!(line(1000, 998), "t: 998 instead of 1000 (-0.20 %)");
        assert_eq!(line(0, 2), "t: 2 instead of 0");
        assert_eq!(line(0, 0), "t: 0");
    }
}
