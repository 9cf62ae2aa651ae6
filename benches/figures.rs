//! Series of measurements, and how they are shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Of a table of words.
const WIDTH: u16 = 150;

/// Measurements of one thing, in one unit.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds one.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value that this share of the measurements stays below, between neighbours by proportion.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
        let place = share * last as f64;
        let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        below + (above - below) * place.fract()
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// A table with its title; all columns but the first are figures.
pub struct Figures {
    title: String,
    table: Table,
}

impl Figures {
    /// An empty one.
    pub fn new(title: &str, headings: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(headings);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Self { title: title.to_owned(), table }
    }

    /// An empty one of words, which are wrapped.
    pub fn words(title: &str, headings: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(headings);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
        Self { title: title.to_owned(), table }
    }

    /// Adds a line.
    pub fn row(&mut self, cells: &[String]) {
        self.table.add_row(cells);
    }

    /// Prints it, and what is to be said about it.
    pub fn print(&self, notes: &[String]) {
        println!("\n{}\n{}", self.title, self.table);
        for note in notes {
            println!("  {note}");
        }
    }
}

/// Milliseconds for people.
pub fn ms(value: f64) -> String {
    format!("{value:.1} ms")
}

/// A ratio for people.
pub fn ratio(of: f64, to: f64) -> String {
    format!("{:.2}", of / to)
}

/// An aim, and whether it was met.
pub fn aim(met: bool, text: &str) -> String {
    format!("{} {text}", if met { "met:" } else { "MISSED:" })
}

/// The wall clock in microseconds: what several processes on one machine have in common.
pub fn micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Milliseconds between two points in microseconds.
pub fn between(from: i64, to: i64) -> f64 {
    (to - from) as f64 / 1000.0
}

/// A random time within `span`, different in every round: a kill must not keep step with a probe.
pub fn random_within(span: Duration) -> Duration {
    use std::hash::{BuildHasher, Hasher};
    let random = std::hash::RandomState::new().build_hasher().finish();
    span.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)
}

/// The machine, and what else it does: figures of a busy one are compared by their ratios only.
pub fn machine() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    let (model, kernel) = (model.unwrap_or("of an unknown model"), rustix::system::uname());
    format!("{processors} × {model}, Linux {}, load {load}", kernel.release().to_string_lossy())
}
