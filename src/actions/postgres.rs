//! `postgres.promote`.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;

use crate::actions::{CHANGE, LOOK, until};
use crate::clients::Failure;
use crate::clients::postgres::{Session, connect};
use crate::config::action::PostgresPromote;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// How long the commit that proves a write may take before it counts as hanging.
const COMMIT: Duration = Duration::from_secs(2);

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
        if let Some(wanted) = &self.params.system_identifier {
            let sql = "SELECT system_identifier::text FROM pg_control_system()";
            let actual = session.value(sql, until).await?;
            if actual != *wanted {
                return Err(Failure::refused(format!(
                    "another cluster: its system identifier is {actual}, not {wanted}"
                )));
            }
        }
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

    /// Commits a write that leaves nothing in any schema: a logical message in the WAL. It needs
    /// all that a row would need: a transaction id, the disk, and the synchronous standbys.
    async fn write(&self, context: &ActionContext, session: &Session, until: Instant) -> Verified {
        match session.value("SELECT current_setting('transaction_read_only')", until).await {
            Ok(setting) if setting == "off" => {}
            Ok(_) => return not_yet("not in recovery, and transactions are read-only by default"),
            Err(failure) => return failure.verified(),
        }
        let epoch = context.epoch;
        let sql = format!("SELECT pg_logical_emit_message(true, 'failoverd', 'epoch={epoch}')::text");
        let commit_until = until.min(Instant::now() + COMMIT);
        match session.value(&sql, commit_until).await {
            Ok(lsn) => Verified::yes(format!("not in recovery; a write was committed at {lsn}")),
            Err(_) if Instant::now() >= commit_until => {
                // Else each further look would leave one more backend waiting.
                session.cancel(Duration::from_millis(500)).await;
                not_yet(&format!(
                    "not in recovery, but a commit did not end within {COMMIT:?}: {}",
                    self.waits_for(context).await
                ))
            }
            Err(failure) => failure.verified(),
        }
    }

    /// Why commits may hang, asked on a new connection: the old one waits.
    async fn waits_for(&self, context: &ActionContext) -> String {
        let until = until(context, LOOK);
        let asked = async {
            let session = self.session(until).await?;
            session.value("SELECT current_setting('synchronous_standby_names')", until).await
        };
        match asked.await {
            Ok(names) if names.is_empty() => "not for a synchronous standby; is its disk slow or full?".into(),
            Ok(names) => format!("it waits for a synchronous standby (synchronous_standby_names = '{names}')"),
            Err(failure) => failure.reason,
        }
    }
}

fn not_yet(evidence: &str) -> Verified {
    Verified::NotYet { evidence: evidence.to_owned() }
}

#[async_trait]
impl Action for Promote {
    async fn observe(&self, context: &ActionContext) -> Observed {
        let until = until(context, LOOK);
        let looked = async { self.look(&self.session(until).await?, until).await };
        match looked.await {
            Ok(Server { recovering: false, told }) => Observed::Done { evidence: told },
            Ok(Server { recovering: true, told }) => Observed::NotDone { evidence: told, before: Value::Null },
            Err(failure) => failure.observed(),
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
        context.permit()?;
        // Without waiting: verify does that, and an answer in time keeps the outcome known.
        Ok(match session.value("SELECT pg_promote(false)::text", until).await {
            Ok(asked) if asked == "true" => Applied::Accepted { evidence: "PostgreSQL took the promotion".into() },
            Ok(_) => Applied::Unknown { reason: "pg_promote answered false".into() },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let until = until(context, LOOK);
        let session = match self.session(until).await {
            Ok(session) => session,
            Err(failure) => return failure.verified(),
        };
        match self.look(&session, until).await {
            Ok(Server { recovering: false, .. }) => self.write(context, &session, until).await,
            Ok(Server { told, .. }) => Verified::NotYet { evidence: told },
            Err(failure) => failure.verified(),
        }
    }
}
