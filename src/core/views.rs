//! Makes the views out of the brain's state.

use super::brain::Brain;
use super::gate::Gate;
use super::incident::Incident;
use super::run::Doing;
use super::run_ledger::{RunLedger, StepState};
use super::view::{
    ApprovalView, GuardView, IncidentView, ProbeView, RunView, ScenarioView, SplitView, StatusView, StepStateView,
    StepView, TimelineView, VantageView,
};
use crate::model::{
    Applied, EffectKind, Health, HumanDuration, Now, Phase, RunId, ScenarioSettings, StepEnd, Verdict, WallTime, Work,
};

impl Brain {
    /// Everything at a glance.
    pub fn status(&self, now: Now) -> StatusView {
        StatusView {
            name: self.settings.name.to_string(),
            at: now.wall,
            started: self.started.wall,
            mode: self.ledger.mode.as_ref().map_or(self.settings.mode, |(mode, _)| *mode),
            mode_by: self.ledger.mode.as_ref().map(|(_, by)| by.clone()),
            paused_by: self.ledger.paused.clone(),
            tilt_until: self.tilt_until.filter(|until| now.mono < *until).map(|until| now.wall_of(until)),
            in_doubt: self.doubt.clone(),
            isolated: self.isolated(),
            epoch: self.ledger.epoch,
            tasks: self.tasks(),
            escalations: self.escalations(now),
            duties: self.duties(),
            budgets: self.evidence.budgets.clone(),
            services: self.service_levels(now),
            scorecard: super::scorecard::counts(&self.ledger),
            readiness: Vec::new(),
            members: None,
            vantages: self.vantage_views(now),
            probes: (0..self.detectors.len()).map(|index| self.probe_view(now, index)).collect(),
            scenarios: (0..self.settings.scenarios.len()).map(|index| self.scenario_view(now, index)).collect(),
            run: self.ledger.active_run().map(|run| self.run_view(now, run)),
        }
    }

    /// All incidents, the newest first.
    pub fn incidents(&self) -> Vec<IncidentView> {
        let needed =
            |incident: &Incident| self.settings.scenario(&incident.scenario).map_or(1, |scenario| scenario.approvals);
        self.ledger.incidents.values().rev().map(|incident| incident_view(incident, needed(incident))).collect()
    }

    /// All runs, the newest first.
    pub fn runs(&self, now: Now) -> Vec<RunView> {
        self.ledger.runs.values().rev().map(|run| self.run_view(now, run)).collect()
    }

    /// What is known of all plans.
    pub fn plan_evidence(&self, now: Now) -> super::matrix::EvidenceView {
        super::matrix::evidence(&self.settings, &self.ledger, now.wall)
    }

    /// One run.
    pub fn run(&self, now: Now, id: &RunId) -> Option<RunView> {
        self.ledger.runs.get(id).map(|run| self.run_view(now, run))
    }

    /// Some target looks down, and the anchors have not answered since.
    fn isolated(&self) -> bool {
        self.detectors.iter().any(|detector| {
            let anchor = self.settings.anchors.contains(&detector.settings.name);
            !anchor && detector.first_bad().is_some_and(|since| self.is_isolated_since(since))
        })
    }

    fn vantage_views(&self, now: Now) -> Vec<VantageView> {
        let mut views = vec![self.own_vantage(now)];
        // No witness votes on our anchors.
        let voted = self.settings.probes.iter().filter(|probe| !self.settings.anchors.contains(&probe.name));
        let shortest = voted.map(|probe| probe.max_age.get()).min().unwrap_or_default();
        let silent = self.silent(shortest, now.mono);
        views.extend(self.settings.witnesses.iter().map(|witness| {
            let of = self.peers.iter().zip(&self.detectors).flat_map(|(votes, own)| {
                let fresh = votes.iter().filter(|vote| vote.is_fresh(now.mono, own.settings.max_age));
                fresh.filter(|vote| vote.vantage == witness.name).map(|vote| vote.health)
            });
            let (up, down, unknown) = tally(of);
            VantageView {
                name: witness.name.clone(),
                domain: witness.domain.clone(),
                own: false,
                heard: self.last_word(&witness.name).map(|at| now.wall_of(at)),
                silent: silent.iter().any(|known| known.name == witness.name),
                up,
                down,
                unknown,
            }
        }));
        views
    }

