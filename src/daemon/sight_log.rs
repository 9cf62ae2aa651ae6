//! Votes and verdicts in the log, at the level debug: what this vantage thinks of a probe, whenever that has
//! changed, to the microsecond. So two vantages' logs tell who saw what first, and what their quorum cost.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::core::{Brain, Event, Sight};
use crate::model::{Now, ProbeName};

/// What was logged last.
#[derive(Debug, Default)]
pub(super) struct SightLog {
    said: HashMap<ProbeName, Sight>,
}

/// What an event can have changed.
pub(super) enum About {
    Nothing,
    One(ProbeName),
    All,
}

impl SightLog {
    /// What has to be looked at once the brain has heard this; nothing where nobody reads it.
    pub(super) fn about(event: &Event) -> About {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return About::Nothing;
        }
        match event {
            Event::Observed { probe, .. } => About::One(probe.clone()),
            Event::Ballot { .. } | Event::Stalled { .. } => About::All,
            _ => About::Nothing,
        }
    }

    /// Logs what has changed.
    pub(super) fn note(&mut self, about: About, brain: &Brain, now: Now) {
        match about {
            About::Nothing => {}
            About::One(probe) => self.look(&probe, brain, now),
            About::All => brain.settings().probes.iter().for_each(|probe| self.look(&probe.name, brain, now)),
        }
    }

    fn look(&mut self, probe: &ProbeName, brain: &Brain, now: Now) {
        let Some(sight) = brain.sight(now, probe) else { return };
        if self.said.insert(probe.clone(), sight) != Some(sight) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let unix_us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
            let vote = sight.vote.map_or_else(|| "none".to_owned(), |vote| vote.to_string());
            tracing::debug!(%probe, vote, verdict = %sight.verdict, unix_us, "sight");
        }
    }
}
