//! `[severities]`, `[templates]`, and what of `[notify]` belongs together with them.

use std::collections::BTreeSet;

use super::common::{not_empty, not_zero};
use super::{plain_name, plain_value};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::shape::{DutyTable, File, NotifyRoute, RungTable, Scenario, SeverityTable};
use crate::config::{suggest, templates as words};
use crate::model::{Audience, Duty, DutyName, HumanDuration, NoticeKind, RouteName, Rung, Severity, SeveritySettings};

/// What a scenario promises: its own word, else its severity's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Objectives {
    /// The recovery-time objective; `None` where nobody names one, which was told.
    pub rto: Option<HumanDuration>,
    /// The recovery-point objective.
    pub rpo: Option<HumanDuration>,
}

/// The severities, as declared.
pub fn severities(file: &File, report: &mut Report<'_>) -> Vec<SeveritySettings> {
    let base = Path::of(&["severities"]);
    let mut named: Vec<(&String, &SeverityTable)> = file.severities.iter().collect();
    named.sort_by_key(|(name, _)| report.layers().written_order(&base.key(name)));
    named.into_iter().map(|(name, table)| severity(file, report, &base.key(name), name, table)).collect()
}

fn severity(file: &File, report: &mut Report<'_>, at: &Path, name: &str, table: &SeverityTable) -> SeveritySettings {
    plain_name(report, at, name);
    let lengths = [("rto", table.rto), ("respond_within", table.respond_within), ("update_every", table.update_every)];
    for (key, length) in lengths {
        not_zero(report, &at.key(key), length);
    }
    for (place, route) in table.routes.iter().flatten().enumerate() {
        known_route(file, report, &at.key("routes").index(place), route);
    }
    if table.routes.as_ref().is_some_and(Vec::is_empty) {
        report.error("empty", &at.key("routes"), "nobody would be told", "name a route, or leave it out");
    }
    let ladder = &table.escalate;
    for (place, rung) in ladder.iter().enumerate() {
        rung_is_sound(file, report, &at.key("escalate").index(place), rung, place.checked_sub(1).map(|p| &ladder[p]));
    }
    let mut names = BTreeSet::new();
    for (place, duty) in table.duties.iter().enumerate() {
        let at = at.key("duties").index(place);
        if !names.insert(&duty.name) {
            report.error("twice", &at.key("name"), format!("`{}` is there twice", duty.name), "name it otherwise");
        }
        duty_is_sound(report, &at, duty);
    }
    made(file, name, table)
}

fn made(file: &File, name: &str, table: &SeverityTable) -> SeveritySettings {
    let routes = |names: &[String]| names.iter().map(|name| RouteName::from(name.as_str())).collect::<Vec<_>>();
    let in_ladder: BTreeSet<&String> = table.escalate.iter().flat_map(|rung| &rung.routes).collect();
    let usual = || {
        let others = file.notify.keys().filter(|name| !in_ladder.contains(name));
        others.map(|name| RouteName::from(name.as_str())).collect()
    };
    let all = table.routes.as_deref().map(routes).or_else(|| (!in_ladder.is_empty()).then(usual));
    let rung = |rung: &RungTable| Rung { after: rung.after, to: rung.to.clone(), routes: routes(&rung.routes) };
    let duty = |duty: &DutyTable| Duty {
        name: DutyName::from(duty.name.as_str()),
        after: duty.after,
        from: duty.from,
        message: duty.message.clone(),
        remind_before: duty.remind_before.unwrap_or(HumanDuration(duty.after.get() / 4)),
    };
    SeveritySettings {
        name: Severity(name.to_owned()),
        respond_within: table.respond_within,
        update_every: table.update_every,
        routes: all,
        escalate: table.escalate.iter().map(rung).collect(),
        duties: table.duties.iter().map(duty).collect(),
    }
}

fn known_route(file: &File, report: &mut Report<'_>, at: &Path, name: &str) {
    let broken = report.broken_names(&Path::of(&["notify"]));
    if !file.notify.contains_key(name) && !broken.iter().any(|known| known == name) {
        let fix = suggest::fix(name, "route", file.notify.keys().map(String::as_str));
        report.error("unknown_name", at, format!("there is no route `{name}`"), fix);
    }
}

fn rung_is_sound(file: &File, report: &mut Report<'_>, at: &Path, rung: &RungTable, before: Option<&RungTable>) {
    if rung.routes.is_empty() {
        report.error("empty", &at.key("routes"), "nobody would be told", "name the routes of this rung");
    }
    for (place, route) in rung.routes.iter().enumerate() {
        let at = at.key("routes").index(place);
        known_route(file, report, &at, route);
        let audience = file.notify.get(route).map(NotifyRoute::audience).unwrap_or_default();
        if audience.is_public() {
            let message = format!("`{route}` is for {}: nobody there can answer", audience.name());
            report.error("wrong_audience", &at, message, "name a route to somebody on call");
        }
    }
    if let Some(to) = &rung.to {
        not_empty(report, &at.key("to"), to);
    }
    if let Some(before) = before.filter(|before| before.after >= rung.after) {
        let message = format!("it is told after {}, and the rung before it after {}", rung.after, before.after);
        report.error("not_rising", &at.key("after"), message, "write the rungs in the order of their times");
    }
}

