//! Makes the views of who was told what.

use super::brain::Brain;
use super::incident::Incident;
use super::view::EscalationView;
use crate::model::{Now, Rung};

impl Brain {
    /// The open incidents whose severity is declared, the oldest first.
    pub(super) fn escalations(&self, now: Now) -> Vec<EscalationView> {
        let open = self.ledger.incidents.values().filter(|incident| incident.closed.is_none());
        open.filter_map(|incident| self.escalation_view(now, incident)).collect()
    }

    fn escalation_view(&self, now: Now, incident: &Incident) -> Option<EscalationView> {
        let severity = self.promises(incident)?;
        let age = self.age(now, incident);
        let at = |due: std::time::Duration| now.wall.minus(age) + due;
        let told = |rung: &&Rung| incident.told.rungs.contains(&rung.after);
        let waits = incident.told.answered.is_none();
        let next = severity.escalate.iter().find(|rung| !told(rung)).filter(|_| waits);
        let situation = self.situation(now, incident);
        Some(EscalationView {
            incident: incident.id.clone(),
            scenario: incident.scenario.clone(),
            severity: incident.severity.clone(),
            stage: situation.stage,
            answered_by: situation.answered_by,
            respond_by: severity.respond_within.filter(|_| waits).map(|within| at(within.get())),
            unanswered: waits && incident.told.unanswered,
            told: severity.escalate.iter().filter(told).map(Rung::label).collect(),
            next: next.map(|rung| (rung.label(), at(rung.after.get()))),
            updates: incident.told.updates,
            next_update: situation.next_update,
        })
    }
}
