//! The promises of the store, on real files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::{Value, json};

mod journal;
mod outbox;
mod samples;

use super::*;
use crate::model::*;
use crate::ports::{Authority, Denied, Journal, JournalError, Outbox};
use samples::*;

struct Place {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        Self { _directory: directory, path }
    }

    fn open(&self) -> (SqliteJournal, SqliteOutbox, SqliteAuthority) {
        SqliteState::open(&self.path).unwrap().split()
    }

    /// A closed state with so many records.
    fn with(count: usize) -> Self {
        let place = Self::new();
        place.open().0.append(&paused(1, count)).unwrap();
        place
    }

    fn sql(&self, sql: &str) {
        Connection::open(&self.path).unwrap().execute_batch(sql).unwrap();
    }

    fn refused(&self) -> String {
        match SqliteState::open(&self.path) {
            Ok(_) => panic!("it was opened"),
            Err(error) => error.to_string(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_appended_is_what_is_replayed(
        text in any::<String>(), key in any::<String>(), number in any::<i64>(), batches in prop::collection::vec(1usize..9, 1..6),
    ) {
        let place = Place::new();
        let value = json!({ key: [number, null, true, {"deep": text.clone()}] });
        let all = records(1, [samples(&text, &value, 1), samples(&text, &Value::Null, 2)].concat());
        all.iter().for_each(|record| kinds_known(&record.entry));
        let (mut journal, _outbox, authority) = place.open();
        let (mut rest, mut sizes) = (all.as_slice(), batches.iter().cycle());
        while !rest.is_empty() {
            let (batch, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            journal.append(batch).unwrap();
            rest = later;
        }
        prop_assert_eq!(&journal.replay().unwrap(), &all);
        prop_assert_eq!(authority.highest(), Epoch(2));
        prop_assert_eq!(&read_records(&place.path).unwrap(), &all);
        drop((journal, _outbox, authority));
        let (mut journal, _outbox, authority) = place.open();
        prop_assert_eq!(&journal.replay().unwrap(), &all);
        prop_assert_eq!(authority.highest(), Epoch(2));
        prop_assert_eq!(audit(&place.path).unwrap().records, all.len() as u64);
    }
}

#[test]
fn the_chain_can_be_checked_by_anybody() {
    let place = Place::with(2);
    let rows: Vec<(i64, i64, String, String)> = {
        let connection = Connection::open(&place.path).unwrap();
        let mut statement = connection.prepare("SELECT seq, at, entry, checksum FROM journal").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let mut previous = "0".repeat(64);
    for (seq, at, entry, checksum) in rows {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(format!("{previous}\n{seq}\n{at}\n{entry}"));
        previous = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(previous, checksum);
    }
    assert_eq!(audit(&place.path).unwrap(), Audit { records: 2, head: previous });
}

#[test]
fn a_gap_is_refused_and_nothing_is_written_after_it() {
    let place = Place::with(2);
    let (mut journal, _outbox, authority) = place.open();
    let error = journal.append(&paused(4, 1)).unwrap_err();
    assert!(matches!(error, JournalError::Write { .. }), "{error}");
    assert!(error.to_string().contains("record 3 comes next"), "{error}");
    let error = journal.append(&paused(3, 1)).unwrap_err();
    assert!(error.to_string().contains("nothing is written any more"), "{error}");
    assert!(matches!(authority.permit(Epoch(1)), Err(Denied::StoreInDoubt(_))));
    assert_eq!(journal.replay().unwrap().len(), 2);
}

#[test]
fn a_batch_is_written_whole_or_not_at_all() {
    let place = Place::with(1);
    let mut batch = paused(2, 2);
    batch[1].seq = 9;
    place.open().0.append(&batch).unwrap_err();
    assert_eq!(read_records(&place.path).unwrap(), paused(1, 1));
}

#[test]
fn a_corrupt_middle_is_found_at_its_record() {
    for (sql, seq, says) in [
        ("UPDATE journal SET entry = replace(entry, 'person 2', 'person 7') WHERE seq = 3", 3, "checksum"),
        ("UPDATE journal SET at = at + 1 WHERE seq = 2", 2, "checksum"),
        ("UPDATE journal SET checksum = (SELECT checksum FROM journal WHERE seq = 1) WHERE seq = 4", 4, "checksum"),
        ("DELETE FROM journal WHERE seq = 3", 3, "missing"),
        ("DELETE FROM journal WHERE seq = 1", 1, "missing"),
        ("UPDATE journal SET entry = CAST(x'ff' AS TEXT) WHERE seq = 5", 5, ""),
    ] {
        let place = Place::with(5);
        place.sql(sql);
        for error in [SqliteState::open(&place.path).err().unwrap(), read_records(&place.path).unwrap_err()] {
            assert!(matches!(error, JournalError::Corrupt { seq: found, .. } if found == seq), "{sql}: {error}");
            assert!(error.to_string().contains(says), "{sql}: {error}");
        }
    }
}

#[test]
fn a_record_of_a_newer_version_is_named_as_such() {
    let place = Place::with(1);
    let entry = r#"{"kind":"teleported"}"#;
    let first = audit(&place.path).unwrap().head;
    let checksum: String = {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(format!("{first}\n2\n5\n{entry}"));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    place.sql(&format!("INSERT INTO journal VALUES (2, 5, '{entry}', '{checksum}')"));
    let error = place.refused();
    assert!(error.contains("record 2") && error.contains("teleported") && error.contains("newer version"), "{error}");
}

#[test]
fn a_missing_tail_is_where_the_journal_goes_on() {
    let place = Place::with(5);
    place.sql("DELETE FROM journal WHERE seq > 3");
    let (mut journal, ..) = place.open();
    assert_eq!(journal.replay().unwrap(), paused(1, 3));
    journal.append(&paused(4, 1)).unwrap();
}

#[test]
fn another_writer_is_noticed() {
    for sql in [
        "DELETE FROM journal WHERE seq = 3",
        "UPDATE journal SET checksum = 'of another record' WHERE seq = 3",
        "UPDATE journal SET seq = 4 WHERE seq = 3",
    ] {
        let place = Place::with(3);
        let (mut journal, ..) = place.open();
        place.sql(sql);
        let error = journal.append(&paused(4, 1)).unwrap_err();
        assert!(error.to_string().contains("changed by another process"), "{sql}: {error}");
    }
}

#[test]
fn a_second_daemon_is_refused_and_told_who_holds_it() {
    let place = Place::with(1);
    let state = SqliteState::open(&place.path).unwrap();
    let error = SqliteState::open(&place.path).err().unwrap();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let text = error.to_string();
    assert!(matches!(error, JournalError::Held { .. }), "{text}");
    for part in [format!("pid {}", std::process::id()), host, format!("failoverd {}", env!("CARGO_PKG_VERSION"))] {
        assert!(text.contains(&part), "{part:?} is not in {text:?}");
    }
    // By another name, too.
    let link = place.path.with_file_name("link.db");
    std::os::unix::fs::symlink(&place.path, &link).unwrap();
    assert!(matches!(SqliteState::open(&link), Err(JournalError::Held { .. })));
    // Reading is not owning.
    assert_eq!(read_records(&place.path).unwrap().len(), 1);
    drop(state);
    assert_eq!(SqliteState::open(&place.path).unwrap().left_behind(), None);
}

#[test]
fn what_a_dead_owner_wrote_does_not_lock_anybody_out() {
    let place = Place::with(1);
    fs::write(schema::beside(&place.path, ".lock"), "pid 999999 on host elsewhere since long ago\u{1b}[31m\n").unwrap();
    let state = SqliteState::open(&place.path).unwrap();
    assert_eq!(state.left_behind(), Some("pid 999999 on host elsewhere since long ago[31m"));
}

#[test]
fn the_files_are_for_their_owner_only() {
    let place = Place::new();
    let (mut journal, ..) = place.open();
    journal.append(&paused(1, 1)).unwrap();
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let mode = fs::metadata(schema::beside(&place.path, suffix)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "state.db{suffix}");
    }
    drop(journal);
    let place = Place::with(1);
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o644)).unwrap();
    let _open = place.open();
    assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_cannot_be_opened_says_what_to_do() {
    let place = Place::new();
    let open = |path: &Path| SqliteState::open(path).err().unwrap().to_string();
    assert!(open(&place.path.join("below/state.db")).contains("does not exist; create it"));
    assert!(open(place.path.parent().unwrap()).contains("name a file in it"));
    assert!(read_records(&place.path).unwrap_err().to_string().contains("no such file"));

    fs::write(&place.path, "").unwrap();
    assert!(place.refused().contains("is empty"), "{}", place.refused());
    fs::write(&place.path, "not a database at all, but long enough to be looked at as one".repeat(20)).unwrap();
    assert!(place.refused().contains("not a SQLite database"), "{}", place.refused());
    fs::remove_file(&place.path).unwrap();
    place.sql("CREATE TABLE theirs (x)");
    assert!(place.refused().contains("not failoverd's"), "{}", place.refused());
    fs::remove_file(&place.path).unwrap();
    fs::write(schema::beside(&place.path, "-wal"), "left").unwrap();
    assert!(place.refused().contains("the database is gone"), "{}", place.refused());
}

#[test]
fn a_newer_schema_is_left_alone() {
    let place = Place::with(1);
    place.sql("UPDATE meta SET value = '99' WHERE key = 'schema'");
    assert!(place.refused().contains("written by a newer failoverd (schema 99"), "{}", place.refused());
    assert!(read_records(&place.path).is_err());
}

#[test]
fn damage_in_the_file_is_found_on_opening() {
    let place = Place::with(400);
    let mut bytes = fs::read(&place.path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 64].fill(0xee);
    fs::write(&place.path, bytes).unwrap();
    let error = place.refused();
    assert!(error.contains("damaged") && error.contains("restore it from a backup"), "{error}");
}

#[test]
fn a_full_disk_is_said_once_and_ends_all_writing() {
    let place = Place::new();
    let (mut journal, mut outbox, authority) = place.open();
    journal.append(&records(1, [run_started(1)])).unwrap();
    authority.permit(Epoch(1)).unwrap();
    outbox.put(&["sms".into()], &notice("before")).unwrap();
    let shared = std::sync::Arc::clone(&journal.shared);
    let limit = |pages: u32| {
        shared.read(|store| store.connection.pragma_update(None, "max_page_count", pages).map_err(|_| unreachable!()))
    };
    limit(12).unwrap();
    let large = records(2, [Entry::Paused { by: "x".repeat(200_000) }]);
    let error = journal.append(&large).unwrap_err();
    assert!(error.to_string().contains("no space is left"), "{error}");
    limit(100_000).unwrap();
    let error = journal.append(&paused(2, 1)).unwrap_err();
    assert!(matches!(&error, JournalError::Write { reason, .. } if reason.contains("any more")), "{error}");
    assert!(matches!(authority.permit(Epoch(1)), Err(Denied::StoreInDoubt(why)) if why.contains("no space")));
    assert!(outbox.put(&["sms".into()], &notice("after")).is_err());
    // Reading goes on: people must be told what is still undelivered.
    assert_eq!(outbox.pending("sms", 9).unwrap().len(), 1);
    drop((journal, outbox, authority, shared));
    let (mut journal, _outbox, authority) = place.open();
    assert_eq!(journal.replay().unwrap().len(), 1);
    authority.permit(Epoch(1)).unwrap();
}

#[test]
fn an_epoch_is_granted_once_and_the_highest_alone_may_call() {
    let place = Place::new();
    let (mut journal, _outbox, authority) = place.open();
    assert!(matches!(authority.permit(Epoch(0)), Err(Denied::StoreInDoubt(_))));
    assert!(matches!(authority.permit(Epoch(1)), Err(Denied::StoreInDoubt(_))));
    journal.append(&records(1, [run_started(1), run_started(3)])).unwrap();
    assert_eq!(authority.permit(Epoch(1)), Err(Denied::Overtaken { ours: Epoch(1), highest: Epoch(3) }));
    assert_eq!(authority.permit(Epoch(3)), Ok(()));
    assert!(matches!(authority.permit(Epoch(4)), Err(Denied::StoreInDoubt(_))));
    let error = journal.append(&records(3, [run_started(3)])).unwrap_err();
    assert!(error.to_string().contains("granted before"), "{error}");
}

#[test]
fn a_replaced_file_ends_the_right_to_call() {
    for suffix in [".lock", "", "-wal"] {
        for replaced in [false, true] {
            let place = Place::new();
            let (mut journal, _outbox, authority) = place.open();
            journal.append(&records(1, [run_started(1)])).unwrap();
            authority.permit(Epoch(1)).unwrap();
            let file = schema::beside(&place.path, suffix);
            let kept = schema::beside(&file, ".kept");
            fs::rename(&file, &kept).unwrap();
            if replaced {
                fs::write(&file, fs::read(&kept).unwrap()).unwrap();
            }
            assert!(matches!(authority.permit(Epoch(1)), Err(Denied::StoreInDoubt(_))), "state.db{suffix} {replaced}");
            // Putting it back does not help: what was written meanwhile, nobody knows.
            fs::rename(&kept, &file).unwrap();
            assert!(matches!(authority.permit(Epoch(1)), Err(Denied::StoreInDoubt(_))));
            assert!(journal.append(&paused(2, 1)).is_err());
        }
    }
}

#[test]
fn the_log_is_checkpointed_in_batches_and_does_not_grow_for_ever() {
    let place = Place::new();
    let (mut journal, ..) = place.open();
    let mut written = 0;
    let mut size_after = |count: usize| {
        while written < count {
            written += 1;
            journal.append(&paused(written as u64, 1)).unwrap();
        }
        fs::metadata(schema::beside(&place.path, "-wal")).unwrap().len()
    };
    // Each commit is at least a page: had they been brought home one by one, the log would begin anew each time.
    let first = size_after(190);
    assert!(first > 190 * 4096, "{first} bytes");
    let later = size_after(900);
    assert!(later < 2 * first, "{first} bytes after 190 commits, {later} after 900");
}

#[test]
fn whoever_else_checkpoints_is_no_failure_of_the_disk() {
    let failed = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
    assert!(sqlite::is_of_another_checkpoint(&failed(rusqlite::ffi::SQLITE_BUSY)));
    assert!(!sqlite::is_of_another_checkpoint(&failed(rusqlite::ffi::SQLITE_IOERR_FSYNC)));
    assert!(!sqlite::is_of_another_checkpoint(&rusqlite::Error::InvalidQuery));
}
