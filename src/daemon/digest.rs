//! Which notice a route is given next: the loud before the quiet, and a storm as one.
//!
//! While a route keeps up, it gets what was decided, in that order. Where notices have piled up (it was
//! down, or they come faster than it may be asked), many of one incident become one digest. The beginning
//! of an incident, its acknowledgement and its end stay what they are: providers follow these.

use std::fmt::Write as _;

use crate::model::{Importance, Notice, NoticeKind};
use crate::ports::OutboxItem;

/// With so many waiting a route does not keep up.
const PILE: usize = 6;
/// So many of one incident are told as one.
const MANY: usize = 4;
/// What was tried so often may be what the route does not take: it stays alone.
const SUSPECT: u32 = 3;
/// A digest names so many.
const NAMED: usize = 50;

/// What is delivered at once.
#[derive(Debug, PartialEq)]
pub(super) struct Parcel<'a> {
    /// What it is made of; at least one.
    pub(super) items: Vec<&'a OutboxItem>,
    /// What is said.
    pub(super) notice: Notice,
}

/// What a route is given next of what waits for it, in the order of the outbox. To the public only the
/// newest of many is worth saying.
pub(super) fn next(waiting: &[OutboxItem], is_public: bool) -> Option<Parcel<'_>> {
    let alone = |item| Parcel { items: vec![item], notice: OutboxItem::clone(item).notice };
    let first = waiting.first()?;
    if waiting.len() < PILE {
        return Some(alone(first));
    }
    let loud = waiting.iter().find(|item| item.notice.importance == Importance::Page && item.attempts < SUSPECT);
    let chosen = loud.unwrap_or(first);
    if !joins(chosen) {
        return Some(alone(chosen));
    }
    let with = |item: &&OutboxItem| {
        let (one, other) = (&item.notice, &chosen.notice);
        joins(item) && one.incident == other.incident && one.importance == other.importance
    };
    let mut items: Vec<&OutboxItem> = waiting.iter().filter(with).collect();
    if items.len() < MANY {
        return Some(alone(chosen));
    }
    items.sort_by_key(|item| item.id);
    let newest = &items[items.len() - 1].notice;
    let notice = if is_public { newest.clone() } else { digest(&items, newest) };
    Some(Parcel { items, notice })
}

fn joins(item: &OutboxItem) -> bool {
    let moves = matches!(
        item.notice.kind,
        NoticeKind::IncidentOpened | NoticeKind::IncidentAcknowledged | NoticeKind::IncidentClosed
    );
    // An anchor in a digest would have to be looked for.
    !moves && item.notice.kind != NoticeKind::Anchor && item.attempts < SUSPECT
}

fn digest(items: &[&OutboxItem], newest: &Notice) -> Notice {
    let of = newest.incident.as_ref().map(|incident| format!(" of {incident}")).unwrap_or_default();
    let mut body = String::new();
    for item in items.iter().rev().take(NAMED) {
        let _infallible = writeln!(body, "{} {}", item.notice.at, item.notice.subject);
    }
    if items.len() > NAMED {
        let _infallible = writeln!(body, "and {} before these", items.len() - NAMED);
    }
    Notice {
        kind: NoticeKind::Digest,
        subject: format!("{} notices{of}, the newest: {}", items.len(), newest.subject),
        body,
        ..newest.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::sample;

    fn item(id: i64, kind: NoticeKind, importance: Importance) -> OutboxItem {
        let mut notice = sample::page(kind, "P0");
        notice.importance = importance;
        notice.subject = format!("number {id}");
        OutboxItem { id, route: "chat".into(), notice, attempts: 0 }
    }

    fn quiet(id: i64) -> OutboxItem {
        item(id, NoticeKind::StatusUpdate, Importance::Info)
    }

    fn ids(waiting: &[OutboxItem]) -> Vec<i64> {
        next(waiting, false).unwrap().items.iter().map(|item| item.id).collect()
    }

    #[test]
    fn a_few_are_given_as_they_were_decided() {
        let waiting = [quiet(1), item(2, NoticeKind::RunParked, Importance::Page)];
        assert_eq!(ids(&waiting), [1]);
        assert_eq!(next(&[], false), None);
    }

    #[test]
    fn the_loud_come_before_a_pile_of_the_quiet_which_becomes_one() {
        let mut waiting: Vec<OutboxItem> = (1..=8).map(quiet).collect();
        waiting.push(item(9, NoticeKind::RunParked, Importance::Page));
        assert_eq!(ids(&waiting), [9]);
        waiting.pop();
        let parcel = next(&waiting, false).unwrap();
        assert_eq!(parcel.items.len(), 8);
        assert_eq!(parcel.notice.subject, "8 notices of INC-1, the newest: number 8");
        assert!(parcel.notice.body.starts_with("2026-07-30T") && parcel.notice.body.contains("number 1\n"));
        assert_eq!(next(&waiting, true).unwrap().notice, waiting[7].notice, "the public reads the newest");
    }

    #[test]
    fn what_providers_follow_and_what_is_suspect_stays_alone() {
        let mut waiting: Vec<OutboxItem> = (2..=9).map(quiet).collect();
        waiting.insert(0, item(1, NoticeKind::IncidentClosed, Importance::Info));
        assert_eq!(ids(&waiting), [1]);
        waiting.remove(0);
        waiting[3].attempts = SUSPECT;
        assert!(!ids(&waiting).contains(&waiting[3].id));
        let mut other = quiet(20);
        other.notice.incident = Some("INC-2".into());
        waiting.push(other);
        assert!(!ids(&waiting).contains(&20), "of another incident");
    }
}
