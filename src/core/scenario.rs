//! Scenarios: from verdicts to incidents, and from decisions to what follows from them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::brain::Brain;
use super::incident::Incident;
use crate::model::{
    AskedFor, Condition, Decision, Entry, Health, Importance, IncidentId, Is, MonoTime, NoticeKind, Now, OnNoAnswer,
    ScenarioSettings, Subject, Trigger, Truth, Verdict, VoteEvidence, WallTime,
};

/// At the earliest after this long without sight a person is told, whatever `confirm_for` says.
const BLIND_AFTER: Duration = Duration::from_secs(10);

/// What is known of a scenario in this life of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Watch {
    pub(super) truth: Truth,
    /// It holds by what is left of a quorum only: a person has to decide.
    pub(super) is_alone: bool,
    /// People were told that it waits for a probe that flaps.
    pub(super) is_flapping: bool,
    /// Since when the condition has held without interruption.
    pub(super) held_since: Option<MonoTime>,
    /// Since when it cannot be told.
    unknown_since: Option<MonoTime>,
    blind: bool,
    /// The reasons for not acting that people were told in this incident: two that take turns are
    /// told once each, and not at every turn.
    pub(super) noticed: BTreeSet<Cow<'static, str>>,
    /// How many last looks in a row did not find the primary down.
    pub(super) vain: u32,
    /// Set by such a look.
    pub(super) not_before: Option<MonoTime>,
    /// When time alone may change the decision.
    pub(super) wake: Option<MonoTime>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            truth: Truth::Unknown,
            is_alone: false,
            is_flapping: false,
            held_since: None,
            unknown_since: None,
            blind: false,
            noticed: BTreeSet::new(),
            vain: 0,
            not_before: None,
            wake: None,
        }
    }
}

impl Watch {
    /// Does each observation count? Also while the condition cannot be told: a vote that is
    /// renewed, or an anchor that answers, changes no vote but may settle it.
    pub(super) fn is_attentive(&self) -> bool {
        self.truth != Truth::False
    }

    /// Takes what the condition comes to now.
    pub(super) fn confirm(&mut self, now: MonoTime, truth: Truth, is_alone: bool) {
        if std::mem::replace(&mut self.is_alone, is_alone) && !is_alone {
            // What a quorum says is confirmed by a quorum.
            self.held_since = None;
        }
        self.truth = truth;
        self.wake = None;
        if truth == Truth::True {
            self.held_since.get_or_insert(now);
        } else {
            self.held_since = None;
        }
        if truth == Truth::False {
            // What comes after it is another outage, and is not made to wait for this one.
            self.vain = 0;
            self.not_before = None;
        }
    }

    /// Keeps what was seen, and nothing of what was decided or told.
    pub(super) fn forget_decisions(&mut self) {
        let Self { truth, is_alone, held_since, .. } = *self;
        *self = Self { truth, is_alone, held_since, ..Self::default() };
    }
}

impl Brain {
    /// Looks at every scenario afresh, the most severe first.
    pub(super) fn evaluate(&mut self, now: Now) {
        // The next life decides; that this one ends is no reason to page anybody.
        if self.ending {
            return;
        }
        self.close_orphans(now);
        self.note_flaps(now.mono);
        let settings = Arc::clone(&self.settings);
        for (index, scenario) in settings.scenarios.iter().enumerate() {
            let (truth, is_alone) = self.truth_of_outage(&scenario.when, now.mono);
            self.watches[index].confirm(now.mono, truth, is_alone);
            self.watch_sight(now, index, scenario);
            self.tell_flapping(now, index, scenario);
            match truth {
                Truth::True => self.open_incident(now, index, scenario),
                Truth::False => self.close_incident(now, index, scenario),
                Truth::Unknown => {}
            }
            self.note_replication(now, scenario);
            self.note_loss(now, scenario);
            self.note_extent(now, scenario);
            self.act_on_decision(now, index, scenario);
        }
    }

    /// The truth of a condition now.
    pub(super) fn truth(&self, condition: &Condition, now: MonoTime) -> Truth {
        condition.evaluate(&mut |subject| self.leaf(subject, now))
    }

    pub(super) fn leaf(&self, subject: &Subject, now: MonoTime) -> Truth {
        let Some(&index) = self.index.get(&subject.probe) else { return Truth::Unknown };
        let health = self.verdict(index, now).health();
        match (health, subject.is) {
            (Health::Unknown, Is::Unknown) => Truth::True,
            (Health::Unknown, _) => Truth::Unknown,
            (Health::Up, Is::Degraded) if self.is_degraded(index, now) => Truth::True,
            (health, wanted) if Is::from(health) == wanted => Truth::True,
            _ => Truth::False,
        }
    }

