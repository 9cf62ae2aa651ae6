//! Readiness: a plan looked at without doing it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::{ActionKind, PlanHash, PlanName, RegionName, StepName};
use super::step::Observed;
use super::time::{HumanDuration, WallTime};

/// What is asked of a thing that a plan touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// It is there, and can be looked at.
    Exists,
    /// It is what the plan thinks: a replica of that primary, a standby, a record that can be changed.
    Matches,
    /// It answers, with a certificate that its clients will take.
    Serves,
    /// We may do to it what the plan wants.
    Permitted,
    /// It is young enough: replication, a backup, a certificate.
    Fresh,
    /// There is room for what the plan wants.
    Capacity,
    /// It does not hang on the region that would be lost.
    Independent,
}

impl Aspect {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::Matches => "matches",
            Self::Serves => "serves",
            Self::Permitted => "permitted",
            Self::Fresh => "fresh",
            Self::Capacity => "capacity",
            Self::Independent => "independent",
        }
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Three-valued: what could not be looked at is never ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Readiness {
    /// It was looked at, and is as it should be.
    Ready,
    /// It was looked at, and is not.
    NotReady {
        /// What is wrong with it, and where there is something to do, what.
        reason: String,
    },
    /// It could not be looked at.
    Unknown {
        /// Why not.
        reason: String,
    },
}

impl Readiness {
    /// Its name, as in JSON; also the metric label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NotReady { .. } => "not_ready",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// Why it is not ready; empty where it is.
    pub fn reason(&self) -> &str {
        match self {
            Self::Ready => "",
            Self::NotReady { reason } | Self::Unknown { reason } => reason,
        }
    }
}

/// What was found of one thing in one respect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The thing, in one line without a secret.
    pub subject: String,
    /// In which respect.
    pub aspect: Aspect,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Readiness,
    /// What was seen of it and ought to stay so: compared with the last good evaluation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<String, String>,
    /// What was measured and moves all the time: ages, lags. Never compared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measured: BTreeMap<String, String>,
}

impl Finding {
    /// A finding without facts.
    pub fn new(subject: impl Into<String>, aspect: Aspect, verdict: Readiness) -> Self {
        Self { subject: subject.into(), aspect, verdict, seen: BTreeMap::new(), measured: BTreeMap::new() }
    }

    /// As it should be.
    pub fn ready(subject: impl Into<String>, aspect: Aspect) -> Self {
        Self::new(subject, aspect, Readiness::Ready)
    }

    /// Not as it should be.
    pub fn not_ready(subject: impl Into<String>, aspect: Aspect, reason: impl Into<String>) -> Self {
        Self::new(subject, aspect, Readiness::NotReady { reason: reason.into() })
    }

    /// It could not be looked at.
    pub fn unknown(subject: impl Into<String>, aspect: Aspect, reason: impl Into<String>) -> Self {
        Self::new(subject, aspect, Readiness::Unknown { reason: reason.into() })
    }

    /// Ready, unless something is wrong.
    pub fn judged(subject: impl Into<String>, aspect: Aspect, wrong: Option<String>) -> Self {
        let verdict = wrong.map_or(Readiness::Ready, |reason| Readiness::NotReady { reason });
        Self::new(subject, aspect, verdict)
    }

    /// With a fact that ought to stay so.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.seen.insert(key.to_owned(), value.to_string());
        self
    }

    /// With a figure that moves.
    #[must_use]
    pub fn measuring(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.measured.insert(key.to_owned(), value.to_string());
        self
    }

    /// What an observation of an action means where nothing more is known of it.
    pub fn observed(subject: &str, observed: Observed) -> Self {
        let found = |state: &str, evidence: String| {
            Self::ready(subject, Aspect::Exists).with("state", state).measuring("evidence", evidence)
        };
        match observed {
            Observed::Done { evidence } => found("done", evidence),
            Observed::NotDone { evidence, .. } => found("not done", evidence),
            Observed::InProgress { evidence } => found("in progress", evidence),
            Observed::Unobservable => {
                Self::unknown(subject, Aspect::Exists, "nothing tells beforehand whether this can be done")
            }
            Observed::Unknown { reason } => Self::unknown(subject, Aspect::Exists, reason),
            Observed::Impossible { reason } => Self::not_ready(subject, Aspect::Exists, reason),
        }
    }
}

