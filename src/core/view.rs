//! What people and programs are shown of the brain: plain data, made from it on demand.

use serde::{Deserialize, Serialize};

use super::evidence::Budget;
use super::scorecard::GradeCount;
use super::slo::ServiceLevel;
pub use super::view_members::{MemberView, MembershipView};
pub use super::view_people::{DutyView, EscalationView, NoticeState, NoticeView};
use crate::model::{
    Choice, Decision, Divergence, DrillTarget, DrillVerdict, Epoch, Extent, Facts, FailureDomain, Health,
    HumanDuration, IncidentId, Mode, PlanHash, PlanName, PlanReadiness, ProbeName, Readiness, RegionName, RunId,
    RunResult, ScenarioName, Severity, StepName, Truth, VantageId, WallTime, Writes, ZoneName,
};

/// Everything at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// The daemon's name.
    pub name: String,
    /// When this was true.
    pub at: WallTime,
    /// When the daemon began.
    pub started: WallTime,
    /// The mode that holds now.
    pub mode: Mode,
    /// Who set it at run time; `None` where it is the configuration's.
    pub mode_by: Option<String>,
    /// Who paused the daemon.
    pub paused_by: Option<String>,
    /// Until when it only looks, after a stall or a clock jump.
    pub tilt_until: Option<WallTime>,
    /// What is in doubt: storage, lease, clock.
    pub in_doubt: Option<String>,
    /// Nobody answers who would tell that it is not us who are cut off.
    pub isolated: bool,
    /// The highest epoch granted.
    pub epoch: Epoch,
    /// The vantages, our own first.
    #[serde(default)]
    pub vantages: Vec<VantageView>,
    /// The probes, in the order of the configuration.
    pub probes: Vec<ProbeView>,
    /// The scenarios, the most severe first.
    pub scenarios: Vec<ScenarioView>,
    /// The active run.
    pub run: Option<RunView>,
    /// What people still have to do for runs that have ended, the first due first.
    #[serde(default)]
    pub tasks: Vec<TaskView>,
    /// Who was told of the open incidents, and who has answered.
    #[serde(default)]
    pub escalations: Vec<EscalationView>,
    /// What people still have to do for incidents, the first due first.
    #[serde(default)]
    pub duties: Vec<DutyView>,
    /// How long the plans take, by what was measured.
    #[serde(default)]
    pub budgets: Vec<Budget>,
    /// How each service with an objective stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceLevel>,
    /// How many incidents alert-only mode would have acted in, by their grade.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scorecard: Vec<GradeCount>,
    /// Whether each plan could be carried out, as it was last looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readiness: Vec<PlanReadinessView>,
    /// Of several daemons: who leads, and who is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<MembershipView>,
}

/// Everything that was looked at for readiness.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReadinessView {
    /// How many rounds over all plans were ended in this life of the daemon; 0: nothing is known yet.
    pub rounds: u64,
    /// Is a round under way?
    pub evaluating: bool,
    /// The plans, as the last round found them.
    pub plans: Vec<PlanReadiness>,
}

/// Somebody has asked for a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessAsked {
    /// The round that will tell: [`ReadinessView::rounds`] once it has ended.
    pub round: u64,
}

/// Whether a plan could be carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanReadinessView {
    /// Which.
    pub plan: PlanName,
    /// When it was looked at.
    pub at: WallTime,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Readiness,
    /// How many findings are ready, not ready, unknown.
    pub findings: [usize; 3],
    /// How many steps cannot be looked at before the run.
    pub later: usize,
    /// How many facts are not what they were when it was last ready.
    pub drift: usize,
}

impl From<&PlanReadiness> for PlanReadinessView {
    fn from(of: &PlanReadiness) -> Self {
        let count = |name: &str| of.findings().filter(|(_, finding)| finding.verdict.name() == name).count();
        Self {
            plan: of.plan.clone(),
            at: of.at,
            verdict: of.verdict.clone(),
            findings: ["ready", "not_ready", "unknown"].map(count),
            later: of.later(),
            drift: of.drift.len(),
        }
    }
}

impl StatusView {
    /// Who would tell that it is not us who are cut off.
    pub fn tellers(&self) -> &'static str {
        let by_witnesses = self.vantages.len() > 1 && !self.probes.iter().any(|probe| probe.anchor);
        if by_witnesses { "the witnesses" } else { "the anchors" }
    }
}

