//! Policy: guards, deadlines, and the decision that follows.

use std::borrow::Cow;
use std::time::Duration;

use super::brain::Brain;
use super::incident::Incident;
use super::plan::critical_path;
use crate::model::sabotage::{Sabotage, is_broken};
use crate::model::{
    Condition, Decision, Health, HoldReason, HumanDuration, Is, LossShown, Mode, MonoTime, Now, OnNoAnswer, Plan,
    ProbeName, ReplicationPair, ScenarioSettings, Truth, WallTime,
};

/// From so many last looks in vain on, somebody should find out why.
const PAGED_LOOKS: u32 = 3;

/// The last writes of a primary.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastWrites {
    /// Until when a standby's word on its lag is to be believed; `None` where nobody ever saw the
    /// primary.
    pub(super) believed: Option<MonoTime>,
    /// `None` where it is not seen to be down: it may take writes now.
    pub(super) ended: Option<MonoTime>,
}

/// One guard, looked at.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// Its stable name.
    pub(super) name: &'static str,
    /// Why it does not let the scenario act; `None` where it does.
    pub(super) holds: Option<HoldReason>,
    /// When time alone will let it pass.
    pub(super) until: Option<MonoTime>,
}

impl Guard {
    pub(super) fn new(name: &'static str, holds: Option<HoldReason>) -> Self {
        Self { name, holds, until: None }
    }

    pub(super) fn timed(
        name: &'static str,
        now: MonoTime,
        until: Option<MonoTime>,
        reason: impl FnOnce() -> HoldReason,
    ) -> Self {
        let until = until.filter(|until| now < *until);
        Self { name, holds: until.map(|_| reason()), until }
    }
}

impl Brain {
    /// The mode that holds for a scenario: the daemon's (the one set at run time in place of the
    /// configuration's), or the scenario's own where that is more careful.
    pub(super) fn mode_of(&self, scenario: &ScenarioSettings) -> Mode {
        let daemon = self.ledger.mode.as_ref().map_or(self.settings.mode, |(mode, _)| *mode);
        daemon.max(scenario.mode)
    }

    /// The plan's critical path: by measured times where there are enough, else by estimates.
    pub(super) fn budget(&self, plan: &Plan) -> Duration {
        let path = critical_path(plan, |step| {
            self.ledger.measured(&plan.name, &step.name, &step.work.kind()).unwrap_or(step.estimate.get())
        });
        path.total
    }

    /// The last moment to decide, so that the plan still meets the RTO.
    pub(super) fn decide_by(&self, scenario: &ScenarioSettings, outage_start: WallTime) -> WallTime {
        let deadline = outage_start + scenario.rto.get();
        let budget = scenario
            .plan
            .as_ref()
            .and_then(|plan| self.settings.plan(plan))
            .map_or(Duration::ZERO, |plan| self.budget(plan).saturating_mul(self.settings.safety_percent) / 100);
        deadline.minus(budget)
    }

    /// What is left until the last moment to decide, whatever the wall clock did meanwhile.
    pub(super) fn left_to_decide(&self, now: Now, scenario: &ScenarioSettings, incident: &Incident) -> Duration {
        let decide_by = self.decide_by(scenario, incident.outage_start);
        match self.marks.since_outage(&incident.id, now.mono) {
            Some(passed) => decide_by.since(incident.outage_start).saturating_sub(passed),
            None => decide_by.since(now.wall),
        }
    }

    /// The last writes of a pair's primary that anybody can know of.
    ///
    /// They ended with the first bad observation of the primary, by the last vantage that saw it: the
    /// clock of the incident started earlier, perhaps much earlier, with whatever failed first. A
    /// standby is believed until the last good one: cut off after it, it believes that it has
    /// everything. So whoever says that the primary was up makes the loss greater; that the standby could
    /// be believed until then takes our own eyes, or as many others as decide that something is up.
    pub(super) fn last_writes(&self, scenario: &ScenarioSettings, pair: &ReplicationPair, now: MonoTime) -> LastWrites {
        if let Some(index) = pair.primary.as_ref().and_then(|primary| self.index.get(primary)) {
            return self.last_writes_of(*index, now);
        }
        // Whatever of the condition went down last held the data, for all we know.
        let subjects = scenario.when.subjects();
        let down = subjects.iter().filter(|subject| subject.is == Is::Down);
        let writes =
            down.filter_map(|subject| self.index.get(&subject.probe)).map(|index| self.last_writes_of(*index, now));
        let last = writes.max_by_key(|writes| (writes.ended, std::cmp::Reverse(writes.believed)));
        last.unwrap_or(LastWrites { believed: Some(now), ended: None })
    }

