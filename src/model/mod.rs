//! The vocabulary: one type per word of the design, and nothing that acts.
//!
//! Lives here: names, times, health, votes, verdicts, conditions, plans, journal records, and the
//! checked settings that the brain decides by. Does not live here: I/O, decisions, parsing of the
//! configuration file. Imports nothing of ours.

pub mod ballot;
pub mod condition;
pub mod drill;
pub mod extent;
pub mod grade;
pub mod health;
pub mod histogram;
pub mod ids;
pub mod loss;
pub mod notice;
pub mod objectives;
pub mod plan;
pub mod policy;
pub mod readiness;
pub mod record;
pub mod reference;
pub mod sabotage;
pub mod schedule;
pub mod settings;
pub mod severity;
pub mod slo;
pub mod step;
pub mod stretch;
pub mod terms;
pub mod time;
pub mod vote;
pub mod window;

pub use ballot::{Ballot, BallotRequest, BallotVote};
pub use condition::{Condition, Is, Subject, Truth, Weighted};
pub use drill::{DrillPart, DrillSettings, DrillTerms, DrillVerdict, Drills};
pub use extent::{Choice, Extent, Preference, Reach};
pub use grade::Grade;
pub use health::{Cause, CauseKind, Facts, Figure, Health, Lag, Meaning, Observation, Role};
pub use ids::*;
pub use loss::{Divergence, PredictedLoss, Writes};
pub use notice::{AskedFor, Audience, Importance, Notice, NoticeKind, Situation, Stage};
pub use objectives::{Objectives, Outlook};
pub use plan::{ActionSpec, EffectKind, OnError, Plan, Repeat, Retry, Step, Work};
pub use policy::{Decision, HoldReason, LossShown, Mode, OnNoAnswer, OnSilentWitnesses, Severity, Trigger};
pub use readiness::{
    Aspect, Dependency, DependencyKind, Drift, Finding, Looked, Place, PlanReadiness, Readiness, StepReadiness,
};
pub use record::{Entry, Record, RunResult, StepEnd};
pub use reference::{Given, Parameter, ParameterKind, Reference, WrongValue};
pub use schedule::{Blocked, Schedule};
pub use settings::{
    FlapDamping, LowerLayers, ProbeSettings, ReplicationPair, ScenarioSettings, Settings, WitnessSettings,
};
pub use severity::{Duty, DutyFrom, Rung, SeveritySettings};
pub use slo::{ServiceSettings, Slo, SloError, SloTarget};
pub use step::{Applied, CallOutcome, Observed, Outputs, Phase, StepCall, Verified};
pub use stretch::Stretch;
pub use terms::{Ended, RunKind, StepGuard, Terms};
pub use time::{HumanDuration, MonoTime, Now, WallTime};
pub use vote::{Inconclusive, ReplicationEvidence, Verdict, Vote, VoteEvidence};
pub use window::{BurnRate, LatencyLimit, WindowSettings};
