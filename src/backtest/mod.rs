//! `failoverd backtest`: what the detection would have done with history that was recorded.
//!
//! The recorded looks of each probe say what its target was like at each instant. The very brain that
//! the daemon runs is driven through them in virtual time, with the configuration as it is and with
//! variants of it, and what it would have done is held against the outages that a person labelled.
//!
//! Lives here: recorded history and where it comes from (`csv`, `source_csv`, `source_own`, `source_prometheus`),
//! playing it ([`replay`]), the variants ([`sweep`]), what they are worth ([`score`]), the page
//! ([`page`]). Does not live here: anything that decides. Imports `model`, `core`, `config` and
//! `clients`.

mod csv;
pub mod history;
pub mod labels;
pub mod page;
pub mod replay;
pub mod report;
pub mod score;
pub mod source_csv;
pub mod source_own;
pub mod source_prometheus;
pub mod sweep;
mod timeline;

pub use csv::time as moment;
pub use history::{History, Point, Series};
pub use labels::Outage;
pub use report::Report;

/// Why there is nothing to show. In one line; holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// What was given is wrong: a file, a flag.
    #[error("{0}")]
    Given(String),
    /// What was asked did not answer, or not well.
    #[error("{0}")]
    Failed(String),
}

impl Wrong {
    /// What was given is wrong.
    pub fn given(what: impl Into<String>) -> Self {
        Self::Given(what.into())
    }
}
