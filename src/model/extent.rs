//! How far an outage reaches, and which scenario was chosen for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::{ProbeName, RegionName, ScenarioName, ZoneName};

/// So many names are written out in one line.
const NAMED: usize = 8;

/// How far an outage reaches, as far as the verdicts tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Single services, a zone, or the region.
    pub reach: Reach,
    /// What is down.
    pub down: Vec<ProbeName>,
    /// What lies in the same region or zone and has no verdict. It makes nothing down, and is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unclear: Vec<ProbeName>,
}

/// What is down as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Nothing as a whole.
    Services,
    /// A zone.
    Zone {
        /// Which.
        zone: ZoneName,
        /// Its region.
        region: Option<RegionName>,
    },
    /// A region.
    Region {
        /// Which.
        region: RegionName,
    },
}

impl Reach {
    /// A greater number for what is wider.
    fn width(&self) -> u8 {
        match self {
            Self::Services => 0,
            Self::Zone { .. } => 1,
            Self::Region { .. } => 2,
        }
    }
}

impl Extent {
    /// Does it reach further than what was seen before, or name what that did not? A whole takes the
    /// place of its parts only where it accounts for all that was seen down.
    pub fn is_wider(&self, before: &Self) -> bool {
        let covers = before.down.iter().all(|probe| self.down.contains(probe));
        let new = self.down.iter().any(|probe| !before.down.contains(probe));
        new || (covers && self.reach.width() > before.reach.width())
    }

    /// What this and the one before have seen: together they are no whole where this one does not
    /// account for all of it.
    #[must_use]
    pub fn with(mut self, before: &Self) -> Self {
        if before.down.iter().any(|probe| !self.down.contains(probe)) || self.reach == Reach::Services {
            let new = std::mem::replace(&mut self.down, before.down.clone());
            self.down.extend(new.into_iter().filter(|probe| !before.down.contains(probe)));
            self.reach = Reach::Services;
        }
        self
    }

    /// In a few words: `region us-east-1`, `zone us-east-1a`, `api, db`.
    pub fn brief(&self) -> String {
        match &self.reach {
            Reach::Services => names(&self.down),
            Reach::Zone { zone, .. } => format!("zone {zone}"),
            Reach::Region { region } => format!("region {region}"),
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reach {
            Reach::Services => write!(f, "{} down", names(&self.down))?,
            Reach::Zone { .. } | Reach::Region { .. } => write!(f, "{} down ({})", self.brief(), names(&self.down))?,
        }
        if !self.unclear.is_empty() {
            write!(f, "; cannot tell {}", names(&self.unclear))?;
        }
        Ok(())
    }
}

/// Why one scenario comes before another that holds at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preference {
    /// It wants down more of what is down.
    ExplainsMore,
    /// It explains as much, and wants fewer probes down.
    MoreSpecific,
    /// It is as specific, and more severe or named first.
    ComesFirst,
}

impl fmt::Display for Preference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ExplainsMore => "explains more of what is down",
            Self::MoreSpecific => "explains as much and is more specific",
            Self::ComesFirst => "explains as much, is as specific and comes first",
        })
    }
}

/// That a scenario was chosen among those that hold, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What is down of what it wants down.
    pub explains: Vec<ProbeName>,
    /// Is that all that is down of what the scenarios want down that hold?
    pub all: bool,
    /// The scenarios that hold back for it.
    pub over: Vec<(ScenarioName, Preference)>,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = if self.all { "all that is down" } else { "most of what is down" };
        write!(f, "it explains {all} ({})", names(&self.explains))?;
        for (place, (scenario, why)) in self.over.iter().enumerate() {
            let before = if place == 0 { "; chosen over " } else { ", " };
            write!(f, "{before}{scenario} (it {why})")?;
        }
        Ok(())
    }
}

/// Names in one line, not more than anybody reads.
pub(super) fn names(of: &[ProbeName]) -> String {
    let shown: Vec<&str> = of.iter().take(NAMED).map(ProbeName::as_str).collect();
    let more = of.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}
