//! What a failed call to a foreign API means for a run: was nothing changed, or does nobody know?

use std::error::Error;

use crate::model::{Applied, Observed, Verified};

/// The longest reason that is kept, in characters: enough for one line of a terminal or a journal.
const REASON_CHARS: usize = 300;

/// What is known of the target after a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Nothing was changed, and the same call may be accepted later (throttled, busy, not reached).
    Again,
    /// Nothing was changed, and the same call will not be accepted.
    Refused,
    /// Nothing was changed: our credentials lack the right, or there are none.
    Denied,
    /// Nothing was changed: the target does not exist.
    Missing,
    /// Nobody knows whether it was done. Resolved by observing, never by repeating (S8).
    Unknown,
}

impl FailureKind {
    /// The same for a look that came before the call that changes anything: that call was not
    /// made, so that nothing is open.
    #[must_use]
    pub fn before_sending(self) -> Self {
        if self == Self::Unknown { Self::Again } else { self }
    }
}

/// A failed call, in one line without a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What is known of the target.
    pub kind: FailureKind,
    /// The API's own code for the error, where it gave one.
    pub code: Option<String>,
    /// One line for people.
    pub reason: String,
}

impl Failure {
    /// A failure without a code of the API.
    pub fn new(kind: FailureKind, reason: impl AsRef<str>) -> Self {
        Self { kind, code: None, reason: one_line(reason.as_ref()) }
    }

    /// Nothing was changed; it may be accepted later.
    pub fn again(reason: impl AsRef<str>) -> Self {
        Self::new(FailureKind::Again, reason)
    }

    /// Nothing was changed; it will not be accepted.
    pub fn refused(reason: impl AsRef<str>) -> Self {
        Self::new(FailureKind::Refused, reason)
    }

    /// Nobody knows.
    pub fn unknown(reason: impl AsRef<str>) -> Self {
        Self::new(FailureKind::Unknown, reason)
    }

    /// The same with the API's code.
    #[must_use]
    pub fn with_code(mut self, code: Option<&str>) -> Self {
        self.code = code.map(one_line);
        self
    }

    /// As the outcome of a call that would have changed something.
    pub fn applied(self) -> Applied {
        match self.kind {
            FailureKind::Again => Applied::Refused { reason: self.reason, again: true },
            FailureKind::Refused | FailureKind::Denied | FailureKind::Missing => {
                Applied::Refused { reason: self.reason, again: false }
            }
            FailureKind::Unknown => Applied::Unknown { reason: self.reason },
        }
    }

    /// As the outcome of a change that was given up before its call was made.
    pub fn not_sent(self) -> Applied {
        Self { kind: self.kind.before_sending(), ..self }.applied()
    }

    /// As the outcome of a look: waiting helps against the passing kinds only.
    pub fn observed(self) -> Observed {
        match self.kind {
            FailureKind::Again | FailureKind::Unknown => Observed::Unknown { reason: self.reason },
            FailureKind::Refused | FailureKind::Denied | FailureKind::Missing => {
                Observed::Impossible { reason: self.reason }
            }
        }
    }

    /// As the outcome of a verification. A look that failed never proves that the change failed.
    pub fn verified(self) -> Verified {
        Verified::NotYet { evidence: self.reason }
    }
}

/// Cuts a foreign text to one bounded line without control characters (they could forge log lines
/// or move a terminal's cursor).
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut chars = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
            chars += 1;
        }
        for c in word.chars() {
            if chars >= REASON_CHARS {
                line.push('…');
                return line;
            }
            line.push(c);
            chars += 1;
        }
    }
    line
}

/// An error with its causes, outermost first, on one line. Causes that repeat what was said are
/// left out.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    one_line(&text)
}

/// The first error of this type among an error and its causes, also where an I/O error wraps it
/// (rustls does so): that names the causes of what it wraps, and not that itself.
pub fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<E>() {
            return Some(found);
        }
        let wrapped = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| find::<E>(wrapped)) {
            return Some(found);
        }
        next = current.source();
    }
    None
}

/// Did an HTTP request fail while its connection was being made, that is before one byte of it
/// was sent? Only then is it certain that nothing was changed.
pub fn never_sent(error: &(dyn Error + 'static)) -> bool {
    find::<hyper_util::client::legacy::Error>(error).is_some_and(hyper_util::client::legacy::Error::is_connect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_text_becomes_one_bounded_line() {
        assert_eq!(one_line(" a\n\tb\u{1b}[31m  c "), "a b [31m c");
        let long = one_line(&"x".repeat(10_000));
        assert_eq!(long.chars().count(), REASON_CHARS + 1);
        assert!(long.ends_with('…'));
        assert_eq!(one_line(""), "");
    }

    #[test]
    fn only_an_unknown_failure_leaves_the_outcome_open() {
        use FailureKind::{Again, Denied, Missing, Refused, Unknown};
        for kind in [Again, Refused, Denied, Missing] {
            let refused = Failure::new(kind, "no").applied();
            assert_eq!(refused, Applied::Refused { reason: "no".into(), again: kind == Again });
        }
        assert_eq!(Failure::unknown("?").applied(), Applied::Unknown { reason: "?".into() });
        for (kind, impossible) in [(Again, false), (Unknown, false), (Refused, true), (Denied, true), (Missing, true)] {
            let observed = Failure::new(kind, "no").observed();
            assert_eq!(matches!(observed, Observed::Impossible { .. }), impossible, "{kind:?}");
        }
    }

    #[test]
    fn causes_are_told_once() {
        let inner = std::io::Error::other("connection reset");
        let outer = std::io::Error::other(inner);
        assert_eq!(causes(&outer), "connection reset");
    }
}
