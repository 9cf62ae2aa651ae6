//! What runs and drills have measured, and what follows from it: how long a plan takes, the chance to
//! meet the objective, the last moment to decide.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::brain::Brain;
use super::ledger::Ledger;
use super::plan::{Paths, critical_path, recovery_budget};
use crate::model::{
    ActionKind, Entry, HumanDuration, Importance, NoticeKind, Now, Plan, PlanName, ScenarioName, ScenarioSettings,
    Settings, Step, StepName,
};

/// Fewer measured times than this are no evidence.
pub const ENOUGH: usize = 3;
/// So many runs are put together out of the measured times of their steps.
const DRAWS: u32 = 2000;
/// A plan that fitted no longer has to fit with so much room (in percent of the objective) to fit again:
/// one that is near the objective must not be told at every run.
const ROOM_PERCENT: u32 = 5;

/// Measured times, by the nearest rank: each is one that was really seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many.
    pub count: usize,
    /// The median.
    pub p50: HumanDuration,
    /// The 95th percentile; with few samples the longest one, which is what a deadline wants.
    pub p95: HumanDuration,
    /// The longest.
    pub max: HumanDuration,
}

impl Quantiles {
    /// Of these; `None` where there are none.
    pub fn of(times: &[Duration]) -> Option<Self> {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self {
            count: sorted.len(),
            p50: HumanDuration(rank(50)?),
            p95: HumanDuration(rank(95)?),
            max: HumanDuration(sorted.last().copied()?),
        })
    }
}

/// Where a figure is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Real runs.
    Runs,
    /// Drills.
    Drills,
    /// The configuration.
    Estimate,
}

impl Source {
    /// `runs`, `drills`, `estimate`: the metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Drills => "drills",
            Self::Estimate => "estimate",
        }
    }
}

/// The measured times of a step that count: of runs, or of drills where there are not enough.
pub(super) fn samples<'a>(
    ledger: &'a Ledger,
    plan: &PlanName,
    step: &StepName,
    kind: &ActionKind,
) -> Option<(Source, &'a [Duration])> {
    let key = (plan.clone(), step.clone(), kind.clone());
    let enough = |times: &&Vec<Duration>| times.len() >= ENOUGH;
    let runs = ledger.step_times.get(&key).filter(enough).map(|times| (Source::Runs, times.as_slice()));
    runs.or_else(|| ledger.drill_times.get(&key).filter(enough).map(|times| (Source::Drills, times.as_slice())))
}

/// What is known of a step's time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepEvidence {
    /// Which.
    pub step: StepName,
    /// Of real runs.
    pub runs: Option<Quantiles>,
    /// Of drills.
    pub drills: Option<Quantiles>,
    /// Which of them counts.
    pub source: Source,
    /// What it is expected to take: the 95th percentile of what counts, or the estimate.
    pub expected: HumanDuration,
}

/// How long a plan takes, and whether that is quick enough for one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// For this scenario.
    pub scenario: ScenarioName,
    /// The plan.
    pub plan: PlanName,
    /// The recovery-time objective.
    pub rto: HumanDuration,
    /// Until the plan begins, at most: to detect, to confirm, the last look.
    pub before: HumanDuration,
    /// The plan's critical path by the medians of its steps.
    pub p50: HumanDuration,
    /// By their 95th percentiles.
    pub p95: HumanDuration,
    /// By their longest times.
    pub max: HumanDuration,
    /// The critical path by the 95th percentiles.
    pub critical: Vec<StepName>,
    /// `before + p95 × safety`: to be held against the objective.
    pub total: HumanDuration,
    /// Is it within the objective?
    pub fits: bool,
    /// The chance that `before` and the plan stay within the objective, from 0 to 1, from what was
    /// measured; `None` where nothing was.
    pub chance: Option<f64>,
    /// So long after the outage began it has to be decided at the latest: `rto − p95 × safety`.
    pub decide_within: HumanDuration,
    /// The steps.
    pub steps: Vec<StepEvidence>,
}

impl Budget {
    /// Was any of its steps measured?
    pub fn is_measured(&self) -> bool {
        self.steps.iter().any(|step| step.source != Source::Estimate)
    }
}

/// The budget of a scenario's plan; `None` where it has none.
pub fn budget(settings: &Settings, ledger: &Ledger, scenario: &ScenarioSettings) -> Option<Budget> {
    let plan = settings.plan(scenario.plan.as_ref()?)?;
    let estimated = recovery_budget(settings, scenario)?;
    let before = estimated.total.saturating_sub(estimated.plan_with_safety);
    let by = |of: fn(&Quantiles) -> HumanDuration| {
        critical_path(plan, |step| {
            let measured = samples(ledger, &plan.name, &step.name, &step.work.kind());
            measured.and_then(|(_, times)| Quantiles::of(times)).map_or(step.estimate, |found| of(&found)).get()
        })
    };
    let path = by(|found| found.p95);
    let with_safety = path.total.saturating_mul(settings.safety_percent) / 100;
    let total = before.saturating_add(with_safety);
    Some(Budget {
        scenario: scenario.name.clone(),
        plan: plan.name.clone(),
        rto: scenario.rto,
        before: HumanDuration(before),
        p50: HumanDuration(by(|found| found.p50).total),
        p95: HumanDuration(path.total),
        max: HumanDuration(by(|found| found.max).total),
        critical: path.steps,
        total: HumanDuration(total),
        fits: total <= scenario.rto.get(),
        chance: chance(ledger, plan, scenario.rto.get().checked_sub(before)),
        decide_within: HumanDuration(scenario.rto.get().saturating_sub(with_safety)),
        steps: plan.steps.iter().map(|step| step_evidence(ledger, plan, step)).collect(),
    })
}

