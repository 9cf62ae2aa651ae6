//! PostgreSQL, asked directly.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Output, Parameters, service, shown};
use crate::config::check::common::{file_is_there, not_zero};
use crate::config::check::secrets;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::{EffectKind, HumanDuration, Repeat};

/// `postgres.promote`: done when the server is not in recovery and a write in it was committed. Needs
/// `EXECUTE` on `pg_promote(boolean, integer)`, and on `pg_control_system()` with `system_identifier`.
///
/// As a superuser it also writes down its epoch (`ALTER SYSTEM SET failoverd.epoch_7`, in place of older
/// ones), and the server refuses a promotion under an older epoch in the very statement that asks for it.
/// Any other role may not do that: it promotes all the same, and its evidence says so.
/// <https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresPromote {
    /// The standby: `postgresql://…`, by reference where it holds a password.
    pub url: SecretText,
    /// The system identifier that the standby must have (`SELECT system_identifier FROM
    /// pg_control_system()`); another cluster is refused.
    #[serde(default)]
    pub system_identifier: Option<String>,
    /// The name of the service for the guard "one promotion per service and epoch" (default:
    /// `postgres`).
    #[serde(default)]
    pub service: Option<String>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<std::path::PathBuf>,
}

impl Parameters for PostgresPromote {
    fn effect(&self) -> EffectKind {
        EffectKind::Promote
    }

    fn service(&self) -> Option<String> {
        Some(self.service.clone().unwrap_or_else(|| "postgres".into()))
    }

    fn target(&self) -> String {
        format!("PostgreSQL at {}", shown(&self.url))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(5)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["postgresql", "postgres"]);
        service(report, at, self.service.as_deref());
        file_is_there(report, &at.key("ca_file"), self.ca_file.as_deref());
    }
}

/// `postgres.sql`: one statement, or several in one transaction.
///
/// `read_only` (the default) is a look: done when the answer is as `expect`, `at_least`, `at_most` and
/// `rows` say; until then it is asked again, as long as the step has time. It takes SELECT, WITH,
/// VALUES, TABLE, SHOW and EXPLAIN, in a transaction that is READ ONLY. What PostgreSQL lets such a
/// transaction do all the same (`pg_promote()`, `nextval()`, `pg_terminate_backend()`) is refused.
///
/// With `read_only = false` it changes something: done when it was committed; where the answer is not
/// as expected, it is rolled back and refused. After an unknown outcome it is repeated only where
/// `done_when` tells that it was not done, or `idempotent = true` says that twice does no harm; else
/// the run is parked. What cannot run in a transaction (VACUUM, CREATE DATABASE) is refused.
///
/// Needs what the statements need. What they answer is journalled: ask for nothing secret.
/// <https://www.postgresql.org/docs/current/sql-commands.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresSql {
    /// The server: `postgresql://…`, by reference where it holds a password.
    pub url: SecretText,
    /// One statement, or a list of them that runs in one transaction.
    pub statement: Statements,
    /// Does it only look (default: true)?
    #[serde(default = "yes")]
    pub read_only: bool,
    /// What the first column of the first row must be, as text: `"0"`, `"t"`.
    #[serde(default)]
    pub expect: Option<String>,
    /// What the first column of the first row must be at least, as a number.
    #[serde(default)]
    pub at_least: Option<f64>,
    /// What the first column of the first row must be at most, as a number.
    #[serde(default)]
    pub at_most: Option<f64>,
    /// How many rows the last statement must return; where it returns none, how many it must change.
    #[serde(default)]
    pub rows: Option<u64>,
    /// For `read_only = false`: a query whose first column is true once it was done.
    #[serde(default)]
    pub done_when: Option<String>,
    /// For `read_only = false`: may it be done twice (default: false)?
    #[serde(default)]
    pub idempotent: bool,
    /// After how long the server gives one statement up (default: 30s).
    #[serde(default = "half_a_minute")]
    pub statement_timeout: HumanDuration,
    /// How long one statement waits for a lock (default: 5s).
    #[serde(default = "five_seconds")]
    pub lock_timeout: HumanDuration,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<std::path::PathBuf>,
}

/// One statement, or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Statements {
    /// One.
    One(String),
    /// Several, in one transaction.
    Several(Vec<String>),
}

impl Statements {
    /// Each of them.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(statement) => std::slice::from_ref(statement),
            Self::Several(statements) => statements,
        }
    }
}

/// The first word of a statement, in capitals; comments before it are passed over.
fn first_word(statement: &str) -> String {
    let mut rest = statement.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == ';');
    loop {
        let after = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, after)| after)
        } else {
            return rest.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_uppercase();
        };
        rest = after.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == ';');
    }
}

