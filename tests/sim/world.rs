//! The targets that steps act on, with an honest state; and what can go wrong between us and them.

use std::collections::{BTreeMap, BTreeSet};

use failoverd::model::*;
use serde_json::{Value, json};

use crate::rng::Rng;
use crate::trace::Violation;

/// One thing that a step changes.
#[derive(Clone, Debug, Default)]
struct Target {
    changed: bool,
    /// A change was taken and is under way.
    under_way: bool,
    /// The highest epoch that it has seen; lower ones are refused.
    epoch: Epoch,
    /// The highest term of a daemon that changed it.
    term: Term,
    /// It was as it is not now until then: what a stale answer says.
    was: Option<(bool, u64)>,
}

/// What becomes of a call that changes something.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It happens, and the answer says so.
    Fine,
    /// It happens, and the answer is lost on the way: a timeout after the send, a 5xx.
    UnknownDone,
    /// It does not happen, and nobody can tell.
    UnknownNotDone,
    /// Nobody can tell, and it happens much later.
    UnknownLate,
    /// Throttled.
    RefusedNow,
    /// Refused for good.
    Refused,
    /// The permit was refused.
    NotPermitted,
    /// The answer never comes; it happened.
    SilentDone,
    /// The answer never comes; it did not happen.
    SilentNotDone,
    /// The answer comes when nobody waits for it any more.
    TooLate,
}

pub const FATES: [Fate; 10] = [
    Fate::Fine,
    Fate::UnknownDone,
    Fate::UnknownNotDone,
    Fate::UnknownLate,
    Fate::RefusedNow,
    Fate::Refused,
    Fate::NotPermitted,
    Fate::SilentDone,
    Fate::SilentNotDone,
    Fate::TooLate,
];

impl Fate {
    pub fn draw(rng: &mut Rng, faults: u64) -> Self {
        if rng.chance(faults) { FATES[1 + rng.below(FATES.len() as u64 - 1) as usize].clone() } else { Self::Fine }
    }

    pub fn happens(&self) -> bool {
        matches!(self, Self::Fine | Self::UnknownDone | Self::UnknownLate | Self::SilentDone | Self::TooLate)
    }

    /// `None` where nothing is ever answered.
    pub fn outcome(&self) -> Option<CallOutcome> {
        let applied = match self {
            Self::Fine | Self::TooLate => Applied::Accepted { evidence: "taken".into() },
            Self::UnknownDone | Self::UnknownNotDone | Self::UnknownLate => {
                Applied::Unknown { reason: "timeout after send".into() }
            }
            Self::RefusedNow => Applied::Refused { reason: "throttled".into(), again: true },
            Self::Refused => Applied::Refused { reason: "not allowed".into(), again: false },
            Self::NotPermitted => return Some(CallOutcome::NotPermitted { reason: "lease over".into() }),
            Self::SilentDone | Self::SilentNotDone => return None,
        };
        Some(CallOutcome::Applied(applied))
    }
}

/// What a target did with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Yes,
    /// It has seen a higher epoch.
    FencedOff,
    /// A higher epoch has changed it, and it cannot hold that.
    ByOneThatForgets,
}

#[derive(Debug, Default)]
pub struct World {
    targets: BTreeMap<StepName, Target>,
    /// Which steps promoted a replica of a service under an epoch (S1).
    promoted: BTreeMap<(ServiceName, Epoch), BTreeSet<StepName>>,
    /// How often a change that must not be done twice was done in a run.
    once: BTreeMap<(RunId, StepName), u32>,
    /// A world whose targets do not look at epochs.
    ignores_epochs: bool,
    /// Targets that cannot hold an epoch: there is nothing of the kind in their API.
    forgetful: Vec<&'static str>,
}

impl World {
    pub fn new(ignores_epochs: bool, forgetful: Vec<&'static str>) -> Self {
        Self { ignores_epochs, forgetful, ..Self::default() }
    }

