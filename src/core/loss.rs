//! How much would be lost, and how much was: by the positions in the log that both sides tell.
//!
//! Seconds are what the objective is written in, and are in `policy`. Bytes and transactions are what
//! a person can weigh, and what can be counted afterwards.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::brain::Brain;
use super::detect::Detector;
use super::run_ledger::RunLedger;
use crate::model::{
    Divergence, Entry, HumanDuration, MonoTime, Now, PredictedLoss, ReplicationPair, Role, RunResult, ScenarioSettings,
    Trigger, Writes,
};

/// An old primary that goes on writing is told of again once it has so much more.
const MORE: u64 = 1_000_000;

/// What is known of an old primary against the one that was promoted in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// It follows the new one: whatever it had is settled.
    Follows,
    /// It stands by itself, and this is what only it has.
    Apart(Divergence),
    /// Nobody can tell, and why.
    Unknown(String),
}

impl Brain {
    /// How much a failover would lose now, as far as both sides told; nothing where commits wait for a
    /// standby. Writes since the primary was seen last are taken to have gone on at the pace of before.
    pub(super) fn predicted_writes(&self, scenario: &ScenarioSettings, now: MonoTime) -> Writes {
        let pairs = scenario.replication.iter().map(|pair| self.writes_missing(scenario, pair, now));
        pairs.reduce(Writes::and).unwrap_or_default()
    }

    fn writes_missing(&self, scenario: &ScenarioSettings, pair: &ReplicationPair, now: MonoTime) -> Writes {
        let writes = self.last_writes(scenario, pair, now);
        if self.commits_wait(pair, writes, now) {
            return Writes::NONE;
        }
        let detector = |probe| self.index.get(probe).map(|index| &self.detectors[*index]);
        let (Some(standby), Some(primary)) = (detector(&pair.standby), pair.primary.as_ref().and_then(detector)) else {
            return Writes::default();
        };
        let end = primary.positions.expected(writes.ended.unwrap_or(now));
        match (end, standby.positions.newest()) {
            (Some(end), Some((_, has))) if same_cluster(primary, standby) => end.beyond(has),
            _ => Writes::default(),
        }
    }

    /// What a person who approves now is shown, and signs.
    pub(super) fn loss_now(&self, scenario: &ScenarioSettings, now: MonoTime) -> Option<PredictedLoss> {
        let writes = self.predicted_writes(scenario, now);
        match self.predicted_loss(scenario, now) {
            Ok(None) => None,
            Ok(Some((time, _))) => Some(PredictedLoss { time: Some(time), writes }),
            Err(_) => Some(PredictedLoss { time: None, writes }),
        }
    }

    /// Writes down what was really lost, once an old primary is seen again.
    pub(super) fn note_loss(&mut self, now: Now, scenario: &ScenarioSettings) {
        if scenario.replication.is_empty() || !self.may_tell(now, scenario) {
            return;
        }
        let Some(run) = self.last_failover(scenario) else { return };
        let (id, known) = (run.id.clone(), run.measured.clone());
        for pair in &scenario.replication {
            let Comparison::Apart(divergence) = self.compare(now, pair) else { continue };
            let before = known.iter().find(|known| (&known.old, &known.new) == (&divergence.old, &divergence.new));
            let grown = before.is_none_or(|before| {
                let of = |seen: &Divergence| seen.writes.bytes.unwrap_or_default();
                of(&divergence) >= of(before).saturating_add(MORE) || (before.is_none() && !divergence.is_none())
            });
            if grown {
                self.commit(now, Entry::LossMeasured { run: id.clone(), divergence });
            }
        }
    }

    /// Not while a run is under way, which may be about to make a primary of the old one again. What is left is
    /// cheap, and almost always no: does anybody hear of an old primary?
    fn may_tell(&self, now: Now, scenario: &ScenarioSettings) -> bool {
        let of = |pair: &ReplicationPair| pair.primary.as_ref().and_then(|primary| self.index.get(primary)).copied();
        let is_back = |index: usize| self.detectors[index].is_fresh(now.mono);
        self.ledger.active_run().is_none() && scenario.replication.iter().filter_map(of).any(is_back)
    }

