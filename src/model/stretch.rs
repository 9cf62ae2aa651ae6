//! A probe's history, kept short: looks in a row that saw the same are one stretch.

use super::health::{CauseKind, Health};
use super::histogram::Bucket;
use super::ids::ProbeName;
use super::time::WallTime;

/// Looks of one probe, one after the other, that saw the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its number within one life of the daemon, from 1: one that goes on is kept again under the same.
    pub number: u64,
    /// The probe.
    pub probe: ProbeName,
    /// When the first look began.
    pub from: WallTime,
    /// When the last one did.
    pub to: WallTime,
    /// What they saw.
    pub health: Health,
    /// Why it was not up, or not well.
    pub cause: Option<CauseKind>,
    /// How many there were.
    pub looks: u32,
    /// How many of them took how long, the quickest first.
    pub took: Vec<(Bucket, u32)>,
}