    /// What an honest target says to a look.
    pub fn observe(&self, spec: &ActionSpec, step: &StepName) -> Observed {
        if spec.repeat != Repeat::ByObservation {
            return Observed::Unobservable;
        }
        let target = self.targets.get(step).cloned().unwrap_or_default();
        match (target.changed, target.under_way) {
            (true, _) => Observed::Done { evidence: "as wanted".into() },
            (false, true) => Observed::InProgress { evidence: "modifying".into() },
            (false, false) => Observed::NotDone { evidence: "as before".into(), before: self.before(step) },
        }
    }

    /// What a replica of the target's API says that lags: how it was until a moment ago.
    pub fn observe_stale(&self, spec: &ActionSpec, step: &StepName, now: u64) -> Option<Observed> {
        let (changed, until) = self.targets.get(step)?.was.filter(|_| spec.repeat == Repeat::ByObservation)?;
        (now.saturating_sub(until) < 3_000).then(|| match changed {
            true => Observed::Done { evidence: "as wanted".into() },
            false => Observed::NotDone { evidence: "as before".into(), before: self.before(step) },
        })
    }

    /// A promotion cannot be brought back.
    fn before(&self, step: &StepName) -> Value {
        if step.as_str().starts_with("promote") { Value::Null } else { json!("before") }
    }

    pub fn is_changed(&self, spec: &ActionSpec, step: &StepName) -> bool {
        spec.repeat != Repeat::ByObservation || self.targets.get(step).is_some_and(|target| target.changed)
    }

    /// The request has arrived, and takes a while.
    pub fn arrives(&mut self, call: &StepCall) {
        if call.phase == Phase::Apply {
            self.targets.entry(call.step.clone()).or_default().under_way = true;
        }
    }

    /// The request was lost with the daemon.
    pub fn never_left(&mut self, step: &StepName) {
        self.targets.entry(step.clone()).or_default().under_way = false;
    }

    /// The change happens, unless the target has seen a higher epoch. `retried`: a person said so.
    pub fn happens(&mut self, now: u64, call: &StepCall, term: Term, retried: bool) -> Result<Taken, Violation> {
        let forgets = self.forgetful.contains(&call.step.as_str());
        let target = self.targets.entry(call.step.clone()).or_default();
        target.under_way = false;
        let overtaken = call.epoch < target.epoch;
        if overtaken && !forgets {
            if !self.ignores_epochs {
                return Ok(Taken::FencedOff);
            }
            return Err(Violation::new(
                "S3",
                format!("{} changed under {} after {}", call.step, call.epoch, target.epoch),
            ));
        }
        if term < target.term && !forgets {
            let what = format!("{} changed in term {term} after term {}, under {}", call.step, target.term, call.epoch);
            return Err(Violation::new("S3", what));
        }
        (target.epoch, target.term) = (target.epoch.max(call.epoch), target.term.max(term));
        let changed = call.phase == Phase::Apply;
        if target.changed != changed {
            target.was = Some((target.changed, now));
        }
        target.changed = changed;
        let taken = if overtaken { Taken::ByOneThatForgets } else { Taken::Yes };
        if call.phase != Phase::Apply {
            return Ok(taken);
        }
        if let Some(service) = &call.spec.service {
            let by = self.promoted.entry((service.clone(), call.epoch)).or_default();
            by.insert(call.step.clone());
            if by.len() > 1 {
                return Err(Violation::new("S1", format!("{by:?} promoted {service} in epoch {}", call.epoch)));
            }
        }
        if call.spec.repeat == Repeat::Never {
            let times = self.once.entry((call.run.clone(), call.step.clone())).or_default();
            *times += 1;
            if *times > 1 && !retried {
                return Err(Violation::new("S8", format!("{} was done {times} times", call.step)));
            }
        }
        Ok(taken)
    }

    /// Somebody brings everything back after the region recovered, outside of any run.
    pub fn is_reset(&mut self) {
        for target in self.targets.values_mut() {
            target.changed = false;
            target.under_way = false;
        }
    }
}
