//! The durable state: what the journal replays to (S12).
//!
//! The brain changes it only by applying the record that it hands to the journal, and a restart
//! applies the same records again; so that there is no second way to get to a state. A record that
//! does not follow from the state is an error, not a surprise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::incident::Incident;
use super::run_ledger::RunLedger;
use crate::model::sabotage::{Sabotage, is_broken};
use crate::model::{
    ActionKind, DrillTarget, Entry, Epoch, IncidentId, Mode, PlanName, Record, RunId, ScenarioName, StepEnd, StepName,
    Term, VantageId, WallTime,
};

/// How many measured times are kept for each step.
const KEPT_TIMES: usize = 100;

/// A record that does not follow from the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} ({entry}) does not follow: {reason}")]
pub struct IllegalRecord {
    /// Which.
    pub seq: u64,
    /// What kind.
    pub entry: String,
    /// Why not.
    pub reason: String,
}

/// The durable state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The last record's number.
    pub seq: u64,
    /// The highest epoch granted.
    pub epoch: Epoch,
    /// Of several daemons, who leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<(VantageId, Term)>,
    /// The mode set at run time, and by whom.
    pub mode: Option<(Mode, String)>,
    /// Who paused the daemon.
    pub paused: Option<String>,
    /// All incidents, the oldest first.
    pub incidents: BTreeMap<IncidentId, Incident>,
    /// All runs, the oldest first.
    pub runs: BTreeMap<RunId, RunLedger>,
    /// How long each step took where it was really done, the newest last.
    #[serde(with = "pairs")]
    pub step_times: BTreeMap<(PlanName, StepName, ActionKind), Vec<Duration>>,
    /// The same of drills, kept apart.
    #[serde(default, with = "pairs")]
    pub drill_times: BTreeMap<(PlanName, StepName, ActionKind), Vec<Duration>>,
    /// The newest drill of each plan and target that was due and not begun: when, and why not.
    #[serde(default, with = "pairs")]
    pub missed_drills: BTreeMap<(PlanName, DrillTarget), (WallTime, String)>,
    /// The scenarios whose plan fits into their objective no longer.
    #[serde(default)]
    pub out_of_reach: BTreeSet<ScenarioName>,
}

impl Ledger {
    /// The state after all records.
    ///
    /// # Errors
    /// [`IllegalRecord`] for the first one that does not follow.
    pub fn replay<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Self, IllegalRecord> {
        let mut ledger = Self::default();
        for record in records {
            ledger.apply(record)?;
        }
        Ok(ledger)
    }

    /// Applies one record.
    ///
    /// # Errors
    /// [`IllegalRecord`] where it does not follow; the state is then unchanged.
    pub fn apply(&mut self, record: &Record) -> Result<(), IllegalRecord> {
        let illegal = |reason: String| IllegalRecord {
            seq: record.seq,
            entry: format!("{:?}", record.entry).chars().take_while(|c| c.is_alphanumeric()).collect(),
            reason,
        };
        if record.seq != self.seq + 1 {
            return Err(illegal(format!("it comes after record {}", self.seq)));
        }
        self.apply_entry(record.at, &record.entry).map_err(illegal)?;
        self.seq = record.seq;
        Ok(())
    }

    /// The run that has not ended and was not set aside; at most one.
    pub fn active_run(&self) -> Option<&RunLedger> {
        // The newest is looked at first: only it can be active, or one that it made give way.
        self.runs.values().rev().find(|run| run.ended.is_none() && run.set_aside.is_none())
    }

    /// The open incident of a scenario.
    pub fn open_incident(&self, scenario: &crate::model::ScenarioName) -> Option<&Incident> {
        self.incidents.values().rev().find(|incident| incident.closed.is_none() && incident.scenario == *scenario)
    }

    /// The runs that count: for the cool-down and for the limit of failovers.
    pub fn counted_runs(&self) -> impl Iterator<Item = &RunLedger> {
        self.runs.values().filter(|run| run.counts())
    }

    /// The 95th percentile of the measured times of a step, once there are three: of runs, or of drills
    /// where there are not that many.
    pub fn measured(&self, plan: &PlanName, step: &StepName, kind: &ActionKind) -> Option<Duration> {
        let (_, times) = super::evidence::samples(self, plan, step, kind)?;
        super::evidence::Quantiles::of(times).map(|quantiles| quantiles.p95.get())
    }

