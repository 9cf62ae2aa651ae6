//! What is written down beside an incident and a decision, so that both can be measured afterwards.

use super::brain::Brain;
use crate::model::{HumanDuration, IncidentId, Now, Objectives, Outlook, ScenarioSettings, Settings};

/// What an incident of a scenario is measured against.
pub(super) fn objectives(settings: &Settings, scenario: &ScenarioSettings) -> Objectives {
    let service = settings.services.iter().find(|service| service.name == scenario.service);
    Objectives {
        service: scenario.service.clone(),
        rto: scenario.rto,
        rpo: scenario.rpo,
        plan: scenario.plan.clone(),
        slo: service.map(|service| service.slo),
    }
}

impl Brain {
    /// What carrying out the plan now would come to.
    pub(super) fn outlook(&self, now: Now, scenario: &ScenarioSettings, incident: &IncidentId) -> Outlook {
        let plan = scenario.plan.as_ref().and_then(|plan| self.settings.plan(plan));
        let budget = plan.map(|plan| self.budget(plan)).unwrap_or_default();
        let outage = self.marks.since_outage(incident, now.mono).unwrap_or_default();
        let loss = self.predicted_loss(scenario, now.mono).ok().flatten().map(|(loss, _)| loss);
        Outlook { total: HumanDuration(outage + budget), loss }
    }
}
