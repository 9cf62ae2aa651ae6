//! How an incident stands, in words that people are told: what is known, and what is done about it.

use super::brain::Brain;
use super::incident::Incident;
use super::run_ledger::{RunLedger, StepState};
use crate::model::{Decision, Now, RunResult, Situation, Stage};

impl Brain {
    /// How an incident stands now.
    pub(super) fn situation(&self, now: Now, incident: &Incident) -> Situation {
        let run = incident.run.as_ref().and_then(|run| self.ledger.runs.get(run));
        let age = self.age(now, incident);
        let due = self.next_update(incident).filter(|_| incident.closed.is_none());
        Situation {
            stage: stage(incident, run),
            outage_start: incident.outage_start,
            opened: incident.opened,
            answered_by: incident.told.answered.as_ref().map(|(_, by)| by.clone()),
            known: self.known(incident),
            doing: doing(incident, run),
            next_update: due.map(|due| now.wall + due.saturating_sub(age)),
        }
    }

    fn known(&self, incident: &Incident) -> String {
        let condition = self.settings.scenario(&incident.scenario).map(|scenario| scenario.when.to_string());
        let what = condition.unwrap_or_else(|| incident.scenario.to_string());
        let extent = incident.extent.as_ref().map(|extent| format!("; {extent}")).unwrap_or_default();
        match incident.closed {
            Some(at) => format!("over since {at}: {what}{extent}"),
            None => format!("since {}: {what}{extent}", incident.outage_start),
        }
    }
}

fn stage(incident: &Incident, run: Option<&RunLedger>) -> Stage {
    match run {
        _ if incident.closed.is_some() => Stage::Resolved,
        Some(run) if run.ended.is_some_and(|(result, _)| result == RunResult::Aborted) => Stage::Investigating,
        Some(run) if run.ended.is_some() || run.is_recovered() => Stage::Monitoring,
        Some(_) => Stage::Identified,
        None => Stage::Investigating,
    }
}

fn doing(incident: &Incident, run: Option<&RunLedger>) -> String {
    if let Some(run) = run {
        let plan = &run.plan.name;
        let parked = run.steps.iter().zip(&run.plan.steps).find_map(|(step, definition)| match &step.state {
            StepState::Parked { reason } => Some(format!("step {} waits for a person: {reason}", definition.name)),
            _ => None,
        });
        return match (run.ended, parked) {
            (Some((result, at)), _) => format!("plan {plan} ({}) was {result} at {at}", run.id),
            (None, Some(parked)) => format!("plan {plan} ({}) stands still: {parked}", run.id),
            (None, None) => {
                let over = run.steps.iter().filter(|step| step.is_over()).count();
                format!("plan {plan} ({}) is being carried out, {over} of {} steps are over", run.id, run.steps.len())
            }
        };
    }
    match &incident.decision {
        _ if incident.closed.is_some() => "nothing more".to_owned(),
        Some(Decision::Hold(reason)) => format!("nothing yet: {reason}"),
        Some(Decision::Alert) => "nothing by itself (alert-only)".to_owned(),
        Some(Decision::AskApproval { until }) => format!("a person is asked until {until}"),
        Some(Decision::Act) => "it acts".to_owned(),
        None => "it is looked at".to_owned(),
    }
}
