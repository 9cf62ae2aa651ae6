//! What people have to do for an incident afterwards: none is forgotten until somebody says that it is
//! done, whatever the configuration says by then.
//!
//! These times are the calendar's ("within 72 hours of the outage"), and so the wall clock's.

use std::time::Duration;

use super::brain::Brain;
use super::event::{Answer, Refusal};
use super::incident::Incident;
use super::told::DutyLedger;
use super::view::DutyView;
use crate::model::{
    DutyFrom, DutyName, Entry, Importance, IncidentId, MonoTime, NoticeKind, Now, ScenarioSettings, WallTime,
};

/// What is overdue is told again so often.
const OVERDUE_EVERY: Duration = Duration::from_secs(24 * 3600);

impl Brain {
    /// Takes the duties of a severity with the opening of an incident.
    pub(super) fn take_duties(&mut self, now: Now, scenario: &ScenarioSettings, id: &IncidentId) {
        let duties = self.settings.severity(&scenario.severity).map(|severity| severity.duties.clone());
        if let Some(duties) = duties.filter(|duties| !duties.is_empty()) {
            self.commit(now, Entry::DutiesTaken { incident: id.clone(), duties });
        }
    }

    /// All open duties, the first due first.
    pub(super) fn duties(&self) -> Vec<DutyView> {
        let of = |incident: &Incident| {
            let open = incident.told.duties.iter().filter(|known| known.done.is_none());
            let view = |known: &DutyLedger| DutyView {
                incident: incident.id.clone(),
                duty: known.duty.name.clone(),
                message: known.duty.message.clone(),
                due: known.due(incident.opened, incident.closed),
            };
            open.map(view).collect::<Vec<_>>()
        };
        let mut duties: Vec<DutyView> = self.ledger.incidents.values().flat_map(of).collect();
        duties.sort_by_key(|duty| (duty.due.is_none(), duty.due));
        duties
    }

    /// Tells people of the duties whose time has come.
    pub(super) fn remind_of_duties(&mut self, now: Now) {
        let mut due = Vec::new();
        for incident in self.ledger.incidents.values() {
            for known in incident.told.duties.iter().filter(|known| known.done.is_none()) {
                let Some(at) = known.due(incident.opened, incident.closed) else { continue };
                let (last, _) = turns(known, from(known, incident), at, now.wall);
                if last.is_some_and(|last| known.reminded.is_none_or(|reminded| reminded < last)) {
                    due.push((incident.clone(), known.duty.clone(), at));
                }
            }
        }
        for (incident, duty, at) in due {
            let id = incident.id.clone();
            if !self.commit(now, Entry::DutyReminded { incident: id.clone(), duty: duty.name.clone() }) {
                return;
            }
            let overdue = at <= now.wall;
            let left = if overdue { format!("OVERDUE since {at}") } else { format!("due {at}") };
            let subject = format!(
                "{} {}: duty {} is open, {left}: {} (failoverd duty done {id} {})",
                incident.severity, incident.scenario, duty.name, duty.message, duty.name
            );
            // While there is time, whoever reads everything is told; then somebody has to look.
            let importance = if overdue || known_near(at, now.wall, duty.remind_before.get()) {
                Importance::Page
            } else {
                Importance::Info
            };
            let routes = self.routes_of(&incident);
            self.tell(now, NoticeKind::DutyOpen, importance, &id, routes, subject);
        }
    }

    /// When a duty has to be told next.
    pub(super) fn next_duty(&self, now: Now) -> Option<MonoTime> {
        let next = self.ledger.incidents.values().flat_map(|incident| {
            let open = incident.told.duties.iter().filter(|known| known.done.is_none());
            open.filter_map(|known| {
                let at = known.due(incident.opened, incident.closed)?;
                turns(known, from(known, incident), at, now.wall).1
            })
        });
        next.min().map(|at| now.mono + at.since(now.wall))
    }

    /// A duty was done.
    pub(super) fn duty_done(
        &mut self,
        now: Now,
        by: &str,
        id: &IncidentId,
        name: &DutyName,
        note: Option<String>,
    ) -> Result<Answer, Refusal> {
        let refuse = |code: &str, message: String| Refusal { code: code.to_owned(), message };
        let incident = self.ledger.incidents.get(id);
        let incident = incident.ok_or_else(|| refuse("not_found", format!("there is no incident {id}")))?;
        let known = incident.told.duties.iter().find(|known| known.duty.name == *name);
        let Some(known) = known else {
            let names: Vec<&str> = incident.told.duties.iter().map(|known| known.duty.name.as_str()).collect();
            let there = if names.is_empty() { "no duties".to_owned() } else { names.join(", ") };
            return Err(refuse("not_found", format!("{id} has no duty {name}; it has: {there}")));
        };
        if let Some((at, who)) = &known.done {
            return Err(refuse("not_now", format!("duty {name} of {id} was done at {at} by {who}")));
        }
        let note = note.map(|note| note.chars().take(1000).collect());
        let done = Entry::DutyDone { incident: id.clone(), duty: name.clone(), by: by.to_owned(), note };
        self.commit(now, done);
        Ok(Answer { text: format!("duty {name} of {id} is done"), run: None })
    }
}

fn from(known: &DutyLedger, incident: &Incident) -> WallTime {
    match known.duty.from {
        DutyFrom::Opened => incident.opened,
        DutyFrom::Closed => incident.closed.unwrap_or(incident.opened),
    }
}

fn known_near(due: WallTime, now: WallTime, before: Duration) -> bool {
    due.minus(before) <= now
}

/// When it is told: when its time begins, some time before it is due, when it is due, and then again and
/// again. The newest of these that has come, and the next one.
fn turns(known: &DutyLedger, begins: WallTime, due: WallTime, now: WallTime) -> (Option<WallTime>, Option<WallTime>) {
    let before = due.minus(known.duty.remind_before.get()).max(begins);
    let fixed = [begins, before, due];
    if now < due {
        let last = fixed.iter().copied().filter(|at| *at <= now).max();
        return (last, fixed.iter().copied().filter(|at| *at > now).min());
    }
    let times = now.since(due).as_secs() / OVERDUE_EVERY.as_secs();
    let after = |times: u64| due + OVERDUE_EVERY * u32::try_from(times).unwrap_or(u32::MAX);
    (Some(after(times)), Some(after(times.saturating_add(1))))
}
