//! The metrics of what people were told, and of what is left to do for them.

use std::collections::BTreeMap;

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use super::metrics::Maker;
use crate::core::ledger::Ledger;
use crate::core::view::StatusView;
use crate::model::{Entry, HumanDuration, IncidentId, WallTime};

/// An update may be later than it was due by so much: a loop comes round, and a disk writes.
const ON_TIME: HumanDuration = HumanDuration::secs(10);

/// See the module.
pub(super) struct People {
    rungs: IntGaugeVec,
    overdue: IntGaugeVec,
    next_update: GaugeVec,
    duties: IntGaugeVec,
    duties_overdue: IntGaugeVec,
    escalations: IntCounterVec,
    unanswered: IntCounterVec,
    updates: IntCounterVec,
    given_up: IntGaugeVec,
}

impl People {
    pub(super) fn new(make: &Maker<'_>) -> prometheus::Result<Self> {
        let of = &["scenario"];
        Ok(Self {
            rungs: make.flags("escalation_rungs_told", "Rungs of the ladder that an open incident has reached.", of)?,
            overdue: make.flags("response_overdue", "1 while an open incident was not answered in time.", of)?,
            next_update: make.gauges(
                "status_update_due_timestamp_seconds",
                "When people are told next how an open incident stands.",
                of,
            )?,
            duties: make.flags("duties_open", "Duties of incidents that are open.", &["duty"])?,
            duties_overdue: make.flags("duties_overdue", "Duties of incidents that are overdue.", &["duty"])?,
            escalations: make.counters("escalations_total", "Rungs of ladders that were told.", &["severity"])?,
            unanswered: make.counters(
                "responses_missed_total",
                "Incidents that nobody answered within the time that their severity allows.",
                &["severity"],
            )?,
            updates: make.counters(
                "status_updates_total",
                "Updates of how an incident stands: on_time, late, or missed.",
                &["severity", "result"],
            )?,
            given_up: make.flags("notifications_given_up", "Notices that were given up and are kept.", &["route"])?,
        })
    }

    /// Makes the gauges say what the view says.
    pub(super) fn update(&self, view: &StatusView) {
        [&self.rungs, &self.overdue, &self.duties, &self.duties_overdue].into_iter().for_each(|family| family.reset());
        self.next_update.reset();
        for told in &view.escalations {
            let of = &[told.scenario.as_str()];
            self.rungs.with_label_values(of).set(i64::try_from(told.told.len()).unwrap_or(i64::MAX));
            self.overdue.with_label_values(of).set(i64::from(told.unanswered));
            if let Some(at) = told.next_update {
                self.next_update.with_label_values(of).set(seconds(at));
            }
        }
        let mut duties: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for duty in &view.duties {
            let of = duties.entry(duty.duty.as_str()).or_default();
            of.0 += 1;
            of.1 += i64::from(duty.due.is_some_and(|due| due <= view.at));
        }
        for (duty, (open, overdue)) in duties {
            self.duties.with_label_values(&[duty]).set(open);
            self.duties_overdue.with_label_values(&[duty]).set(overdue);
        }
    }

    /// So many notices of a route were given up.
    pub(super) fn given_up(&self, route: &str, many: u64) {
        self.given_up.with_label_values(&[route]).set(i64::try_from(many).unwrap_or(i64::MAX));
    }

    /// Counts what a record says.
    pub(super) fn count(&self, entry: &Entry, ledger: &Ledger) {
        let severity = |incident: &IncidentId| {
            ledger.incidents.get(incident).map(|incident| incident.severity.0.clone()).unwrap_or_default()
        };
        match entry {
            Entry::Escalated { incident, .. } => self.escalations.with_label_values(&[&severity(incident)]).inc(),
            Entry::Unanswered { incident, .. } => self.unanswered.with_label_values(&[&severity(incident)]).inc(),
            Entry::StatusUpdated { incident, late, missed, .. } => {
                let severity = severity(incident);
                let result = if *late > ON_TIME { "late" } else { "on_time" };
                self.updates.with_label_values(&[severity.as_str(), result]).inc();
                self.updates.with_label_values(&[severity.as_str(), "missed"]).inc_by(u64::from(*missed));
            }
            _ => {}
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into a float's 53 bits for ages")]
fn seconds(at: WallTime) -> f64 {
    at.0 as f64 / 1000.0
}
