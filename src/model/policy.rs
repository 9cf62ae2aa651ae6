//! Modes, severities, decisions and the named reasons for not acting.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::drill::DrillTerms;
use super::extent::{Preference, names};
use super::ids::{ProbeName, RunId, ScenarioName};
use super::loss::Divergence;
use super::time::{HumanDuration, WallTime};

/// Who pulls the trigger. The order is from the freest to the most careful.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The daemon acts by itself.
    Auto,
    /// A person is asked; on no answer the scenario's `on_no_answer` holds.
    #[default]
    Approve,
    /// Everything but acting.
    AlertOnly,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Approve => "approve",
            Self::AlertOnly => "alert-only",
        })
    }
}

/// What happens when nobody answered until the last moment to decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnNoAnswer {
    /// Fail over.
    Failover,
    /// Do nothing, and go on paging.
    #[default]
    Hold,
}

/// What happens where the region that fell took the vantages in it along, and those that are left are no
/// quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnSilentWitnesses {
    /// A person is asked, in every mode that acts; it is never done without an answer.
    #[default]
    Approve,
    /// Nothing is done, and people are told.
    Hold,
}

/// What a person knew of the loss of data when allowing one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossShown {
    /// It was known, and so many seconds were allowed with a number in sight. Also what a record says
    /// that was written before this was kept.
    #[default]
    Known,
    /// Nobody knew it.
    Unknown,
}

/// How bad it is, in the words of the owner: `P0`, `SEV-1`, `critical`, …
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Severity(pub String);

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What policy says now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Not yet, or not at all; the reason says which, and until when.
    Hold(HoldReason),
    /// Alert-only: this is where it would have acted.
    Alert,
    /// A person is asked.
    AskApproval {
        /// The last moment to decide.
        until: WallTime,
    },
    /// Carry out the plan.
    Act,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold(reason) => write!(f, "hold: {reason}"),
            Self::Alert => f.write_str("alert only: it would act now"),
            Self::AskApproval { until } => write!(f, "waiting for approval until {until}"),
            Self::Act => f.write_str("act"),
        }
    }
}

/// Why the daemon does not act. Each has a stable name ([`HoldReason::name`]) for metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum HoldReason {
    /// The primary looks down to us, and a replica hears it still: it is the network between it and us,
    /// or a listener that died, and no database to promote another one for.
    ReplicaStreams {
        /// The probe of the replica.
        standby: ProbeName,
        /// The probe of the primary.
        primary: ProbeName,
        /// When the replica last heard from it, at the earliest.
        heard: WallTime,
    },
    /// A probe that has to be down changes its health again and again.
    Flapping {
        /// The probe.
        probe: ProbeName,
        /// When it is taken for steady, if it changes no more.
        until: WallTime,
    },
    /// Too few vantages are left for a quorum, and nobody has approved to act without one.
    NoQuorum {
        /// Who is silent, and what that may mean.
        why: String,
    },
    /// The condition has not held for `confirm_for` yet.
    Confirming {
        /// When it will have.
        until: WallTime,
    },
    /// The condition cannot be told from what we see.
    Inconclusive {
        /// In one line.
        why: String,
    },
    /// The condition does not hold.
    Quiet {
        /// The condition.
        condition: String,
    },
    /// An `unless` holds, or cannot be told.
    Vetoed {
        /// The condition.
        condition: String,
    },
    /// A `requires` does not hold, or cannot be told: there is nothing healthy to fail over to.
    StandbyUnhealthy {
        /// The condition.
        condition: String,
    },
    /// The standby's lag was not measured once before the outage.
    LagUnknown {
        /// The probe that measures it.
        probe: ProbeName,
    },
    /// The predicted loss is above the RPO.
    LagAboveRpo {
        /// The probe that measured it.
        probe: ProbeName,
        /// What would be lost.
        predicted: HumanDuration,
        /// What may be lost.
        rpo: HumanDuration,
    },
    /// The daemon has just started.
    StartupGrace {
        /// Until when.
        until: WallTime,
    },
    /// A person paused the daemon.
    Paused {
        /// Who.
        by: String,
    },
    /// The last run of this service ended too recently.
    CoolDown {
        /// Until when.
        until: WallTime,
    },
    /// Again and again the primary answered, or could not be looked at, immediately before the first
    /// change: it flaps, or we do not see it well.
    LooksInVain {
        /// How many last looks in a row.
        times: u32,
        /// When the next one may come.
        until: WallTime,
    },
    /// Too many failovers within the window.
    FailoverLimit {
        /// When the oldest leaves the window.
        until: WallTime,
    },
    /// A run is active; at most one at a time.
    RunActive {
        /// Which.
        run: RunId,
    },
    /// This incident has had its run.
    AlreadyRun {
        /// Which.
        run: RunId,
    },
    /// Nobody answered, and `on_no_answer = "hold"`.
    NoAnswer,
    /// A person said no.
    Denied {
        /// Who.
        by: String,
    },
    /// The clock jumped or the loop stood still.
    Tilt {
        /// Until when.
        until: WallTime,
    },
    /// A failover below ours may mend it by itself first.
    LowerLayersFirst {
        /// Which.
        layer: String,
        /// Until when it may.
        until: WallTime,
    },
    /// Another scenario that holds explains better what is down.
    ExplainedBy {
        /// Which.
        scenario: ScenarioName,
        /// In which way better.
        why: Preference,
        /// What that one explains.
        down: Vec<ProbeName>,
    },
    /// The outage may spread to what a broader scenario wants down.
    Correlating {
        /// The probe that is in doubt.
        probe: ProbeName,
        /// Until when it will have fallen or not.
        until: WallTime,
    },
    /// The scenario names no plan.
    NoPlan,
    /// The journal, the lease or the clock is in doubt.
    StateInDoubt {
        /// What.
        what: String,
    },
}

