//! The traits through which effects leave, and through which the outside is seen.
//!
//! Adapters (`probes`, `actions`, `notify`, `state`) implement them; `daemon` wires them; the
//! tests put doubles in their place.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;

use crate::model::{
    Applied, Epoch, Finding, IncidentId, Notice, Observation, Observed, Record, RunId, StepName, Verified,
};

/// A repeated check of one endpoint.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Looks once. The caller bounds it with the probe's timeout and drops the future at the
    /// deadline; an implementation holds nothing that a drop would leave behind.
    async fn attempt(&self) -> Observation;

    /// Is an attempt cheap and all its own: bounded bytes, no task or thread beside it? Then it runs on
    /// the thread that keeps the time, and costs no change of threads. Everything else runs beside it,
    /// so that it delays nobody.
    fn is_light(&self) -> bool {
        false
    }
}

/// Why an outside call may not be made now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A higher epoch was granted.
    #[error("epoch {ours} was overtaken by epoch {highest}")]
    Overtaken {
        /// Ours.
        ours: Epoch,
        /// The highest granted.
        highest: Epoch,
    },
    /// The lease is over, or is too near its end.
    #[error("the lease is over or within its margin")]
    LeaseOver,
    /// The state store does not answer.
    #[error("the state store is in doubt: {0}")]
    StoreInDoubt(String),
}

/// Who may call now (S3). Asked immediately before each outside change.
pub trait Authority: Send + Sync {
    /// May a call be made under this epoch now?
    ///
    /// # Errors
    /// [`Denied`] where a higher epoch was granted, the lease is over, or nobody knows.
    fn permit(&self, epoch: Epoch) -> Result<(), Denied>;
}

/// What an action knows of the step that it works for.
#[derive(Clone)]
pub struct ActionContext {
    /// The run; `None` in a dry run.
    pub run: Option<RunId>,
    /// The step.
    pub step: StepName,
    /// The epoch that the call is made under; carried into the target wherever it can hold it.
    pub epoch: Epoch,
    /// From 1.
    pub attempt: u32,
    /// When this phase has to be over.
    pub deadline: Instant,
    /// Asked by [`ActionContext::permit`].
    pub authority: Arc<dyn Authority>,
}

impl ActionContext {
    /// To be called immediately before each call that changes anything outside.
    ///
    /// # Errors
    /// [`Denied`], which the action returns as it is.
    pub fn permit(&self) -> Result<(), Denied> {
        self.authority.permit(self.epoch)
    }

    /// What is left until the deadline.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// A look at a step without doing it.
#[derive(Clone)]
pub struct ReadyContext {
    /// As of a dry run: nothing is permitted in it.
    pub context: ActionContext,
    /// What the step touches, in one line.
    pub subject: String,
    /// When what was seen counts as ready.
    pub limits: ReadyLimits,
}

/// When what was seen counts as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyLimits {
    /// A certificate that ends sooner is not.
    pub certificate_left: Duration,
    /// An older backup is not, where the step itself says nothing.
    pub backup_age: Duration,
    /// The ports at which the targets of records have to serve; one of them is enough.
    pub ports: Vec<u16>,
}

/// The code that knows how to observe, apply, verify and undo one kind of change.
///
/// Every future may be dropped at its deadline. An error whose effect is not known for sure is
/// [`Applied::Unknown`], never `Refused`.
#[async_trait]
pub trait Action: Send + Sync {
    /// Looks whether it is done already. Changes nothing.
    async fn observe(&self, context: &ActionContext) -> Observed;

