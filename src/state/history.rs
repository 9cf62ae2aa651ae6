//! What the probes saw, beside the state: a file of its own that may be lost at any time.
//!
//! It is written in batches by whoever owns it, and never waited for. Only its own checkpoints sync it, so
//! that a power failure costs the last minutes, and the journal's writes cost what they always did.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};

use super::schema;
use crate::model::histogram::Bucket;
use crate::model::{CauseKind, Health, Stretch, WallTime};

/// "hist": marks a SQLite file as this one.
const APPLICATION_ID: i32 = 0x6869_7374;
/// The journal shares the disk: it needs the rest more.
const LEFT_FOR_THE_JOURNAL: u64 = 64 << 20;
/// Of the oldest stretches one in so many is given up where there is no room.
const GIVEN_UP: u32 = 10;
const BUSY: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
CREATE TABLE stretch (
    id     INTEGER PRIMARY KEY,
    probe  TEXT    NOT NULL,
    began  INTEGER NOT NULL,
    ended  INTEGER NOT NULL,
    health TEXT    NOT NULL,
    cause  TEXT,
    looks  INTEGER NOT NULL,
    took   TEXT    NOT NULL
) STRICT;
CREATE INDEX stretch_ended ON stretch (ended);
CREATE VIEW log AS
    SELECT strftime('%Y-%m-%dT%H:%M:%fZ', began / 1000.0, 'unixepoch') AS began,
           strftime('%Y-%m-%dT%H:%M:%fZ', ended / 1000.0, 'unixepoch') AS ended,
           probe, health, cause, looks
    FROM stretch ORDER BY id;
";

/// Why the history cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the history {path}: {reason}")]
pub struct HistoryError {
    path: String,
    reason: String,
}

impl HistoryError {
    fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.display().to_string(), reason: reason.into() }
    }
}

/// Where the history of a state is: beside it.
pub fn history_path(state: &Path) -> PathBuf {
    schema::beside(state, ".history")
}

/// The history of one daemon. One writer; others may read meanwhile.
pub struct HistoryFile {
    connection: Connection,
    path: PathBuf,
    keep: Duration,
    most_bytes: u64,
    /// What the numbers of this life's stretches are added to.
    base: i64,
}

impl HistoryFile {
    /// Opens it, or makes it where there is none. One that is damaged, or none of ours, is moved aside:
    /// nothing depends on it. `keep` is how old a stretch may grow, `most_bytes` how large they all.
    ///
    /// # Errors
    /// [`HistoryError`] where there is none and none can be made.
    pub fn open(path: &Path, keep: Duration, most_bytes: u64) -> Result<Self, HistoryError> {
        let opened = open(path).or_else(|error| {
            if !path.exists() {
                return Err(error);
            }
            tracing::warn!(%error, "the history cannot be used: it is moved aside, and begins anew");
            fs::rename(path, schema::beside(path, ".damaged")).map_err(|error| schema_free(path, &error))?;
            for rest in ["-wal", "-shm"] {
                drop(fs::remove_file(schema::beside(path, rest)));
            }
            open(path)
        });
        let fault = |error: rusqlite::Error| HistoryError::new(path, describe(&error));
        let connection = opened?;
        let base =
            connection.query_row("SELECT coalesce(max(id), 0) FROM stretch", [], |row| row.get(0)).map_err(fault)?;
        Ok(Self { connection, path: path.to_owned(), keep, most_bytes, base })
    }

