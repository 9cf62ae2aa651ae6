//! The metrics, by Prometheus' conventions: prefix `failoverd_`, base units, `_total` on counters.
//!
//! Gauges are made from a [`StatusView`], all at once, so that a scrape never sees half of one
//! state and half of another; what is gone from the view is gone from the metrics. Counters and
//! histograms are fed by the daemon as things happen.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use super::attempts::Attempts;
use super::member_gauges::MemberGauges;
use super::metrics_people::People;
use super::plan_gauges::{DrillCounters, PlanGauges};
use super::service_gauges::ServiceGauges;
use crate::core::ledger::Ledger;
use crate::core::view::{PlanReadinessView, ProbeView, ScenarioView, StatusView, StepStateView};
use crate::model::{
    Decision, DrillTarget, DrillVerdict, Entry, Health, Mode, Observation, PlanName, ProbeName, RunResult,
    ScenarioName, Truth, WallTime,
};

/// All metrics of one daemon. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    gauges: Mutex<Gauges>,
    counters: Counters,
    people: People,
}

/// What a [`StatusView`] says.
struct Gauges {
    probe_health: IntGaugeVec,
    probe_degraded: IntGaugeVec,
    probe_flapping: IntGaugeVec,
    probe_latency: GaugeVec,
    lag_seconds: GaugeVec,
    lag_bytes: GaugeVec,
    condition: IntGaugeVec,
    incident_open: IntGaugeVec,
    decision: IntGaugeVec,
    rto: GaugeVec,
    rpo: GaugeVec,
    budget: GaugeVec,
    predicted_loss: GaugeVec,
    predicted_bytes: GaugeVec,
    predicted_transactions: GaugeVec,
    deadline: GaugeVec,
    decide_by: GaugeVec,
    run_active: IntGauge,
    run_parked: IntGauge,
    epoch: IntGauge,
    mode: IntGaugeVec,
    paused: IntGauge,
    tilt: IntGauge,
    in_doubt: IntGauge,
    isolated: IntGauge,
    health_switch: IntGaugeVec,
    plans: PlanGauges,
    services: ServiceGauges,
    members: MemberGauges,
    readiness: IntGaugeVec,
    readiness_findings: IntGaugeVec,
    readiness_drift: IntGaugeVec,
    readiness_at: GaugeVec,
    status_at: Gauge,
}

/// What happened.
struct Counters {
    attempts: Attempts,
    runs: IntCounterVec,
    step_seconds: HistogramVec,
    journal_seconds: Histogram,
    stalls: IntCounter,
    notifications: IntCounterVec,
    undelivered: IntGaugeVec,
    commands: IntCounterVec,
    reloads: IntCounterVec,
    ballots: IntCounterVec,
    votes_refused: IntCounterVec,
    witness_up: IntGaugeVec,
    history_recording: IntGauge,
    history_lost: IntCounter,
    drills: DrillCounters,
    recording: IntGauge,
    recording_lost: IntCounter,
}

/// Registers what it hands out, so that nothing is forgotten.
pub(super) struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn keep<C: Collector + Clone + 'static>(&self, collector: prometheus::Result<C>) -> prometheus::Result<C> {
        let collector = collector?;
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
    pub(super) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.keep(IntGauge::new(format!("failoverd_{name}"), help))
    }
    pub(super) fn flags(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.keep(IntGaugeVec::new(Opts::new(format!("failoverd_{name}"), help), labels))
    }
    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.keep(GaugeVec::new(Opts::new(format!("failoverd_{name}"), help), labels))
    }
    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.keep(IntCounterVec::new(Opts::new(format!("failoverd_{name}"), help), labels))
    }
    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::new(format!("failoverd_{name}"), help).buckets(buckets.to_vec());
        self.keep(HistogramVec::new(opts, labels))
    }
}

/// From a change that is seen at once to a promotion of a large database.
const STEP_BUCKETS: [f64; 12] = [0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0];
/// From an SSD's fsync to a disk that is about to fail.
const JOURNAL_BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

