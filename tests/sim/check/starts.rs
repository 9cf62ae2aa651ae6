//! What has to hold at the instant at which a run starts.

use std::time::Duration;

use failoverd::model::*;

use super::{ANSWER_VALID_FOR, Checker, Truth};
use crate::trace::{Violation, ensure};

impl Checker {
    pub(super) fn run_starts(&mut self, now: Now, entry: &Entry, truth: Truth) -> Result<(), Violation> {
        let Entry::RunStarted { run, incident, scenario, service, epoch, trigger, plan_hash, .. } = entry else {
            return Ok(());
        };
        ensure(*epoch > self.highest, "S3", || format!("{run} got {epoch} after {} was granted", self.highest))?;
        ensure(!self.doubt, "S11", || format!("{run} started in doubt"))?;
        ensure(!self.votes.in_tilt(now.mono), "S11", || format!("{run} started in a tilt"))?;
        ensure(self.decided.paused.is_none(), "S11", || format!("{run} started in a pause"))?;
        self.began = now.mono;
        let daemon = self.decided.mode.as_ref().map_or(self.settings.mode, |(mode, _)| *mode);
        ensure(daemon != Mode::AlertOnly, "S4", || format!("{run} started although it may only alert"))?;
        if let Trigger::Manual { .. } = trigger {
            return ensure(self.by_hand, "S4", || format!("{run} says by hand, and nobody asked for it"));
        }
        let settings = self.settings.scenario(scenario).ok_or(Violation::new("S4", "of no scenario"))?.clone();
        // S4: a person's word stands in for the vantages that fell with the region, and for no others.
        let by_person = matches!(trigger, Trigger::Approved { without_quorum: Some(_), .. });
        let held = self.votes.held_for(scenario, by_person, now.mono);
        ensure(held.is_some(), "S4", || format!("{run} started without a quorum of fresh votes"))?;
        let confirmed = held >= Some(settings.confirm_for.get());
        ensure(confirmed, "S4", || format!("{run} started after {held:?} of {}", settings.confirm_for))?;
        self.check_correlation(now, run, &settings, held.unwrap_or_default())?;
        self.check_grace(now, run, incident.as_ref(), &settings)?;
        self.check_trigger(now, trigger, incident.as_ref(), *epoch, plan_hash, &settings, daemon)?;
        self.check_loss(now, run, trigger, &settings, truth)?;
        self.check_limits(now, run, service)
    }

    /// No narrow plan where another scenario explains more, or all of it more closely; nor while the
    /// outage spreads. `held`: for how long what it waits for has held, by whoever the run is started by.
    fn check_correlation(
        &self,
        now: Now,
        run: &RunId,
        scenario: &ScenarioSettings,
        held: Duration,
    ) -> Result<(), Violation> {
        let own = self.votes.explained(&self.settings, scenario, now.mono);
        let wanted = scenario.when.wanted_down();
        let others = self.settings.scenarios.iter().filter(|other| other.name != scenario.name);
        for other in others.filter(|other| self.votes.held_for(&other.name, false, now.mono).is_some()) {
            let theirs = self.votes.explained(&self.settings, other, now.mono);
            let closer = theirs == own && other.when.wanted_down().len() < wanted.len();
            let more = theirs.len() > own.len() && theirs.is_superset(&own);
            ensure(!(closer || more), "correlation", || {
                format!("{run} of {}, which explains {own:?}, and {} explains {theirs:?}", scenario.name, other.name)
            })?;
        }
        let broader = self.settings.scenarios.iter().flat_map(|other| other.when.wanted_down());
        for probe in broader.filter(|probe| !wanted.contains(probe)) {
            let Some(since) = self.votes.doubted_since(&self.settings, &probe, now.mono) else { continue };
            let is_down = Condition::Probe(Subject { probe: probe.clone(), is: Is::Down });
            let falls = failoverd::core::plan::detection_budget(&self.settings, &is_down);
            let waited = now.mono.since(since) >= falls || held >= scenario.confirm_for.get() + falls;
            ensure(waited, "correlation", || format!("{run} of {}, and {probe} is in doubt", scenario.name))?;
        }
        Ok(())
    }

    /// The lower layers come first.
    fn check_grace(
        &self,
        now: Now,
        run: &RunId,
        incident: Option<&IncidentId>,
        scenario: &ScenarioSettings,
    ) -> Result<(), Violation> {
        let Some(lower) = &scenario.lower_layers_first else { return Ok(()) };
        let age = incident.and_then(|incident| self.outages.get(incident)).map(|age| age.at(now.mono));
        ensure(age >= Some(lower.grace.get()), "grace", || format!("{run} after {age:?} of {}", lower.grace))
    }

