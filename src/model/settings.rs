//! The checked settings that the brain decides by. `config` makes them out of text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::drill::Drills;
use super::health::{CauseKind, Meaning};
use super::ids::{
    FailureDomain, PlanName, ProbeName, RegionName, ScenarioName, ServiceName, TargetHash, VantageId, ZoneName,
};
use super::plan::Plan;
use super::policy::{Mode, OnNoAnswer, OnSilentWitnesses, Severity};
use super::severity::SeveritySettings;
use super::slo::ServiceSettings;
use super::time::HumanDuration;
use super::window::WindowSettings;

/// Everything the brain has to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The name of this daemon, and of its own vantage.
    pub name: VantageId,
    /// The failure domain of its own vantage.
    pub domain: FailureDomain,
    /// The mode of the whole daemon, unless another one was set at run time; a scenario can only be
    /// more careful.
    pub mode: Mode,
    /// How many vantages of distinct failure domains must agree on a verdict; at least 1.
    pub quorum: u32,
    /// The other vantages that are asked for their votes.
    #[serde(default)]
    pub witnesses: Vec<WitnessSettings>,
    /// What happens where those that are silent are missing in the quorum.
    #[serde(default)]
    pub on_silent_witnesses: OnSilentWitnesses,
    /// How a probe that changes its health again and again is held back; `None`: it is not.
    #[serde(default)]
    pub flap_damping: Option<FlapDamping>,
    /// Nothing is started for this long after the start.
    pub startup_grace: HumanDuration,
    /// Nothing is started for this long after a run of the same service ended.
    pub cool_down: HumanDuration,
    /// At most `failover_limit` runs are started within `failover_window`.
    pub failover_limit: u32,
    /// See `failover_limit`.
    pub failover_window: HumanDuration,
    /// After a clock jump or a stall, votes are dropped and nothing is started for this long.
    pub tilt_for: HumanDuration,
    /// `decide_by = deadline − budget × safety`, in percent; at least 100.
    pub safety_percent: u32,
    /// The probes.
    pub probes: Vec<ProbeSettings>,
    /// The probes that are Up unless we are cut off ourselves, and how many of them have to be.
    pub anchors: Vec<ProbeName>,
    /// See `anchors`; 0 where there are no anchors.
    pub anchors_at_least: u32,
    /// The severities, as declared; empty where they are only words.
    #[serde(default)]
    pub severities: Vec<SeveritySettings>,
    /// The services that something was promised of.
    #[serde(default)]
    pub services: Vec<ServiceSettings>,
    /// The scenarios, the most severe first.
    pub scenarios: Vec<ScenarioSettings>,
    /// The plans.
    pub plans: Vec<Plan>,
    /// The scenario that SIGUSR1 carries out.
    pub manual_scenario: Option<ScenarioName>,
    /// The rehearsals of the plans.
    #[serde(default)]
    pub drills: Drills,
}

impl Settings {
    /// The plan of this name.
    pub fn plan(&self, name: &PlanName) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.name == *name)
    }

    /// What a severity promises, where it is declared.
    pub fn severity(&self, name: &Severity) -> Option<&SeveritySettings> {
        self.severities.iter().find(|severity| severity.name == *name)
    }

    /// The scenario of this name.
    pub fn scenario(&self, name: &ScenarioName) -> Option<&ScenarioSettings> {
        self.scenarios.iter().find(|scenario| scenario.name == *name)
    }

    /// The probe of this name.
    pub fn probe(&self, name: &ProbeName) -> Option<&ProbeSettings> {
        self.probes.iter().find(|probe| probe.name == *name)
    }
}

/// Route flap damping (RFC 2439), for probes: each change of a verdict costs a penalty, which decays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlapDamping {
    /// In so long a penalty halves.
    pub half_life: HumanDuration,
    /// Above this penalty a probe is held back; each change adds 1000.
    pub suppress: u32,
    /// Below this penalty it no longer is.
    pub reuse: u32,
    /// It is held back for no longer than this after its last change.
    pub max_suppress: HumanDuration,
    /// Nor is one that has been down for so long without interruption: that is an outage.
    pub steady_for: HumanDuration,
}