    /// Makes the change, after [`ActionContext::permit`].
    ///
    /// # Errors
    /// [`Denied`] where the permit was refused: nothing was changed.
    async fn apply(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied>;

    /// Looks once whether the change is seen from outside; the executor repeats it.
    async fn verify(&self, context: &ActionContext) -> Verified;

    /// Brings back what stood before.
    ///
    /// # Errors
    /// [`Denied`] where the permit was refused: nothing was changed.
    async fn compensate(&self, _context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        Ok(Applied::Refused { reason: "this action cannot be undone".into(), again: false })
    }

    /// Looks whether it could be done: is everything there, and what the plan thinks? Changes nothing.
    /// What cannot be looked at is unknown, never ready.
    async fn ready(&self, look: &ReadyContext) -> Vec<Finding> {
        vec![Finding::observed(&look.subject, self.observe(&look.context).await)]
    }

    /// Readies what the phases need on our own side (certificate authorities, configuration files,
    /// clients), so that no run pays for it. Called at the start and after a reload. What fails here
    /// is not told: it fails again, with its reason, where it counts.
    async fn warm(&self) {}

    /// The longest that the executor waits between two `verify` calls.
    fn verify_interval(&self) -> Duration {
        Duration::from_millis(250)
    }

    /// May what is expected to be over soon be looked at more often than that? Only where each look
    /// passes a rate limit of ours: others would take it ill, or start a program each time.
    fn is_paced(&self) -> bool {
        false
    }
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another daemon holds it.
    #[error("{path} is held by {holder}; two daemons on one state would both act, so this one does not start")]
    Held {
        /// The state.
        path: String,
        /// Who.
        holder: String,
    },
    /// It could not be opened or created.
    #[error("cannot open {path}: {reason}")]
    Open {
        /// The state.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A record in its middle cannot be read, or does not follow from those before it.
    #[error("{path}: record {seq} is corrupt: {reason}")]
    Corrupt {
        /// The state.
        path: String,
        /// Which record.
        seq: u64,
        /// How.
        reason: String,
    },
    /// It could not be written. Never retried: the caller stops acting and exits.
    #[error("cannot write {path}: {reason}")]
    Write {
        /// The state.
        path: String,
        /// Why.
        reason: String,
    },
}

/// The append-only durable record. One writer.
pub trait Journal: Send {
    /// Could it still be written? Asked between the writes, so that a store that is lost is found in
    /// peace and not when something has to be written down (S11).
    ///
    /// # Errors
    /// [`JournalError::Write`], with the reason.
    fn sound(&self) -> Result<(), JournalError>;

    /// The number and the checksum of the newest record; `None` while there is none.
    fn newest(&self) -> Option<(u64, String)>;

    /// Writes the records, in order and all or none. When it returns `Ok` they are on disk.
    ///
    /// # Errors
    /// [`JournalError::Write`]; never retried.
    fn append(&mut self, records: &[Record]) -> Result<(), JournalError>;

    /// Writes records together with the notices that tell of them: no crash leaves a record that
    /// nobody is told of. A store that cannot write both at once keeps the notices first, since told
    /// twice is better than never.
    ///
    /// # Errors
    /// [`JournalError::Write`]; never retried.
    fn append_and_tell(
        &mut self,
        records: &[Record],
        notices: &[Addressed],
        outbox: &Mutex<dyn Outbox>,
    ) -> Result<(), JournalError> {
        let mut outbox = outbox.lock().unwrap_or_else(PoisonError::into_inner);
        notices.iter().try_for_each(|told| outbox.put(&told.routes, &told.notice))?;
        drop(outbox);
        self.append(records)
    }

    /// Keeps records that another daemon wrote to the state that both share. Those that are there already are
    /// left out.
    ///
    /// # Errors
    /// [`JournalError::Write`]; never retried.
    fn replicate(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let known = self.newest().map_or(0, |(seq, _)| seq);
        let from = records.iter().position(|record| record.seq > known).unwrap_or(records.len());
        self.append(&records[from..])
    }

    /// All records, in order.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] where one in the middle cannot be read.
    fn replay(&mut self) -> Result<Vec<Record>, JournalError>;
}

/// A notice with the routes that it goes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Addressed {
    /// The routes, as named in `[notify.ROUTE]`.
    pub routes: Vec<String>,
    /// The notice.
    pub notice: Notice,
}

/// A notice on its way to one route.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxItem {
    /// Its number in the outbox.
    pub id: i64,
    /// The route, as named in `[notify.ROUTE]`.
    pub route: String,
    /// The notice.
    pub notice: Notice,
    /// How often it was tried.
    pub attempts: u32,
}

