//! The layers of the configuration, and where in which of them a value was written.
//!
//! embedded default → the file → `conf.d/*.toml` beside it → the environment. The `config` crate
//! lays them over each other; it knows no lines, so each layer also keeps its tree with spans.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};

use config::{Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::path::{Path, Segment};

/// The commented default that is compiled in.
pub const EMBEDDED: &str = include_str!("../../config/failoverd.toml");

/// The name under which faults speak of [`EMBEDDED`].
pub const EMBEDDED_NAME: &str = "embedded failoverd.toml";

/// What the names of all our environment variables begin with.
pub const PREFIX: &str = "FAILOVERD__";

/// Where a value is in a text.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its key; none at the root and in arrays.
    pub key: Option<Range<usize>>,
    /// The value.
    pub span: Range<usize>,
    /// Is it a table or an array? Then its key says more than its span.
    pub container: bool,
    /// What is in a table.
    pub table: BTreeMap<String, Node>,
    /// What is in an array.
    pub array: Vec<Node>,
}

impl Node {
    fn leaves(&self, spans: &mut Vec<Range<usize>>) {
        if self.container {
            self.table.values().chain(&self.array).for_each(|node| node.leaves(spans));
        } else {
            spans.push(self.span.clone());
        }
    }
}

/// One text.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The file; none for the embedded default.
    pub file: Option<PathBuf>,
    /// The text as it is. Never shown without [`super::redact::redact`].
    pub text: String,
    /// Where everything is.
    pub root: Node,
    /// What everything is.
    pub values: BTreeMap<String, Value>,
}

impl Layer {
    /// The name for people.
    pub fn name(&self) -> String {
        self.file.as_deref().map_or_else(|| EMBEDDED_NAME.to_owned(), |file| file.display().to_string())
    }
}

/// One environment variable that sets something.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// As it is in the environment.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What it sets.
    pub path: Path,
}

/// Something that a text is wrong in, before anything is known of its meaning.
#[derive(Clone, Debug)]
pub struct TextFault {
    /// Where.
    pub span: Range<usize>,
    /// What.
    pub message: String,
}

/// All layers, the later over the earlier.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The texts.
    pub texts: Vec<Layer>,
    /// The environment, above all texts.
    pub variables: Vec<Variable>,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// In a text.
    Text {
        /// The place in [`Layers::texts`].
        layer: usize,
        /// Where in it.
        span: Range<usize>,
        /// Is the value itself there? Else this is the nearest thing above it.
        whole: bool,
    },
    /// In an environment variable.
    Environment {
        /// Its name.
        name: String,
    },
}

/// Reads one text as TOML; all that is wrong in it is told at once.
///
/// # Errors
/// [`TextFault`]s.
pub fn parse(file: Option<&FilePath>, text: &str) -> Result<Layer, Vec<TextFault>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<TextFault> = errors
        .iter()
        .map(|error| TextFault { span: error.span().unwrap_or(0..0), message: error.message().to_owned() })
        .collect();
    let name = file.map(|file| file.display().to_string());
    let (values, root) = read_table(name.as_ref(), document.get_ref(), &mut faults);
    if faults.is_empty() {
        let values = values.into_iter().collect();
        let root = Node { container: true, ..root };
        Ok(Layer { file: file.map(FilePath::to_owned), text: text.to_owned(), root, values })
    } else {
        Err(faults)
    }
}

fn read_table(
    origin: Option<&String>,
    table: &DeTable<'_>,
    faults: &mut Vec<TextFault>,
) -> (config::Map<String, Value>, Node) {
    let mut values = config::Map::new();
    let mut node = Node { container: true, ..Node::default() };
    for (key, value) in table {
        let (read, mut child) = read_value(origin, value, faults);
        child.key = Some(key.span());
        values.insert(key.get_ref().to_string(), read);
        node.table.insert(key.get_ref().to_string(), child);
    }
    (values, node)
}

