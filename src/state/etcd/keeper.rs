//! What keeps a member in touch with the cluster: it renews the lease, looks who leads, reads what the leader
//! wrote, and takes the lead where nobody has it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::KeyValue;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::journal::{EtcdAuthority, EtcdJournal, lock};
use super::keys::Keys;
use super::look::{Look, look};
use super::remote::{Remote, Unreachable};
use super::roll::{self, RollError, tail_seq};
use super::{Asked, EtcdSettings, MemberCard, StoreEvent, requests};
use crate::core::campaign::{Unproven, may_campaign, proven};
use crate::core::lease::Lease;
use crate::model::{MonoTime, Term, VantageId};
use crate::state::chain::Tail;
use crate::state::{SqliteAuthority, SqliteJournal};

/// What the handles of one member share.
pub struct Shared {
    pub(super) remote: Remote,
    pub(super) keys: Keys,
    pub(super) lease: Mutex<Lease>,
    /// Where the journal ends, as far as this member has it, and the revision of the key that says so.
    pub(super) tail: Mutex<(Tail, i64)>,
    pub(super) runtime: Handle,
    pub(super) shown: String,
    pub(super) ttl: Duration,
    pub(super) me: MemberCard,
    members: Vec<VantageId>,
    wishes: Mutex<Wishes>,
    wake: Notify,
}

impl Shared {
    /// How this member shows itself now.
    fn card(&self) -> MemberCard {
        MemberCard { records: lock(&self.tail).0.seq, ..self.me.clone() }
    }
}

/// What the daemon wants of the keeper.
#[derive(Default)]
struct Wishes {
    /// This term is over, whatever the cluster says.
    give_up: Option<Term>,
    /// Who shall lead in its place.
    heir: Option<VantageId>,
}

/// A clock that also runs while the machine sleeps: a lease does not wait for it.
pub(super) fn now() -> MonoTime {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    MonoTime(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// The cluster, as the daemon sees it.
pub struct Cluster {
    pub(super) shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Cluster {
    /// Why this member may not act now; `None` where it may.
    pub fn may_not_act(&self) -> Option<String> {
        self.shared.may_act().err().map(|why| why.to_string())
    }

    /// The term under which it may act.
    pub fn acts_under(&self) -> Option<Term> {
        self.shared.may_act().ok()
    }

    /// This member leads no more under that term, also where its lease goes on.
    pub fn give_up(&self, term: Term) {
        self.hand_over(term, None);
    }

    /// As [`Self::give_up`], and that member shall lead.
    pub fn hand_over(&self, term: Term, heir: Option<VantageId>) {
        lock(&self.shared.lease).lost();
        *lock(&self.shared.wishes) = Wishes { give_up: Some(term), heir };
        self.shared.wake.notify_one();
    }

    /// Hands a command on to the leader, and waits for what becomes of it.
    pub fn forward(&self, asked: Asked) -> impl Future<Output = super::Reply> + Send + 'static {
        requests::forward(Arc::clone(&self.shared), asked)
    }

    /// Hands on what nobody waits for. What does not arrive is in this member's log.
    pub fn note(&self, asked: Asked) {
        let shared = Arc::clone(&self.shared);
        self.shared.runtime.spawn(async move { requests::note(&shared, &asked).await });
    }

    /// Of the leader: what became of a command that was handed on.
    pub fn answer(&self, id: String, reply: super::Reply) {
        let shared = Arc::clone(&self.shared);
        self.shared.runtime.spawn(async move { requests::answer(&shared, &id, &reply).await });
    }

    /// Gives the lease back, so that another member takes over at once. Blocks for a moment.
    pub fn finish(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _it_only_ends = thread.join();
        }
    }
}

/// Joins the cluster. `local` is this member's copy of the journal. Returns at once: what becomes of it comes as
/// events.
///
/// # Errors
/// Where there is no thread for it.
pub fn start(
    settings: &EtcdSettings,
    me: MemberCard,
    (journal, authority): (SqliteJournal, SqliteAuthority),
    events: mpsc::Sender<StoreEvent>,
) -> std::io::Result<(EtcdJournal, EtcdAuthority, Cluster)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shared = Arc::new(Shared {
        remote: Remote::new(settings),
        keys: Keys::new(&settings.prefix),
        lease: Mutex::new(Lease::new(settings.ttl)),
        tail: Mutex::new((journal.tail(), 0)),
        runtime: runtime.handle().clone(),
        shown: format!("etcd://{}/{}", settings.endpoints.join(","), settings.prefix.trim_matches('/')),
        ttl: settings.ttl,
        me,
        members: settings.members.clone(),
        wishes: Mutex::default(),
        wake: Notify::new(),
    });
    let stop = CancellationToken::new();
    let mut keeper = Keeper::new(Arc::clone(&shared), events);
    let until = stop.clone();
    let work = move || runtime.block_on(async move { keeper.run(&until).await });
    let thread = std::thread::Builder::new().name("etcd".into()).spawn(work)?;
    let cluster = Cluster { shared: Arc::clone(&shared), stop, thread: Some(thread) };
    let journal = EtcdJournal { shared: Arc::clone(&shared), local: journal };
    Ok((journal, EtcdAuthority { shared, local: authority }, cluster))
}