    /// Everything Unknown: nothing is done, and somebody is told (once).
    fn watch_sight(&mut self, now: Now, index: usize, scenario: &ScenarioSettings) {
        let watch = &mut self.watches[index];
        if watch.truth != Truth::Unknown {
            watch.unknown_since = None;
            watch.blind = false;
            return;
        }
        let since = *watch.unknown_since.get_or_insert(now.mono);
        if watch.blind {
            return;
        }
        let at = since + scenario.confirm_for.get().max(BLIND_AFTER);
        if now.mono < at {
            watch.wake = Some(at);
            return;
        }
        watch.blind = true;
        let why = self.why_unknown(&scenario.when, now.mono);
        let subject = format!("cannot tell whether {} holds: {why}; doing nothing", scenario.name);
        self.notify(now, NoticeKind::Blind, Importance::Page, None, subject);
    }

    /// Which probes are inconclusive, and why.
    pub(super) fn why_unknown(&self, condition: &Condition, now: MonoTime) -> String {
        let mut parts: Vec<String> = condition
            .subjects()
            .iter()
            .filter_map(|subject| self.index.get(&subject.probe))
            .filter_map(|index| match self.verdict(*index, now) {
                Verdict::Inconclusive(why) => {
                    let why = self.why_inconclusive(*index, why, now);
                    Some(format!("{} ({why})", self.detectors[*index].settings.name))
                }
                Verdict::Up | Verdict::Down { .. } => None,
            })
            .collect();
        parts.dedup();
        parts.join(", ")
    }

    /// The first bad observation of the probes that the condition is about.
    pub(super) fn outage_start(&self, condition: &Condition, now: MonoTime) -> Option<MonoTime> {
        condition
            .subjects()
            .iter()
            .filter(|subject| subject.is == Is::Down)
            .filter_map(|subject| self.index.get(&subject.probe))
            .filter_map(|index| self.fell(*index, now))
            .min()
    }

    /// The fresh votes on what a condition is about, for the journal.
    pub(super) fn evidence(&self, condition: &Condition, now: Now) -> Vec<VoteEvidence> {
        let mut evidence = Vec::new();
        for subject in condition.subjects() {
            let Some(&index) = self.index.get(&subject.probe) else { continue };
            let detector = &self.detectors[index];
            if let Some(vote) = detector.vote().filter(|_| detector.is_fresh(now.mono)) {
                evidence.push(VoteEvidence {
                    probe: subject.probe.clone(),
                    vantage: self.settings.name.clone(),
                    domain: self.settings.domain.clone(),
                    health: vote.health,
                    seen: now.wall_of(vote.seen),
                    cause: vote.cause,
                });
            }
            let fresh = self.peers[index].iter().filter(|peer| peer.is_fresh(now.mono, detector.settings.max_age));
            evidence.extend(fresh.map(|peer| VoteEvidence {
                probe: subject.probe.clone(),
                vantage: peer.vantage.clone(),
                domain: peer.domain.clone(),
                health: peer.health,
                seen: now.wall_of(peer.seen),
                cause: peer.cause.clone(),
            }));
        }
        evidence
    }

    fn open_incident(&mut self, now: Now, index: usize, scenario: &ScenarioSettings) {
        if self.ledger.open_incident(&scenario.name).is_some() {
            return;
        }
        let outage_start = self.outage_start(&scenario.when, now.mono).unwrap_or(now.mono);
        let extent = self.extent(&scenario.when, now.mono);
        let reaches = extent.as_ref().map(|extent| format!("; {extent}")).unwrap_or_default();
        let entry = Entry::IncidentOpened {
            incident: self.ledger.next_incident(now.wall),
            scenario: scenario.name.clone(),
            severity: scenario.severity.clone(),
            outage_start: now.wall_of(outage_start),
            votes: self.evidence(&scenario.when, now),
            replication: self.replication_evidence(scenario, now),
            extent,
            objectives: Some(super::outlook::objectives(&self.settings, scenario)),
        };
        if self.commit(now, entry) {
            let incident = self.ledger.open_incident(&scenario.name).cloned();
            let subject = format!("{} {}: {}{reaches}", scenario.severity, scenario.name, scenario.when);
            if let Some(incident) = &incident {
                self.stop_drill(now, &format!("incident {} of {} opened", incident.id, scenario.name));
            }
            let importance = self.unless_flapping(index, Importance::Page);
            // One that comes of a probe that flaps leaves nothing to do.
            if let (Some(incident), Importance::Page) = (&incident, importance) {
                self.take_duties(now, scenario, &incident.id);
            }
            self.notify(now, NoticeKind::IncidentOpened, importance, incident.as_ref(), subject);
        }
    }