    fn own_vantage(&self, now: Now) -> VantageView {
        let told = self.own_votes(now);
        let (up, down, unknown) = tally(told.iter().map(|vote| vote.health));
        let heard = told.iter().map(|vote| vote.age_ms).min().map(std::time::Duration::from_millis);
        VantageView {
            name: self.settings.name.clone(),
            domain: self.settings.domain.clone(),
            own: true,
            heard: heard.map(|age| now.wall.minus(age)),
            silent: told.is_empty(),
            up,
            down,
            unknown,
        }
    }

    fn probe_view(&self, now: Now, index: usize) -> ProbeView {
        let detector = &self.detectors[index];
        let verdict = self.verdict(index, now.mono);
        let cause = detector.latest.as_ref().and_then(|latest| latest.cause.as_ref()).map(ToString::to_string);
        let why = match &verdict {
            // A doubt that has not fallen yet is worth a word.
            Verdict::Up | Verdict::Down { .. } => cause.unwrap_or_default(),
            Verdict::Inconclusive(why) => self.why_inconclusive(index, *why, now.mono),
        };
        ProbeView {
            name: detector.settings.name.clone(),
            region: detector.settings.region.clone(),
            zone: detector.settings.zone.clone(),
            anchor: self.settings.anchors.contains(&detector.settings.name),
            health: verdict.health(),
            degraded: verdict == Verdict::Up && self.is_degraded(index, now.mono),
            why,
            since: detector.health().map(|_| now.wall_of(detector.since())),
            last_seen: detector.latest.as_ref().map(|latest| now.wall_of(latest.started)),
            latency_ms: detector.latency.map(|latency| latency.as_secs_f64() * 1000.0),
            facts: detector.facts.as_deref().cloned(),
            fast: detector.in_doubt() && detector.window.is_none(),
            flapping_until: self.flapping_until(index, now.mono).map(|until| now.wall_of(until)),
        }
    }

    fn scenario_view(&self, now: Now, index: usize) -> ScenarioView {
        let scenario = &self.settings.scenarios[index];
        let incident = self.ledger.open_incident(&scenario.name);
        let outage_start = match incident {
            Some(incident) => Some(incident.outage_start),
            None => self.outage_start(&scenario.when, now.mono).map(|at| now.wall_of(at)),
        };
        let loss = self.predicted_loss(scenario, now.mono).ok().flatten().map(|(loss, _)| loss);
        let plan = scenario.plan.as_ref().and_then(|plan| self.settings.plan(plan));
        ScenarioView {
            name: scenario.name.clone(),
            severity: scenario.severity.clone(),
            mode: self.mode_of(scenario),
            condition: scenario.when.to_string(),
            truth: self.truth_of_outage(&scenario.when, now.mono).0,
            incident: incident.map(|incident| incident.id.clone()),
            // How far it went is kept; what cannot be told is as of now.
            extent: incident.and_then(|incident| Some(self.with_unclear(incident.extent.clone()?, now.mono))),
            choice: incident.and_then(|incident| self.choice(now, index, incident)),
            decision: incident.map(|incident| self.decide(now, index, scenario, incident).0),
            guards: self.guard_views(now, index, scenario, incident),
            plan: scenario.plan.clone(),
            plan_hash: self.plan_hash(scenario).cloned(),
            rto: scenario.rto,
            rpo: scenario.rpo,
            budget: plan.map(|plan| HumanDuration(self.budget(plan))).unwrap_or_default(),
            predicted_loss: loss,
            predicted_writes: self.predicted_writes(scenario, now.mono),
            stakes: outage_start.map(|start| self.stakes(now, scenario, start)).unwrap_or_default(),
            outage_start,
            deadline: outage_start.map(|at| at + scenario.rto.get()),
            decide_by: outage_start.map(|at| self.decide_by(scenario, at)),
        }
    }

    fn guard_views(
        &self,
        now: Now,
        index: usize,
        scenario: &ScenarioSettings,
        incident: Option<&Incident>,
    ) -> Vec<GuardView> {
        let guards = self.guards(now, index, scenario, incident);
        let holds = self.watches[index].held_since.is_some();
        let views = guards.into_iter().map(|guard| GuardView {
            name: guard.name.to_owned(),
            passes: guard.holds.is_none(),
            detail: guard.holds.map_or_else(|| passing(guard.name, holds).to_owned(), |reason| reason.to_string()),
            until: guard.until.map(|at| now.wall_of(at)),
        });
        let mut views: Vec<GuardView> = views.collect();
        if self.watches[index].is_alone {
            let consent = incident.and_then(|incident| self.consent(now, scenario, incident));
            views.push(GuardView {
                name: "quorum".to_owned(),
                passes: consent.is_some(),
                detail: format!("a person has to decide: {}", self.why_no_quorum(&scenario.when, now.mono)),
                until: None,
            });
        }
        views
    }

