//! The lease of the one of several daemons that leads: may it act now?
//!
//! The store ends a lease `ttl` after it last took a renewal. The holder counts from *before* it sent that
//! renewal, by a clock of its own that also runs while the machine sleeps, and acts only in the first half:
//! whatever it begins then is begun before anybody else may lead, even where its clock runs at half the
//! speed of the store's. What it has begun and what is stuck on its way is for the epoch to fence off (S3).

use std::time::Duration;

use crate::model::sabotage::{Sabotage, is_broken};
use crate::model::{MonoTime, Term};

/// Why a member may not act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MayNot {
    /// It does not lead.
    #[error("this member does not lead")]
    NotLeading,
    /// It holds the lease, and the half in which it may act is over: no renewal was taken in time.
    #[error("term {term}: the lease was not renewed within the half of its time in which its holder may act")]
    Waning {
        /// Its term.
        term: Term,
    },
    /// Its lease is over.
    #[error("term {term}: the lease is over")]
    Over {
        /// What its term was.
        term: Term,
    },
}

/// What one member knows of its own lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    ttl: Duration,
    held: Option<(Term, MonoTime)>,
}

impl Lease {
    /// Of a member that does not lead. `ttl` is the time after which the store ends a lease that is not renewed.
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, held: None }
    }

    /// It was taken. `sent` is from before the newest renewal that the store has answered was sent.
    pub fn taken(&mut self, term: Term, sent: MonoTime) {
        self.held = Some((term, sent));
    }

    /// The store took a renewal that was sent then. One of another term, and one that was overtaken by a
    /// newer one, says nothing.
    pub fn renewed(&mut self, term: Term, sent: MonoTime) {
        if let Some((held, newest)) = &mut self.held
            && *held == term
        {
            *newest = sent.max(*newest);
        }
    }

    /// It is held no more, or was given back.
    pub fn lost(&mut self) {
        self.held = None;
    }

    /// The term under which it may act now.
    ///
    /// # Errors
    /// [`MayNot`], with the reason.
    pub fn may_act(&self, now: MonoTime) -> Result<Term, MayNot> {
        let (term, sent) = self.held.ok_or(MayNot::NotLeading)?;
        let passed = now.since(sent);
        if passed >= self.ttl {
            Err(MayNot::Over { term })
        } else if passed >= self.ttl / 2 && !is_broken(Sabotage::LeaseMargin) {
            Err(MayNot::Waning { term })
        } else {
            Ok(term)
        }
    }

    /// Until when it may act, unless it is renewed before.
    pub fn acts_until(&self) -> Option<MonoTime> {
        self.held.map(|(_, sent)| sent + self.ttl / 2)
    }

    /// How often a renewal is sent: three may be lost in a row before it may not act.
    pub fn renewal_interval(&self) -> Duration {
        self.ttl / 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Term = Term(7);

    fn at(ms: u64) -> MonoTime {
        MonoTime::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn it_acts_in_the_first_half_and_not_an_instant_longer() {
        let mut lease = Lease::new(Duration::from_secs(10));
        assert_eq!(lease.may_act(at(0)), Err(MayNot::NotLeading));
        lease.taken(TERM, at(1_000));
        assert_eq!(lease.may_act(at(5_999)), Ok(TERM));
        assert_eq!(lease.may_act(at(6_000)), Err(MayNot::Waning { term: TERM }));
        assert_eq!(lease.may_act(at(10_999)), Err(MayNot::Waning { term: TERM }));
        assert_eq!(lease.may_act(at(11_000)), Err(MayNot::Over { term: TERM }));
        assert_eq!(lease.acts_until(), Some(at(6_000)));
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_sent_and_an_older_one_takes_nothing_back() {
        let mut lease = Lease::new(Duration::from_secs(10));
        lease.taken(TERM, at(0));
        lease.renewed(TERM, at(3_000));
        lease.renewed(TERM, at(2_000));
        assert_eq!(lease.may_act(at(7_999)), Ok(TERM));
        lease.renewed(Term(6), at(9_000));
        assert_eq!(lease.may_act(at(8_000)), Err(MayNot::Waning { term: TERM }));
        lease.lost();
        lease.renewed(TERM, at(8_000));
        assert_eq!(lease.may_act(at(8_000)), Err(MayNot::NotLeading));
    }

    #[test]
    fn four_renewals_fit_into_the_half_in_which_it_acts() {
        assert_eq!(Lease::new(Duration::from_secs(10)).renewal_interval(), Duration::from_millis(1_250));
    }
}
