//! Policy: guards, deadlines, and the decision that follows.

use std::time::Duration;

use super::brain::Brain;
use super::incident::{Answered, Incident};
use super::plan::critical_path;
use crate::model::{
    Decision, Health, HoldReason, HumanDuration, Mode, MonoTime, Now, OnNoAnswer, Plan, ProbeName, ReplicationPair,
    ScenarioSettings, Truth, Verdict, WallTime,
};

/// An answer that nothing could follow from for so long is not valid any more.
const ANSWER_VALID_FOR: Duration = Duration::from_secs(600);

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
    fn new(name: &'static str, holds: Option<HoldReason>) -> Self {
        Self { name, holds, until: None }
    }

    fn timed(name: &'static str, now: MonoTime, until: Option<MonoTime>, reason: impl FnOnce() -> HoldReason) -> Self {
        let until = until.filter(|until| now < *until);
        Self { name, holds: until.map(|_| reason()), until }
    }
}

impl Brain {
    /// The mode that holds for a scenario: the most careful of those that were set.
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

    /// Until when a standby's word on its lag is to be believed, and until when its primary may have
    /// taken writes that it has not seen.
    ///
    /// The latter is the first bad observation of the primary, by the last vantage that saw it: the
    /// clock of the incident started earlier, perhaps much earlier, with whatever failed first. The
    /// former is the last good one: a standby that was cut off after it believes that it has
    /// everything. A primary that is not seen to be down may take writes now.
    pub(super) fn written_until(
        &self,
        scenario: &ScenarioSettings,
        pair: &ReplicationPair,
        now: MonoTime,
    ) -> (Option<MonoTime>, MonoTime) {
        if let Some(index) = pair.primary.as_ref().and_then(|primary| self.index.get(primary)) {
            return self.last_writes(*index, now).1;
        }
        // Whatever of the condition went down last held the data, for all we know.
        let subjects = scenario.when.subjects();
        let down = subjects.iter().filter(|subject| subject.is == Health::Down);
        let writes =
            down.filter_map(|subject| self.index.get(&subject.probe)).map(|index| self.last_writes(*index, now));
        let last = writes.max_by_key(|(down, (believed, until))| (*down, *until, std::cmp::Reverse(*believed)));
        last.map_or((Some(now), now), |(_, writes)| writes)
    }

    /// Is a probe down; when was it last seen up by anybody, if ever; and since when has everybody
    /// who says that it is down seen it so. One that is not down may take writes now.
    fn last_writes(&self, index: usize, now: MonoTime) -> (bool, (Option<MonoTime>, MonoTime)) {
        let own = &self.detectors[index];
        let mut up = own.last_up;
        let mut bad = own.failing_since().filter(|_| own.health() == Some(Health::Down) && own.is_fresh(now));
        for peer in &self.peers[index] {
            match (peer.health, peer.first_bad) {
                (Health::Up, _) => up = up.max(Some(peer.seen)),
                (Health::Down, Some(first)) if now <= peer.seen + own.settings.max_age.get() => {
                    bad = bad.max(Some(first));
                    // It saw it up at the attempt before.
                    up = up.max(Some(first.minus(own.settings.interval.get())));
                }
                (Health::Down | Health::Unknown, _) => {}
            }
        }
        let Verdict::Down { outage_start } = self.verdict(index, now) else { return (false, (up, now)) };
        let until = bad.unwrap_or(outage_start);
        (true, (up.map(|up| up.min(until)), until))
    }

