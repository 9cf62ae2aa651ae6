//! Faults on request: what a real API server does only on a bad day.

use std::time::Duration;

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The right answer, late.
    Slow(Duration),
    /// Refused with this HTTP status; nothing is changed.
    Error(u16),
    /// 429 with `Retry-After`; nothing is changed.
    Throttled {
        /// The seconds to wait.
        retry_after: u32,
    },
    /// An answer of a load balancer in between: this HTTP status with an HTML body; nothing is changed.
    Html(u16),
    /// Never an answer; nothing is changed.
    Hang,
    /// The change is made, and there is never an answer.
    HangAfterwards,
    /// The change is made, and the answer is this HTTP status.
    ErrorAfterwards(u16),
}

impl Fault {
    /// Lets the fault happen to requests of this verb whose path ends so; both may be empty, which matches all.
    pub fn on(self, verb: &str, path_end: &str) -> FaultRule {
        FaultRule { fault: self, verb: verb.to_owned(), path_end: path_end.to_owned(), left: u32::MAX }
    }
}

/// Which requests a fault happens to.
#[derive(Debug, Clone)]
pub struct FaultRule {
    fault: Fault,
    verb: String,
    path_end: String,
    left: u32,
}

impl FaultRule {
    /// Lets the fault happen this many times, then never again.
    pub fn times(mut self, times: u32) -> Self {
        self.left = times;
        self
    }
}

/// The fault for this request, counted off.
pub(super) fn take(rules: &mut [FaultRule], verb: &str, path: &str) -> Option<Fault> {
    let matches = |rule: &&mut FaultRule| {
        rule.left > 0 && (rule.verb.is_empty() || rule.verb == verb) && path.ends_with(&rule.path_end)
    };
    let rule = rules.iter_mut().find(matches)?;
    rule.left = rule.left.saturating_sub(1);
    Some(rule.fault.clone())
}
