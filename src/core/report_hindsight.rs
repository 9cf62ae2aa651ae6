//! What the report says in hindsight: of the error budget, and of what alert-only mode would have done.

use super::incident::Incident;
use super::ledger::Ledger;
use super::report::rounded;
use super::slo;
use crate::model::WallTime;

/// What it cost of the error budget, and what people said of what alert-only mode would have done.
pub(super) fn in_hindsight(ledger: &Ledger, incident: &Incident, until: WallTime) -> Vec<String> {
    let objectives = incident.objectives.as_ref();
    let spent = objectives.and_then(|of| Some((&of.service, of.slo?))).map(|(service, slo)| {
        let burnt = slo::burnt(ledger, service, slo.target.ratio(), slo.window.get(), until);
        format!(
            "Of the error budget of {} ({} over {}) {} was spent when it ended: {service} was down for {} within that time.",
            burnt.budget,
            slo.target,
            slo::days(slo.window),
            slo::percent(burnt.share),
            rounded(burnt.down.get()),
        )
    });
    let would_act = incident.would_act.as_ref().map(|would_act| {
        let grade = match &incident.grade {
            None => "nobody has graded that".to_owned(),
            Some(given) => {
                let note = given.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
                format!("{} graded that {} at {}{note}", given.by, given.grade, given.at)
            }
        };
        format!("Alert-only mode would have acted at {}; {grade}.", would_act.at)
    });
    spent.into_iter().chain(would_act).collect()
}