fn read_value(origin: Option<&String>, value: &Spanned<DeValue<'_>>, faults: &mut Vec<TextFault>) -> (Value, Node) {
    let mut node = Node { span: value.span(), ..Node::default() };
    let mut refuse = |message: &str| {
        faults.push(TextFault { span: value.span(), message: message.to_owned() });
        ValueKind::Nil
    };
    let kind = match value.get_ref() {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Boolean(truth) => ValueKind::Boolean(*truth),
        DeValue::Datetime(time) => ValueKind::String(time.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => ValueKind::I64(number),
            Err(_) => refuse("this whole number is out of range"),
        },
        // JSON, into which the layers are put together, knows only finite numbers; nor does any setting.
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => ValueKind::Float(number),
            _ => refuse("this number is not finite"),
        },
        DeValue::Array(array) => {
            let mut values = Vec::new();
            for value in array.iter() {
                let (read, child) = read_value(origin, value, faults);
                values.push(read);
                node.array.push(child);
            }
            node.container = true;
            ValueKind::Array(values)
        }
        DeValue::Table(table) => {
            let (values, inner) = read_table(origin, table, faults);
            node.table = inner.table;
            node.container = true;
            ValueKind::Table(values)
        }
    };
    (Value::new(origin, kind), node)
}

/// A layer as the `config` crate wants it.
#[derive(Clone, Debug)]
struct Source(BTreeMap<String, Value>);

impl config::Source for Source {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<config::Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone().into_iter().filter(|(key, _)| is_root_key(key)).collect())
    }
}

impl Layers {
    /// Takes up the environment. The `config` crate's own reader lower-cases the names, and a
    /// shell can write neither `-` nor `.` in one: so each part is matched with the keys that the
    /// texts have (`FAILOVERD__SCENARIOS__REGIONAL_OUTAGE__RTO` sets
    /// `scenarios.regional-outage.rto`), and lower-cased only where there is none.
    pub fn take_environment(&mut self, environment: &BTreeMap<String, String>) {
        for (name, text) in environment {
            let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| !rest.is_empty()) else { continue };
            let mut nodes: Vec<&Node> = self.texts.iter().map(|layer| &layer.root).collect();
            let mut path = Path::default();
            for part in rest.split("__") {
                let wanted = plain(part);
                let key = nodes
                    .iter()
                    .rev()
                    .flat_map(|node| node.table.keys())
                    .find(|key| plain(key) == wanted)
                    .cloned()
                    .unwrap_or_else(|| part.to_lowercase());
                nodes = nodes.into_iter().filter_map(|node| node.table.get(&key)).collect();
                path = path.key(&key);
            }
            self.variables.push(Variable { name: name.clone(), text: text.clone(), path });
        }
    }

    /// Lays the layers over each other.
    ///
    /// # Errors
    /// What the `config` crate says; none of its errors is expected here, since the texts are
    /// parsed already.
    pub fn merge(&self) -> Result<serde_json::Value, config::ConfigError> {
        let mut builder = config::Config::builder();
        for layer in &self.texts {
            builder = builder.add_source(Source(layer.values.clone()));
        }
        for variable in &self.variables {
            builder = builder.add_source(Source(variable.nested()));
        }
        let merged = config::Source::collect(&builder.build()?)?;
        Ok(to_json(Value::new(None, ValueKind::Table(merged))))
    }

    /// Where the value at this path was written: in the last layer that has it, else where the
    /// nearest thing above it is.
    pub fn locate(&self, path: &Path, key: bool) -> Location {
        if let Some(variable) = self.variable(path) {
            return Location::Environment { name: variable.name.clone() };
        }
        let mut best = (0, self.texts.len().min(2).saturating_sub(1), 0..0);
        for (layer, text) in self.texts.iter().enumerate().skip(1).rev().chain(self.texts.iter().enumerate().take(1)) {
            let (depth, span) = deepest(&text.root, path, key);
            if depth > best.0 {
                best = (depth, layer, span);
            }
        }
        let whole = best.0 == path.0.len();
        // A table that is only in the environment (`FAILOVERD__DEMON__MODE`).
        match self.variables.iter().find(|variable| !whole && variable.path.starts_with(path)) {
            Some(variable) => Location::Environment { name: variable.name.clone() },
            None => Location::Text { layer: best.1, span: best.2, whole },
        }
    }

    /// Everything that is written at or below this path in one of the texts.
    pub fn written(&self, layer: usize, path: &Path) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        let node = self.texts.get(layer).and_then(|text| {
            path.0.iter().try_fold(&text.root, |node, segment| match segment {
                Segment::Key(key) => node.table.get(key),
                Segment::Index(index) => node.array.get(*index),
            })
        });
        if let Some(node) = node {
            node.leaves(&mut spans);
        }
        spans
    }

    /// The environment variable that sets the value at this path.
    pub fn variable(&self, path: &Path) -> Option<&Variable> {
        self.variables.iter().rev().find(|variable| path.starts_with(&variable.path))
    }

    /// A number that grows in the order written, for what has to come in that order.
    pub fn written_order(&self, path: &Path) -> (usize, usize) {
        match self.locate(path, true) {
            Location::Text { layer, span, .. } => (layer, span.start),
            Location::Environment { .. } => (usize::MAX, 0),
        }
    }
}

