//! Correlation: which of several scenarios that hold at the same time may act.
//!
//! A scenario *explains* what is down of the probes that it wants down. Scenarios of one service that
//! explain the same outage must not act for it one after the other:
//!
//! - What explains more comes first; of those that explain as much, the more specific (it wants fewer
//!   probes down), then the more severe, then the first. So the most specific that explains all is
//!   chosen, and where none explains all, the one that explains the most.
//! - Two explain the same outage where what they explain overlaps, or where the region or zone is down
//!   as a whole and both want down a part of it: there only what explains more comes first. Two faults
//!   that have nothing in common are two, and neither hides the other.
//! - One that may only alert hides none that may act, and one whose `unless` holds hides none. Every
//!   other one does, also where it cannot act itself now, or has had its run: it pages why, or has
//!   done what was to be done, and a lesser plan in its place is for a person (`failoverd failover`).
//! - While a probe that a broader scenario wants down is in doubt, the narrow one waits; no longer than
//!   that probe needs to fall, and beyond its own confirmation never longer than the slowest of them.

use std::cmp::Reverse;
use std::time::Duration;

use super::brain::Brain;
use super::incident::Incident;
use super::plan::fall_budget;
use super::policy::Guard;
use crate::model::{
    Choice, Health, HoldReason, Mode, MonoTime, Now, Preference, ProbeName, Reach, RegionName, ScenarioSettings,
    Settings, Truth, Verdict,
};

/// What is known of a scenario before anything happens: places in the settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Kin {
    /// The probes that it wants down, sorted.
    wanted: Vec<usize>,
    /// The scenarios that it may have to hold back for.
    rivals: Vec<usize>,
    /// The broader ones among them.
    broader: Vec<usize>,
}

/// The kin of each scenario.
pub(super) fn kin(settings: &Settings) -> Vec<Kin> {
    let place = |probe: &ProbeName| settings.probes.iter().position(|known| known.name == *probe);
    let wanted = |scenario: &ScenarioSettings| {
        let mut wanted: Vec<usize> = scenario.when.wanted_down().iter().filter_map(place).collect();
        wanted.sort_unstable();
        wanted
    };
    let places = |keep: &dyn Fn(&ScenarioSettings) -> bool| {
        let all = settings.scenarios.iter().enumerate();
        all.filter(|(_, other)| keep(other)).map(|(place, _)| place).collect()
    };
    let one = |scenario: &ScenarioSettings| Kin {
        wanted: wanted(scenario),
        rivals: places(&|other| is_rival(settings, scenario, other)),
        broader: places(&|other| is_broader(settings, scenario, other)),
    };
    settings.scenarios.iter().map(one).collect()
}

/// May `other` be the explanation that `scenario` has to hold back for? By their own modes: what the
/// daemon's mode makes of them is the same for both, and a daemon that may only alert has to tell the
/// truth about what it would do.
fn is_rival(settings: &Settings, scenario: &ScenarioSettings, other: &ScenarioSettings) -> bool {
    let has_plan = |one: &ScenarioSettings| one.plan.as_ref().is_some_and(|plan| settings.plan(plan).is_some());
    let may_hide = other.mode != Mode::AlertOnly || scenario.mode == Mode::AlertOnly;
    other.name != scenario.name && other.service == scenario.service && has_plan(other) && may_hide
}

/// Does `other` want more down, and some of the same, or of the same region?
fn is_broader(settings: &Settings, scenario: &ScenarioSettings, other: &ScenarioSettings) -> bool {
    let (own, theirs) = (scenario.when.wanted_down(), other.when.wanted_down());
    let regions = |wanted: &[ProbeName]| -> Vec<RegionName> {
        wanted.iter().filter_map(|probe| settings.probe(probe)?.region.clone()).collect()
    };
    let (near, far) = (regions(&own), regions(&theirs));
    let related = own.iter().any(|probe| theirs.contains(probe)) || near.iter().any(|region| far.contains(region));
    is_rival(settings, scenario, other) && theirs.len() > own.len() && related
}