    fn run_view(&self, now: Now, run: &RunLedger) -> RunView {
        let driver = self.driver.as_ref().filter(|driver| driver.run == run.id);
        let opened = run.incident.as_ref().and_then(|id| self.ledger.incidents.get(id)).map(|incident| incident.opened);
        RunView {
            id: run.id.clone(),
            scenario: run.scenario.clone(),
            incident: run.incident.clone(),
            plan: run.plan.name.clone(),
            plan_hash: run.plan_hash.clone(),
            epoch: run.epoch,
            trigger: run.trigger.to_string(),
            outage_start: run.outage_start,
            deadline: run.outage_start + run.rto.get(),
            predicted_loss: run.predicted_loss,
            predicted_writes: run.predicted_writes,
            measured_loss: run.measured.clone(),
            started: run.started,
            ended: run.ended.map(|(_, at)| at),
            result: run.ended.map(|(result, _)| result),
            aborting_by: run.aborting.as_ref().map(|(by, _)| by.clone()),
            past_no_return: run.past_no_return(),
            last_look: driver.is_some_and(|driver| matches!(driver.gate, Gate::Looking(_))),
            steps: (0..run.steps.len()).map(|index| self.step_view(now, run, index)).collect(),
            split: split(run, opened, now.wall),
            drill_on: run.drill().map(|terms| terms.target.clone()),
            verdict: run.judged.as_ref().map(|judged| judged.verdict.clone()),
            set_aside: run.set_aside.clone(),
        }
    }

    fn step_view(&self, now: Now, run: &RunLedger, index: usize) -> StepView {
        let (step, ledger) = (&run.plan.steps[index], &run.steps[index]);
        let activity = self.driver.as_ref().filter(|driver| driver.run == run.id).map(|driver| &driver.steps[index]);
        let (state, detail) = match &ledger.state {
            StepState::Ended(StepEnd::Done { evidence, already: true, .. }) => {
                (StepStateView::AlreadyDone, evidence.clone())
            }
            StepState::Ended(StepEnd::Done { evidence, .. }) => (StepStateView::Done, evidence.clone()),
            StepState::Ended(StepEnd::Failed { reason }) => (StepStateView::Failed, reason.clone()),
            StepState::Ended(StepEnd::Skipped { by }) => (StepStateView::Skipped, format!("by {by}")),
            StepState::Parked { reason } => (StepStateView::Parked, reason.clone()),
            StepState::Undoing => (StepStateView::Applying, "undoing".to_owned()),
            StepState::Undone(Applied::Accepted { evidence }) => (StepStateView::Compensated, evidence.clone()),
            StepState::Undone(Applied::Refused { reason, .. } | Applied::Unknown { reason }) => {
                (StepStateView::Failed, format!("not undone: {reason}"))
            }
            StepState::Pending | StepState::Intended | StepState::Applied(_) => activity
                .map_or((StepStateView::Pending, String::new()), |activity| doing(&activity.doing, &ledger.state)),
        };
        let target = match &step.work {
            Work::Action(spec) => {
                run.filled(index).ok().flatten().map_or_else(|| spec.target.clone(), |spec| spec.target)
            }
            Work::Wait { duration } => duration.to_string(),
            Work::Approval { message } | Work::Task { message, .. } => message.clone(),
            Work::Gather { of, .. } if of.is_empty() => "whether its condition holds, for all that follow".into(),
            Work::Gather { of, minimum: 0 } if of.len() == 1 => "1 step".into(),
            Work::Gather { of, minimum: 0 } => format!("{} steps", of.len()),
            Work::Gather { of, minimum } => format!("{minimum} of {} steps", of.len()),
            Work::VerifyProbe { probe, hold } if hold.get().is_zero() => probe.to_string(),
            Work::VerifyProbe { probe, hold } => format!("{probe} for {hold}"),
        };
        StepView {
            name: step.name.clone(),
            kind: step.work.kind().to_string(),
            target,
            after: step.after.clone(),
            state,
            attempts: ledger.attempts,
            started: activity.and_then(|activity| activity.started).map(|at| now.wall_of(at)),
            ended: ledger.changed.filter(|_| state.is_over()),
            took: ledger.took.map(HumanDuration),
            estimate: self
                .ledger
                .measured(&run.plan.name, &step.name, &step.work.kind())
                .map_or(step.estimate, HumanDuration),
            detail,
        }
    }
}

