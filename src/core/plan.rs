//! The arithmetic of plans: their order, their longest path, and how long it takes to notice.
//!
//! Lives here: what can be computed from a plan and the settings alone. Does not live here: what
//! is decided by it. Imports `model` only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use petgraph::Direction;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::correlate::correlation_budget;
use crate::model::{
    Condition, DrillPart, HumanDuration, Is, Plan, PlanName, ProbeSettings, Reference, RunKind, ScenarioSettings,
    Settings, Step, StepGuard, StepName, Work,
};

/// How many attempts of one probe run at a time, at most; the runner of the probes keeps to it.
pub const MOST_IN_FLIGHT: usize = 4;

/// The steps of a plan that wait for each other in a circle; the first is named again at the end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Cycle {
    /// `a`, `b`, `a`.
    pub steps: Vec<StepName>,
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            if index > 0 {
                f.write_str(" → ")?;
            }
            write!(f, "{step}")?;
        }
        Ok(())
    }
}

/// The chain of steps that a plan cannot be faster than.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CriticalPath {
    /// The sum of its steps.
    pub total: Duration,
    /// From the first to the last.
    pub steps: Vec<StepName>,
}

/// A graph whose nodes are the places of the steps in `plan.steps`. An edge leads from a step to
/// one that comes after it; an `after` that names no step is left out (`config` refuses it).
fn graph(plan: &Plan) -> DiGraph<usize, ()> {
    let mut graph = DiGraph::with_capacity(plan.steps.len(), plan.steps.len());
    let nodes: Vec<NodeIndex> = (0..plan.steps.len()).map(|place| graph.add_node(place)).collect();
    let by_name: BTreeMap<&StepName, NodeIndex> =
        plan.steps.iter().zip(&nodes).map(|(step, node)| (&step.name, *node)).collect();
    for (step, node) in plan.steps.iter().zip(&nodes) {
        for before in &step.after {
            if let Some(source) = by_name.get(before) {
                graph.update_edge(*source, *node, ());
            }
        }
    }
    graph
}

/// The places of the steps in an order in which each comes after all that it waits for. Among
/// those that are ready at once, the one written first comes first, so that the order is stable.
///
/// # Errors
/// [`Cycle`] where steps wait for each other.
pub fn topological(plan: &Plan) -> Result<Vec<usize>, Cycle> {
    let graph = graph(plan);
    let mut waiting: Vec<usize> =
        graph.node_indices().map(|node| graph.neighbors_directed(node, Direction::Incoming).count()).collect();
    let mut ready: BTreeSet<usize> =
        waiting.iter().enumerate().filter(|(_, count)| **count == 0).map(|(place, _)| place).collect();
    let mut order = Vec::with_capacity(plan.steps.len());
    while let Some(place) = ready.pop_first() {
        order.push(place);
        for next in graph.neighbors(NodeIndex::new(place)) {
            waiting[next.index()] -= 1;
            if waiting[next.index()] == 0 {
                ready.insert(next.index());
            }
        }
    }
    if order.len() == plan.steps.len() { Ok(order) } else { Err(name_cycle(plan, &graph)) }
}

/// Names one cycle of a graph that has one.
fn name_cycle(plan: &Plan, graph: &DiGraph<usize, ()>) -> Cycle {
    let circular: BTreeSet<usize> = tarjan_scc(graph)
        .into_iter()
        .find(|component| component.len() > 1 || component.iter().any(|node| graph.contains_edge(*node, *node)))
        .unwrap_or_default()
        .into_iter()
        .map(NodeIndex::index)
        .collect();
    // Within a strongly connected component every node has a successor in it, so the walk comes
    // back to a place where it has been.
    let mut walked: Vec<usize> = Vec::new();
    let mut next = circular.first().copied();
    while let Some(place) = next {
        if let Some(start) = walked.iter().position(|seen| *seen == place) {
            walked.drain(..start);
            walked.push(place);
            break;
        }
        walked.push(place);
        next = graph.neighbors(NodeIndex::new(place)).map(NodeIndex::index).filter(|to| circular.contains(to)).min();
    }
    Cycle { steps: walked.into_iter().map(|place| plan.steps[place].name.clone()).collect() }
}

