//! Ways to break things around the brain, each of which the checks have to see.

use failoverd::core::{Effect, Event};
use failoverd::model::*;

use crate::setup::{Case, NARROW, Weather};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Nothing is broken.
    None,
    /// The journal loses the intents.
    LoseIntents,
    /// The call goes out before its intent is on disk.
    CallBeforeIntent,
    /// Targets take whatever comes, whatever its epoch.
    WorldIgnoresEpochs,
    /// Calls leave under the epoch before theirs.
    OldEpoch,
    /// The brain is content with one vote where two are asked for.
    QuorumOfOne,
    /// The brain takes a vote for enough where a person would have to stand in for the other.
    ActsAlone,
    /// Votes never expire.
    OldVotes,
    /// The brain is never told that the clock jumped.
    NoTilt,
    /// The condition need not be confirmed.
    NoConfirmation,
    /// Lag is not looked at.
    NoRpo,
    NoCoolDown,
    NoLimit,
    /// The brain is never told that its state is in doubt.
    NoDoubt,
    /// A restart forgets the newest records.
    ShortJournal,
    /// A look that follows an unknown outcome is made a change.
    BlindRetry,
    /// What is called is not what the run began with.
    OtherPlan,
    /// Nobody is paged.
    NoPages,
    /// The brain hears of nothing bad.
    Deaf,
    /// The anchors are not asked.
    NoAnchors,
    /// The primary always seems down at the last look.
    NoLastLook,
    /// What is handed down to the next life says that nothing can be lost.
    ForgedEvidence,
    /// The broad scenarios are taken for such as only alert, which hide none.
    NoCorrelation,
    /// Nothing below has time to mend it.
    NoGrace,
}

impl Mutation {
    /// Each with the promises of which one has to be seen broken.
    pub const ALL: [(Self, &[&str]); 23] = [
        (Self::LoseIntents, &["S2", "S12"]),
        (Self::CallBeforeIntent, &["S2"]),
        (Self::WorldIgnoresEpochs, &["S3"]),
        (Self::OldEpoch, &["S3"]),
        (Self::QuorumOfOne, &["S4"]),
        (Self::ActsAlone, &["S4"]),
        (Self::OldVotes, &["S4"]),
        (Self::NoTilt, &["S11", "S4", "S5"]),
        (Self::NoConfirmation, &["S4"]),
        (Self::NoRpo, &["S5"]),
        (Self::NoCoolDown, &["S10"]),
        (Self::NoLimit, &["S10"]),
        (Self::NoDoubt, &["S11"]),
        (Self::ShortJournal, &["S12", "S3"]),
        (Self::BlindRetry, &["S8", "S2"]),
        (Self::OtherPlan, &["S9"]),
        (Self::NoPages, &["L2"]),
        (Self::Deaf, &["L1"]),
        (Self::NoAnchors, &["S4"]),
        (Self::NoLastLook, &["S4"]),
        (Self::ForgedEvidence, &["S5"]),
        (Self::NoCorrelation, &["correlation"]),
        (Self::NoGrace, &["grace"]),
    ];

    /// Can it show in this case at all? What cannot is not run.
    pub fn may_show(self, case: &Case) -> bool {
        match self {
            Self::WorldIgnoresEpochs => case.faults.call > 100 && case.faults.operator > 0,
            // The primary falls, and before that is confirmed nothing is heard any more.
            Self::OldVotes => match (&case.weather, case.silence) {
                (Weather::Outage(down, _), Some((from, _))) => (4_000..13_000).contains(&from.saturating_sub(*down)),
                _ => false,
            },
            // Where commits wait, what is handed down is wrong already before a run starts.
            Self::NoAnchors => {
                case.cut_off.is_some() && case.settings.anchors_at_least > 0 && case.synchronous_until.is_none()
            }
            Self::NoLastLook => matches!(case.weather, Weather::Flaps(_)) && case.synchronous_until.is_none(),
            Self::NoTilt => case.faults.clock > 0,
            Self::NoDoubt => case.doubt.is_some(),
            Self::ShortJournal => case.faults.crash > 0 && case.members == 1,
            Self::BlindRetry => case.faults.call > 0,
            Self::QuorumOfOne => case.settings.quorum > 1 && case.synchronous_until.is_none(),
            Self::NoCorrelation => case.settings.scenario(&NARROW.into()).is_some() && !case.only_db,
            Self::NoGrace => case.settings.scenarios.iter().any(|scenario| scenario.lower_layers_first.is_some()),
            Self::ActsAlone => case.witness_falls && case.synchronous_until.is_none(),
            Self::Deaf => case.must_fail_over(),
            _ => true,
        }
    }

