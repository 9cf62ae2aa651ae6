//! What a vantage answers when it is asked for its votes.

use serde::{Deserialize, Serialize};

use super::health::{Cause, Health};
use super::ids::{BootId, FailureDomain, Nonce, ProbeName, TargetHash, VantageId};

/// What a vantage asks another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BallotRequest {
    /// Who asks.
    pub asker: VantageId,
    /// Fresh for each question: an answer to another one is refused.
    pub nonce: Nonce,
    /// The change that the asker knows already: until there is a newer one the answer may wait.
    #[serde(default)]
    pub known: Option<u64>,
    /// How long it may wait, in milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
}

/// All votes of one vantage at one instant. Ages are of its monotonic clock, so that no two clocks have
/// to agree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ballot {
    /// Who votes.
    pub vantage: VantageId,
    /// Where from.
    pub domain: FailureDomain,
    /// Who asked.
    pub asker: VantageId,
    /// What was asked.
    pub nonce: Nonce,
    /// One life of the witness.
    pub boot: BootId,
    /// Grows with each answer of that life.
    pub sequence: u64,
    /// Grows with each change of a vote in that life.
    pub change: u64,
    /// How long the question waited for a change, in milliseconds.
    pub waited_ms: u64,
    /// Its votes.
    pub votes: Vec<BallotVote>,
}

/// One vote on a ballot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BallotVote {
    /// The probe.
    pub probe: ProbeName,
    /// What it asks of whom: a probe of the same name that asks something else is another one.
    pub target: TargetHash,
    /// What.
    pub health: Health,
    /// It is Up, but not well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub degraded: bool,
    /// How long ago the newest observation behind it was started, in milliseconds.
    pub age_ms: u64,
    /// How long ago the first bad observation of a Down was started, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad_ms: Option<u64>,
    /// Why it is not Up, or not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}
