//! Who is told of an open incident, and when: the escalation ladder, the answer that is waited for, and
//! the updates at the cadence of its severity.
//!
//! All of it follows from the settings as they are now and from what the journal says was told: a restart
//! tells nothing twice and forgets nobody, and a reload changes what comes next. Times are counted from
//! the opening of the incident, by the clock that does not jump.

use std::time::Duration;

use super::brain::Brain;
use super::event::Effect;
use super::incident::Incident;
use crate::model::{
    Entry, HumanDuration, Importance, IncidentId, MonoTime, Notice, NoticeKind, Now, RouteName, SeveritySettings,
};

/// What depends on the wall clock is looked at again after so long, since that clock may be set.
const AGAIN: Duration = Duration::from_secs(600);

/// When somebody has to be told of something next.
#[derive(Debug, Default, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Telling {
    /// The journal's last record when this was worked out; with another one it may be different.
    seen: Option<u64>,
    pub(super) wake: Option<MonoTime>,
}

impl Brain {
    /// Tells everybody whose time has come.
    pub(super) fn tell_people(&mut self, now: Now) {
        let same = self.telling.seen == Some(self.ledger.seq);
        if self.ending || (same && self.telling.wake.is_none_or(|wake| now.mono < wake)) {
            return;
        }
        let open = self.ledger.incidents.values().filter(|incident| incident.closed.is_none());
        let open: Vec<IncidentId> = open.map(|incident| incident.id.clone()).collect();
        for id in &open {
            self.escalate(now, id);
            self.update(now, id);
        }
        self.remind_of_duties(now);
        let due = open.iter().filter_map(|id| self.next_telling_of(now, &self.ledger.incidents[id]));
        let duties = self.next_duty(now).map(|at| at.min(now.mono + AGAIN));
        let wake = due.chain(duties).min();
        self.telling = Telling { seen: Some(self.ledger.seq), wake };
    }

    /// How long an open incident has been open, whatever the wall clock did meanwhile.
    pub(super) fn age(&self, now: Now, incident: &Incident) -> Duration {
        let before = incident.opened.since(incident.outage_start);
        let outage = self.marks.since_outage(&incident.id, now.mono);
        outage.map_or_else(|| now.wall.since(incident.opened), |outage| outage.saturating_sub(before))
    }

    /// What its severity promises, where that is declared.
    pub(super) fn promises(&self, incident: &Incident) -> Option<&SeveritySettings> {
        self.settings.severity(&incident.severity)
    }

    /// The routes that hear of an incident: those of its severity, and those of the rungs that were told.
    pub(super) fn routes_of(&self, incident: &Incident) -> Option<Vec<RouteName>> {
        let severity = self.promises(incident)?;
        let mut routes = severity.routes.clone()?;
        let told = |after: &HumanDuration| after.get().is_zero() || incident.told.rungs.contains(after);
        for route in severity.escalate.iter().filter(|rung| told(&rung.after)).flat_map(|rung| &rung.routes) {
            if !routes.contains(route) {
                routes.push(route.clone());
            }
        }
        Some(routes)
    }

    /// Does nobody have to be told of it now: somebody has answered, or it comes of a probe that flaps?
    fn is_calm(&self, incident: &Incident) -> bool {
        let place = self.settings.scenarios.iter().position(|known| known.name == incident.scenario);
        incident.told.answered.is_some() || place.is_some_and(|place| self.watches[place].is_flapping)
    }

