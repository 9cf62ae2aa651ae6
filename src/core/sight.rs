//! What is seen: our own observations, the other vantages' votes, and what takes them back (isolation, a
//! tilt).

use super::brain::Brain;
use super::detect::{Change, Detector};
use super::event::{Effect, PeerVoteOf};
use super::quorum::{self, PeerVote, Question};
use super::window::Sample;
use crate::model::{
    BallotVote, FailureDomain, Health, HumanDuration, Importance, Inconclusive, MonoTime, NoticeKind, Now, Observation,
    ProbeName, VantageId, Verdict,
};

/// What is thought of one probe at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Our own vote, after rise and fall; `None` before the first.
    pub vote: Option<Health>,
    /// What the quorum says; Inconclusive is Unknown.
    pub verdict: Health,
}

impl Brain {
    /// What is thought of this probe now; `None` where there is no such probe.
    pub fn sight(&self, now: Now, probe: &ProbeName) -> Option<Sight> {
        let index = *self.index.get(probe)?;
        Some(Sight { vote: self.detectors[index].health(), verdict: self.verdict(index, now.mono).health() })
    }

    pub(super) fn observed(
        &mut self,
        now: Now,
        probe: &ProbeName,
        started: MonoTime,
        observation: Observation,
    ) -> bool {
        // A report of a probe that a reload took away.
        let Some(&index) = self.index.get(probe) else { return false };
        let detector = &self.detectors[index];
        // Nobody looks at a window, and what was told once is not counted twice.
        let told = detector.latest.as_ref().is_some_and(|latest| latest.started == started);
        if told || detector.window.is_some() {
            return false;
        }
        let observation = observation.meaning(&detector.settings.causes);
        let sample = Sample::of(&observation);
        let changed = self.seen(index, started, observation);
        self.feed_windows(now, index, started, sample) || changed
    }

    /// Takes what one probe saw.
    pub(super) fn seen(&mut self, index: usize, started: MonoTime, observation: Observation) -> bool {
        let detector = &mut self.detectors[index];
        let health = observation.health();
        let doubted = detector.in_doubt();
        let change = detector.observe(started, observation);
        if change == Change::Late {
            return false;
        }
        let doubts = detector.in_doubt();
        if doubts != doubted {
            self.set_pace(index);
            let probe = &self.settings.probes[index].name;
            if doubts && health == Health::Down && !self.settings.anchors.contains(probe) {
                // Are we the ones who are cut off? Fresh answers have to come before the verdict.
                let anchors = self.settings.anchors.iter().cloned().map(Effect::ProbeNow);
                self.effects.extend(anchors);
            }
        }
        self.note_look(index, started, health);
        change == Change::Changed || self.attentive
    }

    pub(super) fn peer_vote(&mut self, probe: &ProbeName, vote: PeerVote) -> bool {
        let Some(&index) = self.index.get(probe) else { return false };
        if vote.health == Health::Up {
            self.detectors[index].elsewhere.note(&vote.domain, vote.seen);
        }
        let votes = &mut self.peers[index];
        match votes.iter_mut().find(|known| known.vantage == vote.vantage) {
            // Late or repeated: what is known is newer.
            Some(known) if known.seen >= vote.seen => false,
            Some(known) => {
                let same = known.says_as(&vote);
                *known = vote;
                !same || self.attentive
            }
            None => {
                votes.push(vote);
                true
            }
        }
    }

    /// All votes of another vantage. Its answers come in order ([`super::Juror`]), so that a newer one
    /// holds whatever was seen when; on what it does not vote any more, it says nothing.
    pub(super) fn ballot(
        &mut self,
        now: Now,
        vantage: VantageId,
        domain: &FailureDomain,
        votes: Vec<PeerVoteOf>,
    ) -> bool {
        let mut changed = self.heard.insert(vantage.clone(), now.mono).is_none();
        let mut said = vec![false; self.peers.len()];
        for PeerVoteOf { probe, health, seen, first_bad, degraded, cause } in votes {
            let Some(&index) = self.index.get(&probe) else { continue };
            said[index] = true;
            let (vantage, domain, seen) = (vantage.clone(), domain.clone(), seen.min(now.mono));
            if health == Health::Up {
                self.detectors[index].elsewhere.note(&domain, seen);
            }
            let vote = PeerVote { vantage, domain, health, seen, first_bad, degraded, cause };
            match self.peers[index].iter_mut().find(|known| known.vantage == vote.vantage) {
                Some(known) => {
                    changed |= !known.says_as(&vote);
                    *known = vote;
                }
                None => {
                    self.peers[index].push(vote);
                    changed = true;
                }
            }
        }
        for (votes, said) in self.peers.iter_mut().zip(said) {
            if !said {
                let before = votes.len();
                votes.retain(|vote| vote.vantage != vantage);
                changed |= votes.len() != before;
            }
        }
        changed || self.attentive
    }

