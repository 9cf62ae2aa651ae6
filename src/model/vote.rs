//! Votes and verdicts.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::health::{Cause, Health, Lag};
use super::ids::{FailureDomain, ProbeName, VantageId};
use super::time::{MonoTime, WallTime};

/// One vantage's present health of one probe, after rise/fall hysteresis.
#[derive(Clone, Debug, PartialEq)]
pub struct Vote {
    /// Up, Down, or Unknown.
    pub health: Health,
    /// It is Up, but not well.
    pub degraded: bool,
    /// When this health was concluded.
    pub since: MonoTime,
    /// The first bad observation of the series that made it Down.
    pub first_bad: Option<MonoTime>,
    /// When the newest observation behind this vote was started.
    pub seen: MonoTime,
    /// Why it is not Up.
    pub cause: Option<Cause>,
}

/// A vote as written into the journal beside the trip that it carried (S4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VoteEvidence {
    /// The probe.
    pub probe: ProbeName,
    /// Who voted.
    pub vantage: VantageId,
    /// Where from.
    pub domain: FailureDomain,
    /// What.
    pub health: Health,
    /// When the newest observation behind the vote was started.
    pub seen: WallTime,
    /// Why it is not Up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// What a quorum of fresh votes says of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A quorum says Up.
    Up,
    /// A quorum says Down.
    Down {
        /// The first bad observation of the voters that made the verdict.
        outage_start: MonoTime,
    },
    /// No quorum either way: alert, never act.
    Inconclusive(Inconclusive),
}

impl Verdict {
    /// The verdict as health: Inconclusive is Unknown.
    pub fn health(&self) -> Health {
        match self {
            Self::Up => Health::Up,
            Self::Down { .. } => Health::Down,
            Self::Inconclusive(_) => Health::Unknown,
        }
    }
}

/// What was known of a standby's data when an incident opened, or when its primary fell after that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicationEvidence {
    /// The probe of the standby.
    pub standby: ProbeName,
    /// The newest lag that is to be believed, and when it was measured.
    pub lag: Option<(WallTime, Lag)>,
    /// When the primary was last seen up.
    pub primary_up: Option<WallTime>,
    /// Since when the primary was seen down. `None` where it was not, and may have taken writes after
    /// this was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<WallTime>,
    /// Did each commit of the primary wait for a standby, until it fell?
    pub synchronous: bool,
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inconclusive {
    /// No vantage has finished its first rise or fall.
    NotYet,
    /// The votes are too old.
    Expired,
    /// Too few vantages could look.
    TooFewVotes,
    /// The vantages do not agree.
    Split,
    /// The anchors do not answer: we may be the ones who are cut off.
    Isolated,
    /// Nothing but the witnesses tells whether it is we who are cut off, and none of them answers.
    Unheard,
    /// The clock jumped or the loop stood still; the votes were dropped.
    Tilt,
}

impl fmt::Display for Inconclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotYet => "no vote yet",
            Self::Expired => "votes expired",
            Self::TooFewVotes => "too few votes",
            Self::Split => "votes disagree",
            Self::Isolated => "anchors unreachable",
            Self::Unheard => "no witness answers",
            Self::Tilt => "tilt: clock jumped or loop stalled",
        })
    }
}
