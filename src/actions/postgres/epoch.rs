//! The epoch that last changed a server, kept by the server itself: `failoverd.epoch_7 = 'RUN-…'` in
//! `postgresql.auto.conf`, which a standby takes too (its tables it does not). Nothing of it has to be
//! reloaded: `pg_file_settings` reads the file.
//!
//! There is a name for each epoch, and the highest counts: one that is late can add its own and not take
//! away a newer one. The change itself is asked for in the same statement that looks at the names, so
//! that a call that was held up between its permit and the server is refused by the server.
//!
//! What it cannot stop: a role that is no superuser may neither read nor write these names, and the change
//! goes without them (its evidence says so). `ALTER SYSTEM` takes no condition: one that was on its way
//! is done, and what makes it count (the reload, the end of sessions) is refused.

use std::time::Instant;

use super::literal;
use crate::actions::{Halt, fenced};
use crate::clients::postgres::Session;
use crate::clients::{Failure, FailureKind};
use crate::model::Applied;
use crate::ports::{ActionContext, Denied};

/// The highest epoch that is written down; 0 where there is none.
const NEWEST: &str = "SELECT coalesce(max(substring(name from '^failoverd\\.epoch_([0-9]{1,18})$')::bigint), 0) AS newest \
                      FROM pg_file_settings";

/// What the server answers instead of the change.
const OVERTAKEN: &str = "overtaken by ";

/// How many older names are taken away at once.
const OLDER: usize = 10;

/// Whether the server keeps an older epoch away from what comes next.
pub(super) enum Guard {
    /// Ours is written down, and the next call is conditional on it.
    Held,
    /// It cannot be: why.
    Without(String),
}

/// Why a change was given up.
pub(super) enum Stopped {
    /// The look or the mark failed, or a newer epoch was there.
    Halted(Halt),
    /// The permit was refused.
    Denied(Denied),
}

impl Stopped {
    /// As the outcome of an action that has changed nothing yet.
    pub(super) fn not_sent(self) -> Result<Applied, Denied> {
        match self {
            Self::Halted(halt) => Ok(halt.not_sent()),
            Self::Denied(denied) => Err(denied),
        }
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Halted(Halt::Blind(failure))
    }
}

/// Refuses a server that a higher epoch has changed. A role that may not look is told nothing.
pub(super) async fn ours(context: &ActionContext, session: &Session, until: Instant) -> Result<Guard, Halt> {
    match session.value(&format!("SELECT newest::text FROM ({NEWEST}) AS marks"), until).await {
        Ok(newest) => judged(context, &newest).map(|()| Guard::Held),
        Err(failure) if failure.kind == FailureKind::Denied => Ok(Guard::Without(failure.reason)),
        Err(failure) => Err(failure.into()),
    }
}

/// Writes our epoch down, unless a higher one is there.
pub(super) async fn mark(context: &ActionContext, session: &Session, until: Instant) -> Result<Guard, Stopped> {
    let name = format!("failoverd.epoch_{}", context.epoch);
    let run = literal(context.run.as_ref().map_or("none", |run| run.as_str()));
    // Before PostgreSQL 17 only a name that the session knows can be written down. In one go with the look:
    // each way to the server is on the way of the failover.
    let sql = format!(
        "SET {name} = {run}; SELECT coalesce(max(epoch), 0)::text, \
         coalesce(string_agg(epoch::text, ' ') FILTER (WHERE epoch < {}), '') FROM (SELECT DISTINCT \
         substring(name from '^failoverd\\.epoch_([0-9]{{1,18}})$')::bigint AS epoch FROM pg_file_settings) AS marks",
        context.epoch
    );
    let seen = match session.run(&sql, until).await {
        Ok(answer) => answer.first.unwrap_or_default(),
        Err(failure) if failure.kind == FailureKind::Denied => return Ok(Guard::Without(failure.reason)),
        Err(failure) => return Err(failure.into()),
    };
    let mut seen = seen.into_iter().flatten();
    judged(context, &seen.next().unwrap_or_default()).map_err(Stopped::Halted)?;
    context.permit().map_err(Stopped::Denied)?;
    match session.run(&format!("ALTER SYSTEM SET {name} = {run}"), until).await {
        Ok(_) => {}
        Err(failure) if failure.kind == FailureKind::Denied => return Ok(Guard::Without(failure.reason)),
        Err(failure) => return Err(failure.into()),
    }
    // One name, and not one for each run.
    let older = seen.next().unwrap_or_default();
    for epoch in older.split_ascii_whitespace().take(OLDER).filter_map(|text| text.parse::<u64>().ok()) {
        session.run(&format!("SET failoverd.epoch_{epoch} = ''"), until).await?;
        context.permit().map_err(Stopped::Denied)?;
        session.run(&format!("ALTER SYSTEM RESET failoverd.epoch_{epoch}"), until).await?;
    }
    Ok(Guard::Held)
}

/// Refuses where the highest epoch is above ours.
fn judged(context: &ActionContext, newest: &str) -> Result<(), Halt> {
    let newest = newest.parse().map_err(|_| Failure::unknown("postgres: an epoch that is not a number"))?;
    // A dry run has no epoch of its own yet.
    if context.run.is_some() && newest > context.epoch.0 {
        return Err(Halt::Overtaken(fenced("the server", newest, context.epoch.0)));
    }
    Ok(())
}

impl Guard {
    /// Asks the server for `expression`, which changes something, in the statement that looks at the
    /// epochs. Its value as text; the permit is asked for immediately before.
    pub(super) async fn call(
        &self,
        context: &ActionContext,
        session: &Session,
        expression: &str,
        until: Instant,
    ) -> Result<String, Stopped> {
        let sql = match self {
            Self::Held => format!(
                "SELECT CASE WHEN newest > {} THEN '{OVERTAKEN}' || newest ELSE ({expression})::text END \
                 FROM ({NEWEST}) AS marks",
                context.epoch
            ),
            Self::Without(_) => format!("SELECT ({expression})::text"),
        };
        context.permit().map_err(Stopped::Denied)?;
        let answer = session.value(&sql, until).await?;
        match answer.strip_prefix(OVERTAKEN).and_then(|newest| newest.parse().ok()) {
            Some(newest) => Err(Stopped::Halted(Halt::Overtaken(fenced("the server", newest, context.epoch.0)))),
            None => Ok(answer),
        }
    }

    /// What the evidence says of it.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Held => String::new(),
            Self::Without(reason) => format!("; an older epoch is not kept away: {reason}"),
        }
    }
}