/// The longest chain of the plan, where `duration_of` tells how long a step takes. A plan with a
/// cycle (`config` refuses it) counts as all its steps one after the other: never too short.
pub fn critical_path(plan: &Plan, duration_of: impl Fn(&Step) -> Duration) -> CriticalPath {
    let duration_of = |step: &Step| if is_apart(plan, step) { Duration::ZERO } else { duration_of(step) };
    let Ok(order) = topological(plan) else {
        return CriticalPath {
            total: plan.steps.iter().fold(Duration::ZERO, |sum, step| sum.saturating_add(duration_of(step))),
            steps: plan.steps.iter().map(|step| step.name.clone()).collect(),
        };
    };
    let graph = graph(plan);
    let mut ends: Vec<Duration> = vec![Duration::ZERO; plan.steps.len()];
    let mut through: Vec<Option<usize>> = vec![None; plan.steps.len()];
    for place in &order {
        let before = graph
            .neighbors_directed(NodeIndex::new(*place), Direction::Incoming)
            .map(NodeIndex::index)
            .max_by_key(|before| (ends[*before], std::cmp::Reverse(*before)));
        let start = before.map_or(Duration::ZERO, |before| ends[before]);
        ends[*place] = start.saturating_add(duration_of(&plan.steps[*place]));
        through[*place] = before;
    }
    let mut at = order.iter().copied().max_by_key(|place| (ends[*place], std::cmp::Reverse(*place)));
    let total = at.map_or(Duration::ZERO, |place| ends[place]);
    let mut steps = Vec::new();
    while let Some(place) = at {
        steps.push(plan.steps[place].name.clone());
        at = through[place];
    }
    steps.reverse();
    CriticalPath { total, steps }
}

/// What comes after the recovery, or is done only while the primary still answers, is not part of it.
fn is_apart(plan: &Plan, step: &Step) -> bool {
    step.terms.post_recovery
        || step.terms.only_in == Some(RunKind::Graceful)
        || step.terms.drill == DrillPart::LeftOut
        || is_left_out(plan, step)
}

/// A plan made ready to be asked many times how long it takes.
pub(super) struct Paths {
    /// The places of the steps, each after those that it waits for.
    order: Vec<usize>,
    /// What each waits for.
    before: Vec<Vec<usize>>,
    apart: Vec<bool>,
}

impl Paths {
    /// Of a plan without a cycle; one with a cycle counts as all its steps one after the other.
    pub(super) fn of(plan: &Plan) -> Self {
        let apart = plan.steps.iter().map(|step| is_apart(plan, step)).collect();
        let Ok(order) = topological(plan) else {
            let before = (0..plan.steps.len()).map(|place| place.checked_sub(1).into_iter().collect()).collect();
            return Self { order: (0..plan.steps.len()).collect(), before, apart };
        };
        let graph = graph(plan);
        let before = (0..plan.steps.len()).map(|place| {
            let of = graph.neighbors_directed(NodeIndex::new(place), Direction::Incoming);
            of.map(NodeIndex::index).collect()
        });
        Self { order, before: before.collect(), apart }
    }

    /// The longest chain, where `duration_of` tells how long the step at a place takes.
    pub(super) fn longest(&self, mut duration_of: impl FnMut(usize) -> Duration) -> Duration {
        let mut ends = vec![Duration::ZERO; self.order.len()];
        for place in &self.order {
            let start = self.before[*place].iter().map(|before| ends[*before]).max().unwrap_or_default();
            let took = if self.apart[*place] { Duration::ZERO } else { duration_of(*place) };
            ends[*place] = start.saturating_add(took);
        }
        ends.into_iter().max().unwrap_or_default()
    }
}

/// Do the plan's parameters, as they are given or by default, leave the step out?
fn is_left_out(plan: &Plan, step: &Step) -> bool {
    let given = |name: &str| plan.parameters.iter().find(|parameter| parameter.name == name)?.value.as_ref();
    step.terms.when.iter().any(|guard| {
        let StepGuard::Parameter { value, is, .. } = guard else { return false };
        let known = match Reference::of(value) {
            None => Some(value),
            Some(Reference::Parameter(name)) => given(&name),
            Some(_) => None,
        };
        known.is_some_and(|known| !is.contains(known))
    })
}

