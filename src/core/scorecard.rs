//! The scorecard of alert-only mode: what it would have done, and what people said of it afterwards. Made
//! of the ledger alone, so that a stopped daemon's state is enough.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::brain::Brain;
use super::commands::refuse;
use super::event::{Answer, Refusal};
use super::ledger::Ledger;
use crate::model::{Entry, Grade, HumanDuration, IncidentId, Now, Outlook, PlanName, ScenarioName, Severity, WallTime};

/// A note is cut after so many characters.
const LONGEST_NOTE: usize = 1000;

/// When it would have acted, and what that would have come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WouldAct {
    /// When.
    pub at: WallTime,
    /// What it would have come to.
    pub outlook: Option<Outlook>,
}

/// What a person said of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graded {
    /// Would it have been right?
    pub grade: Grade,
    /// Who says so.
    pub by: String,
    /// When.
    pub at: WallTime,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The scorecard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scorecard {
    /// The incidents in which it would have acted, the newest first.
    pub rows: Vec<ScorecardRow>,
    /// How many were graded, whatever the grade.
    pub graded: usize,
    /// How many of these were right.
    pub right: usize,
    /// `right / graded`; `None` where nothing was graded.
    pub precision: Option<f64>,
}

/// An incident in which it would have acted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScorecardRow {
    /// The incident.
    pub incident: IncidentId,
    /// Its scenario.
    pub scenario: ScenarioName,
    /// Its severity.
    pub severity: Severity,
    /// The plan that would have been carried out; `None` where the journal does not have it.
    pub plan: Option<PlanName>,
    /// The first bad observation.
    pub outage_start: WallTime,
    /// When it would have acted, the first time.
    pub would_act: WallTime,
    /// From the first bad observation to the end of the plan, as it was predicted then.
    pub total: Option<HumanDuration>,
    /// The recovery-time objective.
    pub rto: Option<HumanDuration>,
    /// The loss of data that was predicted then; `None` where it was unknown or no data is moved.
    pub loss: Option<HumanDuration>,
    /// The recovery-point objective; `None` where no data is moved.
    pub rpo: Option<HumanDuration>,
    /// When the condition held no longer; `None`: it does still.
    pub closed: Option<WallTime>,
    /// What a person said of it.
    pub grade: Option<Graded>,
}

/// How many incidents of a scenario have a grade: for metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GradeCount {
    /// The scenario.
    pub scenario: ScenarioName,
    /// The grade; `None`: not graded.
    pub grade: Option<Grade>,
    /// How many incidents.
    pub incidents: u64,
}

/// The scorecard of a ledger.
#[allow(clippy::cast_precision_loss, reason = "there are not 2^53 incidents")]
pub fn scorecard(ledger: &Ledger) -> Scorecard {
    let row = |incident: &super::incident::Incident| {
        let would_act = incident.would_act.as_ref()?;
        let outlook = would_act.outlook.as_ref();
        let objectives = incident.objectives.as_ref();
        Some(ScorecardRow {
            incident: incident.id.clone(),
            scenario: incident.scenario.clone(),
            severity: incident.severity.clone(),
            plan: objectives.and_then(|of| of.plan.clone()),
            outage_start: incident.outage_start,
            would_act: would_act.at,
            total: outlook.map(|outlook| outlook.total),
            rto: objectives.map(|of| of.rto),
            loss: outlook.and_then(|outlook| outlook.loss),
            rpo: objectives.and_then(|of| of.rpo),
            closed: incident.closed,
            grade: incident.grade.clone(),
        })
    };
    let rows: Vec<ScorecardRow> = ledger.incidents.values().rev().filter_map(row).collect();
    let graded = rows.iter().filter(|row| row.grade.is_some()).count();
    let is_right = |row: &&ScorecardRow| row.grade.as_ref().is_some_and(|given| given.grade == Grade::Right);
    let right = rows.iter().filter(is_right).count();
    let precision = (graded > 0).then(|| right as f64 / graded as f64);
    Scorecard { rows, graded, right, precision }
}

/// How many incidents of each scenario have which grade.
pub(super) fn counts(ledger: &Ledger) -> Vec<GradeCount> {
    let mut counts: BTreeMap<(&ScenarioName, Option<Grade>), u64> = BTreeMap::new();
    for incident in ledger.incidents.values().filter(|incident| incident.would_act.is_some()) {
        let grade = incident.grade.as_ref().map(|given| given.grade);
        *counts.entry((&incident.scenario, grade)).or_default() += 1;
    }
    let count = |((scenario, grade), incidents): ((&ScenarioName, _), _)| GradeCount {
        scenario: scenario.clone(),
        grade,
        incidents,
    };
    counts.into_iter().map(count).collect()
}

impl Brain {
    /// The scorecard of alert-only mode.
    pub fn scorecard(&self) -> Scorecard {
        scorecard(&self.ledger)
    }

    /// A person says what is to be thought of what it would have done; a later grade replaces the earlier one.
    pub(super) fn grade(
        &mut self,
        now: Now,
        by: &str,
        id: &IncidentId,
        grade: Grade,
        note: Option<String>,
    ) -> Result<Answer, Refusal> {
        let incident = self.ledger.incidents.get(id);
        let incident = incident.ok_or_else(|| refuse("not_found", format!("there is no incident {id}")))?;
        if incident.would_act.is_none() {
            return Err(refuse(
                "not_now",
                format!(
                    "{id} is not in the scorecard: alert-only mode would not have acted in it, so there is nothing to grade"
                ),
            ));
        }
        if incident.closed.is_none() {
            return Err(refuse("not_now", format!("{id} is open: grade it when it is over")));
        }
        let before = incident.grade.as_ref().map(|given| format!(" in place of {}", given.grade)).unwrap_or_default();
        let note = note.map(|note| note.chars().take(LONGEST_NOTE).collect());
        self.commit(now, Entry::IncidentGraded { incident: id.clone(), grade, by: by.to_owned(), note });
        Ok(Answer { text: format!("{id} is graded {grade}{before}"), run: None })
    }
}
