//! The metrics of plans: how long they take by what was measured, and what came of their drills.

use prometheus::{GaugeVec, IntCounterVec};

use super::metrics::Maker;
use crate::core::evidence::{Budget, Quantiles, Source};
use crate::model::{DrillTarget, DrillVerdict, PlanName, WallTime};

/// What was measured of plans. All of it is made from a view, at once.
pub(super) struct PlanGauges {
    budget: GaugeVec,
    rto: GaugeVec,
    total: GaugeVec,
    chance: GaugeVec,
    decide_within: GaugeVec,
    steps: GaugeVec,
}

/// What came of drills.
pub(super) struct DrillCounters {
    drills: IntCounterVec,
    last: GaugeVec,
}

impl PlanGauges {
    pub(super) fn new(make: &Maker<'_>) -> prometheus::Result<Self> {
        let of = &["plan", "scenario"];
        Ok(Self {
            budget: make.gauges(
                "plan_budget_seconds",
                "Critical path of a plan by what its steps took, figure p50, p95 or max.",
                &["plan", "scenario", "figure"],
            )?,
            rto: make.gauges("plan_rto_seconds", "Recovery-time objective that a plan is held against.", of)?,
            total: make.gauges(
                "plan_recovery_seconds",
                "What a recovery takes by what was measured: detection, confirmation, and the plan with its safety.",
                of,
            )?,
            chance: make.gauges("plan_rto_chance", "Chance to meet the RTO by what was measured, 0 to 1.", of)?,
            decide_within: make.gauges(
                "plan_decide_within_seconds",
                "Time from the start of an outage to the last moment to decide.",
                of,
            )?,
            steps: make.gauges(
                "plan_step_seconds",
                "What a step took, figure p50, p95 or max; source is runs or drills.",
                &["plan", "step", "source", "figure"],
            )?,
        })
    }

    pub(super) fn set(&self, budgets: &[Budget]) {
        for family in [&self.budget, &self.rto, &self.total, &self.chance, &self.decide_within, &self.steps] {
            family.reset();
        }
        for found in budgets {
            let of = [found.plan.as_str(), found.scenario.as_str()];
            for (figure, time) in [("p50", found.p50), ("p95", found.p95), ("max", found.max)] {
                self.budget.with_label_values(&[of[0], of[1], figure]).set(time.get().as_secs_f64());
            }
            self.rto.with_label_values(&of).set(found.rto.get().as_secs_f64());
            self.total.with_label_values(&of).set(found.total.get().as_secs_f64());
            self.decide_within.with_label_values(&of).set(found.decide_within.get().as_secs_f64());
            if let Some(chance) = found.chance {
                self.chance.with_label_values(&of).set(chance);
            }
            for step in &found.steps {
                let name = step.step.as_str();
                self.step(of[0], name, Source::Runs, step.runs.as_ref());
                self.step(of[0], name, Source::Drills, step.drills.as_ref());
            }
        }
    }

    fn step(&self, plan: &str, step: &str, source: Source, measured: Option<&Quantiles>) {
        let Some(found) = measured else { return };
        for (figure, time) in [("p50", found.p50), ("p95", found.p95), ("max", found.max)] {
            self.steps.with_label_values(&[plan, step, source.name(), figure]).set(time.get().as_secs_f64());
        }
    }
}

impl DrillCounters {
    pub(super) fn new(make: &Maker<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            drills: make.counters("drills_total", "Drills that were judged.", &["plan", "target", "verdict"])?,
            last: make.gauges(
                "drill_last_timestamp_seconds",
                "When a drill of this verdict was judged last, in this life of the daemon.",
                &["plan", "target", "verdict"],
            )?,
        })
    }

    #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into a float's 53 bits for ages")]
    pub(super) fn judged(&self, plan: &PlanName, target: &DrillTarget, verdict: &DrillVerdict, at: WallTime) {
        let of = [plan.as_str(), target.as_str(), verdict.name()];
        self.drills.with_label_values(&of).inc();
        self.last.with_label_values(&of).set(at.0 as f64 / 1000.0);
    }
}