struct Keeper {
    shared: Arc<Shared>,
    events: mpsc::Sender<StoreEvent>,
    /// The lease of this member, and from before its newest renewal was sent.
    lease: Option<(i64, MonoTime)>,
    /// The term that was told.
    told_term: Option<Term>,
    told_leader: Option<Option<VantageId>>,
    told_members: Vec<MemberCard>,
    told_trouble: Option<String>,
    /// When the cluster last answered as it should.
    reached: MonoTime,
    /// Lets others go first until then.
    modest_until: MonoTime,
    /// When this member began, and since when it knows that nobody leads.
    began: MonoTime,
    free_since: Option<MonoTime>,
}

/// Why a round came to nothing.
enum Trouble {
    Roll(RollError),
    /// The journal is of a newer version.
    Schema {
        journal: u32,
        known: u32,
    },
    /// It may not be the one that the members wrote.
    Unproven(Unproven),
}

impl From<Unreachable> for Trouble {
    fn from(why: Unreachable) -> Self {
        Self::Roll(why.into())
    }
}

impl From<RollError> for Trouble {
    fn from(why: RollError) -> Self {
        Self::Roll(why)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Roll(why) => why.fmt(f),
            Self::Unproven(why) => why.fmt(f),
            Self::Schema { journal, known } => write!(
                f,
                "the journal is of schema {journal}, and this version ({}) reads {known}: upgrade this member",
                env!("CARGO_PKG_VERSION")
            ),
        }
    }
}

impl Keeper {
    fn new(shared: Arc<Shared>, events: mpsc::Sender<StoreEvent>) -> Self {
        Self {
            shared,
            events,
            lease: None,
            told_term: None,
            told_leader: None,
            told_members: Vec::new(),
            told_trouble: None,
            reached: now(),
            modest_until: MonoTime::ZERO,
            began: now(),
            free_since: None,
        }
    }

