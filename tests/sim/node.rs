//! One daemon of the simulated world: its clocks, its life, its brain, and what checks it.

use std::collections::BTreeMap;

use failoverd::core::Brain;
use failoverd::model::*;

use crate::check::Checker;
use crate::member::Shell;

/// 2026-01-05T00:00:00Z
const START: i64 = 1_767_571_200_000;

/// How a daemon's clocks stand to the world's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// How fast its clocks run, in thousandths.
    pub rate: u64,
    /// How much longer than the world its machine has been up, in milliseconds.
    pub ahead: u64,
    /// How far its wall clock is set forward, in milliseconds.
    pub set: i64,
}

impl Clock {
    /// Its monotonic clock at a time of the world.
    pub fn mono(&self, at: u64) -> MonoTime {
        MonoTime((at + self.ahead) * 1_000 * self.rate)
    }

    /// The first millisecond of the world at which its monotonic clock is there.
    pub fn world(&self, at: MonoTime) -> u64 {
        at.0.div_ceil(1_000 * self.rate).saturating_sub(self.ahead)
    }

    pub fn now(&self, at: u64) -> Now {
        let run = (at * self.rate / 1_000) as i64;
        Now { mono: self.mono(at), wall: WallTime(START + run + self.set) }
    }
}

pub struct Node {
    pub name: &'static str,
    pub clock: Clock,
    pub brain: Option<Brain>,
    /// Unique among all lives of all daemons.
    pub life: u64,
    pub check: Checker,
    /// The settings of its next life.
    pub settings: Settings,
    /// What a reload loads.
    pub other: Settings,
    /// What was last said of each probe, for the trace.
    pub said: BTreeMap<String, Health>,
    /// It stands still (SIGSTOP) until then.
    pub frozen_until: Option<u64>,
    /// The disk takes nothing until then.
    pub full_until: u64,
    /// Where it is one of several.
    pub shell: Option<Shell>,
}

impl Node {
    pub fn new(name: &'static str, clock: Clock, settings: &Settings, other: &Settings) -> Self {
        let named = |settings: &Settings| Settings { name: name.into(), ..settings.clone() };
        Self {
            name,
            clock,
            brain: None,
            life: 0,
            check: Checker::new(named(settings)),
            settings: named(settings),
            other: named(other),
            said: BTreeMap::new(),
            frozen_until: None,
            full_until: 0,
            shell: None,
        }
    }

    /// Does it decide: alone, or as the one of several that leads?
    pub fn decides(&self) -> bool {
        self.brain.is_some() && self.shell.as_ref().is_none_or(|shell| shell.leads)
    }
}