    pub(super) fn tilt(&mut self, now: Now, by: std::time::Duration) {
        self.tilt_until = Some(now.mono + self.settings.tilt_for.get());
        self.detectors.iter_mut().for_each(Detector::forget_vote);
        for &place in &self.windows {
            self.detectors[place].window.iter_mut().for_each(|window| window.begin_anew(now.mono));
        }
        self.peers.iter_mut().for_each(Vec::clear);
        let by = HumanDuration(by);
        self.notify(
            now,
            NoticeKind::Daemon,
            Importance::Info,
            None,
            format!("tilt: the loop or the clock jumped by {by}; votes were dropped"),
        );
    }

    /// Are enough anchors known to have answered since `since`?
    pub(super) fn is_isolated_since(&self, since: MonoTime) -> bool {
        let answered = self
            .settings
            .anchors
            .iter()
            .filter_map(|anchor| self.index.get(anchor))
            .filter(|index| {
                let anchor = &self.detectors[**index];
                // It answered once since, and has not fallen silent after that: we may have been cut
                // off later than the target's first bad answer.
                anchor.last_up.is_some_and(|up| up >= since) && anchor.health() == Some(Health::Up)
            })
            .count();
        if self.settings.anchors.is_empty() && !self.settings.witnesses.is_empty() {
            // Nothing else tells whether it is we who are cut off: an answer of a witness came to a fresh
            // question, so that both directions stand.
            return !self.settings.witnesses.iter().any(|witness| self.heard_since(&witness.name, since));
        }
        answered < self.settings.anchors_at_least as usize
    }

    /// The verdict on one probe.
    pub(super) fn verdict(&self, index: usize, now: MonoTime) -> Verdict {
        quorum::verdict(&self.question(index, now), &self.detectors[index], &self.peers[index])
    }

    /// Is it Up, but not well?
    pub(super) fn is_degraded(&self, index: usize, now: MonoTime) -> bool {
        quorum::is_degraded(&self.question(index, now), &self.detectors[index], &self.peers[index])
    }

    /// Is it too early after a jump of the clock, or a stall, to believe any vote?
    pub(super) fn is_tilted(&self, now: MonoTime) -> bool {
        self.tilt_until.is_some_and(|until| now < until)
    }

    pub(super) fn question(&self, index: usize, now: MonoTime) -> Question<'_> {
        let own = &self.detectors[index];
        let is_anchor = self.settings.anchors.contains(&own.settings.name);
        let why = if self.settings.anchors.is_empty() { Inconclusive::NoWitness } else { Inconclusive::Isolated };
        let isolated = !is_anchor && own.first_bad().is_some_and(|since| self.is_isolated_since(since));
        Question {
            now,
            // Nobody else is asked about our anchors.
            need: if is_anchor { 1 } else { self.settings.quorum },
            domain: &self.settings.domain,
            isolated: isolated.then_some(why),
            tilt: self.is_tilted(now),
        }
    }

    /// Our own votes, as another vantage is told them: without what we do not believe ourselves.
    pub fn own_votes(&self, now: Now) -> Vec<BallotVote> {
        let tilt = self.is_tilted(now.mono);
        let told = self.detectors.iter().filter(|detector| !self.settings.anchors.contains(&detector.settings.name));
        told.filter_map(|detector| {
            let vote = detector.vote().filter(|_| !tilt && detector.is_fresh(now.mono))?;
            let isolated = vote.first_bad.is_some_and(|since| self.is_isolated_since(since));
            let health = if isolated && vote.health == Health::Down { Health::Unknown } else { vote.health };
            let ago = |at: MonoTime| u64::try_from(now.mono.since(at).as_millis()).unwrap_or(u64::MAX);
            Some(BallotVote {
                probe: detector.settings.name.clone(),
                target: detector.settings.target.clone(),
                health,
                degraded: vote.degraded,
                age_ms: ago(vote.seen),
                first_bad_ms: vote.first_bad.filter(|_| health == Health::Down).map(ago),
                cause: vote.cause,
            })
        })
        .collect()
    }

    /// Has it answered, as a vantage, since then?
    pub(super) fn heard_since(&self, vantage: &VantageId, since: MonoTime) -> bool {
        self.heard.get(vantage).is_some_and(|at| *at >= since)
    }
}
