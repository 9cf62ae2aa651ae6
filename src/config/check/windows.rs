//! Windows over other probes: what they are made of, and when they are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Names, dangling};
use crate::config::LoadedProbe;
use crate::config::path::Path;
use crate::config::probe::{ProbeKind, WindowProbe};
use crate::config::report::Report;
use crate::config::shape::File;
use crate::model::{HumanDuration, ProbeSettings, TargetHash, WindowSettings};

/// Checks the windows, and fits their timing to that of their parts.
pub fn fit(file: &File, names: &Names, probes: &mut [LoadedProbe], report: &mut Report<'_>) {
    let windows: BTreeSet<String> =
        file.probes.iter().filter(|(_, probe)| probe.window.is_some()).map(|(name, _)| name.clone()).collect();
    let others: BTreeMap<String, ProbeSettings> = probes
        .iter()
        .filter(|probe| !matches!(probe.kind, ProbeKind::Window(_)))
        .map(|probe| (probe.name.to_string(), probe.settings.clone()))
        .collect();
    for probe in probes {
        let ProbeKind::Window(window) = &probe.kind else { continue };
        let at = Path::of(&["probes", probe.name.as_str()]);
        let in_window = at.key("window");
        window.check(&in_window, report);
        parts(file, names, &windows, probe.name.as_str(), window, report);
        unused(file, &at, probe.name.as_str(), report);
        let parts: Vec<&ProbeSettings> = window.of.iter().filter_map(|name| others.get(name)).collect();
        let settings = window.settings();
        timing(file, &mut probe.settings, &parts);
        enough(&in_window, window, &settings, &parts, report);
        slow_enough(&in_window, &settings, &parts, report);
        probe.settings.target = target(&probe.kind, &parts);
        probe.settings.window = Some(Box::new(settings));
    }
}

/// Which probes it is made of.
fn parts(
    file: &File,
    names: &Names,
    windows: &BTreeSet<String>,
    own: &str,
    window: &WindowProbe,
    report: &mut Report<'_>,
) {
    let at = Path::of(&["probes", own, "window", "of"]);
    if window.of.is_empty() {
        report.error("empty", &at, "it counts what other probes see, and names none", "name at least one probe");
    }
    let anchors: Vec<&str> = file.anchors.iter().flat_map(|anchors| &anchors.tcp).map(String::as_str).collect();
    let mut seen = BTreeSet::new();
    for (place, name) in window.of.iter().enumerate() {
        let at = at.index(place);
        if !seen.insert(name) {
            report.error("twice", &at, format!("`{name}` is there twice"), "leave one of them out");
        } else if name == own {
            report.error("window_over_window", &at, "a window cannot count itself", "name a probe that asks somebody");
        } else if windows.contains(name) {
            report.error(
                "window_over_window",
                &at,
                format!("`{name}` is a window itself"),
                "name the probes that it counts",
            );
        } else if anchors.contains(&name.trim_start_matches("anchor:")) {
            report.error(
                "window_over_anchor",
                &at,
                format!("`{name}` is an anchor: it tells of ourselves, and not of a target"),
                "add a probe for it where it is a target too",
            );
        } else if !names.probes.contains(name) {
            dangling(report, &at, "probe", name, &names.probes);
        }
    }
}

/// What is written and has no meaning here.
fn unused(file: &File, at: &Path, name: &str, report: &mut Report<'_>) {
    let Some(probe) = file.probes.get(name) else { return };
    for (key, value) in [("timeout", probe.timeout), ("fast_interval", probe.fast_interval)] {
        if value.is_some() {
            report.warn(
                "never_used",
                &at.key(key),
                format!("a window asks nobody: its `{key}` does not matter"),
                "leave it out",
            );
        }
    }
}

/// Its own, else what its parts have: it can be looked at no more often than they look.
fn timing(file: &File, own: &mut ProbeSettings, parts: &[&ProbeSettings]) {
    let Some(shortest) = parts.iter().map(|part| part.interval).min() else { return };
    let written = file.probes.get(own.name.as_str());
    own.interval = written.and_then(|probe| probe.interval).unwrap_or(shortest);
    own.fast_interval = own.interval;
    own.timeout = parts.iter().map(|part| part.timeout).max().unwrap_or(own.timeout);
    let turn = own.interval.get().max(shortest.get());
    let lived = HumanDuration(turn.saturating_mul(3).saturating_add(own.timeout.get()));
    let default = file.defaults.probe.max_age.map_or(lived, |age| age.max(lived));
    own.max_age = written.and_then(|probe| probe.max_age).unwrap_or(default);
}

/// Can its parts fill it?
fn enough(
    at: &Path,
    written: &WindowProbe,
    window: &WindowSettings,
    parts: &[&ProbeSettings],
    report: &mut Report<'_>,
) {
    // What is wrong with a part was told there.
    if parts.is_empty() || parts.len() != window.of.len() || parts.iter().any(|part| part.interval.get().is_zero()) {
        return;
    }
    let shortest = window.shortest();
    let looks = |part: &&ProbeSettings| shortest.as_nanos() / part.interval.get().as_nanos();
    let looks: u128 = parts.iter().map(looks).sum();
    if looks < u128::from(window.at_least) && !shortest.is_zero() {
        let key = if written.at_least.is_some() { at.key("at_least") } else { at.clone() };
        report.error(
            "window_never_filled",
            &key,
            format!(
                "its probes look {looks} times within {}, and at least {} looks are needed: it would always be unknown",
                HumanDuration(shortest),
                window.at_least
            ),
            "write a longer window or a smaller `at_least`, name more probes, or let them look more often",
        );
    }
}

/// An answer that is too slow has to be one.
fn slow_enough(at: &Path, window: &WindowSettings, parts: &[&ProbeSettings], report: &mut Report<'_>) {
    let longest: Duration = parts.iter().map(|part| part.timeout.get()).max().unwrap_or(Duration::MAX);
    for limit in window.latency.iter().filter(|limit| limit.at_most.get() >= longest) {
        report.warn(
            "never_slow",
            &at.key(&format!("p{}", limit.percentile)),
            format!(
                "an answer that takes {} has already run into the timeout of its probe ({})",
                limit.at_most,
                HumanDuration(longest)
            ),
            "write a shorter limit, or a longer `timeout` for the probes",
        );
    }
}

/// Votes on it are comparable only where also its parts ask the same.
fn target(kind: &ProbeKind, parts: &[&ProbeSettings]) -> TargetHash {
    let mut digest = Sha256::new();
    digest.update(kind.fingerprint().as_str());
    parts.iter().for_each(|part| digest.update(part.target.as_str()));
    TargetHash::new(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
