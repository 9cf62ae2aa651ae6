//! What a person says afterwards of what alert-only mode would have done.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Would it have been right to act?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Yes.
    Right,
    /// No.
    Wrong,
    /// Nobody can tell.
    Unsure,
}

impl Grade {
    /// Its stable name, also the metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::Unsure => "unsure",
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