impl HoldReason {
    /// A stable name for metrics and programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ReplicaStreams { .. } => "replica_streams",
            Self::Flapping { .. } => "flapping",
            Self::NoQuorum { .. } => "no_quorum",
            Self::Confirming { .. } => "confirming",
            Self::Inconclusive { .. } => "inconclusive",
            Self::Quiet { .. } => "quiet",
            Self::Vetoed { .. } => "vetoed",
            Self::StandbyUnhealthy { .. } => "standby_unhealthy",
            Self::LagUnknown { .. } => "lag_unknown",
            Self::LagAboveRpo { .. } => "lag_above_rpo",
            Self::StartupGrace { .. } => "startup_grace",
            Self::Paused { .. } => "paused",
            Self::CoolDown { .. } => "cool_down",
            Self::LooksInVain { .. } => "looks_in_vain",
            Self::FailoverLimit { .. } => "failover_limit",
            Self::RunActive { .. } => "run_active",
            Self::AlreadyRun { .. } => "already_run",
            Self::NoAnswer => "no_answer",
            Self::Denied { .. } => "denied",
            Self::Tilt { .. } => "tilt",
            Self::LowerLayersFirst { .. } => "lower_layers_first",
            Self::ExplainedBy { .. } => "explained_by",
            Self::Correlating { .. } => "correlating",
            Self::NoPlan => "no_plan",
            Self::StateInDoubt { .. } => "state_in_doubt",
        }
    }

    /// Does a person have to look? A hold that time alone ends does not page.
    pub fn pages(&self) -> bool {
        !matches!(
            self,
            Self::Quiet { .. }
                | Self::Confirming { .. }
                | Self::StartupGrace { .. }
                | Self::RunActive { .. }
                | Self::AlreadyRun { .. }
                | Self::LowerLayersFirst { .. }
                | Self::Correlating { .. }
                // The other one acts, asks, or pages why it does not.
                | Self::ExplainedBy { .. }
                // Told once for all incidents that come of it.
                | Self::Flapping { .. }
        )
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReplicaStreams { standby, primary, heard } => write!(
                f,
                "{primary} is down for us, but its replica {standby} heard from it at {heard}: \
                 it is the network between, or its listener"
            ),
            Self::Flapping { probe, until } => write!(f, "{probe} flaps; if it is steady now, until {until}"),
            Self::NoQuorum { why } => write!(f, "no quorum: {why}; only a person can decide to act without one"),
            Self::Confirming { until } => write!(f, "confirming until {until}"),
            Self::Inconclusive { why } => write!(f, "inconclusive: {why}"),
            Self::Quiet { condition } => write!(f, "it does not hold: {condition}"),
            Self::Vetoed { condition } => write!(f, "vetoed: {condition}"),
            Self::StandbyUnhealthy { condition } => write!(f, "nothing healthy to fail over to: {condition}"),
            Self::LagUnknown { probe } => write!(f, "replication lag unknown (probe {probe})"),
            Self::LagAboveRpo { probe, predicted, rpo } => {
                write!(f, "would lose {predicted} of data, above the RPO of {rpo} (probe {probe})")
            }
            Self::StartupGrace { until } => write!(f, "start-up grace until {until}"),
            Self::Paused { by } => write!(f, "paused by {by}"),
            Self::CoolDown { until } => write!(f, "cool-down until {until}"),
            Self::LooksInVain { times, until } => {
                write!(f, "{times} last looks in a row did not find the primary down; the next one not before {until}")
            }
            Self::FailoverLimit { until } => write!(f, "failover limit reached until {until}"),
            Self::RunActive { run } => write!(f, "run {run} is active"),
            Self::AlreadyRun { run } => write!(f, "run {run} was carried out for this incident"),
            Self::NoAnswer => f.write_str("nobody answered, and on_no_answer is \"hold\""),
            Self::Denied { by } => write!(f, "denied by {by}"),
            Self::Tilt { until } => write!(f, "tilt until {until}: the clock jumped or the loop stalled"),
            Self::LowerLayersFirst { layer, until } => write!(f, "{layer} may mend it by itself until {until}"),
            Self::ExplainedBy { scenario, why, down } => {
                write!(f, "explained by {scenario}, which {why} ({})", names(down))
            }
            Self::Correlating { probe, until } => {
                write!(f, "correlating until {until}: {probe} is in doubt, and a broader scenario wants it down")
            }
            Self::NoPlan => f.write_str("the scenario names no plan"),
            Self::StateInDoubt { what } => write!(f, "state in doubt: {what}"),
        }
    }
}

