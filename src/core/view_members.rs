//! What is shown of several daemons.

use serde::{Deserialize, Serialize};

use crate::model::{FailureDomain, Term, VantageId, WallTime};

/// Who leads, and who is there, as one member sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipView {
    /// Who leads; `None` where nobody does, as far as is known.
    pub leader: Option<VantageId>,
    /// The term of this member; `None` where it does not lead.
    pub term: Option<Term>,
    /// Why the store cannot be reached or used from here.
    pub trouble: Option<String>,
    /// Those that are there.
    pub members: Vec<MemberView>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
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
    /// So many records of the journal are in its copy.
    #[serde(default)]
    pub records: u64,
    /// It leads.
    pub leads: bool,
    /// It is the one that was asked.
    pub own: bool,
}
