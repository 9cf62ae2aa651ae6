//! Where the checks put what they find.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;

use super::fault::{Fault, Faults, Level};
use super::layers::{EMBEDDED_NAME, Layers, Location, TextFault};
use super::path::Path;
use super::redact::redact;

/// A fault whose place in the text is not yet known.
#[derive(Clone, Debug)]
struct Draft {
    level: Level,
    code: &'static str,
    path: Path,
    key: bool,
    message: String,
    fix: String,
}

/// Collects the faults of a configuration.
#[derive(Debug)]
pub struct Report<'a> {
    layers: &'a Layers,
    drafts: Vec<Draft>,
    /// Values that could not be read and were put aside. What is found at or below one of them is
    /// an echo of the first fault, and not told.
    broken: BTreeSet<Path>,
    /// Those of them that are right, and are only not known before a run.
    open: BTreeSet<Path>,
    hidden: Vec<Path>,
    /// Values that were written elsewhere: `(here, there)`.
    aliases: Vec<(Path, Path)>,
    inspects: bool,
    user: Option<u32>,
}

impl<'a> Report<'a> {
    /// An empty report on these layers. `inspects`: are the files and variables looked at that the
    /// configuration refers to?
    pub fn new(layers: &'a Layers, inspects: bool) -> Self {
        let (broken, open) = (BTreeSet::new(), BTreeSet::new());
        let (hidden, aliases) = (Vec::new(), Vec::new());
        Self { layers, drafts: Vec::new(), broken, open, hidden, aliases, inspects, user: None }
    }

    /// Says as which user the daemon runs, where that is known.
    pub fn for_user(mut self, user: Option<u32>) -> Self {
        self.user = user;
        self
    }

    /// The user that the daemon runs as; `None` where that is not known.
    pub fn user(&self) -> Option<u32> {
        self.user
    }

    /// Are the files and variables looked at that the configuration refers to?
    pub fn inspects(&self) -> bool {
        self.inspects
    }

    /// The layers.
    pub fn layers(&self) -> &'a Layers {
        self.layers
    }

    /// The configuration is refused for this value.
    pub fn error(&mut self, code: &'static str, path: &Path, message: impl Into<String>, fix: impl Into<String>) {
        self.push(Level::Error, code, path, false, message.into(), fix.into());
    }

    /// The configuration is refused for the name of this value.
    pub fn error_at_key(
        &mut self,
        code: &'static str,
        path: &Path,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(Level::Error, code, path, true, message.into(), fix.into());
    }

    /// The configuration is refused for this value, which holds a secret and is not shown.
    pub fn error_in_secret(
        &mut self,
        code: &'static str,
        path: &Path,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(Level::Error, code, path, false, message.into(), fix.into());
        self.hide(path);
    }

    /// What is written at or below this path is not shown in any fault.
    pub fn hide(&mut self, path: &Path) {
        self.hidden.push(path.clone());
    }

    /// Somebody should look at this value.
    pub fn warn(&mut self, code: &'static str, path: &Path, message: impl Into<String>, fix: impl Into<String>) {
        self.push(Level::Warning, code, path, false, message.into(), fix.into());
    }

    /// What is at or below `here` was written at or below `there`.
    pub fn alias(&mut self, here: Path, there: Path) {
        self.aliases.push((here, there));
    }

    /// Where the value at this path was written. A step of a child plan may come from a list of it:
    /// so one alias may lead to another. A drill's steps are those of its plan.
    fn written_at(&self, path: &Path) -> Path {
        let mut path = path.clone();
        for _ in 0..4 {
            let Some((here, there)) = self.aliases.iter().find(|(here, _)| path.starts_with(here)) else { break };
            path = Path(there.0.iter().chain(&path.0[here.0.len()..]).cloned().collect());
        }
        path
    }

    fn push(&mut self, level: Level, code: &'static str, path: &Path, key: bool, message: String, fix: String) {
        if !self.is_broken(path) {
            let path = self.written_at(path);
            let told = |draft: &Draft| draft.code == code && draft.path == path && draft.message == message;
            // A step that was written once may be looked at several times.
            if self.aliases.is_empty() || !self.drafts.iter().any(told) {
                self.drafts.push(Draft { level, code, path, key, message, fix });
            }
        }
    }

    /// The value at this path could not be read.
    pub fn set_broken(&mut self, path: &Path) {
        self.broken.insert(path.clone());
    }

    /// The value at this path is not known before a run: what is found there is not told, and all else
    /// is looked at.
    pub fn set_open(&mut self, path: &Path) {
        self.broken.insert(path.clone());
        self.open.insert(path.clone());
    }

    /// Could this value, or one above it, not be read?
    pub fn is_broken(&self, path: &Path) -> bool {
        let written = self.written_at(path);
        self.broken.iter().any(|broken| path.starts_with(broken) || written.starts_with(broken))
    }

    /// Could this value, or one above or below it, not be read?
    pub fn touches_broken(&self, path: &Path) -> bool {
        self.broken.iter().any(|broken| path.starts_with(broken) || broken.starts_with(path))
    }

    /// The same, but for what is only not known before a run.
    pub fn touches_unread(&self, path: &Path) -> bool {
        self.broken.difference(&self.open).any(|broken| path.starts_with(broken) || broken.starts_with(path))
    }

    /// The names right below this path whose values could not be read at all.
    pub fn broken_names(&self, path: &Path) -> Vec<String> {
        self.broken
            .iter()
            .filter_map(|broken| match broken.split_last() {
                Some((parent, super::path::Segment::Key(name))) if parent == *path => Some(name.clone()),
                _ => None,
            })
            .collect()
    }

    /// Is a fault of this level at or below this path?
    pub fn has_errors_below(&self, path: &Path) -> bool {
        self.drafts.iter().any(|draft| draft.level == Level::Error && draft.path.starts_with(path))
    }

    /// The errors so far: where, what is wrong, and what to do.
    pub fn errors(&self) -> impl Iterator<Item = (&Path, &str, &str)> {
        let errors = self.drafts.iter().filter(|draft| draft.level == Level::Error);
        errors.map(|draft| (&draft.path, draft.message.as_str(), draft.fix.as_str()))
    }

    /// Every fault with its place, in order.
    pub fn finish(self) -> Faults {
        let located: Vec<(Draft, Location)> = self
            .drafts
            .into_iter()
            .map(|draft| {
                let location = self.layers.locate(&draft.path, draft.key);
                (draft, location)
            })
            .collect();
        let texts: Vec<Arc<str>> = self
            .layers
            .texts
            .iter()
            .enumerate()
            .map(|(place, text)| {
                let hidden: Vec<Range<usize>> =
                    self.hidden.iter().flat_map(|path| self.layers.written(place, path)).collect();
                redact(&text.text, &hidden).into()
            })
            .collect();
        let mut faults = Faults(located.into_iter().map(|(draft, at)| place(self.layers, &texts, draft, at)).collect());
        faults.sort();
        faults
    }
}