    /// The next incident id of a day.
    pub fn next_incident(&self, at: WallTime) -> IncidentId {
        let prefix = format!("INC-{}-", at.date());
        IncidentId::new(next_id(&prefix, self.incidents.keys().map(IncidentId::as_str)))
    }

    /// The next run id of a day.
    pub fn next_run(&self, at: WallTime) -> RunId {
        let prefix = format!("RUN-{}-", at.date());
        RunId::new(next_id(&prefix, self.runs.keys().map(RunId::as_str)))
    }

    fn apply_entry(&mut self, at: WallTime, entry: &Entry) -> Result<(), String> {
        match entry {
            Entry::DaemonStarted { .. } | Entry::Command { .. } => Ok(()),
            Entry::LeaderChanged { member, term, epoch } => self.change_leader(member, *term, *epoch),
            Entry::ModeSet { mode, by } => {
                self.mode = mode.map(|mode| (mode, by.clone()));
                Ok(())
            }
            Entry::Paused { by } => {
                self.paused = Some(by.clone());
                Ok(())
            }
            Entry::Resumed { .. } => {
                self.paused = None;
                Ok(())
            }
            Entry::IncidentOpened { incident, scenario, .. } => {
                if self.open_incident(scenario).is_some() {
                    return Err(format!("scenario {scenario} has an open incident"));
                }
                if self.incidents.contains_key(incident) {
                    return Err(format!("incident {incident} exists"));
                }
                self.incidents.insert(incident.clone(), Incident::open(at, entry)?);
                Ok(())
            }
            Entry::IncidentAcknowledged { incident, .. }
            | Entry::Decided { incident, .. }
            | Entry::ExtentSeen { incident, .. }
            | Entry::ApprovalAsked { incident, .. }
            | Entry::ApprovalAnswered { incident, .. }
            | Entry::ReplicationSeen { incident, .. }
            | Entry::Escalated { incident, .. }
            | Entry::Unanswered { incident, .. }
            | Entry::StatusUpdated { incident, .. }
            | Entry::DutiesTaken { incident, .. }
            | Entry::DutyReminded { incident, .. }
            | Entry::DutyDone { incident, .. }
            | Entry::IncidentGraded { incident, .. }
            | Entry::IncidentClosed { incident, .. } => {
                self.incidents.get_mut(incident).ok_or(format!("there is no incident {incident}"))?.apply(at, entry)
            }
            Entry::RunStarted { .. } => self.start_run(at, entry),
            Entry::RunAborting { run, .. }
            | Entry::StepIntent { run, .. }
            | Entry::StepApplied { run, .. }
            | Entry::StepParked { run, .. }
            | Entry::StepUnparked { run, .. }
            | Entry::StepEnded { run, .. }
            | Entry::CompensationIntent { run, .. }
            | Entry::CompensationEnded { run, .. }
            | Entry::LossMeasured { run, .. }
            | Entry::DrillJudged { run, .. }
            | Entry::RunSetAside { run, .. }
            | Entry::RunEnded { run, .. } => self.apply_to_run(at, run, entry),
            Entry::RunTakenUp { run, epoch } => self.take_up(run, *epoch),
            Entry::DrillMissed { plan, target, due, why } => {
                self.missed_drills.insert((plan.clone(), target.clone()), (*due, why.clone()));
                Ok(())
            }
            Entry::BudgetChanged { scenario, fits, .. } => {
                if *fits {
                    self.out_of_reach.remove(scenario);
                } else {
                    self.out_of_reach.insert(scenario.clone());
                }
                Ok(())
            }
        }
    }