/// One vantage, and what it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VantageView {
    /// Its name.
    pub name: VantageId,
    /// What fails together with it.
    pub domain: FailureDomain,
    /// Is it this daemon?
    pub own: bool,
    /// When it last said anything; `None`: never in this life of the daemon.
    pub heard: Option<WallTime>,
    /// It has said nothing for so long that votes of it have expired.
    pub silent: bool,
    /// How many of its fresh votes say up.
    pub up: usize,
    /// How many say down.
    pub down: usize,
    /// How many say that it could not look.
    pub unknown: usize,
}

/// A task that is open although its run has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its run.
    pub run: RunId,
    /// Its step.
    pub step: StepName,
    /// The job.
    pub message: String,
    /// Until when.
    pub due: Option<WallTime>,
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeView {
    /// Its name.
    pub name: ProbeName,
    /// Its target's region.
    pub region: Option<RegionName>,
    /// Its target's zone.
    #[serde(default)]
    pub zone: Option<ZoneName>,
    /// Is it an anchor?
    pub anchor: bool,
    /// The verdict as health: Inconclusive is Unknown.
    pub health: Health,
    /// It is Up, but not well.
    #[serde(default)]
    pub degraded: bool,
    /// Why, in one line; empty when Up and well.
    pub why: String,
    /// Since when our own vote says so.
    pub since: Option<WallTime>,
    /// When the newest attempt was started.
    pub last_seen: Option<WallTime>,
    /// The latency of the newest good attempt, in milliseconds.
    pub latency_ms: Option<f64>,
    /// What the target said of itself.
    pub facts: Option<Facts>,
    /// Is it probed at the fast interval?
    pub fast: bool,
    /// It flaps, and is held back until then if it changes no more.
    #[serde(default)]
    pub flapping_until: Option<WallTime>,
}

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioView {
    /// Its name.
    pub name: ScenarioName,
    /// Its severity.
    pub severity: Severity,
    /// The mode that holds for it now.
    pub mode: Mode,
    /// The condition, in words.
    pub condition: String,
    /// Does it hold?
    pub truth: Truth,
    /// The open incident.
    pub incident: Option<IncidentId>,
    /// How far its outage has reached.
    #[serde(default)]
    pub extent: Option<Extent>,
    /// Why it is this one that may act, where others hold at the same time.
    #[serde(default)]
    pub choice: Option<Choice>,
    /// What policy says; `None` while the condition does not hold.
    pub decision: Option<Decision>,
    /// Each guard: why it does not act now, and what would make it act, and when.
    pub guards: Vec<GuardView>,
    /// The plan.
    pub plan: Option<PlanName>,
    /// The hash of the plan as it is now: an approval that names it binds to it.
    #[serde(default)]
    pub plan_hash: Option<PlanHash>,
    /// The recovery-time objective.
    pub rto: HumanDuration,
    /// The recovery-point objective.
    pub rpo: Option<HumanDuration>,
    /// The plan's critical path.
    pub budget: HumanDuration,
    /// The loss of data predicted now; `None` where unknown or no data is moved.
    pub predicted_loss: Option<HumanDuration>,
    /// How much that is, as far as the primary told before it fell.
    #[serde(default)]
    pub predicted_writes: Writes,
    /// What waiting costs, and what failing over would cost; empty while nothing is down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stakes: Vec<String>,
    /// The first bad observation.
    pub outage_start: Option<WallTime>,
    /// `outage_start + rto`.
    pub deadline: Option<WallTime>,
    /// `deadline − budget × safety`.
    pub decide_by: Option<WallTime>,
}

/// One guard of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardView {
    /// Its stable name.
    pub name: String,
    /// Does it let the scenario act?
    pub passes: bool,
    /// In one line.
    pub detail: String,
    /// When time alone will let it pass.
    pub until: Option<WallTime>,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentView {
    /// Its id.
    pub id: IncidentId,
    /// Its scenario.
    pub scenario: ScenarioName,
    /// Its severity.
    pub severity: Severity,
    /// The first bad observation.
    pub outage_start: WallTime,
    /// How far the outage reached at most.
    #[serde(default)]
    pub extent: Option<Extent>,
    /// When the condition began to hold.
    pub opened: WallTime,
    /// When it ended.
    pub closed: Option<WallTime>,
    /// Who has seen it.
    pub acknowledged_by: Option<String>,
    /// The newest decision.
    pub decision: Option<Decision>,
    /// The question that waits for an answer.
    pub approval: Option<ApprovalView>,
    /// Its run.
    pub run: Option<RunId>,
    /// What happened, in order.
    pub timeline: Vec<TimelineView>,
}

