//! The state of several daemons, on an etcd cluster: who leads, and the journal that the leader writes.
//!
//! Each member keeps a copy of the journal in its own file (the embedded store), with the same chain of
//! checksums: what reads a state reads that, a member starts with what it knew, and an etcd cluster that was
//! set back to an older copy of itself is seen to have been.
//!
//! Every write of the journal is one transaction that holds only while the leader's key is the one that this
//! member created (its create revision is the term), and while the journal ends where the member thinks it
//! does. Sent again it changes nothing, so that a transaction whose outcome is not known is sent again until
//! it is; a former leader's finds another leader's key, and none (S2, S3).
//!
//! One task renews the lease and looks at the keys, again and again: it has no stream that could fall silent
//! unseen. It runs on a thread of its own, so that nothing that the daemon waits for delays a renewal.

mod journal;
mod keeper;
mod keys;
mod look;
mod remote;
mod requests;
mod roll;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::shape::EtcdUser;
use crate::core::Refusal;
use crate::core::event::{Answer, Command};
use crate::model::{FailureDomain, Record, Term, VantageId, WallTime};

pub use journal::{EtcdAuthority, EtcdJournal};
pub use keeper::{Cluster, start};
pub use remote::{EtcdTls, Unreachable};

/// The version of the journal's records that this program writes and reads. A member that knows only an older
/// one does not lead any more once the journal is of a newer one; the leader raises it when every member that
/// is there can read it.
pub const JOURNAL_SCHEMA: u32 = 1;

/// Where the cluster is, and how it is used.
#[derive(Clone)]
pub struct EtcdSettings {
    /// `host:port` of each member of the etcd cluster.
    pub endpoints: Vec<String>,
    /// What all keys begin with.
    pub prefix: String,
    /// After so long without a renewal another member may lead.
    pub ttl: Duration,
    /// A user of etcd. Its password is read at each login.
    pub user: Option<EtcdUser>,
    /// Over TLS.
    pub tls: Option<EtcdTls>,
    /// All members, by the configuration.
    pub members: Vec<VantageId>,
}

/// A member, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberCard {
    /// Its name.
    pub name: VantageId,
    /// Where it stands.
    pub domain: FailureDomain,
    /// Its version.
    pub version: String,
    /// The newest journal that it can read.
    pub schema: u32,
    /// Since when it is there.
    pub since: WallTime,
    /// So many records of the journal are in its copy. (A card that does not say so is not read: on an empty
    /// cluster its member has not been heard.)
    pub records: u64,
}

/// What comes from the cluster, in this order.
#[derive(Debug)]
pub enum StoreEvent {
    /// Records that another member wrote; they follow from those before.
    Records(Vec<Record>),
    /// This member leads, and has all of the journal.
    Elected(Term),
    /// It leads no more.
    Lost {
        /// The term that is over.
        term: Term,
        /// Why.
        why: String,
    },
    /// Another one leads, or nobody.
    Leader(Option<VantageId>),
    /// Who is there.
    Members(Vec<MemberCard>),
    /// The cluster cannot be reached or used (`Some`), or can be again.
    Reached(Option<String>),
    /// Of the leader: a member hands on what somebody asked of it.
    Asked(Asked),
}

/// What was asked of a member that does not lead.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// What names it.
    pub id: String,
    /// Who asked, as the member that took it knows.
    pub by: String,
    /// What for.
    pub errand: Errand,
}

/// What a member hands on to the leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// To be carried out.
    Command(Command),
    /// Refused, to somebody who has no right to it; to be written down.
    Refused(String),
}

/// What became of it.
pub type Reply = Result<Answer, Refusal>;
