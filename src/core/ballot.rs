//! Whether a ballot counts: from whom it has to be, and that it answers the question that was asked.
//!
//! Whether it is signed by the key of that vantage was found out before; here is what a signature cannot
//! tell: replayed, late and duplicate ballots, votes for another target, and times that cannot be.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::event::{Event, PeerVoteOf};
use crate::model::{Ballot, BallotVote, BootId, FailureDomain, Health, MonoTime, Nonce, Settings, VantageId};

/// Former lives of a witness that are remembered: a ballot of one of them is a replay.
const BOOTS: usize = 32;

/// Why a ballot, or one vote on it, does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// It is not signed by the vantage that was asked.
    Forged,
    /// It is signed by the vantage that was asked, whose certificate has run out.
    Expired,
    /// It is another vantage's.
    WrongVantage,
    /// It is from another failure domain than the configuration says.
    WrongDomain,
    /// It answers somebody else, or another question, or was given before.
    Replayed,
    /// The question was answered already.
    Duplicate,
    /// It came after its time.
    Late,
    /// A vote on a probe of that name that asks something else.
    WrongTarget,
    /// A vote on a probe that we do not have.
    UnknownProbe,
    /// It says what cannot be.
    Malformed,
}

impl Refused {
    /// As written in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Expired => "expired",
            Self::WrongVantage => "wrong_vantage",
            Self::WrongDomain => "wrong_domain",
            Self::Replayed => "replayed",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::WrongTarget => "wrong_target",
            Self::UnknownProbe => "unknown_probe",
            Self::Malformed => "malformed",
        }
    }
}

/// What is known of one witness.
#[derive(Clone, Debug)]
pub struct Juror {
    vantage: VantageId,
    domain: FailureDomain,
    /// An answer that comes later is late.
    within: Duration,
    asked: Option<(Nonce, MonoTime)>,
    answered: Option<Nonce>,
    /// The lives that were seen, the newest last, and the last sequence of each.
    boots: VecDeque<(BootId, u64)>,
}

/// A ballot that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    /// For the brain.
    pub event: Event,
    /// Votes on it that do not count.
    pub refused: Vec<Refused>,
    /// For the next question.
    pub change: u64,
}

impl Juror {
    /// Of a witness that is asked, and has to answer `within` this.
    pub fn new(vantage: VantageId, domain: FailureDomain, within: Duration) -> Self {
        Self { vantage, domain, within, asked: None, answered: None, boots: VecDeque::new() }
    }

    /// Takes what a new configuration says of it. What is known of its former answers stays, so that a reload
    /// lets no replay in.
    pub fn adjust(&mut self, domain: FailureDomain, within: Duration) {
        (self.domain, self.within) = (domain, within);
    }

    /// A question goes out. An answer to an earlier one does not count any more.
    pub fn ask(&mut self, now: MonoTime, nonce: Nonce) {
        self.asked = Some((nonce, now));
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn judge(&mut self, now: MonoTime, ballot: &Ballot, settings: &Settings) -> Result<Counted, Refused> {
        if ballot.vantage != self.vantage {
            return Err(Refused::WrongVantage);
        }
        if ballot.domain != self.domain {
            return Err(Refused::WrongDomain);
        }
        if self.answered.as_ref() == Some(&ballot.nonce) {
            return Err(Refused::Duplicate);
        }
        let asked_at = match &self.asked {
            Some((nonce, at)) if *nonce == ballot.nonce && ballot.asker == settings.name => *at,
            _ => return Err(Refused::Replayed),
        };
        self.asked = None;
        self.answered = Some(ballot.nonce.clone());
        self.sequence(ballot)?;
        if now.since(asked_at) > self.within {
            return Err(Refused::Late);
        }
        // It began to wait when the question had come, so that this is no later than its answer.
        let answered_at = (asked_at + Duration::from_millis(ballot.waited_ms)).min(now);
        let mut refused = Vec::new();
        let mut seen = BTreeSet::new();
        let mut votes = Vec::with_capacity(ballot.votes.len());
        for vote in &ballot.votes {
            match take(vote, answered_at, settings) {
                Ok(_) if !seen.insert(&vote.probe) => refused.push(Refused::Duplicate),
                Ok(taken) => votes.push(taken),
                Err(why) => refused.push(why),
            }
        }
        let event = Event::Ballot { vantage: self.vantage.clone(), domain: self.domain.clone(), votes };
        Ok(Counted { event, refused, change: ballot.change })
    }

    fn sequence(&mut self, ballot: &Ballot) -> Result<(), Refused> {
        let newest = self.boots.back().map(|(boot, _)| boot.clone());
        match self.boots.iter_mut().find(|(boot, _)| *boot == ballot.boot) {
            Some((boot, sequence)) if newest.as_ref() == Some(boot) && ballot.sequence > *sequence => {
                *sequence = ballot.sequence;
            }
            Some(_) => return Err(Refused::Replayed),
            None => {
                self.boots.push_back((ballot.boot.clone(), ballot.sequence));
                if self.boots.len() > BOOTS {
                    self.boots.pop_front();
                }
            }
        }
        Ok(())
    }
}

fn take(vote: &BallotVote, answered_at: MonoTime, settings: &Settings) -> Result<PeerVoteOf, Refused> {
    let probe = settings.probe(&vote.probe).ok_or(Refused::UnknownProbe)?;
    if probe.target != vote.target {
        return Err(Refused::WrongTarget);
    }
    let age = Duration::from_millis(vote.age_ms);
    let first_bad = match (vote.health, vote.first_bad_ms.map(Duration::from_millis)) {
        (Health::Down, Some(first)) if first >= age => Some(answered_at.minus(first)),
        (Health::Down, _) => return Err(Refused::Malformed),
        _ => None,
    };
    Ok(PeerVoteOf {
        probe: vote.probe.clone(),
        health: vote.health,
        seen: answered_at.minus(age),
        first_bad,
        degraded: vote.degraded && vote.health == Health::Up,
        cause: vote.cause.clone(),
    })
}

#[cfg(test)]
#[path = "ballot_tests.rs"]
mod tests;
