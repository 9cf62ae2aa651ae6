//! All that a brain knows and the journal does not, as of one moment: what a recording of its inputs
//! begins with.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::brain::Brain;
use super::detect::Detector;
use super::ledger::IllegalRecord;
use super::marks::Marks;
use super::member::{Membership, Sight};
use super::quorum::PeerVote;
use super::run::Driver;
use super::scenario::Watch;
use super::tasks::Reminders;
use crate::model::{IncidentId, MonoTime, Now, ProbeName, Record, Settings, VantageId};

/// One moment of a brain. The durable part is not in it: it is in the journal, up to `seq`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The version that made it. Another one may decide otherwise, and is not wrong for it.
    pub version: String,
    /// The last record of the journal that the brain knew.
    pub seq: u64,
    /// When.
    pub now: Now,
    /// So many inputs before it were not recorded.
    pub lost: u64,
    /// When the brain was made.
    made: Now,
    /// The settings that held.
    pub settings: Arc<Settings>,
    /// What it was among several daemons.
    #[serde(default)]
    membership: Membership,
    /// The rest; `None` at the beginning of a life.
    volatile: Option<Volatile>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Volatile {
    detectors: Vec<Detector>,
    peers: Vec<Vec<PeerVote>>,
    watches: Vec<Watch>,
    marks: Marks,
    heard: HashMap<VantageId, MonoTime>,
    orphans: Vec<IncidentId>,
    driver: Option<Driver>,
    started: Now,
    #[serde(default)]
    store_trouble: Option<String>,
    #[serde(default)]
    sight: Sight,
    tilt_until: Option<MonoTime>,
    doubt: Option<String>,
    ending: bool,
    #[serde(with = "super::ledger::pairs")]
    reminders: Reminders,
    wanted: Option<super::consent::Wanted>,
    telling: super::escalation::Telling,
    drill_clock: super::drill_clock::DrillClock,
    evidence: super::evidence::Watched,
    attentive: bool,
    next_call: u64,
    wake: Option<MonoTime>,
}

impl Checkpoint {
    /// Is it the beginning of a life: does [`Brain::begin`] come next?
    pub fn is_beginning(&self) -> bool {
        self.volatile.is_none()
    }
}

impl Brain {
    /// This moment, without what the journal has.
    pub fn checkpoint(&self, now: Now, version: &str) -> Checkpoint {
        let volatile = Volatile {
            detectors: self.detectors.clone(),
            peers: self.peers.clone(),
            watches: self.watches.clone(),
            marks: self.marks.clone(),
            heard: self.heard.clone(),
            orphans: self.orphans.clone(),
            driver: self.driver.clone(),
            started: self.started,
            store_trouble: self.store_trouble.clone(),
            sight: self.sight,
            tilt_until: self.tilt_until,
            doubt: self.doubt.clone(),
            ending: self.ending,
            reminders: self.reminders.clone(),
            wanted: self.wanted.clone(),
            telling: self.telling.clone(),
            drill_clock: self.drill_clock.clone(),
            evidence: self.evidence.clone(),
            attentive: self.attentive,
            next_call: self.next_call,
            wake: self.wake,
        };
        Checkpoint { volatile: Some(volatile), ..self.beginning(now, version) }
    }

    /// The moment before [`Brain::begin`], of a brain that was made just now.
    pub fn beginning(&self, now: Now, version: &str) -> Checkpoint {
        Checkpoint {
            version: version.to_owned(),
            seq: self.ledger.seq,
            now,
            lost: 0,
            made: self.started,
            settings: Arc::clone(&self.settings),
            membership: self.membership.clone(),
            volatile: None,
        }
    }

    /// The brain of that moment. `records` is the journal up to [`Checkpoint::seq`].
    ///
    /// # Errors
    /// [`IllegalRecord`] for the first record that does not follow from those before it.
    pub fn restore(checkpoint: Checkpoint, records: &[Record]) -> Result<Self, IllegalRecord> {
        let mut brain = Self::new(Settings::clone(&checkpoint.settings), records, checkpoint.made)?;
        brain.membership = checkpoint.membership;
        let Some(known) = checkpoint.volatile else { return Ok(brain) };
        brain.detectors = known.detectors;
        brain.peers = known.peers;
        brain.watches = known.watches;
        brain.marks = known.marks;
        brain.heard = known.heard;
        brain.orphans = known.orphans;
        brain.driver = known.driver;
        brain.started = known.started;
        brain.store_trouble = known.store_trouble;
        brain.sight = known.sight;
        brain.tilt_until = known.tilt_until;
        brain.doubt = known.doubt;
        brain.ending = known.ending;
        brain.reminders = known.reminders;
        brain.wanted = known.wanted;
        brain.telling = known.telling;
        brain.drill_clock = known.drill_clock;
        brain.evidence = known.evidence;
        brain.attentive = known.attentive;
        brain.next_call = known.next_call;
        brain.wake = known.wake;
        // It was told of them already.
        brain.effects.clear();
        Ok(brain)
    }

    /// The place of a probe in the settings.
    pub fn place(&self, probe: &ProbeName) -> Option<usize> {
        self.index.get(probe).copied()
    }

    /// Is an incident open, or a run active?
    pub fn is_occupied(&self) -> bool {
        let open = || self.ledger.incidents.values().rev().any(|incident| incident.closed.is_none());
        self.driver.is_some() || open()
    }
}

/// A float by its bits: as a decimal number it might come back as its neighbour.
pub(super) mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

/// A long array, which serde does not know, as a list.
pub(super) mod boxed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    type Boxed<const N: usize> = Option<Box<[u64; N]>>;

    pub fn serialize<S: Serializer, const N: usize>(value: &Boxed<N>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(|array| array.as_slice()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<Boxed<N>, D::Error> {
        let list = Option::<Vec<u64>>::deserialize(deserializer)?;
        let boxed = |list: Vec<u64>| {
            let boxed: Result<Box<[u64; N]>, _> = list.into_boxed_slice().try_into();
            boxed.map_err(|_| D::Error::custom("a list of another length"))
        };
        list.map(boxed).transpose()
    }
}
