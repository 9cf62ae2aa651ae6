//! `postgres.promote`, and what all actions of PostgreSQL share.

mod counts;
mod epoch;
mod fence;
mod follow;
pub(super) mod restore;
mod sql;
mod standby;
mod write;

use std::time::Instant;

use async_trait::async_trait;
use serde_json::Value;

use self::epoch::Stopped;
use crate::actions::ready::failed;
use crate::actions::{CHANGE, Halt, LOOK, until};
use crate::clients::Failure;
use crate::clients::postgres::{Session, connect};
use crate::config::action::{PostgresAction, PostgresPromote};
use crate::model::{Applied, Finding, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied, ReadyContext};

/// Builds the action of this family.
///
/// # Errors
/// What is wrong with its parameters.
pub fn build(action: PostgresAction) -> Result<Box<dyn Action>, String> {
    Ok(match action {
        PostgresAction::Promote(params) => Box::new(Promote::new(params)),
        PostgresAction::Sql(params) => Box::new(sql::Sql::new(params)?),
        PostgresAction::VerifyWrite(params) => Box::new(write::VerifyWrite::new(params)?),
        PostgresAction::Fence(params) => Box::new(fence::Fence::new(params)),
        PostgresAction::Follow(params) => Box::new(follow::Follow::new(params)),
        PostgresAction::Restore(params) => Box::new(restore::Restore::new(params)?),
        PostgresAction::CompareCounts(params) => Box::new(counts::CompareCounts::new(params)?),
    })
}

/// Refuses a server of another cluster, since an address may have come to lead elsewhere.
async fn same_cluster(session: &Session, wanted: Option<&str>, until: Instant) -> Result<(), Failure> {
    let Some(wanted) = wanted else { return Ok(()) };
    let sql = "SELECT system_identifier::text FROM pg_control_system()";
    let actual = session.value(sql, until).await?;
    if actual == wanted {
        Ok(())
    } else {
        Err(Failure::refused(format!("another cluster: its system identifier is {actual}, not {wanted}")))
    }
}

/// A name as SQL reads it, with its capitals.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `table` or `schema.table` as SQL reads it.
fn table(name: &str) -> String {
    name.split('.').map(identifier).collect::<Vec<_>>().join(".")
}

/// A text as SQL reads it, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Makes a standby writable. Needs PostgreSQL 12 or later.
///
/// Without `system_identifier` a server that is not in recovery is taken for promoted, whichever
/// cluster it belongs to.
/// <https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL>
pub struct Promote {
    params: PostgresPromote,
}

/// What is asked of a server.
struct Server {
    recovering: bool,
    /// Of what it says about itself, for the journal.
    told: String,
}

impl Promote {
    /// The action for these parameters.
    pub fn new(params: PostgresPromote) -> Self {
        Self { params }
    }

    async fn session(&self, until: Instant) -> Result<Session, Failure> {
        connect(&self.params.url, self.params.ca_file.as_deref(), until).await
    }

    /// Looks at the server; a server of another cluster is refused, since an address may have come
    /// to lead elsewhere.
    async fn look(&self, session: &Session, until: Instant) -> Result<Server, Failure> {
        same_cluster(session, self.params.system_identifier.as_deref(), until).await?;
        let recovering = session.value("SELECT pg_is_in_recovery()::text", until).await? == "true";
        let told = if recovering {
            let sql = "SELECT coalesce(pg_last_wal_receive_lsn()::text, 'nothing'), \
                       coalesce(pg_last_wal_replay_lsn()::text, 'nothing')";
            let mut row = session.row(sql, until).await?.into_iter().flatten();
            let mut next = || row.next().unwrap_or_else(|| "nothing".into());
            format!("in recovery; received up to {}, replayed up to {}", next(), next())
        } else {
            "not in recovery".into()
        };
        Ok(Server { recovering, told })
    }
}

#[async_trait]
impl Action for Promote {
    async fn ready(&self, look: &ReadyContext) -> Vec<Finding> {
        let until = until(&look.context, LOOK);
        let session = match self.session(until).await {
            Ok(session) => session,
            Err(failure) => return vec![failed("PostgreSQL standby", failure)],
        };
        standby::ready(&session, self.params.system_identifier.as_deref(), until).await
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let until = until(context, LOOK);
        let looked = async {
            let session = self.session(until).await?;
            let server = self.look(&session, until).await?;
            if server.recovering {
                epoch::ours(context, &session, until).await?;
            }
            Ok::<_, Halt>(server)
        };
        match looked.await {
            Ok(Server { recovering: false, told }) => Observed::Done { evidence: told },
            Ok(Server { recovering: true, told }) => Observed::NotDone { evidence: told, before: Value::Null },
            Err(halt) => halt.observed(),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let ready = async {
            let session = self.session(until).await?;
            let server = self.look(&session, until).await?;
            if server.recovering { Ok(session) } else { Err(Failure::again("not in recovery any more")) }
        };
        let session = match ready.await {
            Ok(session) => session,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let guard = match epoch::mark(context, &session, until).await {
            Ok(guard) => guard,
            Err(stopped) => return stopped.not_sent(),
        };
        // Without waiting: verify does that, and an answer in time keeps the outcome known.
        match guard.call(context, &session, "pg_promote(false)", until).await {
            Ok(asked) if asked == "true" => {
                Ok(Applied::Accepted { evidence: format!("PostgreSQL took the promotion{}", guard.told()) })
            }
            Ok(_) => Ok(Applied::Unknown { reason: "pg_promote answered false".into() }),
            Err(Stopped::Halted(Halt::Blind(failure))) => Ok(failure.applied()),
            Err(stopped) => stopped.not_sent(),
        }
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let until = until(context, LOOK);
        let session = match self.session(until).await {
            Ok(session) => session,
            Err(failure) => return failure.verified(),
        };
        match self.look(&session, until).await {
            Ok(Server { recovering: false, .. }) => {
                let place = write::Place { url: &self.params.url, ca_file: self.params.ca_file.as_deref() };
                write::proven(context, place, &session, until).await
            }
            Ok(Server { told, .. }) => Verified::NotYet { evidence: told },
            Err(failure) => failure.verified(),
        }
    }
}
