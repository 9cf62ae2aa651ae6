//! The checks across the file, and the settings that come out of them.
//!
//! Each module reads its part of the [`File`], tells what is wrong with it, and gives back what
//! could be made of it, so that the checks behind it go on and all faults are told at once.

pub mod common;
pub mod conditions;
pub mod daemon;
pub mod drills;
pub mod handed;
pub mod health_switch;
pub mod links;
pub mod members;
pub mod notify;
pub mod objectives;
pub mod people;
pub mod plans;
pub mod probes;
pub mod readiness;
pub mod scenarios;
pub mod secrets;
pub mod services;
pub mod steps;
pub mod windows;
pub mod witnesses;

use std::collections::BTreeSet;

use super::expand::Order;
use super::path::Path;
use super::references::References;
use super::report::Report;
use super::shape::File;
use super::{LoadedProbe, suggest};
use crate::model::{HumanDuration, Settings};

/// The names that others may refer to. What could not be read is among them: a reference to it is
/// not wrong.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// `[probes]`.
    pub probes: BTreeSet<String>,
    /// `[groups]`.
    pub groups: BTreeSet<String>,
    /// `[regions]`.
    pub regions: BTreeSet<String>,
    /// `[scenarios]`.
    pub scenarios: BTreeSet<String>,
    /// `[plans]`.
    pub plans: BTreeSet<String>,
    /// `[health_switch.switches]`.
    pub switches: BTreeSet<String>,
    /// `[witnesses]`.
    pub witnesses: BTreeSet<String>,
}

impl Names {
    /// All names of the file, each checked for its characters.
    pub fn collect(file: &File, report: &mut Report<'_>) -> Self {
        let mut all = |table: &[&str], names: Vec<&String>| -> BTreeSet<String> {
            let base = Path::of(table);
            for name in &names {
                plain_name(report, &base.key(name), name);
            }
            names.into_iter().cloned().chain(report.broken_names(&base)).collect()
        };
        let names = Self {
            probes: all(&["probes"], file.probes.keys().collect()),
            groups: all(&["groups"], file.groups.keys().collect()),
            regions: all(&["regions"], file.regions.keys().collect()),
            scenarios: all(&["scenarios"], file.scenarios.keys().collect()),
            plans: all(&["plans"], file.plans.keys().filter(|name| super::drills::parts(name).is_none()).collect()),
            switches: all(&["health_switch", "switches"], file.health_switch.switches.keys().collect()),
            witnesses: all(&["witnesses"], file.witnesses.keys().collect()),
        };
        all(&["notify"], file.notify.keys().collect());
        all(&["members"], file.members.keys().collect());
        for name in names.probes.intersection(&names.groups) {
            report.error_at_key(
                "ambiguous_name",
                &Path::of(&["groups", name]),
                format!("`{name}` is a probe and a group"),
                "give one of them another name",
            );
        }
        names
    }
}

const NAME_FIX: &str =
    "use letters, digits, `.`, `_` and `-` only: names become metric labels and command-line arguments";

/// A name with other characters is refused where it is given.
pub fn plain_name(report: &mut Report<'_>, path: &Path, name: &str) {
    if !suggest::is_plain_name(name) {
        report.error_at_key("bad_name", path, format!("{name:?} is not a name"), NAME_FIX);
    }
}

/// A value that becomes a name.
pub fn plain_value(report: &mut Report<'_>, path: &Path, name: &str) {
    if !suggest::is_plain_name(name) {
        report.error("bad_name", path, format!("{name:?} is not a name"), NAME_FIX);
    }
}

/// A reference to a name that is not there.
pub fn dangling(report: &mut Report<'_>, path: &Path, what: &str, name: &str, names: &BTreeSet<String>) {
    report.error(
        "unknown_name",
        path,
        format!("there is no {what} `{name}`"),
        suggest::fix(name, what, names.iter().map(String::as_str)),
    );
}

/// The checked settings, as far as they could be made. They are to be used only where the report
/// holds no error.
pub fn all(
    file: &File,
    order: &Order,
    references: &References,
    report: &mut Report<'_>,
) -> (Settings, Vec<LoadedProbe>) {
    let names = Names::collect(file, report);
    daemon::check(file, &names, report);
    health_switch::check(file, report);
    notify::check(file, report);
    links::check(file, report);
    services::audit(file, report);
    readiness::check(file, &names, report);
    let mut probes = probes::probes(file, &names, report);
    let (anchors, anchors_at_least) = probes::anchors(file, report);
    let mut resolver = conditions::Resolver::new(file, &names);
    resolver.all_groups(report);
    let plans = plans::plans(file, &names, &mut resolver, order, references, report);
    let severities = people::severities(file, report);
    people::templates(file, report);
    let (plans, written_out) = drills::take_out(plans);
    let scenarios = scenarios::scenarios(file, &names, &mut resolver, &plans, &severities, report);
    let services = services::services(file, &scenarios, report);
    let drills = drills::drills(file, &names, &mut resolver, written_out, (&plans, &scenarios), report);
    let anchor_names = anchors.iter().map(|anchor| anchor.settings.name.clone()).collect();
    windows::fit(file, &names, &mut probes, report);
    probes.extend(anchors);
    let policy = &file.policy;
    let own = file.members.get(&file.daemon.name).map(|member| &member.domain);
    let domain = file.daemon.failure_domain.as_ref().or(own).unwrap_or(&file.daemon.name);
    let mut vantages = witnesses::witnesses(file, report);
    vantages.extend(members::members(file, report));
    let settings = Settings {
        name: file.daemon.name.as_str().into(),
        domain: domain.as_str().into(),
        mode: file.daemon.mode,
        quorum: file.quorum.vantages,
        witnesses: vantages,
        on_silent_witnesses: file.quorum.on_silent_witnesses,
        flap_damping: daemon::flap_damping(policy),
        startup_grace: policy.startup_grace.unwrap_or(HumanDuration::secs(30)),
        cool_down: policy.cool_down.unwrap_or(HumanDuration::secs(3600)),
        failover_limit: policy.failover_limit.unwrap_or(2),
        failover_window: policy.failover_window.unwrap_or(HumanDuration::secs(86_400)),
        tilt_for: policy.tilt_for.unwrap_or(HumanDuration::secs(10)),
        safety_percent: daemon::safety_percent(policy),
        probes: probes.iter().map(|probe| probe.settings.clone()).collect(),
        anchors: anchor_names,
        anchors_at_least,
        severities,
        services,
        scenarios,
        plans,
        manual_scenario: file.daemon.manual_scenario.as_deref().map(Into::into),
        drills,
    };
    objectives::check(&settings, report);
    witnesses::quorum(&settings, file, report);
    (settings, probes)
}