    /// Keeps these stretches, in the place of what was kept of them before, and gives up what is too old or
    /// too much.
    ///
    /// # Errors
    /// [`HistoryError`]; nothing of this batch is kept then.
    pub fn keep(&mut self, stretches: &[Stretch], now: WallTime) -> Result<(), HistoryError> {
        let path = self.path.clone();
        let fault = |error: rusqlite::Error| HistoryError::new(&path, describe(&error));
        if let Ok(about) = rustix::fs::statvfs(path.parent().unwrap_or(Path::new("/")))
            && about.f_bavail.saturating_mul(about.f_frsize) < LEFT_FOR_THE_JOURNAL
        {
            return Err(HistoryError::new(
                &path,
                "the disk is nearly full, and what is left is the journal's; make room",
            ));
        }
        let transaction = self.connection.transaction().map_err(fault)?;
        for stretch in stretches {
            let id = self.base.saturating_add(i64::try_from(stretch.number).unwrap_or(i64::MAX));
            let mut insert = transaction
                .prepare_cached("INSERT OR REPLACE INTO stretch VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
                .map_err(fault)?;
            let Stretch { probe, from, to, health, cause, looks, took, .. } = stretch;
            let cause = cause.map(CauseKind::as_str);
            insert
                .execute(params![id, probe.as_str(), from.0, to.0, health.to_string(), cause, looks, written(took)])
                .map_err(fault)?;
        }
        transaction.execute("DELETE FROM stretch WHERE ended < ?1", [now.minus(self.keep).0]).map_err(fault)?;
        transaction.commit().map_err(fault)?;
        self.make_room().map_err(fault)
    }

    fn make_room(&self) -> rusqlite::Result<()> {
        let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let size = |pages: i64, page: i64| u64::try_from(pages.saturating_mul(page)).unwrap_or_default();
        let page = pragma("page_size")?;
        // Each time a tenth goes: where that is not enough, next time.
        if size(pragma("page_count")? - pragma("freelist_count")?, page) > self.most_bytes {
            self.connection.execute(
                "DELETE FROM stretch WHERE id IN (SELECT id FROM stretch ORDER BY ended LIMIT
                 (SELECT count(*) / ?1 + 1 FROM stretch))",
                [GIVEN_UP],
            )?;
        }
        if pragma("freelist_count")? > 0 {
            // It gives a page back with each step.
            let mut vacuum = self.connection.prepare("PRAGMA incremental_vacuum")?;
            let mut steps = vacuum.query([])?;
            while steps.next()?.is_some() {}
        }
        Ok(())
    }
}

/// Reads the stretches that reach into a window, the oldest first.
///
/// # Errors
/// [`HistoryError`], with what to do.
pub fn read_history(path: &Path, from: Option<i64>, to: Option<i64>) -> Result<Vec<Stretch>, HistoryError> {
    if !path.exists() {
        let reason =
            "there is no such file; it is kept by a daemon that runs with this state, unless history.keep is 0s";
        return Err(HistoryError::new(path, reason));
    }
    let fault = |error: rusqlite::Error| HistoryError::new(path, describe(&error));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    connection.busy_timeout(BUSY).map_err(fault)?;
    examine(&connection, path)?;
    let mut statement = connection
        .prepare("SELECT id, probe, began, ended, health, cause, looks, took FROM stretch WHERE ended >= ?1 AND began <= ?2 ORDER BY began")
        .map_err(fault)?;
    let rows = statement.query_map([from.unwrap_or(0), to.unwrap_or(i64::MAX)], |row| {
        let text = |place| row.get::<_, Option<String>>(place).map(Option::unwrap_or_default);
        let health = text(4)?;
        let stretch = Stretch {
            number: u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default(),
            probe: text(1)?.into(),
            from: WallTime(row.get(2)?),
            to: WallTime(row.get(3)?),
            health: named(&health).unwrap_or(Health::Unknown),
            cause: named(&text(5)?),
            looks: row.get(6)?,
            took: read(&text(7)?),
        };
        Ok((stretch, named::<Health>(&health).is_some()))
    });
    let mut stretches = Vec::new();
    for row in rows.map_err(fault)? {
        let (stretch, known) = row.map_err(fault)?;
        if !known {
            return Err(HistoryError::new(path, format!("row {} has a health that is none", stretch.number)));
        }
        stretches.push(stretch);
    }
    Ok(stretches)
}

fn open(path: &Path) -> Result<Connection, HistoryError> {
    let fault = |error: rusqlite::Error| HistoryError::new(path, describe(&error));
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(schema_free(path, &error)),
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    connection.busy_timeout(BUSY).map_err(fault)?;
    if fs::metadata(path).is_ok_and(|about| about.len() == 0) {
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(fault)?;
        connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(fault)?;
        connection.execute_batch(SCHEMA).map_err(fault)?;
    }
    examine(&connection, path)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).map_err(fault)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(fault)?;
    connection.pragma_update_and_check(None, "journal_size_limit", 4 << 20, |_| Ok(())).map_err(fault)?;
    Ok(connection)
}

fn examine(connection: &Connection, path: &Path) -> Result<(), HistoryError> {
    let found: rusqlite::Result<i32> = connection.pragma_query_value(None, "application_id", |row| row.get(0));
    match found {
        Ok(APPLICATION_ID) => Ok(()),
        Ok(_) => Err(HistoryError::new(path, "this is no history of failoverd")),
        Err(error) => Err(HistoryError::new(path, describe(&error))),
    }
}

fn schema_free(path: &Path, error: &io::Error) -> HistoryError {
    HistoryError::new(path, format!("it cannot be made: {error}"))
}