impl FlapDamping {
    /// The highest penalty: from it, it decays to the reuse threshold within `max_suppress`.
    pub fn ceiling(&self) -> f64 {
        let halvings = self.max_suppress.get().as_secs_f64() / self.half_life.get().as_secs_f64();
        f64::from(self.reuse) * halvings.exp2()
    }

    /// Is the highest penalty one that nobody is held back for?
    pub fn never_suppresses(&self) -> bool {
        self.ceiling() <= f64::from(self.suppress)
    }
}

/// What the brain knows of another vantage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessSettings {
    /// Its name.
    pub name: VantageId,
    /// What fails together with it: the name of its region, where it stands in one.
    pub domain: FailureDomain,
}

/// What the brain knows of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeSettings {
    /// Its name.
    pub name: ProbeName,
    /// Where its target is.
    pub region: Option<RegionName>,
    /// In which zone of it.
    #[serde(default)]
    pub zone: Option<ZoneName>,
    /// What is asked of whom: what was seen of one target says nothing of another, and a reload may
    /// keep the name.
    pub target: TargetHash,
    /// From start to start.
    pub interval: HumanDuration,
    /// From start to start while in doubt (a bad observation that has not fallen yet, or a last look).
    pub fast_interval: HumanDuration,
    /// For a whole attempt.
    pub timeout: HumanDuration,
    /// So many bad observations in a row make it Down.
    pub fall: u32,
    /// So many good observations in a row make it Up again.
    pub rise: u32,
    /// A vote whose newest observation was started longer ago does not count.
    pub max_age: HumanDuration,
    /// What the owner says that causes mean; the others mean what the probe's kind says.
    #[serde(default)]
    pub causes: BTreeMap<CauseKind, Meaning>,
    /// It asks nobody, and is computed from what other probes saw.
    #[serde(default)]
    pub window: Option<Box<WindowSettings>>,
}

/// What the brain knows of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioSettings {
    /// Its name.
    pub name: ScenarioName,
    /// In the owner's words.
    pub severity: Severity,
    /// The service that it moves; cool-down and "one active run" are per service.
    pub service: ServiceName,
    /// Its own mode; `auto` where it has none, and the daemon's mode decides. Of the two the more
    /// careful one holds.
    pub mode: Mode,
    /// What is done when nobody answers.
    pub on_no_answer: OnNoAnswer,
    /// So many persons have to approve, and no fewer can fail over by hand; at least 1.
    #[serde(default = "one")]
    pub approvals: u32,
    /// It trips while this holds.
    pub when: Condition,
    /// It does not act while one of these holds or cannot be told.
    pub unless: Vec<Condition>,
    /// It acts only while each of these holds: the backup is healthy.
    pub requires: Vec<Condition>,
    /// The condition must have held for this long.
    pub confirm_for: HumanDuration,
    /// What is below it may mend the outage by itself first.
    #[serde(default)]
    pub lower_layers_first: Option<LowerLayers>,
    /// The recovery-time objective.
    pub rto: HumanDuration,
    /// The recovery-point objective; `None` where no data is moved.
    pub rpo: Option<HumanDuration>,
    /// Where the predicted loss is read from; all of them have to meet the RPO.
    pub replication: Vec<ReplicationPair>,
    /// Does a standby that still hears from its primary veto that it is down?
    #[serde(default = "yes")]
    pub ask_replicas: bool,
    /// What is carried out; `None` alerts only.
    pub plan: Option<PlanName>,
    /// What brings the service back once its region is well again; only ever by hand.
    #[serde(default)]
    pub failback: Option<PlanName>,
}

/// A failover below ours that may mend the outage by itself: Multi-AZ, Sentinel, Patroni.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LowerLayers {
    /// So long from the first bad observation on it may take.
    pub grace: HumanDuration,
    /// What it is, in the owner's words.
    pub layer: String,
}

/// A standby and the primary that it follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationPair {
    /// The probe that measures the standby's lag.
    pub standby: ProbeName,
    /// The probe that tells whether the primary's commits wait for the standby.
    pub primary: Option<ProbeName>,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}