    pub(super) fn last_writes_of(&self, index: usize, now: MonoTime) -> LastWrites {
        let own = &self.detectors[index];
        let mut elsewhere = Cow::Borrowed(&own.elsewhere);
        let mut bad = own.failing_since().filter(|_| own.health() == Some(Health::Down) && own.is_fresh(now));
        for peer in self.peers[index].iter().filter(|peer| peer.is_fresh(now, own.settings.max_age)) {
            if let (Health::Down, Some(first)) = (peer.health, peer.first_bad) {
                bad = bad.max(Some(first));
                // It saw it up at the attempt before.
                elsewhere.to_mut().note(&peer.domain, first.minus(own.settings.interval.get()));
            }
        }
        let is_down = self.fell(index, now).is_some();
        // One good answer does not make it Up again, but whoever answers may take writes.
        let ended =
            bad.filter(|_| is_down).map(|bad| own.last_up.max(elsewhere.latest()).map_or(bad, |up| up.max(bad)));
        LastWrites { believed: own.last_up.max(elsewhere.agreed(self.settings.quorum)), ended }
    }

    /// Did each commit of the primary wait for a standby, as long as it could take any?
    pub(super) fn commits_wait(&self, pair: &ReplicationPair, writes: LastWrites, now: MonoTime) -> bool {
        let until = writes.ended.unwrap_or(now);
        let primary = pair.primary.as_ref().and_then(|primary| self.index.get(primary));
        primary.map(|index| &self.detectors[*index]).is_some_and(|primary| {
            // What was seen longer ago than a vote counts may have been changed since.
            primary.synchronous_since(until.minus(primary.settings.max_age.get()))
        })
    }

    /// What would be lost now, and by which probe; `Err` names the probe that does not tell.
    pub(super) fn predicted_loss(
        &self,
        scenario: &ScenarioSettings,
        now: MonoTime,
    ) -> Result<Option<(HumanDuration, ProbeName)>, ProbeName> {
        let mut worst: Option<(HumanDuration, ProbeName)> = None;
        for pair in &scenario.replication {
            let detector = |probe| self.index.get(probe).map(|index| &self.detectors[*index]);
            let writes = self.last_writes(scenario, pair, now);
            let Some(standby) = detector(&pair.standby) else { return Err(pair.standby.clone()) };
            let loss = if self.commits_wait(pair, writes, now) {
                // Every acknowledged commit is on a standby.
                Duration::ZERO
            } else {
                match writes.believed.and_then(|believed| standby.lag_at(believed)) {
                    // What the standby did not have when it was last asked, and all since then: an old
                    // measurement is not refused, it predicts a great loss.
                    Some((at, lag)) => lag.time + writes.ended.unwrap_or(now).since(at),
                    None => return Err(pair.standby.clone()),
                }
            };
            if worst.as_ref().is_none_or(|(known, _)| known.get() < loss) {
                worst = Some((HumanDuration(loss), pair.standby.clone()));
            }
        }
        Ok(worst)
    }