/// How much longer than `confirm_for` a scenario may have to wait until it is clear that no broader one
/// is meant: until the slowest probe that one of those wants down besides its own has fallen.
pub fn correlation_budget(settings: &Settings, scenario: &ScenarioSettings) -> Duration {
    let own = scenario.when.wanted_down();
    let broader = settings.scenarios.iter().filter(|other| is_broader(settings, scenario, other));
    let probes = broader.flat_map(|other| other.when.wanted_down()).filter(|probe| !own.contains(probe));
    let times = probes.filter_map(|probe| settings.probe(&probe)).map(fall_budget);
    times.max().unwrap_or_default()
}

impl Brain {
    /// The guards of correlation and of the lower layers, in the order in which they are asked.
    pub(super) fn correlation_guards(
        &self,
        now: Now,
        index: usize,
        scenario: &ScenarioSettings,
        incident: Option<&Incident>,
    ) -> Vec<Guard> {
        let grace = incident.and_then(|incident| self.grace_of_lower_layers(now, scenario, incident));
        let layer = scenario.lower_layers_first.as_ref();
        let lower = Guard::timed("lower_layers_first", now.mono, grace, || HoldReason::LowerLayersFirst {
            layer: layer.map(|lower| lower.layer.clone()).unwrap_or_default(),
            until: grace.map_or(now.wall, |at| now.wall_of(at)),
        });
        let better = incident.and_then(|incident| self.better(now, index, incident));
        let explained = better.map(|(other, why)| HoldReason::ExplainedBy {
            scenario: self.settings.scenarios[other].name.clone(),
            why,
            down: self.named(self.explained(other, now.mono)),
        });
        let doubt = incident.and_then(|_| self.doubt(now, index, scenario, grace));
        let until = doubt.as_ref().map(|(until, _)| *until);
        let correlating = Guard::timed("correlating", now.mono, until, || HoldReason::Correlating {
            probe: doubt.map_or_else(|| "".into(), |(_, probe)| probe),
            until: until.map_or(now.wall, |at| now.wall_of(at)),
        });
        vec![lower, Guard::new("explained_by", explained), correlating]
    }

    /// When the grace of the lower layers ends: from the first bad observation on, by the monotonic clock.
    fn grace_of_lower_layers(&self, now: Now, scenario: &ScenarioSettings, incident: &Incident) -> Option<MonoTime> {
        let lower = scenario.lower_layers_first.as_ref()?;
        let passed = self.marks.since_outage(&incident.id, now.mono).unwrap_or_default();
        Some(now.mono + lower.grace.get().saturating_sub(passed))
    }

    /// What is down of what the scenario wants down.
    fn explained(&self, index: usize, now: MonoTime) -> Vec<usize> {
        let wanted = self.kin[index].wanted.iter().copied();
        wanted.filter(|probe| self.is_down(*probe, now)).collect()
    }

    /// The rivals of a scenario that hold now, with what they explain.
    fn holding_rivals(&self, now: Now, index: usize) -> Vec<(usize, Vec<usize>)> {
        let rivals = self.kin[index].rivals.iter().copied();
        let holding = rivals.filter(|rival| {
            let other = &self.settings.scenarios[*rival];
            self.truth(&other.when, now.mono) == Truth::True && !self.is_ruled_out(other, now.mono)
        });
        holding.map(|rival| (rival, self.explained(rival, now.mono))).collect()
    }

    /// Its owner says that in this case it is not meant. Where that cannot be told it may be.
    fn is_ruled_out(&self, scenario: &ScenarioSettings, now: MonoTime) -> bool {
        scenario.unless.iter().any(|veto| self.truth(veto, now) == Truth::True)
    }

    /// What comes first of two that explain something: the lesser key.
    fn rank(&self, index: usize, explained: &[usize]) -> (Reverse<usize>, usize, usize) {
        (Reverse(explained.len()), self.kin[index].wanted.len(), index)
    }

    /// Does the second come before the first, and in which way?
    fn preference(&self, own: (usize, &[usize]), other: (usize, &[usize]), reach: &Reach) -> Option<Preference> {
        let more = other.1.len() > own.1.len();
        let overlap = other.1.iter().any(|probe| own.1.contains(probe));
        let related = overlap || (more && self.has_part_in(own.1, reach) && self.has_part_in(other.1, reach));
        let (mine, theirs) = (self.rank(own.0, own.1), self.rank(other.0, other.1));
        (related && theirs < mine).then_some(match () {
            () if more => Preference::ExplainsMore,
            () if theirs.1 < mine.1 => Preference::MoreSpecific,
            () => Preference::ComesFirst,
        })
    }

