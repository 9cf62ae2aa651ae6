//! One of several daemons: what comes from the store that they share, and what becomes of leading.

use tokio::sync::{mpsc, oneshot};

use super::looping::Loop;
use super::voice::{Question, Voice};
use crate::config::load::Loaded;
use crate::config::shape::{File, StateAddress};
use crate::core::ledger::Ledger;
use crate::core::view::{MemberView, MembershipView};
use crate::core::{Answer, Command, Event, Membership, Refusal, Resigned};
use crate::model::{Term, VantageId, WallTime};
use crate::ports::JournalError;
use crate::state::crash::journal_schema;
use crate::state::etcd::{self, Asked, Cluster, Errand, EtcdSettings, EtcdTls, JOURNAL_SCHEMA, MemberCard, StoreEvent};
use crate::vantage::wire;

/// What is read from the cluster and waits for the loop.
const EVENTS: usize = 64;

/// The others, and the state that we share with them.
pub(super) struct Members {
    pub(super) cluster: Cluster,
    voice: Option<Voice>,
    there: Vec<MemberCard>,
    trouble: Option<String>,
    /// A hand-over that was asked for, once all that came before it is carried out.
    pub(super) heir: Option<(Option<VantageId>, Resigned)>,
}

/// What a member hears beside what every daemon hears.
pub(super) struct MemberEars {
    pub(super) store: mpsc::Receiver<StoreEvent>,
    pub(super) questions: mpsc::Receiver<Question>,
}

impl MemberEars {
    /// Of a daemon that is alone: it hears nothing there.
    pub(super) fn deaf() -> Self {
        Self { store: mpsc::channel(1).1, questions: mpsc::channel(1).1 }
    }
}

/// How the cluster is reached; `None` where the daemon is alone.
///
/// # Errors
/// A secret that cannot be read.
pub(super) fn etcd_settings(file: &File) -> Result<Option<EtcdSettings>, String> {
    let Some(StateAddress::Etcd { endpoints, prefix }) = StateAddress::parse(&file.daemon.state) else {
        return Ok(None);
    };
    let table = file.etcd.clone().unwrap_or_default();
    if let Some(user) = &table.user {
        user.password.read().map_err(|error| format!("etcd.user.password: {error}"))?;
    }
    let tls = table.tls.map(|tls| EtcdTls { ca_file: tls.ca_file, identity: tls.certificate_file.zip(tls.key_file) });
    let members = file.members.keys().map(|name| name.as_str().into()).collect();
    Ok(Some(EtcdSettings { endpoints, prefix, ttl: table.ttl.get(), user: table.user, tls, members }))
}

/// How this member shows itself.
pub(super) fn card(loaded: &Loaded, since: WallTime) -> MemberCard {
    MemberCard {
        name: loaded.settings.name.clone(),
        domain: loaded.settings.domain.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema: journal_schema(JOURNAL_SCHEMA),
        since,
        records: 0,
    }
}

impl Members {
    /// Events wait here until the loop has its turn.
    pub(super) fn channel() -> (mpsc::Sender<StoreEvent>, mpsc::Receiver<StoreEvent>) {
        mpsc::channel(EVENTS)
    }

    pub(super) fn new(cluster: Cluster, voice: Option<Voice>) -> Self {
        Self { cluster, voice, there: Vec::new(), trouble: None, heir: None }
    }

    /// See [`Voice::changes_nothing`].
    pub(super) fn changes_nothing(&self, event: &Event) -> bool {
        self.voice.as_ref().is_none_or(|voice| voice.changes_nothing(event))
    }

    /// See [`Voice::reload`].
    pub(super) fn reload(&mut self, file: &File, name: &VantageId) -> Result<bool, String> {
        match (&mut self.voice, file.members.get(name.as_str())) {
            (Some(voice), Some(own)) => voice.reload(file, name, own),
            _ => Ok(false),
        }
    }

