//! How far an outage reaches: single services, one zone, or the region.
//!
//! A region or zone is down as a whole where at least two of its probes are Down, none is Up, and more
//! are Down than have no verdict. What has none makes nothing down, and is named beside it. Where all
//! that is probed of a region lies in one zone, nobody can tell the two apart: it is the zone.

use std::collections::HashMap;

use super::brain::Brain;
use crate::model::{
    Condition, Entry, Extent, MonoTime, Now, ProbeName, Reach, RegionName, ScenarioSettings, Settings, Verdict,
    ZoneName,
};

/// The probes of each region, without the anchors: places in the settings.
pub(super) type Places = HashMap<Option<RegionName>, Vec<usize>>;

/// Sorts the probes by their regions.
pub(super) fn places(settings: &Settings) -> Places {
    let mut places = Places::new();
    for (index, probe) in settings.probes.iter().enumerate() {
        if !settings.anchors.contains(&probe.name) {
            places.entry(probe.region.clone()).or_default().push(index);
        }
    }
    places
}

impl Brain {
    /// How far the outage reaches that the condition is about; `None` where nothing of it is down.
    pub(super) fn extent(&self, condition: &Condition, now: MonoTime) -> Option<Extent> {
        let extent = self.extent_of_down(condition, now)?;
        Some(self.with_unclear(extent, now))
    }

    /// Writes down that the outage reaches further than was known. Not that it shrinks: it is asked how
    /// far it went, and a target that flaps must not fill the journal.
    pub(super) fn note_extent(&mut self, now: Now, scenario: &ScenarioSettings) {
        let Some(incident) = self.ledger.open_incident(&scenario.name) else { return };
        let known = incident.extent.as_ref();
        if known.is_some_and(|known| matches!(known.reach, Reach::Region { .. })) {
            return;
        }
        let Some(extent) = self.extent_of_down(&scenario.when, now.mono) else { return };
        if known.is_some_and(|known| !extent.is_wider(known)) {
            return;
        }
        let extent = match known {
            Some(known) => extent.with(known),
            None => extent,
        };
        let entry = Entry::ExtentSeen { incident: incident.id.clone(), extent: self.with_unclear(extent, now.mono) };
        self.commit(now, entry);
    }

    /// Without those that cannot be told: to be asked with each observation.
    fn extent_of_down(&self, condition: &Condition, now: MonoTime) -> Option<Extent> {
        let wanted = condition.wanted_down();
        let own: Vec<usize> = wanted.iter().filter_map(|probe| self.index.get(probe).copied()).collect();
        let own: Vec<usize> = own.into_iter().filter(|index| self.is_down(*index, now)).collect();
        if own.is_empty() {
            return None;
        }
        let reach = self.reach(&own, now);
        let mut down = own;
        down.extend(self.members(&reach).into_iter().filter(|index| self.is_down(*index, now)));
        Some(Extent { reach, down: self.named(down), unclear: Vec::new() })
    }

    /// Names what cannot be told now.
    pub(super) fn with_unclear(&self, mut extent: Extent, now: MonoTime) -> Extent {
        let mut near = self.members(&extent.reach);
        if extent.reach == Reach::Services {
            let mut regions: Vec<&Option<RegionName>> =
                extent.down.iter().filter_map(|probe| self.index.get(probe)).map(|index| self.region(*index)).collect();
            regions.sort_unstable();
            regions.dedup();
            let regions = regions.into_iter().filter(|region| region.is_some());
            near = regions.filter_map(|region| self.places.get(region)).flatten().copied().collect();
        }
        let unclear = near.into_iter().filter(|index| matches!(self.verdict(*index, now), Verdict::Inconclusive(_)));
        extent.unclear = self.named(unclear.collect());
        extent
    }

    fn reach(&self, down: &[usize], now: MonoTime) -> Reach {
        // What has no label says nothing of where it is.
        let mut regions: Vec<&RegionName> = down.iter().filter_map(|index| self.region(*index).as_ref()).collect();
        regions.dedup();
        if let [region] = regions[..] {
            let reach = Reach::Region { region: region.clone() };
            let members = self.members(&reach);
            let first = members.first().and_then(|index| self.zone(*index));
            let one_zone = first.is_some() && members.iter().all(|index| self.zone(*index) == first);
            if !one_zone && self.is_whole(&members, now) {
                return reach;
            }
        }
        let zoned = down.iter().filter_map(|index| Some((self.region(*index), self.zone(*index)?)));
        let mut zones: Vec<(&Option<RegionName>, &ZoneName)> = zoned.collect();
        zones.dedup();
        if let [(region, zone)] = zones[..] {
            let reach = Reach::Zone { zone: zone.clone(), region: region.clone() };
            if self.is_whole(&self.members(&reach), now) {
                return reach;
            }
        }
        Reach::Services
    }

    /// Is it down as a whole? The first that is up ends the question.
    fn is_whole(&self, members: &[usize], now: MonoTime) -> bool {
        let (mut down, mut unclear) = (0, 0);
        for index in members {
            match self.verdict(*index, now) {
                Verdict::Up => return false,
                Verdict::Down { .. } => down += 1,
                Verdict::Inconclusive(_) => unclear += 1,
            }
        }
        down >= 2 && down > unclear
    }

    fn members(&self, reach: &Reach) -> Vec<usize> {
        let of = |region: &Option<RegionName>| self.places.get(region).into_iter().flatten().copied();
        match reach {
            Reach::Services => Vec::new(),
            Reach::Zone { zone, region } => of(region).filter(|index| self.zone(*index) == Some(zone)).collect(),
            Reach::Region { region } => of(&Some(region.clone())).collect(),
        }
    }

    pub(super) fn is_down(&self, index: usize, now: MonoTime) -> bool {
        matches!(self.verdict(index, now), Verdict::Down { .. })
    }

    fn region(&self, index: usize) -> &Option<RegionName> {
        &self.settings.probes[index].region
    }

    fn zone(&self, index: usize) -> Option<&ZoneName> {
        self.settings.probes[index].zone.as_ref()
    }

    pub(super) fn named(&self, mut probes: Vec<usize>) -> Vec<ProbeName> {
        probes.sort_unstable();
        probes.dedup();
        probes.into_iter().map(|index| self.settings.probes[index].name.clone()).collect()
    }
}
