//! `[health_switch]`, and the steps that set one: what nobody serves moves no traffic.

use std::net::SocketAddr;

use super::{Names, dangling};
use crate::config::action::{ActionConfig, HealthSwitchAction};
use crate::config::path::Path;
use crate::config::references::Taken;
use crate::config::report::Report;
use crate::config::shape::File;
use crate::config::trust::{self, Matter};

/// Tells what is wrong with the table.
pub fn check(file: &File, report: &mut Report<'_>) {
    let (table, base) = (&file.health_switch, Path::of(&["health_switch"]));
    if !table.directory().is_absolute() {
        let fix = "write the whole path, from `/` on";
        report.error("not_absolute", &base.key("directory"), "this is not an absolute path", fix);
    } else if table.address().is_some() {
        trust::check(report, &base.key("directory"), table.directory(), Matter::Ours);
    }
    // It becomes the name of a file.
    for name in table.switches.keys().filter(|name| name.starts_with('.') || name.len() > 100) {
        let fix = "let it begin with a letter or a digit, and be at most 100 characters long";
        report.error_at_key("bad_name", &base.key("switches").key(name), "a switch cannot be called so", fix);
    }
    let Some(listen) = table.address() else { return };
    let at = base.key("listen");
    if listen.parse::<SocketAddr>().is_err() {
        report.error(
            "bad_address",
            &at,
            format!("`{listen}` is not an address to listen on"),
            "write `address:port`, for example `0.0.0.0:9465`; `\"\"` switches it off",
        );
    } else if file.metrics.listen.as_deref() == Some(listen) {
        let fix = "give it a port of its own: health checkers need not see the metrics";
        report.error("twice", &at, "the metrics listen there already", fix);
    }
    if table.switches.is_empty() && !report.touches_broken(&base.key("switches")) {
        report.warn(
            "empty",
            &at,
            "there is no switch: every health checker is answered 404, and takes that for unhealthy",
            "add `[health_switch.switches.NAME]` with `initially`",
        );
    }
}

/// A step that sets a switch: one that this daemon serves, in the directory that it serves it from. `open`
/// are the places of the step that are filled in later.
pub fn set(
    file: &File,
    names: &Names,
    report: &mut Report<'_>,
    step: &Path,
    open: &[Taken],
    action: &mut ActionConfig,
) {
    let ActionConfig::HealthSwitch(HealthSwitchAction::Set(set)) = action else { return };
    let at = step.key("health_switch").key("set");
    let table = &file.health_switch;
    if table.address().is_none() && !report.touches_broken(&Path::of(&["health_switch", "listen"])) {
        report.error(
            "not_served",
            &at,
            "no health checker can ask for this switch: the daemon does not listen",
            "write `health_switch.listen`, for example `0.0.0.0:9465`",
        );
    }
    if open.iter().any(|taken| taken.pointer == "/health_switch/set/name") {
        let fix = "write the name itself; `for_each` makes a step for each of several";
        report.error("bad_name", &at, "whether a switch is served has to be seen before a run", fix);
    } else if !names.switches.contains(&set.name) {
        dangling(report, &at.key("name"), "health switch", &set.name, &names.switches);
    }
    if set.directory.as_deref().is_some_and(|directory| directory != table.directory()) {
        report.error(
            "not_served",
            &at.key("directory"),
            format!("the daemon serves the switches in {}", table.directory().display()),
            "leave it out; `health_switch.directory` says where they are",
        );
    }
    // A run that has begun goes on in the directory that it began with.
    set.directory = Some(table.directory().to_owned());
}
