//! `postgres.restore`.
//!
//! Three changes, in this order: the line of this step is begun, `pg_restore` runs, the line is ended.
//! Whatever is between them after a crash, the line tells what to do: see [`Standing`]. The lines are
//! in the comment of the database: of all that its owner may write there, that alone is in no dump
//! (but one with `--create`), and a table of ours in a later dump would be in the way of its restore.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;

use super::{identifier, literal};
use crate::actions::{LOOK, fenced, output, until};
use crate::clients::Failure;
use crate::clients::failure::one_line;
use crate::clients::postgres::{Session, connect};
use crate::clients::postgres_program::{Program, Target};
use crate::config::action::PostgresRestore;
use crate::model::{Applied, Observed, Outputs, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// What was made by users.
const TABLES: &str = "SELECT count(*)::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
    AND n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp%' AND NOT EXISTS \
    (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

/// Restores a dump.
pub(super) struct Restore {
    params: PostgresRestore,
}

/// The line of one step in the comment of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    epoch: u64,
    /// When it ended well.
    ended: Option<String>,
    /// How the last try ended.
    told: String,
}

impl Line {
    fn of(comment: &str, key: &str) -> Option<Self> {
        let head = format!("[failoverd restore {key} epoch ");
        let line = comment.lines().find_map(|line| line.strip_prefix(&head))?;
        let (state, told) = line.split_once(']')?;
        let (epoch, state) = state.split_once(' ')?;
        let ended = state.strip_prefix("ended ").map(str::to_owned);
        // As it would be written again: it may have been edited.
        Some(Self { epoch: epoch.parse().ok()?, ended, told: one_line(told) })
    }

    /// The comment with this line in place of the step's former one, and without those of other runs.
    /// What people wrote stays.
    fn put(&self, comment: &str, key: &str) -> String {
        let run = key.split_once('/').map_or(key, |(run, _)| run);
        let (ours, own) = (format!("[failoverd restore {run}/"), format!("[failoverd restore {key} "));
        let stays = |line: &&str| {
            !line.starts_with("[failoverd restore ") || (line.starts_with(&ours) && !line.starts_with(&own))
        };
        let mut lines: Vec<String> = comment.lines().filter(stays).map(str::to_owned).collect();
        let state = self.ended.as_ref().map_or_else(|| "begun".to_owned(), |at| format!("ended {at}"));
        let told = one_line(&self.told);
        let epoch = self.epoch;
        lines.push(format!("[failoverd restore {key} epoch {epoch} {state}] {told}").trim_end().to_owned());
        lines.join("\n")
    }
}

/// What the line of this step tells.
enum Standing {
    /// It was not begun: the target has so many tables of users.
    New { tables: u64 },
    /// It was begun and has not ended; what is there is ours. `told` is how the last try ended.
    Begun { told: String },
    /// A session of it is still at work.
    Working { sessions: u64 },
    /// It ended well.
    Ended { at: String, tables: u64 },
}

impl Restore {
    pub(super) fn new(params: PostgresRestore) -> Result<Self, String> {
        let named = |name: &String| crate::config::action::postgres::is_table_name(name);
        match params.tables.iter().find(|name| !named(name)) {
            Some(name) => Err(format!("`{name}` is not the name of a table")),
            None if params.jobs == Some(0) => Err("`jobs` must be at least 1".into()),
            None => Ok(Self { params }),
        }
    }

    /// What this step of this run is called in the target.
    fn key(context: &ActionContext) -> String {
        let run = context.run.as_ref().map_or("dry-run", |run| run.as_str());
        format!("{run}/{}", context.step)
    }

    /// The name that its sessions bear; PostgreSQL cuts it at 63 bytes.
    fn session_name(context: &ActionContext) -> String {
        let key: String = Self::key(context).chars().filter(char::is_ascii_graphic).collect();
        format!("failoverd {key}").chars().take(63).collect()
    }

