//! The outbox: notices that were decided and not yet delivered, beside the journal.

use std::sync::Arc;

use rusqlite::{Transaction, TransactionBehavior, params};

use super::schema;
use super::sqlite::{Shared, Store};
use crate::model::Notice;
use crate::ports::{Addressed, Delivery, JournalError, Outbox, OutboxItem};

/// The outbox of an embedded store.
pub struct SqliteOutbox {
    pub(super) shared: Arc<Shared>,
}

/// A notice that was given up: it is named as undelivered until somebody has seen it.
#[derive(Clone, Debug, PartialEq)]
pub struct Undeliverable {
    /// The notice.
    pub item: OutboxItem,
    /// Why it was given up.
    pub reason: String,
}

/// A row, before its notice is read.
struct Raw {
    id: i64,
    route: String,
    notice: String,
    attempts: u32,
    reason: Option<String>,
}

impl Raw {
    fn item(self) -> Result<OutboxItem, serde_json::Error> {
        let notice: Notice = serde_json::from_str(&self.notice)?;
        Ok(OutboxItem { id: self.id, route: self.route, notice, attempts: self.attempts })
    }
}

impl SqliteOutbox {
    /// What was given up, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`JournalError::Open`] where it cannot be read.
    pub fn given_up(&mut self, limit: u32) -> Result<Vec<Undeliverable>, JournalError> {
        let rows = self.rows("given_up <> 0", limit)?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                let reason = row.reason.clone().unwrap_or_default();
                row.item().ok().map(|item| Undeliverable { item, reason })
            })
            .collect())
    }

    fn rows(&self, filter: &'static str, limit: u32) -> Result<Vec<Raw>, JournalError> {
        let sql = format!("SELECT id, route, notice, attempts, reason FROM outbox WHERE {filter} ORDER BY id LIMIT ?1");
        self.shared.read(|store| {
            let read = || -> rusqlite::Result<Vec<Raw>> {
                let mut statement = store.connection.prepare_cached(&sql)?;
                let rows = statement.query_map([limit], |row| {
                    Ok(Raw {
                        id: row.get(0)?,
                        route: row.get(1)?,
                        notice: row.get(2)?,
                        attempts: row.get(3)?,
                        reason: row.get(4)?,
                    })
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

    fn pending(&mut self, limit: u32) -> Result<Vec<OutboxItem>, JournalError> {
        let mut items = Vec::new();
        for row in self.rows("given_up = 0", limit)? {
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
                Delivery::GivenUp { reason } => connection
                    .prepare_cached(
                        "UPDATE outbox SET attempts = attempts + 1, given_up = 1, reason = ?2 WHERE id = ?1",
                    )?
                    .execute(params![id, reason]),
            }
            .map(|_| ())
        })
    }
}