    /// See [`Voice::note`].
    pub(super) fn note(&mut self, now: crate::model::Now, brain: &crate::core::Brain) {
        if let Some(voice) = &mut self.voice {
            voice.note(now, brain);
        }
    }

    /// What people are shown.
    pub(super) fn view(&self, own: &VantageId, membership: &Membership) -> MembershipView {
        let (leader, term) = match membership {
            Membership::Alone => (None, None),
            Membership::Follows { leader } => (leader.clone(), None),
            Membership::Leads { term } => (Some(own.clone()), Some(*term)),
        };
        let member = |card: &MemberCard| MemberView {
            name: card.name.clone(),
            domain: card.domain.clone(),
            version: card.version.clone(),
            schema: card.schema,
            since: card.since,
            records: card.records,
            leads: leader.as_ref() == Some(&card.name),
            own: card.name == *own,
        };
        MembershipView { members: self.there.iter().map(member).collect(), leader, term, trouble: self.trouble.clone() }
    }
}

impl Loop {
    /// Does this daemon leave the deciding to another?
    pub(super) fn follows(&self) -> bool {
        matches!(self.brain.membership(), Membership::Follows { .. })
    }

    /// Takes what comes from the store.
    pub(super) fn store(&mut self, event: StoreEvent) -> Result<(), JournalError> {
        match event {
            StoreEvent::Records(records) => {
                self.journal.replicate(&records)?;
                self.feed(Event::Replicated { records }).map(drop)
            }
            StoreEvent::Elected(term) => self.elected(term),
            StoreEvent::Lost { term, why } => {
                if *self.brain.membership() == (Membership::Leads { term }) {
                    return self.step_down(&Resigned::Lost { why });
                }
                Ok(())
            }
            StoreEvent::Leader(leader) => {
                tracing::info!(leader = leader.as_ref().map_or("nobody", VantageId::as_str), "who leads");
                self.feed(Event::Follows { leader }).map(drop)
            }
            StoreEvent::Members(there) => {
                if let Some(members) = &mut self.members {
                    members.there = there;
                }
                Ok(())
            }
            StoreEvent::Reached(trouble) => {
                match &trouble {
                    Some(why) => tracing::error!("the state store: {why}"),
                    None => tracing::info!("the state store is reached again"),
                }
                if let Some(members) = &mut self.members {
                    members.trouble.clone_from(&trouble);
                }
                self.feed(Event::StoreReached { trouble }).map(drop)
            }
            StoreEvent::Asked(Asked { by, errand: Errand::Refused(what), .. }) => {
                self.feed(Event::Refused { by, what }).map(drop)
            }
            StoreEvent::Asked(Asked { id, by, errand: Errand::Command(command) }) => {
                tracing::info!(%by, id, "another member hands a command on");
                let reply = self.feed(Event::Command { by, command })?;
                if let (Some(members), Some(reply)) = (&self.members, reply) {
                    members.cluster.answer(id, reply);
                }
                self.hand_over()
            }
        }
    }

    fn elected(&mut self, term: Term) -> Result<(), JournalError> {
        let Some(members) = &self.members else { return Ok(()) };
        if members.cluster.acts_under() != Some(term) {
            // It came late: the lease is over, or was given up meanwhile.
            members.cluster.give_up(term);
            return Ok(());
        }
        tracing::warn!(%term, "this member leads");
        self.feed(Event::Leads { term }).map(drop)
    }

    /// Looks whether this member may still act, as often as the loop beats: it steps down in peace, and not when
    /// something has to be written.
    pub(super) fn watch_lease(&mut self) -> Result<(), JournalError> {
        let Membership::Leads { .. } = self.brain.membership() else { return Ok(()) };
        match self.members.as_ref().and_then(|members| members.cluster.may_not_act()) {
            Some(why) => self.step_down(&Resigned::Lost { why }),
            None => Ok(()),
        }
    }

