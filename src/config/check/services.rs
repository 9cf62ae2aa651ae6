//! `[services]` and `[audit]`.

use super::common::not_zero;
use super::{dangling, plain_name};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::shape::File;
use crate::config::suggest;
use crate::model::{Audience, HumanDuration, ScenarioSettings, ServiceSettings, Slo};

/// More often would tell nobody anything more, and fill whatever keeps the anchors.
const LEAST: HumanDuration = HumanDuration::secs(1);

/// The services, and what is wrong with them.
pub fn services(file: &File, scenarios: &[ScenarioSettings], report: &mut Report<'_>) -> Vec<ServiceSettings> {
    let known = || scenarios.iter().map(|scenario| scenario.service.as_str());
    for (name, service) in &file.services {
        let at = Path::of(&["services"]).key(name);
        plain_name(report, &at, name);
        not_zero(report, &at.key("window"), Some(service.window));
        let read = !report.touches_broken(&Path::of(&["scenarios"]));
        if read && !known().any(|service| service == name) {
            report.warn(
                "unknown_service",
                &at,
                format!("no scenario is of the service `{name}`: no incident will ever count against it"),
                suggest::fix(name, "service", known()),
            );
        }
    }
    let settings = |(name, service): (&String, &crate::config::shape::Service)| ServiceSettings {
        name: name.as_str().into(),
        slo: Slo { target: service.slo, window: service.window },
    };
    file.services.iter().map(settings).collect()
}

/// Tells what is wrong with the anchors.
pub fn audit(file: &File, report: &mut Report<'_>) {
    let Some(audit) = &file.audit else { return };
    let at = Path::of(&["audit"]);
    if audit.anchor_every < LEAST {
        let message = format!("an anchor every {}", audit.anchor_every);
        report.error("too_often", &at.key("anchor_every"), message, format!("write {LEAST} or more"));
    }
    if audit.routes.is_empty() {
        report.error("empty", &at.key("routes"), "nobody would keep the anchors", "name routes of [notify]");
    }
    let known = file.notify.keys().cloned().collect();
    for (place, name) in audit.routes.iter().enumerate() {
        let at = at.key("routes").index(place);
        let broken = report.broken_names(&Path::of(&["notify"])).iter().any(|broken| broken == name);
        match file.notify.get(name) {
            None if broken => {}
            None => dangling(report, &at, "route", name, &known),
            Some(route) if route.audience() != Audience::Internal => report.error(
                "not_internal",
                &at,
                format!("`{name}` is for {}: an anchor is for whoever audits", route.audience().name()),
                "name a route without `audience`",
            ),
            Some(_) => {}
        }
    }
}