/// What a READ ONLY transaction may do, and what changes the server or other sessions all the same.
const CHANGES_ALL_THE_SAME: [&str; 24] = [
    "pg_promote",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_switch_wal",
    "pg_wal_replay_pause",
    "pg_wal_replay_resume",
    "pg_create_restore_point",
    "pg_create_physical_replication_slot",
    "pg_create_logical_replication_slot",
    "pg_drop_replication_slot",
    "pg_replication_slot_advance",
    "pg_logical_emit_message",
    "pg_logical_slot_get_changes",
    "pg_backup_start",
    "pg_backup_stop",
    "pg_start_backup",
    "pg_stop_backup",
    "pg_advisory_lock",
    "nextval",
    "setval",
    "dblink",
    "lo_export",
];

impl PostgresSql {
    /// What is wrong with its statements, with what to do: also asked before it is built, since
    /// nothing else keeps a look from changing something.
    ///
    /// # Errors
    /// The message, and the fix.
    pub fn sound(&self) -> Result<(), (String, &'static str)> {
        let statements = self.statement.all();
        if statements.is_empty() {
            return Err(("there is no statement".into(), "write one"));
        }
        for statement in statements {
            let word = first_word(statement);
            match word.as_str() {
                "" => return Err(("a statement is empty".into(), "write it, or take it out")),
                "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT" | "SAVEPOINT" | "RELEASE" => {
                    return Err((
                        format!("{word} controls the transaction, and that is ours: all statements run in one"),
                        "take it out",
                    ));
                }
                "SELECT" | "WITH" | "VALUES" | "TABLE" | "SHOW" | "EXPLAIN" => {}
                _ if self.read_only => {
                    return Err((
                        format!("{word} does not only look"),
                        "say `read_only = false`, and `done_when` or `idempotent` where it may be repeated",
                    ));
                }
                _ => {}
            }
            let text = statement.to_lowercase();
            let found = CHANGES_ALL_THE_SAME.iter().find(|name| text.contains(**name));
            if let Some(name) = found.filter(|_| self.read_only) {
                return Err((
                    format!("`{name}` changes the server, also in a transaction that is READ ONLY"),
                    "say `read_only = false`, and `done_when` or `idempotent` where it may be repeated",
                ));
            }
        }
        if self.read_only && (self.done_when.is_some() || self.idempotent) {
            return Err((
                "`done_when` and `idempotent` are for what changes something, and this only looks".into(),
                "leave them out, or say `read_only = false`",
            ));
        }
        if self.done_when.as_deref().is_some_and(|query| !matches!(first_word(query).as_str(), "SELECT" | "WITH")) {
            return Err(("`done_when` is not a query".into(), "write it as `SELECT …`"));
        }
        Ok(())
    }
}

impl PostgresSql {
    /// What it hands on.
    pub const OUTPUTS: &'static [Output] = &[Output {
        name: "value",
        meaning: "the first column of the first row of a look, at most 1,000 characters; empty where there is none",
        sample: "1",
    }];
}

impl Parameters for PostgresSql {
    fn effect(&self) -> EffectKind {
        if self.read_only { EffectKind::Verify } else { EffectKind::Call }
    }

    fn repeat(&self) -> Repeat {
        match self {
            Self { read_only: true, .. } | Self { done_when: Some(_), .. } => Repeat::ByObservation,
            Self { idempotent: true, .. } => Repeat::AtLeastOnce,
            _ => Repeat::Never,
        }
    }

    fn target(&self) -> String {
        let how = if self.read_only { "asked of" } else { "run at" };
        let mut words = self.statement.all().iter().map(|statement| first_word(statement));
        let first = words.next().unwrap_or_default();
        let more = words.count();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{first}{more}, {how} PostgreSQL at {}", shown(&self.url))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(1)
    }

    fn outputs(&self) -> &'static [Output] {
        // What a change answered is known to nobody after a crash.
        if self.read_only { Self::OUTPUTS } else { &[] }
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["postgresql", "postgres"]);
        file_is_there(report, &at.key("ca_file"), self.ca_file.as_deref());
        not_zero(report, &at.key("statement_timeout"), Some(self.statement_timeout));
        not_zero(report, &at.key("lock_timeout"), Some(self.lock_timeout));
        if let Err((message, fix)) = self.sound() {
            report.error("bad_statement", &at.key("statement"), message, fix);
        }
    }
}