fn step_evidence(ledger: &Ledger, plan: &Plan, step: &Step) -> StepEvidence {
    let key = (plan.name.clone(), step.name.clone(), step.work.kind());
    let counts = samples(ledger, &plan.name, &step.name, &step.work.kind());
    let expected = counts.and_then(|(_, times)| Quantiles::of(times)).map_or(step.estimate, |found| found.p95);
    StepEvidence {
        step: step.name.clone(),
        runs: ledger.step_times.get(&key).and_then(|times| Quantiles::of(times)),
        drills: ledger.drill_times.get(&key).and_then(|times| Quantiles::of(times)),
        source: counts.map_or(Source::Estimate, |(source, _)| source),
        expected,
    }
}

/// The share of runs, put together out of measured times of their steps, whose plan ends within this.
/// The draws are the same for the same measurements: two looks at one ledger must not differ.
fn chance(ledger: &Ledger, plan: &Plan, within: Option<Duration>) -> Option<f64> {
    let measured: Vec<Option<&[Duration]>> = plan
        .steps
        .iter()
        .map(|step| samples(ledger, &plan.name, &step.name, &step.work.kind()).map(|(_, times)| times))
        .collect();
    if measured.iter().all(Option::is_none) {
        return None;
    }
    let Some(within) = within else { return Some(0.0) };
    let paths = Paths::of(plan);
    let mut state = plan
        .name
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let met = (0..DRAWS).filter(|_| {
        let longest = paths.longest(|place| match measured[place] {
            Some(times) => times[draw(&mut state, times.len())],
            None => plan.steps[place].estimate.get(),
        });
        longest <= within
    });
    Some(met.count() as f64 / f64::from(DRAWS))
}

/// The next number below `below`: SplitMix64.
fn draw(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let below = u64::try_from(below.max(1)).unwrap_or(u64::MAX);
    usize::try_from((z ^ (z >> 31)) % below).unwrap_or(0)
}

/// The budgets, as of the newest measurement.
#[derive(Debug, Default, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Watched {
    pub(super) budgets: Vec<Budget>,
    stale: bool,
}

impl Brain {
    /// Something was measured, or is held against something else.
    pub(super) fn note_evidence(&mut self) {
        self.evidence.stale = true;
    }

    /// Tells people, before an incident, that a plan fits into its objective no longer, or again; once
    /// for each change, also over restarts.
    pub(super) fn watch_budgets(&mut self, now: Now) {
        if !std::mem::take(&mut self.evidence.stale) {
            return;
        }
        let settings = std::sync::Arc::clone(&self.settings);
        let all = settings.scenarios.iter().filter_map(|scenario| budget(&settings, &self.ledger, scenario));
        self.evidence.budgets = all.collect();
        for (index, found) in self.evidence.budgets.clone().into_iter().enumerate() {
            let was_out = self.ledger.out_of_reach.contains(&found.scenario);
            let limit = found.rto.get().saturating_mul(100 - ROOM_PERCENT) / 100;
            // What the configuration estimates, `check` has told.
            let fits = if was_out { found.total.get() <= limit } else { found.fits || !found.is_measured() };
            self.evidence.budgets[index].fits = fits;
            if fits != was_out {
                continue;
            }
            let entry =
                Entry::BudgetChanged { scenario: found.scenario.clone(), fits, budget: found.total, rto: found.rto };
            if self.commit(now, entry) {
                self.tell_budget(now, &found, fits);
            }
        }
    }

    fn tell_budget(&mut self, now: Now, found: &Budget, fits: bool) {
        let scenario = self.settings.scenario(&found.scenario);
        let (total, rto) = (found.total, found.rto);
        let subject = if fits {
            format!("{}: plan {} fits into the RTO of {rto} again: it takes {total}", found.scenario, found.plan)
        } else {
            format!(
                "{}: plan {} no longer fits into the RTO of {rto}: by what was measured it takes {total} ({} before it \
                 begins, p95 {}): failoverd plan {}",
                found.scenario, found.plan, found.before, found.p95, found.plan
            )
        };
        let importance = if fits { Importance::Info } else { Importance::Page };
        let named = scenario.map(|scenario| (found.scenario.clone(), scenario.severity.clone()));
        self.notify_of_scenario(now, NoticeKind::Budget, importance, named, subject);
    }
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
