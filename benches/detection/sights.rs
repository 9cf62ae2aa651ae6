//! What a vantage thought when, as its log tells at the level debug.

use failoverd::model::Health;
use serde::Deserialize;

/// The variable that has it told, and nothing else below a warning.
pub const SIGHT_LOG: (&str, &str) = ("FAILOVERD_LOG", FILTER);
/// The same for `log.filter`.
pub const FILTER: &str = "failoverd::daemon::sight_log=debug,warn";

/// One line of the log: something has changed.
#[derive(Debug, Deserialize)]
pub struct Sight {
    /// The probe.
    pub probe: String,
    /// The vantage's own vote.
    pub vote: Health,
    /// What the quorum says.
    pub verdict: Health,
    /// When, in microseconds.
    pub unix_us: i64,
}

/// All of them, in their order.
pub fn sights(log: &str) -> impl Iterator<Item = Sight> {
    log.lines().filter_map(|line| serde_json::from_str(line).ok())
}
