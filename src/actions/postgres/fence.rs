//! `postgres.fence`.
//!
//! Several changes, in an order that leaves less to do after each: the setting is written down, the
//! server reads it, the older sessions are ended. A look tells what is left
//! after a crash at any point, and each of them may be made twice.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::epoch::{self, Stopped};
use super::same_cluster;
use crate::actions::{CHANGE, Halt, LOOK, until};
use crate::clients::Failure;
use crate::clients::postgres::{Session, connect};
use crate::config::action::PostgresFence;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// What a write is refused with in a transaction that is read-only.
const READ_ONLY: &str = "25006";

/// Sessions of clients that may still write. What we may not see of a session counts as one.
const OLDER: &str = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND (backend_type IS NULL OR \
     (backend_type = 'client backend' AND (backend_start IS NULL OR backend_start < pg_conf_load_time())))";

/// Makes a primary refuse writes.
pub(super) struct Fence {
    params: PostgresFence,
}

/// How far it is fenced.
struct Seen {
    /// The server's own setting, and the server has read it.
    read_only: bool,
    /// Sessions that may still write: older than the setting.
    sessions: u64,
    /// Prepared transactions, which anybody may still commit.
    prepared: u64,
}

impl Seen {
    fn is_fenced(&self) -> bool {
        self.read_only && self.sessions == 0
    }

    fn told(&self) -> String {
        let setting = if self.read_only { "on" } else { "off" };
        let mut text = format!(
            "default_transaction_read_only is {setting} for the server; {} older sessions of clients",
            self.sessions
        );
        if self.prepared > 0 {
            text.push_str(&format!("; {} prepared transactions can still be committed", self.prepared));
        }
        text
    }
}

impl Fence {
    pub(super) fn new(params: PostgresFence) -> Self {
        Self { params }
    }

    /// A session of its own for each look: an older one keeps the setting that it has.
    async fn session(&self, until: Instant) -> Result<Session, Failure> {
        let session = connect(&self.params.url, self.params.ca_file.as_deref(), until).await?;
        same_cluster(&session, self.params.system_identifier.as_deref(), until).await?;
        Ok(session)
    }

    async fn look(&self, session: &Session, until: Instant) -> Result<Seen, Failure> {
        if session.value("SELECT pg_is_in_recovery()::text", until).await? == "true" {
            return Err(Failure::refused(
                "in recovery: it is a standby and not the old primary, and fenced it would refuse writes after its promotion",
            ));
        }
        self.held(session, until).await?;
        let sql = "SELECT (setting = 'on' AND source IN ('configuration file', 'command line'))::text \
                   FROM pg_settings WHERE name = 'default_transaction_read_only'";
        let read_only = session.value(sql, until).await? == "true";
        let sessions = number(session, &format!("SELECT count(*)::text {OLDER}"), until).await?;
        let prepared = number(session, "SELECT count(*)::text FROM pg_prepared_xacts", until).await?;
        Ok(Seen { read_only, sessions, prepared })
    }

    /// A role or a database with a setting of its own would not be held.
    async fn held(&self, session: &Session, until: Instant) -> Result<(), Failure> {
        let sql = "SELECT coalesce(string_agg(coalesce('role ' || r.rolname, '') || \
                   coalesce(' database ' || d.datname, ''), ', '), '') \
                   FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole \
                   LEFT JOIN pg_database d ON d.oid = s.setdatabase \
                   WHERE EXISTS (SELECT 1 FROM unnest(s.setconfig) c \
                   WHERE c ~* '^(default_transaction_read_only|transaction_read_only)=')";
        match session.value(sql, until).await?.trim() {
            "" => Ok(()),
            who => Err(Failure::refused(format!(
                "default_transaction_read_only is set of its own for {who}, which the fence would not hold; \
                 reset it there (ALTER ROLE/DATABASE … RESET default_transaction_read_only)"
            ))),
        }
    }