    /// Another member leads. The run that is active goes on under an epoch of its own: what the former leader
    /// still has out is refused wherever the target holds the epoch.
    fn change_leader(&mut self, member: &VantageId, term: Term, epoch: Option<Epoch>) -> Result<(), String> {
        if let Some((leader, known)) = self.leader.as_ref().filter(|(_, known)| term <= *known) {
            return Err(format!("term {term} does not follow term {known} of {leader}"));
        }
        let active = self.active_run().map(|run| run.id.clone());
        match (active, epoch) {
            (None, None) => {}
            (Some(_), None) if is_broken(Sabotage::OldEpochAtTakeOver) => {}
            (Some(run), Some(epoch)) if epoch == self.epoch.next() => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.epoch = epoch;
                }
                self.epoch = epoch;
            }
            (Some(run), epoch) => {
                let granted = epoch.map_or("none".to_owned(), |epoch| epoch.to_string());
                return Err(format!("run {run} is active under epoch {}, and is granted {granted}", self.epoch));
            }
            (None, Some(epoch)) => return Err(format!("it grants epoch {epoch}, and no run is active")),
        }
        self.leader = Some((member.clone(), term));
        Ok(())
    }

    /// Grants a drill that gave way the next epoch.
    fn take_up(&mut self, id: &RunId, epoch: Epoch) -> Result<(), String> {
        if let Some(active) = self.active_run() {
            return Err(format!("run {} is active", active.id));
        }
        if epoch != self.epoch.next() {
            return Err(format!("epoch {epoch} does not follow epoch {}", self.epoch));
        }
        let run = self.runs.get_mut(id).ok_or(format!("there is no run {id}"))?;
        if run.ended.is_some() || run.set_aside.take().is_none() {
            return Err(format!("run {id} was not set aside"));
        }
        run.epoch = epoch;
        self.epoch = epoch;
        Ok(())
    }

    fn start_run(&mut self, at: WallTime, entry: &Entry) -> Result<(), String> {
        let Entry::RunStarted { run, incident, epoch, .. } = entry else { return Err("not a start".into()) };
        if let Some(active) = self.active_run() {
            return Err(format!("run {} is active", active.id));
        }
        if *epoch != self.epoch.next() {
            return Err(format!("epoch {epoch} does not follow epoch {}", self.epoch));
        }
        if self.runs.contains_key(run) {
            return Err(format!("run {run} exists"));
        }
        let ledger = RunLedger::start(at, entry)?;
        if let Some(incident) = incident {
            let incident = self.incidents.get_mut(incident).ok_or(format!("there is no incident {incident}"))?;
            incident.apply(at, entry)?;
        }
        self.epoch = *epoch;
        self.runs.insert(run.clone(), ledger);
        Ok(())
    }

    fn apply_to_run(&mut self, at: WallTime, id: &RunId, entry: &Entry) -> Result<(), String> {
        let run = self.runs.get_mut(id).ok_or(format!("there is no run {id}"))?;
        run.apply(at, entry)?;
        if let Entry::StepEnded { step, end: StepEnd::Done { already: false, .. }, took, .. } = entry
            && let Some(definition) = run.plan.step(step)
        {
            let key = (run.plan.name.clone(), step.clone(), definition.work.kind());
            if !definition.terms.drill.is_rehearsed() {
                return Ok(());
            }
            let times = if run.is_drill() { &mut self.drill_times } else { &mut self.step_times };
            let times = times.entry(key).or_default();
            times.push(*took);
            if times.len() > KEPT_TIMES {
                times.remove(0);
            }
        }
        if let Some(incident) = run.incident.clone().and_then(|id| self.incidents.get_mut(&id)) {
            incident.note_run(at, entry);
        }
        Ok(())
    }
}

fn next_id<'a>(prefix: &str, ids: impl Iterator<Item = &'a str>) -> String {
    // None comes after the highest number that there is, so an id that has it is passed over.
    let after = |number: &str| number.parse::<u64>().ok()?.checked_add(1);
    let next = ids.filter_map(|id| after(id.strip_prefix(prefix)?)).max().unwrap_or(1);
    format!("{prefix}{next:03}")
}

/// JSON has no maps with compound keys: written as a list of pairs.
pub(super) mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Vec::<(K, V)>::deserialize(deserializer).map(|pairs| pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::next_id;

    #[test]
    fn the_next_id_follows_the_highest_of_its_day() {
        let next = |ids: &[&str]| next_id("INC-20260730-", ids.iter().copied());
        assert_eq!(next(&[]), "INC-20260730-001");
        assert_eq!(next(&["INC-20260730-002", "INC-20260730-001", "INC-20260731-009"]), "INC-20260730-003");
        assert_eq!(next(&["INC-20260730-4294967295"]), "INC-20260730-4294967296");
        assert_eq!(next(&["INC-20260730-18446744073709551615"]), "INC-20260730-001");
    }
}