fn place(layers: &Layers, texts: &[Arc<str>], draft: Draft, location: Location) -> Fault {
    let mut fault = Fault {
        level: draft.level,
        code: draft.code,
        source: String::new(),
        line: 0,
        column: 0,
        span: None,
        path: draft.path.to_string(),
        message: redact(&draft.message, &[]),
        fix: draft.fix,
        text: None,
        labelled: false,
        layer: 0,
    };
    match location {
        Location::Environment { name } => {
            fault.source = format!("environment {name}");
            fault.layer = layers.texts.len();
        }
        Location::Text { layer, span, whole } => {
            fault.labelled = whole;
            fault.source = layers.texts.get(layer).map_or_else(|| EMBEDDED_NAME.to_owned(), |text| text.name());
            fault.layer = layer;
            if let Some(text) = texts.get(layer) {
                set_span(&mut fault, text, span);
            }
        }
    }
    fault
}

fn set_span(fault: &mut Fault, text: &Arc<str>, span: Range<usize>) {
    let before = text.get(..span.start).unwrap_or_default();
    fault.line = before.matches('\n').count() + 1;
    fault.column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    fault.span = Some(span);
    fault.text = Some(Arc::clone(text));
}

/// The faults of a text that is not TOML.
pub fn text_faults(file: Option<&FilePath>, text: &str, layer: usize, found: Vec<TextFault>) -> Vec<Fault> {
    let source = file.map_or_else(|| EMBEDDED_NAME.to_owned(), |file| file.display().to_string());
    let shown: Arc<str> = redact(text, &[]).into();
    found
        .into_iter()
        .map(|found| {
            let mut fault = Fault {
                level: Level::Error,
                code: "syntax",
                source: source.clone(),
                line: 0,
                column: 0,
                span: None,
                path: String::new(),
                message: redact(&format!("this is not TOML: {}", found.message), &[]),
                fix: "see https://toml.io for how it is written".into(),
                text: None,
                labelled: false,
                layer,
            };
            set_span(&mut fault, &shown, found.span);
            fault
        })
        .collect()
}

/// The fault of a file that cannot be used at all.
pub fn file_fault(
    file: &FilePath,
    layer: usize,
    code: &'static str,
    level: Level,
    message: String,
    fix: String,
) -> Fault {
    Fault {
        level,
        code,
        source: file.display().to_string(),
        line: 0,
        column: 0,
        span: None,
        path: String::new(),
        message,
        fix,
        text: None,
        labelled: false,
        layer,
    }
}