fn duty_is_sound(report: &mut Report<'_>, at: &Path, duty: &DutyTable) {
    plain_value(report, &at.key("name"), &duty.name);
    not_zero(report, &at.key("after"), Some(duty.after));
    not_empty(report, &at.key("message"), &duty.message);
    if let Some(before) = duty.remind_before.filter(|before| *before > duty.after) {
        let message = format!("a reminder {before} before the end of {} comes before it begins", duty.after);
        report.warn("reminded_at_once", &at.key("remind_before"), message, "write a shorter time");
    }
}

/// What holds for a scenario, and whether its severity is one that is declared.
pub fn objectives(file: &File, report: &mut Report<'_>, at: &Path, table: &Scenario) -> Objectives {
    let name = &table.severity.0;
    not_empty(report, &at.key("severity"), name);
    let broken = report.broken_names(&Path::of(&["severities"]));
    let declared = file.severities.get(name);
    let unread = broken.iter().any(|known| known == name);
    if declared.is_none() && !file.severities.is_empty() && !unread && !name.trim().is_empty() {
        let fix = suggest::fix(name, "severity", file.severities.keys().map(String::as_str));
        report.error("unknown_name", &at.key("severity"), format!("there is no severity `{name}`"), fix);
    }
    let rto = table.rto.or(declared.and_then(|severity| severity.rto));
    if rto.is_none() && !unread && !report.is_broken(&at.key("rto")) {
        let fix = match declared {
            Some(_) => format!("add `rto = \"15m\"`, or `rto` to [severities.{name}]"),
            None => "add `rto = \"15m\"`".to_owned(),
        };
        report.error("missing_key", at, "`rto` is missing: nothing says how fast it has to be over", fix);
    }
    let inherited = declared.and_then(|severity| severity.rpo).filter(|_| !table.replication.is_empty());
    for (key, own, promised) in [
        ("rto", table.rto, declared.and_then(|severity| severity.rto)),
        ("rpo", table.rpo, declared.and_then(|severity| severity.rpo)),
    ] {
        if let (Some(own), Some(promised)) = (own, promised)
            && own > promised
        {
            report.warn(
                "looser_than_severity",
                &at.key(key),
                format!("{own} holds here, and severity {name} promises {promised}"),
                "leave it out, or give the scenario a severity that fits it",
            );
        }
    }
    Objectives { rto, rpo: table.rpo.or(inherited) }
}

/// The words for each audience.
pub fn templates(file: &File, report: &mut Report<'_>) {
    for audience in [Audience::Internal, Audience::Executives, Audience::Customers, Audience::StatusPage] {
        let Some(of) = file.templates.of(audience) else { continue };
        let at = Path::of(&["templates", audience.name()]);
        let mut check = |at: Path, template: &Option<String>| {
            if let Some(wrong) = template.as_deref().and_then(|template| words::wrong(template, audience)) {
                report.error("bad_template", &at, wrong, "see `Telling people` in the README");
            }
        };
        check(at.key("subject"), &of.subject);
        check(at.key("body"), &of.body);
        for (kind, template) in &of.kinds {
            let at = at.key("kinds").key(&kind_name(*kind));
            check(at.key("subject"), &template.subject);
            check(at.key("body"), &template.body);
        }
        for kind in of.kinds.keys().filter(|kind| !audience.hears_of(**kind)) {
            let name = kind_name(*kind);
            let message = format!("{} are never told of {name}", audience.name());
            report.warn("never_used", &at.key("kinds").key(&name), message, "leave it out");
        }
    }
}

fn kind_name(kind: NoticeKind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What of a route belongs together with others: for whom it is, and what stands in for it.
pub fn route(file: &File, report: &mut Report<'_>, at: &Path, name: &str, route: &NotifyRoute) {
    let pages = route.pagerduty.is_some() || route.opsgenie.is_some() || route.alertmanager.is_some();
    let audience = route.audience();
    if audience.is_public() && pages {
        let message = format!("this pages whoever is on call, and is no way to {}", audience.name());
        report.error("wrong_audience", &at.key("audience"), message, "leave it out");
    }
    if route.statuspage.is_some() && audience != Audience::StatusPage {
        report.error("wrong_audience", &at.key("audience"), "a status page is read by everybody", "leave it out");
    }
    let Some(fallback) = &route.fallback else { return };
    let at = at.key("fallback");
    if fallback == name {
        report.error("fallback_to_itself", &at, "it cannot stand in for itself", "name another route");
        return;
    }
    known_route(file, report, &at, fallback);
    if let Some(other) = file.notify.get(fallback)
        && other.audience() != audience
    {
        let message =
            format!("`{fallback}` is for {}, and this route for {}", other.audience().name(), audience.name());
        report.error("wrong_audience", &at, message, "name a route for the same audience");
    }
}