/// What started a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The quorum and the policy.
    Automatic,
    /// A person answered the question.
    Approved {
        /// Who.
        by: String,
        /// The loss that was allowed, in seconds of data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allow_data_loss: Option<Duration>,
        /// Why there was no quorum, where there was none: the person's word stood in for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        without_quorum: Option<String>,
    },
    /// Nobody answered, and `on_no_answer = "failover"`.
    NoAnswer,
    /// A person asked for it (`failoverd failover`, SIGUSR1).
    Manual {
        /// Who.
        by: String,
        /// The loss that was allowed, in seconds of data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allow_data_loss: Option<Duration>,
    },
    /// A person asked to bring the service back (`failoverd failback`).
    Failback {
        /// Who.
        by: String,
        /// What the old primary was known to have that the new one lacks, and that is given up.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        discards: Vec<Divergence>,
    },
    /// A rehearsal: it counts for nothing but the evidence, and gives way to every other run.
    Drill {
        /// Who, or `schedule`.
        by: String,
        /// What it is bound to (S9).
        terms: Box<DrillTerms>,
    },
}

impl Trigger {
    /// Was it started without an outage? Then the primary need not be down.
    pub fn is_by_hand(&self) -> bool {
        matches!(self, Self::Manual { .. } | Self::Failback { .. } | Self::Drill { .. })
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Automatic => f.write_str("automatic"),
            Self::Approved { by, without_quorum: Some(why), .. } => {
                write!(f, "approved by {by} without a quorum: {why}")
            }
            Self::Approved { by, .. } => write!(f, "approved by {by}"),
            Self::NoAnswer => f.write_str("no answer in time"),
            Self::Manual { by, .. } => write!(f, "by hand: {by}"),
            Self::Failback { by, .. } => write!(f, "failback by hand: {by}"),
            Self::Drill { by, terms } => write!(f, "drill on {} by {by}", terms.target),
        }
    }
}
