//! What was known of the replication when an incident opened, for a life that begins in the middle of
//! it.
//!
//! Such a life has never seen the primary, and could not tell what a failover loses: the failover
//! that a crash interrupted would then wait for a person, for ever.

use std::time::Duration;

use super::brain::Brain;
use crate::model::{Health, Now, ProbeName, ReplicationEvidence, ScenarioSettings};

/// For so long it counts: an outage is confirmed in less, and within it nobody makes a primary
/// asynchronous, unseen by us, that dies once more.
const REMEMBERED: Duration = Duration::from_secs(60);

impl Brain {
    /// What is known of each pair now.
    pub(super) fn replication_evidence(&self, scenario: &ScenarioSettings, now: Now) -> Vec<ReplicationEvidence> {
        let known = |pair: &crate::model::ReplicationPair| {
            let (believed, _) = self.written_until(scenario, pair, now.mono);
            let standby = self.index.get(&pair.standby).map(|index| &self.detectors[*index])?;
            let lag = believed.and_then(|believed| standby.lag_at(believed));
            Some(ReplicationEvidence {
                standby: pair.standby.clone(),
                lag: lag.map(|(at, lag)| (now.wall_of(at), lag)),
                primary_up: believed.map(|at| now.wall_of(at)),
                synchronous: self.commits_wait(scenario, pair, now.mono),
            })
        };
        scenario.replication.iter().filter_map(known).collect()
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
            let Some(incident) = incident.filter(|incident| now.wall.since(incident.opened) <= REMEMBERED) else {
                continue;
            };
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
                subjects.iter().filter(|subject| subject.is == Health::Down).map(|s| s.probe.clone()).collect()
            }
        };
        for index in primaries.iter().filter_map(|primary| self.index.get(primary)) {
            if let Some(at) = known.primary_up {
                self.detectors[*index].recall_up(now.mono_of(at));
            }
            if known.synchronous {
                self.detectors[*index].recall_synchronous(now.mono);
            }
        }
        if let (Some((at, lag)), Some(index)) = (known.lag, self.index.get(&pair.standby)) {
            self.detectors[*index].recall_lag(now.mono_of(at), lag);
        }
    }
}
