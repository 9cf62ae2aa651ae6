//! `postgres.sql`.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;

use crate::actions::{LOOK, only_looks, output, until, value};
use crate::clients::postgres::{Answer, Session, connect};
use crate::clients::{Failure, FailureKind};
use crate::config::action::PostgresSql;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// How much longer than a statement may take at the server its answer is waited for, so that the
/// server's own word comes first.
const ANSWER: Duration = Duration::from_secs(2);

/// How much of a value is told as evidence, in characters.
const TOLD_CHARS: usize = 120;

/// Statements in one transaction.
pub(super) struct Sql {
    params: PostgresSql,
}

impl Sql {
    pub(super) fn new(params: PostgresSql) -> Result<Self, String> {
        params.sound().map_err(|(message, fix)| format!("{message}; {fix}"))?;
        Ok(Self { params })
    }

    async fn begin(&self, context: &ActionContext, mode: &str) -> Result<Session, Failure> {
        let until = until(context, LOOK);
        let session = connect(&self.params.url, self.params.ca_file.as_deref(), until).await?;
        // No longer than the phase: given up by us, it would still be at work over there.
        let statement = self.params.statement_timeout.get().min(context.left()).as_millis().max(1);
        let lock = self.params.lock_timeout.get().as_millis().max(1);
        let begin =
            format!("BEGIN {mode}; SET LOCAL statement_timeout = '{statement}ms'; SET LOCAL lock_timeout = '{lock}ms'");
        session.run(&begin, until).await?;
        Ok(session)
    }

    fn until(&self, context: &ActionContext) -> Instant {
        until(context, self.params.statement_timeout.get() + ANSWER)
    }

    /// Runs one statement; the server refuses a text that holds several.
    async fn one(&self, context: &ActionContext, session: &Session, statement: &str) -> Result<Answer, Failure> {
        session.parse(statement, self.until(context)).await?;
        session.run(statement, self.until(context)).await
    }

    /// The answer to the last of the statements.
    async fn all(&self, context: &ActionContext, session: &Session) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        for statement in self.params.statement.all() {
            answer = self.one(context, session, statement).await?;
        }
        Ok(answer)
    }

    /// Asks in a transaction that is READ ONLY.
    async fn ask(&self, context: &ActionContext) -> Result<Answer, Failure> {
        let session = self.begin(context, "READ ONLY").await?;
        self.all(context, &session).await
    }

    /// Is it done, as `done_when` says? `None` where there is no such query.
    async fn is_done(&self, context: &ActionContext) -> Option<Result<(bool, String), Failure>> {
        let query = self.params.done_when.as_deref()?;
        let asked = async {
            let session = self.begin(context, "READ ONLY").await?;
            let answer = self.one(context, &session, query).await?;
            let first = first(&answer).unwrap_or_default();
            Ok((matches!(first, "t" | "true" | "1" | "on"), format!("`done_when` answered {}", told(&answer))))
        };
        Some(asked.await)
    }

    /// What is not as expected.
    fn unmet(&self, answer: &Answer) -> Option<String> {
        let params = &self.params;
        let value = first(answer);
        if let Some(wanted) = params.expect.as_deref().filter(|wanted| value != Some(*wanted)) {
            return Some(format!("it answered {}, and not {wanted:?}", told(answer)));
        }
        let number = value.and_then(|text| text.trim().parse::<f64>().ok()).filter(|number| !number.is_nan());
        for (bound, low) in [(params.at_least, true), (params.at_most, false)] {
            let Some(bound) = bound else { continue };
            match number {
                None => return Some(format!("it answered {}, which is no number", told(answer))),
                Some(number) if low && number < bound => return Some(format!("{number} is less than {bound}")),
                Some(number) if !low && number > bound => return Some(format!("{number} is more than {bound}")),
                Some(_) => {}
            }
        }
        let rows = if answer.first.is_some() { answer.returned } else { answer.counted };
        let wanted = params.rows.filter(|wanted| rows != *wanted)?;
        Some(format!("{rows} rows, and not {wanted}"))
    }

    /// Commits. `Err` holds what became of it; the permit is asked for before each change.
    async fn change(&self, context: &ActionContext) -> Result<Result<String, Failure>, Denied> {
        let session = match self.begin(context, "").await {
            Ok(session) => session,
            Err(failure) => return Ok(Err(Failure { kind: failure.kind.before_sending(), ..failure })),
        };
        context.permit()?;
        // What a function changes outside of the transaction may be done when its answer is lost.
        let answer = match self.all(context, &session).await {
            Ok(answer) => answer,
            Err(failure) => return Ok(Err(rolled_back(failure))),
        };
        if let Some(unmet) = self.unmet(&answer) {
            return Ok(Err(Failure::refused(format!("rolled back: {unmet}"))));
        }
        // The statements may have taken long. Denied now, all is rolled back.
        context.permit()?;
        let committed = session.run("COMMIT", until(context, LOOK)).await;
        Ok(committed.map(|_| format!("committed; {}", told(&answer))).map_err(|failure| {
            match failure.code.as_deref() {
                // Serialization, or a constraint that is looked at now: not committed.
                Some(code) if code.starts_with("40") => Failure { kind: FailureKind::Again, ..failure },
                _ => failure,
            }
        }))
    }
}

