//! The metrics of services against their objectives, and of the scorecard of alert-only mode.

use prometheus::{GaugeVec, IntGaugeVec};

use super::metrics::Maker;
use crate::core::view::StatusView;
use crate::model::Grade;

/// See the module. All of it is made from a view, at once.
pub(super) struct ServiceGauges {
    target: GaugeVec,
    availability: GaugeVec,
    left: GaugeVec,
    scorecard: IntGaugeVec,
}

impl ServiceGauges {
    pub(super) fn new(make: &Maker<'_>) -> prometheus::Result<Self> {
        let of = &["service"];
        Ok(Self {
            target: make.gauges("slo_target_ratio", "Share of the window in which a service has to be up.", of)?,
            availability: make.gauges("slo_availability_ratio", "Share of the window in which it was up.", of)?,
            left: make.gauges(
                "slo_budget_left_ratio",
                "Share of the error budget that is left; below 0 where it was exceeded.",
                of,
            )?,
            scorecard: make.flags(
                "scorecard",
                "Incidents in which alert-only mode would have acted; grade is right, wrong, unsure or none.",
                &["scenario", "grade"],
            )?,
        })
    }

    pub(super) fn set(&self, view: &StatusView) {
        [&self.target, &self.availability, &self.left].into_iter().for_each(|family| family.reset());
        self.scorecard.reset();
        for level in &view.services {
            let of = &[level.service.as_str()];
            self.target.with_label_values(of).set(level.target.ratio());
            self.availability.with_label_values(of).set(level.availability);
            self.left.with_label_values(of).set(level.left());
        }
        for count in &view.scorecard {
            let of = &[count.scenario.as_str(), count.grade.map_or("none", Grade::name)];
            self.scorecard.with_label_values(of).set(i64::try_from(count.incidents).unwrap_or(i64::MAX));
        }
    }
}