impl Variable {
    /// The value. What reads as a TOML value is one (`5`, `true`, `["a", "b"]`, `{ env = "X" }`),
    /// all else is a text, so that `FAILOVERD__DAEMON__MODE=auto` needs no quotes.
    fn value(&self) -> Value {
        let origin = self.name.clone();
        let mut faults = Vec::new();
        let parsed = DeValue::parse(&self.text).ok().and_then(|value| match value.get_ref() {
            DeValue::Datetime(_) => None,
            _ => Some(read_value(Some(&origin), &value, &mut faults).0),
        });
        match parsed {
            Some(value) if faults.is_empty() => value,
            _ => Value::new(Some(&origin), ValueKind::String(self.text.clone())),
        }
    }

    /// The value below its tables.
    fn nested(&self) -> BTreeMap<String, Value> {
        let mut value = self.value();
        let mut keys = self.path.0.iter().rev().filter_map(|segment| match segment {
            Segment::Key(key) => Some(key.clone()),
            Segment::Index(_) => None,
        });
        let mut last = keys.next();
        for outer in keys {
            let inner = config::Map::from_iter(last.take().map(|key| (key, value)));
            value = Value::new(Some(&self.name), ValueKind::Table(inner));
            last = Some(outer);
        }
        last.map(|key| (key, value)).into_iter().collect()
    }
}

/// May this be a key at the root? The `config` crate reads those as paths (`a.b`, `a[0]`), and would
/// split a quoted one; the keys below are taken as they are.
pub fn is_root_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn plain(key: &str) -> String {
    key.to_lowercase().replace(['-', '.'], "_")
}

/// How far the path leads into a tree, and the span there.
fn deepest(root: &Node, path: &Path, key: bool) -> (usize, Range<usize>) {
    let mut node = root;
    let mut depth = 0;
    for segment in &path.0 {
        let child = match segment {
            Segment::Key(key) => node.table.get(key),
            Segment::Index(index) => node.array.get(*index),
        };
        match child {
            Some(child) => node = child,
            None => break,
        }
        depth += 1;
    }
    let whole = depth == path.0.len();
    match &node.key {
        Some(span) if key || node.container || !whole => (depth, span.clone()),
        _ => (depth, node.span.clone()),
    }
}

fn to_json(value: Value) -> serde_json::Value {
    match value.kind {
        ValueKind::Nil => serde_json::Value::Null,
        ValueKind::Boolean(truth) => truth.into(),
        ValueKind::I64(number) => number.into(),
        ValueKind::U64(number) => number.into(),
        // Never made above; JSON cannot hold them, and a text is refused where a number belongs.
        ValueKind::I128(number) => number.to_string().into(),
        ValueKind::U128(number) => number.to_string().into(),
        ValueKind::Float(number) => number.into(),
        ValueKind::String(text) => text.into(),
        ValueKind::Array(of) => of.into_iter().map(to_json).collect(),
        ValueKind::Table(of) => {
            // Sorted, because plans are hashed over parameters that keep this order.
            let sorted: BTreeMap<String, Value> = of.into_iter().collect();
            serde_json::Value::Object(sorted.into_iter().map(|(key, value)| (key, to_json(value))).collect())
        }
    }
}
