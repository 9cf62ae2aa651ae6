//! Plans: a DAG of steps with one point of no return.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ids::{ActionKind, PlanHash, PlanName, ProbeName, RegionName, ServiceName, StepName};
use super::reference::{self, Given, Parameter, Reference};
use super::terms::Terms;
use super::time::HumanDuration;

/// A plan, checked: names are unique, `after` names steps of this plan, and there is no cycle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its name.
    pub name: PlanName,
    /// The steps, in the order written.
    pub steps: Vec<Step>,
    /// From the moment this step's intent is in the journal, the run goes forward or is parked;
    /// nothing is undone any more.
    pub point_of_no_return: Option<StepName>,
    /// What it is given when it is carried out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// The recovery-time objective where it is carried out by hand and no scenario names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto: Option<HumanDuration>,
}

impl Plan {
    /// The step of this name.
    pub fn step(&self, name: &StepName) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == *name)
    }

    /// The plan with these values of its parameters: none of them is left open.
    ///
    /// # Errors
    /// A parameter that there is not, a value of another kind, or one that is missing.
    pub fn with(&self, given: &Given) -> Result<Self, String> {
        let parameters = reference::give(&self.parameters, given)?;
        let value = |name: &str| parameters.iter().find(|parameter| parameter.name == name)?.value.clone();
        let mut fill = |reference: &Reference| match reference {
            Reference::Parameter(name) => {
                value(name).map(Some).ok_or_else(|| format!("the plan has no parameter `{name}`"))
            }
            Reference::Output { .. } | Reference::Join(_) | Reference::Item(_) => Ok(None),
        };
        let mut steps = self.steps.clone();
        for step in &mut steps {
            for guard in &mut step.terms.when {
                guard.give(&mut fill)?;
            }
            for value in step.terms.values.values_mut() {
                *value = reference::resolve(value, &mut fill)?;
            }
            if let Work::Action(spec) = &mut step.work {
                for (_, open) in Reference::all_in(&spec.params) {
                    let filled = reference::resolve(&open.to_value(), &mut fill)?;
                    let now = Reference::of(&filled).map_or_else(|| reference::shown(&filled), |rest| rest.to_string());
                    spec.target = spec.target.replace(&open.to_string(), &now);
                }
                spec.params = reference::resolve(&spec.params, &mut fill)?;
            }
        }
        Ok(Self { steps, parameters, ..self.clone() })
    }

    /// The values of parameters as somebody typed them: texts become what the parameter is.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn read(&self, typed: &Given) -> Result<Given, String> {
        let read = |(name, value): (&String, &serde_json::Value)| {
            let parameter = self.parameters.iter().find(|parameter| parameter.name == *name);
            let value = match (parameter, value.as_str()) {
                (Some(parameter), Some(text)) => {
                    parameter.kind.parse(text).map_err(|why| format!("the parameter `{name}`: {why}"))?
                }
                _ => value.clone(),
            };
            Ok((name.clone(), value))
        };
        typed.iter().map(read).collect()
    }

    /// SHA-256 of the plan's JSON. serde writes fields in their declared order and maps sorted, so
    /// that equal plans have equal hashes.
    pub fn hash(&self) -> PlanHash {
        let json = serde_json::to_vec(self).unwrap_or_default();
        let digest = Sha256::digest(&json);
        PlanHash::new(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }
}

/// One action with its place in the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name, unique in the plan.
    pub name: StepName,
    /// The steps that must have ended well before this one starts.
    pub after: Vec<StepName>,
    /// What it does.
    pub work: Work,
    /// For the whole step, from its first observation to its verification.
    pub timeout: HumanDuration,
    /// How often and how fast a refused or unfinished apply is tried again.
    pub retry: Retry,
    /// What happens when the step cannot be done.
    pub on_error: OnError,
    /// How long it is expected to take, until runs and drills have measured it.
    pub estimate: HumanDuration,
    /// When it is done at all.
    #[serde(default, skip_serializing_if = "Terms::are_none")]
    pub terms: Terms,
}

