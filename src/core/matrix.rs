//! The recovery-time matrix: what was promised for each scenario, what was measured, and when it was
//! last rehearsed. Made of the settings and the ledger alone, so that a stopped daemon's state is enough.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evidence::{Budget, Quantiles, Source, budget};
use super::ledger::Ledger;
use super::run_ledger::RunLedger;
use crate::model::{
    DrillSettings, DrillTarget, DrillVerdict, HumanDuration, PlanName, RunId, RunResult, ScenarioName,
    ScenarioSettings, Settings, Severity, WallTime,
};

/// What is known of all plans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceView {
    /// The daemon's name.
    pub name: String,
    /// When this was true.
    pub at: WallTime,
    /// The recovery-time matrix: the scenarios, the most severe first.
    pub rows: Vec<MatrixRow>,
    /// How long the plans take.
    pub budgets: Vec<Budget>,
    /// The drills.
    pub drills: Vec<DrillView>,
}

/// One scenario in the matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatrixRow {
    /// The scenario.
    pub scenario: ScenarioName,
    /// Its tier: the severity.
    pub tier: Severity,
    /// Its plan.
    pub plan: Option<PlanName>,
    /// The recovery-time objective.
    pub rto: HumanDuration,
    /// What recoveries took.
    pub measured: Option<Measured>,
    /// Until a plan begins, at most: to detect, to confirm, the last look. A drill has no outage that it
    /// could be measured in.
    pub before: HumanDuration,
    /// The recovery-point objective.
    pub rpo: Option<HumanDuration>,
    /// The greatest loss that was predicted when a run was decided; of a drill where there was no run.
    pub loss: Option<HumanDuration>,
    /// The newest drill that was judged.
    pub last_drill: Option<LastDrill>,
    /// So often the plan wants a drill that passed.
    pub drill_every: Option<HumanDuration>,
    /// What follows from all that.
    pub verdict: Standing,
}

/// What recoveries took, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Of runs: from the first bad observation. Of drills: from their start.
    pub source: Source,
    /// The figures.
    #[serde(flatten)]
    pub times: Quantiles,
}

/// A drill that was judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastDrill {
    /// Its run.
    pub run: RunId,
    /// Where.
    pub target: DrillTarget,
    /// When.
    pub at: WallTime,
    /// What came of it.
    pub verdict: DrillVerdict,
    /// How long the recovery took.
    pub took: Option<HumanDuration>,
    /// Has it cleaned up?
    pub is_clean: bool,
}

/// How a scenario stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It alerts only: there is no plan that could be measured.
    NoPlan,
    /// What was measured is within the objectives.
    Meets,
    /// It is not, or the newest drill failed.
    Misses {
        /// Why.
        why: String,
    },
    /// Neither a run nor a drill was measured.
    NoEvidence,
    /// The newest drill that passed is too long ago.
    Overdue {
        /// Since when a drill is due; `None`: there never was one.
        since: Option<WallTime>,
    },
}

impl Standing {
    /// `meets`, `misses`, …: for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoPlan => "no_plan",
            Self::Meets => "meets",
            Self::Misses { .. } => "misses",
            Self::NoEvidence => "no_evidence",
            Self::Overdue { .. } => "overdue",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlan => f.write_str("no plan"),
            Self::Meets => f.write_str("meets"),
            Self::Misses { why } => write!(f, "does not meet: {why}"),
            Self::NoEvidence => f.write_str("no evidence"),
            Self::Overdue { since: None } => f.write_str("drill overdue: none has passed"),
            Self::Overdue { since: Some(since) } => write!(f, "drill overdue since {}", since.day()),
        }
    }
}

/// A drill of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillView {
    /// Of this plan.
    pub plan: PlanName,
    /// Where.
    pub target: DrillTarget,
    /// Its cron expression.
    pub schedule: Option<String>,
    /// When it is due next.
    pub next: Option<WallTime>,
    /// When there is none.
    pub blocked: Vec<String>,
    /// The newest one that was judged.
    pub last: Option<LastDrill>,
    /// The newest one that was due and not begun, and why not.
    pub missed: Option<(WallTime, String)>,
}

/// All of it.
pub fn evidence(settings: &Settings, ledger: &Ledger, now: WallTime) -> EvidenceView {
    let budgets: Vec<Budget> =
        settings.scenarios.iter().filter_map(|scenario| budget(settings, ledger, scenario)).collect();
    let rows = settings.scenarios.iter().map(|scenario| {
        let own = budgets.iter().find(|budget| budget.scenario == scenario.name);
        row(settings, ledger, scenario, own, now)
    });
    EvidenceView {
        name: settings.name.to_string(),
        at: now,
        rows: rows.collect(),
        drills: settings.drills.all.iter().map(|drill| drill_view(ledger, drill, now)).collect(),
        budgets,
    }
}