/// A question to a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// What would be carried out.
    pub plan_hash: PlanHash,
    /// Under which epoch.
    pub epoch: Epoch,
    /// The last moment to answer.
    pub until: WallTime,
    /// How many persons have to say yes.
    #[serde(default = "one")]
    pub needed: u32,
    /// Who has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<String>,
}

fn one() -> u32 {
    1
}

/// One line of a timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelineView {
    /// When.
    pub at: WallTime,
    /// What.
    pub text: String,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// Its id.
    pub id: RunId,
    /// Its scenario.
    pub scenario: ScenarioName,
    /// Its incident.
    pub incident: Option<IncidentId>,
    /// Its plan.
    pub plan: PlanName,
    /// The hash of its plan.
    pub plan_hash: PlanHash,
    /// Its epoch.
    pub epoch: Epoch,
    /// What started it, in words.
    pub trigger: String,
    /// The first bad observation.
    pub outage_start: WallTime,
    /// `outage_start + rto`.
    pub deadline: WallTime,
    /// The loss of data predicted when it began; `None` where it was unknown.
    #[serde(default)]
    pub predicted_loss: Option<HumanDuration>,
    /// How much that is.
    #[serde(default)]
    pub predicted_writes: Writes,
    /// What was really lost, as the old primaries told when they were seen again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured_loss: Vec<Divergence>,
    /// When it began.
    pub started: WallTime,
    /// When it ended.
    pub ended: Option<WallTime>,
    /// How.
    pub result: Option<RunResult>,
    /// Who or what aborts it.
    pub aborting_by: Option<String>,
    /// Is it past its point of no return?
    pub past_no_return: bool,
    /// Does it wait for the last look at the primary?
    pub last_look: bool,
    /// Its steps, in the order of the plan.
    pub steps: Vec<StepView>,
    /// Where the time went.
    pub split: SplitView,
    /// Of a drill: where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill_on: Option<DrillTarget>,
    /// Of a drill that was judged: what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<DrillVerdict>,
    /// Of a drill that gave way to another run: to what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<String>,
}

/// Where the time of a run went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitView {
    /// From the first bad observation to the incident.
    pub detect: HumanDuration,
    /// From the incident to the run.
    pub decide: HumanDuration,
    /// From the run's start to the end of its last changing step.
    pub execute: HumanDuration,
    /// From there to the run's end.
    pub verify: HumanDuration,
}

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// Its name.
    pub name: StepName,
    /// What kind, `family.verb`.
    pub kind: String,
    /// What it touches, in one line.
    pub target: String,
    /// What comes before it.
    pub after: Vec<StepName>,
    /// Where it stands.
    pub state: StepStateView,
    /// How often it was applied.
    pub attempts: u32,
    /// When it began, in this life of the daemon.
    pub started: Option<WallTime>,
    /// When it ended.
    pub ended: Option<WallTime>,
    /// How long it took.
    pub took: Option<HumanDuration>,
    /// How long it was expected to take.
    pub estimate: HumanDuration,
    /// What was seen, or why it failed or waits.
    pub detail: String,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStateView {
    /// Waits for those before it.
    Pending,
    /// Looks whether it is done already.
    Observing,
    /// Waits for the last look at the primary, a pause, or a retry.
    Waiting,
    /// Makes the change.
    Applying,
    /// Waits until the change is seen.
    Verifying,
    /// Waits for a person.
    Parked,
    /// Done.
    Done,
    /// Was done before.
    AlreadyDone,
    /// Failed, and the run goes on or undoes.
    Failed,
    /// Left out.
    Skipped,
    /// Undone.
    Compensated,
}

impl StepStateView {
    /// Will it change no more?
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::AlreadyDone | Self::Failed | Self::Skipped | Self::Compensated)
    }
}