    fn has_part_in(&self, probes: &[usize], reach: &Reach) -> bool {
        probes.iter().map(|index| &self.settings.probes[*index]).any(|probe| match reach {
            Reach::Services => false,
            Reach::Zone { zone, region } => probe.zone.as_ref() == Some(zone) && probe.region == *region,
            Reach::Region { region } => probe.region.as_ref() == Some(region),
        })
    }

    /// The scenario that explains better what is down, and in which way.
    fn better(&self, now: Now, index: usize, incident: &Incident) -> Option<(usize, Preference)> {
        if self.kin[index].rivals.is_empty() {
            return None;
        }
        let own = self.explained(index, now.mono);
        let reach = incident.extent.as_ref().map_or(&Reach::Services, |extent| &extent.reach);
        let rivals = self.holding_rivals(now, index);
        let better = rivals.iter().filter_map(|(rival, theirs)| {
            let why = self.preference((index, &own), (*rival, theirs), reach)?;
            Some((self.rank(*rival, theirs), *rival, why))
        });
        better.min_by_key(|(rank, ..)| *rank).map(|(_, rival, why)| (rival, why))
    }

    /// Why it is this one that may act; `None` where there was nothing to choose from.
    pub(super) fn choice(&self, now: Now, index: usize, incident: &Incident) -> Option<Choice> {
        let own = self.explained(index, now.mono);
        let reach = incident.extent.as_ref().map_or(&Reach::Services, |extent| &extent.reach);
        let rivals = self.holding_rivals(now, index);
        let over = rivals.iter().filter_map(|(rival, theirs)| {
            let why = self.preference((*rival, theirs), (index, &own), reach)?;
            Some((self.settings.scenarios[*rival].name.clone(), why))
        });
        let over: Vec<_> = over.collect();
        let all = rivals.iter().flat_map(|(_, theirs)| theirs).all(|probe| own.contains(probe));
        (!over.is_empty()).then(|| Choice { explains: self.named(own), all, over })
    }

    /// Until when a probe that a broader scenario wants down is in doubt, and which.
    fn doubt(
        &self,
        now: Now,
        index: usize,
        scenario: &ScenarioSettings,
        grace: Option<MonoTime>,
    ) -> Option<(MonoTime, ProbeName)> {
        let kin = &self.kin[index];
        let held = self.watches[index].held_since.filter(|_| !kin.broader.is_empty())?;
        let start = self.outage_start(&scenario.when, now.mono)?;
        let confirmed = (held + scenario.confirm_for.get()).max(grace.unwrap_or(MonoTime::ZERO));
        let possible = kin.broader.iter().filter(|other| {
            let other = &self.settings.scenarios[**other];
            !self.is_ruled_out(other, now.mono)
        });
        let probes = possible.flat_map(|other| &self.kin[*other].wanted).filter(|probe| !kin.wanted.contains(probe));
        let doubts = probes.filter_map(|probe| {
            let falls = fall_budget(&self.detectors[*probe].settings);
            let since = self.doubted_since(*probe, start, now.mono)?;
            Some(((since + falls).min(confirmed + falls), *probe))
        });
        let (until, probe) = doubts.max()?;
        Some((until, self.detectors[probe].settings.name.clone()))
    }

    /// Since when it is in doubt whether a probe is part of an outage that began at `start`: since the bad
    /// observation that has made it Down for nobody or too few yet, by the vantage that saw one last; or since
    /// `start`, where it was not seen well since.
    fn doubted_since(&self, index: usize, start: MonoTime, now: MonoTime) -> Option<MonoTime> {
        let verdict = self.verdict(index, now);
        if let Verdict::Down { .. } = verdict {
            return None;
        }
        let own = &self.detectors[index];
        let peers = self.peers[index].iter().filter(|peer| peer.is_fresh(now, own.settings.max_age));
        let bad = peers.clone().filter_map(|peer| peer.first_bad).chain(own.first_bad()).max();
        let well = peers.filter(|peer| peer.health == Health::Up).map(|peer| peer.seen).chain(own.last_up);
        let well = well.max().filter(|_| verdict == Verdict::Up);
        bad.or_else(|| (well < Some(start)).then_some(start))
    }
}
