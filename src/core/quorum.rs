//! From the votes of the vantages to a verdict (Sentinel's step from SDOWN to ODOWN).

use serde::{Deserialize, Serialize};

use super::detect::Detector;
use crate::model::sabotage::{Sabotage, is_broken};
use crate::model::{Cause, FailureDomain, Health, HumanDuration, Inconclusive, MonoTime, VantageId, Verdict};

/// Another vantage's newest vote of one probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PeerVote {
    pub(super) vantage: VantageId,
    pub(super) domain: FailureDomain,
    pub(super) health: Health,
    pub(super) seen: MonoTime,
    pub(super) first_bad: Option<MonoTime>,
    pub(super) degraded: bool,
    pub(super) cause: Option<Cause>,
}

impl PeerVote {
    /// Would another vote change no verdict?
    pub(super) fn says_as(&self, other: &Self) -> bool {
        (self.health, self.degraded, &self.domain) == (other.health, other.degraded, &other.domain)
    }

    /// Does it count still?
    pub(super) fn is_fresh(&self, now: MonoTime, max_age: HumanDuration) -> bool {
        now <= self.seen + max_age.get()
    }
}

/// What is asked of a quorum.
pub(super) struct Question<'a> {
    pub(super) now: MonoTime,
    /// So many failure domains must agree.
    pub(super) need: u32,
    pub(super) domain: &'a FailureDomain,
    /// Why our own series may be our own isolation: nobody has answered since it began who would tell
    /// that it is not.
    pub(super) isolated: Option<Inconclusive>,
    pub(super) tilt: bool,
}

/// One domain's voice: Down only where everybody in it says Down.
#[derive(Clone, Copy)]
struct Voice {
    health: Health,
    first_bad: Option<MonoTime>,
}

/// What the fresh votes say of a probe.
pub(super) fn verdict(question: &Question<'_>, own: &Detector, peers: &[PeerVote]) -> Verdict {
    if question.tilt {
        return Verdict::Inconclusive(Inconclusive::Tilt);
    }
    // Alone, which is the usual case, there is nothing to be counted.
    if peers.is_empty() && question.need <= 1 {
        return alone(question, own);
    }
    // A handful at most: found by looking through them, in each of the many questions of a trip.
    let mut domains: Vec<(&FailureDomain, Voice)> = Vec::with_capacity(peers.len() + 1);
    let mut add = |domain, voice: Voice| match domains.iter_mut().find(|(known, _)| *known == domain) {
        Some((_, present)) => {
            if present.health != voice.health {
                present.health = Health::Unknown;
            }
            present.first_bad = present.first_bad.max(voice.first_bad);
        }
        None => domains.push((domain, voice)),
    };
    if let Some(health) = own.health().filter(|_| own.is_fresh(question.now)) {
        let health = if health == Health::Down && question.isolated.is_some() { Health::Unknown } else { health };
        add(question.domain, Voice { health, first_bad: own.first_bad() });
    }
    for peer in peers.iter().filter(|peer| peer.is_fresh(question.now, own.settings.max_age)) {
        add(&peer.domain, Voice { health: peer.health, first_bad: peer.first_bad });
    }
    count(question, own, domains.iter().map(|(_, voice)| voice))
}

/// Does a quorum see that it is Up, but not well?
pub(super) fn is_degraded(question: &Question<'_>, own: &Detector, peers: &[PeerVote]) -> bool {
    let fresh = peers.iter().filter(|peer| peer.degraded && peer.is_fresh(question.now, own.settings.max_age));
    let mut domains: Vec<&FailureDomain> = fresh.map(|peer| &peer.domain).collect();
    if own.is_degraded() && own.is_fresh(question.now) {
        domains.push(question.domain);
    }
    domains.sort_unstable();
    domains.dedup();
    domains.len() >= question.need as usize
}