impl Gauges {
    fn new(make: &Maker<'_>) -> prometheus::Result<Self> {
        let of = &["scenario"];
        Ok(Self {
            probe_health: make.flags(
                "probe_health",
                "Verdict on a probe's target: 1 for the health that holds, 0 for the others.",
                &["probe", "region", "health"],
            )?,
            probe_degraded: make.flags(
                "probe_degraded",
                "1 while a probe's target is up, but not well.",
                &["probe", "region"],
            )?,
            probe_flapping: make.flags(
                "probe_flapping",
                "1 while a probe changes its health again and again, and is held back for it.",
                &["probe", "region"],
            )?,
            probe_latency: make.gauges("probe_latency_seconds", "Latency of the newest good attempt.", &["probe"])?,
            lag_seconds: make.gauges("replication_lag_seconds", "Replication lag that a standby tells.", &["probe"])?,
            lag_bytes: make.gauges("replication_lag_bytes", "Bytes that a standby has not applied.", &["probe"])?,
            condition: make.flags(
                "scenario_condition",
                "Condition of a scenario: 1 for the truth that holds, 0 for the others.",
                &["scenario", "truth"],
            )?,
            incident_open: make.flags("incident_open", "Whether a scenario has an open incident.", of)?,
            decision: make.flags(
                "decision",
                "What policy says of a scenario now, always 1; reason names the hold.",
                &["scenario", "decision", "reason"],
            )?,
            rto: make.gauges("rto_seconds", "Recovery-time objective.", of)?,
            rpo: make.gauges("rpo_seconds", "Recovery-point objective.", of)?,
            budget: make.gauges("rto_budget_seconds", "Critical path of the scenario's plan.", of)?,
            predicted_bytes: make.gauges(
                "predicted_loss_bytes",
                "Log that a failover would lose now, as far as the primary told.",
                of,
            )?,
            predicted_transactions: make.gauges(
                "predicted_loss_transactions",
                "Transactions that a failover would lose now, as far as the primary told.",
                of,
            )?,
            predicted_loss: make.gauges("predicted_loss_seconds", "Loss of data predicted for a failover now.", of)?,
            deadline: make.gauges(
                "deadline_timestamp_seconds",
                "Outage start plus RTO, while an incident is open.",
                of,
            )?,
            decide_by: make.gauges(
                "decide_by_timestamp_seconds",
                "Last moment to decide for the RTO to be met, while an incident is open.",
                of,
            )?,
            run_active: make.gauge("run_active", "Whether a run is active.")?,
            run_parked: make.gauge("run_parked", "Whether the active run waits for a person.")?,
            epoch: make.gauge("epoch", "Highest fencing epoch granted.")?,
            mode: make.flags("mode", "Mode of the daemon: 1 for the one that holds, 0 for the others.", &["mode"])?,
            paused: make.gauge("paused", "Whether a person paused the daemon.")?,
            tilt: make.gauge("tilt", "Whether the daemon only looks, after a stall or a clock jump.")?,
            in_doubt: make.gauge("in_doubt", "Whether storage, lease or clock is in doubt.")?,
            isolated: make
                .gauge("isolated", "Whether nobody answers who would tell that the daemon itself is not cut off.")?,
            health_switch: make.flags(
                "health_switch",
                "What a health switch answers: 1 for on, 0 for off, -1 where its setting cannot be read.",
                &["switch"],
            )?,
            plans: PlanGauges::new(make)?,
            services: ServiceGauges::new(make)?,
            members: MemberGauges::new(make)?,
            readiness: make.flags(
                "readiness",
                "Whether a plan could be carried out: 1 for the verdict that holds, 0 for the others.",
                &["plan", "verdict"],
            )?,
            readiness_findings: make.flags(
                "readiness_findings",
                "Findings of the last look at a plan; later counts its steps that cannot be looked at before the run.",
                &["plan", "verdict"],
            )?,
            readiness_drift: make.flags(
                "readiness_drift",
                "Facts that are not what they were when the plan was last ready.",
                &["plan"],
            )?,
            readiness_at: make.gauges("readiness_timestamp_seconds", "When a plan was last looked at.", &["plan"])?,
            status_at: make.keep(Gauge::new(
                "failoverd_status_timestamp_seconds",
                "When the state behind these gauges was true.",
            ))?,
        })
    }

    fn clear(&self) {
        self.probe_health.reset();
        self.probe_degraded.reset();
        self.probe_flapping.reset();
        self.condition.reset();
        self.incident_open.reset();
        self.decision.reset();
        self.readiness.reset();
        self.readiness_findings.reset();
        self.readiness_drift.reset();
        self.readiness_at.reset();
        for family in [
            &self.probe_latency,
            &self.lag_seconds,
            &self.lag_bytes,
            &self.rto,
            &self.rpo,
            &self.budget,
            &self.predicted_loss,
            &self.predicted_bytes,
            &self.predicted_transactions,
            &self.deadline,
            &self.decide_by,
        ] {
            family.reset();
        }
    }