    async fn session(&self, context: &ActionContext) -> Result<Session, Failure> {
        connect(&self.params.url, self.params.ca_file.as_deref(), until(context, LOOK)).await
    }

    async fn look(&self, context: &ActionContext, session: &Session) -> Result<Standing, Failure> {
        let until = until(context, LOOK);
        if session.value("SELECT pg_is_in_recovery()::text", until).await? == "true" {
            return Err(Failure::refused("in recovery: a standby takes no restore"));
        }
        let count = |text: String| text.parse().map_err(|_| Failure::unknown("postgres: a count that is not a number"));
        let tables: u64 = count(session.value(TABLES, until).await?)?;
        let (comment, _) = comment(session, until).await?;
        let Some(line) = Line::of(&comment, &Self::key(context)) else { return Ok(Standing::New { tables }) };
        if line.epoch > context.epoch.0 {
            return Err(Failure::refused(fenced("this restore", line.epoch, context.epoch.0)));
        }
        if let Some(at) = line.ended {
            return Ok(Standing::Ended { at, tables });
        }
        let name = literal(&Self::session_name(context));
        let sql = format!("SELECT count(*)::text FROM pg_stat_activity WHERE application_name = {name}");
        match count(session.value(&sql, until).await?)? {
            0 => Ok(Standing::Begun { told: line.told }),
            sessions => Ok(Standing::Working { sessions }),
        }
    }

    /// May it begin? Drops first where that was said, or where all that is there is ours.
    fn may_begin(&self, standing: &Standing) -> Result<bool, Failure> {
        match standing {
            Standing::New { tables: 0 } => Ok(self.params.clean),
            Standing::New { .. } if self.params.clean => Ok(true),
            Standing::New { tables } => Err(Failure::refused(format!(
                "restore target exists already: it has {tables} tables; restore into an empty database, or say \
                 `clean = true` to drop what the dump holds first"
            ))),
            Standing::Begun { .. } => Ok(true),
            Standing::Working { sessions } => {
                Err(Failure::again(format!("{sessions} sessions of an earlier pg_restore are still at work")))
            }
            Standing::Ended { at, .. } => Err(Failure::again(format!("it ended at {at} already"))),
        }
    }

    fn program(&self, context: &ActionContext, target: &Target, clean: bool) -> Program {
        let mut arguments: Vec<std::ffi::OsString> =
            ["--exit-on-error", "--no-password", "--dbname"].map(Into::into).into();
        arguments.push(target.url.clone().into());
        if clean {
            arguments.extend(["--clean", "--if-exists"].map(Into::into));
        }
        match self.params.jobs {
            Some(jobs) => arguments.extend(["--jobs".into(), jobs.to_string().into()]),
            None => arguments.push("--single-transaction".into()),
        }
        if self.params.no_owner {
            arguments.extend(["--no-owner", "--no-privileges"].map(Into::into));
        }
        for name in &self.params.tables {
            // A pattern would be a surprise; pg_restore takes names here, and schemas on their own.
            if let Some((schema, table)) = name.split_once('.') {
                arguments.extend(["--schema".into(), schema.into(), "--table".into(), table.into()]);
            } else {
                arguments.extend(["--table".into(), name.into()]);
            }
        }
        arguments.extend(["--".into(), self.params.dump.clone().into_os_string()]);
        let mut environment = target.environment();
        environment.push(("PGAPPNAME", Self::session_name(context)));
        Program { path: self.params.bin_directory.join("pg_restore"), arguments, environment, owner: None }
    }

    /// Writes the line of this step.
    async fn write(
        &self,
        context: &ActionContext,
        session: &Session,
        ended: bool,
        told: &str,
    ) -> Result<Result<(), Failure>, Denied> {
        let until = until(context, LOOK);
        let statement = match self.statement(context, session, ended, told).await {
            Ok(statement) => statement,
            Err(failure) => return Ok(Err(Failure { kind: failure.kind.before_sending(), ..failure })),
        };
        context.permit()?;
        Ok(session.run(&statement, until).await.map(drop))
    }

