//! Two regions without a third vantage: where a region may have taken the vantages in it along, those that
//! are left are no quorum, and a person can be asked in its place. Never is it acted upon without one (S4).

use std::time::Duration;

use super::brain::Brain;
use super::quorum::{self, Question};
use crate::model::{
    Condition, FailureDomain, Health, Inconclusive, Is, MonoTime, OnSilentWitnesses, Subject, Truth, VantageId,
    Verdict, WitnessSettings,
};

impl Brain {
    /// When a witness last said anything.
    pub(super) fn last_word(&self, witness: &VantageId) -> Option<MonoTime> {
        let votes = self.peers.iter().flatten().filter(|vote| vote.vantage == *witness).map(|vote| vote.seen);
        self.heard.get(witness).copied().into_iter().chain(votes).max()
    }

    fn is_silent(&self, witness: &WitnessSettings, longer_than: Duration, now: MonoTime) -> bool {
        now > self.last_word(&witness.name).unwrap_or(self.started.mono) + longer_than
    }

    /// The witnesses that have been silent for longer than that.
    pub(super) fn silent(&self, longer_than: Duration, now: MonoTime) -> Vec<&WitnessSettings> {
        let witnesses = self.settings.witnesses.iter();
        witnesses.filter(|witness| self.is_silent(witness, longer_than, now)).collect()
    }

    /// The one failure domain, and not ours, in which everybody is silent, while nobody elsewhere is. Only
    /// where a person may be asked in place of its vote, and anchors say that it is not we who are cut off.
    fn fallen(&self, longer_than: Duration, now: MonoTime) -> Option<&FailureDomain> {
        let may_ask = self.settings.on_silent_witnesses == OnSilentWitnesses::Approve;
        if !may_ask || self.settings.anchors.is_empty() || self.settings.quorum <= 1 {
            return None;
        }
        let silent = self.silent(longer_than, now);
        let domain = &silent.first()?.domain;
        let all = self.settings.witnesses.iter().filter(|witness| witness.domain == *domain).count();
        let whole = silent.len() == all && silent.iter().all(|witness| witness.domain == *domain);
        (whole && *domain != self.settings.domain).then_some(domain)
    }

    /// Since when a probe has been down, where only the vantages that may have fallen with its region are
    /// missing for a quorum: ours and everybody's that is left says Down, and nobody says anything else.
    fn presumed_down(&self, index: usize, now: MonoTime) -> Option<MonoTime> {
        let own = &self.detectors[index];
        let max_age = own.settings.max_age;
        let fallen = self.fallen(max_age.get(), now)?;
        let in_it = own.settings.region.as_ref().is_some_and(|region| region.as_str() == fallen.as_str());
        let looks = own.health() == Some(Health::Down) && own.is_fresh(now);
        let first_bad = own.first_bad().filter(|first_bad| !self.is_isolated_since(*first_bad))?;
        let fresh: Vec<_> = self.peers[index].iter().filter(|vote| vote.is_fresh(now, max_age)).collect();
        let heard = |witness: &WitnessSettings| fresh.iter().any(|vote| vote.vantage == witness.name);
        let others_vote = self.settings.witnesses.iter().all(|witness| witness.domain == *fallen || heard(witness));
        let agree = others_vote && fresh.iter().all(|vote| vote.health == Health::Down && vote.domain != *fallen);
        let mut domains: Vec<_> = fresh.iter().map(|vote| &vote.domain).chain([&self.settings.domain]).collect();
        domains.sort_unstable();
        domains.dedup();
        let enough = domains.len() + 1 >= self.settings.quorum as usize;
        let first = fresh.iter().filter_map(|vote| vote.first_bad).chain([first_bad]).min();
        first.filter(|_| in_it && looks && agree && enough && !self.is_tilted(now))
    }