/// What a step does. What needs no outside call is done by the brain itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// An action of `src/actions`.
    Action(ActionSpec),
    /// Lets time pass.
    Wait {
        /// How long.
        duration: HumanDuration,
    },
    /// Waits for a person.
    Approval {
        /// What the person is asked.
        message: String,
    },
    /// Is done when enough of a group of steps are.
    Gather {
        /// The steps, which come before it.
        of: Vec<StepName>,
        /// So many of them have to be done.
        minimum: usize,
    },
    /// Hands a job to a person, and waits until it is done.
    Task {
        /// The job.
        message: String,
        /// Told again so often until it is done.
        remind: Option<HumanDuration>,
    },
    /// Waits until a probe has been Up for a while, seen by observations started within the step.
    VerifyProbe {
        /// The probe.
        probe: ProbeName,
        /// For how long without interruption.
        hold: HumanDuration,
    },
}

impl Work {
    /// The kind as written in the configuration: `rds.promote_read_replica`, `wait`, …
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::Action(spec) => spec.kind.clone(),
            Self::Wait { .. } => "wait".into(),
            Self::Approval { .. } => "approval".into(),
            Self::Gather { .. } => "gather".into(),
            Self::Task { .. } => "task".into(),
            Self::VerifyProbe { .. } => "verify.probe".into(),
        }
    }

    /// The action, where an outside call is needed.
    pub fn action(&self) -> Option<&ActionSpec> {
        match self {
            Self::Action(spec) => Some(spec),
            Self::Wait { .. }
            | Self::Approval { .. }
            | Self::Gather { .. }
            | Self::Task { .. }
            | Self::VerifyProbe { .. } => None,
        }
    }
}

/// An action with its parameters. Secrets are in it by reference only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionSpec {
    /// `family.verb`.
    pub kind: ActionKind,
    /// What it changes, for the guards.
    pub effect: EffectKind,
    /// How an unknown outcome is resolved.
    pub repeat: Repeat,
    /// One line for people: what it touches.
    pub target: String,
    /// The service whose writable copy it moves; `Some` exactly where `effect` is `Promote`.
    pub service: Option<ServiceName>,
    /// The region that it calls.
    pub region: Option<RegionName>,
    /// How long it is expected to take, until runs have measured it.
    pub estimate: HumanDuration,
    /// Which of the parameters are messages (JSON pointers into `params`): templates that are filled
    /// in when the step begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
    /// Does it make things that later steps need to be there?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub makes: bool,
    /// The parameters of `config::action`, as JSON. References in them are filled in when the run
    /// starts (parameters) and when the step begins (outputs of earlier steps).
    pub params: serde_json::Value,
}

/// What an action changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// Stops the old primary from taking writes.
    Fence,
    /// Makes a replica writable.
    Promote,
    /// Moves traffic.
    Route,
    /// Changes capacity.
    Scale,
    /// Looks only.
    Verify,
    /// Tells people; its failure never fails a run.
    Notify,
    /// Anything else.
    Call,
}

/// How an unknown outcome (timeout after send, 5xx, crash) is resolved. Never by blind retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// Observing tells whether it was done.
    ByObservation,
    /// It cannot be observed, and doing it twice does no harm (a notification).
    AtLeastOnce,
    /// It cannot be observed, and must not be done twice: an unknown outcome parks the run.
    Never,
}

/// Bounded, jittered retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// How often the apply may be tried in all; at least 1.
    #[serde(default = "Retry::default_attempts")]
    pub attempts: u32,
    /// The wait before the second attempt; doubled for each further one.
    #[serde(default = "Retry::default_backoff")]
    pub backoff: HumanDuration,
    /// The longest wait between two attempts.
    #[serde(default = "Retry::default_max_backoff")]
    pub max_backoff: HumanDuration,
}

impl Retry {
    fn default_attempts() -> u32 {
        5
    }
    fn default_backoff() -> HumanDuration {
        HumanDuration::millis(200)
    }
    fn default_max_backoff() -> HumanDuration {
        HumanDuration::secs(10)
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: Self::default_attempts(),
            backoff: Self::default_backoff(),
            max_backoff: Self::default_max_backoff(),
        }
    }
}

/// What happens when a step cannot be done (its retries are used up, or it is refused for good).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Page a person and wait for `resume`, `skip`, `retry` or `abort`.
    #[default]
    Park,
    /// Go on without it; what comes after it is done all the same.
    Continue,
    /// Before the point of no return: undo what was done, in reverse order. After it: park.
    Compensate,
}