/// What a step, or the daemon itself, hangs on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dependency {
    /// In which way.
    pub kind: DependencyKind,
    /// Its name: a host, a service.
    pub name: String,
    /// Where it is.
    pub place: Place,
}

/// In which way something hangs on something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependencyKind {
    /// It is called there.
    Endpoint,
    /// From there come the credentials.
    Credentials,
    /// The name of what is called is resolved there.
    Dns,
    /// The state is kept there.
    State,
}

impl fmt::Display for DependencyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Endpoint => "endpoint",
            Self::Credentials => "credentials",
            Self::Dns => "DNS",
            Self::State => "state",
        })
    }
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In a region.
    Region(RegionName),
    /// On this host.
    Here,
    /// In several regions at once: no single one takes it along.
    Anywhere,
    /// Nobody has said.
    Unsaid,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => f.pad(region.as_str()),
            Self::Here => f.pad("this host"),
            Self::Anywhere => f.pad("anywhere"),
            Self::Unsaid => f.pad("not said"),
        }
    }
}

/// What was looked at of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Looked {
    /// These were found.
    Found(Vec<Finding>),
    /// It works on what an earlier step or a parameter brings: there is nothing to look at before.
    Later {
        /// What it waits for.
        why: String,
    },
    /// The brain does it itself: a wait, a question, a group.
    Own,
    /// It is left out.
    LeftOut {
        /// Why.
        why: String,
    },
}

impl Looked {
    /// What was found, if anything.
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Found(findings) => findings,
            Self::Later { .. } | Self::Own | Self::LeftOut { .. } => &[],
        }
    }
}

/// A step, looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReadiness {
    /// Which.
    pub step: StepName,
    /// `family.verb`.
    pub kind: ActionKind,
    /// What came of it.
    pub looked: Looked,
}

/// A plan, looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReadiness {
    /// Which.
    pub plan: PlanName,
    /// Exactly which.
    pub hash: PlanHash,
    /// When.
    pub at: WallTime,
    /// For how long.
    pub took: HumanDuration,
    /// All of it in one word; the reason is that of the first finding that stands in the way.
    #[serde(flatten)]
    pub verdict: Readiness,
    /// The steps, in the plan's order.
    pub steps: Vec<StepReadiness>,
    /// What no single step has: the standbys' lag, what is watched at the targets.
    pub general: Vec<Finding>,
    /// The regions that would be lost where this plan is needed.
    #[serde(default)]
    pub lost: Vec<RegionName>,
    /// The dependency proof: everything that the plan hangs on, and whether those regions take it along.
    pub proof: Vec<Finding>,
    /// When it was last ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<WallTime>,
    /// What is different from then.
    #[serde(default)]
    pub drift: Vec<Drift>,
}

impl PlanReadiness {
    /// Every finding, with its step.
    pub fn findings(&self) -> impl Iterator<Item = (Option<&StepName>, &Finding)> {
        let steps = self
            .steps
            .iter()
            .flat_map(|step| step.looked.findings().iter().map(move |finding| (Some(&step.step), finding)));
        steps.chain(self.general.iter().chain(&self.proof).map(|finding| (None, finding)))
    }

    /// How many steps cannot be looked at before the run.
    pub fn later(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step.looked, Looked::Later { .. })).count()
    }
}

/// A fact that is not what it was when the plan was last ready.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Drift {
    /// Of which step.
    pub step: Option<StepName>,
    /// Of what.
    pub subject: String,
    /// Which fact.
    pub fact: String,
    /// What it was.
    pub was: Option<String>,
    /// What it is.
    pub is: Option<String>,
}
