//! The proof that a server takes writes, and `postgres.verify_write`.

use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;

use super::{identifier, literal, same_cluster, table};
use crate::actions::{LOOK, only_looks, until};
use crate::clients::Failure;
use crate::clients::postgres::{Session, connect};
use crate::config::SecretText;
use crate::config::action::PostgresVerifyWrite;
use crate::config::action::postgres::is_table_name;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// How long the commit that proves a write may take before it counts as hanging.
const COMMIT: Duration = Duration::from_secs(2);

/// Where the server is, for a second connection.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub url: &'a SecretText,
    pub ca_file: Option<&'a Path>,
}

/// Commits a write that leaves nothing in any schema, a logical message in the WAL, and reads back
/// that it was committed. It needs all that a row would need: a transaction id, the disk, and the
/// synchronous standbys.
pub(super) async fn proven(context: &ActionContext, place: Place<'_>, session: &Session, until: Instant) -> Verified {
    match session.value("SELECT current_setting('transaction_read_only')", until).await {
        Ok(setting) if setting == "off" => {}
        Ok(_) => return not_yet("not in recovery, and transactions are read-only by default"),
        Err(failure) => return failure.verified(),
    }
    let epoch = context.epoch;
    let sql = format!("SELECT pg_logical_emit_message(true, 'failoverd', 'epoch={epoch}')::text, txid_current()::text");
    let commit_until = until.min(Instant::now() + COMMIT);
    let (lsn, transaction) = match session.row(&sql, commit_until).await.map(|row| row.into_iter()) {
        Ok(mut row) => match (row.next().flatten(), row.next().flatten()) {
            (Some(lsn), Some(transaction)) => (lsn, transaction),
            _ => return not_yet("not in recovery, and a write was answered with nothing"),
        },
        Err(_) if Instant::now() >= commit_until => {
            // Else each further look would leave one more backend waiting.
            session.cancel(Duration::from_millis(500)).await;
            return not_yet(&format!(
                "not in recovery, but a commit did not end within {COMMIT:?}: {}",
                waits_for(context, place).await
            ));
        }
        Err(failure) => return failure.verified(),
    };
    match session.value(&format!("SELECT txid_status({transaction})"), until).await {
        Ok(status) if status == "committed" => {
            Verified::yes(format!("not in recovery; a write was committed at {lsn}, and is read back as committed"))
        }
        Ok(status) => not_yet(&format!("not in recovery, but a write at {lsn} is read back as {status}")),
        Err(failure) => failure.verified(),
    }
}

/// Why commits may hang, asked on a new connection: the old one waits.
async fn waits_for(context: &ActionContext, place: Place<'_>) -> String {
    let until = until(context, LOOK);
    let asked = async {
        let session = connect(place.url, place.ca_file, until).await?;
        session.value("SELECT current_setting('synchronous_standby_names')", until).await
    };
    match asked.await {
        Ok(names) if names.is_empty() => "not for a synchronous standby; is its disk slow or full?".into(),
        Ok(names) => format!("it waits for a synchronous standby (synchronous_standby_names = '{names}')"),
        Err(failure) => failure.reason,
    }
}

fn not_yet(evidence: &str) -> Verified {
    Verified::NotYet { evidence: evidence.to_owned() }
}

/// Looks until the server takes a write.
pub(super) struct VerifyWrite {
    params: PostgresVerifyWrite,
}

impl VerifyWrite {
    pub(super) fn new(params: PostgresVerifyWrite) -> Result<Self, String> {
        match &params.table {
            Some(name) if !is_table_name(name) => Err(format!("`{name}` is not the name of a table")),
            None if !params.row.is_empty() => Err("there is a row and no `table` for it".into()),
            _ => Ok(Self { params }),
        }
    }

    /// Inserts the row, with all its checks, reads it back, and rolls it back.
    async fn insert(&self, session: &Session, name: &str, until: Instant) -> Result<String, Failure> {
        let columns: Vec<String> = self.params.row.keys().map(|column| identifier(column)).collect();
        let values: Vec<String> = self.params.row.values().map(|text| literal(text)).collect();
        let row = if columns.is_empty() {
            "DEFAULT VALUES".into()
        } else {
            format!("({}) VALUES ({})", columns.join(", "), values.join(", "))
        };
        session.run("BEGIN; SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '2s'", until).await?;
        let sql = format!("INSERT INTO {} {row} RETURNING ctid", table(name));
        let inserted = session.run(&sql, until).await?;
        let Some(place) = inserted.first.and_then(|row| row.into_iter().next().flatten()) else {
            return Err(Failure::unknown(format!("{name} took a row and did not keep it (a trigger?)")));
        };
        session.run("SET CONSTRAINTS ALL IMMEDIATE", until).await?;
        let sql = format!("SELECT 1 FROM {} WHERE ctid = '{place}'", table(name));
        if session.run(&sql, until).await?.returned == 0 {
            return Err(Failure::unknown(format!("the row that {name} took cannot be read back")));
        }
        session.run("ROLLBACK", until).await?;
        Ok(format!("{name} took a row, which was read back and rolled back"))
    }
}

#[async_trait]
impl Action for VerifyWrite {
    async fn observe(&self, _context: &ActionContext) -> Observed {
        Observed::InProgress { evidence: "looking whether it takes writes".into() }
    }

    async fn apply(&self, _context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        Ok(only_looks())
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let until = until(context, LOOK);
        let place = Place { url: &self.params.url, ca_file: self.params.ca_file.as_deref() };
        let looked = async {
            let session = connect(place.url, place.ca_file, until).await?;
            same_cluster(&session, self.params.system_identifier.as_deref(), until).await?;
            if session.value("SELECT pg_is_in_recovery()::text", until).await? == "true" {
                return Ok(not_yet("in recovery: it is a standby"));
            }
            let proven = proven(context, place, &session, until).await;
            match (&self.params.table, proven) {
                (Some(name), Verified::Yes { evidence, .. }) => {
                    let inserted = self.insert(&session, name, until).await?;
                    Ok(Verified::yes(format!("{evidence}; {inserted}")))
                }
                (_, proven) => Ok::<_, Failure>(proven),
            }
        };
        looked.await.unwrap_or_else(Failure::verified)
    }
}