    /// Since when a probe has been down: by a quorum, or by what is left of it.
    pub(super) fn fell(&self, index: usize, now: MonoTime) -> Option<MonoTime> {
        match self.verdict(index, now) {
            Verdict::Down { outage_start } => Some(outage_start),
            Verdict::Up => None,
            Verdict::Inconclusive(_) => self.presumed_down(index, now),
        }
    }

    /// The truth of what a scenario waits for, and whether only what is left of the quorum says so.
    pub(super) fn truth_of_outage(&self, condition: &Condition, now: MonoTime) -> (Truth, bool) {
        let truth = self.truth(condition, now);
        if truth != Truth::Unknown || self.settings.witnesses.is_empty() {
            return (truth, false);
        }
        let presumed =
            condition.evaluate(&mut |subject: &Subject| match (subject.is, self.index.get(&subject.probe)) {
                (Is::Down, Some(index)) if self.fell(*index, now).is_some() => Truth::True,
                (Is::Up, _) => self.leaf_by_those_left(subject, now),
                _ => self.leaf(subject, now),
            });
        if presumed == Truth::True { (Truth::True, true) } else { (truth, false) }
    }

    /// The truth of a condition by the vantages that are left: for what a person decides, who knows that some
    /// are missing.
    pub(super) fn truth_by_those_left(&self, condition: &Condition, now: MonoTime) -> Truth {
        condition.evaluate(&mut |subject| self.leaf_by_those_left(subject, now))
    }

    fn leaf_by_those_left(&self, subject: &Subject, now: MonoTime) -> Truth {
        let Some(&index) = self.index.get(&subject.probe) else { return Truth::Unknown };
        let own = &self.detectors[index];
        if subject.is == Is::Degraded || self.fallen(own.settings.max_age.get(), now).is_none() {
            return self.leaf(subject, now);
        }
        let question = self.question(index, now);
        let question = Question { need: question.need.saturating_sub(1).max(1), ..question };
        match quorum::verdict(&question, own, &self.peers[index]).health() {
            health if Is::from(health) == subject.is => Truth::True,
            Health::Unknown => Truth::Unknown,
            Health::Up | Health::Down => Truth::False,
        }
    }

    /// Why there is no quorum, where a person stands in for it.
    pub(super) fn why_no_quorum(&self, condition: &Condition, now: MonoTime) -> String {
        let down = condition.wanted_down();
        let fallen = down.iter().filter_map(|probe| self.index.get(probe)).find_map(|index| {
            self.presumed_down(*index, now)?;
            self.fallen(self.detectors[*index].settings.max_age.get(), now)
        });
        let Some(fallen) = fallen else { return "witnesses are silent".into() };
        let in_it = self.settings.witnesses.iter().filter(|witness| witness.domain == *fallen);
        let names: Vec<&str> = in_it.map(|witness| witness.name.as_str()).collect();
        format!("{} in {fallen} does not answer, and may have gone down with it", names.join(" and "))
    }

    /// Why there is no verdict, with the witnesses that do not answer where it is for want of them, and what we
    /// met ourselves.
    pub(super) fn why_inconclusive(&self, index: usize, why: Inconclusive, now: MonoTime) -> String {
        let silent = match why {
            Inconclusive::TooFewVotes | Inconclusive::NoWitness | Inconclusive::Expired => {
                self.silent(self.detectors[index].settings.max_age.get(), now)
            }
            Inconclusive::NotYet | Inconclusive::Split | Inconclusive::Isolated | Inconclusive::Tilt => Vec::new(),
        };
        let mut text = why.to_string();
        if !silent.is_empty() {
            let names: Vec<&str> = silent.iter().map(|witness| witness.name.as_str()).collect();
            text = format!("{text}; no answer of {}", names.join(", "));
        }
        // Our own eyes: what keeps them shut can be mended.
        let cause = self.detectors[index].latest.as_ref().and_then(|latest| latest.cause.as_ref());
        cause.map_or(text.clone(), |cause| format!("{text}: {cause}"))
    }
}