    /// Every guard of a scenario, in the order in which they are asked.
    pub(super) fn guards(
        &self,
        now: Now,
        index: usize,
        scenario: &ScenarioSettings,
        incident: Option<&Incident>,
    ) -> Vec<Guard> {
        let mut guards = self.standing_guards(now, scenario);
        let watch = &self.watches[index];
        // A run that a last look ended (the primary answered) does not count, nor
        // does it hide one before it that did.
        let already = incident.and_then(|incident| {
            let mut runs = self.ledger.runs.values().rev();
            runs.find(|run| run.incident.as_ref() == Some(&incident.id) && run.counts() && run.ended.is_some())
        });
        guards.push(Guard::new("already_run", already.map(|run| HoldReason::AlreadyRun { run: run.id.clone() })));
        let unmet = match watch.truth {
            Truth::True => None,
            Truth::False => Some(HoldReason::Quiet { condition: scenario.when.to_string() }),
            Truth::Unknown => Some(HoldReason::Inconclusive { why: self.why_unknown(&scenario.when, now.mono) }),
        };
        guards.push(Guard::new("condition", unmet));
        guards.push(self.grace(now));
        let (flaps, steady) = self.flap_hold(now, scenario).unzip();
        guards.push(Guard { name: "flapping", holds: flaps, until: steady });
        let confirmed = watch.held_since.map(|since| since + scenario.confirm_for.get()).max(watch.not_before);
        let until = confirmed.map_or(now.wall, |at| now.wall_of(at));
        guards.push(Guard::timed("confirming", now.mono, confirmed, || match watch.vain {
            ..PAGED_LOOKS => HoldReason::Confirming { until },
            times => HoldReason::LooksInVain { times, until },
        }));
        guards.push(Guard::new("replicas", self.replica_veto(now, scenario)));
        guards.extend(self.correlation_guards(now, index, scenario, incident));
        guards.extend(self.target_guards(now, scenario, incident, watch.is_alone));
        guards.extend(self.rate_guards(now, scenario));
        let denied = incident.and_then(|incident| incident.answered.as_ref()).filter(|answer| !answer.approved);
        guards.push(Guard::new("denied", denied.map(|answer| HoldReason::Denied { by: answer.by.clone() })));
        guards
    }

    /// The guards that hold for everything, also for what a person starts by hand.
    pub(super) fn standing_guards(&self, now: Now, scenario: &ScenarioSettings) -> Vec<Guard> {
        let no_plan = scenario.plan.as_ref().and_then(|plan| self.settings.plan(plan)).is_none();
        let ending = self.ending.then(|| "the daemon is ending".to_owned());
        let doubt = self.doubt.clone().or(ending).map(|what| HoldReason::StateInDoubt { what });
        // A drill gives way.
        let active = self
            .ledger
            .active_run()
            .filter(|run| !run.is_drill())
            .map(|run| HoldReason::RunActive { run: run.id.clone() });
        let paused = self.ledger.paused.clone().map(|by| HoldReason::Paused { by });
        vec![
            Guard::new("plan", no_plan.then_some(HoldReason::NoPlan)),
            Guard::new("state", doubt),
            Guard::new("run_active", active),
            Guard::timed("tilt", now.mono, self.tilt_until, || HoldReason::Tilt {
                until: self.tilt_until.map_or(now.wall, |at| now.wall_of(at)),
            }),
            Guard::new("paused", paused),
        ]
    }

    fn grace(&self, now: Now) -> Guard {
        let until = self.started.mono + self.settings.startup_grace.get();
        Guard::timed("startup_grace", now.mono, Some(until), || HoldReason::StartupGrace { until: now.wall_of(until) })
    }

    /// Is there something healthy to fail over to, and is its data fresh enough? `by_person`: by the
    /// vantages that are left, where somebody who knows that some are missing decides.
    pub(super) fn target_guards(
        &self,
        now: Now,
        scenario: &ScenarioSettings,
        incident: Option<&Incident>,
        by_person: bool,
    ) -> Vec<Guard> {
        let truth = |condition: &Condition| match by_person {
            true => self.truth_by_those_left(condition, now.mono),
            false => self.truth(condition, now.mono),
        };
        let vetoed = scenario.unless.iter().find(|veto| truth(veto) != Truth::False);
        let vetoed = vetoed.map(|veto| HoldReason::Vetoed { condition: veto.to_string() });
        let unhealthy = scenario.requires.iter().find(|needed| truth(needed) != Truth::True);
        let unhealthy = unhealthy.map(|needed| HoldReason::StandbyUnhealthy { condition: format!("not {needed}") });
        let allowed = incident
            .and_then(|incident| self.consent(now, scenario, incident))
            .and_then(|consent| Some((consent.allow_data_loss?, consent.loss_shown)));
        vec![
            Guard::new("unless", vetoed),
            Guard::new("standby", unhealthy),
            Guard::new("data_loss", self.data_loss(scenario, now.mono, allowed)),
        ]
    }

