//! Whom an incident was told to, who has answered, and which duties it leaves: its part of the ledger.

use serde::{Deserialize, Serialize};

use crate::model::{Duty, DutyFrom, DutyName, Entry, HumanDuration, WallTime};

/// What people were told of an incident, and what they said and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Who answered first (acknowledged, approved or denied), and when.
    pub answered: Option<(WallTime, String)>,
    /// The rungs that were told, by their times.
    pub rungs: Vec<HumanDuration>,
    /// Nobody answered in time, and people were told so.
    pub unanswered: bool,
    /// How often people were told how it stands.
    pub updates: u32,
    /// The newest of these, by the age of the incident.
    pub updated: HumanDuration,
    /// What people have to do for it.
    pub duties: Vec<DutyLedger>,
}

/// A duty of an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DutyLedger {
    /// What.
    pub duty: Duty,
    /// When somebody was last told that it is open.
    pub reminded: Option<WallTime>,
    /// When it was done, and by whom.
    pub done: Option<(WallTime, String)>,
}

impl DutyLedger {
    /// Until when; `None` while its time has not begun.
    pub fn due(&self, opened: WallTime, closed: Option<WallTime>) -> Option<WallTime> {
        let from = match self.duty.from {
            DutyFrom::Opened => Some(opened),
            DutyFrom::Closed => closed,
        };
        Some(from? + self.duty.after.get())
    }
}

impl Told {
    /// Applies a record; the line for the timeline where it is one of these.
    ///
    /// # Errors
    /// Where it does not follow; nothing is changed then.
    pub(super) fn apply(&mut self, at: WallTime, entry: &Entry) -> Result<Option<String>, String> {
        Ok(Some(match entry {
            Entry::IncidentAcknowledged { by, .. } | Entry::ApprovalAnswered { by, .. } => {
                self.answered.get_or_insert((at, by.clone()));
                return Ok(None);
            }
            Entry::Escalated { after, to, .. } => {
                if self.rungs.contains(after) {
                    return Err(format!("the rung at {after} was told"));
                }
                self.rungs.push(*after);
                format!("told to {to}")
            }
            Entry::Unanswered { within, .. } => {
                self.unanswered = true;
                format!("nobody answered within {within}")
            }
            Entry::StatusUpdated { after, .. } => {
                self.updates += 1;
                self.updated = *after;
                format!("status update {}", self.updates)
            }
            Entry::DutiesTaken { duties, .. } => {
                let open = |duty: &Duty| DutyLedger { duty: duty.clone(), reminded: None, done: None };
                self.duties = duties.iter().map(open).collect();
                let names: Vec<&str> = duties.iter().map(|duty| duty.name.as_str()).collect();
                format!("duties: {}", names.join(", "))
            }
            Entry::DutyReminded { duty, .. } => {
                self.open_duty(duty)?.reminded = Some(at);
                format!("duty {duty}: told that it is open")
            }
            Entry::DutyDone { duty, by, note, .. } => {
                self.open_duty(duty)?.done = Some((at, by.clone()));
                let note = note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
                format!("duty {duty} done by {by}{note}")
            }
            _ => return Ok(None),
        }))
    }

    fn open_duty(&mut self, name: &DutyName) -> Result<&mut DutyLedger, String> {
        let duty = self.duties.iter_mut().find(|known| known.duty.name == *name);
        duty.filter(|known| known.done.is_none()).ok_or_else(|| format!("no duty {name} is open"))
    }
}

/// May this record come after the end of its incident?
pub(super) fn outlives(entry: &Entry) -> bool {
    matches!(entry, Entry::DutyReminded { .. } | Entry::DutyDone { .. } | Entry::IncidentGraded { .. })
}