    fn probe(&self, probe: &ProbeView) {
        let name = probe.name.as_str();
        let region = probe.region.as_ref().map_or("", |region| region.as_str());
        for health in [Health::Up, Health::Down, Health::Unknown] {
            let labels = [name, region, health_label(health)];
            self.probe_health.with_label_values(&labels).set(i64::from(probe.health == health));
        }
        self.probe_degraded.with_label_values(&[name, region]).set(i64::from(probe.degraded));
        self.probe_flapping.with_label_values(&[name, region]).set(i64::from(probe.flapping_until.is_some()));
        if let Some(latency) = probe.latency_ms {
            self.probe_latency.with_label_values(&[name]).set(latency / 1000.0);
        }
        let lag = probe.facts.as_ref().and_then(|facts| facts.lag);
        if let Some(lag) = lag {
            self.lag_seconds.with_label_values(&[name]).set(lag.time.as_secs_f64());
        }
        if let Some(bytes) = lag.and_then(|lag| lag.bytes) {
            #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 bytes of lag are enough")]
            self.lag_bytes.with_label_values(&[name]).set(bytes as f64);
        }
    }

    fn scenario(&self, scenario: &ScenarioView) {
        let name = scenario.name.as_str();
        for (truth, label) in [(Truth::True, "true"), (Truth::False, "false"), (Truth::Unknown, "unknown")] {
            self.condition.with_label_values(&[name, label]).set(i64::from(scenario.truth == truth));
        }
        self.incident_open.with_label_values(&[name]).set(i64::from(scenario.incident.is_some()));
        let (decision, reason) = decision_labels(scenario.decision.as_ref());
        self.decision.with_label_values(&[name, decision, reason]).set(1);
        self.rto.with_label_values(&[name]).set(scenario.rto.get().as_secs_f64());
        self.budget.with_label_values(&[name]).set(scenario.budget.get().as_secs_f64());
        if let Some(rpo) = scenario.rpo {
            self.rpo.with_label_values(&[name]).set(rpo.get().as_secs_f64());
        }
        if let Some(loss) = scenario.predicted_loss {
            self.predicted_loss.with_label_values(&[name]).set(loss.get().as_secs_f64());
        }
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        for (gauge, count) in [
            (&self.predicted_bytes, scenario.predicted_writes.bytes),
            (&self.predicted_transactions, scenario.predicted_writes.transactions),
        ] {
            if let Some(count) = count {
                gauge.with_label_values(&[name]).set(count as f64);
            }
        }
        if let Some(deadline) = scenario.deadline {
            self.deadline.with_label_values(&[name]).set(seconds(deadline));
        }
        if let Some(decide_by) = scenario.decide_by {
            self.decide_by.with_label_values(&[name]).set(seconds(decide_by));
        }
    }

    fn readiness(&self, view: &PlanReadinessView) {
        let plan = view.plan.as_str();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (verdict, findings) in ["ready", "not_ready", "unknown"].into_iter().zip(view.findings) {
            self.readiness.with_label_values(&[plan, verdict]).set(i64::from(view.verdict.name() == verdict));
            self.readiness_findings.with_label_values(&[plan, verdict]).set(count(findings));
        }
        self.readiness_findings.with_label_values(&[plan, "later"]).set(count(view.later));
        self.readiness_drift.with_label_values(&[plan]).set(count(view.drift));
        self.readiness_at.with_label_values(&[plan]).set(seconds(view.at));
    }

    fn daemon(&self, view: &StatusView) {
        for mode in [Mode::Auto, Mode::Approve, Mode::AlertOnly] {
            self.mode.with_label_values(&[mode_label(mode)]).set(i64::from(view.mode == mode));
        }
        // A step whose work is to ask waits for a person as much as one that was given up for now.
        let parked = view.run.iter().flat_map(|run| &run.steps).any(|step| {
            step.state == StepStateView::Parked || step.kind == "approval" && step.state == StepStateView::Waiting
        });
        self.run_active.set(i64::from(view.run.is_some()));
        self.run_parked.set(i64::from(parked));
        self.epoch.set(i64::try_from(view.epoch.0).unwrap_or(i64::MAX));
        self.paused.set(i64::from(view.paused_by.is_some()));
        self.tilt.set(i64::from(view.tilt_until.is_some()));
        self.in_doubt.set(i64::from(view.in_doubt.is_some()));
        self.isolated.set(i64::from(view.isolated));
        self.status_at.set(seconds(view.at));
    }
}

