//! Velero: its newest Backup; the same for probes and for actions.

use serde_json::Value;

/// The label that Velero gives the Backups of a schedule.
pub const SCHEDULE: &str = "velero.io/schedule-name";

/// The newest completed Backup of a list.
#[derive(Debug, Default)]
pub struct Newest {
    /// Its name, and when it was begun: what it holds is of that time.
    pub found: Option<(String, String)>,
    /// How many there are, whatever became of them.
    pub seen: usize,
}

impl Newest {
    /// Takes one of the list.
    pub fn take(&mut self, name: &str, backup: &Value) {
        self.seen += 1;
        let text = |pointer| backup.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let begun = text("/status/startTimestamp");
        // RFC 3339 in UTC sorts as text.
        let newer = self.found.as_ref().is_none_or(|(_, newest)| newest.as_str() < begun);
        if text("/status/phase") == "Completed" && newer {
            self.found = Some((name.to_owned(), begun.to_owned()));
        }
    }
}