    /// All that is left to do: how many sessions were ended, and what there is to say of the epoch. `changed`
    /// tells whether anything was changed by then.
    async fn raise(&self, context: &ActionContext, changed: &mut bool) -> Result<(u64, String), Stopped> {
        let by = until(context, CHANGE);
        let session = self.session(by).await?;
        let seen = self.look(&session, by).await?;
        let guard = epoch::mark(context, &session, by).await?;
        if !seen.read_only {
            context.permit().map_err(Stopped::Denied)?;
            *changed = true;
            session.run("ALTER SYSTEM SET default_transaction_read_only = on", by).await?;
            guard.call(context, &session, "pg_reload_conf()", by).await?;
        }
        drop(session);
        // Ended before the server has read the setting, clients would come back and write.
        let session = self.once_read(by).await?;
        *changed = true;
        let ended = format!(
            "SELECT count(*) FILTER (WHERE ended) FROM (SELECT pg_terminate_backend(pid) AS ended {OLDER}) AS sessions"
        );
        let ended = guard.call(context, &session, &ended, by).await?;
        let ended = ended.parse().map_err(|_| Failure::unknown("postgres: a count that is not a number"))?;
        Ok((ended, guard.told()))
    }

    /// A session that began after the server had read the setting.
    async fn once_read(&self, until: Instant) -> Result<Session, Failure> {
        loop {
            let session = self.session(until).await?;
            if self.look(&session, until).await?.read_only {
                return Ok(session);
            }
            if Instant::now() + Duration::from_millis(100) >= until {
                return Err(Failure::unknown("the server has not read its new setting in time"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The server's own words where it refuses a write.
    async fn refused_write(&self, until: Instant) -> Result<String, Failure> {
        let session = self.session(until).await?;
        session.run("BEGIN", until).await?;
        match session.run("CREATE TABLE failoverd_fence_proof ()", until).await {
            Err(failure) if failure.code.as_deref() == Some(READ_ONLY) => Ok(failure.reason),
            Err(failure) => Err(failure),
            // Never committed: the session ends with it.
            Ok(_) => Err(Failure::again("a write was taken all the same (and rolled back)")),
        }
    }

    /// All that is to be brought back, whatever of it was done.
    async fn lift(&self, context: &ActionContext) -> Result<(), Stopped> {
        let by = until(context, CHANGE);
        let session = self.session(by).await?;
        let guard = epoch::mark(context, &session, by).await?;
        context.permit().map_err(Stopped::Denied)?;
        session.run("ALTER SYSTEM RESET default_transaction_read_only", by).await?;
        guard.call(context, &session, "pg_reload_conf()", by).await?;
        Ok(())
    }
}

async fn number(session: &Session, sql: &str, until: Instant) -> Result<u64, Failure> {
    let text = session.value(sql, until).await?;
    text.parse().map_err(|_| Failure::unknown("postgres: a count that is not a number"))
}

#[async_trait]
impl Action for Fence {
    async fn observe(&self, context: &ActionContext) -> Observed {
        let until = until(context, LOOK);
        let looked = async {
            let session = self.session(until).await?;
            let seen = self.look(&session, until).await?;
            if !seen.is_fenced() {
                epoch::ours(context, &session, until).await?;
            }
            Ok::<_, Halt>(seen)
        };
        match looked.await {
            Ok(seen) if seen.is_fenced() => Observed::Done { evidence: seen.told() },
            Ok(seen) => Observed::NotDone { evidence: seen.told(), before: json!({ "read_only": seen.read_only }) },
            Err(halt) => halt.observed(),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let mut changed = false;
        match self.raise(context, &mut changed).await {
            Ok((ended, told)) => {
                Ok(Applied::Accepted { evidence: format!("it was set; {ended} sessions were ended{told}") })
            }
            Err(stopped) if !changed => stopped.not_sent(),
            // A part of it may stand: it has to be looked at, and can be undone.
            Err(Stopped::Denied(denied)) => Ok(Applied::Unknown { reason: denied.to_string() }),
            Err(Stopped::Halted(Halt::Blind(failure))) => Ok(Applied::Unknown { reason: failure.reason }),
            Err(Stopped::Halted(Halt::Overtaken(reason))) => Ok(Applied::Unknown { reason }),
        }
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let until = until(context, LOOK);
        let looked = async {
            let seen = self.look(&self.session(until).await?, until).await?;
            if !seen.is_fenced() {
                return Ok(Verified::NotYet { evidence: seen.told() });
            }
            let words = self.refused_write(until).await?;
            Ok::<_, Failure>(Verified::yes(format!("a write was refused: {words}; {}", seen.told())))
        };
        looked.await.unwrap_or_else(Failure::verified)
    }

    async fn compensate(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        match self.lift(context).await {
            Ok(()) => Ok(Applied::Accepted { evidence: "the fence was lifted: new sessions may write".into() }),
            Err(Stopped::Halted(Halt::Blind(failure))) => Ok(failure.applied()),
            Err(stopped) => stopped.not_sent(),
        }
    }
}