/// A notice that has not reached its route.
#[derive(Clone, Debug, PartialEq)]
pub struct Undelivered {
    /// The notice on its way.
    pub item: OutboxItem,
    /// It is tried no more.
    pub given_up: bool,
    /// The route's fallback has it too.
    pub handed_over: bool,
    /// Why it was not taken.
    pub reason: Option<String>,
}

/// Notices that were decided and not yet delivered. Durable.
pub trait Outbox: Send {
    /// Keeps a notice for each of the routes.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    fn put(&mut self, routes: &[String], notice: &Notice) -> Result<(), JournalError>;

    /// The routes for which something waits.
    ///
    /// # Errors
    /// [`JournalError`] where it cannot be read.
    fn waiting(&mut self) -> Result<Vec<String>, JournalError>;

    /// What waits for one route, at most `limit`: a route that is down must not fill the view of the
    /// others (L3). The oldest first, but what was tried several times in vain comes last: it may be
    /// that notice alone which the route does not take.
    ///
    /// # Errors
    /// [`JournalError`] where it cannot be read.
    fn pending(&mut self, route: &str, limit: u32) -> Result<Vec<OutboxItem>, JournalError>;

    /// It was delivered (`Ok`), tried in vain (`Err(reason)`, tried again later), or given up.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    fn settle(&mut self, id: i64, result: Delivery) -> Result<(), JournalError>;

    /// Puts a notice into the outbox of another route too, because its own does not take it; once only.
    /// Says whether it did.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    fn hand_over(&mut self, item: &OutboxItem, to: &str, notice: &Notice) -> Result<bool, JournalError>;

    /// What has not reached its route, what was given up among it; the newest first, at most `limit`.
    ///
    /// # Errors
    /// [`JournalError`] where it cannot be read.
    fn undelivered(&mut self, limit: u32) -> Result<Vec<Undelivered>, JournalError>;

    /// How many were given up, for each route; at most those that are kept.
    ///
    /// # Errors
    /// [`JournalError`] where it cannot be read.
    fn given_up(&mut self) -> Result<Vec<(String, u64)>, JournalError>;

    /// The provider's thread of an incident, for a route.
    ///
    /// # Errors
    /// [`JournalError`] where it cannot be read.
    fn thread(&mut self, route: &str, incident: &IncidentId) -> Result<Option<String>, JournalError>;

    /// Keeps it.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    fn keep_thread(&mut self, route: &str, incident: &IncidentId, thread: &str) -> Result<(), JournalError>;

    /// Gives up what waits for a route that is no more; says how many notices that are.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    fn abandon(&mut self, route: &str, reason: &str) -> Result<usize, JournalError>;
}

/// What came of one attempt to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The route took it.
    Delivered,
    /// Not this time.
    Failed {
        /// Why.
        reason: String,
    },
    /// It is named as undelivered and not tried again.
    GivenUp {
        /// Why.
        reason: String,
    },
}

/// A route to people.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Delivers one notice; the caller bounds it in time.
    ///
    /// # Errors
    /// One line that says why not, without a secret.
    async fn deliver(&self, notice: &Notice) -> Result<(), String>;

    /// Does it keep an incident of its own for each of ours? Then it has to hear that one is
    /// acknowledged or over, however quiet that is.
    fn follows_incidents(&self) -> bool {
        false
    }

    /// Where it keeps which thread of the provider's is whose, if it has any.
    fn keep_threads(&self, _threads: Arc<dyn Threads>) {}

    /// See [`Action::warm`].
    async fn warm(&self) {}
}

/// Which thread of a provider belongs to which incident, for one route. Durable as far as it can be: one
/// that is lost begins anew.
pub trait Threads: Send + Sync {
    /// The thread of an incident.
    fn thread(&self, incident: &IncidentId) -> Option<String>;

    /// This is the thread of an incident.
    fn keep(&self, incident: &IncidentId, thread: &str);
}
