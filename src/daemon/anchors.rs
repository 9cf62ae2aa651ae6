//! Sends anchors of the journal to where whoever can write to this machine cannot.

use std::time::Instant;

use crate::config::shape::AuditTable;
use crate::core::anchor::Anchor;
use crate::model::{Notice, WallTime};

/// When the next anchor is due, and what the last one was.
pub(super) struct Anchors {
    table: Option<AuditTable>,
    /// The first one is due at the start: the life before may have ended without one.
    sent: Option<(Instant, u64)>,
}

impl Anchors {
    pub(super) fn new(table: Option<AuditTable>) -> Self {
        Self { table, sent: None }
    }

    /// Another configuration, from now on.
    pub(super) fn replace(&mut self, table: Option<AuditTable>) {
        self.table = table;
    }

    /// Is it time to look how far the journal has come?
    pub(super) fn is_due(&self) -> bool {
        let Some(table) = &self.table else { return false };
        self.sent.is_none_or(|(at, _)| at.elapsed() >= table.anchor_every.get())
    }

    /// The notice of an anchor, where the journal has grown since the last one.
    pub(super) fn notice(&mut self, newest: Option<(u64, String)>, daemon: &str, at: WallTime) -> Option<Notice> {
        let (table, (record, checksum)) = (self.table.as_ref()?, newest?);
        if self.sent.is_some_and(|(_, last)| last >= record) {
            return None;
        }
        self.sent = Some((Instant::now(), record));
        let routes = table.routes.iter().map(|route| route.as_str().into()).collect();
        Some(Anchor { record, checksum }.notice(daemon, at, routes))
    }
}