    /// What the brain is given in place of the settings that the checks go by.
    pub fn settings(self, mut settings: Settings) -> Settings {
        match self {
            Self::QuorumOfOne | Self::ActsAlone => settings.quorum = 1,
            Self::OldVotes => settings.probes.iter_mut().for_each(|probe| probe.max_age = HumanDuration::secs(3600)),
            Self::NoConfirmation => {
                settings.scenarios.iter_mut().for_each(|scenario| scenario.confirm_for = HumanDuration::ZERO);
            }
            Self::NoRpo => settings.scenarios.iter_mut().for_each(|scenario| scenario.rpo = None),
            Self::NoCoolDown => settings.cool_down = HumanDuration::ZERO,
            Self::NoLimit => settings.failover_limit = 99,
            Self::NoAnchors => settings.anchors_at_least = 0,
            Self::NoCorrelation => {
                let broad = settings.scenarios.iter_mut().filter(|scenario| scenario.name.as_str() != NARROW);
                broad.for_each(|scenario| scenario.mode = Mode::AlertOnly);
            }
            Self::NoGrace => settings.scenarios.iter_mut().for_each(|scenario| scenario.lower_layers_first = None),
            _ => {}
        }
        settings
    }

    /// What the brain is told in place of what happened; `None` where it is told nothing.
    /// `looking`: a run is active, and it is a probe of the primary.
    pub fn event(self, event: Event, looking: bool) -> Option<Event> {
        match (self, event) {
            (Self::NoTilt, Event::Stalled { .. }) | (Self::NoDoubt, Event::StateInDoubt { .. }) => None,
            (Self::Deaf, Event::Observed { observation: Observation::Down { .. }, .. }) => None,
            (Self::NoLastLook, Event::Observed { probe, started, .. }) if looking => {
                let observation = Observation::down(CauseKind::Timeout, "");
                Some(Event::Observed { probe, started, observation })
            }
            (_, Event::Reload(settings)) => Some(Event::Reload(Box::new(self.settings(*settings)))),
            (_, event) => Some(event),
        }
    }

    /// What is done in place of what the brain wants.
    pub fn effects(self, effects: &mut Vec<Effect>) {
        match self {
            Self::LoseIntents => effects.retain_mut(|effect| {
                let Effect::Journal(records) = effect else { return true };
                records.retain(|record| !matches!(record.entry, Entry::StepIntent { .. }));
                !records.is_empty()
            }),
            Self::ForgedEvidence => effects.iter_mut().for_each(|effect| {
                let Effect::Journal(records) = effect else { return };
                for record in records {
                    if let Entry::IncidentOpened { replication, outage_start, .. } = &mut record.entry {
                        for known in replication {
                            (known.synchronous, known.down_since) = (true, Some(*outage_start));
                        }
                    }
                }
            }),
            // The journal is slow, and nobody waits for it.
            Self::CallBeforeIntent => effects.sort_by_key(|effect| !matches!(effect, Effect::Call(_))),
            Self::NoPages => effects.retain(|effect| !matches!(effect, Effect::Notify(_))),
            _ => {}
        }
        for effect in effects {
            let Effect::Call(call) = effect else { continue };
            match self {
                Self::OldEpoch => call.epoch = Epoch(call.epoch.0.saturating_sub(1)),
                Self::BlindRetry if call.phase == Phase::Observe && call.attempt > 0 => call.phase = Phase::Apply,
                Self::OtherPlan => call.spec.target.push('!'),
                _ => {}
            }
        }
    }
}
