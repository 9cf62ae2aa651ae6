//! `[readiness]`.

use super::Names;
use super::common::{not_empty, not_zero};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::shape::{ANYWHERE, File};
use crate::config::suggest;
use crate::model::HumanDuration;

/// More often would cost the APIs more than it tells.
const LEAST: HumanDuration = HumanDuration::secs(10);

/// Tells what is wrong with the table.
pub fn check(file: &File, names: &Names, report: &mut Report<'_>) {
    let (at, table) = (Path::of(&["readiness"]), &file.readiness);
    if table.every < LEAST && table.every != HumanDuration::ZERO {
        report.error(
            "too_often",
            &at.key("every"),
            format!("each plan would be looked at every {}, and each look calls its APIs", table.every),
            format!("write {LEAST} or more, or `0s` to look only when somebody asks"),
        );
    }
    not_zero(report, &at.key("step_timeout"), Some(table.step_timeout));
    not_zero(report, &at.key("backup_age"), Some(table.backup_age));
    if table.ports.is_empty() {
        report.error("empty", &at.key("ports"), "no target could serve at no port", "write `[443]`, or leave it out");
    }
    if let Some(place) = table.ports.iter().position(|port| *port == 0) {
        report.error("bad_port", &at.key("ports").index(place), "0 is no port", "write the port that serves");
    }
    for (host, region) in &table.places {
        let at = at.key("places").key(host);
        if region != ANYWHERE && !names.regions.contains(region) {
            let known = names.regions.iter().map(String::as_str).chain([ANYWHERE]);
            report.error(
                "unknown_name",
                &at,
                format!("there is no region `{region}`"),
                suggest::fix(region, "region", known),
            );
        }
    }
    for (place, name) in table.accepts.iter().enumerate() {
        not_empty(report, &at.key("accepts").index(place), name);
    }
}