    async fn statement(
        &self,
        context: &ActionContext,
        session: &Session,
        ended: bool,
        told: &str,
    ) -> Result<String, Failure> {
        let until = until(context, LOOK);
        let (comment, database) = comment(session, until).await?;
        let ended = match ended {
            true => Some(session.value("SELECT date_trunc('second', now())::text", until).await?),
            false => None,
        };
        let line = Line { epoch: context.epoch.0, ended, told: told.to_owned() };
        let text = literal(&line.put(&comment, &Self::key(context)));
        Ok(format!("COMMENT ON DATABASE {} IS {text}", identifier(&database)))
    }

    /// Writes down how it ended, on a session of its own: the restore may have taken hours.
    async fn end(&self, context: &ActionContext, how: Result<(), &str>) -> Result<(), Failure> {
        let refused = |denied: Denied| Failure::unknown(format!("restored, and not written down: {denied}"));
        let session = self.session(context).await?;
        let line = Line::of(&comment(&session, until(context, LOOK)).await?.0, &Self::key(context));
        if line.is_none_or(|line| line.epoch != context.epoch.0) {
            return Err(Failure::unknown("the line of this restore in the comment of the database is another one"));
        }
        self.write(context, &session, how.is_ok(), how.err().unwrap_or_default()).await.map_err(refused)?
    }

    async fn restore(&self, context: &ActionContext) -> Result<Applied, Denied> {
        let ready = async {
            custom_format(&self.params.dump)?;
            let target = Target::read(&self.params.url)?;
            let session = self.session(context).await?;
            let clean = self.may_begin(&self.look(context, &session).await?)?;
            Ok((target, session, clean))
        };
        let (target, session, clean) = match ready.await {
            Ok(ready) => ready,
            Err(failure) => return Ok(Failure::not_sent(failure)),
        };
        if let Err(failure) = self.write(context, &session, false, "").await? {
            return Ok(failure.applied());
        }
        drop(session);
        context.permit()?;
        // A little is left to write down how it ended.
        let left = context.left();
        let by = until(context, left.saturating_sub((left / 10).min(Duration::from_secs(5))));
        let ended = match self.program(context, &target, clean).run(by, Some(&target)).await {
            Ok(ended) => ended,
            Err(failure) => return Ok(failure.applied()),
        };
        if !ended.well {
            let reason = format!("{}: {}", ended.how, ended.said);
            // Where even this fails, the reason is in the answer.
            let _ = self.end(context, Err(&reason)).await;
            return Ok(match self.params.jobs {
                None => Applied::Refused { reason, again: false },
                // Not one transaction: a part of it may be there.
                Some(_) => Applied::Unknown { reason },
            });
        }
        Ok(match self.end(context, Ok(())).await {
            Ok(()) => Applied::Accepted { evidence: format!("{}, without an error", ended.how) },
            Err(failure) => Applied::Unknown { reason: failure.reason },
        })
    }
}

/// The comment of the database, and the database's name.
async fn comment(session: &Session, until: Instant) -> Result<(String, String), Failure> {
    let sql = "SELECT coalesce(shobj_description(oid, 'pg_database'), ''), datname FROM pg_database \
               WHERE datname = current_database()";
    let mut row = session.row(sql, until).await?.into_iter().flatten();
    match (row.next(), row.next()) {
        (Some(comment), Some(database)) => Ok((comment, database)),
        _ => Err(Failure::unknown("postgres: the comment of the database is not told")),
    }
}