/// Every step that comes before the step, directly or not.
pub fn ancestors(plan: &Plan, step: &StepName) -> BTreeSet<StepName> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&StepName> = plan.step(step).map(|step| step.after.iter().collect()).unwrap_or_default();
    while let Some(name) = open.pop() {
        if seen.insert(name.clone())
            && let Some(step) = plan.step(name)
        {
            open.extend(&step.after);
        }
    }
    seen
}

/// How long it takes at most, from the moment in which the outage begins, until the condition
/// holds: the detection budget (L1).
///
/// One probe needs the wait for its next attempt, the confirmations, and the timeout of the last one,
/// which may hang. All of several need the slowest, any of them the
/// quickest, `at_least` as many of the quickest as weigh enough.
pub fn detection_budget(settings: &Settings, condition: &Condition) -> Duration {
    budget(settings, condition, false)
}

/// What a recovery takes at most, term by term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryBudget {
    /// Until the condition holds: [`detection_budget`].
    pub detection: Duration,
    /// The scenario's `confirm_for`.
    pub confirmation: Duration,
    /// The grace of the lower layers, which runs beside the confirmation.
    pub grace: Duration,
    /// After both, at most: [`correlation_budget`].
    pub correlation: Duration,
    /// The last look before the first change, at most: [`look_budget`].
    pub look: Duration,
    /// Which plan.
    pub plan_name: PlanName,
    /// Its longest chain, as estimated.
    pub plan: CriticalPath,
    /// The same with the safety factor of the policy.
    pub plan_with_safety: Duration,
    /// The sum; to be held against the RTO.
    pub total: Duration,
}

/// What the scenario's recovery takes at most, from the estimates of its plan's steps. `None`
/// where it has no plan.
pub fn recovery_budget(settings: &Settings, scenario: &ScenarioSettings) -> Option<RecoveryBudget> {
    let plan = settings.plan(scenario.plan.as_ref()?)?;
    let detection = detection_budget(settings, &scenario.when);
    let confirmation = scenario.confirm_for.get();
    let path = critical_path(plan, |step| step.estimate.get());
    let plan_with_safety = path.total.saturating_mul(settings.safety_percent) / 100;
    let grace = scenario.lower_layers_first.as_ref().map(|lower| lower.grace.get()).unwrap_or_default();
    let correlation = correlation_budget(settings, scenario);
    let waits = confirmation.max(grace).saturating_add(correlation);
    let look = look_budget(settings, scenario);
    let total = detection.saturating_add(waits).saturating_add(look).saturating_add(plan_with_safety);
    let plan_name = plan.name.clone();
    let plan = path;
    Some(RecoveryBudget { detection, confirmation, grace, correlation, look, plan_name, plan, plan_with_safety, total })
}

/// What the last look before the first change takes at most: a primary that hangs is waited for once
/// more, for the whole timeout of its slowest probe.
pub fn look_budget(settings: &Settings, scenario: &ScenarioSettings) -> Duration {
    let asked = scenario.when.wanted_down();
    let timeouts = asked.iter().filter_map(|probe| settings.probe(probe)).map(|probe| probe.timeout.get());
    timeouts.max().unwrap_or_default()
}

/// `negated`: until the condition does not hold.
fn budget(settings: &Settings, condition: &Condition, negated: bool) -> Duration {
    match condition {
        Condition::Probe(subject) => {
            settings.probe(&subject.probe).map_or(Duration::MAX, |probe| probe_budget(probe, subject.is, negated))
        }
        Condition::Not(inner) => budget(settings, inner, !negated),
        // De Morgan: "not all" is "any not".
        Condition::All(of) | Condition::Any(of) => {
            let bounds = of.iter().map(|part| budget(settings, part, negated));
            let all = matches!(condition, Condition::All(_)) != negated;
            if all { bounds.max().unwrap_or(Duration::ZERO) } else { bounds.min().unwrap_or(Duration::MAX) }
        }
        Condition::AtLeast { weight, of } => {
            let total: u64 = of.iter().map(|part| u64::from(part.weight)).sum();
            // It stops holding once what is left weighs less than the threshold.
            let needed = if negated { (total + 1).saturating_sub(u64::from(*weight)) } else { u64::from(*weight) };
            let mut bounds: Vec<(Duration, u64)> =
                of.iter().map(|part| (budget(settings, &part.condition, negated), u64::from(part.weight))).collect();
            bounds.sort_unstable();
            let mut sum = 0;
            if needed == 0 {
                return Duration::ZERO;
            }
            for (bound, weight) in bounds {
                sum += weight;
                if sum >= needed {
                    return bound;
                }
            }
            Duration::MAX
        }
    }
}

