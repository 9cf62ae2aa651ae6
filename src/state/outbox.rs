//! The outbox: notices that were decided and not yet delivered, beside the journal.

use std::sync::Arc;

use rusqlite::{Transaction, TransactionBehavior, params};

use super::schema;
use super::sqlite::{Shared, Store};
use crate::model::Notice;
use crate::ports::{Addressed, Delivery, JournalError, Outbox, OutboxItem};

/// After so many attempts a notice goes behind those that were tried less: it may be this one that the
/// route does not take, and the next is a page.
const IN_ORDER: u32 = 3;
/// So many that were given up are kept, for whoever asks what was not delivered.
const GIVEN_UP: u32 = 1000;

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
                Delivery::Delivered => connection.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id]),
                Delivery::Failed { reason } => connection
                    .prepare_cached("UPDATE outbox SET attempts = attempts + 1, reason = ?2 WHERE id = ?1")?
                    .execute(params![id, reason]),
                Delivery::GivenUp { reason } => give_up(store, "id", &id, &reason),
            }
            .map(|_| ())
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
    Ok(many)
}