fn count<'a>(question: &Question<'_>, own: &Detector, voices: impl Iterator<Item = &'a Voice> + Clone) -> Verdict {
    let tally = |health| voices.clone().filter(|voice| voice.health == health).count();
    let (up, down, unknown) = (tally(Health::Up), tally(Health::Down), tally(Health::Unknown));
    let need = if is_broken(Sabotage::QuorumCount) { 1 } else { question.need as usize };
    if down >= need && up < need {
        let outage_start = voices.filter(|v| v.health == Health::Down).filter_map(|v| v.first_bad).min();
        // A Down without a first bad observation is a vote that nobody could have given.
        return outage_start
            .map_or(Verdict::Inconclusive(Inconclusive::TooFewVotes), |outage_start| Verdict::Down { outage_start });
    }
    if up >= need && down < need {
        return Verdict::Up;
    }
    Verdict::Inconclusive(if up + down >= need {
        Inconclusive::Split
    } else if let Some(why) = question.isolated.filter(|_| own.health() == Some(Health::Down)) {
        why
    } else if up + down + unknown > 0 {
        Inconclusive::TooFewVotes
    } else if own.health().is_some() {
        Inconclusive::Expired
    } else {
        Inconclusive::NotYet
    })
}

fn alone(question: &Question<'_>, own: &Detector) -> Verdict {
    let Some(health) = own.health() else { return Verdict::Inconclusive(Inconclusive::NotYet) };
    if !own.is_fresh(question.now) {
        return Verdict::Inconclusive(Inconclusive::Expired);
    }
    match (health, own.first_bad()) {
        (Health::Up, _) => Verdict::Up,
        (Health::Down, Some(outage_start)) => {
            question.isolated.map_or(Verdict::Down { outage_start }, Verdict::Inconclusive)
        }
        (Health::Down, None) | (Health::Unknown, _) => Verdict::Inconclusive(Inconclusive::TooFewVotes),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{CauseKind, Observation, ProbeSettings};

    fn own(health: Health) -> Detector {
        let mut detector = Detector::new(ProbeSettings {
            name: "api".into(),
            region: None,
            zone: None,
            target: "here".into(),
            interval: HumanDuration::secs(1),
            fast_interval: HumanDuration::secs(1),
            timeout: HumanDuration::secs(1),
            fall: 1,
            rise: 1,
            max_age: HumanDuration::secs(4),
            causes: std::collections::BTreeMap::new(),
            window: None,
        });
        detector.observe(
            MonoTime(1),
            match health {
                Health::Up => Observation::up(Duration::ZERO),
                Health::Down => Observation::down(CauseKind::Timeout, ""),
                Health::Unknown => Observation::unknown(CauseKind::LocalResource, ""),
            },
        );
        detector
    }

    fn peer(vantage: &str, domain: &str, health: Health, seen: u64) -> PeerVote {
        PeerVote {
            vantage: vantage.into(),
            domain: domain.into(),
            health,
            seen: MonoTime(seen),
            first_bad: (health == Health::Down).then_some(MonoTime(seen)),
            degraded: false,
            cause: None,
        }
    }

    fn ask(need: u32, isolated: bool, own: &Detector, peers: &[PeerVote]) -> Verdict {
        let isolated = isolated.then_some(Inconclusive::Isolated);
        let question = Question { now: MonoTime(10), need, domain: &"a".into(), isolated, tilt: false };
        verdict(&question, own, peers)
    }

    #[test]
    fn two_votes_from_one_domain_count_once() {
        let verdict = ask(2, false, &own(Health::Down), &[peer("w", "a", Health::Down, 2)]);
        assert_eq!(verdict, Verdict::Inconclusive(Inconclusive::TooFewVotes));
        let verdict = ask(2, false, &own(Health::Down), &[peer("w", "b", Health::Down, 2)]);
        assert_eq!(verdict, Verdict::Down { outage_start: MonoTime(1) });
    }

    #[test]
    fn unknown_is_not_down_and_disagreement_is_not_a_verdict() {
        let peers = [peer("w", "b", Health::Unknown, 2), peer("x", "c", Health::Up, 2)];
        assert_eq!(ask(2, false, &own(Health::Down), &peers), Verdict::Inconclusive(Inconclusive::Split));
        // With `fall = 1` one Unknown observation concludes Unknown, which is one vote too few.
        assert_eq!(ask(1, false, &own(Health::Unknown), &[]), Verdict::Inconclusive(Inconclusive::TooFewVotes));
    }

    #[test]
    fn expired_votes_do_not_count() {
        let mut old = own(Health::Down);
        old.settings.max_age = HumanDuration(Duration::from_nanos(5));
        assert_eq!(ask(1, false, &old, &[]), Verdict::Inconclusive(Inconclusive::Expired));
        let peers = [peer("w", "b", Health::Down, 2)];
        assert_eq!(ask(1, false, &old, &peers), Verdict::Inconclusive(Inconclusive::Expired));
    }

    #[test]
    fn an_isolated_vantage_abstains_when_it_sees_down() {
        assert_eq!(ask(1, true, &own(Health::Down), &[]), Verdict::Inconclusive(Inconclusive::Isolated));
        assert_eq!(ask(1, true, &own(Health::Up), &[]), Verdict::Up);
        let peers = [peer("w", "b", Health::Down, 2)];
        assert_eq!(ask(2, true, &own(Health::Down), &peers), Verdict::Inconclusive(Inconclusive::Isolated));
    }

    #[test]
    fn a_domain_that_says_both_is_no_majority_for_either() {
        let peers = [peer("w", "b", Health::Up, 2)];
        assert_eq!(ask(1, false, &own(Health::Down), &peers), Verdict::Inconclusive(Inconclusive::Split));
        assert_eq!(ask(1, false, &own(Health::Up), &[peer("w", "a", Health::Up, 2)]), Verdict::Up);
        assert_eq!(ask(2, true, &own(Health::Up), &peers), Verdict::Up, "only a Down of its own may be its isolation");
        // Two that are Up outvote one that is Down, and the other way round.
        let (up, down) = (own(Health::Up), own(Health::Down));
        let more = [peer("w", "b", Health::Up, 2), peer("x", "c", Health::Down, 2)];
        assert_eq!(ask(2, false, &up, &more), Verdict::Up);
        assert_eq!(ask(2, false, &down, &more), Verdict::Down { outage_start: MonoTime(1) });
        assert_eq!(ask(3, false, &down, &more), Verdict::Inconclusive(Inconclusive::Split));
    }

    #[test]
    fn nobody_asked_has_answered_yet() {
        let mut silent = own(Health::Up);
        silent = Detector::new(silent.settings);
        assert_eq!(ask(2, false, &silent, &[]), Verdict::Inconclusive(Inconclusive::NotYet));
        assert_eq!(ask(1, false, &silent, &[]), Verdict::Inconclusive(Inconclusive::NotYet));
        assert_eq!(ask(1, false, &silent, &[peer("w", "b", Health::Up, 2)]), Verdict::Up, "others count for it");
        assert_eq!(ask(2, false, &own(Health::Up), &[]), Verdict::Inconclusive(Inconclusive::TooFewVotes));
    }

    #[test]
    fn a_vote_counts_up_to_the_end_of_its_time_and_says_the_same_only_in_all_that_counts() {
        let vote = peer("w", "b", Health::Up, 10);
        let max_age = HumanDuration(Duration::from_nanos(5));
        assert!(vote.is_fresh(MonoTime(15), max_age) && !vote.is_fresh(MonoTime(16), max_age));
        assert!(vote.says_as(&peer("w", "b", Health::Up, 11)));
        assert!(!vote.says_as(&peer("w", "b", Health::Down, 10)) && !vote.says_as(&peer("w", "c", Health::Up, 10)));
        assert!(!vote.says_as(&PeerVote { degraded: true, ..vote.clone() }));
    }

    #[test]
    fn degraded_is_what_a_quorum_sees_as_degraded_now() {
        let well = own(Health::Up);
        let mut unwell = Detector::new(well.settings.clone());
        unwell.observe(MonoTime(1), Observation::degraded(Duration::ZERO, CauseKind::Slow, ""));
        let says = |domain: &str, degraded| PeerVote { degraded, ..peer("w", domain, Health::Up, 1) };
        let (domain, now) = ("a".into(), MonoTime(10));
        let asked = |now, need, own: &Detector, peers: &[PeerVote]| {
            is_degraded(&Question { now, need, domain: &domain, isolated: None, tilt: false }, own, peers)
        };
        assert!(asked(now, 1, &unwell, &[]) && !asked(now, 2, &unwell, &[]) && !asked(now, 1, &well, &[]));
        assert!(!asked(now, 1, &well, &[says("b", false)]) && asked(now, 1, &well, &[says("b", true)]));
        assert!(asked(now, 2, &unwell, &[says("b", true)]) && !asked(now, 2, &unwell, &[says("a", true)]));
        let late = now + Duration::from_secs(60);
        assert!(!asked(late, 1, &unwell, &[]) && !asked(late, 1, &well, &[says("b", true)]));
    }
}