    #[allow(clippy::too_many_arguments, reason = "one record's fields, named")]
    fn check_trigger(
        &self,
        now: Now,
        trigger: &Trigger,
        incident: Option<&IncidentId>,
        epoch: Epoch,
        plan_hash: &PlanHash,
        settings: &ScenarioSettings,
        daemon: Mode,
    ) -> Result<(), Violation> {
        let incident = incident.and_then(|id| self.decided.incidents.get(id));
        let answer = incident.and_then(|incident| incident.answered.as_ref());
        match trigger {
            Trigger::Approved { by, .. } => {
                let bound = answer.is_some_and(|answer| {
                    answer.approved
                        && answer.by == *by
                        && answer.plan_hash == *plan_hash
                        && answer.epoch == epoch
                        && now.wall.since(answer.at) <= ANSWER_VALID_FOR
                });
                ensure(bound, "S4", || format!("not what was approved: {answer:?}"))
            }
            Trigger::NoAnswer => {
                let asked = daemon.max(settings.mode) == Mode::Approve && settings.on_no_answer == OnNoAnswer::Failover;
                ensure(asked, "S4", || "no answer, and it was to hold".into())
            }
            Trigger::Automatic => {
                let auto = daemon.max(settings.mode) == Mode::Auto;
                ensure(auto && answer.is_none_or(|answer| answer.approved), "S4", || "automatic, and not to be".into())
            }
            Trigger::Manual { .. } | Trigger::Failback { .. } | Trigger::Drill { .. } => Ok(()),
        }
    }

    /// What the journal hands down must have been seen.
    pub(super) fn check_evidence(&self, now: Now, known: &ReplicationEvidence) -> Result<(), Violation> {
        let fell = self.votes.database_fell(&self.settings, now.mono);
        // That commits waited counts only of a primary that is down.
        if known.synchronous {
            ensure(fell.is_some(), "S5", || format!("a primary that is not down is handed down as such: {known:?}"))?;
            let waited = fell.is_some_and(|fell| self.votes.waited(&self.settings, fell));
            ensure(waited, "S5", || format!("commits are said to have waited, and nobody saw it: {known:?}"))?;
        }
        let measured = known.lag.is_none_or(|(at, lag)| self.votes.was_measured(now.mono_of(at), lag.time));
        ensure(measured, "S5", || format!("a lag is handed down that was never measured: {known:?}"))
    }

    fn check_loss(
        &self,
        now: Now,
        run: &RunId,
        trigger: &Trigger,
        settings: &ScenarioSettings,
        truth: Truth,
    ) -> Result<(), Violation> {
        let rpo = settings.rpo.unwrap_or_default().get();
        let mut most = rpo;
        if let Trigger::Approved { allow_data_loss: Some(allowed), .. } = trigger {
            let answer = self.decided.open_incident(&settings.name).and_then(|incident| incident.answered.as_ref());
            if answer.is_some_and(|answer| answer.loss_shown == LossShown::Unknown) {
                return Ok(());
            }
            most = most.max(*allowed);
        }
        let loss = self.votes.loss(&self.settings, now.mono);
        ensure(loss.is_some(), "S5", || format!("{run} started, and the lag was never measured"))?;
        ensure(loss <= Some(most), "S5", || format!("{run} started with a loss of {loss:?} in sight"))?;
        // And by what only the world knows. What a false alarm before the outage hid is forgiven.
        let fell = self.votes.database_fell(&self.settings, now.mono);
        if let (Some(down_since), Some(fell)) = (truth.down_since, fell) {
            let hidden = down_since.since(fell);
            ensure(truth.loss <= most + hidden, "S5", || format!("{run} really loses {:?}", truth.loss))?;
        }
        Ok(())
    }

    fn check_limits(&self, now: Now, run: &RunId, service: &ServiceName) -> Result<(), Violation> {
        let touched = || self.decided.runs.values().filter(|run| !run.intended.is_empty());
        let of_service = touched().filter(|run| run.service == *service);
        let since = of_service.filter_map(|run| self.ages.get(&run.id)?.1.map(|end| end.at(now.mono))).min();
        let cool = since.is_none_or(|since| since >= self.settings.cool_down.get());
        ensure(cool, "S10", || format!("{run} started within the cool-down, {since:?} after the last one"))?;
        let ages = touched().filter_map(|run| self.ages.get(&run.id)).map(|(start, _)| start.at(now.mono));
        let recent = ages.filter(|age| *age < self.settings.failover_window.get()).count();
        ensure(recent < self.settings.failover_limit as usize, "S10", || format!("{run} is one too many"))
    }
}
