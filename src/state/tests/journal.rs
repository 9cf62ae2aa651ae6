//! What the journal says of itself, what it tells with its records, and what an auditor compares.

use std::sync::Mutex;

use super::samples::{notice, paused};
use super::*;
use crate::ports::Addressed;

fn told(subject: &str) -> Vec<Addressed> {
    vec![Addressed { routes: vec!["sms".into()], notice: notice(subject) }]
}

#[test]
fn the_newest_record_is_named_by_its_number_and_checksum() {
    let place = Place::new();
    let (mut journal, ..) = place.open();
    assert_eq!(journal.newest(), None);
    for count in 1..=2 {
        journal.append(&paused(count, 1)).unwrap();
        let head = audit(&place.path).unwrap().head;
        assert_eq!(journal.newest(), Some((count, head.clone())));
        assert_eq!((journal.tail().seq, journal.tail().checksum), (count, head));
    }
}

#[test]
fn a_store_that_is_lost_says_so_before_it_is_written_to() {
    let place = Place::with(1);
    let (journal, _outbox, authority) = place.open();
    journal.sound().unwrap();
    assert_eq!(authority.in_doubt(), None);
    fs::rename(&place.path, place.path.with_file_name("elsewhere.db")).unwrap();
    let why = journal.sound().unwrap_err().to_string();
    assert!(why.contains("is gone") && authority.in_doubt().is_some(), "{why}");
}

#[test]
fn records_are_written_with_the_notices_that_tell_of_them_and_either_goes_alone() {
    let place = Place::new();
    let (mut journal, outbox, _authority) = place.open();
    let outbox = Mutex::new(outbox);
    let left = || (read_records(&place.path).unwrap().len(), outbox.lock().unwrap().pending("sms", 9).unwrap().len());
    journal.append_and_tell(&[], &[], &outbox).unwrap();
    assert_eq!(left(), (0, 0));
    journal.append_and_tell(&paused(1, 1), &told("both"), &outbox).unwrap();
    assert_eq!(left(), (1, 1));
    journal.append_and_tell(&[], &told("a notice alone"), &outbox).unwrap();
    assert_eq!(left(), (1, 2));
    journal.append_and_tell(&paused(2, 1), &[], &outbox).unwrap();
    assert_eq!(left(), (2, 2));
    // All or nothing: the record is refused, so that nobody is told of it.
    journal.append_and_tell(&paused(9, 1), &told("refused"), &outbox).unwrap_err();
    assert_eq!(left(), (2, 2));
}

#[test]
fn nothing_to_write_is_not_written_and_breaks_nothing() {
    let place = Place::with(1);
    let (mut journal, outbox, authority) = place.open();
    fs::remove_file(&place.path).unwrap();
    journal.append(&[]).unwrap();
    journal.append_and_tell(&[], &[], &Mutex::new(outbox)).unwrap();
    assert!(authority.in_doubt().is_some());
}

#[test]
fn a_checksum_that_was_kept_elsewhere_proves_what_came_before_it() {
    let place = Place::with(3);
    let linked = read_linked(&place.path).unwrap();
    assert_eq!(linked.iter().map(|(record, _)| record.clone()).collect::<Vec<_>>(), paused(1, 3));
    let whole = audit(&place.path).unwrap();
    assert_eq!(linked[2].1, whole.head);
    for (record, checksum) in &linked {
        assert_eq!(audit_against(&place.path, record.seq, checksum).unwrap(), whole);
    }
    for (seq, checksum, says) in [(2, &linked[2].1, "written anew"), (4, &linked[2].1, "the end was cut off")] {
        let error = audit_against(&place.path, seq, checksum).unwrap_err();
        assert!(matches!(error, JournalError::Corrupt { seq: of, .. } if of == seq), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}
