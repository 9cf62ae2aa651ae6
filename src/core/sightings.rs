//! Who last saw a probe up, and when. No votes: a vote expires, that somebody was answered does not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{FailureDomain, MonoTime};

/// When each other failure domain last saw a probe up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sightings(BTreeMap<FailureDomain, MonoTime>);

impl Sightings {
    /// This domain saw it up then.
    pub(super) fn note(&mut self, domain: &FailureDomain, at: MonoTime) {
        match self.0.get_mut(domain) {
            Some(known) => *known = at.max(*known),
            None => drop(self.0.insert(domain.clone(), at)),
        }
    }

    /// When any of them did.
    pub(super) fn latest(&self) -> Option<MonoTime> {
        self.0.values().max().copied()
    }

    /// Until when so many of them saw it up: each of those did so then or later. No fewer than that can make it later
    /// than it was.
    pub(super) fn agreed(&self, many: u32) -> Option<MonoTime> {
        let mut all: Vec<MonoTime> = self.0.values().copied().collect();
        all.sort_unstable_by(|one, other| other.cmp(one));
        all.get(usize::try_from(many.max(1) - 1).unwrap_or(usize::MAX)).copied()
    }
}
