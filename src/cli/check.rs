//! `failoverd check`, and the loading of the configuration for every verb that needs it whole.

use serde_json::json;

use super::args::Global;
use super::context::config_path;
use super::exit::{Exit, Failure, print, print_json};
use super::parts;
use super::render::Style;
use super::render::check::{objectives, render_objectives};
use super::render::style::Tone;
use crate::config::{Faults, LoadOptions, Loaded, load};
use crate::control::{Gate, Lists};

/// The options that the command line asks for.
pub fn load_options(global: &Global, inspect: bool) -> LoadOptions {
    LoadOptions { inspect, further: Some(parts::check), ..LoadOptions::new(config_path(global)) }
}

/// Loads the configuration; its faults are told as they are found, with place and fix.
///
/// # Errors
/// [`Failure`] with exit code 2, everything told.
pub fn load_or_tell(global: &Global, options: &LoadOptions) -> Result<Loaded, Failure> {
    match load(options) {
        Ok(loaded) => Ok(loaded),
        Err(faults) => {
            tell(global, &faults)?;
            Err(Failure::said(Exit::Usage))
        }
    }
}

fn tell(global: &Global, faults: &Faults) -> Result<(), Failure> {
    if global.json {
        return print_json(&json!({ "ok": false, "faults": faults.to_json() }));
    }
    print(&faults.render(Style::detect().colour))
}

/// `failoverd check`.
///
/// # Errors
/// [`Failure`]; exit code 2 where the configuration has errors.
pub fn check(global: &Global, inspect: bool) -> Result<(), Failure> {
    let loaded = load_or_tell(global, &load_options(global, inspect))?;
    let strangers = if inspect { unknown_names(&loaded) } else { Vec::new() };
    let objectives = objectives(&loaded.settings);
    if global.json {
        return print_json(&json!({
            "ok": true,
            "hash": loaded.hash,
            "sources": loaded.sources,
            "faults": loaded.warnings.to_json(),
            "unknown_names": strangers,
            "scenarios": objectives,
        }));
    }
    let style = Style::detect();
    let mut text = String::new();
    if !loaded.warnings.is_empty() {
        text.push_str(&loaded.warnings.render(style.colour));
        text.push('\n');
    }
    for stranger in &strangers {
        text.push_str(&style.paint(Tone::Warn, &format!("warning: {stranger}\n")));
    }
    text.push_str(&summary(&loaded, &style));
    text.push_str(&render_objectives(&objectives, &style));
    print(&text)
}

fn summary(loaded: &Loaded, style: &Style) -> String {
    let count = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let sources: Vec<String> = loaded.sources.iter().map(|path| path.display().to_string()).collect();
    format!(
        "{}  {} in mode {}: {}, {}, {}, {}\n  from {}\n\n",
        style.paint(Tone::Good, "✓ The configuration is good."),
        loaded.settings.name,
        loaded.settings.mode,
        count(loaded.settings.probes.len(), "probe"),
        count(loaded.settings.scenarios.len(), "scenario"),
        count(loaded.settings.plans.len(), "plan"),
        count(loaded.file.notify.len(), "notify route"),
        sources.join(", "),
    )
}

/// The names in `[control]` that nobody has on this host.
fn unknown_names(loaded: &Loaded) -> Vec<String> {
    Gate::for_this_process(lists(loaded)).1
}

fn lists(loaded: &Loaded) -> Lists {
    let control = &loaded.file.control;
    Lists {
        viewers: control.viewers.clone(),
        operators: control.operators.clone(),
        approvers: control.approvers.clone(),
    }
}
