//! What a notice means to a provider that follows incidents: it opens, adds to, or closes one.

use crate::model::{Importance, Notice, NoticeKind};

/// What happens to the provider's own incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is opened; where it is open, this is added to it.
    Open,
    /// Somebody has seen it.
    Acknowledge,
    /// It is over.
    Close,
}

/// What a notice does to the incident that it is of.
pub(super) fn turn(notice: &Notice) -> Turn {
    match notice.kind {
        NoticeKind::IncidentClosed => Turn::Close,
        NoticeKind::IncidentAcknowledged => Turn::Acknowledge,
        NoticeKind::IncidentOpened
        | NoticeKind::Holding
        | NoticeKind::WouldAct
        | NoticeKind::ApprovalAsked
        | NoticeKind::RunStarted
        | NoticeKind::RunParked
        | NoticeKind::RunRecovered
        | NoticeKind::RunEnded
        | NoticeKind::TaskOpen
        | NoticeKind::Escalated
        | NoticeKind::Unanswered
        | NoticeKind::StatusUpdate
        | NoticeKind::DutyOpen
        | NoticeKind::Digest
        | NoticeKind::Flapping
        | NoticeKind::Drill
        | NoticeKind::Budget
        | NoticeKind::Readiness
        | NoticeKind::Anchor
        | NoticeKind::Blind
        | NoticeKind::Daemon => Turn::Open,
    }
}

/// One key for all that is of one incident; what is of none has one for each kind, so that a storm
/// becomes one entry.
pub(super) fn key(daemon: &str, notice: &Notice) -> String {
    match &notice.incident {
        Some(incident) => format!("failoverd/{daemon}/{incident}"),
        None => format!("failoverd/{daemon}/{}", kind(notice)),
    }
}

/// The kind as in metrics: `incident_opened`.
pub(super) fn kind(notice: &Notice) -> String {
    serde_json::to_value(notice.kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// How bad it is, in four steps that every provider knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Nobody has to do anything.
    Info,
    /// Soon.
    Warning,
    /// Now.
    Error,
    /// Now, and it is as bad as it gets.
    Critical,
}

/// From the owner's own word of severity: its number (`P0`, `SEV-1`, `S2`) or its meaning (`critical`,
/// `high`). One that says neither is an error where it pages.
pub(super) fn level(notice: &Notice) -> Level {
    if notice.importance == Importance::Info {
        return Level::Info;
    }
    let Some(severity) = &notice.severity else { return Level::Error };
    let word = severity.0.to_ascii_lowercase();
    let number = word.chars().rev().find(char::is_ascii_digit);
    // What counts from zero (P0) and what counts from one (SEV-1) both begin with the worst.
    match (number, word.as_str()) {
        (Some('0' | '1'), _) | (None, "critical" | "disaster" | "emergency") => Level::Critical,
        (Some('2'), _) | (None, "high" | "error" | "major") => Level::Error,
        (Some(_), _) | (None, "medium" | "moderate" | "warning" | "low" | "minor") => Level::Warning,
        (None, _) => Level::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::sample;

    #[test]
    fn the_owners_severities_are_understood() {
        for (text, wanted) in [
            ("P0", Level::Critical),
            ("SEV-1", Level::Critical),
            ("critical", Level::Critical),
            ("P2", Level::Error),
            ("High", Level::Error),
            ("sev3", Level::Warning),
            ("low", Level::Warning),
            ("terrible", Level::Error),
        ] {
            assert_eq!(level(&sample::page(NoticeKind::IncidentOpened, text)), wanted, "{text}");
        }
        assert_eq!(level(&sample::info(NoticeKind::IncidentClosed)), Level::Info);
    }

    #[test]
    fn all_of_one_incident_has_one_key_and_only_its_end_closes_it() {
        let opened = sample::page(NoticeKind::IncidentOpened, "P0");
        let closed = sample::info(NoticeKind::IncidentClosed);
        assert_eq!(key("shop", &opened), key("shop", &closed));
        assert_eq!((turn(&opened), turn(&closed)), (Turn::Open, Turn::Close));
        let mut daemon = sample::page(NoticeKind::Daemon, "P0");
        daemon.incident = None;
        assert_eq!(key("shop", &daemon), "failoverd/shop/daemon");
    }
}