/// `postgres.verify_write`: looks until the server takes a write. Done when it is not in recovery, a
/// write was committed and is read back as committed. The write is a logical message in the WAL and
/// leaves nothing in any schema. With `table`, a row is inserted there, too, read back, and rolled back.
/// Needs `EXECUTE` on `pg_logical_emit_message`, and `INSERT` and `SELECT` on the table.
/// <https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresVerifyWrite {
    /// The server: `postgresql://…`, by reference where it holds a password.
    pub url: SecretText,
    /// A table that must take a row, as `table` or `schema.table`, with capitals as they are.
    #[serde(default)]
    pub table: Option<String>,
    /// The row: values by column, read as SQL reads a text (`timestamp = "now"`). Columns that are not
    /// given take their defaults.
    #[serde(default)]
    pub row: BTreeMap<String, String>,
    /// The system identifier that the server must have.
    #[serde(default)]
    pub system_identifier: Option<String>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<std::path::PathBuf>,
}

impl Parameters for PostgresVerifyWrite {
    fn effect(&self) -> EffectKind {
        EffectKind::Verify
    }

    fn target(&self) -> String {
        format!("writes at PostgreSQL at {}", shown(&self.url))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(1)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["postgresql", "postgres"]);
        file_is_there(report, &at.key("ca_file"), self.ca_file.as_deref());
        if let Some(table) = &self.table {
            table_name(report, &at.key("table"), table);
        } else if !self.row.is_empty() {
            report.error("empty", &at.key("row"), "there is a row and no table for it", "write `table`, too");
        }
    }
}

/// `postgres.fence`: makes the old primary refuse writes, before a standby is promoted in its place.
///
/// It sets `default_transaction_read_only = on` for the whole server, and ends the sessions of all
/// clients that were there before (not replication, so that the standby still receives what was
/// committed). Done when a new session's write was refused with that reason, and no older session is
/// left; the refusal is the evidence.
///
/// What it guarantees: every transaction that begins from then on is read-only, unless its session
/// asks for writes by itself. That any user may do (`SET transaction_read_only = off`), and a driver
/// does where it is told to (`setReadOnly(false)`); superusers can lift the fence altogether. Against
/// these close the network, too. (Databases are not closed: `ALLOW_CONNECTIONS` and `CONNECT` are in
/// the catalog, the standby would receive them, and once promoted take no connections either.) What is
/// committed without a client's session goes on: prepared transactions (counted in the evidence),
/// logical subscriptions, and background workers (`pg_cron`). A role or database with a
/// `default_transaction_read_only` of its own would not be held: the fence is then impossible, and says
/// which.
///
/// A server that cannot be reached is not fenced: it may come back and take writes. Fence it in
/// another way then (its network, its power). A server in recovery is refused: it is a standby, and
/// would refuse writes after its promotion. The setting stays over a restart. Undone by resetting it.
///
/// Needs a superuser; or, from PostgreSQL 15, `GRANT ALTER SYSTEM ON PARAMETER
/// default_transaction_read_only`, `EXECUTE` on `pg_reload_conf()`, `pg_signal_backend`
/// and `pg_read_all_stats`. A superuser also writes down its epoch (`failoverd.epoch_7`), which keeps an
/// older one from letting the server read its setting and from ending sessions.
/// <https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-DEFAULT-TRANSACTION-READ-ONLY>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresFence {
    /// The old primary: `postgresql://…`, by reference where it holds a password.
    pub url: SecretText,
    /// The system identifier that the server must have; another cluster is refused.
    #[serde(default)]
    pub system_identifier: Option<String>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<std::path::PathBuf>,
}

impl Parameters for PostgresFence {
    fn effect(&self) -> EffectKind {
        EffectKind::Fence
    }

    fn target(&self) -> String {
        format!("PostgreSQL at {}", shown(&self.url))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(3)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["postgresql", "postgres"]);
        file_is_there(report, &at.key("ca_file"), self.ca_file.as_deref());
    }
}

/// `table` or `schema.table`.
pub(super) fn table_name(report: &mut Report<'_>, at: &Path, name: &str) {
    if !is_table_name(name) {
        report.error(
            "bad_table",
            at,
            format!("`{name}` is not the name of a table"),
            "write `table` or `schema.table`, with capitals as they are and without quotes",
        );
    }
}

/// Is it one name, or two with a dot between them?
pub fn is_table_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    let well = |part: &&str| {
        !part.is_empty() && part.len() <= 63 && !part.contains(|c: char| c.is_control() || c == '"' || c == '\'')
    };
    parts.len() <= 2 && parts.iter().all(well)
}

fn yes() -> bool {
    true
}

fn half_a_minute() -> HumanDuration {
    HumanDuration::secs(30)
}

fn five_seconds() -> HumanDuration {
    HumanDuration::secs(5)
}
