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
    let mut waiting = outbox.waiting().unwrap();
    waiting.sort();
    assert_eq!(waiting, ["mail", "sms"]);
    let pending = outbox.pending("sms", 10).unwrap();
    let seen: Vec<_> = pending.iter().map(|item| (item.route.as_str(), item.notice.subject.as_str())).collect();
    assert_eq!(seen, [("sms", "one"), ("sms", "two")]);
    assert_eq!(pending[0].notice, notice("one"));
    assert_eq!(outbox.pending("sms", 1).unwrap().len(), 1);
    let mail = outbox.pending("mail", 10).unwrap();
    assert_eq!(mail.len(), 1);

    outbox.settle(pending[0].id, Delivery::Failed { reason: "timeout".into() }).unwrap();
    outbox.settle(mail[0].id, Delivery::Delivered).unwrap();
    outbox.settle(mail[0].id, Delivery::Delivered).unwrap();
    outbox.settle(pending[1].id, Delivery::GivenUp { reason: "no such topic".into() }).unwrap();
    let left = outbox.pending("sms", 10).unwrap();
    assert_eq!((left.len(), left[0].id, left[0].attempts), (1, pending[0].id, 1));
    assert_eq!(outbox.waiting().unwrap(), ["sms"]);
    assert_eq!(outbox.abandon("sms", "gone").unwrap(), 1);
    assert!(outbox.waiting().unwrap().is_empty());
    // Named for whoever asks.
    let connection = rusqlite::Connection::open(&place.path).unwrap();
    let reasons: Vec<String> = connection
        .prepare("SELECT reason FROM outbox WHERE given_up = 1 ORDER BY id DESC")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(reasons, ["no such topic", "gone"]);
}

#[test]
fn what_was_tried_in_vain_goes_behind_what_was_not() {
    let place = Place::new();
    let (_journal, mut outbox, _authority) = place.open();
    for subject in ["one", "two", "three"] {
        outbox.put(&["sms".into()], &notice(subject)).unwrap();
    }
    let order = |outbox: &mut crate::state::SqliteOutbox| -> Vec<String> {
        let pending = outbox.pending("sms", 10).unwrap();
        pending.into_iter().map(|item| item.notice.subject).collect()
    };
    for (tried, after) in [(2, ["one", "two", "three"]), (1, ["two", "three", "one"])] {
        (0..tried).for_each(|_| outbox.settle(1, Delivery::Failed { reason: "400".into() }).unwrap());
        assert_eq!(order(&mut outbox), after);
    }
    (0..4).for_each(|_| outbox.settle(2, Delivery::Failed { reason: "400".into() }).unwrap());
    assert_eq!(order(&mut outbox), ["three", "one", "two"]);
}

#[test]
fn an_unreadable_notice_does_not_stop_those_behind_it() {
    let place = Place::new();
    let (_journal, mut outbox, _authority) = place.open();
    outbox.put(&["sms".into()], &notice("one")).unwrap();
    outbox.put(&["sms".into()], &notice("two")).unwrap();
    place.sql("UPDATE outbox SET notice = '{}' WHERE id = 1");
    assert_eq!(outbox.pending("sms", 10).unwrap().len(), 1);
    assert_eq!(outbox.pending("sms", 10).unwrap()[0].notice.subject, "two");
}

#[test]
fn a_notice_is_handed_over_once_and_what_stands_in_is_not_handed_on() {
    let place = Place::new();
    let (_journal, mut outbox, _authority) = place.open();
    outbox.put(&["pager".into()], &notice("one")).unwrap();
    let item = outbox.pending("pager", 1).unwrap().remove(0);
    assert!(outbox.hand_over(&item, "chat", &notice("for pager")).unwrap());
    assert!(!outbox.hand_over(&item, "chat", &notice("for pager")).unwrap());
    let copy = outbox.pending("chat", 10).unwrap();
    assert_eq!(copy.len(), 1);
    assert!(!outbox.hand_over(&copy[0], "pager", &notice("back")).unwrap());
    let told: Vec<_> =
        outbox.undelivered(10).unwrap().into_iter().map(|one| (one.item.route, one.handed_over)).collect();
    assert_eq!(told, [("chat".to_owned(), false), ("pager".to_owned(), true)]);
    outbox.settle(copy[0].id, Delivery::GivenUp { reason: "gone".into() }).unwrap();
    assert_eq!(outbox.given_up().unwrap(), [("chat".to_owned(), 1)]);
    assert_eq!(outbox.undelivered(1).unwrap()[0].reason.as_deref(), Some("gone"));
}

#[test]
fn threads_outlive_a_restart_and_the_first_one_stays() {
    let place = Place::new();
    let (journal, mut outbox, authority) = place.open();
    outbox.keep_thread("chat", &"INC-1".into(), "17.1").unwrap();
    outbox.keep_thread("chat", &"INC-1".into(), "17.2").unwrap();
    drop((journal, outbox, authority));
    let (_journal, mut outbox, _authority) = place.open();
    assert_eq!(outbox.thread("chat", &"INC-1".into()).unwrap().as_deref(), Some("17.1"));
    assert_eq!(outbox.thread("other", &"INC-1".into()).unwrap(), None);
}

/// A state of an earlier version has neither table; one of this version stays readable for that one.
#[test]
fn a_state_without_the_new_tables_gets_them() {
    let place = Place::new();
    drop(place.open());
    place.sql("DROP TABLE outbox_threads; DROP TABLE outbox_handed_over");
    let (_journal, mut outbox, _authority) = place.open();
    outbox.keep_thread("chat", &"INC-1".into(), "17.1").unwrap();
}
