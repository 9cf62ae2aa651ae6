//! The outbox.

use super::samples::notice;
use super::*;
use crate::ports::{Delivery, Outbox};

#[test]
fn the_outbox_outlives_a_restart_and_keeps_its_order() {
    let place = Place::new();
    let (journal, mut outbox, authority) = place.open();
    outbox.put(&["sms".into(), "mail".into()], &notice("one")).unwrap();
    outbox.put(&["sms".into()], &notice("two")).unwrap();
    outbox.put(&[], &notice("nobody")).unwrap();
    drop((journal, outbox, authority));
    let (_journal, mut outbox, _authority) = place.open();
    let pending = outbox.pending(10).unwrap();
    let seen: Vec<_> = pending.iter().map(|item| (item.route.as_str(), item.notice.subject.as_str())).collect();
    assert_eq!(seen, [("sms", "one"), ("mail", "one"), ("sms", "two")]);
    assert_eq!(pending[0].notice, notice("one"));
    assert_eq!(outbox.pending(1).unwrap().len(), 1);

    outbox.settle(pending[0].id, Delivery::Failed { reason: "timeout".into() }).unwrap();
    outbox.settle(pending[1].id, Delivery::Delivered).unwrap();
    outbox.settle(pending[1].id, Delivery::Delivered).unwrap();
    outbox.settle(pending[2].id, Delivery::GivenUp { reason: "no such topic".into() }).unwrap();
    let left = outbox.pending(10).unwrap();
    assert_eq!((left.len(), left[0].id, left[0].attempts), (1, pending[0].id, 1));
    let given_up = outbox.given_up(10).unwrap();
    assert_eq!((given_up.len(), given_up[0].item.attempts, given_up[0].reason.as_str()), (1, 1, "no such topic"));
}

#[test]
fn an_unreadable_notice_does_not_stop_those_behind_it() {
    let place = Place::new();
    let (_journal, mut outbox, _authority) = place.open();
    outbox.put(&["sms".into()], &notice("one")).unwrap();
    outbox.put(&["sms".into()], &notice("two")).unwrap();
    place.sql("UPDATE outbox SET notice = '{}' WHERE id = 1");
    assert_eq!(outbox.pending(10).unwrap().len(), 1);
    assert_eq!(outbox.pending(10).unwrap()[0].notice.subject, "two");
}