/// An error of the server before COMMIT: it rolls back. Some are worth another try.
fn rolled_back(failure: Failure) -> Failure {
    match failure.code.as_deref() {
        // Cancelled by a timeout, a deadlock, a serialization failure.
        Some(code) if code == "57014" || code.starts_with("40") => Failure { kind: FailureKind::Again, ..failure },
        _ => failure,
    }
}

fn first(answer: &Answer) -> Option<&str> {
    answer.first.as_ref()?.first()?.as_deref()
}

/// The answer in a few words.
fn told(answer: &Answer) -> String {
    match &answer.first {
        None => format!("{} rows changed", answer.counted),
        Some(row) => {
            let text: String = match row.first().and_then(Option::as_deref) {
                None => "null".into(),
                Some(text) => format!("{:?}", value(text).chars().take(TOLD_CHARS).collect::<String>()),
            };
            let rows = if answer.returned == 1 { "row" } else { "rows" };
            format!("{text} ({} {rows})", answer.returned)
        }
    }
}

#[async_trait]
impl Action for Sql {
    async fn observe(&self, context: &ActionContext) -> Observed {
        if self.params.read_only {
            return Observed::InProgress { evidence: "looking".into() };
        }
        match self.is_done(context).await {
            None => Observed::Unobservable,
            Some(Ok((true, evidence))) => Observed::Done { evidence },
            Some(Ok((false, evidence))) => Observed::NotDone { evidence, before: Value::Null },
            Some(Err(failure)) => failure.observed(),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        if self.params.read_only {
            return Ok(only_looks());
        }
        Ok(match self.change(context).await? {
            Ok(evidence) => Applied::Accepted { evidence },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        if !self.params.read_only {
            return match self.is_done(context).await {
                // Called only after it was committed.
                None => Verified::yes("committed; there is nothing to look at"),
                Some(Ok((true, evidence))) => Verified::yes(evidence),
                Some(Ok((false, evidence))) => Verified::NotYet { evidence },
                Some(Err(failure)) => failure.verified(),
            };
        }
        match self.ask(context).await {
            Ok(answer) => match self.unmet(&answer) {
                None => Verified::Yes {
                    evidence: format!("it answered {}", told(&answer)),
                    outputs: output("value", first(&answer).unwrap_or_default()),
                },
                Some(evidence) => Verified::NotYet { evidence },
            },
            // Not a statement at all: waiting does not help. A table may still be on its way.
            Err(failure) if failure.code.as_deref() == Some("42601") => Verified::Failed { reason: failure.reason },
            Err(failure) => failure.verified(),
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_told_in_short_and_handed_on_bounded() {
        let answer = Answer { first: Some(vec![Some("x".repeat(5000))]), returned: 1, counted: 1 };
        assert!(told(&answer).len() < 150);
        assert_eq!(output("value", &"é\n".repeat(5000))["value"].chars().count(), 1000);
    }
}
