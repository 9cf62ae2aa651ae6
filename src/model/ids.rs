//! Names and numbers that identify things. A name of one kind cannot be passed for another.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sabotage::{Sabotage, is_broken};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a text as this kind of name.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }
    };
}

name!(
    /// A probe, as named in `[probes.NAME]`.
    ProbeName
);
name!(
    /// A scenario, as named in `[scenarios.NAME]`.
    ScenarioName
);
name!(
    /// A plan, as named in `[plans.NAME]`.
    PlanName
);
name!(
    /// A step of a plan, as named in `[plans.PLAN.steps.NAME]`.
    StepName
);
name!(
    /// A route to people, as named in `[notify.NAME]`.
    RouteName
);
name!(
    /// A duty of a severity, as named in `[severities.SEVERITY] duties`.
    DutyName
);
name!(
    /// Where a plan is rehearsed, as named in `[plans.PLAN.drills.TARGET]`.
    DrillTarget
);
name!(
    /// A region, as named in `[regions.NAME]`, for example `us-east-1`.
    RegionName
);
name!(
    /// A zone of a region: what fails together within it.
    ZoneName
);
name!(
    /// A service that has exactly one writable copy, for example one database. At most one
    /// replica of a service is promoted in an epoch (S1).
    ServiceName
);
name!(
    /// A place that probes from: this daemon, or a witness.
    VantageId
);
name!(
    /// What fails together: a vote counts once per failure domain.
    FailureDomain
);
name!(
    /// The kind of an action, `family.verb`, for example `rds.promote_read_replica`.
    ActionKind
);
name!(
    /// An incident: `INC-YYYYMMDD-NNN`, the date in UTC and a number within the day.
    IncidentId
);
name!(
    /// A run: `RUN-YYYYMMDD-NNN`, the date in UTC and a number within the day.
    RunId
);
name!(
    /// The SHA-256 of a plan's canonical JSON, in lower-case hexadecimal. Pins a run and binds an
    /// approval to exactly what was approved.
    PlanHash
);
name!(
    /// What tells one target of a probe from another: a hash of what is asked of whom.
    TargetHash
);
name!(
    /// One life of a process: random, new at each start.
    BootId
);
name!(
    /// A random text that is used once.
    Nonce
);

impl PlanHash {
    /// The first twelve characters, for people.
    pub fn short(&self) -> &str {
        &self.as_str()[..self.as_str().len().min(12)]
    }
}

/// The fencing number: granted once, durably, strictly growing. 0 means that none was granted yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The next epoch.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Was a higher one granted, so that no call may be made under this one any more (S3)?
    pub fn is_overtaken_by(self, highest: Self) -> bool {
        self < highest && !is_broken(Sabotage::EpochCheck)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One stretch of leading of one member of several: the revision at which the lease was taken. Strictly
/// growing within one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One call of an action's phase. Unique within one life of the daemon; an outcome that names an
/// unknown call is late and is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(pub u64);