/// Nothing has to be restored here.
fn describe(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => format!("no space is left ({error}); make room"),
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            format!("it is damaged ({error}); remove it, and a new one is begun at the next start")
        }
        _ => error.to_string(),
    }
}

fn named<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
}

/// `12:40 17:2`: the buckets, and how often each was met.
fn written(took: &[(Bucket, u32)]) -> String {
    let one = |(bucket, count): &(Bucket, u32)| format!("{}:{count}", bucket.place());
    took.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn read(text: &str) -> Vec<(Bucket, u32)> {
    let one = |pair: &str| {
        let (place, count) = pair.split_once(':')?;
        Some((Bucket::at(place.parse().ok()?)?, count.parse().ok()?))
    };
    text.split_whitespace().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn stretch(number: u64, from: i64, looks: u32) -> Stretch {
        Stretch {
            number,
            probe: "api".into(),
            from: WallTime(from),
            to: WallTime(from + 1000),
            health: Health::Down,
            cause: Some(CauseKind::Timeout),
            looks,
            took: vec![(Bucket::of(Duration::from_millis(10)), 1), (Bucket::of(Duration::from_secs(1)), looks - 1)],
        }
    }

    fn opened(path: &Path, most_bytes: u64) -> HistoryFile {
        HistoryFile::open(path, Duration::from_secs(30 * 86_400), most_bytes).expect("a history")
    }

    fn all(path: &Path) -> Vec<Stretch> {
        read_history(path, None, None).expect("readable")
    }

    #[test]
    fn what_is_kept_is_read_again_and_what_goes_on_is_kept_in_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.db.history");
        let mut file = opened(&path, 1 << 20);
        file.keep(&[stretch(1, 1000, 5), stretch(2, 3000, 2)], WallTime(5000)).expect("kept");
        file.keep(&[stretch(2, 3000, 9)], WallTime(5000)).expect("kept");
        assert_eq!(all(&path), [stretch(1, 1000, 5), stretch(2, 3000, 9)]);
        assert_eq!(read_history(&path, Some(2500), Some(9000)).expect("readable").len(), 1);
        drop(file);
        // Another life begins its numbers anew, and takes nothing's place.
        opened(&path, 1 << 20).keep(&[stretch(1, 9000, 3)], WallTime(9000)).expect("kept");
        let looks: Vec<u32> = all(&path).iter().map(|stretch| stretch.looks).collect();
        assert_eq!(looks, [5, 9, 3]);
    }

    #[test]
    fn what_is_too_old_is_given_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("h");
        let mut file = opened(&path, 1 << 20);
        file.keep(&[stretch(1, 0, 5), stretch(2, 10 * DAY, 6)], WallTime(29 * DAY)).expect("kept");
        assert_eq!(all(&path).len(), 2);
        file.keep(&[], WallTime(31 * DAY)).expect("kept");
        assert_eq!(all(&path), [stretch(2, 10 * DAY, 6)]);
    }

    #[test]
    fn it_never_takes_more_room_than_it_may() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("h");
        let mut file = opened(&path, 256 << 10);
        for batch in 0..200_u64 {
            let batch: Vec<Stretch> =
                (0..100).map(|one| batch * 100 + one).map(|one| stretch(one + 1, one as i64 * 1000, 3)).collect();
            file.keep(&batch, WallTime(0)).expect("kept");
        }
        drop(file);
        let size = fs::metadata(&path).expect("a file").len();
        assert!(size <= (256 << 10) + (64 << 10), "{size}");
        let left = all(&path);
        assert!(left.len() > 1000, "{}", left.len());
        assert_eq!(left.last().map(|stretch| stretch.number), Some(20_000), "the oldest goes first");
    }

    #[test]
    fn one_that_is_damaged_or_not_ours_is_moved_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("h");
        fs::write(&path, "this is no database, however long it is ".repeat(200)).expect("written");
        opened(&path, 1 << 20).keep(&[stretch(1, 0, 5)], WallTime(0)).expect("kept");
        assert_eq!(all(&path).len(), 1);
        assert!(folder.path().join("h.damaged").exists());
        let nowhere = folder.path().join("gone/h");
        let why = HistoryFile::open(&nowhere, DAY_LONG, 1).err().expect("nowhere").to_string();
        assert!(why.contains("cannot be made"), "{why}");
        let why = read_history(&nowhere, None, None).expect_err("nowhere").to_string();
        assert!(why.contains("there is no such file"), "{why}");
    }

    const DAY_LONG: Duration = Duration::from_secs(86_400);
}
