//! Who takes the lease when nobody holds it: one that has watched all the while before one that has just
//! begun.
//!
//! A member that began in the middle of an outage never saw the primary, and predicts a greater loss than
//! there is; where it leads, a failover waits for a person although another member could have carried it out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::model::VantageId;

/// May a member ask for the lease, whose time is `ttl`, now? `up_for` is how long it has lived, `free_for` for
/// how long it has known that nobody holds the lease.
///
/// A leader that died and came back has lived for less than a `ttl` when its old lease ends: it leaves the
/// others a quarter of one to come first.
pub fn may_campaign(ttl: Duration, up_for: Duration, free_for: Duration) -> bool {
    up_for >= ttl * 2 || free_for >= ttl / 4
}

/// Why the journal in the cluster may not be the one that the members wrote: nobody leads on it, since the
/// epochs that it grants may have been granted before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// A member has more of it than there is: it was set back.
    SetBack {
        /// Who.
        member: VantageId,
        /// The records that the member has.
        records: u64,
        /// The records in the cluster.
        end: u64,
    },
    /// There is nothing of it, and some have not said whether they have a copy: it may be new, or wiped.
    Empty {
        /// Who.
        silent: Vec<VantageId>,
    },
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetBack { member, records, end } => write!(
                f,
                "the journal in the cluster has {end} records, and {member} has a copy of {records}: was the cluster set back to an older copy, or made anew? Nothing is led on it. If it shall hold, stop {member} and move its local copy away; else restore the cluster"
            ),
            Self::Empty { silent } => {
                let silent: Vec<&str> = silent.iter().map(VantageId::as_str).collect();
                write!(
                    f,
                    "the journal in the cluster is empty: new, or wiped? Nothing is led on it before each member has said that it has no copy either; not yet heard: {}. Start what is missing, or take what is gone for good from [members] and restart",
                    silent.join(", ")
                )
            }
        }
    }
}

/// May the journal in the cluster, which ends at record `end`, be led on? `members` is who there is by the
/// configuration, `copies` how many records each has that has said so.
///
/// # Errors
/// [`Unproven`].
pub fn proven(end: u64, members: &[VantageId], copies: &BTreeMap<VantageId, u64>) -> Result<(), Unproven> {
    let longest = copies.iter().max_by_key(|(_, records)| **records);
    if let Some((member, records)) = longest.filter(|(_, records)| **records > end) {
        return Err(Unproven::SetBack { member: member.clone(), records: *records, end });
    }
    let silent: Vec<VantageId> = members.iter().filter(|member| !copies.contains_key(member)).cloned().collect();
    if end == 0 && !silent.is_empty() { Err(Unproven::Empty { silent }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_journal_is_led_on_when_all_have_said_that_theirs_is_empty_too() {
        let members: Vec<VantageId> = ["a", "b"].map(VantageId::from).to_vec();
        let copies = |of: &[(&str, u64)]| of.iter().map(|(name, records)| ((*name).into(), *records)).collect();
        assert_eq!(proven(0, &members, &copies(&[("a", 0), ("b", 0)])), Ok(()));
        let silent = Unproven::Empty { silent: vec!["b".into()] };
        assert_eq!(proven(0, &members, &copies(&[("a", 0)])), Err(silent));
        let set_back = |records, end| Unproven::SetBack { member: "b".into(), records, end };
        assert_eq!(proven(0, &members, &copies(&[("a", 0), ("b", 3)])), Err(set_back(3, 0)));
        // Once it is known to be the journal, a member may be gone.
        assert_eq!(proven(3, &members, &copies(&[("a", 0)])), Ok(()));
        assert_eq!(proven(3, &members, &copies(&[("a", 3), ("b", 4)])), Err(set_back(4, 3)));
    }

    #[test]
    fn one_that_is_new_comes_after_those_that_have_watched() {
        let (seconds, ttl) = (Duration::from_secs, Duration::from_secs(8));
        assert!(may_campaign(ttl, seconds(16), Duration::ZERO));
        assert!(!may_campaign(ttl, seconds(15), Duration::from_millis(1_999)));
        assert!(may_campaign(ttl, Duration::ZERO, seconds(2)), "where nobody else comes it must not wait for ever");
    }

    #[test]
    fn a_journal_that_is_not_led_on_says_what_to_do() {
        let set_back = Unproven::SetBack { member: "b".into(), records: 7, end: 3 }.to_string();
        assert!(set_back.contains("has 3 records, and b has a copy of 7"), "{set_back}");
        let empty = Unproven::Empty { silent: vec!["b".into(), "c".into()] }.to_string();
        assert!(empty.contains("not yet heard: b, c."), "{empty}");
    }
}
