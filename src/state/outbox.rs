//! The outbox: notices that were decided and not yet delivered, beside the journal.

use std::sync::Arc;

use rusqlite::{Transaction, TransactionBehavior, params};

use super::schema;
use super::sqlite::{Shared, Store};
use crate::model::{IncidentId, Notice};
use crate::ports::{Addressed, Delivery, JournalError, Outbox, OutboxItem, Undelivered};

/// After so many attempts a notice goes behind those that were tried less: it may be this one that the
/// route does not take, and the next is a page.
const IN_ORDER: u32 = 3;
/// So many that were given up are kept, for whoever asks what was not delivered.
const GIVEN_UP: u32 = 1000;
/// The threads of so many incidents are kept.
const THREADS: u32 = 1000;

/// The outbox of an embedded store.
pub struct SqliteOutbox {
    pub(super) shared: Arc<Shared>,
}

/// A row, before its notice is read.
struct Raw {
    id: i64,
    route: String,
    notice: String,
    attempts: u32,
}

impl Raw {
    fn item(self) -> Result<OutboxItem, serde_json::Error> {
        let notice: Notice = serde_json::from_str(&self.notice)?;
        Ok(OutboxItem { id: self.id, route: self.route, notice, attempts: self.attempts })
    }
}

impl SqliteOutbox {
    fn rows(&self, route: &str, limit: u32) -> Result<Vec<Raw>, JournalError> {
        self.shared.read(|store| {
            let read = || -> rusqlite::Result<Vec<Raw>> {
                let mut statement = store.connection.prepare_cached(
                    "SELECT id, route, notice, attempts FROM outbox WHERE given_up = 0 AND route = ?1
                     ORDER BY CASE WHEN attempts < ?2 THEN 0 ELSE attempts END, id LIMIT ?3",
                )?;
                let rows = statement.query_map(params![route, IN_ORDER, limit], |row| {
                    Ok(Raw { id: row.get(0)?, route: row.get(1)?, notice: row.get(2)?, attempts: row.get(3)? })
                })?;
                rows.collect()
            };
            read().map_err(|error| self.shared.outbox_unreadable(&schema::describe(&error)))
        })
    }

    fn read<T>(&self, read: impl FnOnce(&Store) -> rusqlite::Result<T>) -> Result<T, JournalError> {
        self.shared.read(|store| read(store).map_err(|error| self.shared.outbox_unreadable(&schema::describe(&error))))
    }

    fn change(&self, change: impl FnOnce(&mut Store) -> rusqlite::Result<()>) -> Result<(), JournalError> {
        self.shared.write(|store| change(store).map_err(|error| self.shared.write_error(schema::describe(&error))))
    }
}

impl Shared {
    /// Notices as they are stored: routes and text.
    pub(super) fn texts<'a>(&self, notices: &'a [Addressed]) -> Result<Vec<(&'a [String], String)>, JournalError> {
        let text = |told: &'a Addressed| {
            let text = serde_json::to_string(&told.notice)
                .map_err(|error| self.write_error(format!("a notice has no JSON: {error}")))?;
            Ok((told.routes.as_slice(), text))
        };
        notices.iter().map(text).collect()
    }
}

/// Puts notices into the outbox, as a part of a transaction.
pub(super) fn insert(transaction: &Transaction<'_>, notices: &[(&[String], String)]) -> rusqlite::Result<()> {
    for (routes, text) in notices {
        for route in *routes {
            transaction
                .prepare_cached("INSERT INTO outbox (route, notice) VALUES (?1, ?2)")?
                .execute(params![route, text])?;
        }
    }
    Ok(())
}

impl Outbox for SqliteOutbox {
    fn put(&mut self, routes: &[String], notice: &Notice) -> Result<(), JournalError> {
        if routes.is_empty() {
            return Ok(());
        }
        let told = [Addressed { routes: routes.to_vec(), notice: notice.clone() }];
        let texts = self.shared.texts(&told)?;
        self.change(|store| {
            let transaction = store.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            insert(&transaction, &texts)?;
            transaction.commit()
        })
    }

    fn waiting(&mut self) -> Result<Vec<String>, JournalError> {
        self.shared.read(|store| {
            let read = || -> rusqlite::Result<Vec<String>> {
                let sql = "SELECT DISTINCT route FROM outbox WHERE given_up = 0";
                store.connection.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect()
            };
            read().map_err(|error| self.shared.outbox_unreadable(&schema::describe(&error)))
        })
    }

    fn pending(&mut self, route: &str, limit: u32) -> Result<Vec<OutboxItem>, JournalError> {
        let mut items = Vec::new();
        for row in self.rows(route, limit)? {
            let id = row.id;
            match row.item() {
                Ok(item) => items.push(item),
                // One notice that cannot be read must not stand in the way of those behind it.
                Err(error) => {
                    tracing::error!(id, %error, "a notice in the outbox cannot be read, and is given up");
                    // Where nothing can be written any more, it stays; the others still go out.
                    let _ = self.settle(id, Delivery::GivenUp { reason: format!("it cannot be read: {error}") });
                }
            }
        }
        Ok(items)
    }