impl Counters {
    fn new(make: &Maker<'_>) -> prometheus::Result<Self> {
        let journal = HistogramOpts::new("failoverd_journal_append_seconds", "Time to make journal records durable.")
            .buckets(JOURNAL_BUCKETS.to_vec());
        Ok(Self {
            attempts: make.keep(Attempts::new())?,
            runs: make.counters("runs_total", "Runs that ended.", &["scenario", "result"])?,
            step_seconds: make.histograms(
                "step_duration_seconds",
                "Duration of the steps that ended.",
                &["kind", "result"],
                &STEP_BUCKETS,
            )?,
            journal_seconds: make.keep(Histogram::with_opts(journal))?,
            stalls: make.keep(IntCounter::new(
                "failoverd_loop_stalls_total",
                "Times that the daemon's own loop stood still or the clock jumped.",
            ))?,
            notifications: make.counters(
                "notifications_total",
                "Attempts to deliver a notice, and what was handed over or given up.",
                &["route", "result"],
            )?,
            undelivered: make.flags("notifications_undelivered", "Notices that wait in the outbox.", &["route"])?,
            commands: make.counters("commands_total", "Commands of operators.", &["command", "result"])?,
            reloads: make.counters(
                "config_reloads_total",
                "Reloads of the configuration; refused also where only the certificates were.",
                &["result"],
            )?,
            ballots: make.counters(
                "ballots_total",
                "Answers of witnesses: counted, silent, or why they were refused.",
                &["witness", "result"],
            )?,
            votes_refused: make.counters(
                "votes_refused_total",
                "Votes that do not count, on ballots that do.",
                &["witness", "reason"],
            )?,
            witness_up: make.flags("witness_up", "1 while a witness answers and its answers count.", &["witness"])?,
            recording: make.gauge("recording", "1 while what the brain is told is recorded.")?,
            recording_lost: make.keep(IntCounter::new(
                "failoverd_recording_lost_inputs_total",
                "Inputs of the brain that could not be recorded in time.",
            ))?,
            history_recording: make.gauge("history_recording", "1 while what the probes see is recorded.")?,
            history_lost: make.keep(IntCounter::new(
                "failoverd_history_lost_looks_total",
                "Looks of probes that could not be recorded in time.",
            ))?,
            drills: DrillCounters::new(make)?,
        })
    }
}

impl Metrics {
    /// The registry with every metric in it.
    ///
    /// # Errors
    /// Where two metrics have one name: a mistake in this file, which a test finds.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let make = Maker(&registry);
        let build = make.flags("build_info", "Version of this daemon, always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let gauges = Mutex::new(Gauges::new(&make)?);
        let counters = Counters::new(&make)?;
        let people = People::new(&make)?;
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(Self(Arc::new(Inner { registry, gauges, counters, people })))
    }

    /// Makes the gauges say what the view says.
    pub fn update_status(&self, view: &StatusView) {
        let gauges = self.0.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.clear();
        gauges.daemon(view);
        self.0.people.update(view);
        view.probes.iter().for_each(|probe| gauges.probe(probe));
        view.scenarios.iter().for_each(|scenario| gauges.scenario(scenario));
        gauges.plans.set(&view.budgets);
        gauges.services.set(view);
        gauges.members.set(view);
        view.readiness.iter().for_each(|plan| gauges.readiness(plan));
    }

    /// The health switches answer so; `None` where it is not known.
    pub fn health_switches(&self, all: &[(String, Option<bool>)]) {
        let gauges = self.0.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.health_switch.reset();
        for (name, on) in all {
            gauges.health_switch.with_label_values(&[name]).set(on.map_or(-1, i64::from));
        }
    }

    /// Whether each witness answers, as an own set: one that is gone from the configuration is gone here.
    pub fn witnesses(&self, names: impl Iterator<Item = (String, bool)>) {
        self.0.counters.witness_up.reset();
        for (name, up) in names {
            self.0.counters.witness_up.with_label_values(&[&name]).set(i64::from(up));
        }
    }

    /// A question to a witness was answered: `result` is `counted`, `silent`, or why it was refused.
    pub fn ballot(&self, witness: &str, result: &str) {
        self.0.counters.ballots.with_label_values(&[witness, result]).inc();
    }

