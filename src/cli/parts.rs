//! Everything that a configuration names, built as a run builds it: what cannot be built is a fault
//! of the configuration, and not of the night in which it is needed.

use std::sync::Arc;

use crate::actions;
use crate::clients::Clients;
use crate::config::LoadedProbe;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::shape::File;
use crate::model::{Given, Reference, Settings};
use crate::notify;
use crate::probes::{self, ProbeClients, ProbeContext};

/// Builds each part once and drops it again. Calls nobody, and reads the certificates that are named;
/// so it is left out where a configuration is checked on another machine than its own.
pub fn check(file: &File, settings: &Settings, probes: &[LoadedProbe], report: &mut Report<'_>) {
    if !report.inspects() || report.has_errors_below(&Path::default()) {
        return;
    }
    let root = Path::default();
    let clients = Arc::new(Clients::new(&file.limits));
    let names = ProbeClients::system().through(Arc::clone(&clients));
    for probe in probes.iter().filter(|probe| probe.kind.asks()) {
        let context = ProbeContext::new(names.clone(), probe.settings.timeout.get());
        let at = match file.probes.contains_key(probe.name.as_str()) {
            true => root.key("probes").key(probe.name.as_str()),
            false => root.key("anchors"),
        };
        refuse(report, &at, probes::build(&probe.kind, &context).err());
    }
    for plan in &settings.plans {
        let steps = root.key("plans").key(plan.name.as_str()).key("steps");
        // What is left open is built when it is known. Where all has a default, that is what is built.
        let given = plan.with(&Given::new());
        let plan = given.as_ref().unwrap_or(plan);
        for (step, spec) in plan.steps.iter().filter_map(|step| Some((step, step.work.action()?))) {
            if !Reference::all_in(&spec.params).is_empty() {
                continue;
            }
            refuse(report, &steps.key(step.name.as_str()), actions::build(spec, &clients).err());
        }
    }
    for (name, route) in &file.notify {
        refuse(
            report,
            &root.key("notify").key(name),
            notify::build(route, &file.daemon.name, &file.templates, &clients).err(),
        );
    }
}

fn refuse(report: &mut Report<'_>, at: &Path, why: Option<impl std::fmt::Display>) {
    if let Some(why) = why {
        report.error_at_key("cannot_be_built", at, why.to_string(), "correct it: it would fail when it is needed");
    }
}
