//! What goes into the brain, and what comes out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::member::Resigned;
use crate::model::{
    CallId, CallOutcome, Cause, DrillTarget, DutyName, Epoch, FailureDomain, Given, Grade, Health, HumanDuration,
    IncidentId, Mode, MonoTime, Notice, Observation, PlanHash, PlanName, ProbeName, Record, RunId, RunKind,
    ScenarioName, Settings, StepCall, StepName, Term, VantageId,
};

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// One of our own probes finished an attempt.
    Observed {
        /// The probe.
        probe: ProbeName,
        /// When the attempt was started.
        started: MonoTime,
        /// What it saw.
        observation: Observation,
    },
    /// Another vantage voted.
    PeerVote {
        /// Who.
        vantage: VantageId,
        /// Where from.
        domain: FailureDomain,
        /// Of which probe.
        probe: ProbeName,
        /// What.
        health: Health,
        /// The start of the newest observation behind it, on our clock.
        seen: MonoTime,
        /// The first bad observation behind a Down, on our clock.
        first_bad: Option<MonoTime>,
        /// It is Up, but not well.
        #[serde(default)]
        degraded: bool,
        /// Why it is not Up.
        cause: Option<Cause>,
    },
    /// Another vantage has answered with all its votes, and the answer counts ([`super::Juror`]).
    Ballot {
        /// Who.
        vantage: VantageId,
        /// Where from.
        domain: FailureDomain,
        /// What.
        votes: Vec<PeerVoteOf>,
    },
    /// The time that [`crate::core::Brain::next_wake`] named has come.
    Tick,
    /// A call came to an end.
    Outcome {
        /// Which.
        call: CallId,
        /// How.
        outcome: CallOutcome,
    },
    /// An operator wants something. The reply is in the effects of the same `handle`.
    Command {
        /// Who.
        by: String,
        /// What.
        command: Command,
    },
    /// Our own loop stood still, or the wall clock jumped against the monotonic one.
    Stalled {
        /// For how long, or by how much.
        by: Duration,
    },
    /// A new configuration was loaded; it holds for what is started from now on.
    Reload(Box<Settings>),
    /// Somebody wanted what they may not: written down (S13).
    Refused {
        /// Who.
        by: String,
        /// What.
        what: String,
    },
    /// The daemon is about to end: nothing new is decided or begun, and what comes of the calls that
    /// are out is still written down. A call that is out when the daemon is gone is an unknown outcome;
    /// the next life takes up the run there.
    Ending,
    /// Of several daemons: this one holds the lease now, and has all of the journal.
    Leads {
        /// Its term.
        term: Term,
    },
    /// Of several daemons: another one leads, or (`None`) nobody as far as is known. Of no consequence to
    /// one that leads: that ends with [`crate::core::Brain::step_down`].
    Follows {
        /// Who leads.
        leader: Option<VantageId>,
    },
    /// Records that the leader wrote.
    Replicated {
        /// In their order, from the next one on.
        records: Vec<Record>,
    },
    /// Of several daemons: the store can no longer be reached from here, or (`None`) again.
    StoreReached {
        /// Why not.
        trouble: Option<String>,
    },
    /// Storage, lease or clock is in doubt: start nothing new.
    StateInDoubt {
        /// What.
        what: String,
    },
}

/// One vote on another vantage's ballot, on our clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerVoteOf {
    /// Of which probe.
    pub probe: ProbeName,
    /// What.
    pub health: Health,
    /// The start of the newest observation behind it.
    pub seen: MonoTime,
    /// The first bad observation behind a Down.
    pub first_bad: Option<MonoTime>,
    /// It is Up, but not well.
    pub degraded: bool,
    /// Why it is not Up.
    pub cause: Option<Cause>,
}