    /// Votes on a ballot that counts do not count.
    pub fn votes_refused(&self, witness: &str, reason: &str) {
        self.0.counters.votes_refused.with_label_values(&[witness, reason]).inc();
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// Where they cannot be encoded.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let _whole = self.0.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// A probe's attempt ended.
    pub fn probe_attempt(&self, probe: &ProbeName, observation: &Observation, took: Duration) {
        self.0.counters.attempts.count(probe, observation, took);
    }

    /// A run ended.
    pub fn run_ended(&self, scenario: &ScenarioName, result: RunResult) {
        let result = match result {
            RunResult::Done => "done",
            RunResult::Aborted => "aborted",
        };
        self.0.counters.runs.with_label_values(&[scenario.as_str(), result]).inc();
    }

    /// A drill was judged.
    pub fn drill_judged(&self, plan: &PlanName, target: &DrillTarget, verdict: &DrillVerdict, at: WallTime) {
        self.0.counters.drills.judged(plan, target, verdict, at);
    }

    /// A step ended: `kind` is `family.verb`, `result` one of done, already_done, failed, skipped.
    pub fn step_ended(&self, kind: &str, result: &str, took: Duration) {
        self.0.counters.step_seconds.with_label_values(&[kind, result]).observe(took.as_secs_f64());
    }

    /// Journal records were made durable.
    pub fn journal_append(&self, took: Duration) {
        self.0.counters.journal_seconds.observe(took.as_secs_f64());
    }

    /// The loop stood still, or the clock jumped.
    pub fn loop_stalled(&self) {
        self.0.counters.stalls.inc();
    }

    /// One attempt to deliver a notice ended (delivered, failed), or a notice was handed_over or given_up.
    pub fn notification(&self, route: &str, result: &str) {
        self.0.counters.notifications.with_label_values(&[route, result]).inc();
    }

    /// So many notices of a route were given up, of those that are kept.
    pub fn notifications_given_up(&self, route: &str, many: u64) {
        self.0.people.given_up(route, many);
    }

    /// What a record says of what people were told, and did.
    pub fn told(&self, entry: &Entry, ledger: &Ledger) {
        self.0.people.count(entry, ledger);
    }

    /// So many notices wait for a route.
    pub fn notifications_undelivered(&self, route: &str, waiting: usize) {
        self.0.counters.undelivered.with_label_values(&[route]).set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// A command was done, refused by the brain, or forbidden by the role.
    pub fn command(&self, command: &str, result: &str) {
        self.0.counters.commands.with_label_values(&[command, result]).inc();
    }

    /// Is what the brain is told recorded?
    pub fn recording(&self, recording: bool) {
        self.0.counters.recording.set(i64::from(recording));
    }

    /// So many inputs could not be recorded in time.
    pub fn recording_lost(&self, inputs: u64) {
        self.0.counters.recording_lost.inc_by(inputs);
    }

    /// What the probes see is recorded, or not any more.
    pub fn history_recording(&self, recording: bool) {
        self.0.counters.history_recording.set(i64::from(recording));
    }

    /// So many looks could not be recorded.
    pub fn history_lost(&self, looks: u64) {
        self.0.counters.history_lost.inc_by(looks);
    }

    /// The configuration was reloaded, or its faults kept the old one in place.
    pub fn config_reload(&self, taken: bool) {
        self.0.counters.reloads.with_label_values(&[if taken { "taken" } else { "refused" }]).inc();
    }
}

fn health_label(health: Health) -> &'static str {
    match health {
        Health::Up => "up",
        Health::Down => "down",
        Health::Unknown => "unknown",
    }
}

fn mode_label(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "auto",
        Mode::Approve => "approve",
        Mode::AlertOnly => "alert-only",
    }
}

/// The labels of a decision; `none` while the condition does not hold.
fn decision_labels(decision: Option<&Decision>) -> (&'static str, &'static str) {
    match decision {
        None => ("none", ""),
        Some(Decision::Hold(reason)) => ("hold", reason.name()),
        Some(Decision::Alert) => ("alert", ""),
        Some(Decision::AskApproval { .. }) => ("ask_approval", ""),
        Some(Decision::Act) => ("act", ""),
    }
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into a float's 53 bits for ages")]
fn seconds(at: WallTime) -> f64 {
    at.0 as f64 / 1000.0
}