    /// Did each commit of the primary wait for a standby, as long as it could take any?
    pub(super) fn commits_wait(&self, scenario: &ScenarioSettings, pair: &ReplicationPair, now: MonoTime) -> bool {
        let (_, until) = self.written_until(scenario, pair, now);
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
            let (believed, until) = self.written_until(scenario, pair, now);
            let Some(standby) = detector(&pair.standby) else { return Err(pair.standby.clone()) };
            let loss = if self.commits_wait(scenario, pair, now) {
                // Every acknowledged commit is on a standby.
                Duration::ZERO
            } else {
                match believed.and_then(|believed| standby.lag_at(believed)) {
                    // What the standby did not have when it was last asked, and all since then: an old
                    // measurement is not refused, it predicts a great loss.
                    Some((at, lag)) => lag.time + until.since(at),
                    None => return Err(pair.standby.clone()),
                }
            };
            if worst.as_ref().is_none_or(|(known, _)| known.get() < loss) {
                worst = Some((HumanDuration(loss), pair.standby.clone()));
            }
        }
        Ok(worst)
    }

    /// The answer of a person, while it is bound to what would be done now.
    pub(super) fn valid_answer<'a>(
        &self,
        now: Now,
        scenario: &ScenarioSettings,
        incident: &'a Incident,
    ) -> Option<&'a Answered> {
        let answer = incident.answered.as_ref()?;
        if !answer.approved {
            return Some(answer);
        }
        let bound = answer.plan_hash == *self.plan_hash(scenario)? && answer.epoch == self.ledger.epoch.next();
        (bound && now.wall.since(answer.at) <= ANSWER_VALID_FOR).then_some(answer)
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
        let confirmed = watch.held_since.map(|since| since + scenario.confirm_for.get()).max(watch.not_before);
        guards.push(Guard::timed("confirming", now.mono, confirmed, || HoldReason::Confirming {
            until: confirmed.map_or(now.wall, |at| now.wall_of(at)),
        }));
        guards.extend(self.target_guards(now, scenario, incident));
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
        let active = self.ledger.active_run().map(|run| HoldReason::RunActive { run: run.id.clone() });
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

    /// Is there something healthy to fail over to, and is its data fresh enough?
    pub(super) fn target_guards(
        &self,
        now: Now,
        scenario: &ScenarioSettings,
        incident: Option<&Incident>,
    ) -> Vec<Guard> {
        let vetoed = scenario.unless.iter().find(|veto| self.truth(veto, now.mono) != Truth::False);
        let vetoed = vetoed.map(|veto| HoldReason::Vetoed { condition: veto.to_string() });
        let unhealthy = scenario.requires.iter().find(|needed| self.truth(needed, now.mono) != Truth::True);
        let unhealthy = unhealthy.map(|needed| HoldReason::StandbyUnhealthy { condition: format!("not {needed}") });
        let allowed = incident
            .and_then(|incident| self.valid_answer(now, scenario, incident))
            .filter(|answer| answer.approved)
            .and_then(|answer| answer.allow_data_loss);
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
        allowed: Option<HumanDuration>,
    ) -> Option<HoldReason> {
        let rpo = scenario.rpo?;
        match self.predicted_loss(scenario, now) {
            Ok(Some((predicted, probe))) if predicted > rpo.max(allowed.unwrap_or_default()) => {
                Some(HoldReason::LagAboveRpo { probe, predicted, rpo })
            }
            Ok(_) => None,
            // Whoever allows a loss in seconds while nobody knows the loss, has allowed any.
            Err(_) if allowed.is_some() => None,
            Err(probe) => Some(HoldReason::LagUnknown { probe }),
        }
    }

    fn rate_guards(&self, now: Now, scenario: &ScenarioSettings) -> Vec<Guard> {
        let cool = self.ledger.last_end(&scenario.service).map(|end| end + self.settings.cool_down.get());
        let cool_mono = cool.map(|at| now.mono_of(at));
        let window = self.settings.failover_window.get();
        let starts = self.ledger.starts_since(now.wall.minus(window));
        let limit = self.settings.failover_limit as usize;
        // The one whose leaving makes room again.
        // A limit of zero leaves no room ever.
        let free = starts.len().checked_sub(limit).map(|at| starts.get(at).copied().unwrap_or(now.wall) + window);
        let free_mono = free.map(|at| now.mono_of(at));
        vec![
            Guard::timed("cool_down", now.mono, cool_mono, || HoldReason::CoolDown { until: cool.unwrap_or(now.wall) }),
            Guard::timed("failover_limit", now.mono, free_mono, || HoldReason::FailoverLimit {
                until: free.unwrap_or(now.wall),
            }),
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
        if mode == Mode::Auto || self.valid_answer(now, scenario, incident).is_some_and(|answer| answer.approved) {
            return (Decision::Act, wake);
        }
        let decide_by = self.decide_by(scenario, incident.outage_start);
        if now.wall < decide_by {
            return (Decision::AskApproval { until: decide_by }, Some(now.mono_of(decide_by)));
        }
        match scenario.on_no_answer {
            OnNoAnswer::Failover => (Decision::Act, wake),
            OnNoAnswer::Hold => (Decision::Hold(HoldReason::NoAnswer), wake),
        }
    }
}