/// What an operator can ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum Command {
    /// Start nothing new: no run, no step.
    Pause,
    /// End the pause.
    Resume,
    /// Set the mode at run time; `None` gives it back to the configuration.
    Mode {
        /// The mode.
        mode: Option<Mode>,
    },
    /// I have seen it.
    Ack {
        /// The incident.
        incident: IncidentId,
    },
    /// Yes, fail over.
    Approve {
        /// The incident.
        incident: IncidentId,
        /// The plan that the person was shown; another one now is refused.
        #[serde(default)]
        plan_hash: Option<PlanHash>,
        /// The epoch that the person was shown; another one now is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<Epoch>,
        /// So much data may be lost.
        #[serde(default)]
        allow_data_loss: Option<HumanDuration>,
    },
    /// No, do not.
    Deny {
        /// The incident.
        incident: IncidentId,
    },
    /// Carry out a scenario's plan now.
    Failover {
        /// The scenario.
        scenario: ScenarioName,
        /// So much data may be lost.
        #[serde(default)]
        allow_data_loss: Option<HumanDuration>,
    },
    /// Bring a service back to its region.
    Failback {
        /// The scenario that failed it over.
        scenario: ScenarioName,
        /// What the old primary has that the new one lacks is given up.
        #[serde(default)]
        discard: bool,
    },
    /// Carry out a plan now, with its parameters.
    Execute {
        /// The plan.
        plan: PlanName,
        /// The values of its parameters.
        #[serde(default)]
        parameters: Given,
        /// How it goes about it.
        #[serde(default)]
        kind: RunKind,
        /// So much data may be lost.
        #[serde(default)]
        allow_data_loss: Option<HumanDuration>,
    },
    /// Rehearse a plan now.
    Drill {
        /// The plan.
        plan: PlanName,
        /// On which of its targets; `None` where it has one.
        #[serde(default)]
        target: Option<DrillTarget>,
    },
    /// Stop a run and undo what was done; refused after the point of no return.
    Abort {
        /// The run; `None` is the active one.
        #[serde(default)]
        run: Option<RunId>,
    },
    /// Try a parked step again.
    StepRetry {
        /// The run; `None` is the active one.
        #[serde(default)]
        run: Option<RunId>,
        /// The step.
        step: StepName,
    },
    /// Go on without a parked step.
    StepSkip {
        /// The run; `None` is the active one.
        #[serde(default)]
        run: Option<RunId>,
        /// The step.
        step: StepName,
    },
    /// A `task` was done; also one that its run left open.
    StepDone {
        /// The run; `None` is the active one, or the one that left it open.
        #[serde(default)]
        run: Option<RunId>,
        /// The step.
        step: StepName,
        /// What there is to say of it.
        #[serde(default)]
        note: Option<String>,
    },
    /// A duty of an incident was done.
    DutyDone {
        /// The incident.
        incident: IncidentId,
        /// Which.
        duty: DutyName,
        /// What there is to say of it.
        #[serde(default)]
        note: Option<String>,
    },
    /// Of several daemons: another member shall lead.
    HandOver {
        /// Which; `None`: whichever comes first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<VantageId>,
    },
    /// What is to be thought of what alert-only mode would have done in an incident that is over.
    Grade {
        /// The incident.
        incident: IncidentId,
        /// Would it have been right?
        grade: Grade,
        /// Why.
        #[serde(default)]
        note: Option<String>,
    },
    /// Answer an `approval` step with yes.
    StepApprove {
        /// The run; `None` is the active one.
        #[serde(default)]
        run: Option<RunId>,
        /// The step.
        step: StepName,
    },
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// One line for people.
    pub text: String,
    /// The run that it began or touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs: `not_found`, `not_now`, `guard`, `point_of_no_return`, …
    pub code: String,
    /// What, and what to do.
    pub message: String,
}

/// What the shell has to do, in this order. What changes something outside, and what is told to
/// anybody, is not begun before those before it are done; [`Effect::Journal`] is done when the
/// records are on disk (S2). What only looks may be begun before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Make these records durable. Where that fails: stop acting, and exit.
    Journal(Vec<Record>),
    /// Carry out a phase of a step, and hand in its outcome.
    Call(Box<StepCall>),
    /// The outcome of a call is not wanted any more. Never sent for an `Apply`.
    Cancel(CallId),
    /// Tell people, through the outbox.
    Notify(Notice),
    /// Probe faster, or at the usual pace.
    Pace {
        /// The probe.
        probe: ProbeName,
        /// Faster?
        fast: bool,
    },
    /// Probe once, now.
    ProbeNow(ProbeName),
    /// Give the lead back, and step down.
    HandOver {
        /// Who shall have it; `None`: whoever comes first.
        to: Option<VantageId>,
        /// Why.
        why: Resigned,
    },
    /// To the operator of this event.
    Reply(Result<Answer, Refusal>),
}
