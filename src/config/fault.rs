//! Faults: what is wrong, where, and what to do about it; for people and for programs.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, NamedSource};

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The configuration is refused.
    Error,
    /// It is taken, and somebody should look.
    Warning,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// How bad.
    pub level: Level,
    /// A stable name of what is wrong, for programs: `unknown_key`.
    pub code: &'static str,
    /// The file, `embedded failoverd.toml`, or `environment FAILOVERD__…`.
    pub source: String,
    /// From 1; 0 where there is no line (the environment, a file that cannot be read).
    pub line: usize,
    /// From 1, in characters; 0 where there is no line.
    pub column: usize,
    /// The bytes of the source.
    pub span: Option<Range<usize>>,
    /// The value: `scenarios.regional-outage.rto`; empty where the text is not TOML.
    pub path: String,
    /// What is wrong. Holds no secret.
    pub message: String,
    /// What to do.
    pub fix: String,
    /// The text to quote, secrets hidden.
    pub(super) text: Option<Arc<str>>,
    /// Is the value itself at the span? Else it is the nearest thing above it.
    pub(super) labelled: bool,
    /// The layer, for the order.
    pub(super) layer: usize,
}

impl Fault {
    /// `file:line:column`, or the source where there is no line.
    pub fn place(&self) -> String {
        if self.line == 0 { self.source.clone() } else { format!("{}:{}:{}", self.source, self.line, self.column) }
    }

    /// As JSON.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "level": self.level.to_string(),
            "code": self.code,
            "source": self.source,
            "line": self.line,
            "column": self.column,
            "path": self.path,
            "message": self.message,
            "fix": self.fix,
        })
    }
}

/// One line: place, what is wrong, what to do.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place(), self.level, self.message)?;
        if !self.fix.is_empty() {
            write!(f, " ({})", self.fix)?;
        }
        Ok(())
    }
}

/// All that is wrong, in the order of the files and their lines.
#[derive(Clone, Debug, Default)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Is the configuration refused?
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|fault| fault.level == Level::Error)
    }

    /// Each fault, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// Nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For people: each fault with its lines and a caret. `colour` only on a terminal.
    pub fn render(&self, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(100).with_context_lines(1);
        let mut text = String::new();
        for fault in &self.0 {
            let shown = Shown {
                fault,
                code: fault.text.as_ref().map(|text| NamedSource::new(&fault.source, Arc::clone(text))),
            };
            // A report that cannot be drawn is still told, as one line.
            let mut one = String::new();
            if handler.render_report(&mut one, &shown).is_err() {
                one = format!("{fault}\n");
            }
            text.push_str(&one);
            text.push('\n');
        }
        let count = |level| self.0.iter().filter(|fault| fault.level == level).count();
        let (errors, warnings) = (count(Level::Error), count(Level::Warning));
        let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        text.push_str(&format!("{}, {}\n", plural(errors, "error"), plural(warnings, "warning")));
        text
    }

    /// For programs.
    pub fn to_json(&self) -> serde_json::Value {
        self.0.iter().map(Fault::to_json).collect()
    }

    pub(super) fn sort(&mut self) {
        self.0.sort_by(|a, b| {
            let order = |fault: &Fault| (fault.layer, fault.line, fault.column);
            order(a)
                .cmp(&order(b))
                .then_with(|| a.source.cmp(&b.source))
                .then_with(|| a.code.cmp(b.code))
                .then_with(|| a.message.cmp(&b.message))
        });
        self.0.dedup_by(|a, b| a.place() == b.place() && a.message == b.message);
    }
}

/// One line per fault.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A fault as miette wants it.
struct Shown<'a> {
    fault: &'a Fault,
    code: Option<NamedSource<Arc<str>>>,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.fault, f)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code.is_none() {
            write!(f, "{}: ", self.fault.place())?;
        }
        f.write_str(&self.fault.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.fault.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.fault.level {
            Level::Error => miette::Severity::Error,
            Level::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.fault.fix.is_empty()).then(|| Box::new(&self.fault.fix) as Box<dyn fmt::Display + 'a>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.code.as_ref().map(|code| code as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let span = self.fault.span.clone()?;
        let label = (self.fault.labelled && !self.fault.path.is_empty()).then(|| self.fault.path.clone());
        let label = miette::LabeledSpan::new(label, span.start, span.len());
        Some(Box::new(std::iter::once(label)))
    }
}