/// How long one probe needs until its vote is `is` (or, `negated`, is not any more).
fn probe_budget(probe: &ProbeSettings, is: Is, negated: bool) -> Duration {
    // What is computed from the looks of others takes as long as it takes to show there.
    let (crossed, forgotten) =
        probe.window.as_ref().map(|window| (window.crossed_after(), window.forgotten_after())).unwrap_or_default();
    let fall = fall_budget(probe).saturating_add(crossed);
    let rise = probe.interval.get().saturating_mul(probe.rise).saturating_add(probe.timeout.get());
    let rise = rise.saturating_add(forgotten);
    let unknown = probe.max_age.get().max(probe.interval.get().saturating_add(probe.timeout.get()));
    match (is, negated) {
        (Is::Down | Is::Degraded, false) | (Is::Up, true) => fall,
        (Is::Up, false) | (Is::Down, true) => rise,
        (Is::Unknown, false) => unknown,
        (Is::Unknown | Is::Degraded, true) => fall.max(rise),
    }
}

/// How long a probe needs at most to fall, from the moment in which its target begins to hang or to
/// refuse. Walks through the starts of its attempts as the runner paces them, each as late as can be:
///
/// - The first comes an interval after the last one that was answered.
/// - The fast pace begins with the first report, which a target that hangs gives only after the
///   timeout. Until then each start comes an interval after the last one.
/// - From there on each comes a `fast_interval` after the last, while others still run. A start above
///   [`MOST_IN_FLIGHT`] of them is skipped, so that the next one waits for the end of the oldest and
///   for its turn at the fast pace.
///
/// Where a target hangs for one attempt and refuses the next, before the first has ended, the first is
/// too late to count; with a timeout below the fast interval that cannot be.
pub(super) fn fall_budget(probe: &ProbeSettings) -> Duration {
    /// So many are walked through; who asks for more bad answers than that gets a rougher bound.
    const WALKED: u32 = 1000;
    let (interval, fast, timeout) = (probe.interval.get(), probe.fast_interval.get(), probe.timeout.get());
    let doubted = interval.saturating_add(timeout);
    let mut running = VecDeque::from([interval]);
    let mut last = interval;
    for _ in 1..probe.fall.min(WALKED) {
        last = last.saturating_add(interval).min(last.saturating_add(fast).max(doubted));
        if running.len() == MOST_IN_FLIGHT
            && let Some(oldest) = running.pop_front()
        {
            last = last.max(oldest.saturating_add(timeout).saturating_add(fast));
        }
        running.push_back(last);
    }
    let rest = probe.fall.saturating_sub(WALKED);
    let slowest = interval.max(timeout.saturating_add(fast));
    last.saturating_add(slowest.saturating_mul(rest)).saturating_add(timeout)
}

/// How long a step is expected to take where neither a run nor the configuration has told.
/// `timeout` is the step's: nothing is expected to take longer.
pub fn default_estimate(work: &Work, timeout: HumanDuration) -> HumanDuration {
    /// An Up vote may need some attempts after the hold.
    const LOOKS: Duration = Duration::from_secs(5);
    let expected = match work {
        Work::Wait { duration } => return *duration,
        // A person may take as long as the step allows.
        Work::Approval { .. } | Work::Task { .. } => return timeout,
        Work::Gather { .. } => return HumanDuration::ZERO,
        Work::VerifyProbe { hold, .. } => HumanDuration(hold.get().saturating_add(LOOKS)),
        Work::Action(spec) => spec.estimate,
    };
    expected.min(timeout)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
