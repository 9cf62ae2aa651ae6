//! What is looked at, made from a configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::here;
use crate::config::load::Loaded;
use crate::config::probe::ProbeKind;
use crate::config::shape::{self, ANYWHERE, RegionRole};
use crate::model::{Dependency, DependencyKind, Place, Plan, RegionName, ScenarioSettings};

/// The plans, and what is to be known for looking at them.
#[derive(Clone, Debug)]
pub struct Subject {
    /// `[readiness]`.
    pub table: shape::Readiness,
    /// The plans.
    pub plans: Vec<Plan>,
    /// The scenarios that carry them out.
    pub scenarios: Vec<ScenarioSettings>,
    /// The regions that serve in peace: each would be lost.
    pub primaries: Vec<RegionName>,
    /// Where this host is.
    pub here: Place,
    /// What the daemon itself hangs on.
    pub own: Vec<Dependency>,
    /// The certificates that it shows, or by which it knows others: the setting, and the file.
    pub certificates: Vec<(&'static str, PathBuf)>,
    /// So many failure domains must agree.
    pub quorum: u32,
    /// Where hosts are, by what the owner says: of the table, and of the probes with a region.
    places: BTreeMap<String, Place>,
}

impl Subject {
    /// Of a configuration.
    pub fn of(loaded: &Loaded) -> Self {
        let file = &loaded.file;
        let primaries = file.regions.iter().filter(|(_, region)| region.role == RegionRole::Primary);
        let of_table = file.readiness.places.iter().map(|(host, place)| {
            let place = if place == ANYWHERE { Place::Anywhere } else { Place::Region(place.as_str().into()) };
            (host.trim_end_matches('.').to_ascii_lowercase(), place)
        });
        let of_probes = loaded.probes.iter().filter_map(|probe| {
            let region = probe.settings.region.clone()?;
            Some((host_of(&probe.kind)?, Place::Region(region)))
        });
        Self {
            table: file.readiness.clone(),
            plans: loaded.settings.plans.clone(),
            scenarios: loaded.settings.scenarios.clone(),
            primaries: primaries.map(|(name, _)| name.as_str().into()).collect(),
            here: here(file.daemon.failure_domain.as_deref()),
            own: vec![Dependency { kind: DependencyKind::State, name: file.daemon.state.clone(), place: Place::Here }],
            certificates: certificates(file),
            quorum: loaded.settings.quorum,
            // What the owner says for this very purpose goes first.
            places: of_probes.chain(of_table).collect(),
        }
    }

    /// A dependency, at the place that the owner says for its host, or for what is above it.
    pub fn placed(&self, dependency: Dependency) -> Dependency {
        let name = dependency.name.to_ascii_lowercase();
        let mut rest = Some(name.as_str());
        while let Some(host) = rest {
            if let Some(place) = self.places.get(host) {
                return Dependency { place: place.clone(), ..dependency };
            }
            rest = host.split_once('.').map(|(_, above)| above);
        }
        dependency
    }
}

fn certificates(file: &shape::File) -> Vec<(&'static str, PathBuf)> {
    let vantage = file.vantage_tls.iter();
    let vantage = vantage.flat_map(|tls| {
        let own = ("vantage_tls.certificate_file", tls.certificate_file.clone());
        [own, ("vantage_tls.ca_file", tls.ca_file.clone())]
    });
    let etcd = file.etcd.iter().filter_map(|etcd| etcd.tls.as_ref()?.certificate_file.clone());
    let links = file.links.iter().filter_map(|links| Some(links.tls.as_ref()?.certificate_file.clone()));
    let etcd = etcd.map(|path| ("etcd.tls.certificate_file", path));
    vantage.chain(etcd).chain(links.map(|path| ("links.tls.certificate_file", path))).collect()
}

/// The host that a probe asks, where it stands in the file.
fn host_of(kind: &ProbeKind) -> Option<String> {
    let url = match kind {
        ProbeKind::Http(probe) => probe.url.read().ok()?,
        ProbeKind::Postgres(probe) => probe.url.read().ok()?,
        ProbeKind::Redis(probe) => probe.url.read().ok()?,
        _ => return None,
    };
    let host = url::Url::parse(&url).ok()?.host_str()?.to_ascii_lowercase();
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    (!loopback).then_some(host)
}
