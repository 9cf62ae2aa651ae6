//! Files and environment → [`Loaded`], or all faults at once.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};

use sha2::{Digest, Sha256};

use super::check;
use super::fault::{Fault, Faults, Level};
use super::layers::{self, EMBEDDED, Layers, PREFIX, Variable};
use super::path::Path;
use super::probe::ProbeKind;
use super::report::{Report, file_fault, text_faults};
use super::shape::File;
use super::{expand, read, references, suggest, trust};
use crate::model::{ProbeName, ProbeSettings, Settings};

/// Where the configuration is found unless something else is said.
pub const DEFAULT_FILE: &str = "/etc/failoverd/failoverd.toml";

/// A check that needs what this room does not know, such as the adapters: told of faults by the report.
pub type FurtherCheck = fn(&File, &Settings, &[LoadedProbe], &mut Report<'_>);

/// What is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The file; `conf.d/*.toml` beside it is read too.
    pub file: PathBuf,
    /// The environment; only `FAILOVERD__…` counts.
    pub environment: BTreeMap<String, String>,
    /// Are the files and variables looked at that the configuration refers to (secrets,
    /// certificates), and who may write them? Off where a configuration is checked on another
    /// machine than its own.
    pub inspect: bool,
    /// The user that the daemon runs as; `None` where the file is only checked, maybe by somebody else.
    pub user: Option<u32>,
    /// Asked at the end of the checks.
    pub further: Option<FurtherCheck>,
    /// Set above all layers: what would be if somebody wrote this. As a variable's text is read.
    pub overrides: Vec<(Path, String)>,
}

impl LoadOptions {
    /// This file, with the environment of this process.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        Self { file: file.into(), environment, inspect: true, user: None, further: None, overrides: Vec::new() }
    }

    /// This file alone, without the environment, and without a look at what it refers to.
    pub fn file_only(file: impl Into<PathBuf>) -> Self {
        let environment = BTreeMap::new();
        Self { file: file.into(), environment, inspect: false, user: None, further: None, overrides: Vec::new() }
    }
}

/// A probe, ready to be built.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedProbe {
    /// Its name; anchors are named `anchor:HOST:PORT`.
    pub name: ProbeName,
    /// What it asks.
    pub kind: ProbeKind,
    /// Its timing, resolved.
    pub settings: ProbeSettings,
}

/// A configuration without errors.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the brain decides by.
    pub settings: Settings,
    /// What is asked: the probes, then the anchors; as many as in `settings.probes`.
    pub probes: Vec<LoadedProbe>,
    /// All that was written, layers merged and defaults in: what the adapters are built from.
    pub file: File,
    /// The files that were read, in their order.
    pub sources: Vec<PathBuf>,
    /// What somebody should look at.
    pub warnings: Faults,
    /// SHA-256 of what was written, in hexadecimal: equal configurations have equal hashes.
    pub hash: String,
}

/// Reads, merges and checks the configuration. Blocking: it reads files.
///
/// # Errors
/// [`Faults`]: everything that is wrong, warnings among them, in the order of files and lines.
pub fn load(options: &LoadOptions) -> Result<Loaded, Faults> {
    let mut found = Faults::default();
    let mut layers = read_layers(options, &mut found);
    // What was not read is missing from everything else, so that nothing true could be said of that.
    if found.iter().any(|fault| matches!(fault.code, "syntax" | "file_not_readable")) {
        found.sort();
        return Err(found);
    }
    layers.take_environment(&options.environment);
    layers.variables.extend(options.overrides.iter().map(|(path, text)| Variable {
        name: path.to_string(),
        text: text.clone(),
        path: path.clone(),
    }));
    let mut report = Report::new(&layers, options.inspect).for_user(options.user);
    unreachable_keys(&layers, &mut report);
    let mut tree = match layers.merge() {
        Ok(tree) => tree,
        Err(error) => {
            report.error("merge", &Path::default(), format!("the layers cannot be merged: {error}"), "");
            return Err(report.finish());
        }
    };
    let order = expand::expand(&mut tree, &mut report);
    let references = references::take(&mut tree, &mut report);
    let made = read::read(&mut tree, &mut report).map(|file| {
        // What stands for a value that is not known yet is not looked at.
        references.values().flatten().for_each(|taken| report.set_open(&taken.path));
        let (settings, probes) = check::all(&file, &order, &references, &mut report);
        if let Some(further) = options.further {
            further(&file, &settings, &probes, &mut report);
        }
        (file, settings, probes)
    });
    found.0.extend(report.finish().0);
    found.sort();
    match made {
        Some((file, settings, probes)) if !found.has_errors() => {
            let sources = layers.texts.into_iter().filter_map(|layer| layer.file).collect();
            let hash = hash(&file);
            Ok(Loaded { settings, probes, file, sources, warnings: found, hash })
        }
        _ => Err(found),
    }
}

