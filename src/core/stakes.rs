//! What waiting costs, and what failing over would cost: what a person weighs who is asked.

use super::brain::Brain;
use crate::model::{HumanDuration, Now, ScenarioSettings, WallTime};

impl Brain {
    /// One line of what it costs to wait, one of what it costs to act.
    pub(super) fn stakes(&self, now: Now, scenario: &ScenarioSettings, outage_start: WallTime) -> Vec<String> {
        vec![self.waiting(now, scenario, outage_start), self.acting(now, scenario)]
    }

    fn waiting(&self, now: Now, scenario: &ScenarioSettings, outage_start: WallTime) -> String {
        let incident = self.ledger.open_incident(&scenario.name);
        let marked = incident.and_then(|incident| self.marks.since_outage(&incident.id, now.mono));
        let down = marked.unwrap_or_else(|| now.wall.since(outage_start));
        let rto = scenario.rto.get();
        let left = match rto.checked_sub(down).filter(|left| !left.is_zero()) {
            Some(left) => format!("{} are left of the RTO of {}", whole(left), scenario.rto),
            None => format!("the RTO of {} is missed by {} already", scenario.rto, whole(down.saturating_sub(rto))),
        };
        let decide = self.decide_by(scenario, outage_start).since(outage_start).saturating_sub(down);
        let decide = match (decide.is_zero(), scenario.plan.is_some()) {
            (_, false) => String::new(),
            (true, true) => "; the last moment to decide has passed".to_owned(),
            (false, true) => format!("; {} until the last moment to decide", whole(decide)),
        };
        let burnt = self.error_budget(now, &scenario.service).map(|told| format!("; {told}")).unwrap_or_default();
        format!("waiting: down for {}; {left}{decide}{burnt}", whole(down))
    }

    fn acting(&self, now: Now, scenario: &ScenarioSettings) -> String {
        let plan = scenario.plan.as_ref().and_then(|plan| self.settings.plan(plan));
        let Some(plan) = plan else { return "failing over: the scenario names no plan".to_owned() };
        let takes = whole(self.budget(plan));
        let loss = match (self.loss_now(scenario, now.mono), scenario.rpo) {
            (Some(loss), Some(rpo)) => format!("loses {loss} of writes, where the RPO is {rpo}"),
            (Some(loss), None) => format!("loses {loss} of writes"),
            (None, _) => "moves no data that is measured".to_owned(),
        };
        format!("failing over: down for about {takes} more; {loss}")
    }
}

/// Seconds are enough for a person.
fn whole(duration: std::time::Duration) -> HumanDuration {
    let rounded = if duration.subsec_millis() >= 500 { duration.as_secs() + 1 } else { duration.as_secs() };
    HumanDuration::secs(rounded)
}