    fn escalate(&mut self, now: Now, id: &IncidentId) {
        let incident = self.ledger.incidents[id].clone();
        let Some(severity) = self.promises(&incident).cloned() else { return };
        if self.is_calm(&incident) {
            return;
        }
        let age = self.age(now, &incident);
        for rung in severity.escalate.iter().filter(|rung| rung.after.get() <= age) {
            if incident.told.rungs.contains(&rung.after) {
                continue;
            }
            let to = rung.label();
            if !self.commit(now, Entry::Escalated { incident: id.clone(), after: rung.after, to: to.clone() }) {
                return;
            }
            // Whoever is told from the start is told by the opening itself.
            if rung.after.get().is_zero() && incident.opened == now.wall {
                continue;
            }
            let subject = format!(
                "{} {}: nobody has answered for {}, {to} is told: failoverd ack {id}",
                incident.severity,
                incident.scenario,
                whole(age)
            );
            self.tell(now, NoticeKind::Escalated, Importance::Page, id, Some(rung.routes.clone()), subject);
        }
        if let Some(within) = severity.respond_within.filter(|within| within.get() <= age && !incident.told.unanswered)
        {
            if !self.commit(now, Entry::Unanswered { incident: id.clone(), within }) {
                return;
            }
            let subject = format!(
                "{} {}: NOBODY ANSWERED within {within}: failoverd ack {id}",
                incident.severity, incident.scenario
            );
            let routes = self.routes_of(&self.ledger.incidents[id]);
            self.tell(now, NoticeKind::Unanswered, Importance::Page, id, routes, subject);
        }
    }

    /// Tells how it stands, where that is due. What a daemon that was down has missed is told once.
    fn update(&mut self, now: Now, id: &IncidentId) {
        let incident = &self.ledger.incidents[id];
        let Some(every) = self.promises(incident).and_then(|severity| severity.update_every) else { return };
        let (age, due) = (self.age(now, incident), incident.told.updated.get() + every.get());
        if every.get().is_zero() || age < due {
            return;
        }
        let late = age.saturating_sub(due);
        let missed = u32::try_from(late.as_nanos() / every.get().as_nanos()).unwrap_or(u32::MAX);
        let entry =
            Entry::StatusUpdated { incident: id.clone(), after: HumanDuration(age), late: HumanDuration(late), missed };
        if !self.commit(now, entry) {
            return;
        }
        let incident = self.ledger.incidents[id].clone();
        let situation = self.situation(now, &incident);
        let subject = format!(
            "{} {}: {} for {}, {}",
            incident.severity,
            incident.scenario,
            situation.stage.name(),
            whole(now.wall.since(incident.outage_start)),
            situation.doing
        );
        let routes = self.routes_of(&incident);
        self.tell(now, NoticeKind::StatusUpdate, Importance::Info, id, routes, subject);
        if let Some(Effect::Notify(notice)) = self.effects.last_mut() {
            let next = situation.next_update.map(|at| format!("\nNext update: {at}")).unwrap_or_default();
            notice.body = format!("Known: {}\nDone about it: {}{next}", situation.known, situation.doing);
        }
    }

    /// Tells people of an incident, through these routes.
    pub(super) fn tell(
        &mut self,
        now: Now,
        kind: NoticeKind,
        importance: Importance,
        id: &IncidentId,
        routes: Option<Vec<RouteName>>,
        subject: String,
    ) {
        let incident = self.ledger.incidents.get(id).cloned();
        self.notify(now, kind, importance, incident.as_ref(), subject);
        if let Some(Effect::Notify(Notice { routes: usual, .. })) = self.effects.last_mut() {
            *usual = routes;
        }
    }

    /// When the next update of an open incident is due, by its age.
    pub(super) fn next_update(&self, incident: &Incident) -> Option<Duration> {
        let every = self.promises(incident)?.update_every.filter(|every| !every.get().is_zero())?;
        Some(incident.told.updated.get() + every.get())
    }

    /// When somebody has to be told of an open incident next.
    fn next_telling_of(&self, now: Now, incident: &Incident) -> Option<MonoTime> {
        let severity = self.promises(incident)?;
        let age = self.age(now, incident);
        let rungs = severity.escalate.iter().map(|rung| rung.after.get());
        let answer = severity.respond_within.map(HumanDuration::get);
        let waiting = rungs.chain(answer).filter(|_| incident.told.answered.is_none());
        let due = waiting.chain(self.next_update(incident)).filter(|due| *due > age).min();
        // While a probe flaps nobody is told, and the end of that is no record.
        let flaps = (incident.told.answered.is_none() && self.is_calm(incident)).then_some(AGAIN / 60);
        let due = due.map(|due| due.saturating_sub(age));
        due.into_iter().chain(flaps).min().map(|left| now.mono + left)
    }
}

/// To the second.
fn whole(span: Duration) -> HumanDuration {
    HumanDuration::secs(span.as_secs())
}