    /// The journal could not be written. A member that cannot reach the cluster steps down and goes on; whoever
    /// cannot write to a disk of its own ends.
    pub(super) fn outlive(&mut self, error: JournalError) -> Result<(), JournalError> {
        if self.members.is_none() || self.follows() || self.journal.sound().is_err() {
            return Err(error);
        }
        tracing::error!("{error}");
        self.step_down(&Resigned::Lost { why: error.to_string() })
    }

    /// Carries out a hand-over, where one was asked for.
    pub(super) fn hand_over(&mut self) -> Result<(), JournalError> {
        match self.members.as_mut().and_then(|members| members.heir.take()) {
            Some((heir, why)) => {
                if let (Membership::Leads { term }, Some(members)) = (self.brain.membership(), &self.members) {
                    members.cluster.hand_over(*term, heir);
                }
                self.step_down(&why)
            }
            None => Ok(()),
        }
    }

    /// Leads no more: what is not durable was not decided.
    fn step_down(&mut self, why: &Resigned) -> Result<(), JournalError> {
        if let (Membership::Leads { term }, Some(members), Resigned::Lost { .. }) =
            (self.brain.membership(), &self.members, why)
        {
            members.cluster.give_up(*term);
        }
        tracing::warn!("this member leads no more: {why}");
        let records = self.journal.replay()?;
        let ledger = Ledger::replay(&records).map_err(|error| JournalError::Corrupt {
            path: "this member's copy of the journal".to_owned(),
            seq: error.seq,
            reason: error.to_string(),
        })?;
        let now = self.clock.now();
        let effects = self.brain.step_down(now, ledger, why);
        self.recording.cut(now, &self.brain);
        self.carry_out(effects).map(drop)
    }

    /// Somebody has no right to what was asked: the journal has it, whichever member was asked. (How many of them
    /// there are at most, the socket sees to.)
    pub(super) fn refused(&mut self, by: String, what: String) -> Result<(), JournalError> {
        let Membership::Follows { leader } = self.brain.membership() else {
            return self.feed(Event::Refused { by, what }).map(drop);
        };
        if let (Some(_), Some(members), Some(id)) = (leader, &self.members, wire::random()) {
            let by = format!("{by} at {}", self.brain.settings().name);
            members.cluster.note(Asked { id, by, errand: Errand::Refused(what) });
        }
        Ok(())
    }

    /// Hands a command on to the leader, where this member does not lead and another one does.
    pub(super) fn forward(
        &mut self,
        by: String,
        command: Command,
        reply: Replier,
    ) -> Option<(String, Command, Replier)> {
        let Membership::Follows { leader: Some(leader) } = self.brain.membership() else {
            return Some((by, command, reply));
        };
        let own = &self.brain.settings().name;
        let (Some(members), true, Some(id)) = (&self.members, leader != own, wire::random()) else {
            return Some((by, command, reply));
        };
        tracing::info!(%by, %leader, "a command is handed on");
        let forwarded = members.cluster.forward(Asked { id, by, errand: Errand::Command(command) });
        tokio::spawn(async move {
            // Whoever asked may have gone away; the leader has written down what became of it.
            drop(reply.send(forwarded.await));
        });
        None
    }
}

/// Where what became of a command is told.
type Replier = oneshot::Sender<Result<Answer, Refusal>>;

/// Joins the others.
///
/// # Errors
/// Where the cluster's thread cannot be started.
pub(super) fn join(
    settings: &EtcdSettings,
    card: MemberCard,
    local: (crate::state::SqliteJournal, crate::state::SqliteAuthority),
) -> std::io::Result<(etcd::EtcdJournal, etcd::EtcdAuthority, Cluster, mpsc::Receiver<StoreEvent>)> {
    let (events, store) = Members::channel();
    let (journal, authority, cluster) = etcd::start(settings, card, local, events)?;
    Ok((journal, authority, cluster, store))
}