    fn close_incident(&mut self, now: Now, index: usize, scenario: &ScenarioSettings) {
        let Some(incident) = self.ledger.open_incident(&scenario.name) else { return };
        if incident.run.is_some() && incident.run.as_ref() == self.ledger.active_run().map(|run| &run.id) {
            return;
        }
        let incident = incident.clone();
        let why = format!("it holds no longer: {}", scenario.when);
        if self.commit(now, Entry::IncidentClosed { incident: incident.id.clone(), why }) {
            self.watches[index].noticed.clear();
            let subject = format!("{} {} is over", scenario.severity, scenario.name);
            self.notify(now, NoticeKind::IncidentClosed, Importance::Info, Some(&incident), subject);
        }
    }

    /// The open incidents of scenarios that the configuration does not have (any more). Nothing would
    /// ever close them.
    pub(super) fn find_orphans(&mut self) {
        let open = self.ledger.incidents.values().filter(|incident| incident.closed.is_none());
        let orphans = open.filter(|incident| self.settings.scenario(&incident.scenario).is_none());
        self.orphans = orphans.map(|incident| incident.id.clone()).collect();
    }

    fn close_orphans(&mut self, now: Now) {
        let active = self.ledger.active_run().and_then(|run| run.incident.clone());
        for id in std::mem::take(&mut self.orphans) {
            if active.as_ref() == Some(&id) {
                // Its run goes on to its end first.
                self.orphans.push(id);
                continue;
            }
            let why = "its scenario is not in the configuration any more".to_owned();
            if self.commit(now, Entry::IncidentClosed { incident: id.clone(), why: why.clone() }) {
                let incident = self.ledger.incidents.get(&id).cloned();
                self.notify(
                    now,
                    NoticeKind::IncidentClosed,
                    Importance::Info,
                    incident.as_ref(),
                    format!("{id}: {why}"),
                );
            }
        }
    }

    /// Decides, writes down what changed, tells people, and acts.
    fn act_on_decision(&mut self, now: Now, index: usize, scenario: &ScenarioSettings) {
        let Some(incident) = self.ledger.open_incident(&scenario.name) else { return };
        let (decision, wake) = self.decide(now, index, scenario, incident);
        let (id, changed) = (incident.id.clone(), incident.decision.as_ref().map(key) != Some(key(&decision)));
        let choice = match decision {
            Decision::Hold(_) => None,
            Decision::Alert | Decision::AskApproval { .. } | Decision::Act => {
                changed.then(|| self.choice(now, index, incident)).flatten()
            }
        };
        let is_hold = matches!(decision, Decision::Hold(_));
        let outlook = (changed && !is_hold).then(|| self.outlook(now, scenario, &id));
        let watch = &mut self.watches[index];
        watch.wake = watch.wake.into_iter().chain(wake).min();
        let decided = Entry::Decided { incident: id.clone(), decision: decision.clone(), choice, outlook };
        if changed && !self.commit(now, decided) {
            return;
        }
        match decision {
            Decision::Hold(reason) => {
                if reason.pages() {
                    let subject = || format!("{} {} holds: {reason}", scenario.severity, scenario.name);
                    self.notice_once(now, index, &id, (reason.name(), NoticeKind::Holding), subject);
                }
            }
            Decision::Alert => {
                let subject = || format!("{} {}: alert-only, it would act now", scenario.severity, scenario.name);
                self.notice_once(now, index, &id, ("alert", NoticeKind::WouldAct), subject);
            }
            Decision::AskApproval { until } => self.ask(now, index, scenario, &id, until),
            Decision::Act => {
                let incident = self.ledger.incidents[&id].clone();
                let trigger = self.trigger(now, index, scenario, &incident);
                self.start_run(now, scenario, Some(&incident), trigger);
            }
        }
    }

