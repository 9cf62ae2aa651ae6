//! What was known of the replication when an incident opened, or when the primary fell after that, for
//! a life that begins in the middle of it.
//!
//! Such a life has never seen the primary, and could not tell what a failover loses: the failover
//! that a crash interrupted would then wait for a person, for ever.

use std::time::Duration;

use super::brain::Brain;
use super::incident::Incident;
use super::policy::LastWrites;
use crate::model::{Entry, Is, Now, ProbeName, ReplicationEvidence, ScenarioSettings, Verdict, WallTime};

/// For so long it counts: an outage is confirmed in less, and within it nobody makes a primary
/// asynchronous, unseen by us, that dies once more.
const REMEMBERED: Duration = Duration::from_secs(60);
/// So often in an incident it is written down anew. A primary that flaps on must not fill the journal:
/// the last record says that nothing is known.
const CHANGES: u32 = 20;

impl Brain {
    /// What is known of each pair now.
    pub(super) fn replication_evidence(&self, scenario: &ScenarioSettings, now: Now) -> Vec<ReplicationEvidence> {
        let known = |pair: &crate::model::ReplicationPair| {
            let writes = self.last_writes(scenario, pair, now.mono);
            let standby = self.index.get(&pair.standby).map(|index| &self.detectors[*index])?;
            let lag = writes.believed.and_then(|believed| standby.lag_at(believed));
            Some(ReplicationEvidence {
                standby: pair.standby.clone(),
                lag: lag.map(|(at, lag)| (now.wall_of(at), lag)),
                primary_up: writes.believed.map(|at| now.wall_of(at)),
                down_since: writes.ended.map(|at| now.wall_of(at)),
                // Of a primary that takes writes still, nobody can tell how it will take the last one.
                synchronous: writes.ended.is_some() && self.commits_wait(pair, writes, now.mono),
            })
        };
        scenario.replication.iter().filter_map(known).collect()
    }

    /// Keeps, and where an incident is open writes down, what was known when a primary fell.
    pub(super) fn note_replication(&mut self, now: Now, scenario: &ScenarioSettings) {
        self.keep_replication(now, scenario);
        let Some(incident) = self.ledger.open_incident(&scenario.name) else { return };
        let carried_out = incident.run.as_ref().is_some_and(|run| self.ledger.runs[run].counts());
        if carried_out || incident.replication_changes >= CHANGES || !self.replication_changed(now, scenario, incident)
        {
            return;
        }
        let is_last = incident.replication_changes + 1 == CHANGES;
        let id = incident.id.clone();
        let replication = if is_last { Vec::new() } else { self.replication_evidence(scenario, now) };
        self.commit(now, Entry::ReplicationSeen { incident: id, replication });
    }

    /// Keeps what was known of the standbys when a primary fell.
    pub(super) fn keep_replication(&mut self, now: Now, scenario: &ScenarioSettings) {
        for pair in &scenario.replication {
            let LastWrites { believed: Some(believed), ended: Some(_) } = self.last_writes(scenario, pair, now.mono)
            else {
                continue;
            };
            if let Some(index) = self.index.get(&pair.standby) {
                self.detectors[*index].keep_lag(believed);
            }
        }
    }

    /// Did a primary fall, or come back, since it was written down?
    fn replication_changed(&self, now: Now, scenario: &ScenarioSettings, incident: &Incident) -> bool {
        scenario.replication.iter().any(|pair| {
            let known = incident.replication.iter().find(|known| known.standby == pair.standby);
            let was_down = known.is_some_and(|known| known.down_since.is_some());
            if self.last_writes(scenario, pair, now.mono).ended.is_some() {
                return !was_down;
            }
            // One that cannot be told is not back.
            let primary = pair.primary.as_ref().and_then(|primary| self.index.get(primary));
            was_down && primary.is_some_and(|index| self.verdict(*index, now.mono) == Verdict::Up)
        })
    }

    /// Takes up what the incidents that are open know.
    ///
    /// The lag counts from when it was measured until this life's first look at the primary, as if
    /// the primary had taken writes all the while; where commits waited for a standby, none were
    /// acknowledged that it does not have.
    pub(super) fn recall(&mut self, now: Now) {
        let settings = std::sync::Arc::clone(&self.settings);
        for scenario in &settings.scenarios {
            let incident = self.ledger.open_incident(&scenario.name);
            // What lies in the future by a clock that was set back may be of any age.
            let recent = |seen: WallTime| seen <= now.wall && now.wall.since(seen) <= REMEMBERED;
            let seen = |incident: &Incident| incident.replication_seen.unwrap_or(incident.opened);
            let Some(incident) = incident.filter(|incident| recent(seen(incident))) else { continue };
            for known in incident.replication.clone() {
                self.recall_pair(now, scenario, &known);
            }
        }
    }

    fn recall_pair(&mut self, now: Now, scenario: &ScenarioSettings, known: &ReplicationEvidence) {
        let Some(pair) = scenario.replication.iter().find(|pair| pair.standby == known.standby) else { return };
        let primaries: Vec<ProbeName> = match &pair.primary {
            Some(primary) => vec![primary.clone()],
            None => {
                let subjects = scenario.when.subjects();
                subjects.iter().filter(|subject| subject.is == Is::Down).map(|s| s.probe.clone()).collect()
            }
        };
        for index in primaries.iter().filter_map(|primary| self.index.get(primary)) {
            // What this life has seen itself is not by another machine's clock: one that runs ahead would
            // have a standby believed on what it says after the primary fell.
            if let Some(at) = known.primary_up.filter(|_| self.detectors[*index].last_up.is_none()) {
                self.detectors[*index].recall_up(now.mono_of(at).min(now.mono));
            }
            if known.synchronous && known.down_since.is_some() {
                self.detectors[*index].recall_synchronous(now.mono);
            }
        }
        if let (Some((at, lag)), Some(index)) = (known.lag, self.index.get(&pair.standby)) {
            self.detectors[*index].recall_lag(now.mono_of(at).min(now.mono), lag);
        }
    }
}