    fn settle(&mut self, id: i64, result: Delivery) -> Result<(), JournalError> {
        self.change(|store| {
            let connection = &store.connection;
            match result {
                Delivery::Delivered => {
                    connection.prepare_cached("DELETE FROM outbox_handed_over WHERE id = ?1")?.execute([id])?;
                    connection.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])
                }
                Delivery::Failed { reason } => connection
                    .prepare_cached("UPDATE outbox SET attempts = attempts + 1, reason = ?2 WHERE id = ?1")?
                    .execute(params![id, reason]),
                Delivery::GivenUp { reason } => give_up(store, "id", &id, &reason),
            }
            .map(|_| ())
        })
    }

    fn hand_over(&mut self, item: &OutboxItem, to: &str, notice: &Notice) -> Result<bool, JournalError> {
        let told = [Addressed { routes: vec![to.to_owned()], notice: notice.clone() }];
        let texts = self.shared.texts(&told)?;
        let mut new = false;
        self.change(|store| {
            let transaction = store.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mark = "INSERT OR IGNORE INTO outbox_handed_over (id, copy) VALUES (?1, ?2)";
            new = transaction.prepare_cached(mark)?.execute([item.id, 0])? == 1;
            if new {
                insert(&transaction, &texts)?;
                // What stands in for another is not handed on: two routes may stand in for each other.
                transaction.prepare_cached(mark)?.execute([transaction.last_insert_rowid(), 1])?;
            }
            transaction.commit()
        })?;
        Ok(new)
    }

    fn undelivered(&mut self, limit: u32) -> Result<Vec<Undelivered>, JournalError> {
        self.read(|store| {
            let mut statement = store.connection.prepare_cached(
                "SELECT id, route, notice, attempts, given_up, reason,
                        EXISTS (SELECT 1 FROM outbox_handed_over AS over WHERE over.id = outbox.id AND over.copy = 0)
                 FROM outbox ORDER BY id DESC LIMIT ?1",
            )?;
            let rows = statement.query_map([limit], |row| {
                let raw = Raw { id: row.get(0)?, route: row.get(1)?, notice: row.get(2)?, attempts: row.get(3)? };
                Ok((raw, row.get(4)?, row.get(5)?, row.get(6)?))
            })?;
            let rows: Vec<(Raw, bool, Option<String>, bool)> = rows.collect::<rusqlite::Result<_>>()?;
            let read = |(raw, given_up, reason, handed_over): (Raw, bool, Option<String>, bool)| {
                Some(Undelivered { item: raw.item().ok()?, given_up, handed_over, reason })
            };
            Ok(rows.into_iter().filter_map(read).collect())
        })
    }

    fn given_up(&mut self) -> Result<Vec<(String, u64)>, JournalError> {
        self.read(|store| {
            let sql = "SELECT route, count(*) FROM outbox WHERE given_up = 1 GROUP BY route";
            let mut statement = store.connection.prepare_cached(sql)?;
            let count = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()));
            statement.query_map([], count)?.collect()
        })
    }

    fn thread(&mut self, route: &str, incident: &IncidentId) -> Result<Option<String>, JournalError> {
        self.read(|store| {
            let sql = "SELECT thread FROM outbox_threads WHERE route = ?1 AND incident = ?2";
            let mut statement = store.connection.prepare_cached(sql)?;
            let mut rows = statement.query_map(params![route, incident.as_str()], |row| row.get(0))?;
            rows.next().transpose()
        })
    }

    fn keep_thread(&mut self, route: &str, incident: &IncidentId, thread: &str) -> Result<(), JournalError> {
        self.change(|store| {
            let keep = "INSERT OR IGNORE INTO outbox_threads (route, incident, thread) VALUES (?1, ?2, ?3)";
            store.connection.prepare_cached(keep)?.execute(params![route, incident.as_str(), thread])?;
            let old = "DELETE FROM outbox_threads WHERE rowid NOT IN
                       (SELECT rowid FROM outbox_threads ORDER BY rowid DESC LIMIT ?1)";
            store.connection.prepare_cached(old)?.execute([THREADS]).map(drop)
        })
    }

    fn abandon(&mut self, route: &str, reason: &str) -> Result<usize, JournalError> {
        let mut abandoned = 0;
        self.change(|store| {
            abandoned = give_up(store, "route", &route, reason)?;
            Ok(())
        })?;
        Ok(abandoned)
    }
}

fn give_up(store: &Store, column: &str, is: &dyn rusqlite::ToSql, reason: &str) -> rusqlite::Result<usize> {
    let sql = format!("UPDATE outbox SET given_up = 1, reason = ?2 WHERE {column} = ?1 AND given_up = 0");
    let many = store.connection.prepare_cached(&sql)?.execute(params![is, reason])?;
    let newest = "SELECT id FROM outbox WHERE given_up = 1 ORDER BY id DESC LIMIT ?1";
    let rest = format!("DELETE FROM outbox WHERE given_up = 1 AND id NOT IN ({newest})");
    store.connection.prepare_cached(&rest)?.execute([GIVEN_UP])?;
    let marks = "DELETE FROM outbox_handed_over WHERE id NOT IN (SELECT id FROM outbox)";
    store.connection.prepare_cached(marks)?.execute([])?;
    Ok(many)
}