fn row(
    settings: &Settings,
    ledger: &Ledger,
    scenario: &ScenarioSettings,
    budget: Option<&Budget>,
    now: WallTime,
) -> MatrixRow {
    let of_plan = |run: &&RunLedger| scenario.plan.as_ref() == Some(&run.plan.name);
    let runs: Vec<&RunLedger> =
        ledger.runs.values().filter(|run| run.counts() && run.scenario == scenario.name).filter(of_plan).collect();
    let drills: Vec<&RunLedger> = ledger.runs.values().filter(|run| run.is_drill()).filter(of_plan).collect();
    let last_drill = newest(&drills);
    let passed = drills.iter().filter(|run| is_passed(run)).filter_map(|run| run.judged.as_ref()).map(|done| done.at);
    let drill_every = scenario.plan.as_ref().and_then(|plan| settings.drills.every.get(plan)).copied();
    let mut row = MatrixRow {
        scenario: scenario.name.clone(),
        tier: scenario.severity.clone(),
        plan: scenario.plan.clone(),
        rto: scenario.rto,
        measured: measured(&runs, &drills),
        before: budget.map(|budget| budget.before).unwrap_or_default(),
        rpo: scenario.rpo,
        loss: greatest_loss(&runs).or_else(|| greatest_loss(&drills)),
        last_drill,
        drill_every,
        verdict: Standing::NoEvidence,
    };
    row.verdict = standing(&row, passed.max(), now);
    row
}

fn is_passed(run: &RunLedger) -> bool {
    run.judged.as_ref().is_some_and(|judged| judged.verdict == DrillVerdict::Passed)
}

fn greatest_loss(runs: &[&RunLedger]) -> Option<HumanDuration> {
    // What was measured afterwards is worth more than what was predicted.
    let of = |run: &&RunLedger| {
        let measured =
            run.measured.iter().filter_map(|seen| if seen.is_none() { Some(HumanDuration::ZERO) } else { seen.time });
        measured.max().or(run.predicted_loss)
    };
    runs.iter().filter_map(of).max()
}

/// Whole recoveries: of runs for an incident that came to their end, else of drills.
fn measured(runs: &[&RunLedger], drills: &[&RunLedger]) -> Option<Measured> {
    let recovered = |run: &&RunLedger| {
        let done = run.incident.is_some() && run.ended.is_some_and(|(result, _)| result == RunResult::Done);
        run.recovered_at().filter(|_| done).map(|at| at.since(run.outage_start))
    };
    let real: Vec<Duration> = runs.iter().filter_map(recovered).collect();
    if let Some(times) = Quantiles::of(&real) {
        return Some(Measured { source: Source::Runs, times });
    }
    let took = |run: &&RunLedger| run.judged.as_ref()?.took.map(HumanDuration::get);
    let rehearsed: Vec<Duration> = drills.iter().filter_map(took).collect();
    Quantiles::of(&rehearsed).map(|times| Measured { source: Source::Drills, times })
}

fn newest(drills: &[&RunLedger]) -> Option<LastDrill> {
    let run = drills.iter().filter(|run| run.judged.is_some()).max_by_key(|run| &run.id)?;
    let (judged, terms) = (run.judged.as_ref()?, run.drill()?);
    Some(LastDrill {
        run: run.id.clone(),
        target: terms.target.clone(),
        at: judged.at,
        verdict: judged.verdict.clone(),
        took: judged.took,
        is_clean: run.ended.is_some(),
    })
}

fn standing(row: &MatrixRow, passed: Option<WallTime>, now: WallTime) -> Standing {
    if row.plan.is_none() {
        return Standing::NoPlan;
    }
    if let Some(LastDrill { verdict: DrillVerdict::Failed { reason }, .. }) = &row.last_drill {
        return Standing::Misses { why: format!("the last drill failed: {reason}") };
    }
    if let Some(Measured { source, times }) = row.measured {
        let before = if source == Source::Drills { row.before } else { HumanDuration::ZERO };
        let total = HumanDuration(times.p95.get().saturating_add(before.get()));
        if total > row.rto {
            let plus =
                if source == Source::Drills { format!(" with {before} before it begins") } else { String::new() };
            return Standing::Misses { why: format!("p95 is {total}{plus}, the RTO is {}", row.rto) };
        }
    }
    if let (Some(loss), Some(rpo)) = (row.loss, row.rpo)
        && loss > rpo
    {
        return Standing::Misses { why: format!("{loss} of data would be lost, the RPO is {rpo}") };
    }
    if row.measured.is_none() {
        return Standing::NoEvidence;
    }
    match (row.drill_every, passed) {
        (Some(_), None) => Standing::Overdue { since: None },
        (Some(every), Some(passed)) if now > passed + every.get() => {
            Standing::Overdue { since: Some(passed + every.get()) }
        }
        _ => Standing::Meets,
    }
}

fn drill_view(ledger: &Ledger, drill: &DrillSettings, now: WallTime) -> DrillView {
    let (plan, target) = (&drill.plan.name, &drill.terms.target);
    let own = |run: &&RunLedger| run.plan.name == *plan && run.drill().is_some_and(|terms| terms.target == *target);
    let drills: Vec<&RunLedger> = ledger.runs.values().filter(own).collect();
    DrillView {
        plan: plan.clone(),
        target: target.clone(),
        schedule: drill.schedule.as_ref().map(ToString::to_string),
        next: drill.schedule.as_ref().and_then(|schedule| schedule.next_after(now, &drill.blocked)),
        blocked: drill.blocked.iter().map(ToString::to_string).collect(),
        last: newest(&drills),
        missed: ledger.missed_drills.get(&(plan.clone(), target.clone())).cloned(),
    }
}
