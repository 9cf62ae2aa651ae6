//! Ask the replicas: one that hears its primary still vetoes that the primary is down.
//!
//! That a replica says `streaming` is no evidence: it says so for as long as its timeout after the primary's
//! host fell silent. That it *received* something after the primary had failed us is. No veto is no proof of
//! the contrary: an idle primary may be silent for half a minute.

use std::time::Duration;

use super::brain::Brain;
use crate::model::{HoldReason, Now, ReplicationPair, ScenarioSettings};

/// For so long a message is a sign of life: an idle primary need say something every 30 s only
/// (PostgreSQL: half of `wal_receiver_timeout`; Redis: every 10 s). It also bounds how long a primary that
/// dies little by little, and sends until the end, is held for alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(35);

impl Brain {
    /// A replica that vetoes that its primary is down, where the scenario asks the replicas.
    pub(super) fn replica_veto(&self, now: Now, scenario: &ScenarioSettings) -> Option<HoldReason> {
        if !scenario.ask_replicas {
            return None;
        }
        let wanted = scenario.when.wanted_down();
        let pairs =
            scenario.replication.iter().filter(|pair| pair.primary.as_ref().is_some_and(|p| wanted.contains(p)));
        pairs.filter_map(|pair| self.heard_by_replica(now, pair)).next()
    }

    fn heard_by_replica(&self, now: Now, pair: &ReplicationPair) -> Option<HoldReason> {
        let primary = pair.primary.as_ref()?;
        let index = *self.index.get(primary)?;
        let standby = &self.detectors[*self.index.get(&pair.standby)?];
        let (asked, heard) = standby.primary_heard?;
        // Only where everybody who looks sees it down, and since the last of them does.
        let failed = self.last_writes_of(index, now.mono).ended?;
        // A primary that dies while it is asked sends until then.
        let dead = failed + self.detectors[index].settings.timeout.get();
        let is_recent =
            now.mono.since(asked) <= standby.settings.max_age.get() && now.mono.since(heard) <= SIGN_OF_LIFE;
        (heard > dead && is_recent).then(|| HoldReason::ReplicaStreams {
            standby: pair.standby.clone(),
            primary: primary.clone(),
            heard: now.wall_of(heard),
        })
    }
}
