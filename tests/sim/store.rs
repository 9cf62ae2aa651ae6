//! etcd's double: one linearizable state, leases by its own clock, and a lossy network before it.
//!
//! What stands here is what etcd documents: a transaction is taken whole or not at all, a key goes with
//! its lease, a lease lives for its TTL after the newest renewal that arrived. Elections within etcd show
//! as a time without answers.

use std::collections::BTreeMap;

use failoverd::model::*;

/// The lease of the leader, in milliseconds of etcd's clock.
pub const TTL: u64 = 10_000;

/// What a member asks.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Put the leader's key under a new lease, if there is none.
    Campaign,
    Renew {
        lease: u64,
    },
    /// Append these, if the leader's key is still that of the term and the journal ends there.
    Append {
        term: Term,
        after: u64,
        records: Vec<Record>,
    },
    /// The journal from there on.
    Read {
        after: u64,
    },
    /// Give the leader's key back.
    Resign {
        term: Term,
    },
}

#[derive(Clone, Debug)]
pub struct Request {
    pub number: u64,
    pub life: u64,
    pub node: usize,
    pub ask: Ask,
}

/// What it says.
#[derive(Clone, Debug)]
pub enum Said {
    Taken {
        term: Term,
        lease: u64,
    },
    Held {
        by: &'static str,
    },
    Renewed,
    NoSuchLease,
    Appended,
    /// The comparison failed, and the records are not there.
    Overtaken,
    Records {
        records: Vec<Record>,
        leader: Option<&'static str>,
    },
    Resigned,
}

#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub name: &'static str,
    pub term: Term,
    lease: u64,
}

#[derive(Debug, Default)]
pub struct Store {
    leases: BTreeMap<u64, u64>,
    key: Option<Held>,
    revision: u64,
}

impl Store {
    /// Who holds the leader's key at that time.
    pub fn holder(&mut self, now: u64) -> Option<Held> {
        self.leases.retain(|_, ends| now < *ends);
        self.key = self.key.filter(|held| self.leases.contains_key(&held.lease));
        self.key
    }

    /// `new` are the records that have become durable with it.
    pub fn answer(&mut self, now: u64, name: &'static str, ask: &Ask, journal: &[Record]) -> (Said, Vec<Record>) {
        let held = self.holder(now);
        let said = match ask {
            Ask::Campaign => match held {
                Some(held) => Said::Held { by: held.name },
                None => {
                    self.revision += 1;
                    let (term, lease) = (Term(self.revision), self.revision);
                    self.leases.insert(lease, now + TTL);
                    self.key = Some(Held { name, term, lease });
                    Said::Taken { term, lease }
                }
            },
            Ask::Renew { lease } => match self.leases.get_mut(lease) {
                Some(ends) => {
                    *ends = now + TTL;
                    Said::Renewed
                }
                None => Said::NoSuchLease,
            },
            Ask::Append { term, after, records } => {
                let there = journal.get(*after as usize..*after as usize + records.len());
                if there == Some(records.as_slice()) {
                    // The transaction was sent before, and had been taken.
                    Said::Appended
                } else if held.is_some_and(|held| held.term == *term) && journal.len() as u64 == *after {
                    self.revision += 1;
                    return (Said::Appended, records.clone());
                } else {
                    Said::Overtaken
                }
            }
            Ask::Read { after } => Said::Records {
                records: journal.get(*after as usize..).unwrap_or_default().to_vec(),
                leader: held.map(|held| held.name),
            },
            Ask::Resign { term } => {
                self.key = self.key.filter(|held| held.term != *term);
                Said::Resigned
            }
        };
        (said, Vec::new())
    }
}