    /// The newest run that failed this scenario over, where nothing has brought it back since.
    pub(super) fn last_failover(&self, scenario: &ScenarioSettings) -> Option<&RunLedger> {
        let mut runs = self.ledger.runs.values().rev().filter(|run| run.scenario == scenario.name && run.counts());
        let newest = runs.find(|run| matches!(run.ended, Some((RunResult::Done, _))))?;
        (!matches!(newest.trigger, Trigger::Failback { .. })).then_some(newest)
    }

    /// Compares an old primary with what was promoted in its place.
    pub(super) fn compare(&self, now: Now, pair: &ReplicationPair) -> Comparison {
        let unknown = |why: String| Comparison::Unknown(why);
        let detector = |probe| self.index.get(probe).map(|index| &self.detectors[*index]);
        let Some(name) = &pair.primary else {
            return unknown(format!("no `primary` is named for {} in `replication`", pair.standby));
        };
        let (Some(old), Some(new)) = (detector(name), detector(&pair.standby)) else {
            return unknown(format!("{name} or {} is no probe any more", pair.standby));
        };
        // Told at the newest look: what it said before it fell is no word of what it has now.
        let fresh = |detector: &Detector| {
            let newest = detector.positions.newest().map(|(at, _)| at);
            let looked = detector.latest.as_ref().map(|latest| latest.started);
            newest.is_some_and(|at| looked <= Some(at) && now.mono.since(at) <= detector.settings.max_age.get())
        };
        let (Some(was), Some(is)) = (old.facts.as_deref(), new.facts.as_deref()) else {
            return unknown(format!("{name} or {} has told nothing of itself yet", pair.standby));
        };
        if !fresh(old) {
            return unknown(format!("{name} does not answer"));
        }
        if !fresh(new) {
            return unknown(format!("{} does not answer", pair.standby));
        }
        if !same_cluster(old, new) {
            return unknown(format!("{name} and {} are not of one cluster", pair.standby));
        }
        if was.role == Some(Role::Replica) {
            return match was.streaming {
                Some(true) => Comparison::Follows,
                _ => unknown(format!("{name} is a replica, and does not stream")),
            };
        }
        let Some((promoted, taken_over)) = new.positions.promoted() else {
            return unknown(format!("{} does not tell where it was promoted: it was started since", pair.standby));
        };
        let Some((_, has)) = old.positions.newest() else { return unknown(format!("{name} tells no position")) };
        let writes = Writes {
            bytes: Some(has.offset.saturating_sub(promoted)),
            transactions: has.transaction.zip(taken_over).map(|(has, taken)| has.saturating_sub(taken)),
        };
        let time = was.last_commit.zip(is.last_commit).map(|(last, taken)| HumanDuration(last.since(taken)));
        Comparison::Apart(Divergence { old: name.clone(), new: pair.standby.clone(), writes, time, seen: now.wall })
    }
}

fn same_cluster(one: &Detector, other: &Detector) -> bool {
    let cluster = |detector: &Detector| detector.facts.as_deref().and_then(|facts| facts.cluster.clone());
    match (cluster(one), cluster(other)) {
        (Some(one), Some(other)) => one == other,
        // What does not tell is not refused for it.
        _ => true,
    }
}

/// How far a log reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// In bytes.
    offset: u64,
    /// The next transaction.
    transaction: Option<u64>,
}

/// How far somebody's log reached, each time that it was asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Positions {
    /// The first of those that a pace is reckoned from, and the newest.
    first: Option<(MonoTime, Position)>,
    newest: Option<(MonoTime, Position)>,
    /// As a replica, the newest.
    replica: Option<Position>,
    /// Where it was promoted.
    promoted: Option<u64>,
}

/// A pace is reckoned from no longer than this.
const PACE: Duration = Duration::from_secs(60);