    /// Tells people why nothing is done; once for each reason, until the incident is over.
    fn notice_once(
        &mut self,
        now: Now,
        index: usize,
        incident: &IncidentId,
        (name, kind): (&'static str, NoticeKind),
        subject: impl FnOnce() -> String,
    ) {
        if self.watches[index].noticed.insert(Cow::Borrowed(name)) {
            let incident = self.ledger.incidents.get(incident).cloned();
            let importance = self.unless_flapping(index, Importance::Page);
            self.notify(now, kind, importance, incident.as_ref(), subject());
        }
    }

    fn trigger(&self, now: Now, index: usize, scenario: &ScenarioSettings, incident: &Incident) -> Trigger {
        match self.consent(now, scenario, incident) {
            Some(consent) => Trigger::Approved {
                by: consent.by,
                allow_data_loss: consent.allow_data_loss.map(crate::model::HumanDuration::get),
                without_quorum: self.without_quorum(now, index, scenario),
            },
            _ if self.mode_of(scenario) == crate::model::Mode::Approve
                && scenario.on_no_answer == OnNoAnswer::Failover =>
            {
                Trigger::NoAnswer
            }
            _ => Trigger::Automatic,
        }
    }

    /// Why there is no quorum, where there is none.
    fn without_quorum(&self, now: Now, index: usize, scenario: &ScenarioSettings) -> Option<String> {
        self.watches[index].is_alone.then(|| self.why_no_quorum(&scenario.when, now.mono))
    }

    fn ask(&mut self, now: Now, index: usize, scenario: &ScenarioSettings, id: &IncidentId, until: WallTime) {
        let (incident, epoch) = (&self.ledger.incidents[id], self.ledger.epoch.next());
        let Some(plan_hash) = self.plan_hash(scenario).cloned() else { return };
        let asked = incident.asked.as_ref().is_some_and(|asked| asked.plan_hash == plan_hash && asked.epoch == epoch);
        // Where it was answered and is asked all the same, the answer is not valid any more; unless others
        // have to answer too.
        let is_partial = !self.valid_approvals(now, scenario, incident).is_empty();
        if asked && (incident.answered.is_none() || is_partial) {
            return;
        }
        let incident = incident.clone();
        let why = self.without_quorum(now, index, scenario);
        let asked = Entry::ApprovalAsked {
            incident: id.clone(),
            plan_hash: plan_hash.clone(),
            epoch,
            until,
            without_quorum: why.clone(),
        };
        if self.commit(now, asked) {
            let otherwise = match scenario.on_no_answer {
                OnNoAnswer::Failover if why.is_none() => "it fails over by itself then",
                OnNoAnswer::Failover | OnNoAnswer::Hold => "it holds then",
            };
            let why = why.map(|why| format!("no quorum ({why}); ")).unwrap_or_default();
            let persons = match scenario.approvals {
                0 | 1 => String::new(),
                persons => format!(" ({persons} persons have to)"),
            };
            let subject = format!(
                "{} {}: {why}approve{persons} plan {} ({}) until {until}; {otherwise}: failoverd approve {}",
                scenario.severity,
                scenario.name,
                plan_name(scenario),
                plan_hash.short(),
                incident.id
            );
            self.notify(now, NoticeKind::ApprovalAsked, Importance::Page, Some(&incident), subject);
            let stakes = self.stakes(now, scenario, incident.outage_start);
            if let Some(super::Effect::Notify(notice)) = self.effects.last_mut() {
                notice.body = format!("{}\n{}", stakes.join("\n"), notice.body);
                notice.approval = Some(AskedFor { plan_hash, epoch, until });
            }
        }
    }
}

fn plan_name(scenario: &ScenarioSettings) -> &str {
    scenario.plan.as_ref().map_or("", crate::model::PlanName::as_str)
}

/// What has to change for a decision to be a new one; a moving deadline does not.
fn key(decision: &Decision) -> &'static str {
    match decision {
        Decision::Hold(reason) => reason.name(),
        Decision::Alert => "alert",
        Decision::AskApproval { .. } => "ask_approval",
        Decision::Act => "act",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever leads next has seen it for as long, and has told nobody anything.
    #[test]
    fn who_leads_no_more_keeps_what_was_seen_and_nothing_else() {
        let at = |seconds| MonoTime::ZERO + std::time::Duration::from_secs(seconds);
        let mut watch = Watch {
            is_flapping: true,
            unknown_since: Some(at(1)),
            blind: true,
            noticed: [Cow::Borrowed("lag_unknown")].into(),
            vain: 3,
            not_before: Some(at(9)),
            ..Watch::default()
        };
        watch.confirm(at(2), Truth::True, true);
        watch.wake = Some(at(3));
        watch.forget_decisions();
        assert_eq!((watch.truth, watch.is_alone, watch.held_since), (Truth::True, true, Some(at(2))));
        assert!(!watch.is_flapping && watch.unknown_since.is_none() && !watch.blind);
        assert!(watch.noticed.is_empty() && watch.vain == 0 && watch.not_before.is_none() && watch.wake.is_none());
    }
}