    /// S5: no promotion while the lag is unknown or above the RPO, unless a person allowed that loss.
    pub(super) fn data_loss(
        &self,
        scenario: &ScenarioSettings,
        now: MonoTime,
        allowed: Option<(HumanDuration, LossShown)>,
    ) -> Option<HoldReason> {
        let rpo = scenario.rpo.filter(|_| !is_broken(Sabotage::RpoGuard))?;
        let most = allowed.map_or(rpo, |(loss, _)| rpo.max(loss));
        match self.predicted_loss(scenario, now) {
            Ok(Some((predicted, probe))) if predicted > most => Some(HoldReason::LagAboveRpo { probe, predicted, rpo }),
            Ok(_) => None,
            // Whoever allows a loss in seconds while nobody knows the loss, has allowed any. Whoever was
            // shown a number has not.
            Err(_) if allowed.is_some_and(|(_, shown)| shown == LossShown::Unknown) => None,
            Err(probe) => Some(HoldReason::LagUnknown { probe }),
        }
    }

    /// What a person who allows a loss now is shown.
    pub(super) fn loss_shown(&self, scenario: &ScenarioSettings, now: MonoTime) -> LossShown {
        if self.predicted_loss(scenario, now).is_err() { LossShown::Unknown } else { LossShown::Known }
    }

    fn rate_guards(&self, now: Now, scenario: &ScenarioSettings) -> Vec<Guard> {
        let cool_down = self.settings.cool_down.get();
        let ended = self.ledger.counted_runs().filter(|run| run.service == scenario.service && run.ended.is_some());
        let ages = ended.map(|run| self.marks.since_end(&run.id, now.mono).unwrap_or_default());
        let cool = ages.min().map(|age| now.mono + cool_down.saturating_sub(age));
        let window = self.settings.failover_window.get();
        let runs = self.ledger.counted_runs();
        let ages = runs.map(|run| self.marks.since_start(&run.id, now.mono).unwrap_or_default());
        let mut ages: Vec<Duration> = ages.collect();
        ages.sort_unstable_by_key(|age| std::cmp::Reverse(*age));
        let limit = self.settings.failover_limit as usize;
        // The one whose leaving makes room again.
        // A limit of zero leaves no room ever.
        let leaves = ages.len().checked_sub(limit).map(|at| ages.get(at).copied().unwrap_or_default());
        let free = leaves.map(|age| now.mono + window.saturating_sub(age));
        let wall = |at: Option<MonoTime>| at.map_or(now.wall, |at| now.wall_of(at));
        vec![
            Guard::timed("cool_down", now.mono, cool, || HoldReason::CoolDown { until: wall(cool) }),
            Guard::timed("failover_limit", now.mono, free, || HoldReason::FailoverLimit { until: wall(free) }),
        ]
    }

    /// What policy says, and when time alone may change it.
    pub(super) fn decide(
        &self,
        now: Now,
        index: usize,
        scenario: &ScenarioSettings,
        incident: &Incident,
    ) -> (Decision, Option<MonoTime>) {
        let guards = self.guards(now, index, scenario, Some(incident));
        let wake = guards.iter().filter_map(|guard| guard.until).min();
        if let Some(reason) = guards.into_iter().find_map(|guard| guard.holds) {
            return (Decision::Hold(reason), wake);
        }
        let mode = self.mode_of(scenario);
        if mode == Mode::AlertOnly {
            return (Decision::Alert, wake);
        }
        // S4: by what is left of a quorum it acts for a person only.
        let is_alone = self.watches[index].is_alone;
        let approved = self.consent(now, scenario, incident).is_some();
        if approved || (mode == Mode::Auto && !is_alone) {
            return (Decision::Act, wake);
        }
        let left = self.left_to_decide(now, scenario, incident);
        if !left.is_zero() {
            return (Decision::AskApproval { until: now.wall + left }, Some(now.mono + left));
        }
        match scenario.on_no_answer {
            _ if is_alone => {
                (Decision::Hold(HoldReason::NoQuorum { why: self.why_no_quorum(&scenario.when, now.mono) }), wake)
            }
            OnNoAnswer::Failover => (Decision::Act, wake),
            OnNoAnswer::Hold => (Decision::Hold(HoldReason::NoAnswer), wake),
        }
    }
}