fn hash(file: &File) -> String {
    let json = serde_json::to_vec(file).unwrap_or_default();
    Sha256::digest(&json).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The embedded default, the file, and what is beside it.
fn read_layers(options: &LoadOptions, found: &mut Faults) -> Layers {
    let mut layers = Layers::default();
    take_text(&mut layers, None, EMBEDDED, found);
    read_file(&mut layers, &options.file, options, found);
    let folder = options.file.parent().map(|parent| parent.join("conf.d")).unwrap_or_default();
    if options.inspect {
        found.0.extend(trust::of_the_configuration(&folder, options.user));
        found.0.extend(trust::of_the_environment(options.user));
    }
    for file in fragments(&folder, found) {
        read_file(&mut layers, &file, options, found);
    }
    layers
}

/// `*.toml` in the folder, by name. Hidden ones are left out: editors keep their copies so.
fn fragments(folder: &FilePath, found: &mut Faults) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            found.0.push(unreadable(folder, &error));
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
        .collect();
    files.sort();
    files
}

fn read_file(layers: &mut Layers, file: &FilePath, options: &LoadOptions, found: &mut Faults) {
    if options.inspect {
        found.0.extend(trust::of_the_configuration(file, options.user));
    }
    match std::fs::read_to_string(file) {
        Ok(text) => take_text(layers, Some(file), &text, found),
        Err(error) => found.0.push(unreadable(file, &error)),
    }
}

fn take_text(layers: &mut Layers, file: Option<&FilePath>, text: &str, found: &mut Faults) {
    match layers::parse(file, text) {
        Ok(layer) => layers.texts.push(layer),
        Err(wrong) => {
            let layer = layers.texts.len() + found.0.len();
            found.0.extend(text_faults(file, text, layer, wrong));
        }
    }
}

fn unreadable(file: &FilePath, error: &std::io::Error) -> Fault {
    let fix = match error.kind() {
        std::io::ErrorKind::NotFound => format!("name another file with --config, or create {}", file.display()),
        std::io::ErrorKind::PermissionDenied => "make it readable for the user that failoverd runs as".to_owned(),
        std::io::ErrorKind::InvalidData => "write it in UTF-8".to_owned(),
        _ => String::new(),
    };
    file_fault(file, 1, "file_not_readable", Level::Error, format!("this cannot be read: {error}"), fix)
}

/// Keys at the root that the `config` crate would take for a path of its own and split: none of
/// ours looks so. They are left out of the merge.
fn unreachable_keys(layers: &Layers, report: &mut Report<'_>) {
    let roots = layers.texts.iter().flat_map(|layer| layer.root.table.keys().map(|key| Path::of(&[key])));
    let variables = layers.variables.iter().map(|variable| Path(variable.path.0.iter().take(1).cloned().collect()));
    for path in roots.chain(variables) {
        if let Some(super::path::Segment::Key(key)) = path.0.first()
            && !layers::is_root_key(key)
        {
            let allowed = File::keys();
            let fix = suggest::fix(key, "key", allowed.iter().copied());
            report.error_at_key("unknown_key", &path, format!("unknown key {key:?}"), fix);
        }
    }
}

#[cfg(test)]
#[path = "load_tests/mod.rs"]
mod tests;