/// Is the file a dump in PostgreSQL's own format?
fn custom_format(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    let refused = |reason: String| Failure::refused(format!("the dump {shown} {reason}"));
    let file = std::fs::File::open(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
    let mut head = Vec::new();
    file.take(5).read_to_end(&mut head).map_err(|error| refused(format!("cannot be read: {error}")))?;
    match head.as_slice() {
        b"PGDMP" => Ok(()),
        [0x1f, 0x8b, ..] => Err(refused(
            "is compressed (gzip), so a plain dump or a custom one packed again; pg_restore reads neither: make it with \
             `pg_dump --format=custom`, which compresses by itself"
                .into(),
        )),
        [] => Err(refused("is empty".into())),
        _ => Err(refused(
            "is not in PostgreSQL's custom format; a plain dump is not restored, since there is no telling how far it \
             got: make it with `pg_dump --format=custom`"
                .into(),
        )),
    }
}

#[async_trait]
impl Action for Restore {
    async fn observe(&self, context: &ActionContext) -> Observed {
        let looked = async {
            let standing = self.look(context, &self.session(context).await?).await?;
            if let Standing::New { .. } | Standing::Begun { .. } = standing {
                custom_format(&self.params.dump)?;
                self.may_begin(&standing)?;
            }
            Ok::<_, Failure>(standing)
        };
        let before = Value::Null;
        match looked.await {
            Ok(Standing::Ended { at, .. }) => Observed::Done { evidence: format!("restored; it ended at {at}") },
            Ok(Standing::Working { sessions }) => Observed::Unknown {
                reason: format!(
                    "{sessions} sessions of an earlier pg_restore are still at work, and nobody waits for them"
                ),
            },
            Ok(Standing::Begun { told }) if told.is_empty() => {
                Observed::NotDone { evidence: "it was begun and did not end".into(), before }
            }
            Ok(Standing::Begun { told }) => Observed::NotDone { evidence: told, before },
            Ok(Standing::New { tables }) => {
                Observed::NotDone { evidence: format!("not restored; the target has {tables} tables"), before }
            }
            Err(failure) => failure.observed(),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        self.restore(context).await
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let looked = async { self.look(context, &self.session(context).await?).await };
        match looked.await {
            Ok(Standing::Ended { at, tables }) => {
                let outputs: Outputs = output("tables", &tables.to_string());
                Verified::Yes {
                    evidence: format!("pg_restore ended without an error at {at}; {tables} tables"),
                    outputs,
                }
            }
            Ok(Standing::Working { sessions }) => Verified::NotYet { evidence: format!("{sessions} sessions at work") },
            Ok(_) => Verified::NotYet { evidence: "the database's comment does not say that it ended".into() },
            Err(failure) => failure.verified(),
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// The comment of a database, read and written again.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::actions) fn read_and_write(comment: &str) {
    let key = "RUN-20260730-001/load";
    if let Some(line) = Line::of(comment, key) {
        let put = line.put(comment, key);
        assert_eq!(Line::of(&put, key), Some(line), "it does not read what it wrote");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_and_leaves_the_others_alone() {
        let begun = Line { epoch: 7, ended: None, told: "it\nfailed".into() };
        let comment = begun.put("Of the shop.\n[failoverd restore RUN-0/a epoch 1 begun]\nAsk Ada.", "RUN-1/a");
        assert_eq!(comment, "Of the shop.\nAsk Ada.\n[failoverd restore RUN-1/a epoch 7 begun] it failed");
        assert_eq!(Line::of(&comment, "RUN-1/a"), Some(Line { told: "it failed".into(), ..begun.clone() }));
        assert_eq!(Line::of(&comment, "RUN-1/ab"), None);
        let ended = Line { epoch: 8, ended: Some("2026-11-21 15:00:00+00".into()), told: String::new() };
        let comment = ended.put(&begun.put(&comment, "RUN-1/b"), "RUN-1/a");
        assert_eq!(Line::of(&comment, "RUN-1/a"), Some(ended));
        assert_eq!(Line::of(&comment, "RUN-1/b").map(|line| line.epoch), Some(7));
        assert_eq!(comment.lines().count(), 4, "{comment}");
    }
}