    async fn run(&mut self, stop: &CancellationToken) {
        let interval = lock(&self.shared.lease).renewal_interval();
        loop {
            let round = self.round();
            let trouble = tokio::select! {
                result = round => result.err(),
                () = stop.cancelled() => break,
            };
            self.tell_reached(trouble).await;
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.shared.wake.notified() => {}
                () = stop.cancelled() => break,
            }
        }
        lock(&self.shared.lease).lost();
        if let Some((id, _)) = self.lease.take() {
            let revoked = self.shared.remote.call(|mut client| async move { client.lease_revoke(id).await }).await;
            if let Err(why) = revoked {
                tracing::warn!(%why, "the lease could not be given back: another member takes over when it is over");
            }
        }
    }

    /// Says once that the cluster is out of reach, and once that it is back. Not before a lease would be over:
    /// one member of the cluster that restarts is no news, nor are members that start one after the other.
    async fn tell_reached(&mut self, trouble: Option<Trouble>) {
        match trouble {
            None => {
                self.reached = now();
                if self.told_trouble.take().is_some() {
                    self.tell(StoreEvent::Reached(None)).await;
                }
            }
            Some(why) => {
                tracing::debug!(%why, "the cluster");
                let is_out_of_reach = matches!(why, Trouble::Roll(RollError::Unreachable(_)));
                let may_pass = is_out_of_reach || matches!(why, Trouble::Unproven(Unproven::Empty { .. }));
                let waits = may_pass && now().since(self.reached) < self.shared.ttl;
                let text = why.to_string();
                // Which member of the cluster did not answer changes all the time; anything else is news.
                let is_told = self.told_trouble.as_ref().is_some_and(|told| is_out_of_reach || *told == text);
                if !waits && !is_told {
                    self.told_trouble = Some(text.clone());
                    self.tell(StoreEvent::Reached(Some(text))).await;
                }
            }
        }
    }

    async fn tell(&self, event: StoreEvent) {
        // Nobody hears any more at the end of the daemon.
        drop(self.events.send(event).await);
    }

    async fn round(&mut self) -> Result<(), Trouble> {
        let (lease, renewed) = self.renew().await?;
        self.give_up().await?;
        let seen = look(&self.shared.remote, &self.shared.keys).await?;
        self.tell_members(&seen).await;
        let card = self.shared.card();
        if !seen.members.contains(&card) {
            requests::put_card(&self.shared, &card, lease).await?;
        }
        let known = self.shared.me.schema;
        if let Some(journal) = seen.schema.filter(|journal| *journal > known) {
            return Err(Trouble::Schema { journal, known });
        }
        if seen.leader.is_some() {
            self.free_since = None;
        }
        match &seen.leader {
            Some(leader) if leader.lease() == lease => {
                let term = Term(u64::try_from(leader.create_revision()).unwrap_or(0));
                if self.told_term == Some(term) {
                    self.renewed(term, renewed);
                    self.tell_asked(&seen).await;
                    return Ok(());
                }
                self.is_over("another term of this member's began").await;
                self.catch_up(&seen).await?;
                requests::raise_schema(&self.shared, term, &seen).await?;
                lock(&self.shared.lease).taken(term, renewed);
                self.told_term = Some(term);
                self.tell_leader(Some(self.shared.me.name.clone())).await;
                self.tell(StoreEvent::Elected(term)).await;
            }
            Some(leader) => {
                let name = VantageId::from(&*String::from_utf8_lossy(leader.value()));
                self.is_over(&format!("{name} leads, by the cluster")).await;
                self.catch_up(&seen).await?;
                self.tell_leader(Some(name)).await;
            }
            None => {
                self.is_over("the cluster has ended the lease").await;
                let end = self.catch_up(&seen).await?;
                self.tell_leader(None).await;
                let copies = seen.members.iter().map(|member| (member.name.clone(), member.records)).collect();
                proven(end, &self.shared.members, &copies).map_err(Trouble::Unproven)?;
                self.campaign(&seen, lease).await?;
            }
        }
        Ok(())
    }

    fn renewed(&self, term: Term, sent: MonoTime) {
        lock(&self.shared.lease).renewed(term, sent);
    }

    /// Renews the lease, or takes a new one and says that this member is there. Gives it with the time from
    /// before that was sent.
    async fn renew(&mut self) -> Result<(i64, MonoTime), Unreachable> {
        let sent = now();
        // Whoever may not act any more must not keep the others from it: where only the answers are lost, its
        // renewals would go on to be taken.
        if self.lease.is_some_and(|(_, renewed)| sent.since(renewed) >= self.shared.ttl / 2) {
            self.lease = None;
            self.is_over("no renewal was answered in the half of the lease in which its holder may act").await;
        }
        if let Some((id, _)) = self.lease {
            let kept = |mut client: etcd_client::Client| async move {
                match client.lease_keep_alive(id).await {
                    Ok(_) => Ok(true),
                    // Said of a lease that is not there any more.
                    Err(etcd_client::Error::LeaseKeepAliveError(_)) => Ok(false),
                    Err(error) => Err(error),
                }
            };
            if self.shared.remote.call(kept).await? {
                // Of the member whose term goes on it counts at once, whatever the rest of the round comes to.
                if let Some(term) = self.told_term {
                    self.renewed(term, sent);
                }
                self.lease = Some((id, sent));
                return Ok((id, sent));
            }
            self.lease = None;
            self.is_over("the cluster has ended the lease").await;
        }
        let sent = now();
        let ttl = i64::try_from(self.shared.ttl.as_secs()).unwrap_or(i64::MAX).max(1);
        let granted = self.shared.remote.call(|mut client| async move { client.lease_grant(ttl, None).await }).await?;
        let id = granted.id();
        requests::put_card(&self.shared, &self.shared.card(), id).await?;
        self.lease = Some((id, sent));
        Ok((id, sent))
    }

    /// The daemon leads no more under a term that the cluster still thinks it has.
    async fn give_up(&mut self) -> Result<(), Unreachable> {
        let (term, heir) = {
            let wishes = lock(&self.shared.wishes);
            let Some(term) = wishes.give_up else { return Ok(()) };
            (term, wishes.heir.clone())
        };
        requests::resign(&self.shared, term, heir.as_ref()).await?;
        *lock(&self.shared.wishes) = Wishes::default();
        if self.told_term == Some(term) {
            self.told_term = None;
            lock(&self.shared.lease).lost();
        }
        // Whoever reaches everything goes first.
        self.modest_until = now() + self.shared.ttl;
        Ok(())
    }

    /// Says that this member leads no more, if it did.
    async fn is_over(&mut self, why: &str) {
        lock(&self.shared.lease).lost();
        if let Some(term) = self.told_term.take() {
            self.tell(StoreEvent::Lost { term, why: why.to_owned() }).await;
        }
    }

    /// Takes the lead where nobody has it. Whether it got it is seen by the next look: an answer that is lost
    /// would be one that nobody knows.
    async fn campaign(&mut self, seen: &Look, lease: i64) -> Result<(), Unreachable> {
        let is_heir = match &seen.heir {
            Some(heir) if heir.value() == self.shared.me.name.as_str().as_bytes() => true,
            Some(_) => return Ok(()),
            None => false,
        };
        let at = now();
        let free_for = at.since(*self.free_since.get_or_insert(at));
        let waits = at < self.modest_until || !may_campaign(self.shared.ttl, at.since(self.began), free_for);
        if !is_heir && waits && seen.members.len() > 1 {
            return Ok(());
        }
        requests::campaign(&self.shared, &self.shared.me.name, lease).await?;
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Reads what the leader wrote, up to the end that was seen, and says which record that is.
    async fn catch_up(&mut self, seen: &Look) -> Result<u64, RollError> {
        let end = seen.tail.as_ref().map_or(Some(0), |tail| tail_seq(tail.value()));
        let mut tail = lock(&self.shared.tail).0.clone();
        let diverged = |seq, reason: &str| RollError::Diverged { seq, reason: reason.to_owned() };
        let Some(end) = end else { return Err(diverged(tail.seq, "the key of its end says nothing")) };
        if end < tail.seq {
            return Err(diverged(tail.seq, "this member has it, and the cluster has not"));
        }
        while tail.seq < end {
            let (records, next) = roll::next_page(&self.shared.remote, &self.shared.keys, &tail).await?;
            if records.is_empty() {
                return Err(diverged(tail.seq + 1, "it is missing at the end"));
            }
            tail = next;
            lock(&self.shared.tail).0 = tail.clone();
            self.tell(StoreEvent::Records(records)).await;
        }
        let revision = seen.tail.as_ref().map_or(0, KeyValue::mod_revision);
        if tail.seq == end {
            let same = seen.tail.as_ref().is_none_or(|found| found.value() == roll::tail_text(&tail).as_bytes());
            if !same {
                return Err(diverged(end, "its checksum in the cluster is another one"));
            }
            self.shared.set_tail(tail, revision);
        }
        Ok(end)
    }

    async fn tell_leader(&mut self, leader: Option<VantageId>) {
        if self.told_leader.as_ref() != Some(&leader) {
            self.told_leader = Some(leader.clone());
            self.tell(StoreEvent::Leader(leader)).await;
        }
    }

    async fn tell_members(&mut self, seen: &Look) {
        if self.told_members != seen.members {
            self.told_members.clone_from(&seen.members);
            self.tell(StoreEvent::Members(seen.members.clone())).await;
        }
    }

    /// Takes what was asked of the leader; each is claimed first, so that none is carried out twice.
    async fn tell_asked(&self, seen: &Look) {
        for asked in &seen.asked {
            match requests::claim(&self.shared, &asked.id).await {
                Ok(true) => self.tell(StoreEvent::Asked(asked.clone())).await,
                Ok(false) => {}
                Err(why) => tracing::warn!(%why, id = asked.id, "a command that was handed on could not be taken"),
            }
        }
    }
}