/// How many say up, down, unknown.
fn tally(votes: impl Iterator<Item = Health>) -> (usize, usize, usize) {
    votes.fold((0, 0, 0), |(up, down, unknown), health| match health {
        Health::Up => (up + 1, down, unknown),
        Health::Down => (up, down + 1, unknown),
        Health::Unknown => (up, down, unknown + 1),
    })
}

fn doing(doing: &Doing, state: &StepState) -> (StepStateView, String) {
    let last = match state {
        StepState::Applied(Applied::Refused { reason, .. } | Applied::Unknown { reason }) => reason.clone(),
        _ => String::new(),
    };
    match doing {
        Doing::Idle => (StepStateView::Pending, last),
        Doing::Unclear { why } => (StepStateView::Waiting, why.clone()),
        Doing::Calling { phase: Phase::Observe, .. } => (StepStateView::Observing, last),
        Doing::Calling { phase: Phase::Apply | Phase::Compensate, .. } => (StepStateView::Applying, last),
        Doing::Calling { phase: Phase::Verify, .. } => (StepStateView::Verifying, last),
        Doing::Ready { .. } => {
            (StepStateView::Waiting, "for the last look at the primary, or the end of a pause".into())
        }
        Doing::Backoff { .. } => (StepStateView::Waiting, last),
        Doing::Waiting { .. } => (StepStateView::Waiting, String::new()),
        Doing::Asking { .. } => (StepStateView::Waiting, "for a person".into()),
        Doing::Holding { .. } => (StepStateView::Verifying, String::new()),
    }
}

/// Where the time went. What only looks or tells comes after the last change.
pub(super) fn split(run: &RunLedger, opened: Option<WallTime>, now: WallTime) -> SplitView {
    let verdict = opened.unwrap_or(run.started).min(run.started);
    let end = run.ended.map_or(now, |(_, at)| at);
    let changing = run.steps.iter().zip(&run.plan.steps).filter(|(_, step)| {
        step.work.action().is_some_and(|spec| !matches!(spec.effect, EffectKind::Verify | EffectKind::Notify))
    });
    let executed =
        changing.filter_map(|(ledger, _)| ledger.changed).max().unwrap_or(end).clamp(run.started, end.max(run.started));
    SplitView {
        detect: HumanDuration(verdict.since(run.outage_start)),
        decide: HumanDuration(run.started.since(verdict)),
        execute: HumanDuration(executed.since(run.started)),
        verify: HumanDuration(end.since(executed)),
    }
}

/// `needed`: how many persons have to approve.
fn incident_view(incident: &Incident, needed: u32) -> IncidentView {
    let approvals = incident.approvals.len();
    let waits = incident.answered.is_none() || (0 < approvals && approvals < needed as usize);
    IncidentView {
        id: incident.id.clone(),
        scenario: incident.scenario.clone(),
        severity: incident.severity.clone(),
        outage_start: incident.outage_start,
        extent: incident.extent.clone(),
        opened: incident.opened,
        closed: incident.closed,
        acknowledged_by: incident.acknowledged_by.clone(),
        decision: incident.decision.clone(),
        approval: incident.asked.as_ref().filter(|_| waits).map(|asked| ApprovalView {
            plan_hash: asked.plan_hash.clone(),
            epoch: asked.epoch,
            until: asked.until,
            needed,
            given: incident.approvals.iter().map(|answer| answer.by.clone()).collect(),
        }),
        run: incident.run.clone(),
        timeline: incident.timeline.iter().map(|(at, text)| TimelineView { at: *at, text: text.clone() }).collect(),
    }
}

/// What a guard says while it lets the scenario act.
fn passing(guard: &str, holds: bool) -> &'static str {
    match guard {
        "plan" => "there is a plan",
        "state" => "journal and clock are sound",
        "run_active" => "no run is active",
        "tilt" => "the clock and the loop are steady",
        "paused" => "not paused",
        "already_run" => "no run was carried out for this incident",
        "condition" => "the condition holds",
        "startup_grace" => "the start-up grace is over",
        "flapping" => "what it waits for is steady",
        "replicas" => "no replica hears the primary",
        "confirming" if !holds => "there is nothing to confirm",
        "confirming" => "the condition has held for long enough",
        "lower_layers_first" => "nothing below has a grace period left",
        "explained_by" => "no other scenario explains better what is down",
        "correlating" => "no broader scenario's probe is in doubt",
        "unless" => "no veto",
        "standby" => "what it would fail over to is healthy",
        "data_loss" => "the predicted loss is within the RPO",
        "cool_down" => "no cool-down",
        "failover_limit" => "the failover limit leaves room",
        "denied" => "nobody denied it",
        _ => "passes",
    }
}