impl Positions {
    pub(super) fn take(&mut self, at: MonoTime, facts: &crate::model::Facts) {
        self.promoted = facts.promoted_at.or(self.promoted.filter(|_| facts.role != Some(Role::Replica)));
        let Some(offset) = facts.offset else { return };
        let position = Position { offset, transaction: facts.transaction };
        if facts.role == Some(Role::Replica) {
            self.replica = Some(position);
        }
        let keeps = self.first.filter(|(since, first)| at.since(*since) <= PACE && first.offset <= offset);
        self.first = keeps.or(self.newest.filter(|(_, known)| known.offset <= offset)).or(Some((at, position)));
        self.newest = Some((at, position));
    }

    pub(super) fn newest(&self) -> Option<(MonoTime, Position)> {
        self.newest
    }

    /// Where it was promoted, and up to which transaction it had its primary's then.
    fn promoted(&self) -> Option<(u64, Option<u64>)> {
        let at = self.promoted?;
        // Only where it was seen with all that it was promoted with.
        let taken_over = self.replica.filter(|replica| replica.offset == at).and_then(|replica| replica.transaction);
        Some((at, taken_over))
    }

    /// Where it was at that time, if it went on as before.
    fn expected(&self, at: MonoTime) -> Option<Position> {
        let (seen, newest) = self.newest?;
        let (since, first) = self.first.unwrap_or((seen, newest));
        let (over, gap) = (seen.since(since).as_millis(), at.since(seen).as_millis());
        let gone_on = |from: u64, to: u64| {
            let more = u128::from(to.saturating_sub(from)).saturating_mul(gap).checked_div(over).unwrap_or_default();
            to.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
        };
        Some(Position {
            offset: gone_on(first.offset, newest.offset),
            transaction: newest.transaction.map(|to| gone_on(first.transaction.unwrap_or(to), to)),
        })
    }
}

impl Position {
    /// What this has that the other lacks.
    fn beyond(self, other: Self) -> Writes {
        Writes {
            bytes: Some(self.offset.saturating_sub(other.offset)),
            transactions: self.transaction.zip(other.transaction).map(|(this, other)| this.saturating_sub(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Facts;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::ZERO + Duration::from_secs(seconds)
    }

    /// Each as seconds and offset.
    fn told(positions: &[(u64, u64)]) -> Positions {
        let mut all = Positions::default();
        for (seconds, offset) in positions {
            all.take(at(*seconds), &Facts { offset: Some(*offset), ..Facts::default() });
        }
        all
    }

    fn expected(positions: &[(u64, u64)], seconds: u64) -> u64 {
        told(positions).expected(at(seconds)).expect("a position").offset
    }

    #[test]
    fn the_pace_is_that_of_the_last_minute() {
        assert_eq!(expected(&[(0, 0), (10, 1000), (20, 1000)], 30), 1500, "and not that of the last look");
        assert_eq!(expected(&[(0, 0), (60, 600), (61, 601)], 71), 611, "a minute and a second is too long");
        assert_eq!(expected(&[(0, 0), (61, 100), (70, 1000)], 80), 2000);
    }

    #[test]
    fn a_log_that_begins_anew_has_a_pace_of_its_own() {
        let anew = [(0, 5000), (10, 100), (20, 1100)];
        assert_eq!(expected(&anew[..2], 20), 100, "nothing is known of it yet");
        assert_eq!(expected(&anew, 30), 2100);
    }

    #[test]
    fn where_it_was_promoted_is_kept_for_as_long_as_it_is_no_replica() {
        let facts = |role, promoted_at, offset| Facts {
            role: Some(role),
            promoted_at,
            offset: Some(offset),
            transaction: Some(offset / 100),
            ..Facts::default()
        };
        let mut positions = Positions::default();
        positions.take(at(1), &facts(Role::Replica, None, 700));
        positions.take(at(2), &facts(Role::Primary, Some(700), 800));
        positions.take(at(3), &facts(Role::Primary, None, 900));
        assert_eq!(positions.promoted(), Some((700, Some(7))));
        positions.take(at(4), &facts(Role::Replica, None, 950));
        assert_eq!(positions.promoted(), None);
    }
}
