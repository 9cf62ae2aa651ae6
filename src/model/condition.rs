//! Conditions over verdicts, in three-valued (Kleene) logic.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::health::Health;
use super::ids::ProbeName;

/// True, false, or not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// What we see does not tell.
    Unknown,
}

impl Truth {
    /// Kleene's negation.
    pub fn negate(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
        }
    }
}

/// What a leaf of a condition says of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The probe.
    pub probe: ProbeName,
    /// What makes the leaf true.
    pub is: Is,
}

/// What a leaf asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Is {
    /// The verdict is Up, however well.
    Up,
    /// The verdict is Down.
    Down,
    /// There is no verdict.
    Unknown,
    /// The verdict is Up, and a quorum sees that it is not well (gray failure).
    Degraded,
}

impl From<Health> for Is {
    fn from(health: Health) -> Self {
        match health {
            Health::Up => Self::Up,
            Health::Down => Self::Down,
            Health::Unknown => Self::Unknown,
        }
    }
}

impl fmt::Display for Is {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
            Self::Degraded => "degraded",
        })
    }
}

/// A condition with its weight in an `at_least`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighted {
    /// How much it counts; at least 1.
    pub weight: u32,
    /// The condition.
    pub condition: Condition,
}

/// A condition over the verdicts of probes. Groups are already put in place of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// One probe has one health.
    Probe(Subject),
    /// All hold.
    All(Vec<Condition>),
    /// One holds.
    Any(Vec<Condition>),
    /// Conditions that weigh `weight` together hold.
    AtLeast {
        /// The weight that is needed.
        weight: u32,
        /// Of these.
        of: Vec<Weighted>,
    },
    /// It does not hold.
    Not(Box<Condition>),
}

impl Condition {
    /// The truth of the condition where `leaf` tells the truth of each subject.
    pub fn evaluate(&self, leaf: &mut impl FnMut(&Subject) -> Truth) -> Truth {
        match self {
            Self::Probe(subject) => leaf(subject),
            Self::All(of) => of.iter().fold(Truth::True, |truth, next| match (truth, next.evaluate(leaf)) {
                (Truth::False, _) | (_, Truth::False) => Truth::False,
                (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
                (Truth::True, Truth::True) => Truth::True,
            }),
            Self::Any(of) => of.iter().fold(Truth::False, |truth, next| match (truth, next.evaluate(leaf)) {
                (Truth::True, _) | (_, Truth::True) => Truth::True,
                (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
                (Truth::False, Truth::False) => Truth::False,
            }),
            Self::AtLeast { weight, of } => {
                let (mut sure, mut possible) = (0u32, 0u32);
                for part in of {
                    match part.condition.evaluate(leaf) {
                        Truth::True => {
                            sure = sure.saturating_add(part.weight);
                            possible = possible.saturating_add(part.weight);
                        }
                        Truth::Unknown => possible = possible.saturating_add(part.weight),
                        Truth::False => {}
                    }
                }
                if sure >= *weight {
                    Truth::True
                } else if possible >= *weight {
                    Truth::Unknown
                } else {
                    Truth::False
                }
            }
            Self::Not(inner) => inner.evaluate(leaf).negate(),
        }
    }

    /// Every subject of the condition, in the order written.
    pub fn subjects(&self) -> Vec<&Subject> {
        match self {
            Self::Probe(subject) => vec![subject],
            Self::All(of) | Self::Any(of) => of.iter().flat_map(Self::subjects).collect(),
            Self::AtLeast { of, .. } => of.iter().flat_map(|part| part.condition.subjects()).collect(),
            Self::Not(inner) => inner.subjects(),
        }
    }
}

impl Condition {
    /// The probes that it wants to be down, each once, sorted by name.
    pub fn wanted_down(&self) -> Vec<ProbeName> {
        let subjects = self.subjects();
        let down = subjects.iter().filter(|subject| subject.is == Is::Down);
        let mut probes: Vec<ProbeName> = down.map(|subject| subject.probe.clone()).collect();
        probes.sort_unstable();
        probes.dedup();
        probes
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |f: &mut fmt::Formatter<'_>, of: &[Condition]| -> fmt::Result {
            for (index, part) in of.iter().enumerate() {
                if index > 0 {
                    f.write_str(", ")?;
                }
                write!(f, "{part}")?;
            }
            f.write_str(")")
        };
        match self {
            Self::Probe(subject) => write!(f, "{} is {}", subject.probe, subject.is),
            Self::All(of) => {
                f.write_str("all of (")?;
                join(f, of)
            }
            Self::Any(of) => {
                f.write_str("any of (")?;
                join(f, of)
            }
            Self::AtLeast { weight, of } => {
                write!(f, "at least {weight} of (")?;
                for (index, part) in of.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    if part.weight != 1 {
                        write!(f, "{}× ", part.weight)?;
                    }
                    write!(f, "{}", part.condition)?;
                }
                f.write_str(")")
            }
            Self::Not(inner) => match inner.as_ref() {
                Self::Probe(subject) => write!(f, "{} is not {}", subject.probe, subject.is),
                inner => write!(f, "not {inner}"),
            },
        }
    }
}
