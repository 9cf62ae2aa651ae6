//! What happened: a hash always, words when a seed failed and is run again.

use std::collections::{BTreeMap, VecDeque};

/// A broken promise.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// `S4`, `L2`, …
    pub promise: &'static str,
    pub what: String,
}

impl Violation {
    pub fn new(promise: &'static str, what: impl Into<String>) -> Self {
        Self { promise, what: what.into() }
    }
}

pub fn ensure(holds: bool, promise: &'static str, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::new(promise, what())) }
}

/// How many of the newest lines are kept, unless all are asked for.
pub const KEPT: usize = 90;

#[derive(Debug)]
pub struct Trace {
    pub hash: u64,
    pub events: u64,
    pub counts: BTreeMap<&'static str, u64>,
    pub verbose: bool,
    pub kept: usize,
    lines: VecDeque<String>,
}

impl Trace {
    pub fn new(verbose: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            counts: BTreeMap::new(),
            verbose,
            kept: KEPT,
            lines: VecDeque::new(),
        }
    }

    /// Something of a kind happened at a time.
    pub fn note(&mut self, at: u64, kind: &'static str, words: impl FnOnce() -> String) {
        self.events += 1;
        for byte in kind.bytes().chain(at.to_le_bytes()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let words = if self.verbose { words() } else { String::new() };
        if !words.is_empty() {
            if self.lines.len() == self.kept {
                self.lines.pop_front();
            }
            let words: String = words.chars().take(260).collect();
            self.lines.push_back(format!("{:>9.3} {kind}: {words}", at as f64 / 1000.0));
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn text(&self) -> String {
        self.lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}
